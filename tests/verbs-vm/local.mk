# SPDX-License-Identifier: Apache-2.0
# The tests on verbs, in a virtual machine. Not a part of make check: see README.md here.

.PHONY: check-verbs verbs-shell

check-verbs: all-am
	$(MAKE) $(AM_MAKEFLAGS) $(check_PROGRAMS) $(check_DATA)
	. ./tests/env.sh && exec $(top_srcdir)/tests/verbs-vm/run.sh tests

verbs-shell: all-am
	$(MAKE) $(AM_MAKEFLAGS) $(check_PROGRAMS) $(check_DATA)
	. ./tests/env.sh && exec $(top_srcdir)/tests/verbs-vm/run.sh shell

clean-local: clean-verbs
clean-verbs:
	rm -rf tests/verbs-vm/work tests/verbs-vm/initramfs.gz tests/verbs-vm/vmlinuz

EXTRA_DIST += \
	tests/verbs-vm/README.md \
	tests/verbs-vm/guest.sh \
	tests/verbs-vm/init \
	tests/verbs-vm/make_initramfs.sh \
	tests/verbs-vm/run.sh
