/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvtrans_perf.c - the program kvtrans-perf: measures transfers between two processes through the
 * public API alone. This file decides who is server and client; it never looks at a message.
 */
#include "perf_probe.h"
#include "perf_stopped.h"

#include <arpa/inet.h>
#include <err.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum perf_role { PERF_SERVER, PERF_CLIENT, PERF_SELF };

struct perf_options {
	struct perf_job_options job;
	struct perf_engine engine;
	enum perf_role role;
	bool once;
	bool has_stopped;
	unsigned queued; /* for the peer that was stopped */
};

enum { DEFAULT_PORT = 18515 };

enum {
	OPTION_SELF = 256,
	OPTION_ONCE,
	OPTION_CONNECT,
	OPTION_IDLE,
	OPTION_BESIDE,
	OPTION_STOPPED,
	OPTION_TIMEOUT,
	OPTION_PROVIDER,
	OPTION_NCPUS,
	OPTION_NCONN,
	OPTION_EAGER,
	OPTION_SPIN,
	OPTION_LANE_PORTS,
};

static const struct argp_option option_table[] = {
	{ NULL, 0, NULL, 0, "What is measured of connections:", 2 },
	{ "connect", OPTION_CONNECT, NULL, 0, "the time of --count connects (50)", 2 },
	{ "idle", OPTION_IDLE, NULL, 0, "the CPU time of a connection that is not used", 2 },
	{ "beside", OPTION_BESIDE, "N", 0, "have N idle connections open meanwhile (0)", 2 },
	{ "stopped", OPTION_STOPPED, "N", 0,
	  "have N notifications queued meanwhile for another peer, which was stopped; with --self",
	  2 },
	{ NULL, 0, NULL, 0, "Who takes part:", 3 },
	{ "self", OPTION_SELF, NULL, 0, "fork the server on this host", 3 },
	{ "port", 'p', "PORT", 0, "the server's port (18515)", 3 },
	{ "interface", 'i', "NAME", 0, "interface or address; may be repeated (lo)", 3 },
	{ "once", OPTION_ONCE, NULL, 0, "the server ends after one client", 3 },
	{ "timeout", OPTION_TIMEOUT, "S", 0, "longest wait for the peer (30)", 3 },
	{ NULL, 0, NULL, 0, "How the engine works:", 4 },
	{ "provider", OPTION_PROVIDER, "NAME", 0, "libfabric provider (the best one)", 4 },
	{ "ncpus", OPTION_NCPUS, "N", 0, "workers (half the CPUs, 1 to 4)", 4 },
	{ "nconn", OPTION_NCONN, "N", 0, "lanes of a worker (1)", 4 },
	{ "eager", OPTION_EAGER, "BYTES", 0, "largest eager message (64K); 0: none", 4 },
	{ "spin", OPTION_SPIN, "US", 0, "microseconds of polling before sleeping; 0: none", 4 },
	{ "lane-ports", OPTION_LANE_PORTS, "RANGE", 0,
	  "ports that the client's lanes connect to, as 40000-40100 (any)", 4 },
	{ 0 },
};

static const char doc[] = "Measure KVTrans between two processes. Without HOST and --self it is "
			  "the server, with HOST the client, with --self both.\v"
			  "Exit status: 0 success, 1 failure, 2 wrong use, 3 wrong bytes, "
			  "130 interrupted.";

static int parse_engine_option(int key, const char *text, struct perf_engine *engine)
{
	unsigned number;

	switch (key) {
	case OPTION_PROVIDER:
		engine->provider = text;
		return 0;
	case OPTION_NCPUS:
		return perf_parse_number(text, 1, 256, &engine->ncpus);
	case OPTION_NCONN:
		return perf_parse_number(text, 1, 1024, &engine->nconn);
	case OPTION_EAGER:
		if (perf_parse_bytes(text, 0, 1 << 20, &engine->eager_len))
			return -1;
		if (!engine->eager_len)
			engine->eager_len = KVT_NO_EAGER;
		return 0;
	case OPTION_LANE_PORTS:
		engine->lane_ports = text;
		return 0;
	case OPTION_SPIN:
		if (perf_parse_number(text, 0, 1000000, &number))
			return -1;
		engine->spin_ns = number ? INT64_C(1000) * number : KVT_NO_SPIN;
		return 0;
	case 'p':
		if (perf_parse_number(text, 1, UINT16_MAX, &number))
			return -1;
		engine->port = (uint16_t)number;
		return 0;
	case 'i':
		if (!*text || engine->interface_count == PERF_INTERFACES_MAX)
			return -1;
		engine->interfaces[engine->interface_count++] = text;
		return 0;
	case OPTION_TIMEOUT:
		return perf_parse_seconds(text, 0.1, 3600, &engine->timeout_ns);
	default:
		return 1;
	}
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
	struct perf_options *options = state->input;
	struct perf_job *job = &options->job.job;
	int rc = 0;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &options->job;
		break;
	case ARGP_KEY_ARG:
		if (options->engine.host)
			argp_error(state, "one HOST is enough");
		options->engine.host = text;
		break;
	case OPTION_SELF:
		options->role = PERF_SELF;
		break;
	case OPTION_ONCE:
		options->once = true;
		break;
	case OPTION_CONNECT:
	case OPTION_IDLE:
		if (job->mode != PERF_THROUGHPUT)
			argp_error(state, "--latency, --connect and --idle exclude one another");
		job->mode = key == OPTION_IDLE ? PERF_IDLE : PERF_CONNECT;
		break;
	case OPTION_BESIDE:
		rc = perf_parse_number(text, 0, PERF_BESIDE_MAX, &job->beside);
		break;
	case OPTION_STOPPED:
		options->has_stopped = true;
		rc = perf_parse_number(text, 0, PERF_DEPTH_MAX, &options->queued);
		break;
	default:
		rc = parse_engine_option(key, text, &options->engine);
	}
	if (rc > 0)
		return ARGP_ERR_UNKNOWN;
	if (rc)
		perf_option_refuse(state, option_table, key, text);
	return 0;
}

static void print_version(FILE *stream, struct argp_state *state)
{
	(void)state;
	fprintf(stream, "kvtrans-perf %s\n", kvt_get_version());
}

static void parse_options(struct perf_options *options, int argc, char **argv)
{
	static const struct argp_child children[] = { { &perf_job_argp, 0, "What is measured:", 1 },
						      { 0 } };
	const struct argp parser = {
		option_table, parse_option, "[HOST]", doc, children, NULL, NULL
	};
	struct perf_engine *engine = &options->engine;

	*options = (struct perf_options){
		.engine = { .port = DEFAULT_PORT, .nconn = 1, .timeout_ns = 30 * PERF_SECOND },
	};
	perf_job_init(&options->job);
	argp_err_exit_status = PERF_USAGE;
	argp_program_version_hook = print_version;
	argp_parse(&parser, argc, argv, 0, NULL, options);
	if (engine->host && options->role == PERF_SELF)
		errx(PERF_USAGE, "--self forks the server on this host: it takes no HOST");
	if (options->has_stopped && options->role != PERF_SELF)
		errx(PERF_USAGE, "--stopped is for --self, which forks both peers");
	if (engine->host)
		options->role = PERF_CLIENT;
	perf_job_complete(&options->job, options->role == PERF_SELF ? 2 : 1);
	/* The engine's defaults, so that reports can name them. */
	long half = sysconf(_SC_NPROCESSORS_ONLN) / 2;
	if (!engine->ncpus)
		engine->ncpus = half < 1 ? 1 : half > 4 ? 4 : (unsigned)half;
	if (!engine->interface_count)
		engine->interfaces[engine->interface_count++] = "lo";
	if (engine->ncpus * engine->nconn > 1024)
		errx(PERF_USAGE, "--ncpus times --nconn is at most 1024");
}

static bool is_probe(const struct perf_job *job)
{
	return job->mode == PERF_CONNECT || job->mode == PERF_IDLE;
}

/* ---- the server ---- */

static int follow_job(struct perf_peer *peer, const struct perf_job *job, struct perf_run *run)
{
	struct perf_beside beside = { 0 };
	int64_t len;

	int status = perf_say(peer, "ready");
	if (!status)
		status = perf_beside_open(&beside, peer, job, NULL, &len);
	if (!status && job->mode == PERF_IDLE)
		status = perf_follow_idle(peer, job);
	else if (!status)
		status = run ? perf_run_serve(run) : perf_accept_connects(peer);
	perf_beside_close(&beside);
	return status;
}

static int serve_job(struct perf_peer *peer)
{
	char line[PERF_LINE_LEN];
	struct perf_job job;
	int status = perf_hear(peer, line);

	if (status)
		return status;
	if (perf_job_decode(line, &job)) {
		warnx("the client is of another version: it said \"%s\"", line);
		snprintf(line, sizeof(line), "this server is kvtrans-perf of KVTrans %s",
			 kvt_get_version());
		perf_say(peer, line);
		return PERF_FAILED;
	}
	const char *refusal = perf_job_refuse(&job, 1);
	if (refusal) {
		warnx("refused a client: %s", refusal);
		perf_say(peer, refusal);
		return PERF_FAILED;
	}
	if (is_probe(&job))
		return follow_job(peer, &job, NULL);
	struct perf_run run = { .job = &job, .path = &perf_kvtrans_path, .context = peer };
	status = perf_run_open(&run);
	if (!status)
		status = follow_job(peer, &job, &run);
	perf_run_close(&run);
	return status;
}

/* Serve one client after another. Their failures are theirs: only a single one's is the result. */
static int serve(const struct perf_options *options, struct kvt_engine *engine)
{
	int64_t wait_ns = options->role == PERF_SELF ? options->engine.timeout_ns : KVT_FOREVER;
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
		status = perf_peer_open(&peer, engine, conn, options->engine.timeout_ns);
		if (!status)
			status = serve_job(&peer);
		perf_peer_close(&peer);
	} while (!once && !perf_count_interrupts());
	return status;
}

static int run_server(const struct perf_options *options)
{
	struct kvt_engine *engine;
	int status = perf_open_engine(&options->engine, options->engine.port, &engine);

	if (status)
		return status;
	perf_catch_interrupts();
	fprintf(stderr, "kvtrans-perf: port %u, provider %s; Ctrl-C ends it\n",
		kvt_engine_get_port(engine), kvt_engine_get_provider(engine));
	status = serve(options, engine);
	kvt_engine_close(engine);
	return status;
}

/* ---- the client ---- */

static int lead_transfers(struct perf_peer *peer, const struct perf_job_options *options,
			  struct perf_report *report)
{
	struct perf_run run = {
		.job = &options->job, .path = &perf_kvtrans_path, .context = peer, .leads = true
	};

	int status = perf_run_open(&run);
	if (!status)
		status = perf_run_lead(&run, options->warmup_ns, report);
	perf_run_close(&run);
	return status;
}

static int lead_job(struct perf_peer *peer, const struct perf_options *options,
		    struct perf_report *report)
{
	const struct perf_job *job = &options->job.job;

	if (job->mode == PERF_CONNECT)
		return perf_probe_connects(peer, &options->engine, job->count, report);
	if (job->mode == PERF_IDLE)
		return perf_probe_idle(peer, job, report);
	return lead_transfers(peer, &options->job, report);
}

/* Tell the server the job, do it, and print the result. */
static int run_job(struct perf_peer *peer, const struct perf_options *options)
{
	const struct perf_job *job = &options->job.job;
	struct perf_beside beside = { 0 };
	char line[PERF_LINE_LEN];
	struct perf_report report = {
		.tool = "kvtrans-perf",
		.op = "connection",
		.mode = perf_mode_get_name(job->mode),
		.provider = kvt_engine_get_provider(peer->engine),
		.lanes = options->engine.ncpus * options->engine.nconn,
		.elapsed_ns = PERF_NONE,
		.receiver_ns = PERF_NONE,
		.p50_ns = PERF_NONE,
		.p99_ns = PERF_NONE,
		.cpu_ns = PERF_NONE,
		.peer_cpu_ns = PERF_NONE,
		.beside = job->beside,
	};
	int status;

	perf_job_encode(job, line, sizeof(line));
	if ((status = perf_say(peer, line)) || (status = perf_hear(peer, line)))
		return status;
	if (strcmp(line, "ready")) {
		warnx("the server refused: %s", line);
		return PERF_FAILED;
	}
	status = perf_beside_open(&beside, peer, job, &options->engine, &report.beside_len);
	if (!status)
		status = lead_job(peer, options, &report);
	perf_beside_close(&beside);
	if (status)
		return status;
	report.interrupted = perf_count_interrupts() > 0;
	perf_report_print(&report, options->job.json);
	return report.interrupted ? PERF_INTERRUPTED : PERF_OK;
}

static int run_client(const struct perf_options *options, struct perf_stopped *stopped)
{
	const struct perf_engine *peer_options = &options->engine;
	struct kvt_engine *engine;
	struct kvt_conn *conn;
	struct kvt_error error = { 0 };
	struct perf_peer peer;

	/* Every wait has its own limit; this one is for a wait that does not keep it. */
	perf_arm_watchdog(2 * (options->job.job.duration_ns + options->job.warmup_ns) +
			  4 * peer_options->timeout_ns);
	int status = perf_open_engine(peer_options, 0, &engine);
	if (status)
		return status;
	/* Some builds of libfabric take SIGINT for themselves when they are loaded. */
	perf_catch_interrupts();
	if (stopped->pid &&
	    (status = perf_stopped_queue(stopped, engine, peer_options, options->queued))) {
		warnx("nothing was measured");
	} else if (kvt_conn_open(engine, peer_options->host, peer_options->port,
				 peer_options->timeout_ns, &conn, &error)) {
		status = perf_blame("connecting", &error);
	} else {
		status = perf_peer_open(&peer, engine, conn, peer_options->timeout_ns);
		if (!status)
			status = run_job(&peer, options);
		perf_peer_close(&peer);
	}
	perf_stopped_end(stopped);
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

	int status = perf_open_engine(&options->engine, 0, &engine);
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

/* Fork the server before any engine is open: an engine does not survive a fork. */
static int run_self(struct perf_options *options)
{
	char host[NI_MAXHOST];
	struct perf_stopped stopped = { 0 };
	int fds[2];

	if (find_address(options->engine.interfaces[0], host, sizeof(host)))
		errx(PERF_USAGE, "--self needs an interface with an IPv4 address: %s has none",
		     options->engine.interfaces[0]);
	if (options->has_stopped && perf_stopped_fork(&stopped, &options->engine))
		return PERF_FAILED;
	if (pipe(fds))
		err(PERF_FAILED, "pipe");
	pid_t pid = perf_fork();
	if (!pid) {
		close(fds[0]);
		return run_forked(options, fds[1]);
	}
	close(fds[1]);
	struct pollfd ready = { .fd = fds[0], .events = POLLIN };
	int status = PERF_FAILED;
	if (poll(&ready, 1, (int)(options->engine.timeout_ns / 1000000)) == 1 &&
	    read(fds[0], &options->engine.port, sizeof(options->engine.port)) ==
		    sizeof(options->engine.port)) {
		options->engine.host = host;
		status = run_client(options, &stopped);
	} else {
		warnx("the server did not start");
		kill(pid, SIGTERM);
	}
	close(fds[0]);
	int forked_status = perf_join(pid);
	return status ? status : forked_status;
}

int main(int argc, char **argv)
{
	struct perf_options options;

	parse_options(&options, argc, argv);
	switch (options.role) {
	case PERF_SERVER:
		return run_server(&options);
	case PERF_CLIENT:
		return run_client(&options, &(struct perf_stopped){ 0 });
	default:
		return run_self(&options);
	}
}
