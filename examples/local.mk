# SPDX-License-Identifier: Apache-2.0
# Examples. The C ones are compiled by make check, so that they cannot fall behind the header; it runs the
# one that needs no partner, and test_examples.py the Python ones.

check_PROGRAMS += examples/send_receive examples/write_blocks
examples_send_receive_SOURCES = examples/send_receive.c
examples_send_receive_LDADD = src/libkvtrans.la
examples_write_blocks_SOURCES = examples/write_blocks.c
examples_write_blocks_LDADD = src/libkvtrans.la
TESTS += examples/write_blocks

EXTRA_DIST += \
	examples/README.md \
	examples/async_blocks.py \
	examples/bulk.py \
	examples/connector.py \
	examples/disaggregated.py \
	examples/gguf_llama.py \
	examples/lmcache/run.py \
	examples/one_thread.py \
	examples/peer.py \
	examples/processes.py \
	examples/smollm2.py \
	examples/terminal.py \
	examples/tinyllama.py \
	examples/vllm/environment.py \
	examples/vllm/proxy.py \
	examples/vllm/run.py \
	examples/vllm/servers.py
