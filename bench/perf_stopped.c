/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_stopped.c - see perf_stopped.h. It never waits for what it has queued.
 */
#include "perf_stopped.h"

#include <err.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static int stop_when_connected(const struct perf_engine *options, int report_fd)
{
	struct kvt_engine *engine;
	struct kvt_conn *conn;
	struct kvt_error error = { 0 };
	int status = perf_open_engine(options, 0, &engine);

	if (status)
		return status;
	uint16_t port = kvt_engine_get_port(engine);
	if (write(report_fd, &port, sizeof(port)) != sizeof(port)) {
		warn("telling the port");
		return PERF_FAILED;
	}
	if (kvt_conn_accept(engine, options->timeout_ns, &conn, &error))
		return perf_blame("waiting for the client", &error);
	raise(SIGSTOP);
	return PERF_FAILED;
}

int perf_stopped_fork(struct perf_stopped *stopped, const struct perf_engine *options)
{
	int fds[2];
	pid_t parent = getpid();

	if (pipe(fds) || (stopped->pid = fork()) < 0) {
		warn("forking a peer to stop");
		stopped->pid = 0;
		return PERF_FAILED;
	}
	if (!stopped->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(fds[0]);
		_exit(getppid() == parent ? stop_when_connected(options, fds[1]) : PERF_FAILED);
	}
	close(fds[1]);
	ssize_t n = read(fds[0], &stopped->port, sizeof(stopped->port));
	close(fds[0]);
	if (n == sizeof(stopped->port))
		return PERF_OK;
	warnx("the peer to stop did not start");
	return PERF_FAILED;
}

int perf_stopped_queue(struct perf_stopped *stopped, struct kvt_engine *engine,
		       const struct perf_engine *options, unsigned count)
{
	const char bytes[16] = { 0 };
	struct kvt_error error = { 0 };
	int status;

	if (!(stopped->queued = calloc(count + 1, sizeof(struct kvt_transfer *)))) {
		warn("calloc");
		return PERF_FAILED;
	}
	if (kvt_conn_open(engine, options->host, stopped->port, options->timeout_ns, &stopped->conn,
			  &error))
		return perf_blame("connecting to the peer to stop", &error);
	if (waitpid(stopped->pid, &status, WUNTRACED) < 0 || !WIFSTOPPED(status)) {
		warnx("the peer did not stop");
		return PERF_FAILED;
	}
	const struct kvt_notify_request request = {
		.size = sizeof(request),
		.conn = stopped->conn,
		.notify = bytes,
		.notify_len = sizeof(bytes),
		.timeout_ns = options->timeout_ns,
	};
	for (; stopped->count < count; stopped->count++)
		if (kvt_notify_start(&request, &stopped->queued[stopped->count], &error))
			return perf_blame("starting a notification", &error);
	return PERF_OK;
}

void perf_stopped_end(struct perf_stopped *stopped)
{
	int status;

	if (!stopped->pid)
		return;
	kill(stopped->pid, SIGKILL);
	waitpid(stopped->pid, &status, 0);
	kvt_conn_close(stopped->conn);
	while (stopped->count)
		kvt_transfer_free(stopped->queued[--stopped->count]);
	free(stopped->queued);
}
