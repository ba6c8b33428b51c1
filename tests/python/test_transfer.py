# SPDX-License-Identifier: Apache-2.0
"""Transfers of the async calls."""

import gc
import sys
import time

import numpy as np
import pytest

import kvtrans_engine
from conftest import is_within


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_results_are_true_an_array_and_a_length(pair, large):
    client_kv, server_kv = pair.register(b"", np.zeros_like(large))
    receive = pair.server.recv_kv_async(server_kv)
    into = pair.server.recv_kv_into_async(server_kv)
    assert not receive.done() and "in flight" in repr(receive)
    sends = [pair.client.send_kv_async(client_kv, large) for _ in range(2)]
    assert [send.result(10) for send in sends] == [True, True]
    np.testing.assert_array_equal(receive.result(10), large)
    assert receive.result() is receive.result()
    assert into.result(10) == large.nbytes
    for transfer in (receive, into, *sends):
        assert transfer.done() and not transfer.cancelled() and not transfer.cancel()
        assert transfer.exception() is None and "done" in repr(transfer)


def test_a_result_that_is_not_there_yet_is_a_builtin_timeout(pair):
    _, server_kv = pair.register()
    transfer = pair.server.recv_kv_async(server_kv)
    for timeout in (0, 0.05):
        for method in (transfer.result, transfer.exception):
            with pytest.raises(TimeoutError, match="still in flight") as caught:
                method(timeout)
            assert not isinstance(caught.value, kvtrans_engine.Error)
    with pytest.raises(ValueError):
        transfer.result(-1)
    assert not transfer.done()


def test_an_error_is_raised_by_result_and_returned_by_exception(pair):
    _, server_kv = pair.register()
    transfer = pair.server.recv_kv_async(server_kv, timeout=0.05)
    with pytest.raises(kvtrans_engine.TransferTimeout) as caught:
        transfer.result(5)
    assert transfer.exception() is caught.value
    assert transfer.done() and not transfer.cancelled() and "KVT_E_TIMEOUT" in repr(transfer)
    assert pair.server.last_error is None


def test_too_large_tells_the_size(pair):
    client_kv, server_kv = pair.register()
    transfer = pair.server.recv_kv_async(server_kv, max_size=4)
    assert pair.client.send_kv(client_kv, b"12345")
    error = transfer.exception(5)
    assert isinstance(error, kvtrans_engine.TooLarge) and error.nbytes == 5
    assert pair.server.recv_kv(server_kv, max_size=5, timeout=5)[0]


def test_cancel_ends_a_transfer_once(pair, large):
    client_kv, server_kv = pair.register()
    starts = [
        lambda: pair.server.recv_kv_async(server_kv),
        lambda: pair.client.send_kv_async(client_kv, large),
    ]
    for start in starts:
        transfer = start()
        assert transfer.cancel()
        with pytest.raises(kvtrans_engine.Cancelled):
            transfer.result(5)
        assert transfer.cancelled() and transfer.done() and not transfer.cancel()
    assert pair.client.send_kv(client_kv, b"next")
    assert pair.server.recv_kv(server_kv, timeout=5)[1].tobytes() == b"next"


def test_what_cannot_start_raises_at_once(pair):
    client_kv, server_kv = pair.register()
    pair.client.disconnect(pair.client_conn)
    with pytest.raises(kvtrans_engine.Closed):
        pair.client.send_kv_async(client_kv, b"x")
    wait_until(lambda: pair.server.status(pair.server_conn) is not None)
    with pytest.raises(kvtrans_engine.PeerLost):
        pair.server.send_kv_async(server_kv, b"x")


def test_a_receive_from_a_peer_that_is_gone_fails(pair):
    _, server_kv = pair.register()
    pair.client.close()
    wait_until(lambda: pair.server.status(pair.server_conn) is not None)
    transfer = pair.server.recv_kv_async(server_kv)
    assert isinstance(transfer.exception(5), kvtrans_engine.PeerLost)


def test_a_transfer_holds_its_buffer_until_it_is_done(pair):
    client_kv, server_kv = pair.register()
    out = bytearray(10)
    transfer = pair.server.recv_kv_into_async(server_kv, out)
    with pytest.raises(BufferError):
        out.append(0)
    assert pair.client.send_kv(client_kv, b"x")
    assert transfer.result(5) == 1
    out.append(0)

    data = np.zeros(1 << 20)
    references = sys.getrefcount(data)
    transfer = pair.client.send_kv_async(client_kv, data)
    assert sys.getrefcount(data) > references
    assert pair.server.recv_kv(server_kv, timeout=5)[0] and transfer.result(5)
    assert sys.getrefcount(data) == references


def test_dropping_a_transfer_in_flight_cancels_it_and_frees_its_buffer(pair):
    client_kv, server_kv = pair.register()
    out = bytearray(10)
    transfer = pair.server.recv_kv_into_async(server_kv, out)
    start = time.monotonic()
    del transfer
    assert is_within(start, 2)
    out.append(0)
    assert pair.client.send_kv(client_kv, b"kept")
    assert pair.server.recv_kv(server_kv, timeout=5)[1].tobytes() == b"kept"
    assert out == bytes(11)


def test_a_transfer_keeps_its_engine_open():
    server = kvtrans_engine.Engine("lo", ncpus=1)
    client = kvtrans_engine.Engine("lo", ncpus=1)
    ok, conn = client.connect("127.0.0.1", server.port)
    server_conn = server.accept(timeout=5)[3]
    client_kv = client.reg_kv(conn, b"")[1]
    transfer = server.recv_kv_async(server.reg_kv(server_conn, b"")[1])
    del server
    gc.collect()
    assert client.send_kv(client_kv, b"alive")
    assert transfer.result(5).tobytes() == b"alive"
    client.close()
    with pytest.warns(ResourceWarning, match="unclosed engine"):
        del transfer


def test_closing_the_kv_the_connection_or_the_engine_ends_transfers(pair):
    def start():
        client_kv, _ = pair.register()
        return client_kv, pair.client.recv_kv_async(client_kv)

    client_kv, transfer = start()
    assert pair.client.dereg_kv(client_kv)
    assert isinstance(transfer.exception(2), kvtrans_engine.Closed)
    transfers = [start()[1] for _ in range(3)]
    assert pair.client.disconnect(pair.client_conn)
    assert all(isinstance(item.exception(2), kvtrans_engine.Closed) for item in transfers)


def test_results_can_be_asked_for_after_close(pair, large):
    client_kv, server_kv = pair.register()
    done = pair.server.recv_kv_async(server_kv)
    assert pair.client.send_kv(client_kv, b"done")
    wait_until(done.done)
    lost = pair.server.recv_kv_async(server_kv)
    pair.server.close()
    assert done.result().tobytes() == b"done"
    assert isinstance(lost.exception(2), kvtrans_engine.Closed)


def test_an_annotation_may_name_the_result():
    assert kvtrans_engine.Transfer[int].__origin__ is kvtrans_engine.Transfer


def test_many_transfers_in_flight_end_well(pair):
    client_kv, server_kv = pair.register()
    receives = [pair.server.recv_kv_async(server_kv) for _ in range(200)]
    sends = [pair.client.send_kv_async(client_kv, np.full(i, i)) for i in range(200)]
    assert all(send.result(10) for send in sends)
    for i, receive in enumerate(receives):
        np.testing.assert_array_equal(receive.result(10), np.full(i, i))
