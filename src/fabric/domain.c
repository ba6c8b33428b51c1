/* SPDX-License-Identifier: Apache-2.0 */
/*
 * domain.c - libfabric domains: one per cq, or one per rail for all its cqs; the profile says which.
 */
#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/log.h"
#include "fabric/internal.h"

/*
 * A page and its first half must get different keys. The same key means that libfabric's cache of
 * registrations is on in this process (another user of libfabric was first): then what one peer may
 * touch outlives its registration, and no memory must be opened to a peer.
 */
static bool shares_keys(struct fid_domain *domain)
{
	const uint64_t access = FI_REMOTE_READ | FI_REMOTE_WRITE;
	size_t page_len = (size_t)sysconf(_SC_PAGESIZE);
	struct fid_mr *page, *half;
	void *base;
	bool shared = true;
	if (posix_memalign(&base, page_len, page_len) != 0)
		return true;
	if (fi_mr_reg(domain, base, page_len, access, 0, 0, 0, &page, NULL) != 0)
		goto free_base;
	if (fi_mr_reg(domain, base, page_len / 2, access, 0, 0, 0, &half, NULL) != 0)
		goto close_page;
	shared = fi_mr_key(page) == fi_mr_key(half);
	fi_close(&half->fid);
close_page:
	fi_close(&page->fid);
free_base:
	free(base);
	return shared;
}

static enum kvt_err open_domain(struct kvi_ofi_rail *rail, struct kvi_domain **domain,
				struct kvt_error *error)
{
	struct kvi_domain *opened = kvi_alloc(sizeof(*opened));
	if (opened == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "out of memory");
	int ret = fi_domain(rail->fid, rail->info, &opened->fid, NULL);
	if (ret != 0) {
		kvi_free(opened);
		return kvi_fabric_fail(error, ret, "fi_domain");
	}
	opened->rail = rail;
	opened->users = 1;
	if ((rail->info->domain_attr->mr_mode & FI_MR_PROV_KEY) != 0 && shares_keys(opened->fid)) {
		opened->mr_cached = true;
		kvi_log(KVI_LOG_WARN, "mr-cache",
			"libfabric caches registrations on %s: peers get no access to memory; "
			"set FI_MR_CACHE_MAX_COUNT=0 before the process starts",
			rail->info->domain_attr->name);
	}
	*domain = opened;
	return KVT_OK;
}

enum kvt_err kvi_domain_get(struct kvi_ofi_rail *rail, struct kvi_domain **domain,
			    struct kvt_error *error)
{
	if (rail->profile->own_domains)
		return open_domain(rail, domain, error);

	enum kvt_err err = KVT_OK;
	pthread_mutex_lock(&rail->mutex);
	if (rail->shared_domain != NULL)
		rail->shared_domain->users++;
	else
		err = open_domain(rail, &rail->shared_domain, error);
	if (err == KVT_OK)
		*domain = rail->shared_domain;
	pthread_mutex_unlock(&rail->mutex);
	return err;
}

void kvi_domain_put(struct kvi_domain *domain)
{
	struct kvi_ofi_rail *rail = domain->rail;
	pthread_mutex_lock(&rail->mutex);
	bool is_last = --domain->users == 0;
	if (is_last && rail->shared_domain == domain)
		rail->shared_domain = NULL;
	if (is_last) {
		fi_close(&domain->fid->fid);
		kvi_free(domain);
	}
	pthread_mutex_unlock(&rail->mutex);
}
