/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_tools.c - see perf_tools.h. It never prints a result.
 */
#include "perf_tools.h"

#include <err.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SAMPLES_MAX = 1 << 18 };
static const int64_t JOIN_NS = 10 * PERF_SECOND;

static volatile sig_atomic_t interrupts;
static unsigned patience = 1;

static int64_t read_clock(clockid_t clock)
{
	struct timespec now;

	if (clock_gettime(clock, &now))
		return 0;
	return now.tv_sec * PERF_SECOND + now.tv_nsec;
}

int64_t perf_now_ns(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

int64_t perf_cpu_ns(void)
{
	return read_clock(CLOCK_PROCESS_CPUTIME_ID);
}

static size_t read_status(const char *format)
{
	FILE *file = fopen("/proc/self/status", "re");
	size_t kib = 0;
	char line[128];

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, format, &kib) == 1)
			break;
	}
	if (file)
		fclose(file);
	return kib << 10;
}

size_t perf_memory_get(bool peak)
{
	return read_status(peak ? "VmHWM: %zu" : "VmRSS: %zu");
}

void perf_memory_reset_peak(void)
{
	FILE *file = fopen("/proc/self/clear_refs", "we");

	if (!file)
		return;
	fputs("5", file);
	fclose(file);
}

int perf_samples_open(struct perf_samples *samples)
{
	int64_t *values = malloc(SAMPLES_MAX * sizeof(*values));

	if (!values)
		return -1;
	*samples = (struct perf_samples){ .values = values, .random = 88172645463325252u };
	return 0;
}

void perf_samples_close(struct perf_samples *samples)
{
	free(samples->values);
	samples->values = NULL;
}

void perf_samples_reset(struct perf_samples *samples)
{
	samples->count = 0;
	samples->seen = 0;
}

void perf_samples_add(struct perf_samples *samples, int64_t value)
{
	samples->seen++;
	if (samples->count < SAMPLES_MAX) {
		samples->values[samples->count++] = value;
		return;
	}
	/* Reservoir sampling: the n-th value takes a place with probability capacity / n. */
	samples->random ^= samples->random << 13;
	samples->random ^= samples->random >> 7;
	samples->random ^= samples->random << 17;
	uint64_t place = samples->random % samples->seen;
	if (place < SAMPLES_MAX)
		samples->values[place] = value;
}

static int compare_values(const void *left, const void *right)
{
	int64_t a = *(const int64_t *)left;
	int64_t b = *(const int64_t *)right;

	return (a > b) - (a < b);
}

int64_t perf_samples_get(struct perf_samples *samples, unsigned percent)
{
	if (!samples->count)
		return -1;
	qsort(samples->values, samples->count, sizeof(*samples->values), compare_values);
	size_t rank = (samples->count * percent + 99) / 100; /* nearest rank, 1 is the smallest */
	return samples->values[rank ? rank - 1 : 0];
}

static void count_interrupt(int signal_number)
{
	(void)signal_number;
	interrupts++;
}

void perf_catch_interrupts(void)
{
	struct sigaction action = { .sa_handler = count_interrupt };

	sigemptyset(&action.sa_mask);
	sigaction(SIGINT, &action, NULL);
}

unsigned perf_count_interrupts(void)
{
	return (unsigned)interrupts;
}

void perf_set_patience(unsigned count)
{
	patience = count;
}

int perf_is_interrupted(void *unused)
{
	(void)unused;
	return perf_count_interrupts() >= patience;
}

pid_t perf_fork(void)
{
	pid_t parent = getpid();
	pid_t pid = fork();

	if (pid < 0)
		err(PERF_FAILED, "fork");
	if (pid)
		return pid;
	signal(SIGINT, SIG_IGN);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(PERF_FAILED);
	return 0;
}

int perf_join(pid_t pid)
{
	int64_t deadline = perf_now_ns() + JOIN_NS;
	int status;

	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (perf_now_ns() > deadline) {
			warnx("the server does not end: killing it");
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
			return PERF_FAILED;
		}
		poll(NULL, 0, 10);
	}
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	warnx("the server died of signal %d", WTERMSIG(status));
	return PERF_FAILED;
}

static void give_up(int signal_number)
{
	static const char words[] = "the benchmark ran into its time limit: giving up\n";

	(void)signal_number;
	if (write(STDERR_FILENO, words, sizeof(words) - 1) < 0)
		_exit(PERF_FAILED);
	_exit(PERF_FAILED);
}

void perf_arm_watchdog(int64_t limit_ns)
{
	struct sigaction action = { .sa_handler = give_up };

	sigemptyset(&action.sa_mask);
	sigaction(SIGALRM, &action, NULL);
	alarm((unsigned)((limit_ns + PERF_SECOND - 1) / PERF_SECOND));
}
