/* SPDX-License-Identifier: Apache-2.0 */
/* codec.c - decodes, encodes again, and compares. */
#include "codec.h"

#include <stdlib.h>
#include <string.h>

#include "wire/wire.h"

enum { FRAME_CODE_AT = 8, MESSAGE_CODE_AT = 24, UNTOUCHED = 0x5a };

static void *copy_bytes(const uint8_t *bytes, size_t len)
{
	void *copy = calloc(len > 0 ? len : 1, 1);
	if (copy == NULL)
		abort();
	if (len > 0)
		memcpy(copy, bytes, len);
	return copy;
}

static bool is_untouched(const void *value, size_t len)
{
	const uint8_t *bytes = value;
	for (size_t i = 0; i < len; i++) {
		if (bytes[i] != UNTOUCHED)
			return false;
	}
	return true;
}

/* Some codes are read as others (protocol 1), and what was read is what is written. */
static void put_code(uint8_t *bytes, size_t at, enum kvt_err code)
{
	for (unsigned i = 0; i < 4; i++)
		bytes[at + i] = (uint8_t)((uint32_t)code >> (8 * i));
}

/* Frees the copy. */
static enum codec_outcome compare(uint8_t *copy, size_t len, const void *encoded,
				  size_t encoded_len)
{
	bool same = encoded_len == len && memcmp(copy, encoded, len) == 0;
	free(copy);
	return same ? CODEC_STABLE : CODEC_BROKEN;
}

enum codec_outcome codec_try_frame(const uint8_t *bytes, size_t len)
{
	static uint8_t encoded[KVI_CONTROL_FRAME_MAX];
	uint8_t *copy = copy_bytes(bytes, len);
	struct kvi_frame frame;
	memset(&frame, UNTOUCHED, sizeof(frame));
	enum kvt_err err = kvi_frame_decode(copy, len, &frame);
	if (err != KVT_OK) {
		free(copy);
		bool is_told = err == KVT_E_PROTOCOL || err == KVT_E_UNSUPPORTED;
		return is_told && is_untouched(&frame, sizeof(frame)) ? CODEC_REJECTED
								      : CODEC_BROKEN;
	}

	if (frame.type == KVI_FRAME_REFUSE || frame.type == KVI_FRAME_CLOSE)
		put_code(copy, FRAME_CODE_AT, frame.ending.code);
	size_t encoded_len = kvi_frame_encode(&frame, encoded, sizeof(encoded));
	return compare(copy, len, encoded, encoded_len);
}

enum codec_outcome codec_try_lane_hello(const uint8_t *bytes, size_t len)
{
	uint8_t encoded[KVI_LANE_HELLO_LEN];
	uint8_t *copy = copy_bytes(bytes, len);
	struct kvi_lane_hello hello;
	memset(&hello, UNTOUCHED, sizeof(hello));
	enum kvt_err err = kvi_lane_hello_decode(copy, len, &hello);
	if (err != KVT_OK) {
		free(copy);
		return err == KVT_E_PROTOCOL && is_untouched(&hello, sizeof(hello)) ? CODEC_REJECTED
										    : CODEC_BROKEN;
	}

	kvi_lane_hello_encode(&hello, encoded);
	return compare(copy, len, encoded, sizeof(encoded));
}

enum kvt_err codec_get_code(const struct kvi_message *message)
{
	switch (message->type) {
	case KVI_MESSAGE_ABORT:
		return message->abort.code;
	case KVI_MESSAGE_NO_EXPORT:
		return message->no_export.code;
	case KVI_MESSAGE_NOTIFY_FAILED:
		return message->notify.code;
	default:
		return KVT_OK;
	}
}

enum codec_outcome codec_try_message(const uint8_t *bytes, size_t len)
{
	uint8_t *copy = copy_bytes(bytes, len);
	struct kvi_message message;
	memset(&message, UNTOUCHED, sizeof(message));
	size_t used = 0;
	enum kvt_err err = kvi_message_decode(copy, len, &message, &used);
	/* A packet may hold further messages; here what follows the first is rubbish. */
	if (err == KVT_OK && used != len) {
		free(copy);
		return used < len ? CODEC_REJECTED : CODEC_BROKEN;
	}
	if (err != KVT_OK) {
		free(copy);
		return err == KVT_E_PROTOCOL && is_untouched(&message, sizeof(message))
			       ? CODEC_REJECTED
			       : CODEC_BROKEN;
	}

	uint8_t *encoded = copy_bytes(bytes, len);
	size_t encoded_len = kvi_message_encode(&message, encoded, len);
	enum kvt_err code = codec_get_code(&message);
	if (code != KVT_OK)
		put_code(copy, MESSAGE_CODE_AT, code);
	enum codec_outcome outcome = compare(copy, len, encoded, encoded_len);
	free(encoded);
	return outcome;
}

enum codec_outcome codec_try_descriptor(const uint8_t *bytes, size_t len)
{
	uint8_t *copy = copy_bytes(bytes, len);
	struct kvi_descriptor descriptor;
	memset(&descriptor, UNTOUCHED, sizeof(descriptor));
	enum kvt_err err = kvi_descriptor_decode(copy, len, &descriptor);
	if (err != KVT_OK) {
		free(copy);
		return err == KVT_E_PROTOCOL && is_untouched(&descriptor, sizeof(descriptor))
			       ? CODEC_REJECTED
			       : CODEC_BROKEN;
	}
	if (kvi_descriptor_get_len(&descriptor) != len) {
		free(copy);
		return CODEC_BROKEN;
	}

	uint8_t *encoded = calloc(len, 1);
	if (encoded == NULL)
		abort();
	kvi_descriptor_encode(&descriptor, encoded);
	for (uint32_t i = 0; i < descriptor.extent_count; i++) {
		struct kvi_descriptor_extent extent;
		kvi_descriptor_decode_extent(&descriptor, copy, i, &extent);
		kvi_descriptor_encode_extent(&descriptor, encoded, i, &extent);
	}
	enum codec_outcome outcome = compare(copy, len, encoded, len);
	free(encoded);
	return outcome;
}

enum codec_outcome codec_try_address(const uint8_t *bytes, size_t len)
{
	uint8_t encoded[KVI_ENGINE_ADDRESS_LEN_MAX];
	uint8_t *copy = copy_bytes(bytes, len);
	struct kvi_address address;
	memset(&address, UNTOUCHED, sizeof(address));
	enum kvt_err err = kvi_address_decode(copy, len, &address);
	if (err != KVT_OK) {
		free(copy);
		bool is_told = err == KVT_E_PROTOCOL || err == KVT_E_VERSION;
		return is_told && is_untouched(&address, sizeof(address)) ? CODEC_REJECTED
									  : CODEC_BROKEN;
	}
	size_t encoded_len = kvi_address_encode(&address, encoded);
	return compare(copy, len, encoded, encoded_len);
}
