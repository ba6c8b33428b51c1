/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stage.c - slots, packs, and unpacking.
 *
 * Design notes. A pack's spans stand in the slot, where the peer can write at any time; each is read
 * once, into our own memory, then checked, then used. What a peer can change meanwhile are bytes of its
 * own blocks.
 */
#include "engine/paged/stage.h"

#include "base/alloc.h"
#include "base/error.h"
#include "engine/core/conn.h"
#include "engine/core/engine.h"
#include "engine/paged/ask.h"
#include "engine/paged/pool.h"
#include "engine/paged/share.h"
#include "engine/transfer/spread.h"

static void free_stage(struct kvi_link *link)
{
	struct kvi_stage *stage = link->stage;
	if (stage == NULL)
		return;
	link->stage = NULL;
	kvi_asked_free(stage);
	kvi_memory_close(stage->in_memory);
	kvi_memory_close(stage->out_memory);
	kvi_free(stage->in);
	kvi_free(stage->out);
	kvi_free(stage);
}

const struct kvi_poster kvi_stage_poster = {
	.pump = kvi_asked_pump,
	.free = free_stage,
};

static struct kvi_stage *get_stage(struct kvi_link *link)
{
	if (link->stage != NULL)
		return link->stage;
	struct kvi_stage *stage = kvi_alloc(sizeof(*stage));
	if (stage == NULL)
		return NULL;
	kvi_list_init(&stage->free_packs);
	kvi_list_init(&stage->asked);
	link->stage = stage;
	return stage;
}

/* ---- offering slots ---- */

size_t kvi_stage_get_slot_len(const struct kvi_link *link)
{
	size_t max_len = kvi_engine_get_caps(link->conn->engine)->max_segment_len;
	return max_len < KVI_SLOT_LEN ? max_len - max_len % KVI_COPY_LINE : KVI_SLOT_LEN;
}

static enum kvt_err offer(struct kvi_link *link, struct kvt_error *error)
{
	/* Once a lane is closed, what it has was freed, or will be soon: it gets nothing more. */
	if (link->lane == NULL)
		return KVT_OK;
	struct kvi_stage *stage = get_stage(link);
	if (stage == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for the slots of a lane");
	if (stage->in != NULL)
		return KVT_OK;
	size_t slot_len = kvi_stage_get_slot_len(link);
	stage->in = kvi_alloc_lines(KVI_SLOTS * slot_len);
	if (stage->in == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for the slots of a lane");
	enum kvt_err err = kvi_memory_open(link->cq, stage->in, KVI_SLOTS * slot_len,
					   KVI_ACCESS_REMOTE_WRITE, kvi_conn_make_key(),
					   &stage->in_memory, error);
	if (err != KVT_OK) {
		kvi_free(stage->in);
		stage->in = NULL;
		return err;
	}
	struct kvi_grant grant = kvi_memory_get_grant(stage->in_memory);
	struct kvi_message message = {
		.type = KVI_MESSAGE_STAGE,
		.stage = {
			.slot_count = KVI_SLOTS,
			.slot_len = slot_len,
			.grant = { .address = grant.address, .key = grant.key },
		},
	};
	kvi_link_send(link, &message);
	return KVT_OK;
}

enum kvt_err kvi_stages_offer(struct kvt_conn *conn, struct kvt_error *error)
{
	const struct kvi_caps *caps = kvi_engine_get_caps(conn->engine);
	enum kvt_err err = KVT_OK;
	if (caps->pack_below == 0 || !caps->send_after_write)
		return KVT_OK;
	for (unsigned i = 0; err == KVT_OK && i < conn->lane_count; i++) {
		struct kvi_worker *worker = conn->links[i].part->worker;
		kvi_worker_lock(worker);
		err = offer(&conn->links[i], error);
		kvi_worker_flush_unlock(worker);
	}
	return err;
}

enum kvt_err kvi_stage_on_offer(struct kvi_link *link, const struct kvi_message *message)
{
	const struct kvi_message_stage *offered = &message->stage;
	struct kvi_stage *stage = get_stage(link);
	size_t max_len = kvi_stage_get_slot_len(link);
	if (stage == NULL)
		return KVT_E_NO_MEMORY;
	if (stage->slot_len != 0 || offered->slot_count == 0 ||
	    offered->slot_count > KVI_SLOTS_MAX || offered->slot_len <= KVI_WIRE_SPAN_LEN ||
	    offered->slot_len > UINT32_MAX)
		return KVT_E_PROTOCOL;
	stage->grant.address = offered->grant.address;
	stage->grant.key = offered->grant.key;
	stage->slot_len = offered->slot_len < max_len ? offered->slot_len : max_len;
	stage->peer_slots = stage->slots_free = (unsigned)offered->slot_count;
	stage->peer_slot_len = offered->slot_len;
	kvi_link_touch(link);
	return KVT_OK;
}

/* ---- sending packs ---- */

size_t kvi_stage_get_len(const struct kvi_link *link)
{
	const size_t pad = KVI_COPY_LINE - KVI_WIRE_SPAN_LEN;
	return link->stage == NULL || link->stage->slot_len < pad ? 0 : link->stage->slot_len - pad;
}

static bool make_packs(struct kvi_link *link, struct kvi_stage *stage)
{
	stage->out = kvi_alloc_lines(KVI_PACKS * stage->slot_len);
	if (stage->out == NULL)
		return false;
	if (kvi_engine_get_caps(link->conn->engine)->local_memory &&
	    kvi_memory_open(link->cq, stage->out, KVI_PACKS * stage->slot_len, KVI_ACCESS_LOCAL,
			    kvi_conn_make_key(), &stage->out_memory, NULL) != KVT_OK) {
		kvi_free(stage->out);
		stage->out = NULL;
		return false;
	}
	for (unsigned i = 0; i < KVI_PACKS; i++) {
		stage->packs[i].bytes = stage->out + i * stage->slot_len;
		kvi_list_append(&stage->free_packs, &stage->packs[i].node);
	}
	return true;
}

struct kvi_pack *kvi_stage_take(struct kvi_link *link)
{
	struct kvi_stage *stage = link->stage;
	if (stage->slots_free == 0)
		return NULL;
	if (stage->out == NULL && !make_packs(link, stage)) {
		kvi_conn_fail(link->conn, KVT_E_NO_MEMORY, 0, "no memory to pack blocks on lane %u",
			      link->index);
		return NULL;
	}
	struct kvi_list *node = kvi_list_take_first(&stage->free_packs);
	if (node == NULL)
		return NULL;
	struct kvi_pack *pack = kvi_container_of(node, struct kvi_pack, node);
	stage->slots_free--;
	pack->slot = stage->next_slot;
	stage->next_slot = (stage->next_slot + 1) % stage->peer_slots;
	pack->len = 0;
	pack->span_count = 0;
	return pack;
}

void kvi_stage_put(struct kvi_link *link, struct kvi_pack *pack)
{
	/* To the front: the one used last is still in the cache. */
	kvi_list_prepend(&link->stage->free_packs, &pack->node);
	kvi_link_touch(link);
}

void kvi_stage_fill_span(const struct kvi_link *link, const struct kvi_pack *pack,
			 struct kvi_span *span)
{
	const struct kvi_stage *stage = link->stage;
	*span = (struct kvi_span){
		.base = pack->bytes,
		.len = pack->len,
		.memory = stage->out_memory,
		.remote = { .address = stage->grant.address + pack->slot * stage->peer_slot_len,
			    .key = stage->grant.key },
	};
}

static void announce(struct kvi_segment *segment)
{
	struct kvi_stage *stage = segment->link->stage;
	const struct kvi_pack *pack = segment->cargo;
	struct kvi_message message = {
		.type = KVI_MESSAGE_PACK,
		.pack = {
			.slot = pack->slot,
			.export_id = pack->export_id,
			.span_count = pack->span_count,
		},
	};
	stage->awaiting[pack->slot] = segment->awaits_ack ? segment : NULL;
	/* The last one waits for what follows it: the transfer's end in the same packet. */
	if (atomic_load(&segment->stripe->spread->exhausted))
		kvi_link_send(segment->link, &message);
	else
		kvi_link_send_now(segment->link, &message);
}

/* The segment ends without waiting for its acknowledgement. */
static void forget(struct kvi_segment *segment)
{
	struct kvi_stage *stage = segment->link->stage;
	for (unsigned i = 0; i < KVI_SLOTS_MAX; i++)
		if (stage->awaiting[i] == segment)
			stage->awaiting[i] = NULL;
}

static void put_pack(struct kvi_segment *segment)
{
	kvi_stage_put(segment->link, segment->cargo);
}

const struct kvi_cargo_kind kvi_pack_cargo = {
	.on_posted = announce,
	.on_failed = forget,
	.release = put_pack,
};

enum kvt_err kvi_stage_on_ack(struct kvi_link *link, const struct kvi_message *message)
{
	struct kvi_stage *stage = link->stage;
	const uint64_t count = message->pack_ack.slot_count;
	if (stage == NULL || count == 0 || count > stage->peer_slots - stage->slots_free)
		return KVT_E_PROTOCOL;
	for (uint64_t i = 0; i < count; i++) {
		struct kvi_segment *segment = stage->awaiting[stage->next_ack_slot];
		stage->awaiting[stage->next_ack_slot] = NULL;
		stage->next_ack_slot = (stage->next_ack_slot + 1) % stage->peer_slots;
		stage->slots_free++;
		if (segment != NULL)
			kvi_segment_on_ack(segment);
	}
	kvi_link_touch(link);
	return KVT_OK;
}

/* ---- receiving packs ---- */

bool kvi_stage_is_offered(const struct kvi_link *link)
{
	return link->stage != NULL && link->stage->in != NULL;
}

const uint8_t *kvi_stage_get_slot(const struct kvi_link *link, uint64_t slot)
{
	return link->stage->in + slot * kvi_stage_get_slot_len(link);
}

/* On several lanes the ACK is sent at once: it completes one of the peer's segments. On a single lane the peer
 * needs nothing but free slots, so ACKs are sent together. */
void kvi_stage_release_slot(struct kvi_link *link)
{
	struct kvi_stage *stage = link->stage;
	stage->unpacked++;
	if (link->conn->lane_count > 1 || stage->unpacked >= KVI_SLOTS / 2) {
		struct kvi_message ack = { .type = KVI_MESSAGE_PACK_ACK,
					   .pack_ack.slot_count = stage->unpacked };
		kvi_link_send(link, &ack);
		stage->unpacked = 0;
	}
}

static bool unpack(const struct kvt_pool *pool, const uint8_t *slot, size_t slot_len,
		   size_t span_count)
{
	const uint8_t *data = slot + kvi_pack_get_offset(span_count);
	size_t left = slot_len - kvi_pack_get_offset(span_count); /* a slot is of whole lines */
	for (size_t i = 0; i < span_count; i++) {
		struct kvi_wire_span span;
		kvi_wire_span_decode(slot + i * KVI_WIRE_SPAN_LEN, &span);
		uint8_t *to = kvi_pool_place(pool, &span);
		if (to == NULL || span.len > left)
			return false;
		kvi_copy(to, data, span.len);
		data += span.len;
		left -= span.len;
	}
	return true;
}

enum kvt_err kvi_stage_on_pack(struct kvi_link *link, const struct kvi_message *message)
{
	const struct kvi_stage *stage = link->stage;
	const struct kvi_message_pack *pack = &message->pack;
	size_t slot_len = kvi_stage_get_slot_len(link);
	if (stage == NULL || stage->in == NULL || pack->slot >= KVI_SLOTS ||
	    pack->span_count > slot_len / KVI_WIRE_SPAN_LEN)
		return KVT_E_PROTOCOL;
	const uint8_t *slot = kvi_stage_get_slot(link, pack->slot);
	/* Of an export that was withdrawn it is dropped: the peer learns of that, and fails it itself. */
	struct kvt_export *exported = kvi_export_find(link->conn, pack->export_id);
	if (exported != NULL && ((exported->access & KVT_ACCESS_WRITE) == 0 ||
				 !unpack(exported->pool, slot, slot_len, pack->span_count)))
		return KVT_E_PROTOCOL;
	kvi_stage_release_slot(link);
	return KVT_OK;
}
