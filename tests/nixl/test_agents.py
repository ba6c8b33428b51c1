# SPDX-License-Identifier: Apache-2.0
"""What agents go through: two or more of them, mostly in two processes."""

import os
import sys
import time

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from agents import (Memory, Peer, finish, make_agent, make_pages, run, serve_memory, take_notifications, transfer,
                    wait_for)
from nixl_cu12._bindings import nixlNotFoundError, nixlRemoteDisconnectError

PAGE = 4096


def connect(agent, peer, name, count, nbytes=PAGE):
    """Memory of the agent's, and a pair of prepared lists: its pages and the peer's."""
    metadata, address = peer.first
    memory = Memory(agent, count * nbytes)
    assert agent.add_remote_agent(metadata) == name.encode()
    local = agent.prep_xfer_dlist("NIXL_INIT_AGENT", make_pages(memory.address, count, nbytes), "DRAM")
    remote = agent.prep_xfer_dlist(name, make_pages(address, count, nbytes), "DRAM")
    return memory, local, remote


def write():
    """what is written is there when its notification comes, and is read back"""
    count = 1000
    peer = Peer(serve_memory, "decode", count * PAGE, 0)
    agent = make_agent("prefill")
    memory, local, remote = connect(agent, peer, "decode", count)
    memory.array[:] = np.random.default_rng(1).integers(0, 256, memory.array.size, dtype=np.uint8)
    sent = memory.array.copy()
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


def write_many_descriptors():
    """100,000 descriptors over several registrations are one transfer, and all arrive"""
    count, regions = 100_000, 7
    agent, peer = make_agent("a"), make_agent("b")
    near = [Memory(agent, (count // regions + 1) * 512, value) for value in range(1, regions + 1)]
    far = [Memory(peer, (count // regions + 1) * 512) for _ in range(regions)]
    agent.add_remote_agent(peer.get_agent_metadata())
    rows = [make_pages(memory.address, count // regions + 1, 256, 512) for memory in near]
    there = [make_pages(memory.address, count // regions + 1, 256, 512) for memory in far]
    order = np.random.default_rng(3).permutation(regions * (count // regions + 1))[:count]
    handle = agent.initialize_xfer("WRITE", agent.get_xfer_descs(np.concatenate(rows)[order], "DRAM"),
                                   agent.get_xfer_descs(np.concatenate(there)[order], "DRAM"), "b", b"all")
    transfer(agent, handle)
    assert take_notifications(peer, 1) == [("a", b"all")]
    assert agent.get_xfer_telemetry(handle).descCount == count
    got = np.concatenate([memory.array.reshape(-1, 512) for memory in far])
    assert (got[order, :256] == (order // (count // regions + 1) + 1)[:, None]).all() and not got[:, 256:].any()


def write_large():
    """64 MiB without a notification, posted again and again, and to itself"""
    nbytes = 64 << 20
    peer = Peer(serve_memory, "far", nbytes, 0)
    agent = make_agent("near")
    memory, local, remote = connect(agent, peer, "far", 64, 1 << 20)
    pages = np.arange(64)
    handle = agent.make_prepped_xfer("WRITE", local, pages, remote, pages)
    for value in (1, 2, 3):
        memory.array[:] = value
        transfer(agent, handle)
    assert peer.ask("bytes") == memory.array.tobytes()
    peer.end()

    copy = Memory(agent, nbytes)
    handle = agent.initialize_xfer("WRITE", agent.get_xfer_descs([(memory.address, nbytes, 0)], "DRAM"),
                                   agent.get_xfer_descs([(copy.address, nbytes, 0)], "DRAM"), "near", b"here")
    transfer(agent, handle)
    assert (copy.array == 3).all() and take_notifications(agent, 1) == [("near", b"here")]


def is_lost(agent, handle):
    """Whether posting it, or waiting for it, tells that the peer is lost."""
    try:
        return finish(agent, handle) == "ERR" if agent.transfer(handle) == "PROC" else False
    except (nixlRemoteDisconnectError, nixlNotFoundError):
        return True


def return_of_the_peer():
    """a peer that is killed is lost within seconds, and works again when it returns under its name"""
    agent = make_agent("stays")
    for round in range(2):
        peer = Peer(serve_memory, "goes", 100 * PAGE, 0)
        memory, local, remote = connect(agent, peer, "goes", 100)
        memory.array[:] = round + 1
        handle = agent.make_prepped_xfer("WRITE", local, np.arange(100), remote, np.arange(100), b"here")
        transfer(agent, handle)
        assert peer.ask("notifications", 1) == [("stays", b"here")]
        assert peer.ask("bytes") == memory.array.tobytes()
        peer.kill()
        begin = time.monotonic()
        wait_for(lambda: is_lost(agent, handle), "the loss to be seen")
        assert time.monotonic() - begin < 10
        agent.release_xfer_handle(handle)
        try:
            agent.remove_remote_agent("goes")
        except nixlNotFoundError:
            pass  # NIXL itself has dropped an agent that it knows to be lost
        memory.close()


def serve_writes(pipe, name, metadata, address, count, text):
    """An agent that writes for ever, until it is killed."""
    agent = make_agent(name)
    memory = Memory(agent, count * PAGE, 7)
    agent.add_remote_agent(metadata)
    handle = agent.initialize_xfer("WRITE", agent.get_xfer_descs(make_pages(memory.address, count, PAGE), "DRAM"),
                                   agent.get_xfer_descs(make_pages(address, count, PAGE), "DRAM"), "stays", text)
    pipe.send("ready")
    while True:
        transfer(agent, handle)


def return_of_the_initiator():
    """one who writes and is killed leaves its target well, and writes again when it returns under its name"""
    agent = make_agent("stays")
    memory = Memory(agent, 1000 * PAGE)
    for text in (b"first", b"second"):
        memory.array[:] = 0
        peer = Peer(serve_writes, "goes", agent.get_agent_metadata(), memory.address, 1000, text)
        wait_for(lambda: ("goes", text) in take_notifications(agent, 1), "the writer")
        assert (memory.array == 7).all()
        peer.kill()
    memory.close()


def count_resources():
    resident = int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")), resident


def add_and_remove():
    """1,000 times adding and removing agents leaves no descriptor, thread or memory behind"""
    agent = make_agent("stays")
    peer = Peer(serve_memory, "other", PAGE, 1)
    metadata, address = peer.first
    memory = Memory(agent, PAGE)

    def go(rounds):
        for turn in range(rounds):
            agent.add_remote_agent(metadata)
            if turn % 10 == 0:
                handle = agent.initialize_xfer("READ", agent.get_xfer_descs([(memory.address, PAGE, 0)], "DRAM"),
                                               agent.get_xfer_descs([(address, PAGE, 0)], "DRAM"), "other")
                transfer(agent, handle)
                agent.release_xfer_handle(handle)
            agent.remove_remote_agent("other")

    def settle():
        time_limit = time.monotonic() + 10
        while len(os.listdir("/proc/self/fd")) > before[0] and time.monotonic() < time_limit:
            time.sleep(0.01)
        return count_resources()

    go(200)
    before = count_resources()
    go(800)
    after = settle()
    assert after[0] <= before[0] and after[1] <= before[1], (before, after)
    assert after[2] < before[2] + (8 << 20), (before, after)
    peer.end()


def release_does_not_wait():
    """releasing what is in flight, towards a peer that stands still, takes no time, and closing ends soon"""
    import signal
    peer = Peer(serve_memory, "still", 16 << 20, 0)
    agent = make_agent("near")
    memory, local, remote = connect(agent, peer, "still", 4096)
    handle = agent.make_prepped_xfer("WRITE", local, np.arange(4096), remote, np.arange(4096), b"x")
    transfer(agent, handle)
    os.kill(peer.process.pid, signal.SIGSTOP)
    try:
        agent.transfer(handle)
        begin = time.monotonic()
        agent.release_xfer_handle(handle)
        agent.remove_remote_agent("still")
        assert time.monotonic() - begin < 0.2
        begin = time.monotonic()
        memory.close()
        assert time.monotonic() - begin < 25
    finally:
        os.kill(peer.process.pid, signal.SIGCONT)
    peer.kill()


def withdrawn_memory():
    """what the owner has deregistered is refused, and the connection goes on"""
    agent, owner = make_agent("a"), make_agent("b")
    near, far, other = Memory(agent, PAGE, 5), Memory(owner, PAGE), Memory(owner, PAGE)
    agent.add_remote_agent(owner.get_agent_metadata())
    handles = [agent.initialize_xfer("WRITE", agent.get_xfer_descs([(near.address, PAGE, 0)], "DRAM"),
                                     agent.get_xfer_descs([(memory.address, PAGE, 0)], "DRAM"), "b")
               for memory in (far, other)]
    for handle in handles:
        transfer(agent, handle)
    far.close()
    far.array[:] = 0
    try:
        agent.transfer(handles[0])
        state = finish(agent, handles[0])
    except nixlNotFoundError:
        state = "ERR"
    assert state == "ERR" and not far.array.any()
    transfer(agent, handles[1])


def beside_ucx():
    """NIXL's own UCX works from the same folder, in the same agent, and takes what ours does not"""
    agent = make_agent("both")
    assert "UCX" in agent.get_plugin_list()
    agent.create_backend("UCX", {})
    memory = Memory(agent, PAGE)
    memory.close()


if __name__ == "__main__":
    run([write, write_many_descriptors, write_large, return_of_the_peer, return_of_the_initiator, add_and_remove,
         release_does_not_wait, withdrawn_memory, beside_ucx])
