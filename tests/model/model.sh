# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
# Sourced by the checks of models: Spin goes through every order in which things can happen. The mutants
# show that a model would find what it is there to find.
set -u
cc=${KVT_CC:-cc}
for tool in spin "${cc%% *}"; do
	if ! command -v "$tool" >/dev/null; then
		echo "SKIP: $tool is not installed"
		exit 77
	fi
done
tmp=$(mktemp -d) || exit 99
trap 'rm -rf "$tmp"' EXIT
cd "$tmp" || exit 99
failed=0

# use_model FILE: of this directory, by all checks that follow.
use_model() {
	model=$KVT_SRCDIR/tests/model/$1
}

# check EXPECTED SENTENCE DEFINE...: the search ends with so many errors (Spin stops at the first).
check() {
	expected=$1
	sentence=$2
	shift 2
	if spin -a "$@" "$model" > spin.log 2>&1 && $cc -w ${KVT_TEST_LONG:+-O2} -DSAFETY -DCOLLAPSE -o pan pan.c 2>> spin.log &&
		./pan -m1000000 > pan.log 2>&1 && grep -q "errors: $expected\$" pan.log &&
		! grep -q 'max search depth too small' pan.log; then
		echo "ok: $sentence ($*): $(sed -n 's/^ *\([0-9]*\) states, stored.*/\1 states/p' pan.log)"
		sed -n 's/^row: //p' pan.log >> rows
	else
		echo "FAIL: $sentence ($*)"
		cat spin.log pan.log
		failed=1
	fi
	rm -f pan pan.* ./*.trail
}

# check_rows SIDE...: what the searches with -DTELL have taken is what transitions.list has of these sides.
check_rows() {
	for side; do
		grep "^$side " "$KVT_SRCDIR/tests/model/transitions.list"
	done | sort > wanted
	sort -u rows > taken
	if diff wanted taken > difference; then
		echo "ok: the model does what transitions.list says, and the list has all that it does ($(wc -l < taken) rows)"
	else
		echo 'FAIL: the model does not do what transitions.list says (<: in the list alone, >: in the model alone)'
		cat difference
		failed=1
	fi
}

finish() {
	exit "$failed"
}
