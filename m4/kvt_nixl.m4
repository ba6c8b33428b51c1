# SPDX-License-Identifier: Apache-2.0
# KVT_NIXL: whether to build the plugin for NIXL, which takes a compiler of C++20 and nothing of NIXL. With
# --with-nixl=DIR what it knows of NIXL is compared with the headers in DIR/include.
AC_DEFUN([KVT_NIXL], [
AC_ARG_WITH([nixl],
	[AS_HELP_STRING([--with-nixl@<:@=DIR@:>@],
		[build the plugin for NIXL (default: where a C++20 compiler is), and compare it with the headers in DIR/include])],
	[], [with_nixl=auto])
kvt_nixl_text="no (--without-nixl)"
kvt_have_nixl=no
CXX20_FLAG=
NIXL_HEADERS=
AS_VAR_IF([with_nixl], [no], [], [
	AC_LANG_PUSH([C++])
	AC_MSG_CHECKING([how $CXX compiles C++20])
	kvt_save_CXXFLAGS=$CXXFLAGS
	for kvt_flag in '' -std=c++20 -std=c++2a; do
		CXXFLAGS="$kvt_save_CXXFLAGS $kvt_flag"
		AC_LINK_IFELSE([AC_LANG_SOURCE([[
#include <map>
#include <string>
#include <vector>
#if __cplusplus < 201709L
#error older than C++20
#endif
struct point { int x, y; };
int main()
{
	std::vector<int> numbers{ 1, 2 };
	point p{ .x = 1, .y = static_cast<int>(std::erase(numbers, 1)) };
	return std::string("ab").starts_with("a") ? p.x - p.y : 1;
}
]])], [kvt_have_nixl=yes
	       break])
	done
	CXXFLAGS=$kvt_save_CXXFLAGS
	AC_LANG_POP([C++])
	AS_IF([test $kvt_have_nixl = yes],
		[CXX20_FLAG=$kvt_flag
		 AC_MSG_RESULT([${kvt_flag:-as it is}])
		 kvt_nixl_text="yes: libplugin_KVTRANS.so"],
		[AC_MSG_RESULT([not at all])
		 kvt_nixl_text="NO: tried ${CXX:-g++}, which compiles no C++20 (apt install g++, or CXX=)"
		 AS_VAR_IF([with_nixl], [auto], [],
			[AC_MSG_ERROR([--with-nixl: ${CXX:-g++} compiles no C++20 (config.log has its words): set CXX to a compiler that does])])])
	AS_CASE([$with_nixl], [auto|yes], [], [
		AS_IF([test -f "$with_nixl/include/backend/backend_engine.h"], [],
			[AC_MSG_ERROR([--with-nixl=$with_nixl: there is no include/backend/backend_engine.h])])
		NIXL_HEADERS=$(cd "$with_nixl/include" && pwd)
		kvt_nixl_text="$kvt_nixl_text, compared with $NIXL_HEADERS"])
])
# Of these two are of C alone, and a constructor names its parameters as the members.
WARN_CXXFLAGS=$(AS_ECHO(["$WARN_CFLAGS"]) | sed 's/-Wshadow -Wstrict-prototypes -Wmissing-prototypes //')
AC_SUBST([WARN_CXXFLAGS])
AC_SUBST([CXX20_FLAG])
AC_SUBST([NIXL_HEADERS])
AM_CONDITIONAL([HAVE_NIXL], [test $kvt_have_nixl = yes])
AM_CONDITIONAL([HAVE_NIXL_HEADERS], [test -n "$NIXL_HEADERS"])
])
