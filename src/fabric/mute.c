/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mute.c - the wake-up of a completion queue. Some providers write a byte to a socket pair, which the queue's descriptor
 * watches, for each batch that completes, and read it when they are asked next: two system calls for a message, whether
 * anybody sleeps or not. While a queue is read again and again nobody does. So its descriptor, an epoll, watches the
 * pair no more: the byte stays, and no further one is written. Nor is the descriptor watched itself: else the kernel
 * passes each packet that comes on through the cq's epoll to the worker's. Before anybody sleeps both are watched again.
 * The descriptor watches the sockets of lanes all the time.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "fabric/internal.h"

/* Polls in a row from which on it is worth two system calls. */
enum { POLLS_TO_MUTE = 16 };

static bool is_unix_socket(int fd)
{
	int domain = 0;
	socklen_t size = sizeof(domain);
	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX;
}

void kvi_mute_open(struct kvi_queue *queue)
{
	queue->pair_fd = -1;
	if (!FI_VERSION_LT(fi_version(), queue->cq->rail->profile->pairs_before))
		return;
	/* As long as it has no lanes the pair is all that it watches. */
	int fd;
	if (kvi_socket_find_only(queue->fd, &fd, &queue->pair_data) && is_unix_socket(fd))
		queue->pair_fd = fd;
}

static bool watch_pair(struct kvi_queue *queue, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.u64 = queue->pair_data };
	queue->polls = 0;
	return epoll_ctl(queue->fd, EPOLL_CTL_MOD, queue->pair_fd, &event) == 0;
}

void kvi_mute_count(struct kvi_queue *queue)
{
	bool may = queue->pair_fd >= 0 && !queue->is_muted && !queue->cq->is_forgotten;
	if (may && ++queue->polls >= POLLS_TO_MUTE)
		queue->is_muted = watch_pair(queue, 0) && kvi_queue_unwatch(queue);
}

bool kvi_mute_end(struct kvi_queue *queue)
{
	queue->polls = 0;
	if (!queue->is_muted || queue->cq->is_forgotten)
		return true;
	/* Descriptors that are not ours any more tell nobody anything: who sleeps finds out. */
	queue->is_muted = watch_pair(queue, EPOLLIN) && !kvi_queue_watch(queue) &&
			  (errno == ENOMEM || errno == ENOSPC);
	return !queue->is_muted;
}
