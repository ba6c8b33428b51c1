/* SPDX-License-Identifier: Apache-2.0 */
/*
 * withdraw.pml - the withdrawal of an export and the end of transfers, docs/protocol.md 7.2 and 7.4, as a model: some
 * transfers of a few pieces, each written in place or packed, while the owner withdraws at any moment, the peer gives
 * up any of them at any moment, and either side may lose the other at any moment (a cable, a deadline, its death); then
 * they connect again, and the memory is exported again, while one of them may not have noticed yet.
 *
 * What is said of the transfers, and their writes, travel on lane a, what is said of the export on lane b; ONE_LANE:
 * they are the same. A transfer is in order: SYNC goes behind its last piece, and NOTED is its success. Or (SPREAD) it
 * is through when every write was delivered and every pack acknowledged. Severing is one side's: what the other has
 * sent before does not reach it any more; what it has sent itself may still arrive, as the network holds it.
 *
 * Assertions state: nothing lands in the pool once the withdrawal has returned; nothing of a transfer does once it has
 * failed, but for the peer's loss of the owner; a transfer that succeeds has all of its pieces there. At the end, when
 * nothing can happen any more, the withdrawal has returned; with NO_CUT, where nobody severs, by the peer's answer alone.
 *
 * Sizes: TRANSFERS, PIECES, SESSIONS.
 *
 * Mutants, each of which must be found:
 *   OWNER_RUSHES   the withdrawal returns without waiting
 *   PEER_RUSHES    it is confirmed while writes are out
 *   FIRST_CONFIRMS it is confirmed when one transfer has ended
 *   WRITER_RUSHES  a transfer in order that is given up ends without a SYNC behind its writes
 *   WRITES_RUSH    of a transfer that is not in order a write counts as done before it was delivered
 *   DROPS_EARLY    packs are dropped as soon as the withdrawal has been decided
 *   LOSS_RUSHES    a withdrawal whose peer is lost returns before the lanes are severed
 */

#ifndef TRANSFERS
#define TRANSFERS 2
#endif
#ifndef PIECES
#define PIECES 2
#endif
#ifndef SESSIONS
#define SESSIONS 1
#endif
/* The last of several sessions is not lost. */
#define MAY_CUT (SESSIONS == 1 || s < SESSIONS - 1)

mtype = { WRITE, PACK, PACK_ACK, SYNC, NOTED, WITHDRAW, WITHDRAWN };
mtype = { OPEN, CLOSING, CONFIRMED };
mtype = { MOVING, SYNCED, STOPPING, OVER };

/* Of each session: what it is, and of which transfer. */
chan owner_lanes_a[SESSIONS] = [TRANSFERS * (PIECES + 1) + 1] of { mtype, byte };
chan peer_lanes_a[SESSIONS] = [TRANSFERS * (PIECES + 1) + 1] of { mtype, byte };
#ifdef ONE_LANE
#define to_owner_b owner_lanes_a[s]
#define to_peer_b peer_lanes_a[s]
#else
chan owner_lanes_b[SESSIONS] = [2] of { mtype, byte };
chan peer_lanes_b[SESSIONS] = [2] of { mtype, byte };
#define to_owner_b owner_lanes_b[s]
#define to_peer_b peer_lanes_b[s]
#endif
#define to_owner_a owner_lanes_a[s]
#define to_peer_a peer_lanes_a[s]

bool owner_cut[SESSIONS];
bool peer_cut[SESSIONS];
bool returned[SESSIONS]; /* the withdrawal */
bool begun[SESSIONS];

#define T(t) (s * TRANSFERS + (t))
byte landed[SESSIONS * TRANSFERS];
byte posted[SESSIONS * TRANSFERS]; /* of which the peer has not seen the end */
bool failed[SESSIONS * TRANSFERS];

inline land(t)
{
	assert(!returned[s] && (!failed[T(t)] || peer_cut[s]));
	landed[T(t)]++
}

/* The owner's NIC, which asks nobody. */
proctype nic(byte s)
{
	byte t;
end_nic:
	do
	:: atomic {
		to_owner_a ? WRITE, t ->
		if
		:: owner_cut[s] /* nobody is there */
		:: else ->
			land(t);
#if defined(SPREAD) && !defined(WRITES_RUSH)
			if
			:: posted[T(t)] > 0 -> posted[T(t)]--
			:: else
			fi
#endif
		fi;
		t = 0
	}
	od
}

proctype owner(byte s)
{
	mtype state = OPEN;
	bool told = false;
	byte t;

end_owner:
	do
	:: owner_cut[s] -> break
	:: atomic {
		!owner_cut[s] && to_owner_a ? [PACK, _] -> to_owner_a ? PACK, t;
		if
#ifdef DROPS_EARLY
		:: state == OPEN -> land(t)
#else
		:: state != CONFIRMED -> land(t)
#endif
		:: else
		fi;
#ifdef SPREAD
		to_peer_a ! PACK_ACK, t;
#endif
		t = 0
	}
	:: atomic { !owner_cut[s] && to_owner_a ? [SYNC, _] -> to_owner_a ? SYNC, t; to_peer_a ! NOTED, t; t = 0 }
	:: atomic {
		!owner_cut[s] && to_owner_b ? [WITHDRAWN, _] -> to_owner_b ? WITHDRAWN, _;
		state = CONFIRMED;
		returned[s] = true
	}
	:: state == OPEN -> state = CLOSING
	:: atomic { state == CLOSING && !told && !owner_cut[s] -> to_peer_b ! WITHDRAW, 0; told = true }
#ifdef OWNER_RUSHES
	:: atomic { told && state == CLOSING -> state = CONFIRMED; returned[s] = true }
#endif
#ifndef NO_CUT
	:: atomic {
		MAY_CUT && !owner_cut[s] ->
#ifndef LOSS_RUSHES
		owner_cut[s] = true;
#endif
		returned[s] = true;
		break
	}
#endif
	od
}

/* ---- the peer ---- */

#ifdef SPREAD
#define SENT_PACK(t) posted[T(t)]++
#else
#define SENT_PACK(t) skip
#endif

#define MOVE(t) \
	:: atomic { \
		state[t] == MOVING && sent[t] < PIECES && !withdrawn && !peer_cut[s] -> sent[t]++; \
		if \
		:: to_owner_a ! WRITE, t; posted[T(t)]++ \
		:: to_owner_a ! PACK, t; SENT_PACK(t) \
		fi \
	} \
	:: atomic { (state[t] == MOVING || state[t] == SYNCED) && !peer_cut[s] -> state[t] = STOPPING }

#ifdef WRITER_RUSHES
#define SETTLE(t) failed[T(t)] = true; state[t] = OVER
#else
#define SETTLE(t) to_owner_a ! SYNC, t; synced[t] = true
#endif

#ifdef SPREAD
#define FINISH(t) \
	:: atomic { \
		state[t] == MOVING && sent[t] == PIECES && posted[T(t)] == 0 && !withdrawn && !peer_cut[s] -> \
		assert(landed[T(t)] == PIECES); \
		state[t] = OVER \
	} \
	:: atomic { \
		state[t] == STOPPING && posted[T(t)] == 0 && !peer_cut[s] -> failed[T(t)] = true; \
		state[t] = OVER \
	}
#else
#define FINISH(t) \
	:: atomic { \
		state[t] == MOVING && sent[t] == PIECES && !withdrawn && !peer_cut[s] -> to_owner_a ! SYNC, t; \
		synced[t] = true; \
		state[t] = SYNCED \
	} \
	:: atomic { \
		state[t] == STOPPING && posted[T(t)] == 0 && !synced[t] && !peer_cut[s] -> SETTLE(t) \
	}
#endif

/* What follows stays behind the writes of its lane: they are done when our memory is free. */
#if !defined(SPREAD) || defined(WRITES_RUSH)
#define WRITTEN(t) :: atomic { posted[T(t)] > 0 && !peer_cut[s] -> posted[T(t)]-- }
#else
#define WRITTEN(t)
#endif

#if TRANSFERS > 1
#define ALL_ARE_OVER (state[0] == OVER && state[1] == OVER)
#else
#define ALL_ARE_OVER (state[0] == OVER)
#endif

#if defined(PEER_RUSHES)
#define MAY_CONFIRM true
#elif defined(FIRST_CONFIRMS)
#define MAY_CONFIRM (state[0] == OVER)
#else
#define MAY_CONFIRM ALL_ARE_OVER
#endif

proctype peer(byte s)
{
	mtype state[TRANSFERS];
	byte sent[TRANSFERS];
	bool synced[TRANSFERS];
	bool withdrawn = false;
	bool confirmed = false;
	byte t;

	atomic {
		for (t : 0 .. TRANSFERS - 1) {
			state[t] = MOVING
		}
		t = 0
	}
end_peer:
	do
	:: peer_cut[s] -> break
	MOVE(0)
	WRITTEN(0)
	FINISH(0)
#if TRANSFERS > 1
	MOVE(1)
	WRITTEN(1)
	FINISH(1)
#endif
	:: atomic {
		!peer_cut[s] && to_peer_a ? [PACK_ACK, _] -> to_peer_a ? PACK_ACK, t;
		posted[T(t)]--;
		t = 0
	}
	:: atomic {
		!peer_cut[s] && to_peer_a ? [NOTED, _] -> to_peer_a ? NOTED, t;
		assert(state[t] != SYNCED || landed[T(t)] == PIECES);
		failed[T(t)] = true; /* or it has succeeded: nothing lands any more either way */
		state[t] = OVER;
		t = 0
	}

	/* The withdrawal. */
	:: atomic {
		!peer_cut[s] && to_peer_b ? [WITHDRAW, _] -> to_peer_b ? WITHDRAW, _;
		withdrawn = true;
		for (t : 0 .. TRANSFERS - 1) {
			if
			:: state[t] == OVER
			:: else -> state[t] = STOPPING
			fi
		}
		t = 0
	}
	:: atomic {
		withdrawn && !confirmed && MAY_CONFIRM && !peer_cut[s] -> to_owner_b ! WITHDRAWN, 0;
		confirmed = true
	}
#ifndef NO_CUT
	:: atomic {
		MAY_CUT && !peer_cut[s] -> peer_cut[s] = true;
		for (t : 0 .. TRANSFERS - 1) {
			posted[T(t)] = 0;
			failed[T(t)] = true
		}
		t = 0;
		break
	}
#endif
	od
}

inline begin(s)
{
	begun[s] = true;
	run nic(s);
	run owner(s);
	run peer(s)
}

/* They connect again as soon as one side has severed. */
init
{
	atomic { begin(0) }
#if SESSIONS > 1
end_init:
	atomic { owner_cut[0] || peer_cut[0] -> begin(1) }
#endif
}

/* When nothing can happen any more. */
active proctype the_end()
{
	byte s;
	timeout ->
	for (s : 0 .. SESSIONS - 1) {
		assert(returned[s] || !begun[s])
	}
}
