/* SPDX-License-Identifier: Apache-2.0 */
/*
 * motion.c - looking at all lanes of a connection, whichever worker has them: what they completed, and what
 * the host's network knows of them.
 */
#include "engine/transfer/motion.h"

#include "base/clock.h"
#include "engine/core/conn.h"
#include "engine/core/engine.h"
#include "engine/lane/link.h"

#define LOOK_NS (KVI_QUIESCE_NS / 4)

int64_t kvi_motion_get_first_due(void)
{
	return kvi_deadline_after(LOOK_NS);
}

static uint64_t get_moved(const struct kvt_conn *conn)
{
	uint64_t moved = 0;
	for (unsigned i = 0; i < conn->engine->worker_count; i++)
		moved += atomic_load_explicit(&conn->shards[i].moved, memory_order_relaxed);
	for (unsigned i = 0; i < conn->lane_count; i++)
		moved += kvi_flow_get_moved(&conn->links[i].flow);
	return moved;
}

static int64_t get_later(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static int64_t get_earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

int64_t kvi_motion_get_due(struct kvt_conn *conn, int64_t since_ns)
{
	struct kvi_motion *motion = &conn->motion;
	int64_t now_ns = kvi_clock_now();
	pthread_mutex_lock(&conn->lock);
	/* A first look sees nothing move: it is what the next one compares with. */
	bool is_first = motion->looked_ns < since_ns;
	int64_t unseen_ns = now_ns - get_later(motion->looked_ns, since_ns);
	if (is_first || unseen_ns >= LOOK_NS) {
		uint64_t moved = get_moved(conn);
		/* Who looks so late has stood still itself, maybe with all of the host, and bytes with it. */
		bool stood_still = unseen_ns >= KVI_QUIESCE_NS / 2;
		if (stood_still || (!is_first && moved != motion->moved))
			motion->moved_ns = now_ns;
		motion->moved = moved;
		motion->looked_ns = now_ns;
	}
	int64_t late_ns = get_later(since_ns, motion->moved_ns) + KVI_QUIESCE_NS;
	pthread_mutex_unlock(&conn->lock);
	if (is_first)
		late_ns = get_later(late_ns, now_ns + LOOK_NS);
	late_ns = get_earlier(late_ns, since_ns + KVI_DRAIN_NS);
	return now_ns >= late_ns ? 0 : get_earlier(late_ns, now_ns + LOOK_NS);
}
