/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inbox.c - adding to an engine's inbox, and the calls of the application that empty it.
 */
#include "engine/transfer/inbox.h"

#include <poll.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "engine/core/conn.h"
#include "engine/core/engine.h"
#include "engine/lane/link.h"
#include "engine/transfer/transfer.h"

/* An application that is away for longer does something that the worker's thread had better go on beside. */
#define AWAY_NS (50 * INT64_C(1000))

/* malloc(3) adds less than 32 bytes to a block. */
_Static_assert(KVT_EVENTS_ALL == (1 << KVI_EVENT_KINDS) - 1, "each kind has its queue");
_Static_assert(sizeof(struct kvi_event) + 32 <= KVI_MESSAGE_CHARGE, "a notification that nobody "
								    "takes costs no more than its "
								    "charge");

enum kvt_err kvi_inbox_open(struct kvi_inbox *inbox)
{
	pthread_mutex_init(&inbox->lock, NULL);
	kvi_list_init(&inbox->done);
	inbox->watched = KVT_EVENTS_ALL;
	for (size_t i = 0; i < KVI_EVENT_KINDS; i++)
		kvi_list_init(&inbox->events[i]);
	atomic_init(&inbox->wake.fd, -1);
	return kvi_wake_open(&inbox->wake);
}

void kvi_inbox_close(struct kvi_inbox *inbox)
{
	kvi_wake_close(&inbox->wake);
	pthread_mutex_destroy(&inbox->lock);
}

/* Whether there is one that is told of; under lock. */
static bool has_events(const struct kvi_inbox *inbox)
{
	for (unsigned i = 0; i < KVI_EVENT_KINDS; i++)
		if ((inbox->watched & 1U << i) != 0 && !kvi_list_is_empty(&inbox->events[i]))
			return true;
	return false;
}

static bool is_quiet(const struct kvi_inbox *inbox)
{
	return kvi_list_is_empty(&inbox->done) && !has_events(inbox);
}

static void stop_telling(struct kvi_inbox *inbox)
{
	atomic_store(&inbox->told, false);
	if (atomic_load(&inbox->wake.pending))
		kvi_wake_clear(&inbox->wake);
}

/* After something was taken out; under lock. */
static void clear_if_quiet(struct kvi_inbox *inbox)
{
	if (is_quiet(inbox))
		stop_telling(inbox);
}

/* Somebody's wait is over; under lock. by: the worker whose lock is held, which wakes its own
 * inline driver. */
static void tell(struct kvi_inbox *inbox, struct kvi_worker *by)
{
	/* Who begins to watch says so, and then looks whether we told; we do it the other way round. */
	atomic_store(&inbox->told, true);
	if (atomic_load(&inbox->fd_is_out) || atomic_load(&inbox->pollers) > 0)
		kvi_wake(&inbox->wake);
	if (inbox->visited != NULL && inbox->visited != by)
		kvi_wake(&inbox->visited->wake);
	if (by != NULL)
		inbox->told_by = by;
}

/* ---- transfers ---- */

void kvi_inbox_add_done(struct kvi_inbox *inbox, struct kvt_transfer *transfer)
{
	pthread_mutex_lock(&inbox->lock);
	if (!transfer->given_back) {
		kvi_list_append(&inbox->done, &transfer->inbox_node);
		atomic_fetch_add(&inbox->done_count, 1);
	}
	atomic_store_explicit(&transfer->done, true, memory_order_release);
	if (!transfer->given_back)
		tell(inbox, transfer->worker);
	pthread_mutex_unlock(&inbox->lock);
}

void kvi_inbox_remove_done(struct kvi_inbox *inbox, struct kvt_transfer *transfer)
{
	pthread_mutex_lock(&inbox->lock);
	transfer->given_back = true;
	if (!kvi_list_is_empty(&transfer->inbox_node)) {
		kvi_list_remove(&transfer->inbox_node);
		atomic_fetch_sub(&inbox->done_count, 1);
		clear_if_quiet(inbox);
	}
	pthread_mutex_unlock(&inbox->lock);
}

size_t kvt_engine_reap(struct kvt_engine *engine, struct kvt_transfer **transfers, size_t max)
{
	struct kvi_inbox *inbox = &engine->inbox;
	if (atomic_load(&inbox->done_count) == 0 || kvi_engine_is_forked(engine))
		return 0;
	size_t count = 0;
	struct kvi_list *node;
	pthread_mutex_lock(&inbox->lock);
	while (count < max && (node = kvi_list_take_first(&inbox->done)) != NULL)
		transfers[count++] = kvi_container_of(node, struct kvt_transfer, inbox_node);
	atomic_fetch_sub(&inbox->done_count, count);
	clear_if_quiet(inbox);
	pthread_mutex_unlock(&inbox->lock);
	return count;
}

/* ---- events ---- */

struct kvi_event *kvi_event_alloc(struct kvt_conn *conn, enum kvt_event_kind kind, size_t len)
{
	struct kvi_event *event = kvi_alloc_data(sizeof(*event) + len);
	if (event == NULL)
		return NULL;
	/* Not the data, which is filled in: a peer that begins and drops notifications must not make us clear 1 MiB each. */
	memset(event, 0, sizeof(*event));
	event->event.kind = kind;
	event->event.conn = conn;
	event->event.data = event->data;
	event->event.len = len;
	kvi_list_init(&event->node);
	kvi_list_init(&event->conn_node);
	return event;
}

/* For the application to take; under lock. */
static void show_event(struct kvi_inbox *inbox, struct kvi_event *event)
{
	struct kvi_list *of_conn = &event->event.conn->events;
	bool waits = event->event.kind == KVT_EVENT_CONN_ENDED && !kvi_list_is_empty(of_conn);
	event->number = ++inbox->last_event;
	kvi_list_append(of_conn, &event->conn_node);
	if (!waits)
		kvi_list_append(&inbox->events[event->event.kind], &event->node);
}

/* An event of the connection was taken: its end may be next. Under lock. */
static void show_end(struct kvi_inbox *inbox, struct kvt_conn *conn)
{
	struct kvi_list *first = kvi_list_get_first(&conn->events);
	struct kvi_event *event =
		first == NULL ? NULL : kvi_container_of(first, struct kvi_event, conn_node);
	if (event != NULL && event->event.kind == KVT_EVENT_CONN_ENDED &&
	    kvi_list_is_empty(&event->node))
		kvi_list_append(&inbox->events[KVT_EVENT_CONN_ENDED], &event->node);
	/* What was taken may be of a kind that is not told of. */
	if (!atomic_load(&inbox->told) && has_events(inbox))
		tell(inbox, NULL);
}

void kvi_inbox_put_event(struct kvi_inbox *inbox, struct kvi_event *event)
{
	struct kvt_conn *conn = event->event.conn;
	pthread_mutex_lock(&inbox->lock);
	if (atomic_load(&conn->handed_out))
		show_event(inbox, event);
	else
		kvi_list_append(&conn->held_events, &event->node);
	pthread_mutex_unlock(&inbox->lock);
}

void kvi_inbox_tell(struct kvi_inbox *inbox, struct kvi_worker *by)
{
	pthread_mutex_lock(&inbox->lock);
	if (has_events(inbox))
		tell(inbox, by);
	pthread_mutex_unlock(&inbox->lock);
}

void kvi_inbox_add_event(struct kvi_inbox *inbox, struct kvi_event *event)
{
	kvi_inbox_put_event(inbox, event);
	kvi_inbox_tell(inbox, NULL);
}

void kvi_inbox_show_event(struct kvi_inbox *inbox, struct kvi_event *event)
{
	pthread_mutex_lock(&inbox->lock);
	show_event(inbox, event);
	if (has_events(inbox))
		tell(inbox, NULL);
	pthread_mutex_unlock(&inbox->lock);
}

/* ---- connections that the application does not have ---- */

void kvi_inbox_hold(struct kvi_inbox *inbox, struct kvt_conn *conn, size_t len)
{
	if (atomic_load(&conn->handed_out))
		return;
	pthread_mutex_lock(&inbox->lock);
	if (!atomic_load(&conn->handed_out)) {
		conn->held_len += len;
		atomic_fetch_add(&inbox->held_len, len);
	}
	pthread_mutex_unlock(&inbox->lock);
}

void kvi_inbox_release(struct kvi_inbox *inbox, struct kvt_conn *conn, size_t len)
{
	pthread_mutex_lock(&inbox->lock);
	if (conn->held_len >= len) {
		conn->held_len -= len;
		atomic_fetch_sub(&inbox->held_len, len);
	}
	pthread_mutex_unlock(&inbox->lock);
}

bool kvi_inbox_holds_events(struct kvi_inbox *inbox, const struct kvt_conn *conn)
{
	pthread_mutex_lock(&inbox->lock);
	bool holds = !kvi_list_is_empty(&conn->held_events);
	pthread_mutex_unlock(&inbox->lock);
	return holds;
}

/* Under lock. */
static void stop_holding(struct kvi_inbox *inbox, struct kvt_conn *conn)
{
	atomic_fetch_sub(&inbox->held_len, conn->held_len);
	conn->held_len = 0;
}

void kvi_inbox_hand_out(struct kvi_inbox *inbox, struct kvt_conn *conn)
{
	struct kvi_list *node;
	pthread_mutex_lock(&inbox->lock);
	atomic_store(&conn->handed_out, true);
	stop_holding(inbox, conn);
	while ((node = kvi_list_take_first(&conn->held_events)) != NULL)
		show_event(inbox, kvi_container_of(node, struct kvi_event, node));
	pthread_mutex_unlock(&inbox->lock);
	kvi_inbox_tell(inbox, NULL);
}

void kvi_inbox_forget(struct kvi_inbox *inbox, struct kvt_conn *conn)
{
	struct kvi_list *node;
	pthread_mutex_lock(&inbox->lock);
	atomic_store(&conn->handed_out, false);
	stop_holding(inbox, conn);
	while ((node = kvi_list_take_first(&conn->events)) != NULL) {
		struct kvi_event *event = kvi_container_of(node, struct kvi_event, conn_node);
		kvi_list_remove(&event->node);
		kvi_free(event);
	}
	while ((node = kvi_list_take_first(&conn->held_events)) != NULL)
		kvi_free(kvi_container_of(node, struct kvi_event, node));
	clear_if_quiet(inbox);
	pthread_mutex_unlock(&inbox->lock);
}

/* The first of some kinds; NULL: there is none. Under lock. */
static struct kvi_event *find_first(const struct kvi_inbox *inbox, unsigned kinds)
{
	struct kvi_event *first = NULL;
	for (unsigned i = 0; i < KVI_EVENT_KINDS; i++) {
		struct kvi_list *node =
			(kinds & 1U << i) == 0 ? NULL : kvi_list_get_first(&inbox->events[i]);
		struct kvi_event *event =
			node == NULL ? NULL : kvi_container_of(node, struct kvi_event, node);
		if (event != NULL && (first == NULL || event->number < first->number))
			first = event;
	}
	return first;
}

/* The next event of some kinds, with a reference to its connection; NULL: there is none. */
static struct kvi_event *take_event(struct kvi_inbox *inbox, unsigned kinds)
{
	pthread_mutex_lock(&inbox->lock);
	struct kvi_event *taken = find_first(inbox, kinds);
	if (taken != NULL) {
		kvi_list_remove(&taken->node);
		kvi_list_remove(&taken->conn_node);
		kvi_ref_take(&taken->event.conn->ref);
		show_end(inbox, taken->event.conn);
	}
	clear_if_quiet(inbox);
	pthread_mutex_unlock(&inbox->lock);
	return taken;
}

enum kvt_err kvt_engine_get_event(struct kvt_engine *engine, struct kvt_event **event)
{
	return kvt_engine_get_event_of(engine, KVT_EVENTS_ALL, event);
}

enum kvt_err kvt_engine_get_event_of(struct kvt_engine *engine, unsigned kinds,
				     struct kvt_event **event)
{
	struct kvi_event *taken;
	if (event == NULL || (kinds & KVT_EVENTS_ALL) == 0)
		return KVT_E_INVALID;
	if (kvi_engine_is_forked(engine))
		return KVT_E_FORKED;
	while ((taken = take_event(&engine->inbox, kinds)) != NULL) {
		struct kvt_conn *conn = taken->event.conn;
		if (taken->event.kind != KVT_EVENT_CONN_ACCEPTED || engine->hand_out(conn)) {
			*event = &taken->event;
			return KVT_OK;
		}
		kvi_free(taken);
		kvi_ref_drop(&conn->ref);
	}
	return KVT_E_AGAIN;
}

/* The peer may send as much again. */
static void return_event_window(struct kvi_link *link, size_t len)
{
	struct kvi_worker *worker = link->shard->worker;
	kvi_worker_lock(worker);
	kvi_link_return_window(link, 0, len);
	if (!worker->stopped)
		kvi_worker_flush(worker, kvi_worker_get_flush(worker));
	kvi_worker_unlock(worker);
}

void kvt_event_free(struct kvt_event *public_event)
{
	if (public_event == NULL)
		return;
	struct kvi_event *event = kvi_container_of(public_event, struct kvi_event, event);
	struct kvt_conn *conn = public_event->conn;
	if (kvi_engine_is_forked(conn->engine))
		return;
	if (event->link != NULL)
		return_event_window(event->link, event->event.len);
	kvi_free(event);
	kvi_ref_drop(&conn->ref);
}

/* ---- waiting ---- */

int kvt_engine_get_fd(const struct kvt_engine *engine)
{
	/* A handle is never const in itself. */
	struct kvi_inbox *inbox = &((struct kvt_engine *)engine)->inbox;
	if (kvi_engine_is_forked(engine))
		return inbox->wake.fd;
	pthread_mutex_lock(&inbox->lock);
	atomic_store(&inbox->fd_is_out, true);
	if (atomic_load(&inbox->told))
		kvi_wake(&inbox->wake);
	pthread_mutex_unlock(&inbox->lock);
	return inbox->wake.fd;
}

enum kvt_err kvt_engine_watch_events(struct kvt_engine *engine, unsigned kinds)
{
	if (engine == NULL || (kinds & ~(unsigned)KVT_EVENTS_ALL) != 0)
		return KVT_E_INVALID;
	if (kvi_engine_is_forked(engine))
		return KVT_E_FORKED;
	struct kvi_inbox *inbox = &engine->inbox;
	pthread_mutex_lock(&inbox->lock);
	inbox->watched = kinds;
	if (is_quiet(inbox))
		stop_telling(inbox);
	else
		tell(inbox, NULL);
	pthread_mutex_unlock(&inbox->lock);
	return KVT_OK;
}

static bool is_told(const void *arg)
{
	const struct kvi_inbox *inbox = arg;
	return atomic_load(&inbox->told);
}

/* The worker to drive until until_ns; NULL: that is not for us now. */
static struct kvi_worker *begin_visit(struct kvt_engine *engine, int64_t until_ns)
{
	struct kvi_inbox *inbox = &engine->inbox;
	struct kvi_worker *worker = NULL;
	int64_t now = kvi_clock_now();
	if (now >= until_ns || atomic_load(&inbox->fd_is_out) ||
	    now < atomic_load(&inbox->no_visit_until_ns))
		return NULL;
	pthread_mutex_lock(&inbox->lock);
	if (inbox->visited == NULL)
		inbox->visited = worker = inbox->told_by;
	pthread_mutex_unlock(&inbox->lock);
	return worker;
}

/* Drive worker until there is something to take or until_ns. */
static bool visit(struct kvi_inbox *inbox, struct kvi_worker *worker, int64_t until_ns)
{
	/* Another thread's waits are quicker when it drives. */
	if (!kvi_worker_visit(worker, is_told, inbox, until_ns))
		atomic_store(&inbox->no_visit_until_ns, kvi_deadline_after(KVI_SLICE_MS * KVI_MS));
	pthread_mutex_lock(&inbox->lock);
	inbox->visited = NULL;
	pthread_mutex_unlock(&inbox->lock);
	return is_told(inbox);
}

/* Sleep until there is something to take or until_ns. */
static bool await_fd(struct kvi_inbox *inbox, int64_t until_ns)
{
	struct pollfd readable = { .fd = inbox->wake.fd, .events = POLLIN };
	int count = 1;
	atomic_fetch_add(&inbox->pollers, 1);
	if (!is_told(inbox))
		count = poll(&readable, 1, kvi_deadline_get_ms(until_ns, KVI_SLICE_MS));
	atomic_fetch_sub(&inbox->pollers, 1);
	return count > 0 || is_told(inbox);
}

static enum kvt_err await(struct kvt_engine *engine, bool may_visit, int64_t deadline_ns)
{
	struct kvi_inbox *inbox = &engine->inbox;
	for (;;) {
		int64_t until_ns = kvi_deadline_after(KVI_SLICE_MS * KVI_MS);
		if (until_ns > deadline_ns)
			until_ns = deadline_ns;
		struct kvi_worker *worker = may_visit ? begin_visit(engine, until_ns) : NULL;
		if (worker != NULL ? visit(inbox, worker, until_ns) : await_fd(inbox, until_ns))
			return KVT_OK;
		if (atomic_load(&engine->stopping))
			return KVT_E_CLOSED;
		if (kvi_clock_now() >= deadline_ns || kvi_engine_is_interrupted(engine))
			return KVT_E_AGAIN;
	}
}

enum kvt_err kvt_engine_wait(struct kvt_engine *engine, int64_t timeout_ns)
{
	int64_t wait_ns;
	if (engine == NULL || !kvi_timeout_read(timeout_ns, KVT_FOREVER, &wait_ns))
		return KVT_E_INVALID;
	if (kvi_engine_is_forked(engine))
		return KVT_E_FORKED;
	kvi_ref_take(&engine->ref); /* it may be closed meanwhile */
	_Atomic int64_t *left_ns = &engine->inbox.left_ns;
	bool may_visit = kvi_clock_now() - atomic_load(left_ns) <= AWAY_NS;
	enum kvt_err err = await(engine, may_visit, kvi_deadline_after(wait_ns));
	atomic_store(left_ns, kvi_clock_now());
	kvi_ref_drop(&engine->ref);
	return err;
}
