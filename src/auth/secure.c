/* SPDX-License-Identifier: Apache-2.0 */
/*
 * secure.c - the opening of a control channel, and its records.
 */
#include "auth/secure.h"

#include <string.h>

#include <sodium.h>

enum { SECRET_INPUT_MAX = 64 };

_Static_assert((int)KVI_RECORD_TAG_LEN == (int)KVI_NOISE_TAG_LEN &&
		       sizeof(((struct kvi_opening *)0)->proof) == KVI_NOISE_EXTRA &&
		       (int)KVI_RECORD_MAX == (int)KVI_NOISE_MESSAGE_MAX,
	       "the lengths of Noise are those of the protocol");

static enum kvt_err fail_secure(struct kvi_secure *secure, enum kvt_err code, const char *fault)
{
	kvi_secure_wipe(secure);
	secure->state = KVI_SECURE_FAILED;
	secure->code = code;
	secure->fault = fault;
	return code;
}

static void put_first_frame(struct kvi_secure *secure, const struct kvi_frame *frame)
{
	secure->output_len = kvi_frame_encode(frame, secure->output, sizeof(secure->output));
}

/* ---- opening ---- */

/* Everything in OPENING that stands before the proof is what both sides take for granted. */
static void begin_noise(struct kvi_secure *secure, const uint8_t *opening, const uint8_t *secret)
{
	kvi_noise_init(&secure->noise,
		       secure->is_server ? KVI_NOISE_RESPONDER : KVI_NOISE_INITIATOR, secret,
		       opening, KVI_OPENING_FIXED_LEN, NULL);
}

static void set_open(struct kvi_secure *secure)
{
	struct kvi_noise noise = secure->noise;
	if (secure->insecure)
		kvi_noise_session_wipe(&secure->session);
	else
		kvi_noise_split(&noise, &secure->session);
	kvi_noise_wipe(&noise);
	secure->state = KVI_SECURE_OPEN;
}

static void write_opening(struct kvi_secure *secure, struct kvi_keyring *ring)
{
	struct kvi_key key = { .id = { 0 } };
	struct kvi_frame frame = {
		.type = KVI_FRAME_OPENING,
		.opening = { .version = KVI_OPENING_VERSION,
			     .mode = ring->insecure ? KVI_OPENING_INSECURE : KVI_OPENING_NOISE },
	};
	if (!ring->insecure)
		kvi_keyring_get_first(ring, &key);
	memcpy(frame.opening.key_id, key.id, KVI_KEY_ID_LEN);
	memcpy(secure->key_id, key.id, KVI_KEY_ID_LEN);
	put_first_frame(secure, &frame);
	if (ring->insecure) {
		set_open(secure);
	} else {
		begin_noise(secure, secure->output, key.secret);
		kvi_noise_write(&secure->noise, NULL, 0, secure->output + KVI_OPENING_FIXED_LEN);
	}
	sodium_memzero(&key, sizeof(key));
}

void kvi_secure_init(struct kvi_secure *secure, struct kvi_keyring *ring, bool is_server)
{
	memset(secure, 0, sizeof(*secure));
	secure->is_server = is_server;
	secure->insecure = ring->insecure;
	if (!is_server)
		write_opening(secure, ring);
}

static enum kvt_err answer_opening(struct kvi_secure *secure, const struct kvi_opening *opening,
				   const uint8_t *bytes, struct kvi_keyring *ring)
{
	struct kvi_frame answer = { .type = KVI_FRAME_ANSWER };
	uint8_t secret[KVI_KEY_LEN];
	if (opening->version != KVI_OPENING_VERSION)
		return fail_secure(secure, KVT_E_VERSION, "the peer opens as another version does");
	if (secure->insecure != (opening->mode == KVI_OPENING_INSECURE))
		return fail_secure(secure, KVT_E_AUTH,
				   secure->insecure ? "the peer has a key, and this engine is "
						      "insecure"
						    : "the peer is insecure, and this engine is "
						      "not");
	if (secure->insecure) {
		set_open(secure);
		return KVT_OK;
	}
	/* An unknown id fails as a wrong key does. */
	kvi_keyring_find(ring, opening->key_id, secret);
	begin_noise(secure, bytes, secret);
	sodium_memzero(secret, sizeof(secret));
	enum kvt_err err =
		kvi_noise_read(&secure->noise, opening->proof, sizeof(opening->proof), NULL);
	if (err == KVT_OK && kvi_keyring_knows_call(ring, bytes, KVI_OPENING_LEN))
		return fail_secure(secure, KVT_E_AUTH,
				   "somebody makes a call again that was recorded");
	if (err == KVT_OK)
		err = kvi_noise_write(&secure->noise, NULL, 0, answer.opening.proof);
	if (err != KVT_OK)
		return fail_secure(secure, KVT_E_AUTH,
				   "keys differ: the peer has none of this engine's");
	memcpy(secure->key_id, opening->key_id, KVI_KEY_ID_LEN);
	put_first_frame(secure, &answer);
	set_open(secure);
	return KVT_OK;
}

static enum kvt_err take_answer(struct kvi_secure *secure, const struct kvi_opening *answer)
{
	if (kvi_noise_read(&secure->noise, answer->proof, sizeof(answer->proof), NULL) != KVT_OK)
		return fail_secure(secure, KVT_E_AUTH,
				   "the peer's answer does not fit this side's key");
	set_open(secure);
	secure->is_proven = true;
	return KVT_OK;
}

static enum kvt_err take_first(struct kvi_secure *secure, struct kvi_keyring *ring,
			       const uint8_t *bytes, size_t len, struct kvi_record *taken)
{
	static const char no_engine[] = "the peer does not speak KVTrans";
	uint8_t type = secure->is_server ? KVI_FRAME_OPENING : KVI_FRAME_ANSWER;
	struct kvi_frame frame;
	taken->wanted = KVI_FRAME_HEADER_LEN;
	if (len < taken->wanted)
		return KVT_E_AGAIN;
	taken->wanted = kvi_frame_get_len(bytes, KVI_OPENING_LEN);
	if (taken->wanted == 0)
		return fail_secure(secure, KVT_E_PROTOCOL, no_engine);
	if (len < taken->wanted)
		return KVT_E_AGAIN;
	taken->used = taken->wanted;
	if (kvi_frame_decode(bytes, taken->used, &frame) != KVT_OK || frame.type != type)
		return fail_secure(secure, KVT_E_PROTOCOL, no_engine);
	return secure->is_server ? answer_opening(secure, &frame.opening, bytes, ring)
				 : take_answer(secure, &frame.opening);
}

/* ---- records ---- */

static void count_record(struct kvi_noise_cipher *cipher)
{
	if (cipher->nonce % KVI_RECORDS_PER_KEY == 0)
		kvi_noise_rekey(cipher);
}

static enum kvt_err take_record(struct kvi_secure *secure, uint8_t *bytes, size_t len,
				struct kvi_record *taken)
{
	size_t tag_len = secure->insecure ? 0 : KVI_RECORD_TAG_LEN;
	size_t most = secure->is_proven ? KVI_RECORD_MAX : KVI_HELLO_FRAME_MAX + tag_len;
	taken->wanted = KVI_RECORD_HEADER_LEN;
	if (len < taken->wanted)
		return KVT_E_AGAIN;
	size_t record_len = kvi_record_get_len(bytes);
	if (record_len <= tag_len || record_len > most)
		return fail_secure(secure, KVT_E_PROTOCOL,
				   "the peer's record is too long or too short");
	taken->wanted += record_len;
	if (len < taken->wanted)
		return KVT_E_AGAIN;

	uint8_t *content = bytes + KVI_RECORD_HEADER_LEN;
	if (!secure->insecure) {
		struct kvi_noise_cipher *cipher = &secure->session.receive;
		if (kvi_noise_decrypt(cipher, content, record_len, content) != KVT_OK)
			return fail_secure(secure, KVT_E_AUTH,
					   "a record was changed on its way, or is of another "
					   "session");
		count_record(cipher);
	}
	secure->is_proven = true;
	taken->used = taken->wanted;
	taken->content = content;
	taken->len = record_len - tag_len;
	return KVT_OK;
}

enum kvt_err kvi_secure_take(struct kvi_secure *secure, struct kvi_keyring *ring, uint8_t *bytes,
			     size_t len, struct kvi_record *taken)
{
	*taken = (struct kvi_record){ .content = NULL };
	switch (secure->state) {
	case KVI_SECURE_WAITS:
		return take_first(secure, ring, bytes, len, taken);
	case KVI_SECURE_OPEN:
		return take_record(secure, bytes, len, taken);
	case KVI_SECURE_FAILED:
		break;
	}
	return secure->code;
}

size_t kvi_secure_seal(struct kvi_secure *secure, uint8_t *record, size_t len)
{
	uint8_t *content = record + KVI_RECORD_HEADER_LEN;
	if (!secure->insecure) {
		struct kvi_noise_cipher *cipher = &secure->session.send;
		if (kvi_noise_encrypt(cipher, content, len, content) != KVT_OK)
			return 0;
		count_record(cipher);
		len += KVI_RECORD_TAG_LEN;
	}
	kvi_record_put_len(len, record);
	return KVI_RECORD_HEADER_LEN + len;
}

void kvi_secure_derive(const struct kvi_secure *secure, const char *label,
		       const uint8_t session[KVI_SESSION_LEN], uint8_t *secret, size_t len)
{
	uint8_t input[SECRET_INPUT_MAX];
	size_t label_len = strnlen(label, SECRET_INPUT_MAX - KVI_SESSION_LEN);
	memcpy(input, session, KVI_SESSION_LEN);
	memcpy(input + KVI_SESSION_LEN, label, label_len);
	crypto_generichash(secret, len, input, KVI_SESSION_LEN + label_len, secure->session.secret,
			   sizeof(secure->session.secret));
}

void kvi_secure_wipe(struct kvi_secure *secure)
{
	sodium_memzero(&secure->noise, sizeof(secure->noise));
	sodium_memzero(&secure->session, sizeof(secure->session));
}
