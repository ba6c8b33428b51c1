# SPDX-License-Identifier: Apache-2.0
"""Every call that waits has a deadline and gives way to Ctrl-C."""

import math
import signal
import socket
import time

import pytest

import kvtrans_engine
from conftest import LATENESS


def took(function, *args, **kwargs):
    start = time.monotonic()
    result = function(*args, **kwargs)
    return result, time.monotonic() - start


@pytest.mark.parametrize("timeout", [0, 0.2])
def test_a_deadline_ends_every_wait(pair, large, timeout):
    client_kv, server_kv = pair.register(b"", bytearray(8))
    waits = {
        "accept": (lambda: pair.client.accept(timeout=timeout), (False, None, None, None)),
        "recv_kv": (lambda: pair.client.recv_kv(client_kv, timeout=timeout), (False, None)),
        "recv_kv_into": (
            lambda: pair.client.recv_kv_into(client_kv, bytearray(8), timeout),
            (False, 0),
        ),
        "send_kv": (lambda: pair.client.send_kv(client_kv, large, timeout=timeout), False),
    }
    for name, (wait, failure) in waits.items():
        result, seconds = took(wait)
        assert result == failure, name
        assert isinstance(pair.client.last_error, kvtrans_engine.TransferTimeout), name
        assert timeout <= seconds < timeout + 1 + LATENESS, (name, seconds)
    # What timed out left nothing behind.
    assert pair.client.send_kv(client_kv, b"after")
    assert pair.server.recv_kv(server_kv, timeout=5)[1].tobytes() == b"after"


def test_connect_to_a_silent_host_ends_in_time(open_engine):
    engine = open_engine()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        result, seconds = took(engine.connect, "127.0.0.1", silent.getsockname()[1], timeout=0.3)
    assert result == (False, None)
    assert isinstance(engine.last_error, kvtrans_engine.Unreachable)
    assert 0.2 < seconds < 1.5 + LATENESS


def test_a_timeout_of_zero_takes_what_is_there(pair):
    client_kv, server_kv = pair.register()
    assert pair.client.send_kv(client_kv, b"there")
    assert pair.server.recv_kv(server_kv, timeout=0)[1].tobytes() == b"there"


def test_no_call_takes_a_timeout_that_is_no_time(link):
    kv_id = link.client.reg_kv(link.conn.id, bytearray(8))[1]
    pool = link.client.allocate(1, 64)
    link.peer.export(link.server.allocate(1, 64), name="pool")
    remote = link.conn.remote("pool")
    transfer = link.client.recv_kv_async(kv_id)
    calls = {
        "connect": lambda timeout: link.client.connect("127.0.0.1", 1, timeout),
        "accept": link.client.accept,
        "open_connection": lambda timeout: link.client.open_connection("127.0.0.1", 1, timeout),
        "accept_connection": link.client.accept_connection,
        "send_kv": lambda timeout: link.client.send_kv(kv_id, b"", timeout),
        "recv_kv": lambda timeout: link.client.recv_kv(kv_id, timeout=timeout),
        "recv_kv_into": lambda timeout: link.client.recv_kv_into(kv_id, timeout=timeout),
        "send_kv_async": lambda timeout: link.client.send_kv_async(kv_id, b"", timeout),
        "recv_kv_async": lambda timeout: link.client.recv_kv_async(kv_id, timeout=timeout),
        "recv_kv_into_async": lambda timeout: link.client.recv_kv_into_async(
            kv_id, timeout=timeout
        ),
        "import_remote": lambda timeout: link.conn.import_remote(b"", timeout),
        "remote": lambda timeout: link.conn.remote("pool", timeout),
        "write_blocks": lambda timeout: link.conn.write_blocks(
            pool, [0], remote, [0], timeout=timeout
        ),
        "read_blocks": lambda timeout: link.conn.read_blocks(
            pool, [0], remote, [0], timeout=timeout
        ),
        "write_spans": lambda timeout: link.conn.write_spans(
            pool, [0], remote, [0], [1], timeout=timeout
        ),
        "read_spans": lambda timeout: link.conn.read_spans(
            pool, [0], remote, [0], [1], timeout=timeout
        ),
        "notify": lambda timeout: link.conn.notify(b"", timeout),
        "batch": lambda timeout: link.conn.batch(timeout=timeout),
        "Batch.result": lambda timeout: link.conn.batch().result(timeout),
        "result": transfer.result,
        "exception": transfer.exception,
        "wait": link.client.wait,
    }
    for name, call in calls.items():
        for timeout in (-1, -1e-9, -math.inf, math.nan):
            with pytest.raises(ValueError, match="timeout must be 0 or more"):
                call(timeout)
            assert not transfer.done(), name
        with pytest.raises(TypeError):
            call("1")


def test_zero_does_not_wait(link):
    transfer = link.client.recv_kv_async(link.client.reg_kv(link.conn.id, b"")[1])
    calls = {
        "open_connection": lambda: link.client.open_connection("192.0.2.1", 1, timeout=0),
        "accept_connection": lambda: link.client.accept_connection(timeout=0),
        "remote": lambda: link.conn.remote("nothing", timeout=0),
        "result": lambda: transfer.result(timeout=0),
    }
    for name, call in calls.items():
        since = time.monotonic()
        with pytest.raises((TimeoutError, kvtrans_engine.Unreachable)):
            call()
        assert time.monotonic() - since < 1 + LATENESS, name
    assert link.client.wait(timeout=0) is False
    batch = link.conn.batch()
    batch.add(transfer)
    with pytest.raises(TimeoutError):
        batch.result(timeout=0)


def test_a_batch_waits_for_ever(link):
    batch = link.conn.batch(notify=b"x", timeout=math.inf)
    assert batch.result(math.inf) == 0
    assert link.conn.batch().result(1e300) == 0


def test_long_timeouts_are_no_trouble(pair):
    client_kv, server_kv = pair.register()
    for timeout in (math.inf, 1e300, 1e10, None):
        assert pair.client.send_kv(client_kv, b"x", timeout=timeout)
        assert pair.server.recv_kv(server_kv, timeout=timeout)[0]
        transfer = pair.server.recv_kv_async(server_kv, timeout=timeout)
        assert pair.client.send_kv(client_kv, b"x", timeout=timeout)
        assert transfer.result(timeout).tobytes() == b"x"


SCRIPT = """
import signal, socket, sys, time
import numpy as np
from kvtrans_engine import Engine

a, b = Engine("lo", ncpus=1), Engine("lo", ncpus=1)
ok, a_conn = a.connect("127.0.0.1", b.port)
b_conn = b.accept(timeout=5)[3]
data = np.zeros(1 << 20)
a_kv, b_kv = a.reg_kv(a_conn, data)[1], b.reg_kv(b_conn, np.zeros(1 << 20))[1]
silent = socket.create_server(("127.0.0.1", 0))
transfer = b.recv_kv_async(b_kv)
waits = {
    "accept": lambda: a.accept(),
    "connect": lambda: a.connect("127.0.0.1", silent.getsockname()[1], timeout=60),
    "send_kv": lambda: a.send_kv(a.reg_kv(a_conn, b"")[1], data),
    "recv_kv": lambda: a.recv_kv(a_kv),
    "recv_kv_into": lambda: a.recv_kv_into(a_kv),
    "result": lambda: transfer.result(),
    "exception": lambda: transfer.exception(),
}
try:
    print("ready", flush=True)
    print("returned", waits[sys.argv[1]](), a.last_error)
except KeyboardInterrupt:
    print("interrupted", flush=True)
if sys.argv[1] == "connect":
    assert a.connect("127.0.0.1", b.port)[0], a.last_error
assert not transfer.done()
assert a.send_kv(a_kv, b"still works"), a.last_error
assert transfer.result(5).tobytes() == b"still works"
a.close()
b.close()
print("closed")
"""


@pytest.mark.parametrize(
    "wait", ["accept", "connect", "send_kv", "recv_kv", "recv_kv_into", "result", "exception"]
)
def test_ctrl_c_ends_a_wait_and_the_engine_lives_on(start_python, record_property, wait):
    process = start_python(SCRIPT, wait)
    assert process.stdout.readline() == "ready\n", process.communicate()
    time.sleep(0.3)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    line = process.stdout.readline()
    seconds = time.monotonic() - start
    record_property("seconds", seconds)
    print(f"{wait}: {seconds * 1000:.0f} ms")
    process.wait(10)
    out, err = process.stdout.read(), process.stderr.read()
    assert line == "interrupted\n", (line, out, err)
    assert seconds < 1 + LATENESS
    assert (out, err, process.returncode) == ("closed\n", "", 0)


def test_a_signal_handler_that_returns_does_not_end_a_wait(run_python):
    status, out, err = run_python(
        """
        import signal, time
        from kvtrans_engine import Engine
        calls = []
        signal.signal(signal.SIGALRM, lambda *args: calls.append(1))
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        with Engine("lo", ncpus=1) as engine:
            start = time.monotonic()
            assert not engine.accept(timeout=0.5)[0]
            assert time.monotonic() - start >= 0.5
            assert calls
            assert engine.last_error.name == "KVT_E_TIMEOUT", engine.last_error
        signal.setitimer(signal.ITIMER_REAL, 0)
        """
    )
    assert (status, out, err) == (0, "", "")


def test_an_exception_of_a_signal_handler_comes_through(run_python):
    status, out, err = run_python(
        """
        import signal
        from kvtrans_engine import Engine
        def handler(*args):
            raise LookupError("from the handler")
        signal.signal(signal.SIGALRM, handler)
        with Engine("lo", ncpus=1) as engine:
            for _ in range(3):
                signal.setitimer(signal.ITIMER_REAL, 0.1)
                try:
                    engine.accept()
                except LookupError as error:
                    print(error)
        """
    )
    assert (status, out, err) == (0, "from the handler\n" * 3, "")


def test_ctrl_c_while_closing_comes_after_it(run_python):
    status, out, err = run_python(
        """
        import signal, threading
        import numpy as np
        from kvtrans_engine import Engine
        a, b = Engine("lo", ncpus=1), Engine("lo", ncpus=1)
        ok, a_conn = a.connect("127.0.0.1", b.port)
        b_conn = b.accept(timeout=5)[3]
        seen = 0
        for i in range(100):
            try:
                kv = a.reg_kv(a_conn, np.zeros(1000))[1]
                transfer = a.recv_kv_into_async(kv)
                signal.raise_signal(signal.SIGINT) if i % 2 else None
                a.dereg_kv(kv)
            except KeyboardInterrupt:
                seen += 1
        assert seen == 50, seen
        threading.Timer(0.01, signal.raise_signal, [signal.SIGINT]).start()
        try:
            while True:
                kv = a.reg_kv(a_conn, np.zeros(1000))[1]
                transfer = a.recv_kv_into_async(kv)
                a.dereg_kv(kv)
        except KeyboardInterrupt:
            print("interrupted")
        a.close()
        b.close()
        """
    )
    assert (status, out, err) == (0, "interrupted\n", "")
