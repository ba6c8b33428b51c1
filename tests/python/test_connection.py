# SPDX-License-Identifier: Apache-2.0
"""Connections as objects, beside the ids of the classic calls."""

import gc
import socket
import threading
import time
import weakref

import pytest

import kvtrans_engine
from conftest import HOST


def test_objects_and_ids_are_two_names_of_one_connection(link, open_engine):
    assert link.client.connection(link.conn.id) is link.conn
    assert link.conn.engine is link.client and link.peer.engine is link.server
    assert link.conn.port == link.server.port and link.conn.host == link.peer.host == HOST
    assert str(link.conn.id) in repr(link.conn) and not link.conn.closed
    _, kv = link.client.reg_kv(link.conn.id, b"")
    _, peer_kv = link.server.reg_kv(link.peer.id, b"")
    assert link.client.send_kv(kv, b"by id")
    assert link.server.recv_kv(peer_kv, timeout=5)[1].tobytes() == b"by id"
    third = open_engine()
    ok, conn_id = third.connect(HOST, link.server.port)
    accepted = link.server.accept_connection(5)
    third.connection(conn_id).notify(b"to an object")
    assert link.get_notes()[0].conn is accepted
    assert link.client.disconnect(link.conn.id) is True and link.conn.closed
    with pytest.raises(ValueError, match="no connection"):
        link.client.connection(link.conn.id)


def test_what_fails_is_raised(open_engine):
    engine = open_engine()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(kvtrans_engine.Unreachable) as caught:
            engine.open_connection("127.0.0.1", closed.getsockname()[1])
    assert isinstance(caught.value, ConnectionError) and engine.last_error is None
    with pytest.raises(kvtrans_engine.TransferTimeout):
        engine.accept_connection(timeout=0.05)
    for args, error in ((("h", 0), ValueError), ((5, 80), TypeError), (("h", "80"), TypeError)):
        with pytest.raises(error):
            engine.open_connection(*args)


def test_a_connection_is_a_context_manager_that_closes(link):
    lost = []
    link.peer.on_lost(lost.append)
    with link.conn as conn:
        assert conn is link.conn and conn.lost is None
    assert conn.closed
    with pytest.raises(ValueError, match="closed"), conn:
        pass
    while not lost:
        assert link.server.wait(5)
        link.server.notifications()
    assert lost == [link.peer] and isinstance(link.peer.lost, kvtrans_engine.PeerLost)
    assert isinstance(link.server.status(link.peer.id), kvtrans_engine.PeerLost)
    with pytest.raises(TypeError, match="callable"):
        link.peer.on_lost(None)


def test_a_connection_that_its_program_closes_is_not_told_as_lost(link):
    lost = []
    link.conn.on_lost(lost.append)
    link.conn.close()
    link.client.wait(0.1)
    link.client.reap()
    assert lost == []


def test_nothing_keeps_a_closed_connection(link):
    gone = weakref.ref(link.conn)
    remote = link.conn.import_remote(link.peer.export(link.server.register(bytearray(64), 64)))
    link.conn.on_lost(lambda _: None)
    link.conn.close()
    del link.conn
    gc.collect()
    assert gone() is remote.conn
    del remote
    gc.collect()
    assert gone() is None


def test_notifications_sent_before_the_peer_accepts_are_not_lost(open_engine):
    server, clients = open_engine(), [open_engine() for _ in range(4)]
    stop = threading.Event()
    notes = []

    def listen():
        while not stop.is_set():
            server.wait(0.01)
            notes.extend(server.notifications())

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        for turn in range(10):
            conns = [client.open_connection(HOST, server.port) for client in clients]
            for conn in conns:
                conn.notify(b"%d" % turn)
            accepted = [server.accept_connection(5) for _ in clients]
            end = time.monotonic() + 10
            while len(notes) < len(clients):
                assert time.monotonic() < end, (turn, notes)
                time.sleep(0.005)
            assert {note.conn for note in notes} == set(accepted)
            assert {note.data for note in notes} == {b"%d" % turn}
            notes.clear()
            for conn in conns + accepted:
                conn.close()
    finally:
        stop.set()
        listener.join(10)
