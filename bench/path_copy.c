/* SPDX-License-Identifier: Apache-2.0 */
/*
 * path_copy.c - the limits of one host: what a copy costs by itself. "mapped": both pools are memfds, and each process
 * has mapped the other's; the copy goes past the caches, with the library's own instructions. "vm": any memory, by
 * process_vm_readv(2). As in the library the owner of the destination copies: a write is a number in shared memory, for
 * which the other process polls.
 */
#define _GNU_SOURCE 1 /* memfd_create, process_vm_readv */
#include "perf.h"

#include <err.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/copy.h"

/* What the kernel copies in a call: it stops short of 2 GiB. */
enum { CALL_MAX = 1 << 30, PARTS_MAX = 1024, POSTS = 1024 };

/* In the leading process's file, behind its pool. Who waits for long lets others run. */
struct board {
	_Atomic(uint64_t) posted, done;
	struct post {
		bool is_write; /* else only a stamp */
		struct perf_stamp stamp;
	} posts[POSTS];
};

struct link {
	int fd; /* of the pool and the board */
	unsigned char *own;
	const unsigned char *other; /* "mapped": where the other's pool is here; else: there */
	pid_t pid;		    /* the other's */
	struct board *board;
	size_t len; /* of a file */
};

struct offer {
	pid_t pid;
	int fd;
	uint64_t base;
};

/* Both kinds need the file: one for the pool, both for the board behind it. */
static void *allocate_file(struct perf_run *run, size_t len)
{
	struct link *link = perf_make_own(run, sizeof(*link));

	if (!link)
		return NULL;
	link->len =
		(len + KVI_COPY_PAGE - 1) / KVI_COPY_PAGE * KVI_COPY_PAGE + sizeof(struct board);
	link->fd = memfd_create("limit", MFD_CLOEXEC);
	if (link->fd < 0 || ftruncate(link->fd, (off_t)link->len))
		return NULL;
	void *own = mmap(NULL, link->len, PROT_READ | PROT_WRITE, MAP_SHARED, link->fd, 0);
	return own == MAP_FAILED ? NULL : (link->own = own);
}

static int open_link(struct perf_run *run)
{
	struct offer offer;
	struct link *link = run->own;
	char name[64];

	if (run->path == &perf_path_mapped && run->job.allocate != PERF_ALLOCATE_BOTH) {
		warnx("the path \"mapped\" takes --allocate=both");
		return PERF_FAILED;
	}
	if (!link && !(allocate_file(run, run->pool.len) && (link = run->own)->own))
		return PERF_FAILED;
	offer = (struct offer){ getpid(), link->fd, (uintptr_t)run->pool.base };
	if (perf_put(run, &offer, sizeof(offer)) || perf_get(run, &offer, sizeof(offer)))
		return PERF_FAILED;
	link->pid = offer.pid;
	snprintf(name, sizeof(name), "/proc/%d/fd/%d", (int)offer.pid, offer.fd);
	int fd = open(name, O_RDWR | O_CLOEXEC);
	unsigned char *map = mmap(NULL, link->len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd < 0 || map == MAP_FAILED) {
		warn("mapping %s", name);
		return PERF_FAILED;
	}
	close(fd);
	link->board = (void *)((run->leads ? link->own : map) + link->len - sizeof(struct board));
	link->other = run->path == &perf_path_mapped ? map : (void *)(uintptr_t)offer.base;
	return PERF_OK;
}

static void close_link(struct perf_run *run)
{
	free(run->own); /* the rest goes with the process */
}

static int read_blocks(const struct link *link, struct iovec *to, struct iovec *from, size_t count)
{
	size_t due = count ? count * to->iov_len : 0;

	if (!count || process_vm_readv(link->pid, to, count, from, count, 0) == (ssize_t)due)
		return PERF_OK;
	warn("process_vm_readv");
	return PERF_FAILED;
}

static int copy_blocks(struct perf_run *run, const uint32_t *own, const uint32_t *other)
{
	const struct link *link = run->own;
	struct iovec to[PARTS_MAX], from[PARTS_MAX];
	size_t len = run->job.block_len, used = 0;
	int status = PERF_OK;

	for (size_t i = 0; i < run->job.count && !status; i++) {
		unsigned char *here = run->pool.base + own[i] * len;
		const unsigned char *there = link->other + other[i] * len;
		if (run->path == &perf_path_mapped) {
			kvi_copy_past(here, there, len);
			continue;
		}
		to[used] = (struct iovec){ here, len };
		from[used++] = (struct iovec){ (void *)(uintptr_t)there, len };
		if (used < PARTS_MAX && (used + 1) * len <= CALL_MAX)
			continue;
		status = read_blocks(link, to, from, used);
		used = 0;
	}
	return status ? status : read_blocks(link, to, from, used);
}

static void wait_for(const _Atomic(uint64_t) *count, uint64_t least)
{
	for (unsigned looks = 0; atomic_load_explicit(count, memory_order_acquire) < least; looks++)
		if (looks % 1024 == 1023)
			sched_yield();
}

static void post(struct board *board, bool is_write, const struct perf_stamp *stamp)
{
	uint64_t number = atomic_load(&board->posted);

	if (number >= POSTS)
		wait_for(&board->done, number - POSTS + 1);
	board->posts[number % POSTS] = (struct post){ is_write, *stamp };
	atomic_store_explicit(&board->posted, number + 1, memory_order_release);
}

static int start_transfer(struct perf_run *run, struct perf_flight *flight)
{
	struct link *link = run->own;
	struct perf_stamp stamp = perf_run_get_stamp(flight);

	flight->pending = 0;
	if (run->job.op == PERF_READ)
		return copy_blocks(run, flight->local, flight->remote);
	flight->pending = atomic_load(&link->board->posted) + 1;
	post(link->board, true, &stamp);
	return PERF_OK;
}

static int finish_flight(struct perf_run *run, struct perf_flight *flight)
{
	wait_for(&((struct link *)run->own)->board->done, flight->pending);
	return PERF_OK;
}

static int tell_stamp(struct perf_run *run, const struct perf_stamp *stamp)
{
	post(((struct link *)run->own)->board, false, stamp);
	return PERF_OK;
}

/* The other's order is known here, so a write's number says which blocks. */
static int await_stamp(struct perf_run *run, struct perf_stamp *stamp)
{
	struct board *board = ((struct link *)run->own)->board;
	bool is_told = false;
	int status = PERF_OK;

	while (!is_told && !status) {
		uint64_t number = atomic_load(&board->done);
		wait_for(&board->posted, number + 1);
		const struct post *next = &board->posts[number % POSTS];
		*stamp = next->stamp;
		is_told = !next->is_write || perf_run_is_told(run);
		size_t first = stamp->number % run->sets * run->job.count;
		if (next->is_write)
			status = copy_blocks(run, run->pool.order + first,
					     run->remote_order + first);
		atomic_store_explicit(&board->done, number + 1, memory_order_release);
	}
	return status;
}

#define PATH(NAME)                                                                                 \
	.name = NAME, .provider = NAME, .open = open_link, .close = close_link,                    \
	.move = start_transfer, .finish = finish_flight, .tell = tell_stamp,                       \
	.await_stamp = await_stamp, .tells_writes = true

const struct perf_path perf_path_mapped = { PATH("mapped"), .allocate = allocate_file };
const struct perf_path perf_path_vm = { PATH("vm") };
