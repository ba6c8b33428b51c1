/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_stream.c - see perf_stream.h. It never speaks on the control KV.
 */
#include "perf_stream.h"

#include <err.h>
#include <stdlib.h>

int perf_stream_open(struct perf_stream *stream, struct perf_peer *peer, const struct perf_job *job,
		     uint64_t seed)
{
	size_t slots = perf_job_get_slots(job);
	struct kvt_error error = { 0 };

	*stream = (struct perf_stream){
		.peer = peer,
		.job = job,
		.kvs = calloc(job->depth, sizeof(*stream->kvs)),
		.flights = calloc(job->depth + 1, sizeof(*stream->flights)), /* latency has two */
		.starts = calloc(job->depth, sizeof(*stream->starts)),
	};
	if (!stream->kvs || !stream->flights || !stream->starts ||
	    perf_samples_open(&stream->samples) ||
	    perf_pool_open(&stream->pool, job->block_len, slots, job->pattern, seed)) {
		warnx("no memory for %zu blocks of %zu bytes", slots, job->block_len);
		return PERF_FAILED;
	}
	for (unsigned i = 0; i < job->depth; i++) {
		const struct kvt_kv_config config = {
			.size = sizeof(config),
			.base = stream->pool.base,
			.len = stream->pool.len,
			.tag = i,
		};
		if (kvt_kv_open(peer->conn, &config, &stream->kvs[i], &error))
			return perf_blame("opening a KV", &error);
	}
	return PERF_OK;
}

void perf_stream_close(struct perf_stream *stream)
{
	if (stream->kvs && stream->flights) {
		for (unsigned i = 0; i <= stream->job->depth; i++)
			kvt_transfer_free(stream->flights[i]);
		for (unsigned i = 0; i < stream->job->depth; i++)
			kvt_kv_close(stream->kvs[i]);
	}
	perf_pool_close(&stream->pool);
	perf_samples_close(&stream->samples);
	free(stream->starts);
	free(stream->flights);
	free(stream->kvs);
}

/* ---- throughput ---- */

static int start_message(struct perf_stream *stream, uint64_t message, bool receive)
{
	unsigned char *slot = perf_pool_get(&stream->pool, message);
	size_t len = stream->job->block_len;
	unsigned lane = (unsigned)(message % stream->job->depth);
	struct kvt_transfer **flight = &stream->flights[lane];

	if (receive)
		return perf_start_recv(stream->peer, stream->kvs[lane], slot, len, flight);
	/* Filling counts: it is what a run that verifies costs. */
	stream->starts[lane] = perf_now_ns();
	if (stream->job->verify)
		perf_fill(slot, len, message);
	return perf_start_send(stream->peer, stream->kvs[lane], slot, len, flight);
}

/* Send messages first to first + count - 1, each as soon as the one depth places before it is
 * over. */
static int send_messages(void *arg, uint64_t first, uint64_t count)
{
	struct perf_stream *stream = arg;
	unsigned depth = stream->job->depth;
	uint64_t end = first + count;
	int status;

	for (uint64_t i = first; i < end + depth; i++) {
		unsigned lane = (unsigned)(i % depth);
		if (stream->flights[lane]) {
			if ((status = perf_finish(&stream->flights[lane], stream->job->block_len)))
				return status;
			perf_samples_add(&stream->samples, perf_now_ns() - stream->starts[lane]);
		}
		if (i < end && (status = start_message(stream, i, false)))
			return status;
	}
	return PERF_OK;
}

static int prepare_receives(void *arg, uint64_t first, uint64_t count)
{
	struct perf_stream *stream = arg;
	int status = PERF_OK;

	for (uint64_t i = 0; i < count && i < stream->job->depth && !status; i++)
		status = start_message(stream, first + i, true);
	return status;
}

static int receive_messages(void *arg, uint64_t first, uint64_t count)
{
	struct perf_stream *stream = arg;
	const struct perf_job *job = stream->job;
	uint64_t end = first + count;
	int status;

	for (uint64_t i = first; i < end; i++) {
		if ((status = perf_finish(&stream->flights[i % job->depth], job->block_len)))
			return status;
		if (job->verify && !perf_check(perf_pool_get(&stream->pool, i), job->block_len, i))
			stream->wrong++;
		if (i + job->depth < end && (status = start_message(stream, i + job->depth, true)))
			return status;
	}
	return PERF_OK;
}

/* ---- latency ---- */

/* Slot 0 goes out as flight 0, slot 1 takes what comes as flight 1. */
enum { OUT, IN };

static int start_in(struct perf_stream *stream)
{
	return perf_start_recv(stream->peer, stream->kvs[0], perf_pool_get(&stream->pool, IN),
			       stream->job->block_len, &stream->flights[IN]);
}

static int start_out(struct perf_stream *stream, uint64_t message)
{
	unsigned char *slot = perf_pool_get(&stream->pool, OUT);
	size_t len = stream->job->block_len;

	if (stream->job->verify)
		perf_fill(slot, len, message);
	return perf_start_send(stream->peer, stream->kvs[0], slot, len, &stream->flights[OUT]);
}

static int finish_flight(struct perf_stream *stream, int which)
{
	return perf_finish(&stream->flights[which], stream->job->block_len);
}

/* A send's own end is taken after the answer to it: it costs the ping-pong nothing but its work. */
static int play_pings(void *arg, uint64_t first, uint64_t count)
{
	struct perf_stream *stream = arg;
	int status;

	for (uint64_t i = first; i < first + count; i++) {
		if ((status = start_in(stream)))
			return status;
		int64_t started = perf_now_ns();
		if ((status = start_out(stream, i)) || (status = finish_flight(stream, IN)))
			return status;
		perf_samples_add(&stream->samples, (perf_now_ns() - started) / 2);
		if ((status = finish_flight(stream, OUT)))
			return status;
	}
	return PERF_OK;
}

static int prepare_pongs(void *arg, uint64_t first, uint64_t count)
{
	(void)first;
	(void)count;
	return start_in(arg);
}

static int play_pongs(void *arg, uint64_t first, uint64_t count)
{
	struct perf_stream *stream = arg;
	const struct perf_job *job = stream->job;
	int status;

	for (uint64_t i = first; i < first + count; i++) {
		if ((status = finish_flight(stream, IN)))
			return status;
		if (job->verify && !perf_check(perf_pool_get(&stream->pool, IN), job->block_len, i))
			stream->wrong++;
		if (stream->flights[OUT] && (status = finish_flight(stream, OUT)))
			return status;
		/* The next message must find its receive posted. */
		if (i + 1 < first + count && (status = start_in(stream)))
			return status;
		if ((status = start_out(stream, i)))
			return status;
	}
	return finish_flight(stream, OUT);
}

struct perf_part perf_stream_get_client(struct perf_stream *stream)
{
	return (struct perf_part){
		.run = stream->job->mode == PERF_LATENCY ? play_pings : send_messages,
		.arg = stream,
		.samples = &stream->samples,
	};
}

struct perf_part perf_stream_get_server(struct perf_stream *stream)
{
	bool latency = stream->job->mode == PERF_LATENCY;

	return (struct perf_part){
		.prepare = latency ? prepare_pongs : prepare_receives,
		.run = latency ? play_pongs : receive_messages,
		.arg = stream,
		.wrong = &stream->wrong,
	};
}
