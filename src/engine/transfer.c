/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transfer.c - starting, waiting for, cancelling and freeing transfers.
 *
 * Design notes. kvi_transfer_complete() is the only place that sets done, with one release store after
 * the outcome is written; whoever reads done with acquire may read the outcome without a lock. Two
 * references: the handle's, dropped by kvt_transfer_free(), and the engine's, from start to completion.
 */
#include "engine/transfer.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "engine/conn.h"
#include "engine/engine.h"
#include "engine/kv.h"
#include "engine/recv.h"
#include "engine/send.h"
#include "engine/window.h"

/* ---- completion ---- */

static void count_outcome(struct kvt_transfer *transfer, bool succeeded)
{
	struct kvi_counters *counters = &transfer->conn->counters;
	kvi_count(counters, KVI_COUNT_TRANSFERS, -1);
	if (!succeeded) {
		kvi_count(counters, KVI_COUNT_FAILURES, 1);
	} else if (transfer->is_send) {
		kvi_count(counters, KVI_COUNT_SENDS, 1);
		kvi_count(counters, KVI_COUNT_BYTES_SENT, (int64_t)transfer->result_len);
		if (transfer->segments == 0)
			kvi_count(counters, KVI_COUNT_EAGER_SENDS, 1);
		kvi_count_latency(counters, transfer->done_ns - transfer->started_ns);
	} else {
		kvi_count(counters, KVI_COUNT_RECEIVES, 1);
		kvi_count(counters, KVI_COUNT_BYTES_RECEIVED, (int64_t)transfer->result_len);
	}
}

void kvi_transfer_complete(struct kvt_transfer *transfer, const struct kvt_error *error)
{
	struct kvi_worker *worker = transfer->worker;
	kvi_window_close(transfer->window);
	transfer->window = NULL;
	kvi_arrival_free(transfer->arrival);
	transfer->arrival = NULL;
	kvi_list_remove(&transfer->node);
	kvi_list_remove(&transfer->link_node);
	kvi_list_remove(&transfer->timed_node);
	transfer->state = KVI_DONE;
	transfer->channel = NULL;
	if (error != NULL)
		transfer->error = *error;
	else if (transfer->is_send)
		transfer->result_len = transfer->len;
	transfer->done_ns = kvi_clock_now();
	count_outcome(transfer, error == NULL);
	transfer->kv->in_flight--;
	atomic_fetch_sub(&transfer->conn->transfer_count, 1);
	atomic_store_explicit(&transfer->done, true, memory_order_release);
	kvi_worker_signal(worker);
	kvi_transfer_drop_ref(transfer);
}

void kvi_transfer_drop_ref(struct kvt_transfer *transfer)
{
	if (atomic_fetch_sub(&transfer->refs, 1) != 1)
		return;
	kvi_kv_drop_ref(transfer->kv);
	kvi_conn_drop_ref(transfer->conn);
	kvi_free(transfer->data);
	kvi_free(transfer->meta);
	kvi_free(transfer);
}

/* ---- deadlines and giving up ---- */

void kvi_transfer_set_deadline(struct kvt_transfer *transfer, int64_t deadline_ns)
{
	struct kvi_worker *worker = transfer->worker;
	kvi_list_remove(&transfer->timed_node);
	transfer->deadline_ns = deadline_ns;
	if (deadline_ns == KVI_NEVER)
		return;
	kvi_list_append(&worker->timed, &transfer->timed_node);
	if (deadline_ns >= worker->next_deadline_ns)
		return;
	worker->next_deadline_ns = deadline_ns;
	kvi_wake(&worker->wake); /* whoever sleeps, sleeps too long */
}

void kvi_transfer_give_up(struct kvt_transfer *transfer, enum kvt_err code, const char *text)
{
	if (transfer->reason.code != KVT_OK)
		return;
	kvi_fail(&transfer->reason, code, 0, "%s", text);
	if (transfer->is_send)
		kvi_send_give_up(transfer);
	else
		kvi_recv_give_up(transfer);
}

void kvi_transfer_on_deadline(struct kvt_transfer *transfer)
{
	double seconds = (double)(kvi_clock_now() - transfer->started_ns) / (double)KVI_SECOND;
	if (transfer->reason.code != KVT_OK) {
		kvi_conn_fail(transfer->conn, KVT_E_PEER_LOST, 0,
			      "the peer did not confirm within %lld ms that a transfer has stopped",
			      (long long)(KVI_QUIESCE_NS / KVI_MS));
		return;
	}
	char text[KVT_TEXT_LEN];
	if (!transfer->is_send)
		snprintf(text, sizeof(text), "nothing was received within %.1f s", seconds);
	else if (transfer->state == KVI_SEND_FINISHED || transfer->state == KVI_SEND_EAGER)
		snprintf(text, sizeof(text),
			 "the peer did not confirm within %.1f s; whether it has the message is "
			 "unknown",
			 seconds);
	else if (transfer->state == KVI_SEND_WRITING)
		snprintf(text, sizeof(text), "%zu bytes could not be written within %.1f s",
			 transfer->len, seconds);
	else
		snprintf(text, sizeof(text), "the peer did not receive %zu bytes within %.1f s",
			 transfer->len, seconds);
	kvi_transfer_give_up(transfer, KVT_E_TIMEOUT, text);
}

/* ---- starting ---- */

static void start_on_worker(struct kvi_worker *worker, struct kvi_command *command)
{
	(void)worker;
	struct kvt_transfer *transfer = kvi_container_of(command, struct kvt_transfer, start);
	struct kvt_kv *kv = transfer->kv;
	struct kvt_error error;
	kv->in_flight++;
	transfer->channel = kv->channel;
	/* What the peer sent eagerly is here, whatever has become of the peer. */
	bool has_arrived = !kv->closing && !transfer->is_send &&
			   !kvi_list_is_empty(&kv->channel->arrivals);
	if (kv->closing) {
		kvi_fail(&error, KVT_E_CLOSED, 0, "the KV is closed");
		kvi_transfer_complete(transfer, &error);
	} else if (kv->link->part->cut && !has_arrived) {
		kvi_conn_check(transfer->conn, &error);
		kvi_transfer_complete(transfer, &error);
	} else if (kv->channel->peer_gone && !has_arrived) {
		kvi_fail(&error, KVT_E_PEER_CLOSED, 0, "the peer closed this KV");
		kvi_transfer_complete(transfer, &error);
	} else {
		kvi_transfer_set_deadline(transfer, transfer->deadline_ns);
		if (transfer->is_send)
			kvi_send_start(transfer);
		else
			kvi_recv_start(transfer);
	}
}

static void cancel_on_worker(struct kvi_worker *worker, struct kvi_command *command)
{
	(void)worker;
	struct kvt_transfer *transfer = kvi_container_of(command, struct kvt_transfer, cancel);
	if (transfer->state != KVI_DONE && !transfer->channel->link->part->cut)
		kvi_transfer_give_up(transfer, KVT_E_CANCELLED, "cancelled by this side");
	kvi_transfer_drop_ref(transfer);
}

static enum kvt_err start(struct kvt_kv *kv, struct kvt_transfer *transfer, int64_t timeout_ns,
			  struct kvt_transfer **transfer_out, struct kvt_error *error)
{
	struct kvt_conn *conn = kv->conn;
	if (atomic_fetch_add(&conn->transfer_count, 1) >= KVI_TRANSFERS_MAX) {
		atomic_fetch_sub(&conn->transfer_count, 1);
		return kvi_fail(error, KVT_E_LIMIT, 0,
				"%d transfers are in flight on this connection", KVI_TRANSFERS_MAX);
	}
	int64_t started_ns = kvi_clock_now();
	transfer->kv = kv;
	transfer->conn = conn;
	transfer->worker = kv->worker;
	transfer->started_ns = started_ns;
	transfer->deadline_ns = kvi_deadline_after(timeout_ns);
	transfer->start.run = start_on_worker;
	transfer->cancel.run = cancel_on_worker;
	kvi_list_init(&transfer->node);
	kvi_list_init(&transfer->link_node);
	kvi_list_init(&transfer->timed_node);
	atomic_store(&transfer->refs, 3); /* the handle's, the engine's, and this function's */
	kvi_kv_take_ref(kv);
	kvi_conn_take_ref(conn);
	kvi_count(&conn->counters, KVI_COUNT_TRANSFERS, 1);
	kvi_worker_submit(kv->worker, &transfer->start);
	transfer->submit_ns = kvi_clock_now() - started_ns;
	*transfer_out = transfer;
	kvi_transfer_drop_ref(transfer);
	return KVT_OK;
}

static enum kvt_err check_start(struct kvt_kv *kv, const void *request, int64_t timeout_ns,
				struct kvt_error *error)
{
	if (kv == NULL || request == NULL)
		return kvi_fail(error, KVT_E_INVALID, 0, "no KV or no request is given");
	if (kvi_engine_is_forked(kv->conn->engine))
		return kvi_fail(error, KVT_E_FORKED, 0,
				"this engine belongs to the parent process; open one after fork");
	if (timeout_ns < 0)
		return kvi_fail(error, KVT_E_INVALID, 0, "timeout_ns is negative");
	return KVT_OK;
}

enum kvt_err kvt_send_start(struct kvt_kv *kv, const struct kvt_send_request *request,
			    struct kvt_transfer **transfer_out, struct kvt_error *error)
{
	enum kvt_err err =
		check_start(kv, request, request == NULL ? 0 : request->timeout_ns, error);
	if (err == KVT_OK)
		err = kvi_conn_check(kv->conn, error);
	if (err != KVT_OK)
		return err;
	if (request->size != sizeof(*request) || transfer_out == NULL ||
	    (request->base == NULL && request->len > 0) || request->len > PTRDIFF_MAX ||
	    (request->meta == NULL && request->meta_len > 0))
		return kvi_fail(error, KVT_E_INVALID, 0,
				"a field of the send request is not valid");
	if (request->meta_len > KVT_META_LEN_MAX)
		return kvi_fail(error, KVT_E_INVALID, 0,
				"meta has %zu bytes; at most %d are allowed", request->meta_len,
				KVT_META_LEN_MAX);

	struct kvt_transfer *transfer = kvi_alloc(sizeof(*transfer));
	if (transfer == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for a send");
	transfer->is_send = true;
	transfer->base = (uint8_t *)request->base;
	transfer->len = request->len;
	if (request->meta_len > 0) {
		transfer->meta = kvi_alloc_data(request->meta_len);
		if (transfer->meta == NULL) {
			kvi_free(transfer);
			return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for a send");
		}
		memcpy(transfer->meta, request->meta, request->meta_len);
		transfer->meta_len = request->meta_len;
	}
	err = start(kv, transfer, request->timeout_ns != 0 ? request->timeout_ns : KVI_SEND_NS,
		    transfer_out, error);
	if (err != KVT_OK) {
		kvi_free(transfer->meta);
		kvi_free(transfer);
	}
	return err;
}

enum kvt_err kvt_recv_start(struct kvt_kv *kv, const struct kvt_recv_request *request,
			    struct kvt_transfer **transfer_out, struct kvt_error *error)
{
	enum kvt_err err =
		check_start(kv, request, request == NULL ? 0 : request->timeout_ns, error);
	if (err != KVT_OK)
		return err;
	if (request->size != sizeof(*request) || transfer_out == NULL ||
	    (request->base != NULL && request->len > PTRDIFF_MAX))
		return kvi_fail(error, KVT_E_INVALID, 0,
				"a field of the receive request is not valid");
	if (kv->read_only && request->base != NULL && (uint8_t *)request->base >= kv->base &&
	    (uint8_t *)request->base < kv->base + kv->len)
		return kvi_fail(error, KVT_E_INVALID, 0, "the KV is read-only memory");

	struct kvt_transfer *transfer = kvi_alloc(sizeof(*transfer));
	if (transfer == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for a receive");
	transfer->base = request->base;
	transfer->len = request->len;
	err = start(kv, transfer, request->timeout_ns != 0 ? request->timeout_ns : KVT_FOREVER,
		    transfer_out, error);
	if (err != KVT_OK)
		kvi_free(transfer);
	return err;
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
	if (is_done(transfer))
		return KVT_OK;
	if (kvi_engine_is_forked(transfer->conn->engine))
		return KVT_E_FORKED;
	bool done = kvi_worker_wait(transfer->worker, is_done, transfer,
				    kvi_deadline_after(timeout_ns));
	return done || is_done(transfer) ? KVT_OK : KVT_E_AGAIN;
}

void kvt_transfer_cancel(struct kvt_transfer *transfer)
{
	if (is_done(transfer) || kvi_engine_is_forked(transfer->conn->engine) ||
	    atomic_exchange(&transfer->cancel_asked, true))
		return;
	atomic_fetch_add(&transfer->refs, 1);
	kvi_worker_submit(transfer->worker, &transfer->cancel);
}

enum kvt_err kvt_transfer_get_result(const struct kvt_transfer *transfer, struct kvt_result *result)
{
	if (result == NULL || result->size != sizeof(*result))
		return KVT_E_INVALID;
	if (!is_done(transfer))
		return KVT_E_AGAIN;
	const struct kvt_error *error = &transfer->error;
	result->err = error->code;
	result->provider_errno = error->provider_errno;
	result->len = transfer->result_len;
	result->meta = transfer->meta;
	result->meta_len = transfer->meta_len;
	result->segments = transfer->segments;
	result->submit_ns = transfer->submit_ns;
	result->transfer_ns = transfer->done_ns - transfer->started_ns;
	memcpy(result->text, error->text, sizeof(result->text));
	return KVT_OK;
}

void *kvt_transfer_take_data(struct kvt_transfer *transfer)
{
	if (!is_done(transfer) || transfer->error.code != KVT_OK)
		return NULL;
	void *data = transfer->data;
	transfer->data = NULL;
	return data;
}

void kvt_transfer_free(struct kvt_transfer *transfer)
{
	if (transfer == NULL)
		return;
	if (kvi_engine_is_forked(transfer->conn->engine))
		return;
	if (!is_done(transfer)) {
		kvt_transfer_cancel(transfer);
		/* Bounded: a transfer that is given up ends within the quiesce time, or its connection
		 * is cut. The hook may end a wait early, so we wait again. */
		while (kvt_transfer_wait(transfer, KVT_FOREVER) != KVT_OK)
			;
	}
	kvi_transfer_drop_ref(transfer);
}
