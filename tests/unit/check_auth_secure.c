/* SPDX-License-Identifier: Apache-2.0 */
/* check_auth_secure.c - a control channel's bytes: who gets in, and what becomes of bytes that are not the peer's. */
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "../support/runner.h"
#include "auth/secure.h"

enum { ROOM = 512, MANY = 3 * KVI_RECORDS_PER_KEY + 5 };

static const uint8_t key_one[KVI_KEY_LEN] = "the first of two keys ..........";
static const uint8_t key_two[KVI_KEY_LEN] = "the second of two keys .........";
static const uint8_t session_id[KVI_SESSION_LEN] = "session";

static struct kvi_keyring ring_one, ring_two, ring_both, no_ring;
static struct kvi_secure client, server;

static void open_ring(struct kvi_keyring *ring, const void *key, size_t len, bool insecure)
{
	struct kvt_error error = { .code = KVT_OK };
	enum kvt_err err = kvi_keyring_open(ring, key, len, insecure, &error);
	ck_assert_msg(err == KVT_OK, "%s", error.text);
}

static void open_rings(void)
{
	struct kvi_key keys[2];
	char lines[2][KVI_KEY_TEXT_LEN], text[2 * KVI_KEY_TEXT_LEN + 2];
	kvi_key_set(&keys[0], key_one);
	kvi_key_set(&keys[1], key_two);
	kvi_key_print(&keys[0], lines[0]);
	kvi_key_print(&keys[1], lines[1]);
	int len = snprintf(text, sizeof(text), "%s\n%s\n", lines[0], lines[1]);
	open_ring(&ring_one, key_one, KVI_KEY_LEN, false);
	open_ring(&ring_two, key_two, KVI_KEY_LEN, false);
	open_ring(&ring_both, text, (size_t)len, false);
	open_ring(&no_ring, NULL, 0, true);
}

static void close_rings(void)
{
	kvi_keyring_close(&ring_one);
	kvi_keyring_close(&ring_two);
	kvi_keyring_close(&ring_both);
	kvi_keyring_close(&no_ring);
}

static void begin(struct kvi_keyring *client_ring, struct kvi_keyring *server_ring)
{
	kvi_secure_init(&client, client_ring, false);
	kvi_secure_init(&server, server_ring, true);
}

/* Hand the output over, in pieces; the receiver takes it as a whole. */
static enum kvt_err pass(struct kvi_secure *from, struct kvi_secure *to, struct kvi_keyring *ring)
{
	struct kvi_record record;
	enum kvt_err err = KVT_E_AGAIN;
	size_t len = from->output_len;
	from->output_len = 0;
	for (size_t have = 0; have <= len && err == KVT_E_AGAIN; have++) {
		err = kvi_secure_take(to, ring, from->output, have, &record);
		ck_assert(err != KVT_E_AGAIN || (record.used == 0 && record.wanted > have));
	}
	ck_assert(err != KVT_OK || (record.used == len && record.content == NULL));
	return err;
}

static void shake_hands(struct kvi_keyring *client_ring, struct kvi_keyring *server_ring)
{
	begin(client_ring, server_ring);
	ck_assert_int_eq(pass(&client, &server, server_ring), KVT_OK);
	if (!client_ring->insecure)
		ck_assert_int_eq(pass(&server, &client, client_ring), KVT_OK);
	ck_assert_int_eq(client.state, KVI_SECURE_OPEN);
	ck_assert_int_eq(server.state, KVI_SECURE_OPEN);
}

static size_t seal(struct kvi_secure *from, const char *text, uint8_t record[ROOM])
{
	size_t len = strlen(text);
	memcpy(record + KVI_RECORD_HEADER_LEN, text, len);
	return kvi_secure_seal(from, record, len);
}

static enum kvt_err take(struct kvi_secure *to, const uint8_t *bytes, size_t len, const char *text)
{
	uint8_t copy[ROOM];
	struct kvi_record record;
	memcpy(copy, bytes, len);
	enum kvt_err err = kvi_secure_take(to, &ring_one, copy, len, &record);
	if (err == KVT_OK) {
		ck_assert_uint_eq(record.used, len);
		ck_assert_uint_eq(record.len, strlen(text));
		ck_assert_mem_eq(record.content, text, record.len);
	}
	return err;
}

static void expect_failed(const struct kvi_secure *secure, enum kvt_err code, const char *word)
{
	static const struct kvi_noise_session nothing;
	ck_assert_int_eq(secure->state, KVI_SECURE_FAILED);
	ck_assert_int_eq(secure->code, code);
	ck_assert_msg(strstr(secure->fault, word) != NULL, "%s", secure->fault);
	ck_assert_mem_eq(&secure->session, &nothing, sizeof(nothing));
	ck_assert_uint_eq(secure->output_len, 0);
}

/* ---- keys ---- */

START_TEST(two_that_share_a_key_read_each_other)
{
	uint8_t record[ROOM];
	struct kvi_keyring *rings[][2] = { { &ring_one, &ring_one }, { &no_ring, &no_ring } };
	for (size_t i = 0; i < 2; i++) {
		shake_hands(rings[i][0], rings[i][1]);
		ck_assert(!server.is_proven);
		ck_assert_int_eq(take(&server, record, seal(&client, "hello", record), "hello"),
				 KVT_OK);
		ck_assert(server.is_proven);
		ck_assert_int_eq(take(&client, record, seal(&server, "welcome", record), "welcome"),
				 KVT_OK);
		ck_assert(client.is_proven);
	}
}
END_TEST

START_TEST(a_server_knows_by_which_of_its_keys_a_peer_came)
{
	struct kvi_key key;
	kvi_key_set(&key, key_two);
	shake_hands(&ring_two, &ring_both);
	ck_assert_mem_eq(server.key_id, key.id, KVI_KEY_ID_LEN);
	ck_assert_mem_eq(client.key_id, key.id, KVI_KEY_ID_LEN);
}
END_TEST

START_TEST(a_client_comes_with_its_first_key)
{
	shake_hands(&ring_both, &ring_one);
	begin(&ring_both, &ring_two);
	ck_assert_int_eq(pass(&client, &server, &ring_two), KVT_E_AUTH);
}
END_TEST

START_TEST(another_key_gets_no_answer)
{
	begin(&ring_two, &ring_one);
	ck_assert_int_eq(pass(&client, &server, &ring_one), KVT_E_AUTH);
	expect_failed(&server, KVT_E_AUTH, "keys differ");
}
END_TEST

START_TEST(another_key_under_a_known_id_gets_no_answer)
{
	/* Who knows the id knows nothing: it goes over the wire in clear. */
	static const uint8_t wrong[KVI_NOISE_KEY_LEN] = "a guess";
	struct kvi_noise noise;
	begin(&ring_one, &ring_one);
	kvi_noise_init(&noise, KVI_NOISE_INITIATOR, wrong, client.output, KVI_OPENING_FIXED_LEN,
		       NULL);
	kvi_noise_write(&noise, NULL, 0, client.output + KVI_OPENING_FIXED_LEN);
	ck_assert_int_eq(pass(&client, &server, &ring_one), KVT_E_AUTH);
	expect_failed(&server, KVT_E_AUTH, "keys differ");
}
END_TEST

START_TEST(a_key_that_was_removed_lets_nobody_in)
{
	struct kvi_keyring ring;
	open_ring(&ring, key_one, KVI_KEY_LEN, false);
	begin(&ring_one, &ring);
	ck_assert_int_eq(kvi_keyring_reload(&ring, key_two, KVI_KEY_LEN, NULL), KVT_OK);
	ck_assert_int_eq(pass(&client, &server, &ring), KVT_E_AUTH);
	shake_hands(&ring_two, &ring);

	/* What is no key changes nothing. */
	struct kvt_error error;
	ck_assert_int_eq(kvi_keyring_reload(&ring, "no key", 6, &error), KVT_E_INVALID);
	ck_assert_ptr_nonnull(strstr(error.text, "auth_key"));
	shake_hands(&ring_two, &ring);
	kvi_keyring_close(&ring);
}
END_TEST

START_TEST(insecure_and_secure_do_not_meet)
{
	begin(&no_ring, &ring_one);
	ck_assert_int_eq(pass(&client, &server, &ring_one), KVT_E_AUTH);
	expect_failed(&server, KVT_E_AUTH, "insecure");
	begin(&ring_one, &no_ring);
	ck_assert_int_eq(pass(&client, &server, &no_ring), KVT_E_AUTH);
	expect_failed(&server, KVT_E_AUTH, "insecure");
}
END_TEST

/* ---- bytes that were changed, or played again ---- */

START_TEST(a_flipped_bit_of_the_opening_or_the_answer_lets_nobody_in)
{
	uint8_t opening[KVI_OPENING_LEN], answer[KVI_OPENING_LEN];
	struct kvi_record record;
	begin(&ring_one, &ring_one);
	size_t opening_len = client.output_len;
	memcpy(opening, client.output, opening_len);
	for (size_t bit = 0; bit < 8 * opening_len; bit++) {
		kvi_secure_init(&server, &ring_one, true);
		opening[bit / 8] ^= (uint8_t)(1U << bit % 8);
		enum kvt_err err =
			kvi_secure_take(&server, &ring_one, opening, opening_len, &record);
		ck_assert(err != KVT_OK && server.state != KVI_SECURE_OPEN);
		ck_assert_uint_eq(server.output_len, 0);
		opening[bit / 8] ^= (uint8_t)(1U << bit % 8);
	}

	struct kvi_secure fresh = client;
	kvi_secure_init(&server, &ring_one, true);
	ck_assert_int_eq(kvi_secure_take(&server, &ring_one, opening, opening_len, &record),
			 KVT_OK);
	size_t answer_len = server.output_len;
	memcpy(answer, server.output, answer_len);
	for (size_t bit = 0; bit < 8 * answer_len; bit++) {
		client = fresh;
		answer[bit / 8] ^= (uint8_t)(1U << bit % 8);
		enum kvt_err err = kvi_secure_take(&client, &ring_one, answer, answer_len, &record);
		ck_assert(err != KVT_OK && client.state != KVI_SECURE_OPEN && !client.is_proven);
		answer[bit / 8] ^= (uint8_t)(1U << bit % 8);
	}
}
END_TEST

START_TEST(a_flipped_bit_of_a_record_ends_the_channel)
{
	uint8_t record[ROOM];
	shake_hands(&ring_one, &ring_one);
	struct kvi_secure fresh = server;
	size_t len = seal(&client, "hello", record);
	for (size_t bit = 0; bit < 8 * len; bit++) {
		server = fresh;
		record[bit / 8] ^= (uint8_t)(1U << bit % 8);
		ck_assert_int_ne(take(&server, record, len, "hello"), KVT_OK);
		ck_assert(!server.is_proven);
		record[bit / 8] ^= (uint8_t)(1U << bit % 8);
	}
	server = fresh;
	ck_assert_int_eq(take(&server, record, len, "hello"), KVT_OK);
}
END_TEST

START_TEST(a_recorded_call_that_is_played_again_never_proves_anything)
{
	uint8_t opening[KVI_OPENING_LEN], record[ROOM];
	struct kvi_record taken;
	begin(&ring_one, &ring_one);
	memcpy(opening, client.output, sizeof(opening));
	ck_assert_int_eq(pass(&client, &server, &ring_one), KVT_OK);
	ck_assert_int_eq(pass(&server, &client, &ring_one), KVT_OK);
	size_t len = seal(&client, "hello", record);
	ck_assert_int_eq(take(&server, record, len, "hello"), KVT_OK);

	kvi_secure_init(&server, &ring_one, true);
	ck_assert_int_eq(kvi_secure_take(&server, &ring_one, opening, sizeof(opening), &taken),
			 KVT_E_AUTH);
	ck_assert_uint_eq(server.output_len, 0);
	expect_failed(&server, KVT_E_AUTH, "recorded");

	/* Where it was forgotten it reads well, for its like was sent; the record is of a session that is over. */
	memset(&ring_one.openings, 0, sizeof(ring_one.openings));
	kvi_secure_init(&server, &ring_one, true);
	ck_assert_int_eq(kvi_secure_take(&server, &ring_one, opening, sizeof(opening), &taken),
			 KVT_OK);
	server.output_len = 0;
	ck_assert(!server.is_proven);
	ck_assert_int_eq(take(&server, record, len, "hello"), KVT_E_AUTH);
	ck_assert(!server.is_proven);
	expect_failed(&server, KVT_E_AUTH, "record");
}
END_TEST

START_TEST(a_record_that_comes_again_or_too_early_or_from_oneself_ends_the_channel)
{
	uint8_t first[ROOM], second[ROOM];
	shake_hands(&ring_one, &ring_one);
	size_t first_len = seal(&client, "first", first);
	size_t second_len = seal(&client, "second", second);
	struct kvi_secure fresh = server;
	ck_assert_int_eq(take(&server, second, second_len, "second"), KVT_E_AUTH);

	server = fresh;
	ck_assert_int_eq(take(&server, first, first_len, "first"), KVT_OK);
	ck_assert_int_eq(take(&server, first, first_len, "first"), KVT_E_AUTH);
	/* Nothing is right after that. */
	ck_assert_int_eq(take(&server, second, second_len, "second"), KVT_E_AUTH);
	ck_assert_int_eq(take(&client, first, first_len, "first"), KVT_E_AUTH);
}
END_TEST

/* ---- records ---- */

START_TEST(keys_change_after_a_number_of_records_in_each_direction)
{
	uint8_t record[ROOM];
	shake_hands(&ring_one, &ring_one);
	struct kvi_noise_session before = client.session;
	for (unsigned i = 0; i < MANY; i++) {
		ck_assert_int_eq(take(&server, record, seal(&client, "up", record), "up"), KVT_OK);
		bool is_fresh =
			memcmp(before.send.key, client.session.send.key, KVI_NOISE_KEY_LEN) != 0;
		ck_assert_int_eq(is_fresh, i + 1 >= KVI_RECORDS_PER_KEY);
	}
	ck_assert_mem_eq(before.receive.key, client.session.receive.key, KVI_NOISE_KEY_LEN);
	ck_assert_int_eq(take(&client, record, seal(&server, "down", record), "down"), KVT_OK);
}
END_TEST

START_TEST(before_a_peer_has_proven_its_key_a_record_is_short)
{
	struct kvi_record taken;
	uint8_t header[2];
	struct kvi_secure *ends[] = { &server, &client };
	for (size_t i = 0; i < 2; i++) {
		/* Of the client only the server is told that it has the key, by the answer. */
		shake_hands(&ring_one, &ring_one);
		kvi_record_put_len(KVI_HELLO_FRAME_MAX + KVI_RECORD_TAG_LEN, header);
		ck_assert_int_eq(kvi_secure_take(ends[i], &ring_one, header, 2, &taken),
				 KVT_E_AGAIN);
		kvi_record_put_len(KVI_HELLO_FRAME_MAX + KVI_RECORD_TAG_LEN + 1, header);
		ck_assert_int_eq(kvi_secure_take(ends[i], &ring_one, header, 2, &taken),
				 i == 0 ? KVT_E_PROTOCOL : KVT_E_AGAIN);
	}
}
END_TEST

START_TEST(an_empty_record_is_none)
{
	struct kvi_record taken;
	uint8_t header[2];
	shake_hands(&ring_one, &ring_one);
	kvi_record_put_len(KVI_RECORD_TAG_LEN, header);
	ck_assert_int_eq(kvi_secure_take(&server, &ring_one, header, 2, &taken), KVT_E_PROTOCOL);
}
END_TEST

START_TEST(the_longest_record_arrives)
{
	static uint8_t record[KVI_CONTROL_FRAME_MAX + KVI_RECORD_EXTRA];
	struct kvi_record taken;
	shake_hands(&ring_one, &ring_one);
	memset(record, 'x', sizeof(record));
	size_t len = kvi_secure_seal(&server, record, KVI_CONTROL_FRAME_MAX);
	ck_assert_uint_eq(len, sizeof(record));
	ck_assert_int_eq(kvi_secure_take(&client, &ring_one, record, len, &taken), KVT_OK);
	ck_assert_uint_eq(taken.len, KVI_CONTROL_FRAME_MAX);
	ck_assert_int_eq(taken.content[0], 'x');
	ck_assert_mem_eq(taken.content, taken.content + 1, KVI_CONTROL_FRAME_MAX - 1);
}
END_TEST

/* ---- secrets ---- */

START_TEST(secrets_are_the_same_on_both_sides_and_differ_by_purpose_and_session)
{
	static const uint8_t other_id[KVI_SESSION_LEN] = "other";
	uint8_t secrets[5][32];
	shake_hands(&ring_one, &ring_one);
	kvi_secure_derive(&client, "lanes", session_id, secrets[0], 32);
	kvi_secure_derive(&server, "lanes", session_id, secrets[1], 32);
	kvi_secure_derive(&client, "descriptors", session_id, secrets[2], 32);
	kvi_secure_derive(&client, "lanes", other_id, secrets[3], 32);
	ck_assert_mem_eq(secrets[0], secrets[1], 32);
	shake_hands(&ring_one, &ring_one);
	kvi_secure_derive(&client, "lanes", session_id, secrets[4], 32);
	for (unsigned i = 1; i < 5; i++)
		for (unsigned k = i + 1; k < 5; k++)
			ck_assert_mem_ne(secrets[i], secrets[k], 32);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("secure");
	tcase_add_checked_fixture(tests, open_rings, close_rings);
	tcase_add_test(tests, two_that_share_a_key_read_each_other);
	tcase_add_test(tests, a_server_knows_by_which_of_its_keys_a_peer_came);
	tcase_add_test(tests, a_client_comes_with_its_first_key);
	tcase_add_test(tests, another_key_gets_no_answer);
	tcase_add_test(tests, another_key_under_a_known_id_gets_no_answer);
	tcase_add_test(tests, a_key_that_was_removed_lets_nobody_in);
	tcase_add_test(tests, insecure_and_secure_do_not_meet);
	tcase_add_test(tests, a_flipped_bit_of_the_opening_or_the_answer_lets_nobody_in);
	tcase_add_test(tests, a_flipped_bit_of_a_record_ends_the_channel);
	tcase_add_test(tests, a_recorded_call_that_is_played_again_never_proves_anything);
	tcase_add_test(tests,
		       a_record_that_comes_again_or_too_early_or_from_oneself_ends_the_channel);
	tcase_add_test(tests, keys_change_after_a_number_of_records_in_each_direction);
	tcase_add_test(tests, before_a_peer_has_proven_its_key_a_record_is_short);
	tcase_add_test(tests, an_empty_record_is_none);
	tcase_add_test(tests, the_longest_record_arrives);
	tcase_add_test(tests, secrets_are_the_same_on_both_sides_and_differ_by_purpose_and_session);
	return run_tests("auth_secure", tests);
}
