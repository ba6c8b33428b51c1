/* SPDX-License-Identifier: Apache-2.0 */
/*
 * failing_alloc.h - the script of failing_alloc.c, which is linked in place of base/alloc.c. Every
 * function may be called from any thread.
 */
#ifndef FAILING_ALLOC_H
#define FAILING_ALLOC_H

#include <stdbool.h>

/* What memory that is not zeroed holds: the fake fabric aborts when so many of these in a row are sent. */
enum { FAILING_ALLOC_FILL = 0xA5, FAILING_ALLOC_FILL_RUN = 8 };

/* The nth allocation from now (1: the next) gives NULL, once; 0 disarms. */
void failing_alloc_arm(unsigned nth);
/* True when it came to that since failing_alloc_arm(). A loop over nth ends when it does not. */
bool failing_alloc_has_fired(void);

/* Allocations not yet freed by kvi_free(). What the library handed to a user, who calls free(3), stays
 * counted until the test tells. */
long failing_alloc_get_live(void);
void failing_alloc_forget(void *memory);

#endif
