#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Usage: soak.sh check-storm | soak, in a build directory. check-storm: the abort storms, KVT_TEST_ROUNDS (10,000) of each,
# over tcp. soak: for KVT_TEST_MINUTES (60), drawn by lot and again and again, transfers whose bytes are looked at and what
# goes wrong with them: peers that die at a random step, links that are lost, transfers given up, strangers, pools
# withdrawn, over tcp and on one host. Each test also looks that nothing is left behind. KVT_TEST_SEED draws the same lots.
set -uo pipefail
set -a
# shellcheck source=/dev/null
. ./tests/env.sh
set +a
good=0
bad=0
seed=${KVT_TEST_SEED:-$RANDOM}
RANDOM=$seed

# run PROVIDER CASE
run() {
	local out
	if out=$(KVT_TEST_PROVIDER=$1 CK_RUN_CASE=$2 ./tests/integration/check_integration 2>&1); then
		good=$((good + 1))
	else
		bad=$((bad + 1))
		echo "FAIL: $2 on $1"
		printf '%s\n' "$out" | grep -aE ':[FE]:|^[0-9]+%' | head -n 20
	fi
	printf '%s\n' "$out" | grep -a '^storm: '
}

if [ "$1" = check-storm ]; then
	export KVT_TEST_ROUNDS=${KVT_TEST_ROUNDS:-10000} CK_TIMEOUT_MULTIPLIER=100
	run tcp abort
else
	minutes=${KVT_TEST_MINUTES:-60}
	cases=(abort death delivery loss orderly_close paged strangers tagged traffic)
	providers=(tcp local)
	declare -A times
	while [ $SECONDS -lt $((minutes * 60)) ]; do
		case=${cases[RANDOM % ${#cases[@]}]}
		provider=${providers[RANDOM % ${#providers[@]}]}
		run "$provider" "$case"
		times[$case/$provider]=$((${times[$case/$provider]:-0} + 1))
	done
	for lot in "${!times[@]}"; do
		echo "soak: ${times[$lot]} x $lot"
	done | sort
	echo "soak: $SECONDS s, seed $seed"
fi
echo "$good passed, $bad failed"
[ "$bad" -eq 0 ]
