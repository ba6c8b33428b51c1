# SPDX-License-Identifier: Apache-2.0
"""Paged transfers in asyncio: several writers at once, and a reader of notifications.

Both sides are coroutines of one process here; nothing changes when they are two.

    python3 examples/async_blocks.py [interface]
"""

import asyncio
import sys

import numpy as np

import kvtrans_engine

BLOCKS, BLOCK_BYTES, WRITERS, BATCH = 512, 16384, 8, 64


async def write(conn, pool, remote, places, writer):
    """Write one writer's share of the blocks; each request tells the peer when it is there."""
    share = np.arange(writer, BLOCKS, WRITERS, dtype=np.int32)
    total = 0
    for start in range(0, len(share), BATCH):
        blocks = share[start : start + BATCH]
        note = f"{len(blocks)} of writer {writer}".encode()
        total += await conn.write_blocks(pool, blocks, remote, places[blocks], notify=note)
    return total


async def follow(engine):
    """Take notifications until all blocks are there."""
    landed = 0
    async for note in engine.anotifications():
        if note.error is not None:
            raise note.error
        landed += int(note.data.split()[0])
        if landed == BLOCKS:
            return landed


async def main(interface):
    source = np.random.default_rng(1).integers(0, 255, (BLOCKS, BLOCK_BYTES), np.uint8)
    target = np.zeros_like(source)
    places = np.random.default_rng(2).permutation(BLOCKS)
    with kvtrans_engine.Engine(interface) as client, kvtrans_engine.Engine(interface) as server:
        conn = client.open_connection("127.0.0.1" if interface == "lo" else interface, server.port)
        peer = server.accept_connection(timeout=5)
        remote = conn.import_remote(peer.export(server.register(target), access="w"))
        pool = client.register(source)
        follower = asyncio.create_task(follow(server))
        sent = await asyncio.gather(*(write(conn, pool, remote, places, i) for i in range(WRITERS)))
        landed = await asyncio.wait_for(follower, 30)
    if not np.array_equal(target[places], source):
        sys.exit("the blocks are not what was sent")
    print(f"{landed} blocks, {sum(sent)} bytes from {WRITERS} writers have landed")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "lo"))
