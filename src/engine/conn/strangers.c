/* SPDX-License-Identifier: Apache-2.0 */
/*
 * strangers.c - the list of strangers, and a table of the hosts that they call from.
 */
#include "engine/conn/strangers.h"

#include <stdio.h>

#include "base/hash.h"

/* A host with strangers; freed with the last of them. */
struct kvi_source {
	struct kvi_strangers *all;
	struct kvi_list strangers; /* oldest first */
	unsigned count;
	UT_hash_handle by_host;
	char host[64];
};

void kvi_strangers_init(struct kvi_strangers *strangers, unsigned max, unsigned max_per_source)
{
	*strangers = (struct kvi_strangers){ .max = max, .max_per_source = max_per_source };
	kvi_list_init(&strangers->arrivals);
}

static struct kvi_source *make_source(struct kvi_strangers *strangers, const char *host)
{
	struct kvi_source *source = kvi_alloc(sizeof(*source));
	if (source == NULL)
		return NULL;
	source->all = strangers;
	kvi_list_init(&source->strangers);
	snprintf(source->host, sizeof(source->host), "%s", host);
	HASH_ADD(by_host, strangers->sources, host, strlen(source->host), source);
	if (source->by_host.tbl == NULL) {
		kvi_free(source);
		return NULL;
	}
	return source;
}

bool kvi_strangers_add(struct kvi_strangers *strangers, struct kvi_stranger *stranger,
		       const char *host)
{
	struct kvi_source *source = NULL;
	HASH_FIND(by_host, strangers->sources, host, strlen(host), source);
	if (source == NULL)
		source = make_source(strangers, host);
	if (source == NULL)
		return false;
	stranger->source = source;
	source->count++;
	strangers->count++;
	kvi_list_append(&source->strangers, &stranger->source_node);
	kvi_list_append(&strangers->arrivals, &stranger->node);
	return true;
}

void kvi_strangers_remove(struct kvi_stranger *stranger)
{
	struct kvi_source *source = stranger->source;
	if (source == NULL)
		return;
	struct kvi_strangers *strangers = source->all;
	stranger->source = NULL;
	kvi_list_remove(&stranger->node);
	kvi_list_remove(&stranger->source_node);
	strangers->count--;
	if (--source->count > 0)
		return;
	HASH_DELETE(by_host, strangers->sources, source);
	kvi_free(source);
}

struct kvi_stranger *kvi_strangers_pick(const struct kvi_stranger *newest)
{
	const struct kvi_source *source = newest->source;
	const struct kvi_strangers *strangers = source->all;
	if (source->count > strangers->max_per_source)
		return kvi_container_of(kvi_list_get_first(&source->strangers), struct kvi_stranger,
					source_node);
	if (strangers->count > strangers->max)
		return kvi_container_of(kvi_list_get_first(&strangers->arrivals),
					struct kvi_stranger, node);
	return NULL;
}
