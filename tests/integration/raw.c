/* SPDX-License-Identifier: Apache-2.0 */
/* raw.c - plain TCP sockets of the host under test. */
#include "integration/raw.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "integration/bed.h"

static struct sockaddr_in make_address(uint16_t port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
	must(inet_pton(AF_INET, get_host(), &address.sin_addr) == 1, "host %s", get_host());
	return address;
}

int raw_listen(uint16_t *port)
{
	struct sockaddr_in address = make_address(0);
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	must(fd >= 0 && bind(fd, (struct sockaddr *)&address, len) == 0 && listen(fd, 16) == 0,
	     "%s", strerror(errno));
	must(getsockname(fd, (struct sockaddr *)&address, &len) == 0, "%s", strerror(errno));
	*port = ntohs(address.sin_port);
	return fd;
}

int raw_accept(int listener)
{
	struct pollfd pollfd = { .fd = listener, .events = POLLIN };
	must(poll(&pollfd, 1, (int)(PATIENCE_NS / MS)) == 1, "nobody calls");
	int fd = accept(listener, NULL, NULL);
	must(fd >= 0, "%s", strerror(errno));
	return fd;
}

int raw_try_connect(uint16_t port)
{
	struct sockaddr_in address = make_address(port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	must(fd >= 0, "%s", strerror(errno));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	close(fd);
	return -1;
}

int raw_connect(uint16_t port)
{
	int fd = raw_try_connect(port);
	must(fd >= 0, "%s", strerror(errno));
	return fd;
}

void raw_send(int fd, const void *bytes, size_t len)
{
	ssize_t sent = send(fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	(void)sent;
}

size_t raw_recv(int fd, void *bytes, size_t len, int64_t limit_ns)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };
	size_t used = 0;
	while (used < len && poll(&pollfd, 1, (int)(limit_ns / MS)) == 1) {
		ssize_t came = recv(fd, (char *)bytes + used, len - used, 0);
		if (came <= 0)
			break;
		used += (size_t)came;
	}
	return used;
}

bool raw_await_end(int fd, int64_t limit_ns)
{
	char bytes[512];
	int64_t until_ns = get_time_ns() + limit_ns;
	int64_t left_ns;
	while ((left_ns = until_ns - get_time_ns()) > 0) {
		struct pollfd pollfd = { .fd = fd, .events = POLLIN };
		if (poll(&pollfd, 1, (int)(left_ns / MS) + 1) == 1 &&
		    recv(fd, bytes, sizeof(bytes), 0) <= 0)
			return true;
	}
	return false;
}
