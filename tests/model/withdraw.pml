/* SPDX-License-Identifier: Apache-2.0 */
/*
 * withdraw.pml - the withdrawal of an export and the end of a transfer, docs/protocol.md 7.2 and 7.4, as a
 * model: one transfer of a few pieces, each written in place or packed, while the owner withdraws at any
 * moment, the peer gives up at any moment, and the quiesce deadline may pass at any moment.
 *
 * What is said of the transfer, and its writes, travel on lane a, what is said of the export on lane b;
 * ONE_LANE: they are the same. A transfer is in order: SYNC goes behind its last piece, and NOTED is its
 * success. Or (SPREAD) it is through when every write was delivered and every pack acknowledged. Severing
 * drops all that is under way.
 *
 * Assertions state: nothing lands in the pool once the withdrawal has returned, or the transfer has
 * failed; a transfer that succeeds has all of its pieces there. Spin's search for invalid end states adds:
 * the withdrawal returns; with NO_CUT, which takes the quiesce deadline away, by the peer's answer alone.
 *
 * Mutants, each of which must be found:
 *   OWNER_RUSHES  the withdrawal returns without waiting
 *   PEER_RUSHES   it is confirmed while writes are out
 *   WRITER_RUSHES a transfer in order that is given up ends without a SYNC behind its writes
 *   WRITES_RUSH   of a transfer that is not in order a write counts as done before it was delivered
 *   DROPS_EARLY   packs are dropped as soon as the withdrawal has been decided
 */

#define PIECES 3

mtype = { WRITE, PACK, PACK_ACK, SYNC, NOTED, WITHDRAW, WITHDRAWN };
mtype = { OPEN, CLOSING, CONFIRMED };
mtype = { MOVING, SYNCED, STOPPING, OVER };

chan to_owner_a = [8] of { mtype };
chan to_peer_a = [8] of { mtype };
#ifdef ONE_LANE
#define to_owner_b to_owner_a
#define to_peer_b to_peer_a
#else
chan to_owner_b = [2] of { mtype };
chan to_peer_b = [2] of { mtype };
#endif

byte landed;
byte posted;	/* of which the peer has not seen the end */
byte completed; /* completions that it has yet to see */
bool returned;	/* the withdrawal */
bool failed;	/* the transfer */
bool severed;

inline sever_all()
{
	d_step {
		do
		:: len(to_owner_a) > 0 -> to_owner_a ? _
		:: len(to_peer_a) > 0 -> to_peer_a ? _
#ifndef ONE_LANE
		:: len(to_owner_b) > 0 -> to_owner_b ? _
		:: len(to_peer_b) > 0 -> to_peer_b ? _
#endif
		:: else -> break
		od;
		posted = 0;
		completed = 0;
		severed = true
	}
}

inline land()
{
	assert(!returned && !failed);
	landed++
}

/* The owner's NIC, which asks nobody. */
active proctype nic()
{
end_nic:
	do
	:: atomic { to_owner_a ? WRITE -> land(); completed++ }
	od
}

active proctype owner()
{
	mtype state = OPEN;
	bool told = false;

	do
	:: returned -> break
	:: atomic {
		to_owner_a ? PACK ->
		if
#ifdef DROPS_EARLY
		:: state == OPEN -> land()
#else
		:: state != CONFIRMED -> land()
#endif
		:: else
		fi;
#ifdef SPREAD
		to_peer_a ! PACK_ACK
#endif
	}
	:: atomic { to_owner_a ? SYNC -> to_peer_a ! NOTED }
	:: atomic { to_owner_b ? WITHDRAWN -> state = CONFIRMED }
	:: state == OPEN -> state = CLOSING
	:: atomic { state == CLOSING && !told && !severed -> to_peer_b ! WITHDRAW; told = true }
#ifdef OWNER_RUSHES
	:: atomic { told && state == CLOSING -> state = CONFIRMED }
#endif
#ifndef NO_CUT
	:: atomic { told && state == CLOSING -> sever_all(); state = CONFIRMED }
#endif
	:: state == CONFIRMED -> returned = true
	od;

	/* The engine lives on: what comes late is dropped. */
end_owner:
	do
	:: atomic {
		to_owner_a ? PACK ->
#ifdef SPREAD
		to_peer_a ! PACK_ACK
#else
		skip
#endif
	}
	:: atomic { to_owner_a ? SYNC -> to_peer_a ! NOTED }
	:: to_owner_b ? WITHDRAWN
	od
}

active proctype peer()
{
	mtype state = MOVING;
	byte sent = 0;
	bool withdrawn = false;
	bool confirmed = false;
	bool synced = false;

end_peer:
	do
	:: severed -> break
	:: atomic {
		state == MOVING && sent < PIECES && !withdrawn && !severed ->
		sent++;
		if
		:: to_owner_a ! WRITE; posted++
		:: to_owner_a ! PACK;
#ifdef SPREAD
			posted++
#endif
		fi
	}

	/* What follows stays behind the writes of its lane: they are done when our memory is free. */
#if !defined(SPREAD) || defined(WRITES_RUSH)
	:: atomic { completed > 0 -> completed-- }
	:: atomic { posted > 0 -> posted-- }
#else
	:: atomic { completed > 0 -> completed--; posted-- }
#endif
	:: atomic { to_peer_a ? PACK_ACK -> posted-- }

	/* The end of the transfer. */
	:: atomic { (state == MOVING || state == SYNCED) && !severed -> state = STOPPING }
#ifdef SPREAD
	:: atomic {
		state == MOVING && sent == PIECES && posted == 0 && !withdrawn && !severed ->
		assert(landed == PIECES);
		state = OVER
	}
	:: atomic { state == STOPPING && posted == 0 && !severed -> failed = true; state = OVER }
#else
	:: atomic {
		state == MOVING && sent == PIECES && !withdrawn && !severed -> to_owner_a ! SYNC;
		synced = true;
		state = SYNCED
	}
	:: atomic {
		state == STOPPING && posted == 0 && !synced && !severed ->
#ifdef WRITER_RUSHES
		failed = true;
		state = OVER
#else
		to_owner_a ! SYNC;
		synced = true
#endif
	}
	:: atomic {
		to_peer_a ? NOTED ->
		assert(state != SYNCED || landed == PIECES);
		failed = true; /* or it has succeeded: nothing lands any more either way */
		state = OVER
	}
#endif

	/* The withdrawal. */
	:: atomic {
		to_peer_b ? WITHDRAW -> withdrawn = true;
		if
		:: state == OVER
		:: else -> state = STOPPING
		fi
	}
	:: atomic {
#ifdef PEER_RUSHES
		withdrawn && !confirmed && !severed ->
#else
		withdrawn && !confirmed && state == OVER && !severed ->
#endif
		to_owner_b ! WITHDRAWN;
		confirmed = true
	}
	od
}
