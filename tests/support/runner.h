/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runner.h - what main() of every Check program ends with. CK_FORK=no and the other variables of Check
 * work as usual.
 */
#ifndef KVI_TESTS_RUNNER_H
#define KVI_TESTS_RUNNER_H

#include <check.h>

/* Runs the tests under this name and frees them. Returns what main() returns. */
static inline int run_tests(const char *name, TCase *tests)
{
	Suite *suite = suite_create(name);
	suite_add_tcase(suite, tests);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? 0 : 1;
}

#endif
