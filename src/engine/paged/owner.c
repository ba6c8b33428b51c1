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
#include "engine/paged/share.h"

#define NAME_RETRY_NS (20 * KVI_MS)

/* A question to the owner, ATTACH or FIND. On the asking thread's stack, and in share.asks. */
struct ask {
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
	const struct ask *ask = arg;
	return atomic_load(&ask->done);
}

static struct ask *find_ask(struct kvi_share *share, uint64_t number)
{
	kvi_list_for_each (node, next_node, &share->asks) {
		struct ask *ask = kvi_container_of(node, struct ask, node);
		if (ask->number == number)
			return ask;
	}
	return NULL;
}

/* The next part of a descriptor. What it adds up to is bounded before there is memory for it. */
static enum kvt_err take_part(struct ask *ask, const struct kvi_message_found *found)
{
	const struct kvi_view *part = &found->part;
	if (ask->got > 0 && found->export_id != ask->id) {
		ask->err = KVT_E_AGAIN; /* another export has the name now */
		return KVT_OK;
	}
	if (found->len > KVI_DESCRIPTOR_LEN_MAX || (ask->got > 0 && found->len != ask->len) ||
	    part->len > found->len - ask->got ||
	    (part->len < KVI_PART_LEN_MIN && part->len != found->len - ask->got) || part->len == 0)
		return KVT_E_PROTOCOL;
	if (ask->got == 0) {
		ask->id = found->export_id;
		ask->len = found->len;
		ask->bytes = kvi_alloc_data(found->len);
	}
	ask->err = ask->bytes != NULL ? KVT_OK : KVT_E_NO_MEMORY;
	if (ask->bytes != NULL)
		memcpy(ask->bytes + ask->got, part->bytes, part->len);
	ask->got += part->len;
	return KVT_OK;
}

static enum kvt_err take_answer(struct ask *ask, const struct kvi_message *message)
{
	bool finds = ask->name != NULL;
	switch (message->type) {
	case KVI_MESSAGE_FOUND:
		return finds ? take_part(ask, &message->found) : KVT_E_PROTOCOL;
	case KVI_MESSAGE_ATTACHED:
		ask->err = KVT_OK;
		return finds ? KVT_E_PROTOCOL : KVT_OK;
	default:
		ask->err = message->no_export.code;
		return ask->err == (finds ? KVT_E_AGAIN : KVT_E_WITHDRAWN) ? KVT_OK
									   : KVT_E_PROTOCOL;
	}
}

/* Of the question that is answered. */
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
	struct kvi_share *share = &link->conn->share;
	enum kvt_err err = KVT_OK;
	pthread_mutex_lock(&share->lock);
	struct ask *ask = find_ask(share, get_number(message)); /* NULL: it waits no more */
	if (ask != NULL)
		err = take_answer(ask, message);
	if (ask != NULL && err == KVT_OK) {
		kvi_list_remove(&ask->node);
		atomic_store(&ask->done, true);
	}
	pthread_mutex_unlock(&share->lock);
	kvi_worker_signal(link->part->worker);
	return err;
}

void kvi_asks_end(struct kvt_conn *conn)
{
	struct kvi_list *node;
	pthread_mutex_lock(&conn->share.lock);
	while ((node = kvi_list_take_first(&conn->share.asks)) != NULL) {
		struct ask *ask = kvi_container_of(node, struct ask, node);
		ask->err = conn->cause.code;
		atomic_store(&ask->done, true);
	}
	pthread_mutex_unlock(&conn->share.lock);
	for (unsigned i = 0; conn->lane_count > 0 && i < conn->engine->worker_count; i++) {
		kvi_worker_lock(conn->engine->workers[i]);
		kvi_worker_signal(conn->engine->workers[i]);
		kvi_worker_unlock(conn->engine->workers[i]);
	}
}

/* Ask, and wait for the answer. */
static enum kvt_err ask_owner(struct ask *ask, int64_t deadline_ns, struct kvt_error *error)
{
	struct kvt_conn *conn = ask->conn;
	struct kvi_share *share = &conn->share;
	pthread_mutex_lock(&share->lock);
	bool ended = share->ended;
	atomic_store(&ask->done, false);
	ask->number = ++share->last_ask;
	kvi_list_init(&ask->node);
	if (!ended)
		kvi_list_append(&share->asks, &ask->node);
	pthread_mutex_unlock(&share->lock);
	if (ended)
		return kvi_conn_check(conn, error);

	struct kvi_link *link = &conn->links[ask->number % conn->lane_count];
	struct kvi_message message = {
		.type = KVI_MESSAGE_ATTACH,
		.attach = { .number = ask->number, .export_id = ask->id },
	};
	if (ask->name != NULL)
		message = (struct kvi_message){
			.type = KVI_MESSAGE_FIND,
			.find = {
				.number = ask->number,
				.offset = ask->got,
				.name = { (const uint8_t *)ask->name, strlen(ask->name) },
			},
		};
	kvi_link_send_unlocked(link, &message);
	kvi_worker_wait(link->part->worker, is_answered, ask, deadline_ns);

	pthread_mutex_lock(&share->lock);
	kvi_list_remove(&ask->node);
	bool done = atomic_load(&ask->done);
	pthread_mutex_unlock(&share->lock);
	if (done && ask->err == KVT_OK)
		return KVT_OK;
	if (kvi_conn_check(conn, error) != KVT_OK)
		return kvi_conn_check(conn, error);
	if (done && ask->err == KVT_E_WITHDRAWN)
		return kvi_fail(error, KVT_E_WITHDRAWN, 0, "the peer has withdrawn this export");
	if (done)
		return kvi_fail(error, ask->err, 0, "the peer did not say what it exported: %s",
				kvt_err_get_text(ask->err));
	if (kvi_clock_now() >= deadline_ns)
		return kvi_fail(error, KVT_E_TIMEOUT, 0, "the peer did not answer in time");
	return kvi_fail(error, KVT_E_CANCELLED, 0, "interrupted while asking the peer");
}

/* Ask until the whole descriptor of an export of ask->name is there, ask->bytes, or the deadline. */
static enum kvt_err find_descriptor(struct ask *ask, int64_t deadline_ns, struct kvt_error *error)
{
	for (;;) {
		enum kvt_err err = ask_owner(ask, deadline_ns, error);
		if (err == KVT_OK && ask->got < ask->len)
			continue;
		if (err != KVT_E_AGAIN)
			return err;
		if (kvi_clock_now() + NAME_RETRY_NS >= deadline_ns)
			return kvi_fail(error, KVT_E_TIMEOUT, 0,
					"the peer has exported nothing named \"%.100s\"",
					ask->name);
		if (kvi_engine_is_interrupted(ask->conn->engine))
			return kvi_fail(error, KVT_E_CANCELLED, 0,
					"interrupted while waiting for an export");
		if (atomic_load(&ask->conn->engine->stopping))
			return kvi_fail(error, KVT_E_CLOSED, 0, "the engine is closed");
		const struct timespec nap = { .tv_nsec = NAME_RETRY_NS };
		clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, NULL);
		kvi_free(ask->bytes);
		*ask = (struct ask){ .conn = ask->conn, .name = ask->name };
	}
}

enum kvt_err kvi_owner_attach(struct kvt_conn *conn, uint64_t id, int64_t deadline_ns,
			      struct kvt_error *error)
{
	struct ask ask = { .conn = conn, .id = id };
	return ask_owner(&ask, deadline_ns, error);
}

enum kvt_err kvi_owner_find(struct kvt_conn *conn, const char *name, int64_t deadline_ns,
			    uint8_t **bytes, size_t *len, struct kvt_error *error)
{
	struct ask ask = { .conn = conn, .name = name };
	enum kvt_err err = find_descriptor(&ask, deadline_ns, error);
	if (err != KVT_OK) {
		kvi_free(ask.bytes);
		return err;
	}
	*bytes = ask.bytes;
	*len = ask.len;
	return KVT_OK;
}
