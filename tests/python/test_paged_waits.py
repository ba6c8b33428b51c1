# SPDX-License-Identifier: Apache-2.0
"""Learning that something has ended: reap, fileno, wait, callbacks, threads."""

import gc
import selectors
import threading
import time
import timeit
import weakref

import numpy as np
import pytest

import kvtrans_engine
from conftest import LATENESS, is_within

BLOCKS, BLOCK_BYTES = 64, 4096
EVERY = np.arange(BLOCKS, dtype=np.int32)


@pytest.fixture
def caches(link):
    """here, there, a pool over here, a remote of there."""
    here = np.random.default_rng(1).integers(0, 255, (BLOCKS, BLOCK_BYTES), np.uint8)
    there = np.zeros_like(here)
    return here, there, link.client.register(here), link.share(there)[1]


def reap_all(engine, count, seconds=10):
    done = []
    end = time.monotonic() + seconds
    while len(done) < count:
        assert time.monotonic() < end
        engine.wait(0.1)
        done += engine.reap()
    return done


def test_reap_returns_each_transfer_once(link, caches):
    _, _, pool, remote = caches
    assert link.client.reap() == []
    started = [link.conn.write_blocks(pool, [i], remote, [i]) for i in range(BLOCKS)]
    done = reap_all(link.client, BLOCKS)
    assert set(done) == set(started) and len(done) == BLOCKS
    assert all(transfer.done() and transfer.result() == BLOCK_BYTES for transfer in done)
    assert link.client.reap() == []


def test_reap_returns_what_the_caller_has_forgotten(link, caches):
    _, there, pool, remote = caches
    for i in range(10):
        link.conn.write_blocks(pool, [i], remote, [i])
    gc.collect()
    assert sum(transfer.result() for transfer in reap_all(link.client, 10)) == 10 * BLOCK_BYTES
    assert there[:10].any(axis=1).all()


def test_an_outcome_that_was_asked_for_is_not_reaped(link, caches):
    _, _, pool, remote = caches
    asked = link.conn.write_blocks(pool, EVERY, remote, EVERY)
    failed = link.conn.notify(b"x")
    told = []
    link.conn.write_blocks(pool, EVERY, remote, EVERY).add_done_callback(told.append)
    asked.result(10)
    assert failed.exception(10) is None
    end = time.monotonic() + 10
    while not told and time.monotonic() < end:
        link.client.wait(1)
        assert link.client.reap() == []
    assert told and link.client.reap() == []
    gone = weakref.ref(asked)
    del asked
    gc.collect()
    assert gone() is None


@pytest.mark.skipif(LATENESS > 0, reason="KVT_TEST_PUNCTUAL is not 1: it takes an idle machine")
def test_reap_costs_less_than_a_microsecond_when_nothing_happened(link):
    number = 20_000
    best = min(timeit.repeat(link.client.reap, number=number, repeat=9)) / number
    assert best < 1e-6


def test_the_descriptor_is_readable_while_there_is_something(link, caches):
    _, _, pool, remote = caches
    with selectors.DefaultSelector() as selector:
        selector.register(link.client.fileno(), selectors.EVENT_READ, "client")
        selector.register(link.server, selectors.EVENT_READ, "server")
        assert link.client.fileno() == link.client.fileno()
        assert selector.select(0) == []
        link.conn.write_blocks(pool, EVERY, remote, EVERY, notify=b"data")
        seen = set()
        end = time.monotonic() + 10
        while seen != {"client", "server"} and time.monotonic() < end:
            seen |= {key.data for key, _ in selector.select(1)}
        assert seen == {"client", "server"}
        link.server.reap()  # takes the notification in, and does not steal it
        assert {key.data for key, _ in selector.select(0)} == {"client", "server"}
        link.client.notifications()
        assert {key.data for key, _ in selector.select(0)} == {"client", "server"}
        assert len(link.client.reap()) == 1 and len(link.server.notifications()) == 1
        assert selector.select(0) == []


def test_wait_tells_whether_something_happened(link, caches, in_thread):
    _, _, pool, remote = caches
    assert link.client.wait(0) is False
    start = time.monotonic()
    assert link.client.wait(0.1) is False
    assert time.monotonic() - start > 0.09 and is_within(start, 2)
    waiting = in_thread(link.client.wait)
    link.conn.write_blocks(pool, EVERY, remote, EVERY)
    assert waiting.result(10) is True
    assert link.client.wait(0) is True and len(link.client.reap()) == 1
    for wrong, error in ((-1, ValueError), ("1", TypeError)):
        with pytest.raises(error):
            link.client.wait(wrong)


def test_wait_ends_when_the_engine_is_closed(link, in_thread):
    waiting = in_thread(link.client.wait)
    time.sleep(0.1)
    link.client.close()
    # Where it had not begun it is refused.
    with pytest.raises((kvtrans_engine.Closed, ValueError)):
        waiting.result(20)


def test_callbacks_run_in_the_thread_that_looks(link, in_thread):
    kv, peer_kv = link.client.reg_kv(link.conn.id, b"")[1], link.server.reg_kv(link.peer.id, b"")[1]
    told = []

    def tell(transfer):
        told.append((transfer, threading.get_ident()))

    transfer = link.client.recv_kv_async(kv)
    transfer.add_done_callback(tell)
    transfer.add_done_callback(tell)
    assert link.server.send_kv(peer_kv, b"data")
    end = time.monotonic() + 10
    while not transfer.done() and time.monotonic() < end:
        time.sleep(0.001)
    time.sleep(0.05)
    assert told == []
    in_thread(transfer.result).result(10)
    assert [item for item, _ in told] == [transfer] * 2
    assert threading.get_ident() not in {thread for _, thread in told}
    transfer.add_done_callback(tell)  # at once
    assert told[2] == (transfer, threading.get_ident())
    with pytest.raises(TypeError):
        transfer.add_done_callback(None)


def test_a_callback_that_fails_is_reported_and_harms_nobody(link, monkeypatch):
    kv, peer_kv = link.client.reg_kv(link.conn.id, b"")[1], link.server.reg_kv(link.peer.id, b"")[1]
    reports, told = [], []
    monkeypatch.setattr("sys.unraisablehook", lambda report: reports.append(report.exc_type))
    transfer = link.client.recv_kv_async(kv)
    transfer.add_done_callback(lambda _: 1 / 0)
    transfer.add_done_callback(told.append)
    assert link.server.send_kv(peer_kv, b"data")
    assert transfer.result(10).tobytes() == b"data"
    assert reports == [ZeroDivisionError] and told == [transfer]


def test_classic_transfers_have_callbacks_too(link):
    told = []
    (_, kv), (_, peer_kv) = (
        link.client.reg_kv(link.conn.id, b""),
        link.server.reg_kv(link.peer.id, b""),
    )
    receive = link.server.recv_kv_async(peer_kv)
    receive.add_done_callback(told.append)
    assert link.client.send_kv(kv, b"12345")
    end = time.monotonic() + 10
    while not told and time.monotonic() < end:
        link.server.wait(1)
        assert link.server.reap() == []
    assert told == [receive] and receive.result().tobytes() == b"12345"
    dropped = link.server.recv_kv_async(peer_kv)
    dropped.add_done_callback(told.append)
    del dropped  # cancels it
    assert link.server.stats()["transfers"] == 0 and len(told) == 1


def test_many_threads_submit_and_one_reaps(open_link):
    link = open_link(ncpus=2)
    threads, per_thread = 8, 60
    here = np.random.default_rng(1).integers(0, 255, (threads * per_thread, 512), np.uint8)
    there = np.zeros_like(here)
    pool = link.client.register(here)
    _, remote = link.share(there)
    errors = []

    def submit(number):
        try:
            for i in range(number * per_thread, (number + 1) * per_thread):
                transfer = link.conn.write_blocks(pool, [i], remote, [i], notify=b"%d" % i)
                if i % 3 == 0:
                    transfer.result(20)
        except Exception as error:
            errors.append(error)

    workers = [threading.Thread(target=submit, args=(i,)) for i in range(threads)]
    for worker in workers:
        worker.start()
    done = reap_all(link.client, 2 * threads * per_thread // 3, 30)
    for worker in workers:
        worker.join(20)
    assert errors == []
    done += link.client.reap()
    assert all(transfer.exception() is None for transfer in done)
    assert len(set(done)) == len(done)
    notes = link.get_notes(threads * per_thread)
    assert sorted(int(note.data) for note in notes) == list(range(threads * per_thread))
    np.testing.assert_array_equal(there, here)


def test_several_threads_reap_and_nothing_is_lost_or_told_twice(link, caches, in_thread):
    _, _, pool, remote = caches
    stop = threading.Event()

    def reap():
        got = []
        while not stop.is_set():
            link.client.wait(0.01)
            got += link.client.reap()
        return got + link.client.reap()

    reapers = [in_thread(reap) for _ in range(3)]
    started = [link.conn.write_blocks(pool, [i % BLOCKS], remote, [i % BLOCKS]) for i in range(600)]
    end = time.monotonic() + 20
    while not all(transfer.done() for transfer in started) and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.1)
    stop.set()
    got = [transfer for reaper in reapers for transfer in reaper.result(10)]
    assert len(got) == 600 and set(got) == set(started)


def test_stats_of_a_transfer_and_of_the_engine(link, caches):
    _, _, pool, remote = caches
    before = time.monotonic_ns()
    transfer = link.conn.write_blocks(pool, EVERY, remote, EVERY, notify=b"x")
    transfer.result(10)
    size, segments, submit_ns, transfer_ns, count, started_ns = transfer.stats()
    assert count == BLOCKS * pool.extent_count and before <= started_ns <= time.monotonic_ns()
    assert size == BLOCKS * BLOCK_BYTES == transfer.stats().nbytes
    assert segments >= 1 and submit_ns > 0 and transfer_ns > 0
    link.conn.read_blocks(pool, EVERY, remote, EVERY).result(10)
    link.get_notes()
    stats = link.client.stats()
    assert (stats["writes"], stats["reads"], stats["transfers"]) == (1, 1, 0)
    assert stats["bytes_written"] == stats["bytes_read"] == size
    assert link.conn.stats()["writes"] == 1 and link.client.stats(link.conn.id)["reads"] == 1
    assert link.server.stats()["notifications"] == 1
