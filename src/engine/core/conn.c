/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn.c - what every room may do to a connection: fail it, ask whether it is open, wait for its end.
 */
#include "engine/core/conn.h"

#include <errno.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/thread.h"
#include "engine/core/engine.h"

uint64_t kvi_conn_make_key(void)
{
	uint64_t key;
	randombytes_buf(&key, sizeof(key));
	return key;
}

const struct kvi_wire_address *kvi_conn_get_lane_address(const struct kvt_conn *conn,
							 unsigned index)
{
	if (conn->near != NULL && conn->path == &conn->engine->local)
		return &conn->near->rail;
	return &conn->peer_lanes->rails[index % conn->peer_lanes->rail_count];
}

void kvi_conn_note(struct kvt_conn *conn)
{
	if (atomic_exchange(&conn->is_noted, true))
		return;
	kvi_ref_take(&conn->ref); /* the note's */
	kvi_mailbox_send(conn->notes, &conn->note);
	kvi_wake(conn->control_wake);
}

void kvi_conn_fail(struct kvt_conn *conn, enum kvt_err code, int provider_errno, const char *format,
		   ...)
{
	struct kvt_error cause = { .code = code, .provider_errno = provider_errno };
	va_list args;
	va_start(args, format);
	vsnprintf(cause.text, sizeof(cause.text), format, args);
	va_end(args);
	if (atomic_load(&conn->state) < KVI_CONN_FAILING && code != KVT_E_CLOSED &&
	    kvi_engine_has_lost_fds(conn->engine))
		kvi_fail(&cause, KVT_E_CLOSED, EBADF, "%s", KVI_FDS_LOST_TEXT);

	pthread_mutex_lock(&conn->lock);
	bool first = atomic_load(&conn->state) < KVI_CONN_FAILING;
	if (first) {
		conn->cause = cause;
		atomic_store(&conn->state, KVI_CONN_FAILING);
	}
	pthread_mutex_unlock(&conn->lock);
	if (!first)
		return;
	bool polite = cause.code == KVT_E_CLOSED || cause.code == KVT_E_PEER_CLOSED;
	kvi_log(polite ? KVI_LOG_DEBUG : KVI_LOG_INFO, "conn-fail", "%s:%u: %s: %s", conn->host,
		conn->port, kvt_err_get_name(cause.code), cause.text);
	kvi_conn_note(conn);
}

void kvi_conn_on_lane_connected(struct kvt_conn *conn)
{
	if (atomic_fetch_add(&conn->lanes_connected, 1) + 1 == conn->lane_count)
		kvi_conn_note(conn);
}

void kvi_conn_on_lane_end(struct kvt_conn *conn)
{
	if (atomic_fetch_add(&conn->lanes_closing, 1) + 1 == conn->lane_count)
		kvi_conn_note(conn);
}

void kvi_conn_on_corrupt(struct kvt_conn *conn, const char *what)
{
	kvi_count(&conn->counters, KVI_COUNT_CORRUPTIONS, 1);
	uint64_t count = kvi_count_get(&conn->counters, KVI_COUNT_CORRUPTIONS);
	int64_t now_ns = kvi_clock_now();
	int64_t next_ns = atomic_load(&conn->next_complaint_ns);
	if (now_ns >= next_ns &&
	    atomic_compare_exchange_strong(&conn->next_complaint_ns, &next_ns, now_ns + KVI_SECOND))
		kvi_log(KVI_LOG_WARN, "data-corrupt",
			"%s:%u: %s came wrong: its checksum does not fit (%llu so far)", conn->host,
			conn->port, what, (unsigned long long)count);
	if (count >= KVI_CORRUPTIONS_MAX)
		kvi_conn_fail(conn, KVT_E_PEER_LOST, 0,
			      "data came wrong %llu times on this connection, by its checksums",
			      (unsigned long long)count);
}

void kvi_conn_await_end(struct kvt_conn *conn)
{
	struct kvt_engine *engine = conn->engine;
	/* Closing is bounded, too. */
	pthread_mutex_lock(&engine->lock);
	while (!conn->is_torn_down && !engine->stopped)
		kvi_cond_wait(&engine->changed, &engine->lock, KVI_NEVER);
	pthread_mutex_unlock(&engine->lock);
}

enum kvt_err kvi_conn_check(struct kvt_conn *conn, struct kvt_error *error)
{
	enum kvi_conn_state state = atomic_load(&conn->state);
	if (state == KVI_CONN_OPEN || state == KVI_CONN_OPENING)
		return KVT_OK;
	pthread_mutex_lock(&conn->lock);
	if (error != NULL)
		*error = conn->cause;
	enum kvt_err code = conn->cause.code;
	pthread_mutex_unlock(&conn->lock);
	return code;
}

bool kvi_conn_has_room(const struct kvt_conn *conn)
{
	return atomic_load(&conn->handed_out) ||
	       atomic_load(&conn->engine->inbox.held_len) < KVI_UNACCEPTED_LEN_MAX;
}
