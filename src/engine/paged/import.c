/* SPDX-License-Identifier: Apache-2.0 */
/*
 * import.c - asking the owner of exports: FIND, what is the descriptor of the one of that name, and ATTACH, may it be
 * used.
 *
 * Design notes. A descriptor comes in parts, of which the next is asked for when one has come: so nobody keeps more
 * of it than the one who wants it, and a peer can make that one keep no more than the longest descriptor there is. An
 * owner answers as soon as it is asked, with a part each, and its answers wait in its own memory: so few questions are
 * without an answer on a lane at a time, whether anybody waits for that or not, and further ones wait here. The remote
 * is known here before the owner has agreed, so that a withdrawal that follows the answer finds it.
 */
#include "engine/paged/import.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "engine/core/abi.h"
#include "engine/core/conn.h"
#include "engine/core/engine.h"
#include "engine/lane/link.h"
#include "engine/paged/exports.h"
#include "engine/paged/staging.h"
#include "engine/transfer/transfer.h"

/* The pause before a name that nothing had is asked for again; each further one is twice as long: whatever comes is
 * found soon, as against how long it was waited for, and thousands that wait cost little. */
#define REST_NS (20 * KVI_MS)
#define REST_LONGEST_NS (320 * KVI_MS)

struct import {
	struct kvt_transfer transfer;

	/* immutable after start */
	struct kvi_link *link; /* home */
	char *name;	       /* NULL: a descriptor was given */

	/* under worker lock */
	struct kvi_list node;	/* in link->askers, while it waits for others to be answered */
	struct kvi_entry entry; /* in shard->questions by number, while its question is out */
	bool has_turn;		/* to ask: it waits for room on the link */
	bool rests;		/* nothing had the name: until it is asked for again */
	bool was_unknown;	/* that was the last answer */
	int64_t rest_ns;	/* the next pause */
	uint64_t id;		/* of the export that is being found */
	uint8_t *bytes;		/* its descriptor, as far as it has come */
	size_t len;		/* of the whole */
	size_t got;

	/* of the worker that offer is at, one after another */
	struct kvi_command offer;
	struct kvt_error error;

	/* atomic */
	_Atomic(struct kvt_remote *) remote; /* with a reference, until the application takes it */
};

static struct import *get_import(struct kvt_transfer *transfer)
{
	return kvi_container_of(transfer, struct import, transfer);
}

static void drop_descriptor(struct import *import)
{
	kvi_free(import->bytes);
	import->bytes = NULL;
	import->len = import->got = 0;
}

static void drop_remote(struct import *import)
{
	struct kvt_remote *remote = atomic_exchange(&import->remote, NULL);
	if (remote != NULL)
		kvi_ref_drop(&remote->ref);
}

/* ---- questions ---- */

/* Those that have waited longest ask, as far as the owner takes questions. */
static void give_turns(struct kvi_link *link)
{
	struct kvi_list *node;
	while (link->questions_out < KVI_QUESTIONS_MAX &&
	       (node = kvi_list_take_first(&link->askers)) != NULL) {
		struct import *import = kvi_container_of(node, struct import, node);
		link->questions_out++;
		import->has_turn = true;
		kvi_link_await_room(link, &import->transfer.waiter);
	}
}

/* Ask what is to be known next: FIND while there is no remote, then ATTACH. */
static void ask(struct import *import)
{
	import->rests = false;
	kvi_list_append(&import->link->askers, &import->node);
	give_turns(import->link);
}

static bool begin_question(struct kvi_waiter *waiter)
{
	struct import *import = kvi_container_of(waiter, struct import, transfer.waiter);
	struct kvi_link *link = import->link;
	const struct kvt_remote *remote = atomic_load(&import->remote);
	uint64_t number = (link->last_question + 1) * link->conn->lane_count + link->index;
	struct kvi_message message = { .type = KVI_MESSAGE_ATTACH };
	if (remote != NULL)
		message.attach = (struct kvi_message_attach){ number, remote->id };
	else
		message = (struct kvi_message){
			.type = KVI_MESSAGE_FIND,
			.find = {
				.number = number,
				.offset = import->got,
				.name = { (const uint8_t *)import->name, strlen(import->name) },
			},
		};
	if (!kvi_table_add(&link->shard->questions, &import->entry, number, 0)) {
		kvi_link_retry(link); /* there may be memory then */
		return false;
	}
	if (!kvi_link_try_send(link, &message)) {
		kvi_table_remove(&link->shard->questions, &import->entry);
		return false;
	}
	kvi_list_remove(&waiter->node);
	import->has_turn = false;
	link->last_question++;
	return true;
}

/* Not below 0: a peer may answer what nobody has asked, and that was counted for one who has his turn. */
static void count_answer(struct kvi_link *link)
{
	if (link->questions_out > 0)
		link->questions_out--;
}

/* Nobody wants to know any more. What is out is still to be answered. */
static void end_question(struct import *import)
{
	struct kvi_link *link = import->link;
	kvi_list_remove(&import->node);
	kvi_list_remove(&import->transfer.waiter.node);
	kvi_table_remove(&link->shard->questions, &import->entry);
	if (!import->has_turn)
		return;
	import->has_turn = false;
	count_answer(link);
	give_turns(link);
}

/* Nothing has the name, or something else than before: begin again, a little later. */
static void rest(struct import *import)
{
	struct kvt_transfer *transfer = &import->transfer;
	int64_t due_ns = kvi_deadline_after(import->rest_ns);
	if (import->rest_ns < REST_LONGEST_NS)
		import->rest_ns *= 2;
	drop_descriptor(import);
	import->rests = import->was_unknown = true;
	kvi_transfer_set_deadline(transfer,
				  due_ns < transfer->deadline_ns ? due_ns : transfer->deadline_ns);
}

/* ---- answers ---- */

/* The owner has agreed, or what it said makes no remote: the transfer ends. */
static void end_import(struct import *import, const struct kvt_error *error)
{
	if (error->code == KVT_OK)
		kvi_transfer_complete(&import->transfer, NULL);
	else
		kvi_transfer_give_up(&import->transfer, error->code, error->text);
}

/*
 * The owner fills staging buffers of ours with the small blocks that are read. They are offered on the lanes of each
 * worker in turn, home last; whatever ends the transfer meanwhile ends that, too.
 */
static void offer_staging(struct kvi_worker *worker, struct kvi_command *command)
{
	struct import *import = kvi_container_of(command, struct import, offer);
	struct kvt_transfer *transfer = &import->transfer;
	struct kvt_conn *conn = transfer->conn;
	struct kvt_engine *engine = conn->engine;
	struct kvi_shard *shard = &conn->shards[worker->index];
	bool is_over = atomic_load(&transfer->done) || shard->severed;
	if (!is_over && import->error.code == KVT_OK)
		import->error.code = kvi_staging_offer_shard(shard, &import->error);
	if (!is_over && worker != transfer->worker) {
		kvi_worker_push(engine->workers[(worker->index + 1) % engine->worker_count],
				command);
		return;
	}
	if (!is_over && import->error.code == KVT_OK)
		atomic_store(&conn->exports.is_staged, true);
	if (!is_over)
		end_import(import, &import->error);
	kvi_ref_drop(&transfer->ref);
}

static void on_attached(struct import *import)
{
	struct kvt_conn *conn = import->transfer.conn;
	const struct kvt_remote *remote = atomic_load(&import->remote);
	unsigned next = (import->transfer.worker->index + 1) % conn->engine->worker_count;
	if ((remote->access & KVT_ACCESS_READ) == 0 || !kvi_staging_is_wanted(conn)) {
		kvi_transfer_complete(&import->transfer, NULL);
		return;
	}
	import->offer.run = offer_staging;
	kvi_ref_take(&import->transfer.ref);
	kvi_worker_push(conn->engine->workers[next], &import->offer);
}

/* The descriptor is whole. */
static void on_found(struct import *import)
{
	struct kvt_remote *remote = NULL;
	struct kvt_error error;
	enum kvt_err err =
		kvi_remote_make(import->transfer.conn, import->bytes, import->len, &remote, &error);
	drop_descriptor(import);
	if (err != KVT_OK) {
		end_import(import, &error);
		return;
	}
	atomic_store(&import->remote, remote);
	ask(import);
}

/* The next part of a descriptor. What it adds up to is bounded before there is memory for it. */
static enum kvt_err take_part(struct import *import, const struct kvi_message_found *found)
{
	const struct kvi_view *part = &found->part;
	if (import->got > 0 && found->export_id != import->id) {
		rest(import);
		return KVT_OK;
	}
	if (found->len > KVI_DESCRIPTOR_LEN_MAX || (import->got > 0 && found->len != import->len) ||
	    part->len > found->len - import->got ||
	    (part->len < KVI_PART_LEN_MIN && part->len != found->len - import->got) ||
	    part->len == 0)
		return KVT_E_PROTOCOL;
	if (import->got == 0) {
		import->id = found->export_id;
		import->len = found->len;
		import->bytes = kvi_alloc_data(found->len);
	}
	if (import->bytes == NULL) {
		kvi_transfer_give_up(&import->transfer, KVT_E_NO_MEMORY,
				     "no memory for a descriptor");
		return KVT_OK;
	}
	memcpy(import->bytes + import->got, part->bytes, part->len);
	import->got += part->len;
	if (import->got < import->len)
		ask(import);
	else
		on_found(import);
	return KVT_OK;
}

static enum kvt_err take_refusal(struct import *import, bool finds, enum kvt_err code)
{
	if (code != (finds ? KVT_E_AGAIN : KVT_E_WITHDRAWN))
		return KVT_E_PROTOCOL;
	if (finds)
		rest(import);
	else
		kvi_transfer_give_up(&import->transfer, KVT_E_WITHDRAWN,
				     "the peer has withdrawn this export");
	return KVT_OK;
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

/* The answer to a question that somebody waits for. */
static enum kvt_err take_answer(struct import *import, const struct kvi_message *message)
{
	bool finds = atomic_load(&import->remote) == NULL;
	switch (message->type) {
	case KVI_MESSAGE_FOUND:
		return finds ? take_part(import, &message->found) : KVT_E_PROTOCOL;
	case KVI_MESSAGE_ATTACHED:
		if (finds)
			return KVT_E_PROTOCOL;
		on_attached(import);
		return KVT_OK;
	default:
		return take_refusal(import, finds, message->no_export.code);
	}
}

enum kvt_err kvi_import_on_answer(struct kvi_link *link, const struct kvi_message *message)
{
	struct kvi_entry *entry = kvi_table_find(&link->shard->questions, get_number(message), 0);
	struct import *import = entry == NULL ? NULL
					      : kvi_container_of(entry, struct import, entry);
	enum kvt_err err = KVT_OK; /* also when it was given up meanwhile */
	if (import != NULL && import->link != link)
		return KVT_E_PROTOCOL;
	count_answer(link);
	if (import != NULL) {
		kvi_table_remove(&link->shard->questions, &import->entry);
		err = take_answer(import, message);
	}
	give_turns(link);
	return err;
}

/* ---- as a kind of transfers ---- */

static void start_import(struct kvt_transfer *transfer)
{
	struct import *import = get_import(transfer);
	struct kvt_error error;
	if (import->link->shard->severed) {
		kvi_conn_check(transfer->conn, &error);
		kvi_transfer_complete(transfer, &error);
		return;
	}
	kvi_transfer_set_deadline(transfer, transfer->deadline_ns);
	ask(import);
}

/* Nothing of the caller's memory is in use, so it ends at once. */
static void give_up_import(struct kvt_transfer *transfer)
{
	kvi_transfer_complete_given_up(transfer);
}

static bool on_import_due(struct kvt_transfer *transfer)
{
	struct import *import = get_import(transfer);
	if (!import->rests || kvi_clock_now() >= transfer->deadline_ns)
		return false;
	kvi_transfer_set_deadline(transfer, transfer->deadline_ns);
	ask(import);
	return true;
}

static void format_import_timeout(const struct kvt_transfer *transfer, char *text, size_t len)
{
	const struct import *import = kvi_container_of(transfer, const struct import, transfer);
	if (import->was_unknown && atomic_load(&import->remote) == NULL)
		snprintf(text, len, "the peer has exported nothing named \"%.100s\"", import->name);
	else
		snprintf(text, len, "the peer did not answer in time");
}

static void settle_import(struct kvt_transfer *transfer, bool failed)
{
	struct import *import = get_import(transfer);
	end_question(import);
	drop_descriptor(import);
	if (failed)
		drop_remote(import);
}

static void free_import(struct kvt_transfer *transfer)
{
	struct import *import = get_import(transfer);
	drop_remote(import);
	kvi_free(import->name);
	kvi_free(import);
}

static const struct kvi_transfer_kind import_kind = {
	.start = start_import,
	.begin = begin_question,
	.give_up = give_up_import,
	.on_due = on_import_due,
	.format_timeout = format_import_timeout,
	.settle = settle_import,
	.free = free_import,
};

/* ---- starting ---- */

/* What is to be imported: a name, or a descriptor, which is looked at here. */
static enum kvt_err fill_import(struct import *import, const struct kvt_import_request *request,
				struct kvt_error *error)
{
	struct kvt_conn *conn = request->conn;
	struct kvt_remote *remote;
	if ((request->name == NULL) == (request->bytes == NULL))
		return kvi_fail(error, KVT_E_INVALID, 0,
				"a name is given, or a descriptor, and not both");
	if (request->bytes != NULL) {
		enum kvt_err err =
			kvi_remote_make(conn, request->bytes, request->len, &remote, error);
		if (err != KVT_OK)
			return err;
		atomic_store(&import->remote, remote);
		import->link = remote->home;
		return KVT_OK;
	}
	if (request->name[0] == '\0' || strlen(request->name) > KVT_NAME_LEN_MAX)
		return kvi_fail(error, KVT_E_INVALID, 0, "a name has 1 to %d bytes",
				KVT_NAME_LEN_MAX);
	import->name = kvi_alloc_string(request->name);
	if (import->name == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for an import");
	import->link =
		&conn->links[atomic_fetch_add(&conn->exports.next_lane, 1) % conn->lane_count];
	return KVT_OK;
}

static enum kvt_err start(const struct kvt_import_request *request, bool is_of_call,
			  struct import **started, struct kvt_error *error)
{
	struct kvt_conn *conn = request->conn;
	int64_t timeout_ns = request->timeout_ns;
	if (conn == NULL)
		return kvi_fail(error, KVT_E_INVALID, 0, "no connection is given");
	enum kvt_err err = kvi_transfer_check_start(conn, KVI_CONNECT_NS, &timeout_ns, error);
	if (err == KVT_OK)
		err = kvi_conn_check(conn, error);
	if (err != KVT_OK)
		return err;
	struct import *import = kvi_alloc(sizeof(*import));
	if (import == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for an import");
	kvi_list_init(&import->node);
	import->rest_ns = REST_NS;
	import->transfer.kind = &import_kind;
	import->transfer.count = 1;
	import->transfer.reap = request->reap;
	import->transfer.is_of_call = is_of_call;
	err = fill_import(import, request, error);
	if (err == KVT_OK)
		err = kvi_transfer_start(&import->transfer, conn, import->link->shard->worker,
					 timeout_ns, error);
	if (err == KVT_OK)
		*started = import;
	else
		free_import(&import->transfer);
	return err;
}

enum kvt_err kvt_import_start(const struct kvt_import_request *given,
			      struct kvt_transfer **transfer, struct kvt_error *error)
{
	struct kvt_import_request request;
	struct import *import;
	if (transfer == NULL)
		return kvi_fail(error, KVT_E_INVALID, 0, "no place is given");
	enum kvt_err err = kvi_sized_read(&kvi_abi_import_request, &request, given, error);
	if (err == KVT_OK)
		err = start(&request, false, &import, error);
	if (err == KVT_OK)
		*transfer = &import->transfer;
	return err;
}

struct kvt_remote *kvt_transfer_take_remote(struct kvt_transfer *transfer)
{
	if (transfer->kind != &import_kind || kvi_engine_is_forked(transfer->engine) ||
	    !kvt_transfer_is_done(transfer))
		return NULL;
	return atomic_exchange(&get_import(transfer)->remote, NULL);
}

/* ---- calls that wait ---- */

static bool is_over(const void *arg)
{
	const struct kvt_transfer *transfer = arg;
	return kvt_transfer_is_done(transfer) || atomic_load(&transfer->engine->stopping);
}

/* Wait for it, unless the hook or the end of the engine says not to. */
static enum kvt_err see_through(struct import *import, struct kvt_remote **remote,
				struct kvt_error *error)
{
	struct kvt_transfer *transfer = &import->transfer;
	kvi_worker_wait(transfer->worker, is_over, transfer, KVI_NEVER);
	bool is_whole = kvt_transfer_is_done(transfer);
	kvt_transfer_cancel(transfer);
	while (kvt_transfer_wait(transfer, KVT_FOREVER) != KVT_OK)
		;
	enum kvt_err err = transfer->error.code;
	if (err == KVT_OK)
		*remote = kvt_transfer_take_remote(transfer);
	else if (is_whole || err != KVT_E_CANCELLED)
		kvi_fail(error, err, transfer->error.provider_errno, "%s",
			 kvi_error_get_text(&transfer->error));
	else if (atomic_load(&transfer->engine->stopping))
		err = kvi_fail(error, KVT_E_CLOSED, 0, "the engine is closed");
	else
		err = kvi_fail(error, KVT_E_CANCELLED, 0, "interrupted while asking the peer");
	kvt_transfer_free(transfer);
	return err;
}

static enum kvt_err import(const struct kvt_import_request *request, struct kvt_remote **remote,
			   struct kvt_error *error)
{
	struct import *started;
	if (request->conn == NULL || remote == NULL)
		return kvi_fail(error, KVT_E_INVALID, 0, "no connection or no place is given");
	struct kvt_engine *engine = request->conn->engine;
	enum kvt_err err = kvi_engine_enter(engine, error);
	if (err != KVT_OK)
		return err;
	err = start(request, true, &started, error);
	if (err == KVT_OK)
		err = see_through(started, remote, error);
	kvi_engine_leave(engine);
	return err;
}

enum kvt_err kvt_remote_import(struct kvt_conn *conn, const void *bytes, size_t len,
			       int64_t timeout_ns, struct kvt_remote **remote,
			       struct kvt_error *error)
{
	const struct kvt_import_request request = {
		.conn = conn, .bytes = bytes, .len = len, .timeout_ns = timeout_ns
	};
	if (bytes == NULL)
		return kvi_fail(error, KVT_E_INVALID, 0, "no descriptor is given");
	return import(&request, remote, error);
}

enum kvt_err kvt_remote_find(struct kvt_conn *conn, const char *name, int64_t timeout_ns,
			     struct kvt_remote **remote, struct kvt_error *error)
{
	const struct kvt_import_request request = { .conn = conn,
						    .name = name,
						    .timeout_ns = timeout_ns };
	if (name == NULL)
		return kvi_fail(error, KVT_E_INVALID, 0, "no name is given");
	return import(&request, remote, error);
}
