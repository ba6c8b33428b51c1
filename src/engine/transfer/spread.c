/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spread.c - posting segments on free lanes, in turns, and knowing when a transfer has none left.
 */
#include "engine/transfer/spread.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "engine/core/conn.h"
#include "engine/core/engine.h"
#include "engine/lane/link.h"
#include "engine/progress/shard.h"
#include "engine/transfer/transfer.h"

enum {
	SEGMENT_LEN_MIN = 64 * 1024,
	/* How many shares that cannot use a lane now are passed over for one behind them that can. */
	PASSED_OVER_MAX = 4,
};

static void drop_stripe(struct kvi_stripe *stripe);
static bool is_exhausted(const struct kvi_stripe *stripe);

/* Where it waits for its turn. */
static struct kvi_list *get_queue(const struct kvi_stripe *stripe)
{
	return stripe->only != NULL ? &stripe->only->stripes : &stripe->shard->stripes;
}

/* Have the lanes that it may use look at it. */
static void touch_lanes(const struct kvi_stripe *stripe)
{
	if (stripe->only != NULL) {
		kvi_link_touch(stripe->only);
		return;
	}
	kvi_list_for_each (node, next_node, &stripe->shard->links)
		kvi_link_touch(kvi_container_of(node, struct kvi_link, node));
}

static void begin_stripe(struct kvi_worker *worker, struct kvi_command *command)
{
	(void)worker;
	struct kvi_stripe *stripe = kvi_container_of(command, struct kvi_stripe, begin);
	kvi_list_append(get_queue(stripe), &stripe->node);
	if (stripe->shard->severed)
		drop_stripe(
			stripe); /* the lanes here were severed before those of the transfer's worker */
	else
		touch_lanes(stripe);
}

size_t kvi_spread_get_segment_len(const struct kvt_conn *conn, size_t len, bool only_home)
{
	size_t max = kvi_conn_get_caps(conn)->max_segment_len;
	size_t best = KVI_SEGMENT_LEN < max ? KVI_SEGMENT_LEN : max;
	if (only_home)
		return best;
	size_t share = len / conn->lane_count;
	if (share < SEGMENT_LEN_MIN)
		share = SEGMENT_LEN_MIN;
	return share < best ? share : best;
}

static void run_ended(struct kvi_worker *worker, struct kvi_command *command)
{
	(void)worker;
	struct kvi_spread *spread = kvi_container_of(command, struct kvi_spread, ended);
	spread->source->on_ended(spread);
}

enum kvt_err kvi_spread_start(struct kvi_spread *spread, struct kvi_link *home, bool only_home)
{
	struct kvt_conn *conn = home->conn;
	struct kvi_worker *home_worker = home->shard->worker;
	unsigned count = 1;
	for (unsigned i = 0; !only_home && i < conn->engine->worker_count; i++)
		if (i != home_worker->index && !kvi_list_is_empty(&conn->shards[i].links))
			count++;
	spread->stripes = count == 1 ? &spread->single
				     : kvi_alloc_array(count, sizeof(struct kvi_stripe));
	if (spread->stripes == NULL)
		return KVT_E_NO_MEMORY;

	spread->stripe_count = count;
	spread->stopped = false;
	spread->ended.run = run_ended;
	atomic_store(&spread->exhausted, false);
	atomic_store(&spread->failed, false);
	atomic_store(&spread->active, count);

	struct kvi_stripe *stripe = spread->stripes;
	*stripe = (struct kvi_stripe){ .spread = spread,
				       .shard = home->shard,
				       .only = only_home ? home : NULL };
	kvi_list_init(&stripe->node);
	begin_stripe(home_worker, &stripe->begin);
	for (unsigned i = 0; count > 1 && i < conn->engine->worker_count; i++) {
		if (i == home_worker->index || kvi_list_is_empty(&conn->shards[i].links))
			continue;
		stripe++;
		*stripe = (struct kvi_stripe){ .spread = spread, .shard = &conn->shards[i] };
		kvi_list_init(&stripe->node);
		stripe->begin.run = begin_stripe;
		kvi_worker_push(conn->engine->workers[i], &stripe->begin);
	}
	return KVT_OK;
}

bool kvi_spread_is_active(const struct kvi_spread *spread)
{
	return spread->stripes != NULL;
}

uint64_t kvi_spread_finish(struct kvi_spread *spread)
{
	uint64_t total = 0;
	for (size_t i = 0; i < spread->stripe_count; i++)
		total += spread->stripes[i].total;
	if (spread->stripes != &spread->single)
		kvi_free(spread->stripes);
	spread->stripes = NULL;
	return total;
}

/* One that held the spread lets go of it; the last one reports. The stripes may be gone afterwards. */
static void leave(struct kvi_spread *spread, struct kvi_worker *worker)
{
	if (atomic_fetch_sub(&spread->active, 1) != 1)
		return;
	if (worker == spread->transfer->worker)
		spread->ended.run(worker, &spread->ended);
	else
		kvi_worker_push(spread->transfer->worker, &spread->ended);
}

/* This worker's share has ended. */
static void end_stripe(struct kvi_stripe *stripe)
{
	kvi_list_remove(&stripe->node);
	leave(stripe->spread, stripe->shard->worker);
}

static bool is_exhausted(const struct kvi_stripe *stripe)
{
	return atomic_load(&stripe->spread->exhausted);
}

/* ---- stopping ---- */

/* Nothing is left to take: have the lanes find it first, where it still waits for its turn. */
static void hurry(struct kvi_stripe *stripe)
{
	if (kvi_list_is_empty(&stripe->node))
		return;
	kvi_list_remove(&stripe->node);
	kvi_list_prepend(get_queue(stripe), &stripe->node);
	touch_lanes(stripe);
}

static void run_stripe_stop(struct kvi_worker *worker, struct kvi_command *command)
{
	struct kvi_stripe *stripe = kvi_container_of(command, struct kvi_stripe, stop);
	struct kvi_spread *spread = stripe->spread;
	hurry(stripe);
	leave(spread, worker);
}

/* Keep the spread from ending. False: its last share has ended. */
static bool hold(struct kvi_spread *spread)
{
	unsigned active = atomic_load(&spread->active);
	while (active > 0)
		if (atomic_compare_exchange_weak(&spread->active, &active, active + 1))
			return true;
	return false;
}

void kvi_spread_stop(struct kvi_spread *spread)
{
	if (!kvi_spread_is_active(spread) || spread->stopped)
		return;
	spread->stopped = true;
	atomic_store(&spread->exhausted, true);
	hurry(&spread->stripes[0]);
	for (size_t i = 1; i < spread->stripe_count && hold(spread); i++) {
		struct kvi_stripe *stripe = &spread->stripes[i];
		stripe->stop.run = run_stripe_stop;
		kvi_worker_push(stripe->shard->worker, &stripe->stop);
	}
}

/* ---- segments ---- */

bool kvi_link_may_write(const struct kvi_link *link)
{
	/* Half of what the provider takes is left to messages, but one write is always in order. */
	size_t half = kvi_conn_get_caps(link->conn)->tx_count / 2;
	return link->writes < KVI_WRITES_MAX && link->writes_len < link->flight.limit &&
	       (link->writes == 0 || link->writes < half);
}

/* Whether the provider has it, and will tell of its end. */
static bool is_posted(const struct kvi_segment *segment)
{
	return segment->kind != KVI_SEGMENT_READ_REQUEST && segment->kind != KVI_SEGMENT_SHOWN;
}

static size_t get_len(const struct kvi_segment *segment)
{
	size_t len = 0;
	if (segment->kind == KVI_SEGMENT_READ_REQUEST)
		return segment->asked_len;
	for (unsigned i = 0; i < segment->span_count; i++)
		len += segment->spans[i].len;
	return len;
}

size_t kvi_link_get_segment_len(const struct kvi_link *link, size_t max_len)
{
	size_t len = kvi_flight_get_segment_len(&link->flight);
	return len < max_len ? len : max_len;
}

/* Enter a segment that was taken, or take it out again. */
static void count(struct kvi_segment *segment, int sign)
{
	struct kvi_link *link = segment->link;
	if (segment->kind == KVI_SEGMENT_READ_REQUEST) {
		link->read_requests += (unsigned)sign;
		link->read_requests_len += (size_t)sign * get_len(segment);
		return;
	}
	link->writes += (unsigned)sign;
	link->writes_len += (size_t)sign * get_len(segment);
}

static void release_cargo(struct kvi_segment *segment)
{
	if (segment->cargo_kind != NULL)
		segment->cargo_kind->release(segment);
	segment->cargo_kind = NULL;
	segment->cargo = NULL;
}

static void give_back(struct kvi_segment *segment)
{
	release_cargo(segment);
	count(segment, -1);
	kvi_list_append(&segment->link->free_segments, &segment->node);
}

static void end_segment(struct kvi_segment *segment)
{
	struct kvi_stripe *stripe = segment->stripe;
	kvi_link_touch(segment->link);
	give_back(segment);
	stripe->posted--;
	if (stripe->posted == 0 && is_exhausted(stripe))
		end_stripe(stripe);
}

static const char *get_name(const struct kvi_segment *segment)
{
	return segment->kind == KVI_SEGMENT_READ ? "a read" : "a write";
}

/* It is on its way, with all that the lane has in flight. */
static void mark_posted(struct kvi_segment *segment)
{
	const struct kvi_link *link = segment->link;
	segment->ahead = segment->kind == KVI_SEGMENT_READ_REQUEST ? link->read_requests_len
								   : link->writes_len;
	segment->stripe->total++;
	/* As many of these as there may be are the least that a lane is given in any case: they tell nothing of it. */
	segment->posted_ns = get_len(segment) > KVI_FLIGHT_MIN / KVI_WRITES_MAX ? kvi_clock_now()
										: 0;
}

/* It is there: the lane has shown what it drains. */
static void learn(const struct kvi_segment *segment)
{
	if (segment->posted_ns == 0)
		return;
	struct kvi_flown flown = {
		.len = get_len(segment),
		.ahead = segment->ahead,
		.took_ns = kvi_worker_get_time(segment->link->shard->worker) - segment->posted_ns,
		.was_delivered = segment->is_delivered,
	};
	kvi_flight_learn(&segment->link->flight, &flown);
}

static void on_segment_done(struct kvi_post *post, const struct kvi_completion *completion)
{
	struct kvi_segment *segment = kvi_container_of(post, struct kvi_segment, post);
	struct kvi_link *link = segment->link;
	struct kvi_spread *spread = segment->stripe->spread;
	link->shard->posted--;
	if (completion->err != KVT_OK) {
		atomic_store(&spread->failed, true);
		atomic_store(&spread->exhausted, true);
		if (segment->awaits_ack && segment->cargo_kind->on_failed != NULL)
			segment->cargo_kind->on_failed(segment);
		segment->awaits_ack = false;
		if (completion->err != KVT_E_CANCELLED)
			kvi_link_fail(link, completion->err, completion->provider_errno,
				      get_name(segment));
	} else {
		kvi_shard_count_moved(link->shard);
		learn(segment);
		if (segment->cargo_kind != NULL && segment->cargo_kind->on_done != NULL)
			segment->cargo_kind->on_done(segment);
	}
	release_cargo(segment);
	if (!segment->awaits_ack)
		end_segment(segment);
}

void kvi_segment_on_ack(struct kvi_segment *segment)
{
	bool was_posted = is_posted(segment);
	/* Unpacked before the provider tells that it was written: the completion is on its way. */
	bool is_done = !was_posted || segment->cargo_kind == NULL;
	segment->awaits_ack = false;
	if (!was_posted)
		learn(segment);
	if (is_done)
		end_segment(segment);
}

static enum kvt_err post(struct kvi_segment *segment)
{
	struct kvi_lane *lane = segment->link->lane;
	/* A small one tells nothing of the lane, and what follows it should not wait for the peer. */
	segment->is_delivered = segment->kind != KVI_SEGMENT_ORDERED ||
				(!kvi_flight_is_quick(&segment->link->flight) &&
				 get_len(segment) >= KVI_FLIGHT_MIN);
	if (segment->kind == KVI_SEGMENT_READ)
		return kvi_lane_post_read(lane, &segment->post.op, segment->spans,
					  segment->span_count);
	return kvi_lane_post_write(lane, &segment->post.op, segment->spans, segment->span_count,
				   segment->is_delivered ? KVI_DELIVERED : KVI_POSTED);
}

/* A share with nothing left to take leaves the queue; its last segment is posted, or none was. */
static void retire(struct kvi_stripe *stripe)
{
	struct kvi_spread *spread = stripe->spread;
	/* Else a write that fails is dropped, and what follows it would tell of bytes that never came. */
	bool may_follow = !stripe->may_fault ||
			  kvi_conn_get_caps(stripe->shard->conn)->stops_at_fault;
	kvi_list_remove(&stripe->node);
	if (stripe->posted == 0)
		end_stripe(stripe);
	else if (stripe->only != NULL && spread->source->on_all_posted != NULL && may_follow)
		spread->source->on_all_posted(spread);
}

static void retire_if_exhausted(struct kvi_stripe *stripe)
{
	if (is_exhausted(stripe) && !kvi_list_is_empty(&stripe->node))
		retire(stripe);
}

/* One of which the peer is told, and nothing else is to be done. */
static void tell_segment(struct kvi_segment *segment)
{
	segment->is_delivered = true;
	mark_posted(segment);
	segment->cargo_kind->on_posted(segment);
	retire_if_exhausted(segment->stripe);
	if (!segment->awaits_ack)
		end_segment(segment);
}

/* Post a segment. False: it is left as link->held, or the connection fails. */
static bool post_segment(struct kvi_link *link, struct kvi_segment *segment)
{
	if (!is_posted(segment)) {
		tell_segment(segment);
		return true;
	}
	segment->post.op.context = &segment->post;
	segment->post.on_done = on_segment_done;
	enum kvt_err err = post(segment);
	if (err == KVT_OK) {
		link->shard->posted++;
		mark_posted(segment);
		segment->stripe->may_fault |= segment->cargo_kind == NULL;
		kvi_count_alone(&link->shard->counters, KVI_COUNT_SEGMENTS, 1);
		if (segment->cargo_kind != NULL && segment->cargo_kind->on_posted != NULL)
			segment->cargo_kind->on_posted(segment);
		retire_if_exhausted(segment->stripe);
		return true;
	}
	link->held = segment;
	if (err == KVT_E_AGAIN)
		kvi_link_retry(link);
	else
		kvi_link_fail(link, err, 0, get_name(segment));
	return false;
}

/* The next segment for a lane from one of its queues; NULL when there is none now. */
static struct kvi_segment *take_from(struct kvi_list *queue, struct kvi_segment *segment)
{
	unsigned passed_over = 0;
	struct kvi_list *node = queue->next;
	while (node != queue && passed_over < PASSED_OVER_MAX) {
		struct kvi_stripe *stripe = kvi_container_of(node, struct kvi_stripe, node);
		node = node->next;
		enum kvi_taken taken = KVI_TAKEN_NOTHING;
		segment->stripe = stripe;
		segment->awaits_ack = false;
		segment->is_asked = false;
		if (!is_exhausted(stripe))
			taken = stripe->spread->source->take(stripe->spread, segment);
		if (taken == KVI_TAKEN) {
			stripe->posted++;
			count(segment, 1);
			kvi_list_remove(&segment->node);
			kvi_list_remove(&stripe->node); /* to the end: transfers take turns */
			kvi_list_append(queue, &stripe->node);
			return segment;
		}
		if (taken == KVI_TAKEN_LATER) {
			passed_over++;
			continue;
		}
		atomic_store(&stripe->spread->exhausted, true);
		retire(stripe);
		node = queue->next;
		passed_over = 0;
	}
	return NULL;
}

/* The two queues that a lane serves take turns. */
static struct kvi_segment *take_next_segment(struct kvi_link *link)
{
	struct kvi_segment *segment = kvi_container_of(kvi_list_get_first(&link->free_segments),
						       struct kvi_segment, node);
	struct kvi_list *queues[] = { &link->stripes, &link->shard->stripes };
	struct kvi_segment *taken = NULL;
	for (unsigned i = 0; taken == NULL && i < 2; i++) {
		taken = take_from(queues[link->shared_turn], segment);
		link->shared_turn = !link->shared_turn;
	}
	return taken;
}

static void retire_exhausted(struct kvi_list *queue)
{
	struct kvi_list *node;
	while ((node = kvi_list_get_first(queue)) != NULL) {
		struct kvi_stripe *stripe = kvi_container_of(node, struct kvi_stripe, node);
		if (!is_exhausted(stripe))
			return;
		retire(stripe);
	}
}

/* Of transfers there is something left to post, or to end. */
static bool has_segments(const struct kvi_link *link)
{
	return link->held != NULL || !kvi_list_is_empty(&link->stripes) ||
	       !kvi_list_is_empty(&link->shard->stripes);
}

/* Post segments on a lane, as far as there is room. True when something was posted. */
static bool pump(struct kvi_link *link)
{
	bool did = false;
	if (link->lane == NULL)
		return false;
	if (link->held != NULL) {
		struct kvi_segment *segment = link->held;
		link->held = NULL;
		if (!post_segment(link, segment))
			return false;
		did = true;
	}
	retire_exhausted(&link->stripes);
	retire_exhausted(&link->shard->stripes);
	/* Staging buffers are written in the order they were taken: a writer that is blocked blocks
	 * those behind it. */
	if (!link->poster->pump(link, &did))
		return did;
	bool is_wanted = !kvi_list_is_empty(&link->stripes) ||
			 !kvi_list_is_empty(&link->shard->stripes);
	if (!is_wanted || !kvi_link_make_segments(link))
		return did;
	while (!kvi_list_is_empty(&link->free_segments)) {
		struct kvi_segment *segment = take_next_segment(link);
		if (segment == NULL || !post_segment(link, segment))
			break;
		did = true;
	}
	return did;
}

bool kvi_links_flush(struct kvi_worker *worker, unsigned how)
{
	bool did = false;
	struct kvi_list links;
	kvi_list_init(&links);
	kvi_list_move_all(&links, &worker->dirty_links);
	struct kvi_list *node;
	while ((node = kvi_list_take_first(&links)) != NULL) {
		struct kvi_link *link = kvi_container_of(node, struct kvi_link, dirty_node);
		did |= kvi_link_flush(link, how);
		bool has_writes = has_segments(link);
		did |= pump(link);
		if (has_writes && link->filling != NULL) /* what follows a transfer's last write */
			did |= kvi_link_flush(link, how);
		if ((how & (KVI_FLUSH_LAZILY | KVI_FLUSH_HOLD)) && !kvi_list_is_empty(&link->queue))
			kvi_link_touch(link);
	}
	return did;
}

/* End a share of which nothing is posted, in failure. */
static void drop_stripe(struct kvi_stripe *stripe)
{
	atomic_store(&stripe->spread->failed, true);
	atomic_store(&stripe->spread->exhausted, true);
	end_stripe(stripe);
}

static void drop_queue(struct kvi_list *queue)
{
	struct kvi_list *node;
	while ((node = kvi_list_get_first(queue)) != NULL)
		drop_stripe(kvi_container_of(node, struct kvi_stripe, node));
}

void kvi_stripes_drop(struct kvi_shard *shard)
{
	kvi_list_for_each (node, next_node, &shard->links) {
		struct kvi_link *link = kvi_container_of(node, struct kvi_link, node);
		for (unsigned i = 0; link->segments != NULL && i < KVI_SEGMENTS; i++) {
			struct kvi_segment *segment = &link->segments[i];
			/* Never posted, or posted, and nobody will acknowledge it any more. */
			if (segment != link->held && !segment->awaits_ack)
				continue;
			struct kvi_stripe *stripe = segment->stripe;
			segment->awaits_ack = false;
			give_back(segment);
			if (--stripe->posted == 0)
				drop_stripe(stripe);
		}
		link->held = NULL;
		drop_queue(&link->stripes);
	}
	drop_queue(&shard->stripes);
}
