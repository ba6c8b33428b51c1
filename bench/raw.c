/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw.c - the program raw: the jobs of kvtrans-perf between two processes of this host without the library, which
 * is measured against it. It never opens a transport itself.
 */
#include "raw.h"

#include <err.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct perf_path *const paths[] = {
	&raw_libfabric,
	&raw_socket,
#ifdef HAVE_UCX
	&raw_ucx,
#endif
};
enum { PATH_COUNT = sizeof(paths) / sizeof(paths[0]) };

enum { OPTION_HOST = 256, OPTION_BATCH, OPTION_SPIN };

static const struct argp_option option_table[] = {
	{ NULL, 0, NULL, 0, "What moves it:", 2 },
	{ "path", 'p', "NAME", 0, "libfabric, socket or, where it was found, ucx (libfabric)", 2 },
	{ "provider", 'P', "NAME", 0, "libfabric's provider; what UCX_TLS has, or default (tcp)",
	  2 },
	{ "host", OPTION_HOST, "ADDRESS", 0, "address both processes use (127.0.0.1)", 2 },
	{ "batch", OPTION_BATCH, NULL, 0, "libfabric: one completion for all blocks of a transfer",
	  2 },
	{ "spin", OPTION_SPIN, NULL, 0, "libfabric, ucx: poll instead of sleeping", 2 },
	{ 0 },
};

static int find_path(const char *name, const struct perf_path **path)
{
	for (int i = 0; i < PATH_COUNT; i++) {
		if (!strcmp(name, paths[i]->name)) {
			*path = paths[i];
			return 0;
		}
	}
	return -1;
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
	struct raw_options *options = state->input;
	int rc = 0;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &options->job;
		break;
	case 'p':
		rc = find_path(text, &options->path);
		break;
	case 'P':
		options->provider = text;
		break;
	case OPTION_HOST:
		options->host = text;
		break;
	case OPTION_BATCH:
		options->batch = true;
		break;
	case OPTION_SPIN:
		options->spin = true;
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	if (rc)
		perf_option_refuse(state, option_table, key, text);
	return 0;
}

static void parse_options(struct raw_options *options, int argc, char **argv)
{
	static const struct argp_child children[] = { { &perf_job_argp, 0, "What is measured:", 1 },
						      { 0 } };
	static const char doc[] = "Measure libfabric, a TCP connection or UCX as kvtrans-perf "
				  "measures KVTrans, between two processes of this host.";
	const struct argp parser = { option_table, parse_option, NULL, doc, children, NULL, NULL };
	const struct perf_job *job = &options->job.job;

	*options = (struct raw_options){
		.path = &raw_libfabric,
		.provider = "tcp",
		.host = "127.0.0.1",
	};
	perf_job_init(&options->job);
	argp_err_exit_status = PERF_USAGE;
	argp_parse(&parser, argc, argv, 0, NULL, options);
	perf_job_complete(&options->job, 2);
	if (job->op == PERF_NOTIFY || job->extents > 1)
		errx(PERF_USAGE, "--op notify and --extents are kvtrans-perf's alone");
	if (options->spin && options->path == &raw_socket)
		errx(PERF_USAGE, "--spin is for libfabric and ucx");
}

const struct raw_options *raw_get_options(const struct perf_run *run)
{
	return run->context;
}

int raw_put(struct perf_run *run, const void *base, size_t len)
{
	if (send(raw_get_options(run)->control, base, len, MSG_NOSIGNAL) == (ssize_t)len)
		return 0;
	warn("telling the other process");
	return PERF_FAILED;
}

/* A signal that is counted interrupts nothing. */
static ssize_t receive(struct perf_run *run, void *base, size_t len)
{
	ssize_t n;

	do {
		n = recv(raw_get_options(run)->control, base, len, 0);
	} while (n < 0 && errno == EINTR);
	if (!n)
		warnx("the other process has ended");
	else if (n < 0)
		warn("hearing the other process");
	return n;
}

int raw_get(struct perf_run *run, void *base, size_t len)
{
	return receive(run, base, len) == (ssize_t)len ? 0 : PERF_FAILED;
}

int raw_say(struct perf_run *run, const char *line)
{
	return raw_put(run, line, strlen(line));
}

int raw_hear(struct perf_run *run, char *line)
{
	ssize_t n = receive(run, line, PERF_LINE_LEN - 1);

	if (n <= 0)
		return PERF_FAILED;
	line[n] = '\0';
	return PERF_OK;
}

void *raw_make_own(struct perf_run *run, size_t len)
{
	run->own = calloc(1, len);
	if (!run->own)
		warn("calloc");
	return run->own;
}

/* One process's side, from memory to exit status. */
static int run_side(struct raw_options *options, int control, bool leads)
{
	struct perf_run run = {
		.job = &options->job.job, .path = options->path, .context = options, .leads = leads
	};
	char tool[32];
	struct perf_report report = {
		.tool = tool,
		.provider = options->path == &raw_socket ? "socket" : options->provider,
		.lanes = 1,
		.spin = options->spin,
	};

	options->control = control;
	snprintf(tool, sizeof(tool), "raw_%s", options->path->name);
	perf_arm_watchdog(options->job.job.duration_ns + options->job.warmup_ns + 60 * PERF_SECOND);
	int status = perf_run_open(&run);
	/* Some builds of libfabric take SIGINT for themselves when they are loaded. */
	if (leads)
		perf_catch_interrupts();
	else
		signal(SIGINT, SIG_IGN);
	if (!status && leads)
		status = perf_run_lead(&run, options->job.warmup_ns, &report);
	else if (!status)
		status = perf_run_serve(&run);
	perf_run_close(&run);
	if (!status && leads)
		perf_report_print(&report, options->job.json);
	return !status && report.interrupted ? PERF_INTERRUPTED : status;
}

int main(int argc, char **argv)
{
	struct raw_options options;
	int fds[2];

	parse_options(&options, argc, argv);
	/* Forked before anything is opened. Each piece of what is said arrives as one. */
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds))
		err(PERF_FAILED, "socketpair");
	pid_t pid = perf_fork();
	close(fds[pid ? 1 : 0]);
	if (!pid)
		return run_side(&options, fds[1], false);
	int status = run_side(&options, fds[0], true);
	close(fds[0]); /* It ends the other process when this one failed. */
	int peer_status = perf_join(pid);
	return status ? status : peer_status;
}
