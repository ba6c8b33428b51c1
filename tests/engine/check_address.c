/* SPDX-License-Identifier: Apache-2.0 */
/* check_address.c - what an engine tells of itself: its identity, to its peers, and its address, to who calls it. */
#include "bed.h"

#include <stdio.h>

#include "support/runner.h"
#include "wire/wire.h"

enum { ROOM = KVI_ENGINE_ADDRESS_LEN_MAX, QUICK_MS = 1000 };

static uint8_t bytes[ROOM];

static size_t get_address(struct kvt_engine *engine, struct kvi_address *address)
{
	size_t len = sizeof(bytes);
	ck_assert_int_eq(kvt_engine_get_address(engine, bytes, &len), KVT_OK);
	ck_assert_int_eq(kvi_address_decode(bytes, len, address), KVT_OK);
	return len;
}

static struct kvt_engine *open_on_port(uint16_t port)
{
	struct kvt_engine_config config = make_config();
	config.listen_port = port;
	return open_engine(&config);
}

static enum kvt_err call(struct kvt_engine *engine, size_t len, struct kvt_conn **conn,
			 struct kvt_error *error)
{
	return kvt_conn_open_address(engine, bytes, len, BED_PATIENCE_NS, conn, error);
}

static void expect_identity(const struct kvt_conn *conn, const void *identity, size_t len)
{
	size_t found_len;
	const void *found = kvt_conn_get_peer_identity(conn, &found_len);
	ck_assert_uint_eq(found_len, len);
	if (len > 0)
		ck_assert_mem_eq(found, identity, len);
	else
		ck_assert_ptr_null(found);
}

/* ---- identity ---- */

START_TEST(each_side_reads_the_identity_that_the_other_was_opened_with)
{
	uint8_t longest[KVT_IDENTITY_LEN_MAX], given[KVT_IDENTITY_LEN_MAX];
	struct bed bed = { .live = failing_alloc_get_live() };
	struct kvt_engine_config config = make_config();
	for (size_t i = 0; i < sizeof(longest); i++)
		longest[i] = (uint8_t)(i * 7);
	memcpy(given, longest, sizeof(given));
	config.identity = given;
	config.identity_len = sizeof(given);
	bed.near.engine = open_engine(&config);
	memset(given, 0, sizeof(given)); /* it was copied */
	config.identity = "decode\0-0";
	config.identity_len = 9;
	bed.far.engine = open_engine(&config);
	bed_connect(&bed);
	expect_identity(bed.far.conn, longest, sizeof(longest));
	expect_identity(bed.near.conn, "decode\0-0", 9);
	bed_close_engines(&bed);
	expect_identity(bed.near.conn, "decode\0-0", 9);
	bed_disconnect(&bed);
	bed_check_clean(&bed);
}
END_TEST

START_TEST(one_side_may_have_an_identity_and_the_other_none)
{
	for (unsigned i = 0; i < 2; i++) {
		struct bed bed = { .live = failing_alloc_get_live() };
		struct kvt_engine_config plain = make_config(), named = make_config();
		named.identity = "x";
		named.identity_len = 1;
		bed.near.engine = open_engine(i == 0 ? &named : &plain);
		bed.far.engine = open_engine(i == 0 ? &plain : &named);
		bed_connect(&bed);
		expect_identity(bed.near.conn, "x", i == 0 ? 0 : 1);
		expect_identity(bed.far.conn, "x", i == 0 ? 1 : 0);
		bed_close(&bed);
	}
}
END_TEST

START_TEST(an_identity_that_is_too_long_is_refused_with_what_is_allowed)
{
	static const uint8_t identity[KVT_IDENTITY_LEN_MAX + 1];
	struct kvt_engine_config config = make_config();
	struct kvt_engine *engine;
	struct kvt_error error;
	config.identity = identity;
	config.identity_len = sizeof(identity);
	ck_assert_int_eq(kvt_engine_open(&config, &engine, &error), KVT_E_INVALID);
	ck_assert_msg(strstr(error.text, "1025") != NULL && strstr(error.text, "1024") != NULL,
		      "%s", error.text);
	config.identity = NULL;
	config.identity_len = 1;
	ck_assert_int_eq(kvt_engine_open(&config, &engine, &error), KVT_E_INVALID);
}
END_TEST

/* ---- address ---- */

START_TEST(an_address_leads_to_its_engine)
{
	struct bed bed = { .live = failing_alloc_get_live() };
	struct kvt_engine_config config = make_config();
	struct kvi_address address;
	struct kvt_error error;
	bed.near.engine = open_engine(&config);
	bed.far.engine = open_engine(&config);
	size_t len = get_address(bed.far.engine, &address);
	ck_assert_uint_eq(address.port, kvt_engine_get_port(bed.far.engine));
	ck_assert_uint_eq(address.host_count, 1);
	ck_assert_str_eq(address.hosts[0], kvt_engine_get_host(bed.far.engine));

	enum kvt_err err = call(bed.near.engine, len, &bed.near.conn, &error);
	ck_assert_msg(err == KVT_OK, "%s", error.text);
	ck_assert_int_eq(kvt_conn_accept(bed.far.engine, BED_PATIENCE_NS, &bed.far.conn, &error),
			 KVT_OK);
	ck_assert_str_eq(kvt_conn_get_host(bed.near.conn), address.hosts[0]);
	ck_assert_uint_eq(kvt_conn_get_port(bed.near.conn), address.port);
	bed_close(&bed);
}
END_TEST

START_TEST(the_address_of_an_engine_that_was_restarted_leads_nowhere)
{
	struct bed bed = { .live = failing_alloc_get_live() };
	struct kvi_address address;
	struct kvt_error error;
	struct kvt_conn *conn;
	bed.near.engine = open_on_port(0);
	bed.far.engine = open_on_port(0);
	size_t len = get_address(bed.far.engine, &address);
	kvt_engine_close(bed.far.engine);
	bed.far.engine = open_on_port(address.port);

	int64_t since_ns = kvi_clock_now();
	ck_assert_int_eq(call(bed.near.engine, len, &conn, &error), KVT_E_UNREACHABLE);
	expect_took(since_ns, 0, QUICK_MS * KVI_MS);
	ck_assert_msg(strstr(error.text, "another engine") != NULL, "%s", error.text);
	ck_assert_int_eq(kvt_conn_accept(bed.far.engine, KVT_NOWAIT, &conn, NULL), KVT_E_TIMEOUT);
	/* It is the address that is old, not the engine that is unwell. */
	len = get_address(bed.far.engine, &address);
	ck_assert_int_eq(call(bed.near.engine, len, &bed.near.conn, &error), KVT_OK);
	ck_assert_int_eq(kvt_conn_accept(bed.far.engine, BED_PATIENCE_NS, &bed.far.conn, NULL),
			 KVT_OK);
	bed_close(&bed);
}
END_TEST

START_TEST(the_hosts_of_an_address_are_tried_in_their_order)
{
	struct bed bed = { .live = failing_alloc_get_live() };
	struct kvi_address address;
	struct kvt_error error;
	bed.near.engine = open_on_port(0);
	bed.far.engine = open_on_port(0);
	get_address(bed.far.engine, &address);
	address.host_count = 3;
	strcpy(address.hosts[2], address.hosts[0]);
	strcpy(address.hosts[1], "fe80::1%no-such-if");
	strcpy(address.hosts[0], "127.0.0.99");
	enum kvt_err err =
		call(bed.near.engine, kvi_address_encode(&address, bytes), &bed.near.conn, &error);
	ck_assert_msg(err == KVT_OK, "%s", error.text);
	ck_assert_str_eq(kvt_conn_get_host(bed.near.conn), address.hosts[2]);
	ck_assert_int_eq(kvt_conn_accept(bed.far.engine, BED_PATIENCE_NS, &bed.far.conn, NULL),
			 KVT_OK);
	bed_disconnect(&bed);

	strcpy(address.hosts[2], "127.0.0.98");
	ck_assert_int_eq(call(bed.near.engine, kvi_address_encode(&address, bytes), &bed.near.conn,
			      &error),
			 KVT_E_UNREACHABLE);
	bed.near.conn = NULL;
	ck_assert_msg(strstr(error.text, "127.0.0.99") != NULL && strstr(error.text, "127.0.0."
										     "98") != NULL,
		      "%s", error.text);
	bed_close_engines(&bed);
	bed_check_clean(&bed);
}
END_TEST

START_TEST(bytes_that_are_no_address_are_refused_at_once)
{
	struct kvt_engine *engine = open_on_port(0);
	struct kvi_address address;
	struct kvt_error error;
	struct kvt_conn *conn;
	size_t len = get_address(engine, &address);
	for (size_t cut = 0; cut < len; cut++)
		ck_assert_int_eq(call(engine, cut, &conn, &error), KVT_E_INVALID);
	ck_assert_int_eq(call(engine, len + 1, &conn, &error), KVT_E_INVALID);
	bytes[4] = 2; /* version */
	ck_assert_int_eq(call(engine, len, &conn, &error), KVT_E_VERSION);
	/* No name server is asked what a stranger's bytes say. */
	strcpy(address.hosts[0], "localhost");
	ck_assert_int_eq(call(engine, kvi_address_encode(&address, bytes), &conn, &error),
			 KVT_E_INVALID);
	ck_assert_msg(strstr(error.text, "localhost") != NULL, "%s", error.text);
	ck_assert_int_eq(kvt_conn_open_address(engine, NULL, 1, 0, &conn, NULL), KVT_E_INVALID);
	ck_assert_int_eq(kvt_conn_open_address(NULL, bytes, len, 0, &conn, NULL), KVT_E_INVALID);
	kvt_engine_close(engine);
}
END_TEST

START_TEST(an_address_tells_how_much_room_it_needs)
{
	struct kvt_engine *engine = open_on_port(0);
	size_t whole = 0, len = 0;
	ck_assert_int_eq(kvt_engine_get_address(engine, NULL, &whole), KVT_OK);
	len = whole - 1;
	bytes[0] = 0x5a;
	ck_assert_int_eq(kvt_engine_get_address(engine, bytes, &len), KVT_E_TOO_LARGE);
	ck_assert_uint_eq(len, whole);
	ck_assert_uint_eq(bytes[0], 0x5a);
	ck_assert_int_eq(kvt_engine_get_address(engine, bytes, NULL), KVT_E_INVALID);
	ck_assert_int_eq(kvt_engine_get_address(NULL, bytes, &len), KVT_E_INVALID);
	kvt_engine_close(engine);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("address");
	tcase_set_timeout(tests, 120);
	tcase_add_test(tests, each_side_reads_the_identity_that_the_other_was_opened_with);
	tcase_add_test(tests, one_side_may_have_an_identity_and_the_other_none);
	tcase_add_test(tests, an_identity_that_is_too_long_is_refused_with_what_is_allowed);
	tcase_add_test(tests, an_address_leads_to_its_engine);
	tcase_add_test(tests, the_address_of_an_engine_that_was_restarted_leads_nowhere);
	tcase_add_test(tests, the_hosts_of_an_address_are_tried_in_their_order);
	tcase_add_test(tests, bytes_that_are_no_address_are_refused_at_once);
	tcase_add_test(tests, an_address_tells_how_much_room_it_needs);
	return run_tests("engine_address", tests);
}
