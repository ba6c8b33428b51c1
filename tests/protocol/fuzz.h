/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz.h - what an input of the fuzzer is: a target, and the bytes for it. */
#ifndef KVI_TESTS_FUZZ_H
#define KVI_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

enum fuzz_target {
	FUZZ_FRAME,
	FUZZ_LANE_HELLO,
	FUZZ_MESSAGE,
	FUZZ_CLIENT,
	FUZZ_SERVER,
	FUZZ_DESCRIPTOR,
	FUZZ_KEYS,
	FUZZ_NOISE,
	FUZZ_CHANNEL,
	FUZZ_ADDRESS,
	FUZZ_TARGETS,
};

/* A first message of the Noise handshake that reads well: every other is to be refused. */
enum { FUZZ_NOISE_LEN = 64 };
extern const uint8_t fuzz_noise_message[FUZZ_NOISE_LEN];

/* Aborts when something that must hold does not. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

#endif
