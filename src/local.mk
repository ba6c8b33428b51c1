# SPDX-License-Identifier: Apache-2.0
# libkvtrans: one convenience library per layer, and one per room of the engine, lowest first. Each sees those below it
# only; tests/layers links each of them with just those, so that an upward call fails.

KVI_BASE = src/libkvi_base.la
KVI_WIRE = src/libkvi_wire.la $(KVI_BASE)
KVI_FABRIC = src/libkvi_fabric.la $(KVI_BASE) $(LIBFABRIC_LIBS) $(HWLOC_LIBS)
KVI_AUTH = src/libkvi_auth.la $(KVI_WIRE) $(SODIUM_LIBS)
KVI_CORE = src/libkvi_core.la src/libkvi_auth.la src/libkvi_wire.la $(KVI_FABRIC) $(SODIUM_LIBS)
KVI_PROGRESS = src/libkvi_progress.la $(KVI_CORE)
KVI_LANE = src/libkvi_lane.la $(KVI_PROGRESS)
KVI_TRANSFER = src/libkvi_transfer.la $(KVI_LANE)
KVI_TAGGED = src/libkvi_tagged.la $(KVI_TRANSFER)
KVI_PAGED = src/libkvi_paged.la $(KVI_TRANSFER)
KVI_CONN = src/libkvi_conn.la src/libkvi_tagged.la src/libkvi_paged.la $(KVI_TRANSFER)
KVI_ALL = src/libkvi_engine.la $(KVI_CONN)

noinst_LTLIBRARIES += \
	src/libkvi_base.la \
	src/libkvi_wire.la \
	src/libkvi_fabric.la \
	src/libkvi_auth.la \
	src/libkvi_core.la \
	src/libkvi_progress.la \
	src/libkvi_lane.la \
	src/libkvi_transfer.la \
	src/libkvi_tagged.la \
	src/libkvi_paged.la \
	src/libkvi_conn.la \
	src/libkvi_engine.la

KVI_CFLAGS = $(AM_CFLAGS) -fvisibility=hidden

src_libkvi_base_la_CFLAGS = $(KVI_CFLAGS)
src_libkvi_base_la_SOURCES = \
	src/base/alloc.c \
	src/base/alloc.h \
	src/base/bytes.h \
	src/base/clock.c \
	src/base/clock.h \
	src/base/copy.c \
	src/base/copy.h \
	src/base/error.c \
	src/base/error.h \
	src/base/file.c \
	src/base/file.h \
	src/base/hash.h \
	src/base/list.h \
	src/base/log.c \
	src/base/log.h \
	src/base/mailbox.c \
	src/base/mailbox.h \
	src/base/sized.c \
	src/base/sized.h \
	src/base/sum.c \
	src/base/sum.h \
	src/base/table.c \
	src/base/table.h \
	src/base/thread.c \
	src/base/thread.h \
	src/base/timers.c \
	src/base/timers.h \
	src/base/wake.c \
	src/base/wake.h

src_libkvi_wire_la_CFLAGS = $(KVI_CFLAGS)
src_libkvi_wire_la_SOURCES = \
	src/wire/address.c \
	src/wire/decode.c \
	src/wire/descriptor.c \
	src/wire/encode.c \
	src/wire/layout.h \
	src/wire/wire.h

# The only code that is given libfabric's flags.
src_libkvi_fabric_la_CPPFLAGS = $(AM_CPPFLAGS) $(LIBFABRIC_CFLAGS) $(HWLOC_CFLAGS)
src_libkvi_fabric_la_CFLAGS = $(KVI_CFLAGS)
src_libkvi_fabric_la_SOURCES = \
	src/fabric/context.c \
	src/fabric/cq.c \
	src/fabric/domain.c \
	src/fabric/environment.c \
	src/fabric/fabric.c \
	src/fabric/fabric.h \
	src/fabric/fabrics.c \
	src/fabric/flow.c \
	src/fabric/host.c \
	src/fabric/interface.c \
	src/fabric/interface.h \
	src/fabric/internal.h \
	src/fabric/lane.c \
	src/fabric/listen.c \
	src/fabric/local/cq.c \
	src/fabric/local/lane.c \
	src/fabric/local/listen.c \
	src/fabric/local/local.c \
	src/fabric/local/local.h \
	src/fabric/local/map.c \
	src/fabric/local/memory.c \
	src/fabric/local/post.c \
	src/fabric/local/pull.c \
	src/fabric/local/put.c \
	src/fabric/local/rail.c \
	src/fabric/local/ring.c \
	src/fabric/local/ring.h \
	src/fabric/local/share.c \
	src/fabric/local/take.c \
	src/fabric/memory.c \
	src/fabric/mute.c \
	src/fabric/near.c \
	src/fabric/ofi.c \
	src/fabric/post.c \
	src/fabric/profile.c \
	src/fabric/profile.h \
	src/fabric/queue.c \
	src/fabric/rail.c \
	src/fabric/socket.c \
	src/fabric/strays.c \
	src/fabric/survey.c \
	src/fabric/survey.h \
	src/fabric/table.h

src_libkvi_auth_la_CPPFLAGS = $(AM_CPPFLAGS) $(SODIUM_CFLAGS)
src_libkvi_auth_la_CFLAGS = $(KVI_CFLAGS)
src_libkvi_auth_la_SOURCES = \
	src/auth/handshake.c \
	src/auth/handshake.h \
	src/auth/key_file.c \
	src/auth/key_file.h \
	src/auth/keys.c \
	src/auth/keyring.c \
	src/auth/keyring.h \
	src/auth/openings.c \
	src/auth/openings.h \
	src/auth/keys.h \
	src/auth/noise.c \
	src/auth/noise.h \
	src/auth/secure.c \
	src/auth/secure.h \
	src/auth/vault.c \
	src/auth/vault.h

# The rooms of the engine, lowest first; src/engine itself is above all of them.
src_libkvi_core_la_CPPFLAGS = $(AM_CPPFLAGS) $(SODIUM_CFLAGS)
src_libkvi_core_la_CFLAGS = $(KVI_CFLAGS)
src_libkvi_core_la_SOURCES = \
	src/engine/core/abi.c \
	src/engine/core/abi.h \
	src/engine/core/conn.c \
	src/engine/core/conn.h \
	src/engine/core/engine.c \
	src/engine/core/engine.h \
	src/engine/core/path.c \
	src/engine/core/path.h \
	src/engine/core/ref.h \
	src/engine/core/secrets.c \
	src/engine/core/secrets.h \
	src/engine/core/settings.c \
	src/engine/core/settings.h \
	src/engine/core/stats.c \
	src/engine/core/stats.h

src_libkvi_progress_la_CPPFLAGS = $(AM_CPPFLAGS) $(SODIUM_CFLAGS)
src_libkvi_progress_la_CFLAGS = $(KVI_CFLAGS)
src_libkvi_progress_la_SOURCES = \
	src/engine/progress/shard.h \
	src/engine/progress/patience.c \
	src/engine/progress/patience.h \
	src/engine/progress/sleep.c \
	src/engine/progress/worker.c \
	src/engine/progress/worker.h

src_libkvi_lane_la_CPPFLAGS = $(AM_CPPFLAGS) $(SODIUM_CFLAGS)
src_libkvi_lane_la_CFLAGS = $(KVI_CFLAGS)
src_libkvi_lane_la_SOURCES = \
	src/engine/lane/chore.h \
	src/engine/lane/flight.c \
	src/engine/lane/flight.h \
	src/engine/lane/link.c \
	src/engine/lane/link.h \
	src/engine/lane/packet_sum.c \
	src/engine/lane/packet_sum.h \
	src/engine/lane/registration.c \
	src/engine/lane/registration.h

src_libkvi_transfer_la_CPPFLAGS = $(AM_CPPFLAGS) $(SODIUM_CFLAGS)
src_libkvi_transfer_la_CFLAGS = $(KVI_CFLAGS)
src_libkvi_transfer_la_SOURCES = \
	src/engine/transfer/inbox.c \
	src/engine/transfer/inbox.h \
	src/engine/transfer/motion.c \
	src/engine/transfer/motion.h \
	src/engine/transfer/spread.c \
	src/engine/transfer/spread.h \
	src/engine/transfer/transfer.c \
	src/engine/transfer/transfer.h

src_libkvi_tagged_la_CPPFLAGS = $(AM_CPPFLAGS) $(SODIUM_CFLAGS)
src_libkvi_tagged_la_CFLAGS = $(KVI_CFLAGS)
src_libkvi_tagged_la_SOURCES = \
	src/engine/tagged/tag_queue.c \
	src/engine/tagged/tag_queue.h \
	src/engine/tagged/tagged.c \
	src/engine/tagged/tagged.h \
	src/engine/tagged/kv.c \
	src/engine/tagged/kv.h \
	src/engine/tagged/recv.c \
	src/engine/tagged/recv.h \
	src/engine/tagged/send.c \
	src/engine/tagged/send.h \
	src/engine/tagged/start_window.c \
	src/engine/tagged/start_window.h \
	src/engine/tagged/verify.c \
	src/engine/tagged/verify.h

src_libkvi_paged_la_CPPFLAGS = $(AM_CPPFLAGS) $(SODIUM_CFLAGS)
src_libkvi_paged_la_CFLAGS = $(KVI_CFLAGS)
src_libkvi_paged_la_SOURCES = \
	src/engine/paged/read_request.c \
	src/engine/paged/read_request.h \
	src/engine/paged/check.c \
	src/engine/paged/check.h \
	src/engine/paged/export.c \
	src/engine/paged/notification.c \
	src/engine/paged/notification.h \
	src/engine/paged/grid.c \
	src/engine/paged/grid.h \
	src/engine/paged/import.c \
	src/engine/paged/import.h \
	src/engine/paged/paged.c \
	src/engine/paged/paged.h \
	src/engine/paged/pages.c \
	src/engine/paged/plan.c \
	src/engine/paged/plan.h \
	src/engine/paged/pool.c \
	src/engine/paged/pool.h \
	src/engine/paged/pool_memory.c \
	src/engine/paged/remote.c \
	src/engine/paged/request.c \
	src/engine/paged/carried.c \
	src/engine/paged/carried.h \
	src/engine/paged/exports.c \
	src/engine/paged/exports.h \
	src/engine/paged/staging.c \
	src/engine/paged/staging.h

src_libkvi_conn_la_CPPFLAGS = $(AM_CPPFLAGS) $(SODIUM_CFLAGS)
src_libkvi_conn_la_CFLAGS = $(KVI_CFLAGS)
src_libkvi_conn_la_SOURCES = \
	src/engine/conn/complaints.c \
	src/engine/conn/complaints.h \
	src/engine/conn/control.c \
	src/engine/conn/control.h \
	src/engine/conn/dial.c \
	src/engine/conn/dial.h \
	src/engine/conn/dialer.c \
	src/engine/conn/dialer.h \
	src/engine/conn/life.c \
	src/engine/conn/life.h \
	src/engine/conn/offer.c \
	src/engine/conn/offer.h \
	src/engine/conn/path.c \
	src/engine/conn/path.h \
	src/engine/conn/session.c \
	src/engine/conn/session.h \
	src/engine/conn/strangers.c \
	src/engine/conn/strangers.h \
	src/engine/conn/stream.c \
	src/engine/conn/stream.h \
	src/engine/conn/target.c \
	src/engine/conn/target.h

src_libkvi_engine_la_CPPFLAGS = $(AM_CPPFLAGS) $(SODIUM_CFLAGS)
src_libkvi_engine_la_CFLAGS = $(KVI_CFLAGS)
src_libkvi_engine_la_SOURCES = \
	src/engine/engine.c \
	src/engine/messages.c \
	src/engine/messages.h

# -version-info current:revision:age. A release that adds functions: current + 1, revision 0, age + 1;
# one that removes or changes any: current + 1, 0, 0; else revision + 1.
lib_LTLIBRARIES += src/libkvtrans.la
include_HEADERS = include/kvtrans.h include/kvtrans_base.h include/kvtrans_paged.h
pkgconfigdir = $(libdir)/pkgconfig
pkgconfig_DATA = src/kvtrans.pc

src_libkvtrans_la_SOURCES =
src_libkvtrans_la_LIBADD = $(KVI_ALL)
src_libkvtrans_la_LDFLAGS = $(AM_LDFLAGS) $(NO_UNDEFINED_LDFLAGS) -no-undefined -version-info 0:0:0 \
	-Wl,--version-script=$(top_srcdir)/src/libkvtrans.map
EXTRA_src_libkvtrans_la_DEPENDENCIES = src/libkvtrans.map
EXTRA_DIST += src/libkvtrans.map

# No .la: it helps libtool alone, and names the .la files of all that we link with. Without it libtool does
# not know what to uninstall.
install-exec-hook:
	rm -f "$(DESTDIR)$(libdir)/libkvtrans.la"
uninstall-hook:
	cd "$(DESTDIR)$(libdir)" && rm -f $$(sed -n \
		"s/^library_names='\(.*\)'/\1/p; s/^old_library='\(.*\)'/\1/p" $(abs_top_builddir)/src/libkvtrans.la)
