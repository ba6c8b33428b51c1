/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listen.c - listeners and the lane requests that arrive at them. The sender is not checked here: the
 * caller checks the bytes that a request carries.
 */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "fabric/internal.h"

enum { STRAY_ROUNDS_MAX = 16 };

/* Listen where info says; what: the call that failed. */
static int listen_at(struct kvi_ofi_listener *listener, struct fi_info *info, const char **what)
{
	*what = "fi_passive_ep";
	int ret = fi_passive_ep(listener->rail->fid, info, &listener->pep, NULL);
	if (ret != 0)
		return ret;
	*what = "fi_listen";
	listener->base.address_len = sizeof(listener->base.address);
	ret = fi_pep_bind(listener->pep, &listener->eq->fid, 0);
	if (ret == 0)
		ret = fi_listen(listener->pep);
	if (ret == 0)
		ret = fi_getname(&listener->pep->fid, listener->base.address,
				 &listener->base.address_len);
	if (ret != 0)
		fi_close(&listener->pep->fid);
	return ret;
}

/* Listen on the first port that is free: other engines of this host may have the same range. */
static int listen_within(struct kvi_ofi_listener *listener, struct kvi_ports ports,
			 const char **what)
{
	*what = "fi_dupinfo";
	struct fi_info *info = fi_dupinfo(listener->rail->info);
	if (info == NULL)
		return -FI_ENOMEM;
	const struct sockaddr *address = info->src_addr;
	int ret = -FI_EADDRINUSE;
	for (unsigned port = ports.low; port <= ports.high && ret == -FI_EADDRINUSE; port++) {
		if (address->sa_family == AF_INET)
			((struct sockaddr_in *)info->src_addr)->sin_port = htons((uint16_t)port);
		else
			((struct sockaddr_in6 *)info->src_addr)->sin6_port = htons((uint16_t)port);
		ret = listen_at(listener, info, what);
	}
	fi_freeinfo(info);
	return ret;
}

enum kvt_err kvi_ofi_listener_open(struct kvi_rail *base, struct kvi_ports ports,
				   struct kvi_listener **listener, struct kvt_error *error)
{
	struct kvi_ofi_rail *rail = kvi_ofi_rail(base);
	struct kvi_ofi_listener *opened = kvi_alloc(sizeof(*opened));
	if (opened == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "out of memory");
	opened->rail = rail;
	atomic_init(&opened->users, 1);

	const char *what = "fi_eq_open";
	struct fi_eq_attr attr = { .wait_obj = FI_WAIT_FD };
	int ret = fi_eq_open(rail->fid, &attr, &opened->eq, NULL);
	if (ret != 0)
		goto free_listener;
	what = "FI_GETWAIT";
	ret = fi_control(&opened->eq->fid, FI_GETWAIT, &opened->base.fd);
	if (ret != 0)
		goto close_eq;
	ret = ports.low == 0 ? listen_at(opened, rail->info, &what)
			     : listen_within(opened, ports, &what);
	if (ret != 0)
		goto close_eq;
	int whole_len = rail->profile->strays ? KVI_CM_HEADER_LEN + KVI_CM_DATA_LEN : 1;
	opened->is_watching = kvi_socket_bound_listener(opened->base.fd, opened->base.address,
							opened->base.address_len, whole_len);
	if (!opened->is_watching)
		kvi_socket_bound_listener(-1, opened->base.address, opened->base.address_len,
					  whole_len);
	kvi_strays_open(opened);
	opened->base.fabric = &kvi_ofi_fabric;
	*listener = &opened->base;
	return KVT_OK;

close_eq:
	fi_close(&opened->eq->fid);
free_listener:
	kvi_free(opened);
	if (ret == -FI_EADDRINUSE && ports.low != 0)
		return kvi_fail(error, KVT_E_LIMIT, -ret,
				"all ports of lane_ports, %u to %u, are in use on %s", ports.low,
				ports.high, rail->interface.host);
	return kvi_fabric_fail(error, ret, what);
}

/* NOLINTBEGIN(misc-no-recursion): a listener that ends is a user of itself, so it ends once */
static void reject_all(struct kvi_ofi_listener *listener)
{
	struct kvi_lane_request *request;
	while ((request = kvi_ofi_listener_take(&listener->base)) != NULL)
		kvi_ofi_lane_request_reject(request);
}

/* Connections that became no lane: the provider does not free them with the listener. */
static void end_strays(struct kvi_ofi_listener *listener)
{
	const uint8_t *address = listener->base.address;
	size_t len = listener->base.address_len;
	int queue_fd = listener->is_watching ? listener->base.fd : -1;
	unsigned rounds = 0;
	/* Taking the ends of some, it would accept others, for as long as they come. */
	while (rounds < STRAY_ROUNDS_MAX && kvi_socket_end_strays(queue_fd, address, len)) {
		if (listener->strays.epoll_fd >= 0)
			kvi_socket_stop_accepting(queue_fd, listener->strays.epoll_fd, address,
						  len);
		reject_all(listener);
		rounds++;
	}
	if (rounds > 0 || queue_fd < 0)
		kvi_socket_close_strays(queue_fd, address, len);
	if (listener->may_forget && queue_fd >= 0)
		kvi_socket_close_strays(-1, address, len);
}

static void put_listener(struct kvi_ofi_listener *listener)
{
	if (atomic_fetch_sub(&listener->users, 1) != 1)
		return;
	if (listener->rail->profile->strays) {
		atomic_store(&listener->users, 1); /* for the requests that may still come */
		end_strays(listener);
	}
	fi_close(&listener->pep->fid);
	fi_close(&listener->eq->fid);
	kvi_free(listener);
}

void kvi_ofi_listener_close(struct kvi_listener *base)
{
	struct kvi_ofi_listener *listener = kvi_ofi_listener(base);
	reject_all(listener);
	put_listener(listener);
}

/* A request of an event; NULL when it is rejected here, for its data or for lack of memory. */
static struct kvi_ofi_lane_request *make_request(struct kvi_ofi_listener *listener,
						 const struct fi_eq_cm_entry *entry, size_t len)
{
	if (listener->rail->profile->strays) /* as lane.c has padded it */
		len = len == KVI_CM_DATA_LEN ? entry->data[KVI_CM_DATA_LEN - 1] : SIZE_MAX;
	struct kvi_ofi_lane_request *request =
		len <= KVI_LANE_DATA_LEN_MAX ? kvi_alloc(sizeof(*request)) : NULL;
	if (request == NULL) {
		fi_reject(listener->pep, entry->info->handle, NULL, 0);
		fi_freeinfo(entry->info);
		return NULL;
	}
	atomic_fetch_add(&listener->users, 1);
	request->base.fabric = &kvi_ofi_fabric;
	request->listener = listener;
	request->info = entry->info;
	request->base.len = len;
	memcpy(request->base.data, entry->data, len);
	return request;
}

struct kvi_lane_request *kvi_ofi_listener_take(struct kvi_listener *base)
{
	struct kvi_ofi_listener *listener = kvi_ofi_listener(base);
	union {
		struct fi_eq_cm_entry entry;
		uint8_t bytes[sizeof(struct fi_eq_cm_entry) + KVI_CM_DATA_LEN];
	} buffer;
	struct fid *fids[] = { &listener->eq->fid };
	for (;;) {
		uint32_t event = 0;
		kvi_strays_look(listener);
		errno = 0; /* of a connection that ends early a provider reads a stale one */
		ssize_t ret = fi_eq_read(listener->eq, &event, &buffer, sizeof(buffer), 0);
		/* It gives up on a socket where a call says EAGAIN, then or before. */
		listener->may_forget |= errno != 0;
		if (ret >= (ssize_t)sizeof(buffer.entry) && event == FI_CONNREQ) {
			struct kvi_ofi_lane_request *request = make_request(
				listener, &buffer.entry, (size_t)ret - sizeof(buffer.entry));
			if (request != NULL)
				return &request->base;
		} else if (ret == -FI_EAVAIL) {
			struct fi_eq_err_entry failure = { .fid = NULL };
			if (fi_eq_readerr(listener->eq, &failure, 0) <= 0)
				return NULL;
		} else if (ret != -FI_EAGAIN ||
			   fi_trywait(listener->rail->fid, fids, 1) != -FI_EAGAIN) {
			/* Only fi_trywait() makes the fd unreadable again. */
			return NULL;
		}
	}
}

void kvi_lane_request_free(struct kvi_ofi_lane_request *request)
{
	fi_freeinfo(request->info);
	put_listener(request->listener);
	kvi_free(request);
}

void kvi_ofi_lane_request_reject(struct kvi_lane_request *base)
{
	struct kvi_ofi_lane_request *request = kvi_ofi_lane_request(base);
	if (!request->is_used)
		fi_reject(request->listener->pep, request->info->handle, NULL, 0);
	kvi_lane_request_free(request);
}
/* NOLINTEND(misc-no-recursion) */
