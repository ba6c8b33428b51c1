#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Checksums on the local fabric.
KVT_TEST_PROVIDER=local exec "${KVT_SRCDIR:?}/tests/support/run_check.sh" "$KVT_BUILDDIR/tests/integration/check_flip"
