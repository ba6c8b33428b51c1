# SPDX-License-Identifier: Apache-2.0
"""One transfer of many pools, and pools in blocks of another size."""

import numpy as np
import pytest

import kvtrans_engine

LAYERS, BLOCKS, BLOCK_BYTES = 30, 16, 4096


@pytest.fixture
def layers(link):
    """Arrays here and there, pools and remotes of each layer."""
    random = np.random.default_rng(1)
    here = [random.integers(0, 255, BLOCKS * BLOCK_BYTES, np.uint8) for _ in range(LAYERS)]
    there = [np.zeros_like(layer) for layer in here]
    pools = [link.client.register(layer, block_nbytes=1) for layer in here]
    remotes = [link.share(layer, block_nbytes=1)[1] for layer in there]
    return here, there, pools, remotes


def make_parts(pools, remotes, numbers):
    offsets = np.array(numbers, np.uint64) * BLOCK_BYTES
    return [
        (pool, offsets, remote, offsets[::-1].copy(), np.full(len(numbers), BLOCK_BYTES, np.uint64))
        for pool, remote in zip(pools, remotes)
    ]


def turn(layer):
    return layer.reshape(BLOCKS, BLOCK_BYTES)[::-1].ravel()


def test_layers_that_were_registered_singly_are_one_transfer(link, layers):
    here, there, pools, remotes = layers
    parts = make_parts(pools, remotes, range(BLOCKS))
    transfer = link.conn.write_parts(parts, notify=b"all layers")
    (note,) = link.get_notes()
    assert note.data == b"all layers"
    for mine, other in zip(here, there):
        np.testing.assert_array_equal(other, turn(mine))
    assert transfer.result(10) == LAYERS * BLOCKS * BLOCK_BYTES
    assert transfer.stats().count == LAYERS * BLOCKS
    for layer in here:
        layer[:] = 0
    assert link.conn.read_parts(iter(parts)).result(10) == LAYERS * BLOCKS * BLOCK_BYTES
    for mine, other in zip(here, there):
        np.testing.assert_array_equal(other, turn(mine))
    assert link.server.notifications() == []


def test_wrong_parts_move_nothing(link, layers):
    _, there, pools, remotes = layers
    good = make_parts(pools, remotes, [1, 2])
    for bad, error in [
        ([], ValueError),
        (7, TypeError),
        ([*good, good[0][:4]], TypeError),
        ([*good, 7], TypeError),
        ([*good, ("pool", *good[0][1:])], TypeError),
        ([*good, (pools[0], [0], remotes[0], [0], [BLOCKS * BLOCK_BYTES + 1])], ValueError),
        ([*good, (pools[0], [-1], remotes[0], [0], [1])], ValueError),
        ([*good, (pools[0], [0, 1], remotes[0], [0], [1])], ValueError),
    ]:
        with pytest.raises(error):
            link.conn.write_parts(bad, notify=b"never")
    pools[3].close()
    with pytest.raises(ValueError):
        link.conn.write_parts(good)
    assert not any(layer.any() for layer in there) and link.server.notifications() == []


def test_a_transfer_ends_with_one_of_its_exports(link, layers):
    _, there, pools, remotes = layers
    pool, remote = link.share(np.zeros(BLOCK_BYTES, np.uint8), block_nbytes=1)
    link.peer.withdraw(pool)
    parts = make_parts(pools, remotes, [1])
    with pytest.raises(kvtrans_engine.Withdrawn):
        link.conn.write_parts([*parts, (pools[0], [0], remote, [0], [1])]).result(10)
    assert not any(layer.any() for layer in there)


@pytest.mark.parametrize("nbytes", [1, 100, 4096, 32768])
def test_one_registration_has_blocks_of_many_sizes(link, layers, nbytes):
    here, there, pools, remotes = layers
    count = BLOCKS * BLOCK_BYTES // nbytes
    local, other = [0, count - 1], [count - 1, 0]
    transfer = link.conn.write_blocks(pools[0], local, remotes[0], other, block_nbytes=nbytes)
    assert transfer.result(10) == 2 * nbytes
    mine = here[0][: count * nbytes].reshape(count, nbytes)
    theirs = there[0][: count * nbytes].reshape(count, nbytes)
    np.testing.assert_array_equal(theirs[other], mine[local])
    assert not theirs[1:-1].any()
    with pytest.raises(IndexError, match=str(count)):
        link.conn.read_blocks(pools[0], [count], remotes[0], [0], block_nbytes=nbytes)


def test_blocks_of_a_size_that_there_are_none_of_are_refused(link, layers):
    _, _, pools, remotes = layers
    whole = BLOCKS * BLOCK_BYTES
    wrong = [(0, ValueError), (-1, ValueError), ("1", TypeError), (whole + 1, ValueError)]
    for nbytes, error in wrong:
        with pytest.raises(error):
            link.conn.write_blocks(pools[0], [0], remotes[0], [0], block_nbytes=nbytes)
    gaps = link.client.register(np.zeros(1000, np.uint8), block_nbytes=10, stride=100)
    with pytest.raises(ValueError, match="gaps"):
        link.conn.write_blocks(gaps, [0], remotes[0], [0], block_nbytes=20)
