/* SPDX-License-Identifier: Apache-2.0 */
/*
 * region.c - opening, allocating and closing regions.
 */
#define _GNU_SOURCE
#include "engine/region.h"

#include <stdint.h>
#include <sys/mman.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "engine/abi.h"
#include "engine/engine.h"
#include "engine/paged.h"
#include "engine/share.h"

enum { HUGE_PAGE_LEN = 2 * 1024 * 1024 };

void kvi_region_take_ref(struct kvt_region *region)
{
	atomic_fetch_add(&region->refs, 1);
}

static void free_region(struct kvt_region *region)
{
	if (region->owned != NULL)
		munmap(region->owned, region->owned_len);
	kvi_free(region->windows);
	kvi_free(region->in_flight);
	kvi_free(region->bases);
	kvi_free(region->layout.extents);
	kvi_free(region);
}

void kvi_region_drop_ref(struct kvt_region *region)
{
	if (atomic_fetch_sub(&region->refs, 1) != 1)
		return;
	struct kvt_engine *engine = region->engine;
	free_region(region);
	kvi_engine_drop_ref(engine);
}

struct kvi_memory *kvi_region_get_memory(const struct kvt_region *region, size_t extent,
					 const struct kvi_link *link)
{
	return region->windows == NULL ? NULL
				       : kvi_window_get_memory(region->windows[extent], link);
}

/* ---- open ---- */

static enum kvt_err check_config(struct kvt_engine *engine, const struct kvt_region_config *config,
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
		return kvi_fail(error, KVT_E_LIMIT, 0, "%zu extents; a region has at most %d",
				config->extent_count, KVT_EXTENTS_MAX);
	return KVT_OK;
}

static enum kvt_err copy_layout(struct kvt_region *region, const struct kvt_region_config *config,
				struct kvt_error *error)
{
	struct kvi_layout *layout = &region->layout;
	layout->block_len = config->block_len;
	layout->extent_count = config->extent_count;
	layout->extents = kvi_alloc_array(config->extent_count, sizeof(layout->extents[0]));
	region->bases = kvi_alloc_array(config->extent_count, sizeof(region->bases[0]));
	unsigned worker_count = region->engine->worker_count;
	region->in_flight = kvi_alloc_array(worker_count, sizeof(region->in_flight[0]));
	if (layout->extents == NULL || region->bases == NULL || region->in_flight == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for a region");
	for (unsigned i = 0; i < worker_count; i++)
		kvi_list_init(&region->in_flight[i]);
	for (size_t i = 0; i < config->extent_count; i++) {
		const void *given = (const uint8_t *)config->extents + i * config->extent_size;
		struct kvt_extent extent;
		enum kvt_err err = kvi_sized_read_element(&kvi_abi_extent, &extent, given,
							  config->extent_size, error);
		if (err != KVT_OK)
			return err;
		layout->extents[i].count = extent.count;
		layout->extents[i].stride = extent.stride;
		region->bases[i] = extent.base;
		if ((extent.base == NULL) != (region->bases[0] == NULL))
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

/* Memory for all extents: zeroed, near the NIC, and huge pages where the kernel gives them. */
static enum kvt_err allocate(struct kvt_region *region, struct kvt_error *error)
{
	struct kvi_layout *layout = &region->layout;
	size_t len = 0;
	for (size_t i = 0; i < layout->extent_count; i++)
		len += (kvi_extent_get_len(layout, i) + 63) / 64 * 64;
	len += HUGE_PAGE_LEN;
	void *mapped = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mapped == MAP_FAILED)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for a region of %zu bytes",
				len);
	region->owned = mapped;
	region->owned_len = len;
	uintptr_t at = ((uintptr_t)mapped + HUGE_PAGE_LEN - 1) / HUGE_PAGE_LEN * HUGE_PAGE_LEN;
	madvise((void *)at, len - HUGE_PAGE_LEN, MADV_HUGEPAGE); /* a wish */
	kvi_rail_bind_near(region->engine->rails[0], (void *)at, len - HUGE_PAGE_LEN);
	for (size_t i = 0; i < layout->extent_count; i++) {
		region->bases[i] = (uint8_t *)at;
		at += (kvi_extent_get_len(layout, i) + 63) / 64 * 64;
	}
	return KVT_OK;
}

static void close_windows(struct kvt_region *region)
{
	for (size_t i = 0; region->windows != NULL && i < region->layout.extent_count; i++) {
		kvi_window_close(region->windows[i]);
		region->windows[i] = NULL;
	}
}

static enum kvt_err open_windows(struct kvt_region *region, struct kvt_error *error)
{
	struct kvi_layout *layout = &region->layout;
	if (!kvi_engine_get_caps(region->engine)->local_memory)
		return KVT_OK;
	region->windows = kvi_alloc_array(layout->extent_count, sizeof(region->windows[0]));
	if (region->windows == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for a region");
	for (size_t i = 0; i < layout->extent_count; i++) {
		enum kvt_err err = kvi_window_open_local(region->engine, region->bases[i],
							 kvi_extent_get_len(layout, i),
							 &region->windows[i], error);
		if (err != KVT_OK)
			return err;
	}
	return KVT_OK;
}

enum kvt_err kvt_region_open(struct kvt_engine *engine, const struct kvt_region_config *given,
			     struct kvt_region **region_out, struct kvt_error *error)
{
	struct kvt_region_config config;
	if (region_out == NULL)
		return kvi_fail(error, KVT_E_INVALID, 0, "no place for the region");
	enum kvt_err err = kvi_sized_read(&kvi_abi_region_config, &config, given, error);
	if (err == KVT_OK)
		err = check_config(engine, &config, error);
	if (err == KVT_OK)
		err = kvi_engine_enter(engine, error);
	if (err != KVT_OK)
		return err;
	struct kvt_region *region = kvi_alloc(sizeof(*region));
	if (region == NULL) {
		err = kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for a region");
		goto err_leave;
	}
	region->engine = engine;
	region->read_only = config.read_only;
	kvi_list_init(&region->node);
	kvi_list_init(&region->exports);
	atomic_store(&region->refs, 1);
	err = copy_layout(region, &config, error);
	if (err == KVT_OK && region->bases[0] == NULL)
		err = allocate(region, error);
	if (err != KVT_OK)
		goto err_free;
	err = open_windows(region, error);
	if (err != KVT_OK)
		goto err_close_windows;
	kvi_engine_take_ref(engine);
	pthread_mutex_lock(&engine->lock);
	kvi_list_append(&engine->regions, &region->node);
	pthread_mutex_unlock(&engine->lock);
	*region_out = region;
	kvi_engine_leave(engine);
	return KVT_OK;

err_close_windows:
	close_windows(region);
err_free:
	free_region(region);
err_leave:
	kvi_engine_leave(engine);
	return err;
}

void *kvt_region_get_base(const struct kvt_region *region, size_t extent)
{
	return extent < region->layout.extent_count ? region->bases[extent] : NULL;
}

/* ---- close ---- */

void kvi_regions_stop(struct kvt_engine *engine)
{
	struct kvi_list *node;
	pthread_mutex_lock(&engine->lock);
	while ((node = kvi_list_take_first(&engine->regions)) != NULL)
		close_windows(kvi_container_of(node, struct kvt_region, node));
	pthread_mutex_unlock(&engine->lock);
}

/* The first export of the region that is not withdrawn yet, with a reference; NULL: all are. */
static struct kvt_export *take_export(struct kvt_region *region)
{
	struct kvt_export *found = NULL;
	pthread_mutex_lock(&region->engine->lock);
	struct kvi_list *node = kvi_list_take_first(&region->exports);
	if (node != NULL) {
		found = kvi_container_of(node, struct kvt_export, region_node);
		kvi_export_take_ref(found);
	}
	pthread_mutex_unlock(&region->engine->lock);
	return found;
}

void kvt_region_stop(struct kvt_region *region)
{
	if (region == NULL || kvi_engine_is_forked(region->engine))
		return;
	struct kvt_engine *engine = region->engine;
	struct kvt_export *exported;
	atomic_store(&region->closing, true);
	while ((exported = take_export(region)) != NULL) {
		kvi_export_withdraw(exported);
		kvi_export_drop_ref(exported);
	}
	kvi_paged_stop_region(region);

	/* An engine that stops meanwhile does it itself, before its queues are closed. */
	pthread_mutex_lock(&engine->lock);
	if (!kvi_list_is_empty(&region->node))
		close_windows(region);
	kvi_list_remove(&region->node);
	pthread_mutex_unlock(&engine->lock);
}

void kvt_region_close(struct kvt_region *region)
{
	if (region == NULL || kvi_engine_is_forked(region->engine))
		return;
	kvt_region_stop(region);
	/* Now, though exports and transfers that are not freed yet have a reference. */
	if (region->owned != NULL)
		munmap(region->owned, region->owned_len);
	region->owned = NULL;
	kvi_region_drop_ref(region);
}
