# SPDX-License-Identifier: Apache-2.0
"""PEP 517 backend: pip install . by way of configure and make, the only build there is.

The wheel is what `make install-python` installs, so no list of sources stands here. Flags for configure
are given with -C configure=..., as often as needed:

    pip install . -C configure=--with-libfabric=/opt/libfabric

Standard library only.
"""

import base64
import hashlib
import io
import os
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile

SOURCE = pathlib.Path(__file__).resolve().parent.parent
NAME = "kvtrans_engine"
FIXED_TIME = (2020, 1, 1, 0, 0, 0)

# What an earlier build in the source tree may have left, and no copy should take over.
BUILT = ("config.status", "config.h", "config.log", "libtool", "stamp-h1", "Makefile", "stage*", "build",
         ".git", ".libs", ".deps", ".dirstamp", "*.o", "*.lo", "*.la", "*.log", "*.trs", "__pycache__")


def read_version():
    text = (SOURCE / "configure.ac").read_text(encoding="utf-8")
    return re.search(r"AC_INIT\(\[kvtrans\], \[([^]]+)\]", text).group(1)


def clean_environment():
    """The environment without what pip's build isolation adds: it hides the NumPy that is installed."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONNOUSERSITE")}


def numpy_version(environment):
    probe = [sys.executable, "-c", "import numpy; print(numpy.__version__)"]
    result = subprocess.run(probe, env=environment, capture_output=True, text=True)
    return result.stdout.strip() if result.returncode == 0 else None


def run(command, cwd, environment):
    print("+", *command, flush=True)
    if subprocess.run(command, cwd=cwd, env=environment).returncode != 0:
        raise SystemExit(f"kvtrans: {command[0]} failed; its words are above")


def configure(directory, arguments, environment):
    """Copy the sources below directory and configure them in directory/build, which is returned."""
    source = directory / "source"
    shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns(*BUILT), symlinks=True)
    if not (source / "configure").exists():
        run(["./autogen.sh"], source, environment)
    build = directory / "build"
    build.mkdir()
    run([str(source / "configure"), *arguments], build, environment)
    return build


def settings_of(config_settings):
    arguments = (config_settings or {}).get("configure", [])
    return [arguments] if isinstance(arguments, str) else list(arguments)


def make(build, environment, *arguments):
    run(["make", f"-j{os.cpu_count() or 1}", *arguments], build, environment)


def metadata(requires_numpy=">=1.24"):
    return (
        "Metadata-Version: 2.1\n"
        "Name: kvtrans-engine\n"
        f"Version: {read_version()}\n"
        "Summary: Moves KV cache between processes over libfabric\n"
        "License: Apache-2.0\n"
        "Requires-Python: >=3.10\n"
        f"Requires-Dist: numpy{requires_numpy}\n"
    )


def wheel_tag():
    abi = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    platform = re.sub(r"[-.]", "_", sysconfig.get_platform())
    return f"{abi}-{abi}{sys.abiflags}-{platform}"


def write_wheel(path, files):
    """files: {name in the wheel: bytes}. RECORD is added."""
    info = f"{NAME}-{read_version()}.dist-info"
    record = ""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        def add(name, content):
            entry = zipfile.ZipInfo(name, FIXED_TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o755 if name.endswith(".so") else 0o644) << 16
            wheel.writestr(entry, content)

        for name, content in sorted(files.items()):
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record += f"{name},sha256={digest},{len(content)}\n"
            add(name, content)
        add(f"{info}/RECORD", record + f"{info}/RECORD,,\n")


def get_requires_for_build_wheel(config_settings=None):
    """NumPy's headers, unless this Python has them: so nothing is fetched where it is installed."""
    return [] if numpy_version(clean_environment()) else ["numpy>=1.24"]


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    environment = clean_environment()
    if not numpy_version(environment):
        environment = dict(os.environ)
    numpy = numpy_version(environment) or ""
    with tempfile.TemporaryDirectory(prefix="kvtrans-") as name:
        directory = pathlib.Path(name)
        arguments = [f"PYTHON={sys.executable}", "--with-python", *settings_of(config_settings)]
        build = configure(directory, arguments, environment)
        stage = directory / "stage"
        make(build, environment, "install-python", "DESTDIR=", f"pyexecdir={stage}")

        files = {file.relative_to(stage).as_posix(): file.read_bytes()
                 for file in stage.rglob("*") if file.is_file()}
    tag = wheel_tag()
    info = f"{NAME}-{read_version()}.dist-info"
    # A module built with NumPy 1 does not load with NumPy 2; the reverse works.
    requires = ">=1.24,<2" if numpy.startswith("1.") else ">=1.24"
    files[f"{info}/METADATA"] = metadata(requires).encode()
    files[f"{info}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: kvtrans\nRoot-Is-Purelib: false\nTag: {tag}\n".encode()
    )
    files[f"{info}/LICENSE"] = (SOURCE / "LICENSE").read_bytes()
    filename = f"{NAME}-{read_version()}-{tag}.whl"
    write_wheel(os.path.join(wheel_directory, filename), files)
    return filename


def build_sdist(sdist_directory, config_settings=None):
    """The tarball of make dist, under the name that Python's tools expect, with PKG-INFO."""
    version = read_version()
    filename = f"{NAME}-{version}.tar.gz"
    environment = clean_environment()
    with tempfile.TemporaryDirectory(prefix="kvtrans-") as name:
        build = configure(pathlib.Path(name), ["--without-python", *settings_of(config_settings)], environment)
        make(build, environment, "dist-gzip")
        with tarfile.open(build / f"kvtrans-{version}.tar.gz") as old, tarfile.open(
            os.path.join(sdist_directory, filename), "w:gz", format=tarfile.PAX_FORMAT
        ) as new:
            for member in old:
                content = old.extractfile(member) if member.isfile() else None
                member.name = member.name.replace(f"kvtrans-{version}", f"{NAME}-{version}", 1)
                new.addfile(member, content)
            text = metadata().encode()
            member = tarfile.TarInfo(f"{NAME}-{version}/PKG-INFO")
            member.size = len(text)
            new.addfile(member, io.BytesIO(text))
    return filename
