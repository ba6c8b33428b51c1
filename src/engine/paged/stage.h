/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stage.h - packed blocks on one lane (docs/protocol.md 7.3). The receiver of packs has slots that the
 * peer may write; the sender copies many small blocks into a buffer, writes that into a slot, and says
 * so; the receiver copies the blocks to their places, and gives the slot back.
 *
 * All functions are called under the lock of the link's worker, but for kvi_stages_offer().
 */
#ifndef KVI_ENGINE_STAGE_H
#define KVI_ENGINE_STAGE_H

#include "base/copy.h"
#include "engine/core/settings.h"
#include "engine/lane/link.h"

/* A buffer of ours: spans, then the blocks' bytes. */
struct kvi_pack {
	struct kvi_list node; /* in stage->packs while free */
	uint8_t *bytes;
	size_t len; /* filled */
	unsigned slot;
	uint64_t export_id;
	uint32_t span_count;
};

struct kvi_stage {
	/* of packs to send */
	struct kvi_grant grant; /* of the peer's slots; slot_len 0: it has offered none */
	size_t slot_len;	/* what we use of a slot */
	size_t peer_slot_len;
	unsigned peer_slots;
	unsigned slots_free;
	unsigned next_slot;	/* to be written */
	unsigned next_ack_slot; /* to be given back, in the same order */
	struct kvi_segment
		*awaiting[KVI_SLOTS_MAX]; /* whose segment is not done before that; NULL: none */
	uint8_t *out;
	struct kvi_memory *out_memory; /* where the provider needs it */
	struct kvi_pack packs[KVI_PACKS];
	struct kvi_list free_packs;

	/* of packs to receive */
	uint8_t *in; /* KVI_SLOTS slots of kvi_stage_get_slot_len(); NULL: not offered */
	struct kvi_memory *in_memory;
	unsigned unpacked; /* slots that the peer has not been told of */

	/* of the peer's questions; ask.c */
	struct kvi_list asked;
	unsigned asked_count;
};

/* Offer slots on every lane of the connection, where packing pays and it has not been done. */
enum kvt_err kvi_stages_offer(struct kvt_conn *conn, struct kvt_error *error);

/* What packs and answers there are on a lane. */
extern const struct kvi_poster kvi_stage_poster;

/* The length of slots that this side offers: what one operation of the provider can fill, in whole
 * cache lines. */
size_t kvi_stage_get_slot_len(const struct kvi_link *link);

/* Where the bytes behind so many spans begin: on a cache line, where they are copied fastest. */
static inline size_t kvi_pack_get_offset(size_t span_count)
{
	return (span_count * KVI_WIRE_SPAN_LEN + KVI_COPY_LINE - 1) & ~(size_t)(KVI_COPY_LINE - 1);
}

/* How much a pack can hold on this lane, spans included; 0: nothing can be packed there (yet). */
size_t kvi_stage_get_len(const struct kvi_link *link);

/* A slot and a buffer for it, NULL when there is none free now. The slots are written in the order they
 * are taken, so what is taken is posted. */
struct kvi_pack *kvi_stage_take(struct kvi_link *link);
/* The buffer is free again. */
void kvi_stage_put(struct kvi_link *link, struct kvi_pack *pack);
/* The write of a pack into its slot. */
void kvi_stage_fill_span(const struct kvi_link *link, const struct kvi_pack *pack,
			 struct kvi_span *span);
/* The cargo of a segment that writes a pack. */
extern const struct kvi_cargo_kind kvi_pack_cargo;

/* Whether the peer can fill slots of ours on this lane; what is in one; and that it is free again. */
bool kvi_stage_is_offered(const struct kvi_link *link);
const uint8_t *kvi_stage_get_slot(const struct kvi_link *link, uint64_t slot);
void kvi_stage_release_slot(struct kvi_link *link);

/* messages.c */
enum kvt_err kvi_stage_on_offer(struct kvi_link *link, const struct kvi_message *message);
enum kvt_err kvi_stage_on_pack(struct kvi_link *link, const struct kvi_message *message);
enum kvt_err kvi_stage_on_ack(struct kvi_link *link, const struct kvi_message *message);

#endif
