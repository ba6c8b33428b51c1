/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layout.h - what encode.c and decode.c share, and nobody else sees: magic numbers, limits, and which
 * fields each lane message has. The order of fields on the wire is that of the enum.
 */
#ifndef KVI_WIRE_LAYOUT_H
#define KVI_WIRE_LAYOUT_H

#include <stdint.h>

#include "wire/wire.h"

enum {
	KVI_FRAME_MAGIC = 0x564b,      /* "KV" */
	KVI_FRAME_SKIP = 1,	       /* flag, 2.2 */
	KVI_LANE_MAGIC = 0x4c54564b,   /* "KVTL" */
	KVI_EAGER_LEN_MAX = 1 << 20,   /* 3.1 */
	KVI_RX_COUNT_MIN = 3,	       /* 3.1: two are kept back, one must be left */
	KVI_RX_COUNT_MAX = UINT16_MAX, /* 3.1: credits have 16 bits */
};

enum kvi_message_field {
	KVI_HAS_SEQ = 1,
	KVI_HAS_GENERATION = 2,
	KVI_HAS_LEN = 4,
	KVI_HAS_CODE = 8,
	KVI_HAS_META = 16,
	KVI_HAS_DATA = 32,
	KVI_HAS_GRANTS = 64,
	KVI_NO_TAG = 128, /* the header's tag is 0 */
};

static const uint8_t kvi_message_fields[] = {
	[KVI_MESSAGE_CREDIT] = KVI_NO_TAG,
	[KVI_MESSAGE_EAGER] = KVI_HAS_SEQ | KVI_HAS_META | KVI_HAS_DATA,
	[KVI_MESSAGE_START] = KVI_HAS_SEQ | KVI_HAS_LEN | KVI_HAS_META,
	[KVI_MESSAGE_CTS] = KVI_HAS_SEQ | KVI_HAS_GENERATION | KVI_HAS_LEN | KVI_HAS_GRANTS,
	[KVI_MESSAGE_FIN] = KVI_HAS_SEQ | KVI_HAS_GENERATION | KVI_HAS_LEN,
	[KVI_MESSAGE_ACK] = KVI_HAS_SEQ,
	[KVI_MESSAGE_CANCEL] = KVI_HAS_SEQ | KVI_HAS_GENERATION,
	[KVI_MESSAGE_CACK] = KVI_HAS_SEQ | KVI_HAS_GENERATION,
	[KVI_MESSAGE_ABORT] = KVI_HAS_SEQ | KVI_HAS_CODE,
	[KVI_MESSAGE_REFUSED] = KVI_HAS_SEQ | KVI_HAS_LEN,
	[KVI_MESSAGE_GONE] = 0,
	[KVI_MESSAGE_GONE_ACK] = 0,
	[KVI_MESSAGE_BYE] = KVI_NO_TAG,
};

#endif
