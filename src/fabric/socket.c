/* SPDX-License-Identifier: Apache-2.0 */
/*
 * socket.c - reaching the sockets that a provider keeps to itself: the listening one, and those it
 * accepted. It finds them by the listener's address, and leaves those that became lanes alone.
 */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "fabric/internal.h"

static bool is_bound_to(int fd, const uint8_t *address, size_t len)
{
	struct sockaddr_storage own = { .ss_family = AF_UNSPEC };
	socklen_t size = sizeof(own);
	return getsockname(fd, (struct sockaddr *)&own, &size) == 0 && size == len &&
	       memcmp(&own, address, len) == 0;
}

static bool is_connected_to(int fd, const uint8_t *address, size_t len)
{
	struct sockaddr_storage peer = { .ss_family = AF_UNSPEC };
	socklen_t size = sizeof(peer);
	return getpeername(fd, (struct sockaddr *)&peer, &size) == 0 && size == len &&
	       memcmp(&peer, address, len) == 0;
}

static bool is_listening(int fd)
{
	int listening = 0;
	socklen_t size = sizeof(listening);
	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) == 0 && listening != 0;
}

static void bound_listener(int fd)
{
	const struct timeval timeout = { .tv_usec = 20000 };
	if (is_listening(fd))
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
}

static bool is_stray(int fd)
{
	return !is_listening(fd) && (fcntl(fd, F_GETFL) & O_NONBLOCK) == 0;
}

static void end_stray(int fd)
{
	if (is_stray(fd))
		shutdown(fd, SHUT_RDWR);
}

static void close_stray(int fd)
{
	if (is_stray(fd))
		close(fd);
}

/* For every socket of this process with the local address, which is an IP address and port. */
static void for_each_socket(const uint8_t *address, size_t len, void (*visit)(int fd))
{
	sa_family_t family;
	memcpy(&family, address, sizeof(family));
	DIR *dir = family == AF_INET || family == AF_INET6 ? opendir("/proc/self/fd") : NULL;
	if (dir == NULL)
		return;
	for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
		int fd = atoi(entry->d_name);
		if (entry->d_name[0] != '.' && is_bound_to(fd, address, len))
			visit(fd);
	}
	closedir(dir);
}

/*
 * A provider over TCP reads the connect message of an accepted socket with blocking calls, inside
 * fi_eq_read(): a stranger who sends half of one would hold that thread for as long as he likes.
 * Accepted sockets inherit the timeout; those that become lanes are non-blocking, and do not mind
 * it.
 */
void kvi_socket_bound_listener(const uint8_t *address, size_t len)
{
	for_each_socket(address, len, bound_listener);
}

/* The provider sees the end of each at its next progress, and frees it, which it does at no other
 * time: not when the listener is closed. */
void kvi_socket_end_strays(const uint8_t *address, size_t len)
{
	for_each_socket(address, len, end_stray);
}

/* What is left after that, the provider has forgotten: it gave up waiting for the rest of a
 * message, and neither watches nor closes the socket any more. */
void kvi_socket_close_strays(const uint8_t *address, size_t len)
{
	for_each_socket(address, len, close_stray);
}

int kvi_socket_find(const uint8_t *own, const uint8_t *peer, size_t len)
{
	DIR *dir = opendir("/proc/self/fd");
	int found = -1;
	for (struct dirent *entry; dir != NULL && found < 0 && (entry = readdir(dir)) != NULL;) {
		int fd = atoi(entry->d_name);
		if (entry->d_name[0] != '.' && is_bound_to(fd, own, len) &&
		    is_connected_to(fd, peer, len))
			found = fd;
	}
	if (dir != NULL) {
		closedir(dir);
		return found;
	}
	/* No descriptor is left to look with, or there is no /proc: try them one by one. */
	struct rlimit limit = { 0 };
	getrlimit(RLIMIT_NOFILE, &limit);
	for (int fd = 0; (rlim_t)fd < limit.rlim_cur && fd < INT_MAX && found < 0; fd++) {
		if (is_bound_to(fd, own, len) && is_connected_to(fd, peer, len))
			found = fd;
	}
	return found;
}
