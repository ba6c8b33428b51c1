# SPDX-License-Identifier: Apache-2.0
"""Engine(checksum=True): what a program sees of it while nothing is flipped. What is flipped: integration/check_flip."""

import numpy as np
import pytest

from conftest import Link


@pytest.mark.parametrize("client, server", [(True, False), (False, True), (True, True), (False, False)])
@pytest.mark.parametrize("block_nbytes", [100, 200_000])
def test_blocks_and_messages_pass_whichever_side_wants_checksums(open_engine, client, server, block_nbytes):
    link = Link(open_engine(checksum=client), open_engine(checksum=server))
    here = np.arange(40 * block_nbytes, dtype=np.uint32).astype(np.uint8).reshape(40, block_nbytes)
    there = np.zeros_like(here)
    pool = link.client.register(here, block_nbytes=block_nbytes)
    _, remote = link.share(there, block_nbytes=block_nbytes)
    order = np.random.default_rng(1).permutation(40)
    link.conn.write_blocks(pool, np.arange(40), remote, order, notify=b"there").result(20)
    np.testing.assert_array_equal(there[order], here)
    assert [note.data for note in link.get_notes()] == [b"there"]
    here[:] = 0
    link.conn.read_blocks(pool, np.arange(40), remote, order).result(20)
    np.testing.assert_array_equal(there[order], here)
    assert link.client.stats()["corruptions"] == link.server.stats()["corruptions"] == 0


def test_messages_of_any_length_pass_with_checksums(open_pair):
    pair = open_pair(checksum=True)
    client_kv, server_kv = pair.register()
    for nbytes in (1, 70_000, 5_000_001):
        data = np.random.default_rng(nbytes).integers(0, 255, nbytes, np.uint8)
        receive = pair.server.recv_kv_async(server_kv)
        assert pair.client.send_kv_async(client_kv, data).result(20)
        np.testing.assert_array_equal(receive.result(20), data)
    assert pair.client.stats()["corruptions"] == pair.server.stats()["corruptions"] == 0
