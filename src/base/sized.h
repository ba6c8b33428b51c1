/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sized.h - structs that a program passes together with their size, because it may have been compiled
 * against an older or a newer header than this library. New fields are added at the end; a program that
 * does not know a field passes zero in it.
 */
#ifndef KVI_BASE_SIZED_H
#define KVI_BASE_SIZED_H

#include <kvtrans.h>

/* No struct is larger. A size that was never set is usually larger, and is refused. */
enum { KVI_SIZED_MAX = 4096 };

struct kvi_sized {
	const char *name; /* for sentences: "send request" */
	size_t size;	  /* here and now */
	size_t min_size;  /* in the first version that had it */
};

/*
 * Copy the caller's struct into ours, whose first member is its size. What is missing at its end becomes zero.
 * INVALID, with a sentence: theirs is NULL, its size cannot be, or a field that we do not know is not zero.
 */
enum kvt_err kvi_sized_read(const struct kvi_sized *kind, void *ours, const void *theirs,
			    struct kvt_error *error);

/* The same for an element of an array, of which the caller says how large each is. */
enum kvt_err kvi_sized_read_element(const struct kvi_sized *kind, void *ours, const void *theirs,
				    size_t their_size, struct kvt_error *error);

/* False: theirs is NULL, or its size cannot be. */
bool kvi_sized_check(const struct kvi_sized *kind, const void *theirs);

/*
 * Copy ours into the caller's struct, as much as fits; its first member, the size, stays. Fields that it has
 * and we do not know become zero. INVALID: kvi_sized_check() is false.
 */
enum kvt_err kvi_sized_write(const struct kvi_sized *kind, const void *ours, void *theirs);

#endif
