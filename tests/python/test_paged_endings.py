# SPDX-License-Identifier: Apache-2.0
"""Transfers that end early, and what is left behind: nothing, and memory that is free."""

import gc
import os
import signal
import time
import weakref

import numpy as np
import pytest

import kvtrans_engine
from conftest import HOST, INTERFACE, IS_SLOW, PROVIDER, is_within, stop

BLOCKS, BLOCK_BYTES = 64 if IS_SLOW else 512, 65536
EVERY = np.arange(BLOCKS, dtype=np.int32)
# What a transfer may end with when its connection has been severed under it.
LOST = (kvtrans_engine.PeerLost, kvtrans_engine.Closed)

# A peer that exports such a cache under a name, and says what it is told to do.
PEER = """
import sys
import numpy as np
from kvtrans_engine import Engine
interface, host, port, provider, blocks = sys.argv[1:]
with Engine(interface, ncpus=1, lost_after=30, provider=provider or None) as engine:
    conn = engine.open_connection(host, int(port))
    cache = np.full((int(blocks), 65536), 7, np.uint8)
    conn.export(engine.register(cache), name="cache")
    print("ready", flush=True)
    for line in sys.stdin:
        exec(line)
        print("done", flush=True)
"""


@pytest.fixture
def caches(link):
    """here, there, a pool over here, the server's pool over there, a remote of it."""
    here = np.ones((BLOCKS, BLOCK_BYTES), np.uint8)
    there = np.zeros_like(here)
    server_pool, remote = link.share(there)
    return here, there, link.client.register(here), server_pool, remote


@pytest.fixture
def stalling(open_engine, start_python):
    """A peer in another process that can be stopped: engine, connection, remote, process."""
    engine = open_engine(lost_after=30)
    process = start_python(PEER, INTERFACE, HOST, engine.port, PROVIDER or "", BLOCKS)
    conn = engine.accept_connection(timeout=20)
    assert process.stdout.readline() == "ready\n", process.communicate()
    yield engine, conn, conn.remote("cache"), process
    process.send_signal(signal.SIGCONT)


def tell(process, line):
    process.stdin.write(line + "\n")
    process.stdin.flush()
    assert process.stdout.readline() == "done\n", process.communicate()


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_two_processes_move_blocks(stalling):
    engine, conn, remote, process = stalling
    here = np.zeros((BLOCKS, BLOCK_BYTES), np.uint8)
    pool = engine.register(here)
    order = np.random.default_rng(1).permutation(BLOCKS)
    assert conn.read_blocks(pool, order, remote, EVERY).result(20) == here.nbytes
    assert (here == 7).all()
    here[:] = (np.arange(BLOCKS) % 251)[:, None]
    conn.write_blocks(pool, EVERY, remote, order, notify=b"written").result(20)
    tell(process, "assert engine.wait(10); note = engine.notifications()[0]")
    tell(process, "assert note.data == b'written' and note.error is None")
    tell(process, f"order = np.random.default_rng(1).permutation({BLOCKS})")
    tell(process, "assert (cache[order] == (np.arange(int(blocks)) % 251)[:, None]).all()")
    tell(process, "note.conn.notify(b'checked')")
    assert engine.wait(10) and engine.notifications()[0].data == b"checked"


def test_a_transfer_ends_at_its_deadline(stalling):
    engine, conn, remote, process = stalling
    pool = engine.register(np.ones((BLOCKS, BLOCK_BYTES), np.uint8))
    stop(process)
    start = time.monotonic()
    transfer = conn.write_blocks(pool, EVERY, remote, EVERY, timeout=1)
    with pytest.raises(TimeoutError) as caught:
        transfer.result(0.05)
    assert not isinstance(caught.value, kvtrans_engine.Error) and transfer.stats() is None
    with pytest.raises(kvtrans_engine.TransferTimeout):
        transfer.result(30)
    assert time.monotonic() - start > 0.95 and is_within(start, 1 + 1.5)
    assert engine.stats()["transfers"] == 0


def test_a_transfer_is_cancelled(stalling):
    engine, conn, remote, process = stalling
    pool = engine.register(np.zeros((BLOCKS, BLOCK_BYTES), np.uint8))
    stop(process)
    transfer = conn.read_blocks(pool, EVERY, remote, EVERY)
    assert not transfer.done() and not transfer.cancelled()
    start = time.monotonic()
    assert transfer.cancel()
    with pytest.raises(kvtrans_engine.Cancelled):
        transfer.result(30)
    assert is_within(start, 1.5)
    assert transfer.cancelled() and not transfer.cancel()
    assert "KVT_E_CANCELLED" in repr(transfer)


def test_a_pool_is_closed_under_its_transfers(stalling):
    engine, conn, remote, process = stalling
    data = bytearray(BLOCKS * BLOCK_BYTES)
    pool = engine.register(data, block_nbytes=BLOCK_BYTES)
    stop(process)
    transfer = conn.read_blocks(pool, EVERY, remote, EVERY)
    start = time.monotonic()
    pool.close()
    assert is_within(start, 1.5)
    data.append(1)  # it is ours again
    assert isinstance(transfer.exception(1), kvtrans_engine.Closed)


def test_a_peer_that_is_killed_ends_its_transfers(stalling):
    engine, conn, remote, process = stalling
    pool = engine.register(np.ones((BLOCKS, BLOCK_BYTES), np.uint8))
    stop(process)
    lost = []
    conn.on_lost(lost.append)
    transfer = conn.write_blocks(pool, EVERY, remote, EVERY)
    start = time.monotonic()
    process.kill()
    assert isinstance(transfer.exception(30), kvtrans_engine.PeerLost)
    assert is_within(start, 2.5)
    assert isinstance(conn.lost, kvtrans_engine.PeerLost)
    while not lost:
        assert engine.wait(5)
        engine.reap()
    assert lost == [conn] and "lost" in repr(conn)
    with pytest.raises(kvtrans_engine.PeerLost):
        conn.write_blocks(pool, [0], remote, [0]).result(5)
    with pytest.raises(kvtrans_engine.PeerLost):
        conn.notify(b"anyone?").result(5)
    assert conn.on_lost(lost.append) is not None and lost == [conn, conn]  # at once


def test_a_connection_closed_on_this_side_ends_its_transfers(stalling):
    engine, conn, remote, process = stalling
    pool = engine.register(np.ones((BLOCKS, BLOCK_BYTES), np.uint8))
    stop(process)
    transfer = conn.write_blocks(pool, EVERY, remote, EVERY)
    conn.close()
    conn.close()
    assert isinstance(transfer.exception(5), LOST)
    assert conn.closed and "closed" in repr(conn) and conn.id > 0
    for use in (lambda: conn.host, lambda: conn.lost, lambda: conn.notify(b"")):
        with pytest.raises(ValueError, match="connection is closed"):
            use()
    with pytest.raises(ValueError, match="no connection"):
        engine.connection(conn.id)


def test_withdrawing_stops_traffic_and_nothing_is_written_after(link, caches):
    _, there, pool, server_pool, _ = caches
    outcomes = set()
    for turn in range(12):
        desc = link.peer.export(server_pool)
        remote = link.conn.import_remote(desc)
        there[:] = 0
        transfers = [link.conn.write_blocks(pool, EVERY, remote, EVERY) for _ in range(3)]
        time.sleep(0.002 * turn)
        link.peer.withdraw(desc)
        there[:] = 9
        for transfer in transfers:
            error = transfer.exception(10)
            assert error is None or isinstance(error, kvtrans_engine.Withdrawn), error
            outcomes.add(type(error))
        assert (there == 9).all()
        with pytest.raises(kvtrans_engine.Withdrawn):
            link.conn.write_blocks(pool, EVERY, remote, EVERY).result(10)
        assert remote.withdrawn and "withdrawn" in repr(remote)
        with pytest.raises((kvtrans_engine.Withdrawn, ValueError)):
            link.conn.import_remote(desc)
        with pytest.raises(ValueError, match="no export"):
            link.peer.withdraw(desc)
        assert (there == 9).all()
    assert kvtrans_engine.Withdrawn in outcomes
    assert link.conn.lost is None


def test_a_pool_that_its_owner_closes_is_withdrawn(link, caches):
    _, there, pool, server_pool, remote = caches
    transfers = [link.conn.write_blocks(pool, EVERY, remote, EVERY) for _ in range(4)]
    server_pool.close()
    there[:] = 5
    for transfer in transfers:
        assert isinstance(transfer.exception(10), (kvtrans_engine.Withdrawn, type(None)))
    assert (there == 5).all()
    with pytest.raises(kvtrans_engine.Withdrawn):
        link.conn.read_blocks(pool, EVERY, remote, EVERY).result(10)
    assert link.conn.lost is None


def test_withdraw_takes_a_pool_or_a_descriptor(link, caches):
    _, _, _, server_pool, remote = caches
    second = link.conn.import_remote(link.peer.export(server_pool, name="again"))
    link.peer.withdraw(server_pool)
    link.peer.withdraw(server_pool)
    wait_until(lambda: remote.withdrawn and second.withdrawn)
    for wrong in (None, "text", 5):
        with pytest.raises(TypeError, match="descriptor .* or a Pool"):
            link.peer.withdraw(wrong)
    link.peer.export(server_pool, name="again")  # the name is free again


def test_a_connection_that_is_cut_under_traffic_fails_both_ends(link, caches):
    here, there, pool, server_pool, remote = caches
    lost = []
    link.conn.on_lost(lost.append)
    for _ in range(6):
        link.conn.write_blocks(pool, EVERY, remote, EVERY, notify=b"x")
    link.peer.close()
    there[:] = 3
    done = []
    while len(done) < 6:
        assert link.client.wait(5)
        done += link.client.reap()
    assert {type(item.exception()) for item in done} <= {kvtrans_engine.PeerLost, type(None)}
    wait_until(lambda: link.client.reap() == [] and lost == [link.conn])
    assert (there == 3).all()
    assert isinstance(link.conn.lost, kvtrans_engine.PeerLost)


def test_closing_the_engine_ends_everything(link, caches):
    _, there, pool, server_pool, remote = caches
    told = []
    transfers = [link.conn.write_blocks(pool, EVERY, remote, EVERY) for _ in range(6)]
    transfers[0].add_done_callback(told.append)
    link.client.close()
    assert told == transfers[:1] and pool.closed and link.conn.closed
    for transfer in transfers:
        assert transfer.done()
        assert isinstance(transfer.exception(0), (type(None), *LOST))
    for use in (link.client.reap, link.client.notifications, link.client.fileno, link.client.wait):
        with pytest.raises(ValueError, match="engine is closed"):
            use()
    assert remote.closed is False
    with pytest.raises(ValueError, match="closed"):
        link.conn.write_blocks(pool, [0], remote, [0])
    pool.close()
    remote.close()


def test_waiting_for_a_name_ends_with_the_connection(link, in_thread):
    for end in (link.conn.close, link.server.close):
        waiting = in_thread(link.conn.remote, "never", timeout=20)
        time.sleep(0.1)
        end()
        with pytest.raises((kvtrans_engine.Error, ValueError)):
            waiting.result(5)
        if end == link.conn.close:
            link.conn = link.client.open_connection(HOST, link.server.port)
            link.server.accept_connection(5)


def test_ctrl_c_ends_waiting_for_a_name(link, in_thread):
    def interrupt():
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        in_thread(interrupt)
        link.conn.remote("never", timeout=60)
    assert is_within(start, 2) and link.conn.lost is None


@pytest.mark.skipif(PROVIDER == "verbs", reason="RDMA does not survive fork")
def test_a_child_of_fork_gets_errors_and_harms_nothing(link, caches):
    _, there, pool, server_pool, remote = caches
    array = link.client.allocate(4, 4096).arrays[0]
    transfer = link.conn.write_blocks(pool, EVERY, remote, EVERY)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            uses = [
                link.client.reap,
                link.client.fileno,
                lambda: link.conn.notify(b"x"),
                lambda: link.conn.write_blocks(pool, [0], remote, [0]),
                lambda: link.conn.export(pool),
                lambda: link.client.register(bytearray(8), 8),
                lambda: remote.block_count,
            ]
            for use in uses:
                try:
                    use()
                except kvtrans_engine.Forked:
                    continue
                os._exit(2)
            pool.close()
            remote.close()
            link.conn.close()
            link.client.close()
            array[:] = 1
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    transfer.result(20)
    link.conn.write_blocks(pool, EVERY, remote, EVERY, notify=b"after").result(20)
    assert link.get_notes()[0].data == b"after" and (there == 1).all()


def test_nothing_is_left_behind(open_link, count_fds):
    def use():
        link = open_link()
        there = np.zeros((64, 4096), np.uint8)
        pool = link.client.allocate(64, 4096)
        server_pool, remote = link.share(there)
        link.client.fileno()
        for _ in range(20):
            link.conn.write_blocks(pool, range(64), remote, range(64), notify=b"x")
        link.conn.read_blocks(pool, range(64), remote, range(64)).result(10)
        link.get_notes(20)
        while link.client.stats()["transfers"]:
            link.client.wait(1)
            link.client.reap()
        link.peer.withdraw(server_pool)
        server_pool.close()
        pool.close()
        kept = link.client.stats()["registrations"], link.server.stats()["registrations"]
        link.client.close()
        link.server.close()
        gone = weakref.ref(link.client)
        return kept, gone

    use()
    gc.collect()
    before = count_fds()
    for _ in range(5):
        kept, gone = use()
        assert kept == (0, 0) and gone is not None
    gc.collect()
    assert count_fds() == before


def test_an_engine_in_a_cycle_with_its_transfers_is_collected(open_engine):
    server = open_engine()
    client = kvtrans_engine.Engine(INTERFACE, ncpus=1, provider=PROVIDER)
    conn = client.open_connection(HOST, server.port)
    peer = server.accept_connection(5)
    remote = conn.import_remote(peer.export(server.register(bytearray(4096), 64)))
    pool = client.register(np.zeros((64, 64), np.uint8))
    transfer = conn.write_blocks(pool, range(64), remote, range(64))
    transfer.add_done_callback(lambda _, keep=(client, pool, conn): keep)
    conn.on_lost(lambda _, keep=client: keep)
    gone = weakref.ref(client)
    with pytest.warns(ResourceWarning):
        del client, conn, remote, pool, transfer
        gc.collect()
    assert gone() is None


def test_a_detached_transfer_goes_on_and_is_returned_to_nobody(link, caches):
    here, there, pool, _, remote = caches
    transfer = link.conn.write_blocks(pool, EVERY, remote, EVERY, notify=b"landed")
    reference = weakref.ref(transfer)
    transfer.detach()
    with pytest.raises(ValueError, match="detached"):
        transfer.add_done_callback(print)
    del transfer
    assert reference() is None
    (note,) = link.get_notes()
    assert note.data == b"landed" and (there == 1).all()
    assert link.client.reap() == []
    kept = link.conn.notify(b"x")
    kept.detach()
    assert kept.result(10) == 0 or kept.done()


def test_letting_go_of_a_cancelled_transfer_does_not_wait(stalling):
    engine, conn, remote, process = stalling
    here = np.zeros((BLOCKS, BLOCK_BYTES), np.uint8)
    pool = engine.register(here)
    stop(process)
    transfer = conn.read_blocks(pool, EVERY, remote, EVERY)
    started = time.monotonic()
    transfer.cancel()
    transfer.detach()
    del transfer
    assert is_within(started, 0.2)
    pool.close()  # waits for it
    here[:] = 3
    process.send_signal(signal.SIGCONT)
    time.sleep(0.2)
    assert (here == 3).all()


def test_the_transfer_of_an_array_or_with_callbacks_is_not_detached(link):
    kv_id = link.client.reg_kv(link.conn.id, np.zeros(4))[1]
    receiving = link.client.recv_kv_async(kv_id)
    with pytest.raises(ValueError, match="array"):
        receiving.detach()
    receiving.cancel()
    noted = link.conn.notify(b"x")
    told = []
    noted.add_done_callback(told.append)
    if not noted.done():
        with pytest.raises(ValueError, match="told"):
            noted.detach()
    noted.result(10)
    assert told == [noted]
