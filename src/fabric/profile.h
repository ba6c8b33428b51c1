/* SPDX-License-Identifier: Apache-2.0 */
/*
 * profile.h - what we know of a provider that fi_info does not tell. Providers without a row are not
 * used, not even when the user names them: what they do when a peer dies was never tested.
 */
#ifndef KVI_FABRIC_PROFILE_H
#define KVI_FABRIC_PROFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kvi_profile {
	const char *name;
	bool only_by_name;   /* never chosen unless the user names it */
	bool own_domains;    /* one domain per cq, not one per rail */
	bool shutdown;	     /* fi_shutdown() before fi_close() of an endpoint */
	bool forbids_fork;   /* a child of a process that used it cannot use it */
	bool stops_at_fault; /* when an op fails, what was posted behind it fails, too */
	bool holds_messages; /* a message that comes before its receive waits in the stream */
	bool many_ports;     /* each lane opens a port of its own, which nobody can choose */
	bool strays; /* connect requests are read with blocking calls, and those half sent survive their listener */
	bool unsignalled; /* a completion of a send costs system calls, and sends of a lane are done in order */
	/* With this variable in the environment it reads memory of transfers that have ended; NULL: there is none. */
	const char *unsafe_with;
	bool fixed_queues; /* a completion queue holds so many entries, and further ones are lost */
	uint32_t walks_lanes_before; /* FI_VERSION: earlier, looking at a queue looks at all its lanes */
	uint32_t pairs_before; /* FI_VERSION: earlier, a queue is woken through a socket pair: mute.c */
	uint32_t cuts_reads_since; /* FI_VERSION: earlier, no endpoint may end with a read half in */
	const char *use;	   /* what it is taken for, in words for users */
	size_t pack_below; /* shorter blocks are cheaper to copy together than to write one by one */
	const char *why;
};

/* The rows in the order of preference; NULL beyond the last. */
const struct kvi_profile *kvi_profile_get(size_t index);
const struct kvi_profile *kvi_profile_find(const char *name);  /* NULL when there is none */
bool kvi_profile_is_unsafe(const struct kvi_profile *profile); /* with the environment as it is */

/* What a variable in libfabric's environment does to an engine, as a mask. */
enum kvi_effect {
	KVI_EFFECT_HIDES = 1, /* a provider or an interface that is there is not offered */
	KVI_EFFECT_FAILS = 2, /* opening, connecting or registering may fail */
	KVI_EFFECT_NONE = 0,  /* something else, or nothing */
};

struct kvi_knob {
	const char *name;     /* of the variable; at the end of it a star stands for any rest */
	const char *harmless; /* a value that changes nothing, or NULL */
	unsigned effect;
	const char *what; /* in words for users */
};

/* The row of a variable that begins with "FI_"; there is one for each. */
const struct kvi_knob *kvi_profile_find_knob(const char *name, size_t len);

/* Why a provider without a row is not used, in words for users; static. */
const char *kvi_profile_get_refusal(const char *name);

#endif
