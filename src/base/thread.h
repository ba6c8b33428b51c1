/* SPDX-License-Identifier: Apache-2.0 */
/*
 * thread.h - threads of the engine, and what they need of the machine. Engine threads block all
 * signals, so that handlers run on the application's threads only.
 */
#ifndef KVI_BASE_THREAD_H
#define KVI_BASE_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <kvtrans.h>

/* name: at most 15 characters, shown by ps and gdb. */
enum kvt_err kvi_thread_start(pthread_t *thread, const char *name, void *(*run)(void *), void *arg);

/* Pin a thread to one CPU; failing is logged and harmless. */
void kvi_thread_pin(pthread_t thread, unsigned cpu);

void kvi_thread_rest(int64_t time_ns);

/* CPUs this process may use. */
unsigned kvi_thread_get_cpu_count(void);

/* A condition variable whose timed waits take deadlines of kvi_clock_now(). */
void kvi_cond_init(pthread_cond_t *cond);
/* False when the deadline passed. */
bool kvi_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex, int64_t deadline_ns);

/* How many fork() calls lie between this process and the one that loaded the library. An object that stored
 * another number belongs to a parent process. Costs one load. */
unsigned kvi_fork_get_count(void);

#endif
