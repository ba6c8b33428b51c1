/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cable.c - see cable.h.
 */
#define _GNU_SOURCE 1 /* unshare */
#include "cable.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* In a child: it has a namespace of its own. */
bool can_lay_cable(const char *command)
{
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0)
		_exit(unshare(CLONE_NEWNET) == 0 &&
				      system("ip link add " CABLE " type veth peer name kvt1 "
					     ">/dev/null 2>&1") == 0 &&
				      (command == NULL || system(command) == 0)
			      ? 0
			      : 1);
	int status = 1;
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

void lay_cable(struct peer *one, struct peer *other)
{
	char command[200];
	peer_hear(one);
	peer_hear(other);
	snprintf(command, sizeof(command),
		 "ip link add " CABLE " netns %d type veth peer name " CABLE " netns %d", one->pid,
		 other->pid);
	must(system(command) == 0, "no cable");
	peer_tell(one, 0);
	peer_tell(other, 0);
}

static bool set_address(const char *host)
{
	struct ifreq request = { .ifr_name = CABLE };
	struct sockaddr_in *address = (struct sockaddr_in *)&request.ifr_addr;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	address->sin_family = AF_INET;
	inet_pton(AF_INET, host, &address->sin_addr);
	bool is_set = ioctl(fd, SIOCSIFADDR, &request) == 0;
	close(fd);
	return is_set;
}

bool set_link(const char *name, bool up)
{
	struct ifreq request = { 0 };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	bool is_set = ioctl(fd, SIOCGIFFLAGS, &request) == 0;
	request.ifr_flags = (short)(up ? request.ifr_flags | IFF_UP : request.ifr_flags & ~IFF_UP);
	is_set = is_set && ioctl(fd, SIOCSIFFLAGS, &request) == 0;
	close(fd);
	return is_set;
}

void connect_cable(struct peer *test, const char *host)
{
	must(unshare(CLONE_NEWNET) == 0, "%s", strerror(errno));
	peer_tell(test, 0);
	peer_hear(test);
	must(set_link("lo", true) && set_address(host) && set_link(CABLE, true), "%s",
	     strerror(errno));
}
