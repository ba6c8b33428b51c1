/* SPDX-License-Identifier: Apache-2.0 */
/*
 * packet_sum.c - completing and checking packets.
 */
#include "engine/lane/packet_sum.h"

#include "base/bytes.h"
#include "base/sum.h"
#include "engine/core/conn.h"

enum { SUM_LEN = 8 };

size_t kvi_packet_sum_get_len(const struct kvt_conn *conn)
{
	return conn->has_sums ? SUM_LEN : 0;
}

size_t kvi_packet_seal(const struct kvt_conn *conn, uint8_t *bytes, size_t len)
{
	if (!conn->has_sums)
		return len;
	struct kvi_writer writer = kvi_writer_init(bytes + len, SUM_LEN);
	kvi_write_u64(&writer, kvi_sum(bytes, len, 0));
	return len + SUM_LEN;
}

static bool is_packet_right(const uint8_t *bytes, size_t len)
{
	if (len < SUM_LEN)
		return false;
	struct kvi_reader reader = kvi_reader_init(bytes + len - SUM_LEN, SUM_LEN);
	return kvi_read_u64(&reader) == kvi_sum(bytes, len - SUM_LEN, 0);
}

bool kvi_packet_open(struct kvt_conn *conn, const uint8_t *bytes, size_t *len)
{
	if (!conn->has_sums)
		return true;
	if (is_packet_right(bytes, *len)) {
		*len -= SUM_LEN;
		return true;
	}
	kvi_conn_on_corrupt(conn, "a packet");
	kvi_conn_fail(conn, KVT_E_PEER_LOST, 0,
		      "a packet of %zu bytes came wrong: its checksum does not fit", *len);
	return false;
}

bool kvi_message_fits_sums(const struct kvt_conn *conn, const struct kvi_message *message)
{
	bool may_have_sum = kvi_message_has_sum(message->type);
	return message->has_sum == (conn->has_sums && may_have_sum) &&
	       (conn->has_sums || !kvi_message_is_of_sums(message->type));
}
