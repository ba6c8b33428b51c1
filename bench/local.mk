# SPDX-License-Identifier: Apache-2.0
# kvtrans-perf is installed and uses the public API alone; the baselines it is compared with are not.

bin_PROGRAMS += bench/kvtrans-perf
noinst_PROGRAMS += bench/raw_fabric bench/raw_socket

KVI_BENCH_SOURCES = \
	bench/perf_measure.c \
	bench/perf_measure.h \
	bench/perf_pool.c \
	bench/perf_pool.h \
	bench/perf_report.c \
	bench/perf_report.h \
	bench/perf_text.c \
	bench/perf_text.h

bench_kvtrans_perf_SOURCES = $(KVI_BENCH_SOURCES) \
	bench/kvtrans_perf.c \
	bench/perf_job.c \
	bench/perf_job.h \
	bench/perf_options.c \
	bench/perf_options.h \
	bench/perf_paged.c \
	bench/perf_paged.h \
	bench/perf_paged_lead.c \
	bench/perf_paged_serve.c \
	bench/perf_peer.c \
	bench/perf_peer.h \
	bench/perf_probe.c \
	bench/perf_probe.h \
	bench/perf_rounds.c \
	bench/perf_rounds.h \
	bench/perf_stream.c \
	bench/perf_stream.h
bench_kvtrans_perf_CPPFLAGS = -I$(top_srcdir)/include
bench_kvtrans_perf_LDADD = src/libkvtrans.la

# What the baselines share.
KVI_RAW_SOURCES = $(KVI_BENCH_SOURCES) \
	bench/raw_paged.c \
	bench/raw_paged.h \
	bench/raw_run.c \
	bench/raw_run.h

bench_raw_fabric_SOURCES = $(KVI_RAW_SOURCES) \
	bench/raw_fabric.c \
	bench/raw_link.c \
	bench/raw_link.h \
	bench/raw_pages.c \
	bench/raw_pages.h
bench_raw_fabric_CPPFLAGS = $(LIBFABRIC_CFLAGS)
bench_raw_fabric_LDADD = $(LIBFABRIC_LIBS)

bench_raw_socket_SOURCES = $(KVI_RAW_SOURCES) \
	bench/raw_gather.c \
	bench/raw_gather.h \
	bench/raw_socket.c \
	bench/raw_tcp.c \
	bench/raw_tcp.h
bench_raw_socket_CPPFLAGS =

if HAVE_UCX
noinst_PROGRAMS += bench/raw_ucx
endif

bench_raw_ucx_SOURCES = $(KVI_RAW_SOURCES) \
	bench/raw_ucx.c
bench_raw_ucx_CPPFLAGS = $(UCX_CFLAGS)
bench_raw_ucx_LDADD = $(UCX_LIBS)

EXTRA_DIST += \
	bench/README.md \
	bench/compare \
	bench/paged_cases.py \
	bench/paged_compare.py \
	bench/paged_peer.py \
	bench/paged_plot.py \
	bench/paged_table.py \
	bench/peer_mooncake.py \
	bench/peer_nixl.py \
	bench/python_paged.py \
	bench/python_send.py \
	bench/turns.py
