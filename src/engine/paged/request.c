/* SPDX-License-Identifier: Apache-2.0 */
/*
 * request.c - the calls that start paged transfers: checking what is asked, and choosing the way.
 */
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "engine/core/abi.h"
#include "engine/core/conn.h"
#include "engine/core/engine.h"
#include "engine/paged/carried.h"
#include "engine/paged/paged.h"
#include "engine/paged/pool.h"
#include "engine/paged/exports.h"

enum {
	/* A larger transfer, or one of several operations, is posted by the worker: the caller does not wait for it. */
	LARGE_LEN = 64 * 1024,
	/* Of a piece of a block that is packed, at the most: a staging buffer has room for several. */
	PACKED_LEN = 64 * 1024,
};

/* A lane's turn, in bytes, and what a transfer counts for at the least. */
enum { TURN_LEN = 64 * 1024, TURN_LEN_LEAST = 64 };

/* Of blocks or spans: beyond it their memory cannot be counted. */
#define COUNT_MAX (SIZE_MAX / 256)

/* What the requests of all kinds have in common. */
struct options {
	const void *notify;
	size_t notify_len;
	int64_t timeout_ns;
	bool reap;
};

/* Read a request of any kind, as old as it may be. */
static enum kvt_err read_request(const struct kvi_sized *kind, void *request, const void *given,
				 struct kvt_transfer **transfer, struct kvt_error *error)
{
	if (transfer == NULL)
		return kvi_fail(error, KVT_E_INVALID, 0, "no place for the transfer is given");
	return kvi_sized_read(kind, request, given, error);
}

static bool are_spans(const void *local_off, const void *remote_off, const void *lens, size_t count)
{
	return count <= COUNT_MAX &&
	       (count == 0 || (local_off != NULL && remote_off != NULL && lens != NULL));
}

/*
 * Lanes take turns, of so many bytes: small transfers that follow each other share a lane, where their messages share
 * packets, and threads of one lane only are awake for them on both sides. One who waits for each transfer before he
 * starts the next stays on a lane.
 */
static struct kvi_link *choose_home(struct kvt_conn *conn, size_t len)
{
	uint64_t share = len < TURN_LEN - TURN_LEN_LEAST ? len + TURN_LEN_LEAST : TURN_LEN;
	bool is_alone = atomic_load(&conn->transfer_count) == 0;
	uint64_t sum = is_alone ? atomic_load(&conn->paged_turns)
				: atomic_fetch_add(&conn->paged_turns, share) + share;
	return &conn->links[sum / TURN_LEN % conn->lane_count];
}

/* Options' timeout becomes a length of time. */
static enum kvt_err make_transfer(struct kvt_conn *conn, struct options *options,
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
	paged->home = conn->links; /* of its connection; see choose_home() */
	paged->spread.transfer = &paged->transfer;
	paged->spread.source = &kvi_pages_source;
	paged->pairs = &paged->one;
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
	enum kvt_err err = KVT_OK;
	paged->home = choose_home(paged->home->conn, paged->len + paged->notify_len);
	while (paged->entered < paged->pair_count && err == KVT_OK)
		if (kvi_remote_enter(paged->pairs[paged->entered].remote))
			paged->entered++;
		else
			err = kvi_fail(error, KVT_E_WITHDRAWN, 0,
				       "the peer has withdrawn this memory");
	if (err == KVT_OK)
		err = kvi_transfer_start(&paged->transfer, paged->home->conn,
					 paged->home->shard->worker, options->timeout_ns, error);
	if (err == KVT_OK) {
		*transfer = &paged->transfer;
		return KVT_OK;
	}
	kvi_paged_leave(paged);
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

/* On both sides: where one is the application's memory, what is not packed is copied by the kernel. */
static bool is_all_shared(const struct kvi_paged *paged)
{
	for (size_t i = 0; i < paged->pair_count; i++)
		if (!atomic_load(&paged->pairs[i].pool->is_shared) ||
		    !paged->pairs[i].remote->is_shared)
			return false;
	return true;
}

/* Everything about how it will travel, once the plan is there. */
static void choose_way(struct kvi_paged *paged)
{
	struct kvt_conn *conn = paged->home->conn;
	const struct kvi_caps *caps = kvi_conn_get_caps(conn);
	bool writes = paged->direction == KVT_WRITE;
	paged->only_home = conn->lane_count == 1 || paged->len < KVI_SPREAD_LEN;
	paged->segment_len = kvi_spread_get_segment_len(conn, paged->len, paged->only_home);
	paged->transfer.is_large = paged->len > LARGE_LEN || paged->piece_count > caps->span_count;
	/* A single write with nothing to say behind it is confirmed by the provider alone, which is quicker
	 * than the peer's engine. Where sums are used each segment is confirmed by itself. */
	paged->in_order = writes && !conn->has_sums && paged->only_home && caps->send_after_write &&
			  (paged->notify != NULL || paged->transfer.is_large);
	paged->carried = (paged->notify != NULL || paged->transfer.is_large) &&
			 kvi_carried_fits(paged);
	if (paged->carried) {
		paged->in_order = true;
		paged->transfer.is_large = false;
		return;
	}
	/* What one operation can carry is not worth a copy. */
	if (caps->send_after_write && paged->piece_count > caps->span_count)
		paged->pack_below = caps->shares && is_all_shared(paged) ? caps->pack_shared_below
									 : caps->pack_below;
	if (paged->pack_below > PACKED_LEN && paged->segment_len > PACKED_LEN)
		paged->segment_len = PACKED_LEN;
}

/* Two sides that fit each other become the next pair of a transfer, without its plan. */
static void add_pair(struct kvi_paged *paged, struct kvt_pool *pool, struct kvt_remote *remote)
{
	struct kvi_pair *pair = &paged->pairs[paged->pair_count++];
	pair->paged = paged;
	pair->pool = pool;
	pair->remote = remote;
	kvi_list_init(&pair->node);
	kvi_ref_take(&pool->ref);
	kvi_ref_take(&remote->ref);
}

/* A transfer between two sides. */
static enum kvt_err prepare_request(enum kvt_direction direction, struct kvt_pool *pool,
				    struct kvt_remote *remote, struct options *options,
				    struct kvi_paged **paged_out, struct kvt_error *error)
{
	struct kvi_paged *paged;
	enum kvt_err err = check_sides(direction, pool, remote, error);
	if (err == KVT_OK)
		err = make_transfer(remote->conn, options, &paged, error);
	if (err != KVT_OK)
		return err;
	paged->direction = direction;
	add_pair(paged, pool, remote);
	*paged_out = paged;
	return KVT_OK;
}

/* plan_err: how laying out the plans went. */
static enum kvt_err finish(struct kvi_paged *paged, enum kvt_err plan_err,
			   const struct options *options, struct kvt_transfer **transfer,
			   struct kvt_error *error)
{
	if (plan_err != KVT_OK) {
		kvi_paged_free(&paged->transfer);
		return plan_err;
	}
	for (size_t i = 0; i < paged->pair_count; i++) {
		paged->len += paged->pairs[i].plan.len;
		paged->piece_count += paged->pairs[i].plan.piece_count;
	}
	choose_way(paged);
	return submit(paged, options, transfer, error);
}

/* One side in blocks of block_len bytes (0: its own). */
static enum kvt_err view_side(const struct kvi_layout **layout, uint64_t block_len,
			      struct kvi_layout *view, const char *side, struct kvt_error *error)
{
	if (block_len == 0 || (*layout)->block_len == block_len)
		return KVT_OK;
	enum kvt_err err = kvi_layout_reblock(*layout, block_len, view, side, error);
	*layout = view;
	return err;
}

static enum kvt_err plan_blocks(struct kvi_pair *pair, const struct kvt_blocks_request *request,
				struct kvt_error *error)
{
	const struct kvi_layout *local = &pair->pool->layout, *remote = &pair->remote->layout;
	enum kvt_err err = view_side(&local, request->block_len, &pair->views[0], "pool", error);
	if (err == KVT_OK)
		err = view_side(&remote, request->block_len, &pair->views[1], "remote", error);
	if (err == KVT_OK)
		err = kvi_plan_init_blocks(&pair->plan, local, remote, request, error);
	return err;
}

enum kvt_err kvt_blocks_start(const struct kvt_blocks_request *given,
			      struct kvt_transfer **transfer, struct kvt_error *error)
{
	struct kvt_blocks_request request;
	enum kvt_err err = read_request(&kvi_abi_blocks_request, &request, given, transfer, error);
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
	err = prepare_request(request.direction, request.pool, request.remote, &options, &paged,
			      error);
	if (err != KVT_OK)
		return err;
	err = plan_blocks(&paged->one, &request, error);
	paged->transfer.count = request.count * paged->one.plan.extent_count;
	return finish(paged, err, &options, transfer, error);
}

enum kvt_err kvt_spans_start(const struct kvt_spans_request *given, struct kvt_transfer **transfer,
			     struct kvt_error *error)
{
	struct kvt_spans_request request;
	enum kvt_err err = read_request(&kvi_abi_spans_request, &request, given, transfer, error);
	if (err != KVT_OK)
		return err;
	if (!are_spans(request.local_off, request.remote_off, request.lens, request.count))
		return kvi_fail(error, KVT_E_INVALID, 0, "no valid spans request is given");
	struct options options = { request.notify, request.notify_len, request.timeout_ns,
				   request.reap };
	struct kvi_paged *paged;
	err = prepare_request(request.direction, request.pool, request.remote, &options, &paged,
			      error);
	if (err != KVT_OK)
		return err;
	err = kvi_plan_init_spans(&paged->one.plan, &request.pool->layout, &request.remote->layout,
				  &request, error);
	paged->transfer.count = request.count;
	return finish(paged, err, &options, transfer, error);
}

/* The next element of the request's array. */
static enum kvt_err read_part(const struct kvt_parts_request *request, size_t i,
			      struct kvt_part *part, struct kvt_error *error)
{
	enum kvt_err err = kvi_sized_read_element(
		&kvi_abi_part, part, (const uint8_t *)request->parts + i * request->part_size,
		request->part_size, error);
	if (err != KVT_OK)
		return err;
	if (!are_spans(part->local_off, part->remote_off, part->lens, part->count))
		return kvi_fail(error, KVT_E_INVALID, 0, "part %zu has no valid spans", i);
	return check_sides(request->direction, part->pool, part->remote, error);
}

static enum kvt_err add_part(struct kvi_paged *paged, const struct kvt_parts_request *request,
			     const struct kvt_part *part, struct kvt_error *error)
{
	const struct kvt_spans_request spans = {
		.direction = request->direction,
		.local_off = part->local_off,
		.remote_off = part->remote_off,
		.lens = part->lens,
		.count = part->count,
	};
	if (part->remote->conn != paged->home->conn)
		return kvi_fail(error, KVT_E_INVALID, 0,
				"the remotes of the parts are of different connections");
	add_pair(paged, part->pool, part->remote);
	paged->transfer.count += part->count;
	return kvi_plan_init_spans(&paged->pairs[paged->pair_count - 1].plan, &part->pool->layout,
				   &part->remote->layout, &spans, error);
}

/* A transfer with room for all parts, which are not in it yet. */
static enum kvt_err make_for_parts(const struct kvt_parts_request *request, struct options *options,
				   struct kvi_paged **paged, struct kvt_error *error)
{
	struct kvt_part part;
	if (request->parts == NULL || request->part_count == 0 ||
	    request->part_count > KVT_PARTS_MAX)
		return kvi_fail(error, KVT_E_INVALID, 0, "a request of %zu parts; it has 1 to %d",
				request->part_count, KVT_PARTS_MAX);
	enum kvt_err err = read_part(request, 0, &part, error);
	if (err == KVT_OK)
		err = make_transfer(part.remote->conn, options, paged, error);
	if (err != KVT_OK || request->part_count == 1)
		return err;
	(*paged)->pairs = kvi_alloc_array(request->part_count, sizeof((*paged)->pairs[0]));
	if ((*paged)->pairs != NULL)
		return KVT_OK;
	kvi_paged_free(&(*paged)->transfer);
	return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for a transfer");
}

enum kvt_err kvt_parts_start(const struct kvt_parts_request *given, struct kvt_transfer **transfer,
			     struct kvt_error *error)
{
	struct kvt_parts_request request;
	struct kvi_paged *paged = NULL;
	enum kvt_err err = read_request(&kvi_abi_parts_request, &request, given, transfer, error);
	if (err != KVT_OK)
		return err;
	struct options options = { request.notify, request.notify_len, request.timeout_ns,
				   request.reap };
	err = make_for_parts(&request, &options, &paged, error);
	if (err != KVT_OK)
		return err;
	paged->direction = request.direction;
	for (size_t i = 0; i < request.part_count && err == KVT_OK; i++) {
		struct kvt_part part;
		err = read_part(&request, i, &part, error);
		if (err == KVT_OK)
			err = add_part(paged, &request, &part, error);
	}
	return finish(paged, err, &options, transfer, error);
}

enum kvt_err kvt_notify_start(const struct kvt_notify_request *given,
			      struct kvt_transfer **transfer, struct kvt_error *error)
{
	struct kvt_notify_request request;
	enum kvt_err err = read_request(&kvi_abi_notify_request, &request, given, transfer, error);
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
	err = make_transfer(request.conn, &options, &paged, error);
	if (err != KVT_OK)
		return err;
	paged->notify_err = request.err;
	return submit(paged, &options, transfer, error);
}
