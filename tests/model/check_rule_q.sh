#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The abort rule as a model (rule_q.pml): Spin goes through every order in which things can happen. The
# mutants show that the model would find what it is there to find.
set -u
cc=${KVT_CC:-cc}
model=${KVT_SRCDIR:?run make check, or source tests/env.sh of a build tree first}/tests/model/rule_q.pml
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

# check EXPECTED SENTENCE DEFINE...: the search ends with so many errors (Spin stops at the first).
check() {
	expected=$1
	sentence=$2
	shift 2
	if spin -a "$@" "$model" > spin.log 2>&1 && $cc -w -DSAFETY -o pan pan.c 2>> spin.log &&
		./pan -m100000 > pan.log 2>&1 && grep -q "errors: $expected\$" pan.log &&
		! grep -q 'max search depth too small' pan.log; then
		echo "ok: $sentence ($*)"
	else
		echo "FAIL: $sentence ($*)"
		cat spin.log pan.log
		failed=1
	fi
	rm -f pan pan.* ./*.trail
}

check 0 'nobody touches memory of a transfer that has returned' -DMANY_LANES
check 0 'nobody touches memory of a transfer that has returned' -DONE_LANE
check 0 'both sides end by their answers alone' -DMANY_LANES -DNO_CUT
check 0 'both sides end by their answers alone' -DONE_LANE -DNO_CUT
check 1 'a receiver that does not wait is found' -DRECEIVER_RUSHES
check 1 'a receiver that does not wait is found' -DRECEIVER_RUSHES -DONE_LANE
check 1 'a sender that does not wait is found' -DSENDER_RUSHES
check 1 'a sender that does not wait is found' -DSENDER_RUSHES -DONE_LANE
check 1 'an answer that comes before the writes are done is found' -DCACK_RUSHES
check 1 'a FIN that is no answer is found' -DFIN_IGNORED -DNO_CUT
exit "$failed"
