/* SPDX-License-Identifier: Apache-2.0 */
/*
 * strangers.h - who has called and not said yet who it is, in the order of arrival, and how many of them come
 * from each source. Adding, removing and picking cost the same however many there are. One thread at a time.
 */
#ifndef KVI_ENGINE_STRANGERS_H
#define KVI_ENGINE_STRANGERS_H

#include <stdbool.h>
#include <sys/socket.h>

#include "base/list.h"

enum {
	KVI_STRANGERS_MAX = 128,
	KVI_STRANGERS_PER_SOURCE_MAX = 16,
	/* Of those who said what only a holder of the key can have said, once. Each costs a descriptor, and a process
	 * has 1,024 by default. */
	KVI_CALLERS_MAX = 512,
	KVI_CALLERS_PER_SOURCE_MAX = 256,
};

/* Where somebody calls from, as limits see it: an IPv4 address, also where it stands in an IPv6 one, or the first half
 * of an IPv6 address: who has one of those has all that begin so. A link-local address is one of its link. Callers, who
 * have shown a key, are told apart by their whole address, for which there is room, too. */
enum { KVI_SOURCE_NAME_LEN = 64 };
void kvi_source_print(const struct sockaddr_storage *address, char name[KVI_SOURCE_NAME_LEN]);

struct kvi_source;

/* Embedded in what a stranger is to its owner. All zero: not among them. */
struct kvi_stranger {
	struct kvi_list node;
	struct kvi_list source_node;
	struct kvi_source *source; /* NULL: not among them */
};

struct kvi_strangers {
	struct kvi_list arrivals;				  /* oldest first */
	struct kvi_list by_count[KVI_CALLERS_PER_SOURCE_MAX + 2]; /* sources with so many of them */
	unsigned most;						  /* of one source */
	struct kvi_source *sources;				  /* table, by name */
	unsigned count;
	unsigned max;
	unsigned max_per_source;
};

void kvi_strangers_init(struct kvi_strangers *strangers, unsigned max, unsigned max_per_source);

/* One has called from that source. False: no memory, and it is not among them. */
bool kvi_strangers_add(struct kvi_strangers *strangers, struct kvi_stranger *stranger,
		       const char *name);

/* It has gone, or is none any more. Nothing when it is not among them. */
void kvi_strangers_remove(struct kvi_stranger *stranger);

/*
 * Who has to go for the newest, or NULL. The oldest of its source where these are too many. Where all are, the oldest of
 * the source that has the most, so that who calls once is not pushed out by who calls often; the oldest of all where
 * each source has one.
 */
struct kvi_stranger *kvi_strangers_pick(const struct kvi_stranger *newest);

#endif
