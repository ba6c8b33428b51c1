# SPDX-License-Identifier: Apache-2.0
"""What README.md shows works as it stands there: its Python and C blocks are run."""

import os
import pathlib
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time

import pytest

README = pathlib.Path(__file__).resolve().parents[2] / "README.md"
LISTEN_PORT = 12345


def find_blocks(language):
    """The code blocks of one language, in the order of the text."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.M | re.S)


def find_program(name):
    """The Python block that begins with a comment naming it."""
    return next(block for block in find_blocks("python") if block.startswith(f"# {name}\n"))


def is_listening(port):
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def start(tmp_path):
    """Start a block as a program of its own; it is killed after the test."""
    processes = []

    def start_one(source, name="block.py"):
        path = tmp_path / name
        path.write_text(source)
        process = subprocess.Popen(
            [sys.executable, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        processes.append(process)
        return process

    yield start_one
    for process in processes:
        process.kill()
        process.communicate()


def finish(process):
    """What a program printed, once it has ended well."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert err == ""
    return out


def test_every_python_block_is_run_here():
    names = [block.split("\n", 1)[0] for block in find_blocks("python")]
    assert names == ["# decode.py", "# prefill.py"] + ["import kvtrans_engine"] * 2


def test_the_two_classic_programs_meet(start):
    if is_listening(LISTEN_PORT):
        pytest.skip(f"port {LISTEN_PORT} is in use on this host")
    decode = start(find_program("decode.py"), "decode.py")
    deadline = time.monotonic() + 60
    while not is_listening(LISTEN_PORT):
        assert decode.poll() is None, decode.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    prefill = start(find_program("prefill.py"), "prefill.py")
    assert finish(prefill) == "True None\n"
    assert finish(decode) == "True float32 (256,) 32640.0\n"


def test_the_layers_land_in_place(start):
    out = finish(start(find_blocks("python")[2]))
    assert out == "the peer did not receive 2097152 bytes within 0.1 s\n"


def test_blocks_are_written_and_told_of(start):
    out = finish(start(find_blocks("python")[3]))
    assert out == "26214400 bytes have landed\nb'request 7' True\n"


def find_library():
    """The compiler's flags for the library of make check; outside of it, for the one that is installed."""
    build = os.environ.get("KVT_BUILDDIR")
    if build is None:
        asked = ["pkg-config", "--cflags", "--libs", "kvtrans"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()
    library = pathlib.Path(build, "src", os.environ.get("KVT_OBJDIR", ".libs"))
    return [f"-I{README.parent}/include", f"-L{library}", f"-Wl,-rpath,{library}", "-lkvtrans"]


def test_the_c_program_compiles_and_runs(tmp_path):
    if os.environ.get("KVT_SANITIZERS"):
        pytest.skip("the program is not built with a sanitizer, the library is")
    compiler = shlex.split(os.environ.get("KVT_CC", "cc"))
    if shutil.which(compiler[0]) is None:
        pytest.skip("there is no C compiler")
    (block,) = find_blocks("c")
    source = tmp_path / "example.c"
    source.write_text(block)
    program = tmp_path / "example"
    subprocess.run(
        [*compiler, "-Wall", "-Wextra", "-Werror", source, "-o", program, *find_library()],
        check=True,
    )
    done = subprocess.run([program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "KVT_OK, 1024 bytes, 2\n", "")
