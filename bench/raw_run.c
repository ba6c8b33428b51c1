/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw_run.c - see raw_run.h. It never opens a transport of its own.
 */
#include "raw_run.h"

#include <argp.h>
#include <err.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	OPTION_HOST = 256,
	OPTION_SEGMENT,
	OPTION_PATTERN,
	OPTION_SECONDS,
	OPTION_WARMUP,
	OPTION_LATENCY,
	OPTION_PAGED,
	OPTION_SPIN,
	OPTION_JSON,
};

static const struct argp_option option_table[] = {
	{ "provider", 'p', "NAME", 0, "libfabric provider (tcp); the socket baseline has none", 0 },
	{ "host", OPTION_HOST, "ADDRESS", 0, "address both processes use (127.0.0.1)", 0 },
	{ "block", 'b', "BYTES", 0, "bytes of a block (1M; 64 with --latency)", 0 },
	{ "segment", OPTION_SEGMENT, "BYTES", 0, "cut a block into operations of so many bytes",
	  0 },
	{ "count", 'n', "N", 0, "blocks a batch, each in a slot of its own (64)", 0 },
	{ "depth", 'd', "N", 0, "blocks in flight (4), or transfers (1)", 0 },
	{ "pattern", OPTION_PATTERN, "NAME", 0, "contiguous, runs (of 8) or random slots", 0 },
	{ "seconds", OPTION_SECONDS, "S", 0, "how long to measure (2)", 0 },
	{ "warmup", OPTION_WARMUP, "S", 0, "how long to run before (0.5)", 0 },
	{ "latency", OPTION_LATENCY, NULL, 0, "ping-pong: half a round trip", 0 },
	{ "paged", OPTION_PAGED, "OP", 0,
	  "write or read: each transfer moves --count blocks between two pools, --depth transfers "
	  "are in flight, and every byte is checked at the end",
	  0 },
	{ "spin", OPTION_SPIN, NULL, 0, "poll instead of sleeping", 0 },
	{ "json", OPTION_JSON, NULL, 0, "print one JSON object", 0 },
	{ 0 },
};

static int parse_op(const char *text, enum raw_op *op)
{
	if (strcmp(text, "write") && strcmp(text, "read"))
		return -1;
	*op = *text == 'w' ? RAW_WRITE : RAW_READ;
	return 0;
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
	struct raw_options *options = state->input;
	unsigned count;
	int rc = 0;

	switch (key) {
	case 'p':
		options->provider = text;
		break;
	case OPTION_HOST:
		options->host = text;
		break;
	case 'b':
		rc = perf_parse_bytes(text, 1, SIZE_MAX / 2, &options->block_len);
		break;
	case OPTION_SEGMENT:
		rc = perf_parse_bytes(text, 1, SIZE_MAX / 2, &options->segment_len);
		break;
	case 'n':
		rc = perf_parse_number(text, 1, PERF_COUNT_MAX, &count);
		options->count = rc ? options->count : count;
		break;
	case 'd':
		rc = perf_parse_number(text, 1, 1024, &options->depth);
		break;
	case OPTION_PATTERN:
		rc = perf_pattern_parse(text, &options->pattern);
		options->has_pattern = true;
		break;
	case OPTION_SECONDS:
		rc = perf_parse_seconds(text, 0.01, 3600, &options->duration_ns);
		break;
	case OPTION_WARMUP:
		rc = perf_parse_seconds(text, 0, 3600, &options->warmup_ns);
		break;
	case OPTION_LATENCY:
		options->latency = true;
		break;
	case OPTION_PAGED:
		rc = parse_op(text, &options->op);
		break;
	case OPTION_SPIN:
		options->spin = true;
		break;
	case OPTION_JSON:
		options->json = true;
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	if (rc)
		argp_error(state, "\"%s\" is not a value this option takes", text);
	return 0;
}

/* Fill in what depends on the operation. */
static void complete_options(struct raw_options *options)
{
	bool paged = options->op != RAW_STREAM;

	if (!options->block_len)
		options->block_len = options->latency ? 64 : paged ? 16 << 10 : 1 << 20;
	if (!options->count)
		options->count = options->latency ? 2 : paged ? 4096 : 64;
	if (!options->depth)
		options->depth = paged ? 1 : 4;
	if (!paged && options->depth > options->count)
		options->depth = (unsigned)options->count;
	if (!options->has_pattern)
		options->pattern = paged ? PERF_RANDOM : PERF_CONTIGUOUS;
}

void raw_parse(struct raw_options *options, const char *doc, int argc, char **argv)
{
	const struct argp parser = { .options = option_table, .parser = parse_option, .doc = doc };
	struct raw_options parsed = {
		.provider = "tcp",
		.host = "127.0.0.1",
		.duration_ns = 2 * PERF_SECOND,
		.warmup_ns = PERF_SECOND / 2,
	};

	argp_err_exit_status = PERF_USAGE;
	argp_parse(&parser, argc, argv, 0, NULL, &parsed);
	complete_options(&parsed);
	if (parsed.latency && parsed.op != RAW_STREAM)
		errx(PERF_USAGE, "--latency and --paged exclude one another");
	const char *refusal = perf_pool_refuse(parsed.block_len, parsed.count, 2);
	if (refusal)
		errx(PERF_USAGE, "%s", refusal);
	*options = parsed;
}

int raw_split(struct raw_peer *peer)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds)) {
		warn("socketpair");
		return -1;
	}
	pid_t parent = getpid();
	pid_t pid = fork();
	if (pid < 0) {
		warn("fork");
		close(fds[0]);
		close(fds[1]);
		return -1;
	}
	if (!pid) {
		signal(SIGINT, SIG_IGN); /* It ends when the first process does. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(PERF_FAILED);
	}
	close(fds[pid ? 1 : 0]);
	*peer = (struct raw_peer){ .pid = pid, .fd = fds[pid ? 0 : 1] };
	return 0;
}

int raw_put(int fd, const void *base, size_t len)
{
	const char *next = base;

	while (len) {
		ssize_t n = send(fd, next, len, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			warn("send");
			return -1;
		}
		next += n;
		len -= (size_t)n;
	}
	return 0;
}

int raw_get(int fd, void *base, size_t len)
{
	char *next = base;

	while (len) {
		ssize_t n = recv(fd, next, len, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			warn("recv");
		if (n <= 0)
			return n < 0 ? -1 : 1;
		next += n;
		len -= (size_t)n;
	}
	return 0;
}

int raw_join(struct raw_peer *peer)
{
	int status;

	close(peer->fd);
	while (waitpid(peer->pid, &status, 0) < 0) {
		if (errno != EINTR)
			return PERF_FAILED;
	}
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	warnx("the other process died of signal %d", WTERMSIG(status));
	return PERF_FAILED;
}

int raw_repeat(const struct raw_options *options, const struct raw_peer *peer,
	       const struct raw_step *step, struct perf_report *report)
{
	int64_t warm_at = perf_now_ns() + options->warmup_ns;

	do {
		if (step->run(step->arg))
			return -1;
	} while (perf_now_ns() < warm_at && !perf_count_interrupts());

	perf_samples_reset(step->samples);
	if (step->begin)
		step->begin(step->arg);
	int64_t cpu_ns = perf_cpu_ns();
	int64_t peer_cpu_ns = perf_cpu_of_ns(peer->pid);
	int64_t started = perf_now_ns();
	int64_t now = started;
	uint64_t steps = 0;
	while (now < started + options->duration_ns && !perf_count_interrupts()) {
		if (step->run(step->arg))
			return -1;
		steps++;
		now = perf_now_ns();
	}
	report->mode = options->latency ? "latency" : "throughput";
	report->block_len = options->block_len;
	report->count = options->count;
	report->depth = options->latency ? 1 : options->depth;
	report->lanes = 1;
	report->messages = steps * step->messages;
	report->bytes = steps * step->bytes;
	report->elapsed_ns = now - started;
	report->receiver_ns = PERF_NONE;
	report->p50_ns = perf_samples_get(step->samples, 50);
	report->p99_ns = perf_samples_get(step->samples, 99);
	report->cpu_ns = perf_cpu_ns() - cpu_ns;
	report->peer_cpu_ns = perf_cpu_of_ns(peer->pid) - peer_cpu_ns;
	report->spin = options->spin;
	report->interrupted = perf_count_interrupts() > 0;
	return 0;
}
