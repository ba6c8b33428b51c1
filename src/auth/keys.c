/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keys.c - keys, their ids and their text. It touches no file, and never says what a line holds: only
 * which line, and what is wrong with it.
 */
#include "auth/keys.h"

#include <string.h>

#include <sodium.h>

#include "base/error.h"

enum {
	ID_DIGITS = 2 * KVI_KEY_ID_LEN,
	SECRET_DIGITS = 44, /* 32 bytes in base64, padding included */
};

_Static_assert(sodium_base64_ENCODED_LEN(KVI_KEY_LEN, sodium_base64_VARIANT_ORIGINAL) ==
		       SECRET_DIGITS + 1,
	       "base64 of a secret");

static const char id_label[] = "KVTrans key id 1";

/* ---- one key ---- */

void kvi_key_set(struct kvi_key *key, const uint8_t secret[KVI_KEY_LEN])
{
	uint8_t hash[crypto_hash_sha256_BYTES];
	crypto_hash_sha256_state state;
	memmove(key->secret, secret, KVI_KEY_LEN);
	crypto_hash_sha256_init(&state);
	crypto_hash_sha256_update(&state, (const uint8_t *)id_label, sizeof(id_label));
	crypto_hash_sha256_update(&state, key->secret, KVI_KEY_LEN);
	crypto_hash_sha256_final(&state, hash);
	memcpy(key->id, hash, KVI_KEY_ID_LEN);
	sodium_memzero(&state, sizeof(state));
}

void kvi_key_make(struct kvi_key *key)
{
	randombytes_buf(key->secret, sizeof(key->secret));
	kvi_key_set(key, key->secret);
}

void kvi_key_print_id(const struct kvi_key *key, char text[KVI_KEY_ID_TEXT_LEN])
{
	sodium_bin2hex(text, KVI_KEY_ID_TEXT_LEN, key->id, sizeof(key->id));
}

void kvi_key_print(const struct kvi_key *key, char text[KVI_KEY_TEXT_LEN])
{
	kvi_key_print_id(key, text);
	text[ID_DIGITS] = ':';
	sodium_bin2base64(text + ID_DIGITS + 1, SECRET_DIGITS + 1, key->secret, sizeof(key->secret),
			  sodium_base64_VARIANT_ORIGINAL);
}

/* ---- a text ---- */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* text: the secret alone, SECRET_DIGITS of it. */
static bool read_secret(const char *text, uint8_t secret[KVI_KEY_LEN])
{
	size_t len = 0;
	const char *end = NULL;
	return sodium_base642bin(secret, KVI_KEY_LEN, text, SECRET_DIGITS, NULL, &len, &end,
				 sodium_base64_VARIANT_ORIGINAL) == 0 &&
	       len == KVI_KEY_LEN && end == text + SECRET_DIGITS;
}

static bool read_id(const char *text, uint8_t id[KVI_KEY_ID_LEN])
{
	size_t len = 0;
	return sodium_hex2bin(id, KVI_KEY_ID_LEN, text, ID_DIGITS, NULL, &len, NULL) == 0 &&
	       len == KVI_KEY_ID_LEN;
}

/* text without blanks around it. NULL, or what is wrong with it. */
static const char *read_key(const char *text, size_t len, struct kvi_key *key)
{
	static const char no_key[] = "is neither a key nor a comment";
	uint8_t id[KVI_KEY_ID_LEN];
	uint8_t secret[KVI_KEY_LEN];
	bool has_id = len == ID_DIGITS + 1 + SECRET_DIGITS;
	if (!has_id && len != SECRET_DIGITS)
		return no_key;
	if (has_id && (text[ID_DIGITS] != ':' || !read_id(text, id)))
		return no_key;

	bool is_good = read_secret(text + len - SECRET_DIGITS, secret);
	const char *fault = is_good ? NULL : no_key;
	if (is_good) {
		kvi_key_set(key, secret);
		if (sodium_is_zero(secret, sizeof(secret)))
			fault = "is a key of zeros";
		else if (has_id && sodium_memcmp(key->id, id, sizeof(id)) != 0)
			fault = "is a key whose id is another's: id or secret were changed";
	}
	sodium_memzero(secret, sizeof(secret));
	return fault;
}

bool kvi_key_line_next(struct kvi_key_line *line)
{
	if (line->left == 0)
		return false;

	const char *newline = memchr(line->next, '\n', line->left);
	line->start = line->next;
	line->len = newline != NULL ? (size_t)(newline - line->next) + 1 : line->left;
	line->next += line->len;
	line->left -= line->len;
	line->number++;

	const char *comment = memchr(line->start, '#', line->len);
	const char *from = line->start;
	const char *to = comment != NULL ? comment : line->start + line->len;
	while (from < to && is_blank(*from))
		from++;
	while (from < to && is_blank(to[-1]))
		to--;
	line->fault = from < to ? read_key(from, (size_t)(to - from), &line->key) : NULL;
	line->has_key = from < to && line->fault == NULL;
	return true;
}

static bool has_key(const struct kvi_keys *keys, const struct kvi_key *key)
{
	bool found = false;
	for (size_t i = 0; i < keys->count; i++)
		found |= sodium_memcmp(&keys->keys[i], key, sizeof(*key)) == 0;
	return found;
}

static enum kvt_err add_line(struct kvi_keys *keys, const struct kvi_key_line *line,
			     struct kvt_error *error)
{
	if (line->fault != NULL)
		return kvi_fail(error, KVT_E_INVALID, 0, "line %u %s", line->number, line->fault);
	if (!line->has_key || has_key(keys, &line->key))
		return KVT_OK;
	if (keys->count == KVI_KEYS_MAX)
		return kvi_fail(error, KVT_E_INVALID, 0, "line %u is one key too many: at most %d",
				line->number, KVI_KEYS_MAX);
	keys->keys[keys->count++] = line->key;
	return KVT_OK;
}

enum kvt_err kvi_keys_parse(const char *text, size_t len, struct kvi_keys *keys,
			    struct kvt_error *error)
{
	enum kvt_err err = KVT_OK;
	struct kvi_key_line line = { .next = text, .left = len };
	sodium_memzero(keys, sizeof(*keys));
	if (len > KVI_KEYS_TEXT_MAX)
		return kvi_fail(error, KVT_E_INVALID, 0, "longer than %d bytes, so no keys",
				KVI_KEYS_TEXT_MAX);
	while (err == KVT_OK && kvi_key_line_next(&line))
		err = add_line(keys, &line, error);
	sodium_memzero(&line.key, sizeof(line.key));
	if (err == KVT_OK && keys->count == 0)
		err = kvi_fail(error, KVT_E_INVALID, 0, "no key in it");
	if (err == KVT_OK)
		randombytes_buf(keys->decoy, sizeof(keys->decoy));
	else
		sodium_memzero(keys, sizeof(*keys));
	return err;
}

/* ---- a set ---- */

bool kvi_keys_find(const struct kvi_keys *keys, const uint8_t id[KVI_KEY_ID_LEN],
		   uint8_t secret[KVI_KEY_LEN])
{
	bool found = false;
	memcpy(secret, keys->decoy, KVI_KEY_LEN);
	for (size_t i = 0; i < keys->count; i++) {
		const struct kvi_key *key = &keys->keys[i];
		/* All bits when it is this one, so that no branch depends on it. */
		uint8_t mask = (uint8_t)~sodium_memcmp(key->id, id, KVI_KEY_ID_LEN);
		for (size_t at = 0; at < KVI_KEY_LEN; at++)
			secret[at] ^= (uint8_t)((secret[at] ^ key->secret[at]) & mask);
		found |= mask != 0;
	}
	return found;
}

struct kvi_keys *kvi_keys_alloc(void)
{
	if (sodium_init() < 0)
		return NULL;
	struct kvi_keys *keys = sodium_malloc(sizeof(*keys));
	if (keys != NULL)
		sodium_memzero(keys, sizeof(*keys));
	return keys;
}

void kvi_keys_seal(struct kvi_keys *keys)
{
	sodium_mprotect_readonly(keys);
}

void kvi_keys_close(struct kvi_keys *keys)
{
	sodium_free(keys); /* makes it writable and wipes it */
}

enum kvt_err kvi_keys_open(const void *bytes, size_t len, struct kvi_keys **keys,
			   struct kvt_error *error)
{
	enum kvt_err err = KVT_OK;
	struct kvi_keys *made = kvi_keys_alloc();
	if (made == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for keys");

	if (len == KVI_KEY_LEN && !sodium_is_zero(bytes, len)) {
		kvi_key_set(&made->keys[0], bytes);
		made->count = 1;
		randombytes_buf(made->decoy, sizeof(made->decoy));
	} else {
		err = kvi_keys_parse(bytes, len, made, error);
	}
	if (err != KVT_OK) {
		kvi_keys_close(made);
		return err;
	}
	kvi_keys_seal(made);
	*keys = made;
	return KVT_OK;
}
