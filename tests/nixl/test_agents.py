# SPDX-License-Identifier: Apache-2.0
"""Two agents, mostly in two processes."""

import os
import sys

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from agents import Memory, Peer, make_agent, make_pages, run, serve_memory, take_notifications, transfer

PAGE = 4096


def write():
    """what is written is there when its notification comes, and is read back"""
    count = 1000
    peer = Peer(serve_memory, "decode", count * PAGE, 0)
    metadata, address = peer.first
    agent = make_agent("prefill")
    memory = Memory(agent, count * PAGE)
    memory.array[:] = np.random.default_rng(1).integers(0, 256, memory.array.size, dtype=np.uint8)
    sent = memory.array.copy()
    assert agent.add_remote_agent(metadata) == b"decode"
    local = agent.prep_xfer_dlist("NIXL_INIT_AGENT", make_pages(memory.address, count, PAGE), "DRAM")
    remote = agent.prep_xfer_dlist("decode", make_pages(address, count, PAGE), "DRAM")
    order = np.random.default_rng(2).permutation(count)
    handle = agent.make_prepped_xfer("WRITE", local, order, remote, order[::-1].copy(), b"request 1")
    transfer(agent, handle)
    assert peer.ask("notifications", 1) == [("prefill", b"request 1")]
    there = np.frombuffer(peer.ask("bytes"), dtype=np.uint8).reshape(count, PAGE)
    assert (there[order[::-1]] == sent.reshape(count, PAGE)[order]).all()
    telemetry = agent.get_xfer_telemetry(handle)
    assert telemetry.totalBytes == count * PAGE and telemetry.descCount == count
    agent.release_xfer_handle(handle)

    memory.array[:] = 0
    handle = agent.make_prepped_xfer("READ", local, order, remote, order[::-1].copy(), b"request 2")
    for _ in range(3):
        transfer(agent, handle)
    assert (memory.array == sent).all()
    assert peer.ask("notifications", 3) == [("prefill", b"request 2")] * 3
    agent.release_xfer_handle(handle)

    assert peer.ask("add", agent.get_agent_metadata()) == b"prefill"
    peer.ask("notify", "prefill", b"x" * 1000000)
    assert take_notifications(agent, 1) == [("decode", b"x" * 1000000)]
    peer.end()


if __name__ == "__main__":
    run([write])
