/* SPDX-License-Identifier: Apache-2.0 */
/*
 * descriptor.c - descriptors of exports to bytes and back, as docs/protocol.md 7.1 says. Like decode.c
 * it accepts what the document allows and nothing else, and never allocates: extents are read one by
 * one.
 */
#include <string.h>

#include "base/bytes.h"
#include "wire/layout.h"
#include "wire/wire.h"

static size_t get_extent_len(const struct kvi_descriptor *descriptor)
{
	return 16 + (size_t)descriptor->rkey_count * 16;
}

static size_t get_extent_start(const struct kvi_descriptor *descriptor, uint32_t number)
{
	return KVI_DESCRIPTOR_HEAD_LEN + number * get_extent_len(descriptor);
}

size_t kvi_descriptor_get_len(const struct kvi_descriptor *descriptor)
{
	return get_extent_start(descriptor, descriptor->extent_count);
}

void kvi_descriptor_encode(const struct kvi_descriptor *descriptor, uint8_t *bytes)
{
	struct kvi_writer writer = kvi_writer_init(bytes, KVI_DESCRIPTOR_HEAD_LEN);
	kvi_write_u32(&writer, KVI_DESCRIPTOR_MAGIC);
	kvi_write_u16(&writer, KVI_WIRE_VERSION);
	kvi_write_u8(&writer, descriptor->access);
	kvi_write_u8(&writer, descriptor->rkey_count);
	kvi_write_bytes(&writer, descriptor->session, KVI_SESSION_LEN);
	kvi_write_u64(&writer, descriptor->id);
	kvi_write_u64(&writer, descriptor->block_len);
	kvi_write_u32(&writer, descriptor->extent_count);
	kvi_write_u32(&writer, descriptor->is_shared);
}

void kvi_descriptor_encode_extent(const struct kvi_descriptor *descriptor, uint8_t *bytes,
				  uint32_t number, const struct kvi_descriptor_extent *extent)
{
	struct kvi_writer writer = kvi_writer_init(bytes + get_extent_start(descriptor, number),
						   get_extent_len(descriptor));
	kvi_write_u64(&writer, extent->count);
	kvi_write_u64(&writer, extent->stride);
	for (unsigned i = 0; i < descriptor->rkey_count; i++) {
		kvi_write_u64(&writer, extent->rkeys[i].address);
		kvi_write_u64(&writer, extent->rkeys[i].key);
	}
}

enum kvt_err kvi_descriptor_decode(const uint8_t *bytes, size_t len,
				   struct kvi_descriptor *descriptor)
{
	struct kvi_reader reader = kvi_reader_init(bytes, len);
	struct kvi_descriptor read = { .id = 0 };
	bool good = kvi_read_u32(&reader) == KVI_DESCRIPTOR_MAGIC;
	good &= kvi_read_u16(&reader) == KVI_WIRE_VERSION;
	read.access = kvi_read_u8(&reader);
	read.rkey_count = kvi_read_u8(&reader);
	const uint8_t *session = kvi_read_bytes(&reader, KVI_SESSION_LEN);
	read.id = kvi_read_u64(&reader);
	read.block_len = kvi_read_u64(&reader);
	read.extent_count = kvi_read_u32(&reader);
	uint32_t is_shared = kvi_read_u32(&reader);
	read.is_shared = is_shared == 1;
	good &= is_shared <= 1;
	if (reader.bad || !good || read.access == 0 ||
	    (read.access & ~(KVT_ACCESS_READ | KVT_ACCESS_WRITE)) != 0 || read.id == 0 ||
	    read.rkey_count == 0 || read.rkey_count > KVI_RAILS_MAX || read.extent_count == 0 ||
	    read.extent_count > KVT_EXTENTS_MAX || kvi_descriptor_get_len(&read) != len)
		return KVT_E_PROTOCOL;
	memcpy(read.session, session, KVI_SESSION_LEN);
	*descriptor = read;
	return KVT_OK;
}

void kvi_descriptor_decode_extent(const struct kvi_descriptor *descriptor, const uint8_t *bytes,
				  uint32_t number, struct kvi_descriptor_extent *extent)
{
	struct kvi_reader reader = kvi_reader_init(bytes + get_extent_start(descriptor, number),
						   get_extent_len(descriptor));
	extent->count = kvi_read_u64(&reader);
	extent->stride = kvi_read_u64(&reader);
	for (unsigned i = 0; i < descriptor->rkey_count; i++) {
		extent->rkeys[i].address = kvi_read_u64(&reader);
		extent->rkeys[i].key = kvi_read_u64(&reader);
	}
}
