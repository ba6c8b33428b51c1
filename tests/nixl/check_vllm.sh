#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# vLLM and LMCache, as pip installs them, over the plugin. They are kept in the user's cache.
. "${KVT_SRCDIR:?}/tests/package/package.sh"

[ -e "$KVT_BUILDDIR/stage/kvtrans_engine/libplugin_KVTRANS.so" ] || skip "configured without the plugin for NIXL"
need_python

# with_engine FILE: a program that says "ok: ..." and "FAIL: ...", or ends with 77 when what it needs cannot be had.
with_engine() {
	status=0
	PYTHONPATH=$KVT_BUILDDIR/stage "$KVT_PYTHON" -u "$@" > "$shape_tmp/said" 2>&1 || status=$?
	cat "$shape_tmp/said"
	[ "$status" -ne 77 ] || skip "vLLM on a CPU cannot be had here: $(grep -vE '^making | [.]{3} ' "$shape_tmp/said" | head -n 1)"
	[ "$status" -eq 0 ] || grep -q '^FAIL: ' "$shape_tmp/said" || echo "FAIL: $1 ended with $status" >> "$shape_tmp/said"
	grep -E '^(ok|FAIL): ' "$shape_tmp/said" >> "$shape_tmp/results"
}

with_engine tests/nixl/test_vllm.py
does "LMCache's benchmark of its transfer channels is verified over it" \
	env PYTHONPATH="$KVT_BUILDDIR/stage" "$KVT_PYTHON" examples/lmcache/run.py --backends KVTRANS --turns 1
finish
