/* SPDX-License-Identifier: Apache-2.0 */
/*
 * notification.c - taking notifications in, until they are whole and become events.
 */
#include "engine/paged/notification.h"

#include <string.h>

#include "base/alloc.h"
#include "engine/core/conn.h"
#include "engine/core/engine.h"
#include "engine/transfer/inbox.h"

static size_t get_held_len(const struct kvi_event *event)
{
	return sizeof(*event) + event->event.len;
}

/* One with room for len bytes. NULL: no memory. */
static struct kvi_event *make_notification(struct kvi_link *link, size_t len)
{
	struct kvi_event *event = kvi_event_alloc(link->conn, KVT_EVENT_NOTIFICATION, len);
	if (event == NULL)
		return NULL;
	event->link = link;
	kvi_inbox_hold(&link->conn->engine->inbox, link->conn, get_held_len(event));
	return event;
}

/* It is whole: the application gets it, and the peer may know that. */
static void deliver(struct kvi_link *link, struct kvi_event *event,
		    const struct kvi_message *message)
{
	struct kvi_message noted = { .type = KVI_MESSAGE_NOTED,
				     .sync.transfer = message->notify.transfer };
	event->event.err = message->notify.code;
	kvi_count_alone(&link->shard->counters, KVI_COUNT_NOTIFICATIONS, 1);
	kvi_inbox_put_event(&link->conn->engine->inbox, event);
	link->shard->worker->owes_tell = true;
	kvi_link_send(link, &noted);
}

enum kvt_err kvi_notification_on_notify(struct kvi_link *link, const struct kvi_message *message)
{
	const struct kvi_message_notify *notify = &message->notify;
	struct kvi_event *event = link->partial;
	if (event != NULL) {
		if (notify->transfer != link->partial_number || notify->data.len > 0 ||
		    link->partial_len < event->event.len)
			return KVT_E_PROTOCOL;
		link->partial = NULL;
	} else {
		if (notify->data.len > KVT_NOTIFY_LEN_MAX)
			return KVT_E_PROTOCOL;
		event = make_notification(link, notify->data.len);
		if (event == NULL)
			return KVT_E_NO_MEMORY;
		if (notify->data.len > 0)
			memcpy(event->data, notify->data.bytes, notify->data.len);
	}
	deliver(link, event, message);
	return KVT_OK;
}

enum kvt_err kvi_notification_on_begin(struct kvi_link *link, const struct kvi_message *message)
{
	if (link->partial != NULL)
		return KVT_E_PROTOCOL;
	link->partial = make_notification(link, message->notify_begin.len);
	if (link->partial == NULL)
		return KVT_E_NO_MEMORY;
	link->partial_number = message->notify_begin.transfer;
	link->partial_len = 0;
	return KVT_OK;
}

enum kvt_err kvi_notification_on_part(struct kvi_link *link, const struct kvi_message *message)
{
	const struct kvi_view *data = &message->notify_part.data;
	struct kvi_event *event = link->partial;
	if (event == NULL || message->notify_part.transfer != link->partial_number ||
	    data->len == 0 || data->len > event->event.len - link->partial_len)
		return KVT_E_PROTOCOL;
	memcpy(event->data + link->partial_len, data->bytes, data->len);
	link->partial_len += data->len;
	return KVT_OK;
}

enum kvt_err kvi_notification_on_drop(struct kvi_link *link, const struct kvi_message *message)
{
	if (link->partial == NULL || message->notify_drop.transfer != link->partial_number)
		return KVT_E_PROTOCOL;
	kvi_link_return_charge(link, (uint32_t)link->partial->event.len);
	kvi_notification_forget(link);
	return KVT_OK;
}

void kvi_notification_forget(struct kvi_link *link)
{
	if (link->partial == NULL)
		return;
	kvi_inbox_release(&link->conn->engine->inbox, link->conn, get_held_len(link->partial));
	kvi_free(link->partial);
	link->partial = NULL;
}
