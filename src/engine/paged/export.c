/* SPDX-License-Identifier: Apache-2.0 */
/*
 * export.c - letting a peer access a pool, and taking that back.
 */
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/thread.h"
#include "engine/core/conn.h"
#include "engine/core/engine.h"
#include "engine/lane/link.h"
#include "engine/paged/pool.h"
#include "engine/paged/exports.h"
#include "engine/paged/staging.h"
#include "engine/transfer/motion.h"

static void free_export(struct kvt_export *exported)
{
	kvi_free(exported->name);
	kvi_free(exported->descriptor);
	kvi_free(exported);
}

static void release_export(struct kvi_ref *ref)
{
	struct kvt_export *exported = kvi_container_of(ref, struct kvt_export, ref);
	struct kvt_conn *conn = exported->conn;
	kvi_ref_drop(&exported->pool->ref);
	free_export(exported);
	kvi_ref_drop(&conn->ref);
}

/* ---- open ---- */

static enum kvt_err describe(struct kvt_export *exported, struct kvt_error *error)
{
	const struct kvi_layout *layout = &exported->pool->layout;
	struct kvi_descriptor_extent extent;
	struct kvi_descriptor descriptor = {
		.id = exported->id,
		.access = (uint8_t)exported->access,
		.rkey_count = (uint8_t)kvi_registration_get_rkeys(exported->registrations[0],
								  extent.rkeys),
		.is_shared = atomic_load(&exported->pool->is_shared),
		.extent_count = (uint32_t)layout->extent_count,
		.block_len = layout->block_len,
	};
	memcpy(descriptor.session, exported->conn->session_id, KVI_SESSION_LEN);
	size_t len = kvi_descriptor_get_len(&descriptor);
	exported->descriptor = kvi_alloc(len + KVI_MAC_LEN);
	if (exported->descriptor == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for a descriptor");
	exported->descriptor_len = len + KVI_MAC_LEN;
	kvi_descriptor_encode(&descriptor, exported->descriptor);
	for (uint32_t i = 0; i < layout->extent_count; i++) {
		extent.count = layout->extents[i].count;
		extent.stride = layout->extents[i].stride;
		kvi_registration_get_rkeys(exported->registrations[i], extent.rkeys);
		kvi_descriptor_encode_extent(&descriptor, exported->descriptor, i, &extent);
	}
	kvi_secrets_seal(exported->conn->secrets, exported->conn->is_server, exported->descriptor,
			 len, exported->descriptor + len);
	return KVT_OK;
}

/* The tables are guarded by exports->lock. Removing an export that is in no table does nothing. */

static struct kvt_export *find_name(struct kvi_exports *exports, const char *name, size_t len)
{
	struct kvt_export *found;
	HASH_FIND(by_name, exports->by_name, name, len, found);
	return found;
}

static struct kvt_export *find_export(struct kvi_exports *exports, uint64_t id)
{
	struct kvt_export *found;
	HASH_FIND(by_id, exports->by_id, &id, sizeof(id), found);
	return found;
}

static void forget_name(struct kvi_exports *exports, struct kvt_export *exported)
{
	if (exported->by_name.tbl == NULL)
		return;
	HASH_DELETE(by_name, exports->by_name, exported);
	exported->by_name.tbl = NULL;
}

static void forget_export(struct kvi_exports *exports, struct kvt_export *exported)
{
	forget_name(exports, exported);
	if (exported->by_id.tbl == NULL)
		return;
	HASH_DELETE(by_id, exports->by_id, exported);
	exported->by_id.tbl = NULL;
}

/* False: no memory. */
static bool enter_export(struct kvi_exports *exports, struct kvt_export *exported)
{
	HASH_ADD(by_id, exports->by_id, id, sizeof(exported->id), exported);
	bool is_in = exported->by_id.tbl != NULL;
	if (is_in && exported->name != NULL) {
		HASH_ADD_KEYPTR(by_name, exports->by_name, exported->name, strlen(exported->name),
				exported);
		is_in = exported->by_name.tbl != NULL;
	}
	if (!is_in)
		forget_export(exports, exported);
	return is_in;
}

/* From here on the peer may find it. */
static enum kvt_err publish_export(struct kvt_export *exported, struct kvt_error *error)
{
	struct kvt_conn *conn = exported->conn;
	struct kvi_exports *exports = &conn->exports;
	enum kvt_err err = KVT_OK;
	pthread_mutex_lock(&conn->engine->lock);
	pthread_mutex_lock(&exports->lock);
	if (exports->ended)
		err = kvi_conn_check(conn, error);
	else if (atomic_load(&exported->pool->closing))
		err = kvi_fail(error, KVT_E_CLOSED, 0, "the pool is closed");
	else if (exported->name != NULL &&
		 find_name(exports, exported->name, strlen(exported->name)) != NULL)
		err = kvi_fail(error, KVT_E_INVALID, 0,
			       "the name \"%.100s\" is in use on this connection", exported->name);
	else if (!enter_export(exports, exported))
		err = kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for an export");
	if (err == KVT_OK)
		kvi_list_append(&exported->pool->exports, &exported->pool_node);
	pthread_mutex_unlock(&exports->lock);
	pthread_mutex_unlock(&conn->engine->lock);
	return err;
}

enum kvt_err kvi_export_check(const struct kvt_engine *engine, const struct kvt_pool *pool,
			      unsigned access, const char *name, struct kvt_error *error)
{
	if (engine == NULL || pool == NULL)
		return kvi_fail(error, KVT_E_INVALID, 0, "no engine or no pool is given");
	if (pool->engine != engine)
		return kvi_fail(error, KVT_E_INVALID, 0, "the pool is of another engine");
	if (access == 0 || (access & ~(unsigned)(KVT_ACCESS_READ | KVT_ACCESS_WRITE)) != 0)
		return kvi_fail(error, KVT_E_INVALID, 0,
				"access %u is not read (1), write (2), or both (3)", access);
	if ((access & KVT_ACCESS_WRITE) != 0 && pool->read_only)
		return kvi_fail(error, KVT_E_INVALID, 0,
				"the pool is read-only memory, which no peer may write");
	if (name != NULL && (name[0] == '\0' || strlen(name) > KVT_NAME_LEN_MAX))
		return kvi_fail(error, KVT_E_INVALID, 0, "a name has 1 to %d bytes",
				KVT_NAME_LEN_MAX);
	return KVT_OK;
}

/* Everything but publishing; on failure what was made is in exported. */
static enum kvt_err prepare_export(struct kvt_export *exported, const char *name,
				   struct kvt_error *error)
{
	struct kvt_conn *conn = exported->conn;
	pthread_mutex_lock(&conn->exports.lock);
	exported->id = ++conn->exports.last_export_id;
	pthread_mutex_unlock(&conn->exports.lock);
	exported->home = &conn->links[exported->id % conn->lane_count];
	if (name != NULL) {
		exported->name = kvi_alloc_string(name);
		if (exported->name == NULL)
			return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for an export");
	}
	unsigned access = (exported->access & KVT_ACCESS_WRITE ? KVI_ACCESS_REMOTE_WRITE : 0U) |
			  (exported->access & KVT_ACCESS_READ ? KVI_ACCESS_REMOTE_READ : 0U);
	enum kvt_err err =
		kvi_pool_register(exported->pool, conn, access, &exported->registrations, error);
	if (err == KVT_OK)
		err = describe(exported, error);
	if (err == KVT_OK && (exported->access & KVT_ACCESS_WRITE) != 0)
		err = kvi_staging_offer(conn, error);
	return err;
}

enum kvt_err kvt_export_open(struct kvt_conn *conn, struct kvt_pool *pool, unsigned access,
			     const char *name, struct kvt_export **exported_out,
			     struct kvt_error *error)
{
	if (conn == NULL)
		return kvi_fail(error, KVT_E_INVALID, 0, "no connection is given");
	enum kvt_err err = kvi_export_check(conn->engine, pool, access, name, error);
	if (err != KVT_OK)
		return err;
	err = kvi_engine_enter(conn->engine, error);
	if (err != KVT_OK)
		return err;
	struct kvt_export *exported = kvi_alloc(sizeof(*exported));
	if (exported == NULL) {
		err = kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for an export");
		goto leave;
	}
	exported->conn = conn;
	exported->pool = pool;
	exported->access = access;
	kvi_list_init(&exported->pool_node);
	kvi_list_init(&exported->batch_node);
	kvi_ref_init(&exported->ref, 1, release_export);
	err = kvi_conn_check(conn, error);
	if (err == KVT_OK)
		err = prepare_export(exported, name, error);
	if (err == KVT_OK)
		err = publish_export(exported, error);
	if (err != KVT_OK) {
		kvi_pool_deregister(pool, exported->registrations);
		free_export(exported);
		goto leave;
	}
	kvi_ref_take(&pool->ref);
	kvi_ref_take(&conn->ref);
	*exported_out = exported;
leave:
	kvi_engine_leave(conn->engine);
	return err;
}

enum kvt_err kvt_export_describe(const struct kvt_export *exported, void *bytes, size_t *len)
{
	if (exported == NULL || len == NULL)
		return KVT_E_INVALID;
	size_t room = bytes == NULL ? exported->descriptor_len : *len;
	*len = exported->descriptor_len;
	if (room < exported->descriptor_len)
		return KVT_E_TOO_LARGE;
	if (bytes != NULL)
		memcpy(bytes, exported->descriptor, exported->descriptor_len);
	return KVT_OK;
}

/* ---- what the peer asks ---- */

struct kvt_export *kvi_export_find(struct kvt_conn *conn, uint64_t id)
{
	pthread_mutex_lock(&conn->exports.lock);
	struct kvt_export *found = find_export(&conn->exports, id);
	if (found != NULL && atomic_load(&found->state) >= KVI_EXPORT_CONFIRMED)
		found = NULL;
	pthread_mutex_unlock(&conn->exports.lock);
	return found;
}

enum kvt_err kvi_export_on_attach(struct kvi_link *link, const struct kvi_message *message)
{
	struct kvt_conn *conn = link->conn;
	const uint64_t number = message->attach.number;
	struct kvi_message answer = { .type = KVI_MESSAGE_ATTACHED, .attached.number = number };
	struct kvt_export *exported = kvi_export_find(conn, message->attach.export_id);
	pthread_mutex_lock(&conn->exports.lock);
	if (exported == NULL || atomic_load(&exported->state) != KVI_EXPORT_OPEN) {
		answer.type = KVI_MESSAGE_NO_EXPORT;
		answer.no_export.number = number;
		answer.no_export.code = KVT_E_WITHDRAWN;
	} else {
		exported->attached = true;
	}
	pthread_mutex_unlock(&conn->exports.lock);
	kvi_link_send(link, &answer);
	return KVT_OK;
}

/* An answer has one part, and the peer sends a FIND for the next: so no state is kept between them. */
enum kvt_err kvi_export_on_find(struct kvi_link *link, const struct kvi_message *message)
{
	struct kvi_exports *exports = &link->conn->exports;
	const struct kvi_message_find *find = &message->find;
	struct kvi_message answer = { .type = KVI_MESSAGE_NO_EXPORT };
	size_t room = kvi_link_get_room(link);
	pthread_mutex_lock(&exports->lock);
	struct kvt_export *exported =
		find_name(exports, (const char *)find->name.bytes, find->name.len);
	if (exported == NULL || find->offset >= exported->descriptor_len) {
		/* There is none of that name yet, or it is another one than that whose beginning the peer has. */
		answer.no_export.number = find->number;
		answer.no_export.code = KVT_E_AGAIN;
	} else {
		size_t left = exported->descriptor_len - find->offset;
		size_t most = room < KVI_PART_LEN ? room : KVI_PART_LEN;
		answer.type = KVI_MESSAGE_FOUND;
		answer.found.number = find->number;
		answer.found.export_id = exported->id;
		answer.found.len = exported->descriptor_len;
		answer.found.part.bytes = exported->descriptor + find->offset;
		answer.found.part.len = left < most ? left : most;
	}
	pthread_mutex_unlock(&exports->lock);
	kvi_link_send(link, &answer);
	return KVT_OK;
}

/* ---- withdrawing ---- */

static bool is_confirmed(const void *arg)
{
	const struct kvt_export *exported = arg;
	return atomic_load(&exported->state) >= KVI_EXPORT_CONFIRMED;
}

static bool is_closed(const void *arg)
{
	const struct kvt_export *exported = arg;
	return atomic_load(&exported->state) == KVI_EXPORT_CLOSED;
}

static void confirm_export(struct kvt_export *exported)
{
	enum kvi_export_state closing = KVI_EXPORT_CLOSING;
	atomic_compare_exchange_strong(&exported->state, &closing, KVI_EXPORT_CONFIRMED);
	kvi_worker_signal(exported->home->shard->worker);
}

enum kvt_err kvi_export_on_withdrawn(struct kvi_link *link, const struct kvi_message *message)
{
	struct kvt_conn *conn = link->conn;
	pthread_mutex_lock(&conn->exports.lock);
	struct kvt_export *found = find_export(&conn->exports, message->withdraw.export_id);
	/* A confirmation is valid only for an export that we withdraw, and on its home lane. There the export also
	 * stays valid: its withdrawal ends under the lock of that lane's worker. */
	if (found != NULL && (found->home != link || atomic_load(&found->state) == KVI_EXPORT_OPEN))
		found = NULL;
	pthread_mutex_unlock(&conn->exports.lock);
	if (found == NULL)
		return KVT_E_PROTOCOL;
	confirm_export(found);
	return KVT_OK;
}

/* Take the registrations out under the lock, so that only one closes them. */
static void deregister(struct kvt_export *exported)
{
	struct kvi_exports *exports = &exported->conn->exports;
	pthread_mutex_lock(&exports->lock);
	struct kvi_registration **registrations = exported->registrations;
	exported->registrations = NULL;
	pthread_mutex_unlock(&exports->lock);
	kvi_pool_deregister(exported->pool, registrations);
}

static void tell_peer(struct kvt_export *exported)
{
	struct kvi_message message = { .type = KVI_MESSAGE_WITHDRAW,
				       .withdraw.export_id = exported->id };
	kvi_link_send_unlocked(exported->home, &message);
}

/* It was told at since_ns: wait until it has stopped or is cut off. */
static void await_peer(struct kvt_export *exported, int64_t since_ns)
{
	struct kvt_conn *conn = exported->conn;
	struct kvi_worker *worker = exported->home->shard->worker;
	int64_t due_ns = kvi_motion_get_first_due();
	while (!kvi_worker_wait(worker, is_confirmed, exported, due_ns) && due_ns != 0 &&
	       !atomic_load(&worker->stopped))
		if (kvi_clock_now() >= due_ns)
			due_ns = kvi_motion_get_due(conn, since_ns);
	if (is_confirmed(exported))
		return;
	kvi_conn_fail(conn, KVT_E_PEER_LOST, 0,
		      "the peer did not confirm within %lld ms that it stopped using an export",
		      (long long)((kvi_clock_now() - since_ns) / KVI_MS));
	kvi_conn_await_end(conn);
}

/* Its pool need not wait for it any more, nor its offer. */
static void leave_pool(struct kvt_export *exported)
{
	struct kvt_engine *engine = exported->conn->engine;
	pthread_mutex_lock(&engine->lock);
	kvi_list_remove(&exported->pool_node);
	pthread_mutex_unlock(&engine->lock);
}

/* Nobody has the handle of an offer's export: it goes with its withdrawal, or its connection. */
static void drop_offers_ref(struct kvt_export *exported)
{
	if (atomic_exchange(&exported->offer, NULL) == NULL)
		return;
	leave_pool(exported);
	kvi_ref_drop(&exported->ref);
}

static struct kvi_withdrawal begin_withdrawal(struct kvt_export *exported)
{
	struct kvt_conn *conn = exported->conn;
	enum kvi_export_state open = KVI_EXPORT_OPEN;
	pthread_mutex_lock(&conn->exports.lock);
	bool first = atomic_compare_exchange_strong(&exported->state, &open, KVI_EXPORT_CLOSING);
	bool must_confirm = first && exported->attached && !conn->exports.ended;
	if (first)
		forget_name(&conn->exports, exported);
	pthread_mutex_unlock(&conn->exports.lock);
	/* Packs are unpacked until the peer has confirmed: it may report them to its application as success. */
	if (must_confirm)
		tell_peer(exported);
	return (struct kvi_withdrawal){ first, must_confirm, kvi_clock_now() };
}

static void end_withdrawal(struct kvt_export *exported, struct kvi_withdrawal withdrawal)
{
	struct kvt_conn *conn = exported->conn;
	struct kvi_worker *home = exported->home->shard->worker;
	if (!withdrawal.first) {
		kvi_worker_await(home, is_closed, exported);
		return;
	}
	if (withdrawal.asked)
		await_peer(exported, withdrawal.since_ns);
	atomic_store(&exported->state, KVI_EXPORT_CONFIRMED);
	/* A worker that found the export before may still unpack into it, under its lock. */
	kvi_engine_meet_workers(conn->engine);
	deregister(exported);
	pthread_mutex_lock(&conn->exports.lock);
	forget_export(&conn->exports, exported);
	pthread_mutex_unlock(&conn->exports.lock);
	leave_pool(exported);
	kvi_worker_lock(home);
	atomic_store(&exported->state, KVI_EXPORT_CLOSED);
	kvi_worker_signal(home);
	kvi_worker_unlock(home);
	drop_offers_ref(exported);
}

void kvi_export_adopt(struct kvt_export *exported, struct kvt_offer *offer)
{
	struct kvi_exports *exports = &exported->conn->exports;
	kvi_ref_take(&exported->ref);
	atomic_store(&exported->offer, offer);
	pthread_mutex_lock(&exports->lock);
	bool is_over = exported->by_id.tbl == NULL;
	pthread_mutex_unlock(&exports->lock);
	/* Its end came sooner, and may not have seen whose it is. */
	if (is_over)
		drop_offers_ref(exported);
	kvi_ref_drop(&exported->ref);
}

void kvi_export_withdraw(struct kvt_export *exported)
{
	end_withdrawal(exported, begin_withdrawal(exported));
}

/* Whether it is one of the offer's; NULL: of any, or of none. */
static bool is_of(const struct kvt_export *exported, const struct kvt_offer *offer)
{
	return offer == NULL || atomic_load(&exported->offer) == offer;
}

/* Those of the pool, or of the offer, that no other thread withdraws with others, each with a reference. */
static void take_batch(struct kvt_pool *pool, const struct kvt_offer *offer, struct kvi_list *batch)
{
	kvi_list_init(batch);
	pthread_mutex_lock(&pool->engine->lock);
	kvi_list_for_each (node, next_node, &pool->exports) {
		struct kvt_export *exported = kvi_container_of(node, struct kvt_export, pool_node);
		if (!is_of(exported, offer) || !kvi_list_is_empty(&exported->batch_node))
			continue;
		kvi_ref_take(&exported->ref);
		kvi_list_append(batch, &exported->batch_node);
	}
	pthread_mutex_unlock(&pool->engine->lock);
}

static void end_batch(struct kvt_pool *pool, struct kvi_list *batch)
{
	struct kvi_list *first;
	while ((first = kvi_list_get_first(batch)) != NULL) {
		struct kvt_export *exported =
			kvi_container_of(first, struct kvt_export, batch_node);
		end_withdrawal(exported, exported->withdrawal);
		pthread_mutex_lock(&pool->engine->lock);
		kvi_list_remove(&exported->batch_node);
		pthread_mutex_unlock(&pool->engine->lock);
		kvi_ref_drop(&exported->ref);
	}
}

/* One of the pool, or of the offer, whose withdrawal has not ended, with a reference; NULL: all have. */
static struct kvt_export *take_export(struct kvt_pool *pool, const struct kvt_offer *offer)
{
	struct kvt_export *found = NULL;
	pthread_mutex_lock(&pool->engine->lock);
	kvi_list_for_each (node, next_node, &pool->exports) {
		struct kvt_export *exported = kvi_container_of(node, struct kvt_export, pool_node);
		if (!is_of(exported, offer))
			continue;
		kvi_ref_take(&exported->ref);
		found = exported;
		break;
	}
	pthread_mutex_unlock(&pool->engine->lock);
	return found;
}

void kvi_exports_withdraw(struct kvt_pool *pool, const struct kvt_offer *offer)
{
	struct kvi_list batch;
	struct kvt_export *exported;
	take_batch(pool, offer, &batch);
	kvi_list_for_each (node, next_node, &batch) {
		exported = kvi_container_of(node, struct kvt_export, batch_node);
		exported->withdrawal = begin_withdrawal(exported);
	}
	end_batch(pool, &batch);
	/* Those of other threads: they have begun, and are waited for. */
	while ((exported = take_export(pool, offer)) != NULL) {
		kvi_export_withdraw(exported);
		kvi_ref_drop(&exported->ref);
	}
}

void kvt_export_close(struct kvt_export *exported)
{
	if (exported == NULL || kvi_engine_is_forked(exported->conn->engine))
		return;
	kvi_export_withdraw(exported);
	kvi_ref_drop(&exported->ref);
}

void kvi_exports_end(struct kvt_conn *conn)
{
	struct kvi_exports *exports = &conn->exports;
	for (;;) {
		/* Those that are left, one by one: a worker's lock goes before exports->lock. */
		pthread_mutex_lock(&exports->lock);
		struct kvt_export *found = exports->by_id;
		if (found != NULL) {
			kvi_ref_take(&found->ref);
			forget_export(exports, found);
		}
		pthread_mutex_unlock(&exports->lock);
		if (found == NULL)
			return;
		deregister(found);
		kvi_worker_lock(found->home->shard->worker);
		confirm_export(found);
		kvi_worker_unlock(found->home->shard->worker);
		drop_offers_ref(found);
		kvi_ref_drop(&found->ref);
	}
}
