/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_fault.c - memory that is pulled away while the network uses it: a file that is truncated under its
 * mapping. The side whose memory it was is told so, and not of a lost peer; the other side loses that
 * connection only.
 */
#define _GNU_SOURCE 1 /* memfd_create */
#include "bed.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* One segment; what stays of it takes what libfabric has received ahead and copies by itself. */
enum { LEN = 256 * KIB, KEPT_LEN = 16 * KIB };

/* Whose memory goes, and what it is used for. */
enum fault { SEND_FROM, WRITE_FROM, READ_INTO, FAULTS };

/* A file's memory. */
struct file {
	int fd;
	uint8_t *memory;
};

static struct file make_file(uint8_t fill)
{
	struct file file = { .fd = memfd_create("kvt-test", MFD_CLOEXEC) };
	must(file.fd >= 0 && ftruncate(file.fd, LEN) == 0, "%s", strerror(errno));
	file.memory = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, file.fd, 0);
	must(file.memory != MAP_FAILED, "%s", strerror(errno));
	memset(file.memory, fill, LEN);
	return file;
}

static void pull_away(const struct file *file)
{
	must(ftruncate(file->fd, KEPT_LEN) == 0, "%s", strerror(errno));
}

static void free_file(struct file *file)
{
	munmap(file->memory, LEN);
	close(file->fd);
}

static struct kvt_transfer *start_blocks(enum kvt_direction direction, struct kvt_pool *pool,
					 struct kvt_remote *remote)
{
	struct kvt_blocks_request request = KVT_BLOCKS_REQUEST_INIT;
	struct kvt_transfer *transfer = NULL;
	int64_t index = 0;
	request.direction = direction;
	request.pool = pool;
	request.remote = remote;
	request.local_idx = request.remote_idx = &index;
	request.index_len = sizeof(index);
	request.count = 1;
	must(kvt_blocks_start(&request, &transfer, NULL) == KVT_OK, "no transfer");
	return transfer;
}

static void expect_fault(struct kvt_conn *conn)
{
	struct kvt_error error = { .code = KVT_OK };
	must_become(kvt_conn_get_status(conn, NULL) != KVT_OK);
	kvt_conn_get_status(conn, &error);
	must(error.code == KVT_E_FABRIC && error.provider_errno == EFAULT &&
		     strstr(error.text, "memory of this side") != NULL,
	     "%s, errno %d: %s", kvt_err_get_name(error.code), error.provider_errno, error.text);
}

/* The peer: it sends, receives and exports as this side needs it. */
static void play_other(struct peer *test, const void *arg)
{
	enum fault fault = *(const enum fault *)arg;
	struct side side;
	side_serve(&side, test, NULL);
	struct file file = make_file(1);
	struct kvt_pool *pool = open_pool(side.engine, file.memory, LEN, 1);
	struct kvt_export *exported = export_pool(side.conn, pool, "pool");
	struct kvt_transfer *transfer = NULL;
	if (fault == SEND_FROM)
		transfer = start_recv(side.kv, file.memory, LEN);
	peer_tell(test, 0);
	peer_hear(test);
	if (transfer != NULL)
		finish(transfer, KVT_E_PEER_LOST);
	expect_ended(side.conn, KVT_E_PEER_LOST);
	kvt_export_close(exported);
	kvt_pool_close(pool);
	side_close(&side);
	free_file(&file);
}

static struct kvt_transfer *start(enum fault fault, struct stage *stage, const struct file *file,
				  struct kvt_pool *pool, struct kvt_remote *remote)
{
	switch (fault) {
	case SEND_FROM:
		return start_send(stage->side.kv, file->memory, LEN);
	case READ_INTO:
		return start_blocks(KVT_READ, pool, remote);
	default:
		return start_blocks(KVT_WRITE, pool, remote);
	}
}

START_TEST(memory_that_is_pulled_away_is_a_fault_of_its_own_side)
{
	enum fault fault = (enum fault)_i;
	struct stage stage;
	struct kvt_result result = KVT_RESULT_INIT;
	stage_open(&stage, play_other, &fault, NULL);
	struct file file = make_file(2);
	struct kvt_pool *pool = open_pool(stage.side.engine, file.memory, LEN, 1);
	struct kvt_remote *remote = find_remote(stage.side.conn, "pool");
	peer_hear(&stage.peer);
	peer_tell(&stage.peer, 0);
	pull_away(&file);
	int64_t since_ns = get_time_ns();
	struct kvt_transfer *transfer = start(fault, &stage, &file, pool, remote);
	must(wait_for(transfer, PATIENCE_NS) == KVT_OK, "it does not end");
	must(is_within(since_ns, 2 * SECOND), "it ended too late");
	kvt_transfer_get_result(transfer, &result);
	/* Of a read, the peer may be quicker to see the lane break than this side is to say why. On one host it is
	 * the peer who copies, and finds that the memory is not there. */
	bool was_told = (fault == READ_INTO || is_local()) && result.err == KVT_E_PEER_LOST &&
			strncmp(result.text, "the peer gave up", 16) == 0;
	must(result.err == KVT_E_FABRIC || was_told, "%s", result.text);
	if (!was_told)
		expect_fault(stage.side.conn);
	kvt_transfer_free(transfer);
	kvt_remote_close(remote);
	kvt_pool_close(pool);
	free_file(&file);
	peer_finish(&stage.peer);
	stage_close(&stage);
}
END_TEST

TCase *make_fault_tests(void)
{
	TCase *tests = tcase_create("fault");
	if (strcmp(get_provider(), "tcp") == 0 || is_local())
		tcase_add_loop_test(tests, memory_that_is_pulled_away_is_a_fault_of_its_own_side, 0,
				    FAULTS);
	else
		printf("SKIP: memory that is pulled away: %s %s\n", get_provider(),
		       is_rdma() ? "pins what it moves" : "was not looked at");
	return tests;
}
