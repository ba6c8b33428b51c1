# SPDX-License-Identifier: Apache-2.0
"""The classic calls as the manual shows them."""

import numpy as np
import pytest

import kvtrans_engine
from conftest import HOST, INTERFACE


def test_the_example_of_the_manual_works_as_written(in_thread):
    data = np.random.default_rng(1).random((16, 8))
    server = kvtrans_engine.Engine("lo", ncpus=2, nconn_per_cpu=2, listen_port=0)

    def serve():
        ok, client_ip, client_port, conn_id = server.accept()
        assert ok and client_ip == "127.0.0.1" and client_port > 0
        ok, kv_id = server.reg_kv(conn_id, np.empty_like(data))
        assert ok
        return server.recv_kv(kv_id, max_size=1024)

    served = in_thread(serve)
    engine = kvtrans_engine.Engine("lo", ncpus=2, nconn_per_cpu=2, listen_port=0)
    ok, conn_id = engine.connect("127.0.0.1", server.port)
    assert ok
    ok, kv_id = engine.reg_kv(conn_id, data)
    assert ok
    assert engine.send_kv(kv_id, data) is True
    ok, received = served.result(10)
    assert ok is True
    np.testing.assert_array_equal(received, data)
    engine.close()
    server.close()


def test_ids_are_positive_ints_and_unknown_to_other_engines(pair):
    client_kv, server_kv = pair.register()
    ids = [pair.client_conn, pair.server_conn, client_kv, server_kv]
    assert all(type(number) is int and number > 0 for number in ids)
    assert len(set(ids)) == 4
    with pytest.raises(ValueError, match=f"no KV {client_kv} on this engine"):
        pair.server.send_kv(client_kv, b"x")


def test_both_directions_of_one_kv_are_independent(pair):
    client_kv, server_kv = pair.register()
    assert pair.client.send_kv(client_kv, b"to server")
    assert pair.server.send_kv(server_kv, b"to client")
    assert pair.server.recv_kv(server_kv)[1].tobytes() == b"to server"
    assert pair.client.recv_kv(client_kv)[1].tobytes() == b"to client"


def test_messages_of_one_kv_keep_their_order(pair, large):
    client_kv, server_kv = pair.register()
    sends = [pair.client.send_kv_async(client_kv, large[: 1 + i % 3 * 300] + i) for i in range(9)]
    for i in range(9):
        ok, received = pair.server.recv_kv(server_kv, timeout=10)
        assert ok, pair.server.last_error
        np.testing.assert_array_equal(received, large[: 1 + i % 3 * 300] + i)
    assert all(send.result(10) for send in sends)


def test_kvs_do_not_block_one_another(pair, large):
    first, second = pair.register(), pair.register()
    blocked = pair.client.send_kv_async(first[0], large)
    assert pair.client.send_kv(second[0], b"passes")
    assert pair.server.recv_kv(second[1], timeout=10)[1].tobytes() == b"passes"
    assert not blocked.done()
    assert pair.server.recv_kv(first[1], timeout=10)[0]
    assert blocked.result(10)


def test_tags_choose_which_kvs_meet(pair):
    kvs = {}
    for tag in (7, 2**63 - 1):
        ok, kvs["client", tag] = pair.client.reg_kv(pair.client_conn, b"", tag=tag)
        assert ok
    for tag in (2**63 - 1, 7):
        ok, kvs["server", tag] = pair.server.reg_kv(pair.server_conn, b"", tag=tag)
        assert ok
    assert pair.client.send_kv(kvs["client", 7], b"seven")
    assert pair.client.send_kv(kvs["client", 2**63 - 1], b"most")
    assert pair.server.recv_kv(kvs["server", 2**63 - 1])[1].tobytes() == b"most"
    assert pair.server.recv_kv(kvs["server", 7])[1].tobytes() == b"seven"


def test_two_small_messages_may_cross(pair):
    client_kv, server_kv = pair.register()
    for _ in range(50):
        assert pair.client.send_kv(client_kv, b"a" * 1000)
        assert pair.server.send_kv(server_kv, b"b" * 1000)
        assert pair.server.recv_kv(server_kv)[0]
        assert pair.client.recv_kv(client_kv)[0]


@pytest.mark.parametrize("eager_nbytes", [0, 1, 4096, 1 << 20])
def test_every_eager_limit_delivers_the_same(open_pair, in_thread, eager_nbytes):
    pair = open_pair(eager_nbytes=eager_nbytes)
    client_kv, server_kv = pair.register()
    for count in (0, 1, 2, 4095, 4096, 4097, (1 << 20) + 1):
        data = np.arange(count, dtype=np.uint32).astype(np.uint8)
        sent = in_thread(pair.client.send_kv, client_kv, data, 10)
        ok, received = pair.server.recv_kv(server_kv, timeout=10)
        assert ok and sent.result(10)
        np.testing.assert_array_equal(received, data)


def test_a_small_message_outlives_its_sender(pair):
    client_kv, server_kv = pair.register()
    assert pair.client.send_kv(client_kv, b"delivered")
    pair.client.close()
    ok, received = pair.server.recv_kv(server_kv, timeout=10)
    assert ok, pair.server.last_error
    assert received.tobytes() == b"delivered"


def test_recv_kv_into_lands_in_the_registered_array_or_in_out(pair, in_thread, large):
    registered = np.zeros_like(large)
    client_kv, server_kv = pair.register(large, registered)
    sent = in_thread(pair.client.send_kv, client_kv, large)
    assert pair.server.recv_kv_into(server_kv, timeout=10) == (True, large.nbytes)
    assert sent.result(10)
    np.testing.assert_array_equal(registered, large)

    out = bytearray(large.nbytes + 8)
    sent = in_thread(pair.client.send_kv, client_kv, large[::-1].copy())
    assert pair.server.recv_kv_into(server_kv, out, timeout=10) == (True, large.nbytes)
    assert sent.result(10)
    assert bytes(out) == large[::-1].tobytes() + bytes(8)
    np.testing.assert_array_equal(registered, large)


def test_the_registered_array_and_views_into_it_can_be_sent(pair, in_thread, large):
    client_kv, server_kv = pair.register(large)
    for data in (large, large[1:], large[5], large.reshape(-1)[3:100_000]):
        sent = in_thread(pair.client.send_kv, client_kv, data)
        ok, received = pair.server.recv_kv(server_kv, timeout=10)
        assert ok and sent.result(10)
        np.testing.assert_array_equal(received, data)


def test_a_message_that_is_too_large_tells_its_size_and_stays(pair, in_thread, large):
    client_kv, server_kv = pair.register(b"", bytearray(10))
    for data in (large, np.arange(40, dtype=np.uint8)):
        sent = in_thread(pair.client.send_kv, client_kv, data)
        assert pair.server.recv_kv(server_kv, max_size=data.nbytes - 1, timeout=10) == (False, None)
        error = pair.server.last_error
        assert isinstance(error, kvtrans_engine.TooLarge) and error.nbytes == data.nbytes
        assert pair.server.recv_kv_into(server_kv, timeout=10) == (False, 0)
        assert pair.server.last_error.nbytes == data.nbytes
        ok, received = pair.server.recv_kv(server_kv, max_size=data.nbytes, timeout=10)
        assert ok and sent.result(10)
        np.testing.assert_array_equal(received, data)


def test_dereg_kv_and_disconnect_give_true_once(pair):
    client_kv, _ = pair.register()
    assert pair.client.dereg_kv(client_kv) is True
    with pytest.raises(ValueError, match="no KV"):
        pair.client.dereg_kv(client_kv)
    assert pair.client.disconnect(pair.client_conn) is True
    with pytest.raises(ValueError, match="no connection"):
        pair.client.disconnect(pair.client_conn)


def test_kvs_outlive_their_connection_until_dereg_kv(pair):
    client_kv, _ = pair.register()
    assert pair.client.disconnect(pair.client_conn)
    assert pair.client.send_kv(client_kv, b"x") is False
    assert isinstance(pair.client.last_error, kvtrans_engine.Closed)
    assert pair.client.dereg_kv(client_kv) is True


def test_status_tells_why_a_connection_is_gone(pair):
    assert pair.server.status(pair.server_conn) is None
    _, server_kv = pair.register()
    pair.client.close()
    assert pair.server.recv_kv(server_kv, timeout=10) == (False, None)
    assert isinstance(pair.server.last_error, kvtrans_engine.PeerLost)
    assert isinstance(pair.server.status(pair.server_conn), kvtrans_engine.PeerLost)


def test_stats_count_what_happened(pair):
    client_kv, server_kv = pair.register()
    for _ in range(3):
        assert pair.client.send_kv(client_kv, b"12345")
        assert pair.server.recv_kv(server_kv, timeout=10)[0]
    stats = pair.client.stats()
    assert stats["connections"] == stats["connections_total"] == 1
    assert stats["kvs"] == 1 and stats["transfers"] == 0 and stats["failures"] == 0
    assert stats["sends"] == stats["eager_sends"] == sum(stats["send_latency"]) == 3
    assert stats["bytes_sent"] == 15
    assert pair.server.stats()["bytes_received"] == 15
    assert pair.client.stats(pair.client_conn)["connections"] == 1
    assert pair.client.stats(pair.client_conn).keys() - pair.client.stats().keys() == {
        "path",
        "path_reason",
    }


def test_the_engine_tells_port_provider_and_closed(open_engine):
    engine = open_engine(listen_port=0)
    assert 0 < engine.port < 65536
    assert engine.provider and isinstance(engine.provider, str)
    assert engine.closed is False and engine.last_error is None
    assert str(engine.port) in repr(engine)
    engine.close()
    assert engine.closed is True and "closed" in repr(engine)
    engine.close()


def test_the_context_manager_closes(open_engine):
    with open_engine() as engine:
        assert not engine.closed
    assert engine.closed
    with pytest.raises(ValueError, match="engine is closed"):
        engine.__enter__()


def test_an_engine_may_have_a_list_of_interfaces(open_engine):
    assert open_engine([INTERFACE]).port > 0
    assert open_engine((HOST,)).port > 0
