/* SPDX-License-Identifier: Apache-2.0 */
/*
 * registration.c - registering memory in all of a connection's domains.
 */
#include "engine/lane/registration.h"

#include "base/alloc.h"
#include "base/error.h"
#include "engine/core/conn.h"
#include "engine/core/engine.h"
#include "engine/lane/link.h"

struct kvi_registration {
	const struct kvi_path *path;
	struct kvi_counters *counters;
	uint8_t *base;
	size_t len;
	size_t count;		       /* of memories: one a rail, or one a worker and rail */
	struct kvi_memory *memories[]; /* NULL where no lane of the connection lives */
};

static size_t get_domain_index(const struct kvi_path *path, const struct kvi_link *link)
{
	size_t rail = link->rail - path->first;
	return (path->caps->own_domains ? link->shard->worker->index * path->count : 0) + rail;
}

static struct kvi_registration *make_registration(const struct kvi_path *path,
						  unsigned worker_count,
						  struct kvi_counters *counters, void *base,
						  size_t len, struct kvt_error *error)
{
	size_t count = path->count;
	if (path->caps->own_domains)
		count *= worker_count;
	struct kvi_registration *registration =
		kvi_alloc(sizeof(*registration) + count * sizeof(registration->memories[0]));
	if (registration == NULL) {
		kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for a registration");
		return NULL;
	}
	registration->path = path;
	registration->counters = counters;
	registration->base = base;
	registration->len = len;
	registration->count = count;
	kvi_count(counters, KVI_COUNT_REGISTRATIONS, 1);
	return registration;
}

enum kvt_err kvi_registration_open(struct kvt_conn *conn, void *base, size_t len, unsigned access,
				   struct kvi_registration **registration_out,
				   struct kvt_error *error)
{
	struct kvi_registration *registration = make_registration(
		conn->path, conn->engine->worker_count, &conn->counters, base, len, error);
	if (registration == NULL)
		return KVT_E_NO_MEMORY;

	/* The first lanes reach every domain that any lane reaches: they go round rails, then workers. */
	uint64_t key = kvi_conn_make_key();
	size_t made = 0;
	for (unsigned i = 0; i < conn->lane_count && made < registration->count; i++) {
		struct kvi_link *link = &conn->links[i];
		struct kvi_memory **memory =
			&registration->memories[get_domain_index(conn->path, link)];
		if (*memory != NULL)
			continue;
		enum kvt_err err = kvi_memory_open(link->cq, base, len, access, key, memory, error);
		if (err != KVT_OK) {
			kvi_registration_close(registration);
			return err;
		}
		made++;
	}
	*registration_out = registration;
	return KVT_OK;
}

enum kvt_err kvi_registration_open_local(struct kvt_engine *engine, void *base, size_t len,
					 struct kvi_registration **registration_out,
					 struct kvt_error *error)
{
	const struct kvi_path *path = &engine->network;
	struct kvi_registration *registration =
		make_registration(path, engine->worker_count, &engine->counters, base, len, error);
	if (registration == NULL)
		return KVT_E_NO_MEMORY;
	uint64_t key = kvi_conn_make_key();
	for (size_t i = 0; i < registration->count; i++) {
		struct kvi_worker *worker = engine->workers[i / path->count];
		struct kvi_cq *cq = worker->cqs[path->first + i % path->count];
		enum kvt_err err = kvi_memory_open(cq, base, len, KVI_ACCESS_LOCAL, key,
						   &registration->memories[i], error);
		if (err != KVT_OK) {
			kvi_registration_close(registration);
			return err;
		}
	}
	*registration_out = registration;
	return KVT_OK;
}

void kvi_registration_close(struct kvi_registration *registration)
{
	if (registration == NULL)
		return;
	for (size_t i = 0; i < registration->count; i++)
		kvi_memory_close(registration->memories[i]);
	kvi_count(registration->counters, KVI_COUNT_REGISTRATIONS, -1);
	kvi_free(registration);
}

bool kvi_registration_holds(const struct kvi_registration *registration, const void *base,
			    size_t len)
{
	if (registration == NULL || (const uint8_t *)base < registration->base)
		return false;
	size_t offset = (size_t)((const uint8_t *)base - registration->base);
	return offset <= registration->len && len <= registration->len - offset;
}

struct kvi_memory *kvi_registration_get_memory(const struct kvi_registration *registration,
					       const struct kvi_link *link)
{
	return registration->path == link->conn->path
		       ? registration->memories[get_domain_index(registration->path, link)]
		       : NULL;
}

size_t kvi_registration_get_rkeys(const struct kvi_registration *registration,
				  struct kvi_wire_rkey rkeys[KVI_RAILS_MAX])
{
	const struct kvi_path *path = registration->path;
	/* Own domains are opened only where one rkey serves all of them (engine.c). */
	size_t count = path->caps->same_rkey ? 1 : path->count;
	for (size_t rail = 0, i = 0; rail < count && i < registration->count; i++) {
		if (registration->memories[i] == NULL)
			continue;
		struct kvi_rkey rkey = kvi_memory_get_rkey(registration->memories[i]);
		rkeys[rail].address = rkey.address;
		rkeys[rail].key = rkey.key;
		rail++;
	}
	return count;
}
