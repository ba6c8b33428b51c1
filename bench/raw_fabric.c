/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw_fabric.c - what libfabric itself gives on one connected endpoint: RMA writes for throughput,
 * each block delivered when it counts, a send/receive ping-pong for latency, and paged transfers
 * (raw_pages.c). It never uses the library: it is the limit that the library is measured against.
 */
#include "raw_link.h"
#include "raw_pages.h"

#include <err.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>
#include <stdlib.h>

/* A block on its way. */
struct flight {
	size_t pending; /* operations not yet completed */
	int64_t started;
};

struct fabric {
	const struct raw_options *options;
	struct raw_link link;
	struct perf_pool pool;
	struct perf_samples samples;
	size_t segment_len;
	size_t message_len; /* of the ping-pong */
	struct flight *flights;
	uint64_t posted; /* blocks posted, and of them finished */
	uint64_t finished;
};

static const char doc[] = "Measure libfabric between two processes of this host.";

/* Take completions, at least one when asked to wait for it. */
static int reap(struct fabric *fabric, bool wait)
{
	void *context;
	uint64_t flags;
	int found = wait ? !raw_link_wait(&fabric->link, &context, &flags)
			 : raw_link_poll(&fabric->link, &context, &flags);

	if (wait && !found)
		return -1;
	for (; found > 0; found = raw_link_poll(&fabric->link, &context, &flags)) {
		struct flight *flight = context;
		flight->pending--;
	}
	return found;
}

static int post_segment(struct fabric *fabric, struct flight *flight, size_t offset, bool last)
{
	struct raw_link *link = &fabric->link;
	size_t rest = fabric->options->block_len - offset % fabric->options->block_len;
	size_t len = rest < fabric->segment_len ? rest : fabric->segment_len;
	struct iovec iov = { fabric->pool.base + offset, len };
	struct fi_rma_iov remote = { link->remote_address + offset, len, link->remote_key };
	struct fi_msg_rma message = {
		.msg_iov = &iov,
		.desc = &link->desc,
		.iov_count = 1,
		.rma_iov = &remote,
		.rma_iov_count = 1,
		.context = flight,
	};
	long rc;

	/* Only the last operation waits for the peer: the endpoint keeps their order. */
	uint64_t flags = FI_COMPLETION | (last ? FI_DELIVERY_COMPLETE : 0);
	while ((rc = fi_writemsg(link->ep, &message, flags)) == -FI_EAGAIN) {
		if (reap(fabric, false) < 0)
			return -1;
	}
	if (rc) {
		warnx("fi_writemsg: %s", fi_strerror((int)-rc));
		return -1;
	}
	flight->pending++;
	return 0;
}

static int post_block(struct fabric *fabric)
{
	struct flight *flight = &fabric->flights[fabric->posted % fabric->options->depth];
	size_t len = fabric->options->block_len;
	size_t start = (size_t)(perf_pool_get(&fabric->pool, fabric->posted) - fabric->pool.base);

	*flight = (struct flight){ .started = perf_now_ns() };
	for (size_t done = 0; done < len; done += fabric->segment_len) {
		if (post_segment(fabric, flight, start + done, len - done <= fabric->segment_len))
			return -1;
	}
	fabric->posted++;
	return 0;
}

/* Keep depth blocks in flight until the oldest of them has arrived. */
static int write_block(void *arg)
{
	struct fabric *fabric = arg;
	struct flight *oldest = &fabric->flights[fabric->finished % fabric->options->depth];

	while (fabric->posted - fabric->finished < fabric->options->depth) {
		if (post_block(fabric))
			return -1;
	}
	while (oldest->pending) {
		if (reap(fabric, true))
			return -1;
	}
	fabric->finished++;
	perf_samples_add(&fabric->samples, perf_now_ns() - oldest->started);
	return 0;
}

static int finish_writes(struct fabric *fabric)
{
	for (; fabric->finished < fabric->posted; fabric->finished++) {
		struct flight *flight = &fabric->flights[fabric->finished % fabric->options->depth];
		while (flight->pending) {
			if (reap(fabric, true))
				return -1;
		}
	}
	return 0;
}

/* Wait until a message has come, whatever else completes. */
static int await_message(struct fabric *fabric)
{
	void *context;
	uint64_t flags;

	do {
		if (raw_link_wait(&fabric->link, &context, &flags))
			return -1;
	} while (!(flags & FI_RECV));
	return 0;
}

static int post_receive(struct fabric *fabric)
{
	unsigned char *slot = perf_pool_get(&fabric->pool, 1);

	return raw_link_receive(&fabric->link, slot, fabric->message_len, NULL);
}

/* Slot 0 goes out, slot 1 takes what comes. */
static int play_ping(void *arg)
{
	struct fabric *fabric = arg;
	unsigned char *slot = perf_pool_get(&fabric->pool, 0);

	if (post_receive(fabric))
		return -1;
	int64_t started = perf_now_ns();
	if (raw_link_send(&fabric->link, slot, fabric->message_len, NULL) || await_message(fabric))
		return -1;
	perf_samples_add(&fabric->samples, (perf_now_ns() - started) / 2);
	return 0;
}

/* The forked side answers until the first byte says that it was the last message. Then it waits
 * for the other side to close, so that its answer is not cut off. */
static int play_pong(struct fabric *fabric, int control)
{
	const unsigned char *answer = perf_pool_get(&fabric->pool, 0);
	const unsigned char *slot = perf_pool_get(&fabric->pool, 1);
	bool last;
	char none;

	do {
		if (await_message(fabric))
			return -1;
		last = !slot[0];
		if (!last && post_receive(fabric))
			return -1;
		if (raw_link_send(&fabric->link, answer, fabric->message_len, NULL))
			return -1;
	} while (!last);
	return raw_get(control, &none, 1) == 1 ? 0 : -1;
}

static int measure(struct fabric *fabric, const struct raw_peer *peer)
{
	const struct raw_options *options = fabric->options;
	struct perf_report report = {
		.tool = "raw_fabric",
		.op = options->latency ? "message" : "write",
		.provider = options->provider,
		.segment_len = options->latency ? 0 : fabric->segment_len,
	};
	struct raw_step step = {
		.run = options->latency ? play_ping : write_block,
		.arg = fabric,
		.samples = &fabric->samples,
		.messages = 1,
		.bytes = options->block_len,
	};

	if (raw_repeat(options, peer, &step, &report) || finish_writes(fabric))
		return PERF_FAILED;
	perf_report_print(&report, options->json);
	/* The last message ends the other side, which has only been asleep in its queue until
	 * now. */
	perf_pool_get(&fabric->pool, 0)[0] = 0;
	return play_ping(fabric) ? PERF_FAILED : PERF_OK;
}

static int open_fabric(struct fabric *fabric, const struct raw_peer *peer)
{
	const struct raw_options *options = fabric->options;

	if (perf_pool_open(&fabric->pool, options->block_len, options->count, options->pattern,
			   1) ||
	    perf_samples_open(&fabric->samples) ||
	    !(fabric->flights = calloc(options->depth, sizeof(*fabric->flights)))) {
		warnx("no memory for the blocks");
		return -1;
	}
	if (raw_link_open(&fabric->link, options, peer, &fabric->pool))
		return -1;
	fabric->message_len = options->latency ? options->block_len : 1;
	size_t limit = fabric->link.info->ep_attr->max_msg_size;
	size_t wanted = options->segment_len ? options->segment_len : options->block_len;
	fabric->segment_len = wanted < limit ? wanted : limit;
	return peer->pid ? 0 : post_receive(fabric);
}

static void close_fabric(struct fabric *fabric)
{
	raw_link_close(&fabric->link);
	free(fabric->flights);
	perf_samples_close(&fabric->samples);
	perf_pool_close(&fabric->pool);
}

int main(int argc, char **argv)
{
	struct raw_options options;
	struct raw_peer peer;
	int status = PERF_FAILED;

	raw_parse(&options, doc, argc, argv);
	if (options.op != RAW_STREAM)
		return raw_paged_run(&raw_pages_path, &options);
	if (options.count < 2)
		errx(PERF_USAGE, "two slots are the least: --count 2");
	if (raw_split(&peer))
		return PERF_FAILED;
	perf_arm_watchdog(options.duration_ns + options.warmup_ns + 30 * PERF_SECOND);
	struct fabric fabric = { .options = &options };
	if (!open_fabric(&fabric, &peer)) {
		/* Some builds of libfabric take SIGINT for themselves when they are loaded. */
		if (peer.pid)
			perf_catch_interrupts();
		if (peer.pid)
			status = measure(&fabric, &peer);
		else
			status = play_pong(&fabric, peer.fd) ? PERF_FAILED : PERF_OK;
	}
	close_fabric(&fabric);
	if (!peer.pid)
		return status;
	int peer_status = raw_join(&peer);
	if (status || peer_status)
		return status ? status : peer_status;
	return perf_count_interrupts() ? PERF_INTERRUPTED : PERF_OK;
}
