#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What runs in the guest, as its first process: makes an RDMA device, and then runs the tests, or a shell.
# A test leaves tests/NAME.log and NAME.trs in the work folder, as one of make check does. $JOB, $WORK,
# $KVT_BUILDDIR and $KVT_SRCDIR come from the kernel's command line.
set -u

set_up() {
	export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/run/home
	mount -t proc proc /proc &&
		mount -t sysfs sysfs /sys &&
		mount -t devtmpfs devtmpfs /dev &&
		mkdir -p /dev/pts /dev/shm &&
		mount -t devpts devpts /dev/pts &&
		mount -t tmpfs tmpfs /dev/shm &&
		mount -t tmpfs tmpfs /run &&
		mkdir "$HOME" &&
		# libfabric looks there for a GPU's driver, for two seconds at the start of each process.
		mount --bind /dev/null /proc/kallsyms &&
		hostname guest &&
		ulimit -l unlimited &&
		ip link set lo up &&
		ip link add cable0 mtu 9000 type veth peer name cable1 mtu 9000 &&
		ip address add 10.0.0.1/24 dev cable0 &&
		ip link set cable0 up &&
		ip link set cable1 up &&
		rdma link add rxe0 type rxe netdev cable0
}

power_off() {
	dmesg >"$WORK/dmesg.log"
	sync
	echo o >/proc/sysrq-trigger
	# No program can be started any more.
	while :; do :; done
}

# run NAME LIMIT COMMAND...: one test, of at most LIMIT seconds.
run() {
	local name=$1 limit=$2 start=$SECONDS status=0 result=FAIL
	local log=$WORK/tests/$name.log
	shift 2
	timeout --kill-after=10 "$limit" "$@" >"$log" 2>&1 </dev/null || status=$?
	case $status in
	0) result=PASS ;;
	77) result=SKIP ;;
	124 | 137) echo "ended after $limit s" >>"$log" ;;
	esac
	echo ":global-test-result: $result" >"$WORK/tests/$name.trs"
	echo "$result: $name ($((SECONDS - start)) s)"
}

run_tests() {
	local pytest=$KVT_SRCDIR/tests/support/run_pytest.sh block
	local perf=(--provider=verbs --count=8 --seconds=2 --warmup=0.2)
	# A process takes a second to start here; these tests leave nothing behind in theirs.
	CK_FORK=no run fabric 120 tests/fabric/check_fabric
	KVT_TEST_SHORT=1 KVT_TEST_ROUNDS=70 run integration 600 tests/integration/check_integration
	run python 200 "$pytest" "$KVT_SRCDIR/tests/python/test_classic.py"
	for block in 64 64K 1M; do
		run "perf-$block" 60 bench/kvtrans-perf --self --verify --interface=cable0 --block="$block" "${perf[@]}"
	done
	run raw-1M 60 bench/raw_fabric --host="$KVT_TEST_HOST" --block=1M "${perf[@]}"
}

trap power_off EXIT
set_up || exit
cd "$KVT_BUILDDIR" || exit
# shellcheck disable=SC1091 # configure makes it.
. ./tests/env.sh
export KVT_TEST_PROVIDER=verbs KVT_TEST_INTERFACE=cable0 KVT_TEST_HOST=10.0.0.1
case $JOB in
shell)
	if [ -e "$WORK/command" ]; then
		bash "$WORK/command"
	else
		echo "Provider verbs on cable0 (rxe0), 10.0.0.1. What is written outside $WORK is lost."
		setsid --ctty --wait bash --norc -i </dev/ttyS0 >/dev/ttyS0 2>&1
	fi
	;;
tests)
	run_tests
	echo >"$WORK/done"
	;;
esac
