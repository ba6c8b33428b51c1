/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory.c - registrations. The caller keeps the memory alive.
 */
#include <stdio.h>
#include <sys/resource.h>

#include "base/alloc.h"
#include "base/error.h"
#include "fabric/internal.h"

/* Providers that pin memory pin their queues, too. */
enum kvt_err kvi_fabric_fail_pinned(const struct kvi_ofi_rail *rail, size_t len, long ret,
				    const char *what, struct kvt_error *error)
{
	struct rlimit limit;
	bool pins = (rail->info->domain_attr->mr_mode & FI_MR_ALLOCATED) != 0;
	if (ret != -FI_ENOMEM || !pins || getrlimit(RLIMIT_MEMLOCK, &limit) != 0 ||
	    limit.rlim_cur == RLIM_INFINITY)
		return kvi_fabric_fail(error, ret, what);
	char need[40] = "a queue";
	if (len > 0)
		snprintf(need, sizeof(need), "%zu bytes", len);
	return kvi_fail(error, KVT_E_LIMIT, FI_ENOMEM,
			"cannot pin %s for the NIC: RLIMIT_MEMLOCK lets the process pin %llu "
			"bytes; "
			"raise it: ulimit -l unlimited, or memlock in /etc/security/limits.conf, "
			"or "
			"LimitMEMLOCK=infinity for a service",
			need, (unsigned long long)limit.rlim_cur);
}

enum kvt_err kvi_ofi_memory_open(struct kvi_cq *cq_base, void *base, size_t len, unsigned access,
				 uint64_t key, struct kvi_memory **memory, struct kvt_error *error)
{
	struct kvi_ofi_cq *cq = kvi_ofi_cq(cq_base);
	uint64_t mr_mode = (uint64_t)cq->rail->info->domain_attr->mr_mode;
	uint64_t flags = FI_SEND | FI_RECV | FI_READ | FI_WRITE;
	if (access & KVI_ACCESS_REMOTE_WRITE)
		flags |= FI_REMOTE_WRITE;
	if (access & KVI_ACCESS_REMOTE_READ)
		flags |= FI_REMOTE_READ;
	if (access != KVI_ACCESS_LOCAL && cq->domain->mr_cached)
		return kvi_fail(error, KVT_E_FABRIC, 0,
				"libfabric caches registrations, which would leave memory open to "
				"peers; set FI_MR_CACHE_MAX_COUNT=0 before the process starts");

	struct kvi_ofi_memory *opened = kvi_alloc(sizeof(*opened));
	if (opened == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "out of memory");
	if (mr_mode & FI_MR_PROV_KEY)
		key = 0;
	/* A key that is taken fails the call: one rkey serves all domains, so none may take
	 * another. Among 64 random bits it does not happen. */
	int ret = fi_mr_reg(cq->domain->fid, base, len, flags, 0, key, 0, &opened->fid, NULL);
	/* Read-only pages can be pinned for reading, which is enough to send them. */
	if (ret == -FI_EFAULT && (access & KVI_ACCESS_REMOTE_WRITE) == 0)
		ret = fi_mr_reg(cq->domain->fid, base, len, flags & ~(uint64_t)(FI_RECV | FI_READ),
				0, key, 0, &opened->fid, NULL);
	if (ret != 0) {
		kvi_free(opened);
		return kvi_fabric_fail_pinned(cq->rail, len, ret, "fi_mr_reg", error);
	}
	opened->base.rkey.address = mr_mode & FI_MR_VIRT_ADDR ? (uint64_t)(uintptr_t)base : 0;
	opened->base.rkey.key = fi_mr_key(opened->fid);
	opened->base.fabric = &kvi_ofi_fabric;
	*memory = &opened->base;
	return KVT_OK;
}

void kvi_ofi_memory_close(struct kvi_memory *base)
{
	struct kvi_ofi_memory *memory = kvi_ofi_memory(base);
	fi_close(&memory->fid->fid);
	kvi_free(memory);
}
