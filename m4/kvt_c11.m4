# SPDX-License-Identifier: Apache-2.0
# KVT_C11: the compiler takes C11 or a later C. Which one AC_PROG_CC asks for depends on autoconf: none up
# to 2.69, C11 from 2.70 on, C23 from 2.73 on. So what the compiler does is tried, and not what it is told.
AC_DEFUN([KVT_C11], [
AC_REQUIRE([AC_PROG_CC])
AC_MSG_CHECKING([how $CC compiles C11])
kvt_c11=
kvt_save_CC=$CC
for kvt_flag in '' -std=gnu11; do
	CC="$kvt_save_CC $kvt_flag"
	AC_COMPILE_IFELSE([AC_LANG_SOURCE([[
#include <stdalign.h>
#include <stdatomic.h>
#if __STDC_VERSION__ < 201112L
#error older than C11
#endif
_Static_assert(_Generic(1, int: 1, default: 0), "C11");
struct { union { int a; int b; }; _Atomic long c; } x = { .a = 1 };
]])], [kvt_c11=yes
	       break])
done
AS_IF([test -z "$kvt_c11"],
	[AC_MSG_RESULT([not at all])
	 AC_MSG_ERROR([$kvt_save_CC does not compile C11 (config.log has its words): set CC to a compiler that does])])
AS_IF([test -z "$kvt_flag"],
	[CC=$kvt_save_CC
	 AC_MSG_RESULT([as it is])],
	[AC_MSG_RESULT([with $kvt_flag])])
])
