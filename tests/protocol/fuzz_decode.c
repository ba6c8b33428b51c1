/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_decode.c - libFuzzer's entry. The first byte chooses what the rest is fed to. With libFuzzer:
 * clang -fsanitize=fuzzer,address,undefined over this file, codec.c and the sources of base, wire and
 * auth; without, fuzz_main.c is the main().
 */
#include <stdlib.h>
#include <string.h>

#include "auth/handshake.h"
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
	case FUZZ_TARGETS:
		break;
	}
	return 0;
}
