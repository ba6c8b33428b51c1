#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Usage: check_distro.sh [SUITE...]. What a stranger does with a clone, in fresh roots of other Debian
# releases, trixie and sid unless named: see in_root.sh. The last line is "N passed, N failed". A root is made
# with debootstrap, from where this host has its packages, and kept for a week in $KVTRANS_CACHE (or
# ~/.cache/kvtrans); tests run in a copy. Exit status 77: it cannot be done here, and the last line says why.
set -euo pipefail
source=$(cd "$(dirname "$0")/../.." && pwd)
cache=${KVTRANS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kvtrans}
logs=${KVT_BUILDDIR:-$cache}/distro
work=

skip() {
	echo "SKIP: $*"
	exit 77
}

clean_up() {
	[ -z "$work" ] || rm -rf --one-file-system "$work"
}

[ "$(id -u)" -eq 0 ] || skip "roots of other distributions take root"
git -C "$source" rev-parse >/dev/null 2>&1 || skip "this is no git clone"
# shellcheck disable=SC2016 # apt expands it.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' |
	head -n 1) || true
[ -n "$mirror" ] || skip "apt has no repository of Debian's, or has not read its list yet"
if ! command -v debootstrap >/dev/null; then
	DEBIAN_FRONTEND=noninteractive apt-get -qqy -o DPkg::Lock::Timeout=300 --no-install-recommends \
		install debootstrap >/dev/null || skip "debootstrap is not installed"
fi
mkdir -p "$cache" "$logs"
trap clean_up EXIT

# make_root SUITE: unless there is one of this week.
make_root() {
	local root=$cache/$1
	if [ -n "$(find "$root.done" -mtime -7 2>/dev/null)" ]; then
		return
	fi
	rm -rf --one-file-system "$root" "$root.done"
	echo "Making a root of $1"
	debootstrap --variant=minbase --include=ca-certificates "$1" "$root" "$mirror" >"$logs/debootstrap-$1.log" 2>&1 ||
		return
	# How this host reaches its packages.
	apt-config dump | grep -E '^Acquire::(http|https|Check|Retries)' >"$root/etc/apt/apt.conf.d/90host" || true
	touch "$root.done"
}

# enter ROOT: mounts and processes end with it.
enter() {
	cp /etc/resolv.conf /etc/hosts "$1/etc/"
	# Whom this host trusts: what stands between it and a package index, too.
	cp /etc/ssl/certs/ca-certificates.crt "$1/etc/ssl/certs/" 2>/dev/null || true
	# shellcheck disable=SC2016 # The inner shell expands it.
	unshare --mount --pid --fork --kill-child bash -c '
		mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" &&
			mount --rbind /sys "$1/sys" && mount -t tmpfs tmpfs "$1/tmp" &&
			exec chroot "$1" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
				PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
				bash /kvtrans/tests/distro/in_root.sh' bash "$1"
}

passed=0
failed=0
[ $# -gt 0 ] || set -- trixie sid
for suite in "$@"; do
	echo "== $suite"
	good=0 bad=1
	work=$(mktemp -d "$cache/run.XXXXXX")
	if make_root "$suite" && cp -a "$cache/$suite" "$work/root" && mkdir "$work/root/kvtrans" &&
		git -C "$source" ls-files -z | tar -C "$source" --null -T - -c | tar -x -C "$work/root/kvtrans"; then
		enter "$work/root" 2>&1 </dev/null | tee "$logs/$suite.log" || true
		read -r good _ bad _ <<<"$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$logs/$suite.log" | tail -n 1)" || true
	fi
	passed=$((passed + ${good:-0}))
	failed=$((failed + ${bad:-1}))
	clean_up
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
