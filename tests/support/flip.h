/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flip.h - flips a bit of what moves between the memory of two engines, whatever the fabric: it stands between the
 * engine and fabric.h, for programs that are linked with FLIP_LINK. The engine has summed what it sends before a bit
 * of it is flipped, and what it reads is flipped before the engine looks. But of a message it sums whole grains with the
 * piece that each begins in: the front of a piece may be summed when that piece is on its way already.
 */
#ifndef FLIP_H
#define FLIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum flip_kind {
	FLIP_NONE,
	FLIP_WRITE, /* what an RMA write moves, or a pack in common memory; the memory that it is written from stays flipped */
	FLIP_GRAIN, /* the same of a message from memory aligned to KVI_SUM_GRAIN, where a grain begins; others do not count */
	FLIP_READ,  /* what an RMA read brings */
	FLIP_SEND,  /* a packet */
};

/* The nth from now (1: the next) of this kind, once, of any engine of the process. */
void flip_nth(enum flip_kind kind, unsigned nth);
/* Memory of a message, for FLIP_GRAIN; free() it. */
uint8_t *make_grains(size_t len);
/* Whether it has been flipped. */
bool has_flipped(void);

#endif
