# SPDX-License-Identifier: Apache-2.0
# KVT_PATHS: refuse paths that make and libtool cannot handle, before anything is looked for. Python's are
# not among them: those are quoted wherever they are used.
AC_DEFUN([KVT_PATHS], [
_KVT_PATH([the source directory], [$srcdir])
_KVT_PATH([the build directory], [$(pwd)])
m4_foreach_w([kvt_dir], [prefix exec_prefix bindir libdir includedir datarootdir mandir pyexecdir],
	[_KVT_PATH(kvt_dir, [$kvt_dir])])
_KVT_PATH([--with-libfabric], [$with_libfabric])
])

# _KVT_PATH(WHAT, PATH)
AC_DEFUN([_KVT_PATH], [
AS_CASE(["$2"],
	[*@<:@@<:@:space:@:>@@:>@*],
	[AC_MSG_ERROR([$1 is '$2': make and libtool do not work with blanks in a path, so choose one without])])
])
