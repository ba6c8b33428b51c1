/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream.h - a non-blocking socket with a buffer each way, watched by an epoll. It knows bytes, not
 * frames. One thread at a time.
 */
#ifndef KVI_ENGINE_STREAM_H
#define KVI_ENGINE_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { KVI_STREAM_LEN = 4096 };

struct kvi_stream {
	int fd;
	int epoll_fd;
	void *what; /* the epoll's name for it */
	bool wants_write;
	size_t in_len;
	size_t out_len;
	size_t in_room; /* KVI_STREAM_LEN, but where more was asked for */
	uint8_t *in;	/* there only while something is in it, as out, which has KVI_STREAM_LEN */
	uint8_t *out;
};

enum kvi_stream_result {
	KVI_STREAM_OK,
	KVI_STREAM_EMPTY, /* nothing to read now */
	KVI_STREAM_LOST,
};

/* Takes fd, which is non-blocking, over; it is not watched yet. */
void kvi_stream_init(struct kvi_stream *stream, int fd, int epoll_fd, void *what);

/* Close the socket. What was read stays until the stream is freed. */
void kvi_stream_close(struct kvi_stream *stream);
void kvi_stream_free(struct kvi_stream *stream);

/* The descriptor is not ours any more: to us, the stream is lost. */
void kvi_stream_forget(struct kvi_stream *stream);

/* Watch for input. False without resources. */
bool kvi_stream_watch(struct kvi_stream *stream);

/*
 * Read once, behind what is in the buffer; the caller keeps room. LOST: socket_errno is why, 0 at the
 * end of the stream; it is not watched any more.
 */
enum kvi_stream_result kvi_stream_read(struct kvi_stream *stream, int *socket_errno);

/* Have room for so much input at once, as long as there is some. False: no memory. */
bool kvi_stream_reserve(struct kvi_stream *stream, size_t len);

/* Drop the first len bytes of the input. */
void kvi_stream_consume(struct kvi_stream *stream, size_t len);

/* Have room to send so much. False: there is too much unsent already, or no memory. */
bool kvi_stream_make_room(struct kvi_stream *stream, size_t len);

/* Send, as far as the socket takes it; the rest waits in the buffer. LOST also when that is full. */
enum kvi_stream_result kvi_stream_send(struct kvi_stream *stream, const void *bytes, size_t len,
				       int *socket_errno);

/* Send what waits. */
enum kvi_stream_result kvi_stream_flush(struct kvi_stream *stream, int *socket_errno);

#endif
