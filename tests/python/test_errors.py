# SPDX-License-Identifier: Apache-2.0
"""Wrong use raises; what fails in operation returns False and is told by last_error."""

import math
import pickle
import re
import socket

import pytest

import kvtrans_engine
from kvtrans_engine import Engine, _kvtrans

CLASSES = {
    "KVT_E_CLOSED": "Closed",
    "KVT_E_FORKED": "Forked",
    "KVT_E_TIMEOUT": "TransferTimeout",
    "KVT_E_CANCELLED": "Cancelled",
    "KVT_E_TOO_LARGE": "TooLarge",
    "KVT_E_ACCESS": "AccessError",
    "KVT_E_WITHDRAWN": "Withdrawn",
    "KVT_E_CORRUPT": "Corrupt",
    "KVT_E_UNREACHABLE": "Unreachable",
    "KVT_E_PEER_LOST": "PeerLost",
    "KVT_E_PEER_CLOSED": "PeerLost",
    "KVT_E_PROTOCOL": "ProtocolError",
    "KVT_E_VERSION": "ProtocolError",
    "KVT_E_AUTH": "AuthError",
}


def test_every_error_of_the_library_has_a_class():
    assert len(_kvtrans.ERRORS) >= 19
    assert len({row[0] for row in _kvtrans.ERRORS.values()}) == len(_kvtrans.ERRORS)
    for name, (code, scope, text, class_) in _kvtrans.ERRORS.items():
        assert re.fullmatch("KVT_E_[A-Z_]+", name) and code < 0 and text
        assert scope in ("call", "transfer", "connection", "engine")
        assert class_ is getattr(kvtrans_engine, CLASSES.get(name, "Error"))


def test_the_classes_are_builtins_too():
    for name, builtin in {
        "PeerLost": ConnectionError,
        "Unreachable": ConnectionError,
        "AuthError": PermissionError,
        "AccessError": PermissionError,
        "TransferTimeout": TimeoutError,
        "Forked": RuntimeError,
    }.items():
        assert issubclass(getattr(kvtrans_engine, name), (kvtrans_engine.Error, builtin))
        assert issubclass(getattr(kvtrans_engine, name), builtin)
    error = kvtrans_engine.Error("text")
    assert (error.code, error.name, error.scope, error.provider_errno, error.nbytes) == (None,) * 5


BAD_CONFIGURATIONS = {
    "no interface": ((), {}, TypeError, "interface"),
    "interface of the wrong type": ((5,), {}, TypeError, "str or a sequence of str"),
    "interface in bytes": ((b"lo",), {}, TypeError, "str or a sequence of str"),
    "interfaces of the wrong type": ((["lo", 5],), {}, TypeError, "str or a sequence of str"),
    "no interfaces": (([],), {}, ValueError, "empty"),
    "empty interface": (("",), {}, ValueError, "empty"),
    "null in interface": (("l\0o",), {}, ValueError, "null"),
    "unknown interface": (("nosuchif0",), {}, ValueError, "nosuchif0"),
    "ncpus 0": (("lo", 0), {}, ValueError, "ncpus must be from 1 to 256, not 0"),
    "ncpus negative": (("lo", -1), {}, ValueError, "ncpus must be from 1 to 256, not -1"),
    "ncpus large": (("lo", 10**6), {}, ValueError, "ncpus must be from 1 to 256, not 1000000"),
    "ncpus huge": (("lo", 10**30), {}, ValueError, "ncpus must be from 1 to 256"),
    "ncpus a float": (("lo", 4.0), {}, TypeError, "ncpus must be an int, not float"),
    "ncpus a str": (("lo", "4"), {}, TypeError, "ncpus must be an int, not str"),
    "nconn_per_cpu 0": (("lo", 1, 0), {}, ValueError, "nconn_per_cpu must be from 1 to 1024"),
    "too many lanes": (("lo", 256, 5), {}, ValueError, "1,?024"),
    "port too large": (
        ("lo",),
        {"listen_port": 65536},
        ValueError,
        "listen_port must be from 0 to 65535",
    ),
    "port negative": (
        ("lo",),
        {"listen_port": -1},
        ValueError,
        "listen_port must be from 0 to 65535",
    ),
    "port a str": (("lo",), {"listen_port": "80"}, TypeError, "listen_port"),
    "provider an int": (("lo",), {"provider": 5}, TypeError, "str"),
    "eager_nbytes too large": (
        ("lo",),
        {"eager_nbytes": 2 << 20},
        ValueError,
        "eager_nbytes must be from 0 to 1048576",
    ),
    "eager_nbytes negative": (("lo",), {"eager_nbytes": -1}, ValueError, "eager_nbytes"),
    "heartbeat 0": (("lo",), {"heartbeat": 0}, ValueError, "heartbeat must be more than 0"),
    "heartbeat negative": (("lo",), {"heartbeat": -1}, ValueError, "heartbeat"),
    "heartbeat NaN": (("lo",), {"heartbeat": math.nan}, ValueError, "heartbeat"),
    "lost_after 0": (("lo",), {"lost_after": 0}, ValueError, "lost_after must be more than 0"),
    "lost_after short": (("lo",), {"heartbeat": 1, "lost_after": 1.5}, ValueError, "lost_after"),
    "spin a str": (("lo",), {"spin": "fast"}, TypeError, "spin must be a number of seconds"),
    "cpus empty": (("lo",), {"cpus": []}, ValueError, "cpus"),
    "cpus negative": (("lo",), {"cpus": [-1]}, ValueError, "CPU"),
    "cpus of str": (("lo",), {"cpus": ["0"]}, TypeError, "CPU"),
    "cpus an int": (("lo",), {"cpus": 3}, TypeError, "iterable"),
    "unknown option": (("lo",), {"colour": 1}, TypeError, "colour"),
    "provider by position": (("lo", 1, 1, 0, "tcp"), {}, TypeError, "positional"),
}


@pytest.mark.parametrize(
    "args, kwargs, error, message", BAD_CONFIGURATIONS.values(), ids=BAD_CONFIGURATIONS.keys()
)
def test_a_bad_configuration_is_refused(args, kwargs, error, message):
    with pytest.raises(error, match=message):
        Engine(*args, **kwargs)


def test_a_provider_that_is_not_there_is_an_error():
    with pytest.raises(kvtrans_engine.Error) as caught:
        Engine("lo", provider="nosuchprovider")
    assert caught.value.name == "KVT_E_NO_PROVIDER" and caught.value.scope == "engine"


def test_a_port_in_use_is_an_error(open_engine):
    with pytest.raises(kvtrans_engine.Error):
        open_engine(listen_port=open_engine().port)


BAD_CALLS = {
    "connect without port": ("connect", ("h",), {}, TypeError, "needs a port"),
    "connect to an int": ("connect", (5, 80), {}, TypeError, "str"),
    "connect to a null": ("connect", ("a\0b", 80), {}, ValueError, "null"),
    "connect to port 0": (
        "connect",
        ("h", 0),
        {},
        ValueError,
        "port must be from 1 to 65535, not 0",
    ),
    "connect to port 65536": (
        "connect",
        ("h", 65536),
        {},
        ValueError,
        "port must be from 1 to 65535",
    ),
    "connect to a service": (
        "connect",
        ("h", "http"),
        {},
        TypeError,
        "port must be an int, not str",
    ),
    "connect timeout negative": ("connect", ("h", 80), {"timeout": -1}, ValueError, "timeout"),
    "accept timeout negative": (
        "accept",
        (),
        {"timeout": -0.1},
        ValueError,
        "timeout must be 0 or more",
    ),
    "accept timeout NaN": ("accept", (math.nan,), {}, ValueError, "timeout must be 0 or more"),
    "accept timeout a str": (
        "accept",
        ("1",),
        {},
        TypeError,
        "timeout must be a number of seconds",
    ),
    "reg_kv of None": (
        "reg_kv",
        (None, b""),
        {},
        TypeError,
        "id of a connection is an int, not NoneType",
    ),
    "reg_kv of a float": (
        "reg_kv",
        (1.0, b""),
        {},
        TypeError,
        "id of a connection is an int, not float",
    ),
    "reg_kv unknown": (
        "reg_kv",
        (999_999, b""),
        {},
        ValueError,
        "no connection 999999 on this engine",
    ),
    "reg_kv tag negative": ("reg_kv", (1, b""), {"tag": -1}, ValueError, "tag must be from 0 to"),
    "reg_kv tag too large": (
        "reg_kv",
        (1, b""),
        {"tag": 2**63},
        ValueError,
        "tag must be from 0 to",
    ),
    "reg_kv tag a float": ("reg_kv", (1, b""), {"tag": 1.0}, TypeError, "tag must be an int"),
    "dereg_kv unknown": ("dereg_kv", (0,), {}, ValueError, "no KV 0 on this engine"),
    "dereg_kv huge": ("dereg_kv", (10**30,), {}, ValueError, "no KV 10+ on this engine"),
    "send_kv unknown": ("send_kv", (-7, b""), {}, ValueError, "no KV -7 on this engine"),
    "send_kv to None": (
        "send_kv",
        (None, b""),
        {},
        TypeError,
        "id of a KV is an int, not NoneType",
    ),
    "send_kv timeout NaN": ("send_kv", (1, b"", math.nan), {}, ValueError, "timeout"),
    "recv_kv unknown": ("recv_kv", (999_999,), {}, ValueError, "no KV 999999 on this engine"),
    "recv_kv max_size negative": ("recv_kv", (1, -1), {}, ValueError, "max_size must be from 0 to"),
    "recv_kv max_size huge": ("recv_kv", (1, 2**63), {}, ValueError, "max_size must be from 0 to"),
    "recv_kv max_size a float": ("recv_kv", (1, 1e3), {}, TypeError, "max_size must be an int"),
    "recv_kv timeout complex": ("recv_kv", (1,), {"timeout": 1j}, TypeError, "timeout"),
    "recv_kv_into a list": ("recv_kv_into", (1, [0]), {}, TypeError, "out must be an ndarray"),
    "recv_kv_into unknown": ("recv_kv_into", (999_999,), {}, ValueError, "no KV"),
    "recv_kv_async unknown": ("recv_kv_async", (999_999,), {}, ValueError, "no KV"),
    "send_kv_async unknown": ("send_kv_async", (999_999, b""), {}, ValueError, "no KV"),
    "recv_kv_into_async unknown": ("recv_kv_into_async", (999_999,), {}, ValueError, "no KV"),
    "disconnect unknown": ("disconnect", (999_999,), {}, ValueError, "no connection"),
    "status unknown": ("status", (999_999,), {}, ValueError, "no connection"),
    "stats unknown": ("stats", (999_999,), {}, ValueError, "no connection"),
    "unknown keyword": ("send_kv", (1, b""), {"colour": 1}, TypeError, "colour"),
}


@pytest.fixture(scope="module")
def idle_engine():
    with Engine("lo", ncpus=1) as engine:
        yield engine


@pytest.mark.parametrize(
    "name, args, kwargs, error, message", BAD_CALLS.values(), ids=BAD_CALLS.keys()
)
def test_wrong_use_raises_and_leaves_last_error_alone(
    idle_engine, name, args, kwargs, error, message
):
    with pytest.raises(error, match=message):
        getattr(idle_engine, name)(*args, **kwargs)
    assert idle_engine.last_error is None


CALLS = {
    "connect": ("h", 80),
    "accept": (),
    "disconnect": (1,),
    "status": (1,),
    "stats": (),
    "reload_keys": (),
    "reg_kv": (1, b""),
    "dereg_kv": (1,),
    "send_kv": (1, b""),
    "recv_kv": (1,),
    "recv_kv_into": (1,),
    "send_kv_async": (1, b""),
    "recv_kv_async": (1,),
    "recv_kv_into_async": (1,),
    "open_connection": ("h", 80),
    "accept_connection": (),
    "connect_async": ("h", 80),
    "accepted": (),
    "accept_async": (),
    "connection": (1,),
    "register": (bytearray(8), 8),
    "allocate": (1, 8),
    "adopt": (0, 1, 8),
    "register_memory": ([(0, 8)],),
    "export": (None, "kv"),
    "withdraw": ("kv",),
    "reap": (),
    "notifications": (),
    "anotifications": (),
    "wait": (),
    "fileno": (),
}


ATTRIBUTES = {"port", "host", "address", "provider"}


def test_every_call_after_close_raises(open_engine):
    engine = open_engine()
    engine.close()
    for name, args in CALLS.items():
        with pytest.raises(ValueError, match="engine is closed"):
            getattr(engine, name)(*args)
    for name in ATTRIBUTES:
        with pytest.raises(ValueError, match="engine is closed"):
            getattr(engine, name)
    methods = {name for name in dir(Engine) if not name.startswith("_")}
    assert methods == CALLS.keys() | ATTRIBUTES | {"close", "closed", "last_error"}


def test_a_tag_in_use_raises(pair):
    assert pair.client.reg_kv(pair.client_conn, b"", tag=5)[0]
    with pytest.raises(ValueError, match="5"):
        pair.client.reg_kv(pair.client_conn, b"", tag=5)


def test_a_refused_connection_is_unreachable(open_engine):
    engine = open_engine()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert engine.connect("127.0.0.1", closed.getsockname()[1]) == (False, None)
    error = engine.last_error
    assert isinstance(error, kvtrans_engine.Unreachable)
    assert error.name == "KVT_E_UNREACHABLE" and error.scope == "connection" and error.code == -40
    assert error.provider_errno is None or error.provider_errno > 0
    assert error.nbytes is None and str(error)


def test_last_error_stays_until_the_next_failure(pair):
    client_kv, server_kv = pair.register()
    assert pair.server.recv_kv(server_kv, timeout=0.01) == (False, None)
    error = pair.server.last_error
    assert isinstance(error, kvtrans_engine.TransferTimeout)
    assert pair.client.send_kv(client_kv, b"x") and pair.server.recv_kv(server_kv)[0]
    with pytest.raises(ValueError):
        pair.server.recv_kv(999_999)
    assert pair.server.last_error is error and pair.client.last_error is None
    assert pair.server.recv_kv(server_kv, timeout=0.01) == (False, None)
    assert pair.server.last_error is not error


def test_an_error_can_be_raised_and_pickled(pair):
    _, server_kv = pair.register()
    pair.server.recv_kv(server_kv, timeout=0.01)
    with pytest.raises(TimeoutError):
        raise pair.server.last_error
    copy = pickle.loads(pickle.dumps(pair.server.last_error))
    assert type(copy) is kvtrans_engine.TransferTimeout
    assert copy.__dict__ == pair.server.last_error.__dict__ and str(copy) == str(
        pair.server.last_error
    )


def test_engines_and_transfers_are_not_made_or_pickled_by_accident(pair):
    _, server_kv = pair.register()
    with pytest.raises(TypeError):
        kvtrans_engine.Transfer()
    with pytest.raises(TypeError):
        pickle.dumps(pair.client)
    with pytest.raises(TypeError):
        pickle.dumps(pair.server.recv_kv_async(server_kv))
    with pytest.raises(TypeError):
        Engine.connect = None
    with pytest.raises(AttributeError):
        pair.client.last_error = None
