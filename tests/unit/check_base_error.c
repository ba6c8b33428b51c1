/* SPDX-License-Identifier: Apache-2.0 */
/* check_base_error.c - kvi_fail() and the public getters over KVT_ERROR_MAP. */
#include <string.h>

#include "base/error.h"
#include "../support/runner.h"

START_TEST(failing_fills_the_error_and_returns_its_code)
{
	struct kvt_error error;
	enum kvt_err err = kvi_fail(&error, KVT_E_LIMIT, 12, "%d of %s", 3, "lanes");

	ck_assert_int_eq(err, KVT_E_LIMIT);
	ck_assert_int_eq(error.code, KVT_E_LIMIT);
	ck_assert_int_eq(error.provider_errno, 12);
	ck_assert_str_eq(error.text, "3 of lanes");
}
END_TEST

START_TEST(failing_without_an_error_returns_the_code)
{
	ck_assert_int_eq(kvi_fail(NULL, KVT_E_TIMEOUT, 0, "late"), KVT_E_TIMEOUT);
}
END_TEST

START_TEST(a_long_text_is_cut)
{
	struct kvt_error error;
	kvi_fail(&error, KVT_E_INVALID, 0, "%0300d", 7);

	ck_assert_uint_eq(strlen(error.text), KVT_TEXT_LEN - 1);
}
END_TEST

START_TEST(a_text_can_wrap_itself)
{
	struct kvt_error error;
	kvi_fail(&error, KVT_E_FABRIC, 5, "no device");
	kvi_fail(&error, error.code, error.provider_errno, "eth0: %s", error.text);

	ck_assert_str_eq(error.text, "eth0: no device");
	ck_assert_int_eq(error.provider_errno, 5);
}
END_TEST

START_TEST(every_code_has_its_name_text_and_scope)
{
#define CHECK_CODE(code, value, scope, text)                                                       \
	ck_assert_int_eq(code, value);                                                             \
	ck_assert_str_eq(kvt_err_get_name(code), #code);                                           \
	ck_assert_str_eq(kvt_err_get_text(code), text);                                            \
	ck_assert_int_eq(kvt_err_get_scope(code), KVT_SCOPE_##scope);
	KVT_ERROR_MAP(CHECK_CODE)
}
END_TEST

START_TEST(success_has_a_name_and_costs_nothing)
{
	ck_assert_str_eq(kvt_err_get_name(KVT_OK), "KVT_OK");
	ck_assert_str_eq(kvt_err_get_text(KVT_OK), "success");
	ck_assert_int_eq(kvt_err_get_scope(KVT_OK), KVT_SCOPE_NONE);
}
END_TEST

START_TEST(an_unknown_code_has_words_too)
{
	static const int unknown[] = { 1, -8, -1000, -2147483647 - 1, 2147483647 };
	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
		ck_assert_str_eq(kvt_err_get_name((enum kvt_err)unknown[i]), "unknown");
		ck_assert_str_eq(kvt_err_get_text((enum kvt_err)unknown[i]), "unknown error");
		ck_assert_int_eq(kvt_err_get_scope((enum kvt_err)unknown[i]), KVT_SCOPE_NONE);
	}
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("error");
	tcase_add_test(tests, failing_fills_the_error_and_returns_its_code);
	tcase_add_test(tests, failing_without_an_error_returns_the_code);
	tcase_add_test(tests, a_long_text_is_cut);
	tcase_add_test(tests, a_text_can_wrap_itself);
	tcase_add_test(tests, every_code_has_its_name_text_and_scope);
	tcase_add_test(tests, success_has_a_name_and_costs_nothing);
	tcase_add_test(tests, an_unknown_code_has_words_too);
	return run_tests("base_error", tests);
}
