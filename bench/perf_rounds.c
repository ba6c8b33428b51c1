/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_rounds.c - see perf_rounds.h. It never touches a message of the measurement.
 */
#include "perf_rounds.h"

#include "perf_report.h"

#include <err.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const int64_t ROUND_NS = PERF_SECOND / 2;
enum { ROUND_BATCHES_MAX = 1 << 20 };

/* One round at the client; adds to the totals. */
static int lead_round(struct perf_peer *peer, const struct perf_part *part, uint64_t first,
		      uint64_t count, struct perf_totals *totals)
{
	char text[PERF_TEXT_LEN];
	int64_t receiver_ns, peer_cpu_ns;
	uint64_t wrong;
	int status;

	if ((status = perf_say(peer, "round %" PRIu64 " %" PRIu64, first, count)) ||
	    (status = perf_hear(peer, text, peer->timeout_ns)))
		return status;
	if (strcmp(text, "go")) {
		warnx("the server answered \"%s\"", text);
		return PERF_FAILED;
	}
	int64_t cpu_ns = perf_cpu_ns();
	int64_t started = perf_now_ns();
	if ((status = part->run(part->arg, first, count)))
		return status;
	int64_t elapsed_ns = perf_now_ns() - started;
	cpu_ns = perf_cpu_ns() - cpu_ns;
	if ((status = perf_hear(peer, text, peer->timeout_ns)))
		return status;
	if (sscanf(text, "done %" SCNd64 " %" SCNd64 " %" SCNu64, &receiver_ns, &peer_cpu_ns,
		   &wrong) != 3) {
		warnx("the server answered \"%s\"", text);
		return PERF_FAILED;
	}
	totals->messages += count;
	totals->elapsed_ns += elapsed_ns;
	totals->receiver_ns += receiver_ns;
	totals->cpu_ns += cpu_ns;
	totals->peer_cpu_ns += peer_cpu_ns;
	totals->wrong = wrong;
	return PERF_OK;
}

/* How many batches fit into what is left of the time, at most a round's worth and at least one. */
static uint64_t size_round(const struct perf_totals *last, uint64_t batch, int64_t left_ns)
{
	int64_t aim = left_ns < ROUND_NS ? left_ns : ROUND_NS;
	int64_t batches = 1;

	if (last->messages)
		batches = aim / (last->elapsed_ns / (int64_t)(last->messages / batch) + 1);
	if (batches < 1)
		batches = 1;
	return (uint64_t)(batches < ROUND_BATCHES_MAX ? batches : ROUND_BATCHES_MAX);
}

/* Rounds until their times add up to the limit, or Ctrl-C. *next is the next message's number. */
static int lead_phase(struct perf_peer *peer, const struct perf_options *options,
		      const struct perf_part *part, uint64_t *next, struct perf_totals *totals)
{
	const struct perf_job *job = &options->job;
	bool counts = totals->messages > 0; /* a warm-up went before; it says how fast we are */
	int64_t limit_ns = counts ? job->duration_ns : options->warmup_ns;
	struct perf_totals sum = { 0 };
	struct perf_totals last = *totals;

	do {
		uint64_t batches = size_round(&last, job->count, limit_ns - sum.elapsed_ns);
		uint64_t count = batches * job->count;
		int status = lead_round(peer, part, *next, count, &sum);
		if (status)
			return status;
		*next += count;
		last = sum;
		if (counts)
			perf_progress(sum.messages * job->block_len, sum.elapsed_ns, limit_ns);
	} while (sum.elapsed_ns < limit_ns && !perf_count_interrupts());
	*totals = sum;
	return PERF_OK;
}

int perf_lead_rounds(struct perf_peer *peer, const struct perf_options *options,
		     const struct perf_part *part, struct perf_totals *totals)
{
	struct perf_totals sum = { 0 };
	uint64_t next = 0;

	perf_set_patience(2);
	int status = lead_phase(peer, options, part, &next, &sum);
	if (!status && !perf_count_interrupts()) {
		perf_samples_reset(part->samples);
		status = lead_phase(peer, options, part, &next, &sum);
		perf_progress_end();
	}
	if (status)
		return status;
	*totals = sum;
	return perf_say(peer, "end");
}

static int follow_round(struct perf_peer *peer, const struct perf_part *part, uint64_t first,
			uint64_t count)
{
	int status;

	if ((status = part->prepare(part->arg, first, count)))
		return status;
	int64_t cpu_ns = perf_cpu_ns();
	int64_t started = perf_now_ns();
	if ((status = perf_say(peer, "go")) || (status = part->run(part->arg, first, count)))
		return status;
	int64_t elapsed_ns = perf_now_ns() - started;
	return perf_say(peer, "done %" PRId64 " %" PRId64 " %" PRIu64, elapsed_ns,
			perf_cpu_ns() - cpu_ns, *part->wrong);
}

int perf_follow_rounds(struct perf_peer *peer, const struct perf_part *part)
{
	char text[PERF_TEXT_LEN];
	uint64_t first, count;
	int status;

	perf_set_patience(2);
	do {
		if ((status = perf_hear(peer, text, peer->timeout_ns)))
			break;
		if (!strcmp(text, "end"))
			break;
		if (sscanf(text, "round %" SCNu64 " %" SCNu64, &first, &count) != 2 || !count) {
			warnx("the client said \"%s\"", text);
			status = PERF_FAILED;
			break;
		}
		status = follow_round(peer, part, first, count);
	} while (!status);
	perf_set_patience(1);
	return status;
}
