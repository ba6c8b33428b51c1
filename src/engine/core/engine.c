/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine.c - who may be in an engine: not a forked child, nobody once it stops or has lost its descriptors.
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/thread.h"
#include "engine/core/engine.h"

bool kvi_engine_is_forked(const struct kvt_engine *engine)
{
	return engine->fork_count != kvi_fork_get_count();
}

enum kvt_err kvi_engine_enter(struct kvt_engine *engine, struct kvt_error *error)
{
	if (kvi_engine_is_forked(engine))
		return kvi_fail(error, KVT_E_FORKED, 0, KVI_FORKED_TEXT);
	atomic_fetch_add(&engine->callers, 1);
	bool fds_lost = atomic_load(&engine->fds_lost);
	if (!atomic_load(&engine->stopping) && !fds_lost)
		return KVT_OK;
	kvi_engine_leave(engine);
	return kvi_fail(error, KVT_E_CLOSED, 0, "%s",
			fds_lost ? KVI_FDS_LOST_TEXT : "the engine is closed");
}

void kvi_engine_leave(struct kvt_engine *engine)
{
	atomic_fetch_sub(&engine->callers, 1);
}

void kvi_engine_lose_fds(struct kvt_engine *engine)
{
	if (atomic_exchange(&engine->fds_lost, true))
		return;
	kvi_log(KVI_LOG_ERROR, "descriptors-lost", "%s", KVI_FDS_LOST_TEXT);
	kvi_wake_forget(&engine->inbox.wake); /* the control thread looks in by itself */
	engine->mute_wakes(engine);
}

bool kvi_engine_has_lost_fds(struct kvt_engine *engine)
{
	engine->check_fds(engine);
	return atomic_load(&engine->fds_lost);
}

bool kvi_engine_is_interrupted(const struct kvt_engine *engine)
{
	const struct kvi_settings *settings = &engine->settings;
	return settings->interrupted != NULL &&
	       settings->interrupted(settings->interrupted_arg) != 0;
}

bool kvi_engine_await_change(struct kvt_engine *engine, int64_t deadline_ns)
{
	int64_t slice_ns = kvi_deadline_after(KVI_SLICE_MS * KVI_MS);
	kvi_cond_wait(&engine->changed, &engine->lock,
		      slice_ns < deadline_ns ? slice_ns : deadline_ns);
	/* The hook may take other locks (Python's), so ours is not held. */
	pthread_mutex_unlock(&engine->lock);
	bool interrupted = kvi_engine_is_interrupted(engine);
	pthread_mutex_lock(&engine->lock);
	return !interrupted;
}
