/* SPDX-License-Identifier: Apache-2.0 */
/*
 * address.c - addresses of engines to bytes and back, as docs/protocol.md 8 says. Like decode.c it accepts what
 * the document allows and nothing else, and never allocates. Whether a host is an IP address, who connects to it sees.
 */
#include <string.h>

#include "base/bytes.h"
#include "wire/layout.h"
#include "wire/wire.h"

size_t kvi_address_encode(const struct kvi_address *address, uint8_t *bytes)
{
	struct kvi_writer writer = kvi_writer_init(bytes, KVI_ENGINE_ADDRESS_LEN_MAX);
	kvi_write_u32(&writer, KVI_ADDRESS_MAGIC);
	kvi_write_u16(&writer, KVI_ADDRESS_VERSION);
	kvi_write_u16(&writer, address->port);
	kvi_write_bytes(&writer, address->instance, KVI_SESSION_LEN);
	kvi_write_u8(&writer, address->host_count);
	for (unsigned i = 0; i < address->host_count; i++) {
		size_t len = strlen(address->hosts[i]);
		kvi_write_u8(&writer, (uint8_t)len);
		kvi_write_bytes(&writer, address->hosts[i], len);
	}
	return kvi_writer_get_len(&writer);
}

/* What IP addresses and their zones are written with. */
static bool is_host_char(uint8_t byte)
{
	return byte > 0x20 && byte < 0x7f;
}

static bool read_host(struct kvi_reader *reader, char host[KVI_ADDRESS_HOST_LEN])
{
	size_t len = kvi_read_u8(reader);
	const uint8_t *bytes = kvi_read_bytes(reader, len);
	if (bytes == NULL || len == 0 || len >= KVI_ADDRESS_HOST_LEN)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (!is_host_char(bytes[i]))
			return false;
		host[i] = (char)bytes[i];
	}
	host[len] = '\0';
	return true;
}

enum kvt_err kvi_address_decode(const void *bytes, size_t len, struct kvi_address *address)
{
	struct kvi_reader reader = kvi_reader_init(bytes, len);
	struct kvi_address read = { .port = 0 };
	if (kvi_read_u32(&reader) != KVI_ADDRESS_MAGIC)
		return KVT_E_PROTOCOL;
	uint16_t version = kvi_read_u16(&reader);
	if (version != KVI_ADDRESS_VERSION)
		return version > KVI_ADDRESS_VERSION ? KVT_E_VERSION : KVT_E_PROTOCOL;
	read.port = kvi_read_u16(&reader);
	const uint8_t *instance = kvi_read_bytes(&reader, KVI_SESSION_LEN);
	read.host_count = kvi_read_u8(&reader);
	if (reader.bad || read.port == 0 || read.host_count == 0 || read.host_count > KVI_RAILS_MAX)
		return KVT_E_PROTOCOL;
	memcpy(read.instance, instance, KVI_SESSION_LEN);
	for (unsigned i = 0; i < read.host_count; i++)
		if (!read_host(&reader, read.hosts[i]))
			return KVT_E_PROTOCOL;
	if (kvi_reader_get_left(&reader) != 0)
		return KVT_E_PROTOCOL;
	*address = read;
	return KVT_OK;
}
