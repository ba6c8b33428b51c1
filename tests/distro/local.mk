# SPDX-License-Identifier: Apache-2.0
# What others make of a release: packages, and other distributions. Not a part of make check: it installs
# what it needs.

.PHONY: check-debian check-distro

check-debian: dist
	$(top_srcdir)/tests/distro/check_debian.sh $(distdir).tar.xz

# Of DISTROS="trixie sid", or one of them. Where it cannot be done the last line says why.
check-distro:
	. ./tests/env.sh && $(top_srcdir)/tests/distro/check_distro.sh $(DISTROS) || test $$? -eq 77

EXTRA_DIST += \
	debian/changelog \
	debian/control \
	debian/copyright \
	debian/kvtrans-utils.install \
	debian/libkvtrans-dev.install \
	debian/libkvtrans0.install \
	debian/libkvtrans0.symbols \
	debian/not-installed \
	debian/python3-kvtrans.install \
	debian/rules \
	debian/source/format \
	debian/tests/control \
	debian/tests/readme \
	tests/distro/check_debian.sh \
	tests/distro/check_distro.sh \
	tests/distro/in_root.sh
