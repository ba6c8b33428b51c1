/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_peer.c - see perf_peer.h. It never measures.
 */
#include "perf_peer.h"

#include <err.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Above the tags of data KVs, which count from 0. */
static const uint64_t CONTROL_TAG = UINT64_C(1) << 32;

static unsigned patience = 1;

void perf_set_patience(unsigned interrupts)
{
	patience = interrupts;
}

static int is_interrupted(void *arg)
{
	(void)arg;
	return perf_count_interrupts() >= patience;
}

int perf_blame(const char *what, const struct kvt_error *error)
{
	if (is_interrupted(NULL))
		return PERF_INTERRUPTED;
	if (error->text[0])
		warnx("%s: %s", what, error->text);
	else
		warnx("%s: %s", what, kvt_err_get_text(error->code));
	return PERF_FAILED;
}

int perf_open_engine(const struct perf_options *options, uint16_t port, struct kvt_engine **engine)
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
		.interrupted = is_interrupted,
	};

	if (kvt_engine_open(&config, engine, &error))
		return perf_blame("opening the engine", &error);
	return PERF_OK;
}

int perf_peer_open(struct perf_peer *peer, struct kvt_conn *conn, int64_t timeout_ns)
{
	const struct kvt_kv_config config = { .size = sizeof(config), .tag = CONTROL_TAG };
	struct kvt_error error = { 0 };

	*peer = (struct perf_peer){ .conn = conn, .timeout_ns = timeout_ns };
	if (kvt_kv_open(conn, &config, &peer->control, &error))
		return perf_blame("opening the control KV", &error);
	return PERF_OK;
}

void perf_peer_close(struct perf_peer *peer)
{
	kvt_kv_close(peer->control);
	kvt_conn_close(peer->conn);
}

int perf_say(struct perf_peer *peer, const char *format, ...)
{
	struct kvt_transfer *transfer;
	char text[PERF_TEXT_LEN];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	size_t len = strlen(text);
	int status = perf_start_send(peer, peer->control, text, len, &transfer);
	return status ? status : perf_finish(&transfer, len);
}

/* Wait until a transfer has completed; a caller that wants to leave cancels it first. */
static void await_transfer(struct kvt_transfer *transfer)
{
	while (kvt_transfer_wait(transfer, PERF_SECOND) == KVT_E_AGAIN) {
		if (is_interrupted(NULL))
			kvt_transfer_cancel(transfer);
	}
}

/* Free a completed transfer; its length when it succeeded. */
static int take_result(struct kvt_transfer **transfer, size_t *len)
{
	struct kvt_result result = { .size = sizeof(result) };
	int status = PERF_OK;

	enum kvt_err err = kvt_transfer_get_result(*transfer, &result);
	if (err || result.err) {
		struct kvt_error error = { .code = err ? err : result.err };
		memcpy(error.text, result.text, sizeof(error.text));
		status = perf_blame("a transfer", &error);
	}
	kvt_transfer_free(*transfer);
	*transfer = NULL;
	if (!status)
		*len = result.len;
	return status;
}

int perf_start_hear(struct perf_peer *peer, char *text, int64_t timeout_ns,
		    struct kvt_transfer **transfer)
{
	const struct kvt_recv_request request = {
		.size = sizeof(request),
		.base = text,
		.len = PERF_TEXT_LEN - 1,
		.timeout_ns = timeout_ns,
	};
	struct kvt_error error = { 0 };

	if (kvt_recv_start(peer->control, &request, transfer, &error))
		return perf_blame("listening to the peer", &error);
	return PERF_OK;
}

int perf_hear(struct perf_peer *peer, char *text, int64_t timeout_ns)
{
	struct kvt_transfer *transfer;
	size_t len;

	int status = perf_start_hear(peer, text, timeout_ns, &transfer);
	if (!status && !(status = perf_await(&transfer, &len)))
		text[len] = '\0';
	return status;
}

int perf_start_send(struct perf_peer *peer, struct kvt_kv *kv, const void *base, size_t len,
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

int perf_start_recv(struct perf_peer *peer, struct kvt_kv *kv, void *base, size_t len,
		    struct kvt_transfer **transfer)
{
	const struct kvt_recv_request request = {
		.size = sizeof(request),
		.base = base,
		.len = len,
		.timeout_ns = peer->timeout_ns,
	};
	struct kvt_error error = { 0 };

	if (kvt_recv_start(kv, &request, transfer, &error))
		return perf_blame("starting a receive", &error);
	return PERF_OK;
}

int perf_await(struct kvt_transfer **transfer, size_t *len)
{
	await_transfer(*transfer);
	return take_result(transfer, len);
}

int perf_finish(struct kvt_transfer **transfer, size_t len)
{
	size_t got = 0;

	int status = perf_await(transfer, &got);
	if (!status && got != len) {
		warnx("a message of %zu bytes came where %zu were due", got, len);
		status = PERF_FAILED;
	}
	return status;
}
