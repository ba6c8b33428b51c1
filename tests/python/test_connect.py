# SPDX-License-Identifier: Apache-2.0
"""Names, addresses and ports: what connect() does with them, and what it says when it cannot.

Most tests run a script in a network namespace of their own, whose hosts, addresses and firewall
they choose; that takes root, unshare(1), ip(8) and nft(8).
"""

import shlex
import shutil
import socket
import struct
import subprocess
import sys
import textwrap

import pytest
from conftest import HOST, PROVIDER

import kvtrans_engine

FIREWALL = """
    table inet kvt {
        chain input {
            type filter hook input priority 0;
            %s
        }
    }
"""

PREAMBLE = """
    import os, socket, sys, time
    import kvtrans_engine
    from kvtrans_engine import Engine

    LATENESS = 0 if os.environ.get("KVT_TEST_PUNCTUAL") == "1" else 15  # as in conftest.py

    def call(host, port, timeout=5.0, **options):
        "Connect; return the seconds that it took and the error, None: there is none."
        with Engine("lo", ncpus=1, **options) as caller:
            begin = time.monotonic()
            ok, _ = caller.connect(host, port, timeout=timeout)
            return time.monotonic() - begin, None if ok else caller.last_error

    def takes_less(seconds, host, port, timeout=5.0):
        "Whether a connection takes less at all: on a busy machine it often takes more."
        end = time.monotonic() + 1 + LATENESS
        while True:
            took, error = call(host, port, timeout)
            if error is None and took < seconds:
                return True
            if time.monotonic() > end:
                return False
"""


def quote(path):
    return shlex.quote(str(path))


def can_make_networks():
    if shutil.which("nft") is None or shutil.which("unshare") is None:
        return False
    probe = "ip link set lo up && nft add table inet kvt"
    command = ["unshare", "-nm", "sh", "-c", probe]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="session")
def networks():
    if PROVIDER == "verbs":
        pytest.skip("Soft-RoCE knows no network namespaces")
    if not can_make_networks():
        pytest.skip("a network namespace takes root, ip(8) and nft(8)")


@pytest.fixture
def run_in_network(networks, tmp_path):
    """Run a script in a namespace with these commands, firewall rules and hosts, to success."""

    def run(script, commands=(), rules="", hosts=""):
        (tmp_path / "hosts").write_text("127.0.0.1 localhost\n" + hosts)
        (tmp_path / "firewall").write_text(FIREWALL % rules)
        (tmp_path / "script.py").write_text(textwrap.dedent(PREAMBLE) + textwrap.dedent(script))
        steps = [
            "ip link set lo up",
            f"mount --bind {quote(tmp_path / 'hosts')} /etc/hosts",
            *commands,
            f"nft -f {quote(tmp_path / 'firewall')}",
            f"exec {quote(sys.executable)} {quote(tmp_path / 'script.py')}",
        ]
        done = subprocess.run(
            ["unshare", "-nm", "sh", "-ec", "\n".join(steps)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    return run


# ---- several addresses ----

SILENT_FIRST = {
    "commands": [f"ip addr add 2001:db8::{n}/128 dev lo nodad" for n in (7, 8)],
    "rules": "ip6 daddr 2001:db8::/32 drop; ip daddr 127.0.0.64/26 drop;",
}


def test_a_silent_address_costs_a_quarter_of_a_second(run_in_network):
    run_in_network(
        """
        assert socket.getaddrinfo("cache1", 1, type=socket.SOCK_STREAM)[0][0] == socket.AF_INET6
        with Engine("lo", ncpus=1) as engine:
            seconds, error = call("cache1", engine.port)
            assert error is None and 0.2 < seconds < 1.5 + LATENESS, (seconds, error)
        """,
        hosts="2001:db8::7 cache1\n127.0.0.1 cache1\n",
        **SILENT_FIRST,
    )


def test_the_families_take_turns(run_in_network):
    run_in_network(
        """
        with Engine("lo", ncpus=1) as engine:
            fds = len(os.listdir("/proc/self/fd"))
            assert takes_less(0.48, "cache1", engine.port)  # third in the resolver's order
            with Engine("lo", ncpus=1) as caller:
                assert caller.open_connection("cache1", engine.port).host == "cache1"
            end = time.monotonic() + 20  # the server's side closes on its own thread
            while len(os.listdir("/proc/self/fd")) != fds and time.monotonic() < end:
                time.sleep(0.01)
            assert len(os.listdir("/proc/self/fd")) == fds
        """,
        hosts="2001:db8::7 cache1\n2001:db8::8 cache1\n127.0.0.1 cache1\n",
        **SILENT_FIRST,
    )


def test_a_refused_address_costs_nothing(run_in_network):
    run_in_network(
        """
        with Engine("lo", ncpus=1) as engine:
            assert takes_less(0.2, "cache1", engine.port)
        """,
        ["ip addr add 2001:db8::7/128 dev lo nodad"],
        hosts="2001:db8::7 cache1\n127.0.0.1 cache1\n",
    )


def test_a_short_time_limit_reaches_every_address(run_in_network):
    run_in_network(
        """
        with Engine("lo", ncpus=1) as engine:
            assert takes_less(0.25, "cache1", engine.port, timeout=0.25)
        """,
        hosts="2001:db8::7 cache1\n127.0.0.1 cache1\n",
        **SILENT_FIRST,
    )


def test_each_address_is_told_what_became_of_it(run_in_network):
    run_in_network(
        """
        seconds, error = call("cache1", 12345, timeout=1)
        assert isinstance(error, kvtrans_engine.Unreachable) and 0.9 < seconds < 1.5 + LATENESS
        assert str(error).startswith("cache1 port 12345: ")
        assert "2001:db8::7: it did not answer in time" in str(error), error
        assert "127.0.0.1: Connection refused" in str(error), error
        seconds, error = call("127.0.0.70", 12345, timeout=0.3)
        assert str(error) == "127.0.0.70 port 12345: it did not answer in time"
        seconds, error = call("cache2", 12345, timeout=0.3)
        assert str(error) == "cache2 (127.0.0.70) port 12345: it did not answer in time"
        """,
        hosts="2001:db8::7 cache1\n127.0.0.1 cache1\n127.0.0.70 cache2\n",
        **SILENT_FIRST,
    )


def test_an_address_that_is_no_engines_is_passed_over(run_in_network):
    run_in_network(
        """
        import threading
        def serve(answer):
            listener = socket.create_server(("2001:db8::7", 0), family=socket.AF_INET6)
            def run():
                fd, _ = listener.accept()
                if answer:
                    fd.recv(100)
                    fd.sendall(answer)
                time.sleep(10)
            threading.Thread(target=run, daemon=True).start()
            return listener.getsockname()[1]

        http = b"HTTP/1.1 400 Bad Request\\r\\n\\r\\n"
        for answer, least, most in ((http, 0, 1), (b"", 0.9, 2.5)):
            port = serve(answer)
            with Engine("lo", ncpus=1, listen_port=port) as engine:
                seconds, error = call("cache1", port, timeout=2)
                assert error is None and least < seconds < most + LATENESS, (seconds, error)
            seconds, error = call("cache1", serve(http))
            assert isinstance(error, kvtrans_engine.ProtocolError), error
            assert "2001:db8::7: the peer does not speak KVTrans" in str(error), error
            assert "127.0.0.1: Connection refused" in str(error), error
        os._exit(0)
        """,
        ["ip addr add 2001:db8::7/128 dev lo nodad"],
        hosts="2001:db8::7 cache1\n127.0.0.1 cache1\n",
    )


def test_time_that_ran_out_in_resolving_accuses_no_peer(run_in_network, tmp_path):
    (tmp_path / "resolv").write_text("nameserver 127.0.0.70\n")
    run_in_network(
        """
        seconds, error = call("cache9.example", 12345, timeout=0.5)
        assert isinstance(error, kvtrans_engine.Unreachable) and seconds < 1.5 + LATENESS
        assert str(error) == "cannot resolve cache9.example in time: no name server has answered"
        os._exit(0)
        """,
        [f"mount --bind {quote(tmp_path / 'resolv')} $(readlink -f /etc/resolv.conf)"],
        "ip daddr 127.0.0.70 drop;",
    )


# ---- lanes ----


VERDICTS = {
    "dropped": ("drop", "no answer in time", 1.5, 2.5),
    "reset": ("reject with tcp reset", "Connection refused", 5, 1),
    "prohibited": ("reject with icmp type admin-prohibited", "No route to host", 5, 1),
    "no network": ("reject with icmp type net-unreachable", "Network is unreachable", 5, 1),
}


@pytest.mark.parametrize("verdict, word, timeout, most", VERDICTS.values(), ids=VERDICTS.keys())
def test_lanes_behind_a_firewall_are_told_apart_from_the_peer(
    run_in_network, verdict, word, timeout, most
):
    run_in_network(
        f"""
        with Engine("lo", ncpus=1, listen_port=12345) as engine:
            seconds, error = call("localhost", 12345, timeout={timeout})
            assert isinstance(error, kvtrans_engine.Unreachable), error
            text = str(error)
            start = "localhost (127.0.0.1) port 12345: lane 0, to 127.0.0.1 port "
            assert text.startswith(start) and "lane_ports" in text and "firewall" in text, text
            assert {word!r} in text and seconds < {most} + LATENESS, (seconds, text)
        """,
        rules=f"tcp dport 12345 accept; tcp flags & (syn | ack) == syn {verdict};",
    )


LANE_PORTS = """
    def find_ports():
        "The local ports of the connected sockets of this process."
        inodes = set()
        for fd in os.listdir("/proc/self/fd"):
            try:
                inodes.add(os.readlink("/proc/self/fd/" + fd))
            except OSError:
                pass
        lines = [line.split() for line in open("/proc/net/tcp").readlines()[1:]]
        return {int(line[1].split(":")[1], 16) for line in lines
                if line[3] == "01" and "socket:[%s]" % line[9] in inodes}

    def exchange(engine, caller, port):
        conn = caller.open_connection("127.0.0.1", port, timeout=5)
        peer = engine.accept_connection(timeout=5)
        kvs = [e.reg_kv(c.id, bytearray(5))[1] for e, c in ((caller, conn), (engine, peer))]
        assert caller.send_kv(kvs[0], b"12345") and bytes(engine.recv_kv(kvs[1])[1]) == b"12345"
        return conn, peer
"""


def test_a_firewall_that_knows_lane_ports_lets_lanes_through(run_in_network):
    run_in_network(
        LANE_PORTS
        + """
    options = dict(ncpus=2, nconn_per_cpu=2, lane_ports="20000-20001")
    with Engine("lo", listen_port=12345, **options) as engine, Engine("lo", **options) as caller:
        for i in range(5):  # while the lanes of the first are open
            exchange(engine, caller, 12345)
            assert find_ports() & {20000, 20001}, find_ports()
        """,
        rules="tcp dport { 12345, 20000-20001 } accept; tcp flags & (syn | ack) == syn drop;",
    )


def test_lanes_are_on_one_port_again_and_again(run_in_network):
    run_in_network(
        LANE_PORTS
        + """
    options = dict(ncpus=2, nconn_per_cpu=2)
    with Engine("lo", lane_ports="20000", **options) as engine, Engine("lo", **options) as caller:
        kept = [exchange(engine, caller, engine.port) for i in range(5)]
        assert 20000 in find_ports(), find_ports()
        for conn, peer in kept:
            conn.close()
            peer.close()
        exchange(engine, caller, engine.port)
        """
    )


def test_engines_of_one_host_share_lane_ports(run_in_network):
    run_in_network(
        """
        import threading
        options = dict(ncpus=1, lane_ports="20000-20003")
        engines = [Engine("lo", **options) for _ in range(4)]
        results = []
        def connect_often(engine):
            for i in range(20):
                results.append(call("127.0.0.1", engine.port)[1])
        threads = [threading.Thread(target=connect_often, args=[engine]) for engine in engines]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [None] * 80, [str(error) for error in results if error]
        """
    )


def test_ports_that_are_all_in_use_are_told_to_the_caller(run_in_network):
    run_in_network(
        """
        busy = [socket.create_server(("127.0.0.1", port)) for port in (20000, 20001)]
        with Engine("lo", ncpus=1, lane_ports="20000-20001") as engine:
            seconds, error = call("127.0.0.1", engine.port)
            assert error.name == "KVT_E_LIMIT" and "lane_ports, 20000 to 20001" in str(error), error
            assert str(error).startswith("127.0.0.1 port ")
            busy.pop().close()
            seconds, error = call("127.0.0.1", engine.port)
            assert error is None, error
        """
    )


def test_a_provider_that_cannot_keep_to_lane_ports_says_so():
    with pytest.raises(kvtrans_engine.Error, match="each lane opens a port") as caught:
        kvtrans_engine.Engine("lo", provider="sockets", lane_ports="40000-40100")
    assert caught.value.name == "KVT_E_UNSUPPORTED"


@pytest.mark.parametrize("ports", ["", "0", "5-4", "1-65536", "a", "1,2"])
def test_bad_lane_ports_are_refused(ports):
    with pytest.raises(ValueError, match="lane_ports"):
        kvtrans_engine.Engine("lo", lane_ports=ports)
    with pytest.raises(TypeError, match="str"):
        kvtrans_engine.Engine("lo", lane_ports=40000)


# ---- what peers answer ----

REFUSALS = {
    -5: "ProtocolError",  # they are true of a process of the peer's, not of this one
    -1: "ProtocolError",
    -2: "Error",
    -6: "ProtocolError",
    -4: "PeerLost",
    -20: "ProtocolError",
    -61: "Unreachable",
    0: "ProtocolError",
    -7: "Error",
    -44: "ProtocolError",
}


@pytest.mark.parametrize("code, name", REFUSALS.items())
def test_a_peer_does_not_choose_what_is_raised_here(open_insecure_engine, in_thread, code, name):
    listener = socket.create_server((HOST, 0))
    frame = struct.pack("<HBBIiB", 0x564B, 3, 0, 7, code, 2) + b"no"
    refusal = struct.pack("<H", len(frame)) + frame

    def refuse():
        for _ in range(2):
            with listener.accept()[0] as peer:
                peer.recv(512)
                peer.sendall(refusal)
                peer.recv(1)

    in_thread(refuse)
    engine, port = open_insecure_engine(), listener.getsockname()[1]
    assert engine.connect(HOST, port) == (False, None)
    assert type(engine.last_error) is getattr(kvtrans_engine, name)
    assert str(engine.last_error) == f"{HOST} port {port}: the peer answered: no"
    with pytest.raises(kvtrans_engine.Error) as caught:
        engine.open_connection(HOST, port)
    assert type(caught.value) is getattr(kvtrans_engine, name)
    listener.close()


# ---- how an interface and a host are written ----


@pytest.mark.skipif(PROVIDER is not None, reason="these are addresses of lo")
@pytest.mark.parametrize("interface", ["localhost", "127.0.0.2", "127.255.1.7", "::1", "[::1]"])
def test_an_engine_is_on_the_address_that_it_was_given(open_engine, interface):
    engine = open_engine(interface)
    host = {"localhost": "127.0.0.1"}.get(interface, interface)
    conn = open_engine(interface).open_connection(host, engine.port)
    assert conn.host == host and engine.accept_connection(timeout=5)
    with pytest.raises(kvtrans_engine.Unreachable):
        open_engine().open_connection("127.0.0.3", engine.port)
    assert open_engine(["127.0.0.1", "127.0.0.2"]).port


BAD_INTERFACES = {
    "127.0.0.1:12345": 'has a port in it: pass "127.0.0.1", and the port as listen_port',
    "lo:12345": 'has a port in it: pass "lo", and the port as listen_port',
    "[::1]:12345": r'has a port in it: pass "\[::1\]"',
    "nosuch:12345": 'pass "nosuch"',
    "128.0.0.1": "no interface",
    "fe80::77": "no interface",
    "::1%nosuch": "no interface",
    "[::1": "no interface",
    "x" * 300: "no interface",
}


@pytest.mark.parametrize("interface, message", BAD_INTERFACES.items())
def test_what_no_interface_can_mean_is_told(interface, message):
    with pytest.raises(ValueError, match=message):
        kvtrans_engine.Engine(interface)


@pytest.mark.skipif(PROVIDER is not None, reason="these are addresses of lo")
def test_a_host_may_be_written_in_each_way_that_means_one(open_engine):
    engine, caller = open_engine("::1"), open_engine("::1")
    for host in ("::1", "[::1]", f"[::1]:{engine.port}"):
        assert caller.connect(host, engine.port)[0], (host, caller.last_error)
    engine, caller = open_engine(), open_engine()
    for host in ("127.0.0.1", f"127.0.0.1:{engine.port}", "localhost", f"localhost:{engine.port}"):
        assert caller.connect(host, engine.port)[0], (host, caller.last_error)


BAD_HOSTS = {
    "127.0.0.1:80": 'has a port in it, and the port given is 12345: pass "127.0.0.1"',
    "cache1:80": 'has a port in it, and the port given is 12345: pass "cache1"',
    "cache1:0": "has a port in it",
    "[::1]:80": 'has a port in it, and the port given is 12345: pass "::1"',
    "[127.0.0.1]": "no IPv6 address between the brackets",
    "tcp://cache1": "is no IP address and no name",
    "tcp://cache1:12345": "is no IP address and no name",
    "::1::2": "is no IP address and no name",
    "fe80::1%nosuch": 'there is no interface "nosuch"',
    "": "no name",
}


@pytest.mark.parametrize("host, message", BAD_HOSTS.items())
def test_what_no_host_can_mean_is_told(open_engine, host, message):
    with pytest.raises(ValueError, match=message):
        open_engine().connect(host, 12345)


def test_a_link_local_address_is_used_with_its_interface(run_in_network):
    run_in_network(
        """
        import subprocess
        server = '''
        import os, sys
        from kvtrans_engine import Engine
        os.system("ip link add kvc7 type veth peer name kvc8")  # so that zones have other numbers
        print(flush=True)
        input()
        assert os.system("ip link set kvc1 addrgenmode none up && "
                         "ip addr add fe80::2/64 dev kvc1 nodad") == 0
        with Engine("fe80::2", ncpus=1) as engine:
            print(engine.port, flush=True)
            peer = engine.accept_connection(timeout=10)
            assert peer.host == "fe80::1%kvc1", peer
            assert bytes(engine.recv_kv(engine.reg_kv(peer.id, bytearray(5))[1])[1]) == b"12345"
            input()
        '''
        def expect(error, text, call, *args):
            try:
                call(*args)
            except error as caught:
                assert text in str(caught), caught
            else:
                raise AssertionError(text)

        command = ["unshare", "-n", sys.executable, "-c", server.replace("\\n        ", "\\n")]
        process = subprocess.Popen(command, text=True, stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE)
        process.stdout.readline()
        assert os.system(f"ip link add kvc0 type veth peer name kvc1 netns {process.pid} && "
                         "ip link set kvc0 addrgenmode none up && "
                         "ip addr add fe80::1/64 dev kvc0 nodad") == 0
        expect(ValueError, 'link-local address only: pass "fe80::1%kvc0"', Engine, "kvc0")
        process.stdin.write("\\n")
        process.stdin.flush()
        port = int(process.stdout.readline())
        with Engine("fe80::1%kvc0", ncpus=1) as caller:
            expect(kvtrans_engine.Unreachable, "a link-local address needs its interface",
                   caller.open_connection, "fe80::2", port)
            conn = caller.open_connection("fe80::2%kvc0", port)
            assert caller.send_kv(caller.reg_kv(conn.id, b"12345")[1], b"12345"), caller.last_error
            assert os.system("ip link add kvc5 type veth peer name kvc6 && ip link set kvc5 up && "
                             "ip addr add fe80::1/64 dev kvc5 nodad") == 0
            expect(ValueError, "2 interfaces have the address fe80::1: pass", Engine, "fe80::1")
            process.communicate("\\n", timeout=10)
            assert process.returncode == 0
        """
    )
