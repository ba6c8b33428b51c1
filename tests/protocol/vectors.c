/* SPDX-License-Identifier: Apache-2.0 */
/* vectors.c - the golden bytes, in the order of docs/protocol.md. */
#include "vectors.h"

#include <stdlib.h>
#include <string.h>

/* 16 bytes each, without a NUL. */
#define INSTANCE "ABCDEFGHIJKLMNOP"
#define INSTANCE_HEX "4142434445464748494a4b4c4d4e4f50 "
#define SESSION "QRSTUVWXYZabcdef"
#define SESSION_HEX "5152535455565758595a616263646566 "
#define TOKEN "ghijklmnopqrstuv"
#define TOKEN_HEX "6768696a6b6c6d6e6f70717273747576 "
/* 48 bytes. */
#define PROOF INSTANCE SESSION TOKEN
#define PROOF_HEX INSTANCE_HEX SESSION_HEX TOKEN_HEX

/* ---- section 3 ---- */

static const struct kvi_frame hello = {
	.type = KVI_FRAME_HELLO,
	.hello = {
		.version_min = 1,
		.version_max = 0x0203,
		.features = UINT64_C(0x0807060504030201),
		.instance = INSTANCE,
		.lane_count = 32,
		.eager_len = 65536,
		.rx_count = 64,
		.provider_count = 2,
		.providers = { "verbs", "tcp" },
	},
};

static const struct kvi_frame longest_hello = {
	.type = KVI_FRAME_HELLO,
	.hello = {
		.version_min = 1,
		.version_max = 1,
		.instance = INSTANCE,
		.lane_count = 1024,
		.eager_len = 1048576,
		.rx_count = 65535,
		.provider_count = 4,
		.providers = { "abcdefghijklmnopqrstuvwxyz01234", "b", "c", " ~" },
	},
};

static const struct kvi_frame welcome = {
	.type = KVI_FRAME_WELCOME,
	.welcome = {
		.version = 1,
		.features = 2,
		.instance = INSTANCE,
		.session = SESSION,
		.lane_count = 4,
		.eager_len = 0,
		.rx_count = 3,
		.provider = "tcp",
	},
};

static const struct kvi_frame refuse = {
	.type = KVI_FRAME_REFUSE,
	.ending = { .code = KVT_E_VERSION, .text = "too old" },
};

static const struct kvi_frame lanes = {
	.type = KVI_FRAME_LANES,
	.lanes = {
		.rail_count = 2,
		.rails = {
			{ .len = 4, .address = { 1, 2, 3, 4 } },
			{ .len = 1, .address = { 0xff } },
		},
	},
};

static const struct kvi_frame ready = { .type = KVI_FRAME_READY };
static const struct kvi_frame heartbeat = { .type = KVI_FRAME_HEARTBEAT };

static const struct kvi_frame close_frame = {
	.type = KVI_FRAME_CLOSE,
	.ending = { .code = KVT_E_CLOSED, .text = "" },
};

static const struct kvi_frame opening = {
	.type = KVI_FRAME_OPENING,
	.opening = {
		.version = 1,
		.mode = KVI_OPENING_NOISE,
		.key_id = { 1, 2, 3, 4, 5, 6, 7, 8 },
		.proof = PROOF,
	},
};

static const struct kvi_frame answer = {
	.type = KVI_FRAME_ANSWER,
	.opening.proof = PROOF,
};

static const struct kvi_frame identity = {
	.type = KVI_FRAME_IDENTITY,
	.identity = { (const uint8_t *)"decode-0\x00", 9 },
};

static const struct kvi_frame near = {
	.type = KVI_FRAME_NEAR,
	.near = { .proof = { 0xb0, 0xb1, [31] = 0xcf }, .rail = { 3, { 1, 0, 'k' } } },
};

static const struct kvi_frame far = {
	.type = KVI_FRAME_FAR,
	.far.text = "why",
};

/* ---- section 4 ---- */

static const struct kvi_lane_hello lane_hello = { .session = SESSION,
						  .token = TOKEN,
						  .index = 1023 };

/* ---- section 5 ---- */

static const struct kvi_message credit = {
	.type = KVI_MESSAGE_CREDIT,
	.credits = 0x0102,
	.window = 0x03040506,
};

static const struct kvi_message eager = {
	.type = KVI_MESSAGE_EAGER,
	.credits = 1,
	.window = 2,
	.tag = UINT64_C(0x1112131415161718),
	.eager = {
		.seq = UINT64_C(0x2122232425262728),
		.meta = { (const uint8_t *)"m1", 2 },
		.data = { (const uint8_t *)"data!", 5 },
	},
};

static const struct kvi_message empty_eager = { .type = KVI_MESSAGE_EAGER, .tag = 7 };

static const struct kvi_message start = {
	.type = KVI_MESSAGE_START,
	.tag = UINT64_C(0x8000000000000003),
	.start = {
		.seq = 1,
		.len = UINT64_C(0x0000000140000000),
		.meta = { (const uint8_t *)"\x00\xff", 2 },
	},
};

static const struct kvi_message cts = {
	.type = KVI_MESSAGE_CTS,
	.tag = 9,
	.cts = {
		.seq = 2,
		.generation = 3,
		.capacity = 4096,
		.rkey_count = 2,
		.rkeys = {
			{ .address = UINT64_C(0x00007f0000001000),
			  .key = UINT64_C(0xfedcba9876543210) },
			{ .address = 0, .key = 1 },
		},
	},
};

static const struct kvi_message fin = {
	.type = KVI_MESSAGE_FIN,
	.tag = 9,
	.fin = { .seq = 2, .generation = 3, .len = 4000 },
};

static const struct kvi_message ack = {
	.type = KVI_MESSAGE_ACK,
	.credits = 8,
	.tag = 9,
	.ack.seq = 2,
};

static const struct kvi_message cancel = {
	.type = KVI_MESSAGE_CANCEL,
	.tag = 9,
	.cancel = { .seq = 2, .generation = UINT64_MAX },
};

static const struct kvi_message cack = {
	.type = KVI_MESSAGE_CACK,
	.tag = 9,
	.cancel = { .seq = 2, .generation = UINT64_MAX },
};

static const struct kvi_message message_abort = {
	.type = KVI_MESSAGE_ABORT,
	.tag = 9,
	.abort = { .seq = 2, .code = KVT_E_TIMEOUT },
};

static const struct kvi_message refused = {
	.type = KVI_MESSAGE_REFUSED,
	.tag = 9,
	.refused = { .seq = 2, .capacity = 100 },
};

static const struct kvi_message kv_closed = { .type = KVI_MESSAGE_KV_CLOSED,
					      .tag = UINT64_C(0x8000000000000000) };
static const struct kvi_message kv_closed_ack = { .type = KVI_MESSAGE_KV_CLOSED_ACK,
						  .credits = 1,
						  .tag = 9 };
static const struct kvi_message lane_end = { .type = KVI_MESSAGE_LANE_END, .window = 16 };

static const struct kvi_message attach = {
	.type = KVI_MESSAGE_ATTACH,
	.attach = { .number = 3, .export_id = UINT64_C(0x0102030405060708) },
};

static const struct kvi_message attached = {
	.type = KVI_MESSAGE_ATTACHED,
	.credits = 2,
	.attached.number = 4,
};

static const struct kvi_message no_export = {
	.type = KVI_MESSAGE_NO_EXPORT,
	.no_export = { .number = 3, .code = KVT_E_WITHDRAWN },
};

static const struct kvi_message withdraw = {
	.type = KVI_MESSAGE_WITHDRAW,
	.withdraw.export_id = 5,
};

static const struct kvi_message withdrawn = {
	.type = KVI_MESSAGE_WITHDRAWN,
	.withdraw.export_id = 5,
};

static const struct kvi_message staging = {
	.type = KVI_MESSAGE_STAGING,
	.staging = {
		.buffer_count = 8,
		.buffer_len = 256 * 1024,
		.rkey = { .address = UINT64_C(0x00007f0000001000), .key = 0xab },
	},
};

static const struct kvi_message pack = {
	.type = KVI_MESSAGE_PACK,
	.pack = { .buffer = 7, .export_id = 5, .span_count = 4096 },
};
static const struct kvi_message grid_pack = {
	.type = KVI_MESSAGE_PACK,
	.pack = { .buffer = 7,
		  .export_id = 5,
		  .span_count = 4096,
		  .grid = { .extent = 2, .block_len = 8, .stride = 24 } },
};

static const struct kvi_message pack_ack = {
	.type = KVI_MESSAGE_PACK_ACK,
	.pack_ack.buffer_count = 4,
};

static const struct kvi_message notify = {
	.type = KVI_MESSAGE_NOTIFY,
	.notify = { .transfer = 9, .data = { (const uint8_t *)"req:1", 5 } },
};

static const struct kvi_message notify_failed = {
	.type = KVI_MESSAGE_NOTIFY_FAILED,
	.window = 41,
	.notify = {
		.transfer = 9,
		.code = KVT_E_TIMEOUT,
		.data = { (const uint8_t *)"req:1", 5 },
	},
};

static const struct kvi_message synced = { .type = KVI_MESSAGE_SYNC, .sync.transfer = 10 };
static const struct kvi_message noted = { .type = KVI_MESSAGE_NOTED, .sync.transfer = 10 };

/* A span of 4,096 bytes at 0x10000 of extent 2. */
static const uint8_t span_bytes[] = { 2, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0 };

static const struct kvi_message read_blocks = {
	.type = KVI_MESSAGE_READ,
	.read = {
		.number = 1,
		.export_id = 5,
		.spans = { span_bytes, sizeof(span_bytes) },
	},
};

static const struct kvi_message filled = {
	.type = KVI_MESSAGE_FILLED,
	.filled = { .number = 1, .buffer = 7 },
};

static const struct kvi_message dropped = { .type = KVI_MESSAGE_DROPPED, .dropped.number = 1 };

static const struct kvi_message find = {
	.type = KVI_MESSAGE_FIND,
	.find = { .number = 4, .offset = 1024, .name = { (const uint8_t *)"kv", 2 } },
};

static const struct kvi_message notify_begin = {
	.type = KVI_MESSAGE_NOTIFY_BEGIN,
	.notify_begin = { .transfer = 9, .len = 1 << 20 },
};

/* A span of 3 bytes at 0x10000 of extent 2, and they. */
static const uint8_t carried_bytes[] = { 2, 0, 0, 0, 3, 0, 0,	0,   0,	 0,
					 1, 0, 0, 0, 0, 0, 'a', 'b', 'c' };

static const struct kvi_message blocks = {
	.type = KVI_MESSAGE_BLOCKS,
	.blocks = {
		.export_id = 5,
		.span_count = 1,
		.data = { carried_bytes, sizeof(carried_bytes) },
	},
};
static const struct kvi_message notify_part = {
	.type = KVI_MESSAGE_NOTIFY_PART,
	.notify_part = { .transfer = 9, .data = { (const uint8_t *)"req:1", 5 } },
};
static const struct kvi_message notify_drop = { .type = KVI_MESSAGE_NOTIFY_DROP,
						.notify_drop.transfer = 9 };

static const struct kvi_message summed_fin = {
	.type = KVI_MESSAGE_FIN,
	.tag = 9,
	.has_sum = true,
	.sum = UINT64_C(0x0807060504030201),
	.fin = { .seq = 2, .generation = 3, .len = 4000 },
};

static const struct kvi_message summed_pack = {
	.type = KVI_MESSAGE_PACK,
	.has_sum = true,
	.sum = UINT64_C(0x0807060504030201),
	.pack = { .buffer = 7, .export_id = 5, .span_count = 4096 },
};

static const struct kvi_message summed_filled = {
	.type = KVI_MESSAGE_FILLED,
	.has_sum = true,
	.sum = UINT64_C(0x0807060504030201),
	.filled = { .number = 1, .buffer = 7 },
};

static const struct kvi_message check = {
	.type = KVI_MESSAGE_CHECK,
	.check = {
		.number = 6,
		.export_id = 5,
		.sum = UINT64_C(0x0807060504030201),
		.spans = { span_bytes, sizeof(span_bytes) },
	},
};

static const struct kvi_message checked = {
	.type = KVI_MESSAGE_CHECKED,
	.checked = { .number = 6, .code = KVT_E_CORRUPT },
};

static const struct kvi_message pack_wrong = { .type = KVI_MESSAGE_PACK_WRONG,
					       .pack_wrong.buffer = 3 };

static const struct kvi_message wrong = { .type = KVI_MESSAGE_WRONG, .tag = 9, .wrong.seq = 2 };

static const struct kvi_message found = {
	.type = KVI_MESSAGE_FOUND,
	.credits = 2,
	.found = {
		.number = 4,
		.export_id = 5,
		.len = 1028,
		.part = { (const uint8_t *)"KVTD", 4 },
	},
};

static const struct vector_descriptor descriptor = {
	.head = {
		.session = SESSION,
		.id = 5,
		.access = KVT_ACCESS_READ | KVT_ACCESS_WRITE,
		.rkey_count = 1,
		.extent_count = 2,
		.block_len = 4096,
	},
	.extents = {
		{ .count = 16,
		  .stride = 4096,
		  .rkeys = { { .address = UINT64_C(0x00007f0000001000), .key = 0xab } } },
		{ .count = 1, .stride = 8192, .rkeys = { { .address = 0, .key = UINT64_MAX } } },
	},
};

static const struct vector_descriptor railed_descriptor = {
	.head = {
		.session = SESSION,
		.id = UINT64_C(0x1122334455667788),
		.access = KVT_ACCESS_READ,
		.rkey_count = 2,
		.is_shared = true,
		.extent_count = 1,
		.block_len = 1,
	},
	.extents = {
		{ .count = 3,
		  .stride = 2,
		  .rkeys = { { .address = 1, .key = 2 }, { .address = 3, .key = 4 } } },
	},
};

static const struct kvi_address address = {
	.instance = INSTANCE,
	.port = 12345,
	.host_count = 2,
	.hosts = { "10.1.2.3", "fe80::1%eth01" },
};

static const struct kvi_address short_address = {
	.instance = SESSION,
	.port = 1,
	.host_count = 1,
	.hosts = { "::1" },
};

const struct vector vectors[] = {
	{ "3.1 HELLO", VECTOR_FRAME,
	  "4b56 01 00 31000000 "
	  "0100 0302 0102030405060708 " INSTANCE_HEX "2000 00000100 40000000 "
	  "02 05 7665726273 03 746370",
	  &hello },
	{ "3.1 HELLO at its limits", VECTOR_FRAME,
	  "4b56 01 00 4e000000 "
	  "0100 0100 0000000000000000 " INSTANCE_HEX "0004 00001000 ffff0000 "
	  "04 1f 6162636465666768696a6b6c6d6e6f707172737475767778797a3031323334 "
	  "01 62 01 63 02 207e",
	  &longest_hello },
	{ "3.2 WELCOME", VECTOR_FRAME,
	  "4b56 02 00 38000000 "
	  "0100 0200000000000000 " INSTANCE_HEX SESSION_HEX "0400 00000000 03000000 "
	  "03 746370",
	  &welcome },
	{ "3.3 REFUSE", VECTOR_FRAME, "4b56 03 00 0c000000 d4ffffff 07 746f6f206f6c64", &refuse },
	{ "3.4 LANES", VECTOR_FRAME, "4b56 04 00 08000000 02 04 01020304 01 ff", &lanes },
	{ "3.5 READY", VECTOR_FRAME, "4b56 05 00 00000000", &ready },
	{ "3.6 HEARTBEAT", VECTOR_FRAME, "4b56 06 00 00000000", &heartbeat },
	{ "3.7 CLOSE", VECTOR_FRAME, "4b56 07 00 05000000 fcffffff 00", &close_frame },
	{ "3.8 OPENING", VECTOR_FRAME, "4b56 08 00 3c000000 0100 01 00 0102030405060708 " PROOF_HEX,
	  &opening },
	{ "3.9 ANSWER", VECTOR_FRAME, "4b56 09 00 30000000 " PROOF_HEX, &answer },
	{ "3.11 IDENTITY", VECTOR_FRAME, "4b56 0a 00 0b000000 0900 6465636f64652d30 00",
	  &identity },
	{ "3.12 NEAR", VECTOR_FRAME,
	  "4b56 0b 00 24000000 b0b1 0000000000000000000000000000000000000000000000000000000000 cf "
	  "03 01006b",
	  &near },
	{ "3.13 FAR", VECTOR_FRAME, "4b56 0c 00 04000000 03 776879", &far },
	{ "4 lane hello", VECTOR_LANE_HELLO, "4b56544c " SESSION_HEX TOKEN_HEX "ff03",
	  &lane_hello },
	{ "5.2 CREDIT", VECTOR_MESSAGE, "01 00 0201 06050403 0000000000000000", &credit },
	{ "5.3 EAGER", VECTOR_MESSAGE,
	  "02 00 0100 02000000 1817161514131211 "
	  "2827262524232221 02000000 05000000 6d31 6461746121",
	  &eager },
	{ "5.3 EAGER of nothing", VECTOR_MESSAGE,
	  "02 00 0000 00000000 0700000000000000 "
	  "0000000000000000 00000000 00000000",
	  &empty_eager },
	{ "5.4 START", VECTOR_MESSAGE,
	  "03 00 0000 00000000 0300000000000080 "
	  "0100000000000000 0000004001000000 02000000 00ff",
	  &start },
	{ "5.5 CTS", VECTOR_MESSAGE,
	  "04 00 0000 00000000 0900000000000000 "
	  "0200000000000000 0300000000000000 0010000000000000 0200 0000 "
	  "00100000007f0000 1032547698badcfe "
	  "0000000000000000 0100000000000000",
	  &cts },
	{ "5.6 FIN", VECTOR_MESSAGE,
	  "05 00 0000 00000000 0900000000000000 "
	  "0200000000000000 0300000000000000 a00f000000000000",
	  &fin },
	{ "5.7 ACK", VECTOR_MESSAGE, "06 00 0800 00000000 0900000000000000 0200000000000000",
	  &ack },
	{ "5.8 CANCEL", VECTOR_MESSAGE,
	  "07 00 0000 00000000 0900000000000000 0200000000000000 ffffffffffffffff", &cancel },
	{ "5.9 CACK", VECTOR_MESSAGE,
	  "08 00 0000 00000000 0900000000000000 0200000000000000 ffffffffffffffff", &cack },
	{ "5.10 ABORT", VECTOR_MESSAGE,
	  "09 00 0000 00000000 0900000000000000 0200000000000000 ecffffff", &message_abort },
	{ "5.11 REFUSED", VECTOR_MESSAGE,
	  "0a 00 0000 00000000 0900000000000000 0200000000000000 6400000000000000", &refused },
	{ "5.12 KV_CLOSED", VECTOR_MESSAGE, "0b 00 0000 00000000 0000000000000080", &kv_closed },
	{ "5.13 KV_CLOSED_ACK", VECTOR_MESSAGE, "0c 00 0100 00000000 0900000000000000",
	  &kv_closed_ack },
	{ "5.14 LANE_END", VECTOR_MESSAGE, "0d 00 0000 10000000 0000000000000000", &lane_end },
	{ "5.15 ATTACH", VECTOR_MESSAGE,
	  "0e 00 0000 00000000 0000000000000000 "
	  "0300000000000000 0807060504030201",
	  &attach },
	{ "5.16 ATTACHED", VECTOR_MESSAGE, "0f 00 0200 00000000 0000000000000000 0400000000000000",
	  &attached },
	{ "5.17 NO_EXPORT", VECTOR_MESSAGE,
	  "10 00 0000 00000000 0000000000000000 0300000000000000 e8ffffff", &no_export },
	{ "5.18 WITHDRAW", VECTOR_MESSAGE, "11 00 0000 00000000 0000000000000000 0500000000000000",
	  &withdraw },
	{ "5.19 WITHDRAWN", VECTOR_MESSAGE, "12 00 0000 00000000 0000000000000000 0500000000000000",
	  &withdrawn },
	{ "5.20 STAGING", VECTOR_MESSAGE,
	  "13 00 0000 00000000 0000000000000000 "
	  "0800000000000000 0000040000000000 0100 0000 00100000007f0000 ab00000000000000",
	  &staging },
	{ "5.21 PACK", VECTOR_MESSAGE,
	  "14 00 0000 00000000 0000000000000000 "
	  "0700000000000000 0500000000000000 0010000000000000 "
	  "00000000 00000000 0000000000000000",
	  &pack },
	{ "5.21 PACK on a grid", VECTOR_MESSAGE,
	  "14 00 0000 00000000 0000000000000000 "
	  "0700000000000000 0500000000000000 0010000000000000 "
	  "02000000 08000000 1800000000000000",
	  &grid_pack },
	{ "5.22 PACK_ACK", VECTOR_MESSAGE, "15 00 0000 00000000 0000000000000000 0400000000000000",
	  &pack_ack },
	{ "5.23 NOTIFY", VECTOR_MESSAGE,
	  "16 00 0000 00000000 0000000000000000 0900000000000000 05000000 7265713a31", &notify },
	{ "5.24 NOTIFY_FAILED", VECTOR_MESSAGE,
	  "17 00 0000 29000000 0000000000000000 "
	  "0900000000000000 ecffffff 05000000 7265713a31",
	  &notify_failed },
	{ "5.25 SYNC", VECTOR_MESSAGE, "18 00 0000 00000000 0000000000000000 0a00000000000000",
	  &synced },
	{ "5.26 NOTED", VECTOR_MESSAGE, "19 00 0000 00000000 0000000000000000 0a00000000000000",
	  &noted },
	{ "5.27 READ", VECTOR_MESSAGE,
	  "1a 00 0000 00000000 0000000000000000 "
	  "0100000000000000 0500000000000000 10000000 02000000 00100000 0000010000000000",
	  &read_blocks },
	{ "5.28 FILLED", VECTOR_MESSAGE,
	  "1b 00 0000 00000000 0000000000000000 0100000000000000 0700000000000000", &filled },
	{ "5.29 DROPPED", VECTOR_MESSAGE, "1c 00 0000 00000000 0000000000000000 0100000000000000",
	  &dropped },
	{ "5.30 FIND", VECTOR_MESSAGE,
	  "1d 00 0000 00000000 0000000000000000 "
	  "0400000000000000 0004000000000000 02000000 6b76",
	  &find },
	{ "5.31 FOUND", VECTOR_MESSAGE,
	  "1e 00 0200 00000000 0000000000000000 "
	  "0400000000000000 0500000000000000 0404000000000000 04000000 4b565444",
	  &found },
	{ "5.32 NOTIFY_BEGIN", VECTOR_MESSAGE,
	  "1f 00 0000 00000000 0000000000000000 0900000000000000 0000100000000000", &notify_begin },
	{ "5.33 NOTIFY_PART", VECTOR_MESSAGE,
	  "20 00 0000 00000000 0000000000000000 0900000000000000 05000000 7265713a31",
	  &notify_part },
	{ "5.34 NOTIFY_DROP", VECTOR_MESSAGE,
	  "21 00 0000 00000000 0000000000000000 0900000000000000", &notify_drop },
	{ "5.35 BLOCKS", VECTOR_MESSAGE,
	  "22 00 0000 00000000 0000000000000000 "
	  "0500000000000000 0100000000000000 13000000 02000000 03000000 0000010000000000 616263",
	  &blocks },
	{ "5.6 FIN with a sum", VECTOR_MESSAGE,
	  "05 01 0000 00000000 0900000000000000 "
	  "0200000000000000 0300000000000000 a00f000000000000 0102030405060708",
	  &summed_fin },
	{ "5.21 PACK with a sum", VECTOR_MESSAGE,
	  "14 01 0000 00000000 0000000000000000 "
	  "0700000000000000 0500000000000000 0010000000000000 "
	  "00000000 00000000 0000000000000000 0102030405060708",
	  &summed_pack },
	{ "5.28 FILLED with a sum", VECTOR_MESSAGE,
	  "1b 01 0000 00000000 0000000000000000 0100000000000000 0700000000000000 "
	  "0102030405060708",
	  &summed_filled },
	{ "5.36 CHECK", VECTOR_MESSAGE,
	  "23 00 0000 00000000 0000000000000000 0600000000000000 0500000000000000 "
	  "0102030405060708 10000000 02000000 00100000 0000010000000000",
	  &check },
	{ "5.37 CHECKED", VECTOR_MESSAGE,
	  "24 00 0000 00000000 0000000000000000 0600000000000000 e7ffffff", &checked },
	{ "5.38 PACK_WRONG", VECTOR_MESSAGE,
	  "25 00 0000 00000000 0000000000000000 0300000000000000", &pack_wrong },
	{ "5.39 WRONG", VECTOR_MESSAGE, "26 00 0000 00000000 0900000000000000 0200000000000000",
	  &wrong },
	{ "7.1 descriptor", VECTOR_DESCRIPTOR,
	  "4b565444 0100 03 01 " SESSION_HEX "0500000000000000 0010000000000000 02000000 00000000 "
	  "1000000000000000 0010000000000000 00100000007f0000 ab00000000000000 "
	  "0100000000000000 0020000000000000 0000000000000000 ffffffffffffffff",
	  &descriptor },
	{ "7.1 descriptor of two rails", VECTOR_DESCRIPTOR,
	  "4b565444 0100 01 02 " SESSION_HEX "8877665544332211 0100000000000000 01000000 01000000 "
	  "0300000000000000 0200000000000000 "
	  "0100000000000000 0200000000000000 0300000000000000 0400000000000000",
	  &railed_descriptor },
	{ "8 address", VECTOR_ADDRESS,
	  "4b565441 0100 3930 " INSTANCE_HEX "02 08 31302e312e322e33 0d 666538303a3a312565746830 "
	  "31",
	  &address },
	{ "8 address of one host", VECTOR_ADDRESS, "4b565441 0100 0100 " SESSION_HEX "01 03 3a3a31",
	  &short_address },
};

const size_t vector_count = sizeof(vectors) / sizeof(vectors[0]);

const struct vector *vector_find(const char *name)
{
	for (size_t i = 0; i < vector_count; i++) {
		if (strcmp(vectors[i].name, name) == 0)
			return &vectors[i];
	}
	abort();
}

size_t vector_get_bytes(const struct vector *vector, uint8_t bytes[VECTOR_LEN_MAX])
{
	size_t len = 0;
	for (const char *at = vector->hex; *at != '\0';) {
		if (*at == ' ') {
			at++;
			continue;
		}
		const char digits[] = { at[0], at[1], '\0' };
		bytes[len++] = (uint8_t)strtoul(digits, NULL, 16);
		at += 2;
	}
	return len;
}
