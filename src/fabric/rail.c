/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rail.c - one NIC: its fi_info, its fabric, and what its provider can do. It takes FI_EP_MSG
 * endpoints only, so that one peer can be cut off, and never a provider without a row in profile.c.
 *
 * libfabric as Debian builds it loads libinfinipath, whose constructor takes over SIGINT and others
 * before any code here runs. Nothing here can undo that: a program that minds sets
 * IPATH_NO_BACKTRACE=1 and HFI_NO_BACKTRACE=1 before it loads the library, as the Python package
 * does.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/log.h"
#include "base/thread.h"
#include "fabric/internal.h"

/* The newest API version that we know and the headers have. */
#if FI_VERSION(FI_MAJOR_VERSION, FI_MINOR_VERSION) >= FI_VERSION(1, 20)
static const uint32_t api_version = FI_VERSION(1, 20);
#else
static const uint32_t api_version = FI_VERSION(1, 17);
#endif

enum {
	TX_COUNT = 256,
	RX_COUNT = 128,
	KNOWN_MR_MODE = FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY |
			FI_MR_ENDPOINT,
};

static pthread_once_t environment_once = PTHREAD_ONCE_INIT;
static unsigned first_fork_count; /* written once, by environment_once */

/*
 * With libfabric's cache of registrations, closing one leaves it open to the peer, and all have the
 * widest access. libfabric reads the variable at its first call in the process; whether it took is
 * tested in domain.c. And it opens RDMA devices at that call, which then belong to this process alone.
 */
static void set_environment(void)
{
	first_fork_count = kvi_fork_get_count();
	setenv("FI_MR_CACHE_MAX_COUNT", "0", 0);
}

void kvi_fabric_prepare(void)
{
	pthread_once(&environment_once, set_environment);
}

enum kvt_err kvi_fabric_fail(struct kvt_error *error, long ret, const char *what)
{
	int provider_errno = (int)-ret;
	enum kvt_err err = KVT_E_FABRIC;
	if (provider_errno == FI_ENOMEM)
		err = KVT_E_NO_MEMORY;
	else if (provider_errno == EMFILE || provider_errno == ENFILE)
		err = KVT_E_LIMIT;
	kvi_fail(error, err, provider_errno, "%s: %s", what, fi_strerror(provider_errno));
	kvi_environment_blame(error, KVI_EFFECT_FAILS);
	return err;
}

static struct fi_info *make_hints(const struct kvi_profile *profile)
{
	struct fi_info *hints = fi_allocinfo();
	if (hints == NULL)
		return NULL;
	hints->caps = FI_MSG | FI_RMA;
	hints->mode = FI_CONTEXT | FI_CONTEXT2;
	hints->ep_attr->type = FI_EP_MSG;
	hints->domain_attr->mr_mode = KNOWN_MR_MODE;
	hints->domain_attr->threading = FI_THREAD_SAFE;
	hints->domain_attr->resource_mgmt = FI_RM_ENABLED;
	hints->tx_attr->op_flags = 0; /* FI_DELIVERY_COMPLETE here leaves no RDMA provider */
	hints->tx_attr->size = TX_COUNT;
	hints->rx_attr->size = RX_COUNT;
	hints->fabric_attr->prov_name = strdup(profile->name);
	if (hints->fabric_attr->prov_name == NULL) {
		fi_freeinfo(hints);
		return NULL;
	}
	return hints;
}

/* Is this answer one that the code of this directory can drive? */
static bool is_usable(const struct fi_info *info, const struct kvi_profile *profile,
		      const struct kvi_interface *interface)
{
	/* Two RDMA devices may share a network interface; the user named one of them. */
	if (interface->rdma[0] != '\0' && kvi_interface_is_rdma(info->domain_attr->name) &&
	    strcmp(interface->rdma, info->domain_attr->name) != 0)
		return false;
	return strcmp(info->fabric_attr->prov_name, profile->name) == 0 &&
	       info->ep_attr->type == FI_EP_MSG && info->src_addr != NULL &&
	       info->src_addrlen <= KVI_ADDRESS_LEN_MAX &&
	       info->ep_attr->rx_ctx_cnt != FI_SHARED_CONTEXT &&
	       (info->mode & ~(FI_CONTEXT | FI_CONTEXT2)) == 0 &&
	       (info->domain_attr->mr_mode & ~KNOWN_MR_MODE) == 0 &&
	       (info->domain_attr->mr_mode & FI_MR_ENDPOINT) == 0;
}

/* Writes info when the provider serves the interface. */
static enum kvt_err find_info(const struct kvi_profile *profile,
			      const struct kvi_interface *interface, struct fi_info **info,
			      struct kvt_error *error)
{
	struct fi_info *hints = make_hints(profile);
	if (hints == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "out of memory");
	struct fi_info *list = NULL;
	int ret = fi_getinfo(api_version, interface->host, NULL, FI_SOURCE, hints, &list);
	fi_freeinfo(hints);
	if (ret == -FI_ENOMEM)
		return kvi_fabric_fail(error, ret, "fi_getinfo");

	for (const struct fi_info *at = ret == 0 ? list : NULL; at != NULL; at = at->next) {
		if (!is_usable(at, profile, interface))
			continue;
		*info = fi_dupinfo(at);
		break;
	}
	fi_freeinfo(list);
	return KVT_OK;
}

static enum kvt_err fail_unknown_rail(const char *name, struct kvt_error *error)
{
	const struct kvi_profile *profile;
	char names[120] = "";
	for (size_t i = 0; (profile = kvi_profile_get(i)) != NULL; i++)
		snprintf(names + strlen(names), sizeof(names) - strlen(names), " %s",
			 profile->name);
	return kvi_fail(error, KVT_E_NO_PROVIDER, 0, "provider \"%.40s\" is not one of:%s %s", name,
			names, KVI_LOCAL_PROVIDER);
}

/* The first provider of the table that serves the interface; with name, that one or none. */
static enum kvt_err choose_provider(const char *name, struct kvi_ofi_rail *rail,
				    struct kvt_error *error)
{
	const struct kvi_profile *profile;
	for (size_t i = 0; (profile = kvi_profile_get(i)) != NULL; i++) {
		if (name != NULL ? strcmp(name, profile->name) != 0 : profile->only_by_name)
			continue;
		if (kvi_profile_is_unsafe(profile))
			continue;
		struct fi_info *info = NULL;
		enum kvt_err err = find_info(profile, &rail->interface, &info, error);
		if (err != KVT_OK)
			return err;
		if (info == NULL)
			continue;
		rail->profile = profile;
		rail->info = info;
		return KVT_OK;
	}
	if (name != NULL && kvi_profile_find(name) == NULL)
		return fail_unknown_rail(name, error);
	if (name == NULL)
		kvi_fail(error, KVT_E_NO_PROVIDER, 0, "no libfabric provider serves %s",
			 rail->interface.host);
	else
		kvi_fail(error, KVT_E_NO_PROVIDER, 0, "provider %s does not serve %s", name,
			 rail->interface.host);
	kvi_environment_blame(error, KVI_EFFECT_HIDES);
	return KVT_E_NO_PROVIDER;
}

static void fill_caps(struct kvi_ofi_rail *rail)
{
	const struct fi_info *info = rail->info;
	uint64_t mr_mode = (uint64_t)info->domain_attr->mr_mode;
	struct kvi_caps *caps = &rail->base.caps;
	snprintf(caps->provider, sizeof(caps->provider), "%s", rail->profile->name);
	caps->max_segment_len = info->ep_attr->max_msg_size;
	caps->tx_count = info->tx_attr->size;
	caps->inject_len = info->tx_attr->inject_size;
	caps->span_count = info->tx_attr->iov_limit < info->tx_attr->rma_iov_limit
				   ? info->tx_attr->iov_limit
				   : info->tx_attr->rma_iov_limit;
	if (caps->span_count > KVI_SPANS_MAX)
		caps->span_count = KVI_SPANS_MAX;
	if (caps->span_count == 0)
		caps->span_count = 1;
	caps->rx_count = info->rx_attr->size;
	caps->local_memory = (mr_mode & FI_MR_LOCAL) != 0;
	caps->same_rkey = (mr_mode & (FI_MR_PROV_KEY | FI_MR_VIRT_ADDR)) == 0;
	caps->send_after_write = (info->tx_attr->msg_order & FI_ORDER_SAW) != 0;
	caps->stops_at_fault = rail->profile->stops_at_fault;
	caps->holds_messages = rail->profile->holds_messages;
	caps->own_domains = rail->profile->own_domains;
	caps->one_port = !rail->profile->many_ports;
	caps->poll_disarms = FI_VERSION_LT(fi_version(), rail->profile->pairs_before);
	caps->pack_below = rail->profile->pack_below;
}

enum kvt_err kvi_ofi_rail_open(const char *interface, const char *provider, struct kvi_rail **rail,
			       struct kvt_error *error)
{
	struct kvi_ofi_rail *opened = kvi_alloc(sizeof(*opened));
	if (opened == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "out of memory");
	enum kvt_err err = kvi_interface_find(interface, &opened->interface, error);
	if (err != KVT_OK)
		goto free_rail;
	kvi_fabric_prepare();
	err = choose_provider(provider, opened, error);
	if (err != KVT_OK)
		goto free_rail;
	if (opened->profile->forbids_fork && first_fork_count != kvi_fork_get_count()) {
		err = kvi_fail(error, KVT_E_FORKED, 0,
			       "this process was forked from one that had used libfabric, and %s "
			       "does "
			       "not survive that: start it anew (multiprocessing: \"spawn\")",
			       opened->profile->name);
		goto free_info;
	}
	int ret = fi_fabric(opened->info->fabric_attr, &opened->fid, NULL);
	if (ret != 0) {
		err = kvi_fabric_fail(error, ret, "fi_fabric");
		goto free_info;
	}
	fill_caps(opened);
	opened->cuts_reads = FI_VERSION_GE(fi_version(), opened->profile->cuts_reads_since);
	pthread_mutex_init(&opened->mutex, NULL);
	kvi_log(KVI_LOG_INFO, "rail-open", "%s: provider %s, domain %s, libfabric %u.%u", interface,
		opened->profile->name, opened->info->domain_attr->name, FI_MAJOR(fi_version()),
		FI_MINOR(fi_version()));
	opened->base.fabric = &kvi_ofi_fabric;
	opened->base.host = opened->interface.host;
	*rail = &opened->base;
	return KVT_OK;

free_info:
	fi_freeinfo(opened->info);
free_rail:
	kvi_free(opened);
	return err;
}

void kvi_ofi_rail_close(struct kvi_rail *base)
{
	struct kvi_ofi_rail *rail = kvi_ofi_rail(base);
	fi_close(&rail->fid->fid);
	fi_freeinfo(rail->info);
	kvi_rail_forget_topology(rail);
	pthread_mutex_destroy(&rail->mutex);
	kvi_free(rail);
}
