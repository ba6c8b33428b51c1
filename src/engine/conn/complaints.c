/* SPDX-License-Identifier: Apache-2.0 */
/*
 * complaints.c - a slot for each source, by a hash of its name.
 */
#include "engine/conn/complaints.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"

static struct kvi_complaint_slot *find_slot(struct kvi_complaints *complaints, const char *source)
{
	unsigned hash;
	HASH_JEN(source, strlen(source), hash);
	return &complaints->slots[hash % KVI_COMPLAINTS_SLOTS];
}

void kvi_complain(struct kvi_complaints *complaints, enum kvi_log_level level, const char *source,
		  const char *text)
{
	if (!kvi_log_is_on(level))
		return;
	struct kvi_complaint_slot *slot = find_slot(complaints, source);
	int64_t now_ns = kvi_clock_now();
	if (now_ns < slot->next_ns) {
		slot->held_back++;
		return;
	}
	char more[48] = "";
	if (slot->held_back > 0)
		snprintf(more, sizeof(more), " (and %u more since the last line)", slot->held_back);
	kvi_log(level, "handshake-failed", "%s: %s%s", source, text, more);
	*slot = (struct kvi_complaint_slot){ .next_ns = now_ns + KVI_SECOND };
}
