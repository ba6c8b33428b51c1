#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What check_distro.sh runs in a fresh root, on a copy of a clone: the demo, all tests, pip, and the Debian
# packages. The last line is "N passed, N failed" over all of it.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
passed=0
failed=0

# step TEXT COMMAND...: shows what it says. Its tests are counted by their own sum, else it is one itself.
step() {
	local text=$1 start=$SECONDS status=0 good=0 bad=0
	shift
	echo "-- $text"
	"$@" 2>&1 | tee /tmp/step.log || status=1
	read -r good bad <<<"$(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed.*/\1 \2/p' /tmp/step.log | tail -n 1)"
	if [ "$status" -eq 0 ] && [ "${good:-0}" -eq 0 ]; then
		good=1
	elif [ "$status" -ne 0 ] && [ "${bad:-0}" -eq 0 ]; then
		bad=1
	fi
	passed=$((passed + ${good:-0}))
	failed=$((failed + ${bad:-0}))
	echo "-- $text: $([ "$status" -eq 0 ] && echo ok || echo FAILED) ($((SECONDS - start)) s)"
}

has_run_c_tests() {
	! grep -rl --include='*.log' 'configure found no Check' build/tests
}

install_with_pip() {
	apt-get -qqy --no-install-recommends install python3-venv >/dev/null &&
		python3 -m venv --system-site-packages /venv &&
		/venv/bin/pip install -q . &&
		/venv/bin/python -m pytest -p no:cacheprovider -q tests/python/test_readme.py -k 'not c_program'
}

step "./quickstart demo" ./quickstart demo
step "./quickstart check" ./quickstart check
step "the demo came first, and the C tests were run all the same" has_run_c_tests
step "pip install ." install_with_pip
step "the Debian packages" make -s -C build check-debian
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
