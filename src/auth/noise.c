/* SPDX-License-Identifier: Apache-2.0 */
/*
 * noise.c - Noise_NNpsk0_25519_ChaChaPoly_SHA256 on libsodium. Numbers in comments are sections of the
 * Noise specification, revision 34. It never allocates, never logs, and wipes its secrets from the stack.
 */
#include "auth/noise.h"

#include <string.h>

#include <sodium.h>

#include "base/bytes.h"

/* HASHLEN, DHLEN and the cipher's key are all 32 bytes here, so nothing is ever cut or padded. */
_Static_assert(crypto_hash_sha256_BYTES == KVI_NOISE_KEY_LEN &&
		       crypto_auth_hmacsha256_BYTES == KVI_NOISE_KEY_LEN &&
		       crypto_scalarmult_BYTES == KVI_NOISE_KEY_LEN &&
		       crypto_aead_chacha20poly1305_ietf_KEYBYTES == KVI_NOISE_KEY_LEN &&
		       crypto_aead_chacha20poly1305_ietf_ABYTES == KVI_NOISE_TAG_LEN,
	       "libsodium's lengths are those of the protocol");

static const char protocol_name[] = "Noise_NNpsk0_25519_ChaChaPoly_SHA256";

/* The last nonce is never used for a message: it is what a rekey is made with (5.1, 11.3). */
#define NONCE_MAX UINT64_MAX

/* ---- cipher state (5.1) ---- */

static void set_key(struct kvi_noise_cipher *cipher, const uint8_t key[KVI_NOISE_KEY_LEN])
{
	memcpy(cipher->key, key, KVI_NOISE_KEY_LEN);
	cipher->nonce = 0;
	cipher->has_key = true;
}

static void end_cipher(struct kvi_noise_cipher *cipher)
{
	sodium_memzero(cipher->key, sizeof(cipher->key));
	cipher->has_key = false;
}

/* 12.3: four bytes of zero, then the number, little-endian. */
static void put_nonce(uint64_t nonce, uint8_t bytes[crypto_aead_chacha20poly1305_ietf_NPUBBYTES])
{
	struct kvi_writer writer =
		kvi_writer_init(bytes, crypto_aead_chacha20poly1305_ietf_NPUBBYTES);
	kvi_write_u32(&writer, 0);
	kvi_write_u64(&writer, nonce);
}

static enum kvt_err check_cipher(const struct kvi_noise_cipher *cipher)
{
	if (!cipher->has_key)
		return KVT_E_AUTH;
	return cipher->nonce == NONCE_MAX ? KVT_E_LIMIT : KVT_OK;
}

/* hash: what the tag covers beside the payload; NULL: nothing. */
static enum kvt_err encrypt(struct kvi_noise_cipher *cipher, const uint8_t *hash,
			    const void *payload, size_t len, void *message)
{
	enum kvt_err err = check_cipher(cipher);
	if (err != KVT_OK)
		return err;
	if (len > KVI_NOISE_MESSAGE_MAX - KVI_NOISE_TAG_LEN)
		return KVT_E_TOO_LARGE;

	uint8_t nonce[crypto_aead_chacha20poly1305_ietf_NPUBBYTES];
	put_nonce(cipher->nonce, nonce);
	crypto_aead_chacha20poly1305_ietf_encrypt(message, NULL, payload, len, hash,
						  hash != NULL ? KVI_NOISE_KEY_LEN : 0, NULL, nonce,
						  cipher->key);
	cipher->nonce++;
	return KVT_OK;
}

static enum kvt_err decrypt(struct kvi_noise_cipher *cipher, const uint8_t *hash,
			    const void *message, size_t len, void *payload)
{
	enum kvt_err err = check_cipher(cipher);
	if (err != KVT_OK)
		return err;

	uint8_t nonce[crypto_aead_chacha20poly1305_ietf_NPUBBYTES];
	put_nonce(cipher->nonce, nonce);
	if (len > KVI_NOISE_MESSAGE_MAX || len < KVI_NOISE_TAG_LEN ||
	    crypto_aead_chacha20poly1305_ietf_decrypt(payload, NULL, NULL, message, len, hash,
						      hash != NULL ? KVI_NOISE_KEY_LEN : 0, nonce,
						      cipher->key) != 0) {
		end_cipher(cipher);
		return KVT_E_AUTH;
	}
	cipher->nonce++;
	return KVT_OK;
}

enum kvt_err kvi_noise_encrypt(struct kvi_noise_cipher *cipher, const void *payload, size_t len,
			       void *message)
{
	return encrypt(cipher, NULL, payload, len, message);
}

enum kvt_err kvi_noise_decrypt(struct kvi_noise_cipher *cipher, const void *message, size_t len,
			       void *payload)
{
	return decrypt(cipher, NULL, message, len, payload);
}

void kvi_noise_rekey(struct kvi_noise_cipher *cipher)
{
	static const uint8_t zeros[KVI_NOISE_KEY_LEN];
	uint8_t fresh[KVI_NOISE_KEY_LEN + KVI_NOISE_TAG_LEN];
	uint8_t nonce[crypto_aead_chacha20poly1305_ietf_NPUBBYTES];
	if (!cipher->has_key)
		return;

	put_nonce(NONCE_MAX, nonce);
	crypto_aead_chacha20poly1305_ietf_encrypt(fresh, NULL, zeros, sizeof(zeros), NULL, 0, NULL,
						  nonce, cipher->key);
	memcpy(cipher->key, fresh, KVI_NOISE_KEY_LEN);
	sodium_memzero(fresh, sizeof(fresh));
}

/* ---- symmetric state (5.2) ---- */

static void compute_hmac(const uint8_t key[KVI_NOISE_KEY_LEN], const void *bytes, size_t len,
			 const uint8_t *number, uint8_t out[KVI_NOISE_KEY_LEN])
{
	crypto_auth_hmacsha256_state state;
	crypto_auth_hmacsha256_init(&state, key, KVI_NOISE_KEY_LEN);
	crypto_auth_hmacsha256_update(&state, bytes, len);
	if (number != NULL)
		crypto_auth_hmacsha256_update(&state, number, 1);
	crypto_auth_hmacsha256_final(&state, out);
	sodium_memzero(&state, sizeof(state));
}

/* HKDF (4.3): count keys out of chain and input. */
static void derive_keys(const uint8_t chain[KVI_NOISE_KEY_LEN], const void *input, size_t len,
			size_t count, uint8_t keys[][KVI_NOISE_KEY_LEN])
{
	uint8_t temporary[KVI_NOISE_KEY_LEN];
	compute_hmac(chain, input, len, NULL, temporary);
	for (size_t i = 0; i < count; i++) {
		uint8_t number = (uint8_t)(i + 1);
		compute_hmac(temporary, i > 0 ? keys[i - 1] : NULL, i > 0 ? KVI_NOISE_KEY_LEN : 0,
			     &number, keys[i]);
	}
	sodium_memzero(temporary, sizeof(temporary));
}

static void mix_hash(struct kvi_noise *noise, const void *bytes, size_t len)
{
	crypto_hash_sha256_state state;
	crypto_hash_sha256_init(&state);
	crypto_hash_sha256_update(&state, noise->hash, sizeof(noise->hash));
	crypto_hash_sha256_update(&state, bytes, len);
	crypto_hash_sha256_final(&state, noise->hash);
	sodium_memzero(&state, sizeof(state));
}

static void mix_key(struct kvi_noise *noise, const uint8_t input[KVI_NOISE_KEY_LEN])
{
	uint8_t keys[2][KVI_NOISE_KEY_LEN];
	derive_keys(noise->chain, input, KVI_NOISE_KEY_LEN, 2, keys);
	memcpy(noise->chain, keys[0], KVI_NOISE_KEY_LEN);
	set_key(&noise->cipher, keys[1]);
	sodium_memzero(keys, sizeof(keys));
}

static void mix_key_and_hash(struct kvi_noise *noise, const uint8_t input[KVI_NOISE_KEY_LEN])
{
	uint8_t keys[3][KVI_NOISE_KEY_LEN];
	derive_keys(noise->chain, input, KVI_NOISE_KEY_LEN, 3, keys);
	memcpy(noise->chain, keys[0], KVI_NOISE_KEY_LEN);
	mix_hash(noise, keys[1], KVI_NOISE_KEY_LEN);
	set_key(&noise->cipher, keys[2]);
	sodium_memzero(keys, sizeof(keys));
}

/* ---- tokens (7.1, 9.2) ---- */

/* "e", whoever's it is: with a pre-shared key it is mixed into the key, too. */
static void mix_ephemeral(struct kvi_noise *noise, const uint8_t public_key[KVI_NOISE_KEY_LEN])
{
	mix_hash(noise, public_key, KVI_NOISE_KEY_LEN);
	mix_key(noise, public_key);
}

/* "ee". False when the peer's key makes no secret (12.1: all zeros, whatever ours is). */
static bool mix_shared(struct kvi_noise *noise)
{
	uint8_t shared[KVI_NOISE_KEY_LEN];
	bool is_good = crypto_scalarmult(shared, noise->ephemeral, noise->remote) == 0;
	if (is_good)
		mix_key(noise, shared);
	sodium_memzero(shared, sizeof(shared));
	return is_good;
}

/* ---- handshake state (5.3) ---- */

void kvi_noise_init(struct kvi_noise *noise, enum kvi_noise_role role,
		    const uint8_t psk[KVI_NOISE_KEY_LEN], const void *prologue, size_t prologue_len,
		    const uint8_t *ephemeral)
{
	memset(noise, 0, sizeof(*noise));
	noise->role = role;
	noise->step = KVI_NOISE_FIRST;
	if (ephemeral != NULL)
		memcpy(noise->ephemeral, ephemeral, sizeof(noise->ephemeral));
	else
		randombytes_buf(noise->ephemeral, sizeof(noise->ephemeral));
	/* The name is longer than a hash, so h begins as its hash. */
	_Static_assert(sizeof(protocol_name) - 1 > crypto_hash_sha256_BYTES, "5.2");
	crypto_hash_sha256(noise->hash, (const uint8_t *)protocol_name, sizeof(protocol_name) - 1);
	memcpy(noise->chain, noise->hash, sizeof(noise->chain));
	mix_hash(noise, prologue, prologue_len);
	/* "psk" is the first token on both sides, so it need not wait for the message. */
	mix_key_and_hash(noise, psk);
}

void kvi_noise_wipe(struct kvi_noise *noise)
{
	sodium_memzero(noise, sizeof(*noise));
}

void kvi_noise_session_wipe(struct kvi_noise_session *session)
{
	sodium_memzero(session, sizeof(*session));
}

static enum kvt_err fail(struct kvi_noise *noise)
{
	kvi_noise_wipe(noise);
	return KVT_E_AUTH;
}

/* Whether the message that is next is this side's to write. */
static bool is_writer(const struct kvi_noise *noise)
{
	return (noise->role == KVI_NOISE_INITIATOR) == (noise->step == KVI_NOISE_FIRST);
}

static enum kvt_err check_turn(const struct kvi_noise *noise, bool writes)
{
	if (noise->step == KVI_NOISE_OVER)
		return KVT_E_AUTH;
	return noise->step == KVI_NOISE_SPLIT || is_writer(noise) != writes ? KVT_E_INVALID
									    : KVT_OK;
}

enum kvt_err kvi_noise_write(struct kvi_noise *noise, const void *payload, size_t len,
			     void *message)
{
	enum kvt_err err = check_turn(noise, true);
	if (err != KVT_OK)
		return err;
	if (len > KVI_NOISE_MESSAGE_MAX - KVI_NOISE_EXTRA)
		return KVT_E_TOO_LARGE;

	uint8_t *public_key = message;
	uint8_t *sealed = public_key + KVI_NOISE_KEY_LEN;
	crypto_scalarmult_base(public_key, noise->ephemeral);
	mix_ephemeral(noise, public_key);
	if (noise->step == KVI_NOISE_SECOND && !mix_shared(noise))
		return fail(noise);
	encrypt(&noise->cipher, noise->hash, payload, len, sealed);
	mix_hash(noise, sealed, len + KVI_NOISE_TAG_LEN);
	noise->step++;
	return KVT_OK;
}

enum kvt_err kvi_noise_read(struct kvi_noise *noise, const void *message, size_t len, void *payload)
{
	enum kvt_err err = check_turn(noise, false);
	if (err != KVT_OK)
		return err;
	if (len < KVI_NOISE_EXTRA || len > KVI_NOISE_MESSAGE_MAX)
		return fail(noise);

	const uint8_t *sealed = (const uint8_t *)message + KVI_NOISE_KEY_LEN;
	size_t sealed_len = len - KVI_NOISE_KEY_LEN;
	memcpy(noise->remote, message, sizeof(noise->remote));
	mix_ephemeral(noise, noise->remote);
	if (noise->step == KVI_NOISE_SECOND && !mix_shared(noise))
		return fail(noise);
	if (decrypt(&noise->cipher, noise->hash, sealed, sealed_len, payload) != KVT_OK)
		return fail(noise);
	mix_hash(noise, sealed, sealed_len);
	noise->step++;
	return KVT_OK;
}

enum kvt_err kvi_noise_split(struct kvi_noise *noise, struct kvi_noise_session *session)
{
	if (noise->step != KVI_NOISE_SPLIT)
		return KVT_E_INVALID;

	bool is_initiator = noise->role == KVI_NOISE_INITIATOR;
	uint8_t keys[3][KVI_NOISE_KEY_LEN];
	derive_keys(noise->chain, NULL, 0, 3, keys);
	set_key(is_initiator ? &session->send : &session->receive, keys[0]);
	set_key(is_initiator ? &session->receive : &session->send, keys[1]);
	memcpy(session->secret, keys[2], sizeof(session->secret));
	memcpy(session->hash, noise->hash, sizeof(session->hash));
	sodium_memzero(keys, sizeof(keys));
	kvi_noise_wipe(noise);
	return KVT_OK;
}
