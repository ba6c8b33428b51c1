/* SPDX-License-Identifier: Apache-2.0 */
/*
 * offer.h - a pool that is exported to all peers. On each connection it is an export as any other, made on the
 * application's thread before that has the connection.
 */
#ifndef KVI_ENGINE_OFFER_H
#define KVI_ENGINE_OFFER_H

struct kvt_conn;

/* Export what is offered, then hand the connection out. */
void kvi_offers_hand_out(struct kvt_conn *conn);

#endif
