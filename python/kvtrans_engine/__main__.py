# SPDX-License-Identifier: Apache-2.0
"""python -m kvtrans_engine: print facts about this build and what it finds on this host; with nixl, see _nixl."""

import platform
import sys

import numpy as np

from . import Engine, __version__, _kvtrans, _nixl


def _find_provider() -> str:
    try:
        with Engine("lo", ncpus=1) as engine:
            return engine.provider
    except Exception as error:  # a fact to print, whatever it is
        return f"none ({error})"


def main() -> None:
    if sys.argv[1:2] == ["nixl"]:
        _nixl.main(sys.argv[2:])
        return
    if len(sys.argv) > 1:
        sys.exit(f"usage: python -m kvtrans_engine [nixl ...], and not {sys.argv[1]}")
    facts = {
        "kvtrans_engine": __version__,
        "extension": _kvtrans.__file__,
        "compiler": _kvtrans.COMPILER,
        "Python": f"{platform.python_version()} ({platform.machine()})",
        "NumPy": f"{np.__version__} (built for {_kvtrans.NUMPY_BUILD})",
        "provider on lo": _find_provider(),
        "more": "kvtrans-info tells of other interfaces, RDMA devices, limits, and the path to processes of this host",
    }
    for name, fact in facts.items():
        print(f"{name + ':':<16} {fact}")


if __name__ == "__main__":
    main()
