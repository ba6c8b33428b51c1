/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool.c - opening, allocating and closing pools.
 */
#include "engine/paged/pool.h"

#include <stdint.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "engine/core/abi.h"
#include "engine/core/engine.h"
#include "engine/paged/paged.h"
#include "engine/paged/exports.h"

static void free_pool(struct kvt_pool *pool)
{
	kvi_pool_free_memory(pool);
	if (pool->file >= 0 && kvi_file_is(pool->file, &pool->file_id))
		close(pool->file);
	kvi_free(pool->in_flight);
	kvi_free(pool->bases);
	kvi_free(pool->layout.extents);
	kvi_free(pool);
}

static void release_pool(struct kvi_ref *ref)
{
	struct kvt_pool *pool = kvi_container_of(ref, struct kvt_pool, ref);
	struct kvt_engine *engine = pool->engine;
	free_pool(pool);
	kvi_ref_drop(&engine->ref);
}

struct kvi_memory *kvi_pool_get_memory(const struct kvt_pool *pool, size_t extent,
				       const struct kvi_link *link)
{
	return pool->registrations == NULL
		       ? NULL
		       : kvi_registration_get_memory(pool->registrations[extent], link);
}

/* ---- open ---- */

static const unsigned FLAGS = KVT_POOL_PRIVATE | KVT_POOL_PREFAULT | KVT_POOL_HUGE_PAGES |
			      KVT_POOL_FILE;

static enum kvt_err check_config(struct kvt_engine *engine, const struct kvt_pool_config *config,
				 struct kvt_error *error)
{
	if (engine == NULL || config->extents == NULL || config->extent_count == 0)
		return kvi_fail(error, KVT_E_INVALID, 0, "no engine or no extents are given");
	if (config->memory != KVT_MEMORY_HOST)
		return kvi_fail(error, KVT_E_UNSUPPORTED, 0,
				"memory of kind %d, device %llu: this version moves memory of the "
				"host only, kind %d",
				(int)config->memory, (unsigned long long)config->device,
				KVT_MEMORY_HOST);
	if (config->device != 0)
		return kvi_fail(error, KVT_E_INVALID, 0,
				"device %llu: memory of the host has no device but 0",
				(unsigned long long)config->device);
	if (config->extent_count > KVT_EXTENTS_MAX)
		return kvi_fail(error, KVT_E_LIMIT, 0, "%zu extents; a pool has at most %d",
				config->extent_count, KVT_EXTENTS_MAX);
	return KVT_OK;
}

static enum kvt_err copy_layout(struct kvt_pool *pool, const struct kvt_pool_config *config,
				struct kvt_error *error)
{
	struct kvi_layout *layout = &pool->layout;
	layout->block_len = config->block_len;
	layout->extent_count = config->extent_count;
	layout->extents = kvi_alloc_array(config->extent_count, sizeof(layout->extents[0]));
	pool->bases = kvi_alloc_array(config->extent_count, sizeof(pool->bases[0]));
	unsigned worker_count = pool->engine->worker_count;
	pool->in_flight = kvi_alloc_array(worker_count, sizeof(pool->in_flight[0]));
	if (layout->extents == NULL || pool->bases == NULL || pool->in_flight == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for a pool");
	for (unsigned i = 0; i < worker_count; i++)
		kvi_list_init(&pool->in_flight[i]);
	for (size_t i = 0; i < config->extent_count; i++) {
		const void *given = (const uint8_t *)config->extents + i * config->extent_size;
		struct kvt_extent extent;
		enum kvt_err err = kvi_sized_read_element(&kvi_abi_extent, &extent, given,
							  config->extent_size, error);
		if (err != KVT_OK)
			return err;
		layout->extents[i].count = extent.count;
		layout->extents[i].stride = extent.stride;
		pool->bases[i] = extent.base;
		if ((extent.base == NULL) != (pool->bases[0] == NULL))
			return kvi_fail(error, KVT_E_INVALID, 0,
					"some extents have memory and some have not");
	}
	if (!kvi_layout_complete(layout))
		return kvi_fail(error, KVT_E_INVALID, 0,
				"blocks of %zu bytes: block_len, each count and each stride are at "
				"least 1, and a stride is at least block_len",
				config->block_len);
	return KVT_OK;
}

/* What is asked of memory that the pool has not got from the application. */
static enum kvt_err check_memory(const struct kvt_pool_config *config, bool has_memory,
				 struct kvt_error *error)
{
	if ((config->flags & ~FLAGS) != 0)
		return kvi_fail(error, KVT_E_INVALID, 0, "flags %#x: some are none", config->flags);
	if (has_memory && (config->flags & ~(unsigned)KVT_POOL_PRIVATE) != 0)
		return kvi_fail(error, KVT_E_INVALID, 0,
				"the extents have memory: nothing is allocated or mapped for them");
	return KVT_OK;
}

/* Rails that took it keep it until it is unshared; without memory for one it is shared with none. */
static void stop_sharing(struct kvt_pool *pool, unsigned rail_count)
{
	const struct kvi_path *local = &pool->engine->local;
	for (unsigned i = 0; i < rail_count; i++)
		kvi_rail_unshare(pool->engine->rails[local->first + i], pool->shared);
	atomic_store(&pool->is_shared, false);
}

static void start_sharing(struct kvt_pool *pool)
{
	struct kvt_engine *engine = pool->engine;
	const struct kvi_path *local = &engine->local;
	for (unsigned i = 0; i < local->count; i++)
		if (kvi_rail_share(engine->rails[local->first + i], pool->shared, pool->shared_len,
				   pool->file) != KVT_OK) {
			stop_sharing(pool, i);
			return;
		}
	atomic_store(&pool->is_shared, true);
}

void kvi_pool_deregister(const struct kvt_pool *pool, struct kvi_registration **registrations)
{
	for (size_t i = 0; registrations != NULL && i < pool->layout.extent_count; i++)
		kvi_registration_close(registrations[i]);
	kvi_free(registrations);
}

enum kvt_err kvi_pool_register(const struct kvt_pool *pool, struct kvt_conn *conn, unsigned access,
			       struct kvi_registration ***registrations, struct kvt_error *error)
{
	const struct kvi_layout *layout = &pool->layout;
	*registrations = kvi_alloc_array(layout->extent_count, sizeof(**registrations));
	if (*registrations == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory to register a pool");
	enum kvt_err err = KVT_OK;
	for (size_t i = 0; err == KVT_OK && i < layout->extent_count; i++) {
		void *base = pool->bases[i];
		size_t len = kvi_extent_get_len(layout, i);
		struct kvi_registration **registration = &(*registrations)[i];
		err = conn == NULL
			      ? kvi_registration_open_local(pool->engine, base, len, registration,
							    error)
			      : kvi_registration_open(conn, base, len, access, registration, error);
	}
	return err;
}

static void close_local_registrations(struct kvt_pool *pool)
{
	if (atomic_load(&pool->is_shared))
		stop_sharing(pool, pool->engine->local.count);
	kvi_pool_deregister(pool, pool->registrations);
	pool->registrations = NULL;
}

enum kvt_err kvt_pool_open(struct kvt_engine *engine, const struct kvt_pool_config *given,
			   struct kvt_pool **pool_out, struct kvt_error *error)
{
	struct kvt_pool_config config;
	if (pool_out == NULL)
		return kvi_fail(error, KVT_E_INVALID, 0, "no place for the pool");
	enum kvt_err err = kvi_sized_read(&kvi_abi_pool_config, &config, given, error);
	if (err == KVT_OK)
		err = check_config(engine, &config, error);
	if (err == KVT_OK)
		err = kvi_engine_enter(engine, error);
	if (err != KVT_OK)
		return err;
	struct kvt_pool *pool = kvi_alloc(sizeof(*pool));
	if (pool == NULL) {
		err = kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for a pool");
		goto err_leave;
	}
	pool->engine = engine;
	pool->file = -1;
	pool->read_only = config.read_only;
	kvi_list_init(&pool->node);
	kvi_list_init(&pool->exports);
	kvi_ref_init(&pool->ref, 1, release_pool);
	err = copy_layout(pool, &config, error);
	if (err == KVT_OK)
		err = check_memory(&config, pool->bases[0] != NULL, error);
	if (err == KVT_OK && (config.flags & KVT_POOL_FILE) != 0)
		err = kvi_pool_adopt(pool, &config, error);
	else if (err == KVT_OK && pool->bases[0] == NULL)
		err = kvi_pool_allocate(pool, config.flags, error);
	if (err != KVT_OK)
		goto err_free;
	if (engine->network.count > 0 && engine->network.caps->local_memory)
		err = kvi_pool_register(pool, NULL, 0, &pool->registrations, error);
	if (err != KVT_OK)
		goto err_close_registrations;
	if (pool->shared != NULL)
		start_sharing(pool);
	kvi_ref_take(&engine->ref);
	pthread_mutex_lock(&engine->lock);
	kvi_list_append(&engine->pools, &pool->node);
	pthread_mutex_unlock(&engine->lock);
	*pool_out = pool;
	kvi_engine_leave(engine);
	return KVT_OK;

err_close_registrations:
	close_local_registrations(pool);
err_free:
	free_pool(pool);
err_leave:
	kvi_engine_leave(engine);
	return err;
}

void *kvt_pool_get_base(const struct kvt_pool *pool, size_t extent)
{
	return extent < pool->layout.extent_count ? pool->bases[extent] : NULL;
}

/* ---- close ---- */

void kvi_pools_stop(struct kvt_engine *engine)
{
	struct kvi_list *node;
	pthread_mutex_lock(&engine->lock);
	while ((node = kvi_list_take_first(&engine->pools)) != NULL)
		close_local_registrations(kvi_container_of(node, struct kvt_pool, node));
	pthread_mutex_unlock(&engine->lock);
}

void kvt_pool_stop(struct kvt_pool *pool)
{
	if (pool == NULL || kvi_engine_is_forked(pool->engine))
		return;
	struct kvt_engine *engine = pool->engine;
	atomic_store(&pool->closing, true);
	kvi_exports_withdraw(pool, NULL);
	kvi_paged_stop_pool(pool);

	/* An engine that is stopping deregisters it itself, before it closes its queues. */
	pthread_mutex_lock(&engine->lock);
	if (!kvi_list_is_empty(&pool->node))
		close_local_registrations(pool);
	kvi_list_remove(&pool->node);
	pthread_mutex_unlock(&engine->lock);
}

void kvt_pool_close(struct kvt_pool *pool)
{
	if (pool == NULL || kvi_engine_is_forked(pool->engine))
		return;
	kvt_pool_stop(pool);
	/* Deregister now: exports and transfers that are not freed yet may keep a reference. */
	kvi_pool_free_memory(pool);
	kvi_ref_drop(&pool->ref);
}
