/* SPDX-License-Identifier: Apache-2.0 */
/*
 * path_ucx.c - the path of UCX: ucp_put_nbx() or ucp_get_nbx() for each block and one flush, after which every byte is
 * in place; tagged messages. Its transport is --provider, as UCX_TLS has it, so tcp unless it is told otherwise.
 * Endpoints tell of a peer that died, as users of a network want and as NIXL has it; "default" lets UCX choose among all
 * it has, and asks for no such thing, which would leave shared memory out. It never merges blocks.
 */
#include "perf.h"

#include <err.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <ucp/api/ucp.h>

enum { STAMP_ID = 1, STAMPS_MAX = 1024 };

struct link {
	bool spin;
	bool own_choice;
	ucp_context_h context;
	ucp_worker_h worker;
	ucp_mem_h memory;
	ucp_ep_h ep;
	ucp_rkey_h rkey;
	uint64_t remote_base;
	int wake_fd;
	struct perf_stamp stamps[STAMPS_MAX]; /* that came and were not taken yet */
	size_t came, taken;
};

/* What both processes tell each other; the worker's address and the key follow. */
struct offer {
	uint64_t base;
	size_t address_len;
	size_t key_len;
};

static int check(const char *call, ucs_status_t status)
{
	if (!status)
		return PERF_OK;
	warnx("%s: %s", call, ucs_status_string(status));
	return PERF_FAILED;
}

/* Make progress; asleep when there is none, unless the program spins. */
static int progress(struct link *link)
{
	if (ucp_worker_progress(link->worker) || link->spin)
		return 0;
	ucs_status_t status = ucp_worker_arm(link->worker);
	if (status)
		return status == UCS_ERR_BUSY ? 0 : check("ucp_worker_arm", status);
	struct pollfd event = { .fd = link->wake_fd, .events = POLLIN };
	poll(&event, 1, 1000);
	return 0;
}

/* Wait for a request, if it is one, and free it. */
static int await(struct link *link, const char *call, void *request)
{
	ucs_status_t status = UCS_PTR_STATUS(request);

	if (!UCS_PTR_IS_PTR(request))
		return check(call, status);
	while ((status = ucp_request_check_status(request)) == UCS_INPROGRESS) {
		if (progress(link))
			return PERF_FAILED;
	}
	ucp_request_free(request);
	return check(call, status);
}

static ucs_status_t take_stamp(void *arg, const void *header, size_t header_len, void *data,
			       size_t len, const ucp_am_recv_param_t *param)
{
	struct link *link = arg;

	(void)data;
	(void)len;
	(void)param;
	if (header_len == sizeof(*link->stamps) && link->came - link->taken < STAMPS_MAX)
		memcpy(&link->stamps[link->came++ % STAMPS_MAX], header, header_len);
	return UCS_OK;
}

static int open_worker(struct link *link)
{
	const ucp_params_t params = {
		.field_mask = UCP_PARAM_FIELD_FEATURES,
		.features = UCP_FEATURE_RMA | UCP_FEATURE_AM | UCP_FEATURE_TAG |
			    (link->spin ? 0 : UCP_FEATURE_WAKEUP),
	};
	const ucp_worker_params_t worker_params = {
		.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE,
		.thread_mode = UCS_THREAD_MODE_SINGLE,
	};
	const ucp_am_handler_param_t handler = {
		.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_CB |
			      UCP_AM_HANDLER_PARAM_FIELD_ARG,
		.id = STAMP_ID,
		.cb = take_stamp,
		.arg = link,
	};
	ucs_status_t status = ucp_init(&params, NULL, &link->context);

	if (!status)
		status = ucp_worker_create(link->context, &worker_params, &link->worker);
	if (!status)
		status = ucp_worker_set_am_recv_handler(link->worker, &handler);
	if (!status && !link->spin)
		status = ucp_worker_get_efd(link->worker, &link->wake_fd);
	return check("opening a worker", status);
}

/* At base, or, where that is NULL, allocated by UCX; once. */
static ucs_status_t map_memory(struct link *link, void *base, size_t len)
{
	const ucp_mem_map_params_t params = {
		.field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH |
			      UCP_MEM_MAP_PARAM_FIELD_FLAGS,
		.address = base,
		.length = len,
		.flags = base ? 0 : UCP_MEM_MAP_ALLOCATE,
	};

	return link->memory ? UCS_OK : ucp_mem_map(link->context, &params, &link->memory);
}

static int give_offer(struct perf_run *run)
{
	struct link *link = run->own;
	struct offer offer = { .base = (uintptr_t)run->pool.base };
	ucp_address_t *address = NULL;
	void *key = NULL;

	ucs_status_t rc = map_memory(link, run->pool.base, run->pool.len);
	if (!rc)
		rc = ucp_rkey_pack(link->context, link->memory, &key, &offer.key_len);
	if (!rc)
		rc = ucp_worker_get_address(link->worker, &address, &offer.address_len);
	int status = check("offering the pool", rc) || perf_put(run, &offer, sizeof(offer)) ||
		     perf_put(run, address, offer.address_len) || perf_put(run, key, offer.key_len);
	if (address)
		ucp_worker_release_address(link->worker, address);
	if (key)
		ucp_rkey_buffer_release(key);
	return status ? PERF_FAILED : PERF_OK;
}

static int take_offer(struct perf_run *run)
{
	struct link *link = run->own;
	struct offer offer;

	if (perf_get(run, &offer, sizeof(offer)))
		return PERF_FAILED;
	char *bytes = malloc(offer.address_len + offer.key_len);
	if (!bytes || perf_get(run, bytes, offer.address_len) ||
	    perf_get(run, bytes + offer.address_len, offer.key_len)) {
		free(bytes);
		return PERF_FAILED;
	}
	const ucp_ep_params_t params = {
		.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS |
			      UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE,
		.err_mode = link->own_choice ? UCP_ERR_HANDLING_MODE_NONE
					     : UCP_ERR_HANDLING_MODE_PEER,
		.address = (ucp_address_t *)bytes,
	};
	link->remote_base = offer.base;
	ucs_status_t status = ucp_ep_create(link->worker, &params, &link->ep);
	if (!status)
		status = ucp_ep_rkey_unpack(link->ep, bytes + offer.address_len, &link->rkey);
	free(bytes);
	return check("taking the other pool", status);
}

static int open_context(struct perf_run *run)
{
	const struct perf_options *options = run->options;
	struct link *link = run->own ? run->own : perf_make_own(run, sizeof(*link));

	if (!link)
		return PERF_FAILED;
	if (link->worker)
		return PERF_OK;
	link->spin = options->spin_us > 0;
	link->own_choice = !strcmp(options->provider, "default");
	if (!link->own_choice)
		setenv("UCX_TLS", options->provider, 1);
	return open_worker(link);
}

static void *allocate_memory(struct perf_run *run, size_t len)
{
	ucp_mem_attr_t attr = { .field_mask = UCP_MEM_ATTR_FIELD_ADDRESS };

	if (open_context(run))
		return NULL;
	struct link *link = run->own;
	ucs_status_t status = map_memory(link, NULL, len);
	if (!status)
		status = ucp_mem_query(link->memory, &attr);
	return check("allocating", status) ? NULL : attr.address;
}

static int open_link(struct perf_run *run)
{
	return open_context(run) || give_offer(run) || take_offer(run) ? PERF_FAILED : PERF_OK;
}

/* The endpoint is closed by force: both processes have agreed by now that nothing moves. One that
 * does not tell of errors ends with the worker. */
static void close_link(struct perf_run *run)
{
	const ucp_request_param_t param = {
		.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS,
		.flags = UCP_EP_CLOSE_FLAG_FORCE,
	};
	struct link *link = run->own;

	if (!link)
		return;
	if (link->rkey)
		ucp_rkey_destroy(link->rkey);
	if (link->ep && !link->own_choice)
		await(link, "ucp_ep_close_nbx", ucp_ep_close_nbx(link->ep, &param));
	if (link->memory)
		ucp_mem_unmap(link->context, link->memory);
	if (link->worker)
		ucp_worker_destroy(link->worker);
	if (link->context)
		ucp_cleanup(link->context);
	free(link);
}

/* A message's tag is its number. */
static int send_message(struct perf_run *run, struct perf_flight *flight)
{
	const ucp_request_param_t param = { 0 };

	struct link *link = run->own;

	flight->request = ucp_tag_send_nbx(link->ep, flight->slot, run->job.block_len,
					   flight->number, &param);
	return PERF_OK;
}

static int receive_message(struct perf_run *run, struct perf_flight *flight)
{
	const ucp_request_param_t param = { 0 };

	struct link *link = run->own;

	flight->request = ucp_tag_recv_nbx(link->worker, flight->slot, run->job.block_len,
					   flight->number, UINT64_MAX, &param);
	return PERF_OK;
}

static int start_transfer(struct perf_run *run, struct perf_flight *flight)
{
	const ucp_request_param_t none = { 0 };
	struct link *link = run->own;
	const ucp_request_param_t param = {
		.op_attr_mask = UCP_OP_ATTR_FIELD_MEMH | UCP_OP_ATTR_FLAG_MULTI_SEND,
		.memh = link->memory,
	};
	size_t len = run->job.block_len;

	for (size_t i = 0; i < run->job.count; i++) {
		void *local = run->pool.base + flight->local[i] * len, *request;
		uint64_t remote = link->remote_base + flight->remote[i] * len;
		if (run->job.op == PERF_WRITE)
			request = ucp_put_nbx(link->ep, local, len, remote, link->rkey, &param);
		else
			request = ucp_get_nbx(link->ep, local, len, remote, link->rkey, &param);
		if (UCS_PTR_IS_ERR(request))
			return check("posting a block", UCS_PTR_STATUS(request));
		if (request)
			ucp_request_free(request); /* The flush waits for it. */
	}
	flight->request = ucp_ep_flush_nbx(link->ep, &none);
	return PERF_OK;
}

static int finish_flight(struct perf_run *run, struct perf_flight *flight)
{
	return await(run->own, "waiting", flight->request);
}

static int tell_stamp(struct perf_run *run, const struct perf_stamp *stamp)
{
	const ucp_request_param_t param = {
		.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS,
		.flags = UCP_AM_SEND_FLAG_EAGER,
	};
	struct link *link = run->own;

	return await(link, "ucp_am_send_nbx",
		     ucp_am_send_nbx(link->ep, STAMP_ID, stamp, sizeof(*stamp), NULL, 0, &param));
}

static int await_stamp(struct perf_run *run, struct perf_stamp *stamp)
{
	struct link *link = run->own;

	while (link->taken == link->came) {
		if (progress(link))
			return PERF_FAILED;
	}
	*stamp = link->stamps[link->taken++ % STAMPS_MAX];
	return PERF_OK;
}

/* What was sent last may still need us. */
static int hear_line(struct perf_run *run, char *line)
{
	struct pollfd event = { .fd = run->control, .events = POLLIN };
	struct link *link = run->own;

	while (link && !poll(&event, 1, 0)) {
		if (!ucp_worker_progress(link->worker))
			poll(&event, 1, 1);
	}
	return perf_hear_control(run, line);
}

const struct perf_path perf_path_ucx = {
	.name = "ucx",
	.provider = "tcp",
	.allocate = allocate_memory,
	.open = open_link,
	.close = close_link,
	.send = send_message,
	.recv = receive_message,
	.move = start_transfer,
	.finish = finish_flight,
	.tell = tell_stamp,
	.await_stamp = await_stamp,
	.hear = hear_line,
};
