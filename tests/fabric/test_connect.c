/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_connect.c - rails are found, lanes connect, and those that cannot say so.
 */
#include "bed.h"

#include <poll.h>
#include <string.h>

START_TEST(an_unknown_interface_is_invalid_and_the_text_names_those_there_are)
{
	struct kvi_rail *rail = NULL;
	struct kvt_error error = { 0 };
	ck_assert_int_eq(kvi_rail_open("nosuch0", bed_provider, &rail, &error), KVT_E_INVALID);
	ck_assert_ptr_null(rail);
	ck_assert_int_eq(error.code, KVT_E_INVALID);
	ck_assert_msg(strstr(error.text, bed_interface) != NULL, "the text is: %s", error.text);
}
END_TEST

START_TEST(an_unknown_provider_is_no_provider)
{
	struct kvi_rail *rail = NULL;
	struct kvt_error error = { 0 };
	ck_assert_int_eq(kvi_rail_open(bed_interface, "nosuch", &rail, &error), KVT_E_NO_PROVIDER);
	ck_assert_ptr_null(rail);
	ck_assert_int_eq(error.code, KVT_E_NO_PROVIDER);
	ck_assert_uint_gt(strlen(error.text), 0);
}
END_TEST

START_TEST(a_rail_tells_what_its_provider_can_do)
{
	struct bed bed;
	bed_open(&bed);
	const struct kvi_caps *caps = kvi_rail_get_caps(bed.near.rail);
	ck_assert_str_eq(caps->provider, bed_provider);
	ck_assert_uint_ge(caps->max_segment_len, 4096);
	ck_assert_uint_ge(caps->tx_count, 2);
	ck_assert_uint_ge(caps->rx_count, 2);
	ck_assert_uint_gt(strlen(kvi_rail_get_host(bed.near.rail)), 0);
	unsigned cpus[4];
	ck_assert_uint_le(kvi_rail_get_near_cpus(bed.near.rail, cpus, 4), 4);
	bed_close(&bed);
}
END_TEST

START_TEST(lanes_connect_and_carry_their_private_data)
{
	static const size_t lens[] = { 1, 38, KVI_LANE_DATA_LEN_MAX };
	struct bed bed;
	bed_open(&bed);
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		uint8_t sent[KVI_LANE_DATA_LEN_MAX];
		struct end near, far;
		fill_pattern(sent, sizeof(sent), (uint32_t)i);
		end_request(&near, &bed, sent, lens[i]);
		struct kvi_lane_request *request = bed_take_request(&bed);
		size_t len = 0;
		const uint8_t *data = kvi_lane_request_get_data(request, &len);
		ck_assert_uint_eq(len, lens[i]);
		ck_assert_mem_eq(data, sent, len);
		end_accept(&far, &bed, request);
		bed_wait(&bed, near.connected_count == 1 && far.connected_count == 1);
		ck_assert_uint_eq(near.lost_count + far.lost_count, 0);
		end_close(&near);
		end_close(&far);
	}
	bed_close(&bed);
}
END_TEST

START_TEST(a_listener_has_a_descriptor_that_tells_of_requests)
{
	struct bed bed;
	struct end near, far;
	bed_open(&bed);
	struct pollfd wait = { .fd = kvi_listener_get_fd(bed.listener), .events = POLLIN };
	ck_assert_int_eq(poll(&wait, 1, 0), 0);
	end_request(&near, &bed, "hello", 5);
	struct kvi_lane_request *request = NULL;
	int64_t deadline = kvi_deadline_after(BED_PATIENCE_NS);
	while (request == NULL && kvi_clock_now() < deadline) {
		side_poll(&bed.near);
		if (poll(&wait, 1, 1) == 1)
			request = kvi_listener_take(bed.listener);
	}
	ck_assert_ptr_nonnull(request);
	end_accept(&far, &bed, request);
	bed_wait(&bed, near.connected_count == 1 && far.connected_count == 1);
	ck_assert_ptr_null(kvi_listener_take(bed.listener));
	end_close(&near);
	end_close(&far);
	bed_close(&bed);
}
END_TEST

START_TEST(a_rejected_request_loses_the_lane)
{
	struct bed bed;
	struct end near;
	bed_open(&bed);
	end_request(&near, &bed, "hello", 5);
	kvi_lane_request_reject(bed_take_request(&bed));
	bed_wait(&bed, near.lost_count == 1);
	ck_assert_uint_eq(near.connected_count, 0);
	end_close(&near);
	bed_close(&bed);
}
END_TEST

START_TEST(connecting_to_nobody_loses_the_lane)
{
	struct bed bed;
	struct end near;
	struct kvi_listener *listener;
	const struct kvi_ports any = { 0, 0 };
	uint8_t address[KVI_ADDRESS_LEN_MAX];
	bed_open(&bed);
	ck_assert_int_eq(kvi_listener_open(bed.far.rail, any, &listener, NULL), KVT_OK);
	size_t len = kvi_listener_get_address(listener, address);
	kvi_listener_close(listener);

	end_open(&near, &bed.near, address, len, NULL);
	ck_assert_int_eq(kvi_lane_connect(near.lane, NULL, 0, NULL), KVT_OK);
	bed_wait(&bed, near.lost_count == 1);
	ck_assert_uint_eq(near.connected_count, 0);
	end_close(&near);
	bed_close(&bed);
}
END_TEST

/*
 * The peer has gone while the lane was being made. One provider does not always tell
 * (docs/providers.md, sockets): the engine's own deadlines cover it, and here either is right.
 */
static void wait_for_loss(struct bed *bed, const struct end *end)
{
	if (strcmp(kvi_rail_get_caps(end->side->rail)->provider, "sockets") == 0)
		bed_run(bed, 300 * KVI_MS);
	else
		bed_wait(bed, end->lost_count == 1);
	ck_assert_uint_le(end->lost_count, 1);
}

START_TEST(a_listener_that_closes_loses_the_lanes_it_did_not_answer)
{
	struct bed bed;
	struct end near;
	bed_open(&bed);
	end_request(&near, &bed, "hello", 5);
	bed_run(&bed, 20 * KVI_MS);
	kvi_listener_close(bed.listener);
	bed.listener = NULL;
	wait_for_loss(&bed, &near);
	end_close(&near);
	bed_close(&bed);
}
END_TEST

/* Answer a request whose lane is gone already. Some providers know at once. */
static void accept_late(struct end *far, struct bed *bed, struct kvi_lane_request *request)
{
	*far = (struct end){ .side = &bed->far };
	enum kvt_err err = kvi_lane_open(bed->far.cq, NULL, 0, request, far, &far->lane, NULL);
	if (err == KVT_OK)
		err = kvi_lane_connect(far->lane, NULL, 0, NULL);
	else
		kvi_lane_request_reject(request);
	ck_assert_msg(err == KVT_OK || err == KVT_E_PEER_LOST, "%s", kvt_err_get_name(err));
}

START_TEST(a_lane_may_be_closed_before_it_connects)
{
	struct bed bed;
	struct end near;
	uint8_t address[KVI_ADDRESS_LEN_MAX];
	struct act receive = { .op.context = &receive };
	struct area area;
	bed_open(&bed);
	area_open(&area, &bed.near, 64, KVI_ACCESS_LOCAL, 0);
	size_t len = kvi_listener_get_address(bed.listener, address);
	end_open(&near, &bed.near, address, len, NULL);
	post_recv(&near, &receive, &area, 0, 64);
	end_close(&near);
	bed_wait(&bed, receive.reports == 1);
	ck_assert_int_eq(receive.completion.err, KVT_E_CANCELLED);

	/* With its request on the way, at the listener, and answered: the other side meets a loss, or
	 * nothing when the request has gone as well. */
	for (unsigned stage = 0; stage < 3; stage++) {
		struct end far = { 0 };
		end_request(&near, &bed, "hello", 5);
		struct kvi_lane_request *request = stage > 0 ? bed_take_request(&bed) : NULL;
		if (stage == 2)
			end_accept(&far, &bed, request);
		end_close(&near);
		if (stage == 0) {
			bed_run(&bed, 50 * KVI_MS);
			request = kvi_listener_take(bed.listener);
		}
		if (stage < 2 && request != NULL)
			accept_late(&far, &bed, request);
		if (far.lane != NULL) {
			wait_for_loss(&bed, &far);
			end_close(&far);
		}
	}
	area_close(&area);
	bed_close(&bed);
}
END_TEST

START_TEST(many_lanes_live_on_one_cq)
{
	enum { COUNT = 32 };
	static struct end near[COUNT], far[COUNT];
	static struct act sends[COUNT], receives[COUNT], writes[COUNT];
	struct bed bed;
	struct area source, inbox, target;
	bed_open(&bed);
	area_open(&source, &bed.near, COUNT, KVI_ACCESS_LOCAL, 0);
	area_open(&inbox, &bed.far, COUNT, KVI_ACCESS_LOCAL, 0xee);
	area_open(&target, &bed.far, COUNT, KVI_ACCESS_REMOTE_WRITE, 0xee);
	for (unsigned i = 0; i < COUNT; i++) {
		source.base[i] = (uint8_t)i;
		bed_connect(&bed, &near[i], &far[i]);
		post_recv(&far[i], &receives[i], &inbox, i, 1);
	}
	for (unsigned i = 0; i < COUNT; i++) {
		struct kvi_rkey rkey = { target.rkey.address + i, target.rkey.key };
		post_write(&near[i], &writes[i], &source, i, 1, rkey);
		post_send(&near[i], &sends[i], &source, i, 1);
	}
	bed_wait(&bed, count_reported(sends, COUNT) == COUNT);
	bed_wait(&bed, count_reported(writes, COUNT) == COUNT);
	bed_wait(&bed, count_reported(receives, COUNT) == COUNT);
	ck_assert_mem_eq(inbox.base, source.base, COUNT);
	ck_assert_mem_eq(target.base, source.base, COUNT);
	for (unsigned i = 0; i < COUNT; i++) {
		ck_assert_ptr_eq(sends[i].completion.op->lane, near[i].lane);
		ck_assert_ptr_eq(receives[i].completion.op->lane, far[i].lane);
		end_close(&near[i]);
	}
	bed_wait(&bed, far[COUNT - 1].lost_count == 1);
	for (unsigned i = 0; i < COUNT; i++)
		end_close(&far[i]);
	area_close(&target);
	area_close(&inbox);
	area_close(&source);
	bed_close(&bed);
}
END_TEST

TCase *make_connect_tests(void)
{
	TCase *tests = tcase_create("connect");
	tcase_add_test(tests, an_unknown_interface_is_invalid_and_the_text_names_those_there_are);
	tcase_add_test(tests, an_unknown_provider_is_no_provider);
	tcase_add_test(tests, a_rail_tells_what_its_provider_can_do);
	tcase_add_test(tests, lanes_connect_and_carry_their_private_data);
	tcase_add_test(tests, a_listener_has_a_descriptor_that_tells_of_requests);
	tcase_add_test(tests, a_rejected_request_loses_the_lane);
	tcase_add_test(tests, connecting_to_nobody_loses_the_lane);
	tcase_add_test(tests, a_listener_that_closes_loses_the_lanes_it_did_not_answer);
	tcase_add_test(tests, a_lane_may_be_closed_before_it_connects);
	tcase_add_test(tests, many_lanes_live_on_one_cq);
	return tests;
}
