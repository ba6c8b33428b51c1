/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_tools.h - clocks, samples, the serving process, and the limits that both programs live under. It knows nothing
 * of what is measured.
 */
#ifndef PERF_TOOLS_H
#define PERF_TOOLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PERF_SECOND INT64_C(1000000000)

/* How the programs exit. */
enum perf_exit {
	PERF_OK = 0,
	PERF_FAILED = 1,
	PERF_USAGE = 2,
	PERF_WRONG_BYTES = 3,
	PERF_INTERRUPTED = 130,
};

int64_t perf_now_ns(void);
/* CPU time of this process, all threads. */
int64_t perf_cpu_ns(void);

/* Resident bytes of this process, or, from the reset on, the most that they were; 0 when the kernel does not tell. */
size_t perf_memory_get(bool peak);
void perf_memory_reset_peak(void);

/* Times of which percentiles are taken. Past its capacity it keeps a fair sample of all it has seen. */
struct perf_samples {
	int64_t *values;
	size_t count;
	uint64_t seen;
	uint64_t random;
};

int perf_samples_open(struct perf_samples *samples);
void perf_samples_close(struct perf_samples *samples);
void perf_samples_add(struct perf_samples *samples, int64_t value);
void perf_samples_reset(struct perf_samples *samples);
/* The value below which percent of them lie; -1 without samples. Reorders the samples. */
int64_t perf_samples_get(struct perf_samples *samples, unsigned percent);

/* Count Ctrl-C instead of dying of it; how often it was pressed. A wait ends when that is as often as
 * the patience says: once, or twice while measuring. */
void perf_catch_interrupts(void);
unsigned perf_count_interrupts(void);
void perf_set_patience(unsigned interrupts);
int perf_is_interrupted(void *unused);

/* Fork a process that ignores Ctrl-C and ends with this one: its id here, 0 there. */
pid_t perf_fork(void);
/* Its exit status. It has ended by now, unless something is wrong with it. */
int perf_join(pid_t pid);
/* End the process with a sentence when it is still there after so many nanoseconds. 0 disarms. */
void perf_arm_watchdog(int64_t limit_ns);

#endif
