# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Sourced by the package tests: what shape.sh has, and copies of the source tree to build from.
. "${KVT_SRCDIR:?}/tests/shape/shape.sh"

# What make gave to us is not for the makes that we start.
unset MAKEFLAGS MFLAGS MAKELEVEL DESTDIR

# does SENTENCE COMMAND...: it holds when the command succeeds; else what the command said is against it.
does() {
	sentence=$1
	shift
	if "$@" > "$shape_tmp/said" 2>&1; then
		: > "$shape_tmp/said"
	else
		echo "status $?: $*" >> "$shape_tmp/said"
	fi
	tail -n 25 < "$shape_tmp/said" | holds "$sentence"
}

# refuses SENTENCE WORDS COMMAND...: it holds when the command fails and says WORDS.
refuses() {
	sentence=$1 words=$2
	shift 2
	if "$@" > "$shape_tmp/said" 2>&1; then
		echo "status 0: $*" | holds "$sentence"
	elif grep -qF -e "$words" "$shape_tmp/said"; then
		holds "$sentence" < /dev/null
	else
		tail -n 25 < "$shape_tmp/said" | holds "$sentence"
	fi
}

# copy_clone DIRECTORY: what a clone of this tree has, with what is not committed yet.
copy_clone() {
	mkdir -p "$1"
	git -c safe.directory="*" ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$1"
}

need_clone() {
	git -c safe.directory="*" ls-files --error-unmatch configure.ac > /dev/null 2>&1 ||
		skip "this is not a git clone, from which to make another"
}

need_python() {
	test -n "$KVT_PYTHON" || skip "configured without Python"
	"$KVT_PYTHON" -c 'import ensurepip' 2> /dev/null || skip "$KVT_PYTHON makes no virtual environments (python3-venv)"
}

# need_index: packages come from where pip gets them here.
need_index() {
	"$KVT_PYTHON" -m venv "$shape_tmp/probe" > /dev/null || exit 99
	"$shape_tmp/probe/bin/pip" -q download --retries 0 --timeout 20 --no-deps -d "$shape_tmp/probe" wheel \
		> /dev/null 2>&1 || skip "pip reaches no package index"
}

# make_venv DIRECTORY OPTIONS... -- PACKAGES...
make_venv() {
	venv=$1
	shift
	options=
	while [ "$1" != -- ]; do
		options="$options $1"
		shift
	done
	shift
	# shellcheck disable=SC2086 # a list of words
	"$KVT_PYTHON" -m venv $options "$venv" || exit 99
	[ $# -eq 0 ] || "$venv/bin/pip" -q install --disable-pip-version-check "$@" || exit 99
}
