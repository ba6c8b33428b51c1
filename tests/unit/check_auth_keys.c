/* SPDX-License-Identifier: Apache-2.0 */
/* check_auth_keys.c - ids, texts with keys, looking one up, and where secrets are kept. */
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "../support/runner.h"
#include "auth/keys.h"

/* Secrets of 32 times the same byte; ids by another implementation (Python's hashlib). */
#define SECRET_1 "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="
#define SECRET_2 "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI="
#define ID_1 "0b288eca5e2bf64b"
#define ID_2 "892d89976b870467"
#define KEY_1 ID_1 ":" SECRET_1
#define KEY_2 ID_2 ":" SECRET_2

static struct kvi_keys keys;
static struct kvt_error error;

static enum kvt_err parse(const char *text)
{
	memset(&error, 0, sizeof(error));
	return kvi_keys_parse(text, strlen(text), &keys, &error);
}

static void assert_id(size_t index, const char *id)
{
	char text[KVI_KEY_ID_TEXT_LEN];
	kvi_key_print_id(&keys.keys[index], text);
	ck_assert_str_eq(text, id);
}

/* Refused with this text, and with no word of what stands there. */
static void assert_refused(const char *text, const char *told)
{
	ck_assert_int_eq(parse(text), KVT_E_INVALID);
	ck_assert_str_eq(error.text, told);
	ck_assert(sodium_is_zero((const uint8_t *)&keys, sizeof(keys)));
}

START_TEST(an_id_is_a_hash_of_the_secret)
{
	ck_assert_int_eq(parse(SECRET_1 "\n" SECRET_2 "\n"), KVT_OK);
	ck_assert_uint_eq(keys.count, 2);
	assert_id(0, ID_1);
	assert_id(1, ID_2);
}
END_TEST

START_TEST(what_is_printed_is_read_again)
{
	struct kvi_key key;
	char line[KVI_KEY_TEXT_LEN];
	for (int i = 0; i < 1000; i++) {
		kvi_key_make(&key);
		kvi_key_print(&key, line);
		ck_assert_uint_eq(strlen(line), sizeof(line) - 1);
		ck_assert_int_eq(parse(line), KVT_OK);
		ck_assert_mem_eq(&keys.keys[0], &key, sizeof(key));
	}
}
END_TEST

START_TEST(comments_blanks_and_other_newlines_are_no_matter)
{
	ck_assert_int_eq(parse("# mine\r\n\r\n \t\n  " KEY_2 "\t # until March\r\n#\n" SECRET_1),
			 KVT_OK);
	ck_assert_uint_eq(keys.count, 2);
	assert_id(0, ID_2);
	assert_id(1, ID_1);
}
END_TEST

START_TEST(a_key_that_is_there_twice_counts_once)
{
	ck_assert_int_eq(parse(KEY_1 "\n" KEY_2 "\n" SECRET_1 "\n"), KVT_OK);
	ck_assert_uint_eq(keys.count, 2);
	assert_id(0, ID_1);
}
END_TEST

START_TEST(what_is_no_key_is_refused_by_its_line)
{
	static const char no_key[] = "line 2 is neither a key nor a comment";
	static const char *const wrong[] = {
		"x",
		"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ",	/* no padding */
		"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQF=", /* bits behind the end */
		"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB", /* 33 bytes */
		"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAA==", /* 31 */
		"AQEBAQEBAQEBAQEBAQEBAQEBA_EBAQEBAQEBAQEBAQE=", /* the other alphabet */
		"AQEBAQEBAQEBAQEBAQEBAQ EBAQEBAQEBAQEBAQEBAE=", /* a blank inside */
		ID_1 " " SECRET_1,
		ID_1 ":" SECRET_1 "=",
		ID_1 ":",
		"g" ID_1 ":" SECRET_1,
		":" SECRET_1,
		KEY_1 " " KEY_2,
		KEY_1 KEY_2,
	};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		char text[256];
		snprintf(text, sizeof(text), "%s\n%s\n%s\n", KEY_2, wrong[i], KEY_1);
		assert_refused(text, no_key);
	}
	assert_refused(KEY_1 "\n" ID_2 ":" SECRET_1, "line 2 is a key whose id is another's: id or "
						     "secret were changed");
	assert_refused("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "line 1 is a key of zeros");
	assert_refused("", "no key in it");
	assert_refused("# nothing\n\n", "no key in it");
	ck_assert_int_eq(kvi_keys_parse(KEY_1 "\n\0\n", sizeof(KEY_1 "\n\0\n") - 1, &keys, &error),
			 KVT_E_INVALID);
	ck_assert_str_eq(error.text, no_key);
}
END_TEST

START_TEST(a_text_has_64_keys_and_16_KiB_at_most)
{
	static char text[KVI_KEYS_TEXT_MAX + 2];
	size_t len = 0;
	for (int i = 0; i < KVI_KEYS_MAX + 1; i++) {
		struct kvi_key key;
		kvi_key_make(&key);
		kvi_key_print(&key, text + len);
		len += KVI_KEY_TEXT_LEN - 1;
		text[len++] = '\n';
		enum kvt_err err = kvi_keys_parse(text, len, &keys, &error);
		ck_assert_int_eq(err, i < KVI_KEYS_MAX ? KVT_OK : KVT_E_INVALID);
	}
	ck_assert_str_eq(error.text, "line 65 is one key too many: at most 64");

	memset(text, '#', sizeof(text));
	memcpy(text, KEY_1 "\n", sizeof(KEY_1));
	ck_assert_int_eq(kvi_keys_parse(text, KVI_KEYS_TEXT_MAX, &keys, &error), KVT_OK);
	ck_assert_int_eq(kvi_keys_parse(text, KVI_KEYS_TEXT_MAX + 1, &keys, &error), KVT_E_INVALID);
	ck_assert_str_eq(error.text, "longer than 16384 bytes, so no keys");
}
END_TEST

START_TEST(every_changed_character_of_a_key_is_refused)
{
	for (size_t at = 0; at < sizeof(KEY_1) - 1; at++) {
		char text[] = KEY_1;
		for (int c = 1; c < 256; c++) {
			text[at] = (char)c;
			/* The hex digits of an id may be large; a # makes the rest a comment. */
			bool is_same = c == KEY_1[at] ||
				       (at < 16 && c == KEY_1[at] - 'a' + 'A' && KEY_1[at] >= 'a');
			ck_assert_int_eq(parse(text), is_same ? KVT_OK : KVT_E_INVALID);
		}
	}
}
END_TEST

START_TEST(a_key_is_found_by_its_id_and_others_get_the_decoy)
{
	uint8_t secret[KVI_KEY_LEN], wanted[KVI_KEY_LEN], id[KVI_KEY_ID_LEN] = { 7 };
	ck_assert_int_eq(parse(KEY_1 "\n" KEY_2 "\n"), KVT_OK);
	for (size_t i = 0; i < 2; i++) {
		memset(wanted, (int)i + 1, sizeof(wanted));
		ck_assert(kvi_keys_find(&keys, keys.keys[i].id, secret));
		ck_assert_mem_eq(secret, wanted, sizeof(secret));
	}
	for (size_t bit = 0; bit < (size_t)8 * KVI_KEY_ID_LEN; bit++) {
		memcpy(id, keys.keys[0].id, sizeof(id));
		id[bit / 8] ^= (uint8_t)(1U << bit % 8);
		ck_assert(!kvi_keys_find(&keys, id, secret));
		ck_assert_mem_eq(secret, keys.decoy, sizeof(secret));
	}
	ck_assert(!sodium_is_zero(keys.decoy, sizeof(keys.decoy)));
	uint8_t earlier[KVI_KEY_LEN];
	memcpy(earlier, keys.decoy, sizeof(earlier));
	ck_assert_int_eq(parse(KEY_1), KVT_OK);
	ck_assert_mem_ne(earlier, keys.decoy, sizeof(earlier));
}
END_TEST

/* ---- what a program brings, and where it is kept ---- */

START_TEST(a_program_brings_32_bytes_or_a_text)
{
	struct kvi_keys *made = NULL;
	uint8_t secret[KVI_KEY_LEN];
	memset(secret, 1, sizeof(secret));
	ck_assert_int_eq(kvi_keys_open(secret, sizeof(secret), &made, NULL), KVT_OK);
	ck_assert_int_eq(parse(KEY_1), KVT_OK);
	ck_assert_mem_eq(&made->keys[0], &keys.keys[0], sizeof(keys.keys[0]));
	ck_assert_uint_eq(made->count, 1);
	ck_assert(!sodium_is_zero(made->decoy, sizeof(made->decoy)));
	kvi_keys_close(made);
	ck_assert_int_eq(kvi_keys_open(KEY_2, strlen(KEY_2), &made, NULL), KVT_OK);
	kvi_keys_close(made);

	made = NULL;
	memset(secret, 0, sizeof(secret));
	for (size_t len = 0; len <= sizeof(secret); len++)
		ck_assert_int_eq(kvi_keys_open(secret, len, &made, &error), KVT_E_INVALID);
	ck_assert_ptr_null(made);
	kvi_keys_close(NULL);
}
END_TEST

/* Whether the mapping that memory is in has this flag of VmFlags. */
static bool has_vm_flag(const void *memory, const char *flag)
{
	char line[512];
	bool is_there = false, found = false;
	FILE *file = fopen("/proc/self/smaps", "r");
	ck_assert_ptr_nonnull(file);
	while (fgets(line, sizeof(line), file) != NULL) {
		unsigned long from, to;
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			is_there = (unsigned long)memory >= from && (unsigned long)memory < to;
		else if (is_there && strncmp(line, "VmFlags:", 8) == 0)
			found |= strstr(line, flag) != NULL;
	}
	fclose(file);
	return found;
}

START_TEST(secrets_are_in_no_core_dump)
{
	struct kvi_keys *made = NULL;
	ck_assert_int_eq(kvi_keys_open(KEY_1, strlen(KEY_1), &made, NULL), KVT_OK);
	ck_assert(has_vm_flag(made, " dd"));
	ck_assert(!has_vm_flag(&keys, " dd"));
	kvi_keys_close(made);
}
END_TEST

START_TEST(nobody_can_change_keys_that_are_in_use)
{
	struct kvi_keys *made = NULL;
	ck_assert_int_eq(kvi_keys_open(KEY_1, strlen(KEY_1), &made, NULL), KVT_OK);
	ck_assert(!has_vm_flag(made, " wr "));
	kvi_keys_close(made);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("keys");
	tcase_add_test(tests, an_id_is_a_hash_of_the_secret);
	tcase_add_test(tests, what_is_printed_is_read_again);
	tcase_add_test(tests, comments_blanks_and_other_newlines_are_no_matter);
	tcase_add_test(tests, a_key_that_is_there_twice_counts_once);
	tcase_add_test(tests, what_is_no_key_is_refused_by_its_line);
	tcase_add_test(tests, a_text_has_64_keys_and_16_KiB_at_most);
	tcase_add_test(tests, every_changed_character_of_a_key_is_refused);
	tcase_add_test(tests, a_key_is_found_by_its_id_and_others_get_the_decoy);
	tcase_add_test(tests, a_program_brings_32_bytes_or_a_text);
	tcase_add_test(tests, secrets_are_in_no_core_dump);
	tcase_add_test(tests, nobody_can_change_keys_that_are_in_use);
	return run_tests("auth keys", tests);
}
