/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kv.c - opening and closing KVs.
 */
#include "engine/tagged/kv.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "engine/core/abi.h"
#include "engine/core/conn.h"
#include "engine/core/engine.h"
#include "engine/progress/shard.h"
#include "engine/transfer/transfer.h"

static void release_kv(struct kvi_ref *ref)
{
	struct kvt_kv *kv = kvi_container_of(ref, struct kvt_kv, ref);
	kvi_registration_close(kv->registration);
	kvi_ref_drop(&kv->conn->ref);
	kvi_free(kv);
}

/* Bind kv to the queue of its tag; under the lock of the home worker. */
static enum kvt_err bind_tag_queue(struct kvt_kv *kv, struct kvt_error *error)
{
	struct kvt_conn *conn = kv->conn;
	/* When a connection has ended, its eager messages can still be received. The application opens its KVs in
	 * the usual order, so those without messages must open, too. */
	if (kv->link->shard->severed && atomic_load(&conn->arrivals) == 0)
		return kvi_conn_check(conn, error);
	struct kvi_tag_queue *queue = kvi_tag_queue_get(kv->link->shard, kv->link, kv->tag);
	if (queue == NULL)
		return kvi_fail(error, KVT_E_LIMIT, 0,
				"no room for another KV; a connection has at most %d", KVI_KVS_MAX);
	if (queue->kv != NULL)
		return kvi_fail(error, KVT_E_INVALID, 0, "tag %llu is in use on this connection",
				(unsigned long long)kv->tag);
	queue->kv = kv;
	kv->queue = queue;
	return KVT_OK;
}

/*
 * Bind to a given tag, or to the next of the automatic ones. The counter moves under the lock of the
 * worker where its tag is at home, so that a message for it is never taken for one to a closed KV.
 */
static enum kvt_err bind_tag(struct kvt_kv *kv, uint64_t tag, struct kvt_error *error)
{
	struct kvt_conn *conn = kv->conn;
	for (;;) {
		uint64_t number = atomic_load(&conn->next_auto_tag);
		kv->tag = tag == KVT_TAG_AUTO ? number | KVT_TAG_MAX : tag;
		kv->link = &conn->links[kvi_tag_queue_get_home(kv->tag, conn->lane_count)];
		kv->worker = kv->link->shard->worker;

		kvi_worker_lock(kv->worker);
		bool mine =
			tag != KVT_TAG_AUTO ||
			atomic_compare_exchange_strong(&conn->next_auto_tag, &number, number + 1);
		enum kvt_err err = mine ? bind_tag_queue(kv, error) : KVT_E_AGAIN;
		kvi_worker_unlock(kv->worker);
		if (err != KVT_E_AGAIN)
			return err;
	}
}

enum kvt_err kvt_kv_open(struct kvt_conn *conn, const struct kvt_kv_config *given,
			 struct kvt_kv **kv_out, struct kvt_error *error)
{
	struct kvt_kv_config config;
	if (conn == NULL || kv_out == NULL)
		return kvi_fail(error, KVT_E_INVALID, 0, "no connection or no place is given");
	enum kvt_err err = kvi_sized_read(&kvi_abi_kv_config, &config, given, error);
	if (err != KVT_OK)
		return err;
	if (config.tag != KVT_TAG_AUTO && config.tag >= KVT_TAG_MAX)
		return kvi_fail(error, KVT_E_INVALID, 0,
				"tag %llu is too large; tags are below 2^63",
				(unsigned long long)config.tag);
	if ((config.base == NULL && config.len > 0) || config.len > PTRDIFF_MAX)
		return kvi_fail(error, KVT_E_INVALID, 0, "%zu bytes at %p are no memory",
				config.len, config.base);
	if (kvi_engine_is_forked(conn->engine))
		return kvi_fail(error, KVT_E_FORKED, 0, KVI_FORKED_TEXT);
	err = kvi_engine_enter(conn->engine, error);
	if (err != KVT_OK)
		return err;
	struct kvt_kv *kv = kvi_alloc(sizeof(*kv));
	if (kv == NULL) {
		err = kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for a KV");
		goto err_leave;
	}
	kv->conn = conn;
	kv->base = config.base;
	kv->len = config.len;
	kv->read_only = config.read_only;
	kvi_ref_init(&kv->ref, 1, release_kv);
	kvi_ref_take(&conn->ref);

	if (config.len > 0 && kvi_conn_get_caps(conn)->local_memory &&
	    kvi_conn_check(conn, NULL) == KVT_OK) {
		err = kvi_registration_open(conn, kv->base, kv->len, KVI_ACCESS_LOCAL,
					    &kv->registration, error);
		if (err != KVT_OK)
			goto err_drop;
	}
	err = bind_tag(kv, config.tag, error);
	if (err != KVT_OK)
		goto err_drop;
	kvi_count(&conn->counters, KVI_COUNT_KVS, 1);
	*kv_out = kv;
	kvi_engine_leave(conn->engine);
	return KVT_OK;

err_drop:
	kvi_ref_drop(&kv->ref);
err_leave:
	kvi_engine_leave(conn->engine);
	return err;
}

static bool is_kv_quiet(const void *arg)
{
	const struct kvt_kv *kv = arg;
	return kv->in_flight == 0;
}

void kvt_kv_close(struct kvt_kv *kv)
{
	if (kv == NULL || kvi_engine_is_forked(kv->conn->engine))
		return;
	struct kvi_worker *worker = kv->worker;
	kvi_worker_lock(worker);
	kv->closing = true;
	if (!kv->link->shard->severed) {
		kvi_tag_queue_give_up(kv->queue, KVT_E_CLOSED, "the KV was closed on this side");
		kvi_worker_flush(worker, KVI_FLUSH_ALL);
	}
	kvi_worker_unlock(worker);

	/* Bounded as a transfer's end is: the quiesce time, or the connection is severed. */
	kvi_worker_await(worker, is_kv_quiet, kv);

	kvi_worker_lock(worker);
	kvi_tag_queue_close_kv(kv->queue);
	kv->queue = NULL;
	kvi_worker_flush_unlock(worker);
	kvi_count(&kv->conn->counters, KVI_COUNT_KVS, -1);
	kvi_ref_drop(&kv->ref);
}
