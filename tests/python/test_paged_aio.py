# SPDX-License-Identifier: Apache-2.0
"""Awaiting transfers and notifications."""

import asyncio
import gc
import threading

import numpy as np
import pytest

import kvtrans_engine
from kvtrans_engine import aio

BLOCKS, BLOCK_BYTES = 64, 4096
EVERY = np.arange(BLOCKS, dtype=np.int32)


@pytest.fixture
def caches(link):
    """here, there, a pool over here, a remote of there."""
    here = np.random.default_rng(1).integers(0, 255, (BLOCKS, BLOCK_BYTES), np.uint8)
    there = np.zeros_like(here)
    return here, there, link.client.register(here), link.share(there)[1]


@pytest.fixture(autouse=True)
def nothing_is_left(count_fds):
    """No reader and no descriptor stays behind."""
    yield
    gc.collect()
    assert not any(aio._watchers.values())


def run(coroutine, seconds=30):
    return asyncio.run(asyncio.wait_for(coroutine, seconds))


def test_a_transfer_is_awaited(link, caches):
    here, there, pool, remote = caches

    async def main():
        assert await link.conn.write_blocks(pool, EVERY, remote, EVERY) == BLOCKS * BLOCK_BYTES
        np.testing.assert_array_equal(there, here)
        done = link.conn.notify(b"x")
        while not done.done():
            await asyncio.sleep(0.001)
        await done
        await done

    run(main())
    assert link.client.reap() == []


def test_many_are_awaited_at_once(link, caches):
    here, there, pool, remote = caches

    async def main():
        transfers = [link.conn.write_blocks(pool, [i], remote, [i]) for i in range(BLOCKS)]

        async def get(transfer):
            return await transfer

        assert await asyncio.gather(*map(get, transfers)) == [BLOCK_BYTES] * BLOCKS

    run(main())
    np.testing.assert_array_equal(there, here)


def test_classic_transfers_are_awaited_too(link):
    _, kv = link.client.reg_kv(link.conn.id, b"")
    _, peer_kv = link.server.reg_kv(link.peer.id, b"")

    async def main():
        receive = link.server.recv_kv_async(peer_kv)
        assert await link.client.send_kv_async(kv, b"12345") is True
        assert (await receive).tobytes() == b"12345"
        with pytest.raises(kvtrans_engine.TransferTimeout):
            await link.server.recv_kv_async(peer_kv, timeout=0.05)

    run(main())


def test_an_error_is_raised_where_it_is_awaited(link, caches):
    _, _, pool, remote = caches

    async def main():
        waiting = asyncio.ensure_future(iterate_one(link.server))
        transfer = link.client.recv_kv_async(link.client.reg_kv(link.conn.id, b"")[1])
        asyncio.get_running_loop().call_later(0.05, link.peer.close)
        with pytest.raises(kvtrans_engine.PeerLost):
            await transfer
        waiting.cancel()

    async def iterate_one(engine):
        async for note in engine.anotifications():
            return note

    run(main())


def test_cancelling_the_task_cancels_the_transfer(link):
    _, peer_kv = link.server.reg_kv(link.peer.id, b"")

    async def main():
        transfer = link.server.recv_kv_async(peer_kv)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(get(transfer), 0.05)
        with pytest.raises(kvtrans_engine.Cancelled):
            await transfer
        assert transfer.cancelled()

    async def get(transfer):
        return await transfer

    run(main())


def test_notifications_come_to_a_loop(link, caches):
    _, there, pool, remote = caches

    async def consume(count):
        got = []
        async for note in link.server.anotifications():
            assert note.conn is link.peer
            got.append(int(note.data))
            if len(got) == count:
                return got

    async def main():
        consumer = asyncio.ensure_future(consume(100))
        for i in range(100):
            await link.conn.write_blocks(pool, [i % 64], remote, [i % 64], notify=b"%d" % i)
        assert sorted(await consumer) == list(range(100))

    run(main())


def test_each_notification_goes_to_one_iterator(link):
    async def consume(into):
        async for note in link.server.anotifications():
            into.append(int(note.data))

    async def main():
        got = [], []
        consumers = [asyncio.ensure_future(consume(into)) for into in got]
        for i in range(50):
            await link.conn.notify(b"%d" % i)
        while len(got[0]) + len(got[1]) < 50:
            await asyncio.sleep(0.01)
        for consumer in consumers:
            consumer.cancel()
        await asyncio.gather(*consumers, return_exceptions=True)
        assert sorted(got[0] + got[1]) == list(range(50))

    run(main())


def test_an_iterator_ends_when_the_engine_is_closed(link):
    async def main():
        loop = asyncio.get_running_loop()
        loop.call_later(0.05, link.server.close)
        assert [note async for note in link.server.anotifications()] == []

    run(main())


def test_more_notifications_than_anyone_takes_do_not_spin_the_loop(link):
    async def main():
        notes = link.server.anotifications()
        link.conn.notify(b"0")
        assert (await notes.__anext__()).data == b"0"
        for i in range(6000):
            link.conn.notify(b"%d" % (i + 1))
        ticks = 0
        for _ in range(20):
            await asyncio.sleep(0.01)
            ticks += 1
        got = {int((await notes.__anext__()).data) for _ in range(6000)}
        assert got == set(range(1, 6001))
        await notes.aclose()

    run(main())


def test_loops_in_several_threads_share_an_engine(link, caches):
    _, _, pool, remote = caches
    results = []

    async def main(number):
        total = 0
        for i in range(40):
            total += await link.conn.write_blocks(pool, [number], remote, [number])
        return total

    threads = [threading.Thread(target=lambda n=n: results.append(run(main(n)))) for n in range(4)]
    for thread in threads:
        thread.start()
    total = run(main(5))
    for thread in threads:
        thread.join(30)
    assert [total, *results] == [40 * BLOCK_BYTES] * 5


def test_closing_the_engine_ends_what_is_awaited(link):
    _, kv = link.client.reg_kv(link.conn.id, b"")

    async def main():
        asyncio.get_running_loop().call_later(0.05, link.client.close)
        with pytest.raises(kvtrans_engine.Closed):
            await link.client.recv_kv_async(kv)

    run(main())


def test_a_loop_that_is_closed_leaves_no_descriptor(link, caches, count_fds):
    _, _, pool, remote = caches
    before = count_fds()
    for _ in range(20):
        loop = asyncio.new_event_loop()

        async def use():
            await link.conn.write_blocks(pool, EVERY, remote, EVERY)

        loop.run_until_complete(use())
        loop.close()
    assert count_fds() == before


def test_a_batch_is_awaited(link, caches):
    here, there, pool, remote = caches

    async def main():
        with link.conn.batch(notify=b"batch") as batch:
            for i in range(BLOCKS):
                batch.write_blocks(pool, [i], remote, [i])
        assert await batch == BLOCKS * BLOCK_BYTES
        async for note in link.server.anotifications():
            assert note.data == b"batch"
            break

    run(main())
    np.testing.assert_array_equal(there, here)
