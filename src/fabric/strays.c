/* SPDX-License-Identifier: Apache-2.0 */
/*
 * strays.c - who has called a listener and has not said all of his request: most likely he is no lane. A provider that
 * reads requests with blocking calls hears of none before all of it is there (the low-water mark of the socket, which
 * accepted sockets inherit), so nobody can hold up the thread that takes requests. Those that wait are so many and no
 * more: then the older half goes. It never reads from a socket.
 */
#include <sys/socket.h>

#include "fabric/internal.h"

enum { MANY = 16, SKIP_MAX = 16 };

void kvi_strays_open(struct kvi_ofi_listener *listener)
{
	listener->strays.epoll_fd = listener->is_watching
					    ? kvi_socket_find_epoll(listener->base.fd,
								    listener->base.address,
								    listener->base.address_len)
					    : -1;
}

/* What tells a socket from all others that there ever are; 0: the kernel does not tell. */
static uint64_t get_cookie(int fd)
{
	uint64_t cookie = 0;
	socklen_t size = sizeof(cookie);
	return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) == 0 ? cookie : 0;
}

static bool is_old(const struct kvi_strays *strays, uint64_t cookie)
{
	for (unsigned i = 0; i < strays->old_count; i++)
		if (strays->old[i] == cookie)
			return true;
	return false;
}

/* The provider finds their end, and closes them. A lane that calls now has said all long before its turn comes. */
static void end_old(struct kvi_strays *strays)
{
	for (unsigned i = 0; i < strays->count; i++)
		if (is_old(strays, get_cookie(strays->fds[i])))
			shutdown(strays->fds[i], SHUT_RDWR);
	strays->old_count = 0;
}

static void note_old(struct kvi_strays *strays)
{
	while (strays->old_count < KVI_STRAYS_MAX / 2) {
		strays->old[strays->old_count] = get_cookie(strays->fds[strays->old_count]);
		strays->old_count++;
	}
}

void kvi_strays_look(struct kvi_ofi_listener *listener)
{
	struct kvi_strays *strays = &listener->strays;
	if (!listener->rail->profile->strays || strays->epoll_fd < 0)
		return;
	/* The provider accepts one at a time: looking at many each time, it would accept too slowly for a flood. */
	if (strays->count >= MANY && ++strays->skipped < SKIP_MAX)
		return;
	strays->skipped = 0;
	strays->count = kvi_socket_list_accepted(strays->epoll_fd, listener->base.address,
						 listener->base.address_len, strays->fds,
						 KVI_STRAYS_MAX);
	if (strays->count == KVI_STRAYS_MAX && strays->old_count > 0)
		end_old(strays);
	else if (strays->count >= KVI_STRAYS_MAX / 2 && strays->old_count == 0)
		note_old(strays);
}
