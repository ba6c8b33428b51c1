# SPDX-License-Identifier: Apache-2.0
# Examples. The C one is compiled by make check, so that it cannot fall behind the header.

check_PROGRAMS += examples/send_receive
examples_send_receive_SOURCES = examples/send_receive.c
examples_send_receive_LDADD = src/libkvtrans.la

EXTRA_DIST += \
	examples/README.md \
	examples/bulk.py \
	examples/disaggregated.py \
	examples/peer.py \
	examples/terminal.py \
	examples/tinyllama.py
