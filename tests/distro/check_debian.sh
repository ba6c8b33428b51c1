#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Usage: check_debian.sh TARBALL. Builds the Debian packages out of a release tarball in a directory of its
# own, lets lintian look at them, unpacks them into a root, and runs there what debian/tests has for
# installed packages. Ends with "N passed, N failed". Needs apt, and root or sudo, to install what is missing.
set -uo pipefail
tarball=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0
failed=0

# step TEXT COMMAND...: counts it, and shows what it says when it fails.
step() {
	local text=$1 start=$SECONDS
	shift
	if "$@" >"$work/log" 2>&1; then
		passed=$((passed + 1))
		echo "ok: $text ($((SECONDS - start)) s)"
	else
		failed=$((failed + 1))
		tail -n 60 "$work/log"
		echo "FAIL: $text ($((SECONDS - start)) s)"
	fi
}

install_tools() {
	local sudo=()
	[ "$(id -u)" -eq 0 ] || sudo=(sudo)
	"${sudo[@]}" apt-get -q -o DPkg::Lock::Timeout=300 update &&
		"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qy -o DPkg::Lock::Timeout=300 \
			--no-install-recommends install build-essential fakeroot lintian &&
		"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qy -o DPkg::Lock::Timeout=300 \
			--no-install-recommends build-dep "$work/source"
}

build() {
	cd "$work/source" && dpkg-buildpackage -us -uc
}

look() {
	lintian --allow-root --fail-on error --tag-display-limit 0 "$work"/kvtrans_*.changes
}

# The packages' files, where they were unpacked.
run_installed_tests() {
	local root=$work/root package arch
	arch=$(dpkg-architecture -qDEB_HOST_MULTIARCH)
	mkdir "$root"
	for package in "$work"/*.deb; do
		dpkg-deb -x "$package" "$root" || return
	done
	cd "$work/source" &&
		env -u KVT_BUILDDIR PATH="$root/usr/bin:$PATH" LD_LIBRARY_PATH="$root/usr/lib/$arch" \
			PYTHONPATH="$root/usr/lib/python3/dist-packages" PKG_CONFIG_SYSROOT_DIR="$root" \
			PKG_CONFIG_PATH="$root/usr/lib/$arch/pkgconfig" debian/tests/readme
}

name=$(basename "$tarball" .tar.xz)
mkdir "$work/source"
cp "$tarball" "$work/${name/-/_}.orig.tar.xz"
tar -xf "$tarball" --strip-components=1 -C "$work/source" || exit
step "what the build needs is installed" install_tools
step "dpkg-buildpackage makes four packages, and its tests pass" build
step "lintian finds no error" look
step "what is installed does what the README says" run_installed_tests
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
