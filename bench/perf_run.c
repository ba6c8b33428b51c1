/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_run.c - the measuring loop, the same for every path. It never moves a byte itself.
 *
 * The measurement is cut into rounds of about half a second. The leading process names the round, the serving one
 * prepares for it and says go, both run, and the serving one tells what it saw. So the run ends on time, Ctrl-C loses
 * nothing, and no agreement is needed while the clock runs.
 */
#include "perf.h"

#include <err.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const int64_t ROUND_NS = PERF_SECOND / 2;
enum { ROUND_BATCHES_MAX = 1 << 20, CLOCK_PINGS = 32 };

enum round { WARM, MEASURE, CHECK };

/* In a ping-pong, flight 0 is what goes out from slot 0, flight 1 what comes in to slot 1. */
enum { OUT, IN };

/* What rounds add up to, in messages or transfers. */
struct totals {
	uint64_t count;
	int64_t elapsed_ns;  /* leading: first start to last success */
	int64_t receiver_ns; /* serving: its go to the last of them done */
	int64_t cpu_ns;
	int64_t peer_cpu_ns;
};

size_t perf_run_count_indices(const struct perf_run *run)
{
	return run->job.count / run->job.extents;
}

struct perf_stamp perf_run_get_stamp(const struct perf_flight *flight)
{
	return (struct perf_stamp){ flight->number, flight->started };
}

static bool is_send(const struct perf_run *run)
{
	return run->job.op == PERF_SEND;
}

static bool is_latency(const struct perf_run *run)
{
	return run->job.mode == PERF_LATENCY;
}

bool perf_run_is_told(const struct perf_run *run)
{
	return !run->job.plain && (run->job.op != PERF_READ || run->path->tells_reads);
}

/* ---- messages, at either side ---- */

static int start_send(struct perf_run *run, struct perf_flight *flight, uint64_t slot)
{
	flight->slot = perf_pool_get(&run->pool, slot);
	/* Filling counts: it is what a run that verifies costs. */
	if (run->job.verify)
		perf_fill(flight->slot, run->job.block_len, flight->number);
	return run->path->send(run, flight);
}

static int start_receive(struct perf_run *run, uint64_t number)
{
	struct perf_flight *flight = &run->flights[is_latency(run) ? IN : number % run->job.depth];

	*flight = (struct perf_flight){ .number = number };
	flight->slot = perf_pool_get(&run->pool, is_latency(run) ? IN : number);
	return run->path->recv(run, flight);
}

static int finish_receive(struct perf_run *run, struct perf_flight *flight)
{
	int status = run->path->finish(run, flight);

	if (!status && run->job.verify)
		run->wrong += !perf_check(flight->slot, run->job.block_len, flight->number);
	return status;
}

/* ---- the leading process ---- */

static int start_flight(struct perf_run *run, uint64_t number)
{
	struct perf_flight *flight = &run->flights[number % run->job.depth];
	int status;

	*flight = (struct perf_flight){ .number = number, .started = perf_now_ns() };
	if (is_send(run)) {
		status = start_send(run, flight, number);
	} else {
		if (run->sets) {
			size_t first = number % run->sets * perf_run_count_indices(run);
			flight->local = run->pool.order + first;
			flight->remote = run->remote_order + first;
		}
		status = run->path->move(run, flight);
		perf_samples_add(&run->submits, perf_now_ns() - flight->started);
	}
	flight->flying = !status;
	return status;
}

static int finish_flight(struct perf_run *run, struct perf_flight *flight)
{
	const struct perf_path *path = run->path;
	int status = path->finish(run, flight);

	flight->flying = false;
	if (status)
		return status;
	perf_samples_add(&run->times, perf_now_ns() - flight->started);
	if (is_send(run) || !perf_run_is_told(run) ||
	    (run->job.op == PERF_READ ? path->tells_reads : path->tells_writes))
		return PERF_OK;
	struct perf_stamp stamp = perf_run_get_stamp(flight);
	return path->tell(run, &stamp);
}

/* Start flights first to end - 1, each as soon as the one depth places before it is over. */
static int run_flights(struct perf_run *run, uint64_t first, uint64_t end)
{
	unsigned depth = run->job.depth;
	int status;

	for (uint64_t i = first; i < end + depth; i++) {
		struct perf_flight *flight = &run->flights[i % depth];
		if (flight->flying && (status = finish_flight(run, flight)))
			return status;
		if (i < end && (status = start_flight(run, i)))
			return status;
	}
	return PERF_OK;
}

/* A send's own end is taken after the answer to it: it costs the ping-pong nothing but its work. */
static int play_pings(struct perf_run *run, uint64_t first, uint64_t end)
{
	struct perf_flight *in = &run->flights[IN], *out = &run->flights[OUT];
	int status;

	for (uint64_t i = first; i < end; i++) {
		if ((status = start_receive(run, i)))
			return status;
		out->number = i;
		int64_t started = perf_now_ns();
		if ((status = start_send(run, out, OUT)) || (status = run->path->finish(run, in)))
			return status;
		perf_samples_add(&run->times, (perf_now_ns() - started) / 2);
		if ((status = run->path->finish(run, out)))
			return status;
	}
	return PERF_OK;
}

/* What is not told by transfer is told by round: the serving process waits for it. */
static int end_round(struct perf_run *run)
{
	const struct perf_stamp stamp = { 0, perf_now_ns() };

	return is_send(run) || perf_run_is_told(run) ? PERF_OK : run->path->tell(run, &stamp);
}

static int lead_round(struct perf_run *run, enum round kind, uint64_t first, uint64_t count,
		      struct totals *totals)
{
	int64_t receiver_ns, peer_cpu_ns;
	unsigned going;
	int status;

	if ((status = perf_say(run, "round %d %" PRIu64 " %" PRIu64, kind, first, count)) ||
	    (status = perf_hear_values(run, 1, "go %u", &going)))
		return status;
	int64_t cpu_ns = perf_cpu_ns();
	int64_t started = perf_now_ns();
	if ((status = (is_latency(run) ? play_pings : run_flights)(run, first, first + count)))
		return status;
	totals->elapsed_ns += perf_now_ns() - started;
	totals->cpu_ns += perf_cpu_ns() - cpu_ns;
	if ((status = end_round(run)) ||
	    (status = perf_hear_values(run, 3, "done %" SCNd64 " %" SCNd64 " %" SCNu64,
				       &receiver_ns, &peer_cpu_ns, &run->wrong)))
		return status;
	totals->count += count;
	totals->receiver_ns += receiver_ns;
	totals->peer_cpu_ns += peer_cpu_ns;
	return PERF_OK;
}

/* How many fit into what is left of the time, at most a round's worth; enough for what is in flight to be what it
 * should be for half of the round. Messages go in whole batches, as every slot is used as often as any other. */
static uint64_t size_round(const struct perf_run *run, const struct totals *last, int64_t left_ns)
{
	uint64_t batch = is_send(run) ? run->job.count : 1;
	uint64_t least = run->job.depth == 1 ? 1 : (2 * run->job.depth + batch - 1) / batch;
	uint64_t batches = 0;

	if (last->count) {
		int64_t aim = left_ns < ROUND_NS ? left_ns : ROUND_NS;
		batches = (uint64_t)(aim / (last->elapsed_ns / (int64_t)(last->count / batch) + 1));
	}
	batches = batches < least ? least : batches;
	return batch * (batches < ROUND_BATCHES_MAX ? batches : ROUND_BATCHES_MAX);
}

/* Rounds until their times add up to the limit, or Ctrl-C. *last says how fast we are, and then what was found. */
static int lead_rounds(struct perf_run *run, enum round kind, int64_t limit_ns, uint64_t *next,
		       struct totals *last)
{
	size_t len = run->job.block_len * (is_send(run) ? 1 : run->job.count);
	struct totals sum = { 0 };

	do {
		uint64_t count = size_round(run, last, limit_ns - sum.elapsed_ns);
		int status = lead_round(run, kind, *next, count, &sum);
		if (status)
			return status;
		*next += count;
		*last = sum;
		if (kind == MEASURE)
			perf_progress((double)sum.count * (double)len, sum.elapsed_ns, limit_ns);
	} while (sum.elapsed_ns < limit_ns && !perf_count_interrupts());
	return PERF_OK;
}

/* The kernel's identity, as a number that another kernel does not have; 0 when it is not known. */
static int64_t read_boot_id(void)
{
	FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
	unsigned high = 0, low = 0;

	if (file && fscanf(file, "%8x-%4x", &high, &low) != 2)
		high = low = 0;
	if (file)
		fclose(file);
	return (int64_t)high << 16 | low;
}

/* Tell the other process what its clock is ahead of ours: nothing on the same kernel, else by the fastest of some
 * round trips. */
static int compare_clocks(struct perf_run *run)
{
	int64_t best = INT64_MAX, ahead = 0, theirs, boot = 0;
	int status;

	for (int i = 0; i < CLOCK_PINGS && (!boot || boot != read_boot_id()); i++) {
		int64_t sent = perf_now_ns();
		if ((status = perf_say(run, "time")) ||
		    (status =
			     perf_hear_values(run, 2, "time %" SCNd64 " %" SCNd64, &theirs, &boot)))
			return status;
		int64_t trip = perf_now_ns() - sent;
		if (trip < best)
			ahead = theirs - sent - trip / 2;
		best = trip < best ? trip : best;
	}
	return perf_say(run, "ahead %" PRId64, boot && boot == read_boot_id() ? 0 : ahead);
}

/* Move every slot once more, and have each byte looked at. */
static int check_pool(struct perf_run *run)
{
	bool source = run->job.op == PERF_WRITE;
	struct totals none = { 0 };

	perf_pool_prepare(&run->pool, source);
	int status = lead_round(run, CHECK, 0, run->sets, &none);
	if (!status && !source)
		run->wrong = perf_pool_count_wrong(&run->pool);
	return status;
}

static void put_time(struct perf_run *run, enum perf_figure figure, int64_t ns)
{
	if (ns >= 0)
		run->report.figures[figure] = (double)ns;
}

static void report_totals(struct perf_run *run, const struct totals *totals)
{
	const struct perf_job *job = &run->job;
	double *figures = run->report.figures;

	figures[PERF_COUNT] = (double)(is_latency(run) ? perf_job_get_slots(job) : job->count);
	figures[PERF_BLOCK_LEN] = (double)job->block_len;
	figures[PERF_DEPTH] = job->depth;
	figures[PERF_MESSAGES] = (double)(totals->count * (is_send(run) ? 1 : job->count));
	figures[PERF_BYTES] = figures[PERF_MESSAGES] * figures[PERF_BLOCK_LEN];
	put_time(run, PERF_RECEIVER, totals->receiver_ns);
	put_time(run, PERF_P50, perf_samples_get(&run->times, 50));
	put_time(run, PERF_P99, perf_samples_get(&run->times, 99));
	if (!is_send(run)) {
		run->report.pattern = perf_pattern_names[job->pattern];
		figures[PERF_TRANSFERS] = (double)totals->count;
		put_time(run, PERF_SUBMIT_P50, perf_samples_get(&run->submits, 50));
		put_time(run, PERF_SUBMIT_P99, perf_samples_get(&run->submits, 99));
	}
	perf_report_set_time(&run->report, totals->elapsed_ns, totals->cpu_ns, totals->peer_cpu_ns);
}

static int finish_run(struct perf_run *run)
{
	bool paged = perf_job_is_paged(&run->job);
	int64_t median, most;
	int status;

	if (paged && run->job.verify && (status = check_pool(run)))
		return status;
	run->report.verified = run->job.verify && run->job.op != PERF_NOTIFY && !run->wrong;
	if ((status = perf_say(run, "end")) ||
	    (status = perf_hear_values(run, 2, "ended %" SCNd64 " %" SCNd64, &median, &most)))
		return status;
	put_time(run, PERF_NOTIFIED_P50, median);
	put_time(run, PERF_NOTIFIED_P99, most);
	if (!run->wrong)
		return PERF_OK;
	warnx("%" PRIu64 " %s with wrong bytes", run->wrong,
	      paged ? "blocks are there" : "messages arrived");
	return PERF_WRONG_BYTES;
}

int perf_run_lead(struct perf_run *run)
{
	struct totals totals = { 0 };
	uint64_t next = 0;
	int status = PERF_OK;

	if (!is_send(run) && (status = compare_clocks(run)))
		return status;
	perf_set_patience(2);
	perf_memory_reset_peak();
	size_t before = perf_memory_get(false);
	status = lead_rounds(run, WARM, run->options->warmup_ns, &next, &totals);
	if (!status && !perf_count_interrupts()) {
		perf_samples_reset(&run->times);
		perf_samples_reset(&run->submits);
		status = lead_rounds(run, MEASURE, run->job.duration_ns, &next, &totals);
		perf_progress_end();
	}
	run->report.figures[PERF_MEMORY] = (double)perf_memory_get(true) - (double)before;
	if (!status) {
		report_totals(run, &totals);
		status = finish_run(run);
	}
	perf_set_patience(1);
	return status;
}

/* ---- the serving process ---- */

static int receive_messages(struct perf_run *run, uint64_t first, uint64_t end)
{
	unsigned depth = run->job.depth;
	int status;

	for (uint64_t i = first; i < end; i++) {
		if ((status = finish_receive(run, &run->flights[i % depth])))
			return status;
		if (i + depth < end && (status = start_receive(run, i + depth)))
			return status;
	}
	return PERF_OK;
}

static int play_pongs(struct perf_run *run, uint64_t first, uint64_t end)
{
	struct perf_flight *out = &run->flights[OUT];
	int status;

	for (uint64_t i = first; i < end; i++) {
		if ((status = finish_receive(run, &run->flights[IN])))
			return status;
		if (i > first && (status = run->path->finish(run, out)))
			return status;
		/* The next message must find its receive posted. */
		if (i + 1 < end && (status = start_receive(run, i + 1)))
			return status;
		out->number = i;
		if ((status = start_send(run, out, OUT)))
			return status;
	}
	return run->path->finish(run, out);
}

static int await_stamps(struct perf_run *run, uint64_t count, bool counts)
{
	struct perf_stamp stamp;
	int status;

	for (; count; count--) {
		if ((status = run->path->await_stamp(run, &stamp)))
			return status;
		if (counts)
			perf_samples_add(&run->notified,
					 perf_now_ns() - run->ahead_ns - stamp.started);
	}
	return PERF_OK;
}

/* What must be there before the leading process begins. */
static int prepare_round(struct perf_run *run, enum round kind, uint64_t first, uint64_t count)
{
	uint64_t most = is_latency(run) ? 1 : run->job.depth;
	int status = PERF_OK;

	if (kind == CHECK)
		perf_pool_prepare(&run->pool, run->job.op == PERF_READ);
	for (uint64_t i = 0; is_send(run) && i < count && i < most && !status; i++)
		status = start_receive(run, first + i);
	return status;
}

static int serve_round(struct perf_run *run, enum round kind, uint64_t first, uint64_t count)
{
	bool told = perf_run_is_told(run);
	int status;

	if ((status = prepare_round(run, kind, first, count)))
		return status;
	int64_t cpu_ns = perf_cpu_ns();
	int64_t started = perf_now_ns();
	if ((status = perf_say(run, "go %d", kind)))
		return status;
	if (is_send(run))
		status = (is_latency(run) ? play_pongs : receive_messages)(run, first,
									   first + count);
	else
		status = await_stamps(run, told ? count : 1, told && kind == MEASURE);
	if (status)
		return status;
	int64_t elapsed_ns = perf_now_ns() - started;
	cpu_ns = perf_cpu_ns() - cpu_ns;
	if (kind == CHECK && run->job.op == PERF_WRITE)
		run->wrong = perf_pool_count_wrong(&run->pool);
	return perf_say(run, "done %" PRId64 " %" PRId64 " %" PRIu64, elapsed_ns, cpu_ns,
			run->wrong);
}

int perf_run_serve(struct perf_run *run)
{
	char line[PERF_LINE_LEN];
	uint64_t first, count;
	unsigned kind;
	int status;

	perf_set_patience(2);
	while (!(status = perf_hear(run, line)) && strcmp(line, "end")) {
		if (!strcmp(line, "time")) {
			status = perf_say(run, "time %" PRId64 " %" PRId64, perf_now_ns(),
					  read_boot_id());
		} else if (sscanf(line, "round %u %" SCNu64 " %" SCNu64, &kind, &first, &count) ==
				   3 &&
			   kind <= CHECK && count) {
			status = serve_round(run, (enum round)kind, first, count);
		} else if (sscanf(line, "ahead %" SCNd64, &run->ahead_ns) != 1) {
			warnx("the other process said \"%s\"", line);
			status = PERF_FAILED;
		}
		if (status)
			break;
	}
	if (!status)
		status = perf_say(run, "ended %" PRId64 " %" PRId64,
				  perf_samples_get(&run->notified, 50),
				  perf_samples_get(&run->notified, 99));
	perf_set_patience(1);
	return status;
}
