/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layout.h - what encode.c and decode.c share, and nobody else sees: magic numbers and limits.
 */
#ifndef KVI_WIRE_LAYOUT_H
#define KVI_WIRE_LAYOUT_H

#include <stdbool.h>
#include <stdint.h>

#include "wire/wire.h"

enum {
	KVI_FRAME_MAGIC = 0x564b,	   /* "KV" */
	KVI_FRAME_SKIP = 1,		   /* flag, 2.2 */
	KVI_LANE_MAGIC = 0x4c54564b,	   /* "KVTL" */
	KVI_ADDRESS_MAGIC = 0x4154564b,	   /* "KVTA" */
	KVI_EAGER_LEN_MAX = 1 << 20,	   /* 3.1 */
	KVI_DESCRIPTOR_MAGIC = 0x4454564b, /* "KVTD" */
	KVI_RX_COUNT_MIN = 3,		   /* 3.1: two are kept back, one must be left */
	KVI_RX_COUNT_MAX = UINT16_MAX,	   /* 3.1: credits have 16 bits */
};

/* Byte 1 of a message, 5.1. */
enum { KVI_MESSAGE_SUMMED = 1 };

/* Whether the header of such a message names a KV; else its tag is 0. */
static inline bool kvi_message_has_tag(enum kvi_message_type type)
{
	return (type != KVI_MESSAGE_CREDIT && type < KVI_MESSAGE_LANE_END) ||
	       type == KVI_MESSAGE_WRONG;
}

#endif
