/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_options.c - the options of both programs in one table, what holds when one is not given, which jobs make no
 * sense, and the line with which a client asks its server for one. It never touches a connection.
 */
#include "perf.h"

#include <argp.h>
#include <err.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char JOB_VERSION[] = "kvtrans-perf/5";
static const double BLOCK_MAX = 1 << 30, HOUR = 3600;

const char *const perf_op_names[] = { "send", "write", "read", "notify", NULL };
static const char *const allocate_names[] = { "none", "client", "server", "both", NULL };
const char *const perf_mode_names[] = { "throughput", "latency", "connect", "idle", NULL };

/* What an option's text becomes. */
enum kind {
	HEADING,
	FLAG,	 /* bool */
	NUMBER,	 /* unsigned */
	WORD,	 /* unsigned: the place among its words */
	SIZE,	 /* size_t; with units, where they are bytes */
	SECONDS, /* int64_t, in ns */
	TEXT,
	MODE,
	SHAPE,
	INTERFACE,
	PATH,
};

struct rule {
	const char *name; /* NULL: it is no option of its own, but part of a job */
	const char *arg;
	const char *doc;
	enum kind kind;
	int letter; /* MODE: which */
	size_t at;  /* in struct perf_options */
	double low, high;
	const char *const *words;
	bool in_job;
	size_t has; /* of the bool that tells that it was given; 0: none */
};

#define AT(member) offsetof(struct perf_options, member)
#define JOB(member, least, most)                                                                   \
	.in_job = true, .at = AT(job.member), .low = (least), .high = (most)

static const struct rule rules[] = {
	{ .doc = "What is measured:" },
	{ "op", "OP",
	  "send: messages; write, read: paged transfers; notify: notifications alone (send)", WORD,
	  'o', JOB(op, 0, PERF_NOTIFY), .words = perf_op_names },
	{ "block", "BYTES",
	  "bytes of a message, as 64K or 16MiB (1M; 64 with --latency), or of a block (16K), or of "
	  "a notification (16)",
	  SIZE, 'b', JOB(block_len, 1, BLOCK_MAX) },
	{ "count", "N",
	  "messages a batch, each in a slot of its own (64), or blocks a transfer (4096)", SIZE,
	  'n', JOB(count, 1, PERF_COUNT_MAX) },
	{ "shape", "NAME", "S1 to S4: block and count of a model's cache", SHAPE },
	{ "extents", "N",
	  "paged: arrays of the pool, as layers are; the indices of a transfer hold in each (1)",
	  NUMBER, 0, JOB(extents, 1, PERF_EXTENTS_MAX) },
	{ "depth", "N", "messages in flight, each on a KV of its own (4), or transfers (1)", NUMBER,
	  'd', JOB(depth, 1, PERF_DEPTH_MAX) },
	{ "pattern", "NAME", "contiguous, runs (of 8) or random slots (contiguous; paged: random)",
	  WORD, 0, JOB(pattern, 0, PERF_RANDOM), .words = perf_pattern_names,
	  .has = AT(has_pattern) },
	{ "allocate", "SIDE",
	  "paged: client, server or both have memory that the engine allocates (none)", WORD, 0,
	  JOB(allocate, 0, PERF_ALLOCATE_BOTH), .words = allocate_names },
	{ "plain", NULL, "paged: transfers without notifications", FLAG, 0, JOB(plain, 0, 1) },
	{ "verify", NULL,
	  "the receiver checks every byte of each message; paged: of every slot, at the end", FLAG,
	  0, JOB(verify, 0, 1) },
	{ .kind = WORD, JOB(mode, 0, PERF_IDLE), .words = perf_mode_names },
	{ "latency", NULL, "ping-pong: half a round trip", MODE, PERF_LATENCY },
	{ "seconds", "S", "how long to measure (2; 5 with --idle)", SECONDS, 0,
	  JOB(duration_ns, 0.01, HOUR) },
	{ "warmup", "S", "how long to run before (0.5)", SECONDS, 0, AT(warmup_ns), 0, HOUR },
	{ "json", NULL, "print one JSON object a result", FLAG, 0, AT(json) },
	{ .doc = "What is measured of connections:" },
	{ "connect", NULL, "the time of --count connects (50)", MODE, PERF_CONNECT },
	{ "idle", NULL, "the CPU time of a connection that is not used", MODE, PERF_IDLE },
	{ "beside", "N", "have N idle connections open meanwhile (0)", NUMBER, 0,
	  JOB(beside, 0, PERF_BESIDE_MAX) },
	{ "stopped", "N",
	  "have N notifications queued meanwhile for another peer, which was stopped; with --self",
	  NUMBER, 0, AT(queued), 0, PERF_DEPTH_MAX, .has = AT(has_stopped) },
	{ .doc = "Who takes part:" },
	{ "self", NULL, "fork the server on this host", FLAG, 0, AT(self) },
	{ "port", "PORT", "the server's port (18515)", NUMBER, 'p', AT(port), 1, UINT16_MAX },
	{ "interface", "NAME", "interface or address; may be repeated (lo)", INTERFACE, 'i' },
	{ "once", NULL, "the server ends after one client", FLAG, 0, AT(once) },
	{ "timeout", "S", "longest wait for the peer (30)", SECONDS, 0, AT(timeout_ns), 0.1, HOUR },
	{ .doc = "How the engine works:" },
	{ "provider", "NAME", "libfabric provider, or local (the best one)", TEXT, 0,
	  AT(provider) },
	{ "ncpus", "N", "workers (half the CPUs, 1 to 4)", NUMBER, 0, AT(ncpus), 1, 256 },
	{ "nconn", "N", "lanes of a worker (1)", NUMBER, 0, AT(nconn), 1, 1024 },
	{ "eager", "BYTES", "largest eager message (64K); 0: none", SIZE, 0, AT(eager_len), 0,
	  1 << 20, .has = AT(has_eager) },
	{ "spin", "US", "microseconds of polling before sleeping; 0: none", NUMBER, 0, AT(spin_us),
	  0, 1000000, .has = AT(has_spin) },
	{ "lane-ports", "RANGE", "ports that the client's lanes connect to, as 40000-40100 (any)",
	  TEXT, 0, AT(lane_ports) },
	{ "checksum", NULL, "check every byte on its way, on both sides", FLAG, 0, AT(checksum) },
	{ "path", "NAME", "", PATH },
};
enum { RULES = sizeof(rules) / sizeof(rules[0]), FIRST_KEY = 256 };

static uint64_t get_number(const struct perf_options *options, const struct rule *rule)
{
	const void *at = (const char *)options + rule->at;

	if (rule->kind == FLAG)
		return *(const bool *)at;
	if (rule->kind == SIZE)
		return *(const size_t *)at;
	return rule->kind == SECONDS ? (uint64_t) * (const int64_t *)at : *(const unsigned *)at;
}

static void put_number(struct perf_options *options, const struct rule *rule, uint64_t number)
{
	void *at = (char *)options + rule->at;

	if (rule->kind == FLAG)
		*(bool *)at = number;
	else if (rule->kind == SIZE)
		*(size_t *)at = number;
	else if (rule->kind == SECONDS)
		*(int64_t *)at = (int64_t)number;
	else
		*(unsigned *)at = (unsigned)number;
}

/* Bytes of a unit: K, KiB, M, MiB, G, GiB, B or nothing; 0 for anything else. */
static double get_unit(const char *text)
{
	static const char letters[] = "KMG";

	if (!*text || !strcmp(text, "B"))
		return 1;
	const char *letter = strchr(letters, *text);
	if (!letter || (text[1] && strcmp(text + 1, "iB")))
		return 0;
	return (double)(1 << 10 * (letter - letters + 1));
}

static int parse_number(const struct rule *rule, const char *text, double *number)
{
	char *end;

	for (unsigned i = 0; rule->words && rule->words[i]; i++) {
		*number = i;
		if (!strcmp(text, rule->words[i]))
			return 0;
	}
	double value = strtod(text, &end);
	if (rule->words || end == text || (rule->kind == SECONDS && *end))
		return -1;
	value *= rule->kind == SECONDS ? 1 : rule->kind == SIZE ? get_unit(end) : !*end;
	if (!(value >= rule->low && value <= rule->high) ||
	    (rule->kind != SECONDS && value != floor(value)))
		return -1;
	*number = rule->kind == SECONDS ? value * (double)PERF_SECOND : value;
	return *text < '0' || *text > '9' ? -1 : 0;
}

/* What models give to a transfer of about a thousand tokens: Llama-3-70B on eight GPUs, Llama-3-8B,
 * DeepSeek-V3, and Llama-3-8B with all layers in one page. */
static int parse_shape(const char *text, struct perf_job *job)
{
	static const size_t shapes[][2] = {
		{ 8192, 5120 }, { 32768, 4096 }, { 73728, 976 }, { 2 << 20, 64 }
	};

	if (text[0] != 'S' || text[1] < '1' || text[1] > '4' || text[2])
		return -1;
	job->block_len = shapes[text[1] - '1'][0];
	job->count = shapes[text[1] - '1'][1];
	return 0;
}

static int parse_path(const char *text, const struct perf_path **path)
{
	for (const struct perf_path *const *known = perf_paths; *known; known++) {
		if (!strcmp((*known)->name, text)) {
			*path = *known;
			return 0;
		}
	}
	return -1;
}

static int parse_rule(const struct rule *rule, char *text, struct perf_options *options)
{
	double number = rule->high ? rule->high : 1;

	switch (rule->kind) {
	case TEXT:
		*(const char **)((char *)options + rule->at) = text;
		return 0;
	case MODE:
		options->job.mode = (unsigned)rule->letter;
		return 0;
	case SHAPE:
		return parse_shape(text, &options->job);
	case INTERFACE:
		if (!*text || options->interface_count == PERF_INTERFACES_MAX)
			return -1;
		options->interfaces[options->interface_count++] = text;
		return 0;
	case PATH:
		return parse_path(text, &options->path);
	default:
		if (rule->kind != FLAG && parse_number(rule, text, &number))
			return -1;
		put_number(options, rule, (uint64_t)number);
		if (rule->has)
			*(bool *)((char *)options + rule->has) = true;
		return 0;
	}
}

static int get_key(const struct rule *rule)
{
	return rule->kind != MODE && rule->letter ? rule->letter : FIRST_KEY + (int)(rule - rules);
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
	struct perf_options *options = state->input;
	const struct rule *rule = rules;

	if (key == ARGP_KEY_ARG && options->host)
		argp_error(state, "one HOST is enough");
	if (key == ARGP_KEY_ARG) {
		options->host = text;
		return 0;
	}
	while (rule < rules + RULES && (!rule->name || get_key(rule) != key))
		rule++;
	if (rule == rules + RULES)
		return ARGP_ERR_UNKNOWN;
	if (rule->kind == MODE && options->job.mode != PERF_THROUGHPUT)
		argp_error(state, "--latency, --connect and --idle exclude one another");
	if (parse_rule(rule, text, options))
		argp_error(state, "--%s does not take \"%s\"", rule->name, text);
	return 0;
}

/* ---- jobs ---- */

bool perf_job_is_paged(const struct perf_job *job)
{
	return job->op == PERF_WRITE || job->op == PERF_READ;
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
	if (job->op == PERF_SEND && job->depth > job->count)
		return "a batch has at least as many messages as are in flight";
	if (job->count % job->extents || (job->extents > 1 && job->op == PERF_SEND))
		return "--extents divides --count, and is for --op write and read";
	if (job->op == PERF_NOTIFY &&
	    (job->block_len < sizeof(struct perf_stamp) || job->block_len > PERF_NOTIFY_MAX))
		return "a notification has 16 to 4096 bytes";
	if (job->plain && !perf_job_is_paged(job))
		return "--plain is for --op write and read";
	if (job->allocate && (job->extents > 1 || !perf_job_is_paged(job)))
		return "--allocate is for --op write and read, without --extents";
	if (slots > PERF_SLOTS_MAX)
		return "so many transfers of so many blocks need more than 16 million slots";
	return slots ? perf_pool_refuse(job->block_len, slots, processes) : NULL;
}

void perf_job_encode(const struct perf_job *job, char line[PERF_LINE_LEN])
{
	const struct perf_options options = { .job = *job };
	int len = snprintf(line, PERF_LINE_LEN, "%s", JOB_VERSION);

	for (const struct rule *rule = rules; rule < rules + RULES; rule++)
		if (rule->in_job)
			len += snprintf(line + len, PERF_LINE_LEN - (size_t)len, " %" PRIu64,
					get_number(&options, rule));
}

int perf_job_decode(const char *line, struct perf_job *job)
{
	struct perf_options options = { 0 };

	if (strncmp(line, JOB_VERSION, strlen(JOB_VERSION)))
		return -1;
	line += strlen(JOB_VERSION);
	for (const struct rule *rule = rules; rule < rules + RULES; rule++) {
		double unit = rule->kind == SECONDS ? (double)PERF_SECOND : 1;
		char *end;
		if (!rule->in_job)
			continue;
		unsigned long long number = strtoull(line, &end, 10);
		if (*line != ' ' || end == line || (double)number < rule->low * unit ||
		    (double)number > rule->high * unit)
			return -1;
		put_number(&options, rule, number);
		line = end;
	}
	*job = options.job;
	return *line ? -1 : 0;
}

/* ---- defaults ---- */

static void complete_job(struct perf_options *options)
{
	struct perf_job *job = &options->job;
	bool latency = job->mode == PERF_LATENCY;
	bool paged = perf_job_is_paged(job);

	if (!job->block_len && job->op == PERF_NOTIFY)
		job->block_len = sizeof(struct perf_stamp);
	if (!job->block_len)
		job->block_len = latency ? 64 : paged ? 16 << 10 : 1 << 20;
	if (!job->count && job->mode == PERF_CONNECT)
		job->count = 50;
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

/* The baselines do what they are needed for: to move what the library moves, on this host. */
static void refuse_baseline(const struct perf_options *options)
{
	const struct perf_job *job = &options->job;

	if (job->op == PERF_NOTIFY || job->extents > 1 || job->mode > PERF_LATENCY || job->beside ||
	    options->has_stopped || options->host)
		errx(PERF_USAGE, "HOST, notifications, extents and connections are kvtrans-perf's");
	if (job->op == PERF_SEND && !options->path->send)
		errx(PERF_USAGE, "this path has no messages: --op write or read");
}

void perf_options_parse(struct perf_options *options, int argc, char **argv)
{
	struct argp_option table[RULES + 1] = { { 0 } };
	const struct argp parser = { table, parse_option, "[HOST]", perf_doc, NULL, NULL, NULL };
	long half = sysconf(_SC_NPROCESSORS_ONLN) / 2;
	int used = 0, group = 0;

	for (const struct rule *rule = rules; rule < rules + RULES; rule++) {
		group += !rule->name && rule->doc;
		if (rule->name || rule->doc)
			table[used++] = (struct argp_option){
				rule->name, rule->name ? get_key(rule) : 0,
				rule->arg,  rule->kind == PATH ? OPTION_HIDDEN : 0,
				rule->doc,  group,
			};
	}
	*options = (struct perf_options){
		.path = perf_paths[0],
		.port = PERF_PORT,
		.nconn = 1,
		.warmup_ns = PERF_SECOND / 2,
		.timeout_ns = 30 * PERF_SECOND,
	};
	argp_err_exit_status = PERF_USAGE;
	argp_parse(&parser, argc, argv, 0, NULL, options);
	if (!options->path->start)
		refuse_baseline(options);
	options->self |= !options->path->start;
	if (options->host && options->self)
		errx(PERF_USAGE, "--self forks the server on this host: it takes no HOST");
	if (options->has_stopped && !options->self)
		errx(PERF_USAGE, "--stopped is for --self, which forks both peers");
	complete_job(options);
	const char *refusal = perf_job_refuse(&options->job, options->self ? 2 : 1);
	if (refusal)
		errx(PERF_USAGE, "%s", refusal);
	/* The engine's defaults, so that reports can name them. */
	if (!options->ncpus)
		options->ncpus = half < 1 ? 1 : half > 4 ? 4 : (unsigned)half;
	if (!options->provider)
		options->provider = options->path->provider;
	if (!options->interface_count)
		options->interfaces[options->interface_count++] = "lo";
	if (options->ncpus * options->nconn > 1024)
		errx(PERF_USAGE, "--ncpus times --nconn is at most 1024");
}
