# SPDX-License-Identifier: Apache-2.0
"""Tell configure whether the extension can be built for this Python, and how.

Usage: PYTHON facts.py PREFIX. Prints shell assignments, or says why not and exits with 3. It must run
on any Python 3, however old, to say that it is too old.
"""

import os
import shlex
import site
import sys
import sysconfig


def refuse(reason):
    print(reason)
    sys.exit(3)


def find_numpy():
    try:
        import numpy
    except ImportError:
        refuse("it has no NumPy (python3-numpy)")
    version = tuple(int(part) for part in numpy.__version__.split(".")[:2])
    if version < (1, 24):
        refuse("NumPy %s is older than 1.24" % numpy.__version__)
    include = numpy.get_include()
    if not os.path.exists(os.path.join(include, "numpy", "arrayobject.h")):
        refuse("NumPy's headers are not in %s (python3-numpy-dev)" % include)
    return numpy.__version__, include


def find_site_dir(prefix):
    """The directory under prefix that this Python searches anyway, else the usual one, relative."""
    prefix = os.path.normpath(prefix).rstrip("/") + "/"
    for path in map(os.path.normpath, site.getsitepackages()):
        # What is below /usr/local does not belong to /usr.
        if path.startswith(prefix) and not path.startswith(prefix + "local/"):
            return os.path.relpath(path, prefix), True
    base = {"base": "/", "platbase": "/", "installed_base": "/", "installed_platbase": "/"}
    return sysconfig.get_path("platlib", "posix_prefix", vars=base).lstrip("/"), False


if sys.version_info < (3, 10):
    refuse("Python %d.%d is older than 3.10" % sys.version_info[:2])
include_dir = sysconfig.get_path("include")
if not os.path.exists(os.path.join(include_dir, "Python.h")):
    refuse("Python.h is not in %s (python3-dev)" % include_dir)
numpy_version, numpy_include = find_numpy()
site_dir, on_path = find_site_dir(sys.argv[1])

facts = {
    "PYTHON": sys.executable,
    "PYTHON_VERSION": "%d.%d.%d" % sys.version_info[:3],
    # NumPy's first: Debian has those of its own NumPy in include_dir, too.
    "PYTHON_CPPFLAGS": "-isystem %s -isystem %s" % (shlex.quote(numpy_include), shlex.quote(include_dir)),
    "PYTHON_EXT_SUFFIX": sysconfig.get_config_var("EXT_SUFFIX"),
    "kvt_numpy_version": numpy_version,
    "kvt_numpy_include": numpy_include,
    # An extension that was built with NumPy 1 does not load with NumPy 2; the reverse works.
    "kvt_numpy_requires": ">=1.24,<2" if numpy_version.startswith("1.") else ">=1.24",
    "kvt_python_dir": site_dir,
    "kvt_python_dir_on_path": "yes" if on_path else "no",
}
for name, value in facts.items():
    print("%s=%s" % (name, shlex.quote(value)))
