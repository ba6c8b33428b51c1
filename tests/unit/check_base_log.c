/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_base_log.c - what KVTRANS_LOG lets through, and how a line looks. The level is read once, when
 * the program starts: so each test starts this program again, as one that logs.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "../support/runner.h"

static char output[4096];

/* What the program that logs does. */
static int log_everything(void)
{
	errno = ENOTTY;
	kvi_log(KVI_LOG_ERROR, "id-error", "%d", 1);
	kvi_log(KVI_LOG_WARN, "id-warn", "a\nb\x1b[0m\x7f");
	kvi_log(KVI_LOG_INFO, "id-info", "%s", "three");
	kvi_log(KVI_LOG_DEBUG, "id-debug", "%01000d", 4);
	return errno == ENOTTY ? 0 : 1;
}

/* Runs it with KVTRANS_LOG=level (NULL: unset) and takes its stderr. */
static void run_with_level(const char *level)
{
	/* By its name: under valgrind the link itself is valgrind. */
	char self[PATH_MAX] = "";
	ck_assert_int_gt(readlink("/proc/self/exe", self, sizeof(self) - 1), 0);
	int pipe_fds[2];
	ck_assert_int_eq(pipe(pipe_fds), 0);
	pid_t pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		dup2(pipe_fds[1], STDERR_FILENO);
		close(pipe_fds[0]);
		close(pipe_fds[1]);
		if (level != NULL)
			setenv("KVTRANS_LOG", level, 1);
		else
			unsetenv("KVTRANS_LOG");
		execl(self, "check_base_log", "log", (char *)NULL);
		_exit(127);
	}
	close(pipe_fds[1]);
	size_t len = 0;
	ssize_t got;
	while ((got = read(pipe_fds[0], output + len, sizeof(output) - 1 - len)) > 0)
		len += (size_t)got;
	output[len] = '\0';
	close(pipe_fds[0]);
	int status;
	waitpid(pid, &status, 0);
	ck_assert_int_eq(status, 0);
}

static int count_lines(void)
{
	int lines = 0;
	for (const char *at = output; (at = strchr(at, '\n')) != NULL; at++)
		lines++;
	return lines;
}

static const struct {
	const char *level;
	int lines;
} levels[] = {
	{ "off", 0 },	{ "error", 1 }, { "warn", 2 }, { "info", 3 },
	{ "debug", 4 }, { NULL, 2 },	{ "", 2 },
};

START_TEST(a_level_lets_through_itself_and_what_is_worse)
{
	run_with_level(levels[_i].level);

	ck_assert_int_eq(count_lines(), levels[_i].lines);
}
END_TEST

START_TEST(an_unknown_level_is_told_and_means_warn)
{
	run_with_level("loud");

	ck_assert_ptr_nonnull(strstr(output, " warn log-level: "));
	ck_assert_int_eq(count_lines(), 3);
}
END_TEST

START_TEST(a_line_names_time_process_level_and_id)
{
	run_with_level("error");

	int year, month, day, hour, minute, end = 0;
	double second;
	long pid;
	int fields = sscanf(output, "%d-%d-%dT%d:%d:%lfZ kvtrans[%ld] error id-error: 1\n%n", &year,
			    &month, &day, &hour, &minute, &second, &pid, &end);
	ck_assert_int_eq(fields, 7);
	ck_assert_int_eq(end, (int)strlen(output));
}
END_TEST

START_TEST(control_characters_do_not_reach_the_terminal)
{
	run_with_level("warn");

	ck_assert_ptr_nonnull(strstr(output, " id-warn: a?b?[0m?\n"));
}
END_TEST

START_TEST(a_long_line_is_cut_and_ends)
{
	run_with_level("debug");

	char *last = strstr(output, "id-info: three\n") + strlen("id-info: three\n");
	ck_assert_uint_eq(strlen(last), 512);
	ck_assert_int_eq(last[511], '\n');
}
END_TEST

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "log") == 0)
		return log_everything();

	TCase *tests = tcase_create("log");
	int level_count = (int)(sizeof(levels) / sizeof(levels[0]));
	tcase_add_loop_test(tests, a_level_lets_through_itself_and_what_is_worse, 0, level_count);
	tcase_add_test(tests, an_unknown_level_is_told_and_means_warn);
	tcase_add_test(tests, a_line_names_time_process_level_and_id);
	tcase_add_test(tests, control_characters_do_not_reach_the_terminal);
	tcase_add_test(tests, a_long_line_is_cut_and_ends);
	return run_tests("base_log", tests);
}
