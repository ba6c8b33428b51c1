/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vault.c - slots in chunks, which stay until the vault goes: an engine that had many sessions may have them again.
 */
#include "auth/vault.h"

#include <sys/mman.h>

#include <sodium.h>

enum { CHUNK_LEN = 64 * 1024 };

struct kvi_vault_slot {
	struct kvi_vault_slot *next;
};

/* What a chunk begins with, in the place of its first slot. */
struct kvi_vault_chunk {
	struct kvi_vault_chunk *next;
};

void kvi_vault_init(struct kvi_vault *vault)
{
	*vault = (struct kvi_vault){ .chunks = NULL };
	pthread_mutex_init(&vault->lock, NULL);
}

void kvi_vault_destroy(struct kvi_vault *vault)
{
	while (vault->chunks != NULL) {
		struct kvi_vault_chunk *chunk = vault->chunks;
		vault->chunks = chunk->next;
		munmap(chunk, CHUNK_LEN);
	}
	pthread_mutex_destroy(&vault->lock);
}

static void add_chunk(struct kvi_vault *vault)
{
	char *start =
		mmap(NULL, CHUNK_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (start == MAP_FAILED)
		return;
	madvise(start, CHUNK_LEN, MADV_DONTDUMP);
	struct kvi_vault_chunk *chunk = (struct kvi_vault_chunk *)start;
	chunk->next = vault->chunks;
	vault->chunks = chunk;
	for (size_t at = KVI_VAULT_SLOT_LEN; at < CHUNK_LEN; at += KVI_VAULT_SLOT_LEN) {
		struct kvi_vault_slot *slot = (struct kvi_vault_slot *)(start + at);
		slot->next = vault->free_slots;
		vault->free_slots = slot;
	}
}

void *kvi_vault_take(struct kvi_vault *vault)
{
	pthread_mutex_lock(&vault->lock);
	if (vault->free_slots == NULL)
		add_chunk(vault);
	struct kvi_vault_slot *slot = vault->free_slots;
	if (slot != NULL) {
		vault->free_slots = slot->next;
		slot->next = NULL;
	}
	pthread_mutex_unlock(&vault->lock);
	return slot;
}

void kvi_vault_give(struct kvi_vault *vault, void *bytes)
{
	struct kvi_vault_slot *slot = bytes;
	if (slot == NULL)
		return;
	sodium_memzero(bytes, KVI_VAULT_SLOT_LEN);
	pthread_mutex_lock(&vault->lock);
	slot->next = vault->free_slots;
	vault->free_slots = slot;
	pthread_mutex_unlock(&vault->lock);
}
