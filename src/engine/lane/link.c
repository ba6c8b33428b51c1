/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link.c - packets in and out of one lane. What a message means is the tag queue's business.
 */
#include "engine/lane/link.h"

#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "engine/core/conn.h"
#include "engine/core/engine.h"
#include "engine/lane/packet_sum.h"
#include "engine/progress/shard.h"

enum {
	/* Answers are few: each belongs to an operation of ours. More means that the peer plays tricks. */
	QUEUE_MAX = 65536,
	QUEUE_LEN_MAX = 4 * 1024 * 1024,
	/* ACKs that may wait for a message to travel with. */
	LAZY_MAX = 8,
	/* Packets on the way from which on first messages are gathered. */
	BUSY_PACKETS = 2,
	/* Messages, answers too, that a packet with first messages is posted with at the latest: half of what is in
	 * flight, so that one half is here while the other is there, and so many. */
	GATHER_MIN = 8,
	GATHER_MAX = 16,
	/* Receives of a link on which little comes. */
	IDLE_RECEIVES = 4,
};

struct queued {
	struct kvi_list node;
	struct kvi_message message;
	uint8_t data[];
};

static void on_received(struct kvi_post *post, const struct kvi_completion *completion);
static void on_sent(struct kvi_post *post, const struct kvi_completion *completion);

void kvi_link_fail(struct kvi_link *link, enum kvt_err err, int provider_errno, const char *what)
{
	if (kvi_trial_fail(link->conn, provider_errno, NULL))
		return;
	if (provider_errno == EBADF || provider_errno == ENOTSOCK || err == KVT_E_CLOSED)
		kvi_conn_fail(link->conn, KVT_E_CLOSED, EBADF, "%s", KVI_FDS_LOST_TEXT);
	else if (provider_errno == EFAULT)
		kvi_conn_fail(link->conn, KVT_E_FABRIC, EFAULT,
			      "memory of this side is no longer there: lane %u broke under %s",
			      link->index, what);
	else if (!link->connected)
		kvi_link_fail_unconnected(link, provider_errno);
	else
		kvi_conn_fail(link->conn, KVT_E_PEER_LOST, provider_errno,
			      "the peer is gone: lane %u broke under %s", link->index, what);
}

static bool post_receive(struct kvi_link *link, struct kvi_packet *packet)
{
	enum kvt_err err = kvi_lane_post_recv(link->lane, &packet->post.op, packet->bytes,
					      link->packet_len, link->memory);
	if (err == KVT_OK)
		link->shard->posted++;
	else
		kvi_link_fail(link, err, 0, "a receive");
	return err == KVT_OK;
}

void kvi_link_touch(struct kvi_link *link)
{
	if (!link->shard->severed && kvi_list_is_empty(&link->dirty_node))
		kvi_list_append(&link->shard->worker->dirty_links, &link->dirty_node);
}

void kvi_link_retry(struct kvi_link *link)
{
	kvi_link_touch(link);
	link->shard->worker->retry_soon = true;
}

/* ATTACH and FIND are of no operation that exists, so they have a window of their own. */
static bool is_of_question(const struct kvi_message *answer)
{
	return answer->type == KVI_MESSAGE_ATTACHED || answer->type == KVI_MESSAGE_FOUND ||
	       answer->type == KVI_MESSAGE_NO_EXPORT;
}

static void free_first_queued(struct kvi_link *link)
{
	struct queued *queued =
		kvi_container_of(kvi_list_take_first(&link->queue), struct queued, node);
	const struct kvi_view *data = kvi_message_get_data(&queued->message);
	if (data != NULL)
		link->queue_len -= data->len;
	link->questions_held -= is_of_question(&queued->message);
	kvi_free(queued);
}

/* ---- opening and closing ---- */

/* Its bytes are the index-th in the slab, where those to send are behind those to receive. */
static struct kvi_packet *init_packet(struct kvi_link *link, struct kvi_packet *packet,
				      size_t index)
{
	packet->link = link;
	packet->bytes = link->slab + index * link->packet_len;
	packet->post.op.context = &packet->post;
	packet->post.on_done = index < KVI_RX_COUNT ? on_received : on_sent;
	kvi_list_init(&packet->node);
	return packet;
}

/* What is not touched takes no memory, so there is room for all packets from the beginning. */
static enum kvt_err make_packets(struct kvi_link *link, struct kvt_error *error)
{
	link->packet_len = KVI_MESSAGE_OVERHEAD + link->conn->engine->settings.eager_len +
			   kvi_packet_sum_get_len(link->conn);
	link->send_len = KVI_MESSAGE_OVERHEAD + link->conn->eager_len;
	size_t len = 2 * KVI_RX_COUNT * link->packet_len;
	link->slab = kvi_alloc_data(len);
	link->packets = kvi_alloc_array(KVI_RX_COUNT, sizeof(link->packets[0]));
	if (link->slab == NULL || link->packets == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for the packets of a lane");
	if (!kvi_conn_get_caps(link->conn)->local_memory)
		return KVT_OK;
	return kvi_memory_open(link->cq, link->slab, len, KVI_ACCESS_LOCAL, kvi_conn_make_key(),
			       &link->memory, error);
}

/* A packet to send, made with all others when the first is wanted. False: there is none. */
static bool has_packet(struct kvi_link *link)
{
	if (link->sends == NULL) {
		link->sends = kvi_alloc_array(KVI_RX_COUNT, sizeof(link->sends[0]));
		for (size_t i = 0; link->sends != NULL && i < KVI_RX_COUNT; i++)
			kvi_list_append(
				&link->free_packets,
				&init_packet(link, &link->sends[i], KVI_RX_COUNT + i)->node);
		if (link->sends == NULL)
			kvi_link_retry(link);
	}
	return !kvi_list_is_empty(&link->free_packets);
}

bool kvi_link_make_segments(struct kvi_link *link)
{
	if (link->segments != NULL)
		return true;
	link->segments = kvi_alloc_array(KVI_SEGMENTS, sizeof(link->segments[0]));
	if (link->segments == NULL) {
		kvi_link_retry(link);
		return false;
	}
	for (unsigned i = 0; i < KVI_SEGMENTS; i++) {
		link->segments[i].link = link;
		kvi_list_append(&link->free_segments, &link->segments[i].node);
	}
	return true;
}

/* One more receive, as far as there are more. */
static bool add_receive(struct kvi_link *link)
{
	unsigned i = link->receive_count;
	if (i == KVI_RX_COUNT)
		return true;
	link->receive_count++;
	return post_receive(link, init_packet(link, &link->packets[i], i));
}

static bool post_receives(struct kvi_link *link)
{
	bool holds = kvi_conn_get_caps(link->conn)->holds_messages;
	while (link->receive_count < (holds ? IDLE_RECEIVES : KVI_RX_COUNT))
		if (!add_receive(link))
			return false;
	return true;
}

enum kvt_err kvi_link_open(struct kvi_link *link, const uint8_t *address, size_t address_len,
			   struct kvi_lane_request *request, struct kvt_error *error)
{
	struct kvi_lane_hello hello = { .index = (uint16_t)link->index };
	uint8_t data[KVI_LANE_HELLO_LEN];
	memcpy(hello.session, link->conn->session_id, sizeof(hello.session));
	kvi_secrets_get_token(link->conn->secrets, hello.index, hello.token);
	kvi_lane_hello_encode(&hello, data);

	enum kvt_err err = make_packets(link, error);
	if (err != KVT_OK)
		goto err_free;
	err = kvi_lane_open(link->cq, address, address_len, request, link, &link->lane, error);
	if (err != KVT_OK)
		goto err_free;
	if (!post_receives(link)) {
		err = kvi_fail(error, KVT_E_FABRIC, 0, "cannot post receives on a new lane");
		goto err_close;
	}
	err = kvi_lane_connect(link->lane, data, request == NULL ? sizeof(data) : 0, error);
	if (err != KVT_OK)
		goto err_close;
	kvi_shard_add_link(link->shard, &link->node, link->rail);
	link->shard->worker->connecting++;
	kvi_wake(&link->shard->worker->wake);
	return KVT_OK;

err_close:
	/* The posted receives are handed out by the next progress, so the packets live until
	 * kvi_link_free(). */
	kvi_lane_close(link->lane);
	link->lane = NULL;
	kvi_shard_add_link(link->shard, &link->node, link->rail);
	link->connected = true;
	return err;
err_free:
	if (request != NULL)
		kvi_lane_request_reject(request);
	kvi_link_free(link);
	return err;
}

void kvi_link_close(struct kvi_link *link)
{
	if (link->lane == NULL)
		return;
	if (!link->connected)
		link->shard->worker->connecting--;
	kvi_lane_close(link->lane);
	link->lane = NULL;
}

void kvi_link_free(struct kvi_link *link)
{
	while (!kvi_list_is_empty(&link->queue))
		free_first_queued(link);
	link->queue_count = 0;
	link->filling = NULL;
	link->filling_len = 0;
	link->filling_count = 0;
	kvi_shard_remove_link(link->shard, &link->node, link->rail);
	kvi_memory_close(link->memory);
	link->memory = NULL;
	kvi_list_init(&link->untaken);
	kvi_free(link->packets);
	link->packets = NULL;
	link->receive_count = 0;
	kvi_list_init(&link->free_packets);
	kvi_free(link->sends);
	link->sends = NULL;
	kvi_list_init(&link->free_segments);
	kvi_free(link->segments);
	link->segments = NULL;
	kvi_free(link->slab);
	link->slab = NULL;
	link->poster->free(link);
}

void kvi_link_on_event(struct kvi_link *link, const struct kvi_lane_event *event)
{
	bool was_connected = link->connected;
	if (!was_connected) {
		link->connected = true;
		link->shard->worker->connecting--;
	}
	if (event->kind == KVI_LANE_CONNECTED) {
		kvi_lane_get_flow(link->lane, &link->flow);
		kvi_conn_on_lane_connected(link->conn);
	} else if (event->provider_errno == EFAULT) {
		kvi_link_fail(link, KVT_E_FABRIC, EFAULT, "what the peer asked for");
	} else if (was_connected && !kvi_trial_fail(link->conn, event->provider_errno, NULL)) {
		kvi_conn_fail(link->conn, KVT_E_PEER_LOST, event->provider_errno,
			      "lane %u was shut down by the peer", link->index);
	} else {
		kvi_link_fail_unconnected(link, event->provider_errno);
	}
}

void kvi_link_fail_unconnected(struct kvi_link *link, int provider_errno)
{
	if (kvi_trial_fail(link->conn, provider_errno, NULL))
		return;
	if (link->conn->peer_lanes == NULL) {
		kvi_conn_fail(link->conn, KVT_E_UNREACHABLE, provider_errno,
			      "lane %u could not be connected", link->index);
		return;
	}
	const struct kvi_wire_address *to = kvi_conn_get_lane_address(link->conn, link->index);
	char address[KVI_ADDRESS_TEXT_LEN];
	kvi_address_print(to->address, to->len, address);
	bool one_host = kvi_conn_get_caps(link->conn)->one_host;
	/* It was all that both have, and is none: not a matter of trying again. */
	bool is_none = one_host && link->conn->engine->network.count > 0;
	kvi_conn_fail(link->conn, is_none ? KVT_E_NO_PROVIDER : KVT_E_UNREACHABLE, provider_errno,
		      "lane %u, to %s: %s%s", link->index, address,
		      provider_errno != 0 ? strerror(provider_errno) : "no answer in time",
		      one_host ? ". Both have to be in one network namespace, and of one user, or "
				 "have another provider in common"
			       : ". Lanes use ports of their own: open them in the firewall "
				 "(lane_ports of the engine there)");
}

/* ---- receiving ---- */

/* Take a message, the only or the first or a further one of its packet. */
static enum kvt_err take_message(struct kvi_link *link, const struct kvi_message *message,
				 bool is_first, bool is_last)
{
	bool is_credit = message->type == KVI_MESSAGE_CREDIT;
	if ((!is_first && (is_credit || message->credits != 0 || message->window != 0)) ||
	    (is_credit && !is_last) || !kvi_message_fits_sums(link->conn, message))
		return KVT_E_PROTOCOL;
	link->send_credits += message->credits;
	link->window_left += message->window;
	if (link->note_lacks_window)
		link->note_saved += message->window;
	/* A peer that returns more than it was given would make these grow without end. */
	if (link->send_credits > link->conn->peer_rx_count || link->window_left > KVI_LANE_WINDOW)
		return KVT_E_PROTOCOL;
	if (message->window > 0)
		link->conn->engine->handlers->on_window(link);
	if (is_credit)
		return KVT_OK;
	/* Nor may it send more than it was given: that is memory of ours. */
	link->window_taken += kvi_message_get_own_charge(message);
	if (link->window_taken > KVI_LANE_WINDOW)
		return KVT_E_PROTOCOL;
	return link->conn->engine->handlers->take[message->type](link, message);
}

/* Take all messages of a packet. */
static enum kvt_err take_packet(struct kvi_link *link, const uint8_t *bytes, size_t len,
				bool *is_credit)
{
	enum kvt_err err;
	size_t used = 0, taken = 0;
	do {
		struct kvi_message message;
		err = kvi_message_decode(bytes + taken, len - taken, &message, &used);
		if (err == KVT_OK)
			err = take_message(link, &message, taken == 0, taken + used == len);
		taken += used;
		*is_credit = err == KVT_OK && message.type == KVI_MESSAGE_CREDIT;
	} while (err == KVT_OK && taken < len);
	return err;
}

/* Take a packet of len bytes, and post its receive again. */
static void take_in(struct kvi_link *link, struct kvi_packet *packet, size_t len)
{
	bool may_come = kvi_conn_has_path(link->conn), is_credit = false;
	if (may_come && !kvi_packet_open(link->conn, packet->bytes, &len))
		return;
	enum kvt_err err = may_come ? take_packet(link, packet->bytes, len, &is_credit)
				    : KVT_E_PROTOCOL;
	if (err != KVT_OK) {
		kvi_conn_fail(link->conn, err, 0, "the peer sent a message of %zu bytes that %s",
			      len,
			      err == KVT_E_PROTOCOL ? "is not of the protocol" : "cannot be taken");
		return;
	}
	if (post_receive(link, packet) && !is_credit)
		link->owed_credits++;
	kvi_link_touch(link);
}

void kvi_link_take_untaken(struct kvi_link *link)
{
	struct kvi_list *node;
	while (link->lane != NULL && (node = kvi_list_take_first(&link->untaken)) != NULL) {
		struct kvi_packet *packet = kvi_container_of(node, struct kvi_packet, node);
		take_in(link, packet, packet->len);
	}
}

static void on_received(struct kvi_post *post, const struct kvi_completion *completion)
{
	struct kvi_packet *packet = kvi_container_of(post, struct kvi_packet, post);
	struct kvi_link *link = packet->link;
	link->shard->posted--;
	if (link->lane == NULL)
		return;
	if (completion->err != KVT_OK) {
		kvi_link_fail(link, completion->err, completion->provider_errno, "a receive");
		return;
	}
	kvi_shard_count_moved(link->shard);
	if (kvi_list_is_empty(&link->untaken) && kvi_conn_has_room(link->conn)) {
		take_in(link, packet, completion->len);
	} else {
		packet->len = completion->len;
		kvi_list_append(&link->untaken, &packet->node);
	}
	/* Where much comes at a time more is to come, and an untaken packet is posted again later. */
	if (link->lane != NULL &&
	    (++link->came > link->receive_count / 2 || !kvi_list_is_empty(&link->untaken)))
		add_receive(link);
}

/* ---- sending ---- */

static bool has_room(struct kvi_link *link)
{
	return link->lane != NULL && link->send_credits > 0 && has_packet(link);
}

/* Append a message to the packet that is being filled; its first one carries what we owe. False: no space. */
static bool append(struct kvi_link *link, struct kvi_message *message)
{
	bool is_first = link->filling_len == 0;
	message->credits = is_first ? (uint16_t)link->owed_credits : 0;
	message->window = is_first ? link->owed_window : 0;
	size_t added = kvi_message_encode(message, link->filling->bytes + link->filling_len,
					  link->send_len - link->filling_len);
	if (is_first && added > 0) {
		link->owed_credits = 0;
		link->owed_window = 0;
	}
	link->filling_len += added;
	link->filling_count += added > 0;
	return added > 0;
}

/* Post the packet that was filled; small ones are copied by the provider and need no completion. False:
 * it stays, and is posted later, or the connection fails. */
static bool post_filled(struct kvi_link *link)
{
	struct kvi_packet *packet = link->filling;
	size_t len = kvi_packet_seal(link->conn, packet->bytes, link->filling_len);
	bool is_free = len <= kvi_conn_get_caps(link->conn)->inject_len;
	enum kvt_err err = is_free ? kvi_lane_inject(link->lane, packet->bytes, len)
				   : KVT_E_UNSUPPORTED;
	if (err == KVT_E_UNSUPPORTED) {
		is_free = false;
		err = kvi_lane_post_send(
			link->lane, &packet->post.op, packet->bytes, len, link->memory,
			link->posts++ % KVI_SIGNALLED_EACH == 0 ? KVI_SIGNALLED : KVI_UNSIGNALLED);
	}
	if (err != KVT_OK) {
		if (err == KVT_E_AGAIN)
			kvi_link_retry(link);
		else
			kvi_link_fail(link, err, 0, "a message");
		return false;
	}
	if (is_free)
		kvi_list_prepend(&link->free_packets, &packet->node);
	else
		link->shard->posted++;
	link->filling = NULL;
	link->filling_len = 0;
	link->filling_count = 0;
	return true;
}

static struct kvi_packet *take_free_packet(struct kvi_link *link)
{
	struct kvi_list *node = kvi_list_take_first(&link->free_packets);
	return kvi_container_of(node, struct kvi_packet, node);
}

/* Have a packet to fill. False: there is no room for another. */
static bool open_packet(struct kvi_link *link)
{
	if (link->filling != NULL)
		return true;
	if (!has_room(link))
		return false;
	link->filling = take_free_packet(link);
	link->send_credits--;
	return true;
}

/* Move the queued answers into the packet. False: not all of them fit. */
static bool append_answers(struct kvi_link *link)
{
	struct kvi_list *node;
	while ((node = kvi_list_get_first(&link->queue)) != NULL) {
		if (!append(link, &kvi_container_of(node, struct queued, node)->message))
			return false;
		free_first_queued(link);
		link->queue_count--;
	}
	link->queue_urgent = false;
	return true;
}

/* Post the packet that is being filled, and all answers. True when something was posted. */
static bool post_all(struct kvi_link *link)
{
	bool did = false, is_all = false;
	while (!is_all && (link->filling != NULL || !kvi_list_is_empty(&link->queue)) &&
	       open_packet(link)) {
		is_all = append_answers(link);
		if (!post_filled(link))
			break;
		did = true;
	}
	return did;
}

size_t kvi_link_get_room(const struct kvi_link *link)
{
	return link->send_len - KVI_ANSWER_FIXED_LEN;
}

bool kvi_link_try_send(struct kvi_link *link, struct kvi_message *message)
{
	uint32_t charge = kvi_message_get_own_charge(message);
	if (charge > link->window_left) {
		link->note_lacks_window = true; /* no send comes here without */
		return false;
	}
	/* Answers go first, in packets of their own where they take the space that the message needs. */
	while (open_packet(link)) {
		if (append_answers(link) && append(link, message)) {
			link->window_left -= charge;
			if (charge > 0 && message->type != KVI_MESSAGE_EAGER)
				link->note_saved = 0; /* it was for this one */
			return true;
		}
		if (!post_filled(link))
			break;
	}
	return false;
}

void kvi_link_send(struct kvi_link *link, struct kvi_message *message)
{
	if (link->lane == NULL)
		return;
	struct kvi_view *data = kvi_message_get_data(message);
	size_t data_len = data == NULL ? 0 : data->len;
	if (link->queue_count >= QUEUE_MAX || link->queue_len + data_len > QUEUE_LEN_MAX) {
		kvi_conn_fail(link->conn, KVT_E_LIMIT, 0,
			      "the peer does not take what it is told: %u answers wait for lane %u",
			      link->queue_count, link->index);
		return;
	}
	if (is_of_question(message) && link->questions_held == KVI_QUESTIONS_MAX) {
		kvi_conn_fail(link->conn, KVT_E_PROTOCOL, 0,
			      "the peer asks on and takes no answers: %u wait for lane %u",
			      link->questions_held, link->index);
		return;
	}
	/* All of it is written below. */
	struct queued *queued = kvi_alloc_data(sizeof(*queued) + data_len);
	if (queued == NULL) {
		kvi_conn_fail(link->conn, KVT_E_NO_MEMORY, 0, "no memory for an answer");
		return;
	}
	memcpy(&queued->message, message, kvi_message_get_used_len(message));
	if (data_len > 0)
		kvi_message_get_data(&queued->message)->bytes =
			memcpy(queued->data, data->bytes, data_len);
	link->queue_len += data_len;
	kvi_list_append(&link->queue, &queued->node);
	link->queue_count++;
	link->questions_held += is_of_question(message);
	link->queue_urgent |= message->type != KVI_MESSAGE_ACK || link->queue_count >= LAZY_MAX;
	kvi_link_touch(link);
}

void kvi_link_send_now(struct kvi_link *link, struct kvi_message *message)
{
	kvi_link_send(link, message);
	post_all(link);
}

void kvi_link_send_unlocked(struct kvi_link *link, struct kvi_message *message)
{
	struct kvi_worker *worker = link->shard->worker;
	kvi_worker_lock(worker);
	kvi_link_send(link, message);
	kvi_worker_flush_unlock(worker);
}

void kvi_link_return_charge(struct kvi_link *link, uint32_t charge)
{
	link->owed_window += charge;
	link->window_taken -= charge;
	kvi_link_touch(link);
}

static void on_sent(struct kvi_post *post, const struct kvi_completion *completion)
{
	struct kvi_packet *packet = kvi_container_of(post, struct kvi_packet, post);
	struct kvi_link *link = packet->link;
	link->shard->posted--;
	kvi_list_prepend(&link->free_packets, &packet->node);
	if (link->lane == NULL)
		return;
	if (completion->err != KVT_OK)
		kvi_link_fail(link, completion->err, completion->provider_errno, "a message");
	kvi_link_touch(link);
}

static bool flush_credit(struct kvi_link *link)
{
	bool owes = link->owed_credits >= KVI_RX_COUNT / 2 ||
		    link->owed_window >= KVI_LANE_WINDOW / 4;
	if (!owes || link->filling != NULL || !has_packet(link))
		return false;
	/* It needs no credit, so it may go when no other packet may; and it goes alone. */
	struct kvi_message message = { .type = KVI_MESSAGE_CREDIT };
	link->filling = take_free_packet(link);
	append(link, &message);
	if (post_filled(link))
		return true;
	link->owed_credits = message.credits;
	link->owed_window = message.window;
	kvi_list_prepend(&link->free_packets, &link->filling->node);
	link->filling = NULL;
	link->filling_len = 0;
	link->filling_count = 0;
	return false;
}

void kvi_link_await_room(struct kvi_link *link, struct kvi_waiter *waiter)
{
	struct kvi_list *queue = waiter->needs_window ? &link->waiting_notes : &link->waiting;
	bool alone = kvi_list_is_empty(queue);
	kvi_list_append(queue, &waiter->node);
	if (alone)
		waiter->begin(waiter);
	kvi_link_touch(link);
}

static bool begin_first(struct kvi_list *queue)
{
	struct kvi_list *node = kvi_list_get_first(queue);
	if (node == NULL)
		return false;
	struct kvi_waiter *waiter = kvi_container_of(node, struct kvi_waiter, node);
	return waiter->begin(waiter);
}

/* The two queues take turns; one that has no room does not stop the other. */
static bool begin_waiting(struct kvi_link *link)
{
	bool did = false, began;
	const uint64_t saved = link->note_saved;
	do {
		if (kvi_list_is_empty(&link->waiting_notes)) {
			link->note_lacks_window = false;
			link->note_saved = 0;
		}
		began = begin_first(&link->waiting);
		link->note_lacks_window = false;
		began |= begin_first(&link->waiting_notes);
		did |= began;
	} while (began);
	if (link->note_saved < saved)
		link->conn->engine->handlers->on_window(link);
	return did;
}

/* Whether the packet that is being filled had better wait for more messages: the peer has not taken several
 * packets yet, so another one would not be looked at soon. It has enough when the peer, with what is on the
 * way, would be busy while the next one is filled: all in one packet, both sides would take turns. */
static bool should_gather(const struct kvi_link *link)
{
	unsigned enough = link->eager_sends / 2;
	if (enough < GATHER_MIN)
		enough = GATHER_MIN;
	if (enough > GATHER_MAX)
		enough = GATHER_MAX;
	return link->filling != NULL && link->filling_count < enough &&
	       link->send_credits + BUSY_PACKETS + 2 <= link->conn->peer_rx_count;
}

bool kvi_link_flush(struct kvi_link *link, unsigned how)
{
	link->came = 0;
	if (link->lane == NULL || !link->connected)
		return false;
	bool did = begin_waiting(link);
	did |= kvi_chores_run(&link->chores);
	bool holds = (how & KVI_FLUSH_HOLD) != 0;
	bool gathers = (how & KVI_FLUSH_GATHER) || (holds && link->eager_sends >= GATHER_MIN);
	if (gathers && should_gather(link)) {
		kvi_link_touch(link);
		kvi_worker_leave_posting(link->shard->worker);
		return did;
	}
	/* A single ACK is of no stream: it can travel with an answer of the application only. */
	bool is_lazy = (how & KVI_FLUSH_LAZILY) || (holds && link->queue_count > 1);
	if (!is_lazy || link->queue_urgent || link->filling != NULL)
		did |= post_all(link);
	return flush_credit(link) || did;
}
