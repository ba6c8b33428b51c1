# SPDX-License-Identifier: Apache-2.0
"""Blocks and spans arrive where they belong, and nothing else changes."""

import numpy as np
import pytest

from conftest import IS_SLOW

BLOCKS = 96


def make_cache(*shape, dtype=np.uint8, seed=1):
    return np.random.default_rng(seed).integers(0, 255, shape, np.uint8).astype(dtype)


def choose(count, seed=2, of=BLOCKS):
    """Two random choices of distinct blocks."""
    random = np.random.default_rng(seed)
    return random.permutation(of)[:count], random.permutation(of)[:count]


@pytest.mark.parametrize("block_nbytes", [1, 8, 100, 4096, 33000, 200_000])
@pytest.mark.parametrize("direction", ["write", "read"])
def test_random_blocks_land_in_their_places(link, block_nbytes, direction):
    here, there = make_cache(BLOCKS, block_nbytes), make_cache(BLOCKS, block_nbytes, seed=3)
    pool = link.client.register(here, block_nbytes=block_nbytes)
    _, remote = link.share(there, block_nbytes=block_nbytes)
    local, other = choose(61)
    if direction == "write":
        expected = there.copy()
        expected[other] = here[local]
        transfer = link.conn.write_blocks(pool, local, remote, other)
        assert transfer.result(20) == 61 * block_nbytes
        np.testing.assert_array_equal(there, expected)
    else:
        expected = here.copy()
        expected[local] = there[other]
        transfer = link.conn.read_blocks(pool, local, remote, other)
        assert transfer.result(20) == 61 * block_nbytes
        np.testing.assert_array_equal(here, expected)
    stats = transfer.stats()
    assert stats.nbytes == 61 * block_nbytes and stats.segments >= 0
    assert stats.submit_ns > 0 and stats.transfer_ns > 0


@pytest.mark.parametrize(
    "local_type, other_type",
    [("i4", "i4"), ("i8", "i8"), ("i4", "i8"), (">i4", "<i8"), ("l", "q")],
)
def test_indices_of_either_size_mean_the_same(link, local_type, other_type):
    here, there = make_cache(BLOCKS, 64), np.zeros((BLOCKS, 64), np.uint8)
    pool = link.client.register(here)
    _, remote = link.share(there)
    local, other = choose(50)
    transfer = link.conn.write_blocks(
        pool, local.astype(local_type), remote, other.astype(other_type)
    )
    assert transfer.result(10) == 50 * 64
    np.testing.assert_array_equal(there[other], here[local])


def test_indices_may_be_strided_or_lists_or_ranges_and_are_copied(link):
    here, there = make_cache(BLOCKS, 64), np.zeros((BLOCKS, 64), np.uint8)
    pool = link.client.register(here)
    _, remote = link.share(there)
    table = np.arange(BLOCKS, dtype=np.int32).reshape(-1, 2)
    local = table[:, 1].copy()
    transfer = link.conn.write_blocks(pool, local, remote, table[:, 0])
    local[:] = -1
    transfer.result(10)
    np.testing.assert_array_equal(there[::2], here[1::2])
    link.conn.write_blocks(pool, [3, 1], remote, (1, 3)).result(10)
    np.testing.assert_array_equal(there[[1, 3]], here[[3, 1]])
    link.conn.write_blocks(pool, range(4), remote, range(4, 8)).result(10)
    np.testing.assert_array_equal(there[4:8], here[:4])


def test_a_block_may_be_a_source_many_times(link):
    here, there = make_cache(BLOCKS, 512), np.zeros((BLOCKS, 512), np.uint8)
    pool = link.client.register(here)
    _, remote = link.share(there)
    link.conn.write_blocks(pool, [7] * BLOCKS, remote, np.arange(BLOCKS)).result(10)
    assert (there == here[7]).all()


def test_strided_pages_of_one_cache_are_layers(link):
    # As vLLM has it: [K or V, block, token, head, dim], and block first: [block, K or V, ...].
    here = make_cache(2, BLOCKS, 16, 2, 8, dtype=np.float16)
    there = np.zeros((BLOCKS, 2, 16, 2, 8), np.float16)
    pool = link.client.register([here[0], here[1]])
    server_pool, remote = link.share([there[:, 0], there[:, 1]])
    assert pool.block_nbytes == server_pool.block_nbytes == remote.block_nbytes == 512
    assert pool.extent_count == remote.extent_count == 2
    assert pool.block_count == remote.block_count == BLOCKS
    local, other = choose(40)
    link.conn.write_blocks(pool, local, remote, other).result(10)
    for part in (0, 1):
        np.testing.assert_array_equal(there[other, part], here[part, local])
    untouched = np.setdiff1d(np.arange(BLOCKS), other)
    assert not there[untouched].any()


def test_strided_blocks_leave_the_gaps_alone(link):
    here = make_cache(BLOCKS, 100)
    there = np.full((BLOCKS, 160), 9, np.uint8)
    pool = link.client.register(here)
    _, remote = link.share(there[:, 20:120])
    link.conn.write_blocks(pool, np.arange(BLOCKS), remote, np.arange(BLOCKS)[::-1]).result(10)
    np.testing.assert_array_equal(there[::-1, 20:120], here)
    assert (there[:, :20] == 9).all() and (there[:, 120:] == 9).all()
    flat = bytearray(b"\x09" * (160 * 9 + 100))
    flat_pool, flat_remote = link.share(flat, block_nbytes=100, stride=160)
    assert flat_pool.block_count == 10
    link.conn.write_blocks(pool, range(10), flat_remote, range(10)).result(10)
    for i in range(10):
        assert flat[i * 160 : i * 160 + 100] == here[i].tobytes()
        assert flat[i * 160 + 100 : i * 160 + 160] in (b"\x09" * 60, b"")


def test_one_index_array_serves_every_layer_or_those_named(link):
    layers = 12
    here = [make_cache(BLOCKS, 256, seed=i) for i in range(layers)]
    there = [np.zeros((BLOCKS, 256), np.uint8) for _ in range(layers)]
    pool = link.client.register(here)
    _, remote = link.share(there)
    local, other = choose(30)
    link.conn.write_blocks(pool, local, remote, other, extents=[1, 11]).result(10)
    for i in range(layers):
        if i in (1, 11):
            np.testing.assert_array_equal(there[i][other], here[i][local])
        else:
            assert not there[i].any()
    link.conn.write_blocks(pool, local, remote, other, extents=4).result(10)
    np.testing.assert_array_equal(there[4][other], here[4][local])
    transfer = link.conn.write_blocks(pool, local, remote, other)
    assert transfer.result(10) == 30 * 256 * layers
    for i in range(layers):
        np.testing.assert_array_equal(there[i][other], here[i][local])


def test_a_million_blocks_are_one_call(link):
    count = 50_000 if IS_SLOW else 1_000_000
    here = np.arange(count, dtype=np.uint64).view(np.uint8).reshape(count, 8)
    there = np.zeros_like(here)
    pool = link.client.register(here)
    _, remote = link.share(there)
    random = np.random.default_rng(5)
    local, other = random.permutation(count), random.permutation(count).astype(np.int32)
    assert link.conn.write_blocks(pool, local, remote, other).result(50) == 8 * count
    assert (there.view(np.uint64)[other] == here.view(np.uint64)[local]).all()
    back = np.zeros_like(here)
    back_pool = link.client.register(back)
    assert link.conn.read_blocks(back_pool, local, remote, other).result(50) == 8 * count
    assert (back == here).all()


def test_spans_of_any_length_land(link):
    here, there = make_cache(1 << 20), np.zeros(1 << 20, np.uint8)
    pool = link.client.register(here, block_nbytes=1 << 10)
    _, remote = link.share(there, block_nbytes=1 << 16)
    nbytes = np.array([1, 7, 4096, 100_000, 3, 65536], np.uint64)
    local = np.array([5, 100, 9999, 300_000, 0, 800_000], np.uint64)
    other = np.array([1_000_000, 1, 70_000, 400_000, 8, 200_000], np.uint64)
    expected = there.copy()
    for here_at, there_at, length in zip(local, other, nbytes):
        expected[int(there_at) : int(there_at + length)] = here[
            int(here_at) : int(here_at + length)
        ]
    transfer = link.conn.write_spans(pool, local, remote, other, nbytes)
    assert transfer.result(10) == nbytes.sum()
    np.testing.assert_array_equal(there, expected)
    back = np.zeros_like(here)
    back_pool = link.client.register(back, block_nbytes=1 << 10)
    link.conn.read_spans(
        back_pool, local.astype(np.int64), remote, other.astype(np.uint32), nbytes
    ).result(10)
    for here_at, length in zip(local.astype(int), nbytes.astype(int)):
        np.testing.assert_array_equal(
            back[here_at : here_at + length], here[here_at : here_at + length]
        )


def test_spans_count_through_the_extents_of_a_pool(link):
    here = [make_cache(1000, seed=1), make_cache(1000, seed=2)]
    there = np.zeros(2000, np.uint8)
    pool = link.client.register(here, block_nbytes=100)
    _, remote = link.share(there, block_nbytes=2000)
    assert remote.nbytes == 2000
    link.conn.write_spans(pool, [1900, 0], remote, [0, 1900], [100, 100]).result(10)
    np.testing.assert_array_equal(there[:100], here[1][900:])
    np.testing.assert_array_equal(there[1900:], here[0][:100])


def test_named_exports_are_found_and_waited_for(link, in_thread):
    there = np.zeros((8, 64), np.uint8)
    waiting = in_thread(link.conn.remote, "layer caf\u00e9", timeout=10)
    pool = link.server.register(there)
    desc = link.peer.export(pool, name="layer caf\u00e9")
    assert type(desc) is bytes and len(desc) < 200
    remote = waiting.result(10)
    assert remote.block_count == 8 and remote.conn is link.conn and remote.access == "rw"
    here = make_cache(8, 64)
    link.conn.write_blocks(link.client.register(here), range(8), remote, range(8)).result(10)
    np.testing.assert_array_equal(there, here)


def test_both_sides_may_export_and_move(link):
    here, there = make_cache(16, 4096), make_cache(16, 4096, seed=9)
    mine, yours = link.client.register(here), link.server.register(there)
    to_server = link.conn.import_remote(link.peer.export(yours))
    to_client = link.peer.import_remote(link.conn.export(mine))
    pulls = [
        link.conn.read_blocks(mine, range(8), to_server, range(8)),
        link.peer.read_blocks(yours, range(8, 16), to_client, range(8, 16)),
    ]
    assert [pull.result(10) for pull in pulls] == [8 * 4096] * 2
    np.testing.assert_array_equal(here, there)
