/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pair.h - a test and the processes it starts: roles, numbers told between them, and failures that reach
 * the test wherever they happen. A process is started before any engine is opened, and only processes
 * started here are ever signalled. Nothing waits for longer than PATIENCE_NS.
 */
#ifndef PAIR_H
#define PAIR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define MS INT64_C(1000000)
#define SECOND INT64_C(1000000000)
#define PATIENCE_NS (60 * SECOND)

/* The other end: for a test the process it started, for a role the test. */
struct peer {
	int fd;
	pid_t pid;
};

/* Start a process that does the role and ends. arg is the test's, as it was at the start. */
void peer_start(struct peer *peer, void (*role)(struct peer *test, const void *arg),
		const void *arg);

/* Say a number; wait for the number that the other end says next. A failure there is one here. */
void peer_tell(struct peer *peer, uint64_t number);
uint64_t peer_hear(struct peer *peer);
/* Before that, where it may say nothing for long: wait without a limit until it has, or has ended. */
void peer_await_turn(const struct peer *peer);
/* It has said one, or ended. */
bool peer_has_spoken(const struct peer *peer);

/* Wait until the process has done its role. */
void peer_finish(struct peer *peer);
/* The process is killed by SIGKILL, by its own hand or by peer_signal(). */
void peer_await_death(struct peer *peer);
/* The process has stopped itself. */
void peer_await_stop(struct peer *peer);
void peer_signal(const struct peer *peer, int number);

/* After each test: end what a failed one has left. */
void sweep_peers(void);

int64_t get_time_ns(void);
/* CPU time of this process, all threads. */
int64_t get_cpu_ns(void);
void rest(int64_t time_ns);

/* Under a sanitizer; under ThreadSanitizer. */
bool is_slow(void);
bool is_under_tsan(void);
/* KVT_TEST_SHORT is 1: where bytes are slow. */
bool is_short(void);
/* Of what a test does often or with many bytes: a quarter when that is slow or shall be short. */
uint64_t get_share(uint64_t count);

/* Within the promised limit (support/punctual.h); a sanitizer's slowness is allowed for. */
bool is_within(int64_t since_ns, int64_t limit_ns);

/* In any process and on any thread: the test fails unless the condition holds. The rest is as for printf. */
#define must(condition, ...)                                                                       \
	do {                                                                                       \
		if (!(condition))                                                                  \
			fail_at(__FILE__, __LINE__, #condition, __VA_ARGS__);                      \
	} while (0)

#define must_become(condition)                                                                     \
	do {                                                                                       \
		int64_t must_since_ns = get_time_ns();                                             \
		while (!(condition)) {                                                             \
			must(get_time_ns() - must_since_ns < PATIENCE_NS, "waited in vain");       \
			rest(MS / 2);                                                              \
		}                                                                                  \
	} while (0)

_Noreturn void fail_at(const char *file, int line, const char *condition, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

#endif
