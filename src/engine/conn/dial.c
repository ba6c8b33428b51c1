/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dial.c - the steps of a call, and the calls that wait for them. The state machine is told of in dial.h.
 */
#include "engine/conn/dial.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/thread.h"
#include "engine/conn/control.h"
#include "engine/conn/dialer.h"
#include "engine/conn/life.h"
#include "engine/conn/offer.h"
#include "engine/core/engine.h"
#include "engine/lane/link.h"
#include "engine/transfer/inbox.h"

/* The pause before the second call of one who was hung up on or cut off; each further one is twice as long. */
#define AGAIN_NS (50 * KVI_MS)
#define AGAIN_LONGEST_NS (200 * KVI_MS)
/* A provider may look for the way to each lane, for 2 s where nobody answers: other calls have their turns in between. */
#define LANES_AT_ONCE_NS (5 * KVI_MS)

/* ---- the connection ---- */

/* The time is up: say what it is that did not come. has_answered: an engine did, with its lanes. */
static void blame_silence(struct kvt_conn *conn, bool has_answered)
{
	bool has_path = kvi_conn_has_path(conn);
	for (unsigned i = 0; has_answered && has_path && i < conn->lane_count; i++) {
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
		      has_answered ? "not all lanes of the peer came in time"
				   : "the peer took the call and did not answer in time");
}

/* AGAIN: it cannot be had on the path that is on trial, and all lanes will be laid out anew. */
static enum kvt_err open_lane(struct kvt_conn *conn, unsigned index, struct kvt_error *error)
{
	struct kvi_link *link = &conn->links[index];
	struct kvi_worker *worker = link->shard->worker;
	const struct kvi_wire_address *to = kvi_conn_get_lane_address(conn, index);
	enum kvt_err err = KVT_OK;
	kvi_worker_lock(worker);
	if (link->shard->severed)
		err = kvi_conn_check(conn, error);
	else
		err = kvi_link_open(link, to->address, to->len, NULL, error);
	kvi_worker_unlock(worker);
	if (err != KVT_OK && kvi_trial_fail(conn, error->provider_errno, error->text))
		return KVT_E_AGAIN;
	/* Some providers look for the way at once. */
	if (err == KVT_E_UNREACHABLE && error->provider_errno != 0) {
		kvi_link_fail_unconnected(link, error->provider_errno);
		err = kvi_conn_check(conn, error);
	}
	return err;
}

/* A new connection over fd, known to the control thread. Owns fd from success on. */
static enum kvt_err make_conn(struct kvi_dial *dial, int fd)
{
	const struct kvi_target *target = &dial->target;
	struct kvt_engine *engine = target->engine;
	char host[KVI_HOST_LEN];
	kvi_target_print_host(target, host, sizeof(host));
	struct kvt_conn *conn = kvi_conn_admit(engine, false, host, target->port, &dial->error);
	if (conn == NULL)
		return dial->error.code;
	if (target->engine_address != NULL) {
		conn->wants_instance = true;
		memcpy(conn->instance, target->engine_address->instance, KVI_SESSION_LEN);
	}
	conn->dial = dial->dialer != NULL ? dial : NULL;
	enum kvt_err err = kvi_control_adopt(engine->control, conn, fd);
	if (err != KVT_OK) {
		kvi_conn_dismiss(conn);
		return kvi_fail(&dial->error, err, 0, "no memory for a connection");
	}
	dial->conn = conn;
	return KVT_OK;
}

void kvi_dial_drop_conn(struct kvt_conn *conn)
{
	kvi_conn_fail(conn, KVT_E_CLOSED, 0, "the connection was closed on this side");
	kvi_inbox_forget(&conn->engine->inbox, conn);
	kvi_ref_drop(&conn->ref);
}

/* ---- steps: true, and the state is another, or false, and due_ns tells when to look again ---- */

static bool finish(struct kvi_dial *dial)
{
	dial->state = KVI_DIAL_OVER;
	return true;
}

static bool wait_until(struct kvi_dial *dial, int64_t due_ns)
{
	dial->due_ns = due_ns;
	return false;
}

static bool step_resolving(struct kvi_dial *dial)
{
	enum kvt_err err = kvi_target_resolve(&dial->target, &dial->error);
	if (err == KVT_E_AGAIN)
		return wait_until(dial, kvi_target_get_due(&dial->target));
	if (err != KVT_OK)
		return finish(dial);
	dial->state = KVI_DIAL_CONNECTING;
	return true;
}

/*
 * An address may take the call and be no engine's: a filter in between, or another service. While there are further
 * ones, it has 2 s to answer, or half of the time that is left.
 */
static bool step_connecting(struct kvi_dial *dial)
{
	int fd;
	enum kvt_err err = kvi_target_connect(&dial->target, &fd, &dial->error);
	if (err == KVT_E_AGAIN)
		return wait_until(dial, kvi_target_get_due(&dial->target));
	if (err != KVT_OK)
		return finish(dial);
	if (make_conn(dial, fd) != KVT_OK) {
		kvi_target_close_socket(&dial->target, fd);
		kvi_target_blame(&dial->target, &dial->error);
		return finish(dial);
	}
	dial->answer_ns = dial->target.deadline_ns;
	if (kvi_target_has_more(&dial->target)) {
		int64_t half_ns = (dial->target.deadline_ns - kvi_clock_now()) / 2;
		dial->answer_ns =
			kvi_deadline_after(half_ns < KVI_HANDSHAKE_NS ? half_ns : KVI_HANDSHAKE_NS);
	}
	dial->state = KVI_DIAL_ANSWERED;
	return true;
}

/* It is no connection, or will not be one. */
static bool lose(struct kvi_dial *dial)
{
	struct kvt_conn *conn = dial->conn;
	enum kvt_err err = dial->error.code;
	pthread_mutex_lock(&conn->engine->lock);
	bool has_answered = conn->peer_lanes != NULL;
	pthread_mutex_unlock(&conn->engine->lock);
	dial->is_stranger =
		(err == KVT_E_UNREACHABLE || err == KVT_E_PROTOCOL || err == KVT_E_AUTH) &&
		!has_answered;
	kvi_conn_fail(conn, err, 0, "%s", dial->error.text);
	dial->state = KVI_DIAL_LOSING;
	return true;
}

/* Make what lanes are wanted now. Nobody lays them out anew meanwhile, also not when one of them fails on trial. */
static bool begin_lanes(struct kvi_dial *dial)
{
	struct kvt_engine *engine = dial->target.engine;
	int64_t now_ns = kvi_clock_now();
	int64_t half_ns = (dial->target.deadline_ns - now_ns) / 2;
	pthread_mutex_lock(&engine->lock);
	dial->conn->wants_lanes = false;
	dial->conn->makes_lanes = true;
	pthread_mutex_unlock(&engine->lock);
	dial->trial_ns = now_ns + (half_ns < KVI_TRIAL_NS ? half_ns : KVI_TRIAL_NS);
	dial->next_lane = 0;
	dial->state = KVI_DIAL_LANES;
	return true;
}

static void end_lanes(struct kvi_dial *dial)
{
	struct kvt_engine *engine = dial->target.engine;
	pthread_mutex_lock(&engine->lock);
	dial->conn->makes_lanes = false;
	pthread_mutex_unlock(&engine->lock);
	if (kvi_trial_get_state(dial->conn, NULL) == KVI_TRIAL_FAILED)
		kvi_conn_note(dial->conn);
	dial->state = KVI_DIAL_OPENING;
}

static bool step_lanes(struct kvi_dial *dial)
{
	struct kvt_conn *conn = dial->conn;
	int64_t until_ns = kvi_deadline_after(LANES_AT_ONCE_NS);
	enum kvt_err err = KVT_OK;
	while (err == KVT_OK && dial->next_lane < conn->lane_count) {
		int64_t now_ns = kvi_clock_now();
		if (now_ns >= dial->target.deadline_ns)
			break; /* step_meeting() says so */
		if (now_ns >= until_ns)
			return wait_until(dial, now_ns);
		/* One that was made may have broken since: the others would be made for nothing. */
		if (kvi_trial_get_state(conn, NULL) == KVI_TRIAL_FAILED)
			break;
		err = open_lane(conn, dial->next_lane++, &dial->error);
		if (atomic_load(&dial->stop) != KVT_OK)
			return true;
	}
	end_lanes(dial);
	return err == KVT_OK || err == KVT_E_AGAIN || lose(dial);
}

/* Who took the call has to answer until one time; an engine then has until the other to be open. */
static bool step_meeting(struct kvi_dial *dial)
{
	struct kvt_conn *conn = dial->conn;
	struct kvt_engine *engine = conn->engine;
	bool is_answered = dial->state == KVI_DIAL_ANSWERED;
	int64_t deadline_ns = is_answered ? dial->answer_ns : dial->target.deadline_ns;
	pthread_mutex_lock(&engine->lock);
	bool has_answered = conn->peer_lanes != NULL;
	bool wants_lanes = conn->wants_lanes;
	bool has_come = wants_lanes || conn->was_open;
	pthread_mutex_unlock(&engine->lock);
	if (!has_come && kvi_conn_check(conn, &dial->error) != KVT_OK)
		return lose(dial);
	if (!has_come && kvi_clock_now() >= deadline_ns) {
		blame_silence(conn, has_answered);
		return kvi_conn_check(conn, &dial->error) != KVT_OK && lose(dial);
	}
	if (has_come)
		return wants_lanes ? begin_lanes(dial) : finish(dial);
	if (!is_answered && kvi_clock_now() >= dial->trial_ns) {
		dial->trial_ns = KVI_NEVER;
		kvi_trial_fail(conn, ETIMEDOUT, NULL); /* if there is one */
	}
	return wait_until(dial, is_answered || deadline_ns < dial->trial_ns ? deadline_ns
									    : dial->trial_ns);
}

/*
 * A server that hangs up in silence does not know our key, most likely. But one that is flooded, or out of descriptors
 * or memory, does so, too: that may have passed a moment later. And a listener for lanes that is flooded ends callers
 * that were slow to say who they are: a lane that was cut off has been refused by nobody.
 */
static bool is_worth_another_call(const struct kvi_dial *dial)
{
	const struct kvt_error *error = &dial->error;
	bool was_hung_up_on = dial->is_stranger && error->code == KVT_E_AUTH &&
			      !kvi_target_has_more(&dial->target);
	bool was_cut_off =
		!dial->is_stranger && error->code == KVT_E_UNREACHABLE &&
		(error->provider_errno == ECANCELED || error->provider_errno == ECONNRESET);
	return (was_hung_up_on || was_cut_off) && dial->pause_ns <= AGAIN_LONGEST_NS &&
	       kvi_clock_now() + dial->pause_ns < dial->target.deadline_ns;
}

/*
 * A peer may have sent and gone before we look: its messages are in the connection all the same, and it was told so.
 * Not where it is this side that ended the call.
 */
static bool step_losing(struct kvi_dial *dial)
{
	struct kvt_conn *conn = dial->conn;
	struct kvt_engine *engine = conn->engine;
	enum kvt_err err = dial->error.code;
	pthread_mutex_lock(&engine->lock);
	bool is_torn_down = conn->is_torn_down || engine->stopped;
	pthread_mutex_unlock(&engine->lock);
	if (!is_torn_down)
		return wait_until(dial, KVI_NEVER);
	if (conn->left_something && err != KVT_E_CANCELLED && err != KVT_E_CLOSED)
		return finish(dial);
	dial->conn = NULL;
	kvi_dial_drop_conn(conn);
	if (is_worth_another_call(dial)) {
		kvi_target_allow_again(&dial->target);
		dial->answer_ns = kvi_deadline_after(dial->pause_ns);
		dial->pause_ns *= 2;
		dial->state = KVI_DIAL_RESTING;
	} else if (!dial->is_stranger) {
		kvi_target_blame(&dial->target, &dial->error);
		return finish(dial);
	} else {
		kvi_target_set_aside(&dial->target, &dial->error);
		dial->state = KVI_DIAL_CONNECTING;
	}
	return true;
}

static bool step_resting(struct kvi_dial *dial)
{
	if (kvi_clock_now() < dial->answer_ns)
		return wait_until(dial, dial->answer_ns);
	dial->state = KVI_DIAL_CONNECTING;
	return true;
}

/* The call shall end now, whatever it was doing. */
static bool step_stopped(struct kvi_dial *dial, enum kvt_err code)
{
	static const char *const doings[] = {
		[KVI_DIAL_RESOLVING] = "resolving the name",
		[KVI_DIAL_CONNECTING] = "connecting",
		[KVI_DIAL_ANSWERED] = "waiting for an answer",
		[KVI_DIAL_LANES] = "connecting the lanes",
		[KVI_DIAL_OPENING] = "connecting the lanes",
		[KVI_DIAL_RESTING] = "waiting to call again",
	};
	const char *doing = doings[dial->state];
	if (atomic_load(&dial->target.engine->fds_lost))
		kvi_fail(&dial->error, KVT_E_CLOSED, EBADF, "%s", KVI_FDS_LOST_TEXT);
	else if (code == KVT_E_CLOSED)
		kvi_fail(&dial->error, code, 0, "the engine was closed while %s", doing);
	else if (code == KVT_E_CANCELLED)
		kvi_fail(&dial->error, code, 0, "%s while %s",
			 dial->dialer != NULL ? "cancelled by this side" : "interrupted", doing);
	else
		kvi_fail(&dial->error, code, 0, "no memory for its deadline");
	if (dial->conn == NULL) {
		kvi_target_blame(&dial->target, &dial->error);
		return finish(dial);
	}
	kvi_conn_fail(dial->conn, code, 0, "%s", dial->error.text);
	dial->is_stranger = false;
	dial->state = KVI_DIAL_LOSING;
	return true;
}

bool kvi_dial_step(struct kvi_dial *dial)
{
	bool goes_on = true;
	while (goes_on && dial->state != KVI_DIAL_OVER) {
		enum kvt_err stop = atomic_load(&dial->stop);
		if (stop != KVT_OK && dial->state != KVI_DIAL_LOSING) {
			goes_on = step_stopped(dial, stop);
			continue;
		}
		switch (dial->state) {
		case KVI_DIAL_RESOLVING:
			goes_on = step_resolving(dial);
			break;
		case KVI_DIAL_CONNECTING:
			goes_on = step_connecting(dial);
			break;
		case KVI_DIAL_LANES:
			goes_on = step_lanes(dial);
			break;
		case KVI_DIAL_LOSING:
			goes_on = step_losing(dial);
			break;
		case KVI_DIAL_RESTING:
			goes_on = step_resting(dial);
			break;
		default:
			goes_on = step_meeting(dial);
		}
	}
	return dial->state == KVI_DIAL_OVER;
}

void kvi_dial_open(struct kvi_dial *dial)
{
	dial->state = KVI_DIAL_RESOLVING;
	dial->due_ns = 0;
	dial->pause_ns = AGAIN_NS;
}

void kvi_dial_close(struct kvi_dial *dial)
{
	if (dial->conn != NULL) {
		struct kvt_engine *engine = dial->target.engine;
		pthread_mutex_lock(&engine->lock);
		dial->conn->dial = NULL;
		pthread_mutex_unlock(&engine->lock);
	}
	kvi_target_close(&dial->target);
}

/* ---- calls that wait ---- */

/* Under engine->lock: what a step of the connection waits for is there. */
static bool has_news(const struct kvi_dial *dial)
{
	const struct kvt_conn *conn = dial->conn;
	switch (dial->state) {
	case KVI_DIAL_ANSWERED:
		return conn->wants_lanes || conn->is_torn_down;
	case KVI_DIAL_OPENING:
		return conn->wants_lanes || conn->was_open || conn->is_torn_down;
	default:
		return conn->is_torn_down || conn->engine->stopped;
	}
}

/* Wait for the next step, and ask who may want the call to end. */
static void await_step(struct kvi_dial *dial)
{
	struct kvt_engine *engine = dial->target.engine;
	int64_t until_ns = kvi_deadline_after(KVI_SLICE_MS * KVI_MS);
	if (dial->due_ns < until_ns)
		until_ns = dial->due_ns;
	if (dial->state == KVI_DIAL_RESTING) {
		kvi_thread_rest(until_ns - kvi_clock_now());
	} else if (dial->conn == NULL) {
		kvi_target_await(&dial->target, until_ns);
	} else {
		pthread_mutex_lock(&engine->lock);
		if (!has_news(dial))
			kvi_cond_wait(&engine->changed, &engine->lock, until_ns);
		pthread_mutex_unlock(&engine->lock);
	}
	if (kvi_engine_is_interrupted(engine))
		atomic_store(&dial->stop, KVT_E_CANCELLED);
	else if (atomic_load(&engine->stopping) || atomic_load(&engine->fds_lost))
		atomic_store(&dial->stop, KVT_E_CLOSED);
}

static enum kvt_err call(struct kvi_dial *dial, int64_t timeout_ns, struct kvt_conn **conn,
			 struct kvt_error *error)
{
	struct kvt_engine *engine = dial->target.engine;
	enum kvt_err err = kvi_target_check(&dial->target, timeout_ns, error);
	if (err == KVT_OK)
		err = kvi_engine_enter(engine, error);
	if (err != KVT_OK)
		return err;
	kvi_dial_open(dial);
	while (!kvi_dial_step(dial))
		await_step(dial);
	kvi_dial_close(dial);
	if (dial->conn != NULL) {
		kvi_offers_hand_out(dial->conn);
		*conn = dial->conn;
	} else {
		*error = dial->error;
		err = error->code;
	}
	kvi_engine_leave(engine);
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
	struct kvi_dial dial = { .target = { .engine = engine, .host = host, .port = port } };
	return call(&dial, timeout_ns, conn, error);
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
	enum kvt_err err = kvi_target_read_address(bytes, len, &address, error);
	if (err != KVT_OK)
		return err;
	struct kvi_dial dial = {
		.target = { .engine = engine, .engine_address = &address, .port = address.port },
	};
	return call(&dial, timeout_ns, conn, error);
}
