/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fabric.c - each call of fabric.h goes to the fabric that made its object.
 */
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "fabric/table.h"

enum kvt_err kvi_rail_open(const char *interface, const char *provider, struct kvi_rail **rail,
			   struct kvt_error *error)
{
	enum kvt_err err = KVT_E_NO_PROVIDER;
	for (size_t i = 0; kvi_fabrics[i] != NULL && err == KVT_E_NO_PROVIDER; i++)
		err = kvi_fabrics[i]->rail_open(interface, provider, rail, error);
	return err;
}

void kvi_rail_close(struct kvi_rail *rail)
{
	rail->fabric->rail_close(rail);
}

const struct kvi_caps *kvi_rail_get_caps(const struct kvi_rail *rail)
{
	return &rail->caps;
}

const char *kvi_rail_get_host(const struct kvi_rail *rail)
{
	return rail->host;
}

size_t kvi_rail_get_near_cpus(struct kvi_rail *rail, unsigned *cpus, size_t max)
{
	return rail->fabric->rail_get_near_cpus(rail, cpus, max);
}

void kvi_rail_bind_near(struct kvi_rail *rail, void *base, size_t len)
{
	rail->fabric->rail_bind_near(rail, base, len);
}

enum kvt_err kvi_rail_share(struct kvi_rail *rail, void *base, size_t len, int fd)
{
	return rail->fabric->rail_share(rail, base, len, fd);
}

void kvi_rail_unshare(struct kvi_rail *rail, void *base)
{
	rail->fabric->rail_unshare(rail, base);
}

enum kvt_err kvi_cq_open(struct kvi_rail *rail, struct kvi_cq **cq, struct kvt_error *error)
{
	return rail->fabric->cq_open(rail, cq, error);
}

void kvi_cq_close(struct kvi_cq *cq)
{
	cq->fabric->cq_close(cq);
}

void kvi_cq_forget(struct kvi_cq *cq)
{
	cq->fabric->cq_forget(cq);
}

size_t kvi_cq_poll(struct kvi_cq *cq, struct kvi_completion *completions, size_t max)
{
	return cq->fabric->cq_poll(cq, completions, max);
}

size_t kvi_cq_poll_events(struct kvi_cq *cq, struct kvi_lane_event *events, size_t max)
{
	return cq->fabric->cq_poll_events(cq, events, max);
}

void kvi_cq_get_fds(const struct kvi_cq *cq, int fds[2])
{
	cq->fabric->cq_get_fds(cq, fds);
}

bool kvi_cq_may_sleep(struct kvi_cq *cq)
{
	return cq->fabric->cq_may_sleep(cq);
}

enum kvt_err kvi_memory_open(struct kvi_cq *cq, void *base, size_t len, unsigned access,
			     uint64_t key, struct kvi_memory **memory, struct kvt_error *error)
{
	return cq->fabric->memory_open(cq, base, len, access, key, memory, error);
}

void kvi_memory_close(struct kvi_memory *memory)
{
	if (memory != NULL)
		memory->fabric->memory_close(memory);
}

struct kvi_rkey kvi_memory_get_rkey(const struct kvi_memory *memory)
{
	return memory->rkey;
}

enum kvt_err kvi_listener_open(struct kvi_rail *rail, struct kvi_ports ports,
			       struct kvi_listener **listener, struct kvt_error *error)
{
	return rail->fabric->listener_open(rail, ports, listener, error);
}

void kvi_listener_close(struct kvi_listener *listener)
{
	if (listener != NULL)
		listener->fabric->listener_close(listener);
}

size_t kvi_listener_get_address(const struct kvi_listener *listener, uint8_t *address)
{
	memcpy(address, listener->address, listener->address_len);
	return listener->address_len;
}

int kvi_listener_get_fd(const struct kvi_listener *listener)
{
	return listener->fd;
}

struct kvi_lane_request *kvi_listener_take(struct kvi_listener *listener)
{
	return listener->fabric->listener_take(listener);
}

bool kvi_listener_lacks_fds(const struct kvi_listener *listener)
{
	return listener->lacks_fds;
}

const uint8_t *kvi_lane_request_get_data(const struct kvi_lane_request *request, size_t *len)
{
	*len = request->len;
	return request->data;
}

void kvi_lane_request_reject(struct kvi_lane_request *request)
{
	request->fabric->lane_request_reject(request);
}

enum kvt_err kvi_lane_open(struct kvi_cq *cq, const uint8_t *address, size_t address_len,
			   struct kvi_lane_request *request, void *context, struct kvi_lane **lane,
			   struct kvt_error *error)
{
	return cq->fabric->lane_open(cq, address, address_len, request, context, lane, error);
}

enum kvt_err kvi_lane_connect(struct kvi_lane *lane, const uint8_t *data, size_t len,
			      struct kvt_error *error)
{
	return lane->fabric->lane_connect(lane, data, len, error);
}

void kvi_lane_get_flow(struct kvi_lane *lane, struct kvi_flow *flow)
{
	memset(flow, 0, sizeof(*flow));
	flow->fabric = lane->fabric;
	lane->fabric->lane_get_flow(lane, flow);
}

uint64_t kvi_flow_get_moved(const struct kvi_flow *flow)
{
	return flow->fabric == NULL ? 0 : flow->fabric->flow_get_moved(flow);
}

enum kvt_err kvi_lane_get_common(struct kvi_lane *lane, struct kvi_common *common)
{
	return lane->fabric->lane_get_common(lane, common);
}

void kvi_lane_close(struct kvi_lane *lane)
{
	lane->fabric->lane_close(lane);
}

enum kvt_err kvi_lane_post_recv(struct kvi_lane *lane, struct kvi_op *op, void *buffer, size_t len,
				struct kvi_memory *memory)
{
	return lane->fabric->lane_post_recv(lane, op, buffer, len, memory);
}

enum kvt_err kvi_lane_post_send(struct kvi_lane *lane, struct kvi_op *op, const void *buffer,
				size_t len, struct kvi_memory *memory, enum kvi_signal signal)
{
	return lane->fabric->lane_post_send(lane, op, buffer, len, memory, signal);
}

enum kvt_err kvi_lane_inject(struct kvi_lane *lane, const void *buffer, size_t len)
{
	return lane->fabric->lane_inject(lane, buffer, len);
}

enum kvt_err kvi_lane_post_write(struct kvi_lane *lane, struct kvi_op *op,
				 const struct kvi_span *spans, size_t count,
				 enum kvi_delivery delivery)
{
	return lane->fabric->lane_post_write(lane, op, spans, count, delivery);
}

enum kvt_err kvi_lane_post_read(struct kvi_lane *lane, struct kvi_op *op,
				const struct kvi_span *spans, size_t count)
{
	return lane->fabric->lane_post_read(lane, op, spans, count);
}

void kvi_address_print(const uint8_t *address, size_t len, char text[KVI_ADDRESS_TEXT_LEN])
{
	struct sockaddr_storage copy = { .ss_family = AF_UNSPEC };
	char host[KVI_HOST_LEN], port[8];
	memcpy(&copy, address, len < sizeof(copy) ? len : sizeof(copy));
	if (copy.ss_family == AF_UNIX) {
		snprintf(text, KVI_ADDRESS_TEXT_LEN, "a socket of its host");
		return;
	}
	if (copy.ss_family == AF_INET6)
		((struct sockaddr_in6 *)&copy)->sin6_scope_id = 0; /* a zone of the peer's */
	if (getnameinfo((struct sockaddr *)&copy, (socklen_t)len, host, sizeof(host), port,
			sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV) == 0)
		snprintf(text, KVI_ADDRESS_TEXT_LEN, "%s port %s", host, port);
	else
		snprintf(text, KVI_ADDRESS_TEXT_LEN, "an address that is no IP address");
}
