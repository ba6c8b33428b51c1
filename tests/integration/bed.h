/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bed.h - what the tests of two processes stand on, over <kvtrans.h> alone: engines on the provider
 * under test, a connection with a KV to a peer, and a stage whose engine must serve a fresh peer
 * whatever has become of the first one, and leave nothing behind.
 */
#ifndef BED_H
#define BED_H

#include <check.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <kvtrans.h>

#include "integration/pair.h"

enum {
	KIB = 1024,
	MIB = 1024 * 1024,
	EAGER_LEN = 64 * KIB, /* the default */
	TAG = 7,
	MEETING_TAG = 8,
	CANARY = 0xEE,
};

/* From KVT_TEST_PROVIDER and KVT_TEST_INTERFACE; KVT_TEST_HOST is the interface's IPv4 address. */
const char *get_provider(void);
const char *get_interface(void);
const char *get_host(void);
/* The provider under test pins memory, makes the keys, and knows one process. */
bool is_rdma(void);
bool is_local(void);

/* One worker with one lane on the interface under test. */
struct kvt_engine_config make_config(void);
/* The same, with heartbeats that find a silent peer after LOST_AFTER_NS. */
#define LOST_AFTER_NS (SECOND)
struct kvt_engine_config make_watchful_config(void);

struct kvt_engine *open_engine(const struct kvt_engine_config *config);
struct kvt_conn *connect_to(struct kvt_engine *engine, uint16_t port);
struct kvt_conn *accept_from(struct kvt_engine *engine);
struct kvt_kv *open_kv(struct kvt_conn *conn, uint64_t tag);
struct kvt_stats get_stats(struct kvt_engine *engine);
/* No connection, KV, registration or transfer is left. */
void expect_no_gauges(struct kvt_engine *engine);
/* The connection is over, with this code and a sentence. */
void expect_ended(struct kvt_conn *conn, enum kvt_err err);

/* ---- transfers ---- */

struct kvt_transfer *start_send(struct kvt_kv *kv, const void *base, size_t len);
struct kvt_transfer *start_recv(struct kvt_kv *kv, void *base, size_t len);
/* timeout_ns as in the request: 0 is the default. */
struct kvt_transfer *start_send_within(struct kvt_kv *kv, const void *base, size_t len,
				       int64_t timeout_ns);
struct kvt_transfer *start_recv_within(struct kvt_kv *kv, void *base, size_t len,
				       int64_t timeout_ns);

/* kvt_transfer_wait(), but no signal ends it early. */
enum kvt_err wait_for(struct kvt_transfer *transfer, int64_t timeout_ns);
/* Wait for the outcome, which must be err, with a sentence where it is an error; the transfer stays. */
struct kvt_result await(struct kvt_transfer *transfer, enum kvt_err err);
/* The same, and free it; returns the length. */
size_t finish(struct kvt_transfer *transfer, enum kvt_err err);

/* One message of a pattern, sent or received whole. */
void send_pattern(struct kvt_kv *kv, size_t len, uint64_t seed);
void recv_pattern(struct kvt_kv *kv, size_t len, uint64_t seed);

/* ---- pools ---- */

/* One extent; the peer may read and write it under the name, and finds it, within the patience. */
struct kvt_pool *open_pool(struct kvt_engine *engine, uint8_t *memory, size_t block_len,
			   size_t count);
struct kvt_export *export_pool(struct kvt_conn *conn, struct kvt_pool *pool, const char *name);
struct kvt_remote *find_remote(struct kvt_conn *conn, const char *name);
/* The first bytes of both. timeout_ns as in the request: 0 is the default. */
struct kvt_transfer *start_span(enum kvt_direction direction, struct kvt_pool *pool,
				struct kvt_remote *remote, uint64_t len, int64_t timeout_ns);

/* ---- sides ---- */

/* An engine, a connection to the other end's engine, and a KV of TAG on it. */
struct side {
	struct kvt_engine *engine;
	struct kvt_conn *conn;
	struct kvt_kv *kv;
};

/* config NULL: make_config(). One end serves, the other calls. */
void side_serve(struct side *side, struct peer *peer, const struct kvt_engine_config *config);
void side_call(struct side *side, struct peer *peer, const struct kvt_engine_config *config);
/* At both ends: what either has sent before on the only lane has been taken when this returns. */
void side_meet(struct side *side);
/* Close the connection, and look that the engine holds nothing any more; then close the engine. */
void side_disconnect(struct side *side);
void side_close(struct side *side);

/* ---- stages ---- */

struct stage {
	struct peer peer;
	struct peer fresh;
	struct side side;
	int fds;
};

/* The peer begins with side_serve(); this side calls it. */
void stage_open(struct stage *stage, void (*role)(struct peer *test, const void *arg),
		const void *arg, const struct kvt_engine_config *config);
/* The peer has been taken down. This side's engine serves a fresh one and leaves nothing. */
void stage_close(struct stage *stage);

/* A part of a stage, for tests without one. */
void play_fresh(struct peer *test, const void *arg);
void expect_served(struct kvt_engine *engine, struct peer *fresh);

/* ---- memory and descriptors ---- */

uint8_t *make_filled(size_t len, uint8_t fill);
bool holds_only(const uint8_t *bytes, size_t len, uint8_t fill);
void fill_pattern(uint8_t *bytes, size_t len, uint64_t seed);
bool holds_pattern(const uint8_t *bytes, size_t len, uint64_t seed);
/* Fill memory whose transfer has ended; expect_untouched() looks whether anybody wrote there
 * since. */
void put_canary(uint8_t *bytes, size_t len);
void expect_untouched(const uint8_t *bytes, size_t len);

/* Of a process that has had an engine: what a provider opens once for all, it never closes. */
int count_fds(void);
/* Descriptors may be closed by threads that are on their way out: becomes, within the patience. */
void expect_fds(int count);

/* Numbers that depend on the seed only. */
uint64_t get_random(uint64_t *seed);

TCase *make_tagged_tests(void);
TCase *make_traffic_tests(void);
TCase *make_refusal_tests(void);
TCase *make_loss_tests(void);
TCase *make_death_tests(void);
TCase *make_delivery_tests(void);
TCase *make_orderly_close_tests(void);
TCase *make_limit_tests(void);
TCase *make_abort_tests(void);
TCase *make_stranger_tests(void);
TCase *make_memory_tests(void);
TCase *make_notification_tests(void);
TCase *make_paged_tests(void);
TCase *make_input_tests(void);
TCase *make_growth_tests(void);
TCase *make_process_tests(void);
TCase *make_network_tests(void);
TCase *make_descriptor_tests(void);
TCase *make_fault_tests(void);
TCase *make_patience_tests(void);
TCase *make_slow_tests(void);
TCase *make_many_tests(void);

#endif
