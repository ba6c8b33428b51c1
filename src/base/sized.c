/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sized.c - copying structs whose size the caller tells. It knows no struct.
 */
#include "base/sized.h"

#include <string.h>

#include "base/error.h"
#include <config.h>

static bool is_size(const struct kvi_sized *kind, size_t size)
{
	return size >= kind->min_size && size <= KVI_SIZED_MAX;
}

static bool is_zero(const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (bytes[i] != 0)
			return false;
	return true;
}

/* Word by word, as the fields were just written one by one: a CPU that loads several of its latest stores at once waits
 * until they have left it, on each side of the copy. */
static void copy_words(void *to, const void *from, size_t len)
{
	uint8_t *out = to;
	const uint8_t *in = from;
	uint64_t word;
	for (; len >= sizeof(word); len -= sizeof(word)) {
		memcpy(&word, in, sizeof(word));
		memcpy(out, &word, sizeof(word));
		out += sizeof(word);
		in += sizeof(word);
	}
	memcpy(out, in, len);
}

enum kvt_err kvi_sized_read_element(const struct kvi_sized *kind, void *ours, const void *theirs,
				    size_t their_size, struct kvt_error *error)
{
	if (!is_size(kind, their_size))
		return kvi_fail(error, KVT_E_INVALID, 0,
				"the size of the %s is given as %zu bytes; allowed are %zu to %d: "
				"set it to sizeof of the struct",
				kind->name, their_size, kind->min_size, KVI_SIZED_MAX);
	size_t known = their_size < kind->size ? their_size : kind->size;
	if (!is_zero((const uint8_t *)theirs + known, their_size - known))
		return kvi_fail(error, KVT_E_INVALID, 0,
				"the %s has fields behind byte %zu that this library, version %s, "
				"does not know and that are not zero",
				kind->name, known, PACKAGE_VERSION);
	copy_words(ours, theirs, known);
	if (known < kind->size)
		memset((uint8_t *)ours + known, 0, kind->size - known);
	return KVT_OK;
}

enum kvt_err kvi_sized_read(const struct kvi_sized *kind, void *ours, const void *theirs,
			    struct kvt_error *error)
{
	if (theirs == NULL)
		return kvi_fail(error, KVT_E_INVALID, 0, "no %s is given", kind->name);
	return kvi_sized_read_element(kind, ours, theirs, *(const size_t *)theirs, error);
}

bool kvi_sized_check(const struct kvi_sized *kind, const void *theirs)
{
	return theirs != NULL && is_size(kind, *(const size_t *)theirs);
}

enum kvt_err kvi_sized_write(const struct kvi_sized *kind, const void *ours, void *theirs)
{
	if (!kvi_sized_check(kind, theirs))
		return KVT_E_INVALID;
	size_t their_size = *(const size_t *)theirs, start = sizeof(their_size);
	size_t known = their_size < kind->size ? their_size : kind->size;
	copy_words((uint8_t *)theirs + start, (const uint8_t *)ours + start, known - start);
	if (known < their_size)
		memset((uint8_t *)theirs + known, 0, their_size - known);
	return KVT_OK;
}
