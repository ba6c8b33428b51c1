/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keys.h - the secrets that peers share, and their text. Pure: files are key_file.h's. No function here or there
 * puts a secret, or what stands in its place, into an error, a log or a name.
 *
 * The text has a key a line, empty lines, and comments from a # to the end of the line:
 *
 *     4fb8b0ea5c1d3a77:n0c9Ym0...=     the id in hex, a colon, the secret in base64 (RFC 4648)
 *     n0c9Ym0...=                      or the secret alone
 *
 * The id is 8 bytes of a hash of the secret: it tells nothing of it, cannot be given to another key, and a
 * secret that was mistyped does not fit it. The first key is the one that an engine connects with; all let
 * peers in, each as a principal of its own.
 */
#ifndef KVI_AUTH_KEYS_H
#define KVI_AUTH_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <kvtrans.h>

enum {
	KVI_KEY_LEN = 32,
	KVI_KEY_ID_LEN = 8,
	KVI_KEY_ID_TEXT_LEN = 2 * KVI_KEY_ID_LEN + 1,	 /* with its NUL */
	KVI_KEY_TEXT_LEN = KVI_KEY_ID_TEXT_LEN + 44 + 1, /* id, colon, base64 and NUL */
	KVI_KEYS_MAX = 64,
	KVI_KEYS_TEXT_MAX = 16384, /* bytes of a text */
};

struct kvi_key {
	uint8_t id[KVI_KEY_ID_LEN];
	uint8_t secret[KVI_KEY_LEN];
};

struct kvi_keys {
	size_t count; /* at least 1 */
	struct kvi_key keys[KVI_KEYS_MAX];
	uint8_t decoy[KVI_KEY_LEN]; /* random: what those get whose id is unknown */
};

/* ---- one key ---- */

void kvi_key_make(struct kvi_key *key);
/* Fill key from its secret. */
void kvi_key_set(struct kvi_key *key, const uint8_t secret[KVI_KEY_LEN]);
void kvi_key_print_id(const struct kvi_key *key, char text[KVI_KEY_ID_TEXT_LEN]);
/* The line of a key, with its secret and without a newline: for files. */
void kvi_key_print(const struct kvi_key *key, char text[KVI_KEY_TEXT_LEN]);

/* ---- a text ---- */

/* One line of a text. Begin with next and left as the text, number 0. */
struct kvi_key_line {
	const char *next; /* what is behind this line */
	size_t left;
	unsigned number; /* from 1 */
	const char *start;
	size_t len;   /* with its newline, if it has one */
	bool has_key; /* else it is empty or a comment */
	struct kvi_key key;
	const char *fault; /* NULL, or what is wrong with the line: "is ..." */
};

/* False at the end. Wipe line->key after the last. */
bool kvi_key_line_next(struct kvi_key_line *line);

/*
 * Read a text. A key that is there twice counts once. KVT_E_INVALID: no key, a line that is neither key nor
 * comment, too many keys, too long; the error names the line, and keys holds nothing.
 */
enum kvt_err kvi_keys_parse(const char *text, size_t len, struct kvi_keys *keys,
			    struct kvt_error *error);

/* ---- a set ---- */

/*
 * The secret of that id; the decoy's and false when there is none. It takes the same time for every id. Go on with
 * the decoy, which fails as a wrong key does: nobody learns from outside which ids are known.
 */
bool kvi_keys_find(const struct kvi_keys *keys, const uint8_t id[KVI_KEY_ID_LEN],
		   uint8_t secret[KVI_KEY_LEN]);

/*
 * Memory for keys: between guard pages, not in core dumps, not swapped as far as RLIMIT_MEMLOCK lets. NULL when
 * there is none. kvi_keys_seal() makes it read-only, so that any thread may read it; kvi_keys_close() wipes it.
 */
struct kvi_keys *kvi_keys_alloc(void);
void kvi_keys_seal(struct kvi_keys *keys);
void kvi_keys_close(struct kvi_keys *keys);

/*
 * Keys that a program brings: 32 bytes are a secret, anything else is a text as above. KVT_E_NO_MEMORY, and as
 * kvi_keys_parse().
 */
enum kvt_err kvi_keys_open(const void *bytes, size_t len, struct kvi_keys **keys,
			   struct kvt_error *error);

#endif
