#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Formatting and shell habits, where the tools for it are installed.
. "${KVT_SRCDIR:?}/tests/shape/shape.sh"

c_files src include python plugins tests bench examples tools > "$shape_tmp/files"

# Other versions of clang-format lay out some lines differently.
if command -v clang-format-14 >/dev/null; then
	xargs clang-format-14 --dry-run 2>&1 < "$shape_tmp/files" |
		awk -F: '/warning:/ { lines[$1]++ }
			END { for (file in lines) print file ": " lines[file] " places" }' | sort |
		holds "the C files are as clang-format-14 lays them out (make format)"
else
	leave_out "the layout of the C files: clang-format-14 is not installed"
fi
if command -v shellcheck >/dev/null; then
	{
		find tests docs examples bench -name '*.sh' ! -name 'env.sh*'
		echo autogen.sh
		echo quickstart
		echo .ci/run
		echo debian/tests/readme
	} | xargs shellcheck -x 2>&1 | holds "shellcheck has nothing to say"
else
	leave_out "the shell scripts: shellcheck is not installed"
fi

xargs grep -nE ' +$|	+$' < "$shape_tmp/files" | holds "no line ends in a blank"
finish
