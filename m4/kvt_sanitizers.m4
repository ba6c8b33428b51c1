# SPDX-License-Identifier: Apache-2.0
# KVT_SANITIZERS: --enable-asan, --enable-ubsan, --enable-tsan, --enable-fuzzers. Each is tested by linking a
# program, so that a compiler without the runtime fails here and not in the middle of make. And --enable-coverage.
AC_DEFUN([KVT_SANITIZERS], [
kvt_sanitizers=
SAN_CFLAGS=
_KVT_SANITIZER([asan], [address], [use of memory after free or out of bounds])
_KVT_SANITIZER([ubsan], [undefined], [undefined behaviour])
_KVT_SANITIZER([tsan], [thread], [data races])
AS_IF([test "$enable_asan" != no && test "$enable_tsan" != no],
	[AC_MSG_ERROR([--enable-asan and --enable-tsan exclude each other])])
_KVT_FUZZERS
AC_ARG_ENABLE([coverage],
	[AS_HELP_STRING([--enable-coverage], [count which lines run (make coverage does it all)])],
	[], [enable_coverage=no])
AS_VAR_IF([enable_coverage], [no], [], [SAN_CFLAGS="$SAN_CFLAGS --coverage"])
AC_SUBST([kvt_sanitizers])
AC_SUBST([SAN_CFLAGS])
])

# --enable-fuzzers: everything is compiled for libFuzzer, and the programs fuzz* of tests are linked with it, to be run
# by hand. Without it they are tests as all others.
AC_DEFUN([_KVT_FUZZERS], [
AC_ARG_ENABLE([fuzzers],
	[AS_HELP_STRING([--enable-fuzzers], [link the fuzzers of tests with libFuzzer (clang)])],
	[], [enable_fuzzers=no])
FUZZ_LIBS=
AS_VAR_IF([enable_fuzzers], [no], [], [
	kvt_save_CFLAGS=$CFLAGS
	CFLAGS="$CFLAGS -fsanitize=fuzzer"
	AC_MSG_CHECKING([whether $CC links with -fsanitize=fuzzer])
	AC_LINK_IFELSE([AC_LANG_SOURCE([[
#include <stddef.h>
#include <stdint.h>
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) { (void)bytes; return len > 99; }]])],
		[AC_MSG_RESULT([yes])],
		[AC_MSG_RESULT([no])
		 AC_MSG_ERROR([--enable-fuzzers: $CC has no libFuzzer; try CC=clang])])
	CFLAGS=$kvt_save_CFLAGS
	SAN_CFLAGS="$SAN_CFLAGS -fsanitize=fuzzer-no-link"
	FUZZ_LIBS=-fsanitize=fuzzer
])
AM_CONDITIONAL([ENABLE_FUZZERS], [test "$enable_fuzzers" != no])
AC_SUBST([FUZZ_LIBS])
])

AC_DEFUN([_KVT_SANITIZER], [
AC_ARG_ENABLE([$1], [AS_HELP_STRING([--enable-$1], [find $3 at run time])], [], [enable_$1=no])
AS_VAR_IF([enable_$1], [no], [], [
	kvt_save_CFLAGS=$CFLAGS
	CFLAGS="$CFLAGS -fsanitize=$2"
	AC_MSG_CHECKING([whether $CC links with -fsanitize=$2])
	AC_LINK_IFELSE([AC_LANG_PROGRAM([], [])],
		[AC_MSG_RESULT([yes])],
		[AC_MSG_RESULT([no])
		 AC_MSG_ERROR([--enable-$1: $CC has no runtime for -fsanitize=$2])])
	CFLAGS=$kvt_save_CFLAGS
	kvt_sanitizers="${kvt_sanitizers:+$kvt_sanitizers }$1"
	SAN_CFLAGS="${SAN_CFLAGS:--fno-omit-frame-pointer} -fsanitize=$2"
	m4_if([$1], [ubsan], [SAN_CFLAGS="$SAN_CFLAGS -fno-sanitize-recover=undefined"])
])
])

# KVT_NO_UNDEFINED: the flag that makes an undefined symbol in a shared library an error, where the
# sanitizer in use allows it (clang leaves its runtime to the program).
AC_DEFUN([KVT_NO_UNDEFINED], [
NO_UNDEFINED_LDFLAGS=
kvt_save_CFLAGS=$CFLAGS
kvt_save_LDFLAGS=$LDFLAGS
CFLAGS="$CFLAGS $SAN_CFLAGS -fPIC -shared"
LDFLAGS="$LDFLAGS -Wl,-z,defs"
AC_MSG_CHECKING([whether shared libraries link with -z defs])
AC_LINK_IFELSE([AC_LANG_SOURCE([[int f(int *p); int f(int *p) { return *p; }]])],
	[AC_MSG_RESULT([yes])
	 NO_UNDEFINED_LDFLAGS=-Wl,-z,defs],
	[AC_MSG_RESULT([no])])
CFLAGS=$kvt_save_CFLAGS
LDFLAGS=$kvt_save_LDFLAGS
AC_SUBST([NO_UNDEFINED_LDFLAGS])
])
