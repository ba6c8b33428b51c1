# SPDX-License-Identifier: Apache-2.0
# What the build needs. A missing thing is noted with what was tried and with its Debian package;
# KVT_REQUIRE_ALL then tells all of it at once.

# _KVT_MISSING(TEXT, PACKAGES)
AC_DEFUN([_KVT_MISSING], [
kvt_missing="$kvt_missing
  - $1"
kvt_missing_packages="$kvt_missing_packages $2"
])

# KVT_NEED_MODULE(VARIABLE, MODULE, PACKAGE): a library that pkg-config knows.
AC_DEFUN([KVT_NEED_MODULE], [
PKG_CHECK_MODULES([$1], [$2], [],
	[_KVT_MISSING([$2: tried pkg-config $2 (set $1_CFLAGS and $1_LIBS where there is no .pc file)],
		[$3])])
])

# KVT_NEED_HEADER(HEADER, NAME, PACKAGE): a library that is headers only.
AC_DEFUN([KVT_NEED_HEADER], [
AC_CHECK_HEADER([$1], [],
	[_KVT_MISSING([$2: tried to compile <$1> (its place can be given in CPPFLAGS)], [$3])])
])

AC_DEFUN([KVT_REQUIRE_ALL], [
AS_IF([test -n "$kvt_missing"], [
	AC_MSG_ERROR([these are missing:$kvt_missing
On Debian and Ubuntu:
  apt install$kvt_missing_packages
or let the source tree do it: ./quickstart deps])
])
])

# KVT_CHECK: the unit test framework. Without it everything else builds, and make check skips the C tests.
AC_DEFUN([KVT_CHECK], [
PKG_CHECK_MODULES([CHECK], [check >= 0.15], [kvt_have_check=yes], [kvt_have_check=no])
AM_CONDITIONAL([HAVE_CHECK], [test $kvt_have_check = yes])
])
