#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Two processes over the public API, on the local fabric.
case $KVT_SANITIZERS in
*tsan*)
	echo "SKIP: two processes on one host: ThreadSanitizer does not see what they tell each other by shared memory"
	exit 77
	;;
esac
KVT_TEST_PROVIDER=local exec "${KVT_SRCDIR:?}/tests/support/run_check.sh" "$KVT_BUILDDIR/tests/integration/check_integration"
