/* SPDX-License-Identifier: Apache-2.0 */
/*
 * paged.c - moving, confirming, and every way a paged transfer ends.
 *
 * Design notes. A transfer that writes in order (one lane, on which messages stay behind writes) is
 * confirmed by SYNC or NOTIFY right behind its last segment, or behind its completion where a segment may
 * fail by itself: NOTED is its success. So is one that is carried (carried.h), in front of these. Any other
 * succeeds with its last completion, and sends NOTIFY after that, if it has one. While segments are posted a
 * transfer never ends: the fabric uses its memory. Nor does one that is given up end while the lane still carries
 * what it wrote: nothing may land in the peer's memory after that.
 */
#include "engine/paged/paged.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "engine/core/conn.h"
#include "engine/core/engine.h"
#include "engine/paged/carried.h"
#include "engine/paged/read_request.h"
#include "engine/paged/pool.h"
#include "engine/paged/exports.h"
#include "engine/paged/staging.h"
#include "engine/transfer/inbox.h"

static struct kvi_paged *paged_of(struct kvt_transfer *transfer)
{
	return kvi_container_of(transfer, struct kvi_paged, transfer);
}

/* ---- confirming ---- */

/* NOTED answered a SYNC or NOTIFY of success: the transfer has succeeded, even if it is being given up. */
static void complete_if_done(struct kvi_paged *paged)
{
	if (!kvi_spread_is_active(&paged->spread) && paged->noted)
		kvi_transfer_complete(&paged->transfer, NULL);
}

/* Say SYNC or NOTIFY, now or when there is room. */
static void send_confirmation(struct kvi_paged *paged)
{
	paged->state = KVI_PAGED_CONFIRMING;
	kvi_link_await_room(paged->home, &paged->transfer.waiter);
}

/* A notification that no packet holds goes in parts, which take the window for all of it first. False: there
 * is no room for the next one. */
static bool send_parts(struct kvi_paged *paged)
{
	size_t room = kvi_link_get_room(paged->home);
	if (paged->notify_len <= room)
		return true;
	struct kvi_message message = {
		.type = KVI_MESSAGE_NOTIFY_BEGIN,
		.notify_begin = { .transfer = paged->number, .len = paged->notify_len },
	};
	if (!paged->begun && !kvi_link_try_send(paged->home, &message))
		return false;
	paged->begun = true;
	while (paged->parts_len < paged->notify_len) {
		size_t left = paged->notify_len - paged->parts_len;
		struct kvi_view part = { paged->notify + paged->parts_len,
					 left < room ? left : room };
		message = (struct kvi_message){
			.type = KVI_MESSAGE_NOTIFY_PART,
			.notify_part = { .transfer = paged->number, .data = part },
		};
		if (!kvi_link_try_send(paged->home, &message))
			return false;
		paged->parts_len += part.len;
	}
	return true;
}

/* Whether written bytes may still be on their way: the completions of an ordered write do not tell. */
static bool is_unsettled(const struct kvi_paged *paged)
{
	return paged->in_order && paged->transfer.segments > 0 && !paged->noted;
}

static bool paged_begin(struct kvi_waiter *waiter)
{
	struct kvt_transfer *transfer = kvi_container_of(waiter, struct kvt_transfer, waiter);
	struct kvi_paged *paged = paged_of(transfer);
	bool failed = kvi_transfer_is_given_up(transfer);
	/* It was given up between two parts: its failure comes behind all that it has written. */
	if (failed && kvi_spread_is_active(&paged->spread))
		return false;
	if (!failed && paged->carried && !kvi_carried_send(paged))
		return false;
	if (!send_parts(paged))
		return false;
	enum kvt_err code = failed ? transfer->error.code : paged->notify_err;
	struct kvi_message message = { .type = KVI_MESSAGE_SYNC, .sync.transfer = paged->number };
	if (paged->notify != NULL)
		message = (struct kvi_message){
			.type = code != KVT_OK ? KVI_MESSAGE_NOTIFY_FAILED : KVI_MESSAGE_NOTIFY,
			.notify = {
				.transfer = paged->number,
				.code = code,
				.data = { paged->notify, paged->begun ? 0 : paged->notify_len },
			},
		};
	if (!kvi_link_try_send(paged->home, &message))
		return false;
	kvi_list_remove(&transfer->waiter.node);
	paged->told = !failed;
	paged->said = true;
	paged->state = KVI_PAGED_CONFIRMED;
	if (!failed)
		return true;
	paged->settling = is_unsettled(paged);
	if (!paged->settling)
		kvi_transfer_complete_given_up(transfer);
	return true;
}

/* Given up, and no segment is posted any more. Wait until the peer has all that was written, then notify its
 * application, if the transfer has a notification. */
static void end_given_up(struct kvi_paged *paged)
{
	bool is_queued = paged->begun && !paged->said; /* it has kept its place */
	if (is_queued) {
		paged->state = KVI_PAGED_CONFIRMING;
		kvi_link_touch(paged->home);
	}
	if (is_unsettled(paged)) {
		struct kvi_message sync = { .type = KVI_MESSAGE_SYNC,
					    .sync.transfer = paged->number };
		if (!paged->told && !paged->settling)
			kvi_link_send(paged->home, &sync);
		paged->settling = !paged->told;
	} else if (paged->notify != NULL && !paged->said) {
		kvi_paged_leave(
			paged); /* no byte moves any more: a withdrawal need not wait for the window */
		if (!is_queued)
			send_confirmation(paged);
	} else {
		kvi_transfer_complete_given_up(&paged->transfer);
	}
}

enum kvt_err kvi_paged_on_noted(struct kvi_link *link, const struct kvi_message *message)
{
	struct kvi_entry *entry = kvi_table_find(&link->shard->paged, message->sync.transfer, 0);
	if (entry == NULL)
		return KVT_OK; /* it was given up meanwhile */
	struct kvi_paged *paged = kvi_container_of(entry, struct kvi_paged, entry);
	if ((!paged->told && !paged->settling) || paged->noted || paged->home != link)
		return KVT_E_PROTOCOL;
	paged->noted = true;
	if (paged->told)
		complete_if_done(paged);
	else
		end_given_up(paged);
	return KVT_OK;
}

enum kvt_err kvi_paged_on_sync(struct kvi_link *link, const struct kvi_message *message)
{
	struct kvi_message noted = { .type = KVI_MESSAGE_NOTED,
				     .sync.transfer = message->sync.transfer };
	kvi_link_send(link, &noted);
	return KVT_OK;
}

/* ---- the end of the segments ---- */

void kvi_paged_on_all_posted(struct kvi_spread *spread)
{
	struct kvi_paged *paged = paged_of(spread->transfer);
	if (paged->in_order && paged->state == KVI_PAGED_MOVING)
		send_confirmation(paged);
}

void kvi_paged_on_ended(struct kvi_spread *spread)
{
	struct kvi_paged *paged = paged_of(spread->transfer);
	bool failed = atomic_load(&spread->failed) || paged->home->shard->severed;
	paged->transfer.segments += kvi_spread_finish(spread);
	if (failed)
		return; /* the connection is being torn down, which ends the transfer */
	if (paged->state == KVI_PAGED_STOPPING && !paged->noted)
		end_given_up(paged);
	else if (atomic_load(&paged->dropped))
		kvi_transfer_give_up(&paged->transfer, KVT_E_WITHDRAWN,
				     "the peer has withdrawn this memory");
	else if (atomic_load(&paged->corrupt))
		kvi_transfer_give_up(&paged->transfer, KVT_E_CORRUPT,
				     kvt_err_get_text(KVT_E_CORRUPT));
	else if (paged->state != KVI_PAGED_MOVING)
		complete_if_done(paged);
	else if (paged->in_order || paged->notify != NULL)
		send_confirmation(paged);
	else
		kvi_transfer_complete(&paged->transfer, NULL);
}

/* ---- as a kind of transfers ---- */

static void check_pairs(const struct kvi_paged *paged, struct kvt_error *error)
{
	for (size_t i = 0; i < paged->pair_count && error->code == KVT_OK; i++)
		if (atomic_load(&paged->pairs[i].pool->closing))
			kvi_fail(error, KVT_E_CLOSED, 0, "the pool is closed");
		else if (atomic_load(&paged->pairs[i].remote->withdrawn))
			kvi_fail(error, KVT_E_WITHDRAWN, 0, "the peer has withdrawn this memory");
}

/* A transfer is in the list of each of its pools once. */
static void enter_pools(struct kvi_paged *paged)
{
	for (size_t i = 0; i < paged->pair_count; i++) {
		struct kvi_pair *pair = &paged->pairs[i];
		struct kvi_list *in_flight = &pair->pool->in_flight[paged->transfer.worker->index];
		struct kvi_list *last = in_flight->prev;
		if (last == in_flight ||
		    kvi_container_of(last, struct kvi_pair, node)->paged != paged)
			kvi_list_append(in_flight, &pair->node);
	}
}

static void paged_start(struct kvt_transfer *transfer)
{
	struct kvi_paged *paged = paged_of(transfer);
	struct kvi_shard *shard = paged->home->shard;
	struct kvt_error error = { .code = KVT_OK };
	if (shard->severed) {
		kvi_conn_check(transfer->conn, &error);
		kvi_transfer_complete(transfer, &error);
		return;
	}
	if (!kvi_table_add(&shard->paged, &paged->entry, paged->number, 0))
		kvi_fail(&error, KVT_E_NO_MEMORY, 0, "no memory for a transfer");
	enter_pools(paged);
	check_pairs(paged, &error);
	kvi_transfer_set_first_deadline(transfer);
	paged->state = KVI_PAGED_MOVING;
	/* The call has succeeded, so the peer's application is notified of a failure, too. */
	if (error.code != KVT_OK) {
		kvi_transfer_give_up(transfer, error.code, error.text);
	} else if (paged->len > 0 && !paged->carried) {
		if (kvi_spread_start(&paged->spread, paged->home, paged->only_home) != KVT_OK)
			kvi_transfer_give_up(transfer, KVT_E_NO_MEMORY, "no memory for a transfer");
	} else if (paged->notify != NULL || paged->carried) {
		send_confirmation(paged);
	} else {
		kvi_transfer_complete(transfer, NULL);
	}
}

static void paged_give_up(struct kvt_transfer *transfer)
{
	struct kvi_paged *paged = paged_of(transfer);
	if (!paged->begun) /* nothing else may come between its parts */
		kvi_list_remove(&transfer->waiter.node);
	kvi_transfer_await_quiet(transfer);
	if (kvi_spread_is_active(&paged->spread)) {
		paged->state = KVI_PAGED_STOPPING;
		kvi_spread_stop(&paged->spread);
	} else {
		end_given_up(paged);
	}
}

/* The notification of failure is not taken in time. Nothing is posted, so the transfer can end without it. */
static bool paged_end_late(struct kvt_transfer *transfer)
{
	struct kvi_paged *paged = paged_of(transfer);
	if (kvi_spread_is_active(&paged->spread) || is_unsettled(paged))
		return false;
	if (paged->begun && !paged->said) {
		struct kvi_message drop = {
			.type = KVI_MESSAGE_NOTIFY_DROP,
			.notify_drop.transfer = paged->number,
		};
		kvi_link_send(paged->home, &drop);
	}
	kvi_link_touch(paged->home); /* what waits behind it may find room */
	kvi_transfer_complete_given_up(transfer);
	return true;
}

static void paged_format_timeout(const struct kvt_transfer *transfer, char *text, size_t len)
{
	const struct kvi_paged *paged =
		kvi_container_of(transfer, const struct kvi_paged, transfer);
	double seconds = (double)(kvi_clock_now() - transfer->started_ns) / (double)KVI_SECOND;
	/* Neither has been said yet; of a write that is carried no byte has gone. */
	bool waits = paged->state == KVI_PAGED_CONFIRMING;
	if (waits && paged->notify != NULL)
		snprintf(text, len, "the peer has not taken its notifications within %.1f s",
			 seconds);
	else if (paged->state == KVI_PAGED_CONFIRMED || (waits && !paged->carried))
		snprintf(text, len,
			 "the peer did not confirm within %.1f s; whether it has the data is "
			 "unknown",
			 seconds);
	else
		snprintf(text, len, "%llu bytes could not be %s within %.1f s",
			 (unsigned long long)paged->len,
			 paged->direction == KVT_READ ? "read" : "written", seconds);
}

void kvi_paged_leave(struct kvi_paged *paged)
{
	while (paged->entered > 0)
		kvi_remote_leave(paged->pairs[--paged->entered].remote);
}

static void paged_settle(struct kvt_transfer *transfer, bool failed)
{
	struct kvi_paged *paged = paged_of(transfer);
	struct kvi_counters *counters = &paged->home->shard->counters;
	bool reads = paged->direction == KVT_READ;
	kvi_table_remove(&paged->home->shard->paged, &paged->entry);
	for (size_t i = 0; i < paged->pair_count; i++)
		kvi_list_remove(&paged->pairs[i].node);
	kvi_paged_leave(paged);
	if (failed)
		return;
	transfer->result_len = paged->len;
	if (paged->pair_count == 0)
		return;
	kvi_count_alone(counters, reads ? KVI_COUNT_READS : KVI_COUNT_WRITES, 1);
	kvi_count_alone(counters, reads ? KVI_COUNT_BYTES_READ : KVI_COUNT_BYTES_WRITTEN,
			(int64_t)paged->len);
}

void kvi_paged_free(struct kvt_transfer *transfer)
{
	struct kvi_paged *paged = paged_of(transfer);
	for (size_t i = 0; i < paged->pair_count; i++) {
		struct kvi_pair *pair = &paged->pairs[i];
		kvi_ref_drop(&pair->pool->ref);
		kvi_ref_drop(&pair->remote->ref);
		kvi_free(pair->views[0].extents);
		kvi_free(pair->views[1].extents);
		kvi_plan_free(&pair->plan);
	}
	if (paged->pairs != &paged->one)
		kvi_free(paged->pairs);
	pthread_mutex_destroy(&paged->lock);
	kvi_free(paged->notify);
	kvi_free(paged);
}

const struct kvi_transfer_kind kvi_paged_kind = {
	.start = paged_start,
	.begin = paged_begin,
	.give_up = paged_give_up,
	.end_late = paged_end_late,
	.format_timeout = paged_format_timeout,
	.settle = paged_settle,
	.free = kvi_paged_free,
};

/* ---- stopping many ---- */

static bool uses_remote(const struct kvi_paged *paged, const struct kvt_remote *remote)
{
	for (size_t i = 0; i < paged->pair_count; i++)
		if (paged->pairs[i].remote == remote)
			return true;
	return false;
}

void kvi_paged_stop_remote(struct kvi_shard *shard, const struct kvt_remote *remote)
{
	if (shard->severed)
		return;
	kvi_list_for_each (node, next_node, &shard->transfers) {
		struct kvt_transfer *transfer =
			kvi_container_of(node, struct kvt_transfer, shard_node);
		if (transfer->kind == &kvi_paged_kind && uses_remote(paged_of(transfer), remote))
			kvi_transfer_give_up(transfer, KVT_E_WITHDRAWN,
					     "the peer has withdrawn this memory");
	}
}

static bool is_pool_quiet(const void *in_flight)
{
	return kvi_list_is_empty(in_flight);
}

void kvi_paged_stop_pool(const struct kvt_pool *pool)
{
	struct kvt_engine *engine = pool->engine;
	for (unsigned i = 0; i < engine->worker_count; i++) {
		struct kvi_worker *worker = engine->workers[i];
		struct kvi_list *in_flight = &pool->in_flight[i];
		kvi_worker_lock(worker);
		kvi_list_for_each (node, next_node, in_flight) {
			struct kvi_paged *paged =
				kvi_container_of(node, struct kvi_pair, node)->paged;
			if (!paged->home->shard->severed)
				kvi_transfer_give_up(&paged->transfer, KVT_E_CLOSED,
						     "the pool was closed on this side");
		}
		kvi_worker_flush_unlock(worker);
		/* Bounded as a transfer's end is: the quiesce time, or the connection is
		 * severed. */
		kvi_worker_await(worker, is_pool_quiet, in_flight);
	}
}
