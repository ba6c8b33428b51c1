/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_paged_lead.c - the client of perf_paged.h: it starts transfers, and asks the server for what
 * it saw. It never asks the library how long something took.
 *
 * A notification carries the client's time at the transfer's start, so that the server can tell how
 * long after that it knew, and whether the warm-up was over. Their clocks are one when they run on
 * one kernel; else the difference is taken from the fastest of some round trips.
 */
#include "perf_paged.h"

#include <err.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { CLOCK_PINGS = 32 };

/* Start a transfer; the calls alone are what a submit takes. */
static int start_transfer(struct perf_paged *paged, uint64_t number)
{
	const struct perf_job *job = paged->job;
	unsigned lane = (unsigned)(number % job->depth);
	unsigned char notify[PERF_NOTIFY_MAX] = { 0 };
	struct kvt_error error = { 0 };
	enum kvt_err err;

	struct perf_stamp stamp = { paged->measuring, perf_now_ns() };
	memcpy(notify, &stamp, sizeof(stamp));
	if (job->op == PERF_NOTIFY) {
		const struct kvt_notify_request request = {
			.size = sizeof(request),
			.conn = paged->peer->conn,
			.notify = notify,
			.notify_len = job->block_len,
			.timeout_ns = paged->peer->timeout_ns,
		};
		err = kvt_notify_start(&request, &paged->flights[lane], &error);
	} else {
		size_t count = job->count / job->extents;
		size_t first = number % paged->sets * count;
		const struct kvt_blocks_request request = {
			.size = sizeof(request),
			.direction = job->op == PERF_WRITE ? KVT_WRITE : KVT_READ,
			.region = paged->region,
			.remote = paged->remote,
			.local = paged->pool.order + first,
			.other = paged->remote_order + first,
			.index_len = sizeof(*paged->pool.order),
			.count = count,
			.notify = notify,
			.notify_len = sizeof(stamp),
			.timeout_ns = paged->peer->timeout_ns,
		};
		err = kvt_blocks_start(&request, &paged->flights[lane], &error);
	}
	if (err)
		return perf_blame("starting a transfer", &error);
	perf_samples_add(&paged->submits, perf_now_ns() - stamp.started);
	paged->starts[lane] = stamp.started;
	return PERF_OK;
}

static int finish_transfer(struct perf_paged *paged, unsigned lane)
{
	const struct perf_job *job = paged->job;
	size_t len;

	int status = perf_await(&paged->flights[lane], &len);
	if (status)
		return status;
	perf_samples_add(&paged->times, perf_now_ns() - paged->starts[lane]);
	if (job->op != PERF_NOTIFY && len != job->count * job->block_len) {
		warnx("a transfer of %zu bytes moved %zu", job->count * job->block_len, len);
		return PERF_FAILED;
	}
	return PERF_OK;
}

/* Start transfers first to end - 1, each as soon as the one depth places before it is over. */
static int run_transfers(struct perf_paged *paged, uint64_t first, uint64_t end)
{
	unsigned depth = paged->job->depth;
	int status;

	for (uint64_t i = first; i < end + depth; i++) {
		unsigned lane = (unsigned)(i % depth);
		if (paged->flights[lane] && (status = finish_transfer(paged, lane)))
			return status;
		if (i < end && (status = start_transfer(paged, i)))
			return status;
	}
	return PERF_OK;
}

/* A round is counted in blocks. */
static int run_round(void *arg, uint64_t first, uint64_t count)
{
	struct perf_paged *paged = arg;
	size_t blocks = paged->job->count;

	/* The times are forgotten when the warm-up is over, and at no other round's beginning. */
	if (first && !paged->times.seen) {
		perf_samples_reset(&paged->submits);
		paged->measuring = true;
	}
	return run_transfers(paged, first / blocks, (first + count) / blocks);
}

/* Say a line and hear one that has as many numbers as the format. */
static int ask(struct perf_peer *peer, const char *line, const char *format, int64_t values[2])
{
	char text[PERF_TEXT_LEN];
	int status;

	if ((status = perf_say(peer, "%s", line)) ||
	    (status = perf_hear(peer, text, peer->timeout_ns)))
		return status;
	if (sscanf(text, format, &values[0], &values[1]) != 2) {
		warnx("the server answered \"%s\" to \"%s\"", text, line);
		return PERF_FAILED;
	}
	return PERF_OK;
}

/* Tell the server what its clock is ahead of ours. */
static int compare_clocks(struct perf_peer *peer)
{
	int64_t best = INT64_MAX;
	int64_t ahead = 0;
	int64_t answer[2];
	char line[PERF_TEXT_LEN];
	int status;

	for (int i = 0; i < CLOCK_PINGS; i++) {
		int64_t sent = perf_now_ns();
		if ((status = ask(peer, "time", "time %" SCNd64 " %" SCNd64, answer)))
			return status;
		int64_t trip = perf_now_ns() - sent;
		if (trip < best)
			ahead = answer[0] - sent - trip / 2;
		best = trip < best ? trip : best;
		if (answer[1] && answer[1] == perf_read_boot_id()) {
			ahead = 0;
			break;
		}
	}
	snprintf(line, sizeof(line), "ahead %" PRId64, ahead);
	return ask(peer, line, "ahead %" SCNd64 " %" SCNd64, answer);
}

/* Move every slot once more, and have each byte looked at. */
static int verify(struct perf_paged *paged)
{
	bool source = paged->job->op == PERF_WRITE;
	int64_t answer[2];
	char line[PERF_TEXT_LEN];
	int status;

	perf_paged_prepare(paged, source);
	snprintf(line, sizeof(line), "prepare %zu", paged->sets);
	if ((status = ask(paged->peer, line, "prepared %" SCNd64 " %" SCNd64, answer)) ||
	    (status = run_transfers(paged, 0, paged->sets)) ||
	    (status = ask(paged->peer, "check", "wrong %" SCNd64 " %" SCNd64, answer)))
		return status;
	paged->wrong = source ? (uint64_t)answer[0] : perf_paged_count_wrong(paged);
	if (!paged->wrong)
		return PERF_OK;
	warnx("%" PRIu64 " of %zu blocks have wrong bytes", paged->wrong, paged->pool.count);
	return PERF_WRONG_BYTES;
}

static void fill_report(struct perf_paged *paged, const struct perf_totals *totals,
			const int64_t notified[2], struct perf_report *report)
{
	const struct perf_job *job = paged->job;

	report->pattern = perf_pattern_get_name(job->pattern);
	report->messages = totals->messages;
	report->transfers = totals->messages / job->count;
	report->bytes = totals->messages * job->block_len;
	report->elapsed_ns = totals->elapsed_ns;
	report->receiver_ns = totals->receiver_ns;
	report->cpu_ns = totals->cpu_ns;
	report->peer_cpu_ns = totals->peer_cpu_ns;
	report->p50_ns = perf_samples_get(&paged->times, 50);
	report->p99_ns = perf_samples_get(&paged->times, 99);
	report->submit_ns = perf_samples_get(&paged->submits, 50);
	report->notified_p50_ns = notified[0];
	report->notified_p99_ns = notified[1];
}

static int run_job(struct perf_paged *paged, const struct perf_options *options,
		   struct perf_report *report)
{
	const struct perf_part part = { .run = run_round, .arg = paged, .samples = &paged->times };
	struct perf_peer *peer = paged->peer;
	struct perf_totals totals = { 0 };
	struct kvt_error error = { 0 };
	int64_t notified[2];
	int status;

	if (paged->job->op != PERF_NOTIFY &&
	    kvt_remote_find(peer->conn, PERF_POOL_NAME, peer->timeout_ns, &paged->remote, &error))
		return perf_blame("finding the server's pool", &error);
	if ((status = compare_clocks(peer)) || (status = perf_say(peer, "rounds")) ||
	    (status = perf_lead_rounds(peer, options, &part, &totals)) ||
	    (status = ask(peer, "notified", "notified %" SCNd64 " %" SCNd64, notified)))
		return status;
	fill_report(paged, &totals, notified, report);
	if (paged->job->verify && paged->job->op != PERF_NOTIFY) {
		if ((status = verify(paged)))
			return status;
		report->verified = true;
	}
	return perf_say(peer, "bye");
}

int perf_paged_lead(struct perf_peer *peer, struct kvt_engine *engine,
		    const struct perf_options *options, struct perf_report *report)
{
	struct perf_paged paged = { .peer = peer, .job = &options->job, .engine = engine };

	int status = perf_paged_open(&paged, true);
	if (!status)
		status = run_job(&paged, options, report);
	perf_paged_close(&paged);
	return status;
}
