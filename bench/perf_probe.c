/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_probe.c - see perf_probe.h. It never moves a message of its own but for a few control lines.
 */
#include "perf_probe.h"

#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* How late the server may notice that the client is done. */
static const int64_t END_CHECK_NS = PERF_SECOND / 50;

/* Both sides say what they found, the client first. */
static int exchange_memory(struct perf_peer *peer, bool leads, int64_t own_len, int64_t *len)
{
	char line[PERF_LINE_LEN], theirs[PERF_LINE_LEN];
	int64_t their_len;
	int status;

	snprintf(line, sizeof(line), "beside %" PRId64, own_len);
	if ((leads && (status = perf_say(peer, line))) || (status = perf_hear(peer, theirs)) ||
	    (!leads && (status = perf_say(peer, line))))
		return status;
	if (sscanf(theirs, "beside %" SCNd64, &their_len) != 1) {
		warnx("the other process said \"%s\"", theirs);
		return PERF_FAILED;
	}
	*len = own_len > their_len ? own_len : their_len;
	return PERF_OK;
}

int perf_beside_open(struct perf_beside *beside, struct perf_peer *peer, const struct perf_job *job,
		     const struct perf_engine *options, int64_t *len)
{
	size_t before = perf_memory_get();
	struct kvt_error error = { 0 };
	enum kvt_err err = KVT_OK;

	if (!job->beside)
		return PERF_OK;
	beside->conns = calloc(job->beside, sizeof(*beside->conns));
	if (!beside->conns) {
		warn("calloc");
		return PERF_FAILED;
	}
	while (beside->count < job->beside && !err && !perf_count_interrupts()) {
		struct kvt_conn **conn = &beside->conns[beside->count];
		err = options ? kvt_conn_open(peer->engine, options->host, options->port,
					      peer->timeout_ns, conn, &error)
			      : kvt_conn_accept(peer->engine, peer->timeout_ns, conn, &error);
		beside->count += !err;
	}
	if (err)
		return perf_blame("opening idle connections", &error);
	if (beside->count < job->beside)
		return PERF_INTERRUPTED;
	size_t after = perf_memory_get();
	return exchange_memory(peer, options != NULL,
			       (int64_t)(after > before ? after - before : 0) / job->beside, len);
}

void perf_beside_close(struct perf_beside *beside)
{
	while (beside->count)
		kvt_conn_close(beside->conns[--beside->count]);
	free(beside->conns);
}

int perf_probe_connects(struct perf_peer *peer, const struct perf_engine *options, size_t count,
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
	for (size_t i = 0; i < count && !perf_count_interrupts(); i++) {
		struct kvt_conn *conn;
		int64_t started = perf_now_ns();
		if (kvt_conn_open(peer->engine, options->host, options->port, peer->timeout_ns,
				  &conn, &error)) {
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
	return status ? status : perf_say(peer, "end");
}

/* The engine drops a connection that ended before it was taken, so fewer may come than the client
 * opened: its word ends this, not their number. */
int perf_accept_connects(struct perf_peer *peer)
{
	struct kvt_conn *last = NULL, *conn;
	struct kvt_error error = { 0 };
	struct kvt_transfer *end;
	char line[PERF_LINE_LEN];
	size_t len;
	int64_t taken_ns = perf_now_ns();
	int status = perf_start_hear(peer, line, &end);

	if (status)
		return status;
	for (;;) {
		bool ended = kvt_transfer_is_done(end);
		enum kvt_err err = kvt_conn_accept(peer->engine, ended ? KVT_NOWAIT : END_CHECK_NS,
						   &conn, &error);
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
	char line[PERF_LINE_LEN];
	int64_t peer_cpu_ns;
	int status;

	int64_t cpu_ns = perf_cpu_ns();
	int64_t started = perf_now_ns();
	if ((status = sleep_idle(job->duration_ns)))
		return status;
	int64_t elapsed_ns = perf_now_ns() - started;
	cpu_ns = perf_cpu_ns() - cpu_ns;
	if ((status = perf_hear(peer, line)))
		return status;
	if (sscanf(line, "idle %" SCNd64, &peer_cpu_ns) != 1) {
		warnx("the server answered \"%s\"", line);
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
	char line[PERF_LINE_LEN];
	int status = sleep_idle(job->duration_ns);

	snprintf(line, sizeof(line), "idle %" PRId64, perf_cpu_ns() - cpu_ns);
	return status ? status : perf_say(peer, line);
}
