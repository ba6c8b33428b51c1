/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw_ucx.c - paged transfers by UCX alone: ucp_put_nbx() or ucp_get_nbx() for each block and one
 * flush, after which every byte is in place. Its transport is --provider, as UCX_TLS has it, so tcp
 * unless it is told otherwise. Endpoints tell of a peer that died, as users of a network want and as
 * NIXL has it; "default" lets UCX choose among all it has, and asks for no such thing, which would
 * leave shared memory out. It is built when configure finds UCX, and it never merges blocks.
 */
#include "raw_paged.h"

#include <err.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <ucp/api/ucp.h>

enum { WORD_ID = 1, WORDS_MAX = 1024 };

struct ucx {
	bool spin;
	bool own_choice;
	ucp_context_h context;
	ucp_worker_h worker;
	ucp_mem_h memory;
	ucp_ep_h ep;
	ucp_rkey_h rkey;
	uint64_t remote_base;
	int wake_fd;
	uint64_t words[WORDS_MAX]; /* that came and were not heard yet */
	size_t came, heard;
};

/* What both processes tell each other; the worker's address and the key follow. */
struct offer {
	uint64_t base;
	size_t address_len;
	size_t key_len;
};

static const char doc[] = "Measure UCX between two processes of this host (--paged write or read).";

static int fail(const char *call, ucs_status_t status)
{
	warnx("%s: %s", call, ucs_status_string(status));
	return -1;
}

/* Make progress; asleep when there is none, unless the program spins. */
static int progress(struct ucx *ucx)
{
	if (ucp_worker_progress(ucx->worker) || ucx->spin)
		return 0;
	ucs_status_t status = ucp_worker_arm(ucx->worker);
	if (status == UCS_ERR_BUSY)
		return 0;
	if (status)
		return fail("ucp_worker_arm", status);
	struct pollfd event = { .fd = ucx->wake_fd, .events = POLLIN };
	poll(&event, 1, 1000);
	return 0;
}

/* Wait for a request, if it is one, and free it. */
static int await(struct ucx *ucx, const char *call, void *request)
{
	ucs_status_t status = UCS_PTR_STATUS(request);

	if (!UCS_PTR_IS_PTR(request))
		return status ? fail(call, status) : 0;
	while ((status = ucp_request_check_status(request)) == UCS_INPROGRESS) {
		if (progress(ucx))
			return -1;
	}
	ucp_request_free(request);
	return status ? fail(call, status) : 0;
}

static ucs_status_t take_word(void *arg, const void *header, size_t header_len, void *data,
			      size_t len, const ucp_am_recv_param_t *param)
{
	struct ucx *ucx = arg;

	(void)data;
	(void)len;
	(void)param;
	if (header_len == sizeof(uint64_t) && ucx->came - ucx->heard < WORDS_MAX)
		memcpy(&ucx->words[ucx->came++ % WORDS_MAX], header, sizeof(uint64_t));
	return UCS_OK;
}

static int open_worker(struct ucx *ucx)
{
	const ucp_params_t params = {
		.field_mask = UCP_PARAM_FIELD_FEATURES,
		.features = UCP_FEATURE_RMA | UCP_FEATURE_AM | (ucx->spin ? 0 : UCP_FEATURE_WAKEUP),
	};
	const ucp_worker_params_t worker_params = {
		.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE,
		.thread_mode = UCS_THREAD_MODE_SINGLE,
	};
	const ucp_am_handler_param_t handler = {
		.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_CB |
			      UCP_AM_HANDLER_PARAM_FIELD_ARG,
		.id = WORD_ID,
		.cb = take_word,
		.arg = ucx,
	};
	ucs_status_t status;

	if ((status = ucp_init(&params, NULL, &ucx->context)))
		return fail("ucp_init", status);
	if ((status = ucp_worker_create(ucx->context, &worker_params, &ucx->worker)))
		return fail("ucp_worker_create", status);
	if (!ucx->spin && (status = ucp_worker_get_efd(ucx->worker, &ucx->wake_fd)))
		return fail("ucp_worker_get_efd", status);
	if ((status = ucp_worker_set_am_recv_handler(ucx->worker, &handler)))
		return fail("ucp_worker_set_am_recv_handler", status);
	return 0;
}

static int give_offer(struct ucx *ucx, int control, const struct perf_pool *pool)
{
	const ucp_mem_map_params_t params = {
		.field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH,
		.address = pool->base,
		.length = pool->len,
	};
	struct offer offer = { .base = (uintptr_t)pool->base };
	ucp_address_t *address;
	ucs_status_t status;
	void *key;

	if ((status = ucp_mem_map(ucx->context, &params, &ucx->memory)))
		return fail("ucp_mem_map", status);
	if ((status = ucp_rkey_pack(ucx->context, ucx->memory, &key, &offer.key_len)))
		return fail("ucp_rkey_pack", status);
	if ((status = ucp_worker_get_address(ucx->worker, &address, &offer.address_len))) {
		ucp_rkey_buffer_release(key);
		return fail("ucp_worker_get_address", status);
	}
	int rc = raw_put(control, &offer, sizeof(offer));
	if (!rc)
		rc = raw_put(control, address, offer.address_len);
	if (!rc)
		rc = raw_put(control, key, offer.key_len);
	ucp_worker_release_address(ucx->worker, address);
	ucp_rkey_buffer_release(key);
	return rc;
}

static int take_offer(struct ucx *ucx, int control)
{
	struct offer offer;
	ucs_status_t status;

	if (raw_get(control, &offer, sizeof(offer)))
		return -1;
	char *bytes = malloc(offer.address_len + offer.key_len);
	if (!bytes || raw_get(control, bytes, offer.address_len + offer.key_len)) {
		free(bytes);
		return -1;
	}
	const ucp_ep_params_t params = {
		.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS |
			      UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE,
		.err_mode = ucx->own_choice ? UCP_ERR_HANDLING_MODE_NONE
					    : UCP_ERR_HANDLING_MODE_PEER,
		.address = (ucp_address_t *)bytes,
	};
	ucx->remote_base = offer.base;
	if ((status = ucp_ep_create(ucx->worker, &params, &ucx->ep)))
		fail("ucp_ep_create", status);
	else if ((status = ucp_ep_rkey_unpack(ucx->ep, bytes + offer.address_len, &ucx->rkey)))
		fail("ucp_ep_rkey_unpack", status);
	free(bytes);
	return status ? -1 : 0;
}

static int open_ucx(struct raw_paged *paged)
{
	struct ucx *ucx = calloc(1, sizeof(*ucx));

	if (!ucx) {
		warn("calloc");
		return -1;
	}
	paged->own = ucx;
	ucx->spin = paged->options->spin;
	ucx->own_choice = !strcmp(paged->options->provider, "default");
	if (open_worker(ucx) || give_offer(ucx, paged->peer->fd, &paged->pool))
		return -1;
	return take_offer(ucx, paged->peer->fd);
}

/* The endpoint is closed by force: both processes have agreed by now that nothing moves. One that
 * does not tell of errors ends with the worker. */
static void close_ucx(struct raw_paged *paged)
{
	const ucp_request_param_t param = {
		.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS,
		.flags = UCP_EP_CLOSE_FLAG_FORCE,
	};
	struct ucx *ucx = paged->own;

	if (!ucx)
		return;
	if (ucx->rkey)
		ucp_rkey_destroy(ucx->rkey);
	if (ucx->ep && !ucx->own_choice)
		await(ucx, "ucp_ep_close_nbx", ucp_ep_close_nbx(ucx->ep, &param));
	if (ucx->memory)
		ucp_mem_unmap(ucx->context, ucx->memory);
	if (ucx->worker)
		ucp_worker_destroy(ucx->worker);
	if (ucx->context)
		ucp_cleanup(ucx->context);
	free(ucx);
}

static int post_block(struct raw_paged *paged, const struct raw_flight *flight, size_t i)
{
	struct ucx *ucx = paged->own;
	const ucp_request_param_t param = {
		.op_attr_mask = UCP_OP_ATTR_FIELD_MEMH | UCP_OP_ATTR_FLAG_MULTI_SEND,
		.memh = ucx->memory,
	};
	size_t len = paged->options->block_len;
	void *local = paged->pool.base + flight->local[i] * len;
	uint64_t remote = ucx->remote_base + flight->remote[i] * len;
	void *request;

	if (paged->options->op == RAW_WRITE)
		request = ucp_put_nbx(ucx->ep, local, len, remote, ucx->rkey, &param);
	else
		request = ucp_get_nbx(ucx->ep, local, len, remote, ucx->rkey, &param);
	if (UCS_PTR_IS_ERR(request))
		return fail("posting a block", UCS_PTR_STATUS(request));
	if (request)
		ucp_request_free(request); /* The flush waits for it. */
	return 0;
}

static int post_transfer(struct raw_paged *paged, struct raw_flight *flight)
{
	const ucp_request_param_t param = { 0 };
	struct ucx *ucx = paged->own;

	for (size_t i = 0; i < paged->options->count; i++) {
		if (post_block(paged, flight, i))
			return -1;
	}
	flight->request = ucp_ep_flush_nbx(ucx->ep, &param);
	return 0;
}

static int finish_transfer(struct raw_paged *paged, struct raw_flight *flight)
{
	return await(paged->own, "ucp_ep_flush_nbx", flight->request);
}

static int tell_word(struct raw_paged *paged, uint64_t word)
{
	const ucp_request_param_t param = {
		.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS,
		.flags = UCP_AM_SEND_FLAG_EAGER,
	};
	struct ucx *ucx = paged->own;
	void *request = ucp_am_send_nbx(ucx->ep, WORD_ID, &word, sizeof(word), NULL, 0, &param);

	return await(ucx, "ucp_am_send_nbx", request);
}

static int hear_word(struct raw_paged *paged, uint64_t *word)
{
	struct ucx *ucx = paged->own;

	while (ucx->heard == ucx->came) {
		if (progress(ucx))
			return -1;
	}
	*word = ucx->words[ucx->heard++ % WORDS_MAX];
	return 0;
}

int main(int argc, char **argv)
{
	static const struct raw_path path = {
		.tool = "raw_ucx",
		.open = open_ucx,
		.close = close_ucx,
		.post = post_transfer,
		.finish = finish_transfer,
		.tell = tell_word,
		.hear = hear_word,
	};
	struct raw_options options;

	raw_parse(&options, doc, argc, argv);
	if (options.op == RAW_STREAM)
		errx(PERF_USAGE, "this one measures paged transfers only: --paged write or read");
	if (strcmp(options.provider, "default"))
		setenv("UCX_TLS", options.provider, 1);
	return raw_paged_run(&path, &options);
}
