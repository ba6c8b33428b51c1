/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handshake.c - HELLO, and WELCOME or REFUSE (docs/protocol.md 3.1 to 3.3). It never touches a socket
 * and never allocates. Who does not open with a whole and valid HELLO gets not one byte.
 */
#include "auth/handshake.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"

enum {
	/* What a REFUSE has room for behind its header, code and count. */
	REFUSE_TEXT_MAX = KVI_HELLO_FRAME_MAX - KVI_FRAME_HEADER_LEN - 4 - 1,
	PROVIDERS_TEXT_LEN = KVI_PROVIDERS_MAX * (KVI_NAME_LEN + 1),
};

static void put_frame(struct kvi_handshake *handshake, const struct kvi_frame *frame)
{
	handshake->output_len =
		kvi_frame_encode(frame, handshake->output, sizeof(handshake->output));
}

static void fail_silently(struct kvi_handshake *handshake, const char *text)
{
	handshake->state = KVI_HANDSHAKE_FAILED;
	kvi_fail(&handshake->error, KVT_E_PROTOCOL, 0, "%s", text);
}

/* Fail with handshake->error, and let the peer know. */
static void refuse(struct kvi_handshake *handshake)
{
	struct kvi_frame frame = {
		.type = KVI_FRAME_REFUSE,
		.ending = { .code = handshake->error.code },
	};
	memcpy(frame.ending.text, handshake->error.text, REFUSE_TEXT_MAX);
	put_frame(handshake, &frame);
	handshake->state = KVI_HANDSHAKE_FAILED;
}

bool kvi_hello_has_provider(const struct kvi_hello *hello, const char *name)
{
	for (unsigned i = 0; i < hello->provider_count; i++) {
		if (strcmp(hello->providers[i], name) == 0)
			return true;
	}
	return false;
}

static const char *find_provider(const struct kvi_hello *local, const struct kvi_hello *remote)
{
	for (unsigned i = 0; i < local->provider_count; i++) {
		if (kvi_hello_has_provider(remote, local->providers[i]))
			return local->providers[i];
	}
	return NULL;
}

static void list_providers(const struct kvi_hello *hello, char text[PROVIDERS_TEXT_LEN])
{
	text[0] = '\0';
	for (unsigned i = 0; i < hello->provider_count; i++) {
		if (i > 0)
			strcat(text, ", ");
		strcat(text, hello->providers[i]);
	}
}

static void refuse_version(struct kvi_handshake *handshake)
{
	kvi_fail(&handshake->error, KVT_E_VERSION, 0,
		 "peer speaks protocol versions %u to %u; this engine speaks %u to %u",
		 handshake->remote.version_min, handshake->remote.version_max,
		 handshake->local.version_min, handshake->local.version_max);
	refuse(handshake);
}

static void refuse_providers(struct kvi_handshake *handshake)
{
	char remote[PROVIDERS_TEXT_LEN];
	char local[PROVIDERS_TEXT_LEN];
	list_providers(&handshake->remote, remote);
	list_providers(&handshake->local, local);
	kvi_fail(&handshake->error, KVT_E_NO_PROVIDER, 0, "peer offers %s; this engine has %s",
		 remote, local);
	refuse(handshake);
}

static bool wants_sums(const struct kvi_hello *hello)
{
	return (hello->features & KVI_FEATURE_SUMS_WANTED) != 0;
}

/* One side wants sums, and the other knows none. */
static void refuse_sums(struct kvi_handshake *handshake, bool wanted_here)
{
	kvi_fail(&handshake->error, KVT_E_VERSION, 0, "%s wants checksums, and %s has none",
		 wanted_here ? "this engine" : "the peer",
		 wanted_here ? "the peer" : "this engine");
	refuse(handshake);
}

/* What both understand; and sums are used where either side wants them. */
static uint64_t agree_on_features(const struct kvi_hello *local, const struct kvi_hello *remote)
{
	uint64_t both = local->features & remote->features;
	if ((both & KVI_FEATURE_SUMS) == 0)
		return both & ~KVI_FEATURE_SUMS_WANTED;
	return both | ((local->features | remote->features) & KVI_FEATURE_SUMS_WANTED);
}

/* Server: agree with what the client offered, or refuse. */
static void answer_hello(struct kvi_handshake *handshake)
{
	const struct kvi_hello *local = &handshake->local;
	const struct kvi_hello *remote = &handshake->remote;
	if (remote->version_max < local->version_min || remote->version_min > local->version_max) {
		refuse_version(handshake);
		return;
	}
	const char *provider = find_provider(local, remote);
	if (provider == NULL) {
		refuse_providers(handshake);
		return;
	}

	const uint64_t features = agree_on_features(local, remote);
	if ((wants_sums(local) || wants_sums(remote)) && (features & KVI_FEATURE_SUMS) == 0) {
		refuse_sums(handshake, wants_sums(local));
		return;
	}

	struct kvi_welcome *agreed = &handshake->agreed;
	agreed->version = remote->version_max < local->version_max ? remote->version_max
								   : local->version_max;
	agreed->features = features;
	memcpy(agreed->instance, local->instance, KVI_SESSION_LEN);
	agreed->lane_count = remote->lane_count < local->lane_count ? remote->lane_count
								    : local->lane_count;
	agreed->eager_len = local->eager_len;
	agreed->rx_count = local->rx_count;
	snprintf(agreed->provider, sizeof(agreed->provider), "%s", provider);
	put_frame(handshake, &(struct kvi_frame){ .type = KVI_FRAME_WELCOME, .welcome = *agreed });
	handshake->state = KVI_HANDSHAKE_DONE;
}

/* Client: hold the server to what was offered. */
static void take_welcome(struct kvi_handshake *handshake, const struct kvi_welcome *welcome)
{
	const struct kvi_hello *local = &handshake->local;
	uint64_t allowed = local->features;
	if ((local->features & welcome->features & KVI_FEATURE_SUMS) != 0)
		allowed |= KVI_FEATURE_SUMS_WANTED; /* as the peer does */
	if (welcome->version < local->version_min || welcome->version > local->version_max ||
	    (welcome->features & ~allowed) != 0 || welcome->lane_count > local->lane_count ||
	    !kvi_hello_has_provider(local, welcome->provider)) {
		fail_silently(handshake, "the peer's WELCOME is not within what was offered");
		return;
	}
	if (wants_sums(local) && (welcome->features & KVI_FEATURE_SUMS_WANTED) == 0) {
		refuse_sums(handshake, true);
		return;
	}
	handshake->agreed = *welcome;
	handshake->state = KVI_HANDSHAKE_DONE;
}

static void take_refuse(struct kvi_handshake *handshake, const struct kvi_ending *refusal)
{
	handshake->state = KVI_HANDSHAKE_FAILED;
	kvi_fail(&handshake->error, refusal->code, 0, "the peer answered: %s", refusal->text);
}

static void take_frame(struct kvi_handshake *handshake)
{
	bool is_server = handshake->role == KVI_HANDSHAKE_SERVER;
	struct kvi_frame frame;
	if (kvi_frame_decode(handshake->input, handshake->input_len, &frame) != KVT_OK) {
		fail_silently(handshake, is_server ? "the peer's HELLO is malformed"
						   : "the peer's answer to HELLO is malformed");
	} else if (is_server && frame.type == KVI_FRAME_HELLO) {
		handshake->remote = frame.hello;
		answer_hello(handshake);
	} else if (!is_server && frame.type == KVI_FRAME_WELCOME) {
		take_welcome(handshake, &frame.welcome);
	} else if (!is_server && frame.type == KVI_FRAME_REFUSE) {
		take_refuse(handshake, &frame.ending);
	} else {
		fail_silently(handshake, is_server ? "the peer did not begin with HELLO"
						   : "the peer did not answer HELLO");
	}
}

void kvi_handshake_init(struct kvi_handshake *handshake, enum kvi_handshake_role role,
			const struct kvi_hello *local, const uint8_t *session)
{
	memset(handshake, 0, sizeof(*handshake));
	handshake->role = role;
	handshake->state = KVI_HANDSHAKE_READ;
	handshake->local = *local;
	if (role == KVI_HANDSHAKE_SERVER)
		memcpy(handshake->agreed.session, session, KVI_SESSION_LEN);
	else
		put_frame(handshake,
			  &(struct kvi_frame){ .type = KVI_FRAME_HELLO, .hello = *local });
}

/* Take bytes until the input holds wanted. */
static size_t fill_input(struct kvi_handshake *handshake, const void *bytes, size_t len,
			 size_t wanted)
{
	size_t missing = wanted - handshake->input_len;
	size_t used = len < missing ? len : missing;
	if (used > 0)
		memcpy(handshake->input + handshake->input_len, bytes, used);
	handshake->input_len += used;
	return used;
}

size_t kvi_handshake_feed(struct kvi_handshake *handshake, const void *bytes, size_t len)
{
	if (handshake->state != KVI_HANDSHAKE_READ)
		return 0;

	size_t used = 0;
	if (handshake->input_len < KVI_FRAME_HEADER_LEN)
		used = fill_input(handshake, bytes, len, KVI_FRAME_HEADER_LEN);
	if (handshake->input_len < KVI_FRAME_HEADER_LEN)
		return used;

	size_t frame_len = kvi_frame_get_len(handshake->input, KVI_HELLO_FRAME_MAX);
	if (frame_len == 0) {
		fail_silently(handshake, "the peer does not speak KVTrans");
		return used;
	}
	used += fill_input(handshake, (const uint8_t *)bytes + used, len - used, frame_len);
	if (handshake->input_len == frame_len)
		take_frame(handshake);
	return used;
}
