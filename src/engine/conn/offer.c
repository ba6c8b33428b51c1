/* SPDX-License-Identifier: Apache-2.0 */
/*
 * offer.c - exporting a pool on all connections, and withdrawing it from them.
 *
 * Design notes. An offer has no list of its exports, which come and go with their connections: it finds them among
 * those of its pool. Each of them keeps a reference to itself, in place of the handle that nobody has.
 */
#include "engine/conn/offer.h"

#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "engine/conn/life.h"
#include "engine/core/conn.h"
#include "engine/core/engine.h"
#include "engine/paged/pool.h"
#include "engine/paged/exports.h"

struct kvt_offer {
	/* immutable after open */
	struct kvt_pool *pool;
	unsigned access;
	char *name;

	/* under engine->offers_lock */
	struct kvi_list node; /* in engine->offers */
};

/* A connection or a pool that has ended meanwhile is no failure. */
static enum kvt_err export_on(struct kvt_offer *offer, struct kvt_conn *conn,
			      struct kvt_error *error)
{
	struct kvt_export *exported;
	enum kvt_err err =
		kvt_export_open(conn, offer->pool, offer->access, offer->name, &exported, error);
	if (err == KVT_OK)
		kvi_export_adopt(exported, offer);
	bool is_over = atomic_load(&offer->pool->closing) || kvi_conn_check(conn, NULL) != KVT_OK;
	return is_over ? KVT_OK : err;
}

void kvi_offers_hand_out(struct kvt_conn *conn)
{
	struct kvt_engine *engine = conn->engine;
	struct kvt_error error;
	enum kvt_err err = KVT_OK;
	pthread_mutex_lock(&engine->offers_lock);
	kvi_list_for_each (node, next_node, &engine->offers) {
		err = export_on(kvi_container_of(node, struct kvt_offer, node), conn, &error);
		if (err == KVT_OK)
			continue;
		kvi_conn_fail(conn, err, error.provider_errno, "an offer to all peers: %s",
			      error.text);
		break;
	}
	kvi_conn_hand_out(conn);
	pthread_mutex_unlock(&engine->offers_lock);
}

/* The connections that the application has, each with a reference; their number. NULL: no memory, or none. */
static struct kvt_conn **take_conns(struct kvt_engine *engine, size_t *count)
{
	pthread_mutex_lock(&engine->lock);
	struct kvt_conn **conns = kvi_alloc_array(engine->conn_count + 1, sizeof(conns[0]));
	*count = 0;
	kvi_list_for_each (node, next_node, &engine->conns) {
		struct kvt_conn *conn = kvi_container_of(node, struct kvt_conn, node);
		if (conns == NULL || *count > engine->conn_count || !atomic_load(&conn->handed_out))
			continue;
		kvi_ref_take(&conn->ref);
		conns[(*count)++] = conn;
	}
	pthread_mutex_unlock(&engine->lock);
	return conns;
}

static void drop_conns(struct kvt_conn **conns, size_t count)
{
	for (size_t i = 0; i < count; i++)
		kvi_ref_drop(&conns[i]->ref);
	kvi_free(conns);
}

static void free_offer(struct kvt_offer *offer)
{
	kvi_free(offer->name);
	kvi_free(offer);
}

static enum kvt_err export_on_all(struct kvt_offer *offer, struct kvt_error *error)
{
	size_t count;
	enum kvt_err err = KVT_OK;
	struct kvt_conn **conns = take_conns(offer->pool->engine, &count);
	if (conns == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for an offer");
	for (size_t i = 0; i < count && err == KVT_OK; i++)
		err = export_on(offer, conns[i], error);
	drop_conns(conns, count);
	return err;
}

static enum kvt_err check_name(struct kvt_engine *engine, const char *name, struct kvt_error *error)
{
	kvi_list_for_each (node, next_node, &engine->offers)
		if (strcmp(kvi_container_of(node, struct kvt_offer, node)->name, name) == 0)
			return kvi_fail(error, KVT_E_INVALID, 0,
					"the name \"%.100s\" is offered already", name);
	return KVT_OK;
}

enum kvt_err kvt_offer_open(struct kvt_engine *engine, struct kvt_pool *pool, unsigned access,
			    const char *name, struct kvt_offer **offer_out, struct kvt_error *error)
{
	if (offer_out == NULL || name == NULL)
		return kvi_fail(error, KVT_E_INVALID, 0, "no name or no place is given");
	enum kvt_err err = kvi_export_check(engine, pool, access, name, error);
	if (err == KVT_OK)
		err = kvi_engine_enter(engine, error);
	if (err != KVT_OK)
		return err;
	struct kvt_offer *offer = kvi_alloc(sizeof(*offer));
	if (offer != NULL)
		offer->name = kvi_alloc_string(name);
	if (offer == NULL || offer->name == NULL) {
		kvi_free(offer);
		kvi_engine_leave(engine);
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for an offer");
	}
	offer->pool = pool;
	offer->access = access;
	kvi_list_init(&offer->node);
	pthread_mutex_lock(&engine->offers_lock);
	err = check_name(engine, name, error);
	if (err == KVT_OK && atomic_load(&pool->closing))
		err = kvi_fail(error, KVT_E_CLOSED, 0, "the pool is closed");
	if (err == KVT_OK)
		err = export_on_all(offer, error);
	if (err == KVT_OK)
		kvi_list_append(&engine->offers, &offer->node);
	pthread_mutex_unlock(&engine->offers_lock);
	if (err == KVT_OK) {
		kvi_ref_take(&pool->ref);
		*offer_out = offer;
	} else {
		/* Waits for peers, so nobody waits for us meanwhile. */
		kvi_exports_withdraw(pool, offer);
		free_offer(offer);
	}
	kvi_engine_leave(engine);
	return err;
}

void kvt_offer_close(struct kvt_offer *offer)
{
	if (offer == NULL || kvi_engine_is_forked(offer->pool->engine))
		return;
	struct kvt_engine *engine = offer->pool->engine;
	pthread_mutex_lock(&engine->offers_lock);
	kvi_list_remove(&offer->node);
	pthread_mutex_unlock(&engine->offers_lock);
	kvi_exports_withdraw(offer->pool, offer);
	kvi_ref_drop(&offer->pool->ref);
	free_offer(offer);
}
