#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Usage: check_long.sh SOURCE_DIR, in the build directory: what takes long, step by step, on a machine that
# nobody else uses. A step that fails does not keep the next one from running. Ends with a table of the steps and
# "N passed, N failed"; all output is in check-long.log.
set -uo pipefail
source=$1
log=$PWD/check-long.log
make=${MAKE:-make}
passed=0
failed=0
table=

# step NAME COMMAND...: run it, with its output shown, and count the last sum in that. Without one it is one test.
step() {
	local name=$1 start=$SECONDS status=0 good='' bad='' part
	shift
	part=$(mktemp)
	printf '\n== %s: %s\n' "$name" "$*"
	"$@" 2>&1 | tee -a "$log" "$part" | grep -aE --line-buffered \
		'^(PASS|FAIL|ERROR|SKIP|XFAIL|ok|storm|soak)(:| )|^== |^Skipped:|^[0-9]+ passed, |^# |of +[0-9]+ lines|findings in'
	status=${PIPESTATUS[0]}
	read -r good bad <<<"$(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed.*/\1 \2/p' "$part" | tail -n 1)"
	if [ "$status" -ne 0 ] && [ "${bad:-0}" -eq 0 ]; then
		bad=$((${bad:-0} + 1))
		tail -n 40 "$part" | sed 's/^/  | /'
	fi
	rm -f "$part"
	passed=$((passed + ${good:-0}))
	failed=$((failed + ${bad:-0}))
	table+=$(printf '%-48s %6s passed %4s failed %6s s' "$name" "${good:-0}" "${bad:-0}" $((SECONDS - start)))$'\n'
}

# By itself, for the sum is not in what make prints.
check_punctually() {
	local status=0
	KVT_TEST_LONG=1 KVT_TEST_PUNCTUAL=1 "$make" -j1 check || status=1
	"$source/tests/support/summary.sh" . || status=1
	return "$status"
}

: >"$log"
step "make check, long, limits of time by the letter" check_punctually
step "safety checks taken out, one by one" "$make" check-mutation
step "lines that the tests run" "$make" coverage
step "static analysis" "$make" analyze
step "valgrind over the unit tests" "$make" check-valgrind
step "abort storms of 10,000 rounds" "$make" check-storm
step "soak with random faults, 60 minutes" "$make" soak
step "verbs: the long tests, in a virtual machine" "$make" check-verbs-long
step "verbs: between two virtual machines" "$make" check-verbs-pair
step "vLLM and LMCache over the plugin" "$make" check-vllm
step "fresh roots of other releases of Debian" "$make" check-distro

printf '\n%s' "$table"
echo "All output is in $log."
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
