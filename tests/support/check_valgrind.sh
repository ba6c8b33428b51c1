#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Usage: check_valgrind.sh, in a build directory: each unit test under valgrind, in one process, which it sees to its
# end. Fails on an error, and on memory that nothing points at any more.
set -uo pipefail
good=0
bad=0
if ! command -v valgrind >/dev/null; then
	echo "SKIP: valgrind is not installed"
	echo "0 passed, 0 failed"
	exit 0
fi
set -a
# shellcheck source=/dev/null
. ./tests/env.sh
set +a
export CK_FORK=no srcdir=$KVT_SRCDIR
for test in tests/unit/check_*; do
	[[ -x $test && $test != *.* ]] || continue
	if ./libtool --mode=execute valgrind --quiet --error-exitcode=9 --leak-check=full \
		--errors-for-leak-kinds=definite "$test" >valgrind.out 2>&1; then
		good=$((good + 1))
		echo "ok: $test"
	else
		bad=$((bad + 1))
		echo "FAIL: $test"
		grep -E '^==|:[FE]:' valgrind.out | head -n 20
	fi
done
echo "$good passed, $bad failed"
[ "$bad" -eq 0 ]
