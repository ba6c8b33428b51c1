# SPDX-License-Identifier: Apache-2.0
"""python -m kvtrans_engine nixl: a folder of plugins for NIXL with ours in it, and the environment that names it.

NIXL looks into one folder, so its own plugins are linked into ours. They find the libraries of their wheel by paths
from where they lie: the folder has the wheel's shape.
"""

import argparse
import hashlib
import importlib.util
import os
import pathlib
import shlex
import shutil
import sys
import tempfile
import time

PLUGIN = pathlib.Path(__file__).with_name("libplugin_KVTRANS.so")
KEPT_S = 3600


def _find_wheel() -> "pathlib.Path | None":
    """The plugins of the NIXL that this Python imports; None when it has none."""
    names = ["nixl_cu13", "nixl_cu12", "nixl_rocm"]
    try:
        from nixl_meta_utils import detect_cuda_major

        names.insert(0, f"nixl_cu{detect_cuda_major()}")
    except Exception:  # older ones have no such module; and it asks drivers, which may fail in any way
        pass
    for name in names:
        spec = importlib.util.find_spec(name)
        for place in spec.submodule_search_locations or [] if spec else []:
            plugins = pathlib.Path(place).parent / f".{name}.mesonpy.libs" / "plugins"
            if plugins.is_dir():
                return plugins
    return None


def _link_all(source: pathlib.Path, target: pathlib.Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if not file.is_dir() and not (target / file.name).exists():
            (target / file.name).symlink_to(file)


def _fill(root: pathlib.Path, plugins: "pathlib.Path | None", name: str) -> pathlib.Path:
    """Links below root; returns where the plugins are, below it."""
    folder = root / "libs" / "plugins"
    folder.mkdir(parents=True)
    (folder / f"libplugin_{name}.so").symlink_to(PLUGIN)
    for library in PLUGIN.parent.glob("kvt*.so*"):  # those of our wheel, which the plugin looks for beside itself
        (folder / library.name).symlink_to(library)
    if plugins is not None:
        _link_all(plugins, folder)
        _link_all(plugins.parent, folder.parent)
        for libraries in plugins.parent.parent.glob("nixl*.libs"):
            (root / libraries.name).symlink_to(libraries)
    return folder.relative_to(root)


def make_folder(plugins: "pathlib.Path | None", name: str) -> pathlib.Path:
    """The folder in the user's cache, made anew: a link that is set to it when it is whole.

    So nobody sees half of it, and the ranks of an engine may all do this at once. Folders that the link has left stay
    for an hour, for who is just reading them.
    """
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "kvtrans" / "nixl"
    key = hashlib.sha256(f"{PLUGIN}\0{plugins}\0{name}".encode()).hexdigest()[:16]
    cache.mkdir(parents=True, exist_ok=True)
    new = pathlib.Path(tempfile.mkdtemp(prefix=f"{key}-", dir=cache))
    new.chmod(0o755)
    folder = _fill(new, plugins, name)
    link = new / "link"
    link.symlink_to(new.name)
    place = cache / f"{name}-{key}"
    os.replace(link, place)
    for old in cache.glob(f"{key}-*"):
        try:
            if not place.samefile(old) and time.time() - old.stat().st_mtime > KEPT_S:
                shutil.rmtree(old, ignore_errors=True)
        except OSError:
            pass  # another has removed it
    return place / folder


def main(arguments: "list[str]") -> None:
    parser = argparse.ArgumentParser(
        prog="python -m kvtrans_engine nixl",
        description="Make a folder with KVTrans's plugin for NIXL and NIXL's own, and print the environment to set:"
                    ' eval "$(python -m kvtrans_engine nixl)"')
    parser.add_argument("--as", dest="name", default="KVTRANS", metavar="NAME",
                        help="the name of the backend, for engines that allow no other: UCX")
    parser.add_argument("--plugins", type=pathlib.Path, metavar="DIR",
                        help="NIXL's own plugins (default: those of the wheel that this Python imports)")
    options = parser.parse_args(arguments)
    if not options.name.isidentifier():
        parser.error(f"--as {options.name}: a name of letters, digits and _")
    if not PLUGIN.exists():
        sys.exit(f"kvtrans: {PLUGIN} is not there: build with a C++20 compiler (./configure --with-nixl says why not)")
    if options.plugins is not None and not list(options.plugins.glob("libplugin_*.so")):
        parser.error(f"--plugins {options.plugins}: no libplugin_*.so is there")
    plugins = options.plugins.resolve() if options.plugins else _find_wheel()
    if plugins is None:
        print("# this Python has no nixl whose plugins could be linked beside ours (--plugins DIR names them)")
    print(f"export NIXL_PLUGIN_DIR={shlex.quote(str(make_folder(plugins, options.name)))}")
    print("# libraries that libfabric loads take SIGTERM, SIGINT and SIGSEGV from the engine, unless they are told not to")
    print("export IPATH_NO_BACKTRACE=1 HFI_NO_BACKTRACE=1")
    print(f"# the backend is {options.name}; KVTRANS_INTERFACES=eth0 (a list) says where peers reach it")
