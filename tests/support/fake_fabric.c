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

enum kvt_err kvi_rail_open(const char *interface, const char *provider, struct kvi_rail **rail_out,
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
		struct kvi_rail *rail = fake_alloc(sizeof(*rail));
		strncpy(rail->interface, interface, sizeof(rail->interface) - 1);
		rail->caps = fake_world.caps;
		kvi_list_append(&fake_world.rails, &rail->node);
		fake_world.counts.rails++;
		*rail_out = rail;
	}
	fake_unlock();
	return err;
}

void kvi_rail_close(struct kvi_rail *rail)
{
	fake_lock();
	if (rail->cq_count > 0 || rail->listener_count > 0)
		fake_die("a rail is closed with %u cqs and %u listeners open", rail->cq_count,
			 rail->listener_count);
	kvi_list_remove(&rail->node);
	fake_world.counts.rails--;
	fake_unlock();
	free(rail);
}

const struct kvi_caps *kvi_rail_get_caps(const struct kvi_rail *rail)
{
	return &rail->caps;
}

/* So that control channels, which are real, meet on the loopback. */
const char *kvi_rail_get_host(const struct kvi_rail *rail)
{
	(void)rail;
	return "127.0.0.1";
}

size_t kvi_rail_get_near_cpus(struct kvi_rail *rail, unsigned *cpus, size_t max)
{
	(void)rail, (void)cpus, (void)max;
	return 0;
}

void kvi_rail_bind_near(struct kvi_rail *rail, void *base, size_t len)
{
	(void)rail, (void)base, (void)len;
}

/* ---- completion queues ---- */

enum kvt_err kvi_cq_open(struct kvi_rail *rail, struct kvi_cq **cq_out, struct kvt_error *error)
{
	fake_lock();
	enum kvt_err err = check_open(FAKE_OPEN_CQ, error);
	if (err == KVT_OK) {
		struct kvi_cq *cq = fake_alloc(sizeof(*cq));
		cq->rail = rail;
		kvi_list_init(&cq->lanes);
		kvi_list_init(&cq->done);
		kvi_list_init(&cq->events);
		cq->fds[0] = open_fd();
		cq->fds[1] = open_fd();
		kvi_list_append(&fake_world.cqs, &cq->node);
		rail->cq_count++;
		fake_world.counts.cqs++;
		*cq_out = cq;
	}
	fake_unlock();
	return err;
}

void kvi_cq_forget(struct kvi_cq *cq)
{
	(void)cq;
	fake_die("a cq is forgotten, and nobody has closed its descriptors");
}

void kvi_cq_close(struct kvi_cq *cq)
{
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

const void *fake_get_domain(const struct kvi_cq *cq)
{
	return cq->rail->caps.own_domains ? (const void *)cq : (const void *)cq->rail;
}

static struct kvi_grant make_grant(const struct kvi_memory *memory, uint64_t key)
{
	if (!memory->cq->rail->caps.same_grant)
		return (struct kvi_grant){ (uintptr_t)memory->base, ++fake_world.last_id };
	kvi_list_for_each (node, next, &fake_world.memories) {
		struct kvi_memory *other = kvi_container_of(node, struct kvi_memory, node);
		if (other->domain == memory->domain && other->grant.key == key)
			fake_die("key %#llx is in use in this domain", (unsigned long long)key);
	}
	return (struct kvi_grant){ 0, key };
}

enum kvt_err kvi_memory_open(struct kvi_cq *cq, void *base, size_t len, unsigned access,
			     uint64_t key, struct kvi_memory **memory_out, struct kvt_error *error)
{
	if (base == NULL || len == 0)
		fake_die("a registration of %zu bytes at %p", len, base);
	fake_lock();
	enum kvt_err err = check_open(FAKE_OPEN_MEMORY, error);
	if (err == KVT_OK) {
		struct kvi_memory *memory = fake_alloc(sizeof(*memory));
		memory->cq = cq;
		memory->domain = fake_get_domain(cq);
		memory->base = base;
		memory->len = len;
		memory->access = access;
		memory->grant = make_grant(memory, key);
		kvi_list_append(&fake_world.memories, &memory->node);
		cq->memory_count++;
		fake_world.counts.memories++;
		*memory_out = memory;
	}
	fake_unlock();
	return err;
}

void kvi_memory_close(struct kvi_memory *memory)
{
	if (memory == NULL)
		return;
	fake_lock();
	if (memory->uses > 0)
		fake_die("memory is closed under %u posted operations", memory->uses);
	kvi_list_remove(&memory->node);
	memory->cq->memory_count--;
	fake_world.counts.memories--;
	fake_unlock();
	free(memory);
}

struct kvi_grant kvi_memory_get_grant(const struct kvi_memory *memory)
{
	return memory->grant;
}

/* ---- listeners ---- */

void kvi_address_print(const uint8_t *address, size_t len, char text[KVI_ADDRESS_TEXT_LEN])
{
	(void)address;
	snprintf(text, KVI_ADDRESS_TEXT_LEN, "an address of %zu bytes", len);
}

enum kvt_err kvi_listener_open(struct kvi_rail *rail, struct kvi_ports ports,
			       struct kvi_listener **listener_out, struct kvt_error *error)
{
	(void)ports;
	fake_lock();
	enum kvt_err err = check_open(FAKE_OPEN_LISTENER, error);
	if (err == KVT_OK) {
		struct kvi_listener *listener = fake_alloc(sizeof(*listener));
		listener->rail = rail;
		listener->id = ++fake_world.last_id;
		kvi_list_init(&listener->requests);
		listener->fd = open_fd();
		kvi_list_append(&fake_world.listeners, &listener->node);
		rail->listener_count++;
		fake_world.counts.listeners++;
		*listener_out = listener;
	}
	fake_unlock();
	return err;
}

static void refuse_request(struct kvi_lane_request *request)
{
	struct kvi_lane *lane = request->lane;
	if (lane != NULL)
		fake_lose_lane(lane, ECONNREFUSED);
	free(request);
}

void kvi_listener_close(struct kvi_listener *listener)
{
	if (listener == NULL)
		return;
	fake_lock();
	struct kvi_list *node;
	while ((node = kvi_list_take_first(&listener->requests)) != NULL)
		refuse_request(kvi_container_of(node, struct kvi_lane_request, node));
	kvi_list_remove(&listener->node);
	listener->rail->listener_count--;
	fake_world.counts.listeners--;
	close(listener->fd);
	fake_unlock();
	free(listener);
}

size_t kvi_listener_get_address(const struct kvi_listener *listener, uint8_t *address)
{
	memcpy(address, "kvt-fake", 8);
	memcpy(address + 8, &listener->id, 8);
	return FAKE_ADDRESS_LEN;
}

int kvi_listener_get_fd(const struct kvi_listener *listener)
{
	return listener->fd;
}

struct kvi_lane_request *kvi_listener_take(struct kvi_listener *listener)
{
	struct kvi_lane_request *request = NULL;
	fake_lock();
	if ((fake_world.hold & FAKE_CONNECT) == 0 && !kvi_list_is_empty(&listener->requests)) {
		request = kvi_container_of(kvi_list_take_first(&listener->requests),
					   struct kvi_lane_request, node);
		fake_world.counts.requests++;
	}
	fake_unlock();
	return request;
}

const uint8_t *kvi_lane_request_get_data(const struct kvi_lane_request *request, size_t *len)
{
	*len = request->data_len;
	return request->data;
}

void kvi_lane_request_reject(struct kvi_lane_request *request)
{
	fake_lock();
	fake_world.counts.requests--;
	refuse_request(request);
	fake_unlock();
}

/* ---- lanes ---- */

/* The lane answers the request, which is no more. */
static void take_over_request(struct kvi_lane *lane, struct kvi_lane_request *request)
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

enum kvt_err kvi_lane_open(struct kvi_cq *cq, const uint8_t *address, size_t address_len,
			   struct kvi_lane_request *request, void *context,
			   struct kvi_lane **lane_out, struct kvt_error *error)
{
	if ((address == NULL) == (request == NULL) || address_len > KVI_ADDRESS_LEN_MAX)
		fake_die("a lane is opened by an address or by a request");
	fake_enter_cq(cq, "kvi_lane_open");
	fake_lock();
	enum kvt_err err = check_open(FAKE_OPEN_LANE, error);
	if (err == KVT_OK) {
		struct kvi_lane *lane = fake_alloc(sizeof(*lane));
		lane->cq = cq;
		lane->context = context;
		lane->id = ++fake_world.last_id;
		kvi_list_init(&lane->posted);
		kvi_list_init(&lane->landed);
		kvi_list_init(&lane->receives);
		kvi_list_init(&lane->event_node);
		if (address != NULL)
			memcpy(lane->address, address, address_len);
		lane->address_len = address_len;
		if (request != NULL)
			take_over_request(lane, request);
		kvi_list_append(&cq->lanes, &lane->node);
		fake_world.counts.lanes++;
		*lane_out = lane;
	}
	fake_unlock();
	fake_leave_cq(cq);
	return err;
}

static struct kvi_listener *find_listener(const struct kvi_lane *lane)
{
	kvi_list_for_each (node, next, &fake_world.listeners) {
		struct kvi_listener *listener = kvi_container_of(node, struct kvi_listener, node);
		uint8_t address[KVI_ADDRESS_LEN_MAX];
		size_t len = kvi_listener_get_address(listener, address);
		if (lane->address_len == len && memcmp(lane->address, address, len) == 0)
			return listener;
	}
	return NULL;
}

static void tell_connected(struct kvi_lane *lane)
{
	lane->state = FAKE_LANE_CONNECTED;
	lane->tell_connected = true;
	kvi_list_append(&lane->cq->events, &lane->event_node);
}

static void request_lane(struct kvi_lane *lane, const uint8_t *data, size_t len)
{
	struct kvi_listener *listener = find_listener(lane);
	if (listener == NULL) {
		fake_lose_lane(lane, ECONNREFUSED);
		return;
	}
	struct kvi_lane_request *request = fake_alloc(sizeof(*request));
	request->lane = lane;
	if (len > 0)
		memcpy(request->data, data, len);
	request->data_len = len;
	lane->request = request;
	kvi_list_append(&listener->requests, &request->node);
}

enum kvt_err kvi_lane_connect(struct kvi_lane *lane, const uint8_t *data, size_t len,
			      struct kvt_error *error)
{
	struct kvi_cq *cq = lane->cq;
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

void kvi_lane_get_flow(struct kvi_lane *lane, struct kvi_flow *flow)
{
	memset(flow, 0, sizeof(*flow));
	memcpy(flow->own, &lane->id, sizeof(lane->id));
}

uint64_t kvi_flow_get_moved(const struct kvi_flow *flow)
{
	uint64_t moved = 0;
	fake_lock();
	kvi_list_for_each (cq_node, next_cq, &fake_world.cqs) {
		struct kvi_cq *cq = kvi_container_of(cq_node, struct kvi_cq, node);
		kvi_list_for_each (node, next, &cq->lanes) {
			struct kvi_lane *lane = kvi_container_of(node, struct kvi_lane, node);
			if (memcmp(&lane->id, flow->own, sizeof(lane->id)) == 0)
				moved = lane->moved;
		}
	}
	fake_unlock();
	return moved;
}

void kvi_lane_close(struct kvi_lane *lane)
{
	struct kvi_cq *cq = lane->cq;
	fake_enter_cq(cq, "kvi_lane_close");
	fake_lock();
	fake_flush_lane(lane, KVT_E_CANCELLED, ECANCELED);
	fake_lose_lane(lane, ECONNRESET);
	kvi_list_for_each (node, next, &cq->done) {
		struct fake_post *post = kvi_container_of(node, struct fake_post, node);
		if (post->lane != lane)
			continue;
		/* Fenced: the memory may be closed before the op is reported. */
		fake_drop_memory(post);
		post->lane = NULL;
	}
	kvi_list_remove(&lane->event_node);
	kvi_list_remove(&lane->node);
	fake_world.counts.lanes--;
	fake_unlock();
	fake_leave_cq(cq);
	free(lane);
}
