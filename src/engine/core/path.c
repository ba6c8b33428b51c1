/* SPDX-License-Identifier: Apache-2.0 */
/*
 * path.c - how the trial of the local path stands.
 */
#include "engine/core/path.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "engine/core/conn.h"

/* What became of a call to a socket of this host, as the fabric tells it. */
static const char *explain(int provider_errno)
{
	switch (provider_errno) {
	case ECONNREFUSED:
	case ENOENT:
		return "no process of this network namespace took the call to the peer's local "
		       "socket, or the peer could make no lane of it";
	case EPERM:
		return "the peer's process belongs to another user";
	case ETIMEDOUT:
		return "the peer's local lanes did not come in time";
	case ECONNRESET:
	case EPIPE:
		return "the peer hung up on its local socket";
	default:
		return provider_errno == 0 ? "the local lanes broke" : strerror(provider_errno);
	}
}

bool kvi_trial_fail(struct kvt_conn *conn, int provider_errno, const char *text)
{
	struct kvi_trial *trial = &conn->trial;
	pthread_mutex_lock(&conn->lock);
	bool ends_it = trial->state == KVI_TRIAL_RUNS;
	if (ends_it) {
		trial->state = KVI_TRIAL_FAILED;
		snprintf(trial->text, sizeof(trial->text), "%s",
			 text != NULL ? text : explain(provider_errno));
	}
	bool has_failed = trial->state == KVI_TRIAL_FAILED;
	pthread_mutex_unlock(&conn->lock);
	if (ends_it)
		kvi_conn_note(conn);
	return has_failed;
}

bool kvi_trial_pass(struct kvt_conn *conn)
{
	struct kvi_trial *trial = &conn->trial;
	pthread_mutex_lock(&conn->lock);
	if (trial->state == KVI_TRIAL_RUNS)
		trial->state = KVI_TRIAL_PASSED;
	bool has_failed = trial->state == KVI_TRIAL_FAILED;
	pthread_mutex_unlock(&conn->lock);
	return !has_failed;
}

enum kvi_trial_state kvi_trial_get_state(struct kvt_conn *conn, char text[KVT_TEXT_LEN])
{
	pthread_mutex_lock(&conn->lock);
	enum kvi_trial_state state = conn->trial.state;
	if (text != NULL)
		memcpy(text, conn->trial.text, KVT_TEXT_LEN);
	pthread_mutex_unlock(&conn->lock);
	return state;
}
