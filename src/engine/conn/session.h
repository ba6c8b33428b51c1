/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session.h - the control channel of one connection: a socket, the proof of a key, the handshake
 * behind it, the frames after that, heartbeats, close. Control thread only. Until the handshake
 * is done, a server's session has no connection, and one deadline that nothing moves.
 */
#ifndef KVI_ENGINE_SESSION_H
#define KVI_ENGINE_SESSION_H

#include "auth/handshake.h"
#include "auth/secure.h"
#include "base/hash.h"
#include "base/list.h"
#include "base/timers.h"
#include "engine/conn/strangers.h"
#include "engine/conn/stream.h"
#include "wire/wire.h"

struct kvi_control;
struct kvt_conn;

enum kvi_session_state {
	KVI_SESSION_HELLO, /* handshake */
	KVI_SESSION_LANES, /* the lanes are being made */
	KVI_SESSION_OPEN,
	KVI_SESSION_CLOSING, /* CLOSE is out; waiting for the peer to go */
	KVI_SESSION_ENDED,   /* to be freed */
};

struct kvi_session {
	struct kvi_list node;	   /* in control->sessions, or ended */
	struct kvi_list beat_node; /* in control->beats while it is open */
	struct kvi_timer timer; /* when to look at it: its deadline, or the end of its patience */
	struct kvi_stranger stranger; /* while it has no connection */
	UT_hash_handle by_id;	      /* while awaits_lanes */
	struct kvi_control *control;
	struct kvt_conn *conn;
	bool is_server;
	bool awaits_lanes;
	bool far_may_come; /* server: it has offered local lanes */
	bool ready_sent;
	bool ready_received;
	bool peer_closes; /* CLOSE came; its last messages may still be on the lanes */
	enum kvi_session_state state;
	char host[64];
	char source[KVI_SOURCE_NAME_LEN]; /* strangers.h */
	uint16_t port;
	int64_t opened_ns;
	int64_t deadline_ns; /* of the state */
	int64_t heard_ns;
	int64_t beat_ns;	   /* when the next heartbeat is due */
	struct kvi_secure *secure; /* in the engine's vault */
	struct kvi_handshake handshake;
	struct kvi_stream stream;
};

/* A session on fd, which it owns from success on. conn NULL: a stranger has called. */
struct kvi_session *kvi_session_open(struct kvi_control *control, int fd, struct kvt_conn *conn);

/*
 * The socket is readable or writable: read once, so that who sends much waits for its turn. Like the next
 * two, it looks at everything else afterwards, and does nothing for a session that has ended.
 */
void kvi_session_on_io(struct kvi_session *session);

/* It is open and nobody wants it to end: what came, if anything did, was a sign of life. */
bool kvi_session_is_at_rest(const struct kvi_session *session);

/* Its timer is due. What has come is read first: we may be late ourselves. */
void kvi_session_on_time(struct kvi_session *session);

/* The connection has changed its state. */
void kvi_session_check(struct kvi_session *session);

/* Its heartbeat is due: send it, and queue for the next; one that is open no more leaves the queue. */
void kvi_session_beat(struct kvi_session *session, int64_t now_ns);

/* End now: tear the connection down, close the socket. The control thread frees it after its turn. */
void kvi_session_end(struct kvi_session *session);
void kvi_session_free(struct kvi_session *session);

#endif
