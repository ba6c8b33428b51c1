#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Each header is complete by itself; the public one also in C++.
. "${KVT_SRCDIR:?}/tests/shape/shape.sh"

# A struct of each kind, as its KVT_..._INIT makes it.
initialised() {
	sed -nE 's/^#define KVT_([A-Z_]+)_INIT( .*|\\)?$/\1/p' include/kvtrans*.h | while read -r name; do
		noun=$(echo "$name" | tr '[:upper:]' '[:lower:]')
		echo "void use_$noun(struct kvt_$noun *used);"
		echo "void use_$noun(struct kvt_$noun *used) { struct kvt_$noun made = KVT_${name}_INIT; *used = made; }"
	done
}

# compiles LANGUAGE FILE FLAGS...: writes what the compiler says.
compiles() {
	language=$1 file=$2
	shift 2
	# shellcheck disable=SC2086 # KVT_CC and KVT_CPPFLAGS are lists of words.
	{
		echo "#include \"$file\""
		[ "$file" != include/kvtrans.h ] || initialised
	} | $KVT_CC -x "$language" "$@" -Wall -Wextra -Werror -Iinclude -Isrc \
		-I"$KVT_BUILDDIR" $KVT_CPPFLAGS -fsyntax-only - 2>&1
}

for header in $(c_files src include | grep '\.h$'); do
	compiles c "$header" -std=gnu11 -I. | holds "$header compiles alone"
done
compiles c include/kvtrans.h -std=c11 -pedantic -I. | holds "kvtrans.h is strict C11"
if echo | $KVT_CC -x c++ -fsyntax-only - 2>/dev/null; then
	compiles c++ include/kvtrans.h -std=c++17 -pedantic -I. | holds "kvtrans.h is C++17"
else
	leave_out "kvtrans.h in C++: $KVT_CC has no C++"
fi
finish
