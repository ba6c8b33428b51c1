#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The conformance tests of fabric.h on libfabric's sockets.
KVT_TEST_PROVIDER=sockets exec "${KVT_SRCDIR:?}/tests/support/run_check.sh" "$KVT_BUILDDIR/tests/fabric/check_fabric"
