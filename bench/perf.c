/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf.c - the driver of both programs: who is server and client, and the steps from the command line to the result.
 * It never moves a byte itself.
 */
#include "perf.h"

#include <err.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int open_memory(struct perf_run *run)
{
	const struct perf_job *job = &run->job;
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
	void *base = NULL;
	bool is_given =
		run->path->allocate &&
		(job->allocate & (run->leads ? PERF_ALLOCATE_CLIENT : PERF_ALLOCATE_SERVER));
	if (is_given)
		base = run->path->allocate(run, slots * job->block_len);
	if (run->remote_order && order && (base || !is_given) &&
	    !perf_pool_open(&run->pool, base, job->block_len, order, slots))
		return PERF_OK;
no_memory:
	warnx("no memory for %zu blocks of %zu bytes", slots, job->block_len);
	return PERF_FAILED;
}

static void close_memory(struct perf_run *run)
{
	perf_pool_close(&run->pool);
	free(run->remote_order);
	perf_samples_close(&run->notified);
	perf_samples_close(&run->submits);
	perf_samples_close(&run->times);
	free(run->flights);
	/* The next client's job begins with nothing of this one's. */
	run->pool = (struct perf_pool){ 0 };
	run->remote_order = NULL;
	run->flights = NULL;
	run->sets = 0;
	run->wrong = 0;
	run->ahead_ns = 0;
}

/* Whenever something was opened: some builds of libfabric take SIGINT for themselves when they are loaded. */
static void keep_interrupts(const struct perf_run *run)
{
	if (run->leads || !run->options->self)
		perf_catch_interrupts();
	else
		signal(SIGINT, SIG_IGN);
}

/* Both processes know the job. */
static int do_job(struct perf_run *run)
{
	const struct perf_path *path = run->path;
	int status = open_memory(run);

	if (!status)
		status = path->open(run);
	keep_interrupts(run);
	if (!status && path->add_beside)
		status = path->add_beside(run);
	if (!status && run->job.mode >= PERF_CONNECT)
		status = path->probe(run);
	else if (!status)
		status = (run->leads ? perf_run_lead : perf_run_serve)(run);
	path->close(run);
	close_memory(run);
	return status;
}

/* Hear the job, and whether it can be done. */
static int serve_job(struct perf_run *run)
{
	char line[PERF_LINE_LEN];
	const char *refusal;
	int status = perf_hear(run, line);

	if (status)
		return status;
	if (perf_job_decode(line, &run->job)) {
		warnx("the client is of another version: it said \"%s\"", line);
		refusal = "this server is of another version";
	} else if ((refusal = perf_job_refuse(&run->job, 1))) {
		warnx("refused a client: %s", refusal);
	}
	status = perf_say(run, "%s", refusal ? refusal : "ready");
	return refusal ? PERF_FAILED : status ? status : do_job(run);
}

/* Serve one client after another. Their failures are theirs: only a single one's is the result. */
static int serve(struct perf_run *run)
{
	const struct perf_options *options = run->options;
	bool once = options->once || options->self;
	int status;

	do {
		run->has_met = !run->path->meet;
		status = run->path->meet
				 ? run->path->meet(run, options->self ? options->timeout_ns : -1)
				 : PERF_OK;
		if (!run->has_met)
			return status == PERF_INTERRUPTED && !once ? PERF_OK : status;
		if (!status)
			status = serve_job(run);
		if (run->path->part)
			run->path->part(run);
	} while (!once && !perf_count_interrupts());
	return status;
}

/* Tell the server the job, do it, and print the result. */
static int lead(struct perf_run *run)
{
	char line[PERF_LINE_LEN];
	int status = run->path->meet ? run->path->meet(run, run->options->timeout_ns) : PERF_OK;

	run->job = run->options->job;
	run->report.mode = perf_mode_names[run->job.mode];
	if (run->job.mode < PERF_CONNECT)
		run->report.op = perf_op_names[run->job.op];
	perf_job_encode(&run->job, line);
	if (!status && !(status = perf_say(run, "%s", line)) && !(status = perf_hear(run, line)) &&
	    strcmp(line, "ready")) {
		warnx("the server refused: %s", line);
		status = PERF_FAILED;
	}
	if (!status)
		status = do_job(run);
	if (run->path->part)
		run->path->part(run);
	if (status)
		return status;
	run->report.interrupted = perf_count_interrupts() > 0;
	perf_report_print(&run->report, run->options->json);
	return run->report.interrupted ? PERF_INTERRUPTED : PERF_OK;
}

static int run_side(const struct perf_options *options, bool leads, int control)
{
	struct perf_run run = {
		.options = options, .path = options->path, .control = control, .leads = leads
	};

	perf_report_init(&run.report, options->path->start ? perf_program : options->path->name,
			 options->provider);
	/* Every wait has its own limit; this one is for a wait that does not keep it. */
	if (leads || !options->path->start)
		perf_arm_watchdog(2 * (options->job.duration_ns + options->warmup_ns) +
				  4 * options->timeout_ns);
	int status = options->path->start ? options->path->start(&run) : PERF_OK;
	keep_interrupts(&run);
	if (!status)
		status = (leads ? lead : serve)(&run);
	if (options->path->stop)
		options->path->stop(&run);
	return status;
}

/* Fork the server before anything is opened: an engine does not survive a fork. */
static int run_self(const struct perf_options *options)
{
	int fds[2];

	/* Each piece of what is said arrives as one. */
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds))
		err(PERF_FAILED, "socketpair");
	pid_t pid = perf_fork();
	close(fds[pid ? 1 : 0]);
	if (!pid)
		return run_side(options, false, fds[1]);
	int status = run_side(options, true, fds[0]);
	close(fds[0]); /* It ends the other process when this one failed. */
	int peer_status = perf_join(pid);
	return status ? status : peer_status;
}

int main(int argc, char **argv)
{
	static struct perf_options options;

	perf_options_parse(&options, argc, argv);
	return options.self ? run_self(&options) : run_side(&options, options.host != NULL, -1);
}
