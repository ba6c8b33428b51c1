/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transfer.c - starting, waiting for, cancelling and freeing transfers, of whatever kind.
 *
 * Design notes. kvi_transfer_complete() is the only place that sets done, with one release store after
 * the outcome is written; whoever reads done with acquire may read the outcome without a lock. Two
 * references: the handle's, dropped by kvt_transfer_free() or kvt_transfer_detach(), and the engine's, from
 * start to completion.
 */
#include "engine/transfer/transfer.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "engine/core/abi.h"
#include "engine/core/conn.h"
#include "engine/core/engine.h"
#include "engine/progress/shard.h"
#include "engine/transfer/inbox.h"
#include "engine/transfer/motion.h"

/* ---- completion ---- */

/* It is in flight no more; under the worker's lock. */
static void count_end(struct kvt_transfer *transfer)
{
	bool has_failed = transfer->error.code != KVT_OK && !transfer->is_of_call;
	struct kvt_conn *conn = transfer->conn;
	if (conn == NULL) {
		kvi_count(&transfer->engine->counters, KVI_COUNT_TRANSFERS, -1);
		kvi_count(&transfer->engine->counters, KVI_COUNT_FAILURES, has_failed);
		return;
	}
	if (has_failed)
		kvi_count_alone(&conn->shards[transfer->worker->index].counters, KVI_COUNT_FAILURES,
				1);
	atomic_fetch_sub(&conn->transfer_count, 1);
}

void kvi_transfer_complete_given_up(struct kvt_transfer *transfer)
{
	bool failed = transfer->error.code != KVT_OK;
	kvi_list_remove(&transfer->shard_node);
	kvi_list_remove(&transfer->waiter.node);
	kvi_timers_clear(&transfer->worker->timers, &transfer->timer);
	transfer->done_ns = kvi_worker_get_time(transfer->worker);
	transfer->kind->settle(transfer, failed);
	count_end(transfer);
	if (transfer->reap)
		kvi_inbox_add_done(&transfer->engine->inbox, transfer);
	else
		atomic_store_explicit(&transfer->done, true, memory_order_release);
	kvi_worker_signal(transfer->worker);
	kvi_ref_drop_unlisted(&transfer->ref);
}

void kvi_transfer_complete(struct kvt_transfer *transfer, const struct kvt_error *error)
{
	if (error != NULL)
		kvi_error_keep(&transfer->error, error->code, error->provider_errno, error->text);
	else
		kvi_error_drop(&transfer->error);
	kvi_transfer_complete_given_up(transfer);
}

static void release_transfer(struct kvi_ref *ref)
{
	struct kvt_transfer *transfer = kvi_container_of(ref, struct kvt_transfer, ref);
	if (!transfer->kind->holds_conn)
		kvi_ref_drop(transfer->conn != NULL ? &transfer->conn->ref
						    : &transfer->engine->ref);
	kvi_error_drop(&transfer->error);
	kvi_free(transfer->data);
	kvi_free(transfer->meta);
	transfer->kind->free(transfer);
}

/* ---- deadlines and giving up ---- */

static void set_deadline(struct kvt_transfer *transfer, int64_t deadline_ns, int64_t now_ns)
{
	struct kvi_worker *worker = transfer->worker;
	int64_t earliest_ns = kvi_timers_get_due(&worker->timers);
	if (deadline_ns == KVI_NEVER)
		kvi_timers_clear(&worker->timers, &transfer->timer);
	else if (!kvi_timers_set(&worker->timers, &transfer->timer, deadline_ns))
		kvi_conn_fail(transfer->conn, KVT_E_NO_MEMORY, 0,
			      "no memory for the deadline of a transfer");
	/* Nobody sleeps for longer than that. */
	if (deadline_ns < earliest_ns &&
	    deadline_ns < kvi_deadline_from(now_ns, KVI_SLEEP_MAX_MS * KVI_MS))
		kvi_wake(&worker->wake); /* whoever sleeps, sleeps too long */
}

void kvi_transfer_set_deadline(struct kvt_transfer *transfer, int64_t deadline_ns)
{
	set_deadline(transfer, deadline_ns, kvi_clock_now());
}

void kvi_transfer_set_first_deadline(struct kvt_transfer *transfer)
{
	set_deadline(transfer, transfer->deadline_ns, transfer->started_ns);
}

void kvi_transfer_give_up(struct kvt_transfer *transfer, enum kvt_err code, const char *text)
{
	if (kvi_transfer_is_given_up(transfer))
		return;
	kvi_error_keep(&transfer->error, code, 0, text);
	transfer->gave_up_ns = kvi_clock_now();
	transfer->kind->give_up(transfer);
}

void kvi_transfer_await_quiet(struct kvt_transfer *transfer)
{
	kvi_transfer_set_deadline(transfer, kvi_motion_get_first_due());
}

static void check_quiet(struct kvt_transfer *transfer)
{
	int64_t waited_ns = kvi_clock_now() - transfer->gave_up_ns;
	if (waited_ns >= KVI_QUIESCE_NS && transfer->kind->end_late(transfer))
		return;
	int64_t due_ns = kvi_motion_get_due(transfer->conn, transfer->gave_up_ns);
	if (due_ns != 0)
		kvi_transfer_set_deadline(transfer, due_ns);
	else
		kvi_conn_fail(transfer->conn, KVT_E_PEER_LOST, 0,
			      "the peer did not confirm within %lld ms that a transfer has stopped",
			      (long long)(waited_ns / KVI_MS));
}

void kvi_transfer_on_due(struct kvi_timer *timer)
{
	struct kvt_transfer *transfer = kvi_container_of(timer, struct kvt_transfer, timer);
	if (kvi_transfer_is_given_up(transfer)) {
		check_quiet(transfer);
		return;
	}
	if (transfer->kind->on_due != NULL && transfer->kind->on_due(transfer))
		return;
	char text[KVT_TEXT_LEN];
	transfer->kind->format_timeout(transfer, text, sizeof(text));
	kvi_transfer_give_up(transfer, KVT_E_TIMEOUT, text);
}

/* ---- starting ---- */

static void start_on_worker(struct kvi_worker *worker, struct kvi_command *command)
{
	struct kvt_transfer *transfer = kvi_container_of(command, struct kvt_transfer, start);
	kvi_list_append(&transfer->conn->shards[worker->index].transfers, &transfer->shard_node);
	transfer->kind->start(transfer);
}

static void cancel_on_worker(struct kvi_worker *worker, struct kvi_command *command)
{
	(void)worker;
	struct kvt_transfer *transfer = kvi_container_of(command, struct kvt_transfer, cancel);
	bool done = atomic_load(&transfer->done);
	/* After the lanes are severed the tear-down ends it. */
	bool is_severed = transfer->conn != NULL &&
			  transfer->conn->shards[transfer->worker->index].severed;
	if (!done && !is_severed)
		kvi_transfer_give_up(transfer, KVT_E_CANCELLED, "cancelled by this side");
	kvi_ref_drop_unlisted(&transfer->ref);
}

enum kvt_err kvi_transfer_check_start(const struct kvt_conn *conn, int64_t default_ns,
				      int64_t *timeout_ns, struct kvt_error *error)
{
	if (kvi_engine_is_forked(conn->engine))
		return kvi_fail(error, KVT_E_FORKED, 0, KVI_FORKED_TEXT);
	if (!kvi_timeout_read(*timeout_ns, default_ns, timeout_ns))
		return kvi_fail(error, KVT_E_INVALID, 0,
				"timeout_ns is %lld; allowed are " KVI_TIMEOUT_RULE,
				(long long)*timeout_ns);
	return KVT_OK;
}

void kvi_transfer_init(struct kvt_transfer *transfer, struct kvt_engine *engine,
		       struct kvt_conn *conn, struct kvi_worker *worker, int64_t deadline_ns)
{
	if (transfer->started_ns == 0)
		transfer->started_ns = kvi_clock_now();
	transfer->engine = engine;
	transfer->conn = conn;
	transfer->worker = worker;
	transfer->deadline_ns = deadline_ns;
	transfer->cancel.run = cancel_on_worker;
	kvi_list_init(&transfer->shard_node);
	kvi_list_init(&transfer->waiter.node);
	kvi_list_init(&transfer->inbox_node);
	kvi_ref_init(&transfer->ref, 2, release_transfer);
	if (!transfer->kind->holds_conn)
		kvi_ref_take(conn != NULL ? &conn->ref : &engine->ref);
	if (conn == NULL)
		kvi_count(&engine->counters, KVI_COUNT_TRANSFERS, 1);
}

void kvi_transfer_abandon(struct kvt_transfer *transfer)
{
	if (transfer->conn == NULL)
		kvi_count(&transfer->engine->counters, KVI_COUNT_TRANSFERS, -1);
	kvi_ref_drop_unlisted(&transfer->ref);
	kvi_ref_drop_unlisted(&transfer->ref);
}

enum kvt_err kvi_transfer_start(struct kvt_transfer *transfer, struct kvt_conn *conn,
				struct kvi_worker *worker, int64_t timeout_ns,
				struct kvt_error *error)
{
	if (atomic_fetch_add(&conn->transfer_count, 1) >= KVI_TRANSFERS_MAX) {
		atomic_fetch_sub(&conn->transfer_count, 1);
		return kvi_fail(error, KVT_E_LIMIT, 0,
				"%d transfers are in flight on this connection", KVI_TRANSFERS_MAX);
	}
	if (transfer->started_ns == 0)
		transfer->started_ns = kvi_clock_now();
	kvi_transfer_init(transfer, conn->engine, conn, worker,
			  kvi_deadline_from(transfer->started_ns, timeout_ns));
	transfer->start.run = start_on_worker;
	transfer->waiter.begin = transfer->kind->begin;
	/* Its handle's reference is ours until we return, but for what another thread may reap, and free. */
	const bool holds = transfer->reap;
	if (holds)
		kvi_ref_take(&transfer->ref);
	if (transfer->is_large)
		kvi_worker_submit_lightly(worker, &transfer->start);
	else
		kvi_worker_submit(worker, &transfer->start);
	atomic_store_explicit(&transfer->submit_ns, kvi_clock_now() - transfer->started_ns,
			      memory_order_relaxed);
	if (holds)
		kvi_ref_drop_unlisted(&transfer->ref);
	return KVT_OK;
}

/* ---- the handle ---- */

static bool is_done(const void *arg)
{
	const struct kvt_transfer *transfer = arg;
	return atomic_load_explicit(&transfer->done, memory_order_acquire);
}

bool kvt_transfer_is_done(const struct kvt_transfer *transfer)
{
	return is_done(transfer);
}

enum kvt_err kvt_transfer_wait(struct kvt_transfer *transfer, int64_t timeout_ns)
{
	int64_t wait_ns;
	if (!kvi_timeout_read(timeout_ns, KVT_FOREVER, &wait_ns))
		return KVT_E_INVALID;
	if (is_done(transfer))
		return KVT_OK;
	if (kvi_engine_is_forked(transfer->engine))
		return KVT_E_FORKED;
	int64_t now_ns = kvi_clock_now();
	bool done = kvi_worker_wait_from(transfer->worker, is_done, transfer, now_ns,
					 kvi_deadline_from(now_ns, wait_ns));
	return done || is_done(transfer) ? KVT_OK : KVT_E_AGAIN;
}

void kvt_transfer_cancel(struct kvt_transfer *transfer)
{
	if (is_done(transfer) || kvi_engine_is_forked(transfer->engine) ||
	    atomic_exchange(&transfer->cancel_asked, true))
		return;
	kvi_ref_take(&transfer->ref);
	kvi_worker_submit(transfer->worker, &transfer->cancel);
}

enum kvt_err kvt_transfer_get_result(const struct kvt_transfer *transfer, struct kvt_result *result)
{
	if (!is_done(transfer))
		return kvi_sized_check(&kvi_abi_result, result) ? KVT_E_AGAIN : KVT_E_INVALID;
	int64_t transfer_ns = transfer->done_ns - transfer->started_ns;
	int64_t submit_ns = atomic_load_explicit(&transfer->submit_ns, memory_order_relaxed);
	const struct kvt_result found = {
		.err = transfer->error.code,
		.provider_errno = transfer->error.provider_errno,
		.len = transfer->result_len,
		.meta = transfer->meta,
		.meta_len = transfer->meta_len,
		.segments = transfer->segments,
		/* One that is done may still be in its start call, on another thread. */
		.submit_ns = submit_ns != 0 ? submit_ns : transfer_ns,
		.transfer_ns = transfer_ns,
		.text = kvi_error_get_text(&transfer->error),
		.count = transfer->count,
		.started_ns = transfer->started_ns,
	};
	return kvi_sized_write(&kvi_abi_result, &found, result);
}

void *kvt_transfer_take_data(struct kvt_transfer *transfer)
{
	if (!is_done(transfer) || transfer->error.code != KVT_OK)
		return NULL;
	void *data = transfer->data;
	transfer->data = NULL;
	return data;
}

/* The application has its handle no longer. */
static void drop_handle(struct kvt_transfer *transfer)
{
	if (transfer->reap)
		kvi_inbox_remove_done(&transfer->engine->inbox, transfer);
	kvi_ref_drop_unlisted(&transfer->ref);
}

void kvt_transfer_free(struct kvt_transfer *transfer)
{
	if (transfer == NULL)
		return;
	if (kvi_engine_is_forked(transfer->engine))
		return;
	if (!is_done(transfer)) {
		kvt_transfer_cancel(transfer);
		/* Bounded: a transfer that is given up ends within the quiesce time, or its
		 * connection is severed. The hook may end a wait early, so we wait again. */
		while (kvt_transfer_wait(transfer, KVT_FOREVER) != KVT_OK)
			;
	}
	drop_handle(transfer);
}

void kvt_transfer_detach(struct kvt_transfer *transfer)
{
	if (transfer != NULL && !kvi_engine_is_forked(transfer->engine))
		drop_handle(transfer);
}
