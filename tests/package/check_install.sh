#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What make install installs, by way of DESTDIR.
# shellcheck disable=SC2317,SC2329 # functions are called by does and refuses
. "${KVT_SRCDIR:?}/tests/package/package.sh"

root=$shape_tmp/root
prefix=$(sed -n 's/^prefix = //p' "$KVT_BUILDDIR/Makefile")
libdir=$(sed -n 's/^libdir=//p' "$KVT_BUILDDIR/src/kvtrans.pc" | sed "s,\${exec_prefix},$prefix,")

does "make install works with DESTDIR" make -C "$KVT_BUILDDIR" install DESTDIR="$root"
find "$root" -name '*.la' | holds "no .la file is installed"
for file in bin/kvtrans-info bin/kvtrans-key bin/kvtrans-perf include/kvtrans.h include/kvtrans_base.h \
	include/kvtrans_paged.h; do
	[ -f "$root$prefix/$file" ] || echo "no $file"
done | holds "programs and headers are installed"

pkg_config() {
	PKG_CONFIG_PATH="" PKG_CONFIG_LIBDIR="$shape_tmp/pc" pkg-config "$@"
}
# Alone in a directory, as on a host without anybody else's development packages.
mkdir "$shape_tmp/pc"
cp "$root$libdir/pkgconfig/kvtrans.pc" "$shape_tmp/pc"
does "kvtrans.pc works where no other .pc file is" pkg_config --print-errors --exists kvtrans
does "kvtrans.pc gives flags there" pkg_config --cflags --libs kvtrans
pkg_config --libs --static kvtrans | grep -c -e -lfabric | grep -v 1 |
	holds "kvtrans.pc names libfabric to those who link statically"

compile_example() {
	# shellcheck disable=SC2086 # KVT_CC is a list of words.
	$KVT_CC -o "$shape_tmp/example" -I"$root$prefix/include" examples/write_blocks.c -L"$root$libdir" -lkvtrans &&
		LD_LIBRARY_PATH=$root$libdir "$shape_tmp/example" > /dev/null
}
does "an example compiles with what is installed, and runs" compile_example

if [ -n "$KVT_PYTHON" ]; then
	package=$(find "$root" -name kvtrans_engine -type d)
	(cd / && PYTHONPATH=${package%/*} PYTHONDONTWRITEBYTECODE=1 "$KVT_PYTHON" - 2>&1 <<-'END'
		import importlib.metadata as metadata, kvtrans_engine
		found = metadata.distribution("kvtrans-engine")
		if found.version != kvtrans_engine.__version__:
		    print("version", found.version)
		if found.read_text("INSTALLER").strip() != "make":
		    print("INSTALLER", found.read_text("INSTALLER"))
		if "# KVTrans" not in found.metadata.get_payload():
		    print("no README")
	END
	) | holds "Python knows what is installed, and by whom"
fi

does "make uninstall works with DESTDIR" make -C "$KVT_BUILDDIR" uninstall DESTDIR="$root"
find "$root" ! -type d | holds "make uninstall leaves no file"
finish
