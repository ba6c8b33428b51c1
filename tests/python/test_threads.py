# SPDX-License-Identifier: Apache-2.0
"""Threads may use one engine, and close things under one another."""

import threading
import time

import numpy as np
import pytest

import kvtrans_engine
from conftest import HOST, await_transfers, is_within


def start_all(in_thread, count, function):
    return [in_thread(function, i) for i in range(count)]


def test_threads_share_an_engine(pair, in_thread):
    kvs = [pair.register() for _ in range(4)]

    def send(i):
        for n in range(100):
            assert pair.client.send_kv(kvs[i][0], np.full(n * 300, i), timeout=20)

    def receive(i):
        for n in range(100):
            ok, received = pair.server.recv_kv(kvs[i][1], timeout=20)
            assert ok and len(received) == n * 300 and (received == i).all()

    for future in start_all(in_thread, 4, receive) + start_all(in_thread, 4, send):
        future.result(60)


def test_other_threads_run_while_one_waits(pair, in_thread):
    def tick_and_connect():
        for _ in range(200):
            time.sleep(0.001)
        return pair.server.connect(HOST, pair.client.port)

    connecting = in_thread(tick_and_connect)
    # A wait that looks at signals ten times a second, and lets others run only then, is too long for that.
    assert pair.client.accept(timeout=10)[0]
    assert connecting.result(10)[0]


def test_dereg_kv_ends_the_calls_of_other_threads(pair, in_thread, large):
    client_kv, _ = pair.register(np.zeros(10))
    calls = [
        in_thread(pair.client.recv_kv, client_kv),
        in_thread(pair.client.recv_kv_into, client_kv),
        in_thread(pair.client.send_kv, client_kv, large),
    ]
    await_transfers(pair.client, 3)
    start = time.monotonic()
    assert pair.client.dereg_kv(client_kv)
    assert [call.result(20) for call in calls] == [(False, None), (False, 0), False]
    assert is_within(start, 2)
    assert isinstance(pair.client.last_error, kvtrans_engine.Closed)


def test_disconnect_ends_the_calls_of_other_threads(pair, in_thread):
    client_kv, _ = pair.register()
    call = in_thread(pair.client.recv_kv, client_kv)
    await_transfers(pair.client, 1)
    assert pair.client.disconnect(pair.client_conn)
    assert call.result(20) == (False, None)


def test_close_ends_the_calls_of_other_threads(pair, in_thread, large):
    client_kv, _ = pair.register()
    calls = [
        in_thread(pair.client.recv_kv, client_kv),
        in_thread(pair.client.send_kv, client_kv, large),
    ]
    accepting = in_thread(pair.client.accept)
    await_transfers(pair.client, 2)
    start = time.monotonic()
    pair.client.close()
    try:
        assert accepting.result(20) == (False, None, None, None)
    except ValueError:
        pass  # it had not begun
    assert [call.result(20) for call in calls] == [(False, None), False]
    assert is_within(start, 2)
    assert isinstance(pair.client.last_error, kvtrans_engine.Closed)


def test_one_result_reaches_every_thread_that_waits(pair, in_thread):
    client_kv, server_kv = pair.register()
    transfer = pair.server.recv_kv_async(server_kv)
    waiting = start_all(in_thread, 6, lambda i: transfer.result(10))
    time.sleep(0.05)
    structured = np.zeros(5, [("a", "<i4"), ("b", "<f8")])
    assert pair.client.send_kv(client_kv, structured)
    results = [future.result(10) for future in waiting]
    assert all(result is results[0] for result in results)
    np.testing.assert_array_equal(results[0], structured)


@pytest.mark.parametrize("round_", range(5))
def test_closing_at_any_moment_is_safe(open_pair, in_thread, round_):
    pair = open_pair()
    stop = threading.Event()

    def churn(i):
        engine, conn = [(pair.client, pair.client_conn), (pair.server, pair.server_conn)][i % 2]
        try:
            while not stop.is_set():
                ok, kv_id = engine.reg_kv(conn, np.zeros(100), tag=i // 2)
                if not ok:
                    return
                transfer = engine.recv_kv_async(kv_id, timeout=0.05)
                engine.send_kv(kv_id, np.zeros(10), timeout=0.05)
                engine.recv_kv(kv_id, timeout=0.01)
                engine.stats(conn)
                engine.dereg_kv(kv_id)
                transfer.exception(5)
        except (ValueError, kvtrans_engine.Error):
            assert engine.closed or stop.is_set() or engine.status(conn) is not None

    futures = start_all(in_thread, 6, churn)
    time.sleep(0.1 + 0.05 * round_)
    pair.client.close()
    time.sleep(0.1)
    stop.set()
    pair.server.close()
    for future in futures:
        future.result(10)
