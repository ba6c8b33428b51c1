/* SPDX-License-Identifier: Apache-2.0 */
/* check_base_thread.c - threads, timed waits and fork detection of base/thread.h. */
#define _GNU_SOURCE 1 /* names and CPU sets of threads */
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/thread.h"
#include "../support/runner.h"

static void *get_mask(void *arg)
{
	pthread_sigmask(SIG_SETMASK, NULL, arg);
	return arg;
}

START_TEST(a_thread_blocks_all_signals_and_its_creator_does_not)
{
	pthread_t thread;
	sigset_t mask, own;
	void *returned;
	ck_assert_int_eq(kvi_thread_start(&thread, "test", get_mask, &mask), KVT_OK);
	pthread_join(thread, &returned);
	pthread_sigmask(SIG_SETMASK, NULL, &own);

	ck_assert_ptr_eq(returned, &mask);
	static const int signals[] = { SIGINT, SIGTERM, SIGUSR1, SIGCHLD, SIGALRM, SIGPIPE };
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		ck_assert(sigismember(&mask, signals[i]));
		ck_assert(!sigismember(&own, signals[i]));
	}
}
END_TEST

struct gate {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	bool is_open;
};

static void *wait_for_gate(void *arg)
{
	struct gate *gate = arg;
	pthread_mutex_lock(&gate->mutex);
	while (!gate->is_open)
		kvi_cond_wait(&gate->cond, &gate->mutex, KVI_NEVER);
	pthread_mutex_unlock(&gate->mutex);
	return NULL;
}

static void open_gate(struct gate *gate)
{
	pthread_mutex_lock(&gate->mutex);
	gate->is_open = true;
	pthread_cond_signal(&gate->cond);
	pthread_mutex_unlock(&gate->mutex);
}

START_TEST(a_thread_has_its_name_and_can_be_pinned)
{
	struct gate gate = { .mutex = PTHREAD_MUTEX_INITIALIZER };
	kvi_cond_init(&gate.cond);
	pthread_t thread;
	ck_assert_int_eq(kvi_thread_start(&thread, "kvt-worker-3", wait_for_gate, &gate), KVT_OK);
	int cpu = sched_getcpu();
	kvi_thread_pin(thread, (unsigned)cpu);

	char name[16];
	cpu_set_t cpus;
	ck_assert_int_eq(pthread_getname_np(thread, name, sizeof(name)), 0);
	ck_assert_str_eq(name, "kvt-worker-3");
	ck_assert_int_eq(pthread_getaffinity_np(thread, sizeof(cpus), &cpus), 0);
	ck_assert_int_eq(CPU_COUNT(&cpus), 1);
	ck_assert(CPU_ISSET((size_t)cpu, &cpus));
	open_gate(&gate);
	pthread_join(thread, NULL);
}
END_TEST

START_TEST(pinning_to_a_cpu_that_is_not_there_is_harmless)
{
	kvi_thread_pin(pthread_self(), 4000);
	kvi_thread_pin(pthread_self(), 100000);
}
END_TEST

START_TEST(the_cpu_count_is_what_the_process_may_use)
{
	cpu_set_t cpus;
	ck_assert_int_eq(sched_getaffinity(0, sizeof(cpus), &cpus), 0);
	ck_assert_int_eq((int)kvi_thread_get_cpu_count(), CPU_COUNT(&cpus));

	size_t cpu = (size_t)sched_getcpu();
	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	ck_assert_int_eq(sched_setaffinity(0, sizeof(cpus), &cpus), 0);
	ck_assert_uint_eq(kvi_thread_get_cpu_count(), 1);
}
END_TEST

START_TEST(a_wait_ends_at_its_deadline)
{
	struct gate gate = { .mutex = PTHREAD_MUTEX_INITIALIZER };
	kvi_cond_init(&gate.cond);
	pthread_mutex_lock(&gate.mutex);
	int64_t deadline = kvi_deadline_after(20 * KVI_MS);
	while (kvi_cond_wait(&gate.cond, &gate.mutex, deadline))
		;
	ck_assert_int_ge(kvi_clock_now(), deadline);

	ck_assert(!kvi_cond_wait(&gate.cond, &gate.mutex, 0));
	ck_assert(!kvi_cond_wait(&gate.cond, &gate.mutex, -5));
	pthread_mutex_unlock(&gate.mutex);
}
END_TEST

START_TEST(a_signalled_wait_ends_before_its_deadline)
{
	struct gate gate = { .mutex = PTHREAD_MUTEX_INITIALIZER };
	kvi_cond_init(&gate.cond);
	pthread_t thread;
	ck_assert_int_eq(kvi_thread_start(&thread, "gate", wait_for_gate, &gate), KVT_OK);
	open_gate(&gate);

	ck_assert_int_eq(pthread_join(thread, NULL), 0);
}
END_TEST

START_TEST(a_child_counts_the_forks_above_it)
{
	unsigned before = kvi_fork_get_count();
	pid_t child = fork();
	if (child == 0) {
		if (kvi_fork_get_count() != before + 1)
			_exit(1);
		pid_t grandchild = fork();
		if (grandchild == 0)
			_exit(kvi_fork_get_count() == before + 2 ? 0 : 1);
		int status;
		waitpid(grandchild, &status, 0);
		_exit(status == 0 ? 0 : 1);
	}

	int status;
	waitpid(child, &status, 0);
	ck_assert_int_eq(status, 0);
	ck_assert_uint_eq(kvi_fork_get_count(), before);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("thread");
	tcase_add_test(tests, a_thread_blocks_all_signals_and_its_creator_does_not);
	tcase_add_test(tests, a_thread_has_its_name_and_can_be_pinned);
	tcase_add_test(tests, pinning_to_a_cpu_that_is_not_there_is_harmless);
	tcase_add_test(tests, a_wait_ends_at_its_deadline);
	tcase_add_test(tests, a_signalled_wait_ends_before_its_deadline);
	tcase_add_test(tests, a_child_counts_the_forks_above_it);
	/* The last one: without fork mode its affinity stays. */
	tcase_add_test(tests, the_cpu_count_is_what_the_process_may_use);
	return run_tests("base_thread", tests);
}
