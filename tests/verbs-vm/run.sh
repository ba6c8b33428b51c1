#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Usage: run.sh tests | run.sh long | run.sh pair | run.sh shell [COMMAND]. Starts a guest with an emulated RDMA device, in
# which the files of this host are what they are here, and runs the tests on verbs there, or a shell, or a
# command of one; or two guests with a cable between them. Needs tests/env.sh. Exit status 77: it cannot be
# done here, and the last line says why.
set -euo pipefail
job=$1
source=$(cd "$(dirname "$0")" && pwd)
images=${KVT_BUILDDIR:?"source tests/env.sh first"}/tests/verbs-vm
work=$images/work
start=$SECONDS

skip() {
	echo "SKIP: $*"
	exit 77
}

# guest JOB LIMIT CONSOLE OPTION...: of at most LIMIT seconds; 0: no limit.
guest() {
	local job=$1 limit=$2 console=$3
	shift 3
	timeout --foreground --kill-after=10 "$limit" \
		qemu-system-x86_64 -M q35 -smp 2 -cpu max -accel tcg,thread=multi \
		-display none -no-reboot -serial "$console" "$@" \
		-virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap \
		-virtfs "local,path=$work,mount_tag=work,security_model=none" \
		-kernel "$images/vmlinuz" -initrd "$images/initramfs.gz" -append "console=ttyS0 quiet \
		panic=-1 JOB=$job WORK=$work KVT_BUILDDIR=$KVT_BUILDDIR KVT_SRCDIR=$KVT_SRCDIR"
}

# The tests in one guest; $1: their job.
run_tests() {
	guest "$1" 1200 stdio -m 4G -nic none </dev/null | sed -u 's/\r//' | tee "$work/console.log" || true
}

# Two guests; the first one's console is only kept.
run_pair() {
	local card=virtio-net-pci,netdev=cable,mac=52:54:00:00:02
	local socket=stream,id=cable,addr.type=unix,addr.path=cable
	cd "$work"
	guest first 900 file:first.log -m 2G -device "$card:01" -netdev "$socket,server=on" </dev/null &
	until [ -S cable ] || ! kill -0 $!; do
		sleep 0.1
	done
	guest second 900 stdio -m 2G -device "$card:02" -netdev "$socket,server=off" </dev/null | sed -u 's/\r//' |
		tee console.log || true
	touch bye
	wait $! || true
}

PATH=$PATH:/usr/sbin:/sbin
for program in qemu-system-x86_64 rdma ip; do
	command -v "$program" >/dev/null || skip "no $program (apt-get install qemu-system-x86 iproute2)"
done
[ -x "$KVT_BUILDDIR/tests/fabric/check_fabric" ] || skip "configured without Check"
"$source/make_initramfs.sh" "$images"
rm -rf "$work"
mkdir -p "$work/tests" "$work/home"
# Guests cannot write here, and two of them need the same one.
"$KVT_BUILDDIR/tools/kvtrans-key" make >/dev/null

case $job in
shell)
	shift
	[ $# -eq 0 ] || echo "$*" >"$work/command"
	guest shell 0 mon:stdio -m 4G -nic none
	exit
	;;
pair) run_pair ;;
*) run_tests "$job" ;;
esac
if [ ! -e "$work/done" ]; then
	echo ":global-test-result: FAIL" >"$work/tests/guest.trs"
	cp "$work/console.log" "$work/tests/guest.log"
fi
echo "It took $((SECONDS - start)) s. All that was left is in $work."
"$source/../support/summary.sh" "$work"
