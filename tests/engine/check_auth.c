/* SPDX-License-Identifier: Apache-2.0 */
/* check_auth.c - engines with keys: who meets whom, and how they are told. */
#include "bed.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/runner.h"

enum {
	KEY_LEN = 32,
	GOOD_PEERS = 20,
	CALLS = 4, /* who was hung up on tries three times more */
	LANE_HELLO_BITS = 8 * 38,
	LANE_INDEX_BIT = 8 * 36, /* docs/protocol.md section 4 */
};

static const char key_one[KEY_LEN + 1] = "the first of two keys ..........";
static const char key_two[KEY_LEN + 1] = "the second of two keys .........";

static struct kvt_engine *open_with(const char *key)
{
	struct kvt_engine_config config = make_config();
	config.auth_key = key;
	config.auth_key_len = key != NULL ? KEY_LEN : 0;
	return open_engine(&config);
}

static struct kvt_engine *open_insecure(void)
{
	struct kvt_engine_config config = make_config();
	config.insecure = true;
	return open_engine(&config);
}

static enum kvt_err call(struct kvt_engine *near, struct kvt_engine *far, struct kvt_error *error)
{
	struct kvt_conn *near_conn, *far_conn;
	enum kvt_err err = kvt_conn_open(near, "127.0.0.1", kvt_engine_get_port(far),
					 BED_PATIENCE_NS, &near_conn, error);
	if (err != KVT_OK)
		return err;
	ck_assert_int_eq(kvt_conn_accept(far, BED_PATIENCE_NS, &far_conn, NULL), KVT_OK);
	ck_assert_str_eq(kvt_conn_get_key_id(near_conn), kvt_conn_get_key_id(far_conn));
	kvt_conn_close(near_conn);
	kvt_conn_close(far_conn);
	return KVT_OK;
}

static void expect_refused(struct kvt_engine *near, struct kvt_engine *far, const char *word)
{
	struct kvt_error error = { .code = KVT_OK };
	struct kvt_conn *conn;
	uint64_t failed = get_stats(far).handshakes_failed;
	int64_t since_ns = kvi_clock_now();
	ck_assert_int_eq(call(near, far, &error), KVT_E_AUTH);
	expect_took(since_ns, 0, KVI_SECOND);
	ck_assert_msg(strstr(error.text, word) != NULL, "%s", error.text);
	ck_assert_uint_eq(get_stats(far).handshakes_failed, failed + CALLS);
	ck_assert_int_eq(kvt_conn_accept(far, KVT_NOWAIT, &conn, NULL), KVT_E_TIMEOUT);
}

static void expect_met(struct kvt_engine *near, struct kvt_engine *far)
{
	struct kvt_error error = { .code = KVT_OK };
	enum kvt_err err = call(near, far, &error);
	ck_assert_msg(err == KVT_OK, "%s", error.text);
}

START_TEST(engines_with_another_key_do_not_connect)
{
	struct kvt_engine *near = open_with(key_one), *far = open_with(key_two);
	struct kvt_engine *default_key = open_with(NULL);
	expect_refused(near, far, "keys differ");
	expect_refused(far, near, "keys differ");
	expect_refused(default_key, near, "keys differ");
	expect_refused(near, default_key, "keys differ");
	kvt_engine_close(near);
	kvt_engine_close(far);
	kvt_engine_close(default_key);
	ck_assert(fake_is_empty());
}
END_TEST

START_TEST(an_insecure_engine_meets_its_like_only)
{
	struct kvt_engine *near = open_insecure(), *far = open_insecure();
	struct kvt_engine *secure = open_with(key_one);
	expect_refused(near, secure, "insecure");
	expect_refused(secure, near, "keys differ");
	expect_met(near, far);
	kvt_engine_close(near);
	kvt_engine_close(far);
	kvt_engine_close(secure);
	ck_assert(fake_is_empty());
}
END_TEST

START_TEST(keys_are_replaced_without_a_restart_and_connections_stay)
{
	struct kvt_error error = { .code = KVT_OK };
	struct bed bed = { .live = failing_alloc_get_live() };
	bed.near.engine = open_with(key_one);
	bed.far.engine = open_with(key_one);
	bed_connect(&bed);

	ck_assert_int_eq(kvt_engine_reload_keys(bed.far.engine, key_two, KEY_LEN, &error), KVT_OK);
	expect_refused(bed.near.engine, bed.far.engine, "keys differ");
	ck_assert_int_eq(kvt_engine_reload_keys(bed.far.engine, "x", 1, &error), KVT_E_INVALID);
	ck_assert_int_eq(kvt_engine_reload_keys(bed.far.engine, NULL, 0, &error), KVT_E_INVALID);
	ck_assert_int_eq(kvt_engine_reload_keys(NULL, key_one, KEY_LEN, NULL), KVT_E_INVALID);
	ck_assert_int_eq(kvt_engine_reload_keys(bed.near.engine, key_two, KEY_LEN, &error), KVT_OK);
	expect_met(bed.near.engine, bed.far.engine);

	struct kvt_kv *near = open_kv(bed.near.conn, 1), *far = open_kv(bed.far.conn, 1);
	exchange(near, far, LARGE_LEN, 1);
	exchange(far, near, 100, 2);
	kvt_kv_close(near);
	kvt_kv_close(far);
	bed_close(&bed);
}
END_TEST

START_TEST(a_peer_is_known_by_the_key_it_came_with)
{
	static const char both[] = "dGhlIGZpcnN0IG9mIHR3byBrZXlzIC4uLi4uLi4uLi4=\n"
				   "dGhlIHNlY29uZCBvZiB0d28ga2V5cyAuLi4uLi4uLi4=\n";
	char ids[2][17];
	struct kvt_engine_config config = make_config();
	config.auth_key = both;
	config.auth_key_len = sizeof(both) - 1;
	struct kvt_engine *far = open_engine(&config);
	for (unsigned i = 0; i < 2; i++) {
		struct bed bed = { .far.engine = far };
		bed.near.engine = open_with(i == 0 ? key_one : key_two);
		bed_connect(&bed);
		snprintf(ids[i], sizeof(ids[i]), "%s", kvt_conn_get_key_id(bed.far.conn));
		ck_assert_str_eq(ids[i], kvt_conn_get_key_id(bed.near.conn));
		ck_assert_uint_eq(strspn(ids[i], "0123456789abcdef"), 16);
		bed_disconnect(&bed);
		kvt_engine_close(bed.near.engine);
	}
	ck_assert_str_ne(ids[0], ids[1]);
	kvt_engine_close(far);
}
END_TEST

START_TEST(an_engine_does_not_open_with_what_is_no_key)
{
	static const char zeros[KEY_LEN];
	struct kvt_engine *engine;
	struct kvt_error error = { .code = KVT_OK };
	struct kvt_engine_config config = make_config();
	long live = failing_alloc_get_live();
	config.auth_key = key_one;
	config.auth_key_len = KEY_LEN;
	config.insecure = true;
	ck_assert_int_eq(kvt_engine_open(&config, &engine, &error), KVT_E_INVALID);
	ck_assert_ptr_nonnull(strstr(error.text, "not both"));

	config.insecure = false;
	config.auth_key_len = KEY_LEN - 1;
	ck_assert_int_eq(kvt_engine_open(&config, &engine, &error), KVT_E_INVALID);
	config.auth_key = zeros;
	config.auth_key_len = KEY_LEN;
	ck_assert_int_eq(kvt_engine_open(&config, &engine, &error), KVT_E_INVALID);
	ck_assert_ptr_null(strstr(error.text, "the first"));
	ck_assert_int_eq(failing_alloc_get_live(), live);
}
END_TEST

START_TEST(an_engine_refuses_a_key_file_that_others_can_read_and_names_it)
{
	char path[] = "/tmp/kvt-key-XXXXXX";
	struct kvt_engine *engine;
	struct kvt_error error = { .code = KVT_OK };
	struct kvt_engine_config config = make_config();
	int fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	dprintf(fd, "dGhlIGZpcnN0IG9mIHR3byBrZXlzIC4uLi4uLi4uLi4=\n");
	setenv("KVTRANS_KEY_FILE", path, 1);
	struct kvt_engine *good = open_engine(&config);
	struct kvt_engine *same = open_with(key_one);
	expect_met(good, same);

	ck_assert_int_eq(fchmod(fd, 0644), 0);
	ck_assert_int_eq(kvt_engine_open(&config, &engine, &error), KVT_E_INVALID);
	ck_assert_ptr_nonnull(strstr(error.text, path));
	ck_assert_ptr_nonnull(strstr(error.text, "chmod 600"));
	/* Nor are they taken when they are read again, and those of before are in force. */
	ck_assert_int_eq(kvt_engine_reload_keys(good, NULL, 0, &error), KVT_E_INVALID);
	expect_met(same, good);
	close(fd);
	unlink(path);
	ck_assert_int_eq(kvt_engine_open(&config, &engine, &error), KVT_E_INVALID);
	ck_assert_ptr_nonnull(strstr(error.text, path));
	unsetenv("KVTRANS_KEY_FILE");
	kvt_engine_close(good);
	kvt_engine_close(same);
}
END_TEST

/* The nearer engine's lane is not taken, and with it goes the connection. */
static void expect_lane_refused(struct kvt_engine *near, struct kvt_engine *far, size_t bit)
{
	struct kvt_conn *conn;
	struct kvt_error error = { .code = KVT_OK };
	fake_flip_request(bit);
	enum kvt_err err = kvt_conn_open(near, "127.0.0.1", kvt_engine_get_port(far),
					 BED_PATIENCE_NS, &conn, &error);
	ck_assert_msg(err == KVT_E_UNREACHABLE, "bit %zu: %s: %s", bit, kvt_err_get_name(err),
		      error.text);
	ck_assert_int_eq(kvt_conn_accept(far, KVT_NOWAIT, &conn, NULL), KVT_E_TIMEOUT);
}

START_TEST(a_lane_is_taken_with_its_own_token_only)
{
	struct kvt_engine_config config = make_config();
	config.nconn_per_cpu = 2;
	struct kvt_engine *near = open_engine(&config), *far = open_engine(&config);
	for (size_t bit = 0; bit < LANE_HELLO_BITS; bit += 5)
		expect_lane_refused(near, far, bit);
	/* The first lane's token as the second's. */
	expect_lane_refused(near, far, LANE_INDEX_BIT);
	expect_met(near, far);
	kvt_engine_close(near);
	kvt_engine_close(far);
	ck_assert(fake_is_empty());
}
END_TEST

/* Both requests are there before the second lane's, so the session still waits for lanes. */
START_TEST(a_token_opens_its_lane_once)
{
	struct kvt_engine_config config = make_config();
	config.nconn_per_cpu = 2;
	struct kvt_engine *near = open_engine(&config), *far = open_engine(&config);
	for (unsigned i = 0; i < GOOD_PEERS; i++) {
		fake_repeat_request();
		expect_met(near, far);
	}
	kvt_engine_close(near);
	kvt_engine_close(far);
	ck_assert(fake_is_empty());
}
END_TEST

START_TEST(good_peers_come_in_while_wrong_keys_are_turned_away)
{
	struct kvt_engine *near = open_with(key_one), *far = open_with(key_one);
	struct kvt_engine *wrong = open_with(key_two);
	for (unsigned i = 0; i < GOOD_PEERS; i++) {
		expect_refused(wrong, far, "keys differ");
		expect_met(near, far);
	}
	struct kvt_stats stats = get_stats(far);
	ck_assert_uint_eq(stats.connections_total, GOOD_PEERS);
	ck_assert_uint_eq(stats.handshakes_failed, CALLS * GOOD_PEERS);
	kvt_engine_close(near);
	kvt_engine_close(far);
	kvt_engine_close(wrong);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("auth");
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, engines_with_another_key_do_not_connect);
	tcase_add_test(tests, an_insecure_engine_meets_its_like_only);
	tcase_add_test(tests, keys_are_replaced_without_a_restart_and_connections_stay);
	tcase_add_test(tests, a_peer_is_known_by_the_key_it_came_with);
	tcase_add_test(tests, an_engine_does_not_open_with_what_is_no_key);
	tcase_add_test(tests, an_engine_refuses_a_key_file_that_others_can_read_and_names_it);
	tcase_add_test(tests, a_lane_is_taken_with_its_own_token_only);
	tcase_add_test(tests, a_token_opens_its_lane_once);
	tcase_add_test(tests, good_peers_come_in_while_wrong_keys_are_turned_away);
	return run_tests("engine_auth", tests);
}
