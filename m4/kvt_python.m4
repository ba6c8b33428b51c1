# SPDX-License-Identifier: Apache-2.0
# KVT_PYTHON: finds a Python that the extension can be built for. What such a Python needs is decided
# by python/facts.py, which each candidate runs. Sets PYTHON, PYTHON_VERSION, PYTHON_CPPFLAGS,
# PYTHON_EXT_SUFFIX and pyexecdir, where the package is installed.
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
		[kvt_candidates=$PYTHON
		 with_python=yes],
		[kvt_candidates="python3 /usr/bin/python3 python3.13 python3.12 python3.11 python3.10"])
	kvt_prefix=$prefix
	AS_VAR_IF([kvt_prefix], [NONE], [kvt_prefix=$ac_default_prefix])
	for kvt_candidate in $kvt_candidates; do
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
		 KVT_DISTCHECK_FLAGS="$KVT_DISTCHECK_FLAGS PYTHON=$PYTHON"],
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
AM_CONDITIONAL([HAVE_PYTHON], [test $kvt_python_found = yes])
])
