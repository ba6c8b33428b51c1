/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyring.c - keys behind a lock, so that they can be replaced while connections are made.
 */
#include "auth/keyring.h"

#include "auth/key_file.h"
#include "base/error.h"

static enum kvt_err read_key_lines(const void *auth_key, size_t len, struct kvi_keys **keys,
				   struct kvt_error *error)
{
	struct kvt_error cause = { .code = KVT_OK };
	if (auth_key == NULL)
		return kvi_key_file_open(keys, error);
	enum kvt_err err = kvi_keys_open(auth_key, len, keys, &cause);
	if (err != KVT_OK)
		kvi_fail(error, err, 0, "auth_key: %s", cause.text);
	return err;
}

enum kvt_err kvi_keyring_open(struct kvi_keyring *ring, const void *auth_key, size_t len,
			      bool insecure, struct kvt_error *error)
{
	*ring = (struct kvi_keyring){ .insecure = insecure, .is_given = auth_key != NULL };
	pthread_mutex_init(&ring->lock, NULL);
	if (insecure && auth_key != NULL)
		return kvi_fail(error, KVT_E_INVALID, 0,
				"an engine has an auth_key or is insecure, not both");
	return insecure ? KVT_OK : read_key_lines(auth_key, len, &ring->keys, error);
}

void kvi_keyring_close(struct kvi_keyring *ring)
{
	kvi_keys_close(ring->keys);
	pthread_mutex_destroy(&ring->lock);
}

enum kvt_err kvi_keyring_reload(struct kvi_keyring *ring, const void *auth_key, size_t len,
				struct kvt_error *error)
{
	struct kvi_keys *fresh = NULL;
	if (ring->insecure)
		return kvi_fail(error, KVT_E_INVALID, 0, "this engine is insecure: it has no keys");
	if (ring->is_given && auth_key == NULL)
		return kvi_fail(error, KVT_E_INVALID, 0,
				"this engine was opened with an auth_key, so it needs another "
				"here");
	enum kvt_err err = read_key_lines(auth_key, len, &fresh, error);
	if (err != KVT_OK)
		return err;
	pthread_mutex_lock(&ring->lock);
	struct kvi_keys *old = ring->keys;
	ring->keys = fresh;
	pthread_mutex_unlock(&ring->lock);
	kvi_keys_close(old);
	return KVT_OK;
}

bool kvi_keyring_find(struct kvi_keyring *ring, const uint8_t id[KVI_KEY_ID_LEN],
		      uint8_t secret[KVI_KEY_LEN])
{
	pthread_mutex_lock(&ring->lock);
	bool found = kvi_keys_find(ring->keys, id, secret);
	pthread_mutex_unlock(&ring->lock);
	return found;
}

void kvi_keyring_get_first(struct kvi_keyring *ring, struct kvi_key *key)
{
	pthread_mutex_lock(&ring->lock);
	*key = ring->keys->keys[0];
	pthread_mutex_unlock(&ring->lock);
}

bool kvi_keyring_knows_call(struct kvi_keyring *ring, const void *opening, size_t len)
{
	pthread_mutex_lock(&ring->lock);
	bool knows = kvi_openings_add(&ring->openings, opening, len);
	pthread_mutex_unlock(&ring->lock);
	return knows;
}
