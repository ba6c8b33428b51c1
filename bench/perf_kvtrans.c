/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_kvtrans.c - see perf_kvtrans.h. It never measures.
 */
#include "perf_kvtrans.h"

#include <err.h>
#include <stdlib.h>
#include <string.h>

/* Above the tags of data KVs, which count from 0. */
static const uint64_t CONTROL_TAG = UINT64_C(1) << 32;

/* The name under which the serving process exports its pool. */
#define POOL_NAME "pool"

int perf_blame(const char *what, const struct kvt_error *error)
{
	if (perf_is_interrupted(NULL))
		return PERF_INTERRUPTED;
	warnx("%s: %s", what, error->text[0] ? error->text : kvt_err_get_text(error->code));
	return PERF_FAILED;
}

int perf_open_engine(const struct perf_engine *options, uint16_t port, struct kvt_engine **engine)
{
	struct kvt_error error = { 0 };
	const struct kvt_engine_config config = {
		.size = sizeof(config),
		.interfaces = options->interfaces,
		.interface_count = options->interface_count,
		.provider = options->provider,
		.lane_ports = options->lane_ports,
		.ncpus = options->ncpus,
		.nconn_per_cpu = options->nconn,
		.listen_port = port,
		.eager_len = options->eager_len,
		.spin_ns = options->spin_ns,
		.interrupted = perf_is_interrupted,
	};

	if (kvt_engine_open(&config, engine, &error))
		return perf_blame("opening the engine", &error);
	return PERF_OK;
}

int perf_peer_open(struct perf_peer *peer, struct kvt_engine *engine, struct kvt_conn *conn,
		   int64_t timeout_ns)
{
	const struct kvt_kv_config config = { .size = sizeof(config), .tag = CONTROL_TAG };
	struct kvt_error error = { 0 };

	*peer = (struct perf_peer){ .engine = engine, .conn = conn, .timeout_ns = timeout_ns };
	if (kvt_kv_open(conn, &config, &peer->control, &error))
		return perf_blame("opening the control KV", &error);
	return PERF_OK;
}

void perf_peer_close(struct perf_peer *peer)
{
	kvt_kv_close(peer->control);
	kvt_conn_close(peer->conn);
}

/* ---- transfers ---- */

static int start_send(struct perf_peer *peer, struct kvt_kv *kv, const void *base, size_t len,
		      struct kvt_transfer **transfer)
{
	const struct kvt_send_request request = {
		.size = sizeof(request),
		.base = base,
		.len = len,
		.timeout_ns = peer->timeout_ns,
	};
	struct kvt_error error = { 0 };

	if (kvt_send_start(kv, &request, transfer, &error))
		return perf_blame("starting a send", &error);
	return PERF_OK;
}

static int start_recv(struct kvt_kv *kv, void *base, size_t len, int64_t timeout_ns,
		      struct kvt_transfer **transfer)
{
	const struct kvt_recv_request request = {
		.size = sizeof(request),
		.base = base,
		.len = len,
		.timeout_ns = timeout_ns,
	};
	struct kvt_error error = { 0 };

	if (kvt_recv_start(kv, &request, transfer, &error))
		return perf_blame("starting a receive", &error);
	return PERF_OK;
}

int perf_await(struct kvt_transfer **transfer, size_t *len)
{
	struct kvt_result result = { .size = sizeof(result) };
	int status = PERF_OK;

	/* Who wants to leave cancels it first. */
	while (kvt_transfer_wait(*transfer, PERF_SECOND) == KVT_E_AGAIN) {
		if (perf_is_interrupted(NULL))
			kvt_transfer_cancel(*transfer);
	}
	enum kvt_err err = kvt_transfer_get_result(*transfer, &result);
	if (err || result.err) {
		struct kvt_error error = { .code = err ? err : result.err };
		snprintf(error.text, sizeof(error.text), "%s", err ? "" : result.text);
		status = perf_blame("a transfer", &error);
	}
	kvt_transfer_free(*transfer);
	*transfer = NULL;
	if (!status)
		*len = result.len;
	return status;
}

int perf_say(struct perf_peer *peer, const char *line)
{
	struct kvt_transfer *transfer;
	size_t len = strlen(line);

	int status = start_send(peer, peer->control, line, len, &transfer);
	return status ? status : perf_await(&transfer, &len);
}

int perf_start_hear(struct perf_peer *peer, char *line, struct kvt_transfer **transfer)
{
	return start_recv(peer->control, line, PERF_LINE_LEN - 1, KVT_FOREVER, transfer);
}

int perf_hear(struct perf_peer *peer, char *line)
{
	struct kvt_transfer *transfer;
	size_t len;

	int status =
		start_recv(peer->control, line, PERF_LINE_LEN - 1, peer->timeout_ns, &transfer);
	if (!status && !(status = perf_await(&transfer, &len)))
		line[len] = '\0';
	return status;
}

/* ---- the path ---- */

static int say_line(struct perf_run *run, const char *line)
{
	return perf_say(run->context, line);
}

static int hear_line(struct perf_run *run, char *line)
{
	return perf_hear(run->context, line);
}

static int send_message(struct perf_run *run, struct perf_flight *flight)
{
	struct perf_peer *peer = run->context;
	struct kvt_transfer *transfer;
	struct kvt_kv *kv = peer->kvs[flight->number % run->job->depth];

	int status = start_send(peer, kv, flight->slot, run->job->block_len, &transfer);
	flight->request = status ? NULL : transfer;
	return status;
}

static int receive_message(struct perf_run *run, struct perf_flight *flight)
{
	struct perf_peer *peer = run->context;
	struct kvt_transfer *transfer;
	struct kvt_kv *kv = peer->kvs[flight->number % run->job->depth];

	int status = start_recv(kv, flight->slot, run->job->block_len, peer->timeout_ns, &transfer);
	flight->request = status ? NULL : transfer;
	return status;
}

static int notify(struct perf_peer *peer, const struct perf_stamp *stamp, size_t len,
		  struct kvt_transfer **transfer)
{
	unsigned char bytes[PERF_NOTIFY_MAX] = { 0 };
	const struct kvt_notify_request request = {
		.size = sizeof(request),
		.conn = peer->conn,
		.notify = bytes,
		.notify_len = len,
		.timeout_ns = peer->timeout_ns,
	};
	struct kvt_error error = { 0 };

	memcpy(bytes, stamp, sizeof(*stamp));
	if (kvt_notify_start(&request, transfer, &error))
		return perf_blame("starting a notification", &error);
	return PERF_OK;
}

static int move_blocks(struct perf_run *run, struct perf_flight *flight)
{
	const struct perf_job *job = run->job;
	struct perf_peer *peer = run->context;
	struct perf_stamp stamp = perf_run_get_stamp(flight);
	bool told = perf_run_is_told(run);
	struct kvt_transfer *transfer;
	struct kvt_error error = { 0 };

	if (job->op == PERF_NOTIFY) {
		int status = notify(peer, &stamp, job->block_len, &transfer);
		flight->request = status ? NULL : transfer;
		return status;
	}
	const struct kvt_blocks_request request = {
		.size = sizeof(request),
		.direction = job->op == PERF_WRITE ? KVT_WRITE : KVT_READ,
		.pool = peer->pool,
		.remote = peer->remote,
		.local_idx = flight->local,
		.remote_idx = flight->remote,
		.index_len = sizeof(*flight->local),
		.count = perf_run_count_indices(run),
		.notify = told ? &stamp : NULL,
		.notify_len = told ? sizeof(stamp) : 0,
		.timeout_ns = peer->timeout_ns,
	};
	if (kvt_blocks_start(&request, &transfer, &error))
		return perf_blame("starting a transfer", &error);
	flight->request = transfer;
	return PERF_OK;
}

static int finish_flight(struct perf_run *run, struct perf_flight *flight)
{
	const struct perf_job *job = run->job;
	struct kvt_transfer *transfer = flight->request;
	size_t due = job->block_len * (perf_job_is_paged(job) ? job->count : 1);
	size_t len = 0;

	flight->request = NULL;
	int status = perf_await(&transfer, &len);
	if (!status && len != due && job->op != PERF_NOTIFY) {
		warnx("a transfer of %zu bytes moved %zu", due, len);
		return PERF_FAILED;
	}
	return status;
}

static int tell_stamp(struct perf_run *run, const struct perf_stamp *stamp)
{
	struct kvt_transfer *transfer;
	size_t len;

	int status = notify(run->context, stamp, sizeof(*stamp), &transfer);
	return status ? status : perf_await(&transfer, &len);
}

static int await_stamp(struct perf_run *run, struct perf_stamp *stamp)
{
	struct perf_peer *peer = run->context;
	int64_t limit = perf_now_ns() + peer->timeout_ns;
	struct kvt_event *event = NULL;
	enum kvt_err err;

	while ((err = kvt_engine_get_event(peer->engine, &event)) == KVT_E_AGAIN) {
		err = kvt_engine_wait(peer->engine, PERF_SECOND);
		if (perf_is_interrupted(NULL))
			return PERF_INTERRUPTED;
		if (err && (err != KVT_E_AGAIN || perf_now_ns() > limit))
			break;
	}
	if (!err && event->kind == KVT_EVENT_NOTIFICATION && event->len >= sizeof(*stamp)) {
		memcpy(stamp, event->data, sizeof(*stamp));
		err = event->err;
	} else if (!err) {
		err = event->err ? event->err : KVT_E_PROTOCOL;
	}
	if (event)
		kvt_event_free(event);
	if (!err)
		return PERF_OK;
	warnx("waiting for a notification: %s", kvt_err_get_text(err));
	return PERF_FAILED;
}

static int open_kvs(struct perf_run *run)
{
	struct perf_peer *peer = run->context;
	struct kvt_error error = { 0 };

	peer->kvs = calloc(run->job->depth, sizeof(*peer->kvs));
	if (!peer->kvs) {
		warn("calloc");
		return PERF_FAILED;
	}
	for (unsigned i = 0; i < run->job->depth; i++) {
		const struct kvt_kv_config config = {
			.size = sizeof(config),
			.base = run->pool.base,
			.len = run->pool.len,
			.tag = i,
		};
		if (kvt_kv_open(peer->conn, &config, &peer->kvs[i], &error))
			return perf_blame("opening a KV", &error);
	}
	return PERF_OK;
}

static int open_pool(struct perf_run *run)
{
	const struct perf_job *job = run->job;
	struct perf_peer *peer = run->context;
	size_t part = run->pool.count / job->extents;
	struct kvt_extent extents[PERF_EXTENTS_MAX];
	const struct kvt_pool_config config = {
		.size = sizeof(config),
		.extents = extents,
		.extent_size = sizeof(extents[0]),
		.extent_count = job->extents,
		.block_len = job->block_len,
	};
	struct kvt_error error = { 0 };

	for (unsigned i = 0; i < job->extents; i++) {
		extents[i] = (struct kvt_extent){
			.base = run->pool.base + i * part * job->block_len,
			.count = part,
			.stride = job->block_len,
		};
	}
	if (kvt_pool_open(peer->engine, &config, &peer->pool, &error))
		return perf_blame("opening a pool", &error);
	unsigned access = job->op == PERF_WRITE ? KVT_ACCESS_WRITE : KVT_ACCESS_READ;
	if (!run->leads &&
	    kvt_export_open(peer->conn, peer->pool, access, POOL_NAME, &peer->exported, &error))
		return perf_blame("exporting the pool", &error);
	if (run->leads &&
	    kvt_remote_find(peer->conn, POOL_NAME, peer->timeout_ns, &peer->remote, &error))
		return perf_blame("finding the server's pool", &error);
	return PERF_OK;
}

static int open_path(struct perf_run *run)
{
	if (run->job->op == PERF_SEND)
		return open_kvs(run);
	return run->job->op == PERF_NOTIFY ? PERF_OK : open_pool(run);
}

static void close_path(struct perf_run *run)
{
	struct perf_peer *peer = run->context;

	for (unsigned i = 0; run->flights && i <= run->job->depth; i++)
		kvt_transfer_free(run->flights[i].request);
	for (unsigned i = 0; peer->kvs && i < run->job->depth; i++)
		kvt_kv_close(peer->kvs[i]);
	free(peer->kvs);
	kvt_remote_close(peer->remote);
	kvt_export_close(peer->exported);
	kvt_pool_close(peer->pool);
}

const struct perf_path perf_kvtrans_path = {
	.name = "kvtrans",
	.open = open_path,
	.close = close_path,
	.say = say_line,
	.hear = hear_line,
	.send = send_message,
	.recv = receive_message,
	.move = move_blocks,
	.finish = finish_flight,
	.tell = tell_stamp,
	.await_stamp = await_stamp,
	.tells_writes = true,
	.tells_reads = true,
};
