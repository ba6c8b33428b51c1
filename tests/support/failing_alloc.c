/* SPDX-License-Identifier: Apache-2.0 */
/*
 * failing_alloc.c - memory that runs out when a test says so, and that is counted. The memory itself is
 * from malloc(3), so that sanitizers watch it.
 */
#include "failing_alloc.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

static atomic_long left; /* allocations up to the one that fails; 0 or less: it is past or not set */
static atomic_bool has_fired;
static atomic_long live;

void failing_alloc_arm(unsigned nth)
{
	atomic_store(&has_fired, false);
	atomic_store(&left, (long)nth);
}

bool failing_alloc_has_fired(void)
{
	return atomic_load(&has_fired);
}

long failing_alloc_get_live(void)
{
	return atomic_load(&live);
}

void failing_alloc_forget(void *memory)
{
	if (memory != NULL)
		atomic_fetch_sub(&live, 1);
}

static bool is_failing(void)
{
	if (atomic_fetch_sub(&left, 1) != 1)
		return false;
	atomic_store(&has_fired, true);
	return true;
}

static void *count_live(void *memory)
{
	if (memory != NULL)
		atomic_fetch_add(&live, 1);
	return memory;
}

void *kvi_alloc(size_t len)
{
	return kvi_alloc_array(1, len);
}

void *kvi_alloc_array(size_t count, size_t len)
{
	if (count == 0 || len == 0 || is_failing())
		return NULL;
	return count_live(calloc(count, len));
}

void *kvi_alloc_data(size_t len)
{
	if (len == 0 || is_failing())
		return NULL;
	void *memory = malloc(len);
	return memory == NULL ? NULL : count_live(memset(memory, FAILING_ALLOC_FILL, len));
}

void *kvi_alloc_lines(size_t len)
{
	return kvi_alloc_data(len);
}

char *kvi_alloc_string(const char *text)
{
	return is_failing() ? NULL : count_live(strdup(text));
}

void kvi_free(void *memory)
{
	failing_alloc_forget(memory);
	free(memory);
}
