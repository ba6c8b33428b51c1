/* SPDX-License-Identifier: Apache-2.0 */
/*
 * survey.h - what libfabric offers on this host, and why KVTrans uses it or not: for kvtrans-info, never
 * on the data path. It shows no libfabric type, as fabric.h. May be called from any thread;
 * the first call in a process takes libfabric about 0.2 s.
 */
#ifndef KVI_FABRIC_SURVEY_H
#define KVI_FABRIC_SURVEY_H

#include "fabric/fabric.h"

/* A provider that KVTrans knows, or that libfabric offers here ("tcp;ofi_rxm": in layers). */
struct kvi_offer {
	char provider[KVI_PROVIDER_LEN];
	bool is_here;	      /* libfabric offers it on some interface of this host */
	bool msg, rdm, dgram; /* the kinds of endpoints it offers here */
	bool is_used;	      /* the engine takes it where it serves the interface */
	bool only_by_name;    /* is_used, but only when the user names it */
	const char *why;      /* it is used, or is not; static */
};

/* Write at most max offers and return their number: those that are used first, in the order of
 * preference. */
size_t kvi_survey_list(struct kvi_offer *offers, size_t max);

/* A variable of libfabric's in the environment, set to what an engine would not want by itself. */
struct kvi_setting {
	char text[128];	  /* "FI_PROVIDER=^tcp", cut off where it is longer */
	unsigned effect;  /* enum kvi_effect */
	const char *what; /* it does to an engine; static */
};

/* Write at most max settings, in the order of the environment, and return their number. */
size_t kvi_survey_list_settings(struct kvi_setting *settings, size_t max);

/* Why a provider that is used does not serve a host address of ours; static. */
const char *kvi_survey_explain(const char *provider, const char *host);

void kvi_survey_get_version(unsigned *major,
			    unsigned *minor); /* of the libfabric that was loaded */

/* Where a rail is: its network interface, and the provider's name for the NIC. Valid while it is open. */
const char *kvi_survey_get_netdev(const struct kvi_rail *rail);
const char *kvi_survey_get_domain(const struct kvi_rail *rail);

/* KVT_OK when closing a registration closes it to the peer. FABRIC: libfabric caches registrations;
 * others: the NIC could not be opened. */
enum kvt_err kvi_survey_test_memory(struct kvi_rail *rail, struct kvt_error *error);

#endif
