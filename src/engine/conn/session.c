/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session.c - one control channel: docs/protocol.md section 3.
 */
#include "engine/conn/session.h"

#include <errno.h>
#include <netdb.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/conn/control.h"
#include "engine/conn/life.h"
#include "engine/conn/path.h"
#include "engine/core/engine.h"

/* The peer is none that we take, or does not take us. */
static void turn_away(struct kvi_session *session, enum kvt_err code, const char *text)
{
	if (session->conn == NULL) {
		kvi_count(&session->control->engine->counters, KVI_COUNT_HANDSHAKES_FAILED, 1);
		kvi_complain(&session->control->complaints,
			     code == KVT_E_AUTH ? KVI_LOG_WARN : KVI_LOG_INFO, session->source,
			     text);
		kvi_session_end(session);
	} else {
		kvi_conn_fail(session->conn, code, 0, "%s", text);
	}
}

/* ---- socket ---- */

/* The peer took the call, and closed it before it had proven anything. */
static bool has_hung_up(const struct kvi_session *session, int socket_errno)
{
	bool by_peer = socket_errno == 0 || socket_errno == ECONNRESET || socket_errno == EPIPE;
	return by_peer && !session->secure->is_proven;
}

static void on_socket_lost(struct kvi_session *session, int socket_errno)
{
	if (session->conn == NULL && session->secure->state == KVI_SECURE_OPEN &&
	    !session->secure->is_proven) {
		turn_away(session, KVT_E_PROTOCOL,
			  "it hung up before it had proven its key: a recorded call, perhaps");
		return;
	}
	if (session->conn == NULL || session->state == KVI_SESSION_CLOSING) {
		kvi_session_end(session);
		return;
	}
	if (socket_errno == EBADF || socket_errno == ENOTSOCK)
		kvi_conn_fail(session->conn, KVT_E_CLOSED, EBADF, "%s", KVI_FDS_LOST_TEXT);
	else if (session->peer_closes)
		kvi_conn_fail(session->conn, KVT_E_PEER_CLOSED, 0,
			      "the peer closed the connection");
	else if (session->state == KVI_SESSION_OPEN)
		kvi_conn_fail(session->conn, KVT_E_PEER_LOST, socket_errno,
			      "the peer's process has ended: its control channel is closed");
	else if (has_hung_up(session, socket_errno))
		/* To who has not its key an engine says nothing, so we cannot know more. */
		kvi_conn_fail(session->conn, KVT_E_AUTH, socket_errno,
			      "it closed the call in silence: %s, or it takes none now",
			      session->secure->insecure ? "it has a key and this side is insecure"
							: "keys differ, or it has none");
	else
		kvi_conn_fail(session->conn, KVT_E_UNREACHABLE, socket_errno,
			      "the peer closed the control channel before the connection was open");
}

static void flush_output(struct kvi_session *session)
{
	int socket_errno;
	if (kvi_stream_flush(&session->stream, &socket_errno) == KVI_STREAM_LOST)
		on_socket_lost(session, socket_errno);
}

static void send_bytes(struct kvi_session *session, const void *bytes, size_t len)
{
	int socket_errno;
	if (kvi_stream_send(&session->stream, bytes, len, &socket_errno) == KVI_STREAM_LOST)
		on_socket_lost(session, socket_errno);
}

/* A record whose content is in its place already. Before there can be one, nothing is said. */
static void send_record(struct kvi_session *session, uint8_t *record, size_t len)
{
	if (session->secure->state != KVI_SECURE_OPEN)
		return;
	/* One that is numbered and not sent would make all later ones unreadable. */
	if (kvi_stream_make_room(&session->stream, len + KVI_RECORD_EXTRA))
		send_bytes(session, record, kvi_secure_seal(session->secure, record, len));
	else
		on_socket_lost(session, ENOBUFS);
}

static void send_frame(struct kvi_session *session, struct kvi_frame *frame)
{
	uint8_t record[KVI_STREAM_LEN];
	size_t len = kvi_frame_encode(frame, record + KVI_RECORD_HEADER_LEN,
				      sizeof(record) - KVI_RECORD_EXTRA);
	send_record(session, record, len);
}

static void send_ending(struct kvi_session *session, enum kvi_frame_type type, enum kvt_err code,
			const char *text)
{
	struct kvi_frame frame = { .type = type, .ending.code = code };
	snprintf(frame.ending.text, sizeof(frame.ending.text), "%s", text);
	send_frame(session, &frame);
}

/* Before anything can be sent on the lanes: so both have it when the connection is open. */
static void send_identity(struct kvi_session *session)
{
	const struct kvi_settings *settings = &session->control->engine->settings;
	struct kvi_frame frame = {
		.type = KVI_FRAME_IDENTITY,
		.identity = { settings->identity, settings->identity_len },
	};
	if (settings->identity_len > 0)
		send_frame(session, &frame);
}

/* ---- handshake ---- */

/* Make the connection as both have agreed; eager_len and rx_count are the peer's. False: it has failed. */
static bool take_agreement(struct kvi_session *session, size_t eager_len, unsigned rx_count)
{
	struct kvt_conn *conn = session->conn;
	const struct kvi_welcome *agreed = &session->handshake.agreed;
	conn->has_sums = (agreed->features & KVI_FEATURE_SUMS_WANTED) != 0;
	memcpy(conn->session_id, agreed->session, KVI_SESSION_LEN);
	kvi_secrets_init(conn->secrets, session->secure, conn->session_id);
	kvi_path_begin(conn, agreed);
	enum kvt_err err = kvi_conn_make_links(conn, agreed->lane_count, eager_len, rx_count);
	if (err != KVT_OK)
		kvi_conn_fail(conn, err, 0, "no memory for the lanes of a connection");
	return err == KVT_OK;
}

/* A server knows its peer now: make the connection and say where its lanes are. */
static void serve_lanes(struct kvi_session *session)
{
	struct kvt_engine *engine = session->control->engine;
	const struct kvi_hello *remote = &session->handshake.remote;
	struct kvi_frame frame = { .type = KVI_FRAME_LANES };
	struct kvi_frame near = { .type = KVI_FRAME_NEAR };
	struct kvt_error error;

	struct kvt_conn *conn = kvi_conn_admit(engine, true, session->host, session->port, &error);
	if (conn == NULL) {
		send_ending(session, KVI_FRAME_REFUSE, KVT_E_LIMIT, error.text);
		kvi_session_end(session);
		return;
	}
	kvi_strangers_remove(&session->stranger);
	session->conn = conn;
	conn->session = session;
	session->state = KVI_SESSION_LANES;
	session->deadline_ns = kvi_deadline_after(KVI_CONNECT_NS);
	if (!take_agreement(session, remote->eager_len, remote->rx_count))
		return;
	enum kvt_err err = kvi_control_await_lanes(session, &frame.lanes, &error);
	if (err != KVT_OK) {
		kvi_conn_fail(conn, err, error.provider_errno, "%s", error.text);
		return;
	}
	send_identity(session);
	session->far_may_come = kvi_path_offer(session, &near.near);
	if (session->far_may_come)
		send_frame(session, &near);
	send_frame(session, &frame);
}

static void on_agreed(struct kvi_session *session)
{
	if (session->is_server) {
		serve_lanes(session);
		return;
	}
	struct kvt_conn *conn = session->conn;
	const struct kvi_welcome *agreed = &session->handshake.agreed;
	session->state = KVI_SESSION_LANES;
	if (conn->wants_instance &&
	    memcmp(conn->instance, agreed->instance, KVI_SESSION_LEN) != 0) {
		kvi_conn_fail(conn, KVT_E_UNREACHABLE, 0,
			      "another engine is there than the one that the address is of, which "
			      "was closed or restarted, perhaps");
		return;
	}
	if (take_agreement(session, agreed->eager_len, agreed->rx_count))
		send_identity(session);
}

/* Say what is to be said first. */
static void send_opening(struct kvi_session *session)
{
	struct kvi_secure *secure = session->secure;
	struct kvi_handshake *handshake = &session->handshake;
	uint8_t record[KVI_HELLO_FRAME_MAX + KVI_RECORD_EXTRA];
	size_t len = secure->output_len;
	secure->output_len = 0;
	if (len > 0)
		send_bytes(session, secure->output, len);
	len = handshake->output_len;
	if (secure->state != KVI_SECURE_OPEN || len == 0)
		return;
	memcpy(record + KVI_RECORD_HEADER_LEN, handshake->output, len);
	handshake->output_len = 0;
	send_record(session, record, len);
}

/* What a record holds. Returns how much of it was the handshake's. */
static size_t feed_handshake(struct kvi_session *session, const uint8_t *content, size_t len)
{
	struct kvi_handshake *handshake = &session->handshake;
	size_t used = kvi_handshake_feed(handshake, content, len);
	send_opening(session);
	if (session->state != KVI_SESSION_HELLO)
		return used;
	switch (handshake->state) {
	case KVI_HANDSHAKE_DONE:
		on_agreed(session);
		break;
	case KVI_HANDSHAKE_FAILED:
		turn_away(session, handshake->error.code, handshake->error.text);
		break;
	case KVI_HANDSHAKE_READ:
		turn_away(session, KVT_E_PROTOCOL, "a record holds less than a frame");
		break;
	}
	return used;
}

/* ---- ready ---- */

static bool has_failed(const struct kvi_session *session)
{
	return session->conn != NULL && atomic_load(&session->conn->state) == KVI_CONN_FAILING;
}

/* Once the lanes are there and the peer's, too, the connection is open. */
static void check_lanes(struct kvi_session *session)
{
	struct kvt_conn *conn = session->conn;
	if (has_failed(session) || conn->lane_count == 0 ||
	    atomic_load(&conn->lanes_connected) < conn->lane_count)
		return;
	/* It is the client that decides, with its READY. */
	if (session->is_server ? !kvi_conn_has_path(conn) : !kvi_trial_pass(conn))
		return;
	if (!session->ready_sent && session->is_server && !kvi_conn_take_place(conn)) {
		kvi_conn_fail(conn, KVT_E_LIMIT, 0, KVI_TOO_MANY_WAIT, KVI_UNACCEPTED_MAX);
		return;
	}
	if (!session->ready_sent) {
		struct kvi_frame ready = { .type = KVI_FRAME_READY };
		session->ready_sent = true;
		send_frame(session, &ready);
	}
	if (session->state != KVI_SESSION_LANES || !session->ready_received)
		return;
	session->state = KVI_SESSION_OPEN;
	if (!session->peer_closes)
		session->deadline_ns = KVI_NEVER;
	kvi_control_leave_listeners(session);
	session->beat_ns = kvi_control_get_beat(session->control, kvi_clock_now());
	kvi_list_append(&session->control->beats, &session->beat_node);
	kvi_conn_set_open(conn);
}

/* ---- frames ---- */

static void send_far(struct kvi_session *session)
{
	struct kvi_frame frame = { .type = KVI_FRAME_FAR };
	snprintf(frame.far.text, sizeof(frame.far.text), "%s", session->conn->path_reason);
	send_frame(session, &frame);
}

/* dial.c waits for that, and makes them where peer_lanes or near say. */
static void want_lanes(struct kvt_conn *conn)
{
	pthread_mutex_lock(&conn->engine->lock);
	conn->wants_lanes = true;
	kvi_conn_tell_change(conn);
	pthread_mutex_unlock(&conn->engine->lock);
}

static enum kvt_err on_lanes(struct kvi_session *session, const struct kvi_lanes *lanes)
{
	struct kvt_conn *conn = session->conn;
	struct kvt_engine *engine = conn->engine;
	if (session->is_server || session->state != KVI_SESSION_LANES || conn->peer_lanes != NULL)
		return KVT_E_PROTOCOL;
	if (has_failed(session))
		return KVT_OK; /* who dials shall not see more of this peer */
	struct kvi_lanes *copy = kvi_alloc(sizeof(*copy));
	if (copy == NULL)
		return KVT_E_NO_MEMORY;
	*copy = *lanes;
	if (!kvi_path_choose(conn))
		send_far(session);
	pthread_mutex_lock(&engine->lock);
	conn->peer_lanes = copy;
	pthread_mutex_unlock(&engine->lock);
	want_lanes(conn);
	return KVT_OK;
}

static enum kvt_err on_far(struct kvi_session *session, const struct kvi_far *far)
{
	char reason[KVT_TEXT_LEN];
	if (!session->far_may_come || session->state != KVI_SESSION_LANES ||
	    session->ready_received)
		return KVT_E_PROTOCOL;
	session->far_may_come = false;
	snprintf(reason, sizeof(reason), "the peer says: %.*s", KVT_TEXT_LEN - 16, far->text);
	kvi_path_leave(session->conn, reason);
	return KVT_OK;
}

static enum kvt_err on_identity(struct kvi_session *session, const struct kvi_view *identity)
{
	struct kvt_conn *conn = session->conn;
	if (session->state != KVI_SESSION_LANES || session->ready_received ||
	    conn->peer_identity != NULL)
		return KVT_E_PROTOCOL;
	uint8_t *copy = kvi_alloc_data(identity->len);
	if (copy == NULL)
		return KVT_E_NO_MEMORY;
	memcpy(copy, identity->bytes, identity->len);
	conn->peer_identity = copy;
	conn->peer_identity_len = identity->len;
	return KVT_OK;
}

static enum kvt_err on_frame(struct kvi_session *session, const struct kvi_frame *frame)
{
	switch (frame->type) {
	case KVI_FRAME_LANES:
		return on_lanes(session, &frame->lanes);
	case KVI_FRAME_IDENTITY:
		return on_identity(session, &frame->identity);
	case KVI_FRAME_NEAR:
		return session->state == KVI_SESSION_LANES
			       ? kvi_path_on_offer(session->conn, &frame->near)
			       : KVT_E_PROTOCOL;
	case KVI_FRAME_FAR:
		return on_far(session, &frame->far);
	case KVI_FRAME_READY:
		if (session->state != KVI_SESSION_LANES || session->ready_received)
			return KVT_E_PROTOCOL;
		session->ready_received = true;
		if (session->is_server && !kvi_trial_pass(session->conn))
			kvi_conn_fail(session->conn, KVT_E_UNREACHABLE, 0,
				      "the peer is ready on local lanes that broke");
		check_lanes(session); /* before we read that the peer has gone */
		return KVT_OK;
	case KVI_FRAME_HEARTBEAT:
		return KVT_OK;
	case KVI_FRAME_REFUSE:
		kvi_conn_fail(session->conn, frame->ending.code, 0, "the peer refused: %s",
			      frame->ending.text);
		return KVT_OK;
	case KVI_FRAME_CLOSE:
		if (frame->ending.code != KVT_E_CLOSED) {
			kvi_conn_fail(session->conn, KVT_E_PEER_LOST, 0,
				      "the peer gave up the connection: %s", frame->ending.text);
		} else if (session->state == KVI_SESSION_CLOSING) {
			kvi_session_end(session);
		} else if (!session->peer_closes) {
			/* Once: who says it again and again buys no time. */
			session->peer_closes = true;
			session->deadline_ns = kvi_deadline_after(KVI_CLOSE_NS);
		}
		return KVT_OK;
	default:
		return KVT_E_PROTOCOL;
	}
}

/* Take the frames of a record. */
static void take_frames(struct kvi_session *session, const uint8_t *at, size_t left)
{
	enum kvt_err err = KVT_OK;
	while (err == KVT_OK && left > 0 && session->state != KVI_SESSION_ENDED) {
		struct kvi_frame frame;
		size_t len = left < KVI_FRAME_HEADER_LEN ? 0 : kvi_frame_get_len(at, left);
		err = len == 0 ? KVT_E_PROTOCOL : kvi_frame_decode(at, len, &frame);
		if (err == KVT_OK)
			err = on_frame(session, &frame);
		else if (err == KVT_E_UNSUPPORTED)
			err = KVT_OK; /* not for us */
		at += len;
		left -= len;
	}
	if (err != KVT_OK)
		kvi_conn_fail(session->conn, err, 0,
			      "a frame on the control channel cannot be taken");
}

static void take_content(struct kvi_session *session, const uint8_t *content, size_t len)
{
	if (session->state == KVI_SESSION_HELLO) {
		size_t used = feed_handshake(session, content, len);
		content += used;
		len -= used;
	}
	if (session->state != KVI_SESSION_HELLO)
		take_frames(session, content, len);
}

/* Take all that is whole off the input. */
static void take_records(struct kvi_session *session)
{
	struct kvi_stream *stream = &session->stream;
	struct kvi_secure *secure = session->secure;
	struct kvi_record taken;
	enum kvt_err err = KVT_OK;
	size_t used = 0;
	while (session->state != KVI_SESSION_ENDED) {
		err = kvi_secure_take(secure, &session->control->engine->keyring, stream->in + used,
				      stream->in_len - used, &taken);
		if (err != KVT_OK)
			break;
		used += taken.used;
		if (taken.content != NULL) {
			session->heard_ns = kvi_clock_now();
			take_content(session, taken.content, taken.len);
		} else {
			kvi_control_believe(session);
			send_opening(session);
		}
	}
	kvi_stream_consume(stream, used);
	if (err == KVT_E_AGAIN && !kvi_stream_reserve(stream, taken.wanted))
		on_socket_lost(session, ENOMEM);
	else if (err != KVT_OK && err != KVT_E_AGAIN)
		turn_away(session, err, secure->fault);
}

/* ---- timers and state ---- */

/* The connection has failed or been closed on this side: tell the peer, and end or wait for it to go. */
static void send_close(struct kvi_session *session)
{
	struct kvt_conn *conn = session->conn;
	struct kvt_error cause;
	kvi_conn_check(conn, &cause);
	if (atomic_load(&conn->engine->fds_lost)) {
		kvi_session_end(session); /* not closed in order: to the peer it is a loss */
		return;
	}
	bool was_open = session->state == KVI_SESSION_OPEN;
	bool polite = cause.code == KVT_E_CLOSED && was_open && !session->peer_closes;
	/* A peer that found no place has lanes already: it shall hear why before it sees them break. */
	bool found_no_place = cause.code == KVT_E_LIMIT && !was_open && session->is_server;
	if (polite)
		kvi_conn_end_lanes(conn);
	if (polite || found_no_place) {
		session->state = KVI_SESSION_CLOSING;
		session->deadline_ns = kvi_deadline_after(KVI_CLOSE_NS);
	}
	send_ending(session, was_open ? KVI_FRAME_CLOSE : KVI_FRAME_REFUSE, cause.code, cause.text);
	if (!polite && !found_no_place)
		kvi_session_end(session);
}

static void pass_deadline(struct kvi_session *session)
{
	if (session->conn == NULL) {
		turn_away(session, KVT_E_PROTOCOL,
			  session->secure->state == KVI_SECURE_OPEN ? "no record came in time: a "
								      "recorded call, perhaps"
								    : "no whole OPENING came in "
								      "time");
	} else if (session->state == KVI_SESSION_CLOSING) {
		kvi_session_end(session);
	} else if (session->peer_closes) {
		kvi_conn_fail(session->conn, KVT_E_PEER_CLOSED, 0,
			      "the peer closed the connection");
	} else {
		kvi_conn_fail(session->conn, KVT_E_UNREACHABLE, 0,
			      "the peer did not complete the connection in time");
	}
}

bool kvi_session_is_at_rest(const struct kvi_session *session)
{
	return session->state == KVI_SESSION_OPEN && !session->peer_closes && !has_failed(session);
}

/* When the peer's silence will have lasted too long. */
static int64_t get_patience(const struct kvi_session *session)
{
	return session->heard_ns + session->control->engine->settings.lost_after_ns;
}

/* What each heartbeat moves is not worth a timer: that is set when the silence may end before the next. */
static void set_timer(struct kvi_session *session)
{
	int64_t due_ns = session->deadline_ns;
	if (session->state == KVI_SESSION_OPEN && get_patience(session) < session->beat_ns &&
	    get_patience(session) < due_ns)
		due_ns = get_patience(session);
	if (session->timer.place == 0 || session->timer.due_ns != due_ns)
		kvi_timers_set(&session->control->timers, &session->timer, due_ns);
}

void kvi_session_check(struct kvi_session *session)
{
	if (session->state == KVI_SESSION_LANES && !has_failed(session)) {
		if (!session->is_server && kvi_path_fall_back(session->conn)) {
			send_far(session);
			want_lanes(session->conn);
		}
		check_lanes(session);
	}
	if (session->state == KVI_SESSION_OPEN && session->peer_closes &&
	    atomic_load(&session->conn->lanes_closing) >= session->conn->lane_count)
		kvi_conn_fail(session->conn, KVT_E_PEER_CLOSED, 0,
			      "the peer closed the connection");
	if (has_failed(session) && session->state != KVI_SESSION_CLOSING &&
	    session->state != KVI_SESSION_ENDED)
		send_close(session);
	if (session->state != KVI_SESSION_ENDED)
		set_timer(session);
}

void kvi_session_beat(struct kvi_session *session, int64_t now_ns)
{
	kvi_list_remove(&session->beat_node);
	if (session->state != KVI_SESSION_OPEN || has_failed(session))
		return;
	struct kvi_frame beat = { .type = KVI_FRAME_HEARTBEAT };
	session->beat_ns = kvi_control_get_beat(session->control, now_ns);
	kvi_list_append(&session->control->beats, &session->beat_node);
	send_frame(session, &beat);
	set_timer(session);
}

/* Whether something came. */
static bool take_input(struct kvi_session *session)
{
	int socket_errno;
	enum kvi_stream_result result = kvi_stream_read(&session->stream, &socket_errno);
	if (result == KVI_STREAM_LOST)
		on_socket_lost(session, socket_errno);
	if (result != KVI_STREAM_OK)
		return false;
	take_records(session);
	return true;
}

void kvi_session_on_io(struct kvi_session *session)
{
	if (session->state == KVI_SESSION_HELLO)
		send_opening(session); /* a client speaks first */
	if (session->state != KVI_SESSION_ENDED)
		flush_output(session);
	if (session->state != KVI_SESSION_ENDED)
		take_input(session);
	kvi_session_check(session);
}

void kvi_session_on_time(struct kvi_session *session)
{
	int64_t now_ns = kvi_clock_now();
	bool has_come = take_input(session);
	if (session->state == KVI_SESSION_OPEN && !has_come && now_ns >= get_patience(session))
		kvi_conn_fail(session->conn, KVT_E_PEER_LOST, 0,
			      "nothing was heard of the peer for %.1f s",
			      (double)(now_ns - session->heard_ns) / (double)KVI_SECOND);
	if (session->state != KVI_SESSION_ENDED && now_ns >= session->deadline_ns)
		pass_deadline(session);
	kvi_session_check(session);
}

/* ---- opening and ending ---- */

static void fill_hello(const struct kvt_engine *engine, struct kvi_hello *hello)
{
	*hello = (struct kvi_hello){
		.version_min = KVI_WIRE_VERSION_MIN,
		.version_max = KVI_WIRE_VERSION,
		.features = KVI_FEATURE_SUMS |
			    (engine->settings.checksum ? KVI_FEATURE_SUMS_WANTED : 0),
		.lane_count = (uint16_t)(engine->settings.ncpus * engine->settings.nconn_per_cpu),
		.eager_len = (uint32_t)engine->settings.eager_len,
		.rx_count = KVI_RX_COUNT,
	};
	memcpy(hello->instance, engine->instance, sizeof(hello->instance));
	if (engine->network.count > 0)
		snprintf(hello->providers[hello->provider_count++], KVI_NAME_LEN, "%s",
			 engine->network.caps->provider);
	if (engine->local.count > 0)
		snprintf(hello->providers[hello->provider_count++], KVI_NAME_LEN, "%s",
			 KVI_LOCAL_PROVIDER);
}

static void fill_peer_address(struct kvi_session *session)
{
	struct sockaddr_storage address;
	socklen_t len = sizeof(address);
	if (getpeername(session->stream.fd, (struct sockaddr *)&address, &len) != 0)
		return;
	char port[8];
	kvi_source_print(&address, session->source);
	if (getnameinfo((struct sockaddr *)&address, len, session->host, sizeof(session->host),
			port, sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV) == 0)
		session->port = (uint16_t)atoi(port);
}

struct kvi_session *kvi_session_open(struct kvi_control *control, int fd, struct kvt_conn *conn)
{
	struct kvi_session *session = kvi_alloc(sizeof(*session));
	if (session == NULL)
		return NULL;
	session->secure = kvi_vault_take(&control->engine->vault);
	if (session->secure == NULL) {
		kvi_free(session);
		return NULL;
	}
	session->control = control;
	session->conn = conn;
	kvi_stream_init(&session->stream, fd, control->epoll_fd, session);
	session->is_server = conn == NULL;
	kvi_list_init(&session->node);
	kvi_list_init(&session->beat_node);
	fill_peer_address(session);
	session->opened_ns = kvi_clock_now();
	session->heard_ns = session->opened_ns;
	/* Our own call has a deadline of its own, in dial.c. */
	session->deadline_ns = session->is_server ? kvi_deadline_after(KVI_HANDSHAKE_NS)
						  : KVI_NEVER;

	struct kvi_hello hello;
	uint8_t session_id[KVI_SESSION_LEN];
	kvi_secure_init(session->secure, &control->engine->keyring, session->is_server);
	fill_hello(control->engine, &hello);
	randombytes_buf(session_id, sizeof(session_id));
	kvi_handshake_init(&session->handshake,
			   session->is_server ? KVI_HANDSHAKE_SERVER : KVI_HANDSHAKE_CLIENT, &hello,
			   session->is_server ? session_id : NULL);
	return session;
}

void kvi_session_end(struct kvi_session *session)
{
	struct kvi_control *control = session->control;
	if (session->state == KVI_SESSION_ENDED)
		return;
	kvi_strangers_remove(&session->stranger);
	session->state = KVI_SESSION_ENDED;
	kvi_control_leave_listeners(session);
	kvi_list_remove(&session->beat_node);
	kvi_timers_clear(&control->timers, &session->timer);
	if (session->conn != NULL) {
		session->conn->session = NULL;
		kvi_conn_tear_down(session->conn);
	}
	kvi_stream_close(&session->stream);
	kvi_list_remove(&session->node);
	kvi_list_append(&control->ended, &session->node);
}

void kvi_session_free(struct kvi_session *session)
{
	kvi_list_remove(&session->node);
	if (session->conn != NULL)
		kvi_ref_drop(&session->conn->ref);
	kvi_stream_free(&session->stream);
	kvi_vault_give(&session->control->engine->vault, session->secure);
	kvi_free(session);
}
