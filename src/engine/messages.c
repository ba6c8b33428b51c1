/* SPDX-License-Identifier: Apache-2.0 */
/*
 * messages.c - who takes a message of each type; docs/protocol.md has the section of each.
 */
#include "engine/messages.h"

#include "engine/core/conn.h"
#include "engine/paged/carried.h"
#include "engine/paged/check.h"
#include "engine/paged/import.h"
#include "engine/paged/read_request.h"
#include "engine/paged/notification.h"
#include "engine/paged/paged.h"
#include "engine/paged/exports.h"
#include "engine/paged/staging.h"
#include "engine/tagged/start_window.h"
#include "engine/tagged/tag_queue.h"

static enum kvt_err on_lane_end(struct kvi_link *link, const struct kvi_message *message)
{
	(void)message;
	kvi_conn_on_lane_end(link->conn);
	return KVT_OK;
}

/* CREDIT is the link's own. */
const struct kvi_handlers kvi_message_handlers = { .take = {
	[KVI_MESSAGE_EAGER] = kvi_tag_queue_on_message,
	[KVI_MESSAGE_START] = kvi_tag_queue_on_message,
	[KVI_MESSAGE_CTS] = kvi_tag_queue_on_message,
	[KVI_MESSAGE_FIN] = kvi_tag_queue_on_message,
	[KVI_MESSAGE_ACK] = kvi_tag_queue_on_message,
	[KVI_MESSAGE_CANCEL] = kvi_tag_queue_on_message,
	[KVI_MESSAGE_CACK] = kvi_tag_queue_on_message,
	[KVI_MESSAGE_ABORT] = kvi_tag_queue_on_message,
	[KVI_MESSAGE_REFUSED] = kvi_tag_queue_on_message,
	[KVI_MESSAGE_KV_CLOSED] = kvi_tag_queue_on_message,
	[KVI_MESSAGE_KV_CLOSED_ACK] = kvi_tag_queue_on_message,
	[KVI_MESSAGE_LANE_END] = on_lane_end,
	[KVI_MESSAGE_ATTACH] = kvi_export_on_attach,
	[KVI_MESSAGE_ATTACHED] = kvi_import_on_answer,
	[KVI_MESSAGE_NO_EXPORT] = kvi_import_on_answer,
	[KVI_MESSAGE_WITHDRAW] = kvi_remote_on_withdraw,
	[KVI_MESSAGE_WITHDRAWN] = kvi_export_on_withdrawn,
	[KVI_MESSAGE_STAGING] = kvi_staging_on_offer,
	[KVI_MESSAGE_PACK] = kvi_staging_on_pack,
	[KVI_MESSAGE_PACK_ACK] = kvi_staging_on_ack,
	[KVI_MESSAGE_NOTIFY] = kvi_notification_on_notify,
	[KVI_MESSAGE_NOTIFY_FAILED] = kvi_notification_on_notify,
	[KVI_MESSAGE_SYNC] = kvi_paged_on_sync,
	[KVI_MESSAGE_NOTED] = kvi_paged_on_noted,
	[KVI_MESSAGE_READ] = kvi_read_request_on_read,
	[KVI_MESSAGE_FILLED] = kvi_read_request_on_filled,
	[KVI_MESSAGE_DROPPED] = kvi_read_request_on_dropped,
	[KVI_MESSAGE_FIND] = kvi_export_on_find,
	[KVI_MESSAGE_FOUND] = kvi_import_on_answer,
	[KVI_MESSAGE_NOTIFY_BEGIN] = kvi_notification_on_begin,
	[KVI_MESSAGE_NOTIFY_PART] = kvi_notification_on_part,
	[KVI_MESSAGE_NOTIFY_DROP] = kvi_notification_on_drop,
	[KVI_MESSAGE_BLOCKS] = kvi_carried_on_blocks,
	[KVI_MESSAGE_CHECK] = kvi_check_on_check,
	[KVI_MESSAGE_CHECKED] = kvi_check_on_checked,
	[KVI_MESSAGE_PACK_WRONG] = kvi_staging_on_wrong,
	[KVI_MESSAGE_WRONG] = kvi_tag_queue_on_message,
}, .on_window = kvi_start_window_on_room };
