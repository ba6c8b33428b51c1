/* SPDX-License-Identifier: Apache-2.0 */
/* check_malformed.c - bytes that are not as docs/protocol.md says. */
#include <stdlib.h>
#include <string.h>

#include "../support/runner.h"
#include "codec.h"
#include "vectors.h"

static uint8_t bytes[VECTOR_LEN_MAX];

static enum codec_outcome try_bytes(enum vector_kind kind, const uint8_t *from, size_t len)
{
	switch (kind) {
	case VECTOR_FRAME:
		return codec_try_frame(from, len);
	case VECTOR_LANE_HELLO:
		return codec_try_lane_hello(from, len);
	case VECTOR_DESCRIPTOR:
		return codec_try_descriptor(from, len);
	case VECTOR_ADDRESS:
		return codec_try_address(from, len);
	case VECTOR_MESSAGE:
		break;
	}
	return codec_try_message(from, len);
}

START_TEST(every_truncation_is_rejected)
{
	size_t len = vector_get_bytes(&vectors[_i], bytes);

	for (size_t cut = 0; cut < len; cut++)
		ck_assert_int_eq(try_bytes(vectors[_i].kind, bytes, cut), CODEC_REJECTED);
}
END_TEST

START_TEST(a_trailing_byte_is_rejected)
{
	size_t len = vector_get_bytes(&vectors[_i], bytes);
	bytes[len] = 0;

	ck_assert_int_eq(try_bytes(vectors[_i].kind, bytes, len + 1), CODEC_REJECTED);
}
END_TEST

START_TEST(a_trailing_byte_within_a_frame_is_rejected)
{
	if (vectors[_i].kind != VECTOR_FRAME)
		return;

	size_t len = vector_get_bytes(&vectors[_i], bytes);
	bytes[len] = 0;
	bytes[4]++;
	ck_assert_int_eq(codec_try_frame(bytes, len + 1), CODEC_REJECTED);
}
END_TEST

START_TEST(every_flipped_bit_is_rejected_or_kept)
{
	size_t len = vector_get_bytes(&vectors[_i], bytes);

	for (size_t bit = 0; bit < 8 * len; bit++) {
		bytes[bit / 8] ^= (uint8_t)(1U << (bit % 8));
		ck_assert_int_ne(try_bytes(vectors[_i].kind, bytes, len), CODEC_BROKEN);
		bytes[bit / 8] ^= (uint8_t)(1U << (bit % 8));
	}
}
END_TEST

/* A valid message in which one byte is another. */
static const struct {
	const char *reason;
	const char *vector;
	size_t at;
	uint8_t byte;
} patches[] = {
	{ "magic of a frame", "3.1 HELLO", 0, 0x4c },
	{ "magic of a frame", "3.1 HELLO", 1, 0x57 },
	{ "frame type 0", "3.6 HEARTBEAT", 2, 0 },
	{ "unknown frame type", "3.6 HEARTBEAT", 2, 11 },
	{ "skip flag on a known type", "3.6 HEARTBEAT", 3, 1 },
	{ "reserved flag", "3.6 HEARTBEAT", 3, 2 },
	{ "reserved flag", "3.6 HEARTBEAT", 3, 0x80 },
	{ "body that READY does not have", "3.3 REFUSE", 2, 5 },
	{ "version_min is 0", "3.1 HELLO", 8, 0 },
	{ "version_min is above version_max", "3.1 HELLO at its limits", 8, 2 },
	{ "lane_count 0", "3.1 HELLO", 36, 0 },
	{ "lane_count 1,025", "3.1 HELLO at its limits", 36, 1 },
	{ "eager_len above 1 MiB", "3.1 HELLO at its limits", 38, 1 },
	{ "rx_count 65,536 and more", "3.1 HELLO at its limits", 44, 1 },
	{ "provider_count 0", "3.1 HELLO", 46, 0 },
	{ "provider_count 5", "3.1 HELLO", 46, 5 },
	{ "one provider fewer than there are", "3.1 HELLO", 46, 1 },
	{ "empty name", "3.1 HELLO", 47, 0 },
	{ "name of 32 bytes", "3.1 HELLO at its limits", 47, 32 },
	{ "NUL in a name", "3.1 HELLO", 48, 0 },
	{ "control character in a name", "3.1 HELLO", 48, 0x1f },
	{ "byte above ASCII in a name", "3.1 HELLO", 48, 0x80 },
	{ "version 0", "3.2 WELCOME", 8, 0 },
	{ "lane_count 0", "3.2 WELCOME", 50, 0 },
	{ "rx_count 2", "3.2 WELCOME", 56, 2 },
	{ "empty provider", "3.2 WELCOME", 60, 0 },
	{ "text that is longer than the frame", "3.3 REFUSE", 12, 8 },
	{ "text that is shorter than the frame", "3.3 REFUSE", 12, 6 },
	{ "NUL in a text", "3.3 REFUSE", 13, 0 },
	{ "newline in a text", "3.3 REFUSE", 15, '\n' },
	{ "escape in a text", "3.3 REFUSE", 19, 0x1b },
	{ "DEL in a text", "3.3 REFUSE", 19, 0x7f },
	{ "byte above ASCII in a text", "3.3 REFUSE", 19, 0x9b },
	{ "rail_count 0", "3.4 LANES", 8, 0 },
	{ "rail_count 3 of 2", "3.4 LANES", 8, 3 },
	{ "rail_count 17", "3.4 LANES", 8, 17 },
	{ "empty address", "3.4 LANES", 9, 0 },
	{ "address of 129 bytes", "3.4 LANES", 9, 129 },
	{ "unknown mode", "3.8 OPENING", 10, 2 },
	{ "reserved byte of an opening", "3.8 OPENING", 11, 1 },
	{ "empty identity", "3.11 IDENTITY", 8, 0 },
	{ "identity of 1,033 bytes", "3.11 IDENTITY", 9, 4 },
	{ "identity that is shorter than the frame", "3.11 IDENTITY", 8, 8 },
	{ "no local address", "3.12 NEAR", 40, 0 },
	{ "local address that is shorter than the frame", "3.12 NEAR", 40, 2 },
	{ "local address of 129 bytes", "3.12 NEAR", 40, 129 },
	{ "reason that is longer than the frame", "3.13 FAR", 8, 4 },
	{ "control character in a reason", "3.13 FAR", 9, 10 },
	{ "magic of an address", "8 address", 3, 0x44 },
	{ "version 0 of an address", "8 address", 4, 0 },
	{ "version 2 of an address", "8 address", 4, 2 },
	{ "port 0", "8 address of one host", 6, 0 },
	{ "no hosts", "8 address of one host", 24, 0 },
	{ "one host fewer than there are", "8 address", 24, 1 },
	{ "17 hosts", "8 address", 24, 17 },
	{ "empty host", "8 address of one host", 25, 0 },
	{ "host of 64 bytes", "8 address of one host", 25, 64 },
	{ "NUL in a host", "8 address of one host", 27, 0 },
	{ "space in a host", "8 address of one host", 26, ' ' },
	{ "byte above ASCII in a host", "8 address of one host", 28, 0x80 },
	{ "magic of a lane hello", "4 lane hello", 3, 0x4d },
	{ "lane index 1,279", "4 lane hello", 37, 4 },
	{ "message type 0", "5.12 KV_CLOSED", 0, 0 },
	{ "message type 39", "5.26 NOTED", 0, 39 },
	{ "message type 255", "5.12 KV_CLOSED", 0, 255 },
	{ "a sum where there is none", "5.7 ACK", 1, 1 },
	{ "a sum that is missing", "5.6 FIN", 1, 1 },
	{ "reserved flag of a message", "5.6 FIN with a sum", 1, 2 },
	{ "reserved flag of a message", "5.21 PACK with a sum", 1, 3 },
	{ "id 0", "5.36 CHECK", 24, 0 },
	{ "tag of a CHECK", "5.36 CHECK", 8, 1 },
	{ "data_len too large", "5.36 CHECK", 40, 0x20 },
	{ "a code that a check has not", "5.37 CHECKED", 24, 0xec },
	{ "tag of a CHECKED", "5.37 CHECKED", 8, 1 },
	{ "tag of a PACK_WRONG", "5.38 PACK_WRONG", 8, 1 },
	{ "tag of a CREDIT", "5.2 CREDIT", 8, 1 },
	{ "tag of a LANE_END", "5.14 LANE_END", 15, 0x80 },
	{ "START of 2^63 bytes and more", "5.4 START", 31, 0x80 },
	{ "meta_len too small", "5.3 EAGER", 24, 1 },
	{ "meta_len too large", "5.3 EAGER", 24, 3 },
	{ "data_len too small", "5.3 EAGER", 28, 4 },
	{ "data_len too large", "5.3 EAGER", 28, 6 },
	{ "data_len of 4 GiB", "5.3 EAGER", 31, 0xff },
	{ "meta_len of 4 GiB", "5.4 START", 35, 0xff },
	{ "generation 0", "5.5 CTS", 24, 0 },
	{ "rkey_count 0", "5.5 CTS", 40, 0 },
	{ "rkey_count 1 of 2", "5.5 CTS", 40, 1 },
	{ "rkey_count 3 of 2", "5.5 CTS", 40, 3 },
	{ "rkey_count 258", "5.5 CTS", 41, 1 },
	{ "reserved bytes of CTS", "5.5 CTS", 42, 1 },
	{ "reserved bytes of CTS", "5.5 CTS", 43, 0x80 },
	{ "generation 0", "5.6 FIN", 24, 0 },
	{ "tag of an ATTACH", "5.15 ATTACH", 8, 1 },
	{ "tag of a NOTIFY", "5.23 NOTIFY", 15, 0x80 },
	{ "tag of a DROPPED", "5.29 DROPPED", 10, 1 },
	{ "tag of a FOUND", "5.31 FOUND", 9, 1 },
	{ "id 0", "5.31 FOUND", 24, 0 },
	{ "id 0", "5.18 WITHDRAW", 16, 0 },
	{ "id 0", "5.19 WITHDRAWN", 16, 0 },
	{ "id 0", "5.21 PACK", 24, 0 },
	{ "extent without a grid", "5.21 PACK", 40, 1 },
	{ "stride without a grid", "5.21 PACK", 55, 0x80 },
	{ "blocks of a grid that overlap", "5.21 PACK on a grid", 48, 7 },
	{ "a grid of empty blocks", "5.21 PACK on a grid", 44, 0 },
	{ "id 0", "5.27 READ", 24, 0 },
	{ "name that is longer than the message", "5.30 FIND", 32, 3 },
	{ "name that is shorter than the message", "5.30 FIND", 32, 1 },
	{ "data_len of 4 GiB", "5.31 FOUND", 43, 0xff },
	{ "data_len too large", "5.23 NOTIFY", 24, 6 },
	{ "data_len too small", "5.24 NOTIFY_FAILED", 28, 4 },
	{ "data_len too large", "5.27 READ", 32, 0x20 },
	{ "tag of a NOTIFY_BEGIN", "5.32 NOTIFY_BEGIN", 8, 1 },
	{ "a notification of more than 1 MiB", "5.32 NOTIFY_BEGIN", 24, 1 },
	{ "a notification of 2^63 bytes", "5.32 NOTIFY_BEGIN", 31, 0x80 },
	{ "data_len too large", "5.33 NOTIFY_PART", 24, 6 },
	{ "tag of a NOTIFY_DROP", "5.34 NOTIFY_DROP", 15, 0x80 },
	{ "tag of a BLOCKS", "5.35 BLOCKS", 15, 0x80 },
	{ "id 0", "5.35 BLOCKS", 16, 0 },
	{ "span_count 0", "5.35 BLOCKS", 24, 0 },
	{ "span_count of more than there is", "5.35 BLOCKS", 24, 2 },
	{ "span_count of 2^63", "5.35 BLOCKS", 31, 0x80 },
	{ "data_len too large", "5.35 BLOCKS", 32, 0x14 },
	{ "data_len too small", "5.35 BLOCKS", 32, 0x12 },
	{ "rkey_count 0", "5.20 STAGING", 32, 0 },
	{ "rkey_count 2 of 1", "5.20 STAGING", 32, 2 },
	{ "reserved bytes of STAGING", "5.20 STAGING", 34, 1 },
	{ "magic of a descriptor", "7.1 descriptor", 3, 0x4c },
	{ "version 2 of a descriptor", "7.1 descriptor", 4, 2 },
	{ "access 0", "7.1 descriptor", 6, 0 },
	{ "access bit 2", "7.1 descriptor", 6, 5 },
	{ "rkey_count 0", "7.1 descriptor", 7, 0 },
	{ "rkey_count 2 of 1", "7.1 descriptor", 7, 2 },
	{ "rkey_count 17", "7.1 descriptor", 7, 17 },
	{ "id 0", "7.1 descriptor", 24, 0 },
	{ "extent_count 0", "7.1 descriptor", 40, 0 },
	{ "extent_count 1 of 2", "7.1 descriptor", 40, 1 },
	{ "extent_count 3 of 2", "7.1 descriptor", 40, 3 },
	{ "extent_count of 2^31", "7.1 descriptor", 43, 0x80 },
	{ "flag bit 1 of a descriptor", "7.1 descriptor", 44, 2 },
	{ "flag bit 31 of a descriptor", "7.1 descriptor", 47, 0x80 },
};

START_TEST(what_the_document_excludes_is_rejected)
{
	for (size_t i = 0; i < sizeof(patches) / sizeof(patches[0]); i++) {
		const struct vector *vector = vector_find(patches[i].vector);
		size_t len = vector_get_bytes(vector, bytes);
		ck_assert_uint_ne(bytes[patches[i].at], patches[i].byte);
		bytes[patches[i].at] = patches[i].byte;

		ck_assert_msg(try_bytes(vector->kind, bytes, len) == CODEC_REJECTED,
			      "%s: accepted in %s", patches[i].reason, patches[i].vector);
	}
}
END_TEST

START_TEST(an_identity_has_a_limit)
{
	static const uint8_t identity[KVT_IDENTITY_LEN_MAX + 1];
	static uint8_t encoded[2 * KVT_IDENTITY_LEN_MAX];
	struct kvi_frame frame = {
		.type = KVI_FRAME_IDENTITY,
		.identity = { identity, KVT_IDENTITY_LEN_MAX },
	};
	size_t len = kvi_frame_encode(&frame, encoded, sizeof(encoded));
	ck_assert_int_eq(codec_try_frame(encoded, len), CODEC_STABLE);
	frame.identity.len++;
	len = kvi_frame_encode(&frame, encoded, sizeof(encoded));
	ck_assert_int_eq(codec_try_frame(encoded, len), CODEC_REJECTED);
}
END_TEST

START_TEST(a_zero_generation_is_rejected_everywhere)
{
	static const char *const names[] = { "5.5 CTS", "5.6 FIN", "5.8 CANCEL", "5.9 CACK" };
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		size_t len = vector_get_bytes(vector_find(names[i]), bytes);
		memset(bytes + 24, 0, 8);
		ck_assert_int_eq(codec_try_message(bytes, len), CODEC_REJECTED);
	}
}
END_TEST

START_TEST(a_start_may_be_empty)
{
	struct kvi_message message = { .type = KVI_MESSAGE_START, .start.len = 0 };
	size_t len = kvi_message_encode(&message, bytes, sizeof(bytes));
	ck_assert_int_eq(codec_try_message(bytes, len), CODEC_STABLE);
}
END_TEST

START_TEST(meta_has_a_limit)
{
	static uint8_t meta[KVT_META_LEN_MAX + 1];
	static uint8_t encoded[2 * KVT_META_LEN_MAX];
	for (size_t more = 0; more < 2; more++) {
		const struct kvi_message messages[] = {
			{ .type = KVI_MESSAGE_EAGER,
			  .eager.meta = { meta, KVT_META_LEN_MAX + more } },
			{ .type = KVI_MESSAGE_START,
			  .start = { .len = 1, .meta = { meta, KVT_META_LEN_MAX + more } } },
		};
		for (size_t i = 0; i < 2; i++) {
			size_t len = kvi_message_encode(&messages[i], encoded, sizeof(encoded));
			ck_assert_int_eq(codec_try_message(encoded, len),
					 more == 0 ? CODEC_STABLE : CODEC_REJECTED);
		}
	}
}
END_TEST

START_TEST(eager_data_has_a_limit)
{
	enum { MOST = 1 << 20 };
	static uint8_t data[MOST + 1];
	static uint8_t encoded[MOST + 1 + KVI_MESSAGE_OVERHEAD];
	struct kvi_message message = { .type = KVI_MESSAGE_EAGER, .eager.data = { data, MOST } };
	size_t len = kvi_message_encode(&message, encoded, sizeof(encoded));
	ck_assert_int_eq(codec_try_message(encoded, len), CODEC_STABLE);

	message.eager.data.len = MOST + 1;
	len = kvi_message_encode(&message, encoded, sizeof(encoded));
	ck_assert_int_eq(codec_try_message(encoded, len), CODEC_REJECTED);
}
END_TEST

START_TEST(rkeys_have_a_limit)
{
	struct kvi_message message = {
		.type = KVI_MESSAGE_CTS,
		.cts = { .generation = 1, .rkey_count = KVI_RAILS_MAX },
	};
	size_t len = kvi_message_encode(&message, bytes, sizeof(bytes));
	ck_assert_int_eq(codec_try_message(bytes, len), CODEC_STABLE);

	bytes[40] = KVI_RAILS_MAX + 1;
	memset(bytes + len, 0, 16);
	ck_assert_int_eq(codec_try_message(bytes, len + 16), CODEC_REJECTED);

	len = vector_get_bytes(vector_find("5.20 STAGING"), bytes);
	bytes[32] = 2;
	memset(bytes + len, 0, 16);
	ck_assert_int_eq(codec_try_message(bytes, len + 16), CODEC_REJECTED);
}
END_TEST

START_TEST(extents_have_a_limit)
{
	struct kvi_descriptor descriptor = {
		.id = 1,
		.access = KVT_ACCESS_READ,
		.rkey_count = KVI_RAILS_MAX,
		.extent_count = KVT_EXTENTS_MAX,
		.block_len = 1,
	};
	for (uint32_t more = 0; more < 2; more++) {
		descriptor.extent_count = KVT_EXTENTS_MAX + more;
		size_t len = kvi_descriptor_get_len(&descriptor);
		uint8_t *encoded = calloc(len, 1);
		ck_assert_ptr_nonnull(encoded);
		kvi_descriptor_encode(&descriptor, encoded);
		ck_assert_int_eq(codec_try_descriptor(encoded, len),
				 more == 0 ? CODEC_STABLE : CODEC_REJECTED);
		free(encoded);
	}
}
END_TEST

START_TEST(rails_have_a_limit)
{
	static uint8_t encoded[KVI_CONTROL_FRAME_MAX];
	struct kvi_frame frame = {
		.type = KVI_FRAME_LANES,
		.lanes = { .rail_count = KVI_RAILS_MAX },
	};
	for (unsigned i = 0; i < KVI_RAILS_MAX; i++)
		frame.lanes.rails[i].len = KVI_WIRE_ADDRESS_LEN_MAX;
	size_t len = kvi_frame_encode(&frame, encoded, sizeof(encoded));
	ck_assert_int_eq(codec_try_frame(encoded, len), CODEC_STABLE);

	/* A seventeenth rail with an address of one byte. */
	encoded[8]++;
	encoded[len] = 1;
	encoded[len + 1] = 0;
	encoded[4] = (uint8_t)(encoded[4] + 2);
	ck_assert_int_eq(codec_try_frame(encoded, len + 2), CODEC_REJECTED);
}
END_TEST

/* How a frame or message whose code is at an offset is read with another code in its place. */
static enum kvt_err read_as(const char *name, bool is_frame, int32_t code)
{
	size_t len = vector_get_bytes(vector_find(name), bytes);
	for (unsigned i = 0; i < 4; i++)
		bytes[(is_frame ? 8 : 24) + i] = (uint8_t)((uint32_t)code >> (8 * i));
	struct kvi_frame frame;
	struct kvi_message message;
	size_t used;
	enum kvt_err err = is_frame ? kvi_frame_decode(bytes, len, &frame)
				    : kvi_message_decode(bytes, len, &message, &used);
	ck_assert_int_eq(err, KVT_OK);
	return is_frame ? frame.ending.code : codec_get_code(&message);
}

static const int32_t unknown_codes[] = { 0, 1, -8, -46, 0x7fffffff, -0x7fffffff - 1 };

START_TEST(an_unknown_code_is_read_as_a_broken_protocol)
{
	int32_t code = unknown_codes[_i];
	ck_assert_int_eq(read_as("3.3 REFUSE", true, code), KVT_E_PROTOCOL);
	ck_assert_int_eq(read_as("3.7 CLOSE", true, code), KVT_E_PROTOCOL);
	ck_assert_int_eq(read_as("5.10 ABORT", false, code), KVT_E_PROTOCOL);
	ck_assert_int_eq(read_as("5.17 NO_EXPORT", false, code), KVT_E_PROTOCOL);
	ck_assert_int_eq(read_as("5.24 NOTIFY_FAILED", false, code), KVT_E_PROTOCOL);
}
END_TEST

/* Rows of protocol 1: what is told, and what it is read as in REFUSE, in ABORT and NOTIFY_FAILED, in
 * NO_EXPORT, in CLOSE. */
static const enum kvt_err told_codes[][5] = {
#define OTHER KVT_E_PROTOCOL
	{ KVT_E_INVALID, OTHER, OTHER, OTHER, OTHER },
	{ KVT_E_NO_MEMORY, KVT_E_LIMIT, KVT_E_LIMIT, OTHER, KVT_E_LIMIT },
	{ KVT_E_UNSUPPORTED, OTHER, OTHER, OTHER, OTHER },
	{ KVT_E_CLOSED, KVT_E_PEER_CLOSED, KVT_E_PEER_CLOSED, OTHER, KVT_E_CLOSED },
	{ KVT_E_FORKED, OTHER, OTHER, OTHER, OTHER },
	{ KVT_E_AGAIN, OTHER, OTHER, KVT_E_AGAIN, OTHER },
	{ KVT_E_LIMIT, KVT_E_LIMIT, KVT_E_LIMIT, KVT_E_LIMIT, KVT_E_LIMIT },
	{ KVT_E_TIMEOUT, OTHER, KVT_E_TIMEOUT, OTHER, KVT_E_TIMEOUT },
	{ KVT_E_WITHDRAWN, OTHER, KVT_E_WITHDRAWN, KVT_E_WITHDRAWN, KVT_E_WITHDRAWN },
	{ KVT_E_VERSION, KVT_E_VERSION, KVT_E_VERSION, OTHER, KVT_E_VERSION },
	{ KVT_E_NO_PROVIDER, KVT_E_NO_PROVIDER, KVT_E_NO_PROVIDER, OTHER, KVT_E_NO_PROVIDER },
	{ KVT_E_FABRIC, KVT_E_UNREACHABLE, KVT_E_FABRIC, OTHER, KVT_E_FABRIC },
	{ KVT_E_INTERNAL, KVT_E_UNREACHABLE, KVT_E_INTERNAL, OTHER, KVT_E_INTERNAL },
#undef OTHER
};

START_TEST(a_code_that_is_true_of_the_peer_alone_is_not_read_as_ours)
{
	const enum kvt_err *row = told_codes[_i];
	ck_assert_int_eq(read_as("3.3 REFUSE", true, row[0]), row[1]);
	ck_assert_int_eq(read_as("5.10 ABORT", false, row[0]), row[2]);
	ck_assert_int_eq(read_as("5.24 NOTIFY_FAILED", false, row[0]), row[2]);
	ck_assert_int_eq(read_as("5.17 NO_EXPORT", false, row[0]), row[3]);
	ck_assert_int_eq(read_as("3.7 CLOSE", true, row[0]), row[4]);
}
END_TEST

START_TEST(an_unknown_frame_says_whether_it_may_be_skipped)
{
	static const uint8_t skip[] = { 0x4b, 0x56, 0xc8, 1, 2, 0, 0, 0, 0xaa, 0xbb };
	static const uint8_t must[] = { 0x4b, 0x56, 0xc8, 0, 2, 0, 0, 0, 0xaa, 0xbb };
	static const uint8_t known[] = { 0x4b, 0x56, KVI_FRAME_READY, 1, 0, 0, 0, 0 };
	struct kvi_frame frame;

	ck_assert_uint_eq(kvi_frame_get_len(skip, 10), 10);
	ck_assert_int_eq(kvi_frame_decode(skip, 10, &frame), KVT_E_UNSUPPORTED);
	ck_assert_int_eq(kvi_frame_decode(skip, 9, &frame), KVT_E_PROTOCOL);
	ck_assert_int_eq(kvi_frame_decode(must, 10, &frame), KVT_E_PROTOCOL);
	ck_assert_int_eq(kvi_frame_decode(known, 8, &frame), KVT_E_PROTOCOL);
}
END_TEST

START_TEST(a_frame_header_is_checked_before_its_body_is_there)
{
	static const uint8_t largest[] = { 0x4b, 0x56, 1, 0, 0xe7, 0xff, 0, 0 };
	static const uint8_t too_large[] = { 0x4b, 0x56, 1, 0, 0xe8, 0xff, 0, 0 };
	static const uint8_t huge[] = { 0x4b, 0x56, 1, 0, 0xff, 0xff, 0xff, 0xff };
	static const uint8_t stranger[] = { 'G', 'E', 'T', ' ', '/', ' ', 'H', 'T' };
	static const uint8_t flagged[] = { 0x4b, 0x56, 1, 4, 0, 0, 0, 0 };

	ck_assert_uint_eq(kvi_frame_get_len(largest, KVI_CONTROL_FRAME_MAX), KVI_CONTROL_FRAME_MAX);
	ck_assert_uint_eq(kvi_frame_get_len(too_large, KVI_CONTROL_FRAME_MAX), 0);
	ck_assert_uint_eq(kvi_frame_get_len(huge, KVI_CONTROL_FRAME_MAX), 0);
	ck_assert_uint_eq(kvi_frame_get_len(stranger, KVI_CONTROL_FRAME_MAX), 0);
	ck_assert_uint_eq(kvi_frame_get_len(flagged, KVI_CONTROL_FRAME_MAX), 0);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("malformed");
	int count = (int)vector_count;
	tcase_add_loop_test(tests, every_truncation_is_rejected, 0, count);
	tcase_add_loop_test(tests, a_trailing_byte_is_rejected, 0, count);
	tcase_add_loop_test(tests, a_trailing_byte_within_a_frame_is_rejected, 0, count);
	tcase_add_loop_test(tests, every_flipped_bit_is_rejected_or_kept, 0, count);
	tcase_add_test(tests, what_the_document_excludes_is_rejected);
	tcase_add_test(tests, an_identity_has_a_limit);
	tcase_add_test(tests, a_zero_generation_is_rejected_everywhere);
	tcase_add_test(tests, a_start_may_be_empty);
	tcase_add_test(tests, meta_has_a_limit);
	tcase_add_test(tests, eager_data_has_a_limit);
	tcase_add_test(tests, rkeys_have_a_limit);
	tcase_add_test(tests, extents_have_a_limit);
	tcase_add_test(tests, rails_have_a_limit);
	int code_count = (int)(sizeof(unknown_codes) / sizeof(unknown_codes[0]));
	tcase_add_loop_test(tests, an_unknown_code_is_read_as_a_broken_protocol, 0, code_count);
	int told_count = (int)(sizeof(told_codes) / sizeof(told_codes[0]));
	tcase_add_loop_test(tests, a_code_that_is_true_of_the_peer_alone_is_not_read_as_ours, 0,
			    told_count);
	tcase_add_test(tests, an_unknown_frame_says_whether_it_may_be_skipped);
	tcase_add_test(tests, a_frame_header_is_checked_before_its_body_is_there);
	return run_tests("protocol_malformed", tests);
}
