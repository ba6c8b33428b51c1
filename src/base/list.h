/* SPDX-License-Identifier: Apache-2.0 */
/*
 * list.h - intrusive doubly linked list. A node that is in no list points to itself, so removing it
 * again is harmless.
 */
#ifndef KVI_BASE_LIST_H
#define KVI_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct kvi_list {
	struct kvi_list *next;
	struct kvi_list *prev;
};

#define kvi_container_of(node, type, member) ((type *)((char *)(node)-offsetof(type, member)))

static inline void kvi_list_init(struct kvi_list *list)
{
	list->next = list;
	list->prev = list;
}

static inline bool kvi_list_is_empty(const struct kvi_list *list)
{
	return list->next == list;
}

static inline void kvi_list_append(struct kvi_list *list, struct kvi_list *node)
{
	node->prev = list->prev;
	node->next = list;
	list->prev->next = node;
	list->prev = node;
}

static inline void kvi_list_prepend(struct kvi_list *list, struct kvi_list *node)
{
	kvi_list_append(list->next, node);
}

static inline void kvi_list_remove(struct kvi_list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	kvi_list_init(node);
}

/* The first node, NULL when the list is empty. */
static inline struct kvi_list *kvi_list_get_first(const struct kvi_list *list)
{
	return kvi_list_is_empty(list) ? NULL : list->next;
}

/* Takes the first node out; NULL when the list is empty. */
static inline struct kvi_list *kvi_list_take_first(struct kvi_list *list)
{
	struct kvi_list *node = kvi_list_get_first(list);
	if (node != NULL)
		kvi_list_remove(node);
	return node;
}

/* Moves all nodes of `from` to the end of `to`. */
static inline void kvi_list_move_all(struct kvi_list *to, struct kvi_list *from)
{
	struct kvi_list *node;
	while ((node = kvi_list_take_first(from)) != NULL)
		kvi_list_append(to, node);
}

/* For every node; the body may remove `node`, and nothing else. */
#define kvi_list_for_each(node, next_node, list)                                                   \
	for (struct kvi_list *node = (list)->next, *next_node = node->next; node != (list);        \
	     node = next_node, next_node = node->next)

#endif
