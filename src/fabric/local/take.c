/* SPDX-License-Identifier: Apache-2.0 */
/*
 * take.c - what comes in the peer's ring. It may be anything: a record is copied out, then checked, and one that
 * is wrong ends the lane. A message waits in the ring until there is a receive for it, and what is behind waits too.
 */
#include <errno.h>
#include <string.h>

#include "base/copy.h"
#include "fabric/local/local.h"

enum { TURN_LEN = 1024 * 1024, TURN_RECORDS = 128 }; /* so that others have their turn */

/* How a step ended. */
enum step {
	STEP_DONE,   /* all of the record */
	STEP_MOVED,  /* some of it, and there may be more */
	STEP_WAITS,  /* for the peer, or for a receive */
	STEP_BROKEN, /* the lane is lost */
};

static enum step break_lane(struct kvi_local_lane *lane, int err)
{
	kvi_local_lane_lose(lane, err == EFAULT || err == EACCES ? KVT_E_FABRIC : KVT_E_PEER_LOST,
			    err);
	return STEP_BROKEN;
}

/* ---- checking ---- */

/* The figures of a record, as copied. */
static bool check_record(const struct kvi_local_incoming *incoming)
{
	const struct kvi_record *record = &incoming->record;
	bool has_spans = record->kind >= KVI_RECORD_WRITE && record->kind <= KVI_RECORD_GRANT_MAP;
	uint64_t sum = 0;
	if (record->len > KVI_LOCAL_SEGMENT_LEN)
		return false;
	if (!has_spans)
		return (record->kind == KVI_RECORD_SEND || record->kind == KVI_RECORD_ANSWER) &&
		       record->count == 0;
	for (unsigned i = 0; i < record->count; i++) {
		if (incoming->spans[i].len > record->len - sum)
			return false;
		sum += incoming->spans[i].len;
	}
	return sum == record->len;
}

/* Copy the next record out of the ring. False: there is none, or what there is cannot be right. */
static bool read_record(struct kvi_local_lane *lane, size_t filled, bool *is_wrong)
{
	struct kvi_local_incoming *incoming = &lane->incoming;
	const uint8_t *in = kvi_ring_get_in(&lane->ring);
	*is_wrong = false;
	if (filled == 0)
		return false;
	*is_wrong = true; /* a record is put at once */
	if (filled < sizeof(incoming->record))
		return false;
	memcpy(&incoming->record, in, sizeof(incoming->record));
	if (incoming->record.count > KVI_SPANS_MAX)
		return false;
	size_t spans_len = incoming->record.count * sizeof(incoming->spans[0]);
	if (filled < sizeof(incoming->record) + spans_len)
		return false;
	memcpy(incoming->spans, in + sizeof(incoming->record), spans_len);
	if (!check_record(incoming))
		return false;
	*is_wrong = false;
	incoming->is_begun = true;
	incoming->moved = 0;
	kvi_ring_take(&lane->ring, sizeof(incoming->record) + spans_len);
	return true;
}

/* ---- bytes in the ring ---- */

/* Into to, or, with to NULL, past the padding. */
static int take_bytes(struct kvi_local_lane *lane, void *to, size_t len)
{
	bool is_message = lane->incoming.record.kind == KVI_RECORD_SEND;
	int err = 0;
	if (to != NULL && (is_message || kvi_local_is_shared(lane->cq->rail, to, len)))
		kvi_copy(to, kvi_ring_get_in(&lane->ring), len);
	else if (to != NULL)
		err = kvi_ring_empty(&lane->ring, to, len);
	if (err == 0) {
		kvi_ring_take(&lane->ring, len);
		lane->incoming.moved += len;
	}
	return err;
}

/* As many bytes of the record as have come, to one piece of their place, or of the padding. */
static enum step take_piece(struct kvi_local_lane *lane, struct kvi_local_piece place,
			    size_t filled)
{
	struct kvi_local_incoming *incoming = &lane->incoming;
	size_t all = (size_t)kvi_record_pad(incoming->record.len);
	bool is_padding = incoming->moved >= incoming->record.len;
	size_t len = is_padding ? all - incoming->moved : place.len;
	if (incoming->moved == all)
		return STEP_DONE;
	if (filled == 0)
		return STEP_WAITS;
	if (len > filled)
		len = filled;
	int err = take_bytes(lane, is_padding ? NULL : place.to, len);
	if (err != 0)
		return break_lane(lane, err);
	return incoming->moved == all ? STEP_DONE : STEP_MOVED;
}

static enum step take_message(struct kvi_local_lane *lane, size_t filled)
{
	struct kvi_local_incoming *incoming = &lane->incoming;
	struct kvi_list *node = kvi_list_get_first(&lane->receives);
	if (node == NULL)
		return STEP_WAITS;
	struct kvi_local_op *receive = kvi_container_of(node, struct kvi_local_op, node);
	if (incoming->record.len > receive->len)
		return break_lane(lane, EMSGSIZE);
	struct kvi_local_piece place = {
		.to = (uint8_t *)receive->spans[0].base + incoming->moved,
		.len = (size_t)incoming->record.len - incoming->moved,
	};
	enum step step = take_piece(lane, place, filled);
	if (step == STEP_DONE) {
		receive->completion.len = (size_t)incoming->record.len;
		kvi_local_op_finish(receive, KVT_OK, 0);
	}
	return step;
}

/* The read that is answered next; NULL: none is, or another. */
static struct kvi_local_op *get_asked(struct kvi_local_lane *lane)
{
	struct kvi_list *node = kvi_list_get_first(&lane->asked);
	struct kvi_local_op *read =
		node == NULL ? NULL : kvi_container_of(node, struct kvi_local_op, node);
	return read != NULL && read->len == lane->incoming.record.len ? read : NULL;
}

static enum step take_answer(struct kvi_local_lane *lane, size_t filled)
{
	struct kvi_local_op *read = get_asked(lane);
	if (read == NULL)
		return break_lane(lane, EPROTO);
	read->moved = lane->incoming.moved;
	enum step step = take_piece(lane, kvi_local_op_get_piece(read), filled);
	if (step == STEP_DONE)
		kvi_local_op_finish(read, KVT_OK, 0);
	return step;
}

static enum step take_grant(struct kvi_local_lane *lane, bool is_mapped)
{
	const struct kvi_local_incoming *incoming = &lane->incoming;
	struct kvi_local_op *read = get_asked(lane);
	bool is_right = read != NULL && read->count == incoming->record.count;
	for (unsigned i = 0; is_right && i < read->count; i++) {
		is_right = read->spans[i].len == incoming->spans[i].len;
		read->sources[i] = incoming->spans[i].source;
	}
	if (!is_right)
		return break_lane(lane, EPROTO);
	read->is_mapped = is_mapped;
	kvi_list_remove(&read->node);
	kvi_list_append(&lane->granted, &read->node);
	return STEP_DONE;
}

/* ---- what goes to registered memory, or comes from it ---- */

/* The place of what is at moved: from there to the end of its span; NULL: the peer may not use it so. Under the
 * memory's lock. */
static struct kvi_local_piece find_place(struct kvi_local_lane *lane)
{
	struct kvi_local_incoming *incoming = &lane->incoming;
	size_t offset = incoming->moved;
	for (unsigned i = 0; i < incoming->record.count; i++) {
		const struct kvi_record_span *span = &incoming->spans[i];
		if (offset >= span->len) {
			offset -= (size_t)span->len;
			continue;
		}
		uint8_t *bytes = kvi_local_memory_find(lane->cq, span, KVI_ACCESS_REMOTE_WRITE);
		return (struct kvi_local_piece){ bytes == NULL ? NULL : bytes + offset,
						 (size_t)span->len - offset,
						 span->source + offset };
	}
	return (struct kvi_local_piece){ .to = NULL };
}

static bool may_write_all(struct kvi_local_lane *lane)
{
	const struct kvi_local_incoming *incoming = &lane->incoming;
	for (unsigned i = 0; i < incoming->record.count; i++)
		if (kvi_local_memory_find(lane->cq, &incoming->spans[i], KVI_ACCESS_REMOTE_WRITE) ==
		    NULL)
			return false;
	return true;
}

static enum step take_write(struct kvi_local_lane *lane, size_t filled)
{
	pthread_mutex_lock(&lane->cq->memory_lock);
	enum step step;
	if (may_write_all(lane))
		step = take_piece(lane, find_place(lane), filled);
	else
		step = break_lane(lane, EACCES);
	pthread_mutex_unlock(&lane->cq->memory_lock);
	return step;
}

/* One chunk of a write whose bytes are in the peer's memory. */
static int pull_chunk(struct kvi_local_lane *lane, bool is_mapped)
{
	struct kvi_local_incoming *incoming = &lane->incoming;
	struct kvi_local_piece pieces[KVI_SPANS_MAX];
	size_t count = 0, left = KVI_LOCAL_CHUNK_LEN;
	while (count < KVI_SPANS_MAX && left > 0 && incoming->moved < incoming->record.len) {
		pieces[count] = find_place(lane);
		if (pieces[count].len > left)
			pieces[count].len = left;
		left -= pieces[count].len;
		incoming->moved += pieces[count++].len;
	}
	return count == 0 ? 0 : kvi_local_pull(lane, pieces, count, is_mapped);
}

static enum step take_pulled_write(struct kvi_local_lane *lane, bool is_mapped)
{
	pthread_mutex_lock(&lane->cq->memory_lock);
	int err = may_write_all(lane) ? pull_chunk(lane, is_mapped) : EACCES;
	pthread_mutex_unlock(&lane->cq->memory_lock);
	if (err != 0)
		return break_lane(lane, err);
	return lane->incoming.moved == lane->incoming.record.len ? STEP_DONE : STEP_MOVED;
}

/* What a read wants, in our memory. False: it may not have all of it. Under the memory's lock. */
static bool find_all(struct kvi_local_lane *lane, struct kvi_local_op *answer)
{
	const struct kvi_local_incoming *incoming = &lane->incoming;
	for (unsigned i = 0; i < incoming->record.count; i++) {
		const struct kvi_record_span *span = &incoming->spans[i];
		uint8_t *bytes = kvi_local_memory_find(lane->cq, span, KVI_ACCESS_REMOTE_READ);
		if (bytes == NULL)
			return false;
		answer->spans[i] = (struct kvi_span){
			.base = bytes,
			.len = (size_t)span->len,
			.remote = { span->address, span->key },
		};
	}
	return true;
}

/* How the reader gets the bytes. */
static enum kvi_record_kind choose_answer(struct kvi_local_lane *lane, struct kvi_local_op *answer)
{
	bool is_mapped = true;
	if (kvi_local_goes_along(lane, answer->spans, answer->count, answer->len))
		return KVI_RECORD_ANSWER;
	for (unsigned i = 0; i < answer->count && is_mapped; i++)
		is_mapped = kvi_local_point_out(lane, answer->spans[i].base, answer->spans[i].len,
						&answer->sources[i]);
	if (is_mapped)
		return KVI_RECORD_GRANT_MAP;
	for (unsigned i = 0; i < answer->count; i++)
		answer->sources[i] = (uintptr_t)answer->spans[i].base;
	return atomic_load(&lane->ring.other->pulls) != 0 ? KVI_RECORD_GRANT_PULL
							  : KVI_RECORD_ANSWER;
}

static enum step take_read(struct kvi_local_lane *lane)
{
	const struct kvi_record *record = &lane->incoming.record;
	if (lane->answer_count >= KVI_LOCAL_TX_COUNT)
		return break_lane(lane, EPROTO);
	struct kvi_local_op *answer = kvi_local_op_take(lane->cq);
	if (answer == NULL)
		return break_lane(lane, ENOMEM);
	answer->lane = lane;
	answer->count = record->count;
	answer->len = (size_t)record->len;
	pthread_mutex_lock(&lane->cq->memory_lock);
	bool may_read = find_all(lane, answer);
	if (may_read)
		answer->kind = choose_answer(lane, answer);
	pthread_mutex_unlock(&lane->cq->memory_lock);
	if (!may_read) {
		kvi_local_op_give(lane->cq, answer);
		return break_lane(lane, EACCES);
	}
	lane->answer_count++;
	kvi_list_append(&lane->unput, &answer->node);
	return STEP_DONE;
}

static enum step take_step(struct kvi_local_lane *lane, size_t filled)
{
	enum step step;
	switch (lane->incoming.record.kind) {
	case KVI_RECORD_SEND:
		return take_message(lane, filled);
	case KVI_RECORD_READ:
		return take_read(lane);
	case KVI_RECORD_ANSWER:
		return take_answer(lane, filled);
	case KVI_RECORD_GRANT_PULL:
	case KVI_RECORD_GRANT_MAP:
		return take_grant(lane, lane->incoming.record.kind == KVI_RECORD_GRANT_MAP);
	case KVI_RECORD_WRITE:
		step = take_write(lane, filled);
		break;
	default:
		step = take_pulled_write(lane, lane->incoming.record.kind == KVI_RECORD_WRITE_MAP);
		break;
	}
	if (step == STEP_DONE)
		kvi_ring_count_done(&lane->ring);
	return step;
}

bool kvi_local_take(struct kvi_local_lane *lane)
{
	struct kvi_local_incoming *incoming = &lane->incoming;
	enum step step = STEP_DONE;
	size_t len = 0;
	bool did = false;
	for (unsigned records = 0; records < TURN_RECORDS && len < TURN_LEN;) {
		size_t filled;
		bool is_wrong = true;
		bool is_sane = kvi_ring_get_filled(&lane->ring, &filled);
		if (is_sane && !incoming->is_begun && read_record(lane, filled, &is_wrong)) {
			did = true;
			continue;
		}
		if (!is_sane || (!incoming->is_begun && is_wrong))
			step = break_lane(lane, EPROTO);
		if (!is_sane || !incoming->is_begun)
			break;
		size_t before = incoming->moved;
		step = take_step(lane, filled);
		if (step == STEP_BROKEN || step == STEP_WAITS)
			break;
		did = true;
		len += incoming->moved - before;
		if (step == STEP_DONE) {
			incoming->is_begun = false;
			records++;
		}
	}
	if (step == STEP_BROKEN)
		return true;
	kvi_ring_tell_taken(&lane->ring);
	if (did)
		kvi_local_wake_peer(lane, KVI_WAKE_PROGRESS);
	return did;
}

bool kvi_local_can_take(struct kvi_local_lane *lane)
{
	size_t filled;
	const struct kvi_local_incoming *incoming = &lane->incoming;
	if (!kvi_ring_get_filled(&lane->ring, &filled))
		return true; /* and finds it out */
	if (!incoming->is_begun)
		return filled > 0;
	if (incoming->record.kind == KVI_RECORD_SEND && kvi_list_is_empty(&lane->receives))
		return false;
	return filled > 0 || incoming->record.kind == KVI_RECORD_WRITE_PULL ||
	       incoming->record.kind == KVI_RECORD_WRITE_MAP ||
	       incoming->moved == kvi_record_pad(incoming->record.len);
}
