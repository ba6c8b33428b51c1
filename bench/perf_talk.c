/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_talk.c - what the two processes say to each other beside the data. It never measures.
 */
#include "perf.h"

#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

int perf_put(struct perf_run *run, const void *base, size_t len)
{
	if (send(run->control, base, len, MSG_NOSIGNAL) == (ssize_t)len)
		return PERF_OK;
	warn("telling the other process");
	return PERF_FAILED;
}

/* A signal that is counted interrupts nothing. */
static ssize_t receive(struct perf_run *run, void *base, size_t len)
{
	ssize_t n;

	do {
		n = recv(run->control, base, len, 0);
	} while (n < 0 && errno == EINTR);
	if (!n)
		warnx("the other process has ended");
	else if (n < 0)
		warn("hearing the other process");
	return n;
}

int perf_get(struct perf_run *run, void *base, size_t len)
{
	return receive(run, base, len) == (ssize_t)len ? PERF_OK : PERF_FAILED;
}

int perf_say(struct perf_run *run, const char *format, ...)
{
	char line[PERF_LINE_LEN];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	return run->path->say ? run->path->say(run, line) : perf_put(run, line, strlen(line));
}

int perf_hear(struct perf_run *run, char line[PERF_LINE_LEN])
{
	return (run->path->hear ? run->path->hear : perf_hear_control)(run, line);
}

int perf_hear_control(struct perf_run *run, char line[PERF_LINE_LEN])
{
	ssize_t n = receive(run, line, PERF_LINE_LEN - 1);
	if (n <= 0)
		return PERF_FAILED;
	line[n] = '\0';
	return PERF_OK;
}

int perf_hear_values(struct perf_run *run, int count, const char *format, ...)
{
	char line[PERF_LINE_LEN];
	va_list args;
	int status = perf_hear(run, line);

	if (status)
		return status;
	va_start(args, format);
	int found = vsscanf(line, format, args);
	va_end(args);
	if (found == count)
		return PERF_OK;
	warnx("the other process said \"%s\"", line);
	return PERF_FAILED;
}

int perf_find_address(const struct perf_options *options, char *host, size_t len)
{
	const char *name = options->interfaces[0];
	struct ifaddrs *list;
	struct in6_addr binary;
	int found = -1;

	if (inet_pton(AF_INET, name, &binary) == 1 || inet_pton(AF_INET6, name, &binary) == 1) {
		snprintf(host, len, "%s", name);
		return PERF_OK;
	}
	if (getifaddrs(&list))
		list = NULL;
	for (struct ifaddrs *entry = list; entry && found; entry = entry->ifa_next)
		if (entry->ifa_addr && entry->ifa_addr->sa_family == AF_INET &&
		    !strcmp(entry->ifa_name, name))
			found = getnameinfo(entry->ifa_addr, sizeof(struct sockaddr_in), host,
					    (socklen_t)len, NULL, 0, NI_NUMERICHOST);
	freeifaddrs(list);
	if (found)
		warnx("it takes an interface with an IPv4 address: %s has none", name);
	return found ? PERF_USAGE : PERF_OK;
}

void *perf_make_own(struct perf_run *run, size_t len)
{
	run->own = calloc(1, len);
	if (!run->own)
		warn("calloc");
	return run->own;
}
