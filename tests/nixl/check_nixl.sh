#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The plugin under NIXL as it is installed from a package index, the newest and older ones: what engines do with it, and that a
# NIXL which does not fit is refused.
. "${KVT_SRCDIR:?}/tests/package/package.sh"

plugin=$KVT_BUILDDIR/plugins/nixl/$KVT_OBJDIR/libplugin_KVTRANS.so
[ -e "$plugin" ] || skip "configured without the plugin for NIXL"
need_python
need_index

# make_nixl NAME VERSION: a venv with that NIXL, and without what it asks for and these tests do not.
make_nixl() {
	make_venv "$shape_tmp/$1" -- numpy
	"$shape_tmp/$1/bin/pip" -q install --disable-pip-version-check --no-deps "nixl-cu12$2" ||
		skip "pip has no nixl-cu12$2 for this Python"
}

# with_nixl NAME COMMAND...: the command, with that NIXL's Python and a folder of its plugins and ours.
with_nixl() {
	venv=$shape_tmp/$1
	shift
	folder=$venv/plugins
	mkdir -p "$folder"
	ln -sf "$plugin" "$folder"
	PYTHONPATH=$stubs KVTRANS_INTERFACES=lo XDG_CONFIG_HOME=$shape_tmp/config NIXL_PLUGIN_DIR=$folder NIXL_LOG_LEVEL=ERROR \
		timeout 200 "$venv/bin/python" "$@"
}

# Older ones import torch, to know its tensors by their type; none comes along here.
mkdir "$shape_tmp/stubs"
echo 'class Tensor: pass' > "$shape_tmp/stubs/torch.py"

stubs=
make_nixl newest ''
with_nixl newest "$KVT_SRCDIR/tests/nixl/test_agents.py" > "$shape_tmp/said" 2>&1 ||
	[ "$(grep -c '^FAIL: ' "$shape_tmp/said")" -gt 0 ] || echo "FAIL: it ended with status $?" >> "$shape_tmp/said"
grep -E '^(ok|FAIL): ' "$shape_tmp/said" >> "$shape_tmp/results"
cat "$shape_tmp/said"

stubs=$shape_tmp/stubs
make_nixl older ==1.2.0
does "NIXL 1.2.0 loads it, and writes" with_nixl older "$KVT_SRCDIR/tests/nixl/test_agents.py" write
make_nixl old ==0.10.1
refuses "NIXL 0.10.1 is refused with a sentence" "this plugin is for NIXL 1.0.0" \
	with_nixl old "$KVT_SRCDIR/tests/nixl/test_agents.py" write
finish
