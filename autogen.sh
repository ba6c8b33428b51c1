#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Make ./configure, which a git clone does not have (a release tarball does).
set -e
cd "$(dirname "$0")"

case $PWD in
*[[:space:]]*)
	echo "autogen.sh: the source directory is '$PWD': make and libtool do not work with blanks in a path," \
		"so move it" >&2
	exit 1
	;;
esac

missing=
for tool in autoreconf automake libtoolize pkg-config; do
	command -v "$tool" >/dev/null || missing="$missing $tool"
done
if [ -n "$missing" ]; then
	echo "autogen.sh: not found:$missing" >&2
	echo "autogen.sh: on Debian and Ubuntu: apt install autoconf automake libtool pkgconf" >&2
	exit 1
fi
autoreconf --install --warnings=all
