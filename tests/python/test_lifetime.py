# SPDX-License-Identifier: Apache-2.0
"""Nothing is left behind: references, descriptors, processes, threads."""

import gc
import multiprocessing
import os
import sys
import time
import weakref

import numpy as np
import pytest

import kvtrans_engine
from conftest import HOST, INTERFACE, PROVIDER, is_within, stop
from kvtrans_engine import Engine

ECHO = """
import sys
from kvtrans_engine import Engine
interface, provider, host, port = sys.argv[1:]
options = {"provider": provider or None, "heartbeat": 0.2, "lost_after": 0.8}
with Engine(interface, ncpus=1, **options) as engine:
    ok, conn = engine.connect(host, int(port))
    assert ok, engine.last_error
    ok, kv = engine.reg_kv(conn, b"")
    print("ready", flush=True)
    while True:
        ok, data = engine.recv_kv(kv)
        if not ok:
            print(type(engine.last_error).__name__, flush=True)
            break
        assert engine.send_kv(kv, data), engine.last_error
"""


def count_threads():
    return len(os.listdir("/proc/self/task"))


@pytest.fixture
def echo(open_engine, start_python):
    """A peer process that sends back what it gets: (engine, conn_id, kv_id, process)."""
    engine = open_engine(heartbeat=0.2, lost_after=0.8)
    process = start_python(ECHO, INTERFACE, PROVIDER or "", HOST, engine.port)
    ok, ip, port, conn_id = engine.accept(timeout=20)
    assert ok, (engine.last_error, process.poll())
    ok, kv_id = engine.reg_kv(conn_id, b"")
    assert process.stdout.readline() == "ready\n", process.communicate()
    return engine, conn_id, kv_id, process


def test_two_processes_exchange_arrays(echo, large):
    engine, _, kv_id, process = echo
    for data in (
        np.arange(10),
        large,
        np.zeros((0, 4), "f2"),
        np.array(3.5),
        large.astype("i2,f4"),
    ):
        back = engine.recv_kv_async(kv_id)
        assert engine.send_kv(kv_id, data, timeout=20), engine.last_error
        received = back.result(20)
        assert received.dtype == data.dtype and received.shape == data.shape
        np.testing.assert_array_equal(received, data)
    engine.close()
    assert process.stdout.readline() == "PeerLost\n"
    assert process.wait(10) == 0


def test_a_peer_that_is_killed_is_lost(echo):
    engine, conn_id, kv_id, process = echo
    transfer = engine.recv_kv_async(kv_id)
    start = time.monotonic()
    process.kill()
    assert isinstance(transfer.exception(30), kvtrans_engine.PeerLost)
    assert is_within(start, 2.5)
    assert isinstance(engine.status(conn_id), kvtrans_engine.PeerLost)
    assert engine.send_kv(kv_id, b"x") is False
    assert engine.recv_kv(kv_id) == (False, None)
    assert isinstance(engine.last_error, ConnectionError)


def test_a_peer_that_is_stopped_is_lost(echo):
    engine, _, kv_id, process = echo
    transfer = engine.recv_kv_async(kv_id)
    start = time.monotonic()
    stop(process)
    assert isinstance(transfer.exception(30), kvtrans_engine.PeerLost)
    assert time.monotonic() - start > 0.5 and is_within(start, 3)


def test_the_engine_serves_new_peers_after_one_died(echo, start_python):
    engine, conn_id, _, process = echo
    process.kill()
    process.wait()
    again = start_python(ECHO, INTERFACE, PROVIDER or "", HOST, engine.port)
    ok, _, _, conn_id = engine.accept(timeout=20)
    assert ok
    kv_id = engine.reg_kv(conn_id, b"")[1]
    assert engine.send_kv(kv_id, b"again", timeout=10)
    assert engine.recv_kv(kv_id, timeout=10)[1].tobytes() == b"again"
    assert again.poll() is None


def test_descriptors_return_after_many_connections(open_engine, count_fds, expect_fds):
    client, server = open_engine(), open_engine()

    def cycle():
        ok, conn = client.connect(HOST, server.port)
        assert ok, client.last_error
        server_conn = server.accept(timeout=5)[3]
        kv, server_kv = client.reg_kv(conn, b"")[1], server.reg_kv(server_conn, b"")[1]
        assert client.send_kv(kv, b"x") and server.recv_kv(server_kv, timeout=5)[0]
        assert client.dereg_kv(kv) and server.dereg_kv(server_kv)
        assert client.disconnect(conn) and server.disconnect(server_conn)

    for _ in range(5):
        cycle()
    before = count_fds()
    for _ in range(100):
        cycle()
    expect_fds(before)
    stats = client.stats()
    assert stats["connections"] == stats["kvs"] == stats["transfers"] == stats["registrations"] == 0
    assert stats["connections_total"] == 105


def test_descriptors_and_threads_return_after_engines(count_fds):
    Engine(INTERFACE, ncpus=1, provider=PROVIDER).close()
    fds, threads = count_fds(), count_threads()
    for _ in range(10):
        Engine(INTERFACE, ncpus=2, provider=PROVIDER).close()
    # The kernel takes a thread out of /proc a little after it was joined.
    end = time.monotonic() + 5
    while count_threads() > threads and time.monotonic() < end:
        time.sleep(0.01)
    assert count_threads() <= threads
    assert count_fds() <= fds


def test_references_return(pair):
    data = np.zeros(1000)
    client_kv, server_kv = pair.register()
    dtype = data.dtype
    gc.collect()
    before = sys.getrefcount(data), sys.getrefcount(dtype), sys.getrefcount(None)
    for _ in range(200):
        ok, kv_id = pair.client.reg_kv(pair.client_conn, data)
        assert pair.client.dereg_kv(kv_id)
        assert pair.client.send_kv(client_kv, data)
        assert pair.client.send_kv_async(client_kv, data).result(5)
        assert pair.server.recv_kv(server_kv, timeout=5)[0]
        assert pair.server.recv_kv_async(server_kv).result(5).nbytes == 8000
        assert pair.server.recv_kv(server_kv, timeout=0) == (False, None)
        with pytest.raises(TypeError):
            pair.client.send_kv(client_kv, data[::2])
    gc.collect()
    after = sys.getrefcount(data), sys.getrefcount(dtype), sys.getrefcount(None)
    assert after[:2] == before[:2]
    assert abs(after[2] - before[2]) < 150


def test_an_engine_that_is_dropped_warns_and_closes(open_engine):
    peer = open_engine()
    engine = Engine(INTERFACE, ncpus=1, provider=PROVIDER)
    assert engine.connect(HOST, peer.port)[0]
    conn_id = peer.accept(timeout=5)[3]
    kv_id = peer.reg_kv(conn_id, b"")[1]
    reference = weakref.ref(engine)
    with pytest.warns(ResourceWarning, match="unclosed engine"):
        del engine
    assert reference() is None
    assert peer.recv_kv(kv_id, timeout=5) == (False, None)
    assert isinstance(peer.last_error, kvtrans_engine.PeerLost)


class Holder(np.ndarray):
    """An array that can hold its engine."""


def test_a_cycle_through_a_registered_buffer_is_collected(pair):
    engine = Engine(INTERFACE, ncpus=1, provider=PROVIDER)
    ok, conn_id = engine.connect(HOST, pair.server.port)
    data = np.zeros(10).view(Holder)
    data.engine = engine
    assert engine.reg_kv(conn_id, data)[0]
    engine.recv_kv_async(engine.reg_kv(conn_id, b"")[1], timeout=0).exception(5)
    reference = weakref.ref(engine)
    with pytest.warns(ResourceWarning):
        del engine, data
        gc.collect()
    assert reference() is None


SHUTDOWNS = {
    "nothing closed": "",
    "transfers in flight": """
        pending = b.recv_kv_async(b_kv), a.send_kv_async(a_kv, np.zeros(1 << 20))
    """,
    "transfers in a cycle": """
        pending = [b.recv_kv_async(b_kv), a]
        pending.append(pending)
        del a, b
    """,
    "a daemon thread that waits": """
        import threading, time
        threading.Thread(target=b.recv_kv, args=(b_kv,), daemon=True).start()
        threading.Thread(target=b.accept, daemon=True).start()
        time.sleep(0.2)
    """,
    "an engine kept by a builtin module": """
        import builtins
        builtins.kept = a, b, b.recv_kv_async(b_kv)
    """,
    "an exception": """
        sys.exit(0)
    """,
}


@pytest.mark.parametrize("ending", SHUTDOWNS.values(), ids=SHUTDOWNS.keys())
def test_the_interpreter_exits_cleanly_with(run_python, ending):
    script = """
        import sys
        import numpy as np
        from kvtrans_engine import Engine
        a, b = Engine("lo", ncpus=1), Engine("lo", ncpus=1)
        ok, a_conn = a.connect("127.0.0.1", b.port)
        b_conn = b.accept(timeout=5)[3]
        a_kv, b_kv = a.reg_kv(a_conn, b"")[1], b.reg_kv(b_conn, np.zeros(10))[1]
    """
    start = time.monotonic()
    assert run_python(script + ending) == (0, "", "")
    assert is_within(start, 8)


def test_a_forked_child_gets_errors_and_exits_cleanly(run_python):
    status, out, err = run_python(
        """
        import os, signal, sys, time
        import kvtrans_engine
        from kvtrans_engine import Engine
        a, b = Engine("lo", ncpus=1), Engine("lo", ncpus=1)
        ok, a_conn = a.connect("127.0.0.1", b.port)
        b_conn = b.accept(timeout=5)[3]
        a_kv, b_kv = a.reg_kv(a_conn, b"")[1], b.reg_kv(b_conn, b"")[1]
        transfer = b.recv_kv_async(b_kv)
        calls = [
            lambda: a.connect("127.0.0.1", b.port), lambda: a.accept(), lambda: a.stats(),
            lambda: a.disconnect(a_conn), lambda: a.status(a_conn), lambda: a.reg_kv(a_conn, b""),
            lambda: a.dereg_kv(a_kv), lambda: a.send_kv(a_kv, b"x"), lambda: b.recv_kv(b_kv),
            lambda: b.recv_kv_into(b_kv, bytearray(1)), lambda: a.send_kv_async(a_kv, b"x"),
            lambda: a.port, lambda: a.provider, lambda: a.__enter__(),
            lambda: transfer.done(), lambda: transfer.result(), lambda: transfer.cancel(),
            lambda: transfer.cancelled(), lambda: transfer.exception(0),
        ]
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            for call in calls:
                try:
                    call()
                except RuntimeError as error:
                    assert type(error) is kvtrans_engine.Forked, error
                    assert error.name == "KVT_E_FORKED" and "fork" in str(error)
                else:
                    raise AssertionError("no error in the child")
            repr(a), repr(transfer)
            b.close()
            assert b.closed
            own = Engine("lo", ncpus=1, provider="tcp")
            own.close()
            del transfer, calls
            sys.exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert a.send_kv(a_kv, b"the parent goes on"), a.last_error
        assert transfer.result(5).tobytes() == b"the parent goes on"
        a.close(), b.close()
        print("done")
        """
    )
    assert (status, out) == (0, "done\n"), err


def test_a_stranger_is_hung_up_on_whatever_a_forked_child_holds(run_python):
    status, out, err = run_python(
        """
        import os, signal, socket
        from kvtrans_engine import Engine
        a, b = Engine("lo", ncpus=1), Engine("lo", ncpus=1)
        stranger = socket.create_connection(("127.0.0.1", b.port))
        a.connect("127.0.0.1", b.port)  # behind the stranger, so that one was taken, too
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            signal.pause()
        try:
            stranger.settimeout(20)
            assert stranger.recv(1) == b""
            for _ in range(3):  # what it says now is nobody's
                try:
                    stranger.send(b"x")
                except OSError:
                    break
            assert a.connect("127.0.0.1", b.port)[0], a.last_error
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        a.close(), b.close()
        print("done")
        """
    )
    assert (status, out) == (0, "done\n"), err


def receive_one(connection):
    """Be the server of one message in a process of multiprocessing."""
    with Engine(INTERFACE, ncpus=1, provider=PROVIDER) as engine:
        connection.send(engine.port)
        ok, _, _, conn_id = engine.accept(timeout=20)
        ok, kv_id = engine.reg_kv(conn_id, b"")
        ok, received = engine.recv_kv(kv_id, timeout=20)
        connection.send((ok, received))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_process_of_multiprocessing_has_an_engine_of_its_own(method):
    if method == "fork" and PROVIDER == "verbs":
        pytest.skip("RDMA does not survive fork, and says so: tests/integration/test_process.c")
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    process = context.Process(target=receive_one, args=(theirs,))
    process.start()
    try:
        assert ours.poll(30)
        with Engine(INTERFACE, ncpus=1, provider=PROVIDER) as engine:
            ok, conn_id = engine.connect(HOST, ours.recv())
            assert ok, engine.last_error
            ok, kv_id = engine.reg_kv(conn_id, b"")
            assert engine.send_kv(kv_id, np.arange(5)), engine.last_error
            assert ours.poll(20)
            ok, received = ours.recv()
        assert ok
        np.testing.assert_array_equal(received, np.arange(5))
        process.join(10)
        assert process.exitcode == 0
    finally:
        process.kill()
        process.join()


def test_importing_opens_nothing_and_sets_the_environment(run_python):
    status, out, err = run_python(
        """
        import os
        os.environ["HFI_NO_BACKTRACE"] = "kept"
        import numpy
        count = lambda: [len(os.listdir(f"/proc/self/{kind}")) for kind in ("fd", "task")]
        before = count()
        import kvtrans_engine
        print(os.environ["IPATH_NO_BACKTRACE"], os.environ["HFI_NO_BACKTRACE"])
        assert count() == before
        """
    )
    assert (status, out) == (0, "1 kept\n"), err
