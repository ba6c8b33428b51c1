#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Checksums on libfabric's sockets.
KVT_TEST_PROVIDER=sockets exec "${KVT_SRCDIR:?}/tests/support/run_check.sh" "$KVT_BUILDDIR/tests/integration/check_flip"
