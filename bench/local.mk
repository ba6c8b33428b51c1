# SPDX-License-Identifier: Apache-2.0
# kvtrans-perf is installed and uses the public API alone; raw, the baselines it is compared with, is not.

bin_PROGRAMS += bench/kvtrans-perf
noinst_PROGRAMS += bench/raw

# What both share: the job, the memory, the clock, the run, the result.
KVI_BENCH_SOURCES = \
	bench/perf_job.c \
	bench/perf_job.h \
	bench/perf_measure.c \
	bench/perf_measure.h \
	bench/perf_pool.c \
	bench/perf_pool.h \
	bench/perf_report.c \
	bench/perf_report.h \
	bench/perf_run.c \
	bench/perf_run.h \
	bench/perf_text.c \
	bench/perf_text.h

bench_kvtrans_perf_SOURCES = $(KVI_BENCH_SOURCES) \
	bench/kvtrans_perf.c \
	bench/perf_kvtrans.c \
	bench/perf_kvtrans.h \
	bench/perf_probe.c \
	bench/perf_probe.h \
	bench/perf_stopped.c \
	bench/perf_stopped.h
bench_kvtrans_perf_CPPFLAGS = -I$(top_srcdir)/include
bench_kvtrans_perf_LDADD = src/libkvtrans.la

bench_raw_SOURCES = $(KVI_BENCH_SOURCES) \
	bench/raw.c \
	bench/raw.h \
	bench/raw_libfabric.c \
	bench/raw_socket.c
bench_raw_CPPFLAGS = $(LIBFABRIC_CFLAGS)
bench_raw_LDADD = $(LIBFABRIC_LIBS)
if HAVE_UCX
bench_raw_SOURCES += bench/raw_ucx.c
bench_raw_CPPFLAGS += -DHAVE_UCX $(UCX_CFLAGS)
bench_raw_LDADD += $(UCX_LIBS)
endif

EXTRA_DIST += \
	bench/README.md \
	bench/cases.py \
	bench/compare \
	bench/compare.svg \
	bench/peers.py \
	bench/plot.py \
	bench/scale \
	bench/scale.svg \
	bench/table.py \
	bench/turns.py
