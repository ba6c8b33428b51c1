# SPDX-License-Identifier: Apache-2.0
"""Notifications come after their data, once each; batches end as one."""

import time

import numpy as np
import pytest

import kvtrans_engine
from conftest import IS_SLOW

BLOCKS, BLOCK_BYTES = 64, 16384


@pytest.fixture
def caches(link):
    """here, there, a pool over here, a remote of there."""
    here = np.random.default_rng(1).integers(0, 255, (BLOCKS, BLOCK_BYTES), np.uint8)
    there = np.zeros_like(here)
    return here, there, link.client.register(here), link.share(there)[1]


def test_a_notification_tells_that_the_data_is_there(link, caches):
    here, there, pool, remote = caches
    every = np.arange(BLOCKS)
    for turn in range(30):
        here[:] = turn + 1
        link.conn.write_blocks(pool, every, remote, every, notify=b"turn %d" % turn)
        (note,) = link.get_notes()
        assert (there == turn + 1).all()
        assert note.data == b"turn %d" % turn and note.error is None and note.conn is link.peer
    assert len(link.client.reap()) <= 30
    assert link.server.notifications() == [] and not link.server.wait(0.05)


def test_each_of_many_comes_once(link, caches):
    _, _, pool, remote = caches
    count = 500
    transfers = [
        link.conn.write_blocks(pool, [i % BLOCKS], remote, [i % BLOCKS], notify=b"%d" % i)
        for i in range(count)
    ]
    notes = link.get_notes(count, 20)
    assert sorted(int(note.data) for note in notes) == list(range(count))
    assert all(transfer.result(10) == BLOCK_BYTES for transfer in transfers)
    assert not link.server.wait(0.1)


def test_no_blocks_and_a_notification_are_a_notification(link, caches):
    _, _, pool, remote = caches
    for empty in ([], np.array([], np.int32)):
        assert link.conn.write_blocks(pool, empty, remote, empty, notify=b"none").result(10) == 0
        assert link.get_notes()[0].data == b"none"
    assert link.conn.write_blocks(pool, [], remote, []).result(10) == 0
    assert link.conn.write_spans(pool, [], remote, [], [], notify=b"span").result(10) == 0
    assert link.get_notes()[0].data == b"span"
    assert link.server.notifications() == []


def test_a_read_tells_the_peer_too(link, caches):
    here, there, pool, remote = caches
    there[5] = 77
    link.conn.read_blocks(pool, [0], remote, [5], notify=memoryview(b"free 5")).result(10)
    assert link.get_notes()[0].data == b"free 5" and (here[0] == 77).all()


def test_notifications_alone_and_in_both_directions(link):
    assert link.conn.notify(b"ping").result(10) >= 0
    (note,) = link.get_notes()
    assert note.data == b"ping"
    note.conn.notify(bytearray(b"pong"))
    assert link.client.wait(10)
    (answer,) = link.client.notifications()
    assert answer.data == b"pong" and answer.conn is link.conn
    assert link.conn.notify(b"").result(10) >= 0
    assert link.get_notes()[0].data == b""
    largest = bytes(range(256)) * 4096
    link.conn.notify(largest)
    assert link.get_notes()[0].data == largest
    with pytest.raises(ValueError, match="1048576"):
        link.conn.notify(largest + b"x")
    for wrong, message in (("text", "encode"), (None, "bytes"), (5, "bytes")):
        with pytest.raises(TypeError, match=message):
            link.conn.notify(wrong)


def test_a_notification_can_tell_of_a_failure(link):
    failure = kvtrans_engine.Cancelled("gave up")
    link.conn.notify(b"request 7", error=failure)
    assert link.get_notes()[0].error.name == "KVT_E_INTERNAL"  # that one has no code
    transfer = link.client.recv_kv_async(link.client.reg_kv(link.conn.id, b"")[1], timeout=0)
    link.conn.notify(b"request 8", error=transfer.exception(5))
    (note,) = link.get_notes()
    assert isinstance(note.error, kvtrans_engine.TransferTimeout) and note.data == b"request 8"
    with pytest.raises(TypeError, match="exception"):
        link.conn.notify(b"", error="no")


def test_notifications_that_nobody_takes_hold_the_peer_back_and_are_not_lost(link):
    count = 6_000 if IS_SLOW else 12_000
    transfers = [link.conn.notify(b"%d" % i, timeout=50) for i in range(count)]
    link.server.wait(5)
    link.server.reap()  # takes in some; the others wait
    notes = link.get_notes(count, 40)
    assert sorted(int(note.data) for note in notes) == list(range(count))
    for transfer in transfers:
        transfer.result(20)


def test_a_batch_tells_once_when_all_layers_have_landed(link):
    layers = 8
    here = [np.full((BLOCKS, 4096), i + 1, np.uint8) for i in range(layers)]
    there = [np.zeros((BLOCKS, 4096), np.uint8) for _ in range(layers)]
    pool = link.client.register(here)
    _, remote = link.share(there)
    every = np.arange(BLOCKS)
    with link.conn.batch(notify=b"request 1") as batch:
        for layer in range(layers):
            batch.write_blocks(pool, every, remote, every, extents=layer)
        assert not batch.done()
    assert batch.result(20) == layers * BLOCKS * 4096 and batch.done()
    (note,) = link.get_notes()
    assert note.data == b"request 1" and note.error is None
    assert all((there[i] == i + 1).all() for i in range(layers))
    assert link.client.reap() == [] and not link.server.wait(0.05)
    with pytest.raises(ValueError, match="sealed"):
        batch.write_blocks(pool, every, remote, every)


def test_a_batch_ends_in_a_loop_that_reaps(link, caches):
    _, _, pool, remote = caches
    batch = link.conn.batch(notify=b"all")
    for i in range(10):
        batch.write_blocks(pool, [i], remote, [i])
    batch.seal()
    while not batch.done():
        link.client.wait(5)
        link.client.reap()
    assert link.get_notes()[0].data == b"all" and batch.result() == 10 * BLOCK_BYTES


def test_an_empty_batch_and_one_without_a_notification_end(link, caches):
    _, _, pool, remote = caches
    assert link.conn.batch(notify=b"empty").result(10) == 0
    assert link.get_notes()[0].data == b"empty"
    quiet = link.conn.batch()
    quiet.write_blocks(pool, [0], remote, [0])
    assert quiet.result(10) == BLOCK_BYTES
    assert not link.server.wait(0.05)


def test_a_batch_fails_on_both_ends(link, caches):
    _, _, pool, remote = caches
    batch = link.conn.batch(notify=b"half")
    batch.write_blocks(pool, [0], remote, [0])
    # A receive that nobody sends for, as a transfer that fails.
    batch.add(link.client.recv_kv_async(link.client.reg_kv(link.conn.id, b"")[1], timeout=0.05))
    with pytest.raises(kvtrans_engine.TransferTimeout):
        batch.result(10)
    (note,) = link.get_notes()
    assert note.data == b"half" and isinstance(note.error, kvtrans_engine.TransferTimeout)
    broken = link.conn.batch(notify=b"broken")
    with pytest.raises(ZeroDivisionError):
        with broken:
            broken.write_blocks(pool, [0], remote, [0])
            raise ZeroDivisionError
    while not broken.done():
        link.client.wait(5)
        link.client.reap()
    assert broken.sealed and link.get_notes()[0].data == b"broken"


@pytest.mark.parametrize("nbytes", [4_097, 24_897, 65_536, 1 << 20])
def test_a_long_notification_comes_whole_and_behind_its_data(link, caches, nbytes):
    here, there, pool, remote = caches
    every = np.arange(BLOCKS)
    data = np.random.default_rng(nbytes).bytes(nbytes)
    transfer = link.conn.write_blocks(pool, every, remote, every, notify=data)
    (note,) = link.get_notes()
    assert (there == here).all() and note.data == data and note.error is None
    assert transfer.result(10) == here.nbytes


def test_long_notifications_that_nobody_takes_wait_at_the_peer(link):
    transfers = [link.conn.notify(bytes(1 << 20)) for _ in range(30)]
    until = time.monotonic() + 10
    while sum(transfer.done() for transfer in transfers) < 16 and time.monotonic() < until:
        link.server.reap()  # looks, and asks for none
        time.sleep(0.01)
    link.server.reap()
    assert 16 <= sum(transfer.done() for transfer in transfers) <= 19
    assert all(note.data == bytes(1 << 20) for note in link.get_notes(30, 20))
    for transfer in transfers:
        transfer.result(10)
