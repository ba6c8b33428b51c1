#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Run one Python test file against the staged package. Needs tests/env.sh. 77 tells automake "skipped".
set -u

skip() {
	echo "SKIP: $*"
	exit 77
}

test -n "$KVT_PYTHON" || skip "configured without Python"
"$KVT_PYTHON" -c 'import pytest' 2>/dev/null || skip "$KVT_PYTHON has no pytest (python3-pytest)"

PYTHONPATH=$KVT_BUILDDIR/stage${PYTHONPATH:+:$PYTHONPATH}
PYTHONDONTWRITEBYTECODE=1
export PYTHONPATH PYTHONDONTWRITEBYTECODE

# Python itself is not built with a sanitizer: its runtime has to be loaded first, and Python's own
# allocator would hide errors from it.
case " $KVT_SANITIZERS " in
*" tsan "*)
	skip "the interpreter is not built for ThreadSanitizer"
	;;
*" asan "*)
	PYTHONMALLOC=malloc
	ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=0
	LD_PRELOAD=$($KVT_CC -print-file-name=libasan.so)
	export PYTHONMALLOC ASAN_OPTIONS LD_PRELOAD
	;;
esac

# What a shell runs in the background has SIGINT ignored, and Python leaves it so: Ctrl-C would do nothing.
exec env --default-signal=INT "$KVT_PYTHON" -m pytest -p no:cacheprovider -ra "$@"
