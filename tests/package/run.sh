#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Usage: run.sh TEST...: run package tests one after the other, in the build directory, with tests/env.sh
# sourced. KVT_TEST_LIMIT: seconds for each of them, 900 unless set. Ends with "N passed, N failed, N skipped"; a
# skipped test says why. The exit status is 1 when something failed.
set -u
passed=0 failed=0 skipped=0
mkdir -p tests/package

for test in "$@"; do
	log=tests/package/$(basename "$test" .sh).log
	echo "== $test"
	timeout --kill-after=10 "${KVT_TEST_LIMIT:-900}" "$KVT_SRCDIR/$test" > "$log" 2>&1
	status=$?
	cat "$log"
	good=$(grep -c '^ok: ' "$log")
	bad=$(grep -c '^FAIL: ' "$log")
	if [ "$status" -eq 77 ]; then
		skipped=$((skipped + 1))
	elif [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then
		echo "FAIL: $test ended with status $status"
		bad=1
	fi
	passed=$((passed + good))
	failed=$((failed + bad))
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
