/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dialer.c - calls that nobody waits for.
 *
 * Design notes. A turn costs what has changed: who has something for a call puts it into `told`, and so does the
 * thread itself with those whose sockets are ready, as one batch of epoll may name a call twice. A call completes under
 * its worker's lock, as every transfer; its connection is the transfer's until the application takes it.
 */
#include "engine/conn/dialer.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/thread.h"
#include "base/timers.h"
#include "base/wake.h"
#include "engine/conn/dial.h"
#include "engine/conn/offer.h"
#include "engine/core/abi.h"
#include "engine/core/engine.h"
#include "engine/transfer/transfer.h"

enum { EVENT_BATCH = 64 };

struct kvi_dialer {
	/* immutable once it has started */
	struct kvt_engine *engine;
	int epoll_fd;
	struct kvi_wake wake;
	pthread_t thread;

	/* its thread */
	struct kvi_timers timers;

	/* under lock, a leaf */
	pthread_mutex_t lock;
	struct kvi_list calls;
	struct kvi_list told; /* to be stepped */
	unsigned call_count;
	bool is_started;
	bool is_stopping;
};

struct call {
	struct kvt_transfer transfer;
	struct kvi_dial dial;
	struct kvi_address address;
	char *host;

	/* atomic */
	_Atomic(struct kvt_conn *) conn; /* once it is over: for the application, until it takes it */

	/* the dialer's thread */
	struct kvi_timer timer;

	/* under the dialer's lock */
	struct kvi_list node;
	struct kvi_list told_node;
};

/* ---- a call as a transfer ---- */

static struct call *get_call(const struct kvt_transfer *transfer)
{
	return kvi_container_of(transfer, struct call, transfer);
}

static void give_up(struct kvt_transfer *transfer)
{
	struct kvi_dial *dial = &get_call(transfer)->dial;
	atomic_store(&dial->stop, transfer->error.code);
	kvi_dialer_tell(dial);
}

static void settle(struct kvt_transfer *transfer, bool failed)
{
	(void)transfer;
	(void)failed;
}

static void free_call(struct kvt_transfer *transfer)
{
	struct call *call = get_call(transfer);
	struct kvt_conn *conn = atomic_exchange(&call->conn, NULL);
	if (conn != NULL)
		kvi_dial_drop_conn(conn);
	kvi_free(call->host);
	kvi_free(call);
}

/* It starts and has its deadline on the dialer's thread, and posts nothing. */
static const struct kvi_transfer_kind call_kind = {
	.give_up = give_up,
	.settle = settle,
	.free = free_call,
};

/* ---- the thread ---- */

/* Once descriptors were lost, by whoever found that out, the number may be that of another's file. */
static void wake(struct kvi_dialer *dialer)
{
	if (atomic_load(&dialer->engine->fds_lost))
		kvi_wake_forget(&dialer->wake);
	kvi_wake(&dialer->wake);
}

void kvi_dialer_tell(struct kvi_dial *dial)
{
	struct kvi_dialer *dialer = dial->dialer;
	struct call *call = kvi_container_of(dial, struct call, dial);
	pthread_mutex_lock(&dialer->lock);
	if (kvi_list_is_empty(&call->told_node))
		kvi_list_append(&dialer->told, &call->told_node);
	pthread_mutex_unlock(&dialer->lock);
	wake(dialer);
}

static void end_call(struct kvi_dialer *dialer, struct call *call)
{
	struct kvi_worker *worker = call->transfer.worker;
	kvi_dial_close(&call->dial); /* no connection tells of it any more */
	kvi_timers_clear(&dialer->timers, &call->timer);
	kvi_worker_lock(worker); /* and nobody cancels it */
	pthread_mutex_lock(&dialer->lock);
	kvi_list_remove(&call->node);
	kvi_list_remove(&call->told_node);
	dialer->call_count--;
	pthread_mutex_unlock(&dialer->lock);
	atomic_store(&call->conn, call->dial.conn);
	kvi_transfer_complete(&call->transfer, call->dial.conn != NULL ? NULL : &call->dial.error);
	kvi_worker_unlock(worker);
}

static void step_call(struct kvi_dialer *dialer, struct call *call)
{
	bool is_over = kvi_dial_step(&call->dial);
	if (!is_over && !kvi_timers_set(&dialer->timers, &call->timer, call->dial.due_ns)) {
		atomic_store(&call->dial.stop, KVT_E_NO_MEMORY);
		is_over = kvi_dial_step(&call->dial);
	}
	if (is_over)
		end_call(dialer, call);
}

static struct call *take_told(struct kvi_dialer *dialer)
{
	pthread_mutex_lock(&dialer->lock);
	struct kvi_list *node = kvi_list_take_first(&dialer->told);
	pthread_mutex_unlock(&dialer->lock);
	return node == NULL ? NULL : kvi_container_of(node, struct call, told_node);
}

/* All calls are to end. */
static void tell_all(struct kvi_dialer *dialer)
{
	pthread_mutex_lock(&dialer->lock);
	kvi_list_for_each (node, next_node, &dialer->calls) {
		struct call *call = kvi_container_of(node, struct call, node);
		enum kvt_err none = KVT_OK;
		if (atomic_compare_exchange_strong(&call->dial.stop, &none, KVT_E_CLOSED) &&
		    kvi_list_is_empty(&call->told_node))
			kvi_list_append(&dialer->told, &call->told_node);
	}
	pthread_mutex_unlock(&dialer->lock);
}

/* Whether its descriptors are still its own; else every call ends. Any thread. */
static bool check_fds(struct kvi_dialer *dialer)
{
	struct kvt_engine *engine = dialer->engine;
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = NULL };
	if (!atomic_load(&engine->fds_lost) &&
	    !kvi_wake_is_watched(&dialer->wake, dialer->epoll_fd, event))
		kvi_engine_lose_fds(engine);
	return !atomic_load(&engine->fds_lost);
}

static void await_events(struct kvi_dialer *dialer)
{
	struct epoll_event events[EVENT_BATCH];
	int count = epoll_wait(dialer->epoll_fd, events, EVENT_BATCH,
			       kvi_deadline_get_ms(kvi_timers_get_due(&dialer->timers),
						   KVI_SLEEP_MAX_MS));
	for (int i = 0; i < count; i++) {
		if (events[i].data.ptr == NULL)
			kvi_wake_clear(&dialer->wake);
		else
			kvi_dialer_tell(events[i].data.ptr);
	}
}

static void *run_dialer(void *arg)
{
	struct kvi_dialer *dialer = arg;
	for (;;) {
		bool has_fds = check_fds(dialer);
		pthread_mutex_lock(&dialer->lock);
		bool is_stopping = dialer->is_stopping;
		bool is_idle = kvi_list_is_empty(&dialer->calls);
		pthread_mutex_unlock(&dialer->lock);
		if (is_stopping && is_idle)
			return NULL;
		if (is_stopping || !has_fds)
			tell_all(dialer);
		struct call *call;
		while ((call = take_told(dialer)) != NULL)
			step_call(dialer, call);
		int64_t now_ns = kvi_clock_now();
		while (kvi_timers_get_due(&dialer->timers) <= now_ns)
			step_call(dialer, kvi_container_of(kvi_timers_get_first(&dialer->timers),
							   struct call, timer));
		if (has_fds)
			await_events(dialer);
		else
			kvi_thread_rest(KVI_NAP_NS);
	}
}

/* Under lock. */
static enum kvt_err start_thread(struct kvi_dialer *dialer, struct kvt_error *error)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = NULL };
	if (kvi_wake_open(&dialer->wake) != KVT_OK)
		return kvi_fail(error, KVT_E_LIMIT, errno, "no descriptor for calls");
	dialer->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	enum kvt_err err = KVT_E_LIMIT;
	if (dialer->epoll_fd >= 0 &&
	    epoll_ctl(dialer->epoll_fd, EPOLL_CTL_ADD, dialer->wake.fd, &event) == 0)
		err = kvi_thread_start(&dialer->thread, "kvt-dialer", run_dialer, dialer);
	if (err == KVT_OK) {
		dialer->is_started = true;
		return KVT_OK;
	}
	kvi_fail(error, err, errno, "no descriptor or thread for calls");
	if (dialer->epoll_fd >= 0)
		close(dialer->epoll_fd);
	kvi_wake_close(&dialer->wake);
	return err;
}

struct kvi_dialer *kvi_dialer_alloc(struct kvt_engine *engine)
{
	struct kvi_dialer *dialer = kvi_alloc(sizeof(*dialer));
	if (dialer == NULL)
		return NULL;
	dialer->engine = engine;
	pthread_mutex_init(&dialer->lock, NULL);
	kvi_list_init(&dialer->calls);
	kvi_list_init(&dialer->told);
	return dialer;
}

void kvi_dialer_stop(struct kvi_dialer *dialer)
{
	pthread_mutex_lock(&dialer->lock);
	bool is_started = dialer->is_started;
	dialer->is_stopping = true;
	pthread_mutex_unlock(&dialer->lock);
	if (!is_started)
		return;
	check_fds(dialer);
	wake(dialer);
	pthread_join(dialer->thread, NULL);
	if (!atomic_load(&dialer->engine->fds_lost))
		close(dialer->epoll_fd);
	else
		kvi_wake_forget(&dialer->wake);
	kvi_wake_close(&dialer->wake);
	kvi_timers_free(&dialer->timers);
}

void kvi_dialer_free(struct kvi_dialer *dialer)
{
	if (dialer == NULL)
		return;
	pthread_mutex_destroy(&dialer->lock);
	kvi_free(dialer);
}

/* ---- starting a call ---- */

/* Give it to the thread, which is there from the first on. */
static enum kvt_err add_call(struct kvi_dialer *dialer, struct call *call, struct kvt_error *error)
{
	enum kvt_err err = KVT_OK;
	pthread_mutex_lock(&dialer->lock);
	if (dialer->call_count >= KVI_CONNECTIONS_MAX)
		err = kvi_fail(error, KVT_E_LIMIT, 0, "%d calls of this engine are under way",
			       KVI_CONNECTIONS_MAX);
	else if (!dialer->is_started)
		err = start_thread(dialer, error);
	if (err == KVT_OK) {
		call->dial.target.is_watched = true;
		call->dial.target.epoll_fd = dialer->epoll_fd;
		call->dial.target.what = &call->dial;
		dialer->call_count++;
		kvi_list_append(&dialer->calls, &call->node);
		kvi_list_append(&dialer->told, &call->told_node);
	}
	pthread_mutex_unlock(&dialer->lock);
	if (err == KVT_OK)
		wake(dialer);
	return err;
}

/* A copy of what the request says. */
static enum kvt_err fill_call(struct call *call, struct kvt_engine *engine,
			      const struct kvt_connect_request *request, struct kvt_error *error)
{
	struct kvi_target *target = &call->dial.target;
	target->engine = engine;
	target->port = request->port;
	kvi_dial_open(&call->dial);
	call->dial.dialer = engine->dialer;
	kvi_list_init(&call->node);
	kvi_list_init(&call->told_node);
	if ((request->host == NULL) == (request->address == NULL))
		return kvi_fail(error, KVT_E_INVALID, 0,
				"a host and a port are given, or an address, and not both");
	if (request->address != NULL) {
		enum kvt_err err = kvi_target_read_address(request->address, request->address_len,
							   &call->address, error);
		if (err != KVT_OK)
			return err;
		target->engine_address = &call->address;
		target->port = call->address.port;
	} else {
		call->host = kvi_alloc_string(request->host);
		if (call->host == NULL)
			return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for a call");
		target->host = call->host;
	}
	return kvi_target_check(target, request->timeout_ns, error);
}

enum kvt_err kvt_connect_start(struct kvt_engine *engine, const struct kvt_connect_request *given,
			       struct kvt_transfer **transfer, struct kvt_error *error)
{
	struct kvt_connect_request request;
	if (engine == NULL || transfer == NULL)
		return kvi_fail(error, KVT_E_INVALID, 0, "no engine or no place is given");
	enum kvt_err err = kvi_sized_read(&kvi_abi_connect_request, &request, given, error);
	if (err == KVT_OK)
		err = kvi_engine_enter(engine, error);
	if (err != KVT_OK)
		return err;
	struct call *call = kvi_alloc(sizeof(*call));
	if (call == NULL) {
		kvi_engine_leave(engine);
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for a call");
	}
	err = fill_call(call, engine, &request, error);
	if (err == KVT_OK) {
		call->transfer.kind = &call_kind;
		call->transfer.count = 1;
		call->transfer.reap = request.reap;
		kvi_transfer_init(&call->transfer, engine, NULL, engine->workers[0],
				  call->dial.target.deadline_ns);
		err = add_call(engine->dialer, call, error);
		if (err == KVT_OK)
			*transfer = &call->transfer;
		else
			kvi_transfer_abandon(&call->transfer);
	} else {
		free_call(&call->transfer);
	}
	kvi_engine_leave(engine);
	return err;
}

struct kvt_conn *kvt_transfer_take_conn(struct kvt_transfer *transfer)
{
	if (transfer->kind != &call_kind || !kvt_transfer_is_done(transfer) ||
	    kvi_engine_enter(transfer->engine, NULL) != KVT_OK)
		return NULL;
	struct kvt_conn *conn = atomic_exchange(&get_call(transfer)->conn, NULL);
	if (conn != NULL)
		kvi_offers_hand_out(conn);
	kvi_engine_leave(transfer->engine);
	return conn;
}
