#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Checksums on libfabric's tcp.
KVT_TEST_PROVIDER=tcp exec "${KVT_SRCDIR:?}/tests/support/run_check.sh" "$KVT_BUILDDIR/tests/integration/check_flip"
