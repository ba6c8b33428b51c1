/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_vectors.c - the golden bytes, both ways. Encoding a value must give its bytes. Decoding the
 * bytes and encoding the result must give them again, and since no two values have the same bytes, the
 * result is the value; what is not on the wire is looked at by name.
 */
#include <string.h>

#include "../support/runner.h"
#include "codec.h"
#include "vectors.h"

static uint8_t bytes[VECTOR_LEN_MAX];

static size_t encode_descriptor(const struct vector_descriptor *value, uint8_t *to)
{
	kvi_descriptor_encode(&value->head, to);
	for (uint32_t i = 0; i < value->head.extent_count; i++)
		kvi_descriptor_encode_extent(&value->head, to, i, &value->extents[i]);
	return kvi_descriptor_get_len(&value->head);
}

static size_t encode(const struct vector *vector, uint8_t *to, size_t len)
{
	switch (vector->kind) {
	case VECTOR_FRAME:
		return kvi_frame_encode(vector->value, to, len);
	case VECTOR_MESSAGE:
		return kvi_message_encode(vector->value, to, len);
	case VECTOR_DESCRIPTOR:
		return encode_descriptor(vector->value, to);
	case VECTOR_ADDRESS:
		return kvi_address_encode(vector->value, to);
	case VECTOR_LANE_HELLO:
		kvi_lane_hello_encode(vector->value, to);
	}
	return KVI_LANE_HELLO_LEN;
}

START_TEST(a_value_is_written_as_the_document_says)
{
	uint8_t encoded[VECTOR_LEN_MAX];
	size_t len = vector_get_bytes(&vectors[_i], bytes);

	ck_assert_uint_eq(encode(&vectors[_i], encoded, sizeof(encoded)), len);
	ck_assert_mem_eq(encoded, bytes, len);
}
END_TEST

START_TEST(the_bytes_are_read_as_that_value)
{
	size_t len = vector_get_bytes(&vectors[_i], bytes);

	switch (vectors[_i].kind) {
	case VECTOR_FRAME:
		ck_assert_uint_eq(kvi_frame_get_len(bytes, sizeof(bytes)), len);
		ck_assert_int_eq(codec_try_frame(bytes, len), CODEC_STABLE);
		break;
	case VECTOR_LANE_HELLO:
		ck_assert_int_eq(codec_try_lane_hello(bytes, len), CODEC_STABLE);
		break;
	case VECTOR_MESSAGE:
		ck_assert_int_eq(codec_try_message(bytes, len), CODEC_STABLE);
		break;
	case VECTOR_DESCRIPTOR:
		ck_assert_int_eq(codec_try_descriptor(bytes, len), CODEC_STABLE);
		break;
	case VECTOR_ADDRESS:
		ck_assert_int_eq(codec_try_address(bytes, len), CODEC_STABLE);
		break;
	}
}
END_TEST

START_TEST(what_does_not_fit_is_not_written)
{
	/* All others are written into room that is made for them. */
	if (vectors[_i].kind != VECTOR_FRAME && vectors[_i].kind != VECTOR_MESSAGE)
		return;

	uint8_t encoded[VECTOR_LEN_MAX + 1];
	size_t len = vector_get_bytes(&vectors[_i], bytes);
	for (size_t room = 0; room < len; room++) {
		encoded[room] = 0x5a;
		ck_assert_uint_eq(encode(&vectors[_i], encoded, room), 0);
		ck_assert_uint_eq(encoded[room], 0x5a);
	}
}
END_TEST

START_TEST(meta_and_data_are_read_in_place)
{
	size_t len = vector_get_bytes(vector_find("5.3 EAGER"), bytes);
	struct kvi_message message;
	size_t used;
	ck_assert_int_eq(kvi_message_decode(bytes, len, &message, &used), KVT_OK);

	ck_assert_ptr_eq(message.eager.meta.bytes, bytes + 32);
	ck_assert_uint_eq(message.eager.meta.len, 2);
	ck_assert_ptr_eq(message.eager.data.bytes, bytes + 34);
	ck_assert_uint_eq(message.eager.data.len, 5);
}
END_TEST

START_TEST(a_notification_of_success_has_no_code)
{
	size_t len = vector_get_bytes(vector_find("5.23 NOTIFY"), bytes);
	struct kvi_message message;
	size_t used;
	memset(&message, 0xff, sizeof(message));
	ck_assert_int_eq(kvi_message_decode(bytes, len, &message, &used), KVT_OK);

	ck_assert_int_eq(message.type, KVI_MESSAGE_NOTIFY);
	ck_assert_uint_eq(message.notify.transfer, 9);
	ck_assert_int_eq(message.notify.code, KVT_OK);
	ck_assert_mem_eq(message.notify.data.bytes, "req:1", 5);
}
END_TEST

/* A receiver whose eager_len is 0 has the shortest packets: those of KVI_MESSAGE_OVERHEAD bytes. */
START_TEST(the_longest_messages_fit_the_shortest_packet)
{
	enum { ROOM = KVI_MESSAGE_OVERHEAD - KVI_ANSWER_FIXED_LEN };
	static uint8_t packet[KVI_MESSAGE_OVERHEAD];
	static const uint8_t payload[KVI_MESSAGE_OVERHEAD];
	const struct kvi_view meta = { payload, KVT_META_LEN_MAX };
	const struct kvi_message longest[] = {
		{ .type = KVI_MESSAGE_EAGER, .eager.meta = meta },
		{ .type = KVI_MESSAGE_START, .start.meta = meta },
		{ .type = KVI_MESSAGE_CTS, .cts.rkey_count = KVI_RAILS_MAX },
		{ .type = KVI_MESSAGE_FIN },
		{ .type = KVI_MESSAGE_STAGING },
		{ .type = KVI_MESSAGE_PACK },
		{ .type = KVI_MESSAGE_NOTIFY_FAILED, .notify.data = { payload, ROOM } },
		{ .type = KVI_MESSAGE_READ, .read.spans = { payload, ROOM } },
		{ .type = KVI_MESSAGE_FIND, .find.name = { payload, KVT_NAME_LEN_MAX } },
		{ .type = KVI_MESSAGE_FOUND, .found.part = { payload, ROOM } },
		{ .type = KVI_MESSAGE_NOTIFY_BEGIN },
		{ .type = KVI_MESSAGE_NOTIFY_PART, .notify_part.data = { payload, ROOM } },
		{ .type = KVI_MESSAGE_BLOCKS,
		  .blocks.data = { payload, KVI_MESSAGE_OVERHEAD - KVI_BLOCKS_FIXED_LEN } },
	};
	for (size_t i = 0; i < sizeof(longest) / sizeof(longest[0]); i++)
		ck_assert_msg(kvi_message_encode(&longest[i], packet, sizeof(packet)) > 0,
			      "type %d is too long", longest[i].type);
	ck_assert_uint_ge(ROOM, KVI_PART_LEN_MIN);
}
END_TEST

START_TEST(names_and_texts_are_strings)
{
	struct kvi_frame frame;
	size_t len = vector_get_bytes(vector_find("3.1 HELLO at its limits"), bytes);
	ck_assert_int_eq(kvi_frame_decode(bytes, len, &frame), KVT_OK);
	ck_assert_str_eq(frame.hello.providers[0], "abcdefghijklmnopqrstuvwxyz01234");
	ck_assert_str_eq(frame.hello.providers[3], " ~");

	len = vector_get_bytes(vector_find("3.3 REFUSE"), bytes);
	ck_assert_int_eq(kvi_frame_decode(bytes, len, &frame), KVT_OK);
	ck_assert_int_eq(frame.ending.code, KVT_E_VERSION);
	ck_assert_str_eq(frame.ending.text, "too old");
}
END_TEST

START_TEST(an_extent_of_a_descriptor_is_read_by_its_number)
{
	struct kvi_descriptor head;
	struct kvi_descriptor_extent extent;
	size_t len = vector_get_bytes(vector_find("7.1 descriptor"), bytes);
	ck_assert_int_eq(kvi_descriptor_decode(bytes, len, &head), KVT_OK);
	ck_assert_uint_eq(head.id, 5);
	ck_assert_uint_eq(head.access, KVT_ACCESS_READ | KVT_ACCESS_WRITE);
	ck_assert_uint_eq(head.rkey_count, 1);
	ck_assert_uint_eq(head.block_len, 4096);
	ck_assert_uint_eq(head.extent_count, 2);
	kvi_descriptor_decode_extent(&head, bytes, 1, &extent);
	ck_assert_uint_eq(extent.count, 1);
	ck_assert_uint_eq(extent.stride, 8192);
	ck_assert_uint_eq(extent.rkeys[0].address, 0);
	ck_assert_uint_eq(extent.rkeys[0].key, UINT64_MAX);
	kvi_descriptor_decode_extent(&head, bytes, 0, &extent);
	ck_assert_uint_eq(extent.count, 16);
	ck_assert_uint_eq(extent.rkeys[0].address, UINT64_C(0x00007f0000001000));
}
END_TEST

/* 7.3: extent, len, offset. */
START_TEST(a_span_is_as_the_document_says)
{
	static const uint8_t golden[KVI_WIRE_SPAN_LEN] = { 0x04, 0x03, 0x02, 0x01, 0x08, 0x07,
							   0x06, 0x05, 0x18, 0x17, 0x16, 0x15,
							   0x14, 0x13, 0x12, 0x11 };
	static const struct kvi_wire_span value = {
		.extent = 0x01020304,
		.len = 0x05060708,
		.offset = UINT64_C(0x1112131415161718),
	};
	uint8_t encoded[KVI_WIRE_SPAN_LEN];
	struct kvi_wire_span span;
	kvi_wire_span_encode(&value, encoded);
	ck_assert_mem_eq(encoded, golden, sizeof(golden));
	kvi_wire_span_decode(golden, &span);
	ck_assert_uint_eq(span.extent, value.extent);
	ck_assert_uint_eq(span.len, value.len);
	ck_assert_uint_eq(span.offset, value.offset);
}
END_TEST

START_TEST(a_number_is_as_the_document_says)
{
	static const uint8_t golden[KVI_WIRE_NUMBER_LEN] = { 0x04, 0x03, 0x02, 0x81 };
	uint8_t encoded[KVI_WIRE_NUMBER_LEN];
	kvi_wire_number_encode(0x81020304, encoded);
	ck_assert_mem_eq(encoded, golden, sizeof(golden));
	ck_assert_uint_eq(kvi_wire_number_decode(golden), 0x81020304);
}
END_TEST

START_TEST(an_eager_of_the_greatest_meta_fits_in_the_announced_overhead)
{
	static uint8_t meta[KVT_META_LEN_MAX];
	static uint8_t encoded[KVI_MESSAGE_OVERHEAD + 3];
	struct kvi_message message = {
		.type = KVI_MESSAGE_EAGER,
		.eager = { .meta = { meta, sizeof(meta) }, .data = { meta, 3 } },
	};
	size_t len = kvi_message_encode(&message, encoded, sizeof(encoded));

	ck_assert_uint_gt(len, 0);
	ck_assert_int_eq(codec_try_message(encoded, len), CODEC_STABLE);
}
END_TEST

START_TEST(a_text_is_written_in_printable_ascii)
{
	struct kvi_frame frame = {
		.type = KVI_FRAME_CLOSE,
		.ending = { .code = KVT_E_CLOSED, .text = "a\nb \xc3\xa9\x7f~" },
	};
	size_t len = kvi_frame_encode(&frame, bytes, sizeof(bytes));

	ck_assert_int_eq(kvi_frame_decode(bytes, len, &frame), KVT_OK);
	ck_assert_str_eq(frame.ending.text, "a?b ???~");
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("vectors");
	int count = (int)vector_count;
	tcase_add_loop_test(tests, a_value_is_written_as_the_document_says, 0, count);
	tcase_add_loop_test(tests, the_bytes_are_read_as_that_value, 0, count);
	tcase_add_loop_test(tests, what_does_not_fit_is_not_written, 0, count);
	tcase_add_test(tests, meta_and_data_are_read_in_place);
	tcase_add_test(tests, a_notification_of_success_has_no_code);
	tcase_add_test(tests, the_longest_messages_fit_the_shortest_packet);
	tcase_add_test(tests, names_and_texts_are_strings);
	tcase_add_test(tests, an_extent_of_a_descriptor_is_read_by_its_number);
	tcase_add_test(tests, a_span_is_as_the_document_says);
	tcase_add_test(tests, a_number_is_as_the_document_says);
	tcase_add_test(tests, an_eager_of_the_greatest_meta_fits_in_the_announced_overhead);
	tcase_add_test(tests, a_text_is_written_in_printable_ascii);
	return run_tests("protocol_vectors", tests);
}
