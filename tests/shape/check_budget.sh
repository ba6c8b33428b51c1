#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Budgets that keep the code readable: sizes, parameters, conditionals, globals.
. "${KVT_SRCDIR:?}/tests/shape/shape.sh"

# Functions that may take a seventh parameter: the seam's two calls that name both an object to make
# and an object to make it in, in each fabric.
many_parameters='memory_open lane_open'

# Mutable globals, each with its reason:
# environment_once: libfabric reads its settings from the environment, which is set once a process.
# first_fork_count: whether RDMA devices were opened by this process, or by one that it was forked from.
# fork_count: what makes a child of fork() refuse its parent's objects; the kernel tells the process.
# log_level: read from KVTRANS_LOG once; a logger in every object would be worse.
globals='environment_once first_fork_count fork_count log_level'

c_files src include python plugins tests bench examples tools > "$shape_tmp/files"

# shellcheck disable=SC2046 # Names of our files have no blanks.
awk 'FNR == 701 { print FILENAME }' $(cat "$shape_tmp/files") | holds "a file has at most 700 lines"

xargs grep -L 'SPDX-License-Identifier: Apache-2\.0' < "$shape_tmp/files" |
	holds "every C file names its licence"
find src python plugins tests bench examples tools docs m4 .ci autogen.sh quickstart configure.ac Makefile.am \
	\( -name '*.py' -o -name '*.pyi' -o -name '*.sh' -o -name '*.mk' -o -name '*.m4' -o -name run -o \
	-name quickstart -o -name configure.ac -o -name Makefile.am \) -type f ! -name 'lt*.m4' \
	! -name libtool.m4 -size +0 -exec grep -L 'SPDX-License-Identifier: Apache-2\.0' {} + |
	holds "every script and fragment names its licence"

# In our style a function's brace stands alone in column 1, and its signature starts there, too.
# shellcheck disable=SC2046
awk -v many=" $many_parameters " '
FNR == 1 { signature = ""; start = 0 }
/^[A-Za-z_].*\(/ && !/;[ \t]*$/ && !/=/ { signature = $0; next }
/^[A-Za-z_#]/ { signature = "" }
/^\{/ && signature != "" {
	start = FNR
	name = signature
	sub(/\(.*/, "", name)
	sub(/.*[ *]/, "", name)
	bare = name
	sub(/^(kvi_ofi|kvi_local|kvi|fake)_/, "", bare)
	list = signature
	sub(/^[^(]*\(/, "", list)
	gsub(/\([^()]*\)/, "", list)
	if (gsub(/,/, ",", list) >= (index(many, " " bare " ") ? 7 : 6))
		print FILENAME ":" start ": " name " has too many parameters"
	signature = ""
	next
}
/^}/ && start > 0 {
	if (FNR - start > 80)
		print FILENAME ":" start ": " name " has " FNR - start " lines"
	start = 0
	next
}
signature != "" { signature = signature $0 }' $(cat "$shape_tmp/files") > "$shape_tmp/functions"
grep ' lines$' "$shape_tmp/functions" | holds "a function has at most 80 lines"
grep ' parameters$' "$shape_tmp/functions" |
	holds "a function has at most six parameters (listed exceptions: seven)"

# shellcheck disable=SC2046
awk '/^#[ \t]*(if|ifdef|ifndef)/ && !/_H$/ { ifs++; where = where " " FILENAME ":" FNR }
END { if (ifs > 0 && ifs * 1000 > 2 * NR) print ifs " in " NR " lines:" where }' $(c_files src) |
	holds "src has at most two conditionals per thousand lines"

for layer in base wire fabric auth core progress lane transfer tagged paged conn engine; do
	objdump -t "$KVT_BUILDDIR/src/$KVT_OBJDIR/libkvi_$layer.a" ||
		echo " O .data	unreadable:libkvi_$layer.a"
done | awk -v known=" $globals " '
	$NF !~ /^\./ && / O / && / \.(bss|data|tbss|tdata)(\.[^ ]*)?\t/ && !/\.data\.rel\.ro/ {
		if (!index(known, " " $NF " "))
			print $NF
	}' | sort | holds "no mutable global but those listed with a reason"
finish
