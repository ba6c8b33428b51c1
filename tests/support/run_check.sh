#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Run one C test program. 77 tells automake "skipped": without Check make does not build them.
set -u

if test ! -x "$1"; then
	echo "SKIP: configure found no Check: install it (package check), then run ./config.status --recheck"
	exit 77
fi
if test "${KVT_TEST_PROVIDER:-}" = sockets; then
	export LSAN_OPTIONS="suppressions=${KVT_SRCDIR:?}/tests/support/lsan.supp:print_suppressions=0"
fi
exec "$@"
