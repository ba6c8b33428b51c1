#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The direction of includes. That no layer calls upward is held by linking, see tests/layers in local.mk.
. "${KVT_SRCDIR:?}/tests/shape/shape.sh"

# may_include LAYER DIRS: files of src/LAYER include ours from DIRS only.
may_include() {
	grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]+"' "src/$1"/*.[ch] |
		grep -vE "\"($2)/" | holds "src/$1 includes from $2 only"
}

may_include base 'base'
may_include wire 'base|wire'
may_include fabric 'base|fabric'
may_include fabric/local 'base|fabric'
find src/fabric -mindepth 1 -type d | grep -vx src/fabric/local | holds "src/fabric has one folder, a fabric of its own"
may_include auth 'base|wire|auth'
may_include engine 'base|wire|fabric|auth|engine'

# The rooms of the engine. What is in src/engine itself sees all of them; tagged and paged do not see each other.
may_include engine/core 'base|wire|fabric|auth|engine/(core)'
may_include engine/progress 'base|wire|fabric|engine/(progress|core)'
may_include engine/lane 'base|wire|fabric|engine/(lane|core|progress)'
may_include engine/transfer 'base|wire|fabric|engine/(transfer|core|progress|lane)'
may_include engine/tagged 'base|wire|fabric|engine/(tagged|core|progress|lane|transfer)'
may_include engine/paged 'base|wire|fabric|engine/(paged|core|progress|lane|transfer)'
may_include engine/conn 'base|wire|fabric|auth|engine/(conn|core|progress|lane|transfer|tagged|paged)'
find src/engine -mindepth 1 -type d | grep -vxE 'src/engine/(core|progress|lane|transfer|tagged|paged|conn)' | holds "src/engine has the rooms named above"

grep -rnE --include='*.[ch]' '#[[:space:]]*include[[:space:]]+[<"]rdma/' src include python/ext | grep -v '^src/fabric/' |
	holds "libfabric is included in src/fabric only"
grep -nE '\b(fi|fid)_[a-z]|<rdma/' src/fabric/fabric.h | grep -vE '^[0-9]+:[[:space:]]*/?\*|fi_info' |
	holds "fabric.h shows no libfabric type"
grep -nE '"fabric/' src/engine/*.[ch] src/engine/*/*.[ch] | grep -v '"fabric/fabric\.h"' | holds "the engine sees the fabric through fabric.h"
grep -rnE --include='*.[ch]' 'Python\.h|numpy/' src include | holds "the C library knows nothing of Python"
grep -lE '#[[:space:]]*include[[:space:]]+[<"]numpy/' python/ext/*.[ch] 2>/dev/null | sed 1d |
	holds "NumPy's headers are in one file of python/ext"
grep -nE '#[[:space:]]*include[[:space:]]+"(base|wire|fabric|auth|engine)/' python/ext/*.[ch] bench/*.[ch] \
	examples/*.[ch] 2>/dev/null | grep -v '^bench/path_copy\.c:.*"base/copy\.h"' |
	holds "extension, programs and examples use kvtrans.h, no inner header (the limit of a copy: base/copy.h)"
grep -nE '#[[:space:]]*include[[:space:]]+"' tools/*info*.[ch] |
	grep -vE '"(info\.h|base/|wire/|fabric/(fabric|survey)\.h|engine/core/settings\.h)' |
	holds "kvtrans-info sees the fabric through fabric.h and survey.h, and of the engine its settings"
grep -nE '#[[:space:]]*include[[:space:]]+"' tools/*key*.[ch] | grep -vE '"(key\.h|base/|auth/key(s|_file)\.h)' |
	holds "kvtrans-key sees keys and their files"
grep -nE '#[[:space:]]*include[[:space:]]+"' include/*.h | holds "kvtrans.h includes none of ours"
grep -nE '#[[:space:]]*include[[:space:]]+<kvtrans' include/kvtrans_base.h include/kvtrans_paged.h |
	grep -v '^include/kvtrans_paged\.h:.*<kvtrans_base\.h>' |
	holds "no public header includes one that includes it"
finish
