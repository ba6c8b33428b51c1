/* SPDX-License-Identifier: Apache-2.0 */
/* check_handshake.c - what two engines agree on, and what strangers get. */
#include <string.h>

#include "../support/runner.h"
#include "auth/handshake.h"
#include "vectors.h"

static const uint8_t session[KVI_SESSION_LEN] = "session";

static const struct kvi_hello plain_hello = {
	.version_min = 1,
	.version_max = 1,
	.instance = "client",
	.lane_count = 8,
	.eager_len = 65536,
	.rx_count = 64,
	.provider_count = 1,
	.providers = { "tcp" },
};

static struct kvi_handshake client;
static struct kvi_handshake server;

static void begin(const struct kvi_hello *client_hello, const struct kvi_hello *server_hello)
{
	kvi_handshake_init(&client, KVI_HANDSHAKE_CLIENT, client_hello, NULL);
	kvi_handshake_init(&server, KVI_HANDSHAKE_SERVER, server_hello, session);
}

/* Hand over all output, step bytes at a time. */
static void pass(struct kvi_handshake *from, struct kvi_handshake *to, size_t step)
{
	for (size_t at = 0; at < from->output_len; at += step) {
		size_t len = from->output_len - at < step ? from->output_len - at : step;
		ck_assert_uint_eq(kvi_handshake_feed(to, from->output + at, len), len);
	}
	from->output_len = 0;
}

static void shake_hands(const struct kvi_hello *client_hello, const struct kvi_hello *server_hello)
{
	begin(client_hello, server_hello);
	pass(&client, &server, SIZE_MAX / 2);
	pass(&server, &client, SIZE_MAX / 2);
}

static void assert_both_failed(enum kvt_err code, const char *text)
{
	ck_assert_int_eq(server.state, KVI_HANDSHAKE_FAILED);
	ck_assert_int_eq(server.error.code, code);
	ck_assert_str_eq(server.error.text, text);
	ck_assert_int_eq(client.state, KVI_HANDSHAKE_FAILED);
	ck_assert_int_eq(client.error.code, code);
	ck_assert_ptr_nonnull(strstr(client.error.text, text));
}

static void assert_failed_in_silence(const struct kvi_handshake *handshake)
{
	ck_assert_int_eq(handshake->state, KVI_HANDSHAKE_FAILED);
	ck_assert_int_eq(handshake->error.code, KVT_E_PROTOCOL);
	ck_assert_uint_gt(strlen(handshake->error.text), 0);
	ck_assert_uint_eq(handshake->output_len, 0);
}

START_TEST(both_sides_learn_what_was_agreed)
{
	struct kvi_hello client_hello = plain_hello;
	struct kvi_hello server_hello = plain_hello;
	client_hello.features = 0x3c;
	server_hello.features = 0xf5 - KVI_FEATURE_SUMS;
	memcpy(server_hello.instance, "server", 6);
	server_hello.eager_len = 4096;
	server_hello.rx_count = 128;
	shake_hands(&client_hello, &server_hello);

	ck_assert_int_eq(server.state, KVI_HANDSHAKE_DONE);
	ck_assert_int_eq(client.state, KVI_HANDSHAKE_DONE);
	ck_assert_int_eq(client.agreed.version, 1);
	ck_assert_uint_eq(client.agreed.features, 0x34);
	ck_assert_mem_eq(client.agreed.instance, server_hello.instance, KVI_SESSION_LEN);
	ck_assert_mem_eq(client.agreed.session, session, KVI_SESSION_LEN);
	ck_assert_uint_eq(client.agreed.eager_len, 4096);
	ck_assert_uint_eq(client.agreed.rx_count, 128);
	ck_assert_str_eq(client.agreed.provider, "tcp");
	ck_assert_mem_eq(&client.agreed, &server.agreed, sizeof(client.agreed));
	ck_assert_mem_eq(server.remote.instance, client_hello.instance, KVI_SESSION_LEN);
	ck_assert_uint_eq(server.remote.eager_len, 65536);
}
END_TEST

/* Either may want them, and both have to know them. */
START_TEST(sums_are_used_where_a_side_wants_them_and_both_know_them)
{
	const uint64_t none = 0, know = KVI_FEATURE_SUMS,
		       want = KVI_FEATURE_SUMS | KVI_FEATURE_SUMS_WANTED;
	const struct {
		uint64_t client, server, agreed;
		const char *refusal;
	} cases[] = {
		{ none, none, none, NULL },
		{ know, none, none, NULL },
		{ none, know, none, NULL },
		{ know, know, know, NULL },
		{ want, know, want, NULL },
		{ know, want, want, NULL },
		{ want, want, want, NULL },
		{ want, none, none, "the peer wants checksums, and this engine has none" },
		{ none, want, none, "this engine wants checksums, and the peer has none" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct kvi_hello client_hello = plain_hello, server_hello = plain_hello;
		client_hello.features = cases[i].client;
		server_hello.features = cases[i].server;
		shake_hands(&client_hello, &server_hello);
		if (cases[i].refusal != NULL) {
			assert_both_failed(KVT_E_VERSION, cases[i].refusal);
			continue;
		}
		ck_assert_int_eq(server.state, KVI_HANDSHAKE_DONE);
		ck_assert_int_eq(client.state, KVI_HANDSHAKE_DONE);
		ck_assert_uint_eq(server.agreed.features, cases[i].agreed);
		ck_assert_uint_eq(client.agreed.features, cases[i].agreed);
	}
}
END_TEST

START_TEST(bytes_may_come_in_pieces_of_any_length)
{
	begin(&plain_hello, &plain_hello);
	pass(&client, &server, (size_t)_i);
	pass(&server, &client, (size_t)_i);

	ck_assert_int_eq(server.state, KVI_HANDSHAKE_DONE);
	ck_assert_int_eq(client.state, KVI_HANDSHAKE_DONE);
}
END_TEST

START_TEST(bytes_behind_the_handshake_are_left)
{
	begin(&plain_hello, &plain_hello);
	uint8_t bytes[KVI_HELLO_FRAME_MAX + 5];
	size_t len = client.output_len;
	memcpy(bytes, client.output, len);
	memset(bytes + len, 0x77, 5);

	ck_assert_uint_eq(kvi_handshake_feed(&server, bytes, len + 5), len);
	ck_assert_int_eq(server.state, KVI_HANDSHAKE_DONE);
	ck_assert_uint_eq(kvi_handshake_feed(&server, bytes + len, 5), 0);
}
END_TEST

START_TEST(an_engine_may_connect_to_itself)
{
	shake_hands(&plain_hello, &plain_hello);

	ck_assert_int_eq(client.state, KVI_HANDSHAKE_DONE);
	ck_assert_mem_eq(client.agreed.instance, plain_hello.instance, KVI_SESSION_LEN);
}
END_TEST

/* ---- versions ---- */

START_TEST(the_highest_common_version_is_taken)
{
	enum { MOST = 4 };
	for (uint16_t n = 0; n < MOST * MOST * MOST * MOST; n++) {
		struct kvi_hello client_hello = plain_hello;
		struct kvi_hello server_hello = plain_hello;
		client_hello.version_min = (uint16_t)(1 + n % MOST);
		client_hello.version_max = (uint16_t)(1 + n / MOST % MOST);
		server_hello.version_min = (uint16_t)(1 + n / MOST / MOST % MOST);
		server_hello.version_max = (uint16_t)(1 + n / MOST / MOST / MOST);
		if (client_hello.version_min > client_hello.version_max ||
		    server_hello.version_min > server_hello.version_max)
			continue;

		int common = 0;
		for (uint16_t version = 1; version <= MOST; version++) {
			if (version >= client_hello.version_min &&
			    version <= client_hello.version_max &&
			    version >= server_hello.version_min &&
			    version <= server_hello.version_max)
				common = version;
		}
		shake_hands(&client_hello, &server_hello);
		if (common > 0) {
			ck_assert_int_eq(client.state, KVI_HANDSHAKE_DONE);
			ck_assert_int_eq(client.agreed.version, common);
			ck_assert_int_eq(server.agreed.version, common);
		} else {
			ck_assert_int_eq(client.error.code, KVT_E_VERSION);
			ck_assert_int_eq(server.error.code, KVT_E_VERSION);
		}
	}
}
END_TEST

START_TEST(engines_without_a_common_version_are_told)
{
	struct kvi_hello client_hello = plain_hello;
	client_hello.version_min = 3;
	client_hello.version_max = 4;
	shake_hands(&client_hello, &plain_hello);

	assert_both_failed(KVT_E_VERSION, "peer speaks protocol versions 3 to 4; this engine "
					  "speaks 1 to 1");
}
END_TEST

/* ---- providers and lanes ---- */

START_TEST(the_servers_order_of_providers_decides)
{
	struct kvi_hello client_hello = plain_hello;
	struct kvi_hello server_hello = plain_hello;
	client_hello.provider_count = 3;
	strcpy(client_hello.providers[0], "a");
	strcpy(client_hello.providers[1], "b");
	strcpy(client_hello.providers[2], "c");
	server_hello.provider_count = 3;
	strcpy(server_hello.providers[0], "d");
	strcpy(server_hello.providers[1], "c");
	strcpy(server_hello.providers[2], "a");
	shake_hands(&client_hello, &server_hello);

	ck_assert_str_eq(client.agreed.provider, "c");
	ck_assert_str_eq(server.agreed.provider, "c");
}
END_TEST

START_TEST(engines_without_a_common_provider_are_told)
{
	struct kvi_hello client_hello = plain_hello;
	strcpy(client_hello.providers[0], "verbs");
	shake_hands(&client_hello, &plain_hello);

	assert_both_failed(KVT_E_NO_PROVIDER, "peer offers verbs; this engine has tcp");
}
END_TEST

START_TEST(a_refusal_with_the_longest_names_fits)
{
	struct kvi_hello client_hello = plain_hello;
	struct kvi_hello server_hello = plain_hello;
	client_hello.provider_count = KVI_PROVIDERS_MAX;
	server_hello.provider_count = KVI_PROVIDERS_MAX;
	for (int i = 0; i < KVI_PROVIDERS_MAX; i++) {
		memset(client_hello.providers[i], 'c', KVI_NAME_LEN - 1);
		memset(server_hello.providers[i], 's', KVI_NAME_LEN - 1);
		client_hello.providers[i][KVI_NAME_LEN - 1] = '\0';
		server_hello.providers[i][KVI_NAME_LEN - 1] = '\0';
	}
	shake_hands(&client_hello, &server_hello);

	ck_assert_int_eq(client.error.code, KVT_E_NO_PROVIDER);
	ck_assert_int_eq(strncmp(client.error.text, "the peer answered: peer offers ccc", 34), 0);
}
END_TEST

START_TEST(the_smaller_wish_for_lanes_is_taken)
{
	static const uint16_t counts[][3] = {
		{ 8, 3, 3 }, { 3, 8, 3 }, { 5, 5, 5 }, { 1, 1024, 1 }
	};
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		struct kvi_hello client_hello = plain_hello;
		struct kvi_hello server_hello = plain_hello;
		client_hello.lane_count = counts[i][0];
		server_hello.lane_count = counts[i][1];
		shake_hands(&client_hello, &server_hello);

		ck_assert_uint_eq(client.agreed.lane_count, counts[i][2]);
		ck_assert_uint_eq(server.agreed.lane_count, counts[i][2]);
	}
}
END_TEST

/* ---- a server and strangers ---- */

static void begin_server(void)
{
	kvi_handshake_init(&server, KVI_HANDSHAKE_SERVER, &plain_hello, session);
}

START_TEST(a_stranger_gets_nothing)
{
	static const char *const strangers[] = {
		"GET / HTTP/1.1\r\n\r\n",
		"SSH-2.0-OpenSSH_9.2\r\n",
		"\x16\x03\x01\x02\x01\x01\xfc\x03",
		"\x4b\x57\x01\x01\x01\x01\x01\x01",
	};
	for (size_t i = 0; i < sizeof(strangers) / sizeof(strangers[0]); i++) {
		begin_server();
		kvi_handshake_feed(&server, strangers[i], strlen(strangers[i]));
		assert_failed_in_silence(&server);
	}
}
END_TEST

START_TEST(a_frame_that_is_too_long_fails_before_its_body_comes)
{
	static const uint8_t longest[] = { 0x4b, 0x56, 1, 0, 0xf8, 0, 0, 0 };
	static const uint8_t too_long[] = { 0x4b, 0x56, 1, 0, 0xf9, 0, 0, 0 };
	begin_server();
	ck_assert_uint_eq(kvi_handshake_feed(&server, longest, sizeof(longest)), 8);
	ck_assert_int_eq(server.state, KVI_HANDSHAKE_READ);

	begin_server();
	kvi_handshake_feed(&server, too_long, sizeof(too_long));
	assert_failed_in_silence(&server);
}
END_TEST

START_TEST(a_truncated_hello_waits)
{
	begin(&plain_hello, &plain_hello);
	for (size_t len = 0; len < client.output_len; len++) {
		begin_server();
		ck_assert_uint_eq(kvi_handshake_feed(&server, client.output, len), len);
		ck_assert_int_eq(server.state, KVI_HANDSHAKE_READ);
		ck_assert_uint_eq(server.output_len, 0);
	}
}
END_TEST

START_TEST(a_malformed_hello_gets_nothing)
{
	begin(&plain_hello, &plain_hello);
	client.output[KVI_FRAME_HEADER_LEN] = 0; /* version_min */
	pass(&client, &server, SIZE_MAX / 2);

	assert_failed_in_silence(&server);
	ck_assert_uint_eq(kvi_handshake_feed(&server, "more", 4), 0);
}
END_TEST

START_TEST(a_hello_with_any_bit_flipped_does_no_harm)
{
	begin(&plain_hello, &plain_hello);
	uint8_t hello[KVI_HELLO_FRAME_MAX];
	size_t len = client.output_len;
	memcpy(hello, client.output, len);

	for (size_t bit = 0; bit < 8 * len; bit++) {
		hello[bit / 8] ^= (uint8_t)(1U << (bit % 8));
		begin_server();
		kvi_handshake_feed(&server, hello, len);
		if (server.state == KVI_HANDSHAKE_DONE)
			ck_assert_uint_le(server.agreed.lane_count, plain_hello.lane_count);
		else if (server.error.code == KVT_E_PROTOCOL || server.state == KVI_HANDSHAKE_READ)
			ck_assert_uint_eq(server.output_len, 0);
		else
			ck_assert_uint_gt(server.output_len, 0);
		hello[bit / 8] ^= (uint8_t)(1U << (bit % 8));
	}
}
END_TEST

START_TEST(a_server_takes_no_frame_but_hello)
{
	uint8_t bytes[VECTOR_LEN_MAX];
	for (size_t i = 0; i < vector_count; i++) {
		if (vectors[i].kind != VECTOR_FRAME || strstr(vectors[i].name, "HELLO") != NULL)
			continue;
		begin_server();
		size_t len = vector_get_bytes(&vectors[i], bytes);
		kvi_handshake_feed(&server, bytes, len);
		assert_failed_in_silence(&server);
	}

	static const uint8_t unknown[] = { 0x4b, 0x56, 0xc8, 1, 0, 0, 0, 0 };
	begin_server();
	kvi_handshake_feed(&server, unknown, sizeof(unknown));
	assert_failed_in_silence(&server);
}
END_TEST

/* ---- a client and servers that lie ---- */

static void answer_client(const struct kvi_frame *frame)
{
	uint8_t bytes[KVI_HELLO_FRAME_MAX];
	size_t len = kvi_frame_encode(frame, bytes, sizeof(bytes));
	ck_assert_uint_gt(len, 0);
	kvi_handshake_init(&client, KVI_HANDSHAKE_CLIENT, &plain_hello, NULL);
	client.output_len = 0;
	kvi_handshake_feed(&client, bytes, len);
}

static const struct kvi_frame good_welcome = {
	.type = KVI_FRAME_WELCOME,
	.welcome = { .version = 1, .lane_count = 8, .rx_count = 64, .provider = "tcp" },
};

START_TEST(a_client_that_wants_sums_refuses_a_server_that_does_not_agree)
{
	struct kvi_hello hello = plain_hello;
	hello.features = KVI_FEATURE_SUMS | KVI_FEATURE_SUMS_WANTED;
	begin(&hello, &plain_hello);
	client.output_len = 0;
	uint8_t bytes[KVI_HELLO_FRAME_MAX];
	size_t len = kvi_frame_encode(&good_welcome, bytes, sizeof(bytes));
	kvi_handshake_feed(&client, bytes, len);
	ck_assert_int_eq(client.state, KVI_HANDSHAKE_FAILED);
	ck_assert_int_eq(client.error.code, KVT_E_VERSION);
	struct kvi_frame refusal;
	ck_assert_int_eq(kvi_frame_decode(client.output, client.output_len, &refusal), KVT_OK);
	ck_assert_int_eq(refusal.type, KVI_FRAME_REFUSE);
	ck_assert_int_eq(refusal.ending.code, KVT_E_VERSION);
}
END_TEST

START_TEST(a_welcome_within_the_offer_is_taken)
{
	answer_client(&good_welcome);

	ck_assert_int_eq(client.state, KVI_HANDSHAKE_DONE);
}
END_TEST

START_TEST(a_welcome_beyond_the_offer_is_not_taken)
{
	struct kvi_frame frames[4];
	for (int i = 0; i < 4; i++)
		frames[i] = good_welcome;
	frames[0].welcome.version = 2;
	frames[1].welcome.features = 1;
	frames[2].welcome.lane_count = 9;
	strcpy(frames[3].welcome.provider, "verbs");

	for (int i = 0; i < 4; i++) {
		answer_client(&frames[i]);
		assert_failed_in_silence(&client);
	}
}
END_TEST

START_TEST(a_client_takes_no_other_answer)
{
	struct kvi_frame frame = { .type = KVI_FRAME_HELLO, .hello = plain_hello };
	answer_client(&frame);
	assert_failed_in_silence(&client);

	frame.type = KVI_FRAME_READY;
	answer_client(&frame);
	assert_failed_in_silence(&client);
}
END_TEST

START_TEST(a_client_reports_the_code_and_words_of_a_refusal)
{
	struct kvi_frame frame = {
		.type = KVI_FRAME_REFUSE,
		.ending = { .code = KVT_E_LIMIT, .text = "4,096 connections are open" },
	};
	answer_client(&frame);

	ck_assert_int_eq(client.state, KVI_HANDSHAKE_FAILED);
	ck_assert_int_eq(client.error.code, KVT_E_LIMIT);
	ck_assert_str_eq(client.error.text, "the peer answered: 4,096 connections are open");
	ck_assert_uint_eq(client.output_len, 0);
}
END_TEST

static TCase *create_tests(void)
{
	TCase *tests = tcase_create("handshake");
	tcase_add_test(tests, both_sides_learn_what_was_agreed);
	tcase_add_test(tests, sums_are_used_where_a_side_wants_them_and_both_know_them);
	tcase_add_test(tests, a_client_that_wants_sums_refuses_a_server_that_does_not_agree);
	tcase_add_loop_test(tests, bytes_may_come_in_pieces_of_any_length, 1, 20);
	tcase_add_test(tests, bytes_behind_the_handshake_are_left);
	tcase_add_test(tests, an_engine_may_connect_to_itself);
	tcase_add_test(tests, the_highest_common_version_is_taken);
	tcase_add_test(tests, engines_without_a_common_version_are_told);
	tcase_add_test(tests, the_servers_order_of_providers_decides);
	tcase_add_test(tests, engines_without_a_common_provider_are_told);
	tcase_add_test(tests, a_refusal_with_the_longest_names_fits);
	tcase_add_test(tests, the_smaller_wish_for_lanes_is_taken);
	tcase_add_test(tests, a_stranger_gets_nothing);
	tcase_add_test(tests, a_frame_that_is_too_long_fails_before_its_body_comes);
	tcase_add_test(tests, a_truncated_hello_waits);
	tcase_add_test(tests, a_malformed_hello_gets_nothing);
	tcase_add_test(tests, a_hello_with_any_bit_flipped_does_no_harm);
	tcase_add_test(tests, a_server_takes_no_frame_but_hello);
	tcase_add_test(tests, a_welcome_within_the_offer_is_taken);
	tcase_add_test(tests, a_welcome_beyond_the_offer_is_not_taken);
	tcase_add_test(tests, a_client_takes_no_other_answer);
	tcase_add_test(tests, a_client_reports_the_code_and_words_of_a_refusal);
	return tests;
}

int main(void)
{
	return run_tests("protocol_handshake", create_tests());
}
