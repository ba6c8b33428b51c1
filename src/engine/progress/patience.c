/* SPDX-License-Identifier: Apache-2.0 */
/*
 * patience.c - see patience.h. It never reads a clock.
 */
#include "engine/progress/patience.h"

#include "base/clock.h"

#define US INT64_C(1000)
#define LEAST_NS (25 * US)
/* Several times what a peer that polls on the same CPU takes between two offers of it. */
#define LATE_NS (50 * US)
/* Work that took so long is bulk, and more of it follows: a wake-up adds little to it, and looking takes CPU
 * time from it. */
#define BULK_NS (50 * US)
#define BULK_FOR_NS KVI_MS
/* Offering the CPU takes half a us where nobody wants it, and five times that where somebody has it for a moment. */
#define TAKEN_NS (3 * US / 2)
#define BAR_LEAST_NS (8 * KVI_MS)
#define BAR_MOST_NS (512 * KVI_MS)

enum { OFFER_EACH_MOST = 8 };

void kvi_patience_init(struct kvi_patience *patience, int64_t most_ns, bool adapts)
{
	*patience = (struct kvi_patience){
		.most_ns = most_ns,
		.adapts = adapts,
		.offer_each = 1,
	};
}

void kvi_patience_begin(struct kvi_patience *patience, int64_t now_ns)
{
	patience->woken_ns = now_ns;
}

int64_t kvi_patience_get(struct kvi_patience *patience, int64_t now_ns)
{
	if (!patience->adapts)
		return patience->most_ns;
	if (kvi_patience_is_bulk(now_ns - patience->woken_ns))
		patience->bulk_until_ns = now_ns + BULK_FOR_NS;
	bool may = now_ns >= patience->bulk_until_ns && now_ns >= patience->barred_until_ns;
	return may ? patience->now_ns : 0;
}

bool kvi_patience_is_bulk(int64_t took_ns)
{
	return took_ns > BULK_NS;
}

bool kvi_patience_is_late(int64_t gap_ns)
{
	return gap_ns > LATE_NS;
}

bool kvi_patience_offers(struct kvi_patience *patience)
{
	if (++patience->let_pass < patience->offer_each)
		return false;
	patience->let_pass = 0;
	return true;
}

void kvi_patience_learn_offer(struct kvi_patience *patience, int64_t took_ns)
{
	if (took_ns > TAKEN_NS)
		patience->offer_each = 1;
	else if (patience->offer_each < OFFER_EACH_MOST)
		patience->offer_each++;
}

static void adapt(struct kvi_patience *patience, int64_t slept_ns)
{
	int64_t next = slept_ns <= patience->most_ns ? 2 * patience->now_ns : patience->now_ns / 2;
	if (slept_ns <= patience->most_ns && next < LEAST_NS)
		next = LEAST_NS;
	else if (next < LEAST_NS)
		next = 0;
	patience->now_ns = next < patience->most_ns ? next : patience->most_ns;
}

void kvi_patience_learn(struct kvi_patience *patience, enum kvi_patience_end end, int64_t began_ns,
			int64_t now_ns)
{
	patience->woken_ns = now_ns;
	switch (end) {
	case KVI_PATIENCE_FOUND:
		patience->bar_ns -= patience->bar_ns / 64;
		break;
	case KVI_PATIENCE_LATE:
		patience->bar_ns = patience->bar_ns < BAR_LEAST_NS ? BAR_LEAST_NS
								   : 2 * patience->bar_ns;
		if (patience->bar_ns > BAR_MOST_NS)
			patience->bar_ns = BAR_MOST_NS;
		patience->barred_until_ns = now_ns + patience->bar_ns;
		break;
	case KVI_PATIENCE_SLEPT:
		if (began_ns >= patience->bulk_until_ns)
			adapt(patience, now_ns - began_ns);
		break;
	case KVI_PATIENCE_IN_VAIN:
		/* How long it would have been is not known, but that it was longer. */
		if (now_ns - began_ns > patience->most_ns)
			adapt(patience, now_ns - began_ns);
		break;
	case KVI_PATIENCE_FOUND_AT_ONCE:
	case KVI_PATIENCE_WOKEN:
		break;
	}
}
