# SPDX-License-Identifier: Apache-2.0
# KVT_PYTHON: finds a Python that the extension can be built for. What such a Python needs is decided
# by python/facts.py, which each candidate runs. Sets PYTHON, PYTHON_VERSION, PYTHON_CPPFLAGS (words quoted
# for the shell, as paths may have blanks), PYTHON_EXT_SUFFIX, NUMPY_REQUIRES, the versions of NumPy that the
# extension runs with, and pyexecdir, where the package is installed.
AC_DEFUN([KVT_PYTHON], [
AC_ARG_VAR([PYTHON], [the Python interpreter to build the extension for])
AC_ARG_VAR([pyexecdir], [where the Python package is installed])
AC_ARG_WITH([python],
	[AS_HELP_STRING([--without-python], [build the C library only])
AS_HELP_STRING([--with-python], [fail when no fitting Python is found; default: build without])],
	[], [with_python=auto])
AS_CASE([$with_python],
	[yes|no|auto], [],
	[PYTHON=$with_python
	 with_python=yes])

kvt_python_refused=
kvt_python_found=no
AS_VAR_IF([with_python], [no], [], [
	AS_IF([test -n "$PYTHON"],
		[set dummy "$PYTHON"
		 with_python=yes],
		[set dummy python3 /usr/bin/python3 python3.13 python3.12 python3.11 python3.10])
	shift
	kvt_prefix=$prefix
	AS_VAR_IF([kvt_prefix], [NONE], [kvt_prefix=$ac_default_prefix])
	for kvt_candidate do
		AC_MSG_CHECKING([for Python 3.10 with headers and NumPy 1.24: $kvt_candidate])
		kvt_facts=$("$kvt_candidate" "$srcdir/python/facts.py" "$kvt_prefix" 2>/dev/null)
		kvt_status=$?
		AS_CASE([$kvt_status],
			[0], [AC_MSG_RESULT([yes])
			      kvt_python_found=yes
			      break],
			[3], [],
			[kvt_facts="it does not run (status $kvt_status)"])
		AC_MSG_RESULT([no: $kvt_facts])
		kvt_python_refused="$kvt_python_refused
      $kvt_candidate: $kvt_facts"
	done
	AS_VAR_IF([kvt_python_found], [yes],
		[eval "$kvt_facts"
		 KVT_DISTCHECK_FLAGS="$KVT_DISTCHECK_FLAGS PYTHON='$PYTHON'"
		 _KVT_NUMPY_HEADERS],
		[AS_VAR_IF([with_python], [yes],
			[_KVT_MISSING([a Python with headers and NumPy: tried$kvt_python_refused],
				[python3-dev python3-numpy])],
			[AC_MSG_WARN([building without Python: tried$kvt_python_refused])])])
])
AS_VAR_IF([kvt_python_found], [yes], [],
	[PYTHON=
	 KVT_DISTCHECK_FLAGS="$KVT_DISTCHECK_FLAGS --without-python"])
AS_IF([test -z "$pyexecdir" && test -n "$kvt_python_dir"],
	[AS_CASE([$kvt_python_dir],
		[/*], [pyexecdir=$kvt_python_dir],
		[pyexecdir="\${exec_prefix}/$kvt_python_dir"])])
AC_SUBST([PYTHON_VERSION])
AC_SUBST([PYTHON_CPPFLAGS])
AC_SUBST([PYTHON_EXT_SUFFIX])
NUMPY_REQUIRES=${kvt_numpy_requires:->=1.24}
AC_SUBST([NUMPY_REQUIRES])
AM_CONDITIONAL([HAVE_PYTHON], [test $kvt_python_found = yes])
])

# _KVT_NUMPY_HEADERS: see to it that the headers which the compiler finds are those of this Python's NumPy.
# Others may lie in its way (Debian links its NumPy's into /usr/include/python3), and an extension that was
# built with the headers of NumPy 1 does not load with NumPy 2.
AC_DEFUN([_KVT_NUMPY_HEADERS], [
AC_MSG_CHECKING([for the headers of its NumPy $kvt_numpy_version])
kvt_numpy_abi=$(AS_ECHO(["#include <numpy/numpyconfig.h>
NPY_ABI_VERSION"]) | eval "$CC -E -P -x c $PYTHON_CPPFLAGS $CPPFLAGS -" 2>&AS_MESSAGE_LOG_FD |
	sed -n 's/.*0x0*\(@<:@1-9@:>@\)@<:@0-9@:>@*$/\1/p')
AS_CASE(["$kvt_numpy_version"],
	["$kvt_numpy_abi".*], [AC_MSG_RESULT([$kvt_numpy_include])],
	[AC_MSG_RESULT([no])
	 AC_MSG_ERROR([$PYTHON has NumPy $kvt_numpy_version, with headers in
$kvt_numpy_include, but the compiler finds those of NumPy ${kvt_numpy_abi:-(none: config.log has its words)}.
Do CPPFLAGS or CPATH name a directory with another NumPy?])])
])
