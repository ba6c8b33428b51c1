# SPDX-License-Identifier: Apache-2.0
# kvtrans-info is installed. It looks below the public API, so it is linked with the layers themselves.

bin_PROGRAMS += tools/kvtrans-info
tools_kvtrans_info_SOURCES = \
	tools/info.h \
	tools/info_choice.c \
	tools/info_json.c \
	tools/info_limits.c \
	tools/info_net.c \
	tools/info_text.c \
	tools/kvtrans_info.c
tools_kvtrans_info_LDADD = $(KVI_ALL)
