/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream.c - reading and writing a control channel's socket.
 */
#include "engine/stream.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

void kvi_stream_init(struct kvi_stream *stream, int fd, int epoll_fd, void *what)
{
	int one = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	/* Heartbeats share a full queue with the lanes' bytes, which drops some of them: each waits for its
	 * next try as long as for the first, not for twice that. */
	setsockopt(fd, IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, &one, sizeof(one));
	stream->fd = fd;
	stream->epoll_fd = epoll_fd;
	stream->what = what;
}

void kvi_stream_close(struct kvi_stream *stream)
{
	if (stream->fd >= 0)
		close(stream->fd);
	stream->fd = -1;
}

void kvi_stream_forget(struct kvi_stream *stream)
{
	stream->fd = -1;
}

bool kvi_stream_watch(struct kvi_stream *stream)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = stream->what };
	return epoll_ctl(stream->epoll_fd, EPOLL_CTL_ADD, stream->fd, &event) == 0;
}

static void watch_writes(struct kvi_stream *stream, bool wants)
{
	if (stream->wants_write == wants)
		return;
	struct epoll_event event = {
		.events = EPOLLIN | (wants ? EPOLLOUT : 0),
		.data.ptr = stream->what,
	};
	epoll_ctl(stream->epoll_fd, EPOLL_CTL_MOD, stream->fd, &event);
	stream->wants_write = wants;
}

enum kvi_stream_result kvi_stream_read(struct kvi_stream *stream, int *socket_errno)
{
	ssize_t len;
	do
		len = recv(stream->fd, stream->in + stream->in_len,
			   sizeof(stream->in) - stream->in_len, 0);
	while (len < 0 && errno == EINTR);
	if (len > 0) {
		stream->in_len += (size_t)len;
		return KVI_STREAM_OK;
	}
	if (len < 0 && errno == EAGAIN)
		return KVI_STREAM_EMPTY;
	*socket_errno = len < 0 ? errno : 0;
	/* Level-triggered: watched on, a dead socket would wake us again and again. */
	epoll_ctl(stream->epoll_fd, EPOLL_CTL_DEL, stream->fd, NULL);
	return KVI_STREAM_LOST;
}

void kvi_stream_consume(struct kvi_stream *stream, size_t len)
{
	stream->in_len -= len;
	memmove(stream->in, stream->in + len, stream->in_len);
}

enum kvi_stream_result kvi_stream_flush(struct kvi_stream *stream, int *socket_errno)
{
	while (stream->out_len > 0) {
		ssize_t sent = send(stream->fd, stream->out, stream->out_len, MSG_NOSIGNAL);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0 && errno == EAGAIN)
			break;
		if (sent < 0) {
			stream->out_len = 0;
			*socket_errno = errno;
			return KVI_STREAM_LOST;
		}
		stream->out_len -= (size_t)sent;
		memmove(stream->out, stream->out + sent, stream->out_len);
	}
	watch_writes(stream, stream->out_len > 0);
	return KVI_STREAM_OK;
}

enum kvi_stream_result kvi_stream_send(struct kvi_stream *stream, const void *bytes, size_t len,
				       int *socket_errno)
{
	if (len > sizeof(stream->out) - stream->out_len) {
		*socket_errno = ENOBUFS;
		return KVI_STREAM_LOST;
	}
	memcpy(stream->out + stream->out_len, bytes, len);
	stream->out_len += len;
	return kvi_stream_flush(stream, socket_errno);
}
