# SPDX-License-Identifier: Apache-2.0
# KVT_LIBFABRIC: finds libfabric 1.17 or later and sets LIBFABRIC_CFLAGS and LIBFABRIC_LIBS.
# --with-libfabric=DIR takes that prefix (and records it as run path); else pkg-config is asked; else
# the compiler's own paths are tried. The version is taken from the header that compiles, not from
# what pkg-config says.
AC_DEFUN([KVT_LIBFABRIC], [
AC_ARG_WITH([libfabric],
	[AS_HELP_STRING([--with-libfabric=DIR],
		[prefix of libfabric; default: ask pkg-config, then the compiler])],
	[], [with_libfabric=yes])
AC_ARG_VAR([LIBFABRIC_CFLAGS], [C compiler flags for libfabric, overriding pkg-config])
AC_ARG_VAR([LIBFABRIC_LIBS], [linker flags for libfabric, overriding pkg-config])

kvt_libfabric_why=
AS_CASE([$with_libfabric],
	[no], [AC_MSG_ERROR([kvtrans needs libfabric: --without-libfabric is not possible])],
	[yes], [AS_IF([test -n "$LIBFABRIC_LIBS"],
			[kvt_libfabric_tried="LIBFABRIC_LIBS=$LIBFABRIC_LIBS"],
		[test -n "$PKG_CONFIG" && $PKG_CONFIG --exists libfabric],
			[kvt_libfabric_tried="pkg-config libfabric"
			 LIBFABRIC_CFLAGS=$($PKG_CONFIG --cflags libfabric)
			 LIBFABRIC_LIBS=$($PKG_CONFIG --libs libfabric)],
		[kvt_libfabric_tried="pkg-config libfabric (not known), then -lfabric"
		 LIBFABRIC_LIBS=-lfabric])],
	[kvt_libfabric_tried="--with-libfabric=$with_libfabric"
	 LIBFABRIC_CFLAGS="-I$with_libfabric/include"
	 kvt_libfabric_lib=$with_libfabric/lib
	 for kvt_dir in lib64 "lib/$($CC -print-multiarch 2>/dev/null)"; do
		AS_IF([test -e "$with_libfabric/$kvt_dir/libfabric.so"],
			[kvt_libfabric_lib=$with_libfabric/$kvt_dir])
	 done
	 AS_IF([test ! -e "$with_libfabric/include/rdma/fabric.h"],
			[kvt_libfabric_why="$with_libfabric/include/rdma/fabric.h is not there"],
		[test ! -e "$kvt_libfabric_lib/libfabric.so"],
			[kvt_libfabric_why="$kvt_libfabric_lib/libfabric.so is not there"])
	 LIBFABRIC_LIBS="-L$kvt_libfabric_lib -lfabric"
	 AS_CASE([$with_libfabric],
		[/usr|/usr/local], [],
		[LIBFABRIC_LIBS="-L$kvt_libfabric_lib -Wl,-rpath,$kvt_libfabric_lib -lfabric"])
	 KVT_DISTCHECK_FLAGS="$KVT_DISTCHECK_FLAGS --with-libfabric=$with_libfabric"])
AC_SUBST([KVT_DISTCHECK_FLAGS])

AC_MSG_CHECKING([for libfabric 1.17 or later])
kvt_save_CPPFLAGS=$CPPFLAGS
kvt_save_LIBS=$LIBS
CPPFLAGS="$CPPFLAGS $LIBFABRIC_CFLAGS"
LIBS="$LIBFABRIC_LIBS $LIBS"
AS_IF([test -z "$kvt_libfabric_why"],
	[AC_PREPROC_IFELSE([AC_LANG_SOURCE([[#include <rdma/fabric.h>]])], [],
		[kvt_libfabric_why="<rdma/fabric.h> is not there"])])
AS_IF([test -z "$kvt_libfabric_why"], [AC_COMPILE_IFELSE([AC_LANG_SOURCE([[
#include <rdma/fabric.h>
#if FI_MAJOR_VERSION * 1000 + FI_MINOR_VERSION < 1017
#error too old
#endif
]])], [], [kvt_libfabric_why="its header is older than 1.17"])])
AS_IF([test -z "$kvt_libfabric_why"],
	[AC_LINK_IFELSE([AC_LANG_PROGRAM([[#include <rdma/fabric.h>]], [[return !fi_version();]])], [],
		[kvt_libfabric_why="a program does not link with it"])])
CPPFLAGS=$kvt_save_CPPFLAGS
LIBS=$kvt_save_LIBS
AS_IF([test -z "$kvt_libfabric_why"],
	[AC_MSG_RESULT([yes ($kvt_libfabric_tried)])],
	[AC_MSG_RESULT([no: $kvt_libfabric_why])
	 _KVT_MISSING([libfabric 1.17 or later: tried $kvt_libfabric_tried; $kvt_libfabric_why (config.log has the compiler's words)],
		[libfabric-dev])])
])
