# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Sourced by the shape tests: counts what they state and closes with one line.
set -u

skip() {
	echo "SKIP: $*"
	exit 77
}

: "${KVT_SRCDIR:?run make check, or source tests/env.sh of a build tree first}"
# A sanitizer adds symbols, and the rest is the same in every build.
test -z "$KVT_SANITIZERS" || skip "told by a build without sanitizers"
cd "$KVT_SRCDIR" || exit 99
LC_ALL=C
export LC_ALL
shape_tmp=$(mktemp -d) || exit 99
trap 'rm -rf "$shape_tmp"' EXIT
: > "$shape_tmp/results"

# holds SENTENCE: the statement holds when standard input, the list of what is against it, is empty. It
# often ends a pipe, so the result goes to a file and not to a variable.
holds() {
	cat > "$shape_tmp/against"
	if [ -s "$shape_tmp/against" ]; then
		echo "FAIL: $1, but:" | tee -a "$shape_tmp/results"
		sed 's/^/    /' "$shape_tmp/against"
	else
		echo "ok: $1" | tee -a "$shape_tmp/results"
	fi
}

# leave_out TEXT: what is not looked at here, and why. The summary of make check repeats it.
leave_out() {
	echo "SKIP: $1"
}

finish() {
	shape_failed=$(grep -c '^FAIL: ' "$shape_tmp/results")
	echo "Shape: $(grep -c . "$shape_tmp/results") checks, $shape_failed failed"
	[ "$shape_failed" -eq 0 ]
	exit
}

# c_files DIRECTORY...: the C files below them.
c_files() {
	find "$@" -type f \( -name '*.[ch]' -o -name '*.cc' \) | sort
}
