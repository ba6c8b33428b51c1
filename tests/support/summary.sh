#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Usage: summary.sh BUILD_DIR. Shows the closing line of every test log of a make check, the end of the
# logs of those that failed, what was skipped and why, and the sum as "N passed, N failed, N skipped". A
# log without a closing line counts as one test, with the result that automake saw. The exit status is 1
# when something failed or nothing ran.
set -eu
cd "$1"

# Of Check, pytest and the shape tests.
closing_lines() {
	grep -aE '^[0-9]+%: Checks: |^=* ?([0-9]+ [a-z]+,? )+in [0-9.]+s|^Shape: ' "$1" |
		sed 's/=\{2,\} *//; s/ *=\{2,\}//' | tr '\n' ';'
}

# What a test says that it left out: "SKIP: REASON", and pytest's "SKIPPED [COUNT] FILE:LINE: REASON".
skip_reasons() {
	sed -n 's/^SKIP: /1 /p; s/^SKIPPED \[\([0-9]*\)\] [^ ]*:[0-9]*: /\1 /p' "$1"
}

skipped=$(mktemp)
trap 'rm -f "$skipped"' EXIT
# What is in tests/verbs-vm is of a guest, and of another time.
tests=$(find examples tests -path tests/verbs-vm -prune -o -name '*.trs' -print 2>/dev/null |
	sed 's/\.trs$//' | sort)
for test in $tests; do
	result=$(sed -n 's/^:global-test-result: //p' "$test.trs")
	case $result in
	FAIL | ERROR)
		echo >&2
		echo "$test.log:" >&2
		grep -avE ':P:|^ok: ' "$test.log" | tail -n 40 | sed 's/^/  | /' >&2
		;;
	esac
	skip_reasons "$test.log" | sed "s|^|$test |" >>"$skipped"
	printf '%s\t%s\t%s\t%s\n' "$result" "$test" "$(closing_lines "$test.log")" \
		"$(skip_reasons "$test.log" | awk '{ sum += $1 } END { print sum + 0 }')"
done | awk -F '\t' -v skipped_file="$skipped" '
function before(text, word) {
	return match(text, "[0-9]+ " word) ? substr(text, RSTART, RLENGTH) + 0 : 0
}
function after(text, label) {
	return substr(text, index(text, label) + length(label)) + 0
}
{
	printf "%-5s %-44s %s\n", $1, $2, $3
	lines = split($3, line, ";")
	good = bad = 0
	for (i = 1; i <= lines; i++) {
		if (line[i] ~ /Checks: /) {
			wrong = after(line[i], "Failures: ") + after(line[i], "Errors: ")
			good += after(line[i], "Checks: ") - wrong
		} else if (line[i] ~ /^Shape: /) {
			wrong = before(line[i], "failed")
			good += before(line[i], "checks") - wrong
		} else {
			wrong = before(line[i], "failed") + before(line[i], "error")
			good += before(line[i], "passed") + before(line[i], "xfailed")
		}
		bad += wrong
	}
	skips = $4
	if ($1 == "SKIP" && skips == 0)
		skips = 1
	else if ($1 == "PASS" && good + bad + skips == 0)
		good = 1
	else if ($1 != "PASS" && $1 != "SKIP" && bad == 0)
		bad = 1
	passed += good
	failed += bad
	skipped += skips
}
END {
	while ((getline note < skipped_file) > 0) {
		split(note, word, " ")
		reason = substr(note, length(word[1]) + length(word[2]) + 3)
		if (!(reason in where))
			reasons[++reason_count] = reason
		where[reason] = where[reason] " " word[1]
		count[reason] += word[2]
	}
	for (i = 1; i <= reason_count; i++) {
		reason = reasons[i]
		if (i == 1)
			print "Skipped:"
		printf "%5d %s\n      in%s\n", count[reason], reason, where[reason]
	}
	printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
	exit failed > 0 || passed == 0
}'
