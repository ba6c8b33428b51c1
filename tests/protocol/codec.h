/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec.h - what holds for any bytes at all, used by tests and by the fuzzer. Each function decodes a
 * copy of exactly len bytes, so that the sanitizers see a read beyond it.
 */
#ifndef KVI_TESTS_CODEC_H
#define KVI_TESTS_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/wire.h"

enum codec_outcome {
	CODEC_REJECTED, /* and the value was not touched */
	CODEC_STABLE,	/* accepted, and encoding the value gives the same bytes */
	CODEC_BROKEN,
};

enum codec_outcome codec_try_frame(const uint8_t *bytes, size_t len);
enum codec_outcome codec_try_lane_hello(const uint8_t *bytes, size_t len);
enum codec_outcome codec_try_message(const uint8_t *bytes, size_t len);
enum codec_outcome codec_try_descriptor(const uint8_t *bytes, size_t len);
enum codec_outcome codec_try_address(const uint8_t *bytes, size_t len);

/* The code that a message tells, KVT_OK when it has none. */
enum kvt_err codec_get_code(const struct kvi_message *message);

#endif
