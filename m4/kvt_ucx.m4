# SPDX-License-Identifier: Apache-2.0
# KVT_UCX: UCX, for the benchmark the path ucx of bench/raw alone. Nothing else needs it, so that nothing is said to
# be missing without it; the summary tells.
AC_DEFUN([KVT_UCX], [
PKG_CHECK_MODULES([UCX], [ucx >= 1.10], [kvt_have_ucx=yes], [kvt_have_ucx=no])
AM_CONDITIONAL([HAVE_UCX], [test $kvt_have_ucx = yes])
])
