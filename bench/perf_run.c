/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_run.c - see perf_run.h. It never moves a byte itself.
 */
#include "perf_run.h"

#include <err.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
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

static int open_memory(struct perf_run *run)
{
	const struct perf_job *job = run->job;
	size_t slots = perf_job_get_slots(job);
	unsigned seed = run->leads ? 1 : 2;

	run->flights = calloc(job->depth + 1, sizeof(*run->flights)); /* a ping-pong has two */
	if (!run->flights || perf_samples_open(&run->times) || perf_samples_open(&run->submits) ||
	    perf_samples_open(&run->notified))
		goto no_memory;
	if (!slots)
		return PERF_OK;
	run->sets = slots / job->count;
	run->remote_order = perf_order_make(slots, job->extents, job->pattern, 3 - seed);
	uint32_t *order = perf_order_make(slots, job->extents, job->pattern, seed);
	if (run->remote_order && order && !perf_pool_open(&run->pool, job->block_len, slots, order))
		return PERF_OK;
no_memory:
	warnx("no memory for %zu blocks of %zu bytes", slots, job->block_len);
	return PERF_FAILED;
}

int perf_run_open(struct perf_run *run)
{
	int status = open_memory(run);

	return status ? status : run->path->open(run);
}

void perf_run_close(struct perf_run *run)
{
	run->path->close(run);
	perf_pool_close(&run->pool);
	free(run->remote_order);
	perf_samples_close(&run->notified);
	perf_samples_close(&run->submits);
	perf_samples_close(&run->times);
	free(run->flights);
}

size_t perf_run_count_indices(const struct perf_run *run)
{
	return run->job->count / run->job->extents;
}

struct perf_stamp perf_run_get_stamp(const struct perf_flight *flight)
{
	return (struct perf_stamp){ flight->number, flight->started };
}

static bool is_send(const struct perf_run *run)
{
	return run->job->op == PERF_SEND;
}

static bool tells_itself(const struct perf_run *run)
{
	return run->job->op == PERF_READ ? run->path->tells_reads : run->path->tells_writes;
}

bool perf_run_is_told(const struct perf_run *run)
{
	return !run->job->plain && (run->job->op != PERF_READ || run->path->tells_reads);
}

__attribute__((format(printf, 2, 3))) static int say(struct perf_run *run, const char *format, ...)
{
	char line[PERF_LINE_LEN];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	return run->path->say(run, line);
}

static int blame(const char *line)
{
	warnx("the other process said \"%s\"", line);
	return PERF_FAILED;
}

/* ---- the leading process ---- */

static int start_flight(struct perf_run *run, uint64_t number)
{
	struct perf_flight *flight = &run->flights[number % run->job->depth];
	int status;

	*flight = (struct perf_flight){ .number = number, .started = perf_now_ns() };
	if (is_send(run)) {
		flight->slot = perf_pool_get(&run->pool, number);
		/* Filling counts: it is what a run that verifies costs. */
		if (run->job->verify)
			perf_fill(flight->slot, run->job->block_len, number);
		status = run->path->send(run, flight);
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
	int status = run->path->finish(run, flight);

	flight->flying = false;
	if (status)
		return status;
	perf_samples_add(&run->times, perf_now_ns() - flight->started);
	if (is_send(run) || tells_itself(run) || !perf_run_is_told(run))
		return PERF_OK;
	struct perf_stamp stamp = perf_run_get_stamp(flight);
	return run->path->tell(run, &stamp);
}

/* Start flights first to end - 1, each as soon as the one depth places before it is over. */
static int run_flights(struct perf_run *run, uint64_t first, uint64_t end)
{
	unsigned depth = run->job->depth;
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

static int start_in(struct perf_run *run, uint64_t number)
{
	run->flights[IN].number = number;
	run->flights[IN].slot = perf_pool_get(&run->pool, IN);
	return run->path->recv(run, &run->flights[IN]);
}

static int start_out(struct perf_run *run, uint64_t number)
{
	struct perf_flight *flight = &run->flights[OUT];

	flight->number = number;
	flight->slot = perf_pool_get(&run->pool, OUT);
	if (run->job->verify)
		perf_fill(flight->slot, run->job->block_len, number);
	return run->path->send(run, flight);
}

/* A send's own end is taken after the answer to it: it costs the ping-pong nothing but its work. */
static int play_pings(struct perf_run *run, uint64_t first, uint64_t end)
{
	int status;

	for (uint64_t i = first; i < end; i++) {
		if ((status = start_in(run, i)))
			return status;
		int64_t started = perf_now_ns();
		if ((status = start_out(run, i)) ||
		    (status = run->path->finish(run, &run->flights[IN])))
			return status;
		perf_samples_add(&run->times, (perf_now_ns() - started) / 2);
		if ((status = run->path->finish(run, &run->flights[OUT])))
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
	bool latency = run->job->mode == PERF_LATENCY;
	int64_t receiver_ns, peer_cpu_ns;
	char line[PERF_LINE_LEN];
	int status;

	if ((status = say(run, "round %d %" PRIu64 " %" PRIu64, kind, first, count)) ||
	    (status = run->path->hear(run, line)))
		return status;
	if (strcmp(line, "go"))
		return blame(line);
	int64_t cpu_ns = perf_cpu_ns();
	int64_t started = perf_now_ns();
	if ((status = (latency ? play_pings : run_flights)(run, first, first + count)))
		return status;
	totals->elapsed_ns += perf_now_ns() - started;
	totals->cpu_ns += perf_cpu_ns() - cpu_ns;
	if ((status = end_round(run)) || (status = run->path->hear(run, line)))
		return status;
	if (sscanf(line, "done %" SCNd64 " %" SCNd64 " %" SCNu64, &receiver_ns, &peer_cpu_ns,
		   &run->wrong) != 3)
		return blame(line);
	totals->count += count;
	totals->receiver_ns += receiver_ns;
	totals->peer_cpu_ns += peer_cpu_ns;
	return PERF_OK;
}

/* Messages go in whole batches, as every slot is used as often as any other. */
static uint64_t get_batch(const struct perf_run *run)
{
	return is_send(run) ? run->job->count : 1;
}

/* How many fit into what is left of the time, at most a round's worth; enough for what is in flight to be
 * what it should be for half of the round. */
static uint64_t size_round(const struct perf_run *run, const struct totals *last, int64_t left_ns)
{
	uint64_t batch = get_batch(run);
	uint64_t least = (2 * run->job->depth + batch - 1) / batch;
	uint64_t batches = 0;

	if (run->job->depth == 1)
		least = 1;
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
	struct totals sum = { 0 };
	size_t len = run->job->block_len * (is_send(run) ? 1 : run->job->count);

	do {
		uint64_t count = size_round(run, last, limit_ns - sum.elapsed_ns);
		int status = lead_round(run, kind, *next, count, &sum);
		if (status)
			return status;
		*next += count;
		*last = sum;
		if (kind == MEASURE)
			perf_progress(sum.count * len, sum.elapsed_ns, limit_ns);
	} while (sum.elapsed_ns < limit_ns && !perf_count_interrupts());
	return PERF_OK;
}

/* The kernel's identity, as a number that another kernel does not have; 0 when it is not known. */
static int64_t read_boot_id(void)
{
	FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
	unsigned high = 0, low = 0;

	if (!file)
		return 0;
	if (fscanf(file, "%8x-%4x", &high, &low) != 2)
		high = low = 0;
	fclose(file);
	return (int64_t)high << 16 | low;
}

/* Tell the other process what its clock is ahead of ours: nothing on the same kernel, else by the fastest of some
 * round trips. */
static int compare_clocks(struct perf_run *run)
{
	int64_t best = INT64_MAX, ahead = 0, theirs, boot = 0;
	char line[PERF_LINE_LEN];
	int status;

	for (int i = 0; i < CLOCK_PINGS && (!boot || boot != read_boot_id()); i++) {
		int64_t sent = perf_now_ns();
		if ((status = say(run, "time")) || (status = run->path->hear(run, line)))
			return status;
		int64_t trip = perf_now_ns() - sent;
		if (sscanf(line, "time %" SCNd64 " %" SCNd64, &theirs, &boot) != 2)
			return blame(line);
		if (trip < best)
			ahead = theirs - sent - trip / 2;
		best = trip < best ? trip : best;
	}
	return say(run, "ahead %" PRId64, boot && boot == read_boot_id() ? 0 : ahead);
}

/* Move every slot once more, and have each byte looked at. */
static int check_pool(struct perf_run *run)
{
	bool source = run->job->op == PERF_WRITE;
	struct totals none = { 0 };

	perf_pool_prepare(&run->pool, source);
	int status = lead_round(run, CHECK, 0, run->sets, &none);
	if (!status && !source)
		run->wrong = perf_pool_count_wrong(&run->pool);
	return status;
}

static int finish_run(struct perf_run *run, const struct totals *totals, struct perf_report *report)
{
	const struct perf_job *job = run->job;
	bool paged = perf_job_is_paged(job);
	char line[PERF_LINE_LEN];
	int status;

	report->memory_len = (int64_t)(perf_memory_get_peak() - report->memory_len);
	report->messages = totals->count * (is_send(run) ? 1 : job->count);
	report->bytes = report->messages * job->block_len;
	report->elapsed_ns = totals->elapsed_ns;
	report->receiver_ns = totals->receiver_ns;
	report->cpu_ns = totals->cpu_ns;
	report->peer_cpu_ns = totals->peer_cpu_ns;
	report->p50_ns = perf_samples_get(&run->times, 50);
	report->p99_ns = perf_samples_get(&run->times, 99);
	if (paged && job->verify && (status = check_pool(run)))
		return status;
	report->verified = job->verify && job->op != PERF_NOTIFY && !run->wrong;
	if ((status = say(run, "end")) || (status = run->path->hear(run, line)))
		return status;
	if (sscanf(line, "ended %" SCNd64 " %" SCNd64, &report->notified_p50_ns,
		   &report->notified_p99_ns) != 2)
		return blame(line);
	if (!is_send(run)) {
		report->pattern = perf_pattern_get_name(job->pattern);
		report->transfers = totals->count;
		report->submit_ns = perf_samples_get(&run->submits, 50);
		report->submit_p99_ns = perf_samples_get(&run->submits, 99);
	}
	if (!run->wrong)
		return PERF_OK;
	warnx("%" PRIu64 " %s with wrong bytes", run->wrong,
	      paged ? "blocks are there" : "messages arrived");
	return PERF_WRONG_BYTES;
}

int perf_run_lead(struct perf_run *run, int64_t warmup_ns, struct perf_report *report)
{
	const struct perf_job *job = run->job;
	struct totals totals = { 0 };
	uint64_t next = 0;
	int status = PERF_OK;

	report->op = perf_op_get_name(job->op);
	report->mode = perf_mode_get_name(job->mode);
	report->block_len = job->block_len;
	report->count = job->mode == PERF_LATENCY ? perf_job_get_slots(job) : job->count;
	report->depth = job->depth;
	if (!is_send(run) && (status = compare_clocks(run)))
		return status;
	perf_set_patience(2);
	perf_memory_reset_peak();
	report->memory_len = (int64_t)perf_memory_get();
	status = lead_rounds(run, WARM, warmup_ns, &next, &totals);
	if (!status && !perf_count_interrupts()) {
		perf_samples_reset(&run->times);
		perf_samples_reset(&run->submits);
		status = lead_rounds(run, MEASURE, job->duration_ns, &next, &totals);
		perf_progress_end();
	}
	if (!status)
		status = finish_run(run, &totals, report);
	report->interrupted = perf_count_interrupts() > 0;
	perf_set_patience(1);
	return status;
}

/* ---- the serving process ---- */

static int start_receive(struct perf_run *run, uint64_t number)
{
	struct perf_flight *flight = &run->flights[number % run->job->depth];

	*flight = (struct perf_flight){ .number = number };
	flight->slot = perf_pool_get(&run->pool, number);
	return run->path->recv(run, flight);
}

static int receive_messages(struct perf_run *run, uint64_t first, uint64_t end)
{
	const struct perf_job *job = run->job;
	int status;

	for (uint64_t i = first; i < end; i++) {
		struct perf_flight *flight = &run->flights[i % job->depth];
		if ((status = run->path->finish(run, flight)))
			return status;
		if (job->verify && !perf_check(flight->slot, job->block_len, i))
			run->wrong++;
		if (i + job->depth < end && (status = start_receive(run, i + job->depth)))
			return status;
	}
	return PERF_OK;
}

static int play_pongs(struct perf_run *run, uint64_t first, uint64_t end)
{
	const struct perf_job *job = run->job;
	struct perf_flight *in = &run->flights[IN], *out = &run->flights[OUT];
	int status;

	for (uint64_t i = first; i < end; i++) {
		if ((status = run->path->finish(run, in)))
			return status;
		if (job->verify && !perf_check(in->slot, job->block_len, i))
			run->wrong++;
		if (i > first && (status = run->path->finish(run, out)))
			return status;
		/* The next message must find its receive posted. */
		if (i + 1 < end && (status = start_in(run, i + 1)))
			return status;
		if ((status = start_out(run, i)))
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

static int prepare_round(struct perf_run *run, enum round kind, uint64_t first, uint64_t count)
{
	int status = PERF_OK;

	if (kind == CHECK)
		perf_pool_prepare(&run->pool, run->job->op == PERF_READ);
	if (!is_send(run))
		return PERF_OK;
	if (run->job->mode == PERF_LATENCY)
		return start_in(run, first);
	for (uint64_t i = 0; i < count && i < run->job->depth && !status; i++)
		status = start_receive(run, first + i);
	return status;
}

static int follow_round(struct perf_run *run, enum round kind, uint64_t first, uint64_t count)
{
	bool latency = run->job->mode == PERF_LATENCY;
	bool told = perf_run_is_told(run);
	int status;

	if ((status = prepare_round(run, kind, first, count)))
		return status;
	int64_t cpu_ns = perf_cpu_ns();
	int64_t started = perf_now_ns();
	if ((status = say(run, "go")))
		return status;
	if (is_send(run))
		status = (latency ? play_pongs : receive_messages)(run, first, first + count);
	else
		status = await_stamps(run, told ? count : 1, told && kind == MEASURE);
	if (status)
		return status;
	int64_t elapsed_ns = perf_now_ns() - started;
	cpu_ns = perf_cpu_ns() - cpu_ns;
	if (kind == CHECK && run->job->op == PERF_WRITE)
		run->wrong = perf_pool_count_wrong(&run->pool);
	return say(run, "done %" PRId64 " %" PRId64 " %" PRIu64, elapsed_ns, cpu_ns, run->wrong);
}

int perf_run_serve(struct perf_run *run)
{
	char line[PERF_LINE_LEN];
	uint64_t first, count;
	unsigned kind;
	int status;

	perf_set_patience(2);
	do {
		if ((status = run->path->hear(run, line)))
			break;
		if (!strcmp(line, "end")) {
			status = say(run, "ended %" PRId64 " %" PRId64,
				     perf_samples_get(&run->notified, 50),
				     perf_samples_get(&run->notified, 99));
			break;
		}
		if (!strcmp(line, "time"))
			status = say(run, "time %" PRId64 " %" PRId64, perf_now_ns(),
				     read_boot_id());
		else if (sscanf(line, "round %u %" SCNu64 " %" SCNu64, &kind, &first, &count) ==
				 3 &&
			 kind <= CHECK && count)
			status = follow_round(run, (enum round)kind, first, count);
		else if (sscanf(line, "ahead %" SCNd64, &run->ahead_ns) != 1)
			status = blame(line);
	} while (!status);
	perf_set_patience(1);
	return status;
}
