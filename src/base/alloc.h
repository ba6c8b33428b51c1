/* SPDX-License-Identifier: Apache-2.0 */
/*
 * alloc.h - the one place memory comes from, so that tests can make any allocation fail (they link
 * another alloc.c). Memory is from malloc(3): what the library hands to users, free(3) frees.
 */
#ifndef KVI_BASE_ALLOC_H
#define KVI_BASE_ALLOC_H

#include <stddef.h>

/* Zeroed memory; NULL when there is none, when the size overflows, or when it is 0. */
void *kvi_alloc(size_t len);
void *kvi_alloc_array(size_t count, size_t len);
/* Not zeroed: for payload, which is about to be overwritten. */
void *kvi_alloc_data(size_t len);
/* The same at the start of a cache line: for payload that is copied often. */
void *kvi_alloc_lines(size_t len);
char *kvi_alloc_string(const char *text);
void kvi_free(void *memory);

#endif
