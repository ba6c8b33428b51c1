/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz.h - what a fuzzer's target and what drives it know of each other. The target is as libFuzzer wants it:
 * --enable-fuzzers links it with that. Without, fuzz_main.c drives it: over the target's own seeds, the files of its
 * corpus, and changes of them.
 */
#ifndef KVI_TESTS_FUZZ_H
#define KVI_TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { FUZZ_INPUT_MAX = 1200 };

/* ---- of the target ---- */

/* Aborts when something that must hold does not. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

/* Change what len bytes say, in room for more; returns how many there are then. */
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t len, size_t room, unsigned int seed);

/* Its directory below tests, and how many changed inputs a plain make check runs. */
extern const char fuzz_corpus[];
extern const unsigned long fuzz_count;

/* Give add() what is well formed, in turn. */
void fuzz_add_seeds(void (*add)(const uint8_t *bytes, size_t len));

/* After the last input: nothing is left. Prints what was done beside inputs. */
void fuzz_finish(void);

/* ---- of who drives it ---- */

/* Change some bytes at random: libFuzzer's, or fuzz_main.c's. */
size_t LLVMFuzzerMutate(uint8_t *bytes, size_t len, size_t room);

/* ---- of both ---- */

static inline void fuzz_require(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "fuzz: this does not hold: %s\n", what);
	abort();
}

#define require(condition) fuzz_require(condition, #condition)

#endif
