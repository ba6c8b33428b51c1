/* SPDX-License-Identifier: Apache-2.0 */
/*
 * path_socket.c - the path of one TCP connection without Nagle's delay, which registers and copies nothing.
 * Messages are a stream with one byte of acknowledgement a batch. A transfer is a header, the slots of the other
 * side, and the blocks, gathered by sendmsg() and scattered by recvmsg(); blocks that lie side by side are one element.
 * A write is answered by one byte when all of it is in place. The serving process learns from the header what
 * to do and works nothing out before.
 */
#include "perf.h"

#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A receive finds what has arrived, which is seldom more than this; longer vectors only cost. */
enum { ELEMENTS_MAX = 1024, WINDOW_LEN = 1 << 20 };

enum kind { KIND_WRITE, KIND_READ, KIND_STAMP };

struct header {
	uint64_t kind;
	struct perf_stamp stamp;
};

struct link {
	int fd;
	struct iovec *vector; /* a transfer's, and what is left of it while it moves */
	uint32_t *slots;      /* of a transfer that is served */
};

/* ---- bytes ---- */

/* How many elements the next call takes. */
static size_t size_window(const struct iovec *vector, size_t used, bool receive)
{
	size_t count = 0, len = 0;

	while (count < used && count < ELEMENTS_MAX && (!receive || len < WINDOW_LEN))
		len += vector[count++].iov_len;
	return count;
}

/* Send or receive all of a vector, which is used up. */
static int move_vector(struct link *link, struct iovec *vector, size_t used, bool receive)
{
	while (used) {
		struct msghdr message = { .msg_iov = vector,
					  .msg_iovlen = size_window(vector, used, receive) };
		ssize_t n = receive ? recvmsg(link->fd, &message, 0)
				    : sendmsg(link->fd, &message, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			warn(receive ? "recvmsg" : "sendmsg");
		if (!n)
			warnx("the connection has ended");
		if (n <= 0)
			return PERF_FAILED;
		size_t moved = (size_t)n;
		for (; used && moved >= vector->iov_len; vector++, used--)
			moved -= vector->iov_len;
		if (moved) {
			vector->iov_base = (char *)vector->iov_base + moved;
			vector->iov_len -= moved;
		}
	}
	return PERF_OK;
}

static int put(struct link *link, const void *base, size_t len)
{
	struct iovec one = { (void *)(uintptr_t)base, len };

	return move_vector(link, &one, 1, false);
}

static int get(struct link *link, void *base, size_t len)
{
	struct iovec one = { base, len };

	return move_vector(link, &one, 1, true);
}

/* ---- messages ---- */

static int send_message(struct perf_run *run, struct perf_flight *flight)
{
	flight->pending = 0;
	return put(run->own, flight->slot, run->job.block_len);
}

static int expect_message(struct perf_run *run, struct perf_flight *flight)
{
	(void)run;
	flight->pending = 1;
	return PERF_OK;
}

static int finish_message(struct perf_run *run, struct perf_flight *flight)
{
	const struct perf_job *job = &run->job;
	bool acked = job->mode == PERF_THROUGHPUT && (flight->number + 1) % job->count == 0;
	struct link *link = run->own;
	char ack = 'a';
	int status = PERF_OK;

	if (flight->pending) {
		status = get(link, flight->slot, job->block_len);
		if (!status && acked)
			status = put(link, &ack, 1);
	} else if (acked) {
		status = get(link, &ack, 1);
	}
	return status;
}

/* ---- transfers ---- */

/* Append a transfer's blocks to a vector that has used elements. Return how many it has then. */
static size_t add_blocks(const struct perf_run *run, const uint32_t *slots, size_t used)
{
	struct iovec *vector = ((struct link *)run->own)->vector;
	size_t len = run->job.block_len;
	size_t first = used;

	for (size_t i = 0; i < run->job.count; i++) {
		unsigned char *base = run->pool.base + slots[i] * len;
		struct iovec *last = used > first ? &vector[used - 1] : NULL;
		if (last && (unsigned char *)last->iov_base + last->iov_len == base)
			last->iov_len += len;
		else
			vector[used++] = (struct iovec){ base, len };
	}
	return used;
}

static int start_transfer(struct perf_run *run, struct perf_flight *flight)
{
	struct link *link = run->own;
	bool writes = run->job.op == PERF_WRITE;
	struct header header = { writes ? KIND_WRITE : KIND_READ, perf_run_get_stamp(flight) };
	size_t used = 2;

	link->vector[0] = (struct iovec){ &header, sizeof(header) };
	link->vector[1] = (struct iovec){ (void *)(uintptr_t)flight->remote,
					  run->job.count * sizeof(*flight->remote) };
	if (writes)
		used = add_blocks(run, flight->local, used);
	return move_vector(link, link->vector, used, false);
}

static int finish_flight(struct perf_run *run, struct perf_flight *flight)
{
	struct link *link = run->own;
	char ack;

	if (run->job.op == PERF_SEND)
		return finish_message(run, flight);
	if (run->job.op == PERF_WRITE)
		return get(link, &ack, 1);
	return move_vector(link, link->vector, add_blocks(run, flight->local, 0), true);
}

static int tell_stamp(struct perf_run *run, const struct perf_stamp *stamp)
{
	struct header header = { KIND_STAMP, *stamp };

	return put(run->own, &header, sizeof(header));
}

/* Serve the transfer whose header has come. */
static int serve_transfer(struct perf_run *run, const struct header *header)
{
	struct link *link = run->own;
	bool write = header->kind == KIND_WRITE;
	int status;

	if ((status = get(link, link->slots, run->job.count * sizeof(*link->slots))))
		return status;
	status = move_vector(link, link->vector, add_blocks(run, link->slots, 0), write);
	return status || !write ? status : put(link, "a", 1);
}

static int await_stamp(struct perf_run *run, struct perf_stamp *stamp)
{
	struct header header;
	int status;

	for (;;) {
		if ((status = get(run->own, &header, sizeof(header))))
			return status;
		if (header.kind != KIND_STAMP && (status = serve_transfer(run, &header)))
			return status;
		if (header.kind == KIND_STAMP ||
		    (header.kind == KIND_WRITE && perf_run_is_told(run)))
			break;
	}
	*stamp = header.stamp;
	return PERF_OK;
}

/* ---- the connection ---- */

/* Listen on a free port, tell the other process which, and take its connection. */
static int accept_link(struct perf_run *run)
{
	char host[64];
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t len = sizeof(address);
	int fd = -1;

	if (perf_find_address(run->options, host, sizeof(host)) ||
	    inet_pton(AF_INET, host, &address.sin_addr) != 1)
		return -1;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&address, len) ||
	    listen(listener, 1) || getsockname(listener, (struct sockaddr *)&address, &len))
		warn("listening on %s", host);
	else if (!perf_put(run, &address, sizeof(address)))
		fd = accept(listener, NULL, NULL);
	if (listener >= 0)
		close(listener);
	return fd;
}

static int connect_link(struct perf_run *run)
{
	struct sockaddr_in address;

	if (perf_get(run, &address, sizeof(address)))
		return -1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && !connect(fd, (struct sockaddr *)&address, sizeof(address)))
		return fd;
	warn("connecting");
	if (fd >= 0)
		close(fd);
	return -1;
}

static int open_link(struct perf_run *run)
{
	struct link *link = perf_make_own(run, sizeof(*link));
	size_t count = run->job.count;
	int on = 1;

	if (!link)
		return PERF_FAILED;
	link->vector = calloc(count + 2, sizeof(*link->vector));
	link->slots = calloc(count, sizeof(*link->slots));
	if (!link->vector || !link->slots) {
		warn("calloc");
		return PERF_FAILED;
	}
	link->fd = (run->leads ? connect_link : accept_link)(run);
	if (link->fd < 0)
		return PERF_FAILED;
	if (setsockopt(link->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)))
		warn("TCP_NODELAY");
	return PERF_OK;
}

static void close_link(struct perf_run *run)
{
	struct link *link = run->own;

	if (!link)
		return;
	if (link->fd > 0)
		close(link->fd);
	free(link->slots);
	free(link->vector);
	free(link);
}

const struct perf_path perf_path_socket = {
	.name = "socket",
	.provider = "socket",
	.open = open_link,
	.close = close_link,
	.send = send_message,
	.recv = expect_message,
	.move = start_transfer,
	.finish = finish_flight,
	.tell = tell_stamp,
	.await_stamp = await_stamp,
	.tells_writes = true,
};
