# SPDX-License-Identifier: Apache-2.0
# KVT_WARNINGS: our warning flags, in WARN_CFLAGS; --enable-werror makes them errors. CFLAGS stays the
# user's.
AC_DEFUN([KVT_WARNINGS], [
AC_ARG_ENABLE([werror],
	[AS_HELP_STRING([--enable-werror], [treat compiler warnings as errors])],
	[], [enable_werror=no])
WARN_CFLAGS="-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wno-missing-field-initializers"
AS_VAR_IF([enable_werror], [no], [], [WARN_CFLAGS="$WARN_CFLAGS -Werror"])
AC_SUBST([WARN_CFLAGS])
])
