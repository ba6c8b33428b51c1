# SPDX-License-Identifier: Apache-2.0
# The Python package: one extension module that holds the whole library (so that no other libkvtrans.so
# can come between) and thin Python around it. It is installed by rules of its own: libtool would leave
# a .la and could not name the module as Python wants it.

PYTHON_EXT_SOURCES = \
	python/ext/arrays.c \
	python/ext/close.c \
	python/ext/config.c \
	python/ext/conn.c \
	python/ext/connection.c \
	python/ext/convert.c \
	python/ext/description.c \
	python/ext/dispatch.c \
	python/ext/engine.c \
	python/ext/errors.c \
	python/ext/ext.h \
	python/ext/keys.c \
	python/ext/kv.c \
	python/ext/lock.c \
	python/ext/lock.h \
	python/ext/memory.c \
	python/ext/methods.c \
	python/ext/module.c \
	python/ext/notes.c \
	python/ext/outcome.c \
	python/ext/paged.c \
	python/ext/paged.h \
	python/ext/pool.c \
	python/ext/remote.c \
	python/ext/stats.c \
	python/ext/tensor.c \
	python/ext/transfer.c \
	python/ext/users.c \
	python/ext/watch.c

PYTHON_PACKAGE_FILES = \
	python/kvtrans_engine/__init__.py \
	python/kvtrans_engine/__main__.py \
	python/kvtrans_engine/_dtypes.py \
	python/kvtrans_engine/_kvtrans.pyi \
	python/kvtrans_engine/_nixl.py \
	python/kvtrans_engine/aio.py \
	python/kvtrans_engine/batch.py \
	python/kvtrans_engine/py.typed

EXTRA_DIST += \
	$(PYTHON_PACKAGE_FILES) \
	pyproject.toml \
	python/build_backend.py \
	python/facts.py \
	python/licenses/hwloc.txt \
	python/licenses/libsodium.txt \
	python/licenses/xxhash.txt
PYTHON_MODULE = python/kvtrans_engine/_kvtrans.la

if HAVE_PYTHON
noinst_LTLIBRARIES += $(PYTHON_MODULE)
endif

python_kvtrans_engine__kvtrans_la_SOURCES = $(PYTHON_EXT_SOURCES)
python_kvtrans_engine__kvtrans_la_CPPFLAGS = $(AM_CPPFLAGS) $(PYTHON_CPPFLAGS)
# Nothing declares PyInit__kvtrans but its own definition.
python_kvtrans_engine__kvtrans_la_CFLAGS = $(KVI_CFLAGS) -Wno-missing-prototypes
python_kvtrans_engine__kvtrans_la_LIBADD = $(KVI_ALL)
# -rpath makes libtool link a module and not an archive; nothing is installed there.
python_kvtrans_engine__kvtrans_la_LDFLAGS = $(AM_LDFLAGS) -module -avoid-version -shared \
	-rpath $(libdir) -export-symbols-regex '^PyInit__kvtrans$$' $(PYTHON_EXT_LDFLAGS)
# For a wheel, which has libraries beside the module.
PYTHON_EXT_LDFLAGS =

kvtrans_engine_dir = $(DESTDIR)$(pyexecdir)/kvtrans_engine
kvtrans_engine_info = $(DESTDIR)$(pyexecdir)/kvtrans_engine-$(PACKAGE_VERSION).dist-info

.PHONY: install-python uninstall-python

if HAVE_PYTHON
install-python: $(PYTHON_MODULE) $(NIXL_PLUGIN_MADE)
	$(MKDIR_P) "$(kvtrans_engine_dir)"
	$(INSTALL_PROGRAM) python/kvtrans_engine/$(objdir)/_kvtrans.so \
		"$(kvtrans_engine_dir)/_kvtrans$(PYTHON_EXT_SUFFIX)"
	for file in $(PYTHON_PACKAGE_FILES); do \
		$(INSTALL_DATA) $(srcdir)/$$file "$(kvtrans_engine_dir)" || exit 1; \
	done
	for plugin in $(NIXL_PLUGIN_MADE:.la=.so); do \
		$(INSTALL_PROGRAM) "$${plugin%/*}/$(objdir)/$${plugin##*/}" "$(kvtrans_engine_dir)" || exit 1; \
	done
	$(MKDIR_P) "$(kvtrans_engine_info)/licenses"
	cat python/metadata.txt $(srcdir)/README.md > python/METADATA
	echo make > python/INSTALLER
	$(INSTALL_DATA) python/METADATA python/INSTALLER "$(kvtrans_engine_info)"
	$(INSTALL_DATA) $(srcdir)/LICENSE "$(kvtrans_engine_info)/licenses"
CLEANFILES += python/METADATA python/INSTALLER

uninstall-python:
	rm -f "$(kvtrans_engine_dir)/_kvtrans$(PYTHON_EXT_SUFFIX)" "$(kvtrans_engine_dir)/libplugin_KVTRANS.so"
	for file in $(PYTHON_PACKAGE_FILES); do \
		rm -f "$(kvtrans_engine_dir)/$${file##*/}"; \
	done
	rm -rf "$(kvtrans_engine_dir)/__pycache__" "$(kvtrans_engine_info)"
	-test ! -d "$(kvtrans_engine_dir)" || rmdir "$(kvtrans_engine_dir)"

# What the Python tests and examples import: the package as users get it, in the build tree. A line with
# $(MAKE) is run by make -n, too (Debian's helpers ask so which targets there are): it stands alone.
stage.stamp: $(PYTHON_MODULE) $(NIXL_PLUGIN_MADE) $(PYTHON_PACKAGE_FILES)
	$(AM_V_GEN)rm -rf stage
	@$(MAKE) $(AM_MAKEFLAGS) install-python DESTDIR= pyexecdir="$(abs_top_builddir)/stage" >/dev/null
	@touch $@
check_DATA += stage.stamp

install-exec-local: install-python
uninstall-local: uninstall-python
else
install-python uninstall-python:
	@echo 'configure found no Python to build the package for; see ./configure --help' >&2; exit 1
endif

mostlyclean-local: clean-stage
.PHONY: clean-stage
clean-stage:
	rm -rf stage stage.stamp
