/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_stream.h - the messages of a measurement: a pool, a KV for each message in flight, and the
 * loops that keep them moving. One struct serves the four parts: either side of throughput and of
 * latency.
 */
#ifndef PERF_STREAM_H
#define PERF_STREAM_H

#include "perf_rounds.h"

struct perf_stream {
	struct perf_peer *peer;
	const struct perf_job *job;
	struct perf_pool pool;
	struct perf_samples samples;
	struct kvt_kv **kvs;
	struct kvt_transfer **flights; /* message i is on KV and flight i % depth */
	int64_t *starts;
	uint64_t wrong;
};

/* Allocate the pool and open the KVs of a throughput or latency job. seed: a different one each
 * side. Whatever the outcome, close it; that cancels what is still in flight. */
int perf_stream_open(struct perf_stream *stream, struct perf_peer *peer, const struct perf_job *job,
		     uint64_t seed);
void perf_stream_close(struct perf_stream *stream);

/* The client's part and the server's. */
struct perf_part perf_stream_get_client(struct perf_stream *stream);
struct perf_part perf_stream_get_server(struct perf_stream *stream);

#endif
