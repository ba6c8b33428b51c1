#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Usage: run.sh tests | run.sh shell [COMMAND]. Starts a guest with an emulated RDMA device, in which the
# files of this host are what they are here, and runs the tests on verbs there, or a shell, or a command
# of one. Needs tests/env.sh. Exit status 77: it cannot be done here, and the last line says why.
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

# guest LIMIT CONSOLE: of at most LIMIT seconds; 0: no limit.
guest() {
	timeout --foreground --kill-after=10 "$1" \
		qemu-system-x86_64 -M q35 -m 4G -smp 2 -cpu max -accel tcg,thread=multi \
		-display none -no-reboot -nic none -serial "$2" \
		-virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap \
		-virtfs "local,path=$work,mount_tag=work,security_model=none" \
		-kernel "$images/vmlinuz" -initrd "$images/initramfs.gz" -append "console=ttyS0 quiet \
		panic=-1 JOB=$job WORK=$work KVT_BUILDDIR=$KVT_BUILDDIR KVT_SRCDIR=$KVT_SRCDIR"
}

PATH=$PATH:/usr/sbin:/sbin
for program in qemu-system-x86_64 rdma ip; do
	command -v "$program" >/dev/null || skip "no $program (apt-get install qemu-system-x86 iproute2)"
done
[ -x "$KVT_BUILDDIR/tests/fabric/check_fabric" ] || skip "configured without Check"
"$source/make_initramfs.sh" "$images"
rm -rf "$work"
mkdir -p "$work/tests"

if [ "$job" = shell ]; then
	shift
	[ $# -eq 0 ] || echo "$*" >"$work/command"
	guest 0 mon:stdio
	exit
fi
guest 1200 stdio </dev/null | tr -d '\r' | tee "$work/console.log" || true
if [ ! -e "$work/done" ]; then
	echo ":global-test-result: FAIL" >"$work/tests/guest.trs"
	cp "$work/console.log" "$work/tests/guest.log"
fi
echo "The guest ended after $((SECONDS - start)) s. All it left is in $work."
"$source/../support/summary.sh" "$work"
