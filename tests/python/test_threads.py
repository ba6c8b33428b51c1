# SPDX-License-Identifier: Apache-2.0
"""Threads may use one engine, and close things under one another."""

import gc
import os
import pathlib
import random
import re
import subprocess
import sys
import sysconfig
import threading
import time

import numpy as np
import pytest

import kvtrans_engine
from conftest import HOST, INTERFACE, PROVIDER, await_transfers, is_within


def start_all(in_thread, count, function):
    return [in_thread(function, i) for i in range(count)]


def test_threads_share_an_engine(pair, in_thread):
    kvs = [pair.register() for _ in range(4)]

    def send(i):
        for n in range(100):
            assert pair.client.send_kv(kvs[i][0], np.full(n * 300, i), timeout=20)

    def receive(i):
        for n in range(100):
            ok, received = pair.server.recv_kv(kvs[i][1], timeout=20)
            assert ok and len(received) == n * 300 and (received == i).all()

    for future in start_all(in_thread, 4, receive) + start_all(in_thread, 4, send):
        future.result(60)


def test_other_threads_run_while_one_waits(pair, in_thread):
    def tick_and_connect():
        for _ in range(200):
            time.sleep(0.001)
        return pair.server.connect(HOST, pair.client.port)

    connecting = in_thread(tick_and_connect)
    # A wait that looks at signals ten times a second, and lets others run only then, is too long for that.
    assert pair.client.accept(timeout=10)[0]
    assert connecting.result(10)[0]


def test_dereg_kv_ends_the_calls_of_other_threads(pair, in_thread, large):
    client_kv, _ = pair.register(np.zeros(10))
    calls = [
        in_thread(pair.client.recv_kv, client_kv),
        in_thread(pair.client.recv_kv_into, client_kv),
        in_thread(pair.client.send_kv, client_kv, large),
    ]
    await_transfers(pair.client, 3)
    start = time.monotonic()
    assert pair.client.dereg_kv(client_kv)
    assert [call.result(20) for call in calls] == [(False, None), (False, 0), False]
    assert is_within(start, 2)
    assert isinstance(pair.client.last_error, kvtrans_engine.Closed)


def test_disconnect_ends_the_calls_of_other_threads(pair, in_thread):
    client_kv, _ = pair.register()
    call = in_thread(pair.client.recv_kv, client_kv)
    await_transfers(pair.client, 1)
    assert pair.client.disconnect(pair.client_conn)
    assert call.result(20) == (False, None)


def test_close_ends_the_calls_of_other_threads(pair, in_thread, large):
    client_kv, _ = pair.register()
    calls = [
        in_thread(pair.client.recv_kv, client_kv),
        in_thread(pair.client.send_kv, client_kv, large),
    ]
    accepting = in_thread(pair.client.accept)
    await_transfers(pair.client, 2)
    start = time.monotonic()
    pair.client.close()
    try:
        assert accepting.result(20) == (False, None, None, None)
    except ValueError:
        pass  # it had not begun
    assert [call.result(20) for call in calls] == [(False, None), False]
    assert is_within(start, 2)
    assert isinstance(pair.client.last_error, kvtrans_engine.Closed)


def test_one_result_reaches_every_thread_that_waits(pair, in_thread):
    client_kv, server_kv = pair.register()
    transfer = pair.server.recv_kv_async(server_kv)
    waiting = start_all(in_thread, 6, lambda i: transfer.result(10))
    time.sleep(0.05)
    structured = np.zeros(5, [("a", "<i4"), ("b", "<f8")])
    assert pair.client.send_kv(client_kv, structured)
    results = [future.result(10) for future in waiting]
    assert all(result is results[0] for result in results)
    np.testing.assert_array_equal(results[0], structured)


@pytest.mark.parametrize("round_", range(5))
def test_closing_at_any_moment_is_safe(open_pair, in_thread, round_):
    pair = open_pair()
    stop = threading.Event()

    def churn(i):
        engine, conn = [(pair.client, pair.client_conn), (pair.server, pair.server_conn)][i % 2]
        try:
            while not stop.is_set():
                ok, kv_id = engine.reg_kv(conn, np.zeros(100), tag=i // 2)
                if not ok:
                    return
                transfer = engine.recv_kv_async(kv_id, timeout=0.05)
                engine.send_kv(kv_id, np.zeros(10), timeout=0.05)
                engine.recv_kv(kv_id, timeout=0.01)
                engine.stats(conn)
                engine.dereg_kv(kv_id)
                transfer.exception(5)
        except (ValueError, kvtrans_engine.Error):
            assert engine.closed or stop.is_set() or engine.status(conn) is not None

    futures = start_all(in_thread, 6, churn)
    time.sleep(0.1 + 0.05 * round_)
    pair.client.close()
    time.sleep(0.1)
    stop.set()
    pair.server.close()
    for future in futures:
        future.result(10)


# ---- everything at once ----

BLOCKS = 64


def use_transfers(link, pool, remote, rng):
    """Start transfers of every kind, and let go of them in every way."""
    count = rng.randrange(1, BLOCKS)
    indices = np.arange(count)
    transfers = [
        link.conn.write_blocks(pool, indices, remote, indices, notify=b"n"),
        link.conn.read_blocks(pool, indices, remote, indices),
        link.conn.notify(b"n"),
    ]
    told = []
    transfers[0].add_done_callback(told.append)
    if rng.random() < 0.3:
        transfers[1].cancel()
    for transfer in rng.sample(transfers, 2):
        transfer.done(), repr(transfer), transfer.stats()
        transfer.exception(20)
    with link.conn.batch(notify=b"n") as batch:
        batch.write_blocks(pool, indices, remote, indices)
    batch.result(20)


def look_around(link, pool, remote, rng):
    """What asks, and takes in what has happened."""
    for engine, conn in ((link.client, link.conn), (link.server, link.peer)):
        engine.reap(), engine.stats(), conn.stats(), repr(engine), repr(conn)
        engine.wait(0.001), engine.fileno(), engine.status(conn.id)
        assert engine.connection(conn.id) is conn and conn.engine is engine
    assert pool.block_count == BLOCKS and len(repr(pool) + repr(remote)) > 0
    gc.collect(0)


def share_pools(link, pool, remote, rng):
    """Pools, exports and remotes come and go."""
    name = f"of thread {threading.get_ident()}"
    own = link.server.allocate(8, 512)
    desc = link.peer.export(own, name=name)
    near = link.client.register(np.zeros((8, 512), np.uint8))
    with link.conn.remote(name) as found, link.conn.import_remote(desc) as imported:
        transfer = link.conn.write_blocks(near, [1], found, [2])
        if rng.random() < 0.5:
            link.peer.withdraw(desc)
        transfer.exception(20), imported.withdrawn, own.arrays
    rng.choice([own, near]).close()
    near.close(), own.close()


def use_kvs(link, pool, remote, rng):
    """The classic calls, and transfers that the engine does not keep."""
    tag = rng.randrange(1 << 40)
    ok, near = link.client.reg_kv(link.conn.id, np.zeros(10), tag=tag)
    also, far = link.server.reg_kv(link.peer.id, np.zeros(10), tag=tag)
    if not ok or not also:
        return
    dropped = link.server.recv_kv_async(far, timeout=20)
    dropped.add_done_callback(lambda _: None)
    link.client.send_kv_async(near, np.ones(5)).exception(20)
    if rng.random() < 0.5:
        dropped.exception(20)
    del dropped
    link.client.send_kv(near, np.ones(5), timeout=0.01)
    link.server.recv_kv(far, timeout=0.01)
    for engine, kv_id in ((link.client, near), (link.server, far)):
        engine.dereg_kv(kv_id)


USES = [use_transfers, look_around, share_pools, use_kvs]


def hammer(link, in_thread, is_over, thread_count=8):
    """Use one link from many threads until is_over(), and return what they raised."""
    here, there = np.ones((BLOCKS, 4096), np.uint8), np.zeros((BLOCKS, 4096), np.uint8)
    pool = link.client.register(here)
    _, remote = link.share(there)

    def run(i):
        rng = random.Random(i)
        while not is_over():
            try:
                rng.choice(USES)(link, pool, remote, rng)
            except (kvtrans_engine.Error, ValueError) as error:
                return error
        return None

    return start_all(in_thread, thread_count, run)


def test_many_threads_do_everything_at_once_and_nothing_is_lost(open_link, in_thread):
    link = open_link(ncpus=2)
    end = time.monotonic() + 3
    taken = [0]

    def take():
        while time.monotonic() < end:
            taken[0] += len(link.server.notifications())

    taker = in_thread(take)
    threads = hammer(link, in_thread, lambda: time.monotonic() >= end)
    errors = [thread.result(60) for thread in threads]
    assert errors == [None] * len(threads)
    taker.result(10)
    sent = link.server.stats()["notifications"]
    assert sent > 0 and taken[0] + len(link.server.notifications()) == sent
    link.client.reap(), link.server.reap()
    assert link.client.stats()["transfers"] == 0 == link.server.stats()["transfers"]


@pytest.mark.parametrize("what", ["engine", "connection", "peer", "pool", "dropped"])
@pytest.mark.parametrize("round_", range(4))
def test_what_is_closed_under_many_threads_ends_them_with_an_error(
    open_link, in_thread, what, round_
):
    link = open_link(ncpus=2)
    over = threading.Event()
    threads = hammer(link, in_thread, over.is_set)
    time.sleep(0.05 + 0.1 * round_)
    if what == "engine":
        link.client.close()
    elif what == "connection":
        link.conn.close()
    elif what == "peer":
        link.server.close()
    elif what == "pool":
        for thread_pool in [link.client.register(np.zeros((4, 64), np.uint8)) for _ in range(8)]:
            in_thread(thread_pool.close)
            thread_pool.close()
    else:
        closers = start_all(in_thread, 4, lambda i: (link.conn.close(), link.client.close()))
        assert all(closer.result(10) for closer in closers)
    if what == "pool":
        over.set()
    errors = [thread.result(60) for thread in threads]
    assert all(error is None for error in errors) == (what == "pool")
    with kvtrans_engine.Engine(INTERFACE, provider=PROVIDER) as engine:  # and the process goes on
        assert engine.port


def test_an_engine_goes_with_its_last_reference_under_its_connections(open_engine, in_thread):
    server = open_engine()

    def come_and_go(i):
        for _ in range(20):
            engine = kvtrans_engine.Engine(INTERFACE, ncpus=1, provider=PROVIDER)
            conn = engine.open_connection(HOST, server.port)
            users = [threading.Thread(target=poke, args=(conn,)) for _ in range(2)]
            for user in users:
                user.start()
            del engine  # warns, and closes
            for user in users:
                user.join()
            assert conn.closed

    def poke(conn):
        try:
            while True:
                conn.host, conn.stats(), conn.lost, conn.engine
        except (ValueError, kvtrans_engine.Error):
            conn.close()

    for future in start_all(in_thread, 2, come_and_go):
        future.result(60)


# What reads nothing that changes, or takes the lock itself.
UNLOCKED = {
    "Py_GenericAlias",
    "accept_async",
    "anotifications",
    "conn_batch",
    "get_id",
    "get_conn",
    "get_block_count",
    "get_block_len",
    "get_extent_count",
    "get_read_only",
}


def test_what_is_called_from_outside_takes_the_lock():
    """In a build without a GIL nothing else guards the extension; see python/ext/lock.h."""
    unlocked = set()
    for path in pathlib.Path(os.environ["KVT_SRCDIR"], "python", "ext").glob("*.c"):
        for table in re.findall(r"Py(?:MethodDef|GetSetDef) \w+\[\] = \{(.*?)^\};", path.read_text(), re.M | re.S):
            rows = re.findall(r'\{\s*"\w+",\s*(?:\(PyCFunction\)\(void \(\*\)\(void\)\))?(\w+),', table)
            assert rows or 'METHOD("' in table
            unlocked.update(name for name in rows if not name.endswith("_locked"))
    assert unlocked == UNLOCKED


def test_the_extension_leaves_the_gil_off():
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("this Python has a GIL: configure with PYTHON=python3.13t or newer")
    script = "import sys, kvtrans_engine; sys.exit(sys._is_gil_enabled())"
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, timeout=60)
