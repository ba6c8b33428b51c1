#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What programs of version 0.1 were compiled against, tests/abi/0.1, still holds: abidiff compares the library
# with one that has the functions and structs of those headers, and no code.
# shellcheck disable=SC2086 # KVT_CC is a list of words.
. "${KVT_SRCDIR:?}/tests/shape/shape.sh"

old=tests/abi/0.1
library=$KVT_BUILDDIR/src/$KVT_OBJDIR/libkvtrans.so

# make_stub DIRECTORY STUB: a library of the headers and the symbol map in a directory.
make_stub() {
	awk 'BEGIN { print "#include <kvtrans.h>" }
	/^KVT_API/ { inside = 1; sub(/^KVT_API /, "") }
	inside { inside = !sub(/;.*/, " { __builtin_trap(); }"); print }' "$1"/*.h > "$2.c"
	$KVT_CC -g -shared -fPIC -I"$1" -Wl,--version-script="$1/libkvtrans.map" -Wl,-soname,libkvtrans.so.0 \
		"$2.c" -o "$2" 2>&1
}

# Only those may grow whose size programs tell. (abidiff 2.2 crashes where this names a type without members.)
growing=$(sed -n 's/^	X(\([a-z_]*\),.*/\1/p' src/engine/core/abi.h | paste -sd '|' -)
: "${growing:?src/engine/core/abi.h names no struct}"
cat > "$shape_tmp/growth" <<END
[suppress_type]
  type_kind = struct
  name_regexp = ^kvt_($growing)\$
  has_data_member_inserted_at = end
END

# compare DIRECTORY OLD NEW: what abidiff finds in NEW, which has the headers of DIRECTORY, that OLD had not.
compare() {
	abidiff --no-added-syms --suppressions "$shape_tmp/growth" --headers-dir1 "$old" --headers-dir2 "$1" \
		"$2" "$3" > "$shape_tmp/abidiff" 2>&1 || cat "$shape_tmp/abidiff"
}

# changed SED FILE: what abidiff finds when a line of the old headers is changed so.
changed() {
	rm -rf "$shape_tmp/new"
	cp -r "$old" "$shape_tmp/new"
	chmod -R u+w "$shape_tmp/new"
	sed "$1" "$old/$2" > "$shape_tmp/new/$2"
	! cmp -s "$old/$2" "$shape_tmp/new/$2" || echo "nothing is changed by: $1"
	make_stub "$shape_tmp/new" "$shape_tmp/new.so"
	compare "$shape_tmp/new" "$shape_tmp/old.so" "$shape_tmp/new.so"
}

# finds WORD SED FILE: complains when that has no such word.
finds() {
	word=$1
	shift
	changed "$@" | grep -q "$word" || echo "it is not"
}

if ! command -v abidiff >/dev/null; then
	leave_out "the ABI of version 0.1: abidiff is not installed (package abigail-tools)"
elif ! objdump -h "$library" | grep -q '\.debug_info'; then
	leave_out "the ABI of version 0.1: the library was built without -g"
else
	make_stub "$old" "$shape_tmp/old.so" | holds "the headers of version 0.1 compile"
	compare include "$shape_tmp/old.so" "$library" | holds "programs of version 0.1 fit the library"

	# That this finds what it is to find, and nothing else.
	changed 's/^	uint64_t tag;/&\n	uint64_t newer;/' kvtrans.h | holds "a struct may grow at its end"
	finds newer 's/^	char text\[.*/&\n	uint64_t newer;/' kvtrans_base.h | holds "one that has no size may not"
	finds newer 's/^	uint64_t tag;/	uint64_t newer;\n&/' kvtrans.h | holds "a field in the middle is found"
	finds newer 's/^	bool read_only;.*/&\n	bool newer;/' kvtrans.h | holds "a field in padding is found"
	finds kvt_engine_wait 's/^	kvt_engine_wait;//' libkvtrans.map | holds "a function that is gone is found"
fi
finish
