/* SPDX-License-Identifier: Apache-2.0 */
/*
 * withdraw.pml - the withdrawal of an export and the end of transfers, docs/protocol.md 7.2 and 7.4, as a model: the
 * peer asks for the export and has some transfers of a few pieces, each written in place or packed, while the owner
 * withdraws at any moment, the peer gives up any of them at any moment, and either side may lose the other at any
 * moment (a cable, a deadline, its death); then they connect again, and the memory is exported again, while one of
 * them may not have noticed yet.
 *
 * What is said of the transfers, and their writes, travel on lane a, and so does ATTACH; what is said of the export on
 * lane b; ONE_LANE: they are the same. A transfer is in order: SYNC goes behind its last piece, and NOTED is its
 * success. Or (SPREAD) it is through when every write was delivered and every pack acknowledged. Severing is one
 * side's: what the other has sent before does not reach it any more; what it has sent itself may still arrive, as the
 * network holds it.
 *
 * Assertions state: nothing lands in the pool once the withdrawal has returned; nothing of a transfer does once it has
 * failed, but for the peer's loss of the owner; a transfer that succeeds has all of its pieces there. At the end, when
 * nothing can happen any more, the withdrawal has returned; with NO_CUT, where nobody severs, by the peer's answer alone.
 *
 * Each step of the export, the remote or a transfer is a row of transitions.list; with TELL the search prints those
 * that it takes.
 *
 * Sizes: TRANSFERS, PIECES, IMPORTS (how often the peer asks), SESSIONS.
 *
 * Mutants, each of which must be found:
 *   OWNER_RUSHES   the withdrawal returns without waiting
 *   OWNER_ATTACHES the peer is let in while the withdrawal is under way (found with IMPORTS 2)
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
#ifndef IMPORTS
#define IMPORTS 1
#endif
#ifndef SESSIONS
#define SESSIONS 1
#endif
/* The last of several sessions is not lost. */
#define MAY_CUT (SESSIONS == 1 || s < SESSIONS - 1)

mtype = { ATTACH, ATTACHED, NO_EXPORT, WRITE, PACK, PACK_ACK, SYNC, NOTED, WITHDRAW, WITHDRAWN };
mtype = { OPEN, CLOSING, CLOSED, GONE, ASKED, ASKED_WITHDRAWN };
mtype = { NEW, MOVING, SYNCED, SYNCED_LEFT, SYNCED_NOTED, SYNCED_LEFT_NOTED, STOPPING, SETTLING, OVER };

#include "tell.pml"

#ifdef SPREAD
#define KIND "spread"
#else
#define KIND "write"
#endif

/* Of each session: what it is, and of which transfer. */
#define LANE_LEN (TRANSFERS * (PIECES + 1) + IMPORTS + 1)
chan owner_lanes_a[SESSIONS] = [LANE_LEN] of { mtype, byte };
chan peer_lanes_a[SESSIONS] = [LANE_LEN] of { mtype, byte };
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

/* ---- the owner ---- */

#ifdef DROPS_EARLY
#define MAY_LAND (state == OPEN)
#else
#define MAY_LAND (state != CLOSED)
#endif
#ifdef OWNER_ATTACHES
#define MAY_ATTACH (state != CLOSED)
#else
#define MAY_ATTACH (state == OPEN)
#endif

inline on_attach()
{
	if
	:: MAY_ATTACH ->
		if
		:: state == OPEN && !attached -> ROW("export OPEN ATTACH OPEN:attached ATTACHED")
		:: state == OPEN && attached -> ROW("export OPEN:attached ATTACH OPEN:attached ATTACHED")
		:: else
		fi;
		attached = true;
		to_peer_a ! ATTACHED, 0
	:: else ->
		if
		:: state == CLOSING -> ROW("export CLOSING ATTACH CLOSING NO_EXPORT")
		:: else -> ROW("export CLOSED ATTACH CLOSED NO_EXPORT")
		fi;
		to_peer_a ! NO_EXPORT, 0
	fi
}

inline on_pack()
{
	if
	:: MAY_LAND ->
		if
		:: state == OPEN -> ROW("export OPEN:attached data OPEN:attached copied")
		:: else -> ROW("export CLOSING data CLOSING copied")
		fi;
		land(t)
	:: else
	fi;
#ifdef SPREAD
	to_peer_a ! PACK_ACK, t;
#endif
	t = 0
}

proctype owner(byte s)
{
	mtype state = OPEN;
	bool attached = false;
	bool told = false;
	byte t;

end_owner:
	do
	:: owner_cut[s] -> break
	:: atomic { !owner_cut[s] && to_owner_a ? [ATTACH, _] -> to_owner_a ? ATTACH, _; on_attach() }
	:: atomic { !owner_cut[s] && to_owner_a ? [PACK, _] -> to_owner_a ? PACK, t; on_pack() }
	:: atomic { !owner_cut[s] && to_owner_a ? [SYNC, _] -> to_owner_a ? SYNC, t; to_peer_a ! NOTED, t; t = 0 }
	:: atomic {
		!owner_cut[s] && to_owner_b ? [WITHDRAWN, _] -> to_owner_b ? WITHDRAWN, _;
		state = CLOSED;
		returned[s] = true;
		ROW("export CLOSING WITHDRAWN CLOSED -")
	}
	:: atomic {
		state == OPEN && !attached && !owner_cut[s] -> state = CLOSED;
		returned[s] = true;
		ROW("export OPEN withdraw CLOSED -")
	}
	/* It is decided, and then the peer is told. */
	:: state == OPEN && attached -> state = CLOSING
	:: atomic {
		state == CLOSING && !told && !owner_cut[s] -> to_peer_b ! WITHDRAW, 0;
		told = true;
		ROW("export OPEN:attached withdraw CLOSING WITHDRAW")
	}
#ifdef OWNER_RUSHES
	:: atomic { told && state == CLOSING -> state = CLOSED; returned[s] = true }
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

/* ---- the peer's remote ---- */

#define IS_IDLE(t) (state[t] == NEW || state[t] == OVER)
#if TRANSFERS > 1
#define ARE_IDLE (IS_IDLE(0) && IS_IDLE(1))
#else
#define ARE_IDLE IS_IDLE(0)
#endif

#if defined(PEER_RUSHES)
#define MAY_CONFIRM true
#elif defined(FIRST_CONFIRMS)
#define MAY_CONFIRM (state[0] == OVER || ARE_IDLE)
#else
#define MAY_CONFIRM ARE_IDLE
#endif

#define START(t) \
	:: atomic { \
		state[t] == NEW && remote == OPEN && !peer_cut[s] -> \
		if \
		:: ARE_IDLE -> ROW("remote OPEN start OPEN:used -") \
		:: else -> ROW("remote OPEN:used start OPEN:used -") \
		fi; \
		state[t] = MOVING \
	} \
	:: atomic { \
		state[t] == NEW && (remote == CLOSING || remote == CLOSED) && !peer_cut[s] -> state[t] = OVER; \
		if \
		:: remote == CLOSING -> ROW("remote CLOSING start CLOSING -") \
		:: else -> ROW("remote CLOSED start CLOSED -") \
		fi \
	}

/* A transfer has ended. */
inline leave(i)
{
	state[i] = OVER;
	if
	:: remote == OPEN && ARE_IDLE -> ROW("remote OPEN:used last_ends OPEN -")
	:: remote == OPEN && !ARE_IDLE -> ROW("remote OPEN:used one_ends OPEN:used -")
	:: remote == CLOSING && MAY_CONFIRM ->
		to_owner_b ! WITHDRAWN, 0;
		remote = CLOSED;
		ROW("remote CLOSING last_ends CLOSED WITHDRAWN")
	:: remote == CLOSING && !MAY_CONFIRM -> ROW("remote CLOSING one_ends CLOSING -")
	:: else
	fi
}

inline on_withdraw()
{
	if
	:: remote == GONE -> to_owner_b ! WITHDRAWN, 0; ROW("remote GONE WITHDRAW GONE WITHDRAWN")
	:: remote == ASKED ->
		to_owner_b ! WITHDRAWN, 0;
		remote = ASKED_WITHDRAWN;
		ROW("remote ASKED WITHDRAW ASKED:withdrawn WITHDRAWN")
	:: remote == OPEN && MAY_CONFIRM ->
		to_owner_b ! WITHDRAWN, 0;
		remote = CLOSED;
		if
		:: ARE_IDLE -> ROW("remote OPEN WITHDRAW CLOSED WITHDRAWN")
		:: else
		fi
	:: remote == OPEN && !MAY_CONFIRM ->
		remote = CLOSING;
		ROW("remote OPEN:used WITHDRAW CLOSING -")
	fi;
	for (t : 0 .. TRANSFERS - 1) {
		if
		:: IS_IDLE(t)
		:: else -> give_up(t)
		fi
	}
	t = 0
}

/* ---- the peer's transfers ---- */

inline give_up(i)
{
	if
	:: state[i] == MOVING && sent[i] == 0 -> ROW(KIND " WAITING give_up DONE -"); leave(i)
	:: state[i] == MOVING && sent[i] > 0 -> state[i] = STOPPING; ROW(KIND " MOVING give_up STOPPING -")
	:: state[i] == SYNCED ->
		if
		:: posted[T(i)] > 0 -> ROW("write SYNCED:posted give_up SYNCED:posted:given_up -")
		:: else -> ROW("write SYNCED give_up SYNCED:given_up -")
		fi;
		state[i] = SYNCED_LEFT
	:: state[i] == SYNCED_NOTED ->
		state[i] = SYNCED_LEFT_NOTED;
		ROW("write SYNCED:posted:noted give_up SYNCED:posted:given_up:noted -")
	:: else
	fi
}

#ifdef SPREAD
#define SENT_PACK(t) posted[T(t)]++
#else
#define SENT_PACK(t) skip
#endif

#define MOVE(t) \
	:: atomic { \
		state[t] == MOVING && sent[t] < PIECES && !peer_cut[s] -> \
		if \
		:: sent[t] == 0 -> ROW(KIND " WAITING room MOVING -") \
		:: else \
		fi; \
		sent[t]++; \
		if \
		:: to_owner_a ! WRITE, t; posted[T(t)]++ \
		:: to_owner_a ! PACK, t; SENT_PACK(t) \
		fi; \
		ALL_POSTED(t) \
	} \
	:: atomic { \
		(state[t] == MOVING || state[t] == SYNCED || state[t] == SYNCED_NOTED) && !peer_cut[s] -> \
		give_up(t) \
	}

#ifdef SPREAD
#define ALL_POSTED(t) skip
#define FINISH(t) \
	:: atomic { \
		state[t] == MOVING && sent[t] == PIECES && posted[T(t)] == 0 && !peer_cut[s] -> \
		assert(landed[T(t)] == PIECES); \
		ROW("spread MOVING written DONE -"); \
		leave(t) \
	} \
	:: atomic { \
		state[t] == STOPPING && posted[T(t)] == 0 && !peer_cut[s] -> failed[T(t)] = true; \
		ROW("spread STOPPING written DONE -"); \
		leave(t) \
	}
#else
/* SYNC goes right behind the last one. */
#define ALL_POSTED(t) \
	if \
	:: sent[t] == PIECES -> \
		to_owner_a ! SYNC, t; \
		state[t] = SYNCED; \
		ROW("write MOVING all_posted SYNCED:posted SYNC") \
	:: else \
	fi
#define FINISH(t) \
	:: atomic { state[t] == STOPPING && posted[T(t)] == 0 && !peer_cut[s] -> SETTLE(t) }
#endif

#ifdef WRITER_RUSHES
#define SETTLE(t) failed[T(t)] = true; leave(t)
#else
#define SETTLE(t) \
	to_owner_a ! SYNC, t; \
	state[t] = SETTLING; \
	ROW("write STOPPING written SETTLING SYNC")
#endif

/* What follows stays behind the writes of its lane: they are done when our memory is free. */
#if !defined(SPREAD) || defined(WRITES_RUSH)
#define WRITTEN(t) \
	:: atomic { \
		posted[T(t)] > 0 && !peer_cut[s] -> posted[T(t)]--; \
		if \
		:: posted[T(t)] == 0 -> on_written(t) \
		:: else \
		fi \
	}
#else
#define WRITTEN(t)
#endif

inline on_written(i)
{
	if
	:: state[i] == SYNCED -> ROW("write SYNCED:posted written SYNCED -")
	:: state[i] == SYNCED_LEFT -> ROW("write SYNCED:posted:given_up written SYNCED:given_up -")
	:: state[i] == SYNCED_NOTED -> ROW("write SYNCED:posted:noted written DONE -"); leave(i)
	:: state[i] == SYNCED_LEFT_NOTED ->
		ROW("write SYNCED:posted:given_up:noted written DONE -");
		leave(i)
	:: else
	fi
}

inline on_noted(i)
{
	assert((state[i] != SYNCED && state[i] != SYNCED_LEFT) || landed[T(i)] == PIECES);
	failed[T(i)] = true; /* or it has succeeded: nothing lands any more either way */
	if
	:: state[i] == SYNCED && posted[T(i)] > 0 ->
		state[i] = SYNCED_NOTED;
		ROW("write SYNCED:posted NOTED SYNCED:posted:noted -")
	:: state[i] == SYNCED && posted[T(i)] == 0 -> ROW("write SYNCED NOTED DONE -"); leave(i)
	:: state[i] == SYNCED_LEFT && posted[T(i)] > 0 ->
		state[i] = SYNCED_LEFT_NOTED;
		ROW("write SYNCED:posted:given_up NOTED SYNCED:posted:given_up:noted -")
	:: state[i] == SYNCED_LEFT && posted[T(i)] == 0 ->
		ROW("write SYNCED:given_up NOTED DONE -");
		leave(i)
	:: state[i] == SETTLING -> ROW("write SETTLING NOTED DONE -"); leave(i)
	fi
}

proctype peer(byte s)
{
	mtype remote = GONE;
	mtype state[TRANSFERS];
	byte sent[TRANSFERS];
	byte imports = IMPORTS;
	byte t;

	atomic {
		for (t : 0 .. TRANSFERS - 1) {
			state[t] = NEW
		}
		t = 0
	}
end_peer:
	do
	:: peer_cut[s] -> break

	/* The remote. */
	:: atomic {
		remote == GONE && imports > 0 && !peer_cut[s] -> imports--;
		to_owner_a ! ATTACH, 0;
		remote = ASKED;
		ROW("remote GONE import ASKED ATTACH")
	}
	:: atomic {
		!peer_cut[s] && to_peer_a ? [ATTACHED, _] -> to_peer_a ? ATTACHED, _;
		if
		:: remote == ASKED -> remote = OPEN; ROW("remote ASKED ATTACHED OPEN -")
		:: else ->
			assert(remote == ASKED_WITHDRAWN);
			remote = CLOSED;
			ROW("remote ASKED:withdrawn ATTACHED CLOSED -")
		fi
	}
	:: atomic {
		!peer_cut[s] && to_peer_a ? [NO_EXPORT, _] -> to_peer_a ? NO_EXPORT, _;
		if
		:: remote == ASKED -> ROW("remote ASKED NO_EXPORT GONE -")
		:: else ->
			assert(remote == ASKED_WITHDRAWN);
			ROW("remote ASKED:withdrawn NO_EXPORT GONE -")
		fi;
		remote = GONE
	}
	:: atomic {
		remote == OPEN && ARE_IDLE && !peer_cut[s] -> remote = GONE;
		ROW("remote OPEN close GONE -")
	}
	:: atomic { !peer_cut[s] && to_peer_b ? [WITHDRAW, _] -> to_peer_b ? WITHDRAW, _; on_withdraw() }

	/* The transfers. */
	START(0)
	MOVE(0)
	WRITTEN(0)
	FINISH(0)
#if TRANSFERS > 1
	START(1)
	MOVE(1)
	WRITTEN(1)
	FINISH(1)
#endif
	:: atomic {
		!peer_cut[s] && to_peer_a ? [PACK_ACK, _] -> to_peer_a ? PACK_ACK, t;
		posted[T(t)]--;
		t = 0
	}
	:: atomic { !peer_cut[s] && to_peer_a ? [NOTED, _] -> to_peer_a ? NOTED, t; on_noted(t); t = 0 }
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
