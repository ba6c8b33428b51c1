/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bed.c - the two sides, their lanes and their memory, for tests of the fabric.
 */
#include "bed.h"

#include <dirent.h>
#include <stdlib.h>
#include <time.h>

const char *bed_provider;
const char *bed_interface;

static atomic_uint report_count;

/* ---- sides ---- */

static void side_open(struct side *side)
{
	struct kvt_error error = { 0 };
	enum kvt_err err = kvi_rail_open(bed_interface, bed_provider, &side->rail, &error);
	ck_assert_msg(err == KVT_OK, "rail: %s", error.text);
	err = kvi_cq_open(side->rail, &side->cq, &error);
	ck_assert_msg(err == KVT_OK, "cq: %s", error.text);
	side->caps = kvi_rail_get_caps(side->rail);
}

void bed_open(struct bed *bed)
{
	struct kvt_error error = { 0 };
	side_open(&bed->near);
	side_open(&bed->far);
	const struct kvi_ports any = { 0, 0 };
	enum kvt_err err = kvi_listener_open(bed->far.rail, any, &bed->listener, &error);
	ck_assert_msg(err == KVT_OK, "listener: %s", error.text);
}

void bed_close(struct bed *bed)
{
	kvi_listener_close(bed->listener);
	kvi_cq_close(bed->near.cq);
	kvi_cq_close(bed->far.cq);
	kvi_rail_close(bed->near.rail);
	kvi_rail_close(bed->far.rail);
}

static void take_completion(const struct kvi_completion *completion)
{
	struct act *act = completion->op->context;
	ck_assert_ptr_eq(completion->op, &act->op);
	ck_assert_msg(act->reports == 0, "an op is reported twice");
	act->reports = 1;
	act->completion = *completion;
	act->order = atomic_fetch_add(&report_count, 1) + 1;
}

static void take_event(const struct kvi_lane_event *event)
{
	struct end *end = event->context;
	ck_assert_msg(end->lane != NULL, "an event names a closed lane");
	ck_assert_msg(end->lost_count == 0, "an event comes after the loss of its lane");
	if (event->kind == KVI_LANE_CONNECTED)
		ck_assert_msg(++end->connected_count == 1, "a lane connects twice");
	else
		end->lost_count++;
}

bool side_poll(struct side *side)
{
	struct kvi_completion completions[8];
	struct kvi_lane_event events[3];
	size_t completion_count = kvi_cq_poll(side->cq, completions, 8);
	size_t event_count = kvi_cq_poll_events(side->cq, events, 3);
	for (size_t i = 0; i < completion_count; i++)
		take_completion(&completions[i]);
	for (size_t i = 0; i < event_count; i++)
		take_event(&events[i]);
	return completion_count + event_count > 0;
}

void bed_poll(struct bed *bed)
{
	bool near_did = side_poll(&bed->near);
	bool far_did = side_poll(&bed->far);
	if (!near_did && !far_did)
		nanosleep(&(struct timespec){ .tv_nsec = 20000 }, NULL);
}

void bed_run(struct bed *bed, int64_t time_ns)
{
	int64_t deadline = kvi_deadline_after(time_ns);
	while (kvi_clock_now() < deadline)
		bed_poll(bed);
}

size_t bed_get_segment_len(const struct bed *bed, size_t max)
{
	size_t len = bed->near.caps->max_segment_len;
	return len < max ? len : max;
}

/* ---- lanes ---- */

void end_open(struct end *end, struct side *side, const uint8_t *address, size_t address_len,
	      struct kvi_lane_request *request)
{
	struct kvt_error error = { 0 };
	*end = (struct end){ .side = side };
	enum kvt_err err =
		kvi_lane_open(side->cq, address, address_len, request, end, &end->lane, &error);
	ck_assert_msg(err == KVT_OK, "lane: %s", error.text);
}

void end_request(struct end *near, struct bed *bed, const void *data, size_t len)
{
	uint8_t address[KVI_ADDRESS_LEN_MAX];
	size_t address_len = kvi_listener_get_address(bed->listener, address);
	ck_assert_uint_gt(address_len, 0);
	ck_assert_uint_le(address_len, KVI_ADDRESS_LEN_MAX);
	end_open(near, &bed->near, address, address_len, NULL);

	struct kvt_error error = { 0 };
	enum kvt_err err = kvi_lane_connect(near->lane, data, len, &error);
	ck_assert_msg(err == KVT_OK, "connect: %s", error.text);
}

struct kvi_lane_request *bed_take_request(struct bed *bed)
{
	struct kvi_lane_request *request = NULL;
	bed_wait(bed, (request = kvi_listener_take(bed->listener)) != NULL);
	return request;
}

void end_accept(struct end *far, struct bed *bed, struct kvi_lane_request *request)
{
	end_open(far, &bed->far, NULL, 0, request);
	struct kvt_error error = { 0 };
	enum kvt_err err = kvi_lane_connect(far->lane, NULL, 0, &error);
	ck_assert_msg(err == KVT_OK, "accept: %s", error.text);
}

void bed_connect(struct bed *bed, struct end *near, struct end *far)
{
	end_request(near, bed, "hello", 5);
	end_accept(far, bed, bed_take_request(bed));
	bed_wait(bed, near->connected_count == 1 && far->connected_count == 1);
}

void end_close(struct end *end)
{
	kvi_lane_close(end->lane);
	end->lane = NULL;
}

/* ---- memory ---- */

void area_open(struct area *area, struct side *side, size_t len, unsigned access, int fill)
{
	static atomic_ullong last_key;
	uint64_t key = (atomic_fetch_add(&last_key, 1) + 1) * UINT64_C(0x9e3779b97f4a7c15);
	struct kvt_error error = { 0 };
	void *base = NULL;
	ck_assert_int_eq(posix_memalign(&base, 4096, len), 0);
	memset(base, fill, len);
	*area = (struct area){ .base = base, .len = len };
	enum kvt_err err = kvi_memory_open(side->cq, base, len, access, key, &area->memory, &error);
	ck_assert_msg(err == KVT_OK, "memory: %s", error.text);
	area->rkey = kvi_memory_get_rkey(area->memory);
	if (side->caps->same_rkey)
		ck_assert_uint_eq(area->rkey.key, key);
}

void area_close(struct area *area)
{
	kvi_memory_close(area->memory);
	free(area->base);
	*area = (struct area){ 0 };
}

bool area_holds_only(const struct area *area, int fill)
{
	return area->base[0] == fill && memcmp(area->base, area->base + 1, area->len - 1) == 0;
}

static uint8_t make_byte(size_t at, uint32_t seed)
{
	return (uint8_t)(at * 31 + (at >> 8) * 7 + (at >> 16) + seed * 101 + 1);
}

void fill_pattern(uint8_t *bytes, size_t len, uint32_t seed)
{
	for (size_t i = 0; i < len; i++)
		bytes[i] = make_byte(i, seed);
}

bool holds_pattern(const uint8_t *bytes, size_t len, uint32_t seed)
{
	for (size_t i = 0; i < len; i++) {
		if (bytes[i] != make_byte(i, seed))
			return false;
	}
	return true;
}

/* ---- posts ---- */

static void reset_act(struct act *act)
{
	*act = (struct act){ .op.context = act };
}

/* After a post that was refused for now. */
static void make_room(struct end *end, enum kvt_err err, int64_t deadline)
{
	ck_assert_msg(err == KVT_E_AGAIN, "a post gives %s", kvt_err_get_name(err));
	ck_assert_msg(kvi_clock_now() < deadline, "a post gives KVT_E_AGAIN for ever");
	side_poll(end->side);
}

void post_recv(struct end *end, struct act *act, struct area *area, size_t offset, size_t len)
{
	int64_t deadline = kvi_deadline_after(BED_PATIENCE_NS);
	enum kvt_err err;
	reset_act(act);
	while ((err = kvi_lane_post_recv(end->lane, &act->op, area->base + offset, len,
					 area->memory)) != KVT_OK)
		make_room(end, err, deadline);
}

static void post_message(struct end *end, struct act *act, struct area *area, size_t offset,
			 size_t len, enum kvi_signal signal)
{
	int64_t deadline = kvi_deadline_after(BED_PATIENCE_NS);
	enum kvt_err err;
	reset_act(act);
	while ((err = kvi_lane_post_send(end->lane, &act->op, area->base + offset, len,
					 area->memory, signal)) != KVT_OK)
		make_room(end, err, deadline);
}

void post_send(struct end *end, struct act *act, struct area *area, size_t offset, size_t len)
{
	post_message(end, act, area, offset, len, KVI_SIGNALLED);
}

void post_unsignalled(struct end *end, struct act *act, struct area *area, size_t offset,
		      size_t len)
{
	post_message(end, act, area, offset, len, KVI_UNSIGNALLED);
}

enum kvt_err try_write(struct end *end, struct act *act, struct area *area, size_t offset,
		       size_t len, struct kvi_rkey remote)
{
	reset_act(act);
	struct kvi_span span = { area->base + offset, len, area->memory, remote };
	return kvi_lane_post_write(end->lane, &act->op, &span, 1, KVI_DELIVERED);
}

void post_write(struct end *end, struct act *act, struct area *area, size_t offset, size_t len,
		struct kvi_rkey remote)
{
	int64_t deadline = kvi_deadline_after(BED_PATIENCE_NS);
	enum kvt_err err;
	while ((err = try_write(end, act, area, offset, len, remote)) != KVT_OK)
		make_room(end, err, deadline);
}

void post_read(struct end *end, struct act *act, struct area *area, size_t offset, size_t len,
	       struct kvi_rkey remote)
{
	int64_t deadline = kvi_deadline_after(BED_PATIENCE_NS);
	enum kvt_err err;
	struct kvi_span span = { area->base + offset, len, area->memory, remote };
	reset_act(act);
	while ((err = kvi_lane_post_read(end->lane, &act->op, &span, 1)) != KVT_OK)
		make_room(end, err, deadline);
}

size_t count_reported(const struct act *acts, size_t count)
{
	size_t reported = 0;
	for (size_t i = 0; i < count; i++)
		reported += acts[i].reports;
	return reported;
}

bool is_lost(const struct act *act)
{
	enum kvt_err err = act->completion.err;
	return act->reports == 1 && (err == KVT_E_PEER_LOST || err == KVT_E_FABRIC);
}

/* ---- the run ---- */

unsigned count_fds(void)
{
	unsigned count = 0;
	DIR *dir = opendir("/proc/self/fd");
	ck_assert_ptr_nonnull(dir);
	while (readdir(dir) != NULL)
		count++;
	closedir(dir);
	return count;
}

int run_conformance(const char *provider, const char *interface, Suite *more)
{
	const char *wanted_provider = getenv("KVT_TEST_PROVIDER");
	const char *wanted_interface = getenv("KVT_TEST_INTERFACE");
	bed_provider = wanted_provider != NULL ? wanted_provider : provider;
	bed_interface = wanted_interface != NULL ? wanted_interface : interface;

	TCase *(*const makers[])(
		void) = { make_connect_tests, make_message_tests, make_rma_tests,
			  make_close_tests,   make_sleep_tests,	  make_lanes_tests };
	Suite *suite = suite_create(bed_provider);
	for (size_t i = 0; i < sizeof(makers) / sizeof(makers[0]); i++) {
		TCase *tests = makers[i]();
		tcase_set_timeout(tests, 30);
		suite_add_tcase(suite, tests);
	}
	SRunner *runner = srunner_create(suite);
	if (more != NULL)
		srunner_add_suite(runner, more);
	srunner_run_all(runner, CK_ENV);
	int failed_count = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed_count == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
