/* SPDX-License-Identifier: Apache-2.0 */
/*
 * path_kvtrans.c - the path of the library, through the public API alone: a connection, a control KV, and a KV for
 * each message in flight or a pool of blocks. It never measures.
 */
#include "path_kvtrans.h"

#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The name under which the serving process exports its pool. */
#define POOL_NAME "pool"

int kvtrans_check(enum kvt_err err, const char *what, const struct kvt_error *error)
{
	if (!err)
		return PERF_OK;
	if (perf_is_interrupted(NULL))
		return PERF_INTERRUPTED;
	warnx("%s: %s", what, error && error->text[0] ? error->text : kvt_err_get_text(err));
	return PERF_FAILED;
}

/* ---- transfers ---- */

static int start_send(struct perf_run *run, struct kvt_kv *kv, const void *base, size_t len,
		      struct kvt_transfer **transfer)
{
	const struct kvt_send_request request = {
		.size = sizeof(request),
		.base = base,
		.len = len,
		.timeout_ns = run->options->timeout_ns,
	};
	struct kvt_error error = { 0 };

	return kvtrans_check(kvt_send_start(kv, &request, transfer, &error), "starting a send",
			     &error);
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

	return kvtrans_check(kvt_recv_start(kv, &request, transfer, &error), "starting a receive",
			     &error);
}

int kvtrans_notify(struct perf_run *run, struct kvt_conn *conn, const struct perf_stamp *stamp,
		   size_t len, struct kvt_transfer **transfer)
{
	unsigned char bytes[PERF_NOTIFY_MAX] = { 0 };
	const struct kvt_notify_request request = {
		.size = sizeof(request),
		.conn = conn,
		.notify = bytes,
		.notify_len = len,
		.timeout_ns = run->options->timeout_ns,
	};
	struct kvt_error error = { 0 };

	memcpy(bytes, stamp, sizeof(*stamp));
	return kvtrans_check(kvt_notify_start(&request, transfer, &error),
			     "starting a notification", &error);
}

int kvtrans_await(struct kvt_transfer **transfer, size_t *len)
{
	struct kvt_result result = { .size = sizeof(result) };

	/* Who wants to leave cancels it first. */
	while (kvt_transfer_wait(*transfer, PERF_SECOND) == KVT_E_AGAIN) {
		if (perf_is_interrupted(NULL))
			kvt_transfer_cancel(*transfer);
	}
	int status = kvtrans_check(kvt_transfer_get_result(*transfer, &result), "a transfer", NULL);
	if (!status && result.err) {
		struct kvt_error error;
		snprintf(error.text, sizeof(error.text), "%s", result.text);
		status = kvtrans_check(result.err, "a transfer", &error);
	}
	kvt_transfer_free(*transfer);
	*transfer = NULL;
	if (!status)
		*len = result.len;
	return status;
}

static int say_line(struct perf_run *run, const char *line)
{
	struct kvtrans *own = run->own;
	struct kvt_transfer *transfer;
	size_t len = strlen(line);

	int status = start_send(run, own->control, line, len, &transfer);
	return status ? status : kvtrans_await(&transfer, &len);
}

int kvtrans_start_hear(struct perf_run *run, char *line, int64_t timeout_ns,
		       struct kvt_transfer **transfer)
{
	struct kvtrans *own = run->own;

	return start_recv(own->control, line, PERF_LINE_LEN - 1, timeout_ns, transfer);
}

static int hear_line(struct perf_run *run, char *line)
{
	struct kvt_transfer *transfer;
	size_t len;

	int status = kvtrans_start_hear(run, line, run->options->timeout_ns, &transfer);
	if (!status && !(status = kvtrans_await(&transfer, &len)))
		line[len] = '\0';
	return status;
}

static int send_message(struct perf_run *run, struct perf_flight *flight)
{
	struct kvtrans *own = run->own;
	struct kvt_kv *kv = own->kvs[flight->number % run->job.depth];

	return start_send(run, kv, flight->slot, run->job.block_len,
			  (struct kvt_transfer **)&flight->request);
}

static int receive_message(struct perf_run *run, struct perf_flight *flight)
{
	struct kvtrans *own = run->own;
	struct kvt_kv *kv = own->kvs[flight->number % run->job.depth];

	return start_recv(kv, flight->slot, run->job.block_len, run->options->timeout_ns,
			  (struct kvt_transfer **)&flight->request);
}

static int move_blocks(struct perf_run *run, struct perf_flight *flight)
{
	const struct perf_job *job = &run->job;
	struct kvtrans *own = run->own;
	struct perf_stamp stamp = perf_run_get_stamp(flight);
	struct kvt_transfer **transfer = (struct kvt_transfer **)&flight->request;
	bool told = perf_run_is_told(run);
	struct kvt_error error = { 0 };

	if (job->op == PERF_NOTIFY)
		return kvtrans_notify(run, own->conn, &stamp, job->block_len, transfer);
	const struct kvt_blocks_request request = {
		.size = sizeof(request),
		.direction = job->op == PERF_WRITE ? KVT_WRITE : KVT_READ,
		.pool = own->pool,
		.remote = own->remote,
		.local_idx = flight->local,
		.remote_idx = flight->remote,
		.index_len = sizeof(*flight->local),
		.count = perf_run_count_indices(run),
		.notify = told ? &stamp : NULL,
		.notify_len = told ? sizeof(stamp) : 0,
		.timeout_ns = run->options->timeout_ns,
	};
	return kvtrans_check(kvt_blocks_start(&request, transfer, &error), "starting a transfer",
			     &error);
}

static int finish_flight(struct perf_run *run, struct perf_flight *flight)
{
	const struct perf_job *job = &run->job;
	size_t due = job->block_len * (perf_job_is_paged(job) ? job->count : 1);
	size_t len = 0;

	int status = kvtrans_await((struct kvt_transfer **)&flight->request, &len);
	if (!status && len != due && job->op != PERF_NOTIFY) {
		warnx("a transfer of %zu bytes moved %zu", due, len);
		return PERF_FAILED;
	}
	return status;
}

static int tell_stamp(struct perf_run *run, const struct perf_stamp *stamp)
{
	struct kvtrans *own = run->own;
	struct kvt_transfer *transfer;
	size_t len;

	int status = kvtrans_notify(run, own->conn, stamp, sizeof(*stamp), &transfer);
	return status ? status : kvtrans_await(&transfer, &len);
}

static int await_stamp(struct perf_run *run, struct perf_stamp *stamp)
{
	struct kvtrans *own = run->own;
	int64_t limit = perf_now_ns() + run->options->timeout_ns;
	struct kvt_event *event = NULL;
	enum kvt_err err;

	while ((err = kvt_engine_get_event(own->engine, &event)) == KVT_E_AGAIN) {
		err = kvt_engine_wait(own->engine, PERF_SECOND);
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
	return kvtrans_check(err, "waiting for a notification", NULL);
}

/* ---- opening and closing ---- */

static int open_kvs(struct perf_run *run)
{
	struct kvtrans *own = run->own;
	struct kvt_error error = { 0 };

	own->kvs = calloc(run->job.depth, sizeof(struct kvt_kv *));
	if (!own->kvs) {
		warn("calloc");
		return PERF_FAILED;
	}
	for (unsigned i = 0; i < run->job.depth; i++) {
		const struct kvt_kv_config config = {
			.size = sizeof(config),
			.base = run->pool.base,
			.len = run->pool.len,
			.tag = i,
		};
		int status = kvtrans_check(kvt_kv_open(own->conn, &config, &own->kvs[i], &error),
					   "opening a KV", &error);
		if (status)
			return status;
	}
	return PERF_OK;
}

/* With memory of the run's, or, where it has none yet, of the engine's. */
static int make_pool(struct perf_run *run, size_t count)
{
	const struct perf_job *job = &run->job;
	struct kvtrans *own = run->own;
	unsigned char *base = run->pool.base;
	struct kvt_extent extents[PERF_EXTENTS_MAX];
	const struct kvt_pool_config config = {
		.size = sizeof(config),
		.extents = extents,
		.extent_size = sizeof(extents[0]),
		.extent_count = job->extents,
		.block_len = job->block_len,
	};
	struct kvt_error error = { 0 };

	for (unsigned i = 0; i < job->extents; i++)
		extents[i] = (struct kvt_extent){
			.base = base ? base + i * count * job->block_len : NULL,
			.count = count,
			.stride = job->block_len,
		};
	return kvtrans_check(kvt_pool_open(own->engine, &config, &own->pool, &error),
			     "opening a pool", &error);
}

static void *allocate_pool(struct perf_run *run, size_t len)
{
	struct kvtrans *own = run->own;

	return make_pool(run, len / run->job.block_len) ? NULL : kvt_pool_get_base(own->pool, 0);
}

static int open_pool(struct perf_run *run)
{
	const struct perf_job *job = &run->job;
	struct kvtrans *own = run->own;
	unsigned access = job->op == PERF_WRITE ? KVT_ACCESS_WRITE : KVT_ACCESS_READ;
	struct kvt_error error = { 0 };
	enum kvt_err err = KVT_OK;

	if (!own->pool && make_pool(run, run->pool.count / job->extents))
		return PERF_FAILED;
	if (run->leads)
		err = kvt_remote_find(own->conn, POOL_NAME, run->options->timeout_ns, &own->remote,
				      &error);
	else
		err = kvt_export_open(own->conn, own->pool, access, POOL_NAME, &own->exported,
				      &error);
	return kvtrans_check(err, "sharing a pool", &error);
}

static int open_path(struct perf_run *run)
{
	if (run->job.op == PERF_SEND)
		return open_kvs(run);
	return run->job.op == PERF_NOTIFY ? PERF_OK : open_pool(run);
}

static void close_path(struct perf_run *run)
{
	struct kvtrans *own = run->own;

	for (unsigned i = 0; run->flights && i <= run->job.depth; i++)
		kvt_transfer_free(run->flights[i].request);
	for (unsigned i = 0; own->kvs && i < run->job.depth; i++)
		kvt_kv_close(own->kvs[i]);
	free(own->kvs);
	kvt_remote_close(own->remote);
	kvt_export_close(own->exported);
	kvt_pool_close(own->pool);
	kvtrans_end_beside(own);
	own->kvs = NULL;
	own->remote = NULL;
	own->exported = NULL;
	own->pool = NULL;
}

const struct perf_path perf_path_kvtrans = {
	.name = "kvtrans",
	.start = kvtrans_start,
	.stop = kvtrans_stop,
	.meet = kvtrans_meet,
	.part = kvtrans_part,
	.allocate = allocate_pool,
	.open = open_path,
	.close = close_path,
	.add_beside = kvtrans_add_beside,
	.probe = kvtrans_probe,
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
