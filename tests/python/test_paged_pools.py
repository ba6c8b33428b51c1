# SPDX-License-Identifier: Apache-2.0
"""What can be registered, how it is cut into blocks, and that it stays alive."""

import array
import ctypes
import gc
import mmap
import os
import sys
import weakref
from multiprocessing import shared_memory

import numpy as np
import pytest
from conftest import Tensor

import kvtrans_engine


def check_moves(link, pool, get_bytes):
    """Read blocks of zeros from the server into the pool, in reverse; see that they came."""
    there = np.arange(1, pool.block_count + 1, dtype=np.uint8)
    there = np.repeat(there[:, None], pool.block_nbytes, axis=1)
    _, remote = link.share([there] * pool.extent_count)
    order = np.arange(pool.block_count)
    link.conn.read_blocks(pool, order[::-1].copy(), remote, order).result(10)
    assert get_bytes() == there[::-1].tobytes()


def test_buffers_of_every_kind_are_pools(link, tmp_path):
    with open(tmp_path / "file", "w+b") as file:
        file.truncate(4096)
        mapped = mmap.mmap(file.fileno(), 4096)
    shared = shared_memory.SharedMemory(create=True, size=4096)
    try:
        view = memoryview(bytearray(8192))[4096:]
        items = [
            (bytearray(4096), bytes),
            (array.array("d", bytes(4096)), bytes),
            (mapped, lambda item: item[:]),
            (shared.buf, lambda item: bytes(item[:4096])),
            (view, bytes),
            ((ctypes.c_uint8 * 4096)(), bytes),
            (np.zeros((4, 256), np.float32), np.ndarray.tobytes),
            (np.zeros(512, "M8[s]"), np.ndarray.tobytes),
        ]
        for item, get_bytes in items:
            size = len(memoryview(item).cast("B")) if not isinstance(item, np.ndarray) else 4096
            with link.client.register(item, block_nbytes=1024) as pool:
                assert (pool.block_count, pool.block_nbytes) == (size // 1024, 1024)
                assert pool.arrays == (item,) or pool.arrays[0] is item
                assert not pool.read_only and not pool.closed
                check_moves(link, pool, lambda: get_bytes(item))
            assert pool.closed
            item = None
        del items, view
    finally:
        mapped.close()
        shared.close()
        shared.unlink()


def test_what_is_registered_cannot_be_resized_or_closed_until_it_is_let_go(link):
    data, mapped = bytearray(4096), mmap.mmap(-1, 4096)
    pools = [link.client.register(item, block_nbytes=64) for item in (data, mapped)]
    link.conn.export(pools[0])
    with pytest.raises(BufferError):
        data.extend(b"more")
    with pytest.raises(BufferError):
        mapped.close()
    numbers = np.zeros((8, 8))
    pools.append(link.client.register(numbers))
    with pytest.raises(ValueError, match="references"):
        numbers.resize((100, 100))
    for pool in pools:
        pool.close()
        pool.close()
    data.extend(b"more")
    mapped.close()


def test_a_pool_keeps_its_memory_and_the_engine_keeps_the_pool(link):
    class Array(np.ndarray):
        pass

    there = np.zeros((8, 64), np.uint8).view(Array)
    gone = weakref.ref(there)
    remote = link.conn.import_remote(link.peer.export(link.server.register(there)))
    del there
    gc.collect()
    assert gone() is not None  # though nobody here has the pool
    pool = link.client.register(np.full((8, 64), 7, np.uint8))
    link.conn.write_blocks(pool, range(8), remote, range(8)).result(5)
    assert (gone() == 7).all()
    link.server.close()
    gc.collect()
    assert gone() is None


def test_registrations_and_references_return_to_where_they_were(link):
    data = bytearray(4096)
    before = sys.getrefcount(data), link.server.stats()["registrations"]
    for _ in range(50):
        pool = link.server.register([data, data], block_nbytes=256)
        link.conn.import_remote(link.peer.export(pool)).close()
        link.peer.withdraw(pool)
        link.peer.export(pool, access="r")
        pool.close()
    del pool
    assert (sys.getrefcount(data), link.server.stats()["registrations"]) == before
    data.append(1)


def test_dlpack_tensors_are_taken_without_a_copy(link):
    memory = np.zeros(6 * 4 * 8, np.uint16)
    # bfloat16, blocks of 8 items out of rows of 32.
    tensor = Tensor(memory, (6, 8), strides=(32, 1), offset=16)
    pool = link.client.register(tensor)
    assert (pool.block_count, pool.block_nbytes) == (6, 16)
    rows = memory.reshape(6, 32)
    check_moves(link, pool, lambda: rows[:, 8:16].tobytes())
    assert not rows[:, :8].any() and not rows[:, 16:].any()
    assert tensor.deleted == 0
    pool.close()
    assert tensor.deleted == 1
    solid = Tensor(memory, (6, 4, 8))
    with link.client.register([solid, solid]) as pool:
        assert (pool.extent_count, pool.block_nbytes) == (2, 64)
    assert solid.deleted == 2


def test_a_tensor_that_has_moved_is_refused_and_one_that_has_not_is_taken(link):
    class Mover(Tensor):
        """As torch's: it tells where it is, and resizing its storage leaves it nowhere."""

        at = None

        def data_ptr(self):
            return self.at

    memory = np.zeros((8, 64), np.uint16)
    tensor, other = Mover(memory, (8, 64)), Mover(memory, (8, 64))
    tensor.at, other.at = memory.ctypes.data, 12345  # the second means something else by it
    pool = link.client.register([tensor, other])
    check_moves(link, pool, lambda: memory.tobytes())
    _, remote = link.share([np.zeros((8, 64), np.uint16)] * 2)
    other.at = 0
    link.conn.write_blocks(pool, [1], remote, [2]).result(10)
    tensor.at = 0
    with pytest.raises(ValueError, match="was at 0x.* when it was registered"):
        link.conn.write_blocks(pool, [1], remote, [2])
    with pytest.raises(ValueError, match="register it again"):
        link.conn.export(pool)
    tensor.at = "nowhere"
    with pytest.raises(TypeError):
        link.conn.read_blocks(pool, [1], remote, [2])
    tensor.at = memory.ctypes.data
    link.conn.read_blocks(pool, [1], remote, [2]).result(10)
    pool.close()


def test_dlpack_tensors_that_cannot_be_taken(link):
    memory = np.zeros(64, np.uint16)
    with pytest.raises(TypeError, match="on a device .DLPack type 2"):
        link.client.register(Tensor(memory, (4, 8), device=2))
    odd = Tensor(memory, (4, 8), bits=4)
    with pytest.raises(ValueError, match="items of 4 bits"):
        link.client.register(odd)
    assert odd.deleted == 1
    jumping = Tensor(memory, (4, 4), strides=(16, 2))
    with pytest.raises(ValueError, match="not contiguous"):
        link.client.register(jumping)
    assert jumping.deleted == 1


def test_torch_tensors_are_taken_without_a_copy(link):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    cache = torch.zeros((2, 16, 4, 8), dtype=torch.bfloat16)
    pool = link.client.register([cache[0], cache[1]])
    assert (pool.extent_count, pool.block_count, pool.block_nbytes) == (2, 16, 64)
    there = np.full((16, 64), 0x3F, np.uint8)
    _, remote = link.share([there, there])
    link.conn.read_blocks(pool, torch.arange(16), remote, list(range(16))).result(5)
    assert (cache.view(torch.int16) == 0x3F3F).all()
    with pytest.raises((BufferError, RuntimeError), match="detach"):
        link.client.register(torch.zeros(4, 8, requires_grad=True))


def test_how_arrays_are_cut(link):
    register = link.client.register
    cases = [
        (np.zeros((6, 10, 4), np.float32), {}, (6, 160)),
        (np.zeros((6, 10, 4), np.float32), {"block_nbytes": 16}, (60, 16)),
        (np.zeros((8, 3, 4), np.uint8)[:, 1], {}, (8, 4)),
        (np.zeros((8, 3, 4), np.uint8)[::2, 1], {}, (4, 4)),
        (np.zeros((8, 3, 4), np.uint8)[:, 1], {"block_nbytes": 4}, (8, 4)),
        (np.zeros((1, 3, 4), np.uint8)[:, 1:2], {}, (1, 4)),
        (np.zeros(4096, np.uint8), {"block_nbytes": 4096}, (1, 4096)),
        (bytearray(1000), {"block_nbytes": 100, "stride": 250}, (4, 100)),
        (bytearray(1000), {"block_nbytes": 100, "stride": 2000}, (1, 100)),
        ((np.zeros((4, 8)), np.zeros((6, 8))), {}, (4, 64)),
    ]
    for arrays, options, expected in cases:
        with register(arrays, **options) as pool:
            assert (pool.block_count, pool.block_nbytes) == expected


def test_what_cannot_be_cut_says_how_it_can(link):
    cases = [
        (np.zeros(64), {}, ValueError, "the array has 1 dimensions, .* pass block_nbytes"),
        (bytearray(64), {}, ValueError, "pass block_nbytes"),
        (np.array(5.0), {}, ValueError, "pass block_nbytes"),
        (np.zeros(64), {"block_nbytes": 100}, ValueError, "512 bytes, .* no multiple of .*100"),
        (np.zeros((8, 8)).T, {}, ValueError, "not contiguous: pass a list .*ascontiguousarray"),
        (np.zeros((8, 8))[:, ::2], {}, ValueError, "not contiguous"),
        (np.zeros((8, 8))[::-1], {}, ValueError, "overlap or run backwards"),
        (np.broadcast_to(np.zeros(8), (8, 8)), {}, ValueError, "overlap or run backwards"),
        (np.zeros((0, 8)), {}, ValueError, "is empty"),
        (np.zeros((8, 2, 8))[:, 0], {"block_nbytes": 8}, ValueError, "64 bytes, not block_nb"),
        (np.zeros((8, 2, 8))[:, 0], {"block_nbytes": 64, "stride": 64}, ValueError, "stride needs"),
        (bytearray(64), {"stride": 8}, ValueError, "stride needs block_nbytes"),
        (bytearray(64), {"block_nbytes": 16, "stride": 8}, ValueError, "too small"),
        (bytearray(64), {"block_nbytes": 65, "stride": 80}, ValueError, "too small"),
        (bytearray(64), {"block_nbytes": 0}, ValueError, "block_nbytes must be from 1"),
        (bytearray(64), {"block_nbytes": 1.5}, TypeError, "block_nbytes must be an int"),
        ([], {}, ValueError, "1 to 4096 arrays, not 0"),
        ([bytearray(4)] * 4097, {"block_nbytes": 4}, ValueError, "not 4097"),
        ([np.zeros((8, 8)), np.zeros((8, 4))], {}, ValueError, r"arrays\[1\] has blocks of 32"),
        ([np.zeros((8, 8)), 5], {}, TypeError, r"arrays\[1\] must be an ndarray, .* not int"),
        ("text", {"block_nbytes": 1}, TypeError, "not str"),
        (np.zeros((8, 8), object), {}, TypeError, "holds Python objects"),
        (5, {}, TypeError, "must be an ndarray, another buffer or a DLPack tensor, not int"),
    ]
    before = link.client.stats()["registrations"]
    for arrays, options, error, text in cases:
        with pytest.raises(error, match=text):
            link.client.register(arrays, **options)
    assert link.client.stats()["registrations"] == before


def test_allocated_memory_is_zero_and_seen_as_arrays(link):
    pool = link.client.allocate(32, dtype=np.float16, shape=(16, 2, 8), extent_count=3)
    assert (pool.block_count, pool.block_nbytes, pool.extent_count) == (32, 512, 3)
    arrays = pool.arrays
    assert [item.shape for item in arrays] == [(32, 16, 2, 8)] * 3
    assert all(item.dtype == np.float16 and not item.any() for item in arrays)
    check_moves(link, pool, lambda: arrays[0].tobytes())
    assert (arrays[1].view(np.uint8) == arrays[0].view(np.uint8)).all()
    assert pool.arrays[2].base is arrays[0].base
    plain = link.client.allocate(4, 4096)
    assert plain.arrays[0].shape == (4, 4096) and plain.arrays[0].dtype == np.uint8
    assert link.client.allocate(4, 4096, dtype="f4").arrays[0].shape == (4, 1024)
    assert link.client.allocate(4, dtype="f4", shape=6).block_nbytes == 24


def find_pool_fds():
    """Descriptors of this process that are an allocated pool's."""
    paths = {int(fd): f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")}
    return [
        fd for fd, path in paths.items() if os.path.lexists(path) and "kvtrans-pool" in os.readlink(path)
    ]


def test_a_pool_frees_its_memory_and_lets_a_file_be_that_got_its_descriptor(open_link, tmp_path):
    link = open_link(provider="local")
    before = find_pool_fds()
    pool = link.client.allocate(1024, 4096)
    pool.arrays[0][:] = 1
    (fd,) = set(find_pool_fds()) - set(before)
    kept = os.dup(fd)  # as a peer has it that has mapped it
    assert os.fstat(kept).st_blocks > 0
    with open(tmp_path / "file", "w+b") as file:
        file.write(b"the application's" * 1000)
        file.flush()
        os.dup2(file.fileno(), fd)
    pool.close()
    gc.collect()
    assert os.pread(fd, 20000, 0) == b"the application's" * 1000
    assert os.fstat(kept).st_blocks == 0
    os.close(fd)
    os.close(kept)


def test_arrays_of_allocated_memory_outlive_pool_and_engine(open_engine):
    engine = open_engine()
    with engine.allocate(1024, 4096, extent_count=2) as pool:
        first, second = pool.arrays
    with pytest.raises(ValueError, match="pool is closed"):
        pool.arrays  # noqa: B018
    assert engine.stats()["registrations"] == 0
    first[:] = 5
    other = engine.allocate(16, 4096)
    third = other.arrays[0][3]
    engine.close()
    del engine, pool, other
    gc.collect()
    third[:] = first[0]
    second[:] = third
    assert (second == 5).all() and (third == 5).all()


def test_allocations_that_make_no_sense_are_refused(link):
    cases = [
        ((0, 8), {}, ValueError, "block_count must be from 1"),
        ((1,), {}, ValueError, "pass block_nbytes, or the shape"),
        ((1, 0), {}, ValueError, "block_nbytes must be from 1"),
        ((1, 8), {"extent_count": 0}, ValueError, "extent_count must be from 1"),
        ((1, 8), {"extent_count": 4097}, ValueError, "extent_count must be from 1 to 4096"),
        ((1, 9), {"dtype": "f4"}, ValueError, "block_nbytes=9 is not"),
        ((1, 8), {"shape": (3,)}, ValueError, "block_nbytes=8 is not"),
        ((1,), {"shape": (0,)}, ValueError, "a dimension must be from 1"),
        ((1,), {"dtype": object, "shape": 1}, TypeError, "cannot be"),
        ((1,), {"dtype": "nonsense", "shape": 1}, TypeError, "nonsense"),
        ((1,), {"shape": "8"}, TypeError, "a dimension must be an int"),
    ]
    for args, options, error, text in cases:
        with pytest.raises(error, match=text):
            link.client.allocate(*args, **options)
    with pytest.raises((MemoryError, kvtrans_engine.Error, ValueError)):
        link.client.allocate(2**46, 2**16)


def test_raw_memory_is_a_pool(link):
    here = [np.random.default_rng(i).integers(0, 255, 8192, np.uint8) for i in range(2)]
    there = [np.zeros(8192, np.uint8) for _ in range(2)]
    pool = link.client.register_memory([(layer.ctypes.data, layer.nbytes) for layer in here])
    _, remote = link.share(there, block_nbytes=1)
    assert (pool.block_nbytes, pool.block_count, pool.extent_count) == (1, 8192, 2)
    assert pool.arrays == () and not pool.read_only
    link.conn.write_blocks(pool, [0, 3], remote, [3, 0], block_nbytes=2048).result(10)
    for mine, other in zip(here, there):
        np.testing.assert_array_equal(other[6144:], mine[:2048])
        np.testing.assert_array_equal(other[:2048], mine[6144:])
    pool.close()
    blocks = link.client.register_memory([(here[0].ctypes.data, 8192)], 1024, read_only=True)
    assert (blocks.block_nbytes, blocks.block_count, blocks.read_only) == (1024, 8, True)
    with pytest.raises(ValueError, match="read-only"):
        link.conn.read_blocks(blocks, [0], remote, [0], block_nbytes=1024)


@pytest.mark.parametrize(
    "memory, options, error",
    [
        ([], {}, ValueError),
        (7, {}, TypeError),
        ([7], {}, TypeError),
        ([(1,)], {}, TypeError),
        ([(0, 10)], {}, ValueError),
        ([("1", 10)], {}, TypeError),
        ([(-1, 10)], {}, (ValueError, OverflowError)),
        ([(1 << 70, 10)], {}, (ValueError, OverflowError)),
        ([((1 << 64) - 5, 10)], {}, ValueError),
        ([(4096, 0)], {}, ValueError),
        ([(4096, -1)], {}, ValueError),
        ([(4096, 10)], {"block_nbytes": 3}, ValueError),
        ([(4096, 10)] * 5000, {}, ValueError),
    ],
)
def test_what_is_no_memory_is_refused(link, memory, options, error):
    with pytest.raises(error):
        link.client.register_memory(memory, **options)


def test_a_pool_is_exported_to_peers_of_now_and_later(link):
    there = np.zeros((4, 64), np.uint8)
    pool = link.server.register(there)
    link.server.export(pool, "cache", access="w")
    here = link.client.register(np.full((4, 64), 7, np.uint8))
    later = link.client.open_connection(link.conn.host, link.server.port)
    link.server.accept_connection(timeout=10)
    for index, conn in enumerate([link.conn, later]):
        conn.write_blocks(here, [0], conn.remote("cache"), [index]).result(10)
    assert (there[:2] == 7).all() and not there[2:].any()
    with pytest.raises(ValueError, match="cache"):
        link.server.export(pool, "cache")
    remote = later.remote("cache")
    link.server.withdraw("cache")
    assert remote.withdrawn
    with pytest.raises(kvtrans_engine.TransferTimeout):
        later.remote("cache", timeout=0.1)
    with pytest.raises(ValueError, match="cache"):
        link.server.withdraw("cache")
    link.server.export(pool, "cache")
    link.server.export(pool, "again")
    link.server.withdraw(pool)
    link.server.export(pool, "cache")
    assert later.remote("cache").access == "rw"
    pool.close()
    link.server.export(link.server.register(there), "cache")
    assert later.remote("cache") is not None


def test_what_cannot_be_exported_to_all_is_refused(link):
    pool = link.server.register(np.zeros(64, np.uint8), block_nbytes=64)
    with pytest.raises(TypeError):
        link.server.export("pool", "name")
    with pytest.raises(TypeError):
        link.server.export(pool, None)
    for name, options in [("", {}), ("n" * 256, {}), ("a\0b", {}), ("n", {"access": "x"})]:
        with pytest.raises(ValueError):
            link.server.export(pool, name, **options)
    with pytest.raises(ValueError, match="another engine"):
        link.client.export(pool, "name")
    with pytest.raises(TypeError):
        link.server.withdraw(b"name")
    pool.close()
    with pytest.raises(ValueError, match="closed"):
        link.server.export(pool, "name")
