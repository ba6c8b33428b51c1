/* SPDX-License-Identifier: Apache-2.0 */
/*
 * packet_sum.h - sums of packets, where the connection uses sums (docs/protocol.md 6.7). A packet ends with the
 * sum of all before it. One that came wrong ends the connection: nobody knows what it said, and both sides count on
 * what packets say.
 */
#ifndef KVI_ENGINE_PACKET_SUM_H
#define KVI_ENGINE_PACKET_SUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kvi_message;
struct kvt_conn;

/* What a packet of this connection has behind its messages. */
size_t kvi_packet_sum_get_len(const struct kvt_conn *conn);

/* Complete a packet of len bytes; returns its length then. */
size_t kvi_packet_seal(const struct kvt_conn *conn, uint8_t *bytes, size_t len);

/* Check one that came; *len becomes that of its messages. False: it came wrong, and the connection fails. */
bool kvi_packet_open(struct kvt_conn *conn, const uint8_t *bytes, size_t *len);

/* Whether a message has a sum where it has to, and is none of those that belong to sums where there are none. */
bool kvi_message_fits_sums(const struct kvt_conn *conn, const struct kvi_message *message);

#endif
