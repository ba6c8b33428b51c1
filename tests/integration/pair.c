/* SPDX-License-Identifier: Apache-2.0 */
/* pair.c - starting a process, talking to it, and taking it down. */
#define _GNU_SOURCE 1 /* gettid */
#include "pair.h"

#include <check.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "support/punctual.h"

enum { PEERS_MAX = 8, LIFE_SECONDS = 600, SLOW_FACTOR = 5 };

/* What is said: a number, or that the other end has failed and why. */
struct note {
	bool failed;
	uint64_t number;
	char text[512];
};

static struct peer running[PEERS_MAX]; /* pid 0: free */
static int test_fd = -1;	       /* in a role: where failures are told */

int64_t get_time_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * SECOND + now.tv_nsec;
}

int64_t get_cpu_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return now.tv_sec * SECOND + now.tv_nsec;
}

void rest(int64_t time_ns)
{
	struct timespec time = { .tv_sec = time_ns / SECOND, .tv_nsec = time_ns % SECOND };
	while (clock_nanosleep(CLOCK_MONOTONIC, 0, &time, &time) == EINTR)
		;
}

static const char *get_sanitizers(void)
{
	const char *sanitizers = getenv("KVT_SANITIZERS");
	return sanitizers != NULL ? sanitizers : "";
}

bool is_slow(void)
{
	return get_sanitizers()[0] != '\0';
}

bool is_under_tsan(void)
{
	return strstr(get_sanitizers(), "tsan") != NULL;
}

bool is_short(void)
{
	const char *wanted = getenv("KVT_TEST_SHORT");
	return wanted != NULL && strcmp(wanted, "1") == 0;
}

uint64_t get_share(uint64_t count)
{
	return is_slow() || is_short() ? count / 4 : count;
}

bool is_within(int64_t since_ns, int64_t limit_ns)
{
	return get_time_ns() - since_ns <= get_limit(limit_ns) * (is_slow() ? SLOW_FACTOR : 1);
}

/* ---- failing ---- */

void fail_at(const char *file, int line, const char *condition, const char *format, ...)
{
	struct note note = { .failed = true };
	char said[384];
	va_list args;
	va_start(args, format);
	vsnprintf(said, sizeof(said), format, args);
	va_end(args);
	snprintf(note.text, sizeof(note.text), "%s:%d: %s: %.300s", file, line, condition, said);

	if (test_fd >= 0) {
		send(test_fd, &note, sizeof(note), MSG_NOSIGNAL);
		fprintf(stderr, "in a peer: %s\n", note.text);
		_exit(1);
	}
	if (gettid() != getpid()) {
		/* Check's way out is open to the main thread only. */
		fprintf(stderr, "on a thread: %s\n", note.text);
		abort();
	}
	ck_abort_msg("%s", note.text);
}

/* ---- processes ---- */

_Noreturn static void run_role(struct peer *test, pid_t parent,
			       void (*role)(struct peer *test, const void *arg), const void *arg)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	alarm(LIFE_SECONDS);
	test_fd = test->fd;
	for (unsigned i = 0; i < PEERS_MAX; i++)
		if (running[i].pid != 0)
			close(running[i].fd);
	role(test, arg);
	_exit(0);
}

void peer_start(struct peer *peer, void (*role)(struct peer *test, const void *arg),
		const void *arg)
{
	unsigned place = 0;
	while (place < PEERS_MAX && running[place].pid != 0)
		place++;
	must(place < PEERS_MAX, "at most %d processes", PEERS_MAX);

	int fds[2];
	must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) == 0, "%s",
	     strerror(errno));
	fflush(NULL);
	pid_t parent = getpid();
	pid_t pid = fork();
	must(pid >= 0, "%s", strerror(errno));
	if (pid == 0) {
		struct peer test = { .fd = fds[1], .pid = parent };
		close(fds[0]);
		run_role(&test, parent, role, arg);
	}
	close(fds[1]);
	*peer = (struct peer){ .fd = fds[0], .pid = pid };
	running[place] = *peer;
}

static void forget(const struct peer *peer)
{
	for (unsigned i = 0; i < PEERS_MAX; i++)
		if (running[i].pid == peer->pid)
			running[i].pid = 0;
	close(peer->fd);
}

static int await_status(const struct peer *peer, int options)
{
	int64_t since_ns = get_time_ns();
	int status = 0;
	pid_t pid;
	while ((pid = waitpid(peer->pid, &status, options | WNOHANG)) == 0) {
		must(get_time_ns() - since_ns < PATIENCE_NS, "a peer does not end or stop");
		rest(MS / 2);
	}
	must(pid == peer->pid, "%s", strerror(errno));
	return status;
}

/* Read what a failed peer has said last, if anything. */
static void hear_failure(const struct peer *peer)
{
	struct note note;
	while (recv(peer->fd, &note, sizeof(note), MSG_DONTWAIT) == sizeof(note))
		must(!note.failed, "in the peer, %s", note.text);
}

void peer_finish(struct peer *peer)
{
	int status = await_status(peer, 0);
	hear_failure(peer);
	forget(peer);
	must(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a peer ended with status %#x", status);
}

void peer_await_death(struct peer *peer)
{
	int status = await_status(peer, 0);
	hear_failure(peer);
	forget(peer);
	must(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "a peer ended with status %#x",
	     status);
}

void peer_await_stop(struct peer *peer)
{
	int status = await_status(peer, WUNTRACED);
	hear_failure(peer);
	must(WIFSTOPPED(status), "a peer ended with status %#x", status);
}

void peer_signal(const struct peer *peer, int number)
{
	must(kill(peer->pid, number) == 0, "%s", strerror(errno));
}

void sweep_peers(void)
{
	for (unsigned i = 0; i < PEERS_MAX; i++) {
		if (running[i].pid == 0)
			continue;
		kill(running[i].pid, SIGKILL);
		waitpid(running[i].pid, NULL, 0);
		close(running[i].fd);
		running[i].pid = 0;
	}
}

/* ---- talking ---- */

void peer_tell(struct peer *peer, uint64_t number)
{
	struct note note = { .number = number };
	if (send(peer->fd, &note, sizeof(note), MSG_NOSIGNAL) == sizeof(note))
		return;
	hear_failure(peer);
	must(false, "the other end has gone");
}

void peer_await_turn(const struct peer *peer)
{
	struct pollfd pollfd = { .fd = peer->fd, .events = POLLIN };
	while (poll(&pollfd, 1, -1) < 0 && errno == EINTR)
		;
}

uint64_t peer_hear(struct peer *peer)
{
	struct note note;
	struct pollfd pollfd = { .fd = peer->fd, .events = POLLIN };
	int ready;
	do
		ready = poll(&pollfd, 1, (int)(PATIENCE_NS / MS));
	while (ready < 0 && errno == EINTR);
	must(ready == 1, "the other end says nothing");
	must(recv(peer->fd, &note, sizeof(note), 0) == sizeof(note), "the other end has gone");
	must(!note.failed, "in the peer, %s", note.text);
	return note.number;
}

bool peer_has_spoken(const struct peer *peer)
{
	struct pollfd pollfd = { .fd = peer->fd, .events = POLLIN };
	return poll(&pollfd, 1, 0) == 1;
}
