/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rule_q.pml - the abort rule of docs/protocol.md 6.4 as a model: one message, up to two receives for
 * it, either side may give up at any moment, and the quiesce deadline may pass at any moment.
 *
 * What a side sends on a lane arrives in order. Writes travel on the same lane (ONE_LANE: FIN goes right
 * behind them) or on another one, so that they overtake and are overtaken, and FIN waits for their
 * completion. A write names the generation of the receive whose memory it goes to. Severing drops all that
 * is under way and is the end for both sides.
 *
 * Assertions state: no write lands in the memory of a receive that has returned; none reads the source
 * of a send that has returned; a receive that succeeds has all of the message; nothing is written for an
 * eager message. Spin's search for invalid end states adds: nobody waits for ever; with NO_CUT, which
 * takes the quiesce deadline away, that the peers' answers alone see to that.
 *
 * Mutants, each of which must be found:
 *   RECEIVER_RUSHES  a receive that gives up returns without waiting
 *   SENDER_RUSHES    a send that gives up returns without waiting for its writes
 *   CACK_RUSHES      CANCEL is answered while writes are out
 *   FIN_IGNORED      a receive that gives up does not take FIN for an answer (found with NO_CUT)
 */

#define WRITES 3   /* segments of the message */
#define RECEIVES 2 /* with generations 1 and 2 */

mtype = { EAGER, START, CTS, FIN, ACK, CANCEL, CACK, ABORT, WRITE };
mtype = { IDLE, STARTED, WRITING, STOPPING, FINISHED, OVER };

/* Each message has a generation, 0 where it does not matter. */
chan lane = [10] of { mtype, byte };
chan to_receiver = [10] of { mtype, byte };
chan to_sender = [10] of { mtype, byte };
#ifdef ONE_LANE
#define writes lane
#else
chan writes = [WRITES] of { mtype, byte };
#endif

byte landed[RECEIVES + 1];   /* writes in the memory of that generation */
bool returned[RECEIVES + 1]; /* its receive has returned */
bool send_returned;
byte posted;		     /* writes of which the sender has not seen the completion */
byte completed;		     /* completions it has yet to see */
bool was_eager;
bool severed;

inline sever_all()
{
	d_step {
		do
		:: len(lane) > 0 -> lane ? _, _
		:: len(to_receiver) > 0 -> to_receiver ? _, _
		:: len(to_sender) > 0 -> to_sender ? _, _
#ifndef ONE_LANE
		:: len(writes) > 0 -> writes ? _, _
#endif
		:: else -> break
		od;
		posted = 0;
		completed = 0;
		severed = true
	}
}

/* The network: it moves what is first on a lane, at any moment. */
active proctype network()
{
	mtype type;
	byte generation;
end_network:
	do
#ifndef ONE_LANE
	:: atomic {
		writes ? type, generation ->
		assert(!send_returned && !returned[generation] && !was_eager);
		landed[generation]++;
		completed++
	}
#endif
	:: atomic {
		lane ? type, generation ->
		if
		:: type == WRITE ->
			assert(!send_returned && !returned[generation] && !was_eager);
			landed[generation]++;
			completed++
		:: else -> to_receiver ! type, generation
		fi
	}
	od
}

active proctype sender()
{
	mtype state = IDLE;
	byte generation = 0;
	byte early = 0;
	byte written = 0;
	byte got;
	bool owes_cack = false;
	bool gives_up = false;

	do
	:: severed -> break

	/* The first message. */
	:: atomic {
		state == IDLE && !severed -> lane ! EAGER, 0;
		was_eager = true;
		early = 0;
		state = OVER
	}
	:: atomic {
		state == IDLE && !severed -> lane ! START, 0;
		if
		:: early != 0 -> generation = early; early = 0; written = 0; state = WRITING
		:: else -> state = STARTED
		fi
	}

	/* Writing. */
	:: atomic {
		state == WRITING && written < WRITES && !severed -> writes ! WRITE, generation;
		posted++;
		written++
	}
	:: atomic {
#ifdef ONE_LANE
		state == WRITING && written == WRITES && !severed ->
#else
		state == WRITING && written == WRITES && posted == 0 && !severed ->
#endif
		lane ! FIN, generation;
		state = FINISHED
	}
	:: atomic { completed > 0 -> completed--; posted-- }

	/* The writes are done after the peer's CANCEL, our giving up, or both. */
	:: atomic {
		state == STOPPING && posted == 0 && !severed ->
		if
		:: owes_cack -> lane ! CACK, generation
		:: else
		fi;
		owes_cack = false;
		if
		:: gives_up -> lane ! ABORT, 0; state = OVER
		:: else -> state = STARTED
		fi
	}

	/* What the peer says. */
	:: atomic {
		to_sender ? CTS, got ->
		if
		:: state == IDLE -> early = got
		:: state == STARTED -> generation = got; written = 0; state = WRITING
		:: else
		fi
	}
	:: atomic {
		to_sender ? CANCEL, got ->
		if
		:: early == got -> early = 0
		:: else
		fi;
		if
		:: (state == WRITING || state == STOPPING) && generation == got ->
			state = STOPPING;
#ifdef CACK_RUSHES
			lane ! CACK, got
#else
			owes_cack = true
#endif
		:: state == FINISHED && generation == got /* the FIN is the answer */
		:: else -> lane ! CACK, got
		fi
	}
	:: atomic { to_sender ? ACK, _ -> state = OVER }

	/* Giving up. */
	:: atomic {
		state == STARTED && !severed -> lane ! ABORT, 0;
		state = OVER
	}
	:: atomic {
		(state == WRITING || state == STOPPING) && !gives_up && !severed -> gives_up = true;
		state = STOPPING
#ifdef SENDER_RUSHES
		; break
#endif
	}
	:: state == FINISHED && posted == 0 -> break
#ifndef NO_CUT
	:: atomic { (gives_up || state == FINISHED) && posted > 0 -> sever_all(); break }
#endif
	:: state == OVER && posted == 0 -> break
	od;
	send_returned = true;

	/* The engine lives on, and answers for what has ended. */
end_sender:
	do
	:: severed -> break
	:: atomic { to_sender ? CANCEL, got -> lane ! CACK, got }
	:: to_sender ? CTS, _
	:: to_sender ? ACK, _
	od
}

active proctype receiver()
{
	byte generation = 0;
	byte got;
	bool cancels;

	do
	:: generation == RECEIVES || severed -> break
	:: atomic {
		generation < RECEIVES && !severed -> generation++;
		cancels = false;
		to_sender ! CTS, generation
	}
	/* One receive, from here to its return. */
	do
	:: severed -> break
	:: to_receiver ? START, _
	:: to_receiver ? EAGER, _ -> break
	:: to_receiver ? ABORT, _ -> break
	:: atomic {
		to_receiver ? FIN, got ->
		assert(got == generation && landed[got] == WRITES);
#ifdef FIN_IGNORED
		if
		:: cancels
		:: else -> to_sender ! ACK, 0; break
		fi
#else
		to_sender ! ACK, 0;
		break
#endif
	}
	:: atomic {
		to_receiver ? CACK, got ->
		if
		:: cancels && got == generation -> break
		:: else
		fi
	}
	:: atomic {
		!cancels && !severed -> cancels = true;
		to_sender ! CANCEL, generation
#ifdef RECEIVER_RUSHES
		; break
#endif
	}
#ifndef NO_CUT
	:: atomic { cancels && !severed -> sever_all(); break }
#endif
	od;
	returned[generation] = true
	od;

end_receiver:
	do
	:: severed -> break
	:: to_receiver ? START, _
	:: to_receiver ? EAGER, _
	:: to_receiver ? ABORT, _
	:: to_receiver ? CACK, _
	:: to_receiver ? FIN, _ -> assert(false) /* for a CTS that is not in force */
	od
}
