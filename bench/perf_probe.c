/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_probe.c - see perf_probe.h. It never moves a message of its own but for a few control lines.
 */
#include "perf_probe.h"

#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* How late the server may notice that the client is done. */
static const int64_t END_CHECK_NS = PERF_SECOND / 50;

int perf_probe_connects(struct kvt_engine *engine, const struct perf_options *options,
			struct perf_report *report)
{
	struct perf_samples samples;
	struct kvt_error error = { 0 };
	int64_t begun = perf_now_ns();
	int status = PERF_OK;

	if (perf_samples_open(&samples)) {
		warnx("no memory");
		return PERF_FAILED;
	}
	for (size_t i = 0; i < options->job.count && !perf_count_interrupts(); i++) {
		struct kvt_conn *conn;
		int64_t started = perf_now_ns();
		if (kvt_conn_open(engine, options->host, options->port, options->timeout_ns, &conn,
				  &error)) {
			status = perf_blame("connecting", &error);
			break;
		}
		perf_samples_add(&samples, perf_now_ns() - started);
		kvt_conn_close(conn);
	}
	report->elapsed_ns = perf_now_ns() - begun;
	report->messages = samples.seen;
	report->p50_ns = perf_samples_get(&samples, 50);
	report->p99_ns = perf_samples_get(&samples, 99);
	perf_samples_close(&samples);
	return status;
}

/* The engine drops a connection that ended before it was taken, so fewer may come than the client
 * opened: its word ends this, not their number. */
int perf_accept_connects(struct perf_peer *peer, struct kvt_engine *engine)
{
	struct kvt_conn *last = NULL, *conn;
	struct kvt_error error = { 0 };
	struct kvt_transfer *end;
	char text[PERF_TEXT_LEN];
	size_t len;
	int64_t taken_ns = perf_now_ns();
	int status = perf_start_hear(peer, text, KVT_FOREVER, &end);

	if (status)
		return status;
	for (;;) {
		bool ended = kvt_transfer_is_done(end);
		enum kvt_err err = kvt_conn_accept(engine, ended ? 0 : END_CHECK_NS, &conn, &error);
		if (!err) {
			kvt_conn_close(last);
			last = conn;
			taken_ns = perf_now_ns();
		} else if (err != KVT_E_TIMEOUT ||
			   (!ended && perf_now_ns() - taken_ns > peer->timeout_ns)) {
			status = perf_blame("taking a connection", &error);
			break;
		} else if (ended) {
			status = perf_await(&end, &len);
			break;
		}
	}
	kvt_transfer_free(end);
	kvt_conn_close(last);
	return status;
}

static int sleep_idle(int64_t duration_ns)
{
	struct timespec left = { duration_ns / PERF_SECOND, duration_ns % PERF_SECOND };

	while (nanosleep(&left, &left)) {
		if (errno != EINTR || perf_count_interrupts())
			return PERF_INTERRUPTED;
	}
	return PERF_OK;
}

int perf_probe_idle(struct perf_peer *peer, const struct perf_job *job, struct perf_report *report)
{
	char text[PERF_TEXT_LEN];
	int64_t peer_cpu_ns;
	int status;

	int64_t cpu_ns = perf_cpu_ns();
	int64_t started = perf_now_ns();
	if ((status = sleep_idle(job->duration_ns)))
		return status;
	int64_t elapsed_ns = perf_now_ns() - started;
	cpu_ns = perf_cpu_ns() - cpu_ns;
	if ((status = perf_hear(peer, text, peer->timeout_ns)))
		return status;
	if (sscanf(text, "idle %" SCNd64, &peer_cpu_ns) != 1) {
		warnx("the server answered \"%s\"", text);
		return PERF_FAILED;
	}
	report->elapsed_ns = elapsed_ns;
	report->cpu_ns = cpu_ns;
	report->peer_cpu_ns = peer_cpu_ns;
	return PERF_OK;
}

int perf_follow_idle(struct perf_peer *peer, const struct perf_job *job)
{
	int64_t cpu_ns = perf_cpu_ns();
	int status = sleep_idle(job->duration_ns);

	return status ? status : perf_say(peer, "idle %" PRId64, perf_cpu_ns() - cpu_ns);
}
