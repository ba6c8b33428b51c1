/* SPDX-License-Identifier: Apache-2.0 */
/*
 * remote.c - what a descriptor of the peer's describes, and the end of its use when the peer withdraws it. import.c
 * asks for it.
 */
#include <sodium.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "engine/core/abi.h"
#include "engine/core/conn.h"
#include "engine/core/engine.h"
#include "engine/paged/paged.h"
#include "engine/paged/exports.h"

/* ---- references and use ---- */

/* Under exports.lock. */
static void forget_remote(struct kvi_exports *exports, struct kvt_remote *remote)
{
	if (remote->by_id.tbl == NULL)
		return;
	HASH_DELETE(by_id, exports->remotes, remote);
	remote->by_id.tbl = NULL;
}

static void release_remote(struct kvi_ref *ref)
{
	struct kvt_remote *remote = kvi_container_of(ref, struct kvt_remote, ref);
	struct kvt_conn *conn = remote->conn;
	pthread_mutex_lock(&conn->exports.lock);
	forget_remote(&conn->exports, remote);
	pthread_mutex_unlock(&conn->exports.lock);
	kvi_free(remote->layout.extents);
	kvi_free(remote->rkeys);
	kvi_free(remote);
	kvi_ref_drop(&conn->ref);
}

static void send_withdrawn(struct kvi_worker *worker, struct kvi_command *command)
{
	(void)worker;
	struct kvt_remote *remote = kvi_container_of(command, struct kvt_remote, confirm);
	struct kvi_message message = { .type = KVI_MESSAGE_WITHDRAWN,
				       .withdraw.export_id = remote->id };
	kvi_link_send(remote->home, &message);
	kvi_ref_drop(&remote->ref);
}

/* Tell the owner, once, when nothing of ours uses it any more. */
static void confirm_if_quiet(struct kvt_remote *remote)
{
	if (!atomic_load(&remote->withdrawn) || atomic_load(&remote->in_flight) > 0 ||
	    atomic_exchange(&remote->confirmed, true))
		return;
	remote->confirm.run = send_withdrawn;
	kvi_ref_take(&remote->ref);
	kvi_worker_push(remote->home->shard->worker, &remote->confirm);
}

bool kvi_remote_enter(struct kvt_remote *remote)
{
	atomic_fetch_add(&remote->in_flight, 1);
	if (!atomic_load(&remote->withdrawn))
		return true;
	kvi_remote_leave(remote);
	return false;
}

void kvi_remote_leave(struct kvt_remote *remote)
{
	if (atomic_fetch_sub(&remote->in_flight, 1) == 1)
		confirm_if_quiet(remote);
}

struct kvi_rkey kvi_remote_get_rkey(const struct kvt_remote *remote, size_t extent,
				    const struct kvi_link *link)
{
	const struct kvi_wire_rkey *rkey =
		&remote->rkeys[extent * remote->rkey_count + link->index % remote->rkey_count];
	return (struct kvi_rkey){ .address = rkey->address, .key = rkey->key };
}

/* With a reference; under exports.lock. */
static struct kvt_remote *look_up_remote(struct kvi_exports *exports, uint64_t id)
{
	struct kvt_remote *found;
	HASH_FIND(by_id, exports->remotes, &id, sizeof(id), found);
	if (found == NULL || kvi_ref_try_take(&found->ref))
		return found;
	forget_remote(exports, found); /* who releases it comes too late for that */
	return NULL;
}

static struct kvt_remote *find_remote(struct kvt_conn *conn, uint64_t id)
{
	pthread_mutex_lock(&conn->exports.lock);
	struct kvt_remote *found = look_up_remote(&conn->exports, id);
	pthread_mutex_unlock(&conn->exports.lock);
	return found;
}

/* ---- withdrawal ---- */

/* Stop the transfers of a remote that are at home on one worker. */
struct stop {
	struct kvi_command command;
	struct kvt_remote *remote;
};

static void run_remote_stop(struct kvi_worker *worker, struct kvi_command *command)
{
	struct stop *stop = kvi_container_of(command, struct stop, command);
	kvi_paged_stop_remote(&stop->remote->conn->shards[worker->index], stop->remote);
	kvi_ref_drop(&stop->remote->ref);
	kvi_free(stop);
}

static void stop_elsewhere(struct kvt_remote *remote, const struct kvi_worker *here)
{
	struct kvt_engine *engine = remote->conn->engine;
	for (unsigned i = 0; i < engine->worker_count; i++) {
		if (engine->workers[i] == here)
			continue;
		struct stop *stop = kvi_alloc(sizeof(*stop));
		if (stop == NULL) {
			kvi_conn_fail(remote->conn, KVT_E_NO_MEMORY, 0,
				      "no memory to stop the transfers of a remote");
			return;
		}
		stop->command.run = run_remote_stop;
		stop->remote = remote;
		kvi_ref_take(&remote->ref);
		kvi_worker_push(engine->workers[i], &stop->command);
	}
}

enum kvt_err kvi_remote_on_withdraw(struct kvi_link *link, const struct kvi_message *message)
{
	const uint64_t id = message->withdraw.export_id;
	struct kvt_remote *remote = find_remote(link->conn, id);
	if (remote == NULL) {
		struct kvi_message answer = { .type = KVI_MESSAGE_WITHDRAWN,
					      .withdraw.export_id = id };
		kvi_link_send(link, &answer);
		return KVT_OK;
	}
	atomic_store(&remote->withdrawn, true);
	kvi_paged_stop_remote(link->shard, remote);
	stop_elsewhere(remote, link->shard->worker);
	confirm_if_quiet(remote);
	kvi_ref_drop(&remote->ref);
	return KVT_OK;
}

/* ---- making one of a descriptor ---- */

static enum kvt_err check_descriptor(const struct kvt_conn *conn, const uint8_t *bytes, size_t len,
				     struct kvi_descriptor *descriptor, struct kvt_error *error)
{
	uint8_t mac[KVI_MAC_LEN];
	if (len < KVI_MAC_LEN ||
	    kvi_descriptor_decode(bytes, len - KVI_MAC_LEN, descriptor) != KVT_OK)
		return kvi_fail(error, KVT_E_INVALID, 0,
				"%zu bytes that are no descriptor, or not a whole one", len);
	if (sodium_memcmp(descriptor->session, conn->session_id, KVI_SESSION_LEN) != 0)
		return kvi_fail(error, KVT_E_INVALID, 0,
				"the descriptor is of another connection, or an older session");
	kvi_secrets_seal(conn->secrets, !conn->is_server, bytes, len - KVI_MAC_LEN, mac);
	if (sodium_memcmp(mac, bytes + len - KVI_MAC_LEN, KVI_MAC_LEN) != 0)
		return kvi_fail(error, KVT_E_INVALID, 0,
				"the descriptor was altered, or was made by this side");
	return KVT_OK;
}

static enum kvt_err fill_remote(struct kvt_remote *remote, const struct kvi_descriptor *descriptor,
				const uint8_t *bytes, struct kvt_error *error)
{
	struct kvi_layout *layout = &remote->layout;
	remote->id = descriptor->id;
	remote->access = descriptor->access;
	remote->is_shared = descriptor->is_shared;
	remote->rkey_count = descriptor->rkey_count;
	remote->home = &remote->conn->links[descriptor->id % remote->conn->lane_count];
	layout->block_len = descriptor->block_len;
	layout->extent_count = descriptor->extent_count;
	layout->extents = kvi_alloc_array(descriptor->extent_count, sizeof(layout->extents[0]));
	remote->rkeys = kvi_alloc_array((size_t)descriptor->extent_count * remote->rkey_count,
					sizeof(remote->rkeys[0]));
	if (layout->extents == NULL || remote->rkeys == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for a remote");
	for (uint32_t i = 0; i < descriptor->extent_count; i++) {
		struct kvi_descriptor_extent extent;
		kvi_descriptor_decode_extent(descriptor, bytes, i, &extent);
		layout->extents[i].count = extent.count;
		layout->extents[i].stride = extent.stride;
		memcpy(&remote->rkeys[i * remote->rkey_count], extent.rkeys,
		       remote->rkey_count * sizeof(remote->rkeys[0]));
	}
	if (!kvi_layout_complete(layout))
		return kvi_fail(error, KVT_E_INVALID, 0, "the descriptor describes no blocks");
	return KVT_OK;
}

/* Another import may have been quicker. NULL: no memory. */
static struct kvt_remote *publish_remote(struct kvt_remote *made)
{
	struct kvi_exports *exports = &made->conn->exports;
	pthread_mutex_lock(&exports->lock);
	struct kvt_remote *published = look_up_remote(exports, made->id);
	if (published == NULL) {
		HASH_ADD(by_id, exports->remotes, id, sizeof(made->id), made);
		published = made->by_id.tbl != NULL ? made : NULL;
	}
	pthread_mutex_unlock(&exports->lock);
	return published;
}

enum kvt_err kvi_remote_make(struct kvt_conn *conn, const uint8_t *bytes, size_t len,
			     struct kvt_remote **remote_out, struct kvt_error *error)
{
	struct kvi_descriptor descriptor;
	enum kvt_err err = check_descriptor(conn, bytes, len, &descriptor, error);
	if (err != KVT_OK)
		return err;
	struct kvt_remote *remote = kvi_alloc(sizeof(*remote));
	if (remote == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for a remote");
	remote->conn = conn;
	kvi_ref_init(&remote->ref, 1, release_remote);
	kvi_ref_take(&conn->ref);
	err = fill_remote(remote, &descriptor, bytes, error);
	struct kvt_remote *published = err == KVT_OK ? publish_remote(remote) : NULL;
	if (published != remote)
		kvi_ref_drop(&remote->ref);
	if (err == KVT_OK && published == NULL)
		err = kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for a remote");
	if (err == KVT_OK)
		*remote_out = published;
	return err;
}

void kvt_remote_close(struct kvt_remote *remote)
{
	if (remote == NULL || kvi_engine_is_forked(remote->conn->engine))
		return;
	kvi_ref_drop(&remote->ref);
}

enum kvt_err kvt_remote_get_info(const struct kvt_remote *remote, struct kvt_remote_info *info)
{
	if (remote == NULL)
		return KVT_E_INVALID;
	const struct kvt_remote_info found = {
		.access = remote->access,
		.withdrawn = atomic_load(&remote->withdrawn),
		.extent_count = remote->layout.extent_count,
		.block_count = remote->layout.block_count,
		.block_len = remote->layout.block_len,
		.len = remote->layout.len,
	};
	return kvi_sized_write(&kvi_abi_remote_info, &found, info);
}
