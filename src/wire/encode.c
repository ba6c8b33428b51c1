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

static void write_ending(struct kvi_writer *writer, const struct kvi_ending *ending)
{
	kvi_write_u32(writer, (uint32_t)ending->code);
	write_text(writer, ending->text);
}

static void write_address(struct kvi_writer *writer, const struct kvi_wire_address *address)
{
	kvi_write_u8(writer, address->len);
	kvi_write_bytes(writer, address->address, address->len);
}

static void write_lanes(struct kvi_writer *writer, const struct kvi_lanes *lanes)
{
	kvi_write_u8(writer, lanes->rail_count);
	for (unsigned i = 0; i < lanes->rail_count; i++)
		write_address(writer, &lanes->rails[i]);
}

static void write_opening(struct kvi_writer *writer, const struct kvi_opening *opening)
{
	kvi_write_u16(writer, opening->version);
	kvi_write_u8(writer, opening->mode);
	kvi_write_u8(writer, 0);
	kvi_write_bytes(writer, opening->key_id, sizeof(opening->key_id));
	kvi_write_bytes(writer, opening->proof, sizeof(opening->proof));
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
	case KVI_FRAME_CLOSE:
		write_ending(writer, &frame->ending);
		break;
	case KVI_FRAME_LANES:
		write_lanes(writer, &frame->lanes);
		break;
	case KVI_FRAME_OPENING:
		write_opening(writer, &frame->opening);
		break;
	case KVI_FRAME_ANSWER:
		kvi_write_bytes(writer, frame->opening.proof, sizeof(frame->opening.proof));
		break;
	case KVI_FRAME_IDENTITY:
		kvi_write_u16(writer, (uint16_t)frame->identity.len);
		kvi_write_bytes(writer, frame->identity.bytes, frame->identity.len);
		break;
	case KVI_FRAME_NEAR:
		kvi_write_bytes(writer, frame->near.proof, sizeof(frame->near.proof));
		write_address(writer, &frame->near.rail);
		break;
	case KVI_FRAME_FAR:
		write_text(writer, frame->far.text);
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

void kvi_record_put_len(size_t len, uint8_t header[KVI_RECORD_HEADER_LEN])
{
	struct kvi_writer writer = kvi_writer_init(header, KVI_RECORD_HEADER_LEN);
	kvi_write_u16(&writer, (uint16_t)len);
}

void kvi_lane_hello_encode(const struct kvi_lane_hello *hello, uint8_t bytes[KVI_LANE_HELLO_LEN])
{
	struct kvi_writer writer = kvi_writer_init(bytes, KVI_LANE_HELLO_LEN);
	kvi_write_u32(&writer, KVI_LANE_MAGIC);
	kvi_write_bytes(&writer, hello->session, KVI_SESSION_LEN);
	kvi_write_bytes(&writer, hello->token, KVI_TOKEN_LEN);
	kvi_write_u16(&writer, hello->index);
}

/* Lengths come before the bytes that they are of. */
static void write_len(struct kvi_writer *writer, const struct kvi_view *view)
{
	kvi_write_u32(writer, (uint32_t)view->len);
}

static void write_view(struct kvi_writer *writer, const struct kvi_view *view)
{
	kvi_write_bytes(writer, view->bytes, view->len);
}

static void write_rkeys(struct kvi_writer *writer, const struct kvi_wire_rkey *rkeys, size_t count)
{
	kvi_write_u16(writer, (uint16_t)count);
	kvi_write_u16(writer, 0);
	for (size_t i = 0; i < count; i++) {
		kvi_write_u64(writer, rkeys[i].address);
		kvi_write_u64(writer, rkeys[i].key);
	}
}

/* What section 7 says of notifications. */
static void write_notification_fields(struct kvi_writer *writer, const struct kvi_message *message)
{
	switch (message->type) {
	case KVI_MESSAGE_NOTIFY:
	case KVI_MESSAGE_NOTIFY_FAILED:
		kvi_write_u64(writer, message->notify.transfer);
		if (message->type == KVI_MESSAGE_NOTIFY_FAILED)
			kvi_write_u32(writer, (uint32_t)message->notify.code);
		write_len(writer, &message->notify.data);
		write_view(writer, &message->notify.data);
		break;
	case KVI_MESSAGE_NOTIFY_BEGIN:
		kvi_write_u64(writer, message->notify_begin.transfer);
		kvi_write_u64(writer, message->notify_begin.len);
		break;
	case KVI_MESSAGE_NOTIFY_PART:
		kvi_write_u64(writer, message->notify_part.transfer);
		write_len(writer, &message->notify_part.data);
		write_view(writer, &message->notify_part.data);
		break;
	default: /* NOTIFY_DROP */
		kvi_write_u64(writer, message->notify_drop.transfer);
	}
}

/* What section 6.7 says. */
static void write_sum_fields(struct kvi_writer *writer, const struct kvi_message *message)
{
	switch (message->type) {
	case KVI_MESSAGE_CHECK:
		kvi_write_u64(writer, message->check.number);
		kvi_write_u64(writer, message->check.export_id);
		kvi_write_u64(writer, message->check.sum);
		write_len(writer, &message->check.spans);
		write_view(writer, &message->check.spans);
		break;
	case KVI_MESSAGE_CHECKED:
		kvi_write_u64(writer, message->checked.number);
		kvi_write_u32(writer, (uint32_t)message->checked.code);
		break;
	case KVI_MESSAGE_PACK_WRONG:
		kvi_write_u64(writer, message->pack_wrong.buffer);
		break;
	default: /* WRONG */
		kvi_write_u64(writer, message->wrong.seq);
	}
}

/* What section 7 says. */
static void write_paged_fields(struct kvi_writer *writer, const struct kvi_message *message)
{
	switch (message->type) {
	case KVI_MESSAGE_ATTACH:
		kvi_write_u64(writer, message->attach.number);
		kvi_write_u64(writer, message->attach.export_id);
		break;
	case KVI_MESSAGE_ATTACHED:
		kvi_write_u64(writer, message->attached.number);
		break;
	case KVI_MESSAGE_NO_EXPORT:
		kvi_write_u64(writer, message->no_export.number);
		kvi_write_u32(writer, (uint32_t)message->no_export.code);
		break;
	case KVI_MESSAGE_WITHDRAW:
	case KVI_MESSAGE_WITHDRAWN:
		kvi_write_u64(writer, message->withdraw.export_id);
		break;
	case KVI_MESSAGE_STAGING:
		kvi_write_u64(writer, message->staging.buffer_count);
		kvi_write_u64(writer, message->staging.buffer_len);
		write_rkeys(writer, &message->staging.rkey, 1);
		break;
	case KVI_MESSAGE_PACK:
		kvi_write_u64(writer, message->pack.buffer);
		kvi_write_u64(writer, message->pack.export_id);
		kvi_write_u64(writer, message->pack.span_count);
		kvi_write_u32(writer, message->pack.grid.extent);
		kvi_write_u32(writer, message->pack.grid.block_len);
		kvi_write_u64(writer, message->pack.grid.stride);
		break;
	case KVI_MESSAGE_PACK_ACK:
		kvi_write_u64(writer, message->pack_ack.buffer_count);
		break;
	case KVI_MESSAGE_SYNC:
	case KVI_MESSAGE_NOTED:
		kvi_write_u64(writer, message->sync.transfer);
		break;
	case KVI_MESSAGE_READ:
		kvi_write_u64(writer, message->read.number);
		kvi_write_u64(writer, message->read.export_id);
		write_len(writer, &message->read.spans);
		write_view(writer, &message->read.spans);
		break;
	case KVI_MESSAGE_FILLED:
		kvi_write_u64(writer, message->filled.number);
		kvi_write_u64(writer, message->filled.buffer);
		break;
	case KVI_MESSAGE_DROPPED:
		kvi_write_u64(writer, message->dropped.number);
		break;
	case KVI_MESSAGE_FIND:
		kvi_write_u64(writer, message->find.number);
		kvi_write_u64(writer, message->find.offset);
		write_len(writer, &message->find.name);
		write_view(writer, &message->find.name);
		break;
	case KVI_MESSAGE_FOUND:
		kvi_write_u64(writer, message->found.number);
		kvi_write_u64(writer, message->found.export_id);
		kvi_write_u64(writer, message->found.len);
		write_len(writer, &message->found.part);
		write_view(writer, &message->found.part);
		break;
	case KVI_MESSAGE_BLOCKS:
		kvi_write_u64(writer, message->blocks.export_id);
		kvi_write_u64(writer, message->blocks.span_count);
		write_len(writer, &message->blocks.data);
		write_view(writer, &message->blocks.data);
		break;
	default:
		write_notification_fields(writer, message);
	}
}

static void write_fields(struct kvi_writer *writer, const struct kvi_message *message)
{
	switch (message->type) {
	case KVI_MESSAGE_CREDIT:
	case KVI_MESSAGE_KV_CLOSED:
	case KVI_MESSAGE_KV_CLOSED_ACK:
	case KVI_MESSAGE_LANE_END:
		break;
	case KVI_MESSAGE_EAGER:
		kvi_write_u64(writer, message->eager.seq);
		write_len(writer, &message->eager.meta);
		write_len(writer, &message->eager.data);
		write_view(writer, &message->eager.meta);
		write_view(writer, &message->eager.data);
		break;
	case KVI_MESSAGE_START:
		kvi_write_u64(writer, message->start.seq);
		kvi_write_u64(writer, message->start.len);
		write_len(writer, &message->start.meta);
		write_view(writer, &message->start.meta);
		break;
	case KVI_MESSAGE_CTS:
		kvi_write_u64(writer, message->cts.seq);
		kvi_write_u64(writer, message->cts.generation);
		kvi_write_u64(writer, message->cts.capacity);
		write_rkeys(writer, message->cts.rkeys, message->cts.rkey_count);
		break;
	case KVI_MESSAGE_FIN:
		kvi_write_u64(writer, message->fin.seq);
		kvi_write_u64(writer, message->fin.generation);
		kvi_write_u64(writer, message->fin.len);
		break;
	case KVI_MESSAGE_ACK:
		kvi_write_u64(writer, message->ack.seq);
		break;
	case KVI_MESSAGE_CANCEL:
	case KVI_MESSAGE_CACK:
		kvi_write_u64(writer, message->cancel.seq);
		kvi_write_u64(writer, message->cancel.generation);
		break;
	case KVI_MESSAGE_ABORT:
		kvi_write_u64(writer, message->abort.seq);
		kvi_write_u32(writer, (uint32_t)message->abort.code);
		break;
	case KVI_MESSAGE_REFUSED:
		kvi_write_u64(writer, message->refused.seq);
		kvi_write_u64(writer, message->refused.capacity);
		break;
	default:
		if (kvi_message_is_of_sums(message->type))
			write_sum_fields(writer, message);
		else
			write_paged_fields(writer, message);
	}
}

size_t kvi_message_encode(const struct kvi_message *message, void *bytes, size_t len)
{
	struct kvi_writer writer = kvi_writer_init(bytes, len);
	kvi_write_u8(&writer, (uint8_t)message->type);
	kvi_write_u8(&writer, message->has_sum ? KVI_MESSAGE_SUMMED : 0);
	kvi_write_u16(&writer, message->credits);
	kvi_write_u32(&writer, message->window);
	kvi_write_u64(&writer, message->tag);
	write_fields(&writer, message);
	if (message->has_sum)
		kvi_write_u64(&writer, message->sum);
	return writer.bad ? 0 : kvi_writer_get_len(&writer);
}

uint32_t kvi_message_get_own_charge(const struct kvi_message *message)
{
	switch (message->type) {
	case KVI_MESSAGE_EAGER:
		return kvi_message_get_charge(message->eager.meta.len, message->eager.data.len);
	case KVI_MESSAGE_NOTIFY:
	case KVI_MESSAGE_NOTIFY_FAILED:
		return kvi_message_get_charge(0, message->notify.data.len);
	case KVI_MESSAGE_NOTIFY_BEGIN:
		return (uint32_t)message->notify_begin.len;
	default:
		return 0;
	}
}

bool kvi_message_has_sum(enum kvi_message_type type)
{
	return type == KVI_MESSAGE_FIN || type == KVI_MESSAGE_PACK || type == KVI_MESSAGE_FILLED;
}

bool kvi_message_is_of_sums(enum kvi_message_type type)
{
	return type >= KVI_MESSAGE_CHECK;
}

struct kvi_view *kvi_message_get_data(struct kvi_message *message)
{
	switch (message->type) {
	case KVI_MESSAGE_EAGER:
		return &message->eager.data;
	case KVI_MESSAGE_NOTIFY:
	case KVI_MESSAGE_NOTIFY_FAILED:
		return &message->notify.data;
	case KVI_MESSAGE_READ:
		return &message->read.spans;
	case KVI_MESSAGE_FIND:
		return &message->find.name;
	case KVI_MESSAGE_FOUND:
		return &message->found.part;
	case KVI_MESSAGE_NOTIFY_PART:
		return &message->notify_part.data;
	case KVI_MESSAGE_BLOCKS:
		return &message->blocks.data;
	case KVI_MESSAGE_CHECK:
		return &message->check.spans;
	default:
		return NULL;
	}
}
