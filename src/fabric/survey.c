/* SPDX-License-Identifier: Apache-2.0 */
/*
 * survey.c - see survey.h. It opens nothing but a domain for the test of memory.
 */
#include "fabric/survey.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "fabric/internal.h"
#include "fabric/local/local.h"

/* All that libfabric offers on the interface with this address, or on every one; NULL: nothing. */
static struct fi_info *ask(const char *host)
{
	struct fi_info *list = NULL;
	kvi_fabric_prepare();
	uint64_t flags = host != NULL ? FI_SOURCE : 0;
	return fi_getinfo(FI_VERSION(1, 17), host, NULL, flags, NULL, &list) == 0 ? list : NULL;
}

static bool is_offered(const char *provider, const char *host)
{
	struct fi_info *list = ask(host);
	const struct fi_info *at = list;
	while (at != NULL && strcmp(at->fabric_attr->prov_name, provider) != 0)
		at = at->next;
	bool found = at != NULL;
	fi_freeinfo(list);
	return found;
}

/* The offer with that name, appended when it is new; NULL when there is no room. */
static struct kvi_offer *find_offer(struct kvi_offer *offers, size_t *count, size_t max,
				    const char *name)
{
	for (size_t i = 0; i < *count; i++) {
		if (strcmp(offers[i].provider, name) == 0)
			return &offers[i];
	}
	if (*count == max)
		return NULL;
	struct kvi_offer *offer = &offers[(*count)++];
	*offer = (struct kvi_offer){ .why = kvi_profile_get_refusal(name) };
	snprintf(offer->provider, sizeof(offer->provider), "%s", name);
	return offer;
}

size_t kvi_survey_list(struct kvi_offer *offers, size_t max)
{
	size_t count = 0;
	const struct kvi_profile *profile;
	for (size_t i = 0; (profile = kvi_profile_get(i)) != NULL; i++) {
		struct kvi_offer *offer = find_offer(offers, &count, max, profile->name);
		if (offer == NULL)
			break;
		offer->is_used = true;
		offer->only_by_name = profile->only_by_name;
		offer->why = profile->use;
	}
	struct fi_info *list = ask(NULL);
	for (const struct fi_info *at = list; at != NULL; at = at->next) {
		struct kvi_offer *offer =
			find_offer(offers, &count, max, at->fabric_attr->prov_name);
		if (offer == NULL)
			continue;
		offer->is_here = true;
		offer->msg = offer->msg || at->ep_attr->type == FI_EP_MSG;
		offer->rdm = offer->rdm || at->ep_attr->type == FI_EP_RDM;
		offer->dgram = offer->dgram || at->ep_attr->type == FI_EP_DGRAM;
	}
	fi_freeinfo(list);
	return count;
}

const char *kvi_survey_explain(const char *provider, const char *host)
{
	struct kvi_setting setting;
	bool is_hidden = false;
	const struct kvi_profile *profile = kvi_profile_find(provider);
	if (profile != NULL && kvi_profile_is_unsafe(profile))
		return "the environment has of libfabric's what makes it unsafe";
	for (size_t i = 0; kvi_environment_get(i, &setting); i++)
		is_hidden |= (setting.effect & KVI_EFFECT_HIDES) != 0;
	if (!is_offered(provider, NULL))
		return is_hidden ? "libfabric does not offer it, which may be due to what the "
				   "environment has of libfabric's"
				 : "libfabric finds nothing on this host that it could use";
	if (!is_offered(provider, host))
		return is_hidden ? "libfabric does not offer it on this interface, which may be "
				   "due to "
				   "what the environment has of libfabric's"
				 : "libfabric does not offer it on this interface";
	return "what libfabric offers of it here lacks connections (FI_EP_MSG) or RMA";
}

void kvi_survey_get_version(unsigned *major, unsigned *minor)
{
	uint32_t version = fi_version();
	*major = FI_MAJOR(version);
	*minor = FI_MINOR(version);
}

const char *kvi_survey_get_netdev(const struct kvi_rail *rail)
{
	return rail->fabric == &kvi_local_fabric ? kvi_local_rail(rail)->interface.netdev
						 : kvi_ofi_rail(rail)->interface.netdev;
}

const char *kvi_survey_get_domain(const struct kvi_rail *rail)
{
	return rail->fabric == &kvi_local_fabric ? "this host"
						 : kvi_ofi_rail(rail)->info->domain_attr->name;
}

enum kvt_err kvi_survey_test_memory(struct kvi_rail *rail, struct kvt_error *error)
{
	struct kvi_domain *domain;
	if (rail->fabric == &kvi_local_fabric)
		return KVT_OK;
	enum kvt_err err = kvi_domain_get(kvi_ofi_rail(rail), &domain, error);
	if (err != KVT_OK)
		return err;
	if (domain->mr_cached)
		err = kvi_fail(error, KVT_E_FABRIC, 0, "libfabric caches registrations");
	kvi_domain_put(domain);
	return err;
}
