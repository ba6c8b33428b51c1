/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool.h - a pool: local memory as blocks, for paged transfers. What peers may do with it is an
 * export's business (exports.h).
 */
#ifndef KVI_ENGINE_POOL_H
#define KVI_ENGINE_POOL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/file.h"
#include "base/list.h"
#include "engine/core/ref.h"
#include "engine/lane/link.h"
#include "engine/lane/registration.h"
#include "engine/paged/plan.h"

struct kvt_pool {
	/* immutable after open */
	struct kvt_engine *engine;
	struct kvi_layout layout;
	uint8_t **bases; /* of the extents */
	bool read_only;
	void *owned; /* memory that the pool has mapped, of owned_len bytes; NULL: the application's */
	size_t owned_len;
	int file; /* that owned is mapped from, and peers of this host may map; -1: there is none */
	bool is_adopted;	    /* owned is of the application's file, which stays as it is */
	struct kvi_file_id file_id; /* of file */
	uint8_t *shared;	    /* where that is mapped */
	size_t shared_len;

	/* one a worker, each under that worker's lock */
	struct kvi_list *in_flight; /* paged transfers that are at home there */

	/* under engine->lock */
	struct kvi_list node; /* in engine->pools */
	struct kvi_list exports;

	/* immutable until the pool is closed or the engine stops, when nothing uses them any more */
	struct kvi_registration **registrations; /* of the extents, where needed; else NULL */

	/* atomic */
	atomic_bool is_shared; /* with all rails, until the pool is closed or the engine stops */
	atomic_bool closing;
	struct kvi_ref ref; /* the handle's, one an export's and a transfer's */
};

/* pool_memory.c: memory for all extents: of ours, zeroed, near the NIC, and huge pages where the kernel gives them; or
 * of the file that was given. What was mapped is the pool's even on failure. */
enum kvt_err kvi_pool_allocate(struct kvt_pool *pool, unsigned flags, struct kvt_error *error);
enum kvt_err kvi_pool_adopt(struct kvt_pool *pool, const struct kvt_pool_config *config,
			    struct kvt_error *error);
/* Give it back. May be called again. */
void kvi_pool_free_memory(struct kvt_pool *pool);

/* The registration of an extent for a lane's own operations; NULL where none is needed. */
struct kvi_memory *kvi_pool_get_memory(const struct kvt_pool *pool, size_t extent,
				       const struct kvi_link *link);

/*
 * Register all extents: for the peer of conn, with that access, or, where conn is NULL, for operations of our
 * own. What was made is in *registrations even on failure. NO_MEMORY, and what the fabric says.
 */
enum kvt_err kvi_pool_register(const struct kvt_pool *pool, struct kvt_conn *conn, unsigned access,
			       struct kvi_registration ***registrations, struct kvt_error *error);
/* NULL is allowed. */
void kvi_pool_deregister(const struct kvt_pool *pool, struct kvi_registration **registrations);

static inline bool kvi_span_is_within(const struct kvi_wire_span *span, uint64_t extent_len)
{
	return span->offset <= extent_len && span->len <= extent_len - span->offset;
}

/* Where a span of the peer's is; NULL: it is not within its extent. */
static inline uint8_t *kvi_pool_place(const struct kvt_pool *pool, const struct kvi_wire_span *span)
{
	const struct kvi_layout *layout = &pool->layout;
	if (span->extent >= layout->extent_count ||
	    !kvi_span_is_within(span, kvi_extent_get_len(layout, span->extent)))
		return NULL;
	return pool->bases[span->extent] + span->offset;
}

/* The engine stops and all connections have ended: deregister all pools. */
void kvi_pools_stop(struct kvt_engine *engine);

#endif
