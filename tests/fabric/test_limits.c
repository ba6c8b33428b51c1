/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_limits.c - limits that libfabric does not tell: the size of a completion queue is found by asking for
 * less until the device agrees, and how many lanes share one stands in the profile; and what a completion costs.
 */
#include <poll.h>

#include "fabric/internal.h"
#include "hostile.h"

enum { SMALL_CQ_SIZE = 200, HUGE_CQ_SIZE = 1 << 24, ASKED_MAX = 32 };

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
	struct fid_fabric *fabric = kvi_ofi_rail(rail)->fid;
	open_real_domain = fabric->ops->domain;
	fabric_ops = *fabric->ops;
	fabric_ops.domain = open_small_domain;
	fabric->ops = &fabric_ops;
	asked_count = 0;
	ck_assert_int_eq(kvi_cq_open(rail, &cq, NULL), KVT_OK);
	ck_assert_uint_gt(asked_count, 1);
	ck_assert_uint_ge(asked[0], 1024);
	for (size_t i = 1; i < asked_count; i++)
		ck_assert_uint_eq(asked[i], asked[i - 1] / 2);
	ck_assert_uint_le(asked[asked_count - 1], SMALL_CQ_SIZE);
	ck_assert_uint_gt(asked[asked_count - 2], SMALL_CQ_SIZE);

	/* The answer of a device is the one that was made up above. */
	if (kvi_rail_get_caps(rail)->local_memory) {
		struct fi_cq_attr attr = { .size = HUGE_CQ_SIZE, .wait_obj = FI_WAIT_FD };
		struct fid_cq *huge = NULL;
		ck_assert_int_eq(open_real_cq(kvi_ofi_cq(cq)->domain->fid, &attr, &huge, NULL),
				 -FI_EINVAL);
	}
	kvi_cq_close(cq);
	kvi_rail_close(rail);
}
END_TEST

/* ---- lanes of a queue ---- */

enum { LANES = 100 };

/* Rounds until nothing is left to do: those that read in vain fall asleep. */
static void settle(struct kvi_cq *cq)
{
	int64_t deadline = kvi_deadline_after(BED_PATIENCE_NS);
	struct kvi_completion completion;
	while (kvi_cq_poll(cq, &completion, 1) > 0 || !kvi_cq_may_sleep(cq))
		ck_assert_msg(kvi_clock_now() < deadline, "it never rests");
}

START_TEST(a_queue_that_looks_at_all_its_lanes_gets_a_few_and_is_asked_when_it_has_something)
{
	static struct end near[LANES], far[LANES];
	struct bed bed;
	struct area area;
	struct act send, receive;
	bed_open(&bed);
	const struct kvi_ofi_cq *cq = kvi_ofi_cq(bed.far.cq);
	bool walks = FI_VERSION_LT(fi_version(), cq->rail->profile->walks_lanes_before);
	bool is_one = !walks && !cq->rail->profile->fixed_queues;
	ck_assert_uint_eq(cq->queue_count, 1);
	for (size_t i = 0; i < LANES; i++)
		bed_connect(&bed, &near[i], &far[i]);
	ck_assert_uint_ge(cq->queue_count, is_one ? 1 : 2);
	ck_assert_uint_le(cq->queue_count, is_one ? 1 : LANES / 16);
	area_open(&area, &bed.far, 64, KVI_ACCESS_LOCAL, 0);
	struct area source;
	area_open(&source, &bed.near, 64, KVI_ACCESS_LOCAL, 0);

	settle(bed.far.cq);
	ck_assert_uint_eq(cq->awake_count, 0);
	post_recv(&far[LANES - 1], &receive, &area, 0, 64);
	settle(bed.far.cq);
	post_send(&near[LANES - 1], &send, &source, 0, 64);
	bed_wait(&bed, send.reports == 1 && receive.reports == 1);
	ck_assert_uint_eq(cq->awake_count, 1);

	/* Places that get free are taken before there is another queue, and what is empty goes. */
	unsigned most = cq->queue_count;
	for (size_t i = 0; i < LANES; i += 2) {
		end_close(&near[i]);
		end_close(&far[i]);
	}
	for (size_t i = 0; i < LANES; i += 2)
		bed_connect(&bed, &near[i], &far[i]);
	ck_assert_uint_eq(cq->queue_count, most);
	for (size_t i = 0; i < LANES; i++) {
		end_close(&near[i]);
		end_close(&far[i]);
	}
	ck_assert_uint_eq(cq->queue_count, 1);
	area_close(&area);
	area_close(&source);
	bed_close(&bed);
}
END_TEST

/* ---- completions ---- */

START_TEST(no_completion_is_asked_for_of_an_unsignalled_send_where_one_costs_system_calls)
{
	enum { COUNT = 20, LEN = 1024 };
	struct bed bed;
	struct end near, far;
	struct area source, inbox;
	static struct act sends[COUNT], receives[COUNT];
	bed_open(&bed);
	bed_connect(&bed, &near, &far);
	area_open(&source, &bed.near, LEN, KVI_ACCESS_LOCAL, 1);
	area_open(&inbox, &bed.far, COUNT * LEN, KVI_ACCESS_LOCAL, 0);
	for (size_t i = 0; i < COUNT; i++)
		post_recv(&far, &receives[i], &inbox, i * LEN, LEN);
	for (size_t i = 0; i < COUNT; i++)
		post_unsignalled(&near, &sends[i], &source, 0, LEN);
	bed_wait(&bed, count_reported(receives, COUNT) == COUNT);
	bool is_silent = kvi_ofi_cq(bed.near.cq)->rail->profile->unsignalled;
	if (is_silent) {
		bed_run(&bed, 10 * KVI_MS);
		ck_assert_uint_eq(count_reported(sends, COUNT), 0);
	} else {
		bed_wait(&bed, count_reported(sends, COUNT) == COUNT);
	}
	/* They are done, so nothing of the closed lane is held for the provider. */
	end_close(&near);
	bed_wait(&bed, count_reported(sends, COUNT) == COUNT);
	ck_assert(!is_silent || kvi_list_is_empty(&kvi_ofi_cq(bed.near.cq)->quarantine));
	end_close(&far);
	area_close(&inbox);
	area_close(&source);
	bed_close(&bed);
}
END_TEST

static bool is_readable(const struct kvi_cq *cq)
{
	int fds[2];
	kvi_cq_get_fds(cq, fds);
	struct pollfd readable = { .fd = fds[0], .events = POLLIN };
	return poll(&readable, 1, 0) == 1;
}

START_TEST(a_queue_that_is_polled_again_and_again_wakes_nobody_until_somebody_may_sleep)
{
	struct bed bed;
	struct end near, far;
	struct area area;
	struct act send, receive;
	bed_open(&bed);
	bed_connect(&bed, &near, &far);
	area_open(&area, &bed.near, 64, KVI_ACCESS_LOCAL, 0);
	struct area inbox;
	area_open(&inbox, &bed.far, 64, KVI_ACCESS_LOCAL, 0);
	const struct kvi_ofi_cq *cq = kvi_ofi_cq(bed.near.cq);
	const struct kvi_queue *queue =
		kvi_container_of(kvi_list_get_first(&cq->queues), struct kvi_queue, node);
	bool has_pair = FI_VERSION_LT(fi_version(), cq->rail->profile->pairs_before);
	ck_assert(has_pair == (queue->pair_fd >= 0));
	ck_assert(has_pair == bed.near.caps->poll_disarms);
	for (unsigned round = 0; has_pair && round < 3; round++) {
		for (unsigned i = 0; i < 100; i++)
			side_poll(&bed.near);
		ck_assert(queue->is_muted);
		/* What is posted is done at once, which a sleeper would have to be told. */
		post_recv(&far, &receive, &inbox, 0, 64);
		post_send(&near, &send, &area, 0, 64);
		ck_assert(!is_readable(bed.near.cq));
		bed_wait(&bed, send.reports == 1 && receive.reports == 1);
		/* Nor what comes. */
		post_recv(&near, &receive, &area, 0, 64);
		post_send(&far, &send, &inbox, 0, 64);
		ck_assert(!is_readable(bed.near.cq));
		bed_wait(&bed, send.reports == 1 && receive.reports == 1);

		settle(bed.near.cq);
		ck_assert(!queue->is_muted);
		post_recv(&far, &receive, &inbox, 0, 64);
		post_send(&near, &send, &area, 0, 64);
		ck_assert(is_readable(bed.near.cq));
		bed_wait(&bed, send.reports == 1 && receive.reports == 1);
		settle(bed.near.cq);
		post_recv(&near, &receive, &area, 0, 64);
		post_send(&far, &send, &inbox, 0, 64);
		ck_assert(is_readable(bed.near.cq));
		bed_wait(&bed, send.reports == 1 && receive.reports == 1);
	}
	/* One that is muted is closed as any other. */
	for (unsigned i = 0; i < 100; i++)
		side_poll(&bed.near);
	ck_assert(queue->is_muted == has_pair);
	end_close(&near);
	end_close(&far);
	area_close(&inbox);
	area_close(&area);
	bed_close(&bed);
}
END_TEST

TCase *make_limits_tests(void)
{
	TCase *tests = tcase_create("limits");
	tcase_add_test(
		tests,
		a_queue_that_looks_at_all_its_lanes_gets_a_few_and_is_asked_when_it_has_something);
	tcase_add_test(
		tests,
		no_completion_is_asked_for_of_an_unsignalled_send_where_one_costs_system_calls);
	tcase_add_test(
		tests,
		a_queue_that_is_polled_again_and_again_wakes_nobody_until_somebody_may_sleep);
	tcase_add_test(tests, a_completion_queue_gets_smaller_until_the_device_has_room);
	return tests;
}
