/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw_tcp.c - see raw_tcp.h. It sends nothing on the connection.
 */
#include "raw_tcp.h"

#include <arpa/inet.h>
#include <err.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

static int set_nodelay(int fd)
{
	int on = 1;

	return setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

int raw_tcp_accept(const struct raw_options *options, int control)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t len = sizeof(address);
	int fd = -1;

	if (inet_pton(AF_INET, options->host, &address.sin_addr) != 1) {
		warnx("%s is no IPv4 address", options->host);
		return -1;
	}
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&address, len) ||
	    listen(listener, 1) || getsockname(listener, (struct sockaddr *)&address, &len))
		warn("listening on %s", options->host);
	else if (!raw_put(control, &address, sizeof(address)))
		fd = accept(listener, NULL, NULL);
	if (listener >= 0)
		close(listener);
	if (fd >= 0 && set_nodelay(fd))
		warn("TCP_NODELAY");
	return fd;
}

int raw_tcp_connect(int control)
{
	struct sockaddr_in address;

	if (raw_get(control, &address, sizeof(address)))
		return -1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) ||
	    set_nodelay(fd)) {
		warn("connecting");
		if (fd >= 0)
			close(fd);
		return -1;
	}
	return fd;
}
