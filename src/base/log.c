/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.c - writes lines to stderr. It never allocates, never changes errno, and never splits a line: a
 * text that is too long is cut.
 */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LINE_LEN = 512, LEVEL_OFF = -1 };

static const char *const level_names[] = {
	[KVI_LOG_ERROR] = "error",
	[KVI_LOG_WARN] = "warn",
	[KVI_LOG_INFO] = "info",
	[KVI_LOG_DEBUG] = "debug",
};

/* Written by the constructor only, so it is read without a lock. */
static int log_level = KVI_LOG_WARN;

__attribute__((constructor)) static void read_log_level(void)
{
	const char *wanted = getenv("KVTRANS_LOG");
	if (wanted == NULL || wanted[0] == '\0')
		return;

	if (strcmp(wanted, "off") == 0) {
		log_level = LEVEL_OFF;
		return;
	}
	for (int level = KVI_LOG_ERROR; level <= KVI_LOG_DEBUG; level++) {
		if (strcmp(wanted, level_names[level]) == 0) {
			log_level = level;
			return;
		}
	}
	kvi_log(KVI_LOG_WARN, "log-level", "KVTRANS_LOG is none of error, warn, info, debug, off");
}

bool kvi_log_is_on(enum kvi_log_level level)
{
	return (int)level <= log_level;
}

/* Appends to the line of len bytes (the last is kept for the newline); returns the new length. */
__attribute__((format(printf, 3, 0))) static size_t append_text(char *line, size_t len,
								const char *format, va_list args)
{
	int wanted = vsnprintf(line + len, LINE_LEN - len, format, args);
	if (wanted < 0)
		return len;
	return len + (size_t)wanted < LINE_LEN ? len + (size_t)wanted : LINE_LEN - 1;
}

__attribute__((format(printf, 3, 4))) static size_t append(char *line, size_t len,
							   const char *format, ...)
{
	va_list args;
	va_start(args, format);
	len = append_text(line, len, format, args);
	va_end(args);
	return len;
}

void kvi_log(enum kvi_log_level level, const char *id, const char *format, ...)
{
	if (!kvi_log_is_on(level))
		return;

	int saved_errno = errno;
	char line[LINE_LEN];
	struct timespec now;
	struct tm utc;
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &utc);
	size_t len = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &utc);
	len = append(line, len, ".%06ldZ kvtrans[%ld] %s %s: ", now.tv_nsec / 1000, (long)getpid(),
		     level_names[level], id);

	va_list args;
	va_start(args, format);
	len = append_text(line, len, format, args);
	va_end(args);

	/* An event is one line, whatever a name or an address in it contains. */
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			line[i] = '?';
	}
	line[len++] = '\n';
	ssize_t written = write(STDERR_FILENO, line, len);
	(void)written; /* An error here cannot be reported. */
	errno = saved_errno;
}
