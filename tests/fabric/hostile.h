/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hostile.h - a connected peer that means harm, on libfabric itself: none of src/fabric stands between
 * it and the provider, so it tries what no engine would.
 */
#ifndef HOSTILE_H
#define HOSTILE_H

#include <rdma/fabric.h>
#include <rdma/fi_domain.h>

#include "bed.h"

/* How it goes for memory. */
enum hostile_way {
	HOSTILE_WRITE,		 /* fi_write(): done when it is sent */
	HOSTILE_WRITE_DELIVERED, /* done when it is there */
	HOSTILE_INJECT,		 /* the bytes go with the call, and nobody is told */
	HOSTILE_WRITE_DATA,	 /* with immediate data, which takes a receive of the victim's */
	HOSTILE_ATOMIC,		 /* where the provider has it */
	HOSTILE_WAYS,
	HOSTILE_READ = HOSTILE_WAYS,
};

enum { HOSTILE_LEN = 1 << 20, HOSTILE_SHORT_LEN = 8, HOSTILE_FILL = 0x66 };

struct hostile {
	struct fi_info *info;
	struct fid_fabric *fabric;
	struct fid_domain *domain;
	struct fid_eq *eq;
	struct fid_cq *cq;
	struct fid_ep *ep;
	struct fid_mr *mr;
	uint8_t *bytes; /* HOSTILE_LEN of HOSTILE_FILL, and room for what an atomic returns */
	bool connected;
	bool lost;
	unsigned posted;
	unsigned done;	 /* of the posted, as success */
	unsigned failed; /* of the posted */
	struct end far;	 /* the victim's end */
	struct area inbox;
	struct act receive;
};

/* Connect to bed's listener, whose side is the victim. */
void hostile_open(struct hostile *hostile, struct bed *bed);
void hostile_close(struct hostile *hostile);

/* Does the provider offer this way? */
bool hostile_can(const struct hostile *hostile, enum hostile_way way);
/* Post one operation; false when the provider refuses, or has no room now. */
bool hostile_post(struct hostile *hostile, enum hostile_way way, size_t len,
		  struct kvi_rkey target);
/* Make progress. Returns true. */
bool hostile_poll(struct hostile *hostile);

/* What only libfabric can be tried with: these, and those of test_limits.c and test_strays.c. */
Suite *make_hostile_suite(void);
TCase *make_limits_tests(void);
TCase *make_stray_tests(void);

#endif
