/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_fabric.c - the objects of the fake fabric: rails, completion queues, memory, listeners and lanes
 * until they are connected. Closing something that is in use aborts.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/error.h"
#include "fake_internal.h"

static enum kvt_err check_open(enum fake_object object, struct kvt_error *error)
{
	enum kvt_err err = fake_check_fault(&fake_world.open_faults[object], FAKE_ALL);
	return err == KVT_OK ? KVT_OK : kvi_fail(error, err, EIO, "the script made this fail");
}

static int open_fd(void)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (fd < 0)
		fake_die("no eventfd: %s", strerror(errno));
	return fd;
}

/* ---- rails ---- */

enum kvt_err fake_rail_open(const char *interface, const char *provider, struct kvi_rail **rail_out,
			    struct kvt_error *error)
{
	if (interface == NULL || strcmp(interface, "nosuch0") == 0)
		return kvi_fail(error, KVT_E_INVALID, 0,
				"there is no such interface; there are lo, fake0, and any other "
				"name");
	if (provider != NULL && strcmp(provider, "fake") != 0)
		return kvi_fail(error, KVT_E_NO_PROVIDER, 0, "provider %s is not there; fake is",
				provider);
	fake_lock();
	enum kvt_err err = check_open(FAKE_OPEN_RAIL, error);
	if (err == KVT_OK) {
		struct fake_rail *rail = fake_alloc(sizeof(*rail));
		strncpy(rail->interface, interface, sizeof(rail->interface) - 1);
		rail->base.caps = fake_world.caps;
		/* So that control channels, which are real, meet on the loopback. */
		rail->base.host = "127.0.0.1";
		kvi_list_append(&fake_world.rails, &rail->node);
		fake_world.counts.rails++;
		rail->base.fabric = &fake_fabric;
		*rail_out = &rail->base;
	}
	fake_unlock();
	return err;
}

void fake_rail_close(struct kvi_rail *base)
{
	struct fake_rail *rail = fake_rail(base);
	fake_lock();
	if (rail->cq_count > 0 || rail->listener_count > 0)
		fake_die("a rail is closed with %u cqs and %u listeners open", rail->cq_count,
			 rail->listener_count);
	kvi_list_remove(&rail->node);
	fake_world.counts.rails--;
	fake_unlock();
	free(rail);
}

size_t fake_rail_get_near_cpus(struct kvi_rail *rail, unsigned *cpus, size_t max)
{
	(void)rail, (void)cpus, (void)max;
	return 0;
}

void fake_rail_bind_near(struct kvi_rail *rail, void *base, size_t len)
{
	(void)rail, (void)base, (void)len;
}

/* ---- completion queues ---- */

enum kvt_err fake_cq_open(struct kvi_rail *base, struct kvi_cq **cq_out, struct kvt_error *error)
{
	struct fake_rail *rail = fake_rail(base);
	fake_lock();
	enum kvt_err err = check_open(FAKE_OPEN_CQ, error);
	if (err == KVT_OK) {
		struct fake_cq *cq = fake_alloc(sizeof(*cq));
		cq->rail = rail;
		kvi_list_init(&cq->lanes);
		kvi_list_init(&cq->done);
		kvi_list_init(&cq->events);
		cq->fds[0] = open_fd();
		cq->fds[1] = open_fd();
		kvi_list_append(&fake_world.cqs, &cq->node);
		rail->cq_count++;
		fake_world.counts.cqs++;
		cq->base.fabric = &fake_fabric;
		*cq_out = &cq->base;
	}
	fake_unlock();
	return err;
}

void fake_cq_forget(struct kvi_cq *base)
{
	struct fake_cq *cq = fake_cq(base);
	(void)cq;
	fake_die("a cq is forgotten, and nobody has closed its descriptors");
}

void fake_cq_close(struct kvi_cq *base)
{
	struct fake_cq *cq = fake_cq(base);
	fake_enter_cq(cq, "kvi_cq_close");
	fake_lock();
	if (!kvi_list_is_empty(&cq->lanes))
		fake_die("a cq is closed with lanes open");
	if (!kvi_list_is_empty(&cq->done))
		fake_die("a cq is closed with operations not reported");
	if (cq->memory_count > 0)
		fake_die("a cq is closed with %u memories open", cq->memory_count);
	kvi_list_remove(&cq->node);
	cq->rail->cq_count--;
	fake_world.counts.cqs--;
	close(cq->fds[0]);
	close(cq->fds[1]);
	fake_unlock();
	free(cq);
}

/* ---- memory ---- */

const void *fake_get_domain(const struct fake_cq *cq)
{
	return cq->rail->base.caps.own_domains ? (const void *)cq : (const void *)cq->rail;
}

static struct kvi_rkey make_rkey(const struct fake_memory *memory, uint64_t key)
{
	if (!memory->cq->rail->base.caps.same_rkey)
		return (struct kvi_rkey){ (uintptr_t)memory->bytes, ++fake_world.last_id };
	kvi_list_for_each (node, next, &fake_world.memories) {
		struct fake_memory *other = kvi_container_of(node, struct fake_memory, node);
		if (other->domain == memory->domain && other->base.rkey.key == key)
			fake_die("key %#llx is in use in this domain", (unsigned long long)key);
	}
	return (struct kvi_rkey){ 0, key };
}

enum kvt_err fake_memory_open(struct kvi_cq *cq_base, void *base, size_t len, unsigned access,
			      uint64_t key, struct kvi_memory **memory_out, struct kvt_error *error)
{
	struct fake_cq *cq = fake_cq(cq_base);
	if (base == NULL || len == 0)
		fake_die("a registration of %zu bytes at %p", len, base);
	fake_lock();
	enum kvt_err err = check_open(FAKE_OPEN_MEMORY, error);
	if (err == KVT_OK) {
		struct fake_memory *memory = fake_alloc(sizeof(*memory));
		memory->cq = cq;
		memory->domain = fake_get_domain(cq);
		memory->bytes = base;
		memory->len = len;
		memory->access = access;
		memory->base.rkey = make_rkey(memory, key);
		kvi_list_append(&fake_world.memories, &memory->node);
		cq->memory_count++;
		fake_world.counts.memories++;
		memory->base.fabric = &fake_fabric;
		*memory_out = &memory->base;
	}
	fake_unlock();
	return err;
}

void fake_memory_close(struct kvi_memory *base)
{
	struct fake_memory *memory = fake_memory(base);
	fake_lock();
	if (memory->uses > 0)
		fake_die("memory is closed under %u posted operations", memory->uses);
	kvi_list_remove(&memory->node);
	memory->cq->memory_count--;
	fake_world.counts.memories--;
	fake_unlock();
	free(memory);
}

/* ---- listeners ---- */

enum kvt_err fake_listener_open(struct kvi_rail *base, struct kvi_ports ports,
				struct kvi_listener **listener_out, struct kvt_error *error)
{
	struct fake_rail *rail = fake_rail(base);
	(void)ports;
	fake_lock();
	enum kvt_err err = check_open(FAKE_OPEN_LISTENER, error);
	if (err == KVT_OK) {
		struct fake_listener *listener = fake_alloc(sizeof(*listener));
		listener->rail = rail;
		uint64_t id = ++fake_world.last_id;
		memcpy(listener->base.address, "kvt-fake", 8);
		memcpy(listener->base.address + 8, &id, 8);
		listener->base.address_len = FAKE_ADDRESS_LEN;
		kvi_list_init(&listener->requests);
		listener->base.fd = open_fd();
		kvi_list_append(&fake_world.listeners, &listener->node);
		rail->listener_count++;
		fake_world.counts.listeners++;
		listener->base.fabric = &fake_fabric;
		*listener_out = &listener->base;
	}
	fake_unlock();
	return err;
}

static void refuse_request(struct fake_lane_request *request)
{
	struct fake_lane *lane = request->lane;
	if (lane != NULL)
		fake_lose_lane(lane, ECONNREFUSED);
	free(request);
}

void fake_listener_close(struct kvi_listener *base)
{
	struct fake_listener *listener = fake_listener(base);
	fake_lock();
	struct kvi_list *node;
	while ((node = kvi_list_take_first(&listener->requests)) != NULL)
		refuse_request(kvi_container_of(node, struct fake_lane_request, node));
	kvi_list_remove(&listener->node);
	listener->rail->listener_count--;
	fake_world.counts.listeners--;
	close(listener->base.fd);
	fake_unlock();
	free(listener);
}

struct kvi_lane_request *fake_listener_take(struct kvi_listener *base)
{
	struct fake_listener *listener = fake_listener(base);
	struct fake_lane_request *request = NULL;
	fake_lock();
	if ((fake_world.hold & FAKE_CONNECT) == 0 && !kvi_list_is_empty(&listener->requests)) {
		request = kvi_container_of(kvi_list_take_first(&listener->requests),
					   struct fake_lane_request, node);
		fake_world.counts.requests++;
	}
	fake_unlock();
	return request == NULL ? NULL : &request->base;
}

void fake_lane_request_reject(struct kvi_lane_request *base)
{
	struct fake_lane_request *request = fake_lane_request(base);
	fake_lock();
	fake_world.counts.requests--;
	refuse_request(request);
	fake_unlock();
}

/* ---- lanes ---- */

/* The lane answers the request, which is no more. */
static void take_over_request(struct fake_lane *lane, struct fake_lane_request *request)
{
	lane->is_passive = true;
	lane->peer = request->lane;
	if (lane->peer != NULL) {
		lane->peer->peer = lane;
		lane->peer->request = NULL;
	}
	fake_world.counts.requests--;
	free(request);
}

enum kvt_err fake_lane_open(struct kvi_cq *cq_base, const uint8_t *address, size_t address_len,
			    struct kvi_lane_request *request_base, void *context,
			    struct kvi_lane **lane_out, struct kvt_error *error)
{
	struct fake_cq *cq = fake_cq(cq_base);
	struct fake_lane_request *request = fake_lane_request(request_base);
	if ((address == NULL) == (request == NULL) || address_len > KVI_ADDRESS_LEN_MAX)
		fake_die("a lane is opened by an address or by a request");
	fake_enter_cq(cq, "kvi_lane_open");
	fake_lock();
	enum kvt_err err = check_open(FAKE_OPEN_LANE, error);
	if (err == KVT_OK) {
		struct fake_lane *lane = fake_alloc(sizeof(*lane));
		lane->cq = cq;
		lane->context = context;
		lane->id = ++fake_world.last_id;
		kvi_list_init(&lane->posted);
		kvi_list_init(&lane->landed);
		kvi_list_init(&lane->unsignalled);
		kvi_list_init(&lane->receives);
		kvi_list_init(&lane->event_node);
		if (address != NULL)
			memcpy(lane->address, address, address_len);
		lane->address_len = address_len;
		if (request != NULL)
			take_over_request(lane, request);
		kvi_list_append(&cq->lanes, &lane->node);
		fake_world.counts.lanes++;
		lane->base.fabric = &fake_fabric;
		*lane_out = &lane->base;
	}
	fake_unlock();
	fake_leave_cq(cq);
	return err;
}

static struct fake_listener *find_listener(const struct fake_lane *lane)
{
	kvi_list_for_each (node, next, &fake_world.listeners) {
		struct fake_listener *listener = kvi_container_of(node, struct fake_listener, node);
		size_t len = listener->base.address_len;
		if (lane->address_len == len &&
		    memcmp(lane->address, listener->base.address, len) == 0)
			return listener;
	}
	return NULL;
}

static void tell_connected(struct fake_lane *lane)
{
	lane->state = FAKE_LANE_CONNECTED;
	lane->tell_connected = true;
	kvi_list_append(&lane->cq->events, &lane->event_node);
}

static void request_lane(struct fake_lane *lane, const uint8_t *data, size_t len)
{
	struct fake_listener *listener = find_listener(lane);
	if (listener == NULL) {
		fake_lose_lane(lane, ECONNREFUSED);
		return;
	}
	struct fake_lane_request *request = fake_alloc(sizeof(*request));
	request->base.fabric = &fake_fabric;
	request->lane = lane;
	if (len > 0)
		memcpy(request->base.data, data, len);
	if (fake_world.flipped_bit > 0) {
		size_t bit = fake_world.flipped_bit - 1;
		request->base.data[bit / 8] ^= (uint8_t)(1U << bit % 8);
		fake_world.flipped_bit = 0;
	}
	request->base.len = len;
	lane->request = request;
	kvi_list_append(&listener->requests, &request->node);
	if (!fake_world.repeat_request)
		return;
	fake_world.repeat_request = false;
	struct fake_lane_request *again = fake_alloc(sizeof(*again));
	again->base = request->base; /* of no lane that anybody knows */
	kvi_list_append(&listener->requests, &again->node);
}

enum kvt_err fake_lane_connect(struct kvi_lane *base, const uint8_t *data, size_t len,
			       struct kvt_error *error)
{
	struct fake_lane *lane = fake_lane(base);
	struct fake_cq *cq = lane->cq;
	if (len > KVI_LANE_DATA_LEN_MAX)
		fake_die("a lane request carries %zu bytes", len);
	fake_enter_cq(cq, "kvi_lane_connect");
	fake_lock();
	if (lane->state != FAKE_LANE_NEW)
		fake_die("a lane is connected a second time");
	enum kvt_err err = check_open(FAKE_OPEN_CONNECT, error);
	if (err == KVT_OK) {
		lane->state = FAKE_LANE_CONNECTING;
		if (!lane->is_passive) {
			request_lane(lane, data, len);
		} else if (lane->peer == NULL) {
			fake_lose_lane(lane, ECONNRESET);
		} else {
			tell_connected(lane->peer);
			tell_connected(lane);
		}
	}
	fake_unlock();
	fake_leave_cq(cq);
	return err;
}

void fake_lane_get_flow(struct kvi_lane *base, struct kvi_flow *flow)
{
	struct fake_lane *lane = fake_lane(base);
	memcpy(flow->own, &lane->id, sizeof(lane->id));
}

uint64_t fake_flow_get_moved(const struct kvi_flow *flow)
{
	uint64_t moved = 0;
	fake_lock();
	if (fake_world.trickles)
		fake_step(NULL, 1, true);
	kvi_list_for_each (cq_node, next_cq, &fake_world.cqs) {
		struct fake_cq *cq = kvi_container_of(cq_node, struct fake_cq, node);
		kvi_list_for_each (node, next, &cq->lanes) {
			struct fake_lane *lane = kvi_container_of(node, struct fake_lane, node);
			if (memcmp(&lane->id, flow->own, sizeof(lane->id)) == 0)
				moved = lane->moved;
		}
	}
	fake_unlock();
	return moved;
}

/* As on the real ones, what the peer is told to look at is where it was put, also when that side has gone. */
enum kvt_err fake_lane_get_common(struct kvi_lane *base, struct kvi_common *common)
{
	struct fake_lane *lane = fake_lane(base);
	const size_t len = lane->cq->rail->base.caps.common_len;
	fake_lock();
	if (lane->common == NULL) {
		lane->common = fake_alloc(sizeof(*lane->common) + 2 * len);
		lane->common->users = 1;
		if (lane->peer != NULL) {
			lane->peer->common = lane->common;
			lane->common->users++;
		}
	}
	fake_unlock();
	common->own = lane->common->bytes + (lane->is_passive ? len : 0);
	common->peer = lane->common->bytes + (lane->is_passive ? 0 : len);
	return KVT_OK;
}

static void leave_common(struct fake_lane *lane)
{
	if (lane->common != NULL && --lane->common->users == 0)
		free(lane->common);
}

void fake_lane_close(struct kvi_lane *base)
{
	struct fake_lane *lane = fake_lane(base);
	struct fake_cq *cq = lane->cq;
	fake_enter_cq(cq, "kvi_lane_close");
	fake_lock();
	fake_flush_lane(lane, KVT_E_CANCELLED, ECANCELED);
	fake_lose_lane(lane, ECONNRESET);
	kvi_list_for_each (node, next, &cq->done) {
		struct fake_post *post = kvi_container_of(node, struct fake_post, node);
		if (post->lane != lane)
			continue;
		/* Severed: the memory may be closed before the op is reported. */
		fake_drop_memory(post);
		post->lane = NULL;
	}
	kvi_list_remove(&lane->event_node);
	kvi_list_remove(&lane->node);
	leave_common(lane);
	fake_world.counts.lanes--;
	fake_unlock();
	fake_leave_cq(cq);
	free(lane);
}

const struct kvi_fabric fake_fabric = {
	.rail_open = fake_rail_open,
	.rail_close = fake_rail_close,
	.rail_get_near_cpus = fake_rail_get_near_cpus,
	.rail_bind_near = fake_rail_bind_near,
	.cq_open = fake_cq_open,
	.cq_close = fake_cq_close,
	.cq_forget = fake_cq_forget,
	.cq_poll = fake_cq_poll,
	.cq_poll_events = fake_cq_poll_events,
	.cq_get_fds = fake_cq_get_fds,
	.cq_may_sleep = fake_cq_may_sleep,
	.memory_open = fake_memory_open,
	.memory_close = fake_memory_close,
	.listener_open = fake_listener_open,
	.listener_close = fake_listener_close,
	.listener_take = fake_listener_take,
	.lane_request_reject = fake_lane_request_reject,
	.lane_open = fake_lane_open,
	.lane_connect = fake_lane_connect,
	.lane_close = fake_lane_close,
	.lane_get_flow = fake_lane_get_flow,
	.flow_get_moved = fake_flow_get_moved,
	.lane_get_common = fake_lane_get_common,
	.lane_post_recv = fake_lane_post_recv,
	.lane_post_send = fake_lane_post_send,
	.lane_inject = fake_lane_inject,
	.lane_post_write = fake_lane_post_write,
	.lane_post_read = fake_lane_post_read,
};
