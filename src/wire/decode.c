/* SPDX-License-Identifier: Apache-2.0 */
/*
 * decode.c - bytes from a peer to values. It accepts what docs/protocol.md allows and nothing else, so
 * that nothing behind it checks again; it never allocates, and never reads outside the bytes given.
 *
 * All functions here read on after an error: the reader stays bad and gives zeros, and the one test is
 * at the end. A loop over a count from the peer ends when the reader is bad, so that no count that was
 * found too large is used.
 */
#include <string.h>

#include "base/bytes.h"
#include "wire/layout.h"
#include "wire/wire.h"

static inline void require(struct kvi_reader *reader, bool holds)
{
	if (!holds)
		reader->bad = true;
}

static void read_array(struct kvi_reader *reader, uint8_t *array, size_t len)
{
	const uint8_t *bytes = kvi_read_bytes(reader, len);
	if (bytes != NULL)
		memcpy(array, bytes, len);
}

/* Text of printable ASCII, min to max bytes behind their count; the string has max + 1. */
static void read_string(struct kvi_reader *reader, char *string, size_t min, size_t max)
{
	size_t len = kvi_read_u8(reader);
	require(reader, len >= min && len <= max);
	const uint8_t *bytes = kvi_read_bytes(reader, len);
	if (bytes == NULL)
		return;
	for (size_t i = 0; i < len; i++) {
		require(reader, bytes[i] >= 0x20 && bytes[i] < 0x7f);
		string[i] = (char)bytes[i];
	}
	string[len] = '\0';
}

static void read_name(struct kvi_reader *reader, char name[KVI_NAME_LEN])
{
	read_string(reader, name, 1, KVI_NAME_LEN - 1);
}

/* Some codes are true of the peer only (a wrong call, no memory, something was closed there): they are read as
 * other codes, as protocol 1 says. */
static enum kvt_err read_code(struct kvi_reader *reader)
{
	enum kvt_err code = (enum kvt_err)(int32_t)kvi_read_u32(reader);
	switch (code) {
	case KVT_E_NO_MEMORY:
		return KVT_E_LIMIT;
	case KVT_E_CLOSED:
		return KVT_E_PEER_CLOSED;
	case KVT_E_INVALID:
	case KVT_E_UNSUPPORTED:
	case KVT_E_FORKED:
	case KVT_E_AGAIN:
		return KVT_E_PROTOCOL;
	default:
		return kvt_err_get_scope(code) == KVT_SCOPE_NONE ? KVT_E_PROTOCOL : code;
	}
}

/* In a REFUSE: neither one of our transfers nor our engine has failed. */
static enum kvt_err read_refusal_code(struct kvi_reader *reader)
{
	enum kvt_err code = read_code(reader);
	if (code == KVT_E_FABRIC || code == KVT_E_INTERNAL)
		return KVT_E_UNREACHABLE;
	return kvt_err_get_scope(code) == KVT_SCOPE_TRANSFER ? KVT_E_PROTOCOL : code;
}

/* KVT_E_CLOSED: in order. Else the reason. */
static enum kvt_err read_close_code(struct kvi_reader *reader)
{
	struct kvi_reader ahead = *reader;
	bool is_in_order = (int32_t)kvi_read_u32(&ahead) == KVT_E_CLOSED;
	enum kvt_err code = read_code(reader);
	return is_in_order ? KVT_E_CLOSED : code;
}

static enum kvt_err read_no_export_code(struct kvi_reader *reader)
{
	enum kvt_err code = (enum kvt_err)(int32_t)kvi_read_u32(reader);
	bool is_one = code == KVT_E_WITHDRAWN || code == KVT_E_AGAIN || code == KVT_E_LIMIT;
	return is_one ? code : KVT_E_PROTOCOL;
}

static void read_lane_limits(struct kvi_reader *reader, uint16_t *lane_count, uint32_t *eager_len,
			     uint32_t *rx_count)
{
	*lane_count = kvi_read_u16(reader);
	*eager_len = kvi_read_u32(reader);
	*rx_count = kvi_read_u32(reader);
	require(reader, *lane_count >= 1 && *lane_count <= KVI_LANES_MAX);
	require(reader, *eager_len <= KVI_EAGER_LEN_MAX);
	require(reader, *rx_count >= KVI_RX_COUNT_MIN && *rx_count <= KVI_RX_COUNT_MAX);
}

static void read_hello(struct kvi_reader *reader, struct kvi_hello *hello)
{
	hello->version_min = kvi_read_u16(reader);
	hello->version_max = kvi_read_u16(reader);
	require(reader, hello->version_min >= 1 && hello->version_min <= hello->version_max);
	hello->features = kvi_read_u64(reader);
	read_array(reader, hello->instance, KVI_SESSION_LEN);
	read_lane_limits(reader, &hello->lane_count, &hello->eager_len, &hello->rx_count);
	hello->provider_count = kvi_read_u8(reader);
	require(reader, hello->provider_count >= 1 && hello->provider_count <= KVI_PROVIDERS_MAX);
	for (unsigned i = 0; !reader->bad && i < hello->provider_count; i++)
		read_name(reader, hello->providers[i]);
}

static void read_welcome(struct kvi_reader *reader, struct kvi_welcome *welcome)
{
	welcome->version = kvi_read_u16(reader);
	require(reader, welcome->version >= 1);
	welcome->features = kvi_read_u64(reader);
	read_array(reader, welcome->instance, KVI_SESSION_LEN);
	read_array(reader, welcome->session, KVI_SESSION_LEN);
	read_lane_limits(reader, &welcome->lane_count, &welcome->eager_len, &welcome->rx_count);
	read_name(reader, welcome->provider);
}

static void read_ending(struct kvi_reader *reader, struct kvi_frame *frame)
{
	struct kvi_ending *ending = &frame->ending;
	ending->code = frame->type == KVI_FRAME_REFUSE ? read_refusal_code(reader)
						       : read_close_code(reader);
	read_string(reader, ending->text, 0, KVT_TEXT_LEN - 1);
}

static void read_address(struct kvi_reader *reader, struct kvi_wire_address *address)
{
	uint8_t len = kvi_read_u8(reader);
	require(reader, len >= 1 && len <= KVI_WIRE_ADDRESS_LEN_MAX);
	read_array(reader, address->address, len);
	address->len = len;
}

static void read_lanes(struct kvi_reader *reader, struct kvi_lanes *lanes)
{
	lanes->rail_count = kvi_read_u8(reader);
	require(reader, lanes->rail_count >= 1 && lanes->rail_count <= KVI_RAILS_MAX);
	for (unsigned i = 0; !reader->bad && i < lanes->rail_count; i++)
		read_address(reader, &lanes->rails[i]);
}

static bool is_zero(const uint8_t *bytes, size_t len)
{
	uint8_t all = 0;
	for (size_t i = 0; i < len; i++)
		all |= bytes[i];
	return all == 0;
}

static void read_opening(struct kvi_reader *reader, struct kvi_opening *opening)
{
	opening->version = kvi_read_u16(reader);
	opening->mode = kvi_read_u8(reader);
	require(reader, opening->mode <= KVI_OPENING_NOISE);
	require(reader, kvi_read_u8(reader) == 0);
	read_array(reader, opening->key_id, sizeof(opening->key_id));
	read_array(reader, opening->proof, sizeof(opening->proof));
	require(reader, opening->mode == KVI_OPENING_NOISE ||
				(is_zero(opening->key_id, sizeof(opening->key_id)) &&
				 is_zero(opening->proof, sizeof(opening->proof))));
}

static void read_identity(struct kvi_reader *reader, struct kvi_view *identity)
{
	identity->len = kvi_read_u16(reader);
	require(reader, identity->len >= 1 && identity->len <= KVT_IDENTITY_LEN_MAX);
	identity->bytes = kvi_read_bytes(reader, identity->len);
}

size_t kvi_record_get_len(const uint8_t header[KVI_RECORD_HEADER_LEN])
{
	struct kvi_reader reader = kvi_reader_init(header, KVI_RECORD_HEADER_LEN);
	return kvi_read_u16(&reader);
}

size_t kvi_frame_get_len(const void *header, size_t max_len)
{
	struct kvi_reader reader = kvi_reader_init(header, KVI_FRAME_HEADER_LEN);
	uint16_t magic = kvi_read_u16(&reader);
	kvi_read_u8(&reader); /* type */
	uint8_t flags = kvi_read_u8(&reader);
	size_t len = (size_t)kvi_read_u32(&reader) + KVI_FRAME_HEADER_LEN;
	if (magic != KVI_FRAME_MAGIC || (flags & ~KVI_FRAME_SKIP) != 0 || len > max_len)
		return 0;
	return len;
}

/* The header is of a type that this version does not know and may skip (2.2). */
static bool may_skip(const void *header)
{
	const uint8_t *bytes = header;
	uint8_t type = bytes[2];
	bool is_known = type >= KVI_FRAME_HELLO && type <= KVI_FRAME_LAST;
	return !is_known && bytes[3] == KVI_FRAME_SKIP;
}

enum kvt_err kvi_frame_decode(const void *bytes, size_t len, struct kvi_frame *frame)
{
	if (len < KVI_FRAME_HEADER_LEN || kvi_frame_get_len(bytes, len) != len)
		return KVT_E_PROTOCOL;

	const uint8_t *header = bytes;
	uint8_t type = header[2];
	struct kvi_reader reader =
		kvi_reader_init(header + KVI_FRAME_HEADER_LEN, len - KVI_FRAME_HEADER_LEN);
	require(&reader, header[3] == 0);
	struct kvi_frame read;
	memset(&read, 0, sizeof(read));
	read.type = type;
	switch (type) {
	case KVI_FRAME_HELLO:
		read_hello(&reader, &read.hello);
		break;
	case KVI_FRAME_WELCOME:
		read_welcome(&reader, &read.welcome);
		break;
	case KVI_FRAME_REFUSE:
	case KVI_FRAME_CLOSE:
		read_ending(&reader, &read);
		break;
	case KVI_FRAME_LANES:
		read_lanes(&reader, &read.lanes);
		break;
	case KVI_FRAME_OPENING:
		read_opening(&reader, &read.opening);
		break;
	case KVI_FRAME_ANSWER:
		read_array(&reader, read.opening.proof, sizeof(read.opening.proof));
		break;
	case KVI_FRAME_IDENTITY:
		read_identity(&reader, &read.identity);
		break;
	case KVI_FRAME_NEAR:
		read_array(&reader, read.near.proof, sizeof(read.near.proof));
		read_address(&reader, &read.near.rail);
		break;
	case KVI_FRAME_FAR:
		read_string(&reader, read.far.text, 0, KVT_TEXT_LEN - 1);
		break;
	case KVI_FRAME_READY:
	case KVI_FRAME_HEARTBEAT:
		break;
	default:
		return may_skip(bytes) ? KVT_E_UNSUPPORTED : KVT_E_PROTOCOL;
	}
	if (reader.bad || kvi_reader_get_left(&reader) != 0)
		return KVT_E_PROTOCOL;
	*frame = read;
	return KVT_OK;
}

enum kvt_err kvi_lane_hello_decode(const void *bytes, size_t len, struct kvi_lane_hello *hello)
{
	struct kvi_reader reader = kvi_reader_init(bytes, len);
	struct kvi_lane_hello read = { .index = 0 };
	require(&reader, kvi_read_u32(&reader) == KVI_LANE_MAGIC);
	read_array(&reader, read.session, KVI_SESSION_LEN);
	read_array(&reader, read.token, KVI_TOKEN_LEN);
	read.index = kvi_read_u16(&reader);
	require(&reader, read.index < KVI_LANES_MAX);
	if (reader.bad || kvi_reader_get_left(&reader) != 0)
		return KVT_E_PROTOCOL;
	*hello = read;
	return KVT_OK;
}

/* A length; the bytes come later: read_view(). */
static struct kvi_view read_len(struct kvi_reader *reader, size_t max)
{
	struct kvi_view view = { .len = kvi_read_u32(reader) };
	require(reader, view.len <= max);
	return view;
}

static void read_view(struct kvi_reader *reader, struct kvi_view *view)
{
	view->bytes = kvi_read_bytes(reader, view->len);
}

static struct kvi_view read_data(struct kvi_reader *reader)
{
	struct kvi_view data = read_len(reader, KVI_EAGER_LEN_MAX);
	read_view(reader, &data);
	return data;
}

/* Blocks that do not overlap, or nothing. */
static void read_grid(struct kvi_reader *reader, struct kvi_wire_grid *grid)
{
	grid->extent = kvi_read_u32(reader);
	grid->block_len = kvi_read_u32(reader);
	grid->stride = kvi_read_u64(reader);
	require(reader, grid->block_len > 0 ? grid->stride >= grid->block_len
					    : grid->extent == 0 && grid->stride == 0);
}

/* Of a receive or of an export. */
static uint64_t read_id(struct kvi_reader *reader)
{
	uint64_t id = kvi_read_u64(reader);
	require(reader, id != 0);
	return id;
}

static size_t read_rkeys(struct kvi_reader *reader, struct kvi_wire_rkey *rkeys, size_t max)
{
	size_t count = kvi_read_u16(reader);
	require(reader, count >= 1 && count <= max);
	require(reader, kvi_read_u16(reader) == 0);
	for (size_t i = 0; !reader->bad && i < count; i++) {
		rkeys[i].address = kvi_read_u64(reader);
		rkeys[i].key = kvi_read_u64(reader);
	}
	return count;
}

/* What section 7 says of notifications. */
static void read_notification_fields(struct kvi_reader *reader, struct kvi_message *message)
{
	switch (message->type) {
	case KVI_MESSAGE_NOTIFY:
	case KVI_MESSAGE_NOTIFY_FAILED:
		message->notify.transfer = kvi_read_u64(reader);
		message->notify.code = message->type == KVI_MESSAGE_NOTIFY ? KVT_OK
									   : read_code(reader);
		message->notify.data = read_data(reader);
		break;
	case KVI_MESSAGE_NOTIFY_BEGIN:
		message->notify_begin.transfer = kvi_read_u64(reader);
		message->notify_begin.len = kvi_read_u64(reader);
		require(reader, message->notify_begin.len > 0 &&
					message->notify_begin.len <= KVT_NOTIFY_LEN_MAX);
		break;
	case KVI_MESSAGE_NOTIFY_PART:
		message->notify_part.transfer = kvi_read_u64(reader);
		message->notify_part.data = read_data(reader);
		break;
	default: /* NOTIFY_DROP */
		message->notify_drop.transfer = kvi_read_u64(reader);
	}
}

static enum kvt_err read_checked_code(struct kvi_reader *reader)
{
	enum kvt_err code = (enum kvt_err)(int32_t)kvi_read_u32(reader);
	require(reader, code == KVT_OK || code == KVT_E_CORRUPT || code == KVT_E_WITHDRAWN);
	return code;
}

/* What section 6.7 says. */
static void read_sum_fields(struct kvi_reader *reader, struct kvi_message *message)
{
	switch (message->type) {
	case KVI_MESSAGE_CHECK:
		message->check.number = kvi_read_u64(reader);
		message->check.export_id = read_id(reader);
		message->check.sum = kvi_read_u64(reader);
		message->check.spans = read_data(reader);
		break;
	case KVI_MESSAGE_CHECKED:
		message->checked.number = kvi_read_u64(reader);
		message->checked.code = read_checked_code(reader);
		break;
	case KVI_MESSAGE_PACK_WRONG:
		message->pack_wrong.buffer = kvi_read_u64(reader);
		break;
	default: /* WRONG */
		message->wrong.seq = kvi_read_u64(reader);
	}
}

/* What section 7 says. */
static void read_paged_fields(struct kvi_reader *reader, struct kvi_message *message)
{
	switch (message->type) {
	case KVI_MESSAGE_ATTACH:
		message->attach.number = kvi_read_u64(reader);
		message->attach.export_id = read_id(reader);
		break;
	case KVI_MESSAGE_ATTACHED:
		message->attached.number = kvi_read_u64(reader);
		break;
	case KVI_MESSAGE_NO_EXPORT:
		message->no_export.number = kvi_read_u64(reader);
		message->no_export.code = read_no_export_code(reader);
		break;
	case KVI_MESSAGE_WITHDRAW:
	case KVI_MESSAGE_WITHDRAWN:
		message->withdraw.export_id = read_id(reader);
		break;
	case KVI_MESSAGE_STAGING:
		message->staging.buffer_count = kvi_read_u64(reader);
		message->staging.buffer_len = kvi_read_u64(reader);
		read_rkeys(reader, &message->staging.rkey, 1);
		break;
	case KVI_MESSAGE_PACK:
		message->pack.buffer = kvi_read_u64(reader);
		message->pack.export_id = read_id(reader);
		message->pack.span_count = kvi_read_u64(reader);
		read_grid(reader, &message->pack.grid);
		break;
	case KVI_MESSAGE_PACK_ACK:
		message->pack_ack.buffer_count = kvi_read_u64(reader);
		break;
	case KVI_MESSAGE_SYNC:
	case KVI_MESSAGE_NOTED:
		message->sync.transfer = kvi_read_u64(reader);
		break;
	case KVI_MESSAGE_READ:
		message->read.number = kvi_read_u64(reader);
		message->read.export_id = read_id(reader);
		message->read.spans = read_data(reader);
		break;
	case KVI_MESSAGE_FILLED:
		message->filled.number = kvi_read_u64(reader);
		message->filled.buffer = kvi_read_u64(reader);
		break;
	case KVI_MESSAGE_DROPPED:
		message->dropped.number = kvi_read_u64(reader);
		break;
	case KVI_MESSAGE_FIND:
		message->find.number = kvi_read_u64(reader);
		message->find.offset = kvi_read_u64(reader);
		message->find.name = read_data(reader);
		break;
	case KVI_MESSAGE_FOUND:
		message->found.number = kvi_read_u64(reader);
		message->found.export_id = read_id(reader);
		message->found.len = kvi_read_u64(reader);
		message->found.part = read_data(reader);
		break;
	case KVI_MESSAGE_BLOCKS:
		message->blocks.export_id = read_id(reader);
		message->blocks.span_count = kvi_read_u64(reader);
		message->blocks.data = read_data(reader);
		require(reader, message->blocks.span_count >= 1 &&
					message->blocks.span_count <=
						message->blocks.data.len / KVI_WIRE_SPAN_LEN);
		break;
	default:
		read_notification_fields(reader, message);
	}
}

static void read_fields(struct kvi_reader *reader, struct kvi_message *message)
{
	switch (message->type) {
	case KVI_MESSAGE_CREDIT:
	case KVI_MESSAGE_KV_CLOSED:
	case KVI_MESSAGE_KV_CLOSED_ACK:
	case KVI_MESSAGE_LANE_END:
		break;
	case KVI_MESSAGE_EAGER:
		message->eager.seq = kvi_read_u64(reader);
		message->eager.meta = read_len(reader, KVT_META_LEN_MAX);
		message->eager.data = read_len(reader, KVI_EAGER_LEN_MAX);
		read_view(reader, &message->eager.meta);
		read_view(reader, &message->eager.data);
		break;
	case KVI_MESSAGE_START:
		message->start.seq = kvi_read_u64(reader);
		message->start.len = kvi_read_u64(reader);
		require(reader, message->start.len <= INT64_MAX);
		message->start.meta = read_len(reader, KVT_META_LEN_MAX);
		read_view(reader, &message->start.meta);
		break;
	case KVI_MESSAGE_CTS:
		message->cts.seq = kvi_read_u64(reader);
		message->cts.generation = read_id(reader);
		message->cts.capacity = kvi_read_u64(reader);
		message->cts.rkey_count = read_rkeys(reader, message->cts.rkeys, KVI_RAILS_MAX);
		break;
	case KVI_MESSAGE_FIN:
		message->fin.seq = kvi_read_u64(reader);
		message->fin.generation = read_id(reader);
		message->fin.len = kvi_read_u64(reader);
		break;
	case KVI_MESSAGE_ACK:
		message->ack.seq = kvi_read_u64(reader);
		break;
	case KVI_MESSAGE_CANCEL:
	case KVI_MESSAGE_CACK:
		message->cancel.seq = kvi_read_u64(reader);
		message->cancel.generation = read_id(reader);
		break;
	case KVI_MESSAGE_ABORT:
		message->abort.seq = kvi_read_u64(reader);
		message->abort.code = read_code(reader);
		break;
	case KVI_MESSAGE_REFUSED:
		message->refused.seq = kvi_read_u64(reader);
		message->refused.capacity = kvi_read_u64(reader);
		break;
	default:
		if (kvi_message_is_of_sums(message->type))
			read_sum_fields(reader, message);
		else
			read_paged_fields(reader, message);
	}
}

size_t kvi_message_get_used_len(const struct kvi_message *message)
{
	size_t others = offsetof(struct kvi_message, found) + sizeof(message->found);
	_Static_assert(sizeof(message->eager) <= sizeof(message->found) &&
			       sizeof(message->check) <= sizeof(message->found),
		       "FOUND is the largest");
	return message->type == KVI_MESSAGE_CTS ? sizeof(*message) : others;
}

enum kvt_err kvi_message_decode(const void *bytes, size_t len, struct kvi_message *message,
				size_t *used)
{
	struct kvi_reader reader = kvi_reader_init(bytes, len);
	uint8_t type = kvi_read_u8(&reader);
	if (type < KVI_MESSAGE_CREDIT || type > KVI_MESSAGE_LAST)
		return KVT_E_PROTOCOL;

	struct kvi_message read;
	read.type = type;
	uint8_t flags = kvi_read_u8(&reader);
	read.has_sum = flags == KVI_MESSAGE_SUMMED && kvi_message_has_sum(read.type);
	require(&reader, flags == 0 || read.has_sum);
	read.credits = kvi_read_u16(&reader);
	read.window = kvi_read_u32(&reader);
	read.tag = kvi_read_u64(&reader);
	require(&reader, kvi_message_has_tag(type) || read.tag == 0);
	read_fields(&reader, &read);
	read.sum = read.has_sum ? kvi_read_u64(&reader) : 0;
	if (reader.bad)
		return KVT_E_PROTOCOL;
	memcpy(message, &read, kvi_message_get_used_len(&read));
	*used = len - kvi_reader_get_left(&reader);
	return KVT_OK;
}
