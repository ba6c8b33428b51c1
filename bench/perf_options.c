/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_options.c - see perf_options.h. It never opens an engine.
 */
#include "perf_options.h"

#include "perf_measure.h"

#include <kvtrans.h>

#include <argp.h>
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DEFAULT_PORT = 18515, DEFAULT_CONNECTIONS = 50, BLOCK_MAX = 1 << 30 };

enum {
	OPTION_SELF = 256,
	OPTION_ONCE,
	OPTION_PATTERN,
	OPTION_SHAPE,
	OPTION_EXTENTS,
	OPTION_LATENCY,
	OPTION_CONNECT,
	OPTION_IDLE,
	OPTION_VERIFY,
	OPTION_SECONDS,
	OPTION_WARMUP,
	OPTION_TIMEOUT,
	OPTION_JSON,
	OPTION_PROVIDER,
	OPTION_NCPUS,
	OPTION_NCONN,
	OPTION_EAGER,
	OPTION_SPIN,
	OPTION_LANE_PORTS,
};

static const struct argp_option option_table[] = {
	{ NULL, 0, NULL, 0, "What is measured:", 1 },
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
	{ "verify", OPTION_VERIFY, NULL, 0,
	  "the receiver checks every byte of each message; paged: of every slot, at the end", 1 },
	{ "latency", OPTION_LATENCY, NULL, 0, "ping-pong: half a round trip", 1 },
	{ "connect", OPTION_CONNECT, NULL, 0, "the time of --count connects (50)", 1 },
	{ "idle", OPTION_IDLE, NULL, 0, "the CPU time of a connection that is not used", 1 },
	{ "seconds", OPTION_SECONDS, "S", 0, "how long to measure (2; 5 with --idle)", 1 },
	{ "warmup", OPTION_WARMUP, "S", 0, "how long to run before (0.5)", 1 },
	{ NULL, 0, NULL, 0, "Who takes part:", 2 },
	{ "self", OPTION_SELF, NULL, 0, "fork the server on this host", 2 },
	{ "port", 'p', "PORT", 0, "the server's port (18515)", 2 },
	{ "interface", 'i', "NAME", 0, "interface or address; may be repeated (lo)", 2 },
	{ "once", OPTION_ONCE, NULL, 0, "the server ends after one client", 2 },
	{ "timeout", OPTION_TIMEOUT, "S", 0, "longest wait for the peer (30)", 2 },
	{ NULL, 0, NULL, 0, "How the engine works:", 3 },
	{ "provider", OPTION_PROVIDER, "NAME", 0, "libfabric provider (the best one)", 3 },
	{ "ncpus", OPTION_NCPUS, "N", 0, "workers (half the CPUs, 1 to 4)", 3 },
	{ "nconn", OPTION_NCONN, "N", 0, "lanes of a worker (1)", 3 },
	{ "eager", OPTION_EAGER, "BYTES", 0, "largest eager message (64K); 0: none", 3 },
	{ "spin", OPTION_SPIN, "US", 0, "microseconds of polling before sleeping; 0: none", 3 },
	{ "lane-ports", OPTION_LANE_PORTS, "RANGE", 0,
	  "ports that the client's lanes connect to, as 40000-40100 (any)", 3 },
	{ NULL, 0, NULL, 0, "What is printed:", 4 },
	{ "json", OPTION_JSON, NULL, 0, "one JSON object a result", 4 },
	{ 0 },
};

static const char usage[] = "[HOST]";
static const char doc[] = "Measure KVTrans between two processes. Without HOST and --self it is "
			  "the server, with HOST the client, with --self both.\v"
			  "Exit status: 0 success, 1 failure, 2 wrong use, 3 wrong bytes, "
			  "130 interrupted.";

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

static int parse_engine_option(int key, const char *text, struct perf_options *options)
{
	unsigned number;

	switch (key) {
	case OPTION_PROVIDER:
		options->provider = text;
		return 0;
	case OPTION_NCPUS:
		return perf_parse_number(text, 1, 256, &options->ncpus);
	case OPTION_NCONN:
		return perf_parse_number(text, 1, 1024, &options->nconn);
	case OPTION_EAGER:
		if (perf_parse_bytes(text, 0, 1 << 20, &options->eager_len))
			return -1;
		if (!options->eager_len)
			options->eager_len = KVT_NO_EAGER;
		return 0;
	case OPTION_LANE_PORTS:
		options->lane_ports = text;
		return 0;
	case OPTION_SPIN:
		if (perf_parse_number(text, 0, 1000000, &number))
			return -1;
		options->spin_ns = number ? INT64_C(1000) * number : KVT_NO_SPIN;
		return 0;
	default:
		return 1;
	}
}

static int parse_peer_option(int key, const char *text, struct perf_options *options)
{
	unsigned number;

	switch (key) {
	case OPTION_SELF:
		options->role = PERF_SELF;
		return 0;
	case OPTION_ONCE:
		options->once = true;
		return 0;
	case 'p':
		if (perf_parse_number(text, 1, UINT16_MAX, &number))
			return -1;
		options->port = (uint16_t)number;
		return 0;
	case 'i':
		if (!*text || options->interface_count == PERF_INTERFACES_MAX)
			return -1;
		options->interfaces[options->interface_count++] = text;
		return 0;
	case OPTION_TIMEOUT:
		return perf_parse_seconds(text, 0.1, 3600, &options->timeout_ns);
	case OPTION_JSON:
		options->json = true;
		return 0;
	default:
		return parse_engine_option(key, text, options);
	}
}

static int parse_job_option(int key, const char *text, struct perf_options *options)
{
	struct perf_job *job = &options->job;
	unsigned number;

	switch (key) {
	case 'o':
		return perf_op_parse(text, &job->op);
	case OPTION_SHAPE:
		return parse_shape(text, job);
	case 'b':
		return perf_parse_bytes(text, 1, BLOCK_MAX, &job->block_len);
	case 'n':
		if (perf_parse_number(text, 1, PERF_COUNT_MAX, &number))
			return -1;
		job->count = number;
		return 0;
	case OPTION_EXTENTS:
		return perf_parse_number(text, 1, PERF_EXTENTS_MAX, &job->extents);
	case 'd':
		return perf_parse_number(text, 1, PERF_DEPTH_MAX, &job->depth);
	case OPTION_PATTERN:
		options->has_pattern = true;
		return perf_pattern_parse(text, &job->pattern);
	case OPTION_VERIFY:
		job->verify = true;
		return 0;
	case OPTION_LATENCY:
	case OPTION_CONNECT:
	case OPTION_IDLE:
		if (job->mode != PERF_THROUGHPUT)
			return -1;
		job->mode = (enum perf_mode)(PERF_LATENCY + key - OPTION_LATENCY);
		return 0;
	case OPTION_SECONDS:
		return perf_parse_seconds(text, 0.01, 3600, &job->duration_ns);
	case OPTION_WARMUP:
		return perf_parse_seconds(text, 0, 3600, &options->warmup_ns);
	default:
		return parse_peer_option(key, text, options);
	}
}

/* What an option that was refused is called, as the user wrote it. */
static const char *get_option_name(int key)
{
	const struct argp_option *option = option_table;

	for (; option->name || option->doc; option++) {
		if (option->key == key && option->name)
			return option->name;
	}
	return "?";
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
	struct perf_options *options = state->input;

	if (key == ARGP_KEY_ARG) {
		if (options->host)
			argp_error(state, "one HOST is enough");
		options->host = text;
		return 0;
	}
	int rc = parse_job_option(key, text, options);
	if (rc > 0)
		return ARGP_ERR_UNKNOWN;
	if (rc && text)
		argp_error(state, "--%s does not take \"%s\"", get_option_name(key), text);
	else if (rc)
		argp_error(state, "--latency, --connect and --idle exclude one another");
	return 0;
}

/* Fill in what depends on the operation and the mode. */
static void complete_job(struct perf_options *options)
{
	struct perf_job *job = &options->job;
	bool latency = job->mode == PERF_LATENCY;
	bool paged = job->op == PERF_WRITE || job->op == PERF_READ;

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

/* Give the engine's defaults, so that reports can name them. */
static void complete_options(struct perf_options *options)
{
	complete_job(options);
	if (!options->ncpus) {
		long half = sysconf(_SC_NPROCESSORS_ONLN) / 2;
		options->ncpus = half < 1 ? 1 : half > 4 ? 4 : (unsigned)half;
	}
	if (!options->interface_count)
		options->interfaces[options->interface_count++] = "lo";
}

static void print_version(FILE *stream, struct argp_state *state)
{
	(void)state;
	fprintf(stream, "kvtrans-perf %s\n", kvt_get_version());
}

void perf_options_parse(struct perf_options *options, int argc, char **argv)
{
	const struct argp parser = {
		.options = option_table,
		.parser = parse_option,
		.args_doc = usage,
		.doc = doc,
	};
	struct perf_options parsed = {
		.role = PERF_SERVER,
		.port = DEFAULT_PORT,
		.nconn = 1,
		.warmup_ns = PERF_SECOND / 2,
		.timeout_ns = 30 * PERF_SECOND,
	};

	argp_err_exit_status = PERF_USAGE;
	argp_program_version_hook = print_version;
	argp_parse(&parser, argc, argv, 0, NULL, &parsed);
	if (parsed.host && parsed.role == PERF_SELF)
		errx(PERF_USAGE, "--self forks the server on this host: it takes no HOST");
	if (parsed.host)
		parsed.role = PERF_CLIENT;
	if (parsed.job.op != PERF_SEND && parsed.job.mode != PERF_THROUGHPUT)
		errx(PERF_USAGE, "--latency, --connect and --idle go with --op send only");
	complete_options(&parsed);
	if (parsed.job.count % parsed.job.extents || (parsed.job.extents > 1 && !parsed.job.op))
		errx(PERF_USAGE, "--extents divides --count, and is for --op write and read");
	if (parsed.job.op == PERF_NOTIFY &&
	    (parsed.job.block_len < PERF_STAMP_LEN || parsed.job.block_len > PERF_NOTIFY_MAX))
		errx(PERF_USAGE, "a notification has %d to %d bytes", PERF_STAMP_LEN,
		     PERF_NOTIFY_MAX);
	if (parsed.ncpus * parsed.nconn > 1024)
		errx(PERF_USAGE, "--ncpus times --nconn is at most 1024");
	const char *refusal = perf_job_refuse(&parsed.job, parsed.role == PERF_SELF ? 2 : 1);
	if (refusal)
		errx(PERF_USAGE, "%s", refusal);
	*options = parsed;
}
