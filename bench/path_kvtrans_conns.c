/* SPDX-License-Identifier: Apache-2.0 */
/*
 * path_kvtrans_conns.c - the engine and connections of the path of the library, and what they cost before and between
 * transfers: the time to open one, the CPU time and the memory of one that is idle, a peer that stopped.
 */
#include "path_kvtrans.h"

#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Above the tags of data KVs, which count from 0. */
static const uint64_t CONTROL_TAG = UINT64_C(1) << 32;

/* How late the server may notice that the client is done. */
static const int64_t END_CHECK_NS = PERF_SECOND / 50;

static int open_engine(const struct perf_options *options, uint16_t port,
		       struct kvt_engine **engine)
{
	int64_t spin_ns = options->spin_us ? INT64_C(1000) * options->spin_us : KVT_NO_SPIN;
	size_t eager_len = options->eager_len ? options->eager_len : KVT_NO_EAGER;
	struct kvt_error error = { 0 };
	const struct kvt_engine_config config = {
		.size = sizeof(config),
		.interfaces = options->interfaces,
		.interface_count = options->interface_count,
		.provider = options->provider,
		.lane_ports = options->lane_ports,
		.ncpus = options->ncpus,
		.nconn_per_cpu = options->nconn,
		.listen_port = port,
		.eager_len = options->has_eager ? eager_len : 0,
		.spin_ns = options->has_spin ? spin_ns : 0,
		.checksum = options->checksum,
		.interrupted = perf_is_interrupted,
	};

	return kvtrans_check(kvt_engine_open(&config, engine, &error), "opening the engine",
			     &error);
}

static int call(struct perf_run *run, uint16_t port, struct kvt_conn **conn)
{
	struct kvtrans *own = run->own;
	struct kvt_error error = { 0 };

	return kvtrans_check(kvt_conn_open(own->engine, own->host, port, run->options->timeout_ns,
					   conn, &error),
			     "connecting", &error);
}

/* ---- a peer that stopped ---- */

static int stop_when_connected(const struct perf_options *options, int report_fd)
{
	struct kvt_engine *engine;
	struct kvt_conn *conn;
	struct kvt_error error = { 0 };

	int status = open_engine(options, 0, &engine);
	if (status)
		return status;
	uint16_t port = kvt_engine_get_port(engine);
	if (write(report_fd, &port, sizeof(port)) != sizeof(port))
		return PERF_FAILED;
	status = kvtrans_check(kvt_conn_accept(engine, options->timeout_ns, &conn, &error),
			       "waiting for the client", &error);
	if (!status)
		raise(SIGSTOP);
	return PERF_FAILED;
}

/* Fork it, before any engine is open: it takes one connection and stops. */
static int fork_stopped(struct perf_run *run)
{
	struct kvtrans *own = run->own;
	int fds[2];

	if (pipe(fds)) {
		warn("pipe");
		return PERF_FAILED;
	}
	own->stopped_pid = perf_fork();
	if (!own->stopped_pid) {
		close(run->control);
		_exit(stop_when_connected(run->options, fds[1]));
	}
	close(fds[1]);
	ssize_t n = read(fds[0], &own->stopped_port, sizeof(own->stopped_port));
	close(fds[0]);
	if (n == sizeof(own->stopped_port))
		return PERF_OK;
	warnx("the peer to stop did not start");
	return PERF_FAILED;
}

/* Connect to it, see it stop, and queue as many notifications as the options say. */
static int queue_stopped(struct perf_run *run)
{
	const struct perf_stamp stamp = { 0 };
	struct kvtrans *own = run->own;
	unsigned count = run->options->queued;
	int wait_status;

	own->queued = calloc(count + 1, sizeof(struct kvt_transfer *));
	int status = own->queued ? call(run, own->stopped_port, &own->stopped_conn) : PERF_FAILED;
	if (!status &&
	    (waitpid(own->stopped_pid, &wait_status, WUNTRACED) < 0 || !WIFSTOPPED(wait_status))) {
		warnx("the peer did not stop: nothing was measured");
		return PERF_FAILED;
	}
	for (; !status && own->queued_count < count; own->queued_count += !status)
		status = kvtrans_notify(run, own->stopped_conn, &stamp, sizeof(stamp),
					&own->queued[own->queued_count]);
	return status;
}

static void end_stopped(struct kvtrans *own)
{
	if (!own->stopped_pid)
		return;
	kill(own->stopped_pid, SIGKILL);
	waitpid(own->stopped_pid, NULL, 0);
	kvt_conn_close(own->stopped_conn);
	while (own->queued_count)
		kvt_transfer_free(own->queued[--own->queued_count]);
	free(own->queued);
}

/* ---- the engine and the connection ---- */

/* A forked server tells its port over the control socket. */
static int find_server(struct perf_run *run)
{
	const struct perf_options *options = run->options;
	struct kvtrans *own = run->own;
	int status = PERF_OK;

	own->port = (uint16_t)options->port;
	snprintf(own->host, sizeof(own->host), "%s", options->host ? options->host : "");
	if (options->self && !(status = perf_find_address(options, own->host, sizeof(own->host))))
		status = perf_get(run, &own->port, sizeof(own->port));
	return !status && options->has_stopped ? queue_stopped(run) : status;
}

int kvtrans_start(struct perf_run *run)
{
	const struct perf_options *options = run->options;
	struct kvtrans *own = perf_make_own(run, sizeof(*own));
	bool has_port = !run->leads && !options->self;
	int status = own ? PERF_OK : PERF_FAILED;

	if (!status && run->leads && options->has_stopped)
		status = fork_stopped(run);
	if (!status)
		status = open_engine(options, has_port ? (uint16_t)options->port : 0, &own->engine);
	if (status)
		return status;
	run->report.provider = kvt_engine_get_provider(own->engine);
	run->report.figures[PERF_LANES] = options->ncpus * options->nconn;
	if (run->leads)
		return find_server(run);
	own->port = kvt_engine_get_port(own->engine);
	if (options->self)
		return perf_put(run, &own->port, sizeof(own->port));
	fprintf(stderr, "kvtrans-perf: port %u, provider %s%s; Ctrl-C ends it\n", own->port,
		run->report.provider, options->provider ? "" : " (local for callers on this host)");
	return PERF_OK;
}

void kvtrans_stop(struct perf_run *run)
{
	struct kvtrans *own = run->own;

	if (!own)
		return;
	end_stopped(own);
	kvt_engine_close(own->engine);
	free(own);
}

int kvtrans_meet(struct perf_run *run, int64_t wait_ns)
{
	const struct kvt_kv_config config = { .size = sizeof(config), .tag = CONTROL_TAG };
	struct kvtrans *own = run->own;
	struct kvt_error error = { 0 };

	int status = run->leads ? call(run, own->port, &own->conn)
				: kvtrans_check(kvt_conn_accept(own->engine,
								wait_ns < 0 ? KVT_FOREVER : wait_ns,
								&own->conn, &error),
						"waiting for a client", &error);
	run->has_met = !status;
	if (!status)
		run->report.provider = kvt_conn_get_path(own->conn, NULL);
	return status ? status
		      : kvtrans_check(kvt_kv_open(own->conn, &config, &own->control, &error),
				      "opening the control KV", &error);
}

void kvtrans_part(struct perf_run *run)
{
	struct kvtrans *own = run->own;

	kvt_kv_close(own->control);
	kvt_conn_close(own->conn);
	own->control = NULL;
	own->conn = NULL;
}

/* ---- idle connections ---- */

/* Both sides say what memory each took, the client first; the larger counts. */
static int exchange_memory(struct perf_run *run, int64_t own_len)
{
	int64_t their_len;
	int status;

	if ((run->leads && (status = perf_say(run, "beside %" PRId64, own_len))) ||
	    (status = perf_hear_values(run, 1, "beside %" SCNd64, &their_len)) ||
	    (!run->leads && (status = perf_say(run, "beside %" PRId64, own_len))))
		return status;
	run->report.figures[PERF_BESIDE] = run->job.beside;
	run->report.figures[PERF_BESIDE_LEN] = (double)(own_len > their_len ? own_len : their_len);
	return PERF_OK;
}

/* Take the next one, as long as the client is there: it may have failed, for want of descriptors, say. */
static int take_idle(struct perf_run *run, struct kvt_conn **conn)
{
	struct kvtrans *own = run->own;
	struct kvt_error error = { 0 };
	int64_t until_ns = perf_now_ns() + run->options->timeout_ns;
	enum kvt_err err;

	do {
		err = kvt_conn_accept(own->engine, END_CHECK_NS, conn, &error);
	} while (err == KVT_E_TIMEOUT && perf_now_ns() < until_ns &&
		 kvt_conn_get_status(own->conn, NULL) == KVT_OK);
	return kvtrans_check(err, "taking idle connections", &error);
}

int kvtrans_add_beside(struct perf_run *run)
{
	struct kvtrans *own = run->own;
	size_t before = perf_memory_get(false);
	int status = PERF_OK;

	if (!run->job.beside)
		return PERF_OK;
	own->beside = calloc(run->job.beside, sizeof(struct kvt_conn *));
	if (!own->beside) {
		warn("calloc");
		return PERF_FAILED;
	}
	while (own->beside_count < run->job.beside && !status) {
		struct kvt_conn **conn = &own->beside[own->beside_count];
		status = run->leads ? call(run, own->port, conn) : take_idle(run, conn);
		own->beside_count += !status;
	}
	if (status)
		return status;
	size_t after = perf_memory_get(false);
	return exchange_memory(run,
			       (int64_t)(after > before ? after - before : 0) / run->job.beside);
}

void kvtrans_end_beside(struct kvtrans *own)
{
	while (own->beside_count)
		kvt_conn_close(own->beside[--own->beside_count]);
	free(own->beside);
	own->beside = NULL;
}

/* ---- jobs of connections ---- */

/* Open connections one after the other, and close each. */
static int lead_connects(struct perf_run *run)
{
	double *figures = run->report.figures;
	int64_t begun = perf_now_ns();
	int status = PERF_OK;

	for (size_t i = 0; i < run->job.count && !perf_count_interrupts() && !status; i++) {
		struct kvtrans *own = run->own;
		struct kvt_conn *conn = NULL;
		int64_t started = perf_now_ns();
		status = call(run, own->port, &conn);
		if (!status)
			perf_samples_add(&run->times, perf_now_ns() - started);
		kvt_conn_close(conn);
	}
	figures[PERF_ELAPSED] = (double)(perf_now_ns() - begun);
	figures[PERF_MESSAGES] = (double)run->times.seen;
	figures[PERF_P50] = (double)perf_samples_get(&run->times, 50);
	figures[PERF_P99] = (double)perf_samples_get(&run->times, 99);
	return status ? status : perf_say(run, "end");
}

/* Take those that come, and keep each until the next one has. The engine drops a connection that ended before it was
 * taken, so fewer may come than the client opened: its word ends this, not their number. */
static int serve_connects(struct perf_run *run)
{
	struct kvtrans *own = run->own;
	struct kvt_conn *last = NULL, *conn;
	struct kvt_error error = { 0 };
	struct kvt_transfer *end;
	char line[PERF_LINE_LEN];
	size_t len;
	int64_t taken_ns = perf_now_ns();
	int status = kvtrans_start_hear(run, line, KVT_FOREVER, &end);

	if (status)
		return status;
	for (;;) {
		bool ended = kvt_transfer_is_done(end);
		enum kvt_err err = kvt_conn_accept(own->engine, ended ? KVT_NOWAIT : END_CHECK_NS,
						   &conn, &error);
		if (!err) {
			kvt_conn_close(last);
			last = conn;
			taken_ns = perf_now_ns();
		} else if (err != KVT_E_TIMEOUT ||
			   (!ended && perf_now_ns() - taken_ns > run->options->timeout_ns)) {
			status = kvtrans_check(err, "taking a connection", &error);
			break;
		} else if (ended) {
			status = kvtrans_await(&end, &len);
			break;
		}
	}
	kvt_transfer_free(end);
	kvt_conn_close(last);
	return status;
}

/* Leave the connection alone, on both sides. */
static int idle(struct perf_run *run)
{
	struct timespec left = { run->job.duration_ns / PERF_SECOND,
				 run->job.duration_ns % PERF_SECOND };
	int64_t cpu_ns = perf_cpu_ns(), started = perf_now_ns(), peer_cpu_ns;
	int status;

	while (nanosleep(&left, &left)) {
		if (errno != EINTR || perf_count_interrupts())
			return PERF_INTERRUPTED;
	}
	int64_t elapsed_ns = perf_now_ns() - started;
	cpu_ns = perf_cpu_ns() - cpu_ns;
	if (!run->leads)
		return perf_say(run, "idle %" PRId64, cpu_ns);
	if ((status = perf_hear_values(run, 1, "idle %" SCNd64, &peer_cpu_ns)))
		return status;
	perf_report_set_time(&run->report, elapsed_ns, cpu_ns, peer_cpu_ns);
	return PERF_OK;
}

int kvtrans_probe(struct perf_run *run)
{
	if (run->job.mode == PERF_IDLE)
		return idle(run);
	return (run->leads ? lead_connects : serve_connects)(run);
}
