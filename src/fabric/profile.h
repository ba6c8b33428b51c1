/* SPDX-License-Identifier: Apache-2.0 */
/*
 * profile.h - what we know of a provider that fi_info does not tell. Providers without a row are
 * not used, not even when asked for by name: what they do when a peer dies was never looked at.
 */
#ifndef KVI_FABRIC_PROFILE_H
#define KVI_FABRIC_PROFILE_H

#include <stdbool.h>
#include <stddef.h>

struct kvi_profile {
	const char *name;
	bool only_by_name; /* never chosen unless the user names it */
	bool own_domains;  /* one domain per cq, not one per rail */
	bool shutdown;	   /* fi_shutdown() before fi_close() of an endpoint */
	bool forbids_fork; /* a child of a process that used it cannot use it */
	bool many_ports;   /* each lane opens a port of its own, which nobody can choose */
	bool strays;	   /* half-open connections survive their listener, on blocking sockets */
	const char *use;   /* what it is taken for, in words for users */
	size_t pack_below; /* shorter blocks are cheaper to copy together than to write one by one */
	const char *why;
};

/* The rows in the order of preference; NULL beyond the last. */
const struct kvi_profile *kvi_profile_get(size_t index);
const struct kvi_profile *kvi_profile_find(const char *name); /* NULL when there is none */

/* Why a provider without a row is not used, in words for users; static. */
const char *kvi_profile_get_refusal(const char *name);

#endif
