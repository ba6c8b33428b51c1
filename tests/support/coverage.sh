#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Usage: coverage.sh SOURCE_DIR, in a build directory: builds with --enable-coverage in coverage/, runs the C tests
# there (tcp and local), and prints for each room of the library how many of its lines they ran. Fails when decoding or
# authentication is below 95 %, or the whole library below 85 %.
set -uo pipefail
source=$(cd "$1" && pwd)
dir=$PWD/coverage
DECODE=95
AUTH=95
ALL=85

mkdir -p "$dir" && cd "$dir" || exit 1
if [ ! -f Makefile ]; then
	"$source/configure" --without-python --enable-coverage CFLAGS='-O0 -g' >configure.out 2>&1 ||
		{ tail -n 20 configure.out; exit 1; }
fi
find . -name '*.gcda' -delete
make -j"$(nproc)" >make.out 2>&1 || { tail -n 20 make.out; exit 1; }
# A test that fails here fails in make check, too, which tells of it.
# shellcheck disable=SC2016 # make expands it.
make -j"$(nproc)" check TESTS='$(C_TESTS) tests/fabric/check_fabric_tcp.sh tests/fabric/check_fabric_local.sh tests/integration/check_integration_tcp.sh' \
	>check.out 2>&1
grep -E '^# (PASS|FAIL):' check.out

# The same header is in many objects: a line counts as run when it was in any of them.
find src -name '*.gcda' -printf '%h %f\n' | while read -r place file; do
	gcov -t -o "$place" "$place/$file" 2>/dev/null
done | awk -v root="$source/src/" -v decode="$DECODE" -v auth="$AUTH" -v all="$ALL" '
{
	count = $0
	sub(/:.*/, "", count)
	gsub(/ /, "", count)
	rest = substr($0, index($0, ":") + 1)
	line = rest + 0
	text = substr(rest, index(rest, ":") + 1)
}
line == 0 {
	if (text ~ /^Source:/) {
		file = substr(text, 8)
		if ((at = index(file, "/src/")) > 0)
			file = substr(file, at + 5)
		else
			sub(/^(\.\.\/)*src\//, "", file)
		is_ours = (getline first < (root file)) >= 0
		close(root file)
	}
	next
}
is_ours && count != "-" {
	there[file, line] = 1
	if (count !~ /^[#=]/)
		run[file, line] = 1
}
function tell(name, wanted,   percent, text) {
	percent = lines[name] > 0 ? 100 * good[name] / lines[name] : 0
	text = sprintf("%-18s %5d of %5d lines %6.1f %%", name, good[name], lines[name], percent)
	if (wanted > 0)
		text = text sprintf("  (%d wanted)%s", wanted, percent < wanted ? " MISSED" : "")
	if (percent < wanted)
		missed++
	return text
}
function add(name, is_run) {
	lines[name]++
	good[name] += is_run
}
END {
	for (key in there) {
		split(key, part, SUBSEP)
		room = part[1]
		sub(/\/[^\/]*$/, "", room)
		is_run = (key in run)
		add(room, is_run)
		add("all", is_run)
		if (part[1] ~ /^wire\/(decode|descriptor|address)/)
			add("decode", is_run)
		if (!is_run)
			print part[1] ":" part[2] > "not-run"
	}
	for (room in lines)
		if (room != "all" && room != "decode")
			print tell(room, room == "auth" ? auth : 0) | "sort"
	close("sort")
	print tell("decode", decode)
	print tell("all", all)
	if (lines["auth"] == 0)
		missed++
	print "Lines that no test ran are in coverage/not-run."
	printf "%d passed, %d failed\n", 3 - missed, missed
	exit missed > 0
}'
status=$?
sort -t: -k1,1 -k2n -o not-run not-run
exit "$status"
