/* SPDX-License-Identifier: Apache-2.0 */
/*
 * life.c - the life of a connection but for its beginning, which is in dial.c (this side calls) and
 * session.c (both).
 */
#include "engine/conn/life.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/thread.h"
#include "engine/conn/control.h"
#include "engine/conn/dialer.h"
#include "engine/core/engine.h"
#include "engine/lane/link.h"
#include "engine/paged/notification.h"
#include "engine/paged/exports.h"
#include "engine/paged/staging.h"
#include "engine/progress/shard.h"
#include "engine/progress/worker.h"
#include "engine/tagged/tag_queue.h"
#include "engine/transfer/inbox.h"
#include "engine/transfer/spread.h"
#include "engine/transfer/transfer.h"

/* Transfers that end while a worker's lock is held: some 100 us. */
enum { FAILED_AT_ONCE = 256 };

static void release_conn(struct kvi_ref *ref)
{
	struct kvt_conn *conn = kvi_container_of(ref, struct kvt_conn, ref);
	for (unsigned i = 0; conn->shards != NULL && i < conn->engine->worker_count; i++)
		kvi_tag_queues_free(&conn->shards[i]);
	kvi_inbox_forget(&conn->engine->inbox, conn);
	kvi_free(conn->ended);
	kvi_free(conn->arrived);
	kvi_vault_give(&conn->engine->vault, conn->secrets);
	kvi_ref_drop(&conn->engine->ref);
	kvi_exports_destroy(&conn->exports);
	pthread_mutex_destroy(&conn->lock);
	kvi_free(conn->peer_identity);
	kvi_free(conn->peer_lanes);
	kvi_free(conn->near);
	kvi_free(conn->links);
	kvi_free(conn->shards);
	kvi_free(conn);
}

static struct kvt_conn *alloc_conn(struct kvt_engine *engine, bool is_server)
{
	struct kvt_conn *conn = kvi_alloc(sizeof(*conn));
	if (conn == NULL)
		return NULL;
	bool is_told = is_server && engine->settings.accept_events;
	conn->ended = kvi_event_alloc(conn, KVT_EVENT_CONN_ENDED, 0);
	if (is_told)
		conn->arrived = kvi_event_alloc(conn, KVT_EVENT_CONN_ACCEPTED, 0);
	conn->secrets = kvi_vault_take(&engine->vault);
	if (conn->ended == NULL || conn->secrets == NULL || (is_told && conn->arrived == NULL)) {
		kvi_vault_give(&engine->vault, conn->secrets);
		kvi_free(conn->arrived);
		kvi_free(conn->ended);
		kvi_free(conn);
		return NULL;
	}
	conn->engine = engine;
	conn->notes = &engine->control->notes;
	conn->control_wake = &engine->control->wake;
	conn->is_server = is_server;
	conn->counters.parent = &engine->counters;
	kvi_list_init(&conn->node);
	kvi_list_init(&conn->ready_node);
	kvi_list_init(&conn->held_events);
	kvi_list_init(&conn->events);
	pthread_mutex_init(&conn->lock, NULL);
	kvi_exports_init(&conn->exports);
	atomic_store(&conn->state, KVI_CONN_OPENING);
	kvi_ref_init(&conn->ref, 2, release_conn);
	atomic_store(&conn->next_generation, 1);
	kvi_ref_take(&engine->ref);
	return conn;
}

struct kvt_conn *kvi_conn_admit(struct kvt_engine *engine, bool is_server, const char *host,
				uint16_t port, struct kvt_error *error)
{
	struct kvt_conn *conn = NULL;
	pthread_mutex_lock(&engine->lock);
	if (is_server && engine->unaccepted_count >= KVI_UNACCEPTED_MAX)
		kvi_fail(error, KVT_E_LIMIT, 0, KVI_TOO_MANY_WAIT, KVI_UNACCEPTED_MAX);
	else if (engine->conn_count >= KVI_CONNECTIONS_MAX)
		kvi_fail(error, KVT_E_LIMIT, 0,
			 "no room for another connection: an engine has at most %d",
			 KVI_CONNECTIONS_MAX);
	else if ((conn = alloc_conn(engine, is_server)) == NULL)
		kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for a connection");
	if (conn != NULL) {
		snprintf(conn->host, sizeof(conn->host), "%s", host);
		conn->port = port;
		engine->conn_count++;
		kvi_list_append(&engine->conns, &conn->node);
	}
	pthread_mutex_unlock(&engine->lock);
	return conn;
}

void kvi_conn_dismiss(struct kvt_conn *conn)
{
	pthread_mutex_lock(&conn->engine->lock);
	conn->engine->conn_count--;
	kvi_list_remove(&conn->node);
	pthread_mutex_unlock(&conn->engine->lock);
	kvi_ref_drop(&conn->ref);
	kvi_ref_drop(&conn->ref);
}

static void init_link(struct kvt_conn *conn, unsigned index)
{
	struct kvt_engine *engine = conn->engine;
	const struct kvi_path *path = conn->path;
	struct kvi_link *link = &conn->links[index];
	memset(link, 0, sizeof(*link));
	link->conn = conn;
	link->poster = &kvi_staging_poster;
	link->index = index;
	link->rail = path->first + index % path->count;
	link->shard = &conn->shards[(index / path->count) % engine->worker_count];
	link->cq = link->shard->worker->cqs[link->rail];
	link->send_credits = conn->peer_rx_count - 2;
	link->window_left = KVI_LANE_WINDOW;
	kvi_list_init(&link->node);
	kvi_list_init(&link->dirty_node);
	kvi_list_init(&link->stripes);
	kvi_list_init(&link->free_packets);
	kvi_list_init(&link->queue);
	kvi_list_init(&link->waiting);
	kvi_list_init(&link->waiting_notes);
	kvi_list_init(&link->starts_first);
	kvi_list_init(&link->starts_more);
	kvi_list_init(&link->starts_small);
	kvi_list_init(&link->askers);
	kvi_list_init(&link->chores);
	kvi_list_init(&link->untaken);
	kvi_list_init(&link->free_segments);
	kvi_flight_init(&link->flight, conn->lane_count);
}

static void init_shard(struct kvi_shard *shard, struct kvt_conn *conn, struct kvi_worker *worker)
{
	shard->conn = conn;
	shard->worker = worker;
	shard->counters.parent = &worker->counters;
	kvi_list_init(&shard->links);
	kvi_list_init(&shard->stripes);
	kvi_list_init(&shard->transfers);
}

enum kvt_err kvi_conn_make_links(struct kvt_conn *conn, unsigned lane_count, size_t peer_eager_len,
				 unsigned peer_rx_count)
{
	struct kvt_engine *engine = conn->engine;
	conn->links = kvi_alloc_array(lane_count, sizeof(conn->links[0]));
	if (conn->links == NULL)
		return KVT_E_NO_MEMORY;
	conn->shards = kvi_alloc_array(engine->worker_count, sizeof(conn->shards[0]));
	if (conn->shards == NULL)
		return KVT_E_NO_MEMORY;
	size_t eager_len = engine->settings.eager_len;
	conn->eager_len = peer_eager_len < eager_len ? peer_eager_len : eager_len;
	conn->peer_rx_count = peer_rx_count;
	for (unsigned i = 0; i < engine->worker_count; i++) {
		struct kvi_worker *worker = engine->workers[i];
		init_shard(&conn->shards[i], conn, worker);
	}
	conn->lane_count = lane_count;
	for (unsigned i = 0; i < lane_count; i++)
		init_link(conn, i);
	return KVT_OK;
}

/* ---- states ---- */

void kvi_conn_tell_change(struct kvt_conn *conn)
{
	pthread_cond_broadcast(&conn->engine->changed);
	if (conn->dial != NULL)
		kvi_dialer_tell(conn->dial);
}

/* The application may have it; under engine->lock. */
static void set_was_open(struct kvt_conn *conn)
{
	struct kvt_engine *engine = conn->engine;
	conn->was_open = true;
	kvi_count(&conn->counters, KVI_COUNT_CONNECTIONS_TOTAL, 1);
	if (conn->is_server)
		kvi_list_append(&engine->ready, &conn->ready_node);
	if (conn->arrived != NULL) {
		kvi_inbox_show_event(&engine->inbox, conn->arrived);
		conn->arrived = NULL;
	}
	kvi_conn_tell_change(conn);
}

void kvi_conn_set_open(struct kvt_conn *conn)
{
	struct kvt_engine *engine = conn->engine;
	pthread_mutex_lock(&engine->lock);
	pthread_mutex_lock(&conn->lock);
	bool opened = atomic_load(&conn->state) == KVI_CONN_OPENING;
	if (opened)
		atomic_store(&conn->state, KVI_CONN_OPEN);
	pthread_mutex_unlock(&conn->lock);
	if (opened) {
		kvi_count(&conn->counters, KVI_COUNT_CONNECTIONS, 1);
		kvi_log(KVI_LOG_DEBUG, "conn-path", "%s:%u: %s%s%s", conn->host, conn->port,
			kvi_conn_get_caps(conn)->provider, conn->path_reason[0] == '\0' ? "" : "; ",
			conn->path_reason);
		set_was_open(conn);
	}
	pthread_mutex_unlock(&engine->lock);
}

void kvi_conn_end_lanes(struct kvt_conn *conn)
{
	for (unsigned i = 0; i < conn->lane_count; i++) {
		struct kvi_message lane_end = { .type = KVI_MESSAGE_LANE_END };
		kvi_link_send_unlocked(&conn->links[i], &lane_end);
	}
}

static void tell_end(struct kvt_conn *conn)
{
	struct kvi_event *event = conn->ended;
	conn->ended = NULL;
	if (event == NULL)
		return;
	event->event.err = conn->cause.code;
	kvi_inbox_add_event(&conn->engine->inbox, event);
}

bool kvi_conn_take_place(struct kvt_conn *conn)
{
	struct kvt_engine *engine = conn->engine;
	pthread_mutex_lock(&engine->lock);
	conn->has_place = engine->unaccepted_count < KVI_UNACCEPTED_MAX;
	engine->unaccepted_count += conn->has_place;
	pthread_mutex_unlock(&engine->lock);
	return conn->has_place;
}

void kvi_conn_leave_place(struct kvt_conn *conn)
{
	conn->engine->unaccepted_count -= conn->has_place;
	conn->has_place = false;
}

/*
 * Under engine->lock: whether the handle of a connection that has ended goes with it. The application
 * has it, or will get it for what the peer left. Such a one may not have been open here: the peer sends
 * as soon as it has our READY, and can be gone before we look at its own. What came before our READY is
 * nothing that we owe.
 */
static bool goes_unseen(struct kvt_conn *conn)
{
	bool waits = conn->is_server && (!conn->was_open || !kvi_list_is_empty(&conn->ready_node));
	conn->left_something &= !waits || conn->has_place;
	if (conn->left_something && !conn->was_open)
		set_was_open(conn);
	if (!waits || conn->left_something)
		return false;
	kvi_list_remove(&conn->ready_node);
	kvi_conn_leave_place(conn);
	return true;
}

/* ---- the end ---- */

/* Sever all lanes and hand out what they flush. Afterwards no post of this shard is out. */
static void sever_shard(struct kvi_shard *shard)
{
	if (shard->severed)
		return;
	shard->severed = true;
	kvi_list_for_each (node, next_node, &shard->links) {
		struct kvi_link *link = kvi_container_of(node, struct kvi_link, node);
		kvi_list_remove(&link->dirty_node);
		kvi_link_close(link);
	}
	/* What the lanes flushed comes out here, and ends the shares of transfers under way. */
	while (shard->posted > 0)
		kvi_worker_progress(shard->worker);
	kvi_stripes_drop(shard);
}

/* Afterwards no lane of the shard was ever there. */
static void clear_shard(struct kvi_shard *shard)
{
	sever_shard(shard);
	kvi_list_for_each (node, next_node, &shard->links)
		kvi_link_free(kvi_container_of(node, struct kvi_link, node));
	shard->severed = false;
}

void kvi_conn_take_path(struct kvt_conn *conn, const struct kvi_path *path)
{
	struct kvt_engine *engine = conn->engine;
	for (unsigned i = 0; i < engine->worker_count; i++) {
		kvi_worker_lock(engine->workers[i]);
		clear_shard(&conn->shards[i]);
		kvi_worker_leave(engine->workers[i]);
		kvi_worker_unlock(engine->workers[i]);
	}
	conn->path = path;
	atomic_store(&conn->lanes_connected, 0);
	for (unsigned i = 0; i < conn->lane_count; i++)
		init_link(conn, i);
}

/* After all shards of the connection are severed: end at most `most` of the transfers here with the
 * connection's cause. True: that were all. */
static bool fail_shard(struct kvi_shard *shard, unsigned most)
{
	struct kvi_list *node;
	while ((node = kvi_list_get_first(&shard->transfers)) != NULL && most-- > 0) {
		struct kvt_transfer *transfer =
			kvi_container_of(node, struct kvt_transfer, shard_node);
		if (kvi_transfer_is_given_up(transfer))
			kvi_transfer_complete_given_up(transfer);
		else
			kvi_transfer_complete(transfer, &shard->conn->cause);
	}
	return node == NULL;
}

/* And then, once: free what its lanes and tag queues have. */
static void free_shard(struct kvi_shard *shard)
{
	kvi_tag_queues_end(shard);
	kvi_list_for_each (node, next_node, &shard->links) {
		struct kvi_link *link = kvi_container_of(node, struct kvi_link, node);
		kvi_notification_forget(link);
		kvi_link_free(link);
	}
}

void kvi_conn_tear_down(struct kvt_conn *conn)
{
	struct kvt_engine *engine = conn->engine;
	unsigned count = conn->lane_count > 0 ? engine->worker_count : 0;
	for (unsigned i = 0; i < count; i++) {
		kvi_worker_lock(engine->workers[i]);
		sever_shard(&conn->shards[i]);
		kvi_worker_leave(engine->workers[i]);
		kvi_worker_unlock(engine->workers[i]);
	}
	/* A stripe may be on its way to a shard that was severed already: it ends there, before
	 * its transfer does. */
	for (unsigned i = 0; i < count; i++) {
		kvi_worker_lock(engine->workers[i]);
		kvi_worker_progress(engine->workers[i]);
		kvi_worker_leave(engine->workers[i]);
		kvi_worker_unlock(engine->workers[i]);
	}
	for (unsigned i = 0; i < count; i++) {
		/* Shares that ended on other workers arrive here as commands. */
		kvi_worker_lock(engine->workers[i]);
		kvi_worker_progress(engine->workers[i]);
		kvi_worker_leave(engine->workers[i]);
		/* Other connections have their turns in between. */
		while (!fail_shard(&conn->shards[i], FAILED_AT_ONCE)) {
			kvi_worker_unlock(engine->workers[i]);
			kvi_worker_lock(engine->workers[i]);
		}
		free_shard(&conn->shards[i]);
		kvi_worker_unlock(engine->workers[i]);
	}
	kvi_exports_on_severed(conn);
	bool left_something = atomic_load(&conn->arrivals) > 0 ||
			      kvi_inbox_holds_events(&engine->inbox, conn);
	tell_end(conn);

	pthread_mutex_lock(&engine->lock);
	atomic_store(&conn->state, KVI_CONN_ENDED);
	conn->is_torn_down = true;
	conn->left_something = left_something;
	kvi_list_remove(&conn->node);
	engine->conn_count--;
	if (conn->was_open)
		kvi_count(&conn->counters, KVI_COUNT_CONNECTIONS, -1); /* as set_open counted it */
	if (conn->cause.code == KVT_E_PEER_LOST)
		kvi_count(&conn->counters, KVI_COUNT_CONNECTIONS_LOST, 1);
	bool drop_handle = goes_unseen(conn);
	kvi_conn_tell_change(conn);
	pthread_mutex_unlock(&engine->lock);
	if (drop_handle) {
		kvi_inbox_forget(&engine->inbox, conn);
		kvi_ref_drop(&conn->ref);
	}
}

void kvi_conn_hand_out(struct kvt_conn *conn)
{
	struct kvt_engine *engine = conn->engine;
	kvi_inbox_hand_out(&engine->inbox, conn);
	/* Who takes packets under a worker's lock sees from now on that nothing is to be left untaken. */
	for (unsigned i = 0; i < engine->worker_count; i++) {
		struct kvi_worker *worker = engine->workers[i];
		kvi_worker_lock(worker);
		kvi_list_for_each (node, next_node, &conn->shards[i].links)
			kvi_link_take_untaken(kvi_container_of(node, struct kvi_link, node));
		kvi_worker_flush_unlock(worker);
	}
}

/* ---- the handle ---- */

void kvt_conn_close(struct kvt_conn *conn)
{
	if (conn == NULL || kvi_engine_is_forked(conn->engine))
		return;
	kvi_conn_fail(conn, KVT_E_CLOSED, 0, "the connection was closed on this side");
	kvi_conn_await_end(conn);
	kvi_inbox_forget(&conn->engine->inbox, conn);
	kvi_ref_drop(&conn->ref);
}

const char *kvt_conn_get_host(const struct kvt_conn *conn)
{
	return conn->host;
}

const char *kvt_conn_get_key_id(const struct kvt_conn *conn)
{
	return conn->secrets->key_id;
}

const void *kvt_conn_get_peer_identity(const struct kvt_conn *conn, size_t *len)
{
	*len = conn->peer_identity_len;
	return conn->peer_identity;
}

uint16_t kvt_conn_get_port(const struct kvt_conn *conn)
{
	return conn->port;
}

const char *kvt_conn_get_path(const struct kvt_conn *conn, const char **reason)
{
	if (reason != NULL)
		*reason = conn->path_reason;
	/* The rails may be closed already. */
	const struct kvt_engine *engine = conn->engine;
	return conn->path == &engine->local ? KVI_LOCAL_PROVIDER : engine->provider;
}

enum kvt_err kvt_conn_get_status(struct kvt_conn *conn, struct kvt_error *error)
{
	return kvi_conn_check(conn, error);
}

enum kvt_err kvt_conn_get_stats(struct kvt_conn *conn, struct kvt_stats *stats)
{
	uint64_t values[KVI_COUNTERS] = { 0 };
	if (conn == NULL)
		return KVT_E_INVALID;
	kvi_stats_gather(values, &conn->counters);
	for (unsigned i = 0; conn->shards != NULL && i < conn->engine->worker_count; i++)
		kvi_stats_gather(values, &conn->shards[i].counters);
	values[KVI_COUNT_TRANSFERS] += atomic_load(&conn->transfer_count);
	return kvi_stats_fill(values, stats);
}
