/* SPDX-License-Identifier: Apache-2.0 */
/* check_auth_noise.c - the handshake against published vectors, and against whoever does not have the key. */
#include <sodium.h>
#include <string.h>

#include "../support/runner.h"
#include "auth/noise.h"
#include "noise_vectors.h"

enum { TEXT_LEN = 256 };
enum { VECTOR_COUNT = sizeof(noise_vectors) / sizeof(noise_vectors[0]) };

static size_t read_hex(const char *hex, uint8_t bytes[TEXT_LEN])
{
	size_t len = 0;
	ck_assert_int_eq(sodium_hex2bin(bytes, TEXT_LEN, hex, strlen(hex), NULL, &len, NULL), 0);
	return len;
}

/* ---- what every test begins with ---- */

static const uint8_t psk[KVI_NOISE_KEY_LEN] = "a key that two peers share .....";
static const uint8_t prologue[] = "KVTrans 1";
static const uint8_t hello[] = "this is HELLO";
static const uint8_t welcome[] = "and this WELCOME";

enum {
	HELLO_LEN = sizeof(hello),
	WELCOME_LEN = sizeof(welcome),
	FIRST_LEN = HELLO_LEN + KVI_NOISE_EXTRA,
	SECOND_LEN = WELCOME_LEN + KVI_NOISE_EXTRA,
};

static struct kvi_noise initiator, responder;
static struct kvi_noise_session client, server;
static uint8_t first[FIRST_LEN], second[SECOND_LEN], payload[TEXT_LEN];

static void begin(void)
{
	kvi_noise_init(&initiator, KVI_NOISE_INITIATOR, psk, prologue, sizeof(prologue), NULL);
	kvi_noise_init(&responder, KVI_NOISE_RESPONDER, psk, prologue, sizeof(prologue), NULL);
}

static void write_first(void)
{
	ck_assert_int_eq(kvi_noise_write(&initiator, hello, HELLO_LEN, first), KVT_OK);
}

static void write_second(void)
{
	ck_assert_int_eq(kvi_noise_read(&responder, first, FIRST_LEN, payload), KVT_OK);
	ck_assert_mem_eq(payload, hello, HELLO_LEN);
	ck_assert_int_eq(kvi_noise_write(&responder, welcome, WELCOME_LEN, second), KVT_OK);
}

static void shake_hands(void)
{
	begin();
	write_first();
	write_second();
	ck_assert_int_eq(kvi_noise_read(&initiator, second, SECOND_LEN, payload), KVT_OK);
	ck_assert_mem_eq(payload, welcome, WELCOME_LEN);
	ck_assert_int_eq(kvi_noise_split(&initiator, &client), KVT_OK);
	ck_assert_int_eq(kvi_noise_split(&responder, &server), KVT_OK);
}

static void assert_no_secrets(const struct kvi_noise *noise)
{
	ck_assert_int_eq(noise->step, KVI_NOISE_OVER);
	ck_assert(sodium_is_zero((const uint8_t *)noise, sizeof(*noise)));
}

/* Reading failed: nothing was given out, and nothing works any more. */
static void assert_refused(struct kvi_noise *noise, const void *message, size_t len)
{
	memset(payload, 0, sizeof(payload));
	ck_assert_int_eq(kvi_noise_read(noise, message, len, payload), KVT_E_AUTH);
	ck_assert(sodium_is_zero(payload, sizeof(payload)));
	assert_no_secrets(noise);
	ck_assert_int_eq(kvi_noise_read(noise, message, len, payload), KVT_E_AUTH);
	ck_assert_int_eq(kvi_noise_write(noise, hello, 0, payload), KVT_E_AUTH);
	ck_assert_int_eq(kvi_noise_split(noise, &client), KVT_E_INVALID);
}

/* In the place of libsodium's, to see when there is a Diffie-Hellman. */
static unsigned diffie_hellman_count;

int crypto_scalarmult(unsigned char *q, const unsigned char *n, const unsigned char *p)
{
	diffie_hellman_count++;
	return crypto_scalarmult_curve25519(q, n, p);
}

/* ---- the published vectors ---- */

static void run_handshake_message(const struct noise_vector *vector, int index,
				  struct kvi_noise *writer, struct kvi_noise *reader)
{
	uint8_t sent[TEXT_LEN], got[TEXT_LEN], told[TEXT_LEN], text[TEXT_LEN];
	size_t len = read_hex(vector->messages[index].payload, text);
	ck_assert_uint_eq(read_hex(vector->messages[index].ciphertext, told),
			  len + KVI_NOISE_EXTRA);

	ck_assert_int_eq(kvi_noise_write(writer, text, len, sent), KVT_OK);
	ck_assert_mem_eq(sent, told, len + KVI_NOISE_EXTRA);
	ck_assert_int_eq(kvi_noise_read(reader, sent, len + KVI_NOISE_EXTRA, got), KVT_OK);
	if (len > 0)
		ck_assert_mem_eq(got, text, len);
}

static void run_transport_message(const struct noise_vector *vector, int index,
				  struct kvi_noise_cipher *sender,
				  struct kvi_noise_cipher *receiver)
{
	uint8_t sent[TEXT_LEN], got[TEXT_LEN], told[TEXT_LEN], text[TEXT_LEN];
	size_t len = read_hex(vector->messages[index].payload, text);
	ck_assert_uint_eq(read_hex(vector->messages[index].ciphertext, told),
			  len + KVI_NOISE_TAG_LEN);

	ck_assert_int_eq(kvi_noise_encrypt(sender, text, len, sent), KVT_OK);
	ck_assert_mem_eq(sent, told, len + KVI_NOISE_TAG_LEN);
	ck_assert_int_eq(kvi_noise_decrypt(receiver, sent, len + KVI_NOISE_TAG_LEN, got), KVT_OK);
	ck_assert_mem_eq(got, text, len);
}

START_TEST(published_vectors_come_out_byte_by_byte)
{
	const struct noise_vector *vector = &noise_vectors[_i];
	uint8_t words[TEXT_LEN], key[TEXT_LEN], secret[TEXT_LEN];
	size_t words_len = read_hex(vector->prologue, words);
	read_hex(vector->psk, key);
	read_hex(vector->init_ephemeral, secret);
	kvi_noise_init(&initiator, KVI_NOISE_INITIATOR, key, words, words_len, secret);
	read_hex(vector->resp_ephemeral, secret);
	kvi_noise_init(&responder, KVI_NOISE_RESPONDER, key, words, words_len, secret);

	run_handshake_message(vector, 0, &initiator, &responder);
	run_handshake_message(vector, 1, &responder, &initiator);
	ck_assert_int_eq(kvi_noise_split(&initiator, &client), KVT_OK);
	ck_assert_int_eq(kvi_noise_split(&responder, &server), KVT_OK);
	if (vector->handshake_hash != NULL) {
		read_hex(vector->handshake_hash, words);
		ck_assert_mem_eq(client.hash, words, sizeof(client.hash));
	}
	for (int i = 2; i < VECTOR_MESSAGES && vector->messages[i].payload != NULL; i++) {
		if (i % 2 == 0)
			run_transport_message(vector, i, &client.send, &server.receive);
		else
			run_transport_message(vector, i, &server.send, &client.receive);
	}
}
END_TEST

/* ---- the handshake ---- */

START_TEST(both_sides_come_to_the_same_session)
{
	shake_hands();

	ck_assert_mem_eq(client.hash, server.hash, sizeof(client.hash));
	ck_assert_mem_eq(client.secret, server.secret, sizeof(client.secret));
	ck_assert_mem_eq(client.send.key, server.receive.key, KVI_NOISE_KEY_LEN);
	ck_assert_mem_eq(client.receive.key, server.send.key, KVI_NOISE_KEY_LEN);
	ck_assert_mem_ne(client.send.key, client.receive.key, KVI_NOISE_KEY_LEN);
	ck_assert_mem_ne(client.secret, client.send.key, KVI_NOISE_KEY_LEN);
	ck_assert_mem_ne(client.secret, client.receive.key, KVI_NOISE_KEY_LEN);
	ck_assert_mem_ne(client.secret, client.hash, KVI_NOISE_KEY_LEN);
	assert_no_secrets(&initiator);
	assert_no_secrets(&responder);
	ck_assert_int_eq(kvi_noise_split(&initiator, &client), KVT_E_INVALID);
}
END_TEST

START_TEST(two_sessions_have_nothing_in_common)
{
	shake_hands();
	struct kvi_noise_session earlier = client;
	uint8_t earlier_first[FIRST_LEN];
	memcpy(earlier_first, first, FIRST_LEN);
	shake_hands();

	ck_assert_mem_ne(earlier.send.key, client.send.key, KVI_NOISE_KEY_LEN);
	ck_assert_mem_ne(earlier.receive.key, client.receive.key, KVI_NOISE_KEY_LEN);
	ck_assert_mem_ne(earlier.hash, client.hash, KVI_NOISE_KEY_LEN);
	ck_assert_mem_ne(earlier.secret, client.secret, KVI_NOISE_KEY_LEN);
	ck_assert_mem_ne(earlier_first, first, KVI_NOISE_KEY_LEN);
}
END_TEST

START_TEST(the_pre_shared_key_is_not_kept)
{
	begin();
	for (size_t at = 0; at + KVI_NOISE_KEY_LEN <= sizeof(initiator); at++)
		ck_assert_mem_ne((const uint8_t *)&initiator + at, psk, KVI_NOISE_KEY_LEN);
}
END_TEST

START_TEST(messages_have_their_turn)
{
	begin();
	ck_assert_int_eq(kvi_noise_write(&responder, welcome, WELCOME_LEN, second), KVT_E_INVALID);
	ck_assert_int_eq(kvi_noise_read(&initiator, second, SECOND_LEN, payload), KVT_E_INVALID);
	ck_assert_int_eq(kvi_noise_split(&initiator, &client), KVT_E_INVALID);
	write_first();
	ck_assert_int_eq(kvi_noise_write(&initiator, hello, HELLO_LEN, first), KVT_E_INVALID);
	write_second();
	ck_assert_int_eq(kvi_noise_read(&responder, first, FIRST_LEN, payload), KVT_E_INVALID);
	ck_assert_int_eq(kvi_noise_write(&responder, welcome, WELCOME_LEN, second), KVT_E_INVALID);

	/* Wrong use has changed nothing. */
	ck_assert_int_eq(kvi_noise_read(&initiator, second, SECOND_LEN, payload), KVT_OK);
	ck_assert_int_eq(kvi_noise_read(&initiator, second, SECOND_LEN, payload), KVT_E_INVALID);
	ck_assert_int_eq(kvi_noise_split(&initiator, &client), KVT_OK);
}
END_TEST

START_TEST(payloads_of_every_allowed_length_pass)
{
	static uint8_t long_payload[KVI_NOISE_MESSAGE_MAX], message[KVI_NOISE_MESSAGE_MAX + 1];
	static uint8_t got[KVI_NOISE_MESSAGE_MAX];
	static const size_t lens[] = { 0, 1, 63, 64, 65, 256, 4096, 65487 };
	randombytes_buf(long_payload, sizeof(long_payload));
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		begin();
		ck_assert_int_eq(kvi_noise_write(&initiator, long_payload, lens[i], message),
				 KVT_OK);
		ck_assert_int_eq(kvi_noise_read(&responder, message, lens[i] + KVI_NOISE_EXTRA,
						got),
				 KVT_OK);
		if (lens[i] > 0)
			ck_assert_mem_eq(got, long_payload, lens[i]);
	}
	begin();
	ck_assert_int_eq(kvi_noise_write(&initiator, long_payload, 65488, message),
			 KVT_E_TOO_LARGE);
	write_first();
	assert_refused(&responder, message, KVI_NOISE_MESSAGE_MAX + 1);
}
END_TEST

/* ---- who is refused ---- */

START_TEST(every_flipped_bit_of_the_first_message_is_refused)
{
	for (size_t bit = 0; bit < (size_t)8 * FIRST_LEN; bit++) {
		begin();
		write_first();
		first[bit / 8] ^= (uint8_t)(1U << bit % 8);
		assert_refused(&responder, first, FIRST_LEN);
	}
}
END_TEST

START_TEST(every_flipped_bit_of_the_second_message_is_refused)
{
	for (size_t bit = 0; bit < (size_t)8 * SECOND_LEN; bit++) {
		begin();
		write_first();
		write_second();
		second[bit / 8] ^= (uint8_t)(1U << bit % 8);
		assert_refused(&initiator, second, SECOND_LEN);
	}
}
END_TEST

START_TEST(a_message_that_was_cut_or_grew_is_refused)
{
	uint8_t longer[SECOND_LEN + 1] = { 0 };
	for (size_t len = 0; len < FIRST_LEN; len++) {
		begin();
		write_first();
		assert_refused(&responder, first, len);
	}
	for (size_t len = 0; len < SECOND_LEN; len++) {
		begin();
		write_first();
		write_second();
		assert_refused(&initiator, second, len);
	}
	begin();
	write_first();
	memcpy(longer, first, FIRST_LEN);
	assert_refused(&responder, longer, FIRST_LEN + 1);
	begin();
	write_first();
	write_second();
	memcpy(longer, second, SECOND_LEN);
	assert_refused(&initiator, longer, SECOND_LEN + 1);
}
END_TEST

START_TEST(another_key_is_refused_whichever_bit_differs)
{
	for (size_t bit = 0; bit < (size_t)8 * KVI_NOISE_KEY_LEN; bit++) {
		uint8_t other[KVI_NOISE_KEY_LEN];
		memcpy(other, psk, sizeof(other));
		other[bit / 8] ^= (uint8_t)(1U << bit % 8);
		begin();
		kvi_noise_init(&responder, KVI_NOISE_RESPONDER, other, prologue, sizeof(prologue),
			       NULL);
		write_first();
		assert_refused(&responder, first, FIRST_LEN);
	}
}
END_TEST

START_TEST(a_stranger_costs_no_diffie_hellman)
{
	static const uint8_t other[KVI_NOISE_KEY_LEN] = "another key .................";
	begin();
	kvi_noise_init(&responder, KVI_NOISE_RESPONDER, other, prologue, sizeof(prologue), NULL);
	write_first();
	diffie_hellman_count = 0;
	assert_refused(&responder, first, FIRST_LEN);
	ck_assert_uint_eq(diffie_hellman_count, 0);

	shake_hands();
	ck_assert_uint_eq(diffie_hellman_count, 2);
}
END_TEST

START_TEST(another_prologue_is_refused)
{
	for (size_t len = 0; len < sizeof(prologue); len++) {
		begin();
		kvi_noise_init(&responder, KVI_NOISE_RESPONDER, psk, prologue, len, NULL);
		write_first();
		assert_refused(&responder, first, FIRST_LEN);
	}
}
END_TEST

/* It reads well, as it must, but the player cannot read the answer nor go on. */
START_TEST(a_replayed_first_message_leads_nowhere)
{
	shake_hands();
	struct kvi_noise_session recorded = client;
	uint8_t recorded_message[HELLO_LEN + KVI_NOISE_TAG_LEN];
	ck_assert_int_eq(kvi_noise_encrypt(&recorded.send, hello, HELLO_LEN, recorded_message),
			 KVT_OK);

	kvi_noise_init(&responder, KVI_NOISE_RESPONDER, psk, prologue, sizeof(prologue), NULL);
	uint8_t recorded_second[SECOND_LEN];
	memcpy(recorded_second, second, SECOND_LEN);
	write_second();
	ck_assert_int_eq(kvi_noise_split(&responder, &server), KVT_OK);
	ck_assert_mem_ne(second, recorded_second, KVI_NOISE_KEY_LEN);
	ck_assert_int_eq(kvi_noise_decrypt(&server.receive, recorded_message,
					   sizeof(recorded_message), payload),
			 KVT_E_AUTH);
}
END_TEST

START_TEST(a_replayed_second_message_is_refused)
{
	shake_hands();
	begin();
	write_first();
	assert_refused(&initiator, second, SECOND_LEN);
}
END_TEST

START_TEST(messages_that_come_back_to_their_sender_are_refused)
{
	begin();
	write_first();
	assert_refused(&initiator, first, FIRST_LEN);
	begin();
	write_first();
	write_second();
	kvi_noise_init(&responder, KVI_NOISE_RESPONDER, psk, prologue, sizeof(prologue), NULL);
	assert_refused(&responder, second, SECOND_LEN);
}
END_TEST

/* A peer with the key, but with an ephemeral key that makes the same secret with any other. */
START_TEST(an_ephemeral_key_that_makes_no_secret_is_refused)
{
	static const uint8_t weak[][KVI_NOISE_KEY_LEN] = {
		{ 0 },
		{ 1 },
		{ 0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		  0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		  0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f },
	};
	for (size_t i = 0; i < sizeof(weak) / sizeof(weak[0]); i++) {
		begin();
		write_first();
		ck_assert_int_eq(kvi_noise_read(&responder, first, FIRST_LEN, payload), KVT_OK);
		memcpy(responder.remote, weak[i], KVI_NOISE_KEY_LEN);
		ck_assert_int_eq(kvi_noise_write(&responder, welcome, WELCOME_LEN, second),
				 KVT_E_AUTH);
		assert_no_secrets(&responder);

		begin();
		write_first();
		memcpy(second, weak[i], KVI_NOISE_KEY_LEN);
		assert_refused(&initiator, second, SECOND_LEN);
	}
}
END_TEST

/* ---- transport ---- */

enum { LINE_LEN = 10, SEALED_LEN = LINE_LEN + KVI_NOISE_TAG_LEN };
static uint8_t sealed[4][SEALED_LEN];

static void seal_lines(struct kvi_noise_cipher *cipher)
{
	for (size_t i = 0; i < sizeof(sealed) / sizeof(sealed[0]); i++)
		ck_assert_int_eq(kvi_noise_encrypt(cipher, "ten bytes.", LINE_LEN, sealed[i]),
				 KVT_OK);
}

static void assert_opens(struct kvi_noise_cipher *cipher, const uint8_t message[SEALED_LEN])
{
	ck_assert_int_eq(kvi_noise_decrypt(cipher, message, SEALED_LEN, payload), KVT_OK);
	ck_assert_mem_eq(payload, "ten bytes.", LINE_LEN);
}

static void assert_does_not_open(struct kvi_noise_cipher *cipher, const uint8_t *message,
				 size_t len)
{
	memset(payload, 0, sizeof(payload));
	ck_assert_int_eq(kvi_noise_decrypt(cipher, message, len, payload), KVT_E_AUTH);
	ck_assert(sodium_is_zero(payload, sizeof(payload)));
	ck_assert(sodium_is_zero(cipher->key, sizeof(cipher->key)));
	/* Nor does anything else, what would have been right included. */
	ck_assert_int_eq(kvi_noise_decrypt(cipher, sealed[0], SEALED_LEN, payload), KVT_E_AUTH);
	ck_assert_int_eq(kvi_noise_encrypt(cipher, payload, 1, payload), KVT_E_AUTH);
	kvi_noise_rekey(cipher);
	ck_assert(sodium_is_zero(cipher->key, sizeof(cipher->key)));
}

START_TEST(every_flipped_bit_of_a_transport_message_is_refused)
{
	shake_hands();
	seal_lines(&client.send);
	for (size_t bit = 0; bit < (size_t)8 * SEALED_LEN; bit++) {
		struct kvi_noise_cipher cipher = server.receive;
		uint8_t changed[SEALED_LEN];
		memcpy(changed, sealed[0], SEALED_LEN);
		changed[bit / 8] ^= (uint8_t)(1U << bit % 8);
		assert_does_not_open(&cipher, changed, SEALED_LEN);
	}
	assert_opens(&server.receive, sealed[0]);
}
END_TEST

START_TEST(transport_messages_are_taken_in_their_order_only_and_once)
{
	shake_hands();
	seal_lines(&client.send);
	struct kvi_noise_cipher cipher = server.receive;
	assert_does_not_open(&cipher, sealed[1], SEALED_LEN); /* early */
	cipher = server.receive;
	assert_opens(&cipher, sealed[0]);
	assert_opens(&cipher, sealed[1]);
	struct kvi_noise_cipher later = cipher;
	assert_does_not_open(&cipher, sealed[1], SEALED_LEN); /* again */
	assert_does_not_open(&later, sealed[3], SEALED_LEN);  /* one is missing */
	cipher = server.send;
	assert_does_not_open(&cipher, sealed[0], SEALED_LEN); /* of the other direction */
	cipher = client.receive;
	assert_does_not_open(&cipher, sealed[0], SEALED_LEN); /* back to its sender */
	for (size_t len = 0; len < SEALED_LEN; len++) {
		cipher = server.receive;
		assert_does_not_open(&cipher, sealed[0], len);
	}
}
END_TEST

START_TEST(a_transport_message_has_65535_bytes_at_most)
{
	static uint8_t buffer[KVI_NOISE_MESSAGE_MAX + 1];
	size_t longest = KVI_NOISE_MESSAGE_MAX - KVI_NOISE_TAG_LEN;
	shake_hands();
	ck_assert_int_eq(kvi_noise_encrypt(&client.send, buffer, longest + 1, buffer),
			 KVT_E_TOO_LARGE);
	ck_assert_int_eq(kvi_noise_encrypt(&client.send, buffer, longest, buffer), KVT_OK);
	struct kvi_noise_cipher cipher = server.receive;
	ck_assert_int_eq(kvi_noise_decrypt(&cipher, buffer, sizeof(buffer), buffer), KVT_E_AUTH);
	ck_assert_int_eq(kvi_noise_decrypt(&server.receive, buffer, KVI_NOISE_MESSAGE_MAX, buffer),
			 KVT_OK);
	ck_assert(sodium_is_zero(buffer, longest));
}
END_TEST

START_TEST(nonces_are_used_up_and_never_used_again)
{
	shake_hands();
	client.send.nonce = server.receive.nonce = UINT64_MAX - 2;
	uint8_t message[SEALED_LEN];
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(kvi_noise_encrypt(&client.send, "ten bytes.", LINE_LEN, message),
				 KVT_OK);
		assert_opens(&server.receive, message);
	}
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(kvi_noise_encrypt(&client.send, "ten bytes.", LINE_LEN, message),
				 KVT_E_LIMIT);
		ck_assert_int_eq(kvi_noise_decrypt(&server.receive, message, SEALED_LEN, payload),
				 KVT_E_LIMIT);
		ck_assert_uint_eq(client.send.nonce, UINT64_MAX);
		kvi_noise_rekey(&client.send); /* does not begin the count anew (11.3) */
	}
}
END_TEST

START_TEST(a_new_key_is_taken_by_both_or_nothing_opens)
{
	shake_hands();
	seal_lines(&client.send);
	struct kvi_noise_cipher old = client.send;
	for (size_t i = 0; i < 4; i++)
		assert_opens(&server.receive, sealed[i]);
	kvi_noise_rekey(&client.send);
	ck_assert_mem_ne(old.key, client.send.key, KVI_NOISE_KEY_LEN);
	ck_assert_uint_eq(client.send.nonce, 4);
	seal_lines(&client.send);
	struct kvi_noise_cipher lagging = server.receive;
	assert_does_not_open(&lagging, sealed[0], SEALED_LEN);
	kvi_noise_rekey(&server.receive);
	for (size_t i = 0; i < 4; i++)
		assert_opens(&server.receive, sealed[i]);

	/* The other direction has its own. */
	seal_lines(&server.send);
	assert_opens(&client.receive, sealed[0]);
}
END_TEST

/* 11.3 by the letter, with libsodium alone. */
START_TEST(a_new_key_is_the_one_of_the_specification)
{
	static const uint8_t zeros[KVI_NOISE_KEY_LEN];
	static const uint8_t nonce[] = { 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255 };
	uint8_t wanted[KVI_NOISE_KEY_LEN + KVI_NOISE_TAG_LEN];
	shake_hands();
	crypto_aead_chacha20poly1305_ietf_encrypt(wanted, NULL, zeros, sizeof(zeros), NULL, 0, NULL,
						  nonce, client.send.key);
	kvi_noise_rekey(&client.send);
	ck_assert_mem_eq(client.send.key, wanted, KVI_NOISE_KEY_LEN);
}
END_TEST

START_TEST(what_was_never_keyed_or_was_wiped_refuses)
{
	struct kvi_noise_cipher never = { .nonce = 0 };
	shake_hands();
	kvi_noise_session_wipe(&client);
	ck_assert(sodium_is_zero((const uint8_t *)&client, sizeof(client)));
	ck_assert_int_eq(kvi_noise_encrypt(&client.send, hello, 1, payload), KVT_E_AUTH);
	ck_assert_int_eq(kvi_noise_encrypt(&never, hello, 1, payload), KVT_E_AUTH);
	begin();
	kvi_noise_wipe(&initiator);
	assert_no_secrets(&initiator);
	ck_assert_int_eq(kvi_noise_write(&initiator, hello, 1, payload), KVT_E_AUTH);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("noise");
	tcase_add_loop_test(tests, published_vectors_come_out_byte_by_byte, 0, VECTOR_COUNT);
	tcase_add_test(tests, both_sides_come_to_the_same_session);
	tcase_add_test(tests, two_sessions_have_nothing_in_common);
	tcase_add_test(tests, the_pre_shared_key_is_not_kept);
	tcase_add_test(tests, messages_have_their_turn);
	tcase_add_test(tests, payloads_of_every_allowed_length_pass);
	tcase_add_test(tests, every_flipped_bit_of_the_first_message_is_refused);
	tcase_add_test(tests, every_flipped_bit_of_the_second_message_is_refused);
	tcase_add_test(tests, a_message_that_was_cut_or_grew_is_refused);
	tcase_add_test(tests, another_key_is_refused_whichever_bit_differs);
	tcase_add_test(tests, a_stranger_costs_no_diffie_hellman);
	tcase_add_test(tests, another_prologue_is_refused);
	tcase_add_test(tests, a_replayed_first_message_leads_nowhere);
	tcase_add_test(tests, a_replayed_second_message_is_refused);
	tcase_add_test(tests, messages_that_come_back_to_their_sender_are_refused);
	tcase_add_test(tests, an_ephemeral_key_that_makes_no_secret_is_refused);
	tcase_add_test(tests, every_flipped_bit_of_a_transport_message_is_refused);
	tcase_add_test(tests, transport_messages_are_taken_in_their_order_only_and_once);
	tcase_add_test(tests, a_transport_message_has_65535_bytes_at_most);
	tcase_add_test(tests, nonces_are_used_up_and_never_used_again);
	tcase_add_test(tests, a_new_key_is_taken_by_both_or_nothing_opens);
	tcase_add_test(tests, a_new_key_is_the_one_of_the_specification);
	tcase_add_test(tests, what_was_never_keyed_or_was_wiped_refuses);
	return run_tests("auth noise", tests);
}
