/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire.h - what KVTrans says to its peer, as values. encode.c writes them, decode.c reads them; both
 * are pure. docs/protocol.md is the authority; each struct cites its section. Only decode.c, descriptor.c
 * and the spans below touch bytes from a peer, and nothing after them re-checks lengths. Everything is
 * little-endian.
 */
#ifndef KVI_WIRE_WIRE_H
#define KVI_WIRE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <kvtrans.h>

#include "base/bytes.h"

enum {
	KVI_WIRE_VERSION_MIN = 1,
	KVI_WIRE_VERSION = 1,
	KVI_OPENING_VERSION = 1, /* 3.8: how a call begins, before HELLO agrees on the protocol's */
	KVI_HELLO_FRAME_MAX = 256,     /* before authentication */
	KVI_CONTROL_FRAME_MAX = 65519, /* after it: what a record holds */
	KVI_FRAME_HEADER_LEN = 8,      /* section 2 */
	KVI_SESSION_LEN = 16,
	KVI_TOKEN_LEN = 16,
	KVI_OPENING_FIXED_LEN =
		20, /* of OPENING, header included: what the tag covers unseen; 3.8 */
	KVI_OPENING_LEN = KVI_OPENING_FIXED_LEN + 48,
	KVI_RECORD_HEADER_LEN = 2, /* 2.4 */
	KVI_RECORD_TAG_LEN = 16,
	KVI_RECORD_MAX = 65535, /* behind its header */
	KVI_NAME_LEN = 32,
	KVI_PROVIDERS_MAX = 4,
	KVI_RAILS_MAX = 16,
	KVI_WIRE_ADDRESS_LEN_MAX = 128,
	KVI_HOST_PROOF_LEN = 32,
	KVI_LANES_MAX = 1024,
	KVI_MESSAGE_HEADER_LEN = 16, /* section 5 */
	KVI_LANE_HELLO_LEN = 38,     /* section 4 */
	/* What a lane message needs beside the payload of an EAGER: header, fixed fields, meta. */
	KVI_MESSAGE_FIXED_LEN =
		KVI_MESSAGE_HEADER_LEN + 20, /* of EAGER and START, but for meta and data */
	KVI_MESSAGE_OVERHEAD = KVI_MESSAGE_FIXED_LEN + KVT_META_LEN_MAX,
	/* The same of the answer with the most fields, FOUND. */
	KVI_ANSWER_FIXED_LEN = KVI_MESSAGE_HEADER_LEN + 28,
	/* What keeping a message costs a receiver beside meta and data; 6.5. */
	KVI_MESSAGE_CHARGE = 160,
};

/* ---- control channel (sections 2 and 3) ---- */

enum kvi_frame_type {
	KVI_FRAME_HELLO = 1,
	KVI_FRAME_WELCOME = 2,
	KVI_FRAME_REFUSE = 3,
	KVI_FRAME_LANES = 4,
	KVI_FRAME_READY = 5,
	KVI_FRAME_HEARTBEAT = 6,
	KVI_FRAME_CLOSE = 7,
	KVI_FRAME_OPENING = 8,
	KVI_FRAME_ANSWER = 9,
	KVI_FRAME_IDENTITY = 10,
	KVI_FRAME_NEAR = 11,
	KVI_FRAME_FAR = 12,
	KVI_FRAME_LAST = KVI_FRAME_FAR,
};

enum kvi_opening_mode {
	KVI_OPENING_INSECURE = 0, /* key_id and proof are zeros */
	KVI_OPENING_NOISE = 1,
};

/* Client's first frame, in clear, and the server's answer to it: a proof alone (3.8, 3.9). */
struct kvi_opening {
	uint16_t version;
	uint8_t mode;
	uint8_t key_id[8];
	uint8_t proof[48]; /* a message of Noise */
};

/* Bits of features, 3.1. */
#define KVI_FEATURE_SUMS UINT64_C(1)	    /* understands sums; 6.7 */
#define KVI_FEATURE_SUMS_WANTED UINT64_C(2) /* HELLO: wants them; WELCOME: they are used */

/* Client's first words once it is known (3.1). Names are NUL-terminated here, length-prefixed on the wire. */
struct kvi_hello {
	uint16_t version_min;
	uint16_t version_max;
	uint64_t features;
	uint8_t instance[KVI_SESSION_LEN]; /* of the engine, random: to know oneself */
	uint16_t lane_count;		   /* wished for */
	uint32_t eager_len;		   /* largest EAGER payload this side takes */
	uint32_t rx_count;		   /* receives this side keeps posted on each lane */
	uint8_t provider_count;
	char providers[KVI_PROVIDERS_MAX][KVI_NAME_LEN]; /* best first */
};

/* Server's answer (3.2). */
struct kvi_welcome {
	uint16_t version;
	uint64_t features;
	uint8_t instance[KVI_SESSION_LEN];
	uint8_t session[KVI_SESSION_LEN];
	uint16_t lane_count; /* agreed: at most the wished */
	uint32_t eager_len;
	uint32_t rx_count;
	char provider[KVI_NAME_LEN];
};

/* REFUSE and CLOSE (3.3, 3.7): a code and a sentence. */
struct kvi_ending {
	enum kvt_err code;
	char text[KVT_TEXT_LEN];
};

/* The address of a listener for lanes, as its fabric gives it. */
struct kvi_wire_address {
	uint8_t len;
	uint8_t address[KVI_WIRE_ADDRESS_LEN_MAX];
};

/* Server: where lanes connect (3.4). Lane i goes to rails[i % rail_count]. */
struct kvi_lanes {
	uint8_t rail_count;
	struct kvi_wire_address rails[KVI_RAILS_MAX];
};

/* Server: where lanes connect that stay on its host, for who can tell from the proof that it is there, too (3.12). */
struct kvi_near {
	uint8_t proof[KVI_HOST_PROOF_LEN];
	struct kvi_wire_address rail;
};

/* Client: its lanes go over the network after all, and why (3.13). */
struct kvi_far {
	char text[KVT_TEXT_LEN];
};

/* Bytes of what was decoded or, to encode, wherever they are. */
struct kvi_view {
	const uint8_t *bytes;
	size_t len;
};

struct kvi_frame {
	enum kvi_frame_type type;
	union {
		struct kvi_hello hello;
		struct kvi_welcome welcome;
		struct kvi_ending ending; /* REFUSE, CLOSE */
		struct kvi_lanes lanes;
		struct kvi_opening opening; /* OPENING; ANSWER: proof */
		struct kvi_view identity;   /* 3.11 */
		struct kvi_near near;
		struct kvi_far far;
	};
};

/* Writes header and body. Returns the length, 0 when it does not fit (never, given
 * KVI_CONTROL_FRAME_MAX bytes). */
size_t kvi_frame_encode(const struct kvi_frame *frame, void *bytes, size_t len);

/*
 * The length of the whole frame whose first KVI_FRAME_HEADER_LEN bytes are given; 0 when they are no
 * header (magic, reserved bits, longer than max_len). Types that this version does not know are left to
 * kvi_frame_decode().
 */
size_t kvi_frame_get_len(const void *header, size_t max_len);

/*
 * Decode one whole frame. KVT_E_PROTOCOL when it is not exactly as the document says;
 * KVT_E_UNSUPPORTED for an unknown type that may be skipped (2.2).
 */
enum kvt_err kvi_frame_decode(const void *bytes, size_t len, struct kvi_frame *frame);

/*
 * The length that the KVI_RECORD_HEADER_LEN bytes of a record's header tell (2.4): of what is behind it. Writing
 * it is the other.
 */
size_t kvi_record_get_len(const uint8_t header[KVI_RECORD_HEADER_LEN]);
void kvi_record_put_len(size_t len, uint8_t header[KVI_RECORD_HEADER_LEN]);

/* ---- lane hello: the connect data of a lane (section 4) ---- */

struct kvi_lane_hello {
	uint8_t session[KVI_SESSION_LEN];
	uint8_t token[KVI_TOKEN_LEN];
	uint16_t index;
};

void kvi_lane_hello_encode(const struct kvi_lane_hello *hello, uint8_t bytes[KVI_LANE_HELLO_LEN]);
enum kvt_err kvi_lane_hello_decode(const void *bytes, size_t len, struct kvi_lane_hello *hello);

/* ---- lane messages (section 5) ---- */

enum kvi_message_type {
	KVI_MESSAGE_CREDIT = 1,		/* 5.2 */
	KVI_MESSAGE_EAGER = 2,		/* 5.3 */
	KVI_MESSAGE_START = 3,		/* 5.4 */
	KVI_MESSAGE_CTS = 4,		/* 5.5 */
	KVI_MESSAGE_FIN = 5,		/* 5.6 */
	KVI_MESSAGE_ACK = 6,		/* 5.7 */
	KVI_MESSAGE_CANCEL = 7,		/* 5.8 */
	KVI_MESSAGE_CACK = 8,		/* 5.9 */
	KVI_MESSAGE_ABORT = 9,		/* 5.10 */
	KVI_MESSAGE_REFUSED = 10,	/* 5.11 */
	KVI_MESSAGE_KV_CLOSED = 11,	/* 5.12 the tag's KV was closed */
	KVI_MESSAGE_KV_CLOSED_ACK = 12, /* 5.13 all that was sent before belongs to the closed KV */
	KVI_MESSAGE_LANE_END = 13,	/* 5.14 the last message on this lane; tag 0 */

	/* Of pools and paged transfers (section 7); all with tag 0. */
	KVI_MESSAGE_ATTACH = 14,	/* 5.15 */
	KVI_MESSAGE_ATTACHED = 15,	/* 5.16 */
	KVI_MESSAGE_NO_EXPORT = 16,	/* 5.17 */
	KVI_MESSAGE_WITHDRAW = 17,	/* 5.18 */
	KVI_MESSAGE_WITHDRAWN = 18,	/* 5.19 */
	KVI_MESSAGE_STAGING = 19,	/* 5.20 */
	KVI_MESSAGE_PACK = 20,		/* 5.21 */
	KVI_MESSAGE_PACK_ACK = 21,	/* 5.22 */
	KVI_MESSAGE_NOTIFY = 22,	/* 5.23 */
	KVI_MESSAGE_NOTIFY_FAILED = 23, /* 5.24 */
	KVI_MESSAGE_SYNC = 24,		/* 5.25 */
	KVI_MESSAGE_NOTED = 25,		/* 5.26 */
	KVI_MESSAGE_READ = 26,		/* 5.27 */
	KVI_MESSAGE_FILLED = 27,	/* 5.28 */
	KVI_MESSAGE_DROPPED = 28,	/* 5.29 */
	KVI_MESSAGE_FIND = 29,		/* 5.30 */
	KVI_MESSAGE_FOUND = 30,		/* 5.31 */
	KVI_MESSAGE_NOTIFY_BEGIN = 31,	/* 5.32 */
	KVI_MESSAGE_NOTIFY_PART = 32,	/* 5.33 */
	KVI_MESSAGE_NOTIFY_DROP = 33,	/* 5.34 */
	KVI_MESSAGE_BLOCKS = 34,	/* 5.35 */

	/* Of sums (6.7). */
	KVI_MESSAGE_CHECK = 35,	     /* 5.36 */
	KVI_MESSAGE_CHECKED = 36,    /* 5.37 */
	KVI_MESSAGE_PACK_WRONG = 37, /* 5.38 */
	KVI_MESSAGE_WRONG = 38,	     /* 5.39 the message of a FIN came wrong */
	KVI_MESSAGE_LAST = KVI_MESSAGE_WRONG,
};

struct kvi_wire_rkey {
	uint64_t address;
	uint64_t key;
};

/* seq: of the message within tag and direction, from 0. generation: of a CTS's receive. */

struct kvi_message_eager {
	uint64_t seq;
	struct kvi_view meta;
	struct kvi_view data;
};

struct kvi_message_start {
	uint64_t seq;
	uint64_t len;
	struct kvi_view meta;
};

struct kvi_message_cts {
	uint64_t seq;
	uint64_t generation;
	uint64_t capacity;
	size_t rkey_count; /* 1, or one a rail of the receiver */
	struct kvi_wire_rkey rkeys[KVI_RAILS_MAX];
};

struct kvi_message_fin {
	uint64_t seq;
	uint64_t generation;
	uint64_t len;
};

struct kvi_message_ack {
	uint64_t seq;
};

struct kvi_message_wrong {
	uint64_t seq;
};

struct kvi_message_cancel {
	uint64_t seq;
	uint64_t generation;
};

struct kvi_message_abort {
	uint64_t seq;
	enum kvt_err code;
};

struct kvi_message_refused {
	uint64_t seq;
	uint64_t capacity;
};

/* number: of the ATTACH or FIND, which its answer repeats. export_id is never 0. */

struct kvi_message_attach {
	uint64_t number;
	uint64_t export_id;
};

struct kvi_message_attached {
	uint64_t number;
};

struct kvi_message_no_export {
	uint64_t number;
	enum kvt_err code;
};

struct kvi_message_withdraw {
	uint64_t export_id;
};

struct kvi_message_staging {
	uint64_t buffer_count;
	uint64_t buffer_len;
	struct kvi_wire_rkey rkey; /* of all staging buffers */
};

/* Blocks of one length in one extent, that stand stride bytes apart: each is named by its number. */
struct kvi_wire_grid {
	uint32_t extent;
	uint32_t block_len; /* 0: there is no grid */
	uint64_t stride;
};

struct kvi_message_pack {
	uint64_t buffer;
	uint64_t export_id;
	uint64_t span_count; /* or of numbers, where there is a grid */
	struct kvi_wire_grid grid;
};

struct kvi_message_pack_ack {
	uint64_t buffer_count;
};

struct kvi_message_notify {
	uint64_t transfer; /* its number */
	enum kvt_err code; /* of NOTIFY_FAILED; NOTIFY has none */
	struct kvi_view data;
};

struct kvi_message_sync {
	uint64_t transfer;
};

/* number: of the READ on its lane, which its answer repeats. */

struct kvi_message_read {
	uint64_t number;
	uint64_t export_id;
	struct kvi_view spans;
};

struct kvi_message_filled {
	uint64_t number;
	uint64_t buffer;
};

struct kvi_message_dropped {
	uint64_t number;
};

struct kvi_message_find {
	uint64_t number;
	uint64_t offset; /* in the descriptor */
	struct kvi_view name;
};

struct kvi_message_found {
	uint64_t number;
	uint64_t export_id;
	uint64_t len; /* of the whole descriptor */
	struct kvi_view part;
};

struct kvi_message_notify_begin {
	uint64_t transfer;
	uint64_t len; /* of the whole */
};

struct kvi_message_notify_part {
	uint64_t transfer;
	struct kvi_view data;
};

struct kvi_message_notify_drop {
	uint64_t transfer;
};

struct kvi_message_blocks {
	uint64_t export_id;
	uint64_t span_count;  /* at least 1, and they are within data */
	struct kvi_view data; /* spans, then their bytes */
};

struct kvi_message_check {
	uint64_t number; /* of the segment on its lane, which the answer repeats */
	uint64_t export_id;
	uint64_t sum;
	struct kvi_view spans;
};

struct kvi_message_checked {
	uint64_t number;
	enum kvt_err code; /* OK, CORRUPT or WITHDRAWN */
};

struct kvi_message_pack_wrong {
	uint64_t buffer;
};

struct kvi_message {
	enum kvi_message_type type;
	bool has_sum; /* FIN, PACK, FILLED: sum is that of the bytes that they tell of */
	uint64_t sum;
	uint16_t credits; /* receives reposted since the last message on this lane */
	uint32_t window;  /* charges of EAGERs and notifications consumed since then */
	uint64_t tag;
	union { /* CREDIT, KV_CLOSED, KV_CLOSED_ACK and LANE_END have nothing more */
		struct kvi_message_eager eager;
		struct kvi_message_start start;
		struct kvi_message_cts cts;
		struct kvi_message_fin fin;
		struct kvi_message_ack ack;
		struct kvi_message_cancel cancel; /* CANCEL, CACK */
		struct kvi_message_abort abort;
		struct kvi_message_refused refused;
		struct kvi_message_attach attach;
		struct kvi_message_attached attached;
		struct kvi_message_no_export no_export;
		struct kvi_message_withdraw withdraw; /* WITHDRAW, WITHDRAWN */
		struct kvi_message_staging staging;
		struct kvi_message_pack pack;
		struct kvi_message_pack_ack pack_ack;
		struct kvi_message_notify notify; /* NOTIFY, NOTIFY_FAILED */
		struct kvi_message_sync sync;	  /* SYNC, NOTED */
		struct kvi_message_read read;
		struct kvi_message_filled filled;
		struct kvi_message_dropped dropped;
		struct kvi_message_find find;
		struct kvi_message_found found;
		struct kvi_message_notify_begin notify_begin;
		struct kvi_message_notify_part notify_part;
		struct kvi_message_notify_drop notify_drop;
		struct kvi_message_blocks blocks;
		struct kvi_message_check check;
		struct kvi_message_checked checked;
		struct kvi_message_pack_wrong pack_wrong;
		struct kvi_message_wrong wrong;
	};
};

/* Whether a message of that type carries a sum where sums are used, and whether it is sent there only. */
bool kvi_message_has_sum(enum kvi_message_type type);
bool kvi_message_is_of_sums(enum kvi_message_type type);

/* What a message takes of its lane's window; 6.5. */
uint32_t kvi_message_get_own_charge(const struct kvi_message *message);

/* What a message says at its end beside meta: data, spans, a name, a part. NULL: its type has none. */
struct kvi_view *kvi_message_get_data(struct kvi_message *message);

/* What all types have; the fields of its own are left for who sets them. */
static inline void kvi_message_begin(struct kvi_message *message, enum kvi_message_type type,
				     uint64_t tag)
{
	message->type = type;
	message->has_sum = false;
	message->sum = 0;
	message->credits = 0;
	message->window = 0;
	message->tag = tag;
}

/* How much of the struct is to be copied: rkeys are most of it, and only a CTS has them. */
size_t kvi_message_get_used_len(const struct kvi_message *message);

/* Returns the length, 0 when len is too small. */
size_t kvi_message_encode(const struct kvi_message *message, void *bytes, size_t len);

/*
 * Decode the first message of a packet; used: its length (5: a packet is one message or several).
 * KVT_E_PROTOCOL unless it is as the document says.
 */
enum kvt_err kvi_message_decode(const void *bytes, size_t len, struct kvi_message *message,
				size_t *used);

/* ---- spans: what a packed staging buffer begins with (section 7.3) ---- */

enum {
	KVI_WIRE_SPAN_LEN = 16,
	KVI_WIRE_NUMBER_LEN = 4,			    /* of a block on a grid */
	KVI_STAGING_BUFFERS_MAX = 64,			    /* 5.20 */
	KVI_BLOCKS_FIXED_LEN = KVI_MESSAGE_HEADER_LEN + 20, /* of BLOCKS, but for its data */
};

struct kvi_wire_span {
	uint32_t extent;
	uint32_t len;
	uint64_t offset; /* in the extent */
};

/* Inline, as there are thousands of them in a packet. */
static inline void kvi_wire_span_encode(const struct kvi_wire_span *span,
					uint8_t bytes[KVI_WIRE_SPAN_LEN])
{
	struct kvi_writer writer = kvi_writer_init(bytes, KVI_WIRE_SPAN_LEN);
	kvi_write_u32(&writer, span->extent);
	kvi_write_u32(&writer, span->len);
	kvi_write_u64(&writer, span->offset);
}

static inline void kvi_wire_span_decode(const uint8_t bytes[KVI_WIRE_SPAN_LEN],
					struct kvi_wire_span *span)
{
	struct kvi_reader reader = kvi_reader_init(bytes, KVI_WIRE_SPAN_LEN);
	span->extent = kvi_read_u32(&reader);
	span->len = kvi_read_u32(&reader);
	span->offset = kvi_read_u64(&reader);
}

static inline void kvi_wire_number_encode(uint32_t number, uint8_t bytes[KVI_WIRE_NUMBER_LEN])
{
	number = htole32(number);
	memcpy(bytes, &number, sizeof(number));
}

static inline uint32_t kvi_wire_number_decode(const uint8_t bytes[KVI_WIRE_NUMBER_LEN])
{
	uint32_t number;
	memcpy(&number, bytes, sizeof(number));
	return le32toh(number);
}

/* ---- descriptors of exports (section 7.1) ---- */

enum {
	KVI_MAC_LEN = 16, /* behind the bytes encoded here; the engine's */
	KVI_DESCRIPTOR_HEAD_LEN = 48,
	KVI_DESCRIPTOR_LEN_MAX = /* with the MAC */
	KVI_DESCRIPTOR_HEAD_LEN + KVT_EXTENTS_MAX * (16 + 16 * KVI_RAILS_MAX) + KVI_MAC_LEN,
	KVI_PART_LEN_MIN = 1024, /* of all parts but the last; 7.2 */
};

struct kvi_descriptor {
	uint8_t session[KVI_SESSION_LEN];
	uint64_t id;
	uint8_t access;	    /* KVT_ACCESS_*, at least one */
	uint8_t rkey_count; /* of each extent */
	bool is_shared;	    /* a peer on the owner's host may map it */
	uint32_t extent_count;
	uint64_t block_len;
};

struct kvi_descriptor_extent {
	uint64_t count;
	uint64_t stride;
	struct kvi_wire_rkey rkeys[KVI_RAILS_MAX];
};

/* The length of the whole, without the MAC. */
size_t kvi_descriptor_get_len(const struct kvi_descriptor *descriptor);

/* Write the head, then each extent by its number, into kvi_descriptor_get_len() bytes. */
void kvi_descriptor_encode(const struct kvi_descriptor *descriptor, uint8_t *bytes);
void kvi_descriptor_encode_extent(const struct kvi_descriptor *descriptor, uint8_t *bytes,
				  uint32_t number, const struct kvi_descriptor_extent *extent);

/* Read the head of len bytes, which are all there are: KVT_E_PROTOCOL unless they are a descriptor of
 * that length. Then each extent can be read. */
enum kvt_err kvi_descriptor_decode(const uint8_t *bytes, size_t len,
				   struct kvi_descriptor *descriptor);
void kvi_descriptor_decode_extent(const struct kvi_descriptor *descriptor, const uint8_t *bytes,
				  uint32_t number, struct kvi_descriptor_extent *extent);

/* ---- addresses of engines (section 8) ---- */

enum {
	KVI_ADDRESS_VERSION = 1,
	KVI_ADDRESS_HOST_LEN = 64, /* with its NUL */
	KVI_ENGINE_ADDRESS_LEN_MAX = 25 + KVI_RAILS_MAX * KVI_ADDRESS_HOST_LEN,
};

struct kvi_address {
	uint8_t instance[KVI_SESSION_LEN]; /* of the engine */
	uint16_t port;
	uint8_t host_count;
	char hosts[KVI_RAILS_MAX]
		  [KVI_ADDRESS_HOST_LEN]; /* text of IP addresses; the first is tried first */
};

/* Returns the length; bytes are KVI_ENGINE_ADDRESS_LEN_MAX. */
size_t kvi_address_encode(const struct kvi_address *address, uint8_t *bytes);

/* KVT_E_PROTOCOL unless the bytes are an address, and nothing else; KVT_E_VERSION: one of a later version. */
enum kvt_err kvi_address_decode(const void *bytes, size_t len, struct kvi_address *address);

/* What an EAGER or a NOTIFY takes of the lane's window: the memory it costs a receiver that cannot
 * deliver it yet. */
static inline uint32_t kvi_message_get_charge(size_t meta_len, size_t data_len)
{
	return (uint32_t)(KVI_MESSAGE_CHARGE + meta_len + data_len);
}

#endif
