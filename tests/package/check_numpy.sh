#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The extension is built for the NumPy of the Python that it is built for, whatever other one there is.
# shellcheck disable=SC2317,SC2329 # functions are called by does and refuses
. "${KVT_SRCDIR:?}/tests/package/package.sh"
need_python
need_index

mkdir "$shape_tmp/tmp dir"
TMPDIR=$shape_tmp/tmp\ dir
export TMPDIR

# configure_for PYTHON ARGUMENTS...: in a new directory.
configure_for() {
	rm -rf "$shape_tmp/build"
	mkdir "$shape_tmp/build"
	python=$1
	shift
	(cd "$shape_tmp/build" && "$KVT_SRCDIR/configure" CC="$KVT_CC" CFLAGS=-O0 PYTHON="$python" "$@")
}

install_package() {
	make -C "$shape_tmp/build" -j"$(nproc)" install-python DESTDIR= pyexecdir="$1"
}

# builds_for_numpy_2 VENV WHAT
builds_for_numpy_2() {
	does "configure takes $2" configure_for "$1/bin/python"
	grep -o 'headers of its NumPy.*' "$shape_tmp/build/config.log" | head -n 1
	grep -c "^PYTHON_CPPFLAGS = -isystem '$1/" "$shape_tmp/build/Makefile" | grep -v 1 |
		holds "the headers are those of $2"
	does "the package is built for $2" install_package "$shape_tmp/site"
	(cd / && PYTHONPATH=$shape_tmp/site "$1/bin/python" -m kvtrans_engine 2>&1) | tee "$shape_tmp/facts" |
		grep -c 'NumPy: *2.*ABI 0x2000000' | grep -v 1 | holds "it runs with $2"
	sed 's/^/    /' "$shape_tmp/facts"
	rm -rf "$shape_tmp/site"
}

make_venv "$shape_tmp/a venv" -- 'numpy>=2'
builds_for_numpy_2 "$shape_tmp/a venv" "the NumPy 2 of a venv with a blank in its name"
make_venv "$shape_tmp/with system" --system-site-packages -- 'numpy>=2'
builds_for_numpy_2 "$shape_tmp/with system" "the NumPy 2 of a venv that sees the system's packages"

make_venv "$shape_tmp/none" --
refuses "a venv without NumPy is refused, with the reason" "it has no NumPy" configure_for "$shape_tmp/none/bin/python"

mkdir -p "$shape_tmp/other/numpy"
echo '#define NPY_ABI_VERSION 0x09000001' > "$shape_tmp/other/numpy/numpyconfig.h"
refuses "headers of another NumPy that come first are refused" "the compiler finds those of" \
	configure_for "$KVT_PYTHON" CPPFLAGS=-I"$shape_tmp/other"
finish
