#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Paths with blanks are refused at once, with the reason, where they cannot work; and where things go.
# shellcheck disable=SC2317,SC2329 # functions are called by does and refuses
. "${KVT_SRCDIR:?}/tests/package/package.sh"

blank=$shape_tmp/with\ blank
mkdir "$blank" "$shape_tmp/build"
ln -s "$KVT_SRCDIR" "$blank/source"

configure_in() {
	directory=$1
	shift
	(cd "$directory" && "$@")
}

refuses "configure refuses a source directory with a blank" "the source directory is '$blank/source'" \
	configure_in "$shape_tmp/build" "$blank/source/configure"
refuses "configure refuses a build directory with a blank" "the build directory is '$blank'" \
	configure_in "$blank" "$KVT_SRCDIR/configure"
for option in prefix exec-prefix bindir libdir includedir mandir with-libfabric; do
	refuses "configure refuses --$option with a blank" "'/opt/with blank'" \
		configure_in "$shape_tmp/build" "$KVT_SRCDIR/configure" "--$option=/opt/with blank"
done
refuses "autogen.sh refuses a source directory with a blank" "the source directory is '$blank/source'" \
	"$blank/source/autogen.sh"
for command in demo check; do
	refuses "quickstart $command refuses a source directory with a blank" "'$blank/source'" \
		"$blank/source/quickstart" "$command"
	refuses "quickstart $command refuses a build directory with a blank" "'$blank/build'" \
		env KVTRANS_BUILD="$blank/build" "$KVT_SRCDIR/quickstart" "$command"
done

if [ -n "$KVT_PYTHON" ]; then
	# Debian's own Python searches /usr/local first.
	"$KVT_PYTHON" "$KVT_SRCDIR/python/facts.py" /usr 2>&1 | grep 'kvt_python_dir=.*local/' |
		holds "--prefix=/usr puts the Python package below /usr, not /usr/local"
fi
finish
