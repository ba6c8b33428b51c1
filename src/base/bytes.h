/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bytes.h - little-endian reader and writer over a byte range. Neither goes beyond its end: the first
 * attempt sets `bad`. After that reads give 0 and writes do nothing, so the caller tests `bad` once, at the end.
 */
#ifndef KVI_BASE_BYTES_H
#define KVI_BASE_BYTES_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/copy.h"

struct kvi_reader {
	const uint8_t *at;
	const uint8_t *end;
	bool bad;
};

struct kvi_writer {
	uint8_t *start;
	uint8_t *at;
	uint8_t *end;
	bool bad;
};

static inline struct kvi_reader kvi_reader_init(const void *bytes, size_t len)
{
	const uint8_t *at = bytes;
	return (struct kvi_reader){ .at = at, .end = at + len, .bad = false };
}

static inline size_t kvi_reader_get_left(const struct kvi_reader *reader)
{
	return (size_t)(reader->end - reader->at);
}

/* The next len bytes in place; NULL (and bad) when there are fewer. */
static inline const uint8_t *kvi_read_bytes(struct kvi_reader *reader, size_t len)
{
	if (reader->bad || kvi_reader_get_left(reader) < len) {
		reader->bad = true;
		return NULL;
	}
	const uint8_t *bytes = reader->at;
	reader->at += len;
	return bytes;
}

static inline uint64_t kvi_read_uint(struct kvi_reader *reader, size_t len)
{
	const uint8_t *bytes = kvi_read_bytes(reader, len);
	uint64_t value = 0;
	if (bytes != NULL)
		memcpy(&value, bytes, len);
	return le64toh(value);
}

static inline uint8_t kvi_read_u8(struct kvi_reader *reader)
{
	return (uint8_t)kvi_read_uint(reader, 1);
}

static inline uint16_t kvi_read_u16(struct kvi_reader *reader)
{
	return (uint16_t)kvi_read_uint(reader, 2);
}

static inline uint32_t kvi_read_u32(struct kvi_reader *reader)
{
	return (uint32_t)kvi_read_uint(reader, 4);
}

static inline uint64_t kvi_read_u64(struct kvi_reader *reader)
{
	return kvi_read_uint(reader, 8);
}

static inline struct kvi_writer kvi_writer_init(void *bytes, size_t len)
{
	uint8_t *at = bytes;
	return (struct kvi_writer){ .start = at, .at = at, .end = at + len, .bad = false };
}

static inline size_t kvi_writer_get_len(const struct kvi_writer *writer)
{
	return (size_t)(writer->at - writer->start);
}

static inline void kvi_write_bytes(struct kvi_writer *writer, const void *bytes, size_t len)
{
	if (writer->bad || (size_t)(writer->end - writer->at) < len) {
		writer->bad = true;
		return;
	}
	if (len > 0)
		kvi_copy(writer->at, bytes, len);
	writer->at += len;
}

static inline void kvi_write_uint(struct kvi_writer *writer, uint64_t value, size_t len)
{
	value = htole64(value);
	kvi_write_bytes(writer, &value, len);
}

static inline void kvi_write_u8(struct kvi_writer *writer, uint8_t value)
{
	kvi_write_uint(writer, value, 1);
}

static inline void kvi_write_u16(struct kvi_writer *writer, uint16_t value)
{
	kvi_write_uint(writer, value, 2);
}

static inline void kvi_write_u32(struct kvi_writer *writer, uint32_t value)
{
	kvi_write_uint(writer, value, 4);
}

static inline void kvi_write_u64(struct kvi_writer *writer, uint64_t value)
{
	kvi_write_uint(writer, value, 8);
}

#endif
