/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dial.c - this side calls: from a name to an open connection, on the caller's thread, within its time
 * limit. What may block on a peer (resolving, connecting, a provider's route look-up) happens here and
 * in target.c, never on the engine's threads.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/thread.h"
#include "engine/conn/control.h"
#include "engine/conn/life.h"
#include "engine/conn/offer.h"
#include "engine/conn/target.h"
#include "engine/core/engine.h"
#include "engine/lane/link.h"

/* The pause before the second call of one who was hung up on; each further one is twice as long. */
#define AGAIN_NS (50 * KVI_MS)
#define AGAIN_LONGEST_NS (200 * KVI_MS)

/* ---- the connection ---- */

/* The time is up: say what it is that did not come. */
static void blame_silence(struct kvt_conn *conn)
{
	for (unsigned i = 0; conn->peer_lanes != NULL && i < conn->lane_count; i++) {
		struct kvi_link *link = &conn->links[i];
		kvi_worker_lock(link->shard->worker);
		bool connected = link->connected;
		kvi_worker_unlock(link->shard->worker);
		if (!connected) {
			kvi_link_fail_unconnected(link, 0);
			return;
		}
	}
	kvi_conn_fail(conn, KVT_E_UNREACHABLE, 0,
		      conn->peer_lanes == NULL ? "the peer took the call and did not answer in time"
					       : "not all lanes of the peer came in time");
}

/* Wait until what() holds or the connection fails; the time limit and the hook make it fail. */
static enum kvt_err await_conn(struct kvt_conn *conn, bool (*what)(const struct kvt_conn *conn),
			       int64_t deadline_ns, struct kvt_error *error)
{
	struct kvt_engine *engine = conn->engine;
	enum kvt_err err = KVT_OK;
	bool gave_up = false;
	pthread_mutex_lock(&engine->lock);
	while (gave_up || !what(conn)) {
		err = kvi_conn_check(conn, error);
		if (err != KVT_OK)
			break;
		bool interrupted = !kvi_engine_await_change(engine, deadline_ns);
		pthread_mutex_unlock(&engine->lock);
		gave_up = interrupted || kvi_clock_now() >= deadline_ns;
		if (interrupted)
			kvi_conn_fail(conn, KVT_E_CANCELLED, 0, "interrupted while connecting");
		else if (gave_up)
			blame_silence(conn);
		pthread_mutex_lock(&engine->lock);
	}
	pthread_mutex_unlock(&engine->lock);
	return err;
}

static bool knows_lanes(const struct kvt_conn *conn)
{
	return conn->peer_lanes != NULL;
}

static bool was_open(const struct kvt_conn *conn)
{
	return conn->was_open;
}

/* A peer may have sent and gone before we look: its messages are in the connection all the same, and it
 * was told so. Not where it is this side that ended the call. */
static bool has_left_something(struct kvt_conn *conn, enum kvt_err err)
{
	kvi_conn_await_end(conn);
	return conn->left_something && err != KVT_E_CANCELLED && err != KVT_E_CLOSED;
}

static enum kvt_err open_lanes(struct kvt_conn *conn, struct kvt_error *error)
{
	const struct kvi_lanes *lanes = conn->peer_lanes;
	for (unsigned i = 0; i < conn->lane_count; i++) {
		struct kvi_link *link = &conn->links[i];
		struct kvi_worker *worker = link->shard->worker;
		unsigned rail = i % lanes->rail_count;
		enum kvt_err err = KVT_OK;
		kvi_worker_lock(worker);
		if (link->shard->severed)
			err = kvi_conn_check(conn, error);
		else
			err = kvi_link_open(link, lanes->rails[rail].address,
					    lanes->rails[rail].len, NULL, error);
		kvi_worker_unlock(worker);
		/* Some providers look for the way at once. */
		if (err == KVT_E_UNREACHABLE && error->provider_errno != 0) {
			kvi_link_fail_unconnected(link, error->provider_errno);
			return kvi_conn_check(conn, error);
		}
		if (err != KVT_OK)
			return err;
	}
	return KVT_OK;
}

/* A new connection over fd, known to the control thread. Owns fd from success on. */
static enum kvt_err make_conn(const struct kvi_target *target, int fd, struct kvt_conn **conn_out,
			      struct kvt_error *error)
{
	struct kvt_engine *engine = target->engine;
	char host[KVI_HOST_LEN];
	kvi_target_print_host(target, host, sizeof(host));
	struct kvt_conn *conn = kvi_conn_admit(engine, false, host, target->port, error);
	if (conn == NULL)
		return error->code;
	if (target->engine_address != NULL) {
		conn->wants_instance = true;
		memcpy(conn->instance, target->engine_address->instance, KVI_SESSION_LEN);
	}

	enum kvt_err err = kvi_control_adopt(engine->control, conn, fd);
	if (err != KVT_OK) {
		kvi_conn_dismiss(conn);
		return kvi_fail(error, err, 0, "no memory for a connection");
	}
	*conn_out = conn;
	return KVT_OK;
}

/* Who took the call has to answer until one time; an engine then has until the other to be open. */
static enum kvt_err meet(struct kvt_conn *conn, int64_t answer_ns, int64_t deadline_ns,
			 struct kvt_error *error)
{
	enum kvt_err err = await_conn(conn, knows_lanes, answer_ns, error);
	if (err == KVT_OK)
		err = open_lanes(conn, error);
	if (err == KVT_OK)
		err = await_conn(conn, was_open, deadline_ns, error);
	return err;
}

/*
 * One connected socket to an open connection. An address may take the call and be no engine's: a filter
 * in between, or another service. While there are further ones, it has 2 s to answer, or half of the time
 * that is left; *is_stranger tells that it has not, or with what is no KVTrans.
 */
static enum kvt_err try_socket(struct kvi_target *target, int fd, struct kvt_conn **conn_out,
			       bool *is_stranger, struct kvt_error *error)
{
	struct kvt_conn *conn = NULL;
	*is_stranger = false;
	enum kvt_err err = make_conn(target, fd, &conn, error);
	if (err != KVT_OK) {
		close(fd);
		return err;
	}
	int64_t answer_ns = target->deadline_ns;
	if (kvi_target_has_more(target)) {
		int64_t half_ns = (target->deadline_ns - kvi_clock_now()) / 2;
		answer_ns =
			kvi_deadline_after(half_ns < KVI_HANDSHAKE_NS ? half_ns : KVI_HANDSHAKE_NS);
	}
	err = meet(conn, answer_ns, target->deadline_ns, error);
	if (err != KVT_OK) {
		*is_stranger =
			(err == KVT_E_UNREACHABLE || err == KVT_E_PROTOCOL || err == KVT_E_AUTH) &&
			conn->peer_lanes == NULL;
		kvi_conn_fail(conn, err, 0, "%s", error->text);
		if (!has_left_something(conn, err)) {
			kvt_conn_close(conn); /* waits until it is torn down */
			return err;
		}
	}
	kvi_offers_hand_out(conn);
	*conn_out = conn;
	return KVT_OK;
}

/*
 * A server that hangs up in silence does not know our key, most likely. But one that is flooded, or out of descriptors
 * or memory, does so, too: that may have passed a moment later.
 */
static bool is_worth_another_call(const struct kvi_target *target, enum kvt_err err,
				  int64_t pause_ns)
{
	return err == KVT_E_AUTH && pause_ns <= AGAIN_LONGEST_NS && !kvi_target_has_more(target) &&
	       kvi_clock_now() + pause_ns < target->deadline_ns;
}

static enum kvt_err open_conn(struct kvi_target *target, struct kvt_conn **conn,
			      struct kvt_error *error)
{
	bool is_stranger = true;
	int64_t pause_ns = AGAIN_NS;
	enum kvt_err err = KVT_E_UNREACHABLE;
	while (is_stranger) {
		int fd;
		err = kvi_target_connect(target, &fd, error);
		if (err != KVT_OK)
			return err;
		err = try_socket(target, fd, conn, &is_stranger, error);
		if (!is_stranger)
			break;
		if (is_worth_another_call(target, err, pause_ns)) {
			kvi_target_allow_again(target);
			kvi_thread_rest(pause_ns);
			pause_ns *= 2;
		} else {
			kvi_target_set_aside(target, error);
		}
	}
	return err == KVT_OK ? err : kvi_target_blame(target, error);
}

static enum kvt_err call_target(struct kvi_target *target, int64_t timeout_ns,
				struct kvt_conn **conn, struct kvt_error *error)
{
	int64_t wait_ns;
	if (target->port == 0 || !kvi_timeout_read(timeout_ns, KVI_CONNECT_NS, &wait_ns))
		return kvi_fail(error, KVT_E_INVALID, 0,
				"port %u, timeout_ns %lld: allowed are 1 to 65535, "
				"and " KVI_TIMEOUT_RULE,
				target->port, (long long)timeout_ns);
	enum kvt_err err = kvi_engine_enter(target->engine, error);
	if (err != KVT_OK)
		return err;
	target->deadline_ns = kvi_deadline_after(wait_ns);
	err = kvi_target_open(target, error);
	if (err == KVT_OK) {
		err = open_conn(target, conn, error);
		kvi_target_close(target);
	}
	kvi_engine_leave(target->engine);
	return err;
}

enum kvt_err kvt_conn_open(struct kvt_engine *engine, const char *host, uint16_t port,
			   int64_t timeout_ns, struct kvt_conn **conn, struct kvt_error *error)
{
	struct kvt_error own_error = { .code = KVT_OK };
	if (error == NULL)
		error = &own_error;
	if (engine == NULL || host == NULL || conn == NULL)
		return kvi_fail(error, KVT_E_INVALID, 0, "no engine or no host is given");
	struct kvi_target target = { .engine = engine, .host = host, .port = port };
	return call_target(&target, timeout_ns, conn, error);
}

enum kvt_err kvt_conn_open_address(struct kvt_engine *engine, const void *bytes, size_t len,
				   int64_t timeout_ns, struct kvt_conn **conn,
				   struct kvt_error *error)
{
	struct kvt_error own_error = { .code = KVT_OK };
	struct kvi_address address;
	if (error == NULL)
		error = &own_error;
	if (engine == NULL || bytes == NULL || conn == NULL)
		return kvi_fail(error, KVT_E_INVALID, 0, "no engine or no address is given");
	enum kvt_err err = kvi_address_decode(bytes, len, &address);
	if (err == KVT_E_VERSION)
		return kvi_fail(error, err, 0, "the address is one of a later version of KVTrans");
	if (err != KVT_OK)
		return kvi_fail(error, KVT_E_INVALID, 0,
				"%zu bytes that are no address of an engine, or not a whole one",
				len);
	struct kvi_target target = {
		.engine = engine,
		.engine_address = &address,
		.port = address.port,
	};
	return call_target(&target, timeout_ns, conn, error);
}
