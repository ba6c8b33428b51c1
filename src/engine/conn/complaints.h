/* SPDX-License-Identifier: Apache-2.0 */
/*
 * complaints.h - what the operator is told of strangers who fail: once a second of each source, with how many more
 * there were, in a fixed space whatever they do. One thread at a time.
 */
#ifndef KVI_ENGINE_COMPLAINTS_H
#define KVI_ENGINE_COMPLAINTS_H

#include <stdint.h>

#include "base/log.h"

enum { KVI_COMPLAINTS_SLOTS = 64 };

struct kvi_complaint_slot {
	int64_t next_ns;
	unsigned held_back;
};

/* All zero: there were none. Sources that fall on one slot share its second. */
struct kvi_complaints {
	struct kvi_complaint_slot slots[KVI_COMPLAINTS_SLOTS];
};

void kvi_complain(struct kvi_complaints *complaints, enum kvi_log_level level, const char *source,
		  const char *text);

#endif
