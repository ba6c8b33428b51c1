# SPDX-License-Identifier: Apache-2.0
"""Engines, pairs of them, and other processes for the Python tests.

All run over "lo", unless KVT_TEST_INTERFACE, KVT_TEST_HOST (its address) and KVT_TEST_PROVIDER
choose otherwise for the engines opened here.
"""

import ctypes
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import Future

import numpy as np
import pytest

import kvtrans_engine

os.environ.setdefault("KVTRANS_LOCAL", "0")  # as tests/env.sh: over the network where nothing else is said

INTERFACE = os.environ.get("KVT_TEST_INTERFACE", "lo")
HOST = os.environ.get("KVT_TEST_HOST", "127.0.0.1")
PROVIDER = os.environ.get("KVT_TEST_PROVIDER")
# The device and the processor are emulated then, and a hundredth as fast: less data does.
IS_SLOW = PROVIDER == "verbs"
# What is promised is kept on an idle machine; on one that others use as well every thread may be late, which
# is no fault. KVT_TEST_PUNCTUAL=1 takes the limits by the letter (make check-long).
LATENESS = 0 if os.environ.get("KVT_TEST_PUNCTUAL") == "1" else 15


def is_within(start, seconds):
    """Whether at most so many seconds have passed since then, by what is promised."""
    return time.monotonic() - start < seconds + LATENESS


def stop(process):
    """Stop a process, and wait until it has: the signal alone lets it run for as long as it is not scheduled."""
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)


def await_transfers(engine, count):
    """Wait until so many transfers are in flight: calls of other threads are inside then."""
    end = time.monotonic() + 20
    while engine.stats()["transfers"] != count:
        assert time.monotonic() < end, engine.stats()
        time.sleep(0.001)


class Pair:
    """Two engines of this process, connected; client and server are (engine, conn_id)."""

    def __init__(self, client, server):
        self.client, self.server = client, server
        ok, self.client_conn = client.connect(HOST, server.port)
        assert ok, client.last_error
        ok, self.ip, self.port, self.server_conn = server.accept(timeout=5)
        assert ok, server.last_error

    def register(self, client_data=b"", server_data=b"", tag=None):
        """Register one KV on each side that meet each other; return their ids."""
        ok, client_kv = self.client.reg_kv(self.client_conn, client_data, tag=tag)
        assert ok, self.client.last_error
        ok, server_kv = self.server.reg_kv(self.server_conn, server_data, tag=tag)
        assert ok, self.server.last_error
        return client_kv, server_kv


class Link:
    """Two engines of this process and their Connections; the server exports, the client moves."""

    def __init__(self, client, server):
        self.client, self.server = client, server
        self.conn = client.open_connection(HOST, server.port)
        self.peer = server.accept_connection(timeout=5)

    def share(self, arrays, access="rw", **options):
        """Register arrays with the server and export them: its pool, and the client's remote."""
        pool = self.server.register(arrays, **options)
        return pool, self.conn.import_remote(self.peer.export(pool, access=access))

    def get_notes(self, count=1, seconds=10):
        """Wait for so many notifications of the server."""
        notes = []
        end = time.monotonic() + seconds
        while len(notes) < count:
            assert time.monotonic() < end, notes
            self.server.wait(0.1)
            notes += self.server.notifications()
        return notes


class DlManaged(ctypes.Structure):
    """A DLPack tensor in the hands of who shares it, of the older kind."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device", ctypes.c_int32 * 2),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    ]


class DlVersioned(ctypes.Structure):
    """The same of the newer kind, whose flags tell of read-only memory (1)."""

    _fields_ = [
        ("version", ctypes.c_uint32 * 2),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", DlManaged),  # whose own context and deleter are beyond what anybody reads
    ]


class Tensor:
    """The least of a DLPack exporter: strided CPU memory, the capsule made with ctypes."""

    def __init__(self, memory, shape, code=4, bits=16, device=1, read_only=False, **layout):
        self.memory, self.device, self.read_only, self.deleted = memory, device, read_only, 0
        self.shape = (ctypes.c_int64 * len(shape))(*shape)
        strides = layout.get("strides")
        self.strides = strides and (ctypes.c_int64 * len(strides))(*strides)
        self.delete = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self._delete)
        deleter = ctypes.cast(self.delete, ctypes.c_void_p)
        self.tensor = DlManaged(
            memory.ctypes.data,
            (device, 0),
            len(shape),
            code,
            bits,
            1,
            self.shape,
            self.strides,
            layout.get("offset", 0),
            None,
            deleter,
        )
        self.versioned = DlVersioned((1, 0), None, deleter, 1, self.tensor)

    def _delete(self, _):
        self.deleted += 1

    def __dlpack__(self, *, stream=None, **options):
        if options and not self.read_only:
            raise TypeError("this one is of the older kind")
        make = ctypes.pythonapi.PyCapsule_New
        make.restype = ctypes.py_object
        make.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        if self.read_only:
            return make(ctypes.addressof(self.versioned), b"dltensor_versioned", None)
        return make(ctypes.addressof(self.tensor), b"dltensor", None)

    def __dlpack_device__(self):
        return self.device, 0


@pytest.fixture
def open_engine():
    """Open engines that are closed after the test."""
    engines = []

    def open_one(interface=INTERFACE, ncpus=1, provider=PROVIDER, **options):
        engine = kvtrans_engine.Engine(interface, ncpus=ncpus, provider=provider, **options)
        engines.append(engine)
        return engine

    yield open_one
    for engine in engines:
        engine.close()


@pytest.fixture
def open_insecure_engine(open_engine):
    """Open engines for peers that only speak the protocol's later parts."""

    def open_one(**options):
        with pytest.warns(RuntimeWarning, match="lets in whoever"):
            return open_engine(insecure=True, **options)

    return open_one


@pytest.fixture
def open_pair(open_engine):
    """Open connected pairs of engines with the same options."""
    return lambda **options: Pair(open_engine(**options), open_engine(**options))


@pytest.fixture
def pair(open_pair):
    return open_pair()


@pytest.fixture
def open_link(open_engine):
    """Open links whose engines have the same options."""
    return lambda **options: Link(open_engine(**options), open_engine(**options))


@pytest.fixture
def link(open_link):
    return open_link()


@pytest.fixture
def in_thread():
    """Run a function in a thread and return a Future of what it returns or raises."""
    threads = []

    def start(function, *args, **kwargs):
        future = Future()

        def run():
            try:
                future.set_result(function(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)

        threads.append(threading.Thread(target=run, daemon=True))
        threads[-1].start()
        return future

    yield start
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a call is still waiting"


@pytest.fixture
def start_python():
    """Start another Python that runs a script; it is killed after the test."""
    processes = []

    def start(script, *args, **options):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def run_python(start_python):
    """Run a script in another Python to its end: (exit status, stdout, stderr)."""

    def run(script, *args, timeout=120):
        process = start_python(script, *args)
        out, err = process.communicate(timeout=timeout)
        return process.returncode, out, err

    return run


@pytest.fixture
def count_fds():
    return lambda: len(os.listdir("/proc/self/fd"))


@pytest.fixture
def expect_fds(count_fds):
    """At most so many descriptors are open, soon: an engine's thread closes some behind the call that ends them."""

    def expect(most):
        end = time.monotonic() + 10
        while count_fds() > most and time.monotonic() < end:
            time.sleep(0.01)
        assert count_fds() <= most

    return expect


@pytest.fixture
def large():
    """An array well above the eager limit."""
    return np.arange(1 << 19, dtype=np.float64).reshape(1 << 10, -1)
