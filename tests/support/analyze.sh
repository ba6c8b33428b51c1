#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Usage: analyze.sh SOURCE_DIR, in a build directory: gcc -fanalyzer over the library, and where they are
# installed cppcheck and clang-tidy, whose checks .clang-tidy chooses.
# What is left out, and why, stands here. Fails on a finding.
set -uo pipefail
source=$(cd "$1" && pwd)
build=$PWD
# shellcheck source=/dev/null
. ./tests/env.sh
cd "$source" || exit 1
findings=0
# shellcheck disable=SC2206 # These are words.
flags=(-std=gnu11 -I"$build" -Iinclude -Isrc $KVT_CPPFLAGS)
mapfile -t files < <(find src -name '*.c' | sort)

# report TOOL: what it says, on stdin, one finding a line.
report() {
	local lines count
	lines=$(cat)
	count=$(printf '%s' "$lines" | grep -c .)
	[ "$count" -eq 0 ] || printf '%s\n' "$lines"
	echo "$1: $count findings in ${#files[@]} files"
	findings=$((findings + count))
}

# malloc-leak, null-dereference: of one file alone it cannot know that what hangs on a struct of the caller is freed there,
# nor that a call which returned KVT_OK has filled what it was given.
analyze() {
	local file
	for file in "${files[@]}"; do
		gcc "${flags[@]}" -O1 -fanalyzer -Wno-analyzer-malloc-leak -Wno-analyzer-null-dereference \
			-c -o /dev/null "$file" 2>&1
	done | grep -E 'warning:|error:'
}
report "gcc -fanalyzer" < <(analyze)

# ctuuninitvar: it does not know that recvmsg() fills what an iovec points to. HASH_ITER: of <uthash.h>, which it does not
# read; any loop will do.
check() {
	local library="$build/cppcheck.cfg"
	echo '<?xml version="1.0"?><def format="2"><define name="HASH_ITER(hh,head,el,tmp)"' \
		'value="for ((el) = (head), (tmp) = (el); (el) != NULL; (el) = (tmp))"/></def>' >"$library"
	cppcheck --enable=warning,performance,portability --std=c11 --quiet --library="$library" \
		--template='{file}:{line}: {id}: {message}' --suppress=ctuuninitvar:src/fabric/local/listen.c \
		-Iinclude -Isrc src 2>&1
}
if command -v cppcheck >/dev/null; then
	report cppcheck < <(check)
else
	echo "SKIP: cppcheck is not installed"
fi

# One file at a time. Those of vectors' intrinsics take it half a minute, all others a second.
tidy() {
	local file
	for file in "${files[@]}"; do
		"$clang_tidy" --quiet "$file" -- "${flags[@]}" 2>/dev/null
	done | grep -E 'warning:|error:' | sort -u
}
clang_tidy=$(command -v clang-tidy-14 || command -v clang-tidy)
if [ -n "$clang_tidy" ]; then
	report clang-tidy < <(tidy)
else
	echo "SKIP: clang-tidy is not installed"
fi

[ "$findings" -eq 0 ]
