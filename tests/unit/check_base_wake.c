/* SPDX-License-Identifier: Apache-2.0 */
/* check_base_wake.c - the wake-up of base/wake.h: coalesced, and never lost. */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <unistd.h>

#include "base/wake.h"
#include "../support/runner.h"

enum { WAKERS = 2, WAKES = 2000000, LOST_MS = 2000 };

static struct kvi_wake wake;

static void open_wake(void)
{
	ck_assert_int_eq(kvi_wake_open(&wake), KVT_OK);
}

static void close_wake(void)
{
	kvi_wake_close(&wake);
}

static bool is_readable(int timeout_ms)
{
	struct pollfd fd = { .fd = wake.fd, .events = POLLIN };
	return poll(&fd, 1, timeout_ms) == 1;
}

START_TEST(the_fd_neither_blocks_nor_survives_exec)
{
	ck_assert(fcntl(wake.fd, F_GETFL) & O_NONBLOCK);
	ck_assert(fcntl(wake.fd, F_GETFD) & FD_CLOEXEC);
	ck_assert(!is_readable(0));
}
END_TEST

START_TEST(many_wakes_cost_one_write)
{
	kvi_wake(&wake);
	kvi_wake(&wake);
	kvi_wake(&wake);

	uint64_t writes = 0;
	ck_assert_int_eq(read(wake.fd, &writes, sizeof(writes)), sizeof(writes));
	ck_assert_uint_eq(writes, 1);
}
END_TEST

START_TEST(a_cleared_wake_is_quiet_until_the_next)
{
	kvi_wake(&wake);
	ck_assert(is_readable(0));
	kvi_wake_clear(&wake);
	ck_assert(!is_readable(0));
	kvi_wake(&wake);
	ck_assert(is_readable(0));
}
END_TEST

START_TEST(clearing_without_a_wake_is_harmless)
{
	kvi_wake_clear(&wake);
	kvi_wake_clear(&wake);
	kvi_wake(&wake);

	ck_assert(is_readable(0));
}
END_TEST

/* Work is a relaxed counter: only the wake-up may make it visible. */
struct waker {
	pthread_t thread;
	_Alignas(64) atomic_int given;
};

static void *give_work(void *arg)
{
	struct waker *waker = arg;
	for (int i = 1; i <= WAKES; i++) {
		atomic_store_explicit(&waker->given, i, memory_order_relaxed);
		kvi_wake(&wake);
	}
	return NULL;
}

START_TEST(a_sleeper_misses_no_work)
{
	static struct waker wakers[WAKERS];
	for (int i = 0; i < WAKERS; i++)
		pthread_create(&wakers[i].thread, NULL, give_work, &wakers[i]);

	bool all_seen = false;
	while (!all_seen) {
		ck_assert_msg(is_readable(LOST_MS), "a wake was lost");
		kvi_wake_clear(&wake);
		all_seen = true;
		for (int i = 0; i < WAKERS; i++) {
			int given = atomic_load_explicit(&wakers[i].given, memory_order_relaxed);
			all_seen = all_seen && given == WAKES;
		}
	}

	for (int i = 0; i < WAKERS; i++)
		pthread_join(wakers[i].thread, NULL);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("wake");
	tcase_set_timeout(tests, 30); /* machines are busy, sanitizers slow */
	tcase_add_checked_fixture(tests, open_wake, close_wake);
	tcase_add_test(tests, the_fd_neither_blocks_nor_survives_exec);
	tcase_add_test(tests, many_wakes_cost_one_write);
	tcase_add_test(tests, a_cleared_wake_is_quiet_until_the_next);
	tcase_add_test(tests, clearing_without_a_wake_is_harmless);
	tcase_add_test(tests, a_sleeper_misses_no_work);
	return run_tests("base_wake", tests);
}
