#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The extension's files call downwards: few of them reach each other in a circle.
# shellcheck disable=SC2086 # KVT_NM is a list of words.
. "${KVT_SRCDIR:?}/tests/shape/shape.sh"
test -n "$KVT_PYTHON" || skip "this build has no extension"

# The largest circle that may be there, in files.
most=6

for source in python/ext/*.c; do
	name=$(basename "$source" .c)
	object=$KVT_BUILDDIR/python/ext/$KVT_OBJDIR/kvtrans_engine__kvtrans_la-$name.o
	$KVT_NM "$object" > "$shape_tmp/nm" || echo "$object"
	awk -v name="$name" '{ print name, $(NF - 1), $NF }' "$shape_tmp/nm" >> "$shape_tmp/symbols"
done | holds "every object of the extension can be read"

# A file's circle is all that it reaches and that reaches it.
awk -v most="$most" '
NR == FNR { if ($2 ~ /^[TDRB]$/) { home[$3] = $1; file[$1] } next }
$2 == "U" && $3 in home { reaches[$1, home[$3]] = 1 }
END {
	for (via in file)
		for (from in file)
			if ((from, via) in reaches)
				for (to in file)
					if ((via, to) in reaches)
						reaches[from, to] = 1
	for (from in file) {
		count = 0
		names = ""
		for (to in file)
			if (((from, to) in reaches) && ((to, from) in reaches)) {
				count++
				names = names " " to
			}
		if (count > most)
			print from ".c: " count " files:" names
	}
}' "$shape_tmp/symbols" "$shape_tmp/symbols" | sort |
	holds "at most $most files of the extension call each other in a circle"
finish
