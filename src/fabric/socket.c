/* SPDX-License-Identifier: Apache-2.0 */
/*
 * socket.c - reaching the sockets that a provider keeps to itself: the listening one, and those it
 * accepted. It finds them by the listener's address, among those that the listener's event queue watches, and
 * leaves those that became lanes alone. The cost must not grow with the number of descriptors of the process;
 * exceptions are cleaning up after a misbehaving stranger, and a /proc that does not tell what an epoll watches.
 */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
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

static bool bound_listener(int fd, int whole_len)
{
	const struct timeval timeout = { .tv_usec = 20000 };
	return is_listening(fd) &&
	       setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) == 0 &&
	       setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &whole_len, sizeof(whole_len)) == 0;
}

static bool is_stray(int fd)
{
	return !is_listening(fd) && (fcntl(fd, F_GETFL) & O_NONBLOCK) == 0;
}

static bool end_stray(int fd, int unused)
{
	(void)unused;
	return is_stray(fd) && (shutdown(fd, SHUT_RDWR), true);
}

static bool close_stray(int fd, int unused)
{
	(void)unused;
	return is_stray(fd) && (close(fd), true);
}

/* ---- which sockets there are ---- */

/* Called for each socket of a search; false ends the search. */
typedef bool visit_fn(int fd, void *arg);

/* For every descriptor of this process. */
static void for_each_fd(visit_fn *visit, void *arg)
{
	DIR *dir = opendir("/proc/self/fd");
	bool goes_on = true;
	for (struct dirent *entry; dir != NULL && goes_on && (entry = readdir(dir)) != NULL;) {
		if (entry->d_name[0] != '.')
			goes_on = visit(atoi(entry->d_name), arg);
	}
	if (dir != NULL) {
		closedir(dir);
		return;
	}
	/* No descriptor is left to look with, or there is no /proc: try them one by one. */
	struct rlimit limit = { 0 };
	getrlimit(RLIMIT_NOFILE, &limit);
	for (int fd = 0; (rlim_t)fd < limit.rlim_cur && fd < INT_MAX && goes_on; fd++)
		goes_on = visit(fd, arg);
}

static FILE *open_watched(int epoll_fd)
{
	char name[64];
	snprintf(name, sizeof(name), "/proc/self/fdinfo/%d", epoll_fd);
	return fopen(name, "re");
}

/* The next descriptor that the epoll watches, and with what. False: there is no further one. */
static bool read_watched(FILE *info, int *fd, uint64_t *data)
{
	char line[128];
	unsigned long long with = 0;
	while (fgets(line, sizeof(line), info) != NULL)
		if (sscanf(line, "tfd: %d events: %*x data: %llx", fd, &with) == 2) {
			*data = with;
			return true;
		}
	return false;
}

/* For every descriptor that an epoll watches, and with depth 1 what those watch that are epolls. */
/* NOLINTNEXTLINE(misc-no-recursion): depth bounds it */
static void for_each_watched(int epoll_fd, unsigned depth, visit_fn *visit, void *arg)
{
	FILE *info = open_watched(epoll_fd);
	int fd;
	uint64_t data;
	while (info != NULL && read_watched(info, &fd, &data)) {
		if (!visit(fd, arg))
			break;
		if (depth > 0)
			for_each_watched(fd, depth - 1, visit, arg);
	}
	if (info != NULL)
		fclose(info);
}

bool kvi_socket_find_only(int epoll_fd, int *fd, uint64_t *data)
{
	FILE *info = open_watched(epoll_fd);
	int other;
	uint64_t others;
	if (info == NULL)
		return false;
	bool is_only = read_watched(info, fd, data) && !read_watched(info, &other, &others);
	fclose(info);
	return is_only;
}

/* ---- the sockets of a listener ---- */

typedef bool act_fn(int fd, int arg);

struct listener_search {
	const uint8_t *address;
	size_t len;
	act_fn *act;
	int arg;
	bool has_acted;
};

static bool act_on_bound(int fd, void *arg)
{
	struct listener_search *search = arg;
	if (is_bound_to(fd, search->address, search->len) && search->act(fd, search->arg))
		search->has_acted = true;
	return true;
}

/* For every socket with the local address, which is an IP address and port. */
static bool for_each_socket(int queue_fd, const uint8_t *address, size_t len, act_fn *act, int arg)
{
	struct listener_search search = { .address = address, .len = len, .act = act, .arg = arg };
	sa_family_t family;
	memcpy(&family, address, sizeof(family));
	if (family != AF_INET && family != AF_INET6)
		return false;
	if (queue_fd >= 0)
		for_each_watched(queue_fd, 1, act_on_bound, &search);
	else
		for_each_fd(act_on_bound, &search);
	return search.has_acted;
}

/*
 * A provider over TCP reads the connect message of an accepted socket with blocking calls, inside
 * fi_eq_read(): a stranger who sends half of one would block that thread as long as he likes.
 * Accepted sockets inherit both settings. The timeout has no effect on those that become lanes, as they are
 * non-blocking; the mark they lose when their request is taken.
 */
bool kvi_socket_bound_listener(int queue_fd, const uint8_t *address, size_t len, int whole_len)
{
	return for_each_socket(queue_fd, address, len, bound_listener, whole_len);
}

static bool unwatch_listener(int fd, int epoll_fd)
{
	return is_listening(fd) && epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL) == 0;
}

void kvi_socket_stop_accepting(int queue_fd, int epoll_fd, const uint8_t *address, size_t len)
{
	for_each_socket(queue_fd, address, len, unwatch_listener, epoll_fd);
}

/* The provider sees the end of each at its next progress, and frees it, which it does at no other
 * time: not when the listener is closed. */
bool kvi_socket_end_strays(int queue_fd, const uint8_t *address, size_t len)
{
	return for_each_socket(queue_fd, address, len, end_stray, 0);
}

/* What is left after that has come meanwhile, or the provider has forgotten it: it gave up waiting for the
 * rest of a message, and neither watches nor closes the socket any more. */
bool kvi_socket_close_strays(int queue_fd, const uint8_t *address, size_t len)
{
	return for_each_socket(queue_fd, address, len, close_stray, 0);
}

/* ---- those that have not said all ---- */

static bool is_listener(int fd, int unused)
{
	(void)unused;
	return is_listening(fd);
}

struct epoll_search {
	struct listener_search listener;
	int epoll_fd;
};

static bool search_in(int epoll_fd, void *arg)
{
	struct epoll_search *search = arg;
	for_each_watched(epoll_fd, 0, act_on_bound, &search->listener);
	if (search->listener.has_acted)
		search->epoll_fd = epoll_fd;
	return !search->listener.has_acted;
}

int kvi_socket_find_epoll(int queue_fd, const uint8_t *address, size_t len)
{
	struct epoll_search search = {
		.listener = { .address = address, .len = len, .act = is_listener },
		.epoll_fd = -1,
	};
	if (search_in(queue_fd, &search))
		for_each_watched(queue_fd, 0, search_in, &search);
	return search.epoll_fd;
}

struct accepted_search {
	const uint8_t *address;
	size_t len;
	int *fds;
	unsigned max;
	unsigned count;
};

static bool note_accepted(int fd, void *arg)
{
	struct accepted_search *search = arg;
	if (is_bound_to(fd, search->address, search->len) && !is_listening(fd))
		search->fds[search->count++] = fd;
	return search->count < search->max;
}

unsigned kvi_socket_list_accepted(int epoll_fd, const uint8_t *address, size_t len, int *fds,
				  unsigned max)
{
	struct accepted_search search = { .address = address, .len = len, .fds = fds, .max = max };
	for_each_watched(epoll_fd, 0, note_accepted, &search);
	return search.count;
}

/* ---- the socket of a connection ---- */

struct connection_search {
	const uint8_t *own;
	const uint8_t *peer;
	size_t len;
	int fd;
};

static bool match_connection(int fd, void *arg)
{
	struct connection_search *search = arg;
	if (!is_bound_to(fd, search->own, search->len) ||
	    !is_connected_to(fd, search->peer, search->len))
		return true;
	search->fd = fd;
	return false;
}

int kvi_socket_find(int queue_fd, const uint8_t *own, const uint8_t *peer, size_t len)
{
	struct connection_search search = { .own = own, .peer = peer, .len = len, .fd = -1 };
	for_each_watched(queue_fd, 1, match_connection, &search);
	if (search.fd < 0)
		for_each_fd(match_connection, &search);
	return search.fd;
}
