# SPDX-License-Identifier: Apache-2.0
"""Importing without waiting: a transfer whose result is a Remote."""

import asyncio
import gc
import time

import numpy as np
import pytest

import kvtrans_engine
from conftest import IS_SLOW

BLOCKS, BLOCK_BYTES = 16, 4096
EVERY = np.arange(BLOCKS, dtype=np.int32)
MANY = 100 if IS_SLOW else 1000


@pytest.fixture
def there(link):
    """Memory of the server, and its pool."""
    memory = np.zeros((BLOCKS, BLOCK_BYTES), np.uint8)
    return memory, link.server.register(memory)


def run(coroutine, seconds=60):
    return asyncio.run(asyncio.wait_for(coroutine, seconds))


def expect_use(link, remote, memory):
    here = np.random.default_rng(1).integers(0, 255, memory.shape, np.uint8)
    link.conn.write_blocks(link.client.register(here), EVERY, remote, EVERY).result(20)
    np.testing.assert_array_equal(memory, here)


def test_a_descriptor_and_a_name_are_imported(link, there):
    memory, pool = there
    desc = link.peer.export(pool, name="cache")
    for call in (link.conn.import_async(desc), link.conn.remote_async("cache")):
        assert "import" in repr(call)
        remote = call.result(20)
        assert remote is call.result() and remote.conn is link.conn and call.done()
        assert remote.block_count == BLOCKS and remote.access == "rw"
        expect_use(link, remote, memory)
        remote.close()


def test_it_is_told_by_a_callback_and_not_returned_twice(link, there):
    ended = []
    call = link.conn.remote_async("cache", timeout=20)
    call.add_done_callback(ended.append)
    link.peer.export(there[1], name="cache")
    while not ended:
        assert link.client.wait(20)
        assert link.client.reap() == []
    assert ended == [call]
    expect_use(link, call.result(), there[0])


def test_a_loop_imports_many_at_once(link, there):
    memory, pool = there

    async def find(number):
        return await link.conn.remote_async(f"name {number}", timeout=50)

    async def main():
        tasks = [asyncio.ensure_future(find(number)) for number in range(MANY)]
        await asyncio.sleep(0)
        for number in range(MANY):
            link.peer.export(pool, name=f"name {number}")
        return await asyncio.gather(*tasks)

    remotes = run(main())
    assert len(remotes) == MANY
    expect_use(link, remotes[-1], memory)


def test_it_fails_as_the_call_that_waits(link, there):
    desc = link.peer.export(there[1])
    for wrong in (desc[:-1], b"", desc[:40] + bytes([desc[40] ^ 1]) + desc[41:]):
        with pytest.raises(ValueError):
            link.conn.import_async(wrong)
    for wrong in ("", "n" * 256):
        with pytest.raises(ValueError):
            link.conn.remote_async(wrong)
    with pytest.raises(TypeError):
        link.conn.import_async("text")
    with pytest.raises(kvtrans_engine.TransferTimeout, match="nobody"):
        link.conn.remote_async("nobody", timeout=0.05).result(20)
    link.peer.withdraw(desc)
    with pytest.raises(kvtrans_engine.Withdrawn):
        link.conn.import_async(desc).result(20)
    with pytest.raises(ValueError, match="caller's"):
        link.conn.remote_async("nobody").detach()


def test_it_is_cancelled_and_dropped(link):
    call = link.conn.remote_async("nobody", timeout=None)
    assert call.cancel()
    with pytest.raises(kvtrans_engine.Cancelled):
        call.result(20)
    assert call.cancelled()
    del call
    link.conn.remote_async("nobody", timeout=None)
    gc.collect()
    assert link.client.stats()["transfers"] == 0

    async def main():
        task = asyncio.ensure_future(asyncio.wait_for(link.conn.remote_async("nobody"), 0.05))
        with pytest.raises(asyncio.TimeoutError):
            await task

    run(main())
    assert link.client.stats()["transfers"] == 0


@pytest.mark.parametrize("closes", ["connection", "peer", "engine"])
def test_it_ends_with_its_connection(link, closes):
    calls = [link.conn.remote_async("nobody", timeout=None) for _ in range(10)]
    {"connection": link.conn, "peer": link.peer, "engine": link.client}[closes].close()
    for call in calls:
        error = call.exception(20)
        assert isinstance(error, (kvtrans_engine.Closed, kvtrans_engine.PeerLost)), error


def test_a_remote_whose_connection_is_closed_before_it_is_taken_is_nobodys(link, there):
    link.peer.export(there[1], name="cache")
    call = link.conn.remote_async("cache")
    end = time.monotonic() + 20
    while not call.done():  # and nobody looks what came of it
        assert time.monotonic() < end
        time.sleep(0.001)
    link.conn.close()
    with pytest.raises(kvtrans_engine.Closed):
        call.result(20)
