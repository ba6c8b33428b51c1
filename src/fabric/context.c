/* SPDX-License-Identifier: Apache-2.0 */
/*
 * context.c - the contexts that providers are given, pooled per cq. A context is reused only when
 * the provider has given it back, or a long time after it should have: some providers never report what was
 * outstanding on a closed endpoint, others report it late.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "fabric/internal.h"

enum { SLAB_COUNT = 64 };

#define HOLD_NS (10 * KVI_SECOND)

struct slab {
	struct kvi_list node;
	struct kvi_context contexts[SLAB_COUNT];
};

static struct kvi_context *get_context(struct kvi_list *node)
{
	return kvi_container_of(node, struct kvi_context, node);
}

static bool add_slab(struct kvi_ofi_cq *cq)
{
	struct slab *slab = kvi_alloc(sizeof(*slab));
	if (slab == NULL)
		return false;
	kvi_list_append(&cq->slabs, &slab->node);
	for (size_t i = 0; i < SLAB_COUNT; i++)
		kvi_list_append(&cq->free, &slab->contexts[i].node);
	return true;
}

struct kvi_context *kvi_context_take(struct kvi_ofi_cq *cq)
{
	struct kvi_list *oldest = kvi_list_get_first(&cq->quarantine);
	if (kvi_list_is_empty(&cq->free) && oldest != NULL &&
	    get_context(oldest)->held_until_ns <= kvi_clock_now())
		kvi_context_give(cq, get_context(oldest));
	if (kvi_list_is_empty(&cq->free) && !add_slab(cq))
		return NULL;
	return get_context(kvi_list_take_first(&cq->free));
}

void kvi_context_give(struct kvi_ofi_cq *cq, struct kvi_context *context)
{
	context->state = KVI_CONTEXT_FREE;
	kvi_list_remove(&context->node);
	kvi_list_prepend(&cq->free, &context->node);
}

void kvi_context_finish(struct kvi_ofi_cq *cq, struct kvi_context *context, enum kvt_err err,
			int provider_errno, size_t len, bool is_held)
{
	if (context->is_recv)
		context->lane->rx_posted--;
	else
		context->lane->tx_posted--;
	if (context->is_read)
		context->lane->reads_posted--;
	context->lane = NULL;
	context->completion.err = err;
	context->completion.provider_errno = provider_errno;
	context->completion.len = len;
	context->is_held = is_held;
	context->state = KVI_CONTEXT_DONE;
	kvi_list_remove(&context->node);
	kvi_list_append(&cq->done, &context->node);
}

void kvi_context_finish_earlier(struct kvi_ofi_cq *cq, const struct kvi_context *context)
{
	struct kvi_list *unsignalled = &context->lane->unsignalled, *node;
	while (!context->is_recv && (node = kvi_list_get_first(unsignalled)) != NULL &&
	       get_context(node)->number < context->number)
		kvi_context_finish(cq, get_context(node), KVT_OK, 0, 0, false);
}

size_t kvi_context_report(struct kvi_ofi_cq *cq, struct kvi_completion *completions, size_t max)
{
	size_t count = 0;
	while (count < max && !kvi_list_is_empty(&cq->done)) {
		struct kvi_context *context = get_context(kvi_list_take_first(&cq->done));
		completions[count++] = context->completion;
		if (!context->is_held) {
			kvi_context_give(cq, context);
			continue;
		}
		context->state = KVI_CONTEXT_QUARANTINE;
		context->held_until_ns = kvi_clock_now() + HOLD_NS;
		kvi_list_append(&cq->quarantine, &context->node);
	}
	return count;
}

void kvi_context_free_all(struct kvi_ofi_cq *cq)
{
	struct kvi_list *node;
	while ((node = kvi_list_take_first(&cq->slabs)) != NULL)
		kvi_free(kvi_container_of(node, struct slab, node));
}
