/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bed.h - what the conformance tests of fabric.h stand on: two sides in one process, each a rail with
 * one cq, and helpers that never wait for longer than BED_PATIENCE_NS. Whatever the fabric may not do
 * (report an op twice, name a closed lane) fails the test here.
 */
#ifndef BED_H
#define BED_H

#include <check.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/clock.h"
#include "fabric/fabric.h"

#define BED_PATIENCE_NS (20 * KVI_SECOND)

/* Which fabric is under test; the program's main() gives the defaults. */
extern const char *bed_provider;
extern const char *bed_interface;

struct side {
	struct kvi_rail *rail;
	struct kvi_cq *cq;
	const struct kvi_caps *caps;
};

struct bed {
	struct side near; /* connects */
	struct side far;  /* listens */
	struct kvi_listener *listener;
};

/* One end of a lane. */
struct end {
	struct side *side;
	struct kvi_lane *lane; /* NULL once closed */
	unsigned connected_count;
	unsigned lost_count;
};

/* An operation and what was reported of it. */
struct act {
	struct kvi_op op;
	unsigned reports;
	struct kvi_completion completion;
	unsigned order; /* among all reports of the process, from 1 */
};

/* Registered memory of one side, filled with a byte. */
struct area {
	uint8_t *base;
	size_t len;
	struct kvi_memory *memory;
	struct kvi_rkey rkey;
};

void bed_open(struct bed *bed);
void bed_close(struct bed *bed);
/* A round of polls on a side; false when nothing happened. */
bool side_poll(struct side *side);
/* A round on both; rests for a moment when nothing happened. */
void bed_poll(struct bed *bed);
/* Keep polling for so long. */
void bed_run(struct bed *bed, int64_t time_ns);

/* Poll until the condition holds. */
#define bed_wait(bed, condition)                                                                   \
	do {                                                                                       \
		int64_t wait_deadline = kvi_deadline_after(BED_PATIENCE_NS);                       \
		while (!(condition)) {                                                             \
			ck_assert_msg(kvi_clock_now() < wait_deadline, "waited in vain for: %s",   \
				      #condition);                                                 \
			bed_poll(bed);                                                             \
		}                                                                                  \
	} while (0)

/* The largest segment that the rails take, but at most max. */
size_t bed_get_segment_len(const struct bed *bed, size_t max);

/* The steps of connecting; bed_connect() does them all. */
void end_open(struct end *end, struct side *side, const uint8_t *address, size_t address_len,
	      struct kvi_lane_request *request);
void end_request(struct end *near, struct bed *bed, const void *data, size_t len);
struct kvi_lane_request *bed_take_request(struct bed *bed);
void end_accept(struct end *far, struct bed *bed, struct kvi_lane_request *request);
void bed_connect(struct bed *bed, struct end *near, struct end *far);
void end_close(struct end *end);

void area_open(struct area *area, struct side *side, size_t len, unsigned access, int fill);
void area_close(struct area *area);
bool area_holds_only(const struct area *area, int fill);
/* A pattern that depends on seed and position, and the question whether it is there. */
void fill_pattern(uint8_t *bytes, size_t len, uint32_t seed);
bool holds_pattern(const uint8_t *bytes, size_t len, uint32_t seed);

/* Posts of [offset, offset + len) of an area; a post that gets KVT_E_AGAIN is repeated after a poll. */
void post_recv(struct end *end, struct act *act, struct area *area, size_t offset, size_t len);
void post_send(struct end *end, struct act *act, struct area *area, size_t offset, size_t len);
void post_unsignalled(struct end *end, struct act *act, struct area *area, size_t offset,
		      size_t len);
enum kvt_err try_write(struct end *end, struct act *act, struct area *area, size_t offset,
		       size_t len, struct kvi_rkey remote);
void post_write(struct end *end, struct act *act, struct area *area, size_t offset, size_t len,
		struct kvi_rkey remote);
void post_read(struct end *end, struct act *act, struct area *area, size_t offset, size_t len,
	       struct kvi_rkey remote);
size_t count_reported(const struct act *acts, size_t count);
/* Whether the act ended as one of a lane that failed: lost, or an error of the provider. */
bool is_lost(const struct act *act);

/* Descriptors of this process that are open. */
unsigned count_fds(void);

/* Runs every test on the chosen fabric; the suite `more` (may be NULL) is run with them. The value is
 * what main() returns. KVT_TEST_PROVIDER and KVT_TEST_INTERFACE override the arguments. */
int run_conformance(const char *provider, const char *interface, Suite *more);

TCase *make_connect_tests(void);
TCase *make_message_tests(void);
TCase *make_rma_tests(void);
TCase *make_close_tests(void);
TCase *make_sleep_tests(void);
TCase *make_lanes_tests(void);

#endif
