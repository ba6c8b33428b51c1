# SPDX-License-Identifier: Apache-2.0
# The tests on verbs, in a virtual machine. Not a part of make check: see README.md here.

.PHONY: check-verbs check-verbs-long check-verbs-pair verbs-shell bench-verbs

# What cannot run here is skipped, as by make check: the last line says why.
VERBS_VM = . ./tests/env.sh && $(top_srcdir)/tests/verbs-vm/run.sh

verbs-vm-programs: all-am
	$(MAKE) $(AM_MAKEFLAGS) $(check_PROGRAMS) $(check_DATA)
.PHONY: verbs-vm-programs

check-verbs: verbs-vm-programs
	$(VERBS_VM) tests || test $$? -eq 77

check-verbs-long: verbs-vm-programs
	$(VERBS_VM) long || test $$? -eq 77

check-verbs-pair: verbs-vm-programs
	$(VERBS_VM) pair || test $$? -eq 77

verbs-shell: verbs-vm-programs
	$(VERBS_VM) shell

# The ratios of KVTrans to libfabric on verbs; its exit status is that of compare.
bench-verbs: verbs-vm-programs
	@$(VERBS_VM) shell '$(abs_top_srcdir)/bench/compare --verbs --bindir bench $(BENCH_FLAGS); \
		echo $$? >$$WORK/status' && exit $$(cat tests/verbs-vm/work/status)

clean-local: clean-verbs
clean-verbs:
	rm -rf tests/verbs-vm/work tests/verbs-vm/initramfs.gz tests/verbs-vm/vmlinuz

EXTRA_DIST += \
	tests/verbs-vm/README.md \
	tests/verbs-vm/guest.sh \
	tests/verbs-vm/init \
	tests/verbs-vm/make_initramfs.sh \
	tests/verbs-vm/run.sh
