/* SPDX-License-Identifier: Apache-2.0 */
/*
 * thread.c - threads, timed waits and fork detection over pthreads. It never handles a signal.
 */
#define _GNU_SOURCE 1 /* CPU sets, names of threads */
#include "base/thread.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"

enum { CPUS_MAX = 65536 };

static atomic_uint fork_count;

static void count_fork(void)
{
	atomic_fetch_add_explicit(&fork_count, 1, memory_order_relaxed);
}

__attribute__((constructor)) static void watch_forks(void)
{
	pthread_atfork(NULL, NULL, count_fork);
}

unsigned kvi_fork_get_count(void)
{
	return atomic_load_explicit(&fork_count, memory_order_relaxed);
}

enum kvt_err kvi_thread_start(pthread_t *thread, const char *name, void *(*run)(void *), void *arg)
{
	/* A thread inherits the mask of its creator; setting it in the thread would be too late. Signals
	 * that a thread raises itself (SIGSEGV ...) stay unblocked, so that crash handlers can report them. */
	static const int own[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT };
	sigset_t all, before;
	sigfillset(&all);
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		sigdelset(&all, own[i]);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_t started;
	int rc = pthread_create(&started, NULL, run, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc != 0)
		return rc == ENOMEM ? KVT_E_NO_MEMORY : KVT_E_LIMIT;

	pthread_setname_np(started, name);
	*thread = started;
	return KVT_OK;
}

void kvi_thread_pin(pthread_t thread, unsigned cpu)
{
	/* A cpu_set_t has 1,024 CPUs, and machines may have more. */
	size_t len = CPU_ALLOC_SIZE((size_t)cpu + 1);
	cpu_set_t *cpus = kvi_alloc(len);
	int rc = ENOMEM;
	if (cpus != NULL) {
		CPU_SET_S(cpu, len, cpus);
		rc = pthread_setaffinity_np(thread, len, cpus);
	}
	kvi_free(cpus);
	if (rc != 0)
		kvi_log(KVI_LOG_WARN, "thread-pin", "a thread is not pinned to CPU %u: %s", cpu,
			strerror(rc));
}

void kvi_thread_rest(int64_t time_ns)
{
	const struct timespec rest = { time_ns / KVI_SECOND, time_ns % KVI_SECOND };
	clock_nanosleep(CLOCK_MONOTONIC, 0, &rest, NULL);
}

unsigned kvi_thread_get_cpu_count(void)
{
	/* The kernel refuses sets that are shorter than its own, and does not tell how long that is. */
	for (size_t most = CPU_SETSIZE; most <= CPUS_MAX; most *= 2) {
		size_t len = CPU_ALLOC_SIZE(most);
		cpu_set_t *cpus = kvi_alloc(len);
		if (cpus == NULL)
			break;
		int rc = sched_getaffinity(0, len, cpus);
		int count = rc == 0 ? CPU_COUNT_S(len, cpus) : 0;
		kvi_free(cpus);
		if (count > 0)
			return (unsigned)count;
	}
	return 1;
}

void kvi_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
}

bool kvi_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex, int64_t deadline_ns)
{
	if (deadline_ns == KVI_NEVER)
		return pthread_cond_wait(cond, mutex) == 0;

	int64_t at = deadline_ns < 0 ? 0 : deadline_ns;
	struct timespec when = { .tv_sec = at / KVI_SECOND, .tv_nsec = at % KVI_SECOND };
	return pthread_cond_timedwait(cond, mutex, &when) == 0;
}
