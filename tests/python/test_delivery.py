# SPDX-License-Identifier: Apache-2.0
"""What a peer was told of success for is received, whatever becomes of the peer, accepted or not."""

import asyncio
import signal
import time

import numpy as np
import pytest

import kvtrans_engine
from conftest import HOST, INTERFACE, PROVIDER

WAITING = {"heartbeat": 0.1, "lost_after": 1.0}

# Does one thing, is told of success, and goes in one way.
LEAVER = """
    import os, signal, sys, numpy as np, kvtrans_engine
    interface, provider, host, port, what, way = sys.argv[1:]
    engine = kvtrans_engine.Engine(interface, ncpus=1, provider=provider or None, heartbeat=0.1,
                                   lost_after=1.0)
    conn = engine.open_connection(host, int(port), timeout=20)
    if what == "kv":
        ok, kv_id = engine.reg_kv(conn.id, b"")
        assert engine.send_kv(kv_id, np.arange(1000)), engine.last_error
        engine.dereg_kv(kv_id)
    elif what == "batch":
        pool = engine.register(np.full((8, 100), 7, np.uint8))
        with conn.batch(notify=b"left") as batch:
            for i in range(8):
                batch.write_blocks(pool, [i], conn.remote("pool"), [i])
        assert batch.result() == 800
    else:
        conn.notify(b"left").result()
    print("told", flush=True)
    if way == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif way == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif way == "close":
        conn.close()
    engine.close()
"""


def leave(start_python, server, what, way):
    """Start a leaver."""
    return start_python(LEAVER, INTERFACE, PROVIDER or "", HOST, server.port, what, way)


def take_notes(engine, conn):
    """What conn has left and then its end, in the order they are told."""
    told = []
    conn.on_lost(lambda _: told.append("lost"))
    while "lost" not in told:
        assert engine.wait(5)
        for note in engine.notifications():
            assert note.conn is conn and note.error is None
            told.append(note.data)
    return told


@pytest.mark.parametrize("way", ["close", "engine", "kill", "stop"])
@pytest.mark.parametrize(
    ("what", "late"),
    [("note", True), ("note", False), ("kv", True), ("kv", False), ("batch", False)],
)
def test_what_a_peer_left_is_received_however_it_went(open_engine, start_python, what, late, way):
    server = open_engine(**WAITING)
    process = leave(start_python, server, what, way)
    conn = None if late else server.accept_connection(timeout=20)
    if what == "batch":
        blocks = np.zeros((8, 100), np.uint8)
        conn.export(server.register(blocks), access="w", name="pool")
    assert process.stdout.readline() == "told\n", process.communicate()
    if way != "stop":
        process.communicate(timeout=20)
    if late:
        while server.stats()["connections"] > 0:
            time.sleep(0.01)
        ok, ip, port, conn_id = server.accept(timeout=20)
        assert ok and ip == HOST and port > 0
        conn = server.connection(conn_id)
    told = take_notes(server, conn)
    assert isinstance(conn.lost, kvtrans_engine.PeerLost)
    if what == "kv":
        ok, kv_id = server.reg_kv(conn.id, b"")
        ok, received = server.recv_kv(kv_id)
        assert ok and np.array_equal(received, np.arange(1000))
        assert server.recv_kv(kv_id) == (False, None)
        assert isinstance(server.last_error, kvtrans_engine.PeerLost)
        assert told == ["lost"]
    else:
        assert told == [b"left", "lost"]
    if what == "batch":
        assert (blocks == 7).all()


def test_of_many_peers_that_went_none_is_missed(open_engine):
    client, server = open_engine(), open_engine()
    for i in range(80):
        with client.open_connection(HOST, server.port) as conn:
            ok, kv_id = client.reg_kv(conn.id, b"")
            assert client.send_kv(kv_id, np.array([i]))
            conn.notify(b"%d" % i).result()
    for i in range(80):
        conn = server.accept_connection(timeout=5)
        ok, kv_id = server.reg_kv(conn.id, b"")
        assert server.recv_kv(kv_id)[1][0] == i
        assert take_notes(server, conn) == [b"%d" % i, "lost"]
        conn.close()


def test_of_peers_that_go_while_the_server_accepts_none_is_missed(open_engine, in_thread):
    client, server = open_engine(), open_engine()
    notes = []

    def serve():
        while len(notes) < 100:
            with server.accept_connection(timeout=10) as conn:
                notes.extend(take_notes(server, conn)[:-1])

    served = in_thread(serve)
    for i in range(100):
        with client.open_connection(HOST, server.port) as conn:
            conn.notify(b"%d" % i).result()
    served.result(20)
    assert notes == [b"%d" % i for i in range(100)]


# What a program keeps for a peer it can drop in on_lost: no notification comes after.
def test_the_end_is_told_behind_the_notifications(link):
    lost = []
    link.peer.on_lost(lost.append)
    for i in range(3):
        link.conn.notify(b"%d" % i).result()
    link.conn.close()
    while link.peer.lost is None:
        link.server.wait(0.05)
    link.server.wait(0.1)
    link.server.reap()
    assert lost == []  # there are notifications to be asked for
    notes = link.server.notifications()
    assert [note.data for note in notes] == [b"0", b"1", b"2"] and lost == []
    assert link.server.wait(5)
    assert lost == [link.peer]
    assert not link.server.wait(0.05)


def test_the_end_is_told_behind_the_notifications_of_asyncio(link):
    told = []
    link.peer.on_lost(lambda _: told.append("lost"))
    for i in range(3):
        link.conn.notify(b"%d" % i).result()
    link.conn.close()

    async def listen():
        async for note in link.server.anotifications():
            told.append(note.data)

    async def main():
        task = asyncio.create_task(listen())
        while "lost" not in told:
            await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(asyncio.wait_for(main(), 10))
    assert told == [b"0", b"1", b"2", "lost"]


def test_an_accept_that_a_signal_ends_leaves_the_peer_for_the_next_one(open_engine):
    client, server = open_engine(), open_engine()

    class Interrupted(Exception):
        pass

    def visit(number, frame):
        with client.open_connection(HOST, server.port) as conn:
            conn.notify(b"left").result()
        raise Interrupted

    before = signal.signal(signal.SIGALRM, visit)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(Interrupted):
            server.accept_connection(timeout=10)
    finally:
        signal.signal(signal.SIGALRM, before)
    conn = server.accept_connection(timeout=5)
    assert take_notes(server, conn) == [b"left", "lost"]
