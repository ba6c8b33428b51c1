/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_decode.c - libFuzzer's entry. The first byte chooses what the rest is fed to. With libFuzzer:
 * clang -fsanitize=fuzzer,address,undefined over this file, codec.c and the sources of base, wire and
 * auth; without, fuzz_main.c is the main().
 */
#include <stdlib.h>
#include <string.h>

#include "auth/handshake.h"
#include "auth/keys.h"
#include "auth/noise.h"
#include "auth/secure.h"
#include "codec.h"
#include "fuzz.h"

static void require(bool holds)
{
	if (!holds)
		abort();
}

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
		require((handshake.agreed.features & ~local.features) == 0);
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

/* Cacophony's vector: see tests/unit/check_auth_noise.c. */
const uint8_t fuzz_noise_message[FUZZ_NOISE_LEN] = {
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
	struct kvi_noise noise;
	kvi_noise_init(&noise, KVI_NOISE_RESPONDER, psk, "John Galt", 9, ephemeral);
	bool is_known = len == FUZZ_NOISE_LEN && memcmp(bytes, fuzz_noise_message, len) == 0;
	enum kvt_err err = kvi_noise_read(&noise, bytes, len, payload);
	require(err == (is_known ? KVT_OK : KVT_E_AUTH));
	require(noise.step == (is_known ? KVI_NOISE_SECOND : KVI_NOISE_OVER));

	kvi_noise_init(&noise, KVI_NOISE_INITIATOR, psk, "John Galt", 9, ephemeral);
	require(kvi_noise_write(&noise, NULL, 0, payload) == KVT_OK);
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

/* Who has not the key gets nowhere, whatever he says and whenever; who needs none gets as far as he speaks. */
static void try_channel(const uint8_t *bytes, size_t len)
{
	static struct kvi_keys *keys;
	struct kvi_keyring ring = { .insecure = false };
	struct kvi_keyring no_ring = { .insecure = true };
	struct kvi_secure secure, server;
	if (keys == NULL)
		require(kvi_keys_open(fuzz_noise_message, KVI_KEY_LEN, &keys, NULL) == KVT_OK);
	ring.keys = keys;
	pthread_mutex_init(&ring.lock, NULL);
	kvi_secure_init(&server, &ring, true);
	require(!feed_channel(&server, &ring, bytes, len) && server.output_len == 0);
	kvi_secure_init(&secure, &ring, false);
	require(!feed_channel(&secure, &ring, bytes, len));

	struct kvi_record record;
	kvi_secure_init(&secure, &ring, false);
	kvi_secure_init(&server, &ring, true);
	require(kvi_secure_take(&server, &ring, secure.output, secure.output_len, &record) ==
		KVT_OK);
	require(!feed_channel(&server, &ring, bytes, len) && !server.is_proven);
	kvi_secure_init(&server, &no_ring, true);
	feed_channel(&server, &no_ring, bytes, len);
	pthread_mutex_destroy(&ring.lock);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	if (len == 0)
		return 0;

	enum fuzz_target target = bytes[0] % FUZZ_TARGETS;
	bytes++;
	len--;
	switch (target) {
	case FUZZ_FRAME:
		require(codec_try_frame(bytes, len) != CODEC_BROKEN);
		break;
	case FUZZ_LANE_HELLO:
		require(codec_try_lane_hello(bytes, len) != CODEC_BROKEN);
		break;
	case FUZZ_MESSAGE:
		require(codec_try_message(bytes, len) != CODEC_BROKEN);
		break;
	case FUZZ_CLIENT:
		try_handshake(KVI_HANDSHAKE_CLIENT, bytes, len);
		break;
	case FUZZ_SERVER:
		try_handshake(KVI_HANDSHAKE_SERVER, bytes, len);
		break;
	case FUZZ_DESCRIPTOR:
		require(codec_try_descriptor(bytes, len) != CODEC_BROKEN);
		break;
	case FUZZ_KEYS:
		try_keys((const char *)bytes, len);
		break;
	case FUZZ_NOISE:
		try_noise(bytes, len);
		break;
	case FUZZ_CHANNEL:
		try_channel(bytes, len);
		break;
	case FUZZ_ADDRESS:
		require(codec_try_address(bytes, len) != CODEC_BROKEN);
		break;
	case FUZZ_TARGETS:
		break;
	}
	return 0;
}
