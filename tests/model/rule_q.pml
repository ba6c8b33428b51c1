/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rule_q.pml - the abort rule of docs/protocol.md 6.4 as a model: messages of one tag and receives for them, each of
 * which may be given up at any moment; either side may lose the other at any moment (a cable, a deadline, its death),
 * and then they connect again while one of them may not have noticed yet.
 *
 * What a side sends on a lane arrives in order. Writes travel on the same lane (ONE_LANE: FIN goes right behind them,
 * and they are done when the sender's memory has been read), or on another one, so that they overtake and are
 * overtaken, and FIN waits until they are delivered. A write names the generation of the receive whose memory it goes
 * to. Severing is one side's: what the other has sent before does not reach it any more; what it has sent itself may
 * still arrive, as the network holds it.
 *
 * Assertions state: no write lands in memory whose CTS is over; none reads the source of a send that has returned; a
 * receive that succeeds has all of its message; nobody says what his state does not allow. At the end, when nothing
 * can happen any more, all have returned; with NO_CUT, where nobody severs, by the peers' answers alone.
 *
 * Each step of a send or a receive is a row of transitions.list; with TELL the search prints those that it takes.
 *
 * Sizes: MESSAGES, RECEIVES, WRITES (segments of a message), SESSIONS. NO_LONG: no message is too long for its receive,
 * NO_EAGER: none is sent without a CTS.
 *
 * Mutants, each of which must be found:
 *   RECEIVER_RUSHES  a receive that gives up returns without waiting
 *   SENDER_RUSHES    a send that gives up returns without waiting for its writes
 *   CACK_RUSHES      CANCEL is answered while writes are out
 *   FIN_IGNORED      a receive that gives up does not take FIN for an answer (found with NO_CUT)
 *   YIELDER_RUSHES   a receive that goes to another message does not take back its CTS first
 *   LOSS_RUSHES      a receive whose peer is lost returns before the lanes are severed
 *   EARLY_OUTLIVES   a CTS of one session is used in the next
 */

#ifndef MESSAGES
#define MESSAGES 2
#endif
#ifndef RECEIVES
#define RECEIVES 2
#endif
#ifndef WRITES
#define WRITES 1
#endif
#ifndef SESSIONS
#define SESSIONS 1
#endif
/* Who may sever, and when: the last of several sessions is not lost, but for CUT_ALL. */
#ifdef CUT_ALL
#define MAY_CUT true
#else
#define MAY_CUT (SESSIONS == 1 || s < SESSIONS - 1)
#endif
#define GENERATIONS (2 * RECEIVES + 2) /* of a session; 0 is none */

mtype = { EAGER, START, LONG, CTS, FIN, ACK, CANCEL, CACK, ABORT, REFUSED, WRITE };
mtype = { NONE, GONE, QUEUED, EARLY, MATCHED, CANCELLING, CANCELLING_MATCHED, YIELDING, DONE };
mtype = { SENT_EAGER, STARTED, STARTED_LONG, WRITING, STOPPING, STOPPING_CANCELLED, STOPPING_BOTH, FINISHED,
	  FINISHED_POSTED, FINISHED_ACKED, FINISHED_LEFT, FINISHED_LEFT_ACKED };

#include "tell.pml"

/* Of each session: what is said (type, number of the message, generation), and what is written. */
chan lanes[SESSIONS] = [10] of { mtype, byte, byte };
chan answers[SESSIONS] = [10] of { mtype, byte, byte };
#ifdef ONE_LANE
chan arrived[SESSIONS] = [10] of { mtype, byte, byte };
#define to_receiver arrived[s]
#define writes lanes[s]
#else
chan write_lanes[SESSIONS] = [MESSAGES * WRITES] of { mtype, byte, byte };
#define to_receiver lanes[s]
#define writes write_lanes[s]
#endif
#define lane lanes[s]
#define to_sender answers[s]

bool sender_cut[SESSIONS];
bool receiver_cut[SESSIONS];
byte sends[SESSIONS];	 /* that have not returned */
byte receives[SESSIONS]; /* the same */

#define M(i) (s * MESSAGES + (i))
#define G(i) (s * GENERATIONS + (i))
bool source_is_open[SESSIONS * MESSAGES];    /* the send has not returned */
byte posted[SESSIONS * MESSAGES];	     /* writes whose end the sender has not seen */
bool memory_is_open[SESSIONS * GENERATIONS]; /* the CTS of that generation is in force */
byte landed[SESSIONS * GENERATIONS];
byte kept; /* EARLY_OUTLIVES */

inline land(seq, generation)
{
	if
	:: receiver_cut[s] /* nobody is there */
	:: else ->
		assert(sender_cut[s] || source_is_open[M(seq)] || posted[M(seq)] == 0);
		assert(memory_is_open[G(generation)]);
		landed[G(generation)]++
	fi;
#ifndef ONE_LANE
	if
	:: posted[M(seq)] > 0 -> posted[M(seq)]--
	:: else
	fi
#endif
}

/* The network: it moves what is first on a lane, at any moment. */
proctype network(byte s)
{
	mtype type;
	byte seq, generation;
end_network:
	do
#ifdef ONE_LANE
	:: atomic {
		lane ? type, seq, generation ->
		if
		:: type == WRITE -> land(seq, generation)
		:: type != WRITE && !receiver_cut[s] -> to_receiver ! type, seq, generation
		:: else
		fi
	}
#else
	:: atomic { writes ? type, seq, generation -> land(seq, generation) }
#endif
	od
}

/* ---- sends ---- */

inline end_send(i)
{
	state[i] = DONE;
	source_is_open[M(i)] = false;
	sends[s]--
}

#ifdef ONE_LANE
/* FIN goes right behind the last one. */
#define POST(i) \
	:: atomic { \
		state[i] == WRITING && !sender_cut[s] -> writes ! WRITE, i, generation[i]; \
		posted[M(i)]++; \
		written[i]++; \
		if \
		:: written[i] == WRITES -> lane ! FIN, i, generation[i]; \
			state[i] = FINISHED_POSTED; \
			ROW("send WRITING all_posted FINISHED:posted FIN") \
		:: else \
		fi \
	} \
	:: atomic { posted[M(i)] > 0 && !sender_cut[s] -> posted[M(i)]-- }
#else
#define POST(i) \
	:: atomic { \
		state[i] == WRITING && written[i] < WRITES && !sender_cut[s] -> \
		writes ! WRITE, i, generation[i]; \
		posted[M(i)]++; \
		written[i]++ \
	} \
	:: atomic { \
		state[i] == WRITING && written[i] == WRITES && posted[M(i)] == 0 && !sender_cut[s] -> \
		lane ! FIN, i, generation[i]; \
		state[i] = FINISHED; \
		ROW("send WRITING written FINISHED FIN") \
	}
#endif

/* Nothing of it is posted any more. */
#define WRITTEN(i, from) state[i] == from && posted[M(i)] == 0 && !sender_cut[s]
#define SETTLE(i) \
	:: atomic { \
		WRITTEN(i, FINISHED_POSTED) -> state[i] = FINISHED; \
		ROW("send FINISHED:posted written FINISHED -") \
	} \
	:: atomic { \
		WRITTEN(i, FINISHED_ACKED) -> end_send(i); \
		ROW("send FINISHED:posted:acked written DONE -") \
	} \
	:: atomic { \
		WRITTEN(i, FINISHED_LEFT) -> end_send(i); \
		ROW("send FINISHED:posted:given_up written DONE -") \
	} \
	:: atomic { \
		WRITTEN(i, FINISHED_LEFT_ACKED) -> end_send(i); \
		ROW("send FINISHED:posted:given_up:acked written DONE -") \
	} \
	:: atomic { \
		WRITTEN(i, STOPPING) -> lane ! ABORT, i, 0; \
		end_send(i); \
		ROW("send STOPPING:given_up written DONE ABORT") \
	} \
	:: atomic { \
		WRITTEN(i, STOPPING_CANCELLED) -> \
		CACK_LATE(i); \
		state[i] = STARTED; \
		ROW("send STOPPING:cancelled written STARTED CACK") \
	} \
	:: atomic { \
		WRITTEN(i, STOPPING_BOTH) -> \
		CACK_LATE(i); \
		lane ! ABORT, i, 0; \
		end_send(i); \
		ROW("send STOPPING:given_up:cancelled written DONE CACK,ABORT") \
	}

#ifdef CACK_RUSHES
#define CACK_LATE(i) skip
#define CACK_SOON(i) lane ! CACK, i, got
#else
#define CACK_LATE(i) lane ! CACK, i, generation[i]
#define CACK_SOON(i) skip
#endif

#ifdef SENDER_RUSHES
#define AWAIT_WRITES(i, to) end_send(i)
#else
#define AWAIT_WRITES(i, to) state[i] = to
#endif

#define GIVE_UP_SEND(i) \
	:: atomic { \
		state[i] == SENT_EAGER && !sender_cut[s] -> end_send(i); \
		ROW("send EAGER give_up DONE -") \
	} \
	:: atomic { \
		(state[i] == STARTED || state[i] == STARTED_LONG) && !sender_cut[s] -> lane ! ABORT, i, 0; \
		end_send(i); \
		ROW("send STARTED give_up DONE ABORT") \
	} \
	:: atomic { \
		state[i] == WRITING && !sender_cut[s] -> AWAIT_WRITES(i, STOPPING); \
		ROW("send WRITING give_up STOPPING:given_up -") \
	} \
	:: atomic { \
		state[i] == STOPPING_CANCELLED && !sender_cut[s] -> state[i] = STOPPING_BOTH; \
		ROW("send STOPPING:cancelled give_up STOPPING:given_up:cancelled -") \
	} \
	:: atomic { \
		state[i] == FINISHED && !sender_cut[s] -> end_send(i); \
		ROW("send FINISHED give_up DONE -") \
	} \
	:: atomic { \
		state[i] == FINISHED_POSTED && !sender_cut[s] -> AWAIT_WRITES(i, FINISHED_LEFT); \
		ROW("send FINISHED:posted give_up FINISHED:posted:given_up -") \
	} \
	:: atomic { \
		state[i] == FINISHED_ACKED && !sender_cut[s] -> state[i] = FINISHED_LEFT_ACKED; \
		ROW("send FINISHED:posted:acked give_up FINISHED:posted:given_up:acked -") \
	}

inline on_cts()
{
	if
	:: seq >= next -> assert(seq == next && early == 0); early = got
	:: seq < next && state[seq] == STARTED ->
		generation[seq] = got;
		written[seq] = 0;
		state[seq] = WRITING;
		ROW("send STARTED CTS WRITING -")
	:: seq < next && state[seq] == STARTED_LONG -> ROW("send STARTED CTS_short STARTED -")
	:: seq < next && state[seq] == SENT_EAGER -> ROW("send EAGER CTS EAGER -")
	:: else -> assert(state[seq] == DONE)
	fi
}

inline on_cancel()
{
	if
	:: early == got -> early = 0
	:: else
	fi;
	if
	:: seq >= next -> lane ! CACK, seq, got
	:: seq < next && state[seq] == WRITING && generation[seq] == got ->
		CACK_SOON(seq);
		state[seq] = STOPPING_CANCELLED;
		ROW("send WRITING CANCEL STOPPING:cancelled -")
	:: seq < next && state[seq] == STOPPING && generation[seq] == got ->
		CACK_SOON(seq);
		state[seq] = STOPPING_BOTH;
		ROW("send STOPPING:given_up CANCEL STOPPING:given_up:cancelled -")
	/* The FIN is the answer. */
	:: seq < next && state[seq] == FINISHED && generation[seq] == got ->
		ROW("send FINISHED CANCEL FINISHED -")
	:: seq < next && state[seq] == FINISHED_POSTED && generation[seq] == got ->
		ROW("send FINISHED:posted CANCEL FINISHED:posted -")
	:: seq < next && state[seq] == FINISHED_LEFT && generation[seq] == got ->
		ROW("send FINISHED:posted:given_up CANCEL FINISHED:posted:given_up -")
	:: seq < next && (state[seq] == STARTED || state[seq] == STARTED_LONG) ->
		lane ! CACK, seq, got;
		ROW("send STARTED CANCEL STARTED CACK")
	:: seq < next && state[seq] == SENT_EAGER ->
		lane ! CACK, seq, got;
		ROW("send EAGER CANCEL EAGER CACK")
	:: else -> assert(state[seq] == DONE); lane ! CACK, seq, got
	fi
}

inline on_ack()
{
	assert(seq < next);
	if
	:: state[seq] == SENT_EAGER -> end_send(seq); ROW("send EAGER ACK DONE -")
	:: state[seq] == FINISHED -> end_send(seq); ROW("send FINISHED ACK DONE -")
	:: state[seq] == FINISHED_POSTED ->
		state[seq] = FINISHED_ACKED;
		ROW("send FINISHED:posted ACK FINISHED:posted:acked -")
	:: state[seq] == FINISHED_LEFT ->
		state[seq] = FINISHED_LEFT_ACKED;
		ROW("send FINISHED:posted:given_up ACK FINISHED:posted:given_up:acked -")
	:: else -> assert(state[seq] == DONE)
	fi
}

proctype sender(byte s)
{
	mtype state[MESSAGES];
	byte generation[MESSAGES];
	byte written[MESSAGES];
	byte next = 0; /* number of the next message */
	byte left = MESSAGES;
	byte early = 0;
	byte seq, got;

#ifdef EARLY_OUTLIVES
	early = kept;
#endif
end_sender:
	do
	:: sender_cut[s] -> break

	/* The first message. */
#ifndef NO_EAGER
	:: atomic {
		left > 0 && !sender_cut[s] -> lane ! EAGER, next, 0;
		early = 0;
		state[next] = SENT_EAGER;
		source_is_open[M(next)] = true;
		left--;
		next++;
		ROW("send WAITING room EAGER EAGER")
	}
#endif
	:: atomic {
		left > 0 && !sender_cut[s] -> lane ! START, next, 0;
		if
		:: early != 0 ->
			generation[next] = early;
			early = 0;
			state[next] = WRITING;
			ROW("send WAITING room_and_CTS WRITING START")
		:: else -> state[next] = STARTED; ROW("send WAITING room STARTED START")
		fi;
		source_is_open[M(next)] = true;
		left--;
		next++
	}
#ifndef NO_LONG
	:: atomic {
		left > 0 && !sender_cut[s] -> lane ! LONG, next, 0;
		early = 0;
		state[next] = STARTED_LONG;
		source_is_open[M(next)] = true;
		left--;
		next++
	}
#endif
	:: atomic {
		left > 0 && !sender_cut[s] -> left--;
		sends[s]--;
		ROW("send WAITING give_up DONE -")
	}

	POST(0)
	SETTLE(0)
	GIVE_UP_SEND(0)
#if MESSAGES > 1
	POST(1)
	SETTLE(1)
	GIVE_UP_SEND(1)
#endif

	/* What the peer says. */
	:: atomic { !sender_cut[s] && to_sender ? [CTS, _, _] -> to_sender ? CTS, seq, got; on_cts(); seq = 0; got = 0 }
	:: atomic { !sender_cut[s] && to_sender ? [CANCEL, _, _] -> to_sender ? CANCEL, seq, got; on_cancel(); seq = 0; got = 0 }
	:: atomic { !sender_cut[s] && to_sender ? [ACK, _, _] -> to_sender ? ACK, seq, _; on_ack(); seq = 0 }
	:: atomic {
		!sender_cut[s] && to_sender ? [REFUSED, _, _] -> to_sender ? REFUSED, seq, _;
		assert(state[seq] == STARTED_LONG || state[seq] == DONE);
		seq = 0
	}
#ifndef NO_CUT
	:: atomic {
		MAY_CUT && !sender_cut[s] -> sender_cut[s] = true;
		for (seq : 0 .. MESSAGES - 1) {
			posted[M(seq)] = 0;
			source_is_open[M(seq)] = false
		}
		sends[s] = 0;
		kept = early;
		break
	}
#endif
	od
}

/* ---- receives ---- */

inline end_receive(i)
{
	memory_is_open[G(generation[i])] = false;
	state[i] = DONE;
	receives[s]--
}

inline send_cts(i, to)
{
	generations++;
	assert(generations < GENERATIONS);
	generation[i] = generations;
	number[i] = to;
	memory_is_open[G(generations)] = true;
	to_sender ! CTS, to, generations
}

/* The first that waits, and the first message that no receive has. */
inline find_first()
{
	first = 0;
	do
	:: first < RECEIVES && (state[first] == DONE || state[first] == MATCHED ||
				state[first] == CANCELLING_MATCHED) -> first++
	:: first < RECEIVES && state[first] == 0 -> first = RECEIVES; break
	:: else -> break
	od;
	message = 0;
	do
	:: message < MESSAGES && (arrival[message] == 0 || arrival[message] == GONE) -> message++
	:: else -> break
	od
}

inline offer_early()
{
	if
	:: state[first] == QUEUED ->
		if
		:: send_cts(first, next);
			state[first] = EARLY;
			ROW("recv QUEUED first EARLY CTS")
		:: skip /* it is one for small messages */
		fi
	:: else
	fi
}

inline take_message()
{
	if
	:: arrival[message] == EAGER ->
		arrival[message] = GONE;
		if
		:: state[first] == EARLY -> ROW("recv EARLY EAGER DONE ACK")
		:: else -> ROW("recv QUEUED EAGER DONE ACK")
		fi;
		end_receive(first)
	:: arrival[message] == LONG ->
		to_sender ! REFUSED, message, 0;
		if
		:: state[first] == EARLY -> ROW("recv EARLY LONG DONE REFUSED")
		:: else -> ROW("recv QUEUED LONG DONE REFUSED")
		fi;
		end_receive(first)
	:: arrival[message] == START && state[first] == EARLY ->
		arrival[message] = GONE;
		state[first] = MATCHED;
		ROW("recv EARLY START MATCHED -")
	:: arrival[message] == START && state[first] == QUEUED ->
		arrival[message] = GONE;
		send_cts(first, message);
		state[first] = MATCHED;
		ROW("recv QUEUED START MATCHED CTS")
	fi
}

#ifdef YIELDER_RUSHES
#define YIELD(i) memory_is_open[G(generation[i])] = false; state[i] = QUEUED
#else
#define YIELD(i) state[i] = YIELDING
#endif

inline match()
{
	do
	:: find_first();
		if
		:: first == RECEIVES -> break
		:: first < RECEIVES && (state[first] == CANCELLING || state[first] == YIELDING) -> break
		:: else
		fi;
		if
		:: message == MESSAGES -> offer_early(); break
		:: message < MESSAGES && state[first] == EARLY && number[first] != message ->
			to_sender ! CANCEL, number[first], generation[first];
			YIELD(first);
			ROW("recv EARLY put_back CANCELLING:yields CANCEL");
			break
		:: else -> take_message()
		fi
	od;
	first = 0;
	message = 0
}

/* The receive that the sender speaks of; generation 0: any. */
inline find_matched(to, any)
{
	i = 0;
	do
	:: i < RECEIVES && number[i] == to && (any || generation[i] == got) &&
	   (state[i] == MATCHED || state[i] == CANCELLING || state[i] == CANCELLING_MATCHED ||
	    state[i] == YIELDING) -> break
	:: i == RECEIVES -> break
	:: else -> i++
	od
}

/* Its CTS is over, and nobody writes under it any more. */
inline settle()
{
	if
	:: state[i] == YIELDING ->
		memory_is_open[G(generation[i])] = false;
		state[i] = QUEUED
	:: else -> end_receive(i)
	fi
}

/* A message that makes void a CTS that is being cancelled. */
#define SETTLE_VOID(type, says) \
	find_matched(seq, true); \
	if \
	:: i < RECEIVES && state[i] == CANCELLING -> \
		ROW("recv CANCELLING:given_up " type " DONE " says); \
		settle() \
	:: i < RECEIVES && state[i] == YIELDING -> \
		ROW("recv CANCELLING:yields " type " QUEUED " says); \
		settle() \
	:: else \
	fi

/* What is left in them would make states differ that do not. */
inline forget()
{
	i = 0;
	seq = 0;
	got = 0
}

inline on_fin()
{
	find_matched(seq, false);
	assert(i < RECEIVES);
	assert(landed[G(got)] == WRITES);
	if
	:: state[i] == MATCHED -> ROW("recv MATCHED FIN DONE ACK")
	:: state[i] == CANCELLING -> ROW("recv CANCELLING:given_up FIN DONE ACK")
	:: state[i] == CANCELLING_MATCHED -> ROW("recv CANCELLING:given_up:matched FIN DONE ACK")
	:: state[i] == YIELDING -> ROW("recv CANCELLING:yields FIN DONE ACK")
	fi;
#ifdef FIN_IGNORED
	if
	:: state[i] == MATCHED -> arrival[seq] = GONE; to_sender ! ACK, seq, 0; end_receive(i); match()
	:: else
	fi
#else
	arrival[seq] = GONE;
	to_sender ! ACK, seq, 0;
	end_receive(i);
	match()
#endif
}

inline on_cack()
{
	find_matched(seq, false);
	if
	:: i < RECEIVES && state[i] == CANCELLING ->
		ROW("recv CANCELLING:given_up CACK DONE -");
		settle()
	:: i < RECEIVES && state[i] == CANCELLING_MATCHED ->
		ROW("recv CANCELLING:given_up:matched CACK DONE -");
		arrival[seq] = START; /* another receive may have it */
		settle()
	:: i < RECEIVES && state[i] == YIELDING ->
		ROW("recv CANCELLING:yields CACK QUEUED -");
		settle()
	:: else
	fi;
	match()
}

inline on_abort()
{
	arrival[seq] = GONE;
	find_matched(seq, true);
	if
	:: i < RECEIVES && state[i] == MATCHED -> ROW("recv MATCHED ABORT DONE -"); settle()
	:: i < RECEIVES && state[i] == CANCELLING ->
		ROW("recv CANCELLING:given_up ABORT DONE -");
		settle()
	:: i < RECEIVES && state[i] == CANCELLING_MATCHED ->
		ROW("recv CANCELLING:given_up:matched ABORT DONE -");
		settle()
	:: i < RECEIVES && state[i] == YIELDING ->
		ROW("recv CANCELLING:yields ABORT QUEUED -");
		settle()
	:: else
	fi;
	match()
}

#ifdef RECEIVER_RUSHES
#define AWAIT_ANSWER(i, to) end_receive(i)
#else
#define AWAIT_ANSWER(i, to) state[i] = to
#endif

#define GIVE_UP_RECEIVE(i) \
	:: atomic { \
		state[i] == QUEUED && !receiver_cut[s] -> end_receive(i); \
		ROW("recv QUEUED give_up DONE -"); \
		match() \
	} \
	:: atomic { \
		state[i] == EARLY && !receiver_cut[s] -> to_sender ! CANCEL, number[i], generation[i]; \
		AWAIT_ANSWER(i, CANCELLING); \
		ROW("recv EARLY give_up CANCELLING:given_up CANCEL") \
	} \
	:: atomic { \
		state[i] == MATCHED && !receiver_cut[s] -> to_sender ! CANCEL, number[i], generation[i]; \
		AWAIT_ANSWER(i, CANCELLING_MATCHED); \
		ROW("recv MATCHED give_up CANCELLING:given_up:matched CANCEL") \
	} \
	:: atomic { \
		state[i] == YIELDING && !receiver_cut[s] -> state[i] = CANCELLING; \
		ROW("recv CANCELLING:yields give_up CANCELLING:given_up -") \
	}

proctype receiver(byte s)
{
	mtype state[RECEIVES];
	byte number[RECEIVES]; /* of the message that its CTS is for */
	byte generation[RECEIVES];
	mtype arrival[MESSAGES]; /* what has come and no receive has */
	byte next = 0;		 /* number of the next message */
	byte begun = 0;
	byte generations = 0;
	byte first, message, i, seq, got;

end_receiver:
	do
	:: receiver_cut[s] -> break
	:: atomic {
		begun < RECEIVES && !receiver_cut[s] -> state[begun] = QUEUED;
		begun++;
		match()
	}
	GIVE_UP_RECEIVE(0)
#if RECEIVES > 1
	GIVE_UP_RECEIVE(1)
#endif
	:: atomic {
		!receiver_cut[s] && to_receiver ? [EAGER, _, _] -> to_receiver ? EAGER, seq, _;
		assert(seq == next);
		next++;
		to_sender ! ACK, seq, 0;
		SETTLE_VOID("EAGER", "ACK");
		arrival[seq] = EAGER;
		match();
		forget()
	}
	:: atomic {
		!receiver_cut[s] && to_receiver ? [START, _, _] -> to_receiver ? START, seq, _;
		assert(seq == next);
		next++;
		find_matched(seq, true);
		if
		:: i < RECEIVES && state[i] == CANCELLING ->
			ROW("recv CANCELLING:given_up START CANCELLING:given_up -")
		:: i < RECEIVES && state[i] == YIELDING ->
			ROW("recv CANCELLING:yields START CANCELLING:yields -")
		:: else
		fi;
		arrival[seq] = START;
		match();
		forget()
	}
	:: atomic {
		!receiver_cut[s] && to_receiver ? [LONG, _, _] -> to_receiver ? LONG, seq, _;
		assert(seq == next);
		next++;
		SETTLE_VOID("LONG", "-");
		arrival[seq] = LONG;
		match();
		forget()
	}
	:: atomic { !receiver_cut[s] && to_receiver ? [FIN, _, _] -> to_receiver ? FIN, seq, got; on_fin(); forget() }
	:: atomic { !receiver_cut[s] && to_receiver ? [CACK, _, _] -> to_receiver ? CACK, seq, got; on_cack(); forget() }
	:: atomic { !receiver_cut[s] && to_receiver ? [ABORT, _, _] -> to_receiver ? ABORT, seq, _; on_abort(); forget() }
#ifndef NO_CUT
	:: atomic {
		MAY_CUT && !receiver_cut[s] ->
#ifndef LOSS_RUSHES
		receiver_cut[s] = true;
#endif
		for (i : 0 .. GENERATIONS - 1) {
			memory_is_open[G(i)] = false
		}
		receives[s] = 0;
		break
	}
#endif
	od
}

inline begin(s)
{
	sends[s] = MESSAGES;
	receives[s] = RECEIVES;
	run sender(s);
	run receiver(s);
	run network(s)
}

/* They connect again as soon as one side has severed. */
init
{
	atomic { begin(0) }
#if SESSIONS > 1
end_init:
	atomic { sender_cut[0] || receiver_cut[0] -> begin(1) }
#endif
}

/* When nothing can happen any more. */
active proctype the_end()
{
	byte s;
	timeout ->
	for (s : 0 .. SESSIONS - 1) {
		assert(sends[s] == 0 && receives[s] == 0)
	}
}
