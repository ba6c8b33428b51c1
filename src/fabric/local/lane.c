/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lane.c - making, driving and closing lanes. Closing, or losing one, first ends what the peer does with our
 * memory, then hands back every operation.
 */
#define _GNU_SOURCE 1 /* EPOLLRDHUP */
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/error.h"
#include "fabric/local/local.h"

enum {
	TURN_LEN = 1024 * 1024,
	ACCEPTED = 'a',
	WAKES_READ = 8,
	LOOK_EACH = 64, /* polls that find nothing */
};

bool kvi_local_lane_has_socket(const struct kvi_local_lane *lane)
{
	return lane->socket >= 0 && kvi_file_is(lane->socket, &lane->socket_file);
}

/* ---- opening ---- */

static struct kvi_local_lane *make_lane(struct kvi_local_cq *cq, void *context)
{
	struct kvi_local_lane *lane = kvi_alloc(sizeof(*lane));
	if (lane == NULL)
		return NULL;
	struct kvi_list *const lists[] = { &lane->awake_node, &lane->event_node, &lane->unput,
					   &lane->awaited,    &lane->granted,	 &lane->asked,
					   &lane->receives };
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		kvi_list_init(lists[i]);
	lane->base.fabric = &kvi_local_fabric;
	lane->cq = cq;
	lane->context = context;
	lane->socket = -1;
	lane->ring.fd = -1;
	lane->self = lane;
	HASH_ADD_PTR(cq->lanes, self, lane);
	if (lane->hh.tbl == NULL) {
		kvi_free(lane);
		return NULL;
	}
	return lane;
}

static void free_lane(struct kvi_local_lane *lane)
{
	HASH_DEL(lane->cq->lanes, lane);
	kvi_local_drop_maps(lane);
	if (kvi_local_lane_has_socket(lane))
		close(lane->socket);
	kvi_ring_close(&lane->ring);
	kvi_free(lane);
}

/* A word that the peer can try to read. */
static void offer_probe(struct kvi_local_lane *lane)
{
	if (getrandom(&lane->probe, sizeof(lane->probe), 0) != (ssize_t)sizeof(lane->probe))
		return; /* it will not be right, and bytes come in the ring */
	atomic_store(&lane->ring.own->probe_value, lane->probe);
	atomic_store(&lane->ring.own->probe_address, (uintptr_t)&lane->probe);
}

static void take_over(struct kvi_local_lane *lane, struct kvi_local_request *request)
{
	lane->answers = true;
	lane->ring = request->ring;
	lane->socket = request->socket;
	lane->socket_file = kvi_file_identify(lane->socket);
	lane->pid = request->pid;
	kvi_free(request);
}

/* Whether it is the name of a listener like ours (listen.c). */
static bool is_listener(const uint8_t *address, size_t len)
{
	static const char begin[] = "\0" KVI_LOCAL_NAME;
	struct sockaddr_un name;
	if (len < offsetof(struct sockaddr_un, sun_path) + sizeof(begin) || len > sizeof(name))
		return false;
	memcpy(&name, address, len);
	return name.sun_family == AF_UNIX && memcmp(name.sun_path, begin, sizeof(begin) - 1) == 0;
}

enum kvt_err kvi_local_lane_open(struct kvi_cq *cq_base, const uint8_t *address, size_t address_len,
				 struct kvi_lane_request *request_base, void *context,
				 struct kvi_lane **lane_out, struct kvt_error *error)
{
	struct kvi_local_cq *cq = kvi_local_cq(cq_base);
	if (address != NULL && !is_listener(address, address_len))
		return kvi_fail(error, KVT_E_UNREACHABLE, 0,
				"the peer's address is none of a process of this host");
	if (cq->is_forgotten)
		return kvi_fail(error, KVT_E_CLOSED, EBADF, "the descriptors were closed");
	struct kvi_local_lane *lane = make_lane(cq, context);
	if (lane == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "out of memory");
	if (address != NULL) {
		enum kvt_err err = kvi_ring_make(&lane->ring, error);
		if (err != KVT_OK) {
			free_lane(lane);
			return err;
		}
		memcpy(lane->address, address, address_len);
		lane->address_len = address_len;
	} else {
		take_over(lane, kvi_local_request(request_base));
	}
	offer_probe(lane);
	*lane_out = &lane->base;
	return KVT_OK;
}

/* ---- connecting ---- */

static void note_connected(struct kvi_local_lane *lane)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLRDHUP, .data.ptr = lane };
	kvi_local_probe(lane);
	if (epoll_ctl(lane->cq->epoll_fd, EPOLL_CTL_ADD, lane->socket, &event) != 0) {
		kvi_local_lane_lose(lane, KVT_E_FABRIC, errno);
		return;
	}
	lane->state = KVI_LOCAL_CONNECTED;
	lane->connected_pending = true;
	kvi_local_lane_tell(lane);
	kvi_local_lane_wake(lane);
}

/* Say hello, with the ring's descriptor. 0 or an errno. */
static int send_hello(struct kvi_local_lane *lane, const uint8_t *data, size_t len)
{
	struct kvi_local_hello hello = {
		.magic = KVI_LOCAL_HELLO_MAGIC,
		.ring_len = KVI_RING_LEN,
		.len = (uint32_t)len,
	};
	if (len > 0)
		memcpy(hello.data, data, len);
	return kvi_local_send(lane->socket, &hello, sizeof(hello), lane->ring.fd) < 0 ? errno : 0;
}

/* Call the listener. 0 or an errno. */
static int call(struct kvi_local_lane *lane, const uint8_t *data, size_t len)
{
	struct sockaddr_un address;
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = lane };
	memcpy(&address, lane->address, lane->address_len);
	lane->socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (lane->socket < 0)
		return errno;
	lane->socket_file = kvi_file_identify(lane->socket);
	if (connect(lane->socket, (const struct sockaddr *)&address,
		    (socklen_t)lane->address_len) != 0)
		return errno;
	if (!kvi_local_check_peer(lane->socket, &lane->pid))
		return EPERM;
	int err = send_hello(lane, data, len);
	if (err == 0 &&
	    epoll_ctl(lane->cq->events_epoll_fd, EPOLL_CTL_ADD, lane->socket, &event) != 0)
		err = errno;
	return err;
}

static int answer(struct kvi_local_lane *lane)
{
	static const uint8_t byte = ACCEPTED;
	ssize_t ret = send(lane->socket, &byte, sizeof(byte), MSG_NOSIGNAL);
	return ret < 0 ? errno : 0;
}

enum kvt_err kvi_local_lane_connect(struct kvi_lane *base, const uint8_t *data, size_t len,
				    struct kvt_error *error)
{
	struct kvi_local_lane *lane = kvi_local_lane(base);
	lane->state = KVI_LOCAL_CONNECTING;
	int err = lane->answers ? answer(lane) : call(lane, data, len);
	if (err == EMFILE || err == ENFILE)
		return kvi_fail(error, KVT_E_LIMIT, err, "socket: %s", strerror(err));
	if (err != 0)
		kvi_local_lane_lose(lane, KVT_E_PEER_LOST, err);
	else if (lane->answers)
		note_connected(lane);
	return KVT_OK;
}

/* The listener has answered, or has hung up. */
static void hear_answer(struct kvi_local_lane *lane)
{
	uint8_t byte = 0;
	int fd;
	ssize_t got = kvi_local_receive(lane->socket, &byte, sizeof(byte), &fd);
	if (fd >= 0)
		close(fd);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got != 1 || byte != ACCEPTED) {
		kvi_local_lane_lose(lane, KVT_E_PEER_LOST, ECONNREFUSED);
		return;
	}
	epoll_ctl(lane->cq->events_epoll_fd, EPOLL_CTL_DEL, lane->socket, NULL);
	note_connected(lane);
}

/* ---- progress ---- */

/* A wake, or memory to be mapped. False: there is nothing more to read. */
static bool read_socket(struct kvi_local_lane *lane)
{
	struct kvi_local_offer offer;
	int fd, err = 0;
	if (!kvi_local_lane_has_socket(lane)) {
		kvi_local_lane_lose(lane, KVT_E_CLOSED, EBADF);
		return false;
	}
	ssize_t got = kvi_local_receive(lane->socket, &offer, sizeof(offer), &fd);
	bool is_offer = got == (ssize_t)sizeof(offer);
	/* One that came without its descriptor, as no more can be open here, is not counted; nor is any behind it. */
	lane->maps_no_more |= is_offer && fd < 0;
	if (is_offer && !lane->maps_no_more)
		err = kvi_local_take_offer(lane, &offer, fd);
	else if (fd >= 0)
		close(fd);
	if (got <= 0)
		return false;
	if (err == ENOMEM) {
		lane->maps_no_more = true;
		err = 0;
	}
	if (err != 0)
		kvi_local_lane_lose(lane, KVT_E_PEER_LOST, err);
	return err == 0;
}

void kvi_local_lane_on_socket(struct kvi_local_lane *lane, uint32_t epoll_events)
{
	if (lane->state == KVI_LOCAL_CONNECTING) {
		hear_answer(lane);
		return;
	}
	if (lane->state != KVI_LOCAL_CONNECTED)
		return;
	for (int i = 0; i < WAKES_READ && read_socket(lane); i++)
		;
	if (lane->state == KVI_LOCAL_CONNECTED &&
	    (epoll_events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR)) != 0) {
		lane->is_hung = true;
		epoll_ctl(lane->cq->epoll_fd, EPOLL_CTL_DEL, lane->socket, NULL);
	}
	kvi_local_lane_wake(lane);
}

/* What the peer has finished since we looked. It writes that line with all that it takes, too, so where nothing is awaited
 * the line is not fetched for nothing, but for a look now and then whether it counts what nobody has asked for. */
static bool take_done(struct kvi_local_lane *lane)
{
	if (lane->awaited_count == 0 && lane->vain % LOOK_EACH != LOOK_EACH - 1)
		return false;
	uint64_t done = atomic_load_explicit(&lane->ring.other->done, memory_order_acquire);
	uint64_t count = done - lane->done_seen;
	if (count == 0)
		return false;
	if (count > lane->awaited_count) {
		kvi_local_lane_lose(lane, KVT_E_PEER_LOST, EPROTO);
		return true;
	}
	lane->done_seen = done;
	lane->awaited_count -= count;
	for (; count > 0; count--) {
		struct kvi_list *node = kvi_list_take_first(&lane->awaited);
		struct kvi_local_op *op = kvi_container_of(node, struct kvi_local_op, node);
		kvi_local_op_finish(op, KVT_OK, 0);
	}
	return true;
}

/* One chunk of a read that was granted. 0 or an errno. */
static int pull_read(struct kvi_local_lane *lane, struct kvi_local_op *op)
{
	struct kvi_local_piece pieces[KVI_SPANS_MAX];
	size_t count = 0, left = KVI_LOCAL_CHUNK_LEN;
	while (count < KVI_SPANS_MAX && left > 0 && op->moved < op->len) {
		pieces[count] = kvi_local_op_get_piece(op);
		if (pieces[count].len > left)
			pieces[count].len = left;
		op->moved += pieces[count].len;
		left -= pieces[count++].len;
	}
	return count == 0 ? 0 : kvi_local_pull(lane, pieces, count, op->is_mapped);
}

static bool pull_granted(struct kvi_local_lane *lane)
{
	struct kvi_list *node;
	bool did = false;
	for (size_t len = 0;
	     len < TURN_LEN && (node = kvi_list_get_first(&lane->granted)) != NULL;) {
		struct kvi_local_op *op = kvi_container_of(node, struct kvi_local_op, node);
		size_t before = op->moved;
		int err = pull_read(lane, op);
		if (err != 0) {
			kvi_local_lane_lose(lane, err == EFAULT ? KVT_E_FABRIC : KVT_E_PEER_LOST,
					    err);
			return true;
		}
		len += op->moved - before;
		did = true;
		if (op->moved == op->len)
			kvi_local_op_finish(op, KVT_OK, 0);
	}
	return did;
}

bool kvi_local_lane_progress(struct kvi_local_lane *lane)
{
	bool did = take_done(lane);
	if (lane->state == KVI_LOCAL_CONNECTED)
		did |= kvi_local_take(lane);
	if (lane->state == KVI_LOCAL_CONNECTED)
		did |= kvi_local_put(lane); /* what was taken may be answered at once */
	if (lane->state == KVI_LOCAL_CONNECTED)
		did |= pull_granted(lane);
	if (lane->state != KVI_LOCAL_CONNECTED)
		return true;
	if (lane->is_hung && !did) {
		kvi_local_lane_lose(lane, KVT_E_PEER_LOST, ECONNRESET);
		return true;
	}
	return did;
}

bool kvi_local_lane_fall_asleep(struct kvi_local_lane *lane)
{
	struct kvi_ring *ring = &lane->ring;
	bool waits = !kvi_list_is_empty(&lane->unput) || !kvi_list_is_empty(&lane->awaited) ||
		     lane->waits_for_room;
	if (lane->is_hung || !kvi_list_is_empty(&lane->granted))
		return false;
	atomic_store(&ring->own->asleep, KVI_WAKE_RECORDS | (waits ? KVI_WAKE_PROGRESS : 0));
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load(&ring->other->done) == lane->done_seen && !kvi_local_can_take(lane) &&
	    !kvi_local_can_put(lane))
		return true;
	atomic_store(&ring->own->asleep, 0);
	lane->waits_for_room = false;
	return false;
}

/* ---- closing ---- */

static void flush(struct kvi_local_lane *lane, enum kvt_err err, int provider_errno)
{
	struct kvi_list *const lists[] = { &lane->awaited, &lane->granted, &lane->asked,
					   &lane->unput, &lane->receives };
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		kvi_list_for_each (node, next, lists[i])
			kvi_local_op_finish(kvi_container_of(node, struct kvi_local_op, node), err,
					    provider_errno);
}

/* Out of the poll's sight, and the peer out of our memory. */
static void sever(struct kvi_local_lane *lane)
{
	if (lane->ring.base != NULL)
		kvi_local_shut(lane);
	if (!kvi_list_is_empty(&lane->awake_node))
		lane->cq->awake_count--;
	kvi_list_remove(&lane->awake_node);
}

void kvi_local_lane_lose(struct kvi_local_lane *lane, enum kvt_err err, int provider_errno)
{
	if (lane->state == KVI_LOCAL_LOST)
		return;
	lane->state = KVI_LOCAL_LOST;
	sever(lane);
	/* The peer may have gone because memory of ours was not there. */
	if (lane->ring.base != NULL && err == KVT_E_PEER_LOST &&
	    atomic_load(&lane->ring.other->fault) == EFAULT) {
		err = KVT_E_FABRIC;
		provider_errno = EFAULT;
	}
	if (kvi_local_lane_has_socket(lane))
		close(lane->socket); /* which the peer sees, and takes it out of the epoll */
	lane->socket = -1;
	flush(lane, err, provider_errno);
	lane->lost_pending = true;
	lane->lost_errno = provider_errno;
	kvi_local_lane_tell(lane);
}

void kvi_local_lane_close(struct kvi_lane *base)
{
	struct kvi_local_lane *lane = kvi_local_lane(base);
	sever(lane);
	flush(lane, KVT_E_CANCELLED, ECANCELED);
	kvi_list_remove(&lane->event_node);
	free_lane(lane);
}

/* ---- what both sides see ---- */

enum kvt_err kvi_local_lane_get_common(struct kvi_lane *base, struct kvi_common *common)
{
	struct kvi_ring *ring = &kvi_local_lane(base)->ring;
	uint8_t *bytes = kvi_ring_get_common(ring);
	if (bytes == NULL)
		return KVT_E_NO_MEMORY;
	common->own = bytes + ring->side * (size_t)KVI_RING_COMMON_LEN;
	common->peer = bytes + (1 - ring->side) * (size_t)KVI_RING_COMMON_LEN;
	return KVT_OK;
}

/* ---- what moves ---- */

/* An operation takes a moment or stands still with its peer's process: its end is all that there is to see. */
void kvi_local_lane_get_flow(struct kvi_lane *base, struct kvi_flow *flow)
{
	(void)base;
	(void)flow;
}

uint64_t kvi_local_flow_get_moved(const struct kvi_flow *flow)
{
	(void)flow;
	return 0;
}
