/* SPDX-License-Identifier: Apache-2.0 */
/*
 * put.c - records into our ring: those of posted operations, in order, and answers to reads of the peer's.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/copy.h"
#include "fabric/local/local.h"

enum {
	RECORD_LEN_MAX = sizeof(struct kvi_record) + KVI_SPANS_MAX * sizeof(struct kvi_record_span)
};

void kvi_local_wake_peer(struct kvi_local_lane *lane, uint32_t what)
{
	static const uint8_t byte;
	/* Behind what was published: the other side says that it sleeps, and then looks once more. */
	atomic_thread_fence(memory_order_seq_cst);
	_Atomic(uint32_t) *asleep = &lane->ring.other->asleep;
	if ((atomic_load_explicit(asleep, memory_order_relaxed) & what) == 0 ||
	    atomic_exchange(asleep, 0) == 0 || !kvi_local_lane_has_socket(lane))
		return;
	ssize_t ret = send(lane->socket, &byte, sizeof(byte), MSG_DONTWAIT | MSG_NOSIGNAL);
	(void)ret; /* full: it has been woken. Ended: our own side of it tells */
}

static void put_spans(const struct kvi_local_op *op, struct kvi_record_span *spans)
{
	for (unsigned i = 0; i < op->count; i++)
		spans[i] = (struct kvi_record_span){
			.address = op->spans[i].remote.address,
			.key = op->spans[i].remote.key,
			.len = op->spans[i].len,
			.source = op->sources[i],
		};
}

/* False: there is no room yet. */
static bool put_record(struct kvi_local_lane *lane, struct kvi_local_op *op, size_t *room)
{
	struct {
		struct kvi_record record;
		struct kvi_record_span spans[KVI_SPANS_MAX];
	} whole;
	bool has_spans = op->kind != KVI_RECORD_SEND && op->kind != KVI_RECORD_ANSWER;
	whole.record = (struct kvi_record){
		.kind = op->kind,
		.count = has_spans ? op->count : 0,
		.len = op->len,
	};
	size_t len = sizeof(whole.record) + whole.record.count * sizeof(whole.spans[0]);
	if (*room < len)
		return false;
	if (has_spans)
		put_spans(op, whole.spans);
	memcpy(kvi_ring_get_out(&lane->ring), &whole, len);
	kvi_ring_put(&lane->ring, len);
	*room -= len;
	op->is_begun = true;
	return true;
}

/* The registration that an answer reads is still there; held until the bytes are copied. */
static bool may_answer(struct kvi_local_lane *lane, const struct kvi_local_op *op)
{
	for (unsigned i = 0; i < op->count; i++) {
		struct kvi_record_span span = { .address = op->spans[i].remote.address,
						.key = op->spans[i].remote.key,
						.len = op->spans[i].len };
		if (kvi_local_memory_find(lane->cq, &span, KVI_ACCESS_REMOTE_READ) == NULL)
			return false;
	}
	return true;
}

/* Out of memory of the application's, which may not be there, or of what was shared, which cannot vanish. 0 or an errno. */
static int copy_out(struct kvi_local_lane *lane, const void *from, size_t len)
{
	if (!kvi_local_is_shared(lane->cq->rail, from, len))
		return kvi_ring_fill(&lane->ring, from, len);
	kvi_copy(kvi_ring_get_out(&lane->ring), from, len);
	return 0;
}

/* A piece of an op's bytes: messages are the engine's own, other memory the application's. 0 or an errno. */
static int copy_piece(struct kvi_local_lane *lane, struct kvi_local_op *op, const void *from,
		      size_t len)
{
	if (op->kind == KVI_RECORD_SEND) {
		kvi_copy(kvi_ring_get_out(&lane->ring), from, len);
		return 0;
	}
	if (op->kind == KVI_RECORD_WRITE)
		return copy_out(lane, from, len);
	pthread_mutex_lock(&lane->cq->memory_lock);
	int err = may_answer(lane, op) ? copy_out(lane, from, len) : EACCES;
	pthread_mutex_unlock(&lane->cq->memory_lock);
	return err;
}

static bool has_bytes(const struct kvi_local_op *op)
{
	return op->kind == KVI_RECORD_SEND || op->kind == KVI_RECORD_WRITE ||
	       op->kind == KVI_RECORD_ANSWER;
}

/* Its bytes, and the padding behind them, as far as there is room. 0 or an errno. */
static int put_bytes(struct kvi_local_lane *lane, struct kvi_local_op *op, size_t *room)
{
	size_t all = has_bytes(op) ? (size_t)kvi_record_pad(op->len) : 0;
	while (*room > 0 && op->moved < all) {
		struct kvi_local_piece piece = kvi_local_op_get_piece(op);
		size_t len = op->moved < op->len ? piece.len : all - op->moved;
		if (len > *room)
			len = *room;
		int err = op->moved < op->len ? copy_piece(lane, op, piece.to, len) : 0;
		if (err != 0)
			return err;
		kvi_ring_put(&lane->ring, len);
		op->moved += len;
		*room -= len;
	}
	return 0;
}

static bool is_put(const struct kvi_local_op *op)
{
	return op->is_begun && (!has_bytes(op) || op->moved == kvi_record_pad(op->len));
}

/* All of it is in the ring: what becomes of it now. */
static void pass_on(struct kvi_local_lane *lane, struct kvi_local_op *op)
{
	if (op->kind == KVI_RECORD_SEND ||
	    (op->kind >= KVI_RECORD_GRANT_PULL && op->kind <= KVI_RECORD_ANSWER)) {
		kvi_local_op_finish(op, KVT_OK, 0);
		return;
	}
	op->moved = 0; /* of a read, now the other way */
	kvi_list_remove(&op->node);
	if (op->kind == KVI_RECORD_READ) {
		kvi_list_append(&lane->asked, &op->node);
		return;
	}
	kvi_list_append(&lane->awaited, &op->node);
	lane->awaited_count++;
}

bool kvi_local_put(struct kvi_local_lane *lane)
{
	size_t room;
	struct kvi_list *node;
	if (kvi_list_is_empty(&lane->unput))
		return false;
	if (!kvi_ring_get_room(&lane->ring, KVI_RING_LEN, &room)) {
		kvi_local_lane_lose(lane, KVT_E_PEER_LOST, EPROTO);
		return true;
	}
	uint64_t before = lane->ring.put;
	while ((node = kvi_list_get_first(&lane->unput)) != NULL) {
		struct kvi_local_op *op = kvi_container_of(node, struct kvi_local_op, node);
		if (!op->is_begun && !put_record(lane, op, &room))
			break;
		int err = put_bytes(lane, op, &room);
		if (err != 0) {
			kvi_local_lane_lose(lane, KVT_E_FABRIC, err);
			return true;
		}
		if (!is_put(op))
			break;
		pass_on(lane, op);
	}
	if (lane->ring.put == before)
		return false;
	kvi_local_wake_peer(lane, KVI_WAKE_RECORDS);
	return true;
}

bool kvi_local_can_put(struct kvi_local_lane *lane)
{
	size_t room;
	struct kvi_list *node = kvi_list_get_first(&lane->unput);
	if (!kvi_ring_get_room(&lane->ring, KVI_RING_LEN, &room))
		return true; /* and finds it out */
	if (lane->waits_for_room && room >= RECORD_LEN_MAX + KVI_LOCAL_INJECT_LEN)
		return true;
	if (node == NULL)
		return false;
	return room >=
	       (kvi_container_of(node, struct kvi_local_op, node)->is_begun ? 1 : RECORD_LEN_MAX);
}

bool kvi_local_put_now(struct kvi_local_lane *lane, const void *bytes, size_t len)
{
	size_t room;
	struct kvi_record record = { .kind = KVI_RECORD_SEND, .len = len };
	size_t all = sizeof(record) + (size_t)kvi_record_pad(len);
	if (!kvi_list_is_empty(&lane->unput) || !kvi_ring_get_room(&lane->ring, all, &room) ||
	    room < all)
		return false;
	uint8_t *out = kvi_ring_get_out(&lane->ring);
	memcpy(out, &record, sizeof(record));
	kvi_copy(out + sizeof(record), bytes, len);
	kvi_ring_put(&lane->ring, all);
	kvi_local_wake_peer(lane, KVI_WAKE_RECORDS);
	return true;
}
