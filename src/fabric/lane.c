/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lane.c - endpoints: made, connected, and severed. Severing is the one thing that stops a peer's
 * write into our memory, so kvi_lane_close() never leaves an endpoint open.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/log.h"
#include "fabric/internal.h"

/* So many rounds of progress without any byte mean that nothing moves: a provider serves endpoints in turns. */
enum { IDLE_ROUNDS_MAX = 64 };

/* The peer sent the address: it must be of our own kind, and whole. */
static bool is_address_valid(const struct fi_info *info, const uint8_t *address, size_t len)
{
	sa_family_t family;
	if (len != info->src_addrlen || len < sizeof(family))
		return false;
	memcpy(&family, address, sizeof(family));
	return family == ((const struct sockaddr *)info->src_addr)->sa_family;
}

static struct fi_info *make_connect_info(const struct fi_info *base, const uint8_t *address,
					 size_t len)
{
	struct fi_info *info = fi_dupinfo(base);
	if (info == NULL)
		return NULL;
	free(info->dest_addr);
	info->dest_addr = malloc(len); /* fi_freeinfo() frees it */
	if (info->dest_addr == NULL) {
		fi_freeinfo(info);
		return NULL;
	}
	memcpy(info->dest_addr, address, len);
	info->dest_addrlen = len;
	return info;
}

/* Of receives each is told. */
static int bind_queue(struct kvi_ofi_lane *lane)
{
	struct fid *queue = &lane->queue->fid->fid;
	if (!lane->cq->rail->profile->unsignalled)
		return fi_ep_bind(lane->ep, queue, FI_TRANSMIT | FI_RECV);
	int ret = fi_ep_bind(lane->ep, queue, FI_TRANSMIT | FI_SELECTIVE_COMPLETION);
	return ret != 0 ? ret : fi_ep_bind(lane->ep, queue, FI_RECV);
}

static enum kvt_err open_endpoint(struct kvi_ofi_lane *lane, struct fi_info *info,
				  struct kvi_ofi_lane_request *request, struct kvt_error *error)
{
	struct kvi_ofi_cq *cq = lane->cq;
	int ret = fi_endpoint(cq->domain->fid, info, &lane->ep, lane);
	/* Some providers look up the route to the peer already here. */
	if (ret != 0 && kvi_err_from_errno(-ret) == KVT_E_PEER_LOST)
		return kvi_fail(error, KVT_E_UNREACHABLE, -ret, "no way to the peer's lanes: %s",
				fi_strerror(-ret));
	if (ret != 0)
		return kvi_fabric_fail(error, ret, "fi_endpoint");
	if (request != NULL)
		request->is_used = true;
	const char *what = "fi_ep_bind";
	ret = fi_ep_bind(lane->ep, &cq->eq->fid, 0);
	if (ret == 0)
		ret = bind_queue(lane);
	if (ret == 0) {
		what = "fi_enable";
		ret = fi_enable(lane->ep);
	}
	if (ret == 0) {
		lane->fid = &lane->ep->fid;
		HASH_ADD_PTR(cq->lanes, fid, lane);
	}
	if (ret == 0 && lane->hh.tbl != NULL)
		return KVT_OK;
	fi_close(&lane->ep->fid);
	if (ret == 0)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "out of memory");
	/* What an endpoint is made of is the same for all; only a request can have become void. */
	if (request != NULL && ret == -FI_EINVAL)
		return kvi_fail(error, KVT_E_PEER_LOST, -ret,
				"%s: the peer has withdrawn its request", what);
	return kvi_fabric_fail_pinned(cq->rail, 0, ret, what, error);
}

enum kvt_err kvi_ofi_lane_open(struct kvi_cq *cq_base, const uint8_t *address, size_t address_len,
			       struct kvi_lane_request *request_base, void *context,
			       struct kvi_lane **lane, struct kvt_error *error)
{
	struct kvi_ofi_cq *cq = kvi_ofi_cq(cq_base);
	struct kvi_ofi_lane_request *request = kvi_ofi_lane_request(request_base);
	const struct fi_info *rail_info = cq->rail->info;
	if (address != NULL && !is_address_valid(rail_info, address, address_len))
		return kvi_fail(error, KVT_E_UNREACHABLE, 0,
				"the peer's lane address is not of the kind of this rail's");
	struct kvi_ofi_lane *opened = kvi_alloc(sizeof(*opened));
	struct fi_info *info = address == NULL ? request->info : NULL;
	enum kvt_err err = KVT_OK;
	if (opened != NULL && address != NULL) {
		memcpy(opened->peer, address, address_len);
		kvi_interface_localize(&cq->rail->interface, opened->peer, address_len);
		info = make_connect_info(rail_info, opened->peer, address_len);
	}
	if (opened == NULL || info == NULL) {
		err = kvi_fail(error, KVT_E_NO_MEMORY, 0, "out of memory");
		goto free_info;
	}
	opened->cq = cq;
	opened->context = context;
	opened->answers = address == NULL;
	kvi_list_init(&opened->posted);
	kvi_list_init(&opened->unsignalled);
	kvi_list_init(&opened->event_node);
	err = kvi_queue_join(cq, &opened->queue, error);
	if (err != KVT_OK)
		goto free_info;
	err = open_endpoint(opened, info, address == NULL ? request : NULL, error);
	if (err != KVT_OK)
		goto leave_queue;

	if (address == NULL)
		kvi_lane_request_free(request);
	else
		fi_freeinfo(info);
	opened->base.fabric = &kvi_ofi_fabric;
	*lane = &opened->base;
	return KVT_OK;

leave_queue:
	kvi_queue_leave(opened->queue);
free_info:
	if (address != NULL && info != NULL)
		fi_freeinfo(info);
	kvi_free(opened);
	return err;
}

/* Its socket, which this queue's descriptor watches now; -1: it has ended already. */
static int find_socket(const struct kvi_ofi_lane *lane, int queue_fd)
{
	uint8_t own[KVI_ADDRESS_LEN_MAX], peer[KVI_ADDRESS_LEN_MAX];
	size_t own_len = sizeof(own), peer_len = sizeof(peer);
	if (fi_getname(&lane->ep->fid, own, &own_len) != 0 ||
	    fi_getpeer(lane->ep, peer, &peer_len) != 0 || peer_len != own_len)
		return -1;
	return kvi_socket_find(queue_fd, own, peer, own_len);
}

/* An accepted socket tells of nothing less than a whole request (strays.c): from now on of each byte. */
static void let_in(const struct kvi_ofi_lane *lane)
{
	static const int any = 1;
	if (!lane->cq->rail->profile->strays)
		return;
	int fd = find_socket(lane, lane->cq->eq_fd);
	if (fd >= 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &any, sizeof(any));
}

enum kvt_err kvi_ofi_lane_connect(struct kvi_lane *base, const uint8_t *data, size_t len,
				  struct kvt_error *error)
{
	struct kvi_ofi_lane *lane = kvi_ofi_lane(base);
	if (len > KVI_LANE_DATA_LEN_MAX)
		return kvi_fail(error, KVT_E_INVALID, 0, "%zu bytes of lane data, at most %d", len,
				KVI_LANE_DATA_LEN_MAX);
	if (lane->ep == NULL)
		return kvi_fail(error, KVT_E_PEER_LOST, lane->lost_errno, "the lane is lost");
	uint8_t padded[KVI_CM_DATA_LEN] = { 0 };
	if (!lane->answers && lane->cq->rail->profile->strays) {
		if (len > 0) /* else data may be NULL */
			memcpy(padded, data, len);
		padded[KVI_CM_DATA_LEN - 1] = (uint8_t)len;
		data = padded;
		len = sizeof(padded);
	}
	int ret = lane->answers ? fi_accept(lane->ep, NULL, 0)
				: fi_connect(lane->ep, lane->peer, data, len);
	if (ret == 0 && lane->answers)
		let_in(lane);
	if (ret == 0)
		return KVT_OK;
	/* Some providers report a refusal at once; the caller gets it as an event, too. verbs says EINVAL of a request
	 * that the peer has withdrawn meanwhile. */
	if (kvi_err_from_errno(-ret) == KVT_E_PEER_LOST || (lane->answers && ret == -FI_EINVAL)) {
		kvi_lane_note_lost(lane, -ret);
		return KVT_OK;
	}
	return kvi_fabric_fail(error, ret, lane->answers ? "fi_accept" : "fi_connect");
}

/* Somebody has closed the socket behind the provider, and its number may be another's: a connected socket
 * keeps its address. */
static bool has_lost_socket(const struct kvi_ofi_lane *lane)
{
	uint8_t own[KVI_ADDRESS_LEN_MAX];
	size_t len = sizeof(own);
	return lane->own_len > 0 && (fi_getname(&lane->ep->fid, own, &len) != 0 ||
				     len != lane->own_len || memcmp(own, lane->own, len) != 0);
}

/*
 * For providers that must not close an endpoint with a read half in: end the connection behind the
 * provider's back. It then receives what the kernel has, at most a socket's buffer, finds the end, and
 * completes every read by itself. Only a message without a posted receive stops it before: then it receives
 * nothing at all, so no read is half in either.
 */
static void end_reads(struct kvi_ofi_lane *lane)
{
	int fd = find_socket(lane, lane->queue->fd);
	if (fd >= 0)
		shutdown(fd, SHUT_RDWR);
	int unread = 0;
	for (unsigned idle = 0; lane->reads_posted > 0 && idle < IDLE_ROUNDS_MAX; idle++) {
		int before = unread;
		kvi_queue_drain(lane->queue);
		if (fd >= 0 && ioctl(fd, FIONREAD, &unread) == 0 && unread != before)
			idle = 0;
	}
}

static void close_endpoint(struct kvi_ofi_lane *lane)
{
	const struct kvi_ofi_rail *rail = lane->cq->rail;
	if (lane->reads_posted > 0 && !rail->cuts_reads)
		end_reads(lane);
	if (rail->profile->shutdown)
		fi_shutdown(lane->ep, 0);
	int ret = fi_close(&lane->ep->fid);
	if (ret != 0)
		kvi_log(KVI_LOG_ERROR, "lane-close", "fi_close: %s", fi_strerror(-ret));
}

static void finish_all(struct kvi_ofi_cq *cq, struct kvi_list *posted, enum kvt_err err,
		       bool is_held)
{
	struct kvi_list *node;
	while ((node = kvi_list_get_first(posted)) != NULL)
		kvi_context_finish(cq, kvi_container_of(node, struct kvi_context, node), err, 0, 0,
				   is_held);
}

void kvi_lane_cut(struct kvi_ofi_lane *lane, enum kvt_err err)
{
	struct kvi_ofi_cq *cq = lane->cq;
	if (lane->ep == NULL)
		return;
	/* Where nothing is left to sever, the provider's object is left as it is: it would close
	 * the number. And its queue stays with it. */
	lane->is_left = has_lost_socket(lane);
	if (!lane->is_left)
		close_endpoint(lane);
	HASH_DEL(cq->lanes, lane);
	lane->ep = NULL;

	/* What the provider knew of is in the CQ now. The rest it dropped, or will report late; of what is
	 * unsignalled it had sent the rest, and knows nothing any more. */
	kvi_queue_drain(lane->queue);
	finish_all(cq, &lane->unsignalled, err, lane->is_left);
	finish_all(cq, &lane->posted, err, true);
}

void kvi_ofi_lane_close(struct kvi_lane *base)
{
	struct kvi_ofi_lane *lane = kvi_ofi_lane(base);
	struct kvi_ofi_cq *cq = lane->cq;
	lane->is_closing = true;
	kvi_lane_cut(lane, KVT_E_CANCELLED);

	/* The next endpoint may get this one's address, so no event that names it may stay. */
	kvi_list_remove(&lane->event_node);
	kvi_cq_drain_events(cq);
	if (!lane->is_left)
		kvi_queue_leave(lane->queue);
	kvi_free(lane);
}
