#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The conformance tests of fabric.h on the fabric between processes of one host: where they may read each other's
# memory, and where they may not.
export KVT_TEST_PROVIDER=local
run="${KVT_SRCDIR:?}/tests/support/run_check.sh $KVT_BUILDDIR/tests/fabric/check_fabric"
$run && KVT_TEST_NO_PULLING=1 exec $run
