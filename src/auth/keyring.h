/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyring.h - the keys that an engine has now. They may be replaced at any time: who is connected stays so, and
 * who connects afterwards meets the new ones.
 */
#ifndef KVI_AUTH_KEYRING_H
#define KVI_AUTH_KEYRING_H

#include <pthread.h>
#include <stdbool.h>

#include "auth/keys.h"
#include "auth/openings.h"

struct kvi_keyring {
	/* immutable after open */
	bool insecure; /* there are no keys: everybody is let in */
	bool is_given; /* the program brought them, else they are the user's file's */

	/* under lock, a leaf */
	pthread_mutex_t lock;
	struct kvi_keys *keys;
	struct kvi_openings openings;
};

/*
 * auth_key: 32 bytes or a text as keys.h has it; NULL: the user's file (key_file.h). KVT_E_INVALID also where there
 * are both a key and insecure. Close also what could not be opened.
 */
enum kvt_err kvi_keyring_open(struct kvi_keyring *ring, const void *auth_key, size_t len,
			      bool insecure, struct kvt_error *error);
void kvi_keyring_close(struct kvi_keyring *ring);

/* Take other keys, or read the file again. After an error those of before are in force. */
enum kvt_err kvi_keyring_reload(struct kvi_keyring *ring, const void *auth_key, size_t len,
				struct kvt_error *error);

/* As kvi_keys_find(); and the key to connect with. Wipe what they give. Not where the ring is insecure. */
bool kvi_keyring_find(struct kvi_keyring *ring, const uint8_t id[KVI_KEY_ID_LEN],
		      uint8_t secret[KVI_KEY_LEN]);
void kvi_keyring_get_first(struct kvi_keyring *ring, struct kvi_key *key);

/* A call has shown a key of the ring. True: it was made before, so it is one that somebody recorded. */
bool kvi_keyring_knows_call(struct kvi_keyring *ring, const void *opening, size_t len);

#endif
