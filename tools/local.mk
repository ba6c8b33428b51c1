# SPDX-License-Identifier: Apache-2.0
# Both are installed. They look below the public API, so they are linked with the layers themselves, kvtrans-key
# with those it needs: a program that reads secrets loads no libfabric.

bin_PROGRAMS += tools/kvtrans-info tools/kvtrans-key
tools_kvtrans_info_SOURCES = \
	tools/info.h \
	tools/info_choice.c \
	tools/info_host.c \
	tools/info_json.c \
	tools/info_limits.c \
	tools/info_net.c \
	tools/info_text.c \
	tools/kvtrans_info.c
tools_kvtrans_info_LDADD = $(KVI_ALL)

tools_kvtrans_key_CPPFLAGS = $(AM_CPPFLAGS) $(SODIUM_CFLAGS)
tools_kvtrans_key_SOURCES = \
	tools/key.h \
	tools/key_change.c \
	tools/kvtrans_key.c
tools_kvtrans_key_LDADD = $(KVI_AUTH)
