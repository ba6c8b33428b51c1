/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bed.h - what the tests of the engine stand on: two engines of one process on the fabric in memory, a
 * connection between them, and helpers that never wait for longer than BED_PATIENCE_NS. bed_close()
 * looks that nothing is left: of the fabric, of memory, of the gauges.
 */
#ifndef ENGINE_BED_H
#define ENGINE_BED_H

#include <check.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <kvtrans.h>

#include "base/clock.h"
#include "support/failing_alloc.h"
#include "support/fake_fabric.h"

#define BED_PATIENCE_NS (20 * KVI_SECOND)

/* For tests that stop a large message between two of its segments: there are many, and a lane has few
 * of them posted at a time. */
enum { SMALL_SEGMENT_LEN = 64 * 1024, FEW_POSTS = 8, LARGE_LEN = 2 * 1024 * 1024 };

struct side {
	struct kvt_engine *engine;
	struct kvt_conn *conn;
};

struct bed {
	struct side near; /* connects */
	struct side far;  /* accepts */
	long live;	  /* allocations before */
};

/* One interface, one worker, one lane. */
struct kvt_engine_config make_config(void);
struct kvt_engine *open_engine(const struct kvt_engine_config *config);

/* Two engines and a connection; config may be NULL. */
void bed_open(struct bed *bed, const struct kvt_engine_config *config);
void bed_connect(struct bed *bed);
/* kvt_conn_open() from near to far. A handshake has a limit of its own; where this machine stood still for most of
 * that, no verdict is in it, and it begins again. */
enum kvt_err bed_call(const struct bed *bed, struct kvt_conn **conn, struct kvt_error *error);
void bed_disconnect(struct bed *bed);
/* Closes what is still open. */
void bed_close(struct bed *bed);
/* The same in its parts, for tests that hold handles longer than their engines. */
void bed_close_engines(struct bed *bed);
void bed_check_clean(struct bed *bed);

/* A KV without memory of its own. */
struct kvt_kv *open_kv(struct kvt_conn *conn, uint64_t tag);

struct kvt_transfer *start_send(struct kvt_kv *kv, const void *base, size_t len);
struct kvt_transfer *start_recv(struct kvt_kv *kv, void *base, size_t len);
/* timeout_ns as in the request: 0 is the default. */
struct kvt_transfer *start_send_within(struct kvt_kv *kv, const void *base, size_t len,
				       int64_t timeout_ns);
struct kvt_transfer *start_recv_within(struct kvt_kv *kv, void *base, size_t len,
				       int64_t timeout_ns);

/* Waits until it has ended, whatever the outcome; the transfer stays. */
void await_end(struct kvt_transfer *transfer);
/* The same, and the outcome must be err. */
struct kvt_result await(struct kvt_transfer *transfer, enum kvt_err err);
/* The same, and frees it; returns the length. */
size_t finish(struct kvt_transfer *transfer, enum kvt_err err);
/* Its deadline passes now, however long the test took to come here. */
void expire(struct kvt_transfer *transfer);
/* The transfer has not completed now, nor so much later. */
void expect_pending(struct kvt_transfer *transfer, int64_t time_ns);

/* Sends and receives len bytes of a pattern, and looks that they came. */
void exchange(struct kvt_kv *from, struct kvt_kv *to, size_t len, uint32_t seed);

/* Holds writes back. Lets a write to `target` land until its bytes up to `offset` are no longer `fill`. */
void release_until(const uint8_t *target, size_t offset, uint8_t fill);

struct kvt_stats get_stats(struct kvt_engine *engine);
void rest(int64_t time_ns);
/* So much time has passed since then, by what is promised (support/punctual.h). */
void expect_took(int64_t since_ns, int64_t at_least_ns, int64_t at_most_ns);

/* Memory filled with one byte, a pattern that depends on seed and position, and the questions for both. */
uint8_t *make_filled(size_t len, uint8_t fill);
bool holds_only(const uint8_t *bytes, size_t len, uint8_t fill);
uint8_t *make_pattern(size_t len, uint32_t seed);
bool holds_pattern(const uint8_t *bytes, size_t len, uint32_t seed);

#define wait_until(condition)                                                                      \
	do {                                                                                       \
		int64_t wait_deadline = kvi_deadline_after(BED_PATIENCE_NS);                       \
		while (!(condition)) {                                                             \
			ck_assert_msg(kvi_clock_now() < wait_deadline, "waited in vain for: %s",   \
				      #condition);                                                 \
			rest(KVI_MS);                                                              \
		}                                                                                  \
	} while (0)

#endif
