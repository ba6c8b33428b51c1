/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exchange.c - starting and ending sends and receives.
 */
#include "engine/tagged/exchange.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "engine/core/abi.h"
#include "engine/core/conn.h"
#include "engine/lane/window.h"
#include "engine/progress/part.h"
#include "engine/tagged/kv.h"
#include "engine/tagged/recv.h"
#include "engine/tagged/send.h"

/* ---- as a kind of transfers ---- */

static void start(struct kvt_transfer *transfer)
{
	struct kvi_exchange *exchange = kvi_exchange_of(transfer);
	struct kvt_kv *kv = exchange->kv;
	struct kvt_error error;
	kv->in_flight++;
	exchange->channel = kv->channel;
	/* What the peer sent eagerly is here, whatever has become of the peer. */
	bool has_arrived = !kv->closing && !exchange->is_send &&
			   kvi_arrival_get_first(kv->channel) != NULL;
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
		if (exchange->is_send)
			kvi_send_start(exchange);
		else
			kvi_recv_start(exchange);
	}
}

static bool begin(struct kvi_waiter *waiter)
{
	return kvi_send_begin(kvi_container_of(waiter, struct kvi_exchange, transfer.waiter));
}

static void give_up(struct kvt_transfer *transfer)
{
	struct kvi_exchange *exchange = kvi_exchange_of(transfer);
	if (exchange->is_send)
		kvi_send_give_up(exchange);
	else
		kvi_recv_give_up(exchange);
}

static bool end_late(struct kvt_transfer *transfer)
{
	(void)transfer;
	return false;
}

static void tell_timeout(const struct kvt_transfer *transfer, char *text, size_t len)
{
	const struct kvi_exchange *exchange =
		kvi_container_of(transfer, const struct kvi_exchange, transfer);
	double seconds = (double)(kvi_clock_now() - transfer->started_ns) / (double)KVI_SECOND;
	if (!exchange->is_send)
		snprintf(text, len, "nothing was received within %.1f s", seconds);
	else if (exchange->state == KVI_SEND_FINISHED || exchange->state == KVI_SEND_EAGER)
		snprintf(text, len,
			 "the peer did not confirm within %.1f s; whether it has the message is "
			 "unknown",
			 seconds);
	else if (exchange->state == KVI_SEND_WRITING)
		snprintf(text, len, "%zu bytes could not be written within %.1f s", exchange->len,
			 seconds);
	else
		snprintf(text, len, "the peer did not receive %zu bytes within %.1f s",
			 exchange->len, seconds);
}

static void count_success(struct kvi_exchange *exchange)
{
	struct kvt_transfer *transfer = &exchange->transfer;
	struct kvi_counters *counters = &transfer->conn->counters;
	if (exchange->is_send) {
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

static void settle(struct kvt_transfer *transfer, const struct kvt_error *error)
{
	struct kvi_exchange *exchange = kvi_exchange_of(transfer);
	kvi_window_close(exchange->window);
	exchange->window = NULL;
	kvi_arrival_free(exchange->arrival);
	exchange->arrival = NULL;
	kvi_list_remove(&exchange->node);
	kvi_table_remove(exchange->is_send ? &exchange->kv->link->part->sends
					   : &exchange->kv->link->part->granted,
			 &exchange->entry);
	if (exchange->state == KVI_SEND_EAGER && --exchange->kv->link->eager_sends == 0)
		kvi_link_touch(exchange->kv->link); /* who waits for the window waits in vain now */
	exchange->state = KVI_DONE;
	exchange->channel = NULL;
	exchange->kv->in_flight--;
	if (error == NULL && exchange->is_send)
		transfer->result_len = exchange->len;
	if (error == NULL)
		count_success(exchange);
}

static void free_exchange(struct kvt_transfer *transfer)
{
	struct kvi_exchange *exchange = kvi_exchange_of(transfer);
	kvi_ref_drop(&exchange->kv->ref);
	kvi_free(exchange);
}

static const struct kvi_transfer_kind exchange_kind = {
	.start = start,
	.begin = begin,
	.give_up = give_up,
	.end_late = end_late,
	.tell_timeout = tell_timeout,
	.settle = settle,
	.free = free_exchange,
};

/* ---- starting ---- */

static enum kvt_err start_exchange(struct kvt_kv *kv, struct kvi_exchange *exchange,
				   int64_t timeout_ns, struct kvt_transfer **transfer,
				   struct kvt_error *error)
{
	exchange->transfer.kind = &exchange_kind;
	exchange->transfer.count = 1;
	exchange->kv = kv;
	kvi_list_init(&exchange->node);
	kvi_ref_take(&kv->ref);
	enum kvt_err err =
		kvi_transfer_start(&exchange->transfer, kv->conn, kv->worker, timeout_ns, error);
	if (err != KVT_OK) {
		kvi_ref_drop(&kv->ref);
		kvi_free(exchange->transfer.meta);
		kvi_free(exchange);
		return err;
	}
	*transfer = &exchange->transfer;
	return KVT_OK;
}

enum kvt_err kvt_send_start(struct kvt_kv *kv, const struct kvt_send_request *given,
			    struct kvt_transfer **transfer, struct kvt_error *error)
{
	struct kvt_send_request request;
	if (kv == NULL || transfer == NULL)
		return kvi_fail(error, KVT_E_INVALID, 0, "no KV or no place is given");
	enum kvt_err err = kvi_sized_read(&kvi_abi_send_request, &request, given, error);
	if (err == KVT_OK)
		err = kvi_transfer_check_start(kv->conn, KVI_SEND_NS, &request.timeout_ns, error);
	if (err == KVT_OK)
		err = kvi_conn_check(kv->conn, error);
	if (err != KVT_OK)
		return err;
	if ((request.base == NULL && request.len > 0) || request.len > PTRDIFF_MAX ||
	    (request.meta == NULL && request.meta_len > 0))
		return kvi_fail(error, KVT_E_INVALID, 0,
				"a field of the send request is not valid");
	if (request.meta_len > KVT_META_LEN_MAX)
		return kvi_fail(error, KVT_E_INVALID, 0,
				"meta has %zu bytes; at most %d are allowed", request.meta_len,
				KVT_META_LEN_MAX);

	struct kvi_exchange *exchange = kvi_alloc(sizeof(*exchange));
	if (exchange == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for a send");
	exchange->is_send = true;
	exchange->base = (uint8_t *)request.base;
	exchange->len = request.len;
	exchange->transfer.reap = request.reap;
	if (request.meta_len > 0) {
		uint8_t *meta = kvi_alloc_data(request.meta_len);
		if (meta == NULL) {
			kvi_free(exchange);
			return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for a send");
		}
		exchange->transfer.meta = memcpy(meta, request.meta, request.meta_len);
		exchange->transfer.meta_len = request.meta_len;
	}
	return start_exchange(kv, exchange, request.timeout_ns, transfer, error);
}

enum kvt_err kvt_recv_start(struct kvt_kv *kv, const struct kvt_recv_request *given,
			    struct kvt_transfer **transfer, struct kvt_error *error)
{
	struct kvt_recv_request request;
	if (kv == NULL || transfer == NULL)
		return kvi_fail(error, KVT_E_INVALID, 0, "no KV or no place is given");
	enum kvt_err err = kvi_sized_read(&kvi_abi_recv_request, &request, given, error);
	if (err == KVT_OK)
		err = kvi_transfer_check_start(kv->conn, KVT_FOREVER, &request.timeout_ns, error);
	if (err != KVT_OK)
		return err;
	if (request.base != NULL && request.len > PTRDIFF_MAX)
		return kvi_fail(error, KVT_E_INVALID, 0,
				"a field of the receive request is not valid");
	if (kv->read_only && request.base != NULL && (uint8_t *)request.base >= kv->base &&
	    (uint8_t *)request.base < kv->base + kv->len)
		return kvi_fail(error, KVT_E_INVALID, 0, "the KV is read-only memory");

	struct kvi_exchange *exchange = kvi_alloc(sizeof(*exchange));
	if (exchange == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for a receive");
	exchange->base = request.base;
	exchange->len = request.len;
	exchange->transfer.reap = request.reap;
	return start_exchange(kv, exchange, request.timeout_ns, transfer, error);
}
