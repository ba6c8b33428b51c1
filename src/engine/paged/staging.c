/* SPDX-License-Identifier: Apache-2.0 */
/*
 * staging.c - staging buffers, packs, and unpacking.
 *
 * Design notes. A pack's spans stand in the staging buffer, where the peer can write at any time;
 * each is read once, into our own memory, then checked, then used. What a peer can change meanwhile
 * are bytes of its own blocks.
 */
#include "engine/paged/staging.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/sum.h"
#include "engine/core/conn.h"
#include "engine/core/engine.h"
#include "engine/paged/check.h"
#include "engine/paged/grid.h"
#include "engine/paged/read_request.h"
#include "engine/paged/pool.h"
#include "engine/paged/exports.h"
#include "engine/transfer/spread.h"

static void free_staging(struct kvi_link *link)
{
	struct kvi_staging *staging = link->staging;
	if (staging == NULL)
		return;
	link->staging = NULL;
	kvi_read_requests_free(staging);
	kvi_memory_close(staging->in_memory);
	kvi_memory_close(staging->out_memory);
	if (!kvi_staging_is_common(link)) {
		kvi_free(staging->in);
		kvi_free(staging->out);
	}
	kvi_free(staging->sources);
	kvi_free(staging);
}

const struct kvi_poster kvi_staging_poster = {
	.pump = kvi_read_requests_pump,
	.free = free_staging,
};

static struct kvi_staging *get_staging(struct kvi_link *link)
{
	if (link->staging != NULL)
		return link->staging;
	struct kvi_staging *staging = kvi_alloc(sizeof(*staging));
	if (staging == NULL)
		return NULL;
	kvi_list_init(&staging->free_packs);
	kvi_list_init(&staging->incoming);
	link->staging = staging;
	return staging;
}

bool kvi_staging_is_common(const struct kvi_link *link)
{
	return kvi_conn_get_caps(link->conn)->common_len > 0;
}

/* ---- offering staging buffers ---- */

size_t kvi_staging_get_buffer_len(const struct kvi_link *link)
{
	const struct kvi_caps *caps = kvi_conn_get_caps(link->conn);
	size_t max_len = caps->common_len > 0 ? caps->common_len / KVI_STAGING_BUFFERS
					      : caps->max_segment_len;
	return max_len < KVI_STAGING_BUFFER_LEN ? max_len - max_len % KVI_COPY_LINE
						: KVI_STAGING_BUFFER_LEN;
}

/* Staging buffers of our own, which the peer writes. */
static enum kvt_err make_buffers(struct kvi_link *link, size_t buffer_len, struct kvt_error *error)
{
	struct kvi_staging *staging = link->staging;
	staging->in = kvi_alloc_lines(KVI_STAGING_BUFFERS * buffer_len);
	if (staging->in == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0,
				"no memory for the staging buffers of a lane");
	enum kvt_err err = kvi_memory_open(link->cq, staging->in, KVI_STAGING_BUFFERS * buffer_len,
					   KVI_ACCESS_REMOTE_WRITE, kvi_conn_make_key(),
					   &staging->in_memory, error);
	if (err != KVT_OK) {
		kvi_free(staging->in);
		staging->in = NULL;
	}
	return err;
}

/* Those that the peer fills in place. */
static enum kvt_err find_buffers(struct kvi_link *link, struct kvt_error *error)
{
	struct kvi_common common;
	if (kvi_lane_get_common(link->lane, &common) != KVT_OK)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0,
				"no memory for the staging buffers of a lane");
	link->staging->in = common.peer;
	return KVT_OK;
}

static enum kvt_err offer(struct kvi_link *link, struct kvt_error *error)
{
	/* Once a lane is closed, what it has was freed, or will be soon: it gets nothing more. */
	if (link->lane == NULL)
		return KVT_OK;
	struct kvi_staging *staging = get_staging(link);
	if (staging == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0,
				"no memory for the staging buffers of a lane");
	if (staging->in != NULL)
		return KVT_OK;
	size_t buffer_len = kvi_staging_get_buffer_len(link);
	bool is_common = kvi_staging_is_common(link);
	enum kvt_err err = is_common ? find_buffers(link, error)
				     : make_buffers(link, buffer_len, error);
	if (err != KVT_OK)
		return err;
	struct kvi_rkey rkey = { 0, 0 };
	if (!is_common)
		rkey = kvi_memory_get_rkey(staging->in_memory);
	struct kvi_message message = {
		.type = KVI_MESSAGE_STAGING,
		.staging = {
			.buffer_count = KVI_STAGING_BUFFERS,
			.buffer_len = buffer_len,
			.rkey = { .address = rkey.address, .key = rkey.key },
		},
	};
	kvi_link_send(link, &message);
	return KVT_OK;
}

bool kvi_staging_is_wanted(const struct kvt_conn *conn)
{
	const struct kvi_caps *caps = kvi_conn_get_caps(conn);
	return caps->pack_below > 0 && caps->send_after_write &&
	       !atomic_load(&conn->exports.is_staged);
}

enum kvt_err kvi_staging_offer_shard(struct kvi_shard *shard, struct kvt_error *error)
{
	enum kvt_err err = KVT_OK;
	kvi_list_for_each (node, next_node, &shard->links) {
		err = offer(kvi_container_of(node, struct kvi_link, node), error);
		if (err != KVT_OK)
			break;
	}
	return err;
}

enum kvt_err kvi_staging_offer(struct kvt_conn *conn, struct kvt_error *error)
{
	enum kvt_err err = KVT_OK;
	if (!kvi_staging_is_wanted(conn))
		return KVT_OK;
	for (unsigned i = 0; err == KVT_OK && i < conn->engine->worker_count; i++) {
		struct kvi_worker *worker = conn->engine->workers[i];
		kvi_worker_lock(worker);
		err = kvi_staging_offer_shard(&conn->shards[i], error);
		kvi_worker_flush_unlock(worker);
	}
	if (err == KVT_OK)
		atomic_store(&conn->exports.is_staged, true);
	return err;
}

enum kvt_err kvi_staging_on_offer(struct kvi_link *link, const struct kvi_message *message)
{
	const struct kvi_message_staging *offered = &message->staging;
	struct kvi_staging *staging = get_staging(link);
	size_t max_len = kvi_staging_get_buffer_len(link);
	if (staging == NULL)
		return KVT_E_NO_MEMORY;
	if (staging->buffer_len != 0 || offered->buffer_count == 0 ||
	    offered->buffer_count > KVI_STAGING_BUFFERS_MAX ||
	    offered->buffer_len <= KVI_WIRE_SPAN_LEN || offered->buffer_len > UINT32_MAX)
		return KVT_E_PROTOCOL;
	if (kvi_staging_is_common(link) &&
	    (offered->buffer_count > KVI_STAGING_BUFFERS || offered->buffer_len > max_len))
		return KVT_E_PROTOCOL;
	staging->rkey.address = offered->rkey.address;
	staging->rkey.key = offered->rkey.key;
	staging->buffer_len = offered->buffer_len < max_len ? offered->buffer_len : max_len;
	staging->peer_buffers = staging->buffers_free = (unsigned)offered->buffer_count;
	staging->peer_buffer_len = offered->buffer_len;
	kvi_link_touch(link);
	return KVT_OK;
}

/* ---- sending packs ---- */

size_t kvi_staging_get_len(const struct kvi_link *link)
{
	const size_t pad = KVI_COPY_LINE - KVI_WIRE_SPAN_LEN;
	return link->staging == NULL || link->staging->buffer_len < pad
		       ? 0
		       : link->staging->buffer_len - pad;
}

/* Packs in place: that of each staging buffer is where the peer finds it. */
static bool find_packs(struct kvi_link *link, struct kvi_staging *staging)
{
	struct kvi_common common;
	if (kvi_lane_get_common(link->lane, &common) != KVT_OK)
		return false;
	staging->out = common.own;
	for (unsigned i = 0; i < staging->peer_buffers; i++)
		staging->packs[i].bytes = staging->out + i * staging->peer_buffer_len;
	return true;
}

static bool make_packs(struct kvi_link *link, struct kvi_staging *staging)
{
	if (staging->sources == NULL)
		staging->sources = kvi_alloc_data(sizeof(*staging->sources));
	if (staging->sources == NULL)
		return false;
	if (kvi_staging_is_common(link))
		return find_packs(link, staging);
	staging->out = kvi_alloc_lines(KVI_PACKS * staging->buffer_len);
	if (staging->out == NULL ||
	    (kvi_conn_get_caps(link->conn)->local_memory &&
	     kvi_memory_open(link->cq, staging->out, KVI_PACKS * staging->buffer_len,
			     KVI_ACCESS_LOCAL, kvi_conn_make_key(), &staging->out_memory,
			     NULL) != KVT_OK)) {
		kvi_free(staging->out);
		staging->out = NULL;
		return false;
	}
	for (unsigned i = 0; i < KVI_PACKS; i++) {
		staging->packs[i].bytes = staging->out + i * staging->buffer_len;
		kvi_list_append(&staging->free_packs, &staging->packs[i].node);
	}
	return true;
}

struct kvi_pack *kvi_staging_take(struct kvi_link *link)
{
	struct kvi_staging *staging = link->staging;
	if (staging->buffers_free == 0)
		return NULL;
	if (staging->out == NULL && !make_packs(link, staging)) {
		kvi_conn_fail(link->conn, KVT_E_NO_MEMORY, 0, "no memory to pack blocks on lane %u",
			      link->index);
		return NULL;
	}
	struct kvi_pack *pack = &staging->packs[staging->next_buffer];
	if (!kvi_staging_is_common(link)) {
		struct kvi_list *node = kvi_list_take_first(&staging->free_packs);
		if (node == NULL)
			return NULL;
		pack = kvi_container_of(node, struct kvi_pack, node);
	}
	staging->buffers_free--;
	pack->buffer = staging->next_buffer;
	staging->next_buffer = (staging->next_buffer + 1) % staging->peer_buffers;
	pack->len = 0;
	pack->span_count = 0;
	pack->grid = (struct kvi_wire_grid){ .block_len = 0 };
	return pack;
}

void kvi_staging_put(struct kvi_link *link, struct kvi_pack *pack)
{
	/* To the front: the one used last is still in the cache. */
	if (!kvi_staging_is_common(link))
		kvi_list_prepend(&link->staging->free_packs, &pack->node);
	kvi_link_touch(link);
}

void kvi_staging_fill_span(const struct kvi_link *link, const struct kvi_pack *pack,
			   struct kvi_span *span)
{
	const struct kvi_staging *staging = link->staging;
	*span = (struct kvi_span){
		.base = pack->bytes,
		.len = pack->len,
		.memory = staging->out_memory,
		.remote = { .address =
				    staging->rkey.address + pack->buffer * staging->peer_buffer_len,
			    .key = staging->rkey.key },
	};
}

static void announce(struct kvi_segment *segment)
{
	struct kvi_staging *staging = segment->link->staging;
	const struct kvi_pack *pack = segment->cargo;
	struct kvi_message message = {
		.type = KVI_MESSAGE_PACK,
		.has_sum = segment->link->conn->has_sums,
		.sum = pack->sum,
		.pack = {
			.buffer = pack->buffer,
			.export_id = pack->export_id,
			.span_count = pack->span_count,
			.grid = pack->grid,
		},
	};
	staging->awaiting[pack->buffer] = segment->awaits_ack ? segment : NULL;
	/* The last one waits for what follows it: the transfer's end in the same packet. */
	if (atomic_load(&segment->stripe->spread->exhausted))
		kvi_link_send(segment->link, &message);
	else
		kvi_link_send_now(segment->link, &message);
}

/* The segment ends without waiting for its acknowledgement. */
static void forget_segment(struct kvi_segment *segment)
{
	struct kvi_staging *staging = segment->link->staging;
	for (unsigned i = 0; i < KVI_STAGING_BUFFERS_MAX; i++)
		if (staging->awaiting[i] == segment)
			staging->awaiting[i] = NULL;
}

static void put_pack(struct kvi_segment *segment)
{
	kvi_staging_put(segment->link, segment->cargo);
}

const struct kvi_cargo_kind kvi_pack_cargo = {
	.on_posted = announce,
	.on_failed = forget_segment,
	.release = put_pack,
};

enum kvt_err kvi_staging_on_ack(struct kvi_link *link, const struct kvi_message *message)
{
	struct kvi_staging *staging = link->staging;
	const uint64_t count = message->pack_ack.buffer_count;
	if (staging == NULL || count == 0 || count > staging->peer_buffers - staging->buffers_free)
		return KVT_E_PROTOCOL;
	for (uint64_t i = 0; i < count; i++) {
		struct kvi_segment *segment = staging->awaiting[staging->next_ack_buffer];
		staging->awaiting[staging->next_ack_buffer] = NULL;
		staging->next_ack_buffer = (staging->next_ack_buffer + 1) % staging->peer_buffers;
		staging->buffers_free++;
		if (segment != NULL)
			kvi_segment_on_ack(segment);
	}
	kvi_link_touch(link);
	return KVT_OK;
}

enum kvt_err kvi_staging_on_wrong(struct kvi_link *link, const struct kvi_message *message)
{
	struct kvi_staging *staging = link->staging;
	const uint64_t buffer = message->pack_wrong.buffer;
	if (staging == NULL || buffer >= staging->peer_buffers)
		return KVT_E_PROTOCOL;
	/* Of an answer to a read request there is no segment here: that transfer is the peer's. */
	if (staging->awaiting[buffer] != NULL)
		kvi_check_fail(staging->awaiting[buffer], "a pack");
	else
		kvi_conn_on_corrupt(link->conn, "an answer to the peer's read request");
	return KVT_OK;
}

/* ---- receiving packs ---- */

bool kvi_staging_is_offered(const struct kvi_link *link)
{
	return link->staging != NULL && link->staging->in != NULL;
}

const uint8_t *kvi_staging_get_buffer(const struct kvi_link *link, uint64_t buffer)
{
	return link->staging->in + buffer * kvi_staging_get_buffer_len(link);
}

void kvi_staging_complain(struct kvi_link *link, uint64_t buffer)
{
	struct kvi_message wrong = { .type = KVI_MESSAGE_PACK_WRONG, .pack_wrong.buffer = buffer };
	kvi_link_send(link, &wrong);
}

/* On several lanes, and where sums are used, the ACK is sent at once: it completes one of the peer's segments. Else
 * the peer needs nothing but free staging buffers, so ACKs are sent together. */
void kvi_staging_release_buffer(struct kvi_link *link)
{
	struct kvi_staging *staging = link->staging;
	staging->unpacked++;
	if (link->conn->lane_count > 1 || link->conn->has_sums ||
	    staging->unpacked >= KVI_STAGING_BUFFERS / 2) {
		struct kvi_message ack = { .type = KVI_MESSAGE_PACK_ACK,
					   .pack_ack.buffer_count = staging->unpacked };
		kvi_link_send(link, &ack);
		staging->unpacked = 0;
	}
}

/* Where the bytes begin; beyond the staging buffer: the spans, or what is on a grid, do not fit into it. */
static size_t find_bytes(const struct kvi_message_pack *pack, size_t buffer_len)
{
	const bool is_grid = pack->grid.block_len > 0;
	const size_t name_len = kvi_pack_get_name_len(&pack->grid);
	if (pack->span_count > buffer_len / name_len)
		return SIZE_MAX;
	size_t offset = kvi_pack_get_offset(pack->span_count, name_len);
	return is_grid && pack->span_count > (buffer_len - offset) / pack->grid.block_len ? SIZE_MAX
											  : offset;
}

/* Whether names and bytes are as the peer wrote them. Spans that lead beyond the staging buffer came wrong, too. */
static bool is_pack_right(const struct kvi_message_pack *pack, const uint8_t *buffer,
			  size_t buffer_len, size_t offset, uint64_t sum)
{
	size_t len = offset + pack->span_count * pack->grid.block_len;
	for (size_t i = 0; pack->grid.block_len == 0 && i < pack->span_count && len <= buffer_len;
	     i++) {
		struct kvi_wire_span span;
		kvi_wire_span_decode(buffer + i * KVI_WIRE_SPAN_LEN, &span);
		len += span.len;
	}
	return len <= buffer_len && kvi_sum(buffer, len, 0) == sum;
}

bool kvi_staging_unpack(const struct kvt_pool *pool, const uint8_t *spans, size_t span_count,
			const uint8_t *data, size_t *left)
{
	const size_t extent_count = pool->layout.extent_count;
	size_t extent = extent_count; /* that of the span before, which most are in, too */
	size_t room = *left;
	uint64_t extent_len = 0;
	uint8_t *base = NULL;
	for (size_t i = 0; i < span_count; i++) {
		struct kvi_wire_span span;
		kvi_wire_span_decode(spans + i * KVI_WIRE_SPAN_LEN, &span);
		if (span.extent >= extent_count)
			return false;
		if (span.extent != extent) {
			extent = span.extent;
			extent_len = kvi_extent_get_len(&pool->layout, extent);
			base = pool->bases[extent];
		}
		if (!kvi_span_is_within(&span, extent_len) || span.len > room)
			return false;
		kvi_copy_past(base + span.offset, data, span.len);
		data += span.len;
		room -= span.len;
	}
	*left = room;
	return true;
}

static bool unpack_buffer(const struct kvt_pool *pool, const struct kvi_message_pack *pack,
			  const uint8_t *buffer, size_t buffer_len, size_t offset)
{
	size_t left = buffer_len - offset; /* a staging buffer is of whole lines */
	if (pack->grid.block_len > 0)
		return kvi_grid_unpack(pool, &pack->grid, buffer, pack->span_count,
				       buffer + offset);
	return kvi_staging_unpack(pool, buffer, pack->span_count, buffer + offset, &left);
}

enum kvt_err kvi_staging_on_pack(struct kvi_link *link, const struct kvi_message *message)
{
	const struct kvi_staging *staging = link->staging;
	const struct kvi_message_pack *pack = &message->pack;
	size_t buffer_len = kvi_staging_get_buffer_len(link);
	size_t offset = find_bytes(pack, buffer_len);
	if (staging == NULL || staging->in == NULL || pack->buffer >= KVI_STAGING_BUFFERS ||
	    offset > buffer_len)
		return KVT_E_PROTOCOL;
	const uint8_t *buffer = kvi_staging_get_buffer(link, pack->buffer);
	if (message->has_sum && !is_pack_right(pack, buffer, buffer_len, offset, message->sum)) {
		kvi_conn_on_corrupt(link->conn, "a pack of the peer's");
		kvi_staging_complain(link, pack->buffer);
		kvi_staging_release_buffer(link);
		return KVT_OK;
	}
	/* Of an export that was withdrawn it is dropped: the peer learns of that, and fails it itself. */
	struct kvt_export *exported = kvi_export_find(link->conn, pack->export_id);
	if (exported != NULL && ((exported->access & KVT_ACCESS_WRITE) == 0 ||
				 !unpack_buffer(exported->pool, pack, buffer, buffer_len, offset)))
		return KVT_E_PROTOCOL;
	kvi_staging_release_buffer(link);
	return KVT_OK;
}
