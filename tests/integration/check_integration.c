/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_integration.c - two processes over <kvtrans.h>. KVT_TEST_PROVIDER and KVT_TEST_INTERFACE choose
 * what carries the bytes; KVT_TEST_LONG=1 adds what takes long, KVT_TEST_SHORT=1 does less of the rest.
 */
#include "bed.h"

#include <stdlib.h>

int main(void)
{
	TCase *(*const makers[])(void) = {
		make_tagged_tests,	 make_traffic_tests,	make_refusal_tests,
		make_loss_tests,	 make_death_tests,	make_orderly_close_tests,
		make_limit_tests,	 make_abort_tests,	make_stranger_tests,
		make_input_tests,	 make_memory_tests,	make_growth_tests,
		make_process_tests,	 make_network_tests,	make_paged_tests,
		make_delivery_tests,	 make_descriptor_tests, make_fault_tests,
		make_slow_tests,	 make_patience_tests,	make_many_tests,
		make_notification_tests,
	};
	Suite *suite = suite_create("integration");
	for (size_t i = 0; i < sizeof(makers) / sizeof(makers[0]); i++) {
		TCase *tests = makers[i]();
		tcase_add_checked_fixture(tests, NULL, sweep_peers);
		tcase_set_timeout(tests, 120);
		suite_add_tcase(suite, tests);
	}
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
