/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw_socket.c - the plain baseline: two processes and one TCP connection, nothing else. Throughput
 * is a stream of blocks with one byte of acknowledgement a batch; latency is a ping-pong; paged
 * transfers gather and scatter blocks (raw_gather.c). It never uses the library, and registers and
 * copies nothing.
 */
#include "raw_gather.h"
#include "raw_tcp.h"

#include <err.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* Both sides of the stream have the same state. */
struct stream {
	const struct raw_options *options;
	struct perf_pool pool;
	struct perf_samples samples;
	int fd;
	uint64_t next;
};

static const char doc[] = "Measure a plain TCP connection between two processes of this host.";

/* Read a message; 1 when the stream ended before it. Spinning never lets the kernel put us to
 * sleep. */
static int read_message(struct stream *stream, unsigned char *slot)
{
	size_t len = stream->options->block_len;
	int flags = stream->options->spin ? MSG_DONTWAIT : 0;

	while (len) {
		ssize_t n = recv(stream->fd, slot, len, flags);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n < 0)
			warn("recv");
		if (n <= 0)
			return n < 0 ? -1 : 1;
		slot += n;
		len -= (size_t)n;
	}
	return 0;
}

static int send_batch(void *arg)
{
	struct stream *stream = arg;
	char ack;

	for (size_t i = 0; i < stream->pool.count; i++) {
		if (raw_put(stream->fd, perf_pool_get(&stream->pool, i), stream->pool.block_len))
			return -1;
	}
	return raw_get(stream->fd, &ack, 1);
}

static int receive_batches(struct stream *stream)
{
	for (;;) {
		for (size_t i = 0; i < stream->pool.count; i++) {
			int rc = read_message(stream, perf_pool_get(&stream->pool, i));
			if (rc)
				return rc == 1 && !i ? 0 : -1;
		}
		if (raw_put(stream->fd, "a", 1))
			return -1;
	}
}

static int play_ping(void *arg)
{
	struct stream *stream = arg;
	int64_t started = perf_now_ns();

	if (raw_put(stream->fd, perf_pool_get(&stream->pool, 0), stream->pool.block_len) ||
	    read_message(stream, perf_pool_get(&stream->pool, 1)))
		return -1;
	perf_samples_add(&stream->samples, (perf_now_ns() - started) / 2);
	return 0;
}

static int play_pong(struct stream *stream)
{
	unsigned char *slot = perf_pool_get(&stream->pool, 0);
	int rc;

	while (!(rc = read_message(stream, slot))) {
		if (raw_put(stream->fd, slot, stream->pool.block_len))
			return -1;
	}
	return rc == 1 ? 0 : -1;
}

static int measure(struct stream *stream, const struct raw_peer *peer)
{
	const struct raw_options *options = stream->options;
	uint64_t messages = options->latency ? 1 : options->count;
	struct perf_report report = { .tool = "raw_socket", .op = "stream", .provider = "socket" };
	struct raw_step step = {
		.run = options->latency ? play_ping : send_batch,
		.arg = stream,
		.samples = &stream->samples,
		.messages = messages,
		.bytes = messages * options->block_len,
	};

	if (raw_repeat(options, peer, &step, &report))
		return PERF_FAILED;
	report.depth = 1; /* A stream has no more. */
	perf_report_print(&report, options->json);
	return PERF_OK;
}

/* One side of the stream, from memory to exit status. */
static int run_side(const struct raw_options *options, struct raw_peer *peer)
{
	struct stream stream = { .options = options };
	int status = PERF_FAILED;

	if (perf_pool_open(&stream.pool, options->block_len, options->count, options->pattern,
			   peer->pid ? 1 : 2)) {
		warnx("no memory for the blocks");
		return PERF_FAILED;
	}
	if (perf_samples_open(&stream.samples))
		goto close_pool;
	stream.fd = peer->pid ? raw_tcp_connect(peer->fd) : raw_tcp_accept(options, peer->fd);
	if (stream.fd < 0)
		goto close_samples;
	if (peer->pid)
		status = measure(&stream, peer);
	else if (!(options->latency ? play_pong(&stream) : receive_batches(&stream)))
		status = PERF_OK;
	close(stream.fd);
close_samples:
	perf_samples_close(&stream.samples);
close_pool:
	perf_pool_close(&stream.pool);
	return status;
}

int main(int argc, char **argv)
{
	struct raw_options options;
	struct raw_peer peer;

	raw_parse(&options, doc, argc, argv);
	if (options.op != RAW_STREAM)
		return raw_paged_run(&raw_gather_path, &options);
	if (options.latency && options.count < 2)
		errx(PERF_USAGE, "--latency needs two slots: --count 2");
	if (raw_split(&peer))
		return PERF_FAILED;
	perf_arm_watchdog(options.duration_ns + options.warmup_ns + 30 * PERF_SECOND);
	if (peer.pid)
		perf_catch_interrupts();
	int status = run_side(&options, &peer);
	if (!peer.pid)
		return status;
	int peer_status = raw_join(&peer);
	if (status || peer_status)
		return status ? status : peer_status;
	return perf_count_interrupts() ? PERF_INTERRUPTED : PERF_OK;
}
