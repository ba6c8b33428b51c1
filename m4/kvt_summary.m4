# SPDX-License-Identifier: Apache-2.0
# KVT_SUMMARY: what configure found and where things will go.
AC_DEFUN([KVT_SUMMARY], [
kvt_python_text="no (--without-python)"
AS_VAR_IF([with_python], [auto], [kvt_python_text="NO: tried$kvt_python_refused
      to have it: apt install python3-dev python3-numpy, or PYTHON=/path/to/python3"])
AS_VAR_IF([kvt_python_found], [yes],
	[kvt_python_text="$PYTHON ($PYTHON_VERSION)"])
kvt_numpy_text=
AS_VAR_IF([kvt_python_found], [yes],
	[kvt_numpy_text="
    NumPy        $kvt_numpy_version ($kvt_numpy_include), to run with $NUMPY_REQUIRES"])
kvt_check_text="yes"
AS_VAR_IF([kvt_have_check], [no], [kvt_check_text="NO: the C tests will be skipped (apt install check)"])
kvt_ucx_text="yes"
AS_VAR_IF([kvt_have_ucx], [no], [kvt_ucx_text="no: bench/raw has no --path=ucx (apt install libucx-dev)"])
# Twice: exec_prefix is ${prefix} by itself.
eval kvt_pyexecdir="\"$pyexecdir\""
eval kvt_pyexecdir="\"$kvt_pyexecdir\""
AC_MSG_NOTICE([

  kvtrans $PACKAGE_VERSION
    prefix       $prefix
    compiler     $CC $CFLAGS
    libfabric    $kvt_libfabric_tried
    Python       $kvt_python_text$kvt_numpy_text
    Check        $kvt_check_text
    UCX          $kvt_ucx_text
    NIXL         $kvt_nixl_text
    sanitizers   ${kvt_sanitizers:-none}
])
AS_IF([test $kvt_python_found = yes],
	[AS_ECHO(["    Python package goes to $kvt_pyexecdir"])
	 AS_VAR_IF([kvt_python_dir_on_path], [yes], [],
		[AS_ECHO(["    which $PYTHON does not search by itself; once installed:
      export PYTHONPATH=$kvt_pyexecdir"])])
	 AS_ECHO([""])])
])
