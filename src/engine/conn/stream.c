/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream.c - reading and writing a control channel's socket.
 */
#include "engine/conn/stream.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"

void kvi_stream_init(struct kvi_stream *stream, int fd, int epoll_fd, void *what)
{
	int one = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	/* Heartbeats share a full queue with the lanes' bytes, which drops some of them: each waits for its
	 * next try as long as for the first, not for twice that. */
	setsockopt(fd, IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, &one, sizeof(one));
	stream->in_room = KVI_STREAM_LEN;
	stream->fd = fd;
	stream->epoll_fd = epoll_fd;
	stream->what = what;
}

void kvi_stream_close(struct kvi_stream *stream)
{
	if (stream->fd >= 0) {
		/* A forked child may have it, too: then close() alone neither ends the watch nor tells the peer. */
		epoll_ctl(stream->epoll_fd, EPOLL_CTL_DEL, stream->fd, NULL);
		shutdown(stream->fd, SHUT_RDWR);
		close(stream->fd);
	}
	stream->fd = -1;
}

void kvi_stream_free(struct kvi_stream *stream)
{
	kvi_free(stream->in);
	kvi_free(stream->out);
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

/* A buffer that is needed now. */
static bool make_buffer(uint8_t **buffer, size_t len)
{
	if (*buffer == NULL)
		*buffer = kvi_alloc_data(len);
	return *buffer != NULL;
}

/* The first len of *used bytes are done with; a buffer without any goes. */
static void drop_first(uint8_t **buffer, size_t *used, size_t len)
{
	*used -= len;
	if (*used > 0) {
		memmove(*buffer, *buffer + len, *used);
		return;
	}
	kvi_free(*buffer);
	*buffer = NULL;
}

enum kvi_stream_result kvi_stream_read(struct kvi_stream *stream, int *socket_errno)
{
	ssize_t len;
	if (!make_buffer(&stream->in, stream->in_room)) {
		*socket_errno = ENOMEM;
		return KVI_STREAM_LOST;
	}
	do
		len = recv(stream->fd, stream->in + stream->in_len,
			   stream->in_room - stream->in_len, 0);
	while (len < 0 && errno == EINTR);
	if (len > 0) {
		stream->in_len += (size_t)len;
		return KVI_STREAM_OK;
	}
	int recv_errno = len < 0 ? errno : 0;
	if (stream->in_len == 0)
		drop_first(&stream->in, &stream->in_len, 0);
	if (recv_errno == EAGAIN)
		return KVI_STREAM_EMPTY;
	*socket_errno = recv_errno;
	/* Level-triggered: watched on, a dead socket would wake us again and again. */
	epoll_ctl(stream->epoll_fd, EPOLL_CTL_DEL, stream->fd, NULL);
	return KVI_STREAM_LOST;
}

void kvi_stream_consume(struct kvi_stream *stream, size_t len)
{
	drop_first(&stream->in, &stream->in_len, len);
	if (stream->in == NULL)
		stream->in_room = KVI_STREAM_LEN;
}

bool kvi_stream_reserve(struct kvi_stream *stream, size_t len)
{
	if (len <= stream->in_room)
		return true;
	uint8_t *larger = kvi_alloc_data(len);
	if (larger == NULL)
		return false;
	memcpy(larger, stream->in, stream->in_len);
	kvi_free(stream->in);
	stream->in = larger;
	stream->in_room = len;
	return true;
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
			*socket_errno = errno;
			drop_first(&stream->out, &stream->out_len, stream->out_len);
			return KVI_STREAM_LOST;
		}
		drop_first(&stream->out, &stream->out_len, (size_t)sent);
	}
	watch_writes(stream, stream->out_len > 0);
	return KVI_STREAM_OK;
}

bool kvi_stream_make_room(struct kvi_stream *stream, size_t len)
{
	return len <= KVI_STREAM_LEN - stream->out_len && make_buffer(&stream->out, KVI_STREAM_LEN);
}

enum kvi_stream_result kvi_stream_send(struct kvi_stream *stream, const void *bytes, size_t len,
				       int *socket_errno)
{
	if (!kvi_stream_make_room(stream, len)) {
		*socket_errno = ENOBUFS;
		return KVI_STREAM_LOST;
	}
	memcpy(stream->out + stream->out_len, bytes, len);
	stream->out_len += len;
	return kvi_stream_flush(stream, socket_errno);
}
