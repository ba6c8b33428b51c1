# SPDX-License-Identifier: Apache-2.0
"""PEP 517 and PEP 660 backend: pip install . by way of configure and make, the only build there is.

The wheel is what `make install-python` installs, so no list of sources and no metadata stand here. It
holds libkvtrans, and copies of libsodium and hwloc; libfabric stays outside, so that the host's own is used,
with the providers that are there. Flags for configure are given with -C configure=..., as often as needed:

    pip install . -C configure=--with-libfabric=/opt/libfabric

The sources are copied to a temporary directory and built there, so they are never written to. Two builds of
the same sources give the same bytes: times are SOURCE_DATE_EPOCH, and no path of a build is in what it made.

Standard library only.
"""

import base64
import gzip
import hashlib
import io
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
import zipfile

SOURCE = pathlib.Path(__file__).resolve().parent.parent
NAME = "kvtrans_engine"

# What configure and make may have left in the source tree, and no copy should take over.
MADE = {
    ".git", "Makefile", "autom4te.cache", "build", "config.h", "config.log", "config.status", "libtool",
    "python/INSTALLER", "python/METADATA", "python/metadata.txt", "src/kvtrans.pc", "stage", "stage.stamp",
    "stamp-h1", "tests/env.sh",
}
MADE_ANYWHERE = shutil.ignore_patterns(
    ".libs", ".deps", ".dirstamp", "*.o", "*.lo", "*.la", "*.log", "*.trs", "__pycache__")

# Libraries that travel in the wheel, as pkg-config names them, and configure's variable for each. Their files
# get names of their own, as long as the old ones: another libhwloc in the process (MPI's, say) may be of a
# version that does not fit.
BUNDLED = {"libsodium": "SODIUM_LIBS", "hwloc": "HWLOC_LIBS"}

# Libraries that are headers, and whose licence asks to be told where they were compiled in.
INLINED = ["xxhash"]


def read_version():
    text = (SOURCE / "configure.ac").read_text(encoding="utf-8")
    return re.search(r"AC_INIT\(\[kvtrans\], \[([^]]+)\]", text).group(1)


INFO = f"{NAME}-{read_version()}.dist-info"


def run(command, cwd):
    print("+", *command, flush=True)
    if subprocess.run(command, cwd=cwd).returncode != 0:
        raise SystemExit(f"kvtrans: {command[0]} failed; its words are above")


def ask(*command):
    """What a command prints, without the newline; None when it fails."""
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def make_directory():
    """A temporary directory without a blank in its path, with which make and libtool do not work."""
    for parent in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
        if not re.search(r"\s", parent) and os.access(parent, os.W_OK):
            return tempfile.TemporaryDirectory(prefix="kvtrans-", dir=parent)
    raise SystemExit("kvtrans: make and libtool do not work with blanks in a path: set TMPDIR to one without")


def choose_ignored(directory, names):
    """The names in directory that are not sources: also build directories and venvs, whatever they are called."""
    def is_made(path):
        return (path.relative_to(SOURCE).as_posix() in MADE
                or (path / "config.status").exists() or (path / "pyvenv.cfg").exists())

    return MADE_ANYWHERE(directory, names) | {name for name in names if is_made(pathlib.Path(directory, name))}


def configure(directory, *arguments):
    """Copy the sources below directory and configure them in directory/build, which is returned."""
    source = directory / "source"
    shutil.copytree(SOURCE, source, ignore=choose_ignored, symlinks=True)
    for path in [source, *source.rglob("*")]:  # a clone may be read-only, and its copy would be, too
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | 0o200)
    # In a clone it may be there, and be older than what it was made from.
    if (SOURCE / ".git").exists() or not (source / "configure").exists():
        run(["./autogen.sh"], source)
    build = directory / "build"
    build.mkdir()
    run([str(source / "configure"), *arguments], build)
    return build


def settings_of(config_settings):
    arguments = (config_settings or {}).get("configure", [])
    return [arguments] if isinstance(arguments, str) else list(arguments)


def make(build, *arguments):
    run(["make", f"-j{os.cpu_count() or 1}", *arguments], build)


def map_paths(directory):
    """Compiler flags that put the same words into what is built, wherever it is built."""
    numpy = ask(sys.executable, "-c", "import numpy; print(numpy.get_include())")
    names = {directory / "source": f"kvtrans-{read_version()}", directory / "build": "build", numpy: "numpy"}
    return " ".join(shlex.quote(f"-ffile-prefix-map={path}={name}") for path, name in names.items())


def rename_library(module, directory):
    """Copy the library that pkg-config knows as module into directory; return its name there, one of ours."""
    name = module.removeprefix("lib")
    path = pathlib.Path(ask("pkg-config", "--variable=libdir", module) or "", f"lib{name}.so")
    content = path.read_bytes() if path.exists() else b""
    # The name that the linker writes into what is linked with it stands in its table of strings.
    soname = re.search(rb"\0lib(%s\.so\.[0-9]+)\0" % name.encode(), content)
    if not soname:
        print(f"kvtrans: pkg-config leads to no {path.name}, so the wheel will need the system's", flush=True)
        return None
    old, new = (prefix + soname[1] for prefix in (b"lib", b"kvt"))
    (directory / new.decode()).write_bytes(content.replace(b"\0%s\0" % old, b"\0%s\0" % new))
    return new.decode()


def bundle_libraries(directory, given):
    """Copy libraries for the wheel into directory; return make's variables that link with the copies."""
    directory.mkdir()
    variables = ["PYTHON_EXT_LDFLAGS=-Wl,-rpath,'$$ORIGIN'"]
    for module, variable in BUNDLED.items():
        # Who says what to link with means just that.
        if variable in os.environ or any(argument.startswith(f"{variable}=") for argument in given):
            continue
        name = rename_library(module, directory)
        if name:
            variables.append(f"{variable}=-L{directory} -l:{name}")
    return variables


def build_package(directory, config_settings):
    """Build below directory; return {path: content} of what belongs into site-packages."""
    settings = settings_of(config_settings)
    build = configure(directory, f"PYTHON={sys.executable}", "--with-python", *settings)
    stage, libraries = directory / "stage", directory / "libraries"
    make(build, "install-python", "DESTDIR=", f"pyexecdir={stage}", f"MAP_CFLAGS={map_paths(directory)}",
         *bundle_libraries(libraries, settings))
    files = {file.relative_to(stage).as_posix(): file.read_bytes() for file in stage.rglob("*") if file.is_file()}
    del files[f"{INFO}/INSTALLER"]
    for file in libraries.iterdir():
        files[f"{NAME}/{file.name}"] = file.read_bytes()
    return add_licences(files, [file.name for file in libraries.iterdir()])


def add_licences(files, libraries):
    """Those of the libraries that travel along, or were compiled in."""
    lines = b"License-File: LICENSE\n"
    for module in [*BUNDLED, *INLINED]:
        is_bundled = any(library.startswith(f"kvt{module.removeprefix('lib')}.") for library in libraries)
        if is_bundled or module in INLINED:
            files[f"{INFO}/licenses/{module}.txt"] = (SOURCE / "python" / "licenses" / f"{module}.txt").read_bytes()
            lines += f"License-File: {module}.txt\n".encode()
    files[f"{INFO}/METADATA"] = files[f"{INFO}/METADATA"].replace(b"License-File: LICENSE\n", lines, 1)
    return files


def get_time():
    """The time of everything in an archive: SOURCE_DATE_EPOCH, else one that never changes."""
    return int(os.environ.get("SOURCE_DATE_EPOCH", 1577836800))


def write_wheel(directory, tag, files):
    """files: {name in the wheel: bytes}. WHEEL and RECORD are added; the name of the wheel is returned."""
    files[f"{INFO}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: kvtrans\nRoot-Is-Purelib: false\nTag: {tag}\n".encode()
    )
    record = ""
    filename = f"{NAME}-{read_version()}-{tag}.whl"
    # Zip knows no time before 1980.
    date = max(time.gmtime(get_time())[:6], (1980, 1, 1, 0, 0, 0))
    with zipfile.ZipFile(os.path.join(directory, filename), "w", zipfile.ZIP_DEFLATED) as wheel:
        def add(name, content):
            entry = zipfile.ZipInfo(name, date)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o100755 if ".so" in name else 0o100644) << 16
            wheel.writestr(entry, content)

        for name, content in sorted(files.items()):
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record += f"{name},sha256={digest},{len(content)}\n"
            add(name, content)
        add(f"{INFO}/RECORD", record + f"{INFO}/RECORD,,\n")
    return filename


def get_tag():
    """For this Python, on this platform: not manylinux, since libfabric has to be there."""
    version = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    platform = re.sub(r"[-.]", "_", sysconfig.get_platform())
    return f"{version}-{version}{sys.abiflags}-{platform}"


def get_requires_for_build_wheel(config_settings=None):
    """NumPy's headers: with those of NumPy 2, the extension runs with NumPy 1, too; the reverse fails."""
    return ["numpy>=2"]


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    with make_directory() as name:
        files = build_package(pathlib.Path(name), config_settings)
    return write_wheel(wheel_directory, get_tag(), files)


get_requires_for_build_editable = get_requires_for_build_wheel


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    """A wheel that points to build/editable-TAG, where the Python files are links to those of the source
    tree. What is written in C takes another pip install -e."""
    tag = get_tag()
    place = SOURCE / "build" / f"editable-{tag}"
    try:
        shutil.rmtree(place, ignore_errors=True)
        (place / NAME).mkdir(parents=True)
    except OSError as error:
        raise SystemExit(
            f"kvtrans: an editable install keeps what it builds in {place}: {error.strerror}") from None
    with make_directory() as name:
        files = build_package(pathlib.Path(name), config_settings)
    package = [file for file in files if file.startswith(f"{NAME}/")]
    for file in package:
        content = files.pop(file)
        if (SOURCE / "python" / file).exists():
            (place / file).symlink_to(SOURCE / "python" / file)
        else:
            (place / file).write_bytes(content)
    files[f"__editable__.{NAME}.pth"] = f"{place}\n".encode()
    return write_wheel(wheel_directory, tag, files)


def build_sdist(sdist_directory, config_settings=None):
    """The tarball of make dist, under the name that Python's tools expect, with PKG-INFO."""
    old_root, root = f"kvtrans-{read_version()}", f"{NAME}-{read_version()}"
    with make_directory() as name:
        build = configure(pathlib.Path(name), "--without-python", *settings_of(config_settings))
        make(build, "dist-gzip")
        files = {}
        with tarfile.open(build / f"{old_root}.tar.gz") as tarball:
            for member in tarball:
                if member.isfile():
                    path = root + member.name.removeprefix(old_root)
                    files[path] = (tarball.extractfile(member).read(), member.mode)
        head = (build / "python" / "metadata.txt").read_bytes()
    files[f"{root}/PKG-INFO"] = (head + (SOURCE / "README.md").read_bytes(), 0o644)
    filename = f"{root}.tar.gz"
    with open(os.path.join(sdist_directory, filename), "wb") as file, \
            gzip.GzipFile("", "wb", fileobj=file, mtime=get_time()) as zipped, \
            tarfile.open(mode="w", fileobj=zipped, format=tarfile.PAX_FORMAT) as tarball:
        for path, (content, mode) in sorted(files.items()):
            member = tarfile.TarInfo(path)
            member.size, member.mode, member.mtime = len(content), 0o755 if mode & 0o100 else 0o644, get_time()
            tarball.addfile(member, io.BytesIO(content))
    return filename
