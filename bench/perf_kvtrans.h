/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_kvtrans.h - KVTrans as a path of perf_run.h, through the public API alone: a connection, a control KV that
 * carries lines of text, and a KV for each message in flight or a pool of blocks.
 */
#ifndef PERF_KVTRANS_H
#define PERF_KVTRANS_H

#include "perf_run.h"

#include <kvtrans.h>

enum { PERF_INTERFACES_MAX = 16 };

/* What the command line says of the engine, as in struct kvt_engine_config, and of its peer. */
struct perf_engine {
	const char *interfaces[PERF_INTERFACES_MAX];
	size_t interface_count;
	const char *provider;
	const char *lane_ports;
	const char *host;
	uint16_t port;
	unsigned ncpus;
	unsigned nconn;
	size_t eager_len;
	int64_t spin_ns;
	int64_t timeout_ns; /* of each step that waits for the peer */
};

struct perf_peer {
	struct kvt_engine *engine;
	struct kvt_conn *conn;
	struct kvt_kv *control;
	int64_t timeout_ns;
	struct kvt_kv **kvs;
	struct kvt_pool *pool;
	struct kvt_export *exported; /* serving */
	struct kvt_remote *remote;   /* leading */
};

/* Print "what: cause" and return the status to exit with. */
int perf_blame(const char *what, const struct kvt_error *error);

int perf_open_engine(const struct perf_engine *options, uint16_t port, struct kvt_engine **engine);

/* Take over an open connection, also when this fails. Closing NULL handles is allowed. */
int perf_peer_open(struct perf_peer *peer, struct kvt_engine *engine, struct kvt_conn *conn,
		   int64_t timeout_ns);
void perf_peer_close(struct perf_peer *peer);

/* Send one line to the peer; receive one into PERF_LINE_LEN bytes. */
int perf_say(struct perf_peer *peer, const char *line);
int perf_hear(struct perf_peer *peer, char *line);
/* Begin to receive a line, for ever; perf_await() tells its length. */
int perf_start_hear(struct perf_peer *peer, char *line, struct kvt_transfer **transfer);
/* Wait for a transfer, whatever its outcome, free it and make it NULL; what it moved. */
int perf_await(struct kvt_transfer **transfer, size_t *len);

/* Of a run whose context is a peer. */
extern const struct perf_path perf_kvtrans_path;

#endif
