/* SPDX-License-Identifier: Apache-2.0 */
/* bed.c - opening and closing two engines, and transfers with their expected outcome. */
#include "bed.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "engine/core/settings.h"
#include "engine/progress/worker.h"
#include "engine/transfer/transfer.h"
#include "support/punctual.h"

static const char *const interfaces[] = { "fake0" };

struct kvt_engine_config make_config(void)
{
	struct kvt_engine_config config = KVT_ENGINE_CONFIG_INIT;
	config.interfaces = interfaces;
	config.interface_count = 1;
	config.ncpus = 1;
	return config;
}

struct kvt_engine *open_engine(const struct kvt_engine_config *config)
{
	struct kvt_engine *engine;
	struct kvt_error error;
	enum kvt_err err = kvt_engine_open(config, &engine, &error);
	ck_assert_msg(err == KVT_OK, "no engine: %s", error.text);
	return engine;
}

enum kvt_err bed_call(const struct bed *bed, struct kvt_conn **conn, struct kvt_error *error)
{
	enum { TRIES = 20 };
	for (unsigned i = 1;; i++) {
		int64_t started_ns = kvi_clock_now();
		enum kvt_err err = kvt_conn_open(bed->near.engine, "127.0.0.1",
						 kvt_engine_get_port(bed->far.engine),
						 BED_PATIENCE_NS, conn, error);
		bool is_cut_off = err == KVT_E_UNREACHABLE || err == KVT_E_PEER_LOST;
		if (!is_cut_off || i == TRIES ||
		    kvi_clock_now() - started_ns < KVI_HANDSHAKE_NS / 2)
			return err;
		fprintf(stderr, "a handshake took too long on this machine: again (%s)\n",
			error->text);
	}
}

void bed_connect(struct bed *bed)
{
	struct kvt_error error;
	enum kvt_err err = bed_call(bed, &bed->near.conn, &error);
	ck_assert_msg(err == KVT_OK, "no connection: %s", error.text);
	err = kvt_conn_accept(bed->far.engine, BED_PATIENCE_NS, &bed->far.conn, &error);
	ck_assert_msg(err == KVT_OK, "nobody to accept: %s", error.text);
}

void bed_disconnect(struct bed *bed)
{
	kvt_conn_close(bed->near.conn);
	kvt_conn_close(bed->far.conn);
	bed->near.conn = NULL;
	bed->far.conn = NULL;
}

void bed_open(struct bed *bed, const struct kvt_engine_config *config)
{
	struct kvt_engine_config plain = make_config();
	*bed = (struct bed){ .live = failing_alloc_get_live() };
	bed->near.engine = open_engine(config == NULL ? &plain : config);
	bed->far.engine = open_engine(config == NULL ? &plain : config);
	bed_connect(bed);
}

static void check_gauges(struct kvt_engine *engine)
{
	struct kvt_stats stats = get_stats(engine);
	ck_assert_uint_eq(stats.connections, 0);
	ck_assert_uint_eq(stats.kvs, 0);
	ck_assert_uint_eq(stats.registrations, 0);
	ck_assert_uint_eq(stats.transfers, 0);
}

void bed_close_engines(struct bed *bed)
{
	kvt_engine_close(bed->near.engine);
	kvt_engine_close(bed->far.engine);
	bed->near.engine = NULL;
	bed->far.engine = NULL;
}

void bed_check_clean(struct bed *bed)
{
	ck_assert_msg(fake_is_empty(), "the fabric is not empty");
	ck_assert_int_eq(failing_alloc_get_live(), bed->live);
	fake_reset();
}

void bed_close(struct bed *bed)
{
	bed_disconnect(bed);
	check_gauges(bed->near.engine);
	check_gauges(bed->far.engine);
	bed_close_engines(bed);
	bed_check_clean(bed);
}

struct kvt_kv *open_kv(struct kvt_conn *conn, uint64_t tag)
{
	struct kvt_kv_config config = KVT_KV_CONFIG_INIT;
	struct kvt_kv *kv;
	struct kvt_error error;
	config.tag = tag;
	enum kvt_err err = kvt_kv_open(conn, &config, &kv, &error);
	ck_assert_msg(err == KVT_OK, "no KV: %s", error.text);
	return kv;
}

/* ---- transfers ---- */

struct kvt_transfer *start_send_within(struct kvt_kv *kv, const void *base, size_t len,
				       int64_t timeout_ns)
{
	struct kvt_send_request request = KVT_SEND_REQUEST_INIT;
	struct kvt_transfer *transfer;
	struct kvt_error error;
	request.base = base;
	request.len = len;
	request.timeout_ns = timeout_ns;
	enum kvt_err err = kvt_send_start(kv, &request, &transfer, &error);
	ck_assert_msg(err == KVT_OK, "no send: %s", error.text);
	return transfer;
}

struct kvt_transfer *start_recv_within(struct kvt_kv *kv, void *base, size_t len,
				       int64_t timeout_ns)
{
	struct kvt_recv_request request = KVT_RECV_REQUEST_INIT;
	struct kvt_transfer *transfer;
	struct kvt_error error;
	request.base = base;
	request.len = len;
	request.timeout_ns = timeout_ns;
	enum kvt_err err = kvt_recv_start(kv, &request, &transfer, &error);
	ck_assert_msg(err == KVT_OK, "no receive: %s", error.text);
	return transfer;
}

struct kvt_transfer *start_send(struct kvt_kv *kv, const void *base, size_t len)
{
	return start_send_within(kv, base, len, 0);
}

struct kvt_transfer *start_recv(struct kvt_kv *kv, void *base, size_t len)
{
	return start_recv_within(kv, base, len, 0);
}

static bool has_ended_in_time(struct kvt_transfer *transfer)
{
	int64_t deadline_ns = kvi_deadline_after(BED_PATIENCE_NS);
	/* A wait ends early when the process is stopped and goes on. */
	while (kvt_transfer_wait(transfer, KVI_SECOND) != KVT_OK)
		if (kvi_clock_now() >= deadline_ns)
			return false;
	return true;
}

void await_end(struct kvt_transfer *transfer)
{
	ck_assert_msg(has_ended_in_time(transfer), "a transfer does not end");
}

struct kvt_result await(struct kvt_transfer *transfer, enum kvt_err err)
{
	struct kvt_result result = KVT_RESULT_INIT;
	ck_assert_msg(has_ended_in_time(transfer),
		      "a transfer that should end with %s does not end", kvt_err_get_name(err));
	ck_assert_int_eq(kvt_transfer_get_result(transfer, &result), KVT_OK);
	ck_assert_msg(result.err == err, "a transfer ended with %s (%s) instead of %s",
		      kvt_err_get_name(result.err), result.text, kvt_err_get_name(err));
	return result;
}

size_t finish(struct kvt_transfer *transfer, enum kvt_err err)
{
	size_t len = await(transfer, err).len;
	kvt_transfer_free(transfer);
	return len;
}

void expire(struct kvt_transfer *transfer)
{
	kvi_worker_lock(transfer->worker);
	if (!kvt_transfer_is_done(transfer))
		kvi_transfer_set_deadline(transfer, kvi_clock_now());
	kvi_worker_unlock(transfer->worker);
}

void expect_pending(struct kvt_transfer *transfer, int64_t time_ns)
{
	ck_assert_int_eq(kvt_transfer_wait(transfer, time_ns), KVT_E_AGAIN);
}

void exchange(struct kvt_kv *from, struct kvt_kv *to, size_t len, uint32_t seed)
{
	uint8_t *source = make_pattern(len, seed);
	uint8_t *target = make_filled(len, 0);
	struct kvt_transfer *receive = start_recv(to, target, len);
	struct kvt_transfer *send = start_send(from, source, len);
	finish(send, KVT_OK);
	ck_assert_uint_eq(finish(receive, KVT_OK), len);
	ck_assert(holds_pattern(target, len, seed));
	free(source);
	free(target);
}

void release_until(const uint8_t *target, size_t offset, uint8_t fill)
{
	int64_t deadline_ns = kvi_deadline_after(BED_PATIENCE_NS);
	while (target[offset] == fill) {
		ck_assert_msg(kvi_clock_now() < deadline_ns, "nothing is written");
		if (fake_release(1) == 0)
			rest(KVI_MS);
	}
}

struct kvt_stats get_stats(struct kvt_engine *engine)
{
	struct kvt_stats stats = KVT_STATS_INIT;
	ck_assert_int_eq(kvt_engine_get_stats(engine, &stats), KVT_OK);
	return stats;
}

void rest(int64_t time_ns)
{
	struct timespec time = { .tv_sec = time_ns / KVI_SECOND, .tv_nsec = time_ns % KVI_SECOND };
	clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL);
}

void expect_took(int64_t since_ns, int64_t at_least_ns, int64_t at_most_ns)
{
	int64_t took_ns = kvi_clock_now() - since_ns;
	ck_assert_int_ge(took_ns, at_least_ns);
	ck_assert_int_le(took_ns, get_limit(at_most_ns));
}

/* ---- memory ---- */

uint8_t *make_filled(size_t len, uint8_t fill)
{
	uint8_t *bytes = malloc(len + 1);
	ck_assert_ptr_nonnull(bytes);
	memset(bytes, fill, len);
	return bytes;
}

bool holds_only(const uint8_t *bytes, size_t len, uint8_t fill)
{
	return len == 0 || (bytes[0] == fill && memcmp(bytes, bytes + 1, len - 1) == 0);
}

/* Never 0: what was not written shows. */
static uint8_t get_byte(size_t position, uint32_t seed)
{
	return (uint8_t)(((position * 2654435761U + seed * 40503U) >> 11) % 255 + 1);
}

uint8_t *make_pattern(size_t len, uint32_t seed)
{
	uint8_t *bytes = make_filled(len, 0);
	for (size_t i = 0; i < len; i++)
		bytes[i] = get_byte(i, seed);
	return bytes;
}

bool holds_pattern(const uint8_t *bytes, size_t len, uint32_t seed)
{
	for (size_t i = 0; i < len; i++)
		if (bytes[i] != get_byte(i, seed))
			return false;
	return true;
}
