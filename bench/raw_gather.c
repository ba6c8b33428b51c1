/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw_gather.c - see raw_gather.h. A transfer is a header, the slots of the other side, and the
 * blocks, gathered by sendmsg() and scattered by recvmsg(); blocks that lie side by side are one
 * element. A write is answered by one byte when all of it is in place. The forked process learns
 * from the header what to do and works nothing out before.
 */
#include "raw_gather.h"
#include "raw_tcp.h"

#include <err.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A receive finds what has arrived, which is seldom more than this; longer vectors only cost. */
enum { ELEMENTS_MAX = 1024, WINDOW_LEN = 1 << 20 };

enum kind { KIND_WRITE, KIND_READ, KIND_WORD };

struct header {
	uint64_t kind;
	uint64_t word; /* a write's number */
};

struct gather {
	int fd;
	struct iovec *vector; /* a transfer's, and what is left of it while it moves */
	uint32_t *slots;      /* of a transfer that the forked process serves */
};

static int open_gather(struct raw_paged *paged)
{
	size_t count = paged->options->count;
	struct gather *gather = calloc(1, sizeof(*gather));

	if (!gather) {
		warn("calloc");
		return -1;
	}
	paged->own = gather;
	gather->fd = paged->peer->pid ? raw_tcp_connect(paged->peer->fd)
				      : raw_tcp_accept(paged->options, paged->peer->fd);
	gather->vector = calloc(count + 2, sizeof(*gather->vector));
	gather->slots = calloc(count, sizeof(*gather->slots));
	if (!gather->vector || !gather->slots)
		warn("calloc");
	return gather->fd >= 0 && gather->vector && gather->slots ? 0 : -1;
}

static void close_gather(struct raw_paged *paged)
{
	struct gather *gather = paged->own;

	if (!gather)
		return;
	if (gather->fd >= 0)
		close(gather->fd);
	free(gather->slots);
	free(gather->vector);
	free(gather);
}

/* Append a transfer's blocks to a vector that has used elements. Return how many it has then. */
static size_t add_blocks(struct raw_paged *paged, const uint32_t *slots, size_t used)
{
	struct gather *gather = paged->own;
	size_t len = paged->options->block_len;
	struct iovec *vector = gather->vector;
	size_t first = used;

	for (size_t i = 0; i < paged->options->count; i++) {
		unsigned char *base = paged->pool.base + slots[i] * len;
		struct iovec *last = used > first ? &vector[used - 1] : NULL;
		if (last && (unsigned char *)last->iov_base + last->iov_len == base)
			last->iov_len += len;
		else
			vector[used++] = (struct iovec){ base, len };
	}
	return used;
}

/* How many elements the next call takes. */
static size_t size_window(const struct iovec *vector, size_t used, bool receive)
{
	size_t count = 0, len = 0;

	while (count < used && count < ELEMENTS_MAX && (!receive || len < WINDOW_LEN))
		len += vector[count++].iov_len;
	return count;
}

/* Send or receive all of a vector, which is used up. 1: the connection ended before its first
 * byte. */
static int move_vector(struct gather *gather, size_t used, bool receive)
{
	struct iovec *vector = gather->vector;
	bool begun = false;

	while (used) {
		struct msghdr message = { .msg_iov = vector,
					  .msg_iovlen = size_window(vector, used, receive) };
		ssize_t n = receive ? recvmsg(gather->fd, &message, 0)
				    : sendmsg(gather->fd, &message, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			warn(receive ? "recvmsg" : "sendmsg");
		if (n <= 0)
			return n < 0 || begun ? -1 : 1;
		begun = true;
		size_t moved = (size_t)n;
		for (; used && moved >= vector->iov_len; vector++, used--)
			moved -= vector->iov_len;
		if (moved) {
			vector->iov_base = (char *)vector->iov_base + moved;
			vector->iov_len -= moved;
		}
	}
	return 0;
}

static int post_transfer(struct raw_paged *paged, struct raw_flight *flight)
{
	struct gather *gather = paged->own;
	bool writes = paged->options->op == RAW_WRITE;
	struct header header = { writes ? KIND_WRITE : KIND_READ, flight->number };
	size_t used = 2;

	gather->vector[0] = (struct iovec){ &header, sizeof(header) };
	gather->vector[1] = (struct iovec){ (void *)(uintptr_t)flight->remote,
					    paged->options->count * sizeof(*flight->remote) };
	if (writes)
		used = add_blocks(paged, flight->local, used);
	return move_vector(gather, used, false);
}

static int finish_transfer(struct raw_paged *paged, struct raw_flight *flight)
{
	struct gather *gather = paged->own;
	char ack;

	if (paged->options->op == RAW_WRITE)
		return raw_get(gather->fd, &ack, 1);
	return move_vector(gather, add_blocks(paged, flight->local, 0), true);
}

static int tell_word(struct raw_paged *paged, uint64_t word)
{
	struct gather *gather = paged->own;
	struct header header = { KIND_WORD, word };

	return raw_put(gather->fd, &header, sizeof(header));
}

/* Serve the transfer whose header has come. */
static int serve_transfer(struct raw_paged *paged, const struct header *header)
{
	struct gather *gather = paged->own;
	bool write = header->kind == KIND_WRITE;

	if (raw_get(gather->fd, gather->slots, paged->options->count * sizeof(*gather->slots)))
		return -1;
	if (move_vector(gather, add_blocks(paged, gather->slots, 0), write))
		return -1;
	if (!write)
		return 0;
	raw_paged_stamp(paged, header->word);
	return raw_put(gather->fd, "a", 1);
}

static int hear_word(struct raw_paged *paged, uint64_t *word)
{
	struct gather *gather = paged->own;
	struct header header;

	for (;;) {
		if (raw_get(gather->fd, &header, sizeof(header)))
			return -1;
		if (header.kind == KIND_WORD)
			break;
		if (serve_transfer(paged, &header))
			return -1;
	}
	*word = header.word;
	return 0;
}

const struct raw_path raw_gather_path = {
	.tool = "raw_socket",
	.provider = "socket",
	.open = open_gather,
	.close = close_gather,
	.post = post_transfer,
	.finish = finish_transfer,
	.tell = tell_word,
	.hear = hear_word,
	.hears_writes = true,
};
