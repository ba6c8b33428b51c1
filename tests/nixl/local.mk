# SPDX-License-Identifier: Apache-2.0
# The plugin under NIXL as users have it, in venvs made from a package index.

NIXL_TESTS = tests/nixl/check_nixl.sh

.PHONY: check-nixl
check-nixl: all-am stage.stamp
	. ./tests/env.sh && $(SHELL) $(top_srcdir)/tests/package/run.sh $(NIXL_TESTS)

EXTRA_DIST += \
	$(NIXL_TESTS) \
	tests/nixl/agents.py \
	tests/nixl/bench_backends.py \
	tests/nixl/cases.py \
	tests/nixl/test_agents.py \
	tests/nixl/test_engines.py
