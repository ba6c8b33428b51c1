/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vectors.h - golden bytes of every frame and message, written by hand from docs/protocol.md, with the
 * values that they say. Tests take them as the truth and as seeds.
 */
#ifndef KVI_TESTS_VECTORS_H
#define KVI_TESTS_VECTORS_H

#include <stddef.h>
#include <stdint.h>

#include "wire/wire.h"

enum vector_kind {
	VECTOR_FRAME,
	VECTOR_LANE_HELLO,
	VECTOR_MESSAGE,
	VECTOR_DESCRIPTOR,
	VECTOR_ADDRESS,
};

enum { VECTOR_LEN_MAX = KVI_ENGINE_ADDRESS_LEN_MAX };

/* Without its MAC, which is the engine's business. */
struct vector_descriptor {
	struct kvi_descriptor head;
	struct kvi_descriptor_extent extents[2];
};

struct vector {
	const char *name;
	enum vector_kind kind;
	const char *hex; /* spaces between fields */
	const void *
		value; /* struct kvi_frame, kvi_lane_hello, kvi_message, vector_descriptor or kvi_address */
};

extern const struct vector vectors[];
extern const size_t vector_count;

/* The vector of that name, which there must be. */
const struct vector *vector_find(const char *name);

/* The bytes that hex says, and how many. */
size_t vector_get_bytes(const struct vector *vector, uint8_t bytes[VECTOR_LEN_MAX]);

#endif
