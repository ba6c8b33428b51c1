# SPDX-License-Identifier: Apache-2.0
"""One thread that connects and accepts without waiting: by callbacks, and in asyncio."""

import asyncio
import gc
import select
import socket
import time

import pytest

import kvtrans_engine
from conftest import HOST, is_within

MANY = 50


@pytest.fixture
def telling(open_engine):
    """Open engines that tell of their peers; slow machines are not lost ones."""

    def open_one(**options):
        return open_engine(accept_events=True, lost_after=60, **options)

    return open_one


@pytest.fixture
def silent():
    """The port of somebody who takes calls and says nothing."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen(MANY)
        yield listener.getsockname()[1]


def await_arrivals(engine, count=1, seconds=20):
    """As an event loop does: what has come when the descriptor is readable."""
    conns, end = [], time.monotonic() + seconds
    while len(conns) < count:
        assert time.monotonic() < end
        select.select([engine.fileno()], [], [], 1)
        engine.reap()
        conns += engine.accepted()
    return conns


def await_end(engine, peer, seconds=20):
    end = time.monotonic() + seconds
    while peer.lost is None:
        assert time.monotonic() < end
        engine.wait(1)
        engine.notifications()
    assert isinstance(peer.lost, kvtrans_engine.PeerLost)


def connect_many(client, server, others=0):
    """Connections that the server has, too, and was not asked for."""
    calls = [client.connect_async(HOST, server.port, timeout=20) for _ in range(MANY)]
    conns = [call.result(20) for call in calls]
    end = time.monotonic() + 20
    while server.stats()["connections"] != MANY + others:
        assert time.monotonic() < end
        time.sleep(0.001)
    return conns


def await_count(engine, count, seconds=20):
    """Wait until the engine has that many connections."""
    end = time.monotonic() + seconds
    while engine.stats()["connections"] != count:
        assert time.monotonic() < end, engine.stats()["connections"]
        engine.wait(0.05)
        engine.reap()


def test_one_thread_connects_and_accepts(telling):
    client, server = telling(), telling(identity=b"server")
    ended = []
    call = client.connect_async(HOST, server.port)
    call.add_done_callback(ended.append)
    (peer,) = await_arrivals(server)
    while not ended:
        assert select.select([client.fileno()], [], [], 20)[0]
        client.reap()
    conn = call.result()
    assert ended == [call] and call.result() is conn and "connect" in repr(call)
    assert conn.peer_identity == b"server" and client.connection(conn.id) is conn
    peer.notify(b"word").result()
    assert client.wait(20) and [note.data for note in client.notifications()] == [b"word"]
    by_address = client.connect_async(server.address).result(20)
    assert by_address.port == server.port
    assert await_arrivals(server)[0].host == HOST


def test_what_a_peer_has_sent_comes_behind_it(telling):
    client, server = telling(), telling()
    with client.open_connection(HOST, server.port) as conn:
        conn.notify(b"early").result()
    assert server.wait(20)
    (peer,) = await_arrivals(server)
    while not (notes := server.notifications()):
        assert server.wait(20)
    assert notes[0].conn is peer and notes[0].data == b"early"


def test_calls_fail_as_those_that_wait(telling, silent):
    client = telling()
    with socket.socket() as closed:
        closed.bind((HOST, 0))
        call = client.connect_async(HOST, closed.getsockname()[1])
        with pytest.raises(kvtrans_engine.Unreachable, match="refused"):
            call.result(20)
    start = time.monotonic()
    with pytest.raises(kvtrans_engine.Unreachable, match="did not answer"):
        client.connect_async(HOST, silent, timeout=0.1).result(20)
    assert is_within(start, 1)
    other = telling(auth_key=b"x" * 32)
    with pytest.raises(kvtrans_engine.AuthError):
        client.connect_async(HOST, other.port).result(20)
    call = client.connect_async(HOST, silent, timeout=float("inf"))
    with pytest.raises(ValueError, match="a call to a peer"):
        call.detach()
    assert call.cancel()
    with pytest.raises(kvtrans_engine.Cancelled):
        call.result(20)
    for args, error in (((HOST,), TypeError), ((HOST, 0), ValueError), ((b"x",), ValueError)):
        with pytest.raises(error):
            client.connect_async(*args)


def test_a_call_that_is_dropped_ends_and_leaves_nothing(telling, silent, count_fds, expect_fds):
    client = telling()
    client.connect_async(HOST, silent, timeout=0.01).exception(20)
    gc.collect()
    fds = count_fds()
    for _ in range(MANY):
        client.connect_async(HOST, silent, timeout=60)
    calls = [client.connect_async(HOST, silent, timeout=60) for _ in range(MANY)]
    for call in calls:
        call.cancel()
    for call in calls:
        assert isinstance(call.exception(20), kvtrans_engine.Cancelled)
    assert client.stats()["transfers"] == 0
    expect_fds(fds)


def test_a_connection_that_nobody_took_is_closed(telling):
    client, server = telling(), telling()
    for is_reaped in (False, True):
        call = client.connect_async(HOST, server.port)
        (peer,) = await_arrivals(server)
        while is_reaped and not (call.done() and client.stats()["connections"] == 1):
            assert client.wait(20)
            client.reap()
        assert not is_reaped or call.exception(20) is None
        del call
        await_end(server, peer)
    call = client.connect_async(HOST, server.port)
    conn = call.result(20)
    del call
    assert not conn.closed and conn.lost is None


def test_peers_that_nobody_asks_for_wait_in_the_library(telling):
    client, server = telling(), telling()
    for _ in range(6):
        for conn in connect_many(client, server):
            assert server.reap() == []  # which takes in who has come
            conn.close()
        await_count(server, 0)
    connect_many(client, server)
    # Those that went without a word are not told of, when they were not taken in yet.
    assert len(server.accepted()) == 256
    peers = await_arrivals(server, MANY)
    assert all(peer.lost is None for peer in peers) and server.accepted() == []
    peers[0].notify(b"word").result(20)
    while not client.notifications():
        assert client.wait(20)


def flood(client, server):
    """More notifications of one peer than are kept, and nobody asks for them: that peer's connections."""
    conn = client.open_connection(HOST, server.port)
    (peer,) = await_arrivals(server)
    for _ in range(5000):
        conn.notify(b"")
    end = time.monotonic() + 60
    while server.stats()["notifications"] <= 4096:
        assert time.monotonic() < end
        server.reap()  # which takes them in
        time.sleep(0.001)
    server.reap()
    return conn, peer


def test_notifications_that_nobody_asks_for_hold_up_no_peer_and_no_end(telling):
    client, server = telling(), telling()
    flood(client, server)
    with client.open_connection(HOST, server.port):
        (peer,) = await_arrivals(server)
    ended = []
    peer.on_lost(ended.append)
    end = time.monotonic() + 20
    while not ended:
        assert time.monotonic() < end
        server.reap()
    assert ended == [peer]
    assert len(server.notifications()) == 4096


def test_peers_that_nobody_asks_for_hold_up_no_notification(telling):
    client, server = telling(), telling()
    conn = client.open_connection(HOST, server.port)
    (peer,) = await_arrivals(server)
    for _ in range(6):
        for other in connect_many(client, server, 1):
            server.reap()
            other.close()
        await_count(server, 1)
    conn.notify(b"word").result(20)
    assert [note.data for note in server.notifications()] == [b"word"]
    assert len(server.accepted()) == 256


def test_calls_end_with_their_engine(telling, silent):
    client, server = telling(), telling()
    client.open_connection(HOST, server.port)
    calls = [client.connect_async(HOST, silent, timeout=60) for _ in range(MANY)]
    start = time.monotonic()
    client.close()
    server.close()
    assert is_within(start, 2)
    for call in calls:
        assert isinstance(call.exception(20), kvtrans_engine.Closed)
    for method in (client.accepted, lambda: client.connect_async(HOST, silent)):
        with pytest.raises(ValueError, match="closed"):
            method()


def test_accepting_is_by_events_or_by_calls(open_engine, telling):
    with pytest.raises(ValueError, match="accept_events"):
        telling().accept_connection(0)
    engine = open_engine()
    with pytest.raises(ValueError, match="accept_events"):
        engine.accepted()
    with pytest.raises(ValueError, match="accept_events"):
        asyncio.run(engine.accept_async())


# ---- asyncio ----


def test_a_loop_connects_and_accepts_many(telling):
    client, server = telling(), telling()

    async def serve():
        return [await server.accept_async(20) for _ in range(MANY)]

    async def main():
        serving = asyncio.ensure_future(serve())
        calls = [client.connect_async(server.address, timeout=20) for _ in range(MANY)]
        conns = await asyncio.gather(*calls)
        return conns, await serving

    conns, peers = asyncio.run(main())
    assert len({conn.id for conn in conns}) == len({peer.id for peer in peers}) == MANY


def test_a_loop_accepts_beside_notifications_that_nobody_asks_for(telling):
    client, server = telling(), telling()
    flood(client, server)

    async def main():
        accepting = asyncio.ensure_future(server.accept_async(20))
        await client.connect_async(server.address, timeout=20)
        return await accepting

    assert asyncio.run(main()).host == HOST


def test_a_loop_ends_what_it_waited_for(telling, silent):
    client, server = telling(), telling()

    async def main():
        for seconds in (0, 0.05):
            with pytest.raises(kvtrans_engine.TransferTimeout):
                await server.accept_async(timeout=seconds)
        for seconds, error in ((-1, ValueError), (float("nan"), ValueError), ("1", TypeError)):
            with pytest.raises(error, match="timeout"):
                await server.accept_async(seconds)
        call = client.connect_async(HOST, silent, timeout=60)
        tasks = [asyncio.ensure_future(server.accept_async()), asyncio.ensure_future(_await(call))]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        for task in tasks:
            with pytest.raises(asyncio.CancelledError):
                await task
        assert isinstance(call.exception(20), kvtrans_engine.Cancelled)
        # Who waits no longer takes no peer from who does.
        waiting = asyncio.ensure_future(server.accept_async(20))
        conn = await client.connect_async(HOST, server.port)
        peer = await waiting
        conn.close()
        return peer

    async def _await(call):
        return await call

    assert asyncio.run(main()).host == HOST


def test_a_loop_that_is_cancelled_as_a_call_ends_closes_the_connection(telling):
    client, server = telling(), telling()
    failures = []

    async def call_peer(call):
        try:
            await call
        except asyncio.CancelledError as failure:
            failures.append(failure)  # and with it the call, as a traceback has
            raise

    async def main():
        call = client.connect_async(HOST, server.port)
        task = asyncio.ensure_future(call_peer(call))
        # It is cancelled by the callback before it knows that it was told.
        call.add_done_callback(lambda _: task.cancel())
        with pytest.raises(asyncio.CancelledError):
            await task
        assert call.done() and call.cancelled() and "CANCELLED" in repr(call)
        with pytest.raises(kvtrans_engine.Cancelled):
            call.result()
        conn = await client.connect_async(HOST, server.port)
        return call, conn

    call, conn = asyncio.run(main())
    assert len(failures) == 1 and not conn.closed and call.cancelled()
    await_count(client, 1)


def test_who_waits_at_most_so_long_leaves_no_connection(telling):
    client, server = telling(), telling()

    async def call_peer(seconds):
        try:
            return await asyncio.wait_for(client.connect_async(server.address), seconds)
        except asyncio.TimeoutError as failure:
            return failure

    async def main():
        start = time.monotonic()
        (await call_peer(20)).close()
        took = time.monotonic() - start
        calls = [call_peer(3 * took * i / MANY) for i in range(1, MANY + 1)]
        return await asyncio.gather(*calls)

    outcomes = asyncio.run(main())
    taken = [o for o in outcomes if not isinstance(o, asyncio.TimeoutError)]
    await_count(client, len(taken))


def test_a_loop_closes_with_calls_under_way(telling, silent, count_fds, expect_fds):
    client, server = telling(), telling()
    gc.collect()
    fds = count_fds()

    async def leave():
        tasks = [asyncio.ensure_future(server.accept_async())]
        tasks += [asyncio.ensure_future(_call()) for _ in range(3)]
        await asyncio.sleep(0)
        return tasks

    async def _call():
        return await client.connect_async(HOST, silent, timeout=60)

    tasks = asyncio.run(leave())  # which cancels what is left
    assert all(task.cancelled() for task in tasks)
    del tasks
    gc.collect()
    client.close()
    expect_fds(fds - 1)


def test_who_accepts_is_told_that_the_engine_was_closed(telling):
    server = telling()

    async def main():
        waiting = asyncio.ensure_future(server.accept_async())
        await asyncio.sleep(0)
        server.close()
        with pytest.raises(kvtrans_engine.Closed):
            await waiting

    asyncio.run(main())
