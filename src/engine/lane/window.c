/* SPDX-License-Identifier: Apache-2.0 */
/*
 * window.c - registration in all of a connection's domains.
 */
#include "engine/lane/window.h"

#include "base/alloc.h"
#include "base/error.h"
#include "engine/core/conn.h"
#include "engine/core/engine.h"
#include "engine/lane/link.h"

struct kvi_window {
	struct kvt_engine *engine;
	struct kvi_counters *counters;
	uint8_t *base;
	size_t len;
	size_t count;		       /* of memories: one a rail, or one a worker and rail */
	struct kvi_memory *memories[]; /* NULL where no lane of the connection lives */
};

static size_t get_index(const struct kvt_engine *engine, unsigned worker, unsigned rail)
{
	bool own_domains = kvi_engine_get_caps(engine)->own_domains;
	return (own_domains ? worker * engine->rail_count : 0) + rail;
}

static struct kvi_window *make_window(struct kvt_engine *engine, struct kvi_counters *counters,
				      void *base, size_t len, struct kvt_error *error)
{
	size_t count = engine->rail_count;
	if (kvi_engine_get_caps(engine)->own_domains)
		count *= engine->worker_count;
	struct kvi_window *window =
		kvi_alloc(sizeof(*window) + count * sizeof(window->memories[0]));
	if (window == NULL) {
		kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for a registration");
		return NULL;
	}
	window->engine = engine;
	window->counters = counters;
	window->base = base;
	window->len = len;
	window->count = count;
	kvi_count(counters, KVI_COUNT_REGISTRATIONS, 1);
	return window;
}

enum kvt_err kvi_window_open(struct kvt_conn *conn, void *base, size_t len, unsigned access,
			     struct kvi_window **window_out, struct kvt_error *error)
{
	struct kvt_engine *engine = conn->engine;
	struct kvi_window *window = make_window(engine, &conn->counters, base, len, error);
	if (window == NULL)
		return KVT_E_NO_MEMORY;

	/* The first lanes reach every domain that any lane reaches: they go round rails, then workers. */
	uint64_t key = kvi_conn_make_key();
	size_t made = 0;
	for (unsigned i = 0; i < conn->lane_count && made < window->count; i++) {
		struct kvi_link *link = &conn->links[i];
		struct kvi_memory **memory =
			&window->memories[get_index(engine, link->part->worker->index, link->rail)];
		if (*memory != NULL)
			continue;
		enum kvt_err err = kvi_memory_open(link->cq, base, len, access, key, memory, error);
		if (err != KVT_OK) {
			kvi_window_close(window);
			return err;
		}
		made++;
	}
	*window_out = window;
	return KVT_OK;
}

enum kvt_err kvi_window_open_local(struct kvt_engine *engine, void *base, size_t len,
				   struct kvi_window **window_out, struct kvt_error *error)
{
	struct kvi_window *window = make_window(engine, &engine->counters, base, len, error);
	if (window == NULL)
		return KVT_E_NO_MEMORY;
	uint64_t key = kvi_conn_make_key();
	for (size_t i = 0; i < window->count; i++) {
		struct kvi_worker *worker = engine->workers[i / engine->rail_count];
		enum kvt_err err = kvi_memory_open(worker->cqs[i % engine->rail_count], base, len,
						   KVI_ACCESS_LOCAL, key, &window->memories[i],
						   error);
		if (err != KVT_OK) {
			kvi_window_close(window);
			return err;
		}
	}
	*window_out = window;
	return KVT_OK;
}

void kvi_window_close(struct kvi_window *window)
{
	if (window == NULL)
		return;
	for (size_t i = 0; i < window->count; i++)
		kvi_memory_close(window->memories[i]);
	kvi_count(window->counters, KVI_COUNT_REGISTRATIONS, -1);
	kvi_free(window);
}

bool kvi_window_holds(const struct kvi_window *window, const void *base, size_t len)
{
	if (window == NULL || (const uint8_t *)base < window->base)
		return false;
	size_t offset = (size_t)((const uint8_t *)base - window->base);
	return offset <= window->len && len <= window->len - offset;
}

struct kvi_memory *kvi_window_get_memory(const struct kvi_window *window,
					 const struct kvi_link *link)
{
	return window->memories[get_index(window->engine, link->part->worker->index, link->rail)];
}

size_t kvi_window_get_grants(const struct kvi_window *window,
			     struct kvi_wire_grant grants[KVI_RAILS_MAX])
{
	struct kvt_engine *engine = window->engine;
	/* Own domains are opened only where one grant serves all of them (engine.c). */
	size_t count = kvi_engine_get_caps(engine)->same_grant ? 1 : engine->rail_count;
	for (size_t rail = 0, i = 0; rail < count && i < window->count; i++) {
		if (window->memories[i] == NULL)
			continue;
		struct kvi_grant grant = kvi_memory_get_grant(window->memories[i]);
		grants[rail].address = grant.address;
		grants[rail].key = grant.key;
		rail++;
	}
	return count;
}
