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
		hostname "$JOB" &&
		ulimit -l unlimited &&
		ip link set lo up
}

# One guest, two cables from it to a switch, an RDMA device on each. Where the outer addresses are used, what
# the guest says to itself goes over both cables.
set_up_cables() {
	ip link add switch type bridge &&
		connect 0 10.0.0.1/24 10.0.1.1/32 10.0.1.2 &&
		connect 1 10.0.0.2/32 10.0.1.2/32 10.0.1.1 &&
		ip rule add pref 100 lookup local &&
		ip rule delete pref 0 &&
		ip link set switch up
}

# connect NUMBER ADDRESS OUTER_ADDRESS OTHER: a cable and its device. OTHER, the outer address of the other
# one, is reached over the cable and nowhere else, though it is one of this host. Taking down the link
# plugNUMBER pulls the cable; that of switch leaves both without a way, and says nothing.
connect() {
	local cable=cable$1 plug=plug$1 table=10$1 settings=/proc/sys/net/ipv4/conf/cable$1
	ip link add "$cable" mtu 9000 type veth peer name "$plug" mtu 9000 &&
		ip link set "$plug" master switch &&
		ip address add "$2" dev "$cable" &&
		ip address add "$3" dev "$cable" &&
		ip link set "$cable" up &&
		ip link set "$plug" up &&
		echo 1 >"$settings/accept_local" &&
		echo 0 >"$settings/rp_filter" &&
		ip route add "$4" dev "$cable" src "${3%/*}" table "$table" &&
		ip rule add pref 10 iif "$cable" to "$3" lookup local &&
		ip rule add pref 20 to "$4" lookup "$table" &&
		rdma link add "rxe$1" type rxe netdev "$cable"
}

# One of two guests: the cable leads to the other one.
set_up_cable() {
	# What belongs to the user, as keys, both have.
	export HOME=$WORK/home
	ip address add "$1/24" dev eth0 &&
		ip link set eth0 up &&
		rdma link add rxe0 type rxe netdev eth0
}

power_off() {
	dmesg >"$WORK/dmesg-$JOB.log"
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

# run_python NAME LIMIT FILE...: in one process, since each takes seconds to start.
run_python() {
	local name=$1 limit=$2
	shift 2
	run "$name" "$limit" "$KVT_SRCDIR/tests/support/run_pytest.sh" "${@/#/$KVT_SRCDIR/tests/python/test_}"
}

run_tests() {
	local block perf=(--provider=verbs --count=8 --seconds=2 --warmup=0.2)
	# A process takes a second to start here; these tests leave nothing behind in theirs.
	CK_FORK=no run fabric 120 tests/fabric/check_fabric
	KVT_TEST_SHORT=1 KVT_TEST_ROUNDS=70 run integration 600 tests/integration/check_integration
	CK_FORK=no run flip 120 tests/integration/check_flip
	run_python python 240 classic.py errors.py info.py paged_notify.py transfer.py
	for block in 64 64K 1M; do
		run "perf-$block" 60 bench/kvtrans-perf --self --verify --interface=cable0 --block="$block" "${perf[@]}"
	done
	run lane-ports 60 bench/kvtrans-perf --self --verify --interface=cable0 --lane-ports=20000 "${perf[@]}"
}

run_long_tests() {
	KVT_TEST_SHORT=1 KVT_TEST_CABLE="${KVT_TEST_CABLE/switch/plug1}" CK_RUN_CASE=network \
		run cable 60 tests/integration/check_integration
	KVT_TEST_SHORT=1 KVT_TEST_ROUNDS=400 CK_RUN_CASE=abort \
		run abort 600 tests/integration/check_integration
	KVT_TEST_ROUNDS=200 CK_FORK=no CK_RUN_CASE=hostile run hostile 300 tests/fabric/check_fabric
	run_python python 600 arrays.py connection.py lifetime.py threads.py waits.py
	run_python paged 600 "paged_"{aio,blocks,endings,input,notify,pools,waits}.py
}

# The first guest is the server until the second has done.
serve_pair() {
	bench/kvtrans-perf --interface=eth0 --provider=verbs >"$WORK/server.log" 2>&1 &
	until [ -e "$WORK/bye" ]; do
		sleep 1
	done
}

run_pair() {
	local block tries=0
	local perf=(bench/kvtrans-perf --interface=eth0 --provider=verbs --verify --warmup=0.2)
	until "${perf[@]}" --count=1 --seconds=0.1 10.0.2.1 >"$WORK/first-try.log" 2>&1; do
		[ $((tries += 1)) -le 20 ] || break
		sleep 1
	done
	run info 60 tools/kvtrans-info 10.0.2.1
	run latency 60 "${perf[@]}" --latency 10.0.2.1
	run connect 120 "${perf[@]}" --connect --count=10 10.0.2.1
	for block in 64 64K 1M 16M; do
		run "perf-$block" 120 "${perf[@]}" --block="$block" --count=8 --ncpus=2 --nconn=2 10.0.2.1
	done
}

export KVT_TEST_PROVIDER=verbs KVT_TEST_INTERFACE=cable0 KVT_TEST_HOST=10.0.0.1
export KVT_TEST_CABLE="10.0.1.1 10.0.1.2 switch"
trap power_off EXIT
set_up || exit
cd "$KVT_BUILDDIR" || exit
# shellcheck disable=SC1091 # configure makes it.
. ./tests/env.sh
case $JOB in
first)
	set_up_cable 10.0.2.1 && serve_pair
	;;
second)
	set_up_cable 10.0.2.2 && run_pair && echo >"$WORK/done"
	;;
tests)
	set_up_cables && run_tests && echo >"$WORK/done"
	;;
long)
	set_up_cables && run_long_tests && echo >"$WORK/done"
	;;
shell)
	set_up_cables || exit
	if [ -e "$WORK/command" ]; then
		bash "$WORK/command"
	else
		echo "Provider verbs on cable0 (rxe0), 10.0.0.1, and cable1 (rxe1), 10.0.0.2. What is written" \
			"outside $WORK is lost."
		setsid --ctty --wait bash --norc -i </dev/ttyS0 >/dev/ttyS0 2>&1
	fi
	;;
esac
