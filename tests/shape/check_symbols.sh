#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Header, symbol map and library say the same.
# shellcheck disable=SC2086 # KVT_NM is a list of words.
. "${KVT_SRCDIR:?}/tests/shape/shape.sh"

# same TEXT A B: the two sorted lists are equal.
same() {
	diff "$shape_tmp/$2" "$shape_tmp/$3" | sed -n "s/^< /only in $2: /p; s/^> /only in $3: /p" |
		holds "$1"
}

awk '/^KVT_API/ && match($0, /kvt_[a-z0-9_]+\(/) { print substr($0, RSTART, RLENGTH - 1) }' \
	include/*.h | sort > "$shape_tmp/kvtrans.h"
sed -n 's/^	\(kvt_[a-z0-9_]*\);$/\1/p' src/libkvtrans.map | sort > "$shape_tmp/libkvtrans.map"
$KVT_NM -D --defined-only "$KVT_BUILDDIR/src/$KVT_OBJDIR/libkvtrans.so" > "$shape_tmp/nm"
# A version node is an absolute symbol.
awk '$2 != "A" { sub(/@@.*/, "", $3); print $3 }' "$shape_tmp/nm" | sort > "$shape_tmp/libkvtrans.so"

grep -c . < "$shape_tmp/kvtrans.h" | grep '^0$' | holds "kvtrans.h declares functions"
same "kvtrans.h declares what libkvtrans.map lists" kvtrans.h libkvtrans.map
same "libkvtrans.so exports what libkvtrans.map lists" libkvtrans.so libkvtrans.map
awk '$2 != "A" && $3 !~ /@@KVTRANS_[0-9]/ { print $3 }' "$shape_tmp/nm" |
	holds "every exported symbol has a version"

module=$KVT_BUILDDIR/python/kvtrans_engine/$KVT_OBJDIR/_kvtrans.so
if [ -n "$KVT_PYTHON" ]; then
	$KVT_NM -D --defined-only "$module" | awk '{ print $3 }' | grep -vx PyInit__kvtrans |
		holds "the extension exports PyInit__kvtrans only"
fi
finish
