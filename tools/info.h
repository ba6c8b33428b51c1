/* SPDX-License-Identifier: Apache-2.0 */
/*
 * info.h - what kvtrans-info found out, and the parts that find it and print it. Everything is found
 * before anything is printed. The tool looks at this host only: it opens no connection to a peer.
 */
#ifndef TOOLS_INFO_H
#define TOOLS_INFO_H

#include "fabric/survey.h"

#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include <kvtrans.h>

enum {
	INFO_OK = 0,
	INFO_FAILED = 1, /* the interface or peer that was named cannot be used */
	INFO_USAGE = 2,

	INFO_ADDRESSES_MAX = 16,
	INFO_OFFERS_MAX = 64,
	INFO_CANDIDATES_MAX = 8,
	INFO_CPUS_MAX = 1024,
	INFO_ADVICE_MAX = 64,
	INFO_SETTINGS_MAX = 32,
	INFO_WORD_LEN = 64,
};

enum { INFO_UNKNOWN = -1, INFO_KEY_LEN = 32 };

/* A port of an RDMA device, as the kernel tells. */
struct info_port {
	char device[INFO_WORD_LEN];
	unsigned number;
	char state[INFO_WORD_LEN];	/* "ACTIVE" */
	char link_layer[INFO_WORD_LEN]; /* "InfiniBand", "Ethernet" */
	char rate[INFO_WORD_LEN];	/* "100 Gb/sec (4X EDR)" */
	char netdev[IF_NAMESIZE];	/* "": none */
	int numa_node;			/* or INFO_UNKNOWN, as below */
};

/* A provider that an engine could take on one interface. */
struct info_candidate {
	const char *provider;
	bool serves;
	bool is_taken;
	const char *why; /* static */
};

/* What an engine that is given this name takes; provider "": none, and error tells why. */
struct info_choice {
	char provider[KVI_PROVIDER_LEN];
	char host[KVI_HOST_LEN];
	char netdev[IF_NAMESIZE];
	char domain[INFO_WORD_LEN]; /* the NIC, as the provider calls it */
	size_t segment_len_max;
	bool pins; /* registering pins pages */
	unsigned near_cpus[INFO_CPUS_MAX];
	size_t near_cpu_count;
	struct kvt_error error;
	struct info_candidate candidates[INFO_CANDIDATES_MAX]; /* in the order of preference */
	size_t candidate_count;
	struct kvt_error memory; /* what is wrong with the isolation of memory; KVT_OK: nothing */
};

struct info_interface {
	char name[IF_NAMESIZE];
	char addresses[INFO_ADDRESSES_MAX][INET6_ADDRSTRLEN];
	size_t address_count; /* those that an engine can use */
	bool is_up;
	int mtu;
	int speed_mbit;
	int numa_node;
	const struct info_port *port; /* of the RDMA device behind it; NULL: there is none */
	struct info_choice choice;
};

/* Between two processes of this host. */
struct info_host {
	char path[KVI_PROVIDER_LEN]; /* "": they could not connect, and reason tells why */
	char reason[KVT_TEXT_LEN];   /* why path is not the local one; "" where it is */
	int64_t ptrace_scope; /* from 1 on a process may not read another's memory, but root may */
};

struct info_peer {
	const char *name; /* as the user gave it; NULL: no peer was named */
	char address[KVI_HOST_LEN];
	struct info_choice choice; /* for the interface that the route leaves by */
	bool is_aside; /* the route does not leave by the interface that the user named */
};

/* An engine's defaults here, as the engine makes them. */
struct info_defaults {
	unsigned cpu_count;
	unsigned ncpus;
	unsigned nconn_per_cpu;
	size_t eager_len;
	int64_t spin_ns;
	size_t lane_bytes; /* buffers of a lane; pinned where the provider pins */
};

struct info_limits {
	int64_t memlock_bytes; /* INT64_MAX: no limit */
	int64_t memlock_need;  /* of one connection with the defaults, without its KVs */
	bool memlock_exempt;   /* CAP_IPC_LOCK: the limit does not hold for this process */
	int64_t nofile;
	char congestion_control[INFO_WORD_LEN];
	int64_t tcp_wmem_max, tcp_rmem_max, wmem_max, rmem_max; /* bytes */
	const char *mr_cache_max_count; /* the variable, before the tool set it; NULL: not set */
	bool handlers_taken;		/* a library took SIGINT when it was loaded */
};

struct info_advice {
	char what[320];
	char fix[240];
};

struct info_report {
	struct info_interface *interfaces;
	size_t interface_count;
	struct info_port *ports;
	size_t port_count;
	struct kvi_offer offers[INFO_OFFERS_MAX];
	size_t offer_count;
	unsigned libfabric_major, libfabric_minor;
	struct info_host host;
	struct info_peer peer;
	const char *interface; /* the one the user named; NULL: all */
	struct info_defaults defaults;
	struct info_limits limits;
	struct kvi_setting settings[INFO_SETTINGS_MAX]; /* libfabric's, in the environment */
	size_t setting_count;
	struct info_advice advice[INFO_ADVICE_MAX];
	size_t advice_count;
};

/* info_net.c: interfaces and RDMA ports, from the kernel. 0, or -1 with errno. */
int info_find_net(struct info_report *report);
const struct info_port *info_find_port(const struct info_report *report, const char *netdev,
				       const char *device);

/* info_choice.c: fill choice for a name that an engine could be given. */
void info_choose(const struct info_report *report, const char *name, struct info_choice *choice);
void info_find_offers(struct info_report *report);
/* Choose for all interfaces; with report->interface, for that one, and forget the others. */
int info_choose_all(struct info_report *report);
/* The same for the interface that leads to peer->name. INFO_OK, or INFO_FAILED after saying why. */
int info_find_peer(struct info_report *report);

/* info_host.c: open two engines and connect them. */
void info_find_host(struct info_host *host);

/* info_limits.c: note what a library did before main(); then limits; then advice, out of all the rest. */
void info_note_start(struct info_limits *limits);
void info_find_limits(struct info_report *report);
void info_advise(struct info_report *report);

void info_print_text(const struct info_report *report);
void info_print_json(const struct info_report *report);

#endif
