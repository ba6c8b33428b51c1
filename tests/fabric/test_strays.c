/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_strays.c - who connects to a listener for lanes and is no lane: says nothing, half of something, or
 * goes again. Lanes are made all the same, and when the listener is closed no descriptor is left of them.
 */
#define _GNU_SOURCE 1 /* accept4, RUSAGE_THREAD */
#include <dirent.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fabric/internal.h"
#include "hostile.h"

enum { REQUEST_LEN_MAX = 512 };

enum manner { SILENT, ONE_BYTE, HALF, HEADER, ALL_BUT_ONE, GARBAGE, GONE, RESET, MANNERS };

/* How often somebody has looked through all descriptors of the process: linked with --wrap=opendir. */
static unsigned walks;
__typeof__(opendir) __real_opendir, __wrap_opendir;

DIR *__wrap_opendir(const char *path)
{
	walks += strcmp(path, "/proc/self/fd") == 0;
	return __real_opendir(path);
}

static int connect_raw(const uint8_t *address, size_t len)
{
	sa_family_t family;
	memcpy(&family, address, sizeof(family));
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(connect(fd, (const struct sockaddr *)address, (socklen_t)len), 0);
	return fd;
}

static size_t get_address(const struct kvi_listener *listener, uint8_t *address)
{
	return kvi_listener_get_address(listener, address);
}

/* What a lane says first, with data behind it: caught by a socket that never answers. */
static size_t catch_request(struct bed *bed, uint8_t *bytes)
{
	struct sockaddr_storage own = { 0 };
	struct end end = { .lane = NULL };
	uint8_t address[KVI_ADDRESS_LEN_MAX];
	socklen_t len = (socklen_t)kvi_listener_get_address(bed->listener, address);
	memcpy(&own, address, len);
	((struct sockaddr_in *)&own)->sin_port = 0; /* where it is with IPv6, too */
	int listener = socket(own.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(listener, (struct sockaddr *)&own, len), 0);
	ck_assert_int_eq(listen(listener, 1), 0);
	ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&own, &len), 0);
	memcpy(address, &own, len);
	end_open(&end, &bed->near, address, len, NULL);
	ck_assert_int_eq(kvi_lane_connect(end.lane, (const uint8_t *)"data", 4, NULL), KVT_OK);
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	ssize_t got = -1;
	bed_wait(bed, (got = recv(fd, bytes, REQUEST_LEN_MAX, 0)) > 0);
	end_close(&end);
	close(fd);
	close(listener);
	return (size_t)got;
}

/* One that behaves so; -1 when it has gone already. */
static int play(enum manner manner, const uint8_t *address, size_t address_len,
		const uint8_t *request, size_t len)
{
	static const uint8_t garbage[64] = { 0xff, 1, 2, 3 };
	const struct linger at_once = { .l_onoff = 1 };
	int fd = connect_raw(address, address_len);
	size_t sent = 0;
	if (manner == GARBAGE) {
		request = garbage;
		sent = sizeof(garbage);
	} else if (manner == ONE_BYTE) {
		sent = 1;
	} else if (manner == HALF) {
		sent = len / 2;
	} else if (manner == HEADER) {
		sent = KVI_CM_HEADER_LEN; /* without its data */
	} else if (manner == ALL_BUT_ONE) {
		sent = len - 1;
	}
	ck_assert_int_eq(send(fd, request, sent, MSG_NOSIGNAL), (ssize_t)sent);
	if (manner == RESET)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	if (manner != RESET && manner != GONE)
		return fd;
	close(fd);
	return -1;
}

/* A lane beside the strangers, over the given listener. */
static void make_lane(struct bed *bed, struct kvi_listener *listener, struct end *near,
		      struct end *far)
{
	uint8_t address[KVI_ADDRESS_LEN_MAX];
	size_t len = get_address(listener, address);
	struct kvi_lane_request *request = NULL;
	*near = *far = (struct end){ .lane = NULL };
	end_open(near, &bed->near, address, len, NULL);
	ck_assert_int_eq(kvi_lane_connect(near->lane, (const uint8_t *)"lane", 4, NULL), KVT_OK);
	bed_wait(bed, (request = kvi_listener_take(listener)) != NULL);
	end_accept(far, bed, request);
	bed_wait(bed, near->connected_count == 1 && far->connected_count == 1);
}

/* A lane can be made beside so many of them, who then go. */
static void expect_lane_beside(struct bed *bed, const int *fds, int count)
{
	struct end near, far;
	make_lane(bed, bed->listener, &near, &far);
	for (int i = 0; i < count; i++)
		close(fds[i]);
	end_close(&near);
	end_close(&far);
}

static void take_nothing(struct bed *bed, struct kvi_listener *listener, int64_t time_ns)
{
	int64_t deadline_ns = kvi_deadline_after(time_ns);
	while (kvi_clock_now() < deadline_ns) {
		ck_assert_ptr_null(kvi_listener_take(listener));
		bed_poll(bed);
	}
}

static void expect_end(int fd)
{
	struct pollfd readable = { .fd = fd, .events = POLLIN };
	uint8_t byte;
	ck_assert_int_eq(poll(&readable, 1, 5000), 1);
	ck_assert_int_le(recv(fd, &byte, 1, 0), 0);
	close(fd);
}

START_TEST(strangers_at_a_listener_leave_nothing_behind)
{
	struct bed bed;
	struct kvi_listener *listener = NULL;
	struct end near[MANNERS], far[MANNERS];
	uint8_t address[KVI_ADDRESS_LEN_MAX], request[REQUEST_LEN_MAX];
	int fds[2 * MANNERS];
	bed_open(&bed);
	if (kvi_ofi_rail(bed.far.rail)->profile->strays) {
		size_t len = catch_request(&bed, request);
		unsigned before = count_fds();
		ck_assert_int_eq(kvi_listener_open(bed.far.rail, (struct kvi_ports){ 0 }, &listener,
						   NULL),
				 KVT_OK);
		size_t address_len = get_address(listener, address);
		for (int i = 0; i < MANNERS; i++) {
			fds[i] = play((enum manner)i, address, address_len, request, len);
			take_nothing(&bed, listener, 30 * KVI_MS);
			make_lane(&bed, listener, &near[i], &far[i]);
		}
		/* Those that nobody has looked at yet, and that come together. */
		for (int i = 0; i < MANNERS; i++)
			fds[MANNERS + i] = play((enum manner)i, address, address_len, request, len);
		kvi_listener_close(listener);
		for (int i = 0; i < 2 * MANNERS; i++) {
			if (fds[i] >= 0)
				expect_end(fds[i]);
		}
		for (int i = 0; i < MANNERS; i++) {
			ck_assert_int_eq(near[i].lost_count + far[i].lost_count, 0);
			end_close(&near[i]);
			end_close(&far[i]);
		}
		bed_wait(&bed, count_fds() == before);
	}
	bed_close(&bed);
}
END_TEST

/* How often this thread has slept: told apart from being slow, on any machine. */
static long count_sleeps(void)
{
	struct rusage usage;
	ck_assert_int_eq(getrusage(RUSAGE_THREAD, &usage), 0);
	return usage.ru_nvcsw;
}

/* Each that the provider reads a part of, and then waits for, lets it sleep for 20 ms. */
START_TEST(requests_that_stop_in_the_middle_hold_up_nobody)
{
	enum { COUNT = 200 };
	struct bed bed;
	uint8_t address[KVI_ADDRESS_LEN_MAX], request[REQUEST_LEN_MAX];
	int fds[COUNT];
	bed_open(&bed);
	if (kvi_ofi_rail(bed.far.rail)->profile->strays) {
		size_t len = catch_request(&bed, request);
		size_t address_len = get_address(bed.listener, address);
		for (int i = 0; i < COUNT; i++)
			fds[i] = play(i % 2 == 0 ? HEADER : ALL_BUT_ONE, address, address_len,
				      request, len);
		long before = count_sleeps();
		for (int i = 0; i < 2 * COUNT; i++)
			ck_assert_ptr_null(kvi_listener_take(bed.listener));
		ck_assert_int_lt(count_sleeps() - before, COUNT / 4);
		expect_lane_beside(&bed, fds, COUNT);
	}
	bed_close(&bed);
}
END_TEST

START_TEST(so_many_strangers_wait_at_a_listener_and_no_more)
{
	enum { COUNT = KVI_STRAYS_MAX + 100 };
	struct bed bed;
	uint8_t address[KVI_ADDRESS_LEN_MAX];
	int fds[COUNT];
	bed_open(&bed);
	if (kvi_ofi_rail(bed.far.rail)->profile->strays) {
		size_t len = get_address(bed.listener, address);
		unsigned before = count_fds();
		for (int i = 0; i < COUNT; i++) {
			fds[i] = connect_raw(address, len);
			take_nothing(&bed, bed.listener, KVI_MS);
		}
		bed_wait(&bed, kvi_listener_take(bed.listener) == NULL &&
				       count_fds() <= before + COUNT + KVI_STRAYS_MAX);
		expect_lane_beside(&bed, fds, COUNT);
	}
	bed_close(&bed);
}
END_TEST

/* Else closing and opening one would cost more the more descriptors the process has. */
START_TEST(the_sockets_of_a_listener_are_found_by_its_event_queue)
{
	struct bed bed;
	uint8_t address[KVI_ADDRESS_LEN_MAX];
	bed_open(&bed);
	size_t len = get_address(bed.listener, address);
	int fd = kvi_listener_get_fd(bed.listener);
	if (kvi_ofi_rail(bed.far.rail)->profile->strays)
		ck_assert(kvi_socket_bound_listener(fd, address, len, 1) &&
			  kvi_socket_find_epoll(fd, address, len) >= 0);
	bed_close(&bed);
}
END_TEST

/* A process has thousands of descriptors, and whoever likes can be a stranger. */
START_TEST(lanes_are_made_and_cut_without_a_walk_over_all_descriptors)
{
	enum { STRANGERS = 20, LANES = 20 };
	static struct act reads[LANES];
	struct bed bed;
	struct end near[LANES], far[LANES];
	struct area result, source;
	uint8_t address[KVI_ADDRESS_LEN_MAX];
	int fds[STRANGERS];
	bed_open(&bed);
	size_t read_len = bed_get_segment_len(&bed, 1 << 20);
	area_open(&result, &bed.near, read_len, KVI_ACCESS_LOCAL, 0);
	area_open(&source, &bed.far, read_len, KVI_ACCESS_REMOTE_READ, 1);
	if (kvi_ofi_rail(bed.far.rail)->profile->strays) {
		size_t len = get_address(bed.listener, address);
		for (int i = 0; i < STRANGERS; i++) {
			fds[i] = connect_raw(address, len);
			take_nothing(&bed, bed.listener, KVI_MS);
		}
		walks = 0;
		for (int i = 0; i < LANES; i++) {
			make_lane(&bed, bed.listener, &near[i], &far[i]);
			post_read(&near[i], &reads[i], &result, 0, read_len, source.rkey);
		}
		for (int i = 0; i < LANES; i++)
			end_close(&near[i]);
		ck_assert_uint_eq(walks, 0);
		bed_wait(&bed, count_reported(reads, LANES) == LANES);
		for (int i = 0; i < LANES; i++)
			end_close(&far[i]);
		for (int i = 0; i < STRANGERS; i++)
			close(fds[i]);
	}
	area_close(&source);
	area_close(&result);
	bed_close(&bed);
}
END_TEST

TCase *make_stray_tests(void)
{
	TCase *tests = tcase_create("strays");
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, strangers_at_a_listener_leave_nothing_behind);
	tcase_add_test(tests, requests_that_stop_in_the_middle_hold_up_nobody);
	tcase_add_test(tests, so_many_strangers_wait_at_a_listener_and_no_more);
	tcase_add_test(tests, the_sockets_of_a_listener_are_found_by_its_event_queue);
	tcase_add_test(tests, lanes_are_made_and_cut_without_a_walk_over_all_descriptors);
	return tests;
}
