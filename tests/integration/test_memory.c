/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_memory.c - registering memory where that is more than bookkeeping: the limit of what may be pinned,
 * memory that cannot be written, and libfabric's cache of registrations, with which no peer may get access.
 * Where the provider pins nothing, the same roles are played and everything succeeds.
 */
#define _GNU_SOURCE 1 /* syscall */
#include "bed.h"

#include <linux/capability.h>
#include <rdma/fabric.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SMALL_LEN = 1000, LARGE_LEN = 32 * MIB };

/* ---- RLIMIT_MEMLOCK ---- */

/* So much, also for root. */
static void limit_pinned(rlim_t len)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct sets[2];
	struct rlimit limit = { .rlim_cur = len, .rlim_max = len };
	must(setrlimit(RLIMIT_MEMLOCK, &limit) == 0, "no limit");
	must(syscall(SYS_capget, &header, sets) == 0, "no capabilities");
	sets[0].effective &= ~(1U << CAP_IPC_LOCK);
	sets[0].permitted &= ~(1U << CAP_IPC_LOCK);
	sets[0].inheritable &= ~(1U << CAP_IPC_LOCK);
	must(syscall(SYS_capset, &header, sets) == 0, "capabilities stay");
}

/* The code, and a sentence with the limit, what was needed, and what to do. */
static void expect_limit(enum kvt_err err, const char *text, rlim_t limit)
{
	char number[32];
	snprintf(number, sizeof(number), "%llu bytes", (unsigned long long)limit);
	must(err == KVT_E_LIMIT, "%s: %s", kvt_err_get_name(err), text);
	must(strstr(text, "RLIMIT_MEMLOCK") != NULL && strstr(text, number) != NULL &&
		     strstr(text, "cannot pin") != NULL && strstr(text, "ulimit -l") != NULL,
	     "the sentence is: %s", text);
}

static void play_pinned_out(struct peer *test, const void *arg)
{
	(void)arg;
	const rlim_t limit = 64 * KIB;
	limit_pinned(limit);
	struct kvt_engine *engine = open_engine(NULL);
	struct kvt_conn *conn = NULL;
	struct kvt_error error = { .code = KVT_OK };
	enum kvt_err err = kvt_conn_open(engine, get_host(), (uint16_t)peer_hear(test), PATIENCE_NS,
					 &conn, &error);
	expect_limit(err, error.text, limit);
	expect_no_gauges(engine);
	kvt_engine_close(engine);
}

START_TEST(who_may_pin_too_little_for_a_connection_is_told_the_limit_and_the_way_out)
{
	struct peer peer, fresh;
	peer_start(&peer, play_pinned_out, NULL);
	peer_start(&fresh, play_fresh, NULL);
	struct kvt_engine *engine = open_engine(NULL);
	peer_tell(&peer, kvt_engine_get_port(engine));
	peer_finish(&peer);
	expect_served(engine, &fresh);
	expect_no_gauges(engine);
	kvt_engine_close(engine);
}
END_TEST

static void play_tight(struct peer *test, const void *arg)
{
	(void)arg;
	const rlim_t limit = 24 * MIB;
	struct kvt_kv_config config = KVT_KV_CONFIG_INIT;
	struct kvt_kv *kv = NULL;
	struct kvt_error error = { .code = KVT_OK };
	struct side side;
	limit_pinned(limit);
	side_serve(&side, test, NULL);
	uint8_t *bytes = make_filled(LARGE_LEN, 0);
	config.base = bytes;
	config.len = LARGE_LEN;
	expect_limit(kvt_kv_open(side.conn, &config, &kv, &error), error.text, limit);
	struct kvt_transfer *receive = start_recv(side.kv, bytes, LARGE_LEN);
	struct kvt_result result = await(receive, KVT_E_LIMIT);
	expect_limit(result.err, result.text, limit);
	kvt_transfer_free(receive);
	struct kvt_transfer *send = start_send(side.kv, bytes, LARGE_LEN);
	result = await(send, KVT_E_LIMIT);
	expect_limit(result.err, result.text, limit);
	kvt_transfer_free(send);
	/* What is small enough passes, both ways. */
	side_meet(&side);
	send_pattern(side.kv, MIB, 1);
	recv_pattern(side.kv, MIB, 2);
	free(bytes);
	side_close(&side);
}

START_TEST(who_may_pin_too_little_for_a_message_is_told_and_the_connection_goes_on)
{
	struct stage stage;
	stage_open(&stage, play_tight, NULL, NULL);
	uint8_t *bytes = make_filled(LARGE_LEN, 0);
	struct kvt_transfer *receive = start_recv(stage.side.kv, bytes, LARGE_LEN);
	struct kvt_result result = await(receive, KVT_E_CANCELLED);
	must(strstr(result.text, "limit") != NULL, "the sentence is: %s", result.text);
	kvt_transfer_free(receive);
	side_meet(&stage.side);
	recv_pattern(stage.side.kv, MIB, 1);
	send_pattern(stage.side.kv, MIB, 2);
	peer_finish(&stage.peer);
	free(bytes);
	stage_close(&stage);
}
END_TEST

/* ---- memory that cannot be written ---- */

static void play_receiver(struct peer *test, const void *arg)
{
	(void)arg;
	struct side side;
	side_serve(&side, test, NULL);
	recv_pattern(side.kv, MIB, 5);
	recv_pattern(side.kv, MIB, 5);
	side_close(&side);
}

START_TEST(memory_that_cannot_be_written_can_be_sent)
{
	struct stage stage;
	stage_open(&stage, play_receiver, NULL, NULL);
	uint8_t *bytes =
		mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(bytes != MAP_FAILED, "no memory");
	fill_pattern(bytes, MIB, 5);
	must(mprotect(bytes, MIB, PROT_READ) == 0, "it stays writable");
	finish(start_send(stage.side.kv, bytes, MIB), KVT_OK);

	struct kvt_kv_config config = KVT_KV_CONFIG_INIT;
	struct kvt_error error = { .code = KVT_OK };
	struct kvt_kv *kv = NULL;
	config.base = bytes;
	config.len = MIB;
	config.read_only = true;
	enum kvt_err err = kvt_kv_open(stage.side.conn, &config, &kv, &error);
	must(err == KVT_OK, "no KV: %s", error.text);
	kvt_kv_close(kv);
	finish(start_send(stage.side.kv, bytes, MIB), KVT_OK);
	peer_finish(&stage.peer);
	munmap(bytes, MIB);
	stage_close(&stage);
}
END_TEST

/* ---- libfabric's cache of registrations ---- */

/* It is on: by the environment, or because somebody else in the process was first. */
static void turn_cache_on(bool by_environment)
{
	if (by_environment) {
		must(setenv("FI_MR_CACHE_MAX_COUNT", "1024", 1) == 0, "no environment");
		return;
	}
	struct fi_info *list = NULL;
	unsetenv("FI_MR_CACHE_MAX_COUNT");
	must(fi_getinfo(FI_VERSION(1, 17), NULL, NULL, 0, NULL, &list) == 0, "no libfabric");
	fi_freeinfo(list);
}

static void play_cached(struct peer *test, const void *arg)
{
	struct side side;
	turn_cache_on(*(const bool *)arg);
	side_serve(&side, test, NULL);
	uint8_t *bytes = make_filled(LARGE_LEN, CANARY);
	if (is_rdma()) {
		struct kvt_transfer *receive = start_recv(side.kv, bytes, LARGE_LEN);
		struct kvt_result result = await(receive, KVT_E_FABRIC);
		must(strstr(result.text, "FI_MR_CACHE_MAX_COUNT=0") != NULL, "the sentence is: %s",
		     result.text);
		kvt_transfer_free(receive);
		expect_untouched(bytes, LARGE_LEN);
	} else {
		recv_pattern(side.kv, LARGE_LEN, 1);
	}
	/* What needs no access of a peer's passes: small messages, and sends of any length. */
	struct kvt_kv *kv = open_kv(side.conn, TAG + 10);
	recv_pattern(kv, SMALL_LEN, 2);
	send_pattern(kv, LARGE_LEN, 3);
	kvt_kv_close(kv);
	free(bytes);
	side_close(&side);
}

START_TEST(with_libfabrics_cache_on_a_peer_gets_no_memory_and_the_error_says_why)
{
	static const bool by_environment[] = { true, false };
	struct stage stage;
	stage_open(&stage, play_cached, &by_environment[_i], NULL);
	uint8_t *bytes = make_filled(LARGE_LEN, 0);
	fill_pattern(bytes, LARGE_LEN, 1);
	struct kvt_transfer *send = start_send(stage.side.kv, bytes, LARGE_LEN);
	struct kvt_kv *kv = open_kv(stage.side.conn, TAG + 10);
	send_pattern(kv, SMALL_LEN, 2);
	recv_pattern(kv, LARGE_LEN, 3);
	kvt_kv_close(kv);
	if (is_rdma())
		kvt_transfer_cancel(send);
	must(wait_for(send, PATIENCE_NS) == KVT_OK, "a send goes on");
	kvt_transfer_free(send);
	peer_finish(&stage.peer);
	free(bytes);
	stage_close(&stage);
}
END_TEST

TCase *make_memory_tests(void)
{
	TCase *tests = tcase_create("memory");
	tcase_add_test(tests, memory_that_cannot_be_written_can_be_sent);
	tcase_add_loop_test(
		tests, with_libfabrics_cache_on_a_peer_gets_no_memory_and_the_error_says_why, 0, 2);
	if (is_rdma()) {
		tcase_add_test(
			tests,
			who_may_pin_too_little_for_a_connection_is_told_the_limit_and_the_way_out);
		tcase_add_test(
			tests,
			who_may_pin_too_little_for_a_message_is_told_and_the_connection_goes_on);
	} else {
		printf("SKIP: RLIMIT_MEMLOCK: %s pins no memory\n", get_provider());
	}
	return tests;
}
