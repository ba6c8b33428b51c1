/* SPDX-License-Identifier: Apache-2.0 */
/*
 * encode.c - values to bytes, as docs/protocol.md says. It never allocates, and trusts its caller that
 * the values are allowed.
 */
#include <string.h>

#include "base/bytes.h"
#include "wire/layout.h"
#include "wire/wire.h"

static void write_name(struct kvi_writer *writer, const char name[KVI_NAME_LEN])
{
	size_t len = strnlen(name, KVI_NAME_LEN - 1);
	kvi_write_u8(writer, (uint8_t)len);
	kvi_write_bytes(writer, name, len);
}

/* Texts come from anywhere (strerror(3) in the user's language), the wire has printable ASCII only. */
static void write_text(struct kvi_writer *writer, const char text[KVT_TEXT_LEN])
{
	size_t len = strnlen(text, KVT_TEXT_LEN - 1);
	kvi_write_u8(writer, (uint8_t)len);
	for (size_t i = 0; i < len; i++) {
		uint8_t byte = (uint8_t)text[i];
		kvi_write_u8(writer, byte >= 0x20 && byte < 0x7f ? byte : '?');
	}
}

static void write_hello(struct kvi_writer *writer, const struct kvi_hello *hello)
{
	kvi_write_u16(writer, hello->version_min);
	kvi_write_u16(writer, hello->version_max);
	kvi_write_u64(writer, hello->features);
	kvi_write_bytes(writer, hello->instance, KVI_SESSION_LEN);
	kvi_write_u16(writer, hello->lane_count);
	kvi_write_u32(writer, hello->eager_len);
	kvi_write_u32(writer, hello->rx_count);
	kvi_write_u8(writer, hello->provider_count);
	for (unsigned i = 0; i < hello->provider_count; i++)
		write_name(writer, hello->providers[i]);
}

static void write_welcome(struct kvi_writer *writer, const struct kvi_welcome *welcome)
{
	kvi_write_u16(writer, welcome->version);
	kvi_write_u64(writer, welcome->features);
	kvi_write_bytes(writer, welcome->instance, KVI_SESSION_LEN);
	kvi_write_bytes(writer, welcome->session, KVI_SESSION_LEN);
	kvi_write_u16(writer, welcome->lane_count);
	kvi_write_u32(writer, welcome->eager_len);
	kvi_write_u32(writer, welcome->rx_count);
	write_name(writer, welcome->provider);
}

static void write_farewell(struct kvi_writer *writer, const struct kvi_farewell *farewell)
{
	kvi_write_u32(writer, (uint32_t)farewell->code);
	write_text(writer, farewell->text);
}

static void write_lanes(struct kvi_writer *writer, const struct kvi_lanes *lanes)
{
	kvi_write_bytes(writer, lanes->token, KVI_TOKEN_LEN);
	kvi_write_u8(writer, lanes->rail_count);
	for (unsigned i = 0; i < lanes->rail_count; i++) {
		kvi_write_u8(writer, lanes->rails[i].len);
		kvi_write_bytes(writer, lanes->rails[i].address, lanes->rails[i].len);
	}
}

static void write_frame_body(struct kvi_writer *writer, const struct kvi_frame *frame)
{
	switch (frame->type) {
	case KVI_FRAME_HELLO:
		write_hello(writer, &frame->hello);
		break;
	case KVI_FRAME_WELCOME:
		write_welcome(writer, &frame->welcome);
		break;
	case KVI_FRAME_REFUSE:
	case KVI_FRAME_GOODBYE:
		write_farewell(writer, &frame->farewell);
		break;
	case KVI_FRAME_LANES:
		write_lanes(writer, &frame->lanes);
		break;
	case KVI_FRAME_READY:
	case KVI_FRAME_HEARTBEAT:
		break;
	}
}

size_t kvi_frame_encode(const struct kvi_frame *frame, void *bytes, size_t len)
{
	struct kvi_writer writer = kvi_writer_init(bytes, len);
	kvi_write_u16(&writer, KVI_FRAME_MAGIC);
	kvi_write_u8(&writer, (uint8_t)frame->type);
	kvi_write_u8(&writer, 0);
	struct kvi_writer body_len = writer;
	kvi_write_u32(&writer, 0);
	write_frame_body(&writer, frame);
	if (writer.bad)
		return 0;

	kvi_write_u32(&body_len, (uint32_t)(kvi_writer_get_len(&writer) - KVI_FRAME_HEADER_LEN));
	return kvi_writer_get_len(&writer);
}

void kvi_lane_hello_encode(const struct kvi_lane_hello *hello, uint8_t bytes[KVI_LANE_HELLO_LEN])
{
	struct kvi_writer writer = kvi_writer_init(bytes, KVI_LANE_HELLO_LEN);
	kvi_write_u32(&writer, KVI_LANE_MAGIC);
	kvi_write_bytes(&writer, hello->session, KVI_SESSION_LEN);
	kvi_write_bytes(&writer, hello->token, KVI_TOKEN_LEN);
	kvi_write_u16(&writer, hello->index);
}

static void write_grants(struct kvi_writer *writer, const struct kvi_message *message)
{
	kvi_write_u16(writer, (uint16_t)message->grant_count);
	kvi_write_u16(writer, 0);
	for (size_t i = 0; i < message->grant_count; i++) {
		kvi_write_u64(writer, message->grants[i].address);
		kvi_write_u64(writer, message->grants[i].key);
	}
}

size_t kvi_message_encode(const struct kvi_message *message, void *bytes, size_t len)
{
	struct kvi_writer writer = kvi_writer_init(bytes, len);
	kvi_write_u8(&writer, (uint8_t)message->type);
	kvi_write_u8(&writer, 0);
	kvi_write_u16(&writer, message->credits);
	kvi_write_u32(&writer, message->window);
	kvi_write_u64(&writer, message->tag);

	unsigned fields = kvi_message_fields[message->type];
	if (fields & KVI_HAS_SEQ)
		kvi_write_u64(&writer, message->seq);
	if (fields & KVI_HAS_GENERATION)
		kvi_write_u64(&writer, message->generation);
	if (fields & KVI_HAS_LEN)
		kvi_write_u64(&writer, message->len);
	if (fields & KVI_HAS_CODE)
		kvi_write_u32(&writer, (uint32_t)message->code);
	if (fields & KVI_HAS_META)
		kvi_write_u32(&writer, (uint32_t)message->meta_len);
	if (fields & KVI_HAS_DATA)
		kvi_write_u32(&writer, (uint32_t)message->data_len);
	if (fields & KVI_HAS_META)
		kvi_write_bytes(&writer, message->meta, message->meta_len);
	if (fields & KVI_HAS_DATA)
		kvi_write_bytes(&writer, message->data, message->data_len);
	if (fields & KVI_HAS_GRANTS)
		write_grants(&writer, message);
	return writer.bad ? 0 : kvi_writer_get_len(&writer);
}
