# SPDX-License-Identifier: Apache-2.0
# libkvtrans: one convenience library per layer, lowest first. A layer sees those above its line only;
# tests/layers links each of them with just those, so that an upward call fails.

KVI_BASE = src/libkvi_base.la
KVI_WIRE = src/libkvi_wire.la $(KVI_BASE)
KVI_FABRIC = src/libkvi_fabric.la $(KVI_BASE) $(LIBFABRIC_LIBS) $(HWLOC_LIBS)
KVI_AUTH = src/libkvi_auth.la $(KVI_WIRE) $(SODIUM_LIBS)
KVI_ALL = src/libkvi_engine.la src/libkvi_auth.la src/libkvi_wire.la src/libkvi_fabric.la $(KVI_BASE) \
	$(LIBFABRIC_LIBS) $(HWLOC_LIBS) $(SODIUM_LIBS)

noinst_LTLIBRARIES += \
	src/libkvi_base.la \
	src/libkvi_wire.la \
	src/libkvi_fabric.la \
	src/libkvi_auth.la \
	src/libkvi_engine.la

KVI_CFLAGS = $(AM_CFLAGS) -fvisibility=hidden

src_libkvi_base_la_CFLAGS = $(KVI_CFLAGS)
src_libkvi_base_la_SOURCES = \
	src/base/alloc.c \
	src/base/alloc.h \
	src/base/bytes.h \
	src/base/clock.c \
	src/base/clock.h \
	src/base/copy.h \
	src/base/error.c \
	src/base/error.h \
	src/base/hash.h \
	src/base/list.h \
	src/base/log.c \
	src/base/log.h \
	src/base/mailbox.c \
	src/base/mailbox.h \
	src/base/sized.c \
	src/base/sized.h \
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
	src/fabric/interface.c \
	src/fabric/internal.h \
	src/fabric/lane.c \
	src/fabric/listen.c \
	src/fabric/memory.c \
	src/fabric/near.c \
	src/fabric/ofi.c \
	src/fabric/post.c \
	src/fabric/profile.c \
	src/fabric/profile.h \
	src/fabric/queue.c \
	src/fabric/rail.c \
	src/fabric/socket.c \
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
	src/auth/keys.h \
	src/auth/noise.c \
	src/auth/noise.h \
	src/auth/secure.c \
	src/auth/secure.h \
	src/auth/vault.c \
	src/auth/vault.h

src_libkvi_engine_la_CPPFLAGS = $(AM_CPPFLAGS) $(SODIUM_CFLAGS)
src_libkvi_engine_la_CFLAGS = $(KVI_CFLAGS)
src_libkvi_engine_la_SOURCES = \
	src/engine/abi.c \
	src/engine/abi.h \
	src/engine/ask.c \
	src/engine/ask.h \
	src/engine/callers.c \
	src/engine/channel.c \
	src/engine/channel.h \
	src/engine/complaints.c \
	src/engine/complaints.h \
	src/engine/conn.c \
	src/engine/conn.h \
	src/engine/conn_core.c \
	src/engine/control.c \
	src/engine/control.h \
	src/engine/dial.c \
	src/engine/engine.c \
	src/engine/engine.h \
	src/engine/exchange.c \
	src/engine/exchange.h \
	src/engine/export.c \
	src/engine/flight.c \
	src/engine/flight.h \
	src/engine/inbox.c \
	src/engine/inbox.h \
	src/engine/kv.c \
	src/engine/kv.h \
	src/engine/life.h \
	src/engine/link.c \
	src/engine/link.h \
	src/engine/messages.c \
	src/engine/messages.h \
	src/engine/motion.c \
	src/engine/motion.h \
	src/engine/notification.c \
	src/engine/notification.h \
	src/engine/offer.c \
	src/engine/offer.h \
	src/engine/owner.c \
	src/engine/paged.c \
	src/engine/paged.h \
	src/engine/pages.c \
	src/engine/part.h \
	src/engine/patience.c \
	src/engine/patience.h \
	src/engine/plan.c \
	src/engine/plan.h \
	src/engine/recv.c \
	src/engine/recv.h \
	src/engine/ref.h \
	src/engine/pool.c \
	src/engine/pool.h \
	src/engine/remote.c \
	src/engine/request.c \
	src/engine/secrets.c \
	src/engine/secrets.h \
	src/engine/send.c \
	src/engine/send.h \
	src/engine/session.c \
	src/engine/session.h \
	src/engine/settings.c \
	src/engine/settings.h \
	src/engine/share.c \
	src/engine/share.h \
	src/engine/spread.c \
	src/engine/spread.h \
	src/engine/stage.c \
	src/engine/stage.h \
	src/engine/stats.c \
	src/engine/stats.h \
	src/engine/strangers.c \
	src/engine/strangers.h \
	src/engine/stream.c \
	src/engine/stream.h \
	src/engine/target.c \
	src/engine/target.h \
	src/engine/transfer.c \
	src/engine/transfer.h \
	src/engine/window.c \
	src/engine/window.h \
	src/engine/sleep.c \
	src/engine/worker.c \
	src/engine/worker.h

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
