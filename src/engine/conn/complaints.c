/* SPDX-License-Identifier: Apache-2.0 */
/*
 * complaints.c - a slot for each host, by a hash of its name.
 */
#include "engine/conn/complaints.h"

#include <stdio.h>

#include "base/clock.h"

static unsigned find_slot(const char *host)
{
	uint32_t hash = 2166136261;
	for (; *host != '\0'; host++)
		hash = (hash ^ (uint8_t)*host) * 16777619;
	return (hash ^ hash >> 16) % KVI_COMPLAINTS_SLOTS;
}

void kvi_complain(struct kvi_complaints *complaints, enum kvi_log_level level, const char *host,
		  const char *text)
{
	unsigned slot = find_slot(host);
	int64_t now_ns = kvi_clock_now();
	if (!kvi_log_is_on(level))
		return;
	if (now_ns < complaints->slots[slot].next_ns) {
		complaints->slots[slot].held_back++;
		return;
	}
	char more[48] = "";
	if (complaints->slots[slot].held_back > 0)
		snprintf(more, sizeof(more), " (and %u more since the last line)",
			 complaints->slots[slot].held_back);
	kvi_log(level, "handshake-failed", "%s: %s%s", host, text, more);
	complaints->slots[slot].held_back = 0;
	complaints->slots[slot].next_ns = now_ns + KVI_SECOND;
}
