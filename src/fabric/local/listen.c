/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listen.c - a UNIX socket that lanes are asked for at. Its name is in the network namespace, not in a
 * file system: containers of one pod share the former, and nothing is left of a process that was killed. Who has
 * another user id is shut out at once; who says nothing takes one of a few places, and the oldest gives way.
 */
#define _GNU_SOURCE 1 /* accept4, struct ucred */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/log.h"
#include "fabric/local/local.h"

enum { CALLERS_MAX = 256, NAME_WORDS = 2 };

struct caller {
	struct kvi_list node;
	int socket;
	pid_t pid;
};

/* ---- sockets ---- */

ssize_t kvi_local_receive(int socket, void *bytes, size_t len, int *fd)
{
	union {
		struct cmsghdr head;
		uint8_t bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { bytes, len };
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = CMSG_LEN(sizeof(int)), /* no room for a second one */
	};
	*fd = -1;
	ssize_t got = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (got < 0)
		return got;
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);
	if (head != NULL && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS &&
	    head->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(fd, CMSG_DATA(head), sizeof(*fd));
	return got;
}

ssize_t kvi_local_send(int socket, const void *bytes, size_t len, int fd)
{
	union {
		struct cmsghdr head;
		uint8_t bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { (void *)(uintptr_t)bytes, len };
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	memset(&control, 0, sizeof(control));
	control.head = (struct cmsghdr){
		.cmsg_len = CMSG_LEN(sizeof(int)),
		.cmsg_level = SOL_SOCKET,
		.cmsg_type = SCM_RIGHTS,
	};
	memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
	return sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

bool kvi_local_check_peer(int socket, pid_t *pid)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);
	if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0)
		return false;
	*pid = peer.pid;
	return peer.uid == geteuid();
}

/* ---- listeners ---- */

/* A name that nobody can guess, and so nobody takes before us. */
static socklen_t make_name(struct sockaddr_un *address)
{
	uint64_t words[NAME_WORDS];
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (getrandom(words, sizeof(words), 0) != (ssize_t)sizeof(words))
		return 0;
	int len = snprintf(address->sun_path + 1, sizeof(address->sun_path) - 1,
			   KVI_LOCAL_NAME "%016llx%016llx", (unsigned long long)words[0],
			   (unsigned long long)words[1]);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len);
}

static const char *open_sockets(struct kvi_local_listener *listener)
{
	struct sockaddr_un address;
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = NULL };
	socklen_t len = make_name(&address);
	if (len == 0)
		return "getrandom";
	listener->socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (listener->socket < 0)
		return "socket";
	if (bind(listener->socket, (struct sockaddr *)&address, len) != 0)
		return "bind";
	if (listen(listener->socket, SOMAXCONN) != 0)
		return "listen";
	listener->base.fd = epoll_create1(EPOLL_CLOEXEC);
	if (listener->base.fd < 0)
		return "epoll_create1";
	if (epoll_ctl(listener->base.fd, EPOLL_CTL_ADD, listener->socket, &event) != 0)
		return "epoll_ctl";
	memcpy(listener->base.address, &address, len);
	listener->base.address_len = len;
	return NULL;
}

enum kvt_err kvi_local_listener_open(struct kvi_rail *base, struct kvi_ports ports,
				     struct kvi_listener **listener, struct kvt_error *error)
{
	struct kvi_local_listener *opened = kvi_alloc(sizeof(*opened));
	(void)ports;
	if (opened == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "out of memory");
	opened->rail = kvi_local_rail(base);
	opened->base.fabric = &kvi_local_fabric;
	opened->base.fd = opened->socket = -1;
	kvi_list_init(&opened->callers);
	const char *failed = open_sockets(opened);
	if (failed != NULL) {
		int err = errno;
		kvi_local_listener_close(&opened->base);
		return kvi_fail(error, err == EMFILE || err == ENFILE ? KVT_E_LIMIT : KVT_E_FABRIC,
				err, "%s: %s", failed, strerror(err));
	}
	*listener = &opened->base;
	return KVT_OK;
}

/* Its socket stays open. */
static void forget_caller(struct kvi_local_listener *listener, struct caller *caller)
{
	kvi_list_remove(&caller->node);
	listener->caller_count--;
	kvi_free(caller);
}

static void drop_caller(struct kvi_local_listener *listener, struct caller *caller)
{
	close(caller->socket); /* which takes it out of the epoll, too */
	forget_caller(listener, caller);
}

void kvi_local_listener_close(struct kvi_listener *base)
{
	struct kvi_local_listener *listener = kvi_local_listener(base);
	struct kvi_list *node;
	while ((node = kvi_list_get_first(&listener->callers)) != NULL)
		drop_caller(listener, kvi_container_of(node, struct caller, node));
	if (listener->socket >= 0)
		close(listener->socket);
	if (listener->base.fd >= 0)
		close(listener->base.fd);
	kvi_free(listener);
}

/* ---- requests ---- */

/* One that called; false when there is none, or no descriptor for it. */
static bool take_caller(struct kvi_local_listener *listener)
{
	int socket = accept4(listener->socket, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	listener->base.lacks_fds = socket < 0 && (errno == EMFILE || errno == ENFILE);
	if (socket < 0)
		return false;
	struct caller *caller = kvi_alloc(sizeof(*caller));
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = caller };
	pid_t pid;
	if (caller == NULL || !kvi_local_check_peer(socket, &pid) ||
	    epoll_ctl(listener->base.fd, EPOLL_CTL_ADD, socket, &event) != 0) {
		close(socket);
		kvi_free(caller);
		return true;
	}
	if (listener->caller_count == CALLERS_MAX)
		drop_caller(listener, kvi_container_of(kvi_list_get_first(&listener->callers),
						       struct caller, node));
	caller->socket = socket;
	caller->pid = pid;
	kvi_list_append(&listener->callers, &caller->node);
	listener->caller_count++;
	return true;
}

static struct kvi_local_request *make_request(const struct caller *caller,
					      const struct kvi_local_hello *hello, int fd)
{
	struct kvi_local_request *request = kvi_alloc(sizeof(*request));
	struct kvt_error error;
	if (request == NULL) {
		close(fd);
		return NULL;
	}
	if (kvi_ring_take_over(&request->ring, fd, &error) != KVT_OK) {
		kvi_log(KVI_LOG_DEBUG, "lane-refused", "%s", error.text);
		kvi_free(request);
		return NULL;
	}
	request->base.fabric = &kvi_local_fabric;
	request->base.len = hello->len;
	memcpy(request->base.data, hello->data, hello->len);
	request->socket = caller->socket;
	request->pid = caller->pid;
	return request;
}

/* What a caller has said; it is a caller no more. NULL: nothing that makes a lane. */
static struct kvi_local_request *hear(struct kvi_local_listener *listener, struct caller *caller)
{
	struct kvi_local_hello hello;
	struct kvi_local_request *request = NULL;
	int fd;
	ssize_t got = kvi_local_receive(caller->socket, &hello, sizeof(hello), &fd);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return NULL;
	bool is_right = got == (ssize_t)sizeof(hello) && fd >= 0 &&
			hello.magic == KVI_LOCAL_HELLO_MAGIC && hello.ring_len == KVI_RING_LEN &&
			hello.len <= KVI_LANE_DATA_LEN_MAX;
	if (is_right)
		request = make_request(caller, &hello, fd);
	else if (fd >= 0)
		close(fd);
	if (request == NULL) {
		drop_caller(listener, caller);
		return NULL;
	}
	epoll_ctl(listener->base.fd, EPOLL_CTL_DEL, caller->socket, NULL);
	forget_caller(listener, caller);
	return request;
}

struct kvi_lane_request *kvi_local_listener_take(struct kvi_listener *base)
{
	struct kvi_local_listener *listener = kvi_local_listener(base);
	struct epoll_event event;
	listener->base.lacks_fds = false;
	/* Each turn takes a caller or hears one: so many turns hear one of those that there were. */
	for (unsigned turn = 0; turn <= 2 * CALLERS_MAX; turn++) {
		if (epoll_wait(listener->base.fd, &event, 1, 0) != 1)
			return NULL;
		if (event.data.ptr == NULL) {
			if (!take_caller(listener))
				return NULL;
			continue;
		}
		struct kvi_local_request *request = hear(listener, event.data.ptr);
		if (request != NULL)
			return &request->base;
	}
	return NULL;
}

void kvi_local_lane_request_reject(struct kvi_lane_request *base)
{
	struct kvi_local_request *request = kvi_local_request(base);
	close(request->socket);
	kvi_ring_close(&request->ring);
	kvi_free(request);
}
