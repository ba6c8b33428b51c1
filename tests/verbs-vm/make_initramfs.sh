#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Usage: make_initramfs.sh DIR. Makes DIR/vmlinuz and DIR/initramfs.gz out of Debian's kernel and busybox,
# which it downloads and unpacks and never installs. Exit status 77: they cannot be had.
set -euo pipefail
source=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
work=$(cd "$1" && pwd)
cd "$work"

# What the guest loads, in this order. No symbol tells that rdma_rxe needs crc32_generic.
modules=(virtio_pci 9pnet_virtio 9p overlay bridge veth virtio_net crc32_generic ib_uverbs rdma_ucm rdma_rxe)

skip() {
	echo "SKIP: $*"
	exit 77
}

if [ initramfs.gz -nt "$source/init" ] && [ initramfs.gz -nt "$source/make_initramfs.sh" ]; then
	exit 0
fi
[ "$(dpkg --print-architecture 2>/dev/null)" = amd64 ] || skip "the guest is made of Debian's amd64 packages"
kernel=$(apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p')
[ -n "$kernel" ] || skip "apt knows no linux-image-amd64; apt-get update may help"

scratch=$(mktemp -d "$work/unpack.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/packages" "$scratch/tree"
cd "$scratch/packages"
echo "Downloading $kernel and busybox-static"
timeout 300 apt-get -qq -o APT::Sandbox::User=root download "$kernel" busybox-static || skip "apt-get download failed"
for package in *.deb; do
	dpkg-deb -x "$package" "$scratch/tree"
done

cd "$scratch/tree"
# Debian 13 has both in /usr, and compresses modules.
for directory in bin lib; do
	[ -e "$directory" ] || ln -s "usr/$directory" "$directory"
done
find lib/ -name '*.ko.xz' -print0 | xargs -0 -r -P "$(nproc)" -n 200 xz -d
version=$(ls lib/modules)
list=lib/modules/$version/modules.dep
bin/busybox depmod -b . "$version"
mkdir -p "$scratch"/root/{dev,host,new,proc,top}
cp "$source/init" "$scratch/root/init"
echo "${modules[*]}" >"$scratch/root/modules"
{
	echo bin/busybox
	echo "$list"
	for module in "${modules[@]}"; do
		# The file of the module, unless the kernel has it built in, and those that it needs.
		sed -n "\|/$module\.ko:|p" "$list" | tr -d : | tr ' ' '\n' | sed "s|^|${list%/*}/|"
	done | sort -u
} | xargs cp --parents -t "$scratch/root"

cd "$scratch/root"
find . | bin/busybox cpio -o -H newc 2>/dev/null | gzip -1 >"$scratch/initramfs.gz"
mv "$scratch/tree/boot/vmlinuz-$version" "$work/vmlinuz"
mv "$scratch/initramfs.gz" "$work/initramfs.gz"
