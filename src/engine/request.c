/* SPDX-License-Identifier: Apache-2.0 */
/*
 * request.c - the calls that start paged transfers: checking what is asked, and choosing the way.
 */
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "engine/abi.h"
#include "engine/conn.h"
#include "engine/engine.h"
#include "engine/paged.h"
#include "engine/pool.h"
#include "engine/share.h"

/* A larger transfer, or one of several operations, is posted by the worker: the caller does not wait for it. */
enum { LARGE_LEN = 64 * 1024 };

/* Of blocks or spans: beyond it their memory cannot be counted. */
#define COUNT_MAX (SIZE_MAX / 256)

/* What the requests of all kinds have in common. */
struct options {
	const void *notify;
	size_t notify_len;
	int64_t timeout_ns;
	bool reap;
};

/* Options' timeout becomes a length of time. */
static enum kvt_err make(struct kvt_conn *conn, struct options *options,
			 struct kvi_paged **paged_out, struct kvt_error *error)
{
	enum kvt_err err = kvi_transfer_check_start(conn, KVI_SEND_NS, &options->timeout_ns, error);
	if (err == KVT_OK)
		err = kvi_conn_check(conn, error);
	if (err != KVT_OK)
		return err;
	if (options->notify_len > KVT_NOTIFY_LEN_MAX ||
	    (options->notify == NULL && options->notify_len > 0))
		return kvi_fail(error, KVT_E_INVALID, 0,
				"a notification of %zu bytes; at most %d are allowed",
				options->notify_len, KVT_NOTIFY_LEN_MAX);
	struct kvi_paged *paged = kvi_alloc(sizeof(*paged));
	if (paged == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for a transfer");
	paged->transfer.kind = &kvi_paged_kind;
	paged->transfer.started_ns = kvi_clock_now();
	paged->transfer.reap = options->reap;
	paged->transfer.waiter.needs_window = options->notify != NULL;
	paged->number = atomic_fetch_add(&conn->next_paged, 1);
	paged->home = &conn->links[paged->number % conn->lane_count];
	paged->spread.transfer = &paged->transfer;
	paged->spread.source = &kvi_pages_source;
	kvi_list_init(&paged->node);
	pthread_mutex_init(&paged->lock, NULL);
	if (options->notify != NULL) {
		paged->notify = kvi_alloc(options->notify_len + 1);
		if (paged->notify == NULL) {
			kvi_paged_free(&paged->transfer);
			return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for a transfer");
		}
		if (options->notify_len > 0)
			memcpy(paged->notify, options->notify, options->notify_len);
		paged->notify_len = options->notify_len;
	}
	*paged_out = paged;
	return KVT_OK;
}

static enum kvt_err submit(struct kvi_paged *paged, const struct options *options,
			   struct kvt_transfer **transfer, struct kvt_error *error)
{
	struct kvt_conn *conn = paged->home->conn;
	if (paged->remote != NULL && !kvi_remote_enter(paged->remote)) {
		kvi_paged_free(&paged->transfer);
		return kvi_fail(error, KVT_E_WITHDRAWN, 0, "the peer has withdrawn this memory");
	}
	enum kvt_err err = kvi_transfer_start(&paged->transfer, conn, paged->home->part->worker,
					      options->timeout_ns, error);
	if (err == KVT_OK) {
		*transfer = &paged->transfer;
		return KVT_OK;
	}
	if (paged->remote != NULL)
		kvi_remote_leave(paged->remote);
	kvi_paged_free(&paged->transfer);
	return err;
}

static enum kvt_err check_sides(enum kvt_direction direction, const struct kvt_pool *pool,
				const struct kvt_remote *remote, struct kvt_error *error)
{
	if (pool == NULL || remote == NULL)
		return kvi_fail(error, KVT_E_INVALID, 0, "no pool or no remote is given");
	if (pool->engine != remote->conn->engine)
		return kvi_fail(error, KVT_E_INVALID, 0,
				"the pool and the remote are of different engines");
	if (atomic_load(&pool->closing))
		return kvi_fail(error, KVT_E_CLOSED, 0, "the pool is closed");
	if (direction != KVT_WRITE && direction != KVT_READ)
		return kvi_fail(error, KVT_E_INVALID, 0, "direction %d is none", (int)direction);
	if (direction == KVT_READ && pool->read_only)
		return kvi_fail(error, KVT_E_INVALID, 0,
				"the pool is read-only memory and cannot be read into");
	unsigned needed = direction == KVT_READ ? KVT_ACCESS_READ : KVT_ACCESS_WRITE;
	if ((remote->access & needed) == 0)
		return kvi_fail(error, KVT_E_ACCESS, 0, "the peer exported this memory for %s only",
				needed == KVT_ACCESS_READ ? "writing" : "reading");
	return KVT_OK;
}

/* Everything about how it will travel, once the plan is there. */
static void choose_way(struct kvi_paged *paged)
{
	struct kvt_conn *conn = paged->home->conn;
	const struct kvi_caps *caps = kvi_engine_get_caps(conn->engine);
	bool writes = paged->direction == KVT_WRITE;
	paged->only_home = conn->lane_count == 1 || paged->plan.len < KVI_SPREAD_LEN;
	paged->segment_len = kvi_spread_get_segment_len(conn, paged->plan.len, paged->only_home);
	paged->transfer.is_large = paged->plan.len > LARGE_LEN ||
				   paged->plan.piece_count > caps->span_count;
	/* A single write with nothing to say behind it is confirmed by the provider alone, which is quicker
	 * than the peer's engine. */
	paged->in_order = writes && paged->only_home && caps->send_after_write &&
			  (paged->notify != NULL || paged->transfer.is_large);
	/* What one operation can carry is not worth a copy. */
	if (caps->send_after_write && paged->plan.piece_count > caps->span_count)
		paged->pack_below = caps->pack_below;
}

/* A transfer between two sides that fit each other, without its plan. */
static enum kvt_err prepare(enum kvt_direction direction, struct kvt_pool *pool,
			    struct kvt_remote *remote, struct options *options,
			    struct kvi_paged **paged_out, struct kvt_error *error)
{
	struct kvi_paged *paged;
	enum kvt_err err = check_sides(direction, pool, remote, error);
	if (err == KVT_OK)
		err = make(remote->conn, options, &paged, error);
	if (err != KVT_OK)
		return err;
	paged->direction = direction;
	paged->pool = pool;
	paged->remote = remote;
	kvi_ref_take(&pool->ref);
	kvi_ref_take(&remote->ref);
	*paged_out = paged;
	return KVT_OK;
}

/* plan_err: how laying out the plan went. */
static enum kvt_err finish(struct kvi_paged *paged, enum kvt_err plan_err,
			   const struct options *options, struct kvt_transfer **transfer,
			   struct kvt_error *error)
{
	if (plan_err != KVT_OK) {
		kvi_paged_free(&paged->transfer);
		return plan_err;
	}
	choose_way(paged);
	return submit(paged, options, transfer, error);
}

enum kvt_err kvt_blocks_start(const struct kvt_blocks_request *given,
			      struct kvt_transfer **transfer, struct kvt_error *error)
{
	struct kvt_blocks_request request;
	if (transfer == NULL)
		return kvi_fail(error, KVT_E_INVALID, 0, "no place for the transfer is given");
	enum kvt_err err = kvi_sized_read(&kvi_abi_blocks_request, &request, given, error);
	if (err != KVT_OK)
		return err;
	if (request.count > COUNT_MAX ||
	    (request.count > 0 && (request.local_idx == NULL || request.remote_idx == NULL)))
		return kvi_fail(error, KVT_E_INVALID, 0, "no valid blocks request is given");
	if (request.index_len != 4 && request.index_len != 8)
		return kvi_fail(error, KVT_E_INVALID, 0, "indices of %zu bytes; they have 4 or 8",
				request.index_len);
	struct options options = { request.notify, request.notify_len, request.timeout_ns,
				   request.reap };
	struct kvi_paged *paged;
	err = prepare(request.direction, request.pool, request.remote, &options, &paged, error);
	if (err != KVT_OK)
		return err;
	err = kvi_plan_init_blocks(&paged->plan, &request.pool->layout, &request.remote->layout,
				   &request, error);
	paged->transfer.count = request.count * paged->plan.extent_count;
	return finish(paged, err, &options, transfer, error);
}

enum kvt_err kvt_spans_start(const struct kvt_spans_request *given, struct kvt_transfer **transfer,
			     struct kvt_error *error)
{
	struct kvt_spans_request request;
	if (transfer == NULL)
		return kvi_fail(error, KVT_E_INVALID, 0, "no place for the transfer is given");
	enum kvt_err err = kvi_sized_read(&kvi_abi_spans_request, &request, given, error);
	if (err != KVT_OK)
		return err;
	if (request.count > COUNT_MAX ||
	    (request.count > 0 &&
	     (request.local_off == NULL || request.remote_off == NULL || request.lens == NULL)))
		return kvi_fail(error, KVT_E_INVALID, 0, "no valid spans request is given");
	struct options options = { request.notify, request.notify_len, request.timeout_ns,
				   request.reap };
	struct kvi_paged *paged;
	err = prepare(request.direction, request.pool, request.remote, &options, &paged, error);
	if (err != KVT_OK)
		return err;
	err = kvi_plan_init_spans(&paged->plan, &request.pool->layout, &request.remote->layout,
				  &request, error);
	paged->transfer.count = request.count;
	return finish(paged, err, &options, transfer, error);
}

enum kvt_err kvt_notify_start(const struct kvt_notify_request *given,
			      struct kvt_transfer **transfer, struct kvt_error *error)
{
	struct kvt_notify_request request;
	if (transfer == NULL)
		return kvi_fail(error, KVT_E_INVALID, 0, "no place for the transfer is given");
	enum kvt_err err = kvi_sized_read(&kvi_abi_notify_request, &request, given, error);
	if (err != KVT_OK)
		return err;
	if (request.conn == NULL)
		return kvi_fail(error, KVT_E_INVALID, 0, "no connection is given");
	struct options options = { request.notify != NULL ? request.notify : "", request.notify_len,
				   request.timeout_ns, request.reap };
	if (request.notify == NULL && request.notify_len > 0)
		return kvi_fail(error, KVT_E_INVALID, 0, "a notification without bytes");
	if (request.err != KVT_OK && kvt_err_get_scope(request.err) == KVT_SCOPE_NONE)
		return kvi_fail(error, KVT_E_INVALID, 0, "%d is no error code", (int)request.err);
	struct kvi_paged *paged;
	err = make(request.conn, &options, &paged, error);
	if (err != KVT_OK)
		return err;
	paged->notify_err = request.err;
	return submit(paged, &options, transfer, error);
}
