# SPDX-License-Identifier: Apache-2.0
"""Which path a connection takes when no provider is named: the local one between engines of one host."""

import numpy as np
import pytest
from conftest import HOST, Link

from kvtrans_engine import Engine


@pytest.fixture(name="by_default", autouse=True)
def _by_default(monkeypatch):
    monkeypatch.delenv("KVTRANS_LOCAL")  # which conftest sets


def connect(client, server):
    """The paths of both ends."""
    link = Link(client, server)
    return link, [(conn.stats()["path"], conn.stats()["path_reason"]) for conn in (link.conn, link.peer)]


def test_engines_of_one_host_find_the_local_path():
    with Engine("lo", ncpus=1) as client, Engine("lo", ncpus=1) as server:
        assert client.provider == server.provider == "tcp"
        link, paths = connect(client, server)
        assert paths == [("local", ""), ("local", "")]
        assert client.stats(link.conn.id)["path"] == "local"
        assert "path" not in client.stats()  # an engine has several
        pool, target = client.allocate(64, 8192), np.zeros((64, 8192), "u1")
        source = pool.arrays[0].reshape(64, 8192)
        source[:] = np.arange(64, dtype="u1")[:, None]
        _, remote = link.share([target])
        order = np.arange(64)
        link.conn.write_blocks(pool, order, remote, order[::-1]).result(10)
        assert (target == source[::-1]).all()


@pytest.mark.parametrize("who", [0, 1])
def test_a_provider_that_is_named_on_one_side_is_taken_by_both(who):
    options = [{"provider": "tcp"}, {}][:: 1 if who == 0 else -1]
    with Engine("lo", ncpus=1, **options[0]) as client, Engine("lo", ncpus=1, **options[1]) as server:
        _, paths = connect(client, server)
        assert [path for path, _ in paths] == ["tcp", "tcp"]
        assert paths[who][1] == "this side's provider is named: tcp"
        assert "names its provider" in paths[1 - who][1]


def test_the_environment_opts_out(monkeypatch):
    with Engine("lo", ncpus=1) as client:
        monkeypatch.setenv("KVTRANS_LOCAL", "0")
        with Engine("lo", ncpus=1) as server:
            _, paths = connect(client, server)
            assert [path for path, _ in paths] == ["tcp", "tcp"]
            assert "KVTRANS_LOCAL=0" in paths[1][1]


def test_who_insists_on_the_local_path_meets_who_has_it_beside_another():
    with Engine("lo", ncpus=1, provider="local") as client, Engine("lo", ncpus=1) as server:
        assert client.provider == "local"
        assert connect(client, server)[1] == [("local", ""), ("local", "")]
        conn = server.open_connection(HOST, client.port)
        assert conn.stats()["path"] == "local"
