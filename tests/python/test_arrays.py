# SPDX-License-Identifier: Apache-2.0
"""Any dtype and shape arrives as it was sent, and what cannot be sent is refused clearly."""

import array
import ctypes
import mmap
import sys

import numpy as np
import pytest
from conftest import Tensor

import kvtrans_engine

NESTED = np.dtype(
    [("head", "<u2"), ("body", [("x", "<f4"), ("y", ">i8", (2, 3))], (4,)), ("s", "S5")]
)
PADDED = np.dtype(
    {"names": ["a", "b"], "formats": ["u1", "<f8"], "offsets": [0, 8], "itemsize": 24}
)
TITLED = np.dtype([(("a title", "a"), "<i4"), ("b", "?")])

SIMPLE = [np.dtype(code) for code in np.typecodes["All"] if code not in "OSUVMm"]
SIZED = [
    "S7",
    "U3",
    "V2",
    "V16",
    "M8[ns]",
    "m8[25s]",
    "M8[D]",
    ">f4",
    ">i8",
    ">u2",
    ">c16",
    ">M8[s]",
]
DTYPES = SIMPLE + [np.dtype(code) for code in SIZED] + [NESTED, PADDED, TITLED]


def exchange(pair, kvs, data):
    """Send small data and return what arrives."""
    assert pair.client.send_kv(kvs[0], data), pair.client.last_error
    ok, received = pair.server.recv_kv(kvs[1], timeout=10)
    assert ok, pair.server.last_error
    return received


def make(dtype, shape):
    count = int(np.prod(shape)) * dtype.itemsize
    data = np.random.default_rng(count).integers(0, 2, count, dtype=np.uint8)
    return np.ndarray(shape, dtype, data.tobytes() or b"\0" * dtype.itemsize)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_dtype_arrives_as_it_was_sent(pair, dtype):
    kvs = pair.register()
    for shape in [(), (3,), (2, 0, 5), (2, 3)]:
        data = make(dtype, shape)
        received = exchange(pair, kvs, data)
        assert type(received) is np.ndarray
        assert received.dtype == dtype and received.shape == shape
        assert received.tobytes() == data.tobytes()


def test_many_dimensions_arrive(pair):
    kvs = pair.register()
    data = np.arange(8.0).reshape((1,) * 29 + (2, 2, 2))
    received = exchange(pair, kvs, data)
    assert received.shape == data.shape
    np.testing.assert_array_equal(received, data)


def test_a_received_array_owns_aligned_writable_memory(pair, in_thread, large):
    client_kv, server_kv = pair.register()
    for data in (np.arange(5.0), large, np.empty((0, 3))):
        sent = in_thread(pair.client.send_kv, client_kv, data)
        received = pair.server.recv_kv(server_kv, timeout=10)[1]
        assert sent.result(10)
        flags = received.flags
        assert flags.owndata and flags.writeable and flags.aligned and flags.c_contiguous
        assert received.base is None and not np.shares_memory(received, data)
        received[...] = 1
        received.copy()


def test_a_received_array_outlives_its_engine(pair):
    kvs = pair.register()
    received = exchange(pair, kvs, np.arange(100))
    pair.client.close()
    pair.server.close()
    assert received.sum() == 4950


def test_a_dtype_of_another_package_arrives_as_void(pair):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    kvs = pair.register()
    data = np.arange(6).astype(ml_dtypes.bfloat16)
    received = exchange(pair, kvs, data)
    assert received.dtype == np.dtype("V2")
    np.testing.assert_array_equal(received.view(ml_dtypes.bfloat16), data)


BUFFERS = {
    "bytes": (b"abc", "u1", (3,)),
    "bytearray": (bytearray(b"abcd"), "u1", (4,)),
    "empty bytes": (b"", "u1", (0,)),
    "array of double": (array.array("d", [1, 2]), "f8", (2,)),
    "array of short": (array.array("h", [1, -2, 3]), "i2", (3,)),
    "array of long": (array.array("L", [1, 2**60]), "u8", (2,)),
    "memoryview": (memoryview(b"abcdef"), "u1", (6,)),
    "memoryview of floats": (memoryview(np.ones((2, 3), "f4")), "f4", (2, 3)),
    "memoryview of booleans": (memoryview(np.ones(2, "?")), "?", (2,)),
    "memoryview of halves": (memoryview(np.ones(2, "e")), "e", (2,)),
    "memoryview of big-endian": (memoryview(np.ones(2, ">i4")), ">i4", (2,)),
    "memoryview of structs": (memoryview(np.ones(2, "i2,i2")), "u1", (8,)),
    "ctypes array": ((ctypes.c_int32 * 3)(1, 2, 3), "i4", (3,)),
    "ctypes struct": (
        type("S", (ctypes.Structure,), {"_fields_": [("O", ctypes.c_int)]})(),
        "u1",
        (4,),
    ),
    "NumPy scalar": (np.float32(2.5), "f4", ()),
}


@pytest.mark.parametrize("data, dtype, shape", BUFFERS.values(), ids=BUFFERS.keys())
def test_a_buffer_travels_as_its_numbers_or_its_bytes(pair, data, dtype, shape):
    received = exchange(pair, pair.register(data), data)
    assert received.dtype == np.dtype(dtype) and received.shape == shape
    assert received.tobytes() == bytes(memoryview(data).cast("B") if shape else data)


def test_an_mmap_can_be_sent_and_received_into(pair):
    with mmap.mmap(-1, 4096) as out, mmap.mmap(-1, 4096) as data:
        data[:4] = b"page"
        client_kv, server_kv = pair.register(data, out)
        assert pair.client.send_kv(client_kv, data)
        assert pair.server.recv_kv_into(server_kv, timeout=10) == (True, 4096)
        assert out[:4] == b"page"
        with pytest.raises(BufferError):
            out.close()
        assert pair.client.dereg_kv(client_kv) and pair.server.dereg_kv(server_kv)


class Sub(np.ndarray):
    pass


def test_a_subclass_arrives_as_an_ndarray(pair):
    data = np.arange(6).view(Sub)
    received = exchange(pair, pair.register(), data)
    assert type(received) is np.ndarray
    np.testing.assert_array_equal(received, np.asarray(data))


READ_ONLY = np.zeros(4)
READ_ONLY.flags.writeable = False

UNSENDABLE = {
    "object array": (np.array([None, 1]), "holds Python objects"),
    "struct with an object": (np.zeros(2, "i4,O"), "holds Python objects"),
    "memoryview of objects": (memoryview(np.array([None])), "holds Python objects"),
    "Fortran order": (np.zeros((3, 4), order="F"), r"np\.ascontiguousarray\(data\)"),
    "strided": (np.zeros(10)[::2], r"np\.ascontiguousarray\(data\)"),
    "transposed": (np.zeros((2, 3)).T, r"np\.ascontiguousarray\(data\)"),
    "broadcast": (np.broadcast_to(1.0, (3,)), r"np\.ascontiguousarray\(data\)"),
    "strided memoryview": (memoryview(b"abcdef")[::2], r"np\.ascontiguousarray\(data\)"),
    "list": (
        [1, 2],
        "data must be an ndarray, another C-contiguous buffer or a DLPack tensor, not list",
    ),
    "str": ("abc", "not str"),
    "int": (5, "not int"),
    "None": (None, "not NoneType"),
}


@pytest.mark.parametrize("data, message", UNSENDABLE.values(), ids=UNSENDABLE.keys())
def test_what_has_no_plain_memory_is_refused(pair, data, message):
    client_kv, _ = pair.register()
    with pytest.raises(TypeError, match=message):
        pair.client.send_kv(client_kv, data)
    with pytest.raises(TypeError, match=message):
        pair.client.send_kv_async(client_kv, data)
    with pytest.raises(TypeError, match=message):
        pair.client.reg_kv(pair.client_conn, data)


UNWRITABLE = {
    "bytes": b"abc",
    "read-only array": READ_ONLY,
    "memoryview of bytes": memoryview(b"abc"),
    "scalar": np.float64(1),
}


@pytest.mark.parametrize("out", UNWRITABLE.values(), ids=UNWRITABLE.keys())
def test_read_only_memory_is_refused_as_a_target(pair, out):
    client_kv, server_kv = pair.register(b"", out)
    with pytest.raises(TypeError, match="out is read-only memory"):
        pair.server.recv_kv_into(server_kv, out)
    with pytest.raises(TypeError, match="the registered memory is read-only: pass out"):
        pair.server.recv_kv_into(server_kv)
    with pytest.raises(TypeError, match="the registered memory is read-only: pass out"):
        pair.server.recv_kv_into_async(server_kv)
    assert pair.client.send_kv(client_kv, out)
    assert pair.server.recv_kv(server_kv, timeout=10)[0]


def test_a_description_that_is_too_long_is_refused(pair):
    client_kv, _ = pair.register()
    long = np.zeros(1, [(f"field_number_{i}", "<i4") for i in range(300)])
    with pytest.raises(
        ValueError, match="description takes [0-9]+ bytes, more than the 4096 allowed"
    ):
        pair.client.send_kv(client_kv, long)
    assert pair.client.send_kv(client_kv, long.view("u1"))


def test_overlapping_fields_are_refused(pair):
    client_kv, _ = pair.register()
    dtype = np.dtype({"names": ["a", "b"], "formats": ["<i4", "<i2"], "offsets": [0, 2]})
    with pytest.raises(TypeError, match="cannot be sent"):
        pair.client.send_kv(client_kv, np.zeros(2, dtype))


def test_items_without_size_are_refused(pair):
    client_kv, _ = pair.register()
    with pytest.raises(TypeError, match="have no size"):
        pair.client.send_kv(client_kv, np.zeros(3, np.dtype([])))


def test_buffers_are_let_go_of_when_a_call_is_over(pair):
    client_kv, server_kv = pair.register()
    data, out = np.arange(10), bytearray(80)
    before = sys.getrefcount(data)
    assert pair.client.send_kv(client_kv, data)
    assert pair.server.recv_kv_into(server_kv, out, timeout=10) == (True, 80)
    with pytest.raises(ValueError):
        pair.client.send_kv(999_999, data)
    with pytest.raises(ValueError):
        pair.server.recv_kv_into(999_999, out)
    with pytest.raises(ValueError):
        pair.client.reg_kv(999_999, data)
    out.append(0)
    assert sys.getrefcount(data) == before


def test_a_registered_buffer_is_held_until_dereg_kv(pair):
    out = bytearray(10)
    ok, kv_id = pair.client.reg_kv(pair.client_conn, out)
    assert ok
    with pytest.raises(BufferError):
        out.append(0)
    assert pair.client.dereg_kv(kv_id)
    out.append(0)
    ok, kv_id = pair.client.reg_kv(pair.client_conn, out)
    pair.client.close()
    out.append(0)


def test_structured_dtypes_are_parsed_strictly():
    from kvtrans_engine import _dtypes

    for dtype in (NESTED, PADDED, TITLED):
        assert _dtypes.parse(_dtypes.describe(dtype).encode()) == dtype
    bad = [
        b"[]x",
        b"{}",
        b"[[]]",
        b'[["a"]]',
        b'[["a","O"]]',
        b'[["a","|O8"]]',
        b'[["a","f4,i4"]]',
        b'[["a","<f4",[-1]]]',
        b'[["a","<f4",2]]',
        b'[["a","<f4",[true]]]',
        b'[[1,"<f4"]]',
        b'[["a",["b"]]]',
        b'[["a","<f4"],["a","<f4"]]',
        b"[" * 4000,
        b'[["a",' * 500,
        b"\xff",
        b"",
        b'[["a","<f4",[4611686018427387904,4]]]',
    ]
    for text in bad:
        with pytest.raises((ValueError, RecursionError)):
            _dtypes.parse(text)


def test_a_numpy_scalar_timeout_and_id_are_fine(pair):
    client_kv, server_kv = pair.register()
    assert pair.client.send_kv(np.int64(client_kv), b"x", timeout=np.float32(5))
    assert pair.server.recv_kv(np.uint32(server_kv), np.int16(10), np.float64(5))[0]


def test_no_warning_comes_with_received_arrays(run_python):
    status, out, err = run_python(
        """
        import warnings
        warnings.simplefilter("error")
        import numpy as np
        from kvtrans_engine import Engine
        with Engine("lo", ncpus=1) as a, Engine("lo", ncpus=1) as b:
            ok, a_conn = a.connect("127.0.0.1", b.port)
            b_conn = b.accept(timeout=5)[3]
            a_kv, b_kv = a.reg_kv(a_conn, b"")[1], b.reg_kv(b_conn, b"")[1]
            for _ in range(100):
                assert a.send_kv(a_kv, np.arange(1000))
                ok, received = b.recv_kv(b_kv, timeout=5)
                assert ok and received.flags.owndata
                del received
        """
    )
    assert (status, out, err) == (0, "", "")


def test_the_classes_of_the_package_say_where_they_are_from():
    for name in kvtrans_engine.__all__:
        item = getattr(kvtrans_engine, name)
        if isinstance(item, type):
            assert item.__module__ == "kvtrans_engine" and item.__doc__


# ---- DLPack tensors ----


class Shared:
    """What a torch tensor is to us: DLPack, and no buffer protocol."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


TENSOR_DTYPES = ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"]


@pytest.mark.parametrize("dtype", TENSOR_DTYPES)
def test_a_tensor_arrives_as_the_array_that_it_is(pair, dtype):
    kvs = pair.register()
    for shape in ((), (5,), (2, 0, 3), (2, 3, 4)):
        data = make(np.dtype(dtype), shape).copy()
        received = exchange(pair, kvs, Shared(data))
        assert received.dtype == data.dtype and received.shape == data.shape
        assert received.tobytes() == data.tobytes()


def test_a_tensor_of_bfloat16_arrives_as_its_items(pair):
    memory = np.arange(24, dtype=np.uint16)
    received = exchange(pair, pair.register(), Tensor(memory, (4, 6)))
    assert received.dtype == np.dtype("V2") and received.shape == (4, 6)
    assert received.tobytes() == memory.tobytes()


def test_every_call_that_takes_a_buffer_takes_a_tensor(pair, large):
    target = np.zeros_like(large)
    kvs = pair.register(Shared(large), Shared(target))
    transfer = pair.server.recv_kv_into_async(kvs[1])
    assert pair.client.send_kv_async(kvs[0], Shared(large)).result(10)
    assert transfer.result(10) == large.nbytes and np.array_equal(target, large)
    other = np.zeros_like(large)
    transfer = pair.server.recv_kv_into_async(kvs[1], Shared(other))
    assert pair.client.send_kv(kvs[0], Shared(large), timeout=10), pair.client.last_error
    assert transfer.result(10) == large.nbytes and np.array_equal(other, large)
    small = np.zeros(4, np.uint8)
    assert pair.client.send_kv(kvs[0], b"1234")
    assert pair.server.recv_kv_into(kvs[1], Shared(small)) == (True, 4)
    assert small.tobytes() == b"1234"


def test_a_tensor_is_given_back_when_it_is_used_no_more(pair):
    memory = np.arange(64, dtype=np.uint16)
    registered, sent, received = (Tensor(memory, (64,)) for _ in range(3))
    kvs = pair.register(registered)
    assert pair.client.send_kv(kvs[0], sent) and sent.deleted == 1
    assert pair.server.recv_kv_into_async(kvs[1], received).result(10) == 128
    assert received.deleted == 1
    assert registered.deleted == 0
    pair.client.dereg_kv(kvs[0])
    assert registered.deleted == 1
    with pytest.raises(ValueError, match="no KV"):
        pair.client.send_kv(999_999, sent)
    assert sent.deleted == 2


def test_tensors_that_cannot_be_taken_are_refused(pair):
    kvs = pair.register()
    memory = np.zeros(64, np.uint16)
    refused = [
        (Tensor(memory, (4, 4), strides=(16, 2)), TypeError, "contiguous"),
        (Tensor(memory, (4, 8), device=2), TypeError, "on a device .DLPack type 2"),
        (Tensor(memory, (4, 8), bits=4), ValueError, "items of 4 bits"),
    ]
    for tensor, error, message in refused:
        calls = (
            lambda: pair.client.send_kv(kvs[0], tensor),
            lambda: pair.client.send_kv_async(kvs[0], tensor),
            lambda: pair.server.recv_kv_into(kvs[1], tensor),
            lambda: pair.server.recv_kv_into_async(kvs[1], tensor),
            lambda: pair.client.reg_kv(pair.client_conn, tensor),
        )
        for call in calls:
            with pytest.raises(error, match=message):
                call()
        assert tensor.deleted == (0 if tensor.device == 2 else len(calls))


def test_a_tensor_that_is_read_only_cannot_receive(pair):
    memory = np.arange(8, dtype=np.uint16)
    tensor = Tensor(memory, (8,), read_only=True)
    kvs = pair.register(tensor, tensor)
    assert exchange(pair, kvs, tensor).tobytes() == memory.tobytes()
    with pytest.raises(TypeError, match="read-only"):
        pair.server.recv_kv_into(kvs[1], tensor)
    with pytest.raises(TypeError, match="read-only"):
        pair.server.recv_kv_into(kvs[1])
    assert tensor.deleted == 2  # all but the registered ones
    with pytest.raises(ValueError, match="read-only"):
        pool = pair.server.register(tensor, block_nbytes=4)
        pair.server.connection(pair.server_conn).export(pool, access="rw")


def test_torch_tensors_are_sent_and_received_in_place(pair):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    kvs = pair.register()
    data = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    assert np.array_equal(exchange(pair, kvs, data), data.numpy())
    target = torch.zeros(3, 4)
    assert pair.client.send_kv(kvs[0], data)
    assert pair.server.recv_kv_into(kvs[1], target)[0] and torch.equal(target, data)
