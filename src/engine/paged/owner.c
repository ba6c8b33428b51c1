/* SPDX-License-Identifier: Apache-2.0 */
/*
 * owner.c - asking the owner of exports: ATTACH, may this one be used, and FIND, what is the descriptor of
 * the one of that name. A descriptor comes in parts, of which the next is asked for when one has come: so
 * nobody keeps more of it than the one who wants it, and a peer can make that one keep no more than the
 * longest descriptor there is.
 */
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "engine/core/conn.h"
#include "engine/core/engine.h"
#include "engine/lane/link.h"
#include "engine/paged/exports.h"

#define NAME_RETRY_NS (20 * KVI_MS)

/* A query to the owner, ATTACH or FIND. On the stack of the thread that waits, and in
 * exports.queries. */
struct query {
	struct kvi_list node;
	uint64_t number;
	struct kvt_conn *conn;
	const char *name; /* NULL: ATTACH */
	uint64_t id;	  /* of the export */
	enum kvt_err err;
	uint8_t *bytes; /* the descriptor that is being found, as far as it has come */
	size_t len;	/* of the whole */
	size_t got;
	atomic_bool done;
};

static bool is_answered(const void *arg)
{
	const struct query *query = arg;
	return atomic_load(&query->done);
}

static struct query *find_query(struct kvi_exports *exports, uint64_t number)
{
	kvi_list_for_each (node, next_node, &exports->queries) {
		struct query *query = kvi_container_of(node, struct query, node);
		if (query->number == number)
			return query;
	}
	return NULL;
}

/* The next part of a descriptor. What it adds up to is bounded before there is memory for it. */
static enum kvt_err take_part(struct query *query, const struct kvi_message_found *found)
{
	const struct kvi_view *part = &found->part;
	if (query->got > 0 && found->export_id != query->id) {
		query->err = KVT_E_AGAIN; /* another export has the name now */
		return KVT_OK;
	}
	if (found->len > KVI_DESCRIPTOR_LEN_MAX || (query->got > 0 && found->len != query->len) ||
	    part->len > found->len - query->got ||
	    (part->len < KVI_PART_LEN_MIN && part->len != found->len - query->got) ||
	    part->len == 0)
		return KVT_E_PROTOCOL;
	if (query->got == 0) {
		query->id = found->export_id;
		query->len = found->len;
		query->bytes = kvi_alloc_data(found->len);
	}
	query->err = query->bytes != NULL ? KVT_OK : KVT_E_NO_MEMORY;
	if (query->bytes != NULL)
		memcpy(query->bytes + query->got, part->bytes, part->len);
	query->got += part->len;
	return KVT_OK;
}

static enum kvt_err take_answer(struct query *query, const struct kvi_message *message)
{
	bool finds = query->name != NULL;
	switch (message->type) {
	case KVI_MESSAGE_FOUND:
		return finds ? take_part(query, &message->found) : KVT_E_PROTOCOL;
	case KVI_MESSAGE_ATTACHED:
		query->err = KVT_OK;
		return finds ? KVT_E_PROTOCOL : KVT_OK;
	default:
		query->err = message->no_export.code;
		return query->err == (finds ? KVT_E_AGAIN : KVT_E_WITHDRAWN) ? KVT_OK
									     : KVT_E_PROTOCOL;
	}
}

/* Of the query that is answered. */
static uint64_t get_number(const struct kvi_message *answer)
{
	switch (answer->type) {
	case KVI_MESSAGE_FOUND:
		return answer->found.number;
	case KVI_MESSAGE_ATTACHED:
		return answer->attached.number;
	default:
		return answer->no_export.number;
	}
}

enum kvt_err kvi_owner_on_answer(struct kvi_link *link, const struct kvi_message *message)
{
	struct kvi_exports *exports = &link->conn->exports;
	enum kvt_err err = KVT_OK;
	pthread_mutex_lock(&exports->lock);
	struct query *query = find_query(exports, get_number(message)); /* NULL: it waits no more */
	if (query != NULL)
		err = take_answer(query, message);
	if (link->questions_out > 0)
		link->questions_out--;
	if (query != NULL && err == KVT_OK) {
		kvi_list_remove(&query->node);
		atomic_store(&query->done, true);
	}
	pthread_mutex_unlock(&exports->lock);
	kvi_worker_signal(link->shard->worker);
	return err;
}

void kvi_queries_end(struct kvt_conn *conn)
{
	struct kvi_list *node;
	pthread_mutex_lock(&conn->exports.lock);
	while ((node = kvi_list_take_first(&conn->exports.queries)) != NULL) {
		struct query *query = kvi_container_of(node, struct query, node);
		query->err = conn->cause.code;
		atomic_store(&query->done, true);
	}
	pthread_mutex_unlock(&conn->exports.lock);
	for (unsigned i = 0; conn->lane_count > 0 && i < conn->engine->worker_count; i++) {
		kvi_worker_lock(conn->engine->workers[i]);
		kvi_worker_signal(conn->engine->workers[i]);
		kvi_worker_unlock(conn->engine->workers[i]);
	}
}

static bool may_ask(const void *arg)
{
	const struct kvi_link *link = arg;
	return link->questions_out < KVI_QUESTIONS_MAX ||
	       atomic_load(&link->conn->state) != KVI_CONN_OPEN;
}

/* Wait until the peer takes another question on this lane, and count it. False: it has not by the deadline, or the
 * interrupted hook said so. */
static bool take_turn(struct kvi_link *link, int64_t deadline_ns)
{
	struct kvi_worker *worker = link->shard->worker;
	bool may = true, has_turn = false;
	while (may && !has_turn) {
		may = kvi_worker_wait(worker, may_ask, link, deadline_ns);
		kvi_worker_lock(worker);
		has_turn = may && may_ask(link); /* another may have been quicker */
		link->questions_out += has_turn;
		kvi_worker_unlock(worker);
	}
	return has_turn;
}

/* Ask, and wait for the answer. */
static enum kvt_err query_owner(struct query *query, int64_t deadline_ns, struct kvt_error *error)
{
	struct kvt_conn *conn = query->conn;
	struct kvi_exports *exports = &conn->exports;
	pthread_mutex_lock(&exports->lock);
	bool ended = exports->ended;
	atomic_store(&query->done, false);
	query->number = ++exports->last_query;
	kvi_list_init(&query->node);
	if (!ended)
		kvi_list_append(&exports->queries, &query->node);
	pthread_mutex_unlock(&exports->lock);
	if (ended)
		return kvi_conn_check(conn, error);

	struct kvi_link *link = &conn->links[query->number % conn->lane_count];
	struct kvi_message message = {
		.type = KVI_MESSAGE_ATTACH,
		.attach = { .number = query->number, .export_id = query->id },
	};
	if (query->name != NULL)
		message = (struct kvi_message){
			.type = KVI_MESSAGE_FIND,
			.find = {
				.number = query->number,
				.offset = query->got,
				.name = { (const uint8_t *)query->name, strlen(query->name) },
			},
		};
	if (take_turn(link, deadline_ns)) {
		kvi_link_send_unlocked(link, &message);
		kvi_worker_wait(link->shard->worker, is_answered, query, deadline_ns);
	}

	pthread_mutex_lock(&exports->lock);
	kvi_list_remove(&query->node);
	bool done = atomic_load(&query->done);
	pthread_mutex_unlock(&exports->lock);
	if (done && query->err == KVT_OK)
		return KVT_OK;
	if (kvi_conn_check(conn, error) != KVT_OK)
		return kvi_conn_check(conn, error);
	if (done && query->err == KVT_E_WITHDRAWN)
		return kvi_fail(error, KVT_E_WITHDRAWN, 0, "the peer has withdrawn this export");
	if (done)
		return kvi_fail(error, query->err, 0, "the peer did not say what it exported: %s",
				kvt_err_get_text(query->err));
	if (kvi_clock_now() >= deadline_ns)
		return kvi_fail(error, KVT_E_TIMEOUT, 0, "the peer did not answer in time");
	return kvi_fail(error, KVT_E_CANCELLED, 0, "interrupted while asking the peer");
}

/* Ask until the whole descriptor of an export of query->name is there, query->bytes, or the
 * deadline. */
static enum kvt_err find_descriptor(struct query *query, int64_t deadline_ns,
				    struct kvt_error *error)
{
	for (;;) {
		enum kvt_err err = query_owner(query, deadline_ns, error);
		if (err == KVT_OK && query->got < query->len)
			continue;
		if (err != KVT_E_AGAIN)
			return err;
		if (kvi_clock_now() + NAME_RETRY_NS >= deadline_ns)
			return kvi_fail(error, KVT_E_TIMEOUT, 0,
					"the peer has exported nothing named \"%.100s\"",
					query->name);
		if (kvi_engine_is_interrupted(query->conn->engine))
			return kvi_fail(error, KVT_E_CANCELLED, 0,
					"interrupted while waiting for an export");
		if (atomic_load(&query->conn->engine->stopping))
			return kvi_fail(error, KVT_E_CLOSED, 0, "the engine is closed");
		const struct timespec nap = { .tv_nsec = NAME_RETRY_NS };
		clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, NULL);
		kvi_free(query->bytes);
		*query = (struct query){ .conn = query->conn, .name = query->name };
	}
}

enum kvt_err kvi_owner_attach(struct kvt_conn *conn, uint64_t id, int64_t deadline_ns,
			      struct kvt_error *error)
{
	struct query query = { .conn = conn, .id = id };
	return query_owner(&query, deadline_ns, error);
}

enum kvt_err kvi_owner_find(struct kvt_conn *conn, const char *name, int64_t deadline_ns,
			    uint8_t **bytes, size_t *len, struct kvt_error *error)
{
	struct query query = { .conn = conn, .name = name };
	enum kvt_err err = find_descriptor(&query, deadline_ns, error);
	if (err != KVT_OK) {
		kvi_free(query.bytes);
		return err;
	}
	*bytes = query.bytes;
	*len = query.len;
	return KVT_OK;
}
