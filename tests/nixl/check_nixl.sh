#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The plugin under NIXL as it is installed from a package index, the newest and older ones: what engines do with it, and that a
# NIXL which does not fit is refused.
. "${KVT_SRCDIR:?}/tests/package/package.sh"

[ -e "$KVT_BUILDDIR/stage/kvtrans_engine/libplugin_KVTRANS.so" ] || skip "configured without the plugin for NIXL"
need_python
need_index

# make_nixl NAME VERSION: a venv with that NIXL, and without what it asks for and these tests do not.
make_nixl() {
	make_venv "$shape_tmp/$1" -- numpy
	"$shape_tmp/$1/bin/pip" -q install --disable-pip-version-check --no-deps "nixl-cu12$2" ||
		skip "pip has no nixl-cu12$2 for this Python"
}

# with_nixl NAME COMMAND...: the command, with that NIXL's Python and the folder that users make of its plugins and ours.
with_nixl() {
	venv=$shape_tmp/$1
	shift
	plugins=$(echo "$venv"/lib/python*/site-packages/.nixl_cu12.mesonpy.libs/plugins)
	folder=$(PYTHONPATH=$KVT_BUILDDIR/stage XDG_CACHE_HOME=$shape_tmp/cache \
		"$KVT_PYTHON" -m kvtrans_engine nixl --plugins "$plugins") || return 1
	(
		eval "$folder"
		PYTHONPATH=$stubs KVTRANS_INTERFACES=lo XDG_CONFIG_HOME=$shape_tmp/config NIXL_LOG_LEVEL=ERROR \
			UCX_TLS=tcp timeout 200 "$venv/bin/python" "$@"
	)
}

# Older ones import torch, to know its tensors by their type; none comes along here.
mkdir "$shape_tmp/stubs"
echo 'class Tensor: pass' > "$shape_tmp/stubs/torch.py"

stubs=
make_nixl newest ''
for test in test_agents.py test_engines.py; do
	with_nixl newest "$KVT_SRCDIR/tests/nixl/$test" > "$shape_tmp/said" 2>&1 ||
		grep -q '^FAIL: ' "$shape_tmp/said" || echo "FAIL: $test did not end well" >> "$shape_tmp/said"
	grep -E '^(ok|FAIL): ' "$shape_tmp/said" >> "$shape_tmp/results"
	cat "$shape_tmp/said"
done

stubs=$shape_tmp/stubs
make_nixl older ==1.2.0
does "NIXL 1.2.0 loads it, and writes" with_nixl older "$KVT_SRCDIR/tests/nixl/test_agents.py" write
make_nixl old ==0.10.1
refuses "NIXL 0.10.1 is refused with a sentence" "this plugin is for NIXL 1.0.0" \
	with_nixl old "$KVT_SRCDIR/tests/nixl/test_agents.py" write
finish
