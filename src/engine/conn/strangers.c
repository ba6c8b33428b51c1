/* SPDX-License-Identifier: Apache-2.0 */
/*
 * strangers.c - the list of strangers, and a table of the sources that they call from.
 */
#include "engine/conn/strangers.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"

/* A source with strangers; freed with the last of them. */
struct kvi_source {
	struct kvi_strangers *all;
	struct kvi_list strangers; /* oldest first */
	unsigned count;
	struct kvi_list count_node; /* in all->by_count[count] */
	UT_hash_handle by_name;
	char name[KVI_SOURCE_NAME_LEN];
};

void kvi_source_print(const struct sockaddr_storage *address, char name[KVI_SOURCE_NAME_LEN])
{
	enum { NETWORK_LEN = 8, MAPPED_LEN = 12 };
	const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)address;
	const void *four = &((const struct sockaddr_in *)address)->sin_addr;
	struct in6_addr network = { .s6_addr = { 0 } };
	char text[INET6_ADDRSTRLEN] = "";
	name[0] = '\0';
	if (address->ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&six->sin6_addr)) {
		inet_ntop(AF_INET, six->sin6_addr.s6_addr + MAPPED_LEN, name, KVI_SOURCE_NAME_LEN);
	} else if (address->ss_family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&six->sin6_addr)) {
		inet_ntop(AF_INET6, &six->sin6_addr, text, sizeof(text));
		snprintf(name, KVI_SOURCE_NAME_LEN, "%s%%%u", text, six->sin6_scope_id);
	} else if (address->ss_family == AF_INET6) {
		memcpy(&network, &six->sin6_addr, NETWORK_LEN);
		inet_ntop(AF_INET6, &network, text, sizeof(text));
		snprintf(name, KVI_SOURCE_NAME_LEN, "%s/64", text);
	} else if (address->ss_family == AF_INET) {
		inet_ntop(AF_INET, four, name, KVI_SOURCE_NAME_LEN);
	}
}

void kvi_strangers_init(struct kvi_strangers *strangers, unsigned max, unsigned max_per_source)
{
	*strangers = (struct kvi_strangers){ .max = max, .max_per_source = max_per_source };
	kvi_list_init(&strangers->arrivals);
	for (size_t i = 0; i < sizeof(strangers->by_count) / sizeof(strangers->by_count[0]); i++)
		kvi_list_init(&strangers->by_count[i]);
}

/* The source has one more stranger, or one less. */
static void count_strangers(struct kvi_source *source, int change)
{
	struct kvi_strangers *strangers = source->all;
	source->count += (unsigned)change;
	strangers->count += (unsigned)change;
	kvi_list_remove(&source->count_node);
	kvi_list_append(&strangers->by_count[source->count], &source->count_node);
	if (source->count > strangers->most)
		strangers->most = source->count;
	/* Who was the only one there is one place below now. */
	while (strangers->most > 0 && kvi_list_is_empty(&strangers->by_count[strangers->most]))
		strangers->most--;
}

static struct kvi_source *make_source(struct kvi_strangers *strangers, const char *name)
{
	struct kvi_source *source = kvi_alloc(sizeof(*source));
	if (source == NULL)
		return NULL;
	source->all = strangers;
	kvi_list_init(&source->strangers);
	kvi_list_init(&source->count_node);
	snprintf(source->name, sizeof(source->name), "%s", name);
	HASH_ADD(by_name, strangers->sources, name, strlen(source->name), source);
	if (source->by_name.tbl == NULL) {
		kvi_free(source);
		return NULL;
	}
	return source;
}

bool kvi_strangers_add(struct kvi_strangers *strangers, struct kvi_stranger *stranger,
		       const char *name)
{
	struct kvi_source *source = NULL;
	HASH_FIND(by_name, strangers->sources, name, strlen(name), source);
	if (source == NULL)
		source = make_source(strangers, name);
	if (source == NULL)
		return false;
	stranger->source = source;
	count_strangers(source, 1);
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
	count_strangers(source, -1);
	if (source->count > 0)
		return;
	kvi_list_remove(&source->count_node);
	HASH_DELETE(by_name, strangers->sources, source);
	kvi_free(source);
}

static struct kvi_stranger *get_oldest(const struct kvi_source *source)
{
	return kvi_container_of(kvi_list_get_first(&source->strangers), struct kvi_stranger,
				source_node);
}

struct kvi_stranger *kvi_strangers_pick(const struct kvi_stranger *newest)
{
	const struct kvi_source *source = newest->source;
	const struct kvi_strangers *strangers = source->all;
	if (source->count > strangers->max_per_source)
		return get_oldest(source);
	if (strangers->count <= strangers->max)
		return NULL;
	if (strangers->most > 1)
		return get_oldest(
			kvi_container_of(kvi_list_get_first(&strangers->by_count[strangers->most]),
					 struct kvi_source, count_node));
	return kvi_container_of(kvi_list_get_first(&strangers->arrivals), struct kvi_stranger,
				node);
}
