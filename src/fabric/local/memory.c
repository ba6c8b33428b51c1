/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory.c - registrations: what a peer may reach, by key. Nothing is pinned. Whoever copies for a peer holds
 * the lock meanwhile, so that nothing is written to memory whose registration was closed.
 */
#include "base/alloc.h"
#include "base/error.h"
#include "fabric/local/local.h"

/* False: the key is taken, or there is no memory. */
static bool add(struct kvi_local_cq *cq, struct kvi_local_memory *memory)
{
	struct kvi_local_memory *other;
	pthread_mutex_lock(&cq->memory_lock);
	HASH_FIND(hh, cq->memories, &memory->base.rkey.key, sizeof(memory->base.rkey.key), other);
	if (other == NULL) {
		HASH_ADD(hh, cq->memories, base.rkey.key, sizeof(memory->base.rkey.key), memory);
		memory->is_open = memory->hh.tbl != NULL;
	}
	pthread_mutex_unlock(&cq->memory_lock);
	return memory->is_open;
}

enum kvt_err kvi_local_memory_open(struct kvi_cq *cq_base, void *base, size_t len, unsigned access,
				   uint64_t key, struct kvi_memory **memory,
				   struct kvt_error *error)
{
	struct kvi_local_memory *opened = kvi_alloc(sizeof(*opened));
	if (opened == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "out of memory");
	opened->base.fabric = &kvi_local_fabric;
	opened->base.rkey = (struct kvi_rkey){ (uintptr_t)base, key };
	opened->cq = kvi_local_cq(cq_base);
	opened->bytes = base;
	opened->len = len;
	opened->access = access;
	if (access != KVI_ACCESS_LOCAL && !add(opened->cq, opened)) {
		kvi_free(opened);
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for a registration");
	}
	*memory = &opened->base;
	return KVT_OK;
}

void kvi_local_memory_close(struct kvi_memory *base)
{
	struct kvi_local_memory *memory = kvi_local_memory(base);
	if (memory->is_open) {
		pthread_mutex_lock(&memory->cq->memory_lock);
		HASH_DEL(memory->cq->memories, memory);
		pthread_mutex_unlock(&memory->cq->memory_lock);
	}
	kvi_free(memory);
}

uint8_t *kvi_local_memory_find(struct kvi_local_cq *cq, const struct kvi_record_span *span,
			       unsigned access)
{
	struct kvi_local_memory *memory;
	HASH_FIND(hh, cq->memories, &span->key, sizeof(span->key), memory);
	if (memory == NULL || (memory->access & access) == 0)
		return NULL;
	uint64_t offset = span->address - memory->base.rkey.address;
	if (offset > memory->len || span->len > memory->len - offset)
		return NULL;
	return memory->bytes + offset;
}
