# SPDX-License-Identifier: Apache-2.0
"""Identities, which peers tell each other, and addresses, which lead to an engine."""

import socket
import time

import pytest

import kvtrans_engine
from conftest import HOST, is_within


def test_peers_read_each_others_identity(open_engine):
    client = open_engine(identity=b"prefill-0\0")
    server = open_engine(identity=bytearray(b"d" * 1024))
    conn = client.open_connection(HOST, server.port)
    peer = server.accept_connection(5)
    assert conn.peer_identity == b"d" * 1024 and peer.peer_identity == b"prefill-0\0"
    nobody = open_engine()
    conn = nobody.open_connection(HOST, server.port)
    assert server.accept_connection(5).peer_identity == b""
    conn.close()
    with pytest.raises(ValueError, match="closed"):
        _ = conn.peer_identity


@pytest.mark.parametrize("identity", [b"x" * 1025, "text", 5])
def test_what_is_no_identity_is_refused(open_engine, identity):
    with pytest.raises(ValueError if isinstance(identity, bytes) else TypeError):
        open_engine(identity=identity)


def test_an_address_leads_to_its_engine_and_to_no_other(open_engine):
    client, server = open_engine(), open_engine()
    address = server.address
    assert isinstance(address, bytes) and server.host == HOST
    conn = client.open_connection(address)
    assert (conn.host, conn.port) == (HOST, server.port)
    assert client.connect(bytearray(address), timeout=5)[0]
    server.close()
    restarted = open_engine(listen_port=conn.port)
    start = time.monotonic()
    with pytest.raises(kvtrans_engine.Unreachable, match="another engine"):
        client.open_connection(address)
    assert is_within(start, 1)
    with pytest.raises(kvtrans_engine.TransferTimeout):
        restarted.accept_connection(0)
    assert client.open_connection(memoryview(restarted.address)).host == HOST


@pytest.mark.skipif(HOST != "127.0.0.1", reason="needs several addresses of one host")
def test_an_engine_is_reached_at_each_of_its_interfaces(open_engine):
    server = open_engine(["127.0.0.2", "127.0.0.3", "127.0.0.2"])
    client = open_engine("127.0.0.1")
    assert server.host == "127.0.0.2"
    for host in ("127.0.0.2", "127.0.0.3"):
        assert client.open_connection(host, server.port).host == host
    assert client.open_connection(server.address).host == "127.0.0.2"
    # Who takes the call at the first host is not it.
    moved = server.address.replace(b"127.0.0.2", b"127.0.0.4")
    other = open_engine("127.0.0.4", listen_port=server.port)
    assert client.open_connection(moved).host == "127.0.0.3"
    with pytest.raises(kvtrans_engine.TransferTimeout):
        other.accept_connection(0)


@pytest.mark.skipif(HOST != "127.0.0.1", reason="needs several addresses of one host")
def test_a_port_that_is_taken_at_one_interface_is_told(open_engine):
    with socket.socket() as taken:
        taken.bind(("127.0.0.3", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(kvtrans_engine.Error, match=f"127.0.0.3 port {port}"):
            open_engine(["127.0.0.2", "127.0.0.3"], listen_port=port)


def test_what_is_no_address_is_refused(open_engine):
    engine = open_engine()
    address = engine.address
    for wrong in (b"", address[:-1], address + b"\0", b"x" + address[1:]):
        with pytest.raises(ValueError, match="no address"):
            engine.open_connection(wrong)
    with pytest.raises(kvtrans_engine.ProtocolError):
        engine.open_connection(address[:4] + b"\2" + address[5:])
    for args in ((address, 5), (HOST,), (5, 5)):
        with pytest.raises(TypeError):
            engine.open_connection(*args)
    with pytest.raises(ValueError, match="null"):
        engine.open_connection("a\0b", 5)
