/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_limits.c - limits of a device that libfabric does not tell: the size of a completion queue is found
 * by asking for less until it agrees.
 */
#include "fabric/internal.h"
#include "hostile.h"

enum { SMALL_CQ_SIZE = 1000, HUGE_CQ_SIZE = 1 << 24, ASKED_MAX = 32 };

static struct fi_ops_fabric fabric_ops;
static struct fi_ops_domain domain_ops;
static int (*open_real_domain)(struct fid_fabric *fabric, struct fi_info *info,
			       struct fid_domain **domain, void *context);
static int (*open_real_cq)(struct fid_domain *domain, struct fi_cq_attr *attr, struct fid_cq **cq,
			   void *context);
static size_t asked[ASKED_MAX];
static size_t asked_count;

/* A device with room for SMALL_CQ_SIZE. */
static int open_small_cq(struct fid_domain *domain, struct fi_cq_attr *attr, struct fid_cq **cq,
			 void *context)
{
	ck_assert_uint_lt(asked_count, ASKED_MAX);
	asked[asked_count++] = attr->size;
	if (attr->size > SMALL_CQ_SIZE)
		return -FI_EINVAL;
	return open_real_cq(domain, attr, cq, context);
}

static int open_small_domain(struct fid_fabric *fabric, struct fi_info *info,
			     struct fid_domain **domain, void *context)
{
	int ret = open_real_domain(fabric, info, domain, context);
	if (ret != 0)
		return ret;
	open_real_cq = (*domain)->ops->cq_open;
	domain_ops = *(*domain)->ops;
	domain_ops.cq_open = open_small_cq;
	(*domain)->ops = &domain_ops;
	return 0;
}

START_TEST(a_completion_queue_gets_smaller_until_the_device_has_room)
{
	struct kvi_rail *rail = NULL;
	struct kvi_cq *cq = NULL;
	ck_assert_int_eq(kvi_rail_open(bed_interface, bed_provider, &rail, NULL), KVT_OK);
	open_real_domain = rail->fabric->ops->domain;
	fabric_ops = *rail->fabric->ops;
	fabric_ops.domain = open_small_domain;
	rail->fabric->ops = &fabric_ops;
	asked_count = 0;
	ck_assert_int_eq(kvi_cq_open(rail, &cq, NULL), KVT_OK);
	ck_assert_uint_gt(asked_count, 1);
	ck_assert_uint_ge(asked[0], 16384);
	for (size_t i = 1; i < asked_count; i++)
		ck_assert_uint_eq(asked[i], asked[i - 1] / 2);
	ck_assert_uint_le(asked[asked_count - 1], SMALL_CQ_SIZE);
	ck_assert_uint_gt(asked[asked_count - 2], SMALL_CQ_SIZE);

	/* The answer of a device is the one that was made up above. */
	if (kvi_rail_get_caps(rail)->local_memory) {
		struct fi_cq_attr attr = { .size = HUGE_CQ_SIZE, .wait_obj = FI_WAIT_FD };
		struct fid_cq *huge = NULL;
		ck_assert_int_eq(open_real_cq(cq->domain->fid, &attr, &huge, NULL), -FI_EINVAL);
	}
	kvi_cq_close(cq);
	kvi_rail_close(rail);
}
END_TEST

TCase *make_limits_tests(void)
{
	TCase *tests = tcase_create("limits");
	tcase_add_test(tests, a_completion_queue_gets_smaller_until_the_device_has_room);
	return tests;
}
