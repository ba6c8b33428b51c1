/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_decode.c - a fuzzer's target: all that reads a peer's bytes, and the handshake of both sides, as the pure
 * code that they are. The first byte chooses what the rest is fed to.
 */
#include <string.h>

#include "auth/handshake.h"
#include "auth/keys.h"
#include "auth/noise.h"
#include "auth/secure.h"
#include "codec.h"
#include "support/fuzz.h"
#include "vectors.h"

enum target {
	TARGET_FRAME,
	TARGET_LANE_HELLO,
	TARGET_MESSAGE,
	TARGET_CLIENT,
	TARGET_SERVER,
	TARGET_DESCRIPTOR,
	TARGET_KEYS,
	TARGET_NOISE,
	TARGET_CHANNEL,
	TARGET_ADDRESS,
	TARGET_COUNT,
};

const char fuzz_corpus[] = "protocol/corpus";
const unsigned long fuzz_count = 1000000;

/* A peer that sends these bytes, in pieces, cannot get the handshake to a state that it must not have. */
static void try_handshake(enum kvi_handshake_role role, const uint8_t *bytes, size_t len)
{
	static const uint8_t session[KVI_SESSION_LEN] = { 1 };
	static const struct kvi_hello local = {
		.version_min = 1,
		.version_max = 2,
		.features = 5,
		.lane_count = 32,
		.eager_len = 65536,
		.rx_count = 64,
		.provider_count = 2,
		.providers = { "verbs", "tcp" },
	};
	struct kvi_handshake handshake;
	kvi_handshake_init(&handshake, role, &local, session);
	handshake.output_len = 0;
	size_t step = len % 7 + 1;
	for (size_t at = 0; at < len && handshake.state == KVI_HANDSHAKE_READ;) {
		size_t piece = len - at < step ? len - at : step;
		size_t used = kvi_handshake_feed(&handshake, bytes + at, piece);
		require(used <= piece);
		require(used == piece || handshake.state != KVI_HANDSHAKE_READ);
		at += used;
	}
	require(handshake.output_len <= sizeof(handshake.output));
	if (handshake.state == KVI_HANDSHAKE_DONE) {
		require(handshake.agreed.version >= 1 && handshake.agreed.version <= 2);
		require(handshake.agreed.lane_count >= 1 && handshake.agreed.lane_count <= 32);
		require((handshake.agreed.features & ~(local.features | KVI_FEATURE_SUMS_WANTED)) ==
			0);
	} else if (handshake.state == KVI_HANDSHAKE_FAILED) {
		require(handshake.error.code != KVT_OK);
	}
	/* Only a server answers, and only to a whole HELLO. */
	require(handshake.output_len == 0 ||
		(role == KVI_HANDSHAKE_SERVER && handshake.remote.provider_count > 0));
}

/* What is read as keys is what it says; what is not leaves nothing behind. */
static void try_keys(const char *text, size_t len)
{
	static const struct kvi_keys none;
	static struct kvi_keys keys, again;
	struct kvt_error error = { .code = KVT_OK };
	if (kvi_keys_parse(text, len, &keys, &error) != KVT_OK) {
		require(error.code == KVT_E_INVALID && error.text[0] != '\0');
		require(memcmp(&keys, &none, sizeof(keys)) == 0);
		return;
	}
	require(keys.count >= 1 && keys.count <= KVI_KEYS_MAX);
	for (size_t i = 0; i < keys.count; i++) {
		uint8_t secret[KVI_KEY_LEN];
		char line[KVI_KEY_TEXT_LEN];
		kvi_key_print(&keys.keys[i], line);
		require(kvi_keys_parse(line, strlen(line), &again, NULL) == KVT_OK);
		require(memcmp(&again.keys[0], &keys.keys[i], sizeof(keys.keys[i])) == 0);
		require(kvi_keys_find(&keys, keys.keys[i].id, secret));
		require(memcmp(secret, keys.keys[i].secret, sizeof(secret)) == 0);
	}
}

/* A first message of the Noise handshake that reads well; every other is to be refused. Cacophony's vector: see
 * tests/unit/check_auth_noise.c. */
enum { NOISE_LEN = 64 };
static const uint8_t noise_message[NOISE_LEN] = {
	0xca, 0x35, 0xde, 0xf5, 0xae, 0x56, 0xce, 0xc3, 0x3d, 0xc2, 0x03, 0x67, 0x31,
	0xab, 0x14, 0x89, 0x6b, 0xc4, 0xc7, 0x5d, 0xbb, 0x07, 0xa6, 0x1f, 0x87, 0x9f,
	0x8e, 0x3a, 0xfa, 0x4c, 0x79, 0x44, 0x79, 0xb9, 0x62, 0xb8, 0xaf, 0xf8, 0x48,
	0x57, 0x42, 0xac, 0x32, 0xf9, 0x05, 0xba, 0x45, 0x36, 0x9e, 0x24, 0x65, 0xfb,
	0x59, 0xe1, 0x38, 0xa9, 0x3d, 0x67, 0xa0, 0xd1, 0x26, 0x6b, 0x6a, 0x54,
};

/* No bytes but those of who has the key are let in, and the answer's reader takes none but the answer. */
static void try_noise(const uint8_t *bytes, size_t len)
{
	static const uint8_t psk[] = "This is my Austrian perspective!";
	static const uint8_t ephemeral[KVI_NOISE_KEY_LEN] = { 1 };
	static uint8_t payload[KVI_NOISE_MESSAGE_MAX];
	/* Before what is tried. Made once: making keys takes longest. */
	static struct kvi_noise responder, initiator;
	if (responder.step == KVI_NOISE_OVER) {
		kvi_noise_init(&responder, KVI_NOISE_RESPONDER, psk, "John Galt", 9, ephemeral);
		kvi_noise_init(&initiator, KVI_NOISE_INITIATOR, psk, "John Galt", 9, ephemeral);
		require(kvi_noise_write(&initiator, NULL, 0, payload) == KVT_OK);
	}
	struct kvi_noise noise = responder;
	bool is_known = len == NOISE_LEN && memcmp(bytes, noise_message, len) == 0;
	enum kvt_err err = kvi_noise_read(&noise, bytes, len, payload);
	require(err == (is_known ? KVT_OK : KVT_E_AUTH));
	require(noise.step == (is_known ? KVI_NOISE_SECOND : KVI_NOISE_OVER));

	noise = initiator;
	require(kvi_noise_read(&noise, bytes, len, payload) == KVT_E_AUTH);
	struct kvi_noise_cipher cipher = { .has_key = true };
	require(kvi_noise_decrypt(&cipher, bytes, len, payload) == KVT_E_AUTH);
}

/* Feed one end of a control channel with all of it. True: at least one thing was taken. */
static bool feed_channel(struct kvi_secure *secure, struct kvi_keyring *ring, const uint8_t *bytes,
			 size_t len)
{
	static uint8_t copy[KVI_RECORD_MAX];
	struct kvi_record record;
	enum kvt_err err = KVT_OK;
	size_t used = 0;
	len = len < sizeof(copy) ? len : sizeof(copy);
	memcpy(copy, bytes, len);
	while ((err = kvi_secure_take(secure, ring, copy + used, len - used, &record)) == KVT_OK) {
		require(record.used > 0 && record.used <= len - used);
		require(record.content == NULL ||
			(record.len > 0 &&
			 record.content + record.len <= copy + used + record.used));
		used += record.used;
	}
	require(err == KVT_E_AGAIN ? record.wanted > len - used
				   : secure->state == KVI_SECURE_FAILED && secure->fault != NULL);
	return used > 0;
}

/* Both ends where they wait for the peer's words, and a server that has answered. */
static struct channels {
	struct kvi_keyring ring;
	struct kvi_secure client;
	struct kvi_secure server;
	struct kvi_secure answered;
} channels;

/* Once: making keys takes longest. */
static void make_channels(void)
{
	struct kvi_keyring *ring = &channels.ring;
	struct kvi_record record;
	require(kvi_keys_open(noise_message, KVI_KEY_LEN, &ring->keys, NULL) == KVT_OK);
	pthread_mutex_init(&ring->lock, NULL);
	kvi_secure_init(&channels.client, ring, false);
	kvi_secure_init(&channels.server, ring, true);
	struct kvi_secure client = channels.client;
	channels.answered = channels.server;
	require(kvi_secure_take(&channels.answered, ring, client.output, client.output_len,
				&record) == KVT_OK);
}

/* Who has not the key gets nowhere, whatever he says and whenever; who needs none gets as far as he speaks. */
static void try_channel(const uint8_t *bytes, size_t len)
{
	struct kvi_keyring no_ring = { .insecure = true };
	if (channels.ring.keys == NULL)
		make_channels();
	struct kvi_secure secure = channels.server;
	require(!feed_channel(&secure, &channels.ring, bytes, len) && secure.output_len == 0);
	secure = channels.client;
	require(!feed_channel(&secure, &channels.ring, bytes, len));
	secure = channels.answered;
	require(!feed_channel(&secure, &channels.ring, bytes, len) && !secure.is_proven);
	kvi_secure_init(&secure, &no_ring, true);
	feed_channel(&secure, &no_ring, bytes, len);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	if (len == 0)
		return 0;

	enum target target = bytes[0] % TARGET_COUNT;
	bytes++;
	len--;
	switch (target) {
	case TARGET_FRAME:
		require(codec_try_frame(bytes, len) != CODEC_BROKEN);
		break;
	case TARGET_LANE_HELLO:
		require(codec_try_lane_hello(bytes, len) != CODEC_BROKEN);
		break;
	case TARGET_MESSAGE:
		require(codec_try_message(bytes, len) != CODEC_BROKEN);
		break;
	case TARGET_CLIENT:
		try_handshake(KVI_HANDSHAKE_CLIENT, bytes, len);
		break;
	case TARGET_SERVER:
		try_handshake(KVI_HANDSHAKE_SERVER, bytes, len);
		break;
	case TARGET_DESCRIPTOR:
		require(codec_try_descriptor(bytes, len) != CODEC_BROKEN);
		break;
	case TARGET_KEYS:
		try_keys((const char *)bytes, len);
		break;
	case TARGET_NOISE:
		try_noise(bytes, len);
		break;
	case TARGET_CHANNEL:
		try_channel(bytes, len);
		break;
	case TARGET_ADDRESS:
		require(codec_try_address(bytes, len) != CODEC_BROKEN);
		break;
	case TARGET_COUNT:
		break;
	}
	return 0;
}

/* ---- seeds ---- */

static void add_target(void (*add)(const uint8_t *bytes, size_t len), enum target target,
		       const void *bytes, size_t len)
{
	uint8_t input[FUZZ_INPUT_MAX];
	input[0] = (uint8_t)target;
	memcpy(input + 1, bytes, len);
	add(input, len + 1);
}

static void add_vectors(void (*add)(const uint8_t *bytes, size_t len))
{
	static const enum target targets[] = {
		[VECTOR_FRAME] = TARGET_FRAME,	   [VECTOR_LANE_HELLO] = TARGET_LANE_HELLO,
		[VECTOR_MESSAGE] = TARGET_MESSAGE, [VECTOR_DESCRIPTOR] = TARGET_DESCRIPTOR,
		[VECTOR_ADDRESS] = TARGET_ADDRESS,
	};
	for (size_t i = 0; i < vector_count; i++) {
		uint8_t bytes[VECTOR_LEN_MAX];
		size_t len = vector_get_bytes(&vectors[i], bytes);
		add_target(add, targets[vectors[i].kind], bytes, len);
		if (vectors[i].kind != VECTOR_FRAME)
			continue;
		add_target(add, TARGET_CLIENT, bytes, len);
		add_target(add, TARGET_SERVER, bytes, len);
		add_target(add, TARGET_CHANNEL, bytes, len);
	}
}

void fuzz_add_seeds(void (*add)(const uint8_t *bytes, size_t len))
{
	static const char keys[] = "# two keys\n"
				   "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n"
				   "892d89976b870467:AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI= "
				   "# b\n";
	/* An insecure opening, and a heartbeat in a record. */
	static const uint8_t call[] = {
		[0] = 0x4b, 0x56, 8, 0, 60, 0, 0, 0, 1, 0, [68] = 8, 0, 0x4b, 0x56, 6, 0, 0, 0, 0, 0
	};
	add_vectors(add);
	add_target(add, TARGET_KEYS, keys, sizeof(keys) - 1);
	add_target(add, TARGET_NOISE, noise_message, sizeof(noise_message));
	add_target(add, TARGET_CHANNEL, call, sizeof(call));
}

/* Most frames die at their length; half of them get one that fits. */
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t len, size_t room, unsigned int seed)
{
	len = LLVMFuzzerMutate(bytes, len, room);
	uint8_t target = len >= 9 ? bytes[0] : TARGET_COUNT;
	bool is_frame = target == TARGET_FRAME || target == TARGET_CLIENT ||
			target == TARGET_SERVER;
	if (!is_frame || seed % 2 == 0)
		return len;
	size_t body_len = len - 9;
	bytes[5] = (uint8_t)body_len;
	bytes[6] = (uint8_t)(body_len >> 8);
	bytes[7] = 0;
	bytes[8] = 0;
	return len;
}

void fuzz_finish(void)
{
}
