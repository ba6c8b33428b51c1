# SPDX-License-Identifier: Apache-2.0
# What a user gets: of configure, make install and pip. Those that need no network are a part of make check.

QUICK_PACKAGE_TESTS = \
	tests/package/check_install.sh \
	tests/package/check_paths.sh
PACKAGE_TESTS = \
	$(QUICK_PACKAGE_TESTS) \
	tests/package/check_numpy.sh \
	tests/package/check_pip.sh
SHELL_TESTS += $(QUICK_PACKAGE_TESTS)

.PHONY: check-package
check-package: all-am
	. ./tests/env.sh && $(SHELL) $(top_srcdir)/tests/package/run.sh $(PACKAGE_TESTS)

EXTRA_DIST += \
	$(PACKAGE_TESTS) \
	tests/package/package.sh \
	tests/package/run.sh
