/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_paged_serve.c - the server of perf_paged.h: it lends its pool, takes notifications, and
 * answers the client's questions. It never starts a transfer.
 */
#include "perf_paged.h"

#include <err.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int take_event(struct perf_paged *paged, uint64_t *left)
{
	struct kvt_event *event;
	struct perf_stamp stamp;
	int status = PERF_OK;

	enum kvt_err err = kvt_engine_get_event(paged->engine, &event);
	if (err == KVT_E_AGAIN) {
		err = kvt_engine_wait(paged->engine, PERF_SECOND);
		if (err == KVT_E_AGAIN && perf_count_interrupts())
			return PERF_INTERRUPTED;
		if (!err || err == KVT_E_AGAIN)
			return PERF_OK;
	}
	if (err) {
		warnx("waiting for a notification: %s", kvt_err_get_text(err));
		return PERF_FAILED;
	}
	if (event->err || event->kind != KVT_EVENT_NOTIFICATION || event->len < sizeof(stamp)) {
		warnx("waiting for a notification: %s", kvt_err_get_text(event->err));
		status = PERF_FAILED;
	} else {
		memcpy(&stamp, event->data, sizeof(stamp));
		if (stamp.measuring && !paged->measuring)
			perf_samples_reset(&paged->notified);
		paged->measuring = stamp.measuring;
		perf_samples_add(&paged->notified, perf_now_ns() - paged->clock_ns - stamp.started);
		--*left;
	}
	kvt_event_free(event);
	return status;
}

static int take_events(struct perf_paged *paged, uint64_t left)
{
	int64_t limit = perf_now_ns() + paged->job->duration_ns + paged->peer->timeout_ns;
	int status = PERF_OK;

	while (left && !status) {
		if (perf_now_ns() > limit) {
			warnx("%" PRIu64 " notifications have not come", left);
			return PERF_FAILED;
		}
		status = take_event(paged, &left);
	}
	return status;
}

/* Events wait to be taken: nothing is prepared. */
static int begin_round(void *arg, uint64_t first, uint64_t count)
{
	(void)arg;
	(void)first;
	(void)count;
	return PERF_OK;
}

static int follow_round(void *arg, uint64_t first, uint64_t count)
{
	struct perf_paged *paged = arg;

	(void)first;
	return take_events(paged, count / paged->job->count);
}

/* Answer the lines around the rounds until the client has no more. */
static int answer_lines(struct perf_paged *paged)
{
	struct perf_peer *peer = paged->peer;
	bool source = paged->job->op == PERF_READ;
	char text[PERF_TEXT_LEN];
	uint64_t count;
	int status;

	for (;;) {
		if ((status = perf_hear(peer, text, peer->timeout_ns)))
			return status;
		if (!strcmp(text, "rounds") || !strcmp(text, "bye"))
			return PERF_OK;
		if (!strcmp(text, "time")) {
			status = perf_say(peer, "time %" PRId64 " %" PRId64, perf_now_ns(),
					  perf_read_boot_id());
		} else if (sscanf(text, "ahead %" SCNd64, &paged->clock_ns) == 1) {
			status = perf_say(peer, "ahead 0 0");
		} else if (!strcmp(text, "notified")) {
			status = perf_say(peer, "notified %" PRId64 " %" PRId64,
					  perf_samples_get(&paged->notified, 50),
					  perf_samples_get(&paged->notified, 99));
		} else if (sscanf(text, "prepare %" SCNu64, &count) == 1) {
			perf_paged_prepare(paged, source);
			status = perf_say(peer, "prepared 0 0");
			if (!status)
				status = take_events(paged, count);
		} else if (!strcmp(text, "check")) {
			status = perf_say(peer, "wrong %" PRIu64 " 0",
					  source ? 0 : perf_paged_count_wrong(paged));
		} else {
			warnx("the client said \"%s\"", text);
			return PERF_FAILED;
		}
		if (status)
			return status;
	}
}

static int serve(struct perf_paged *paged)
{
	unsigned access = paged->job->op == PERF_WRITE ? KVT_ACCESS_WRITE : KVT_ACCESS_READ;
	const struct perf_part part = {
		.prepare = begin_round,
		.run = follow_round,
		.arg = paged,
		.wrong = &paged->wrong,
	};
	struct kvt_error error = { 0 };
	int status;

	if (paged->region && kvt_export_open(paged->peer->conn, paged->region, access,
					     PERF_POOL_NAME, &paged->exported, &error))
		return perf_blame("exporting the pool", &error);
	if ((status = perf_say(paged->peer, "ready")) || (status = answer_lines(paged)) ||
	    (status = perf_follow_rounds(paged->peer, &part)))
		return status;
	return answer_lines(paged);
}

int perf_paged_serve(struct perf_peer *peer, struct kvt_engine *engine, const struct perf_job *job)
{
	struct perf_paged paged = { .peer = peer, .job = job, .engine = engine };

	int status = perf_paged_open(&paged, false);
	if (!status)
		status = serve(&paged);
	perf_paged_close(&paged);
	return status;
}
