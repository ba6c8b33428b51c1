# SPDX-License-Identifier: Apache-2.0
# The plugin under NIXL, and under engines, as users have them, in venvs made from a package index.

NIXL_TESTS = tests/nixl/check_nixl.sh
VLLM_TESTS = tests/nixl/check_vllm.sh

.PHONY: check-nixl check-vllm
check-nixl: all-am stage.stamp
	. ./tests/env.sh && $(SHELL) $(top_srcdir)/tests/package/run.sh $(NIXL_TESTS)
check-vllm: all-am stage.stamp
	. ./tests/env.sh && KVT_TEST_LIMIT=3600 $(SHELL) $(top_srcdir)/tests/package/run.sh $(VLLM_TESTS)

EXTRA_DIST += \
	$(NIXL_TESTS) $(VLLM_TESTS) \
	tests/nixl/agents.py \
	tests/nixl/bench_backends.py \
	tests/nixl/cases.py \
	tests/nixl/test_agents.py \
	tests/nixl/test_engines.py \
	tests/nixl/test_vllm.py
