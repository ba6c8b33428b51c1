/* SPDX-License-Identifier: Apache-2.0 */
/*
 * alloc.c - memory from malloc(3). It never logs and never exits: the caller reports that there is no
 * memory.
 */
#include "base/alloc.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/copy.h"

/* glibc's calloc(3) does not take small blocks from the thread's own cache, as its malloc(3) does. */
enum { SMALL_LEN = 1024 };

/* Not inline: of malloc(3) and memset(3) the compiler would make calloc(3). */
__attribute__((noinline)) static void *take_small(size_t len)
{
	return malloc(len);
}

void *kvi_alloc(size_t len)
{
	return kvi_alloc_array(1, len);
}

void *kvi_alloc_array(size_t count, size_t len)
{
	if (count == 0 || len == 0 || count > SIZE_MAX / len)
		return NULL;
	if (count * len > SMALL_LEN)
		return calloc(count, len);
	void *memory = take_small(count * len);
	return memory == NULL ? NULL : memset(memory, 0, count * len);
}

void *kvi_alloc_data(size_t len)
{
	return len == 0 ? NULL : malloc(len);
}

void *kvi_alloc_lines(size_t len)
{
	void *memory = NULL;
	return len == 0 || posix_memalign(&memory, KVI_COPY_LINE, len) != 0 ? NULL : memory;
}

char *kvi_alloc_string(const char *text)
{
	size_t len = strlen(text) + 1;
	char *copy = kvi_alloc_data(len);
	return copy == NULL ? NULL : memcpy(copy, text, len);
}

void kvi_free(void *memory)
{
	free(memory);
}
