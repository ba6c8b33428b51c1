#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Names: providers in one file, prefixes on everything that other files can link to.
. "${KVT_SRCDIR:?}/tests/shape/shape.sh"

# Comments may name providers; code may not. A line that starts with a star is a comment in our style.
grep -rnE '"(tcp|verbs|sockets|efa|cxi|shm|udp)[^"]*"' src --include='*.[ch]' |
	grep -vE '^src/fabric/profile\.c:|^[^:]+:[0-9]+:[[:space:]]*(/\*|\*)' |
	holds "a provider's name is a string in src/fabric/profile.c only"

for layer in base wire fabric auth core progress lane transfer tagged paged conn engine; do
	# shellcheck disable=SC2086 # KVT_NM is a list of words.
	$KVT_NM --extern-only --defined-only "$KVT_BUILDDIR/src/$KVT_OBJDIR/libkvi_$layer.a" ||
		echo "- - unreadable:libkvi_$layer.a"
done > "$shape_tmp/symbols"
awk 'NF == 3 && $3 !~ /^kv[ti]_[a-z0-9_]+$/ { print $3 }' "$shape_tmp/symbols" |
	holds "symbols that files share are kvt_ or kvi_"

sed -n 's/^	\(kv.*\);$/\1/p' src/libkvtrans.map | grep -vE '^kvt_[a-z]+(_[a-z]+)+$' |
	holds "what the library exports is kvt_noun_verb"
grep -nE '^[[:space:]]*#[[:space:]]*define[[:space:]]+[A-Za-z_]+' include/*.h |
	grep -vE 'define[[:space:]]+(KVT_|KVTRANS_((BASE|PAGED)_)?H$)' | holds "kvtrans.h defines KVT_ macros only"

cat Makefile.am ./*/local.mk ./*/*/local.mk > "$shape_tmp/makefiles"
{
	c_files src include python plugins tests bench examples tools
	find python examples tests/python tests/nixl tests/integration -name '*.py' -o -name '*.pyi'
	find tests -name '*.sh'
} | while read -r file; do
	grep -qwF -e "$file" -e "${file%.c}" "$shape_tmp/makefiles" || echo "$file"
done | holds "every file is listed in a makefile"

tr '\140' '\n' < docs/testing.md | grep -xE '[a-z]+/[a-z_]+' | grep -v '^tests/' | while read -r test; do
	find "tests/${test%/*}" -name "${test#*/}.*" | grep -q . || echo "$test"
done | holds "the tests that docs/testing.md names are there"

# Each code has its row, and each line of the log its own.
{
	sed -n 's/^	X(\(KVT_E_[A-Z_]*\),.*/\1/p' include/kvtrans_base.h
	grep -rhA1 'kvi_log(' src --include='*.c' | tr '\n' ' ' |
		grep -oE 'kvi_log\([^;"]*"[a-z-]+"' | grep -oE '[a-z-]+"$' | tr -d '"' | sort -u
} | while read -r word; do
	grep -qE "^\|[^|]*\`$word\`[^|]*\|" docs/operations.md || echo "$word"
done | holds "docs/operations.md has a row for each error and each line of the log"
finish
