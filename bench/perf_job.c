/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_job.c - see perf_job.h. It never touches a connection.
 */
#include "perf_job.h"

#include "perf_measure.h"

#include <err.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define JOB_FORMAT                                                                                 \
	"kvtrans-perf/3 op=%u mode=%u pattern=%u block=%zu count=%zu depth=%u extents=%u "         \
	"beside=%u verify=%u plain=%u ns=%"

enum { BLOCK_MAX = 1 << 30, DEFAULT_CONNECTIONS = 50 };

enum {
	OPTION_SHAPE = 512,
	OPTION_EXTENTS,
	OPTION_PATTERN,
	OPTION_PLAIN,
	OPTION_VERIFY,
	OPTION_LATENCY,
	OPTION_SECONDS,
	OPTION_WARMUP,
	OPTION_JSON,
};

static const struct argp_option option_table[] = {
	{ "op", 'o', "OP", 0,
	  "send: messages; write, read: paged transfers; notify: notifications alone (send)", 1 },
	{ "block", 'b', "BYTES", 0,
	  "bytes of a message, as 64K or 16MiB (1M; 64 with --latency), or of a block (16K), or of "
	  "a notification (16)",
	  1 },
	{ "count", 'n', "N", 0,
	  "messages a batch, each in a slot of its own (64), or blocks a transfer (4096)", 1 },
	{ "shape", OPTION_SHAPE, "NAME", 0, "S1 to S4: block and count of a model's cache", 1 },
	{ "extents", OPTION_EXTENTS, "N", 0,
	  "paged: arrays of the pool, as layers are; the indices of a transfer hold in each (1)",
	  1 },
	{ "depth", 'd', "N", 0, "messages in flight, each on a KV of its own (4), or transfers (1)",
	  1 },
	{ "pattern", OPTION_PATTERN, "NAME", 0,
	  "contiguous, runs (of 8) or random slots (contiguous; paged: random)", 1 },
	{ "plain", OPTION_PLAIN, NULL, 0, "paged: transfers without notifications", 1 },
	{ "verify", OPTION_VERIFY, NULL, 0,
	  "the receiver checks every byte of each message; paged: of every slot, at the end", 1 },
	{ "latency", OPTION_LATENCY, NULL, 0, "ping-pong: half a round trip", 1 },
	{ "seconds", OPTION_SECONDS, "S", 0, "how long to measure (2; 5 with --idle)", 1 },
	{ "warmup", OPTION_WARMUP, "S", 0, "how long to run before (0.5)", 1 },
	{ "json", OPTION_JSON, NULL, 0, "print one JSON object a result", 1 },
	{ 0 },
};

static const char *const op_names[PERF_OP_COUNT] = { "send", "write", "read", "notify" };
static const char *const mode_names[] = { "throughput", "latency", "connect", "idle" };

const char *perf_mode_get_name(enum perf_mode mode)
{
	return mode_names[mode];
}

const char *perf_op_get_name(enum perf_op op)
{
	return op_names[op];
}

static int parse_op(const char *text, enum perf_op *op)
{
	for (int i = 0; i < PERF_OP_COUNT; i++) {
		if (!strcmp(text, op_names[i])) {
			*op = (enum perf_op)i;
			return 0;
		}
	}
	return -1;
}

/* What models give to a transfer of about a thousand tokens: Llama-3-70B on eight GPUs, Llama-3-8B,
 * DeepSeek-V3, and Llama-3-8B with all layers in one page. */
static int parse_shape(const char *text, struct perf_job *job)
{
	static const struct {
		size_t block_len, count;
	} shapes[] = { { 8192, 5120 }, { 32768, 4096 }, { 73728, 976 }, { 2 << 20, 64 } };

	if (text[0] != 'S' || text[1] < '1' || text[1] > '4' || text[2])
		return -1;
	job->block_len = shapes[text[1] - '1'].block_len;
	job->count = shapes[text[1] - '1'].count;
	return 0;
}

static int parse_count(const char *text, size_t *count)
{
	unsigned number;

	if (perf_parse_number(text, 1, PERF_COUNT_MAX, &number))
		return -1;
	*count = number;
	return 0;
}

void perf_option_refuse(const struct argp_state *state, const struct argp_option *table, int key,
			const char *text)
{
	while (table->key != key && (table->name || table->doc))
		table++;
	argp_error(state, "--%s does not take \"%s\"", table->name ? table->name : "?", text);
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
	struct perf_job_options *options = state->input;
	struct perf_job *job = &options->job;
	int rc = 0;

	switch (key) {
	case 'o':
		rc = parse_op(text, &job->op);
		break;
	case OPTION_SHAPE:
		rc = parse_shape(text, job);
		break;
	case 'b':
		rc = perf_parse_bytes(text, 1, BLOCK_MAX, &job->block_len);
		break;
	case 'n':
		rc = parse_count(text, &job->count);
		break;
	case OPTION_EXTENTS:
		rc = perf_parse_number(text, 1, PERF_EXTENTS_MAX, &job->extents);
		break;
	case 'd':
		rc = perf_parse_number(text, 1, PERF_DEPTH_MAX, &job->depth);
		break;
	case OPTION_PATTERN:
		options->has_pattern = true;
		rc = perf_pattern_parse(text, &job->pattern);
		break;
	case OPTION_PLAIN:
		job->plain = true;
		break;
	case OPTION_VERIFY:
		job->verify = true;
		break;
	case OPTION_LATENCY:
		if (job->mode != PERF_THROUGHPUT)
			argp_error(state, "--latency, --connect and --idle exclude one another");
		job->mode = PERF_LATENCY;
		break;
	case OPTION_SECONDS:
		rc = perf_parse_seconds(text, 0.01, 3600, &job->duration_ns);
		break;
	case OPTION_WARMUP:
		rc = perf_parse_seconds(text, 0, 3600, &options->warmup_ns);
		break;
	case OPTION_JSON:
		options->json = true;
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	if (rc)
		perf_option_refuse(state, option_table, key, text);
	return 0;
}

const struct argp perf_job_argp = { .options = option_table, .parser = parse_option };

void perf_job_init(struct perf_job_options *options)
{
	*options = (struct perf_job_options){ .warmup_ns = PERF_SECOND / 2 };
}

bool perf_job_is_paged(const struct perf_job *job)
{
	return job->op == PERF_WRITE || job->op == PERF_READ;
}

static void fill_defaults(struct perf_job_options *options)
{
	struct perf_job *job = &options->job;
	bool latency = job->mode == PERF_LATENCY;
	bool paged = perf_job_is_paged(job);

	if (!job->block_len && job->op == PERF_NOTIFY)
		job->block_len = PERF_STAMP_LEN;
	if (!job->block_len)
		job->block_len = latency ? 64 : paged ? 16 << 10 : 1 << 20;
	if (!job->count && job->mode == PERF_CONNECT)
		job->count = DEFAULT_CONNECTIONS;
	if (!job->count || job->op == PERF_NOTIFY)
		job->count = job->op == PERF_NOTIFY ? 1 : paged ? 4096 : 64;
	if (!options->has_pattern)
		job->pattern = paged ? PERF_RANDOM : PERF_CONTIGUOUS;
	if (!job->extents)
		job->extents = 1;
	if (!job->depth)
		job->depth = job->op == PERF_SEND ? 4 : 1;
	if (latency)
		job->depth = 1;
	if (job->op == PERF_SEND && job->depth > job->count)
		job->depth = (unsigned)job->count;
	if (!job->duration_ns)
		job->duration_ns = (job->mode == PERF_IDLE ? 5 : 2) * PERF_SECOND;
}

void perf_job_complete(struct perf_job_options *options, unsigned processes)
{
	fill_defaults(options);
	const char *refusal = perf_job_refuse(&options->job, processes);
	if (refusal)
		errx(PERF_USAGE, "%s", refusal);
}

size_t perf_job_get_slots(const struct perf_job *job)
{
	if (job->op == PERF_NOTIFY)
		return 0;
	if (job->op != PERF_SEND)
		return job->count * perf_pool_count_sets(job->block_len, job->count, job->depth);
	if (job->mode == PERF_THROUGHPUT)
		return job->count;
	return job->mode == PERF_LATENCY ? 2 : 0; /* one goes out, one takes the answer */
}

const char *perf_job_refuse(const struct perf_job *job, unsigned processes)
{
	size_t slots = perf_job_get_slots(job);

	if (job->op != PERF_SEND && job->mode != PERF_THROUGHPUT)
		return "--latency, --connect and --idle go with --op send only";
	if (job->count % job->extents || (job->extents > 1 && job->op == PERF_SEND))
		return "--extents divides --count, and is for --op write and read";
	if (job->op == PERF_NOTIFY &&
	    (job->block_len < PERF_STAMP_LEN || job->block_len > PERF_NOTIFY_MAX))
		return "a notification has 16 to 4096 bytes";
	if (job->plain && !perf_job_is_paged(job))
		return "--plain is for --op write and read";
	if (slots > PERF_SLOTS_MAX)
		return "so many transfers of so many blocks need more than 16 million slots";
	return slots ? perf_pool_refuse(job->block_len, slots, processes) : NULL;
}

void perf_job_encode(const struct perf_job *job, char *text, size_t len)
{
	snprintf(text, len, JOB_FORMAT PRId64, (unsigned)job->op, (unsigned)job->mode,
		 (unsigned)job->pattern, job->block_len, job->count, job->depth, job->extents,
		 job->beside, (unsigned)job->verify, (unsigned)job->plain, job->duration_ns);
}

int perf_job_decode(const char *text, struct perf_job *job)
{
	struct perf_job read = { 0 };
	unsigned op, mode, pattern, verify, plain;

	if (sscanf(text, JOB_FORMAT SCNd64, &op, &mode, &pattern, &read.block_len, &read.count,
		   &read.depth, &read.extents, &read.beside, &verify, &plain,
		   &read.duration_ns) != 11)
		return -1;
	if (op >= PERF_OP_COUNT || mode >= PERF_MODE_COUNT || pattern >= PERF_PATTERN_COUNT ||
	    verify > 1 || plain > 1)
		return -1;
	if (!read.block_len || read.block_len > BLOCK_MAX || !read.count ||
	    read.count > PERF_COUNT_MAX || read.beside > PERF_BESIDE_MAX)
		return -1;
	if (!read.depth || read.depth > PERF_DEPTH_MAX ||
	    (op == PERF_SEND && read.depth > read.count))
		return -1;
	if (read.duration_ns < 0 || read.duration_ns > 3600 * PERF_SECOND)
		return -1;
	if (!read.extents || read.extents > PERF_EXTENTS_MAX)
		return -1;
	read.op = (enum perf_op)op;
	read.mode = (enum perf_mode)mode;
	read.pattern = (enum perf_pattern)pattern;
	read.verify = verify;
	read.plain = plain;
	*job = read;
	return 0;
}
