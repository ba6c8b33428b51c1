# SPDX-License-Identifier: Apache-2.0
# NIXL's backend: one module that holds the whole library, so that it can be linked into any folder of plugins. It
# stays loaded: its engines' threads may be at their very end when NIXL unloads it.

NIXL_PLUGIN = plugins/nixl/libplugin_KVTRANS.la

NIXL_PLUGIN_MADE =
if HAVE_NIXL
NIXL_PLUGIN_MADE += $(NIXL_PLUGIN)
noinst_LTLIBRARIES += $(NIXL_PLUGIN)
endif

plugins_nixl_libplugin_KVTRANS_la_SOURCES = \
	plugins/nixl/backend.cc \
	plugins/nixl/backend.h \
	plugins/nixl/interface.h \
	plugins/nixl/peer.cc \
	plugins/nixl/peer.h \
	plugins/nixl/plugin.cc \
	plugins/nixl/request.cc \
	plugins/nixl/request.h \
	plugins/nixl/service.cc \
	plugins/nixl/service.h \
	plugins/nixl/settings.cc \
	plugins/nixl/settings.h
plugins_nixl_libplugin_KVTRANS_la_CPPFLAGS = -I$(top_srcdir)/include
if HAVE_NIXL_HEADERS
plugins_nixl_libplugin_KVTRANS_la_SOURCES += plugins/nixl/layout.cc
plugins_nixl_libplugin_KVTRANS_la_CPPFLAGS += -isystem $(NIXL_HEADERS) -isystem $(NIXL_HEADERS)/utils
endif
plugins_nixl_libplugin_KVTRANS_la_CXXFLAGS = -pthread $(CXX20_FLAG) $(WARN_CXXFLAGS) $(SAN_CFLAGS) $(MAP_CFLAGS) \
	-fvisibility=hidden -fvisibility-inlines-hidden
plugins_nixl_libplugin_KVTRANS_la_LIBADD = $(KVI_ALL)
# -rpath makes libtool link a module and not an archive; nothing is installed by it.
plugins_nixl_libplugin_KVTRANS_la_LDFLAGS = $(AM_LDFLAGS) -module -avoid-version -shared -rpath $(libdir) \
	-Wl,--version-script=$(top_srcdir)/plugins/nixl/plugin.map -Wl,-z,nodelete $(PYTHON_EXT_LDFLAGS)
EXTRA_plugins_nixl_libplugin_KVTRANS_la_DEPENDENCIES = plugins/nixl/plugin.map
EXTRA_DIST += plugins/nixl/plugin.map

nixl_dir = $(DESTDIR)$(libdir)/kvtrans/nixl

.PHONY: install-nixl uninstall-nixl

if HAVE_NIXL
install-nixl: $(NIXL_PLUGIN)
	$(MKDIR_P) "$(nixl_dir)"
	$(INSTALL_PROGRAM) plugins/nixl/$(objdir)/libplugin_KVTRANS.so "$(nixl_dir)"

uninstall-nixl:
	rm -f "$(nixl_dir)/libplugin_KVTRANS.so"
	-test ! -d "$(nixl_dir)" || rmdir -p "$(nixl_dir)" 2>/dev/null

install-exec-local: install-nixl
uninstall-local: uninstall-nixl
endif
