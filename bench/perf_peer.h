/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_peer.h - the other process as kvtrans-perf sees it: a connection, a control KV that carries
 * lines of text, and transfers that are waited for. Functions return an enum perf_exit and print a
 * sentence when they fail.
 */
#ifndef PERF_PEER_H
#define PERF_PEER_H

#include "perf_measure.h"
#include "perf_options.h"

#include <kvtrans.h>

struct perf_peer {
	struct kvt_conn *conn;
	struct kvt_kv *control;
	int64_t timeout_ns;
};

/* How many times Ctrl-C must be pressed to end a call that waits: once, or twice while
 * measuring. */
void perf_set_patience(unsigned interrupts);

int perf_open_engine(const struct perf_options *options, uint16_t port, struct kvt_engine **engine);

/* Take over an open connection, also when this fails. Closing NULL handles is allowed. */
int perf_peer_open(struct perf_peer *peer, struct kvt_conn *conn, int64_t timeout_ns);
void perf_peer_close(struct perf_peer *peer);

/* Print "what: cause" and return the status to exit with. */
int perf_blame(const char *what, const struct kvt_error *error);

/* Send one line to the peer; receive one into PERF_TEXT_LEN bytes, waiting at most timeout_ns. */
int perf_say(struct perf_peer *peer, const char *format, ...) __attribute__((format(printf, 2, 3)));
int perf_hear(struct perf_peer *peer, char *text, int64_t timeout_ns);
/* Begin to receive a line of at most PERF_TEXT_LEN - 1 bytes; perf_await() tells its length. */
int perf_start_hear(struct perf_peer *peer, char *text, int64_t timeout_ns,
		    struct kvt_transfer **transfer);

int perf_start_send(struct perf_peer *peer, struct kvt_kv *kv, const void *base, size_t len,
		    struct kvt_transfer **transfer);
int perf_start_recv(struct perf_peer *peer, struct kvt_kv *kv, void *base, size_t len,
		    struct kvt_transfer **transfer);
/* Wait for a transfer, whatever its outcome, free it and make it NULL; what it moved. */
int perf_await(struct kvt_transfer **transfer, size_t *len);
/* Wait for a transfer of len bytes, whatever its outcome, free it and make it NULL. */
int perf_finish(struct kvt_transfer **transfer, size_t len);

#endif
