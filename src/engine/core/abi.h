/* SPDX-License-Identifier: Apache-2.0 */
/*
 * abi.h - the public structs that can grow (base/sized.h), and what they were in version 0.1.
 *
 * A new field comes behind the last one, never into padding: what an old program has in padding is not
 * defined. So the last member of a struct ends where the struct ends, which abi.c holds.
 */
#ifndef KVI_ENGINE_ABI_H
#define KVI_ENGINE_ABI_H

#include "base/sized.h"

/*
 * X(struct, name in sentences, last member, last member in version 0.1, size then where pointers have 8 bytes).
 * The last two never change.
 */
#define KVI_ABI_MAP(X)                                                                             \
	X(engine_config, "engine config", identity_len, identity_len, 152)                         \
	X(stats, "statistics", send_latency, send_latency, 488)                                    \
	X(connect_request, "connect request", timeout_ns, timeout_ns, 48)                          \
	X(kv_config, "KV config", tag, tag, 40)                                                    \
	X(send_request, "send request", timeout_ns, timeout_ns, 56)                                \
	X(recv_request, "receive request", timeout_ns, timeout_ns, 40)                             \
	X(result, "result", started_ns, started_ns, 88)                                            \
	X(extent, "extent", stride, stride, 24)                                                    \
	X(pool_config, "pool config", file_offset, device, 56)                                     \
	X(remote_info, "remote info", len, len, 48)                                                \
	X(import_request, "import request", timeout_ns, timeout_ns, 56)                            \
	X(blocks_request, "blocks request", block_len, block_len, 112)                             \
	X(spans_request, "spans request", timeout_ns, timeout_ns, 88)                              \
	X(part, "part", count, count, 48)                                                          \
	X(parts_request, "parts request", timeout_ns, timeout_ns, 64)                              \
	X(notify_request, "notify request", timeout_ns, timeout_ns, 48)

#define KVI_ABI_DECLARE(noun, name, last, last_0_1, size_0_1)                                      \
	extern const struct kvi_sized kvi_abi_##noun;
KVI_ABI_MAP(KVI_ABI_DECLARE)
#undef KVI_ABI_DECLARE

#endif
