/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vault.h - memory for the secrets of many sessions: in no core dump, wiped when it is given back. Not locked: what
 * may be locked RDMA needs. Any thread.
 */
#ifndef KVI_AUTH_VAULT_H
#define KVI_AUTH_VAULT_H

#include <pthread.h>
#include <stddef.h>

enum { KVI_VAULT_SLOT_LEN = 512 };

struct kvi_vault_slot;
struct kvi_vault_chunk;

struct kvi_vault {
	/* under lock, a leaf */
	pthread_mutex_t lock;
	struct kvi_vault_chunk *chunks;
	struct kvi_vault_slot *free_slots;
};

void kvi_vault_init(struct kvi_vault *vault);
/* All has been given back. */
void kvi_vault_destroy(struct kvi_vault *vault);

/* KVI_VAULT_SLOT_LEN zeros; NULL: no memory. */
void *kvi_vault_take(struct kvi_vault *vault);
/* NULL is allowed. */
void kvi_vault_give(struct kvi_vault *vault, void *slot);

#endif
