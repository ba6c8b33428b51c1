/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tagged.c - starting and ending sends and receives.
 */
#include "engine/tagged/tagged.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "engine/core/abi.h"
#include "engine/core/conn.h"
#include "engine/lane/registration.h"
#include "engine/progress/shard.h"
#include "engine/tagged/kv.h"
#include "engine/tagged/recv.h"
#include "engine/tagged/send.h"
#include "engine/tagged/start_window.h"

/* ---- as a kind of transfers ---- */

static void tagged_start(struct kvt_transfer *transfer)
{
	struct kvi_tagged *tagged = kvi_tagged_of(transfer);
	struct kvt_kv *kv = tagged->kv;
	struct kvt_error error;
	kv->in_flight++;
	tagged->queue = kv->queue;
	/* What the peer sent eagerly is here, whatever has become of the peer. */
	bool has_arrived = !kv->closing && !tagged->is_send &&
			   kvi_arrival_get_first(kv->queue) != NULL;
	if (kv->closing) {
		kvi_fail(&error, KVT_E_CLOSED, 0, "the KV is closed");
		kvi_transfer_complete(transfer, &error);
	} else if (kv->link->shard->severed && !has_arrived) {
		kvi_conn_check(transfer->conn, &error);
		kvi_transfer_complete(transfer, &error);
	} else if (kv->queue->peer_closed && !has_arrived) {
		kvi_fail(&error, KVT_E_PEER_CLOSED, 0, "the peer closed this KV");
		kvi_transfer_complete(transfer, &error);
	} else {
		kvi_transfer_set_first_deadline(transfer);
		if (tagged->is_send)
			kvi_send_start(tagged);
		else
			kvi_recv_start(tagged);
	}
}

static bool tagged_begin(struct kvi_waiter *waiter)
{
	return kvi_send_begin(kvi_container_of(waiter, struct kvi_tagged, transfer.waiter));
}

static void tagged_give_up(struct kvt_transfer *transfer)
{
	struct kvi_tagged *tagged = kvi_tagged_of(transfer);
	if (tagged->is_send)
		kvi_send_give_up(tagged);
	else
		kvi_recv_give_up(tagged);
}

static bool tagged_end_late(struct kvt_transfer *transfer)
{
	(void)transfer;
	return false;
}

static void tagged_format_timeout(const struct kvt_transfer *transfer, char *text, size_t len)
{
	const struct kvi_tagged *tagged =
		kvi_container_of(transfer, const struct kvi_tagged, transfer);
	double seconds = (double)(kvi_clock_now() - transfer->started_ns) / (double)KVI_SECOND;
	if (!tagged->is_send)
		snprintf(text, len, "nothing was received within %.1f s", seconds);
	else if (tagged->state == KVI_SEND_FINISHED || tagged->state == KVI_SEND_EAGER)
		snprintf(text, len,
			 "the peer did not confirm within %.1f s; whether it has the message is "
			 "unknown",
			 seconds);
	else if (tagged->state == KVI_SEND_WRITING)
		snprintf(text, len, "%zu bytes could not be written within %.1f s", tagged->len,
			 seconds);
	else
		snprintf(text, len, "the peer did not receive %zu bytes within %.1f s", tagged->len,
			 seconds);
}

static void count_success(struct kvi_tagged *tagged)
{
	struct kvt_transfer *transfer = &tagged->transfer;
	struct kvi_counters *counters = &tagged->kv->link->shard->counters;
	if (tagged->is_send) {
		kvi_count_alone(counters, KVI_COUNT_SENDS, 1);
		kvi_count_alone(counters, KVI_COUNT_BYTES_SENT, (int64_t)transfer->result_len);
		if (transfer->segments == 0)
			kvi_count_alone(counters, KVI_COUNT_EAGER_SENDS, 1);
		kvi_count_latency_alone(counters, transfer->done_ns - transfer->started_ns);
	} else {
		kvi_count_alone(counters, KVI_COUNT_RECEIVES, 1);
		kvi_count_alone(counters, KVI_COUNT_BYTES_RECEIVED, (int64_t)transfer->result_len);
	}
}

static void tagged_settle(struct kvt_transfer *transfer, bool failed)
{
	struct kvi_tagged *tagged = kvi_tagged_of(transfer);
	kvi_registration_close(tagged->registration);
	tagged->registration = NULL;
	if (tagged->arrival != NULL)
		kvi_arrival_free(tagged->queue, tagged->arrival);
	tagged->arrival = NULL;
	kvi_start_window_return(tagged);
	kvi_list_remove(&tagged->node);
	kvi_list_remove(&tagged->verifying.chore.node);
	kvi_table_remove(tagged->is_send ? &tagged->kv->link->shard->sends
					 : &tagged->kv->link->shard->matched,
			 &tagged->entry);
	if (tagged->state == KVI_SEND_EAGER && --tagged->kv->link->eager_sends == 0)
		kvi_link_touch(tagged->kv->link); /* who waits for the window waits in vain now */
	tagged->state = KVI_DONE;
	tagged->queue = NULL;
	tagged->kv->in_flight--;
	if (!failed && tagged->is_send)
		transfer->result_len = tagged->len;
	if (!failed)
		count_success(tagged);
}

static void free_tagged(struct kvt_transfer *transfer)
{
	struct kvi_tagged *tagged = kvi_tagged_of(transfer);
	kvi_ref_drop(&tagged->kv->ref);
	kvi_free(tagged->writing);
	kvi_free(tagged);
}

static const struct kvi_transfer_kind tagged_kind = {
	.start = tagged_start,
	.begin = tagged_begin,
	.give_up = tagged_give_up,
	.end_late = tagged_end_late,
	.format_timeout = tagged_format_timeout,
	.settle = tagged_settle,
	.holds_conn = true, /* by its KV */
	.free = free_tagged,
};

/* ---- starting ---- */

static enum kvt_err start_tagged(struct kvt_kv *kv, struct kvi_tagged *tagged, int64_t timeout_ns,
				 struct kvt_transfer **transfer, struct kvt_error *error)
{
	tagged->transfer.kind = &tagged_kind;
	tagged->transfer.count = 1;
	tagged->kv = kv;
	kvi_list_init(&tagged->node);
	kvi_list_init(&tagged->verifying.chore.node);
	kvi_ref_take(&kv->ref);
	enum kvt_err err =
		kvi_transfer_start(&tagged->transfer, kv->conn, kv->worker, timeout_ns, error);
	if (err != KVT_OK) {
		kvi_ref_drop(&kv->ref);
		kvi_free(tagged->transfer.meta);
		kvi_free(tagged);
		return err;
	}
	*transfer = &tagged->transfer;
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

	struct kvi_tagged *tagged = kvi_alloc(sizeof(*tagged));
	if (tagged == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for a send");
	tagged->is_send = true;
	tagged->base = (uint8_t *)request.base;
	tagged->len = request.len;
	tagged->transfer.reap = request.reap;
	if (request.meta_len > 0) {
		uint8_t *meta = kvi_alloc_data(request.meta_len);
		if (meta == NULL) {
			kvi_free(tagged);
			return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for a send");
		}
		tagged->transfer.meta = memcpy(meta, request.meta, request.meta_len);
		tagged->transfer.meta_len = request.meta_len;
	}
	return start_tagged(kv, tagged, request.timeout_ns, transfer, error);
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

	struct kvi_tagged *tagged = kvi_alloc(sizeof(*tagged));
	if (tagged == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for a receive");
	tagged->base = request.base;
	tagged->len = request.len;
	tagged->transfer.reap = request.reap;
	return start_tagged(kv, tagged, request.timeout_ns, transfer, error);
}
