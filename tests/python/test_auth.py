# SPDX-License-Identifier: Apache-2.0
"""Keys as users meet them: none to set, one of their own, one after another; and who has none."""

import base64
import os
import socket
import threading
import time

import pytest

import kvtrans_engine
from conftest import HOST, is_within

KEYS = [bytes([number]) * 32 for number in (1, 2, 3)]
OPENING, ANSWER, TAG = 68, 56, 16
IS_LONG = os.environ.get("KVT_TEST_LONG") == "1"


def write_keys(path, *secrets):
    """A key file as kvtrans-key writes it, taken by its name at once."""
    fresh = path.with_suffix(".new")
    fresh.touch(0o600)
    fresh.write_text("".join(base64.b64encode(secret).decode() + "\n" for secret in secrets))
    fresh.rename(path)


def meet(client, server):
    """Connect and exchange a word: the two connections."""
    conn = client.open_connection(HOST, server.port)
    peer = server.accept_connection(timeout=5)
    ok, near = client.reg_kv(conn.id, b"")
    ok, far = server.reg_kv(peer.id, b"")
    assert client.send_kv(near, b"word") and server.recv_kv(far, timeout=5)[1].tobytes() == b"word"
    return conn, peer


def expect_refused(client, server, word="keys differ"):
    failed = server.stats()["handshakes_failed"]
    with pytest.raises(kvtrans_engine.AuthError, match=word) as caught:
        client.open_connection(HOST, server.port)
    assert caught.value.name == "KVT_E_AUTH" and f"port {server.port}" in str(caught.value)
    # Who was hung up on tries three times more.
    assert server.stats()["handshakes_failed"] == failed + 4
    with pytest.raises(kvtrans_engine.TransferTimeout):
        server.accept_connection(timeout=0)


# ---- keys ----


def test_engines_of_one_user_meet_without_a_setting(open_engine):
    conn, peer = meet(open_engine(), open_engine())
    assert len(conn.key_id) == 16 and conn.key_id == peer.key_id


@pytest.mark.parametrize("form", [bytes, bytearray, memoryview])
def test_a_key_may_be_given_as_bytes_and_as_text(open_engine, form):
    line = base64.b64encode(KEYS[0]).decode()
    meet(open_engine(auth_key=form(KEYS[0])), open_engine(auth_key=f"# ours\n{line}\n"))


def test_who_has_another_key_is_refused_and_told_so_while_others_come_in(open_engine):
    server, friend = open_engine(auth_key=KEYS[0]), open_engine(auth_key=KEYS[0])
    stranger = open_engine(auth_key=KEYS[1])
    for _ in range(5):
        started = time.monotonic()
        expect_refused(stranger, server)
        assert is_within(started, 2)
        meet(friend, server)
    assert stranger.connect(HOST, server.port) == (False, None)
    assert isinstance(stranger.last_error, kvtrans_engine.AuthError)
    assert isinstance(stranger.last_error, PermissionError)


@pytest.mark.parametrize("key", [b"", b"short", "no key", bytes(32), b"x" * 33])
def test_what_is_no_key_is_refused(key):
    with pytest.raises(ValueError, match="auth_key"):
        kvtrans_engine.Engine("lo", auth_key=key)


def test_a_key_of_another_type_is_refused():
    with pytest.raises(TypeError):
        kvtrans_engine.Engine("lo", auth_key=17)


def test_keys_are_rotated_without_a_restart(open_engine, tmp_path, monkeypatch):
    monkeypatch.setenv("KVTRANS_KEY_FILE", str(tmp_path / "key"))
    old, new = KEYS[:2]
    write_keys(tmp_path / "key", old)
    engines = client, server = open_engine(), open_engine()
    ids = {meet(client, server)[0].key_id}
    first, first_peer = meet(client, server)
    for secrets in ([old, new], [new, old], [new]):
        write_keys(tmp_path / "key", *secrets)
        for engine in engines:
            engine.reload_keys()
            ids.add(meet(client, server)[0].key_id)
            ids.add(meet(server, client)[0].key_id)
    assert len(ids) == 2
    # Who has not been told has no key in common with the others any more; who is connected stays.
    expect_refused(open_engine(auth_key=old), server)
    assert first.lost is None and first_peer.lost is None


def test_keys_of_a_program_are_replaced_by_others_of_it(open_engine):
    client, server = open_engine(auth_key=KEYS[0]), open_engine(auth_key=KEYS[0])
    server.reload_keys(KEYS[1])
    expect_refused(client, server)
    with pytest.raises(ValueError, match="needs another"):
        client.reload_keys()
    client.reload_keys(auth_key=KEYS[1])
    meet(client, server)


def test_keys_that_cannot_be_read_again_stay(open_engine, tmp_path, monkeypatch):
    monkeypatch.setenv("KVTRANS_KEY_FILE", str(tmp_path / "key"))
    write_keys(tmp_path / "key", KEYS[0])
    client, server = open_engine(), open_engine()
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(ValueError, match="open to others"):
        server.reload_keys()
    (tmp_path / "key").unlink()
    with pytest.raises(ValueError, match=str(tmp_path)):
        server.reload_keys()
    meet(client, server)


def test_a_key_file_that_is_named_and_not_there_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("KVTRANS_KEY_FILE", str(tmp_path / "key"))
    with pytest.raises(ValueError, match=str(tmp_path / "key")):
        kvtrans_engine.Engine("lo")
    assert not (tmp_path / "key").exists()


def test_a_new_user_gets_a_key_of_his_own(open_engine, tmp_path, monkeypatch):
    ours = open_engine()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "new"))
    theirs = open_engine()
    assert (tmp_path / "new/kvtrans/key").stat().st_mode & 0o777 == 0o600
    expect_refused(ours, theirs)
    meet(open_engine(), theirs)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_container_without_a_home_is_told_the_one_setting(run_python, tmp_path):
    write_keys(tmp_path / "key", KEYS[0])
    status, out, err = run_python(
        """
        import os, sys
        from kvtrans_engine import Engine
        for name in ("HOME", "XDG_CONFIG_HOME"):
            os.environ.pop(name, None)
        key = open(sys.argv[1])
        os.fchown(key.fileno(), 987654, 987654)
        os.setuid(987654)
        try:
            Engine("lo", ncpus=1)
        except ValueError as error:
            print(error)
        os.environ["KVTRANS_KEY_FILE"] = f"/proc/self/fd/{key.fileno()}"
        Engine("lo", ncpus=1).close()
        print("open")
        """,
        tmp_path / "key",
    )
    assert status == 0, err
    told, done = out.splitlines()
    assert "user 987654 has no home directory" in told and "KVTRANS_KEY_FILE" in told
    assert done == "open"


def test_no_secret_reaches_logs_or_errors(run_python):
    secret = "n0c9YmVhciB3aXRoIG1lIGZvciBhIHdoaWxlIG5vdz0="
    status, out, err = run_python(
        """
        import os, sys
        os.environ["KVTRANS_LOG"] = "debug"
        from kvtrans_engine import Engine
        for key in (sys.argv[1], sys.argv[1][:-2], sys.argv[1] + " x"):
            try:
                with Engine("lo", ncpus=1, auth_key=key) as one, Engine("lo", ncpus=1) as other:
                    print(one.connect("127.0.0.1", other.port), one.last_error, repr(one))
                    print(other.connect("127.0.0.1", one.port), other.last_error)
                    one.reload_keys(sys.argv[1] + "=")
            except ValueError as error:
                print(error)
        """,
        secret,
    )
    assert status == 0, err
    assert "keys differ" in err and "AuthError" not in err
    told = out + err
    assert secret[:16] not in told and base64.b64decode(secret).hex()[:16] not in told


def test_the_operator_is_told_once_a_second_of_each_source(run_python):
    status, out, err = run_python(
        """
        import time
        from kvtrans_engine import Engine
        with Engine("lo", ncpus=1, auth_key=b"a" * 32) as server:
            with Engine("lo", ncpus=1, auth_key=b"b" * 32) as client:
                began = time.monotonic()
                for _ in range(20):
                    client.connect("127.0.0.1", server.port)
                time.sleep(1.1)
                client.connect("127.0.0.1", server.port)
                print(int(time.monotonic() - began))
        """
    )
    assert status == 0, err
    lines = [line for line in err.splitlines() if "handshake-failed: 127.0.0.1: keys differ" in line]
    assert 2 <= len(lines) <= int(out) + 2
    # All but the last call's further tries are told, or told of.
    more = sum(int(line.split("(and ")[1].split()[0]) for line in lines if "(and " in line)
    assert len(lines) + more >= 4 * 20 + 1


# ---- insecure ----


def test_insecure_engines_warn_and_meet_each_other_only(open_engine, open_insecure_engine):
    client, server = open_insecure_engine(), open_insecure_engine()
    conn, peer = meet(client, server)
    assert conn.key_id == peer.key_id == ""
    expect_refused(client, open_engine(), "this side is insecure")
    expect_refused(open_engine(), server)
    with pytest.raises(ValueError, match="insecure"):
        client.reload_keys()


def test_an_engine_is_not_insecure_with_a_key():
    with pytest.warns(RuntimeWarning), pytest.raises(ValueError, match="not both"):
        kvtrans_engine.Engine("lo", auth_key=KEYS[0], insecure=True)


# ---- what was heard, changed, or played again ----


class Proxy:
    """Between callers and an engine; change(direction, offset, bytes) sees all that passes."""

    def __init__(self, port, change):
        self.port, self.change = port, change
        self.heard = {"up": b"", "down": b""}
        self.listener = socket.create_server((HOST, 0))
        self.address = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                caller = self.listener.accept()[0]
            except OSError:
                return
            self.heard = heard = {"up": b"", "down": b""}
            callee = socket.create_connection((HOST, self.port))
            for way in (("up", caller, callee, heard), ("down", callee, caller, heard)):
                threading.Thread(target=self.pump, args=way, daemon=True).start()

    def pump(self, direction, source, sink, heard):
        try:
            while data := source.recv(4096):
                offset = len(heard[direction])
                heard[direction] += data
                sink.sendall(self.change(direction, offset, data))
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.listener.close()


@pytest.fixture
def open_proxy():
    proxies = []

    def open_one(port, change=lambda direction, offset, data: data):
        proxies.append(Proxy(port, change))
        return proxies[-1]

    yield open_one
    for proxy in proxies:
        proxy.close()


def record_call(client, server, proxy):
    """What both sides say until the connection is open, by its parts."""
    conn = client.open_connection(HOST, proxy.address)
    server.accept_connection(timeout=5)
    up, down = proxy.heard["up"], proxy.heard["down"]
    conn.close()
    return up, down


def test_a_flipped_bit_of_any_message_lets_nobody_in(open_engine, open_proxy):
    server = open_engine(auth_key=KEYS[0])
    client = open_engine(auth_key=KEYS[0])
    flip = {}

    def change(direction, offset, data):
        at = flip.get(direction, -1) - offset * 8
        if not 0 <= at < len(data) * 8:
            return data
        data = bytearray(data)
        data[at // 8] ^= 1 << at % 8
        return bytes(data)

    proxy = open_proxy(server.port, change)
    up, down = record_call(client, server, proxy)
    total = server.stats()["connections_total"]
    # OPENING and HELLO, ANSWER and WELCOME. A length that grew makes a side wait: a few of those do.
    hello_end = OPENING + 2 + int.from_bytes(up[OPENING : OPENING + 2], "little")
    welcome_end = ANSWER + 2 + int.from_bytes(down[ANSWER : ANSWER + 2], "little")
    step = 1 if IS_LONG else 13
    flips = [("up", bit) for bit in range(0, hello_end * 8, step)]
    flips += [("down", bit) for bit in range(0, welcome_end * 8, step)]
    for direction, bit in flips:
        flip.clear()
        flip[direction] = bit
        with pytest.raises(kvtrans_engine.Error) as caught:
            client.open_connection(HOST, proxy.address, timeout=0.4)
        assert caught.value.name in (
            "KVT_E_AUTH",
            "KVT_E_PROTOCOL",
            "KVT_E_UNREACHABLE",
        ), (direction, bit, caught.value)
    assert server.stats()["connections_total"] == total
    with pytest.raises(kvtrans_engine.TransferTimeout):
        server.accept_connection(timeout=0)
    flip.clear()
    record_call(client, server, proxy)


def test_a_call_that_is_played_again_makes_nothing(open_engine, open_proxy, count_fds, expect_fds):
    server = open_engine(auth_key=KEYS[0])
    client = open_engine(auth_key=KEYS[0])
    proxy = open_proxy(server.port)
    up, _ = record_call(client, server, proxy)
    before = server.stats()
    fds = count_fds()
    count = 1000 if IS_LONG else 100
    for _ in range(count):
        with socket.create_connection((HOST, server.port)) as call:
            call.sendall(up)
            answer = b""
            try:
                while data := call.recv(4096):
                    answer += data
            except ConnectionError:
                pass
            assert answer == b""
    after = server.stats()
    assert after["handshakes_failed"] == before["handshakes_failed"] + count
    assert after["connections_total"] == before["connections_total"]
    expect_fds(fds)
    meet(client, server)


def catch_openings(client, count):
    """What a client says to one who never answers, again and again."""
    openings = []

    def serve(listener):
        while len(openings) < count:
            caller = listener.accept()[0]
            openings.append(caller.recv(OPENING, socket.MSG_WAITALL))
            caller.close()  # and it calls again

    with socket.create_server((HOST, 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        while thread.is_alive():
            client.connect(HOST, listener.getsockname()[1], timeout=0.04)
        thread.join()
    assert len(set(openings)) == count and {len(opening) for opening in openings} == {OPENING}
    return openings


def test_openings_that_were_caught_are_limited_and_given_one_deadline(open_engine):
    most = 256  # of one address: src/engine/conn/strangers.h
    server, client = (open_engine(auth_key=KEYS[0]) for _ in range(2))
    openings = catch_openings(client, most + 20)
    failed = server.stats()["handshakes_failed"]
    started = time.monotonic()
    calls = []
    for opening in openings:
        calls.append(socket.create_connection((HOST, server.port), 10))
        calls[-1].sendall(opening)
        assert len(calls[-1].recv(ANSWER, socket.MSG_WAITALL)) == ANSWER
    is_prompt = time.monotonic() - started < 1
    # The oldest had to go for the newest; friends come in beside those that are left.
    assert all(call.recv(1) == b"" for call in calls[:20])
    meet(client, server)
    if is_prompt:
        assert server.stats()["handshakes_failed"] == failed + 21  # one for the friend
    calls[-1].sendall(b"\xff")  # the beginning of a length: it buys no time
    for call in calls[20:]:
        try:
            assert call.recv(1) == b""
        except ConnectionError:
            pass
        call.close()
    assert is_within(started, 10)
    assert server.stats()["handshakes_failed"] == failed + most + 20
    meet(client, server)


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("deed", ["again", "changed", "dropped"])
def test_a_record_that_is_not_the_next_ends_the_connection(open_engine, open_proxy, direction, deed):
    options = {"heartbeat": 0.05, "auth_key": KEYS[0]}
    server, client = open_engine(**options), open_engine(**options)
    armed = threading.Event()
    beat = 2 + 8 + TAG

    def change(way, _, data):
        # Open connections say nothing but heartbeats, a record each.
        if way != direction or not armed.is_set() or len(data) != beat:
            return data
        if deed == "again":
            return data + data
        if deed == "changed":
            return data[:-1] + bytes([data[-1] ^ 1])
        armed.clear()
        return b""

    proxy = open_proxy(server.port, change)
    conn = client.open_connection(HOST, proxy.address)
    peer = server.accept_connection(timeout=5)
    armed.set()
    reader, other = (peer, conn) if direction == "up" else (conn, peer)
    end = time.monotonic() + 10
    while (reader.lost is None or other.lost is None) and time.monotonic() < end:
        time.sleep(0.01)
    assert isinstance(reader.lost, kvtrans_engine.AuthError), reader.lost
    assert isinstance(other.lost, kvtrans_engine.PeerLost), other.lost


def test_nothing_but_the_opening_is_in_clear(open_engine, open_proxy):
    server, client = (open_engine(auth_key=KEYS[0]) for _ in range(2))
    up, down = record_call(client, server, open_proxy(server.port))
    provider = client.provider.encode()
    assert up[:2] == down[:2] == b"KV"
    for heard in (up[OPENING:], down[ANSWER:]):
        assert provider not in heard and b"KV" not in heard[2:10]
