/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ref.h - a count of references. Whoever drops the last one calls release, which the owner of the object
 * gave: so who holds an object needs to know nothing of what it consists of. Any thread.
 */
#ifndef KVI_ENGINE_REF_H
#define KVI_ENGINE_REF_H

#include <stdatomic.h>
#include <stdbool.h>

struct kvi_ref {
	atomic_uint count;
	void (*release)(struct kvi_ref *ref);
};

static inline void kvi_ref_init(struct kvi_ref *ref, unsigned count,
				void (*release)(struct kvi_ref *ref))
{
	atomic_init(&ref->count, count);
	ref->release = release;
}

/* For who has a reference already. */
static inline void kvi_ref_take(struct kvi_ref *ref)
{
	atomic_fetch_add(&ref->count, 1);
}

/* For who found the object in a table that its release takes it out of. False: it is being released. */
static inline bool kvi_ref_try_take(struct kvi_ref *ref)
{
	unsigned count = atomic_load(&ref->count);
	while (count > 0)
		if (atomic_compare_exchange_weak(&ref->count, &count, count + 1))
			return true;
	return false;
}

static inline void kvi_ref_drop(struct kvi_ref *ref)
{
	if (atomic_fetch_sub(&ref->count, 1) == 1)
		ref->release(ref);
}

/* The same of an object that nobody finds in a table: the only reference is dropped without an atomic change. */
static inline void kvi_ref_drop_unlisted(struct kvi_ref *ref)
{
	if (atomic_load_explicit(&ref->count, memory_order_acquire) == 1)
		ref->release(ref);
	else
		kvi_ref_drop(ref);
}

#endif
