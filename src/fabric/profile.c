/* SPDX-License-Identifier: Apache-2.0 */
/*
 * profile.c - the table of provider facts, best provider first. The only C file of the library that
 * names providers; all else branches on what fi_info tells or on a column of this table.
 */
#include "fabric/profile.h"

#include <stdlib.h>
#include <string.h>

#include <rdma/fabric.h>

static const struct kvi_profile profiles[] = {
	{
		.name = "verbs",
		.own_domains = false,
		.shutdown = true,
		.stops_at_fault = true,
		.forbids_fork = true,
		.fixed_queues = true,
		.use = "InfiniBand and RoCE devices; the first choice where there is one",
		.why = "A registration pins pages and makes a key, which one domain per NIC does "
		       "once. Its CQs do not wake each other. fi_shutdown() sends the disconnect "
		       "that the peer's EQ reports. A queue pair in error flushes what is behind. "
		       "The kernel serves a device's descriptor to the "
		       "process that opened it only, and libibverbs keeps it for life. "
		       "A CQ that overflows is lost, with all queue pairs on it.",
	},
	{
		.name = "tcp",
		.own_domains = true,
		.shutdown = true,
		.strays = true,
		.holds_messages = true,
		.unsignalled = true,
		.unsafe_with = "FI_TCP_ZEROCOPY_SIZE",
		.walks_lanes_before = FI_VERSION(1, 18),
		.pairs_before = FI_VERSION(1, 18),
		.cuts_reads_since = FI_VERSION(1, 18),
		.use = "any IP network; the choice where there is no RDMA device",
		.pack_below = 64 * 1024,
		.why = "From 1.18 on the sockets of a domain wake all its CQs; a registration "
		       "costs a tree insertion. fi_shutdown() flushes all queues of the endpoint. "
		       "Who connects and then says nothing keeps a descriptor of ours for ever. "
		       "An operation costs about 10 us whatever its size, as much as copying "
		       "64 KiB. A message that finds no receive stays in the socket. It drops a "
		       "send from memory that is not there, and goes on with "
		       "the next. "
		       "Its thread is woken through a socket pair of its own for each batch of "
		       "completions: "
		       "a write and a read. "
		       "Before 1.18 fi_cq_read() and fi_trywait() take each endpoint's lock, three "
		       "times a "
		       "turn. "
		       "Before 1.18 fi_shutdown() and fi_close() free a read whose "
		       "response "
		       "is half in twice, once as the head of its queue and once as what is being "
		       "received, and later operations of other endpoints share its entry; an "
		       "endpoint whose socket ends frees it once.",
	},
	{
		.name = "sockets",
		.only_by_name = true,
		.own_domains = true,
		.shutdown = false,
		.many_ports = true,
		.use = "for tests: it is slow and deprecated",
		.pack_below = 64 * 1024,
		.why = "Deprecated, slow, and stalled by a stranger's half-sent connect message. A "
		       "domain's 128 slots for operations in progress leak with every connection "
		       "severed under load, so other cqs keep out. fi_shutdown() closes a socket "
		       "unconditionally: descriptor 0 when the endpoint never connected, somebody "
		       "else's when the peer had closed first; fi_close() alone tells the peer. "
		       "The peer connects to a port of the endpoint, too, and where the listener's "
		       "was chosen the process crashes.",
	},
};

/* Providers without a row, and layers over others: why they have none. */
static const struct {
	const char *name;
	const char *why;
} refusals[] = {
	{ "net", "it spins where it should sleep; tcp serves the same networks" },
	{ "ofi_rxm", "its endpoints know no connection: no single peer can be cut off" },
	{ "ofi_rxd", "its endpoints know no connection: no single peer can be cut off" },
	{ "udp", "datagrams, without RMA" },
	{ "shm", "it checks no key, and does not tell of a peer's death" },
	{ "efa", "it has no connections (FI_EP_MSG), and promises no order of a send after a "
		 "write" },
	{ "cxi", "it has no connections (FI_EP_MSG), and promises no order of a send after a "
		 "write" },
};

/* The first row that fits counts. docs/providers.md has the same table. */
static const struct kvi_knob knobs[] = {
	{ "FI_PROVIDER", NULL, KVI_EFFECT_HIDES,
	  "libfabric offers these providers only, or with ^ all but these" },
	{ "FI_PROVIDER_PATH", NULL, KVI_EFFECT_HIDES,
	  "libfabric looks for providers in that directory" },
	{ "FI_MR_CACHE_MAX_COUNT", "0", KVI_EFFECT_FAILS,
	  "libfabric caches registrations: on RDMA devices no memory can be opened to peers" },
	{ "FI_MR_CACHE_*", NULL, KVI_EFFECT_NONE,
	  "it tunes libfabric's cache of registrations, which an engine turns off" },
	{ "FI_TCP_IFACE", NULL, KVI_EFFECT_NONE,
	  "an engine names its address, and does not depend on it" },
	{ "FI_TCP_PORT_*", NULL, KVI_EFFECT_FAILS,
	  "lanes over tcp listen on ports of that range only, where lane_ports is not given" },
	{ "FI_TCP_ZEROCOPY_SIZE", NULL, KVI_EFFECT_HIDES,
	  "the kernel would read memory of transfers over tcp that have ended, so tcp is not "
	  "taken" },
	{ "FI_TCP_TX_SIZE", NULL, KVI_EFFECT_FAILS, "it bounds what a lane may have posted" },
	{ "FI_TCP_RX_SIZE", NULL, KVI_EFFECT_FAILS, "it bounds what a lane may have posted" },
	{ "FI_TCP_*", NULL, KVI_EFFECT_FAILS,
	  "it changes how tcp works, and an engine was not tried with it" },
	{ "FI_VERBS_IFACE", NULL, KVI_EFFECT_HIDES,
	  "verbs serves network interfaces only whose name begins so" },
	{ "FI_VERBS_DEVICE_NAME", NULL, KVI_EFFECT_HIDES,
	  "verbs serves RDMA devices only whose name begins so" },
	{ "FI_VERBS_TX_*", NULL, KVI_EFFECT_FAILS,
	  "it bounds what a lane may have posted, and a device may not do it" },
	{ "FI_VERBS_RX_*", NULL, KVI_EFFECT_FAILS,
	  "it bounds what a lane may have posted, and a device may not do it" },
	{ "FI_VERBS_*", NULL, KVI_EFFECT_FAILS,
	  "it changes how verbs works, and an engine was not tried with it" },
	{ "FI_SOCKETS_IFACE", NULL, KVI_EFFECT_NONE,
	  "an engine names its address, and does not depend on it" },
	{ "FI_SOCKETS_*", NULL, KVI_EFFECT_FAILS, "it changes how sockets works" },
	{ "FI_LOG_*", NULL, KVI_EFFECT_NONE,
	  "libfabric writes to stderr, which costs time from level info on" },
	{ "FI_UNIVERSE_SIZE", NULL, KVI_EFFECT_NONE, "an engine does not depend on it" },
	{ "FI_HMEM*", NULL, KVI_EFFECT_NONE,
	  "it is for memory of GPUs, which an engine does not use" },
	{ "FI_*", NULL, KVI_EFFECT_NONE,
	  "it is no setting of a provider that an engine uses, or of a newer libfabric" },
};

const struct kvi_profile *kvi_profile_get(size_t index)
{
	return index < sizeof(profiles) / sizeof(profiles[0]) ? &profiles[index] : NULL;
}

const struct kvi_profile *kvi_profile_find(const char *name)
{
	const struct kvi_profile *profile;
	for (size_t i = 0; (profile = kvi_profile_get(i)) != NULL; i++) {
		if (strcmp(profile->name, name) == 0)
			return profile;
	}
	return NULL;
}

bool kvi_profile_is_unsafe(const struct kvi_profile *profile)
{
	return profile->unsafe_with != NULL && getenv(profile->unsafe_with) != NULL;
}

const char *kvi_profile_get_refusal(const char *name)
{
	const char *layer = strrchr(name, ';');
	const char *wanted = layer != NULL ? layer + 1 : name;
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		if (strcmp(refusals[i].name, wanted) == 0)
			return refusals[i].why;
	}
	return "nobody has looked at what it does when a peer dies";
}

const struct kvi_knob *kvi_profile_find_knob(const char *name, size_t len)
{
	const struct kvi_knob *knob = knobs;
	for (;; knob++) {
		size_t known = strcspn(knob->name, "*");
		bool is_prefix = knob->name[known] == '*';
		if ((is_prefix ? len >= known : len == known) &&
		    strncmp(name, knob->name, known) == 0)
			return knob; /* the last row fits all */
	}
}
