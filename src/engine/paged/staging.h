/* SPDX-License-Identifier: Apache-2.0 */
/*
 * staging.h - packed blocks on one lane (docs/protocol.md 7.3). The receiver of packs has staging
 * buffers that the peer may write; the sender copies many small blocks into a pack, writes that
 * into a staging buffer, and says so; the receiver copies the blocks to their places, and gives the
 * staging buffer back. Where the lane has memory that both sides see, that of the sender has the staging buffers, and
 * packs are filled in place.
 *
 * All functions are called under the lock of the link's worker, but for kvi_staging_offer().
 */
#ifndef KVI_ENGINE_STAGING_H
#define KVI_ENGINE_STAGING_H

#include "base/copy.h"
#include "engine/core/settings.h"
#include "engine/lane/link.h"

/* Memory of ours: spans or numbers, then the blocks' bytes. */
struct kvi_pack {
	struct kvi_list node; /* in staging->packs while free */
	uint8_t *bytes;
	size_t len; /* filled */
	unsigned buffer;
	uint64_t export_id;
	uint32_t span_count;
	uint64_t sum; /* of what is filled, where sums are used */
	struct kvi_wire_grid grid;
};

/* Where the bytes are of the pack that is being filled, by numbers on a grid or by spans. What stands in a pack the peer
 * may be able to change, so it is not read back. */
struct kvi_sources {
	const uint8_t *bytes[KVI_PACK_SPANS_MAX];
	size_t lens[KVI_PACK_SPANS_MAX]; /* of spans */
};

struct kvi_staging {
	/* of packs to send */
	struct kvi_rkey rkey; /* of the peer's staging buffers; buffer_len 0: it has offered none */
	size_t buffer_len;    /* what we use of a staging buffer */
	size_t peer_buffer_len;
	unsigned peer_buffers;
	unsigned buffers_free;
	unsigned next_buffer;	  /* to be written */
	unsigned next_ack_buffer; /* to be given back, in the same order */
	struct kvi_segment *awaiting
		[KVI_STAGING_BUFFERS_MAX]; /* by buffer: whose segment ends with its PACK_ACK; NULL: none */
	uint8_t *out;			   /* NULL: nothing was packed yet */
	struct kvi_memory *out_memory;		    /* where the provider needs it */
	struct kvi_pack packs[KVI_STAGING_BUFFERS]; /* by buffer, in common memory; else KVI_PACKS */
	struct kvi_list free_packs;		    /* not in common memory */
	struct kvi_sources *sources;

	/* of packs to receive */
	uint8_t *in; /* KVI_STAGING_BUFFERS staging buffers of kvi_staging_get_buffer_len(), ours or in the peer's common
		      * memory; NULL: not offered */
	struct kvi_memory *in_memory;
	unsigned unpacked; /* staging buffers that the peer has not been told of */

	/* of the peer's read requests; read_request.c */
	struct kvi_list incoming;
	unsigned incoming_count;
};

/* Offer staging buffers on every lane of the connection, once, where packing pays. */
enum kvt_err kvi_staging_offer(struct kvt_conn *conn, struct kvt_error *error);
/* The same in its parts: whether there is anything to do, and on the lanes of one worker. */
bool kvi_staging_is_wanted(const struct kvt_conn *conn);
enum kvt_err kvi_staging_offer_shard(struct kvi_shard *shard, struct kvt_error *error);

/* What packs and answers there are on a lane. */
extern const struct kvi_poster kvi_staging_poster;

/* The length of staging buffers that this side offers: what one operation of the provider can fill, or their part of
 * common memory, in whole cache lines. */
size_t kvi_staging_get_buffer_len(const struct kvi_link *link);

/* What names each block of a pack: its number on a grid, or a span. */
static inline size_t kvi_pack_get_name_len(const struct kvi_wire_grid *grid)
{
	return grid->block_len > 0 ? KVI_WIRE_NUMBER_LEN : KVI_WIRE_SPAN_LEN;
}

/* Where the bytes behind so many spans or numbers begin: on a cache line, where they are copied fastest. */
static inline size_t kvi_pack_get_offset(size_t count, size_t name_len)
{
	return (count * name_len + KVI_COPY_LINE - 1) & ~(size_t)(KVI_COPY_LINE - 1);
}

/* How much a pack can hold on this lane, spans included; 0: nothing can be packed there (yet). */
size_t kvi_staging_get_len(const struct kvi_link *link);

/* Whether packs are filled where the peer sees them, and not written. */
bool kvi_staging_is_common(const struct kvi_link *link);

/* A staging buffer and a pack for it, NULL when there is none free now. The staging buffers are
 * written in the order they are taken, so what is taken is posted. */
struct kvi_pack *kvi_staging_take(struct kvi_link *link);
/* The pack was written, or will not be: it is free again. In common memory it is when its staging buffer is. */
void kvi_staging_put(struct kvi_link *link, struct kvi_pack *pack);
/* The write of a pack into its staging buffer; in common memory it has its length, and is not posted. */
void kvi_staging_fill_span(const struct kvi_link *link, const struct kvi_pack *pack,
			   struct kvi_span *span);
/* The cargo of a segment that writes a pack. */
extern const struct kvi_cargo_kind kvi_pack_cargo;

/* Whether the peer can fill staging buffers of ours on this lane; what is in one; and that it is
 * free again. */
bool kvi_staging_is_offered(const struct kvi_link *link);
const uint8_t *kvi_staging_get_buffer(const struct kvi_link *link, uint64_t buffer);
void kvi_staging_release_buffer(struct kvi_link *link);
/* What the peer wrote into one came wrong: tell it, before that is released. */
void kvi_staging_complain(struct kvi_link *link, uint64_t buffer);

/* Copy what span_count spans name from data, where *left bytes are, to its places. False: a span is not within
 * its extent, or is of more than there is. */
bool kvi_staging_unpack(const struct kvt_pool *pool, const uint8_t *spans, size_t span_count,
			const uint8_t *data, size_t *left);

/* messages.c */
enum kvt_err kvi_staging_on_offer(struct kvi_link *link, const struct kvi_message *message);
enum kvt_err kvi_staging_on_pack(struct kvi_link *link, const struct kvi_message *message);
enum kvt_err kvi_staging_on_ack(struct kvi_link *link, const struct kvi_message *message);
enum kvt_err kvi_staging_on_wrong(struct kvi_link *link, const struct kvi_message *message);

#endif
