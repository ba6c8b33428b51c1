# SPDX-License-Identifier: Apache-2.0
"""Bad input: the exact error, on the caller's side, and no byte moved."""

import numpy as np
import pytest

import kvtrans_engine
from conftest import HOST

BLOCKS, BLOCK_BYTES = 16, 256


@pytest.fixture
def caches(link):
    """here, there, a pool over here, a remote of there."""
    here = np.full((BLOCKS, BLOCK_BYTES), 1, np.uint8)
    there = np.full((BLOCKS, BLOCK_BYTES), 2, np.uint8)
    return here, there, link.client.register(here), link.share(there)[1]


def i4(*numbers):
    return np.array(numbers, np.int32)


def u8(*numbers):
    return np.array(numbers, np.uint64)


BAD_INDICES = {
    "beyond the local pool": (i4(0, 16), i4(0, 1), IndexError, "local block 16 .number 1"),
    "beyond the remote": (i4(0, 1), i4(3, 99), IndexError, "remote block 99 .number 1"),
    "negative, local": (i4(-1), i4(0), IndexError, "local block -1 .number 0"),
    "negative, remote": (i4(5, 6), i4(0, -7), IndexError, "remote block -7 .number 1"),
    "largest int64": ([2**63 - 1], [0], IndexError, "local block 9223372036854775807"),
    "smallest int64": ([-(2**63)], [0], IndexError, "local block -9223372036854775808"),
    "lengths differ": (i4(0, 1, 2), i4(0, 1), ValueError, "local_idx has 3 .* remote_idx has 2"),
    "floats": (np.array([0.0, 1.0]), i4(0, 1), TypeError, "local_idx must be int32 or int64, not"),
    "floats in a list": ([0], [1.5], TypeError, "remote_idx must be int32 or int64, not float64"),
    "bools": (np.array([True]), i4(0), TypeError, "local_idx must be int32 or int64, not bool"),
    "int16": (np.array([1], "i2"), i4(0), TypeError, "local_idx must be int32 or int64, not int16"),
    "uint64": (i4(0), np.array([1], "u8"), TypeError, "remote_idx must be .* not uint64"),
    "objects": (np.array([1], object), i4(0), TypeError, "local_idx must be .* not object"),
    "text": ("0", i4(0), ValueError, "local_idx must have one dimension, not 0"),
    "a number": (0, i4(0), ValueError, "local_idx must have one dimension, not 0"),
    "two dimensions": (np.zeros((2, 2), int), i4(0), ValueError, "one dimension, not 2"),
    "None": (None, i4(0), ValueError, "local_idx must have one dimension"),
    "times": (np.array([1], "m8[s]"), i4(0), TypeError, "not timedelta64"),
}


@pytest.mark.parametrize("local, other, error, text", BAD_INDICES.values(), ids=BAD_INDICES)
@pytest.mark.parametrize("method", ["write_blocks", "read_blocks"])
def test_bad_block_numbers_are_refused(link, caches, method, local, other, error, text):
    here, there, pool, remote = caches
    with pytest.raises(error, match=text):
        getattr(link.conn, method)(pool, local, remote, other, notify=b"never")
    assert (here == 1).all() and (there == 2).all()
    assert not link.server.wait(0.02) and link.client.reap() == []
    assert link.client.stats()["transfers"] == 0


def test_a_block_is_a_destination_once(link, caches):
    here, there, pool, remote = caches
    with pytest.raises(ValueError, match="block 5 .number 2. is a destination twice"):
        link.conn.write_blocks(pool, [0, 1, 2], remote, [5, 6, 5])
    with pytest.raises(ValueError, match="block 1 .number 3. is a destination twice"):
        link.conn.read_blocks(pool, [1, 2, 3, 1], remote, [0, 1, 2, 3])
    assert (here == 1).all() and (there == 2).all()


BAD_SPANS = {
    "beyond the pool": ([4090], [0], [100], ValueError, "span 0, 100 bytes at 4090, .* pool"),
    "beyond the remote": ([0], [4096], [1], ValueError, "span 0, .* remote"),
    "wrapping": ([0], u8(2**64 - 8), [16], ValueError, "remote"),
    "wrapping by length": ([8], [0], u8(2**64 - 4), ValueError, "pool"),
    "overlapping": ([0, 100], [50, 99], [50, 50], ValueError, "1"),
    "negative": ([0, -5], [0, 8], [8, 8], ValueError, r"local_off\[1\] is -5"),
    "negative length": ([0], [0], [-1], ValueError, r"nbytes\[0\] is -1"),
    "float": ([0.0], [0], [8], TypeError, "local_off must be integers, not float64"),
    "bool": ([0], [False], [8], TypeError, "remote_off must be integers, not bool"),
    "lengths differ": ([0, 1], [0, 1], [8], ValueError, "local_off has 2 .* nbytes has 1"),
    "two dimensions": ([[0]], [0], [8], ValueError, "local_off must have one dimension, not 2"),
}


@pytest.mark.parametrize("local, other, nbytes, error, text", BAD_SPANS.values(), ids=BAD_SPANS)
def test_bad_spans_are_refused(link, caches, local, other, nbytes, error, text):
    here, there, pool, remote = caches
    with pytest.raises(error, match=text):
        link.conn.write_spans(pool, local, remote, other, nbytes, notify=b"never")
    assert (here == 1).all() and (there == 2).all()
    assert not link.server.wait(0.02) and link.client.reap() == []


def test_spans_do_not_cross_extents(link):
    there = [np.zeros(1000, np.uint8), np.zeros(1000, np.uint8)]
    pool = link.client.register(np.ones(2000, np.uint8), block_nbytes=100)
    _, remote = link.share(there, block_nbytes=100)
    with pytest.raises(ValueError, match="remote"):
        link.conn.write_spans(pool, [0], remote, [950], [100])
    assert not there[0].any() and not there[1].any()


def test_other_arguments_are_checked(link, caches):
    here, there, pool, remote = caches
    write = link.conn.write_blocks
    cases = [
        ((here, [0], remote, [0]), {}, TypeError, "pool must be a Pool, not numpy.ndarray"),
        ((pool, [0], there, [0]), {}, TypeError, "remote must be a Remote, not numpy.ndarray"),
        ((remote, [0], pool, [0]), {}, TypeError, "pool must be a Pool"),
        ((pool, [0], remote, [0]), {"timeout": -1}, ValueError, "0 or more seconds"),
        ((pool, [0], remote, [0]), {"timeout": "1"}, TypeError, "number of seconds"),
        ((pool, [0], remote, [0]), {"notify": "text"}, TypeError, "encode"),
        ((pool, [0], remote, [0]), {"notify": bytes((1 << 20) + 1)}, ValueError, "1048576 bytes"),
        ((pool, [0], remote, [0]), {"extents": [1]}, ValueError, "extent"),
        ((pool, [0], remote, [0]), {"extents": -1}, ValueError, "extent"),
        ((pool, [0], remote, [0]), {"extents": []}, ValueError, "names none"),
        ((pool, [0], remote, [0]), {"extents": [0, 0]}, ValueError, "extent"),
        ((pool, [0], remote, [0]), {"extents": "0"}, TypeError, "an extent must be an int"),
        ((pool, [0], remote), {}, TypeError, "remote_idx"),
        ((pool, [0], remote, [0]), {"speed": 1}, TypeError, "speed"),
    ]
    for args, options, error, text in cases:
        with pytest.raises(error, match=text):
            write(*args, **options)
    assert (there == 2).all() and link.client.stats()["transfers"] == 0


def test_pools_and_remotes_of_others_are_refused(link, caches, open_link):
    _, there, pool, remote = caches
    other = open_link()
    with pytest.raises(ValueError, match="pool is one of another engine"):
        other.conn.write_blocks(pool, [0], remote, [0])
    other_pool = other.client.register(np.zeros((BLOCKS, BLOCK_BYTES), np.uint8))
    with pytest.raises(ValueError, match="remote is one of another connection"):
        other.conn.write_blocks(other_pool, [0], remote, [0])
    with pytest.raises(ValueError, match="pool is one of another engine"):
        other.conn.export(pool)
    other_pool.close()
    with pytest.raises(ValueError, match="pool is closed"):
        other.conn.export(other_pool)
    with pytest.raises(ValueError, match="pool is closed"):
        other.conn.write_blocks(other_pool, [0], remote, [0])
    remote.close()
    with pytest.raises(ValueError, match="remote is closed"):
        link.conn.write_blocks(pool, [0], remote, [0])
    assert (there == 2).all()


def test_blocks_and_extents_must_be_alike_on_both_sides(link):
    there = np.zeros((8, 100), np.uint8)
    _, remote = link.share(there)
    odd = link.client.register(np.ones((8, 101), np.uint8))
    with pytest.raises(ValueError, match="10[01]"):
        link.conn.write_blocks(odd, [0], remote, [0])
    two = link.client.register([np.ones((8, 100), np.uint8)] * 2)
    with pytest.raises(ValueError, match="extent"):
        link.conn.write_blocks(two, [0], remote, [0])
    assert not there.any()


def test_the_granted_direction_is_the_only_one(link):
    here, there = np.ones((8, 64), np.uint8), np.full((8, 64), 2, np.uint8)
    pool = link.client.register(here)
    _, readable = link.share(there, access="r")
    _, writable = link.share(there, access="w")
    assert readable.access == "r" and writable.access == "w"
    for method, remote in (("write_blocks", readable), ("read_blocks", writable)):
        with pytest.raises(kvtrans_engine.AccessError) as caught:
            getattr(link.conn, method)(pool, [0], remote, [0]).result(5)
        assert caught.value.name == "KVT_E_ACCESS" and isinstance(caught.value, PermissionError)
    assert (here == 1).all() and (there == 2).all()
    link.conn.read_blocks(pool, [0], readable, [0]).result(5)
    link.conn.write_blocks(pool, [1], writable, [1]).result(5)
    assert (here[0] == 2).all() and (there[1] == 1).all()


def test_memory_that_is_read_only_is_no_destination(link):
    pool = link.client.register(bytes(range(256)), block_nbytes=64)
    assert pool.read_only and "read-only" in repr(pool)
    there = np.zeros((4, 64), np.uint8)
    _, remote = link.share(there)
    link.conn.write_blocks(pool, range(4), remote, range(4)).result(5)
    assert there.tobytes() == bytes(range(256))
    with pytest.raises(ValueError, match="read-only"):
        link.conn.read_blocks(pool, [0], remote, [0])
    for access in ("w", "rw"):
        with pytest.raises(ValueError, match="read-only"):
            link.conn.export(pool, access=access)
    link.conn.export(pool, access="r")


def test_exports_are_checked(link):
    pool = link.client.register(bytearray(64), block_nbytes=64)
    for access in ("", "x", "rx", "rwx"):
        with pytest.raises(ValueError, match="access must be"):
            link.conn.export(pool, access=access)
    with pytest.raises(TypeError):
        link.conn.export(pool, access=3)
    with pytest.raises(TypeError, match="Pool"):
        link.conn.export(bytearray(64))
    link.conn.export(pool, name="one")
    for name in ("one", "", "x" * 256):
        with pytest.raises(ValueError):
            link.conn.export(pool, name=name)
    link.conn.export(pool, name="x" * 255)
    with pytest.raises(ValueError):
        link.conn.export(pool, name="nu\0l")


def test_descriptors_that_are_damaged_are_refused(link):
    pool = link.server.register(bytearray(4096), block_nbytes=64)
    desc = link.peer.export(pool)
    for length in range(len(desc)):
        with pytest.raises(ValueError):
            link.conn.import_remote(desc[:length])
    with pytest.raises(ValueError):
        link.conn.import_remote(desc + b"\0")
    for at in range(len(desc)):
        for bit in (1, 128):
            damaged = bytearray(desc)
            damaged[at] ^= bit
            with pytest.raises((ValueError, kvtrans_engine.Error)):
                link.conn.import_remote(damaged)
    for wrong in (None, 5, "text"):
        with pytest.raises(TypeError):
            link.conn.import_remote(wrong)
    assert link.conn.lost is None
    assert link.conn.import_remote(bytearray(desc)).block_count == 64


def test_a_descriptor_is_for_one_connection_of_one_session(link, open_engine):
    pool = link.server.register(bytearray(4096), block_nbytes=64)
    desc = link.peer.export(pool)
    stranger = open_engine()
    third = stranger.open_connection(HOST, link.server.port)
    link.server.accept_connection(5)
    with pytest.raises((ValueError, kvtrans_engine.Error)):
        third.import_remote(desc)
    with pytest.raises((ValueError, kvtrans_engine.Error)):
        link.peer.import_remote(desc)  # its own
    link.conn.close()
    again = link.client.open_connection(HOST, link.server.port)
    link.server.accept_connection(5)
    with pytest.raises((ValueError, kvtrans_engine.Error)):
        again.import_remote(desc)


def test_a_name_that_does_not_come_is_a_timeout(link):
    with pytest.raises(kvtrans_engine.TransferTimeout):
        link.conn.remote("nothing", timeout=0.1)
    for name, error in (("", ValueError), ("x" * 256, ValueError), (b"bytes", TypeError)):
        with pytest.raises(error):
            link.conn.remote(name, timeout=0.1)
    assert link.conn.lost is None
