/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw_paged.c - see raw_paged.h. It never moves a block itself.
 */
#include "raw_paged.h"

#include <err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Of the last so many transfers it is known when they started and arrived. */
enum { STAMPS = 1 << 16 };

/* Words that are no transfer's number. */
static const uint64_t COMMANDS = UINT64_C(1) << 63;
enum command { SYNC, PREPARE, CHECK, END };

static bool is_first(const struct raw_paged *paged)
{
	return paged->peer->pid > 0;
}

/* Whether this process's pool is where the bytes come from. */
static bool is_source(const struct raw_paged *paged)
{
	return is_first(paged) == (paged->options->op == RAW_WRITE);
}

/* ---- the first process ---- */

static int start_transfer(struct raw_paged *paged)
{
	struct raw_flight *flight = &paged->flights[paged->started % paged->options->depth];
	size_t first = paged->started % paged->sets * paged->options->count;

	*flight = (struct raw_flight){
		.number = paged->started,
		.local = paged->pool.order + first,
		.remote = paged->remote_order + first,
		.started = perf_now_ns(),
	};
	paged->starts[flight->number % STAMPS] = flight->started;
	if (paged->path->post(paged, flight))
		return -1;
	paged->started++;
	perf_samples_add(&paged->submits, perf_now_ns() - flight->started);
	return 0;
}

static int finish_transfer(struct raw_paged *paged)
{
	struct raw_flight *flight = &paged->flights[paged->finished % paged->options->depth];

	if (paged->path->finish(paged, flight))
		return -1;
	perf_samples_add(&paged->times, perf_now_ns() - flight->started);
	paged->finished++;
	if (paged->options->op == RAW_WRITE && !paged->path->hears_writes)
		return paged->path->tell(paged, flight->number);
	return 0;
}

/* Keep depth transfers in flight until the oldest of them is over. */
static int run_transfer(void *arg)
{
	struct raw_paged *paged = arg;

	while (paged->started - paged->finished < paged->options->depth) {
		if (start_transfer(paged))
			return -1;
	}
	return finish_transfer(paged);
}

static int finish_all(struct raw_paged *paged)
{
	while (paged->finished < paged->started) {
		if (finish_transfer(paged))
			return -1;
	}
	return 0;
}

static void begin_measuring(void *arg)
{
	struct raw_paged *paged = arg;

	perf_samples_reset(&paged->submits);
	paged->measured_from = paged->started;
}

/* Fill the pool with what will be sent, or with what no block consists of. */
static void prepare_bytes(struct raw_paged *paged)
{
	struct perf_pool *pool = &paged->pool;

	if (!is_source(paged)) {
		memset(pool->base, 0xEE, pool->len);
		return;
	}
	for (size_t i = 0; i < pool->count; i++)
		perf_fill(perf_pool_get(pool, i), pool->block_len, i);
}

static uint64_t count_wrong(struct raw_paged *paged)
{
	struct perf_pool *pool = &paged->pool;
	uint64_t wrong = 0;

	for (size_t i = 0; i < pool->count && !is_source(paged); i++)
		wrong += !perf_check(perf_pool_get(pool, i), pool->block_len, i);
	return wrong;
}

static int command(struct raw_paged *paged, enum command command, uint64_t *answer)
{
	if (paged->path->tell(paged, COMMANDS + command))
		return -1;
	return raw_get(paged->peer->fd, answer, sizeof(*answer)) ? -1 : 0;
}

/* Move every slot once more, and look at each byte. */
static int verify(struct raw_paged *paged)
{
	uint64_t answer;

	prepare_bytes(paged);
	if (command(paged, PREPARE, &answer))
		return PERF_FAILED;
	for (size_t i = 0; i < paged->sets; i++) {
		if (start_transfer(paged) || finish_transfer(paged))
			return PERF_FAILED;
	}
	if (command(paged, CHECK, &answer))
		return PERF_FAILED;
	uint64_t wrong = answer + count_wrong(paged);
	if (wrong)
		warnx("%llu of %zu blocks have wrong bytes", (unsigned long long)wrong,
		      paged->pool.count);
	return wrong ? PERF_WRONG_BYTES : PERF_OK;
}

/* How long after its start the other process knew of each transfer's end. A command that was
 * answered makes sure that it does by now. */
static int collect_stamps(struct raw_paged *paged)
{
	uint64_t first = paged->measured_from;
	uint64_t answer;

	if (paged->options->op != RAW_WRITE)
		return 0;
	if (command(paged, SYNC, &answer))
		return -1;
	if (paged->finished - first > STAMPS)
		first = paged->finished - STAMPS;
	for (; first < paged->finished; first++) {
		size_t i = first % STAMPS;
		perf_samples_add(&paged->notified, paged->stamps[i] - paged->starts[i]);
	}
	return 0;
}

static int measure(struct raw_paged *paged)
{
	const struct raw_options *options = paged->options;
	struct perf_report report = {
		.tool = paged->path->tool,
		.op = options->op == RAW_WRITE ? "write" : "read",
		.provider = paged->path->provider ? paged->path->provider : options->provider,
		.pattern = perf_pattern_get_name(options->pattern),
	};
	struct raw_step step = {
		.run = run_transfer,
		.begin = begin_measuring,
		.arg = paged,
		.samples = &paged->times,
		.messages = options->count,
		.bytes = options->count * options->block_len,
	};
	uint64_t answer;

	if (raw_repeat(options, paged->peer, &step, &report) || finish_all(paged) ||
	    collect_stamps(paged))
		return PERF_FAILED;
	report.transfers = report.messages / options->count;
	report.submit_ns = perf_samples_get(&paged->submits, 50);
	report.notified_p50_ns = perf_samples_get(&paged->notified, 50);
	report.notified_p99_ns = perf_samples_get(&paged->notified, 99);
	int status = verify(paged);
	report.verified = status == PERF_OK;
	if (command(paged, END, &answer) || status == PERF_FAILED)
		return PERF_FAILED;
	perf_report_print(&report, options->json);
	return status;
}

/* ---- the forked process ---- */

void raw_paged_stamp(struct raw_paged *paged, uint64_t number)
{
	paged->stamps[number % STAMPS] = perf_now_ns();
}

static int serve(struct raw_paged *paged)
{
	for (;;) {
		uint64_t word, answer = 0;
		if (paged->path->hear(paged, &word))
			return PERF_FAILED;
		if (word < COMMANDS) {
			raw_paged_stamp(paged, word);
			continue;
		}
		if (word == COMMANDS + PREPARE)
			prepare_bytes(paged);
		else if (word == COMMANDS + CHECK)
			answer = count_wrong(paged);
		if (raw_put(paged->peer->fd, &answer, sizeof(answer)))
			return PERF_FAILED;
		if (word == COMMANDS + END)
			return PERF_OK;
	}
}

/* ---- both ---- */

static int open_memory(struct raw_paged *paged)
{
	const struct raw_options *options = paged->options;
	size_t slots = paged->sets * options->count;
	uint64_t own_seed = is_first(paged) ? 1 : 2;

	if (perf_pool_open(&paged->pool, options->block_len, slots, options->pattern, own_seed) ||
	    perf_samples_open(&paged->times) || perf_samples_open(&paged->submits) ||
	    perf_samples_open(&paged->notified))
		return -1;
	paged->remote_order = perf_order_make(slots, options->pattern, 3 - own_seed);
	paged->flights = calloc(options->depth, sizeof(*paged->flights));
	paged->starts = calloc(STAMPS, sizeof(*paged->starts));
	return paged->remote_order && paged->flights && paged->starts ? 0 : -1;
}

static void close_memory(struct raw_paged *paged)
{
	free(paged->starts);
	free(paged->flights);
	free(paged->remote_order);
	perf_samples_close(&paged->notified);
	perf_samples_close(&paged->submits);
	perf_samples_close(&paged->times);
	perf_pool_close(&paged->pool);
}

static int run_side(struct raw_paged *paged)
{
	int status = PERF_FAILED;

	if (open_memory(paged)) {
		warnx("no memory for the blocks");
	} else if (!paged->path->open(paged)) {
		/* Some builds of libfabric take SIGINT for themselves when they are loaded. */
		if (is_first(paged))
			perf_catch_interrupts();
		status = is_first(paged) ? measure(paged) : serve(paged);
	}
	paged->path->close(paged);
	close_memory(paged);
	return status;
}

int raw_paged_run(const struct raw_path *path, const struct raw_options *options)
{
	struct raw_peer peer;
	struct raw_paged paged = {
		.options = options,
		.path = path,
		.peer = &peer,
		.sets = perf_pool_count_sets(options->block_len, options->count, options->depth),
	};
	const char *refusal = perf_pool_refuse(options->block_len, paged.sets * options->count, 2);

	if (refusal)
		errx(PERF_USAGE, "%s", refusal);
	paged.stamps = mmap(NULL, STAMPS * sizeof(*paged.stamps), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (paged.stamps == MAP_FAILED)
		err(PERF_FAILED, "mmap");
	if (raw_split(&peer))
		return PERF_FAILED;
	perf_arm_watchdog(options->duration_ns + options->warmup_ns + 60 * PERF_SECOND);
	int status = run_side(&paged);
	if (!peer.pid)
		return status;
	int peer_status = raw_join(&peer);
	if (status || peer_status)
		return status ? status : peer_status;
	return perf_count_interrupts() ? PERF_INTERRUPTED : PERF_OK;
}
