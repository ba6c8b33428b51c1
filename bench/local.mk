# SPDX-License-Identifier: Apache-2.0
# One driver, two programs: kvtrans-perf is installed and uses the public API alone; raw, the baselines it is compared
# with, is not.

bin_PROGRAMS += bench/kvtrans-perf
noinst_PROGRAMS += bench/raw

KVI_BENCH_SOURCES = \
	bench/perf.c \
	bench/perf.h \
	bench/perf_options.c \
	bench/perf_pool.c \
	bench/perf_pool.h \
	bench/perf_report.c \
	bench/perf_report.h \
	bench/perf_run.c \
	bench/perf_talk.c \
	bench/perf_tools.c \
	bench/perf_tools.h

bench_kvtrans_perf_SOURCES = $(KVI_BENCH_SOURCES) \
	bench/kvtrans_perf.c \
	bench/path_kvtrans.c \
	bench/path_kvtrans.h \
	bench/path_kvtrans_conns.c
bench_kvtrans_perf_CPPFLAGS = -I$(top_srcdir)/include
bench_kvtrans_perf_LDADD = src/libkvtrans.la -lm

bench_raw_SOURCES = $(KVI_BENCH_SOURCES) \
	bench/path_copy.c \
	bench/path_libfabric.c \
	bench/path_socket.c \
	bench/raw.c
bench_raw_CPPFLAGS = -I$(top_srcdir)/src $(LIBFABRIC_CFLAGS)
bench_raw_LDADD = src/libkvi_base.la $(LIBFABRIC_LIBS) -lm
if HAVE_UCX
bench_raw_SOURCES += bench/path_ucx.c
bench_raw_CPPFLAGS += -DHAVE_UCX $(UCX_CFLAGS)
bench_raw_LDADD += $(UCX_LIBS)
endif

EXTRA_DIST += \
	bench/README.md \
	bench/cases.py \
	bench/compare \
	bench/compare.svg \
	bench/local.svg \
	bench/peers.py \
	bench/plot.py \
	bench/scale \
	bench/scale.svg \
	bench/strangers \
	bench/table.py \
	bench/turns.py
