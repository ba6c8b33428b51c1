/* SPDX-License-Identifier: Apache-2.0 */
/*
 * path_kvtrans.h - the path of the library: path_kvtrans.c moves, path_kvtrans_conns.c has its connections.
 */
#ifndef PATH_KVTRANS_H
#define PATH_KVTRANS_H

#include "perf.h"

#include <kvtrans.h>

/* The own of a run. */
struct kvtrans {
	struct kvt_engine *engine;
	char host[64]; /* leading: where the server is */
	uint16_t port;
	struct kvt_conn *conn;
	struct kvt_kv *control; /* carries lines of text */
	struct kvt_kv **kvs;	/* one for each message in flight */
	struct kvt_pool *pool;
	struct kvt_export *exported; /* serving */
	struct kvt_remote *remote;   /* leading */
	struct kvt_conn **beside;    /* idle connections */
	unsigned beside_count;
	/* A second peer of the leading process's, which was stopped (SIGSTOP), and what is queued for it. */
	pid_t stopped_pid; /* 0: there is none */
	uint16_t stopped_port;
	struct kvt_conn *stopped_conn;
	struct kvt_transfer **queued;
	unsigned queued_count;
};

/* The status to exit with: after an error, "what: cause" is printed. error may be NULL. */
int kvtrans_check(enum kvt_err err, const char *what, const struct kvt_error *error);

/* Begin to receive a line, for timeout_ns; to send a notification. */
int kvtrans_start_hear(struct perf_run *run, char *line, int64_t timeout_ns,
		       struct kvt_transfer **transfer);
int kvtrans_notify(struct perf_run *run, struct kvt_conn *conn, const struct perf_stamp *stamp,
		   size_t len, struct kvt_transfer **transfer);
/* Wait for a transfer, whatever its outcome, free it and make it NULL; what it moved. */
int kvtrans_await(struct kvt_transfer **transfer, size_t *len);

/* Of struct perf_path. */
int kvtrans_start(struct perf_run *run);
void kvtrans_stop(struct perf_run *run);
int kvtrans_meet(struct perf_run *run, int64_t wait_ns);
void kvtrans_part(struct perf_run *run);
int kvtrans_add_beside(struct perf_run *run);
void kvtrans_end_beside(struct kvtrans *own);
int kvtrans_probe(struct perf_run *run);

#endif
