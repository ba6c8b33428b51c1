/* SPDX-License-Identifier: Apache-2.0 */
/*
 * alloc.h - all memory is allocated here, so that tests can make any allocation fail (they link another
 * alloc.c). It comes from malloc(3): users free(3) what the library gives them.
 */
#ifndef KVI_BASE_ALLOC_H
#define KVI_BASE_ALLOC_H

#include <stddef.h>

/* Zeroed memory; NULL when there is no memory, when the size overflows, or when the size is 0. */
void *kvi_alloc(size_t len);
void *kvi_alloc_array(size_t count, size_t len);
/* Not zeroed: for payload, which is about to be overwritten. */
void *kvi_alloc_data(size_t len);
/* The same at the start of a cache line: for payload that is copied often. */
void *kvi_alloc_lines(size_t len);
char *kvi_alloc_string(const char *text);
void kvi_free(void *memory);

#endif
