/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvtrans_perf.c - the program kvtrans-perf: measures transfers between two processes through the
 * public API alone. This file decides who is server and client; it never looks at a message.
 */
#include "perf_options.h"
#include "perf_paged.h"
#include "perf_probe.h"
#include "perf_report.h"
#include "perf_stream.h"

#include <kvtrans.h>

#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* Run a throughput or latency job for a client that is told when to begin. */
static int serve_stream(struct perf_peer *peer, const struct perf_job *job)
{
	struct perf_stream stream;
	int status = perf_stream_open(&stream, peer, job, 2);

	if (!status && !(status = perf_say(peer, "ready"))) {
		struct perf_part part = perf_stream_get_server(&stream);
		status = perf_follow_rounds(peer, &part);
	}
	perf_stream_close(&stream);
	return status;
}

static int serve_job(struct perf_peer *peer, struct kvt_engine *engine)
{
	char text[PERF_TEXT_LEN];
	struct perf_job job;
	int status = perf_hear(peer, text, peer->timeout_ns);

	if (status)
		return status;
	if (perf_job_decode(text, &job)) {
		warnx("the client is of another version: it said \"%s\"", text);
		perf_say(peer, "this server is kvtrans-perf of KVTrans %s", kvt_get_version());
		return PERF_FAILED;
	}
	const char *refusal = perf_job_refuse(&job, 1);
	if (refusal) {
		warnx("refused a client: %s", refusal);
		perf_say(peer, "%s", refusal);
		return PERF_FAILED;
	}
	if (job.op != PERF_SEND)
		return perf_paged_serve(peer, engine, &job);
	if (job.mode == PERF_THROUGHPUT || job.mode == PERF_LATENCY)
		return serve_stream(peer, &job);
	if ((status = perf_say(peer, "ready")))
		return status;
	return job.mode == PERF_IDLE ? perf_follow_idle(peer, &job)
				     : perf_accept_connects(peer, engine);
}

/* Serve one client after another. Their failures are theirs: only a single one's is the result. */
static int serve(const struct perf_options *options, struct kvt_engine *engine)
{
	int64_t wait_ns = options->role == PERF_SELF ? options->timeout_ns : KVT_FOREVER;
	bool once = options->once || options->role == PERF_SELF;
	struct kvt_error error = { 0 };
	int status;

	do {
		struct kvt_conn *conn;
		struct perf_peer peer;
		if (kvt_conn_accept(engine, wait_ns, &conn, &error)) {
			status = perf_blame("waiting for a client", &error);
			return status == PERF_INTERRUPTED && !once ? PERF_OK : status;
		}
		status = perf_peer_open(&peer, conn, options->timeout_ns);
		if (!status)
			status = serve_job(&peer, engine);
		perf_peer_close(&peer);
	} while (!once && !perf_count_interrupts());
	return status;
}

static int run_server(const struct perf_options *options)
{
	struct kvt_engine *engine;
	int status = perf_open_engine(options, options->port, &engine);

	if (status)
		return status;
	perf_catch_interrupts();
	fprintf(stderr, "kvtrans-perf: port %u, provider %s; Ctrl-C ends it\n",
		kvt_engine_get_port(engine), kvt_engine_get_provider(engine));
	status = serve(options, engine);
	kvt_engine_close(engine);
	return status;
}

static int run_stream(struct perf_peer *peer, const struct perf_options *options,
		      struct perf_report *report)
{
	struct perf_totals totals = { 0 };
	struct perf_stream stream;
	int status = perf_stream_open(&stream, peer, &options->job, 1);

	if (!status) {
		struct perf_part part = perf_stream_get_client(&stream);
		status = perf_lead_rounds(peer, options, &part, &totals);
	}
	if (!status) {
		report->messages = totals.messages;
		report->bytes = totals.messages * options->job.block_len;
		report->elapsed_ns = totals.elapsed_ns;
		report->receiver_ns = totals.receiver_ns;
		report->cpu_ns = totals.cpu_ns;
		report->peer_cpu_ns = totals.peer_cpu_ns;
		report->p50_ns = perf_samples_get(&stream.samples, 50);
		report->p99_ns = perf_samples_get(&stream.samples, 99);
		report->verified = options->job.verify && !totals.wrong;
	}
	if (totals.wrong) {
		warnx("%llu messages arrived with wrong bytes", (unsigned long long)totals.wrong);
		status = PERF_WRONG_BYTES;
	}
	perf_stream_close(&stream);
	return status;
}

/* Tell the server the job, do it, and print the result. */
static int run_job(struct perf_peer *peer, struct kvt_engine *engine,
		   const struct perf_options *options)
{
	const struct perf_job *job = &options->job;
	char text[PERF_TEXT_LEN];
	struct perf_report report = {
		.tool = "kvtrans-perf",
		.op = job->mode == PERF_CONNECT || job->mode == PERF_IDLE
			      ? "connection"
			      : perf_op_get_name(job->op),
		.mode = perf_mode_get_name(job->mode),
		.provider = kvt_engine_get_provider(engine),
		.lanes = options->ncpus * options->nconn,
		.elapsed_ns = PERF_NONE,
		.receiver_ns = PERF_NONE,
		.p50_ns = PERF_NONE,
		.p99_ns = PERF_NONE,
		.cpu_ns = PERF_NONE,
		.peer_cpu_ns = PERF_NONE,
	};
	int status;

	perf_job_encode(job, text, sizeof(text));
	if ((status = perf_say(peer, "%s", text)) ||
	    (status = perf_hear(peer, text, options->timeout_ns)))
		return status;
	if (strcmp(text, "ready")) {
		warnx("the server refused: %s", text);
		return PERF_FAILED;
	}
	if (job->mode == PERF_CONNECT) {
		status = perf_probe_connects(engine, options, &report);
		if (!status)
			status = perf_say(peer, "end");
	} else if (job->mode == PERF_IDLE) {
		status = perf_probe_idle(peer, job, &report);
	} else {
		report.block_len = job->block_len;
		report.count = job->mode == PERF_LATENCY ? perf_job_get_slots(job) : job->count;
		report.depth = job->depth;
		status = job->op == PERF_SEND ? run_stream(peer, options, &report)
					      : perf_paged_lead(peer, engine, options, &report);
	}
	if (status)
		return status;
	report.interrupted = perf_count_interrupts() > 0;
	perf_report_print(&report, options->json);
	return report.interrupted ? PERF_INTERRUPTED : PERF_OK;
}

static int run_client(const struct perf_options *options)
{
	struct kvt_engine *engine;
	struct kvt_conn *conn;
	struct kvt_error error = { 0 };
	struct perf_peer peer;

	/* Every wait has its own limit; this one is for a wait that does not keep it. */
	perf_arm_watchdog(2 * (options->job.duration_ns + options->warmup_ns) +
			  4 * options->timeout_ns);
	int status = perf_open_engine(options, 0, &engine);
	if (status)
		return status;
	/* Some builds of libfabric take SIGINT for themselves when they are loaded. */
	perf_catch_interrupts();
	if (kvt_conn_open(engine, options->host, options->port, options->timeout_ns, &conn,
			  &error)) {
		status = perf_blame("connecting", &error);
	} else {
		status = perf_peer_open(&peer, conn, options->timeout_ns);
		if (!status)
			status = run_job(&peer, engine, options);
		perf_peer_close(&peer);
	}
	kvt_engine_close(engine);
	return status;
}

/* The address of an interface of this host, or the address itself when that is what was named. */
static int find_address(const char *interface, char *host, socklen_t len)
{
	struct ifaddrs *list;
	int found = -1;
	struct in6_addr binary;

	if (inet_pton(AF_INET, interface, &binary) == 1 ||
	    inet_pton(AF_INET6, interface, &binary) == 1) {
		snprintf(host, len, "%s", interface);
		return 0;
	}
	if (getifaddrs(&list))
		return -1;
	for (struct ifaddrs *entry = list; entry && found; entry = entry->ifa_next) {
		if (!entry->ifa_addr || entry->ifa_addr->sa_family != AF_INET ||
		    strcmp(entry->ifa_name, interface))
			continue;
		found = getnameinfo(entry->ifa_addr, sizeof(struct sockaddr_in), host, len, NULL, 0,
				    NI_NUMERICHOST);
	}
	freeifaddrs(list);
	return found;
}

/* The forked process: a server that says which port it got, and ends with its parent. */
static int run_forked(const struct perf_options *options, int report_fd)
{
	struct kvt_engine *engine;

	signal(SIGINT, SIG_IGN);
	int status = perf_open_engine(options, 0, &engine);
	if (status)
		return status;
	signal(SIGINT, SIG_IGN); /* Again, for the same reason as in run_client(). */
	uint16_t port = kvt_engine_get_port(engine);
	if (write(report_fd, &port, sizeof(port)) != sizeof(port)) {
		warn("telling the port");
		status = PERF_FAILED;
	} else {
		close(report_fd);
		status = serve(options, engine);
	}
	kvt_engine_close(engine);
	return status;
}

/* The server has ended by now, unless something is wrong with it. */
static int reap_forked(pid_t pid)
{
	int64_t deadline = perf_now_ns() + 10 * PERF_SECOND;
	int status;

	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (perf_now_ns() > deadline) {
			warnx("the server does not end: killing it");
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
			return PERF_FAILED;
		}
		poll(NULL, 0, 10);
	}
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	warnx("the server died of signal %d", WTERMSIG(status));
	return PERF_FAILED;
}

/* Fork the server before any engine is open: an engine does not survive a fork. */
static int run_self(struct perf_options *options)
{
	char host[NI_MAXHOST];
	int fds[2];

	if (find_address(options->interfaces[0], host, sizeof(host)))
		errx(PERF_USAGE, "--self needs an interface with an IPv4 address: %s has none",
		     options->interfaces[0]);
	if (pipe(fds))
		err(PERF_FAILED, "pipe");
	pid_t parent = getpid();
	pid_t pid = fork();
	if (pid < 0)
		err(PERF_FAILED, "fork");
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(fds[0]);
		return getppid() == parent ? run_forked(options, fds[1]) : PERF_FAILED;
	}
	close(fds[1]);
	struct pollfd ready = { .fd = fds[0], .events = POLLIN };
	int status = PERF_FAILED;
	if (poll(&ready, 1, (int)(options->timeout_ns / 1000000)) == 1 &&
	    read(fds[0], &options->port, sizeof(options->port)) == sizeof(options->port)) {
		options->host = host;
		status = run_client(options);
	} else {
		warnx("the server did not start");
		kill(pid, SIGTERM);
	}
	close(fds[0]);
	int forked_status = reap_forked(pid);
	return status ? status : forked_status;
}

int main(int argc, char **argv)
{
	struct perf_options options;

	perf_options_parse(&options, argc, argv);
	switch (options.role) {
	case PERF_SERVER:
		return run_server(&options);
	case PERF_CLIENT:
		return run_client(&options);
	default:
		return run_self(&options);
	}
}
