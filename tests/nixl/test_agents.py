# SPDX-License-Identifier: Apache-2.0
"""What agents go through: two or more of them, mostly in two processes."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from agents import (LIMIT, Memory, Peer, finish, make_agent, make_pages, serve_memory, take_notifications, transfer,
                    wait_for)
from cases import run
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
        while any(now > then for now, then in zip(count_resources()[:2], before)) and time.monotonic() < time_limit:
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
        assert time.monotonic() - begin < 2
        begin = time.monotonic()
        memory.close()
        assert time.monotonic() - begin < 25
    finally:
        os.kill(peer.process.pid, signal.SIGCONT)
    peer.kill()


def is_refused(agent, handle):
    """Post it: whether that ends as memory that is not there, told at once or later."""
    try:
        agent.transfer(handle)
        return finish(agent, handle) == "ERR"
    except nixlNotFoundError:
        return True


def withdrawn_memory():
    """what either side has deregistered is refused, and the connection goes on"""
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
    assert is_refused(agent, handles[0]) and not far.array.any()
    transfer(agent, handles[1])
    near.close()
    assert is_refused(agent, handles[1])
    near = Memory(agent, PAGE, 6)
    handle = agent.initialize_xfer("WRITE", agent.get_xfer_descs([(near.address, PAGE, 0)], "DRAM"),
                                   agent.get_xfer_descs([(other.address, PAGE, 0)], "DRAM"), "b")
    transfer(agent, handle)
    assert (other.array == 6).all()


def deregistered_in_flight():
    """deregistering memory under a transfer ends that, and is not told as the loss of the peer"""
    peer = Peer(serve_memory, "still", 16 << 20, 0)
    agent = make_agent("near")
    memory, local, remote = connect(agent, peer, "still", 4096)
    handle = agent.make_prepped_xfer("WRITE", local, np.arange(4096), remote, np.arange(4096), b"x")
    transfer(agent, handle)
    os.kill(peer.process.pid, signal.SIGSTOP)
    try:
        assert agent.transfer(handle) == "PROC"
        memory.close()
        try:
            state = finish(agent, handle)
        except Exception as error:  # older ones have no name for it
            state = type(error).__name__
        assert state not in ("DONE", nixlRemoteDisconnectError.__name__), state
    finally:
        os.kill(peer.process.pid, signal.SIGCONT)
    peer.kill()


def stands_still():
    """a peer that stands still for less than it takes to be lost is waited for"""
    peer = Peer(serve_memory, "still", 2 * PAGE, 3)
    agent = make_agent("near")
    memory = Memory(agent, PAGE)
    metadata, address = peer.first
    agent.add_remote_agent(metadata)
    agent.send_notif("still", b"hello")
    assert peer.ask("notifications", 1) == [("near", b"hello")]
    os.kill(peer.process.pid, signal.SIGSTOP)
    woken = threading.Timer(2.3, os.kill, (peer.process.pid, signal.SIGCONT))
    woken.start()
    handle = agent.initialize_xfer("READ", agent.get_xfer_descs([(memory.address, PAGE, 0)], "DRAM"),
                                   agent.get_xfer_descs([(address, PAGE, 0)], "DRAM"), "still")
    transfer(agent, handle)
    woken.join()
    assert (memory.array == 3).all()
    peer.end()


REFUSE = """
import kvtrans_engine, sys
with kvtrans_engine.Engine("lo") as engine:
    print(engine.address.hex(), flush=True)
    while True:
        engine.accept_connection().close()
        print("closed", flush=True)
"""


def ends_each_connection():
    """a peer that ends each new connection is told as lost, and is not called for ever"""
    peer = Peer(serve_memory, "turned", PAGE, 0)
    metadata, address = peer.first
    peer.kill()
    agent = make_agent("near")
    memory = Memory(agent, PAGE)
    # The module is of another NumPy than this Python's.
    stage = dict(os.environ, PYTHONPATH=os.environ["KVT_BUILDDIR"] + "/stage")
    with subprocess.Popen([os.environ["KVT_PYTHON"], "-c", REFUSE], stdout=subprocess.PIPE, env=stage) as refusing:
        theirs = bytes.fromhex(refusing.stdout.readline().decode())
        begin = metadata.index(b"kvtrans-1 ") + len(b"kvtrans-1 ")
        assert metadata[begin:begin + 4] == theirs[:4]
        agent.add_remote_agent(metadata[:begin] + theirs + metadata[begin + len(theirs):])
        handle = agent.initialize_xfer("READ", agent.get_xfer_descs([(memory.address, PAGE, 0)], "DRAM"),
                                       agent.get_xfer_descs([(address, PAGE, 0)], "DRAM"), "turned")
        try:
            lost = agent.transfer(handle) != "PROC" or finish(agent, handle) == "ERR"
        except nixlRemoteDisconnectError:
            lost = True
        refusing.kill()
        calls = refusing.stdout.read().count(b"closed")
    assert lost and 1 <= calls < 20, calls


def serve_farewell(pipe, metadata, count):
    """An agent that says something, and ends."""
    agent = make_agent("leaving")
    name = agent.add_remote_agent(metadata).decode()
    for number in range(count):
        agent.send_notif(name, b"%d" % number)
    del agent
    pipe.send("gone")


def last_words():
    """notifications of an agent that ends at once arrive"""
    agent = make_agent("stays")
    for count in (1, 1000):
        peer = Peer(serve_farewell, agent.get_agent_metadata(), count)
        expected = [("leaving", b"%d" % number) for number in range(count)]
        assert take_notifications(agent, count) == expected
        peer.process.join(LIMIT)
        assert peer.process.exitcode == 0


def undelivered_notifications():
    """notifications that the peer never took are told on stderr"""
    peer = Peer(serve_memory, "deaf", PAGE, 0)
    agent = make_agent("near")
    agent.add_remote_agent(peer.first[0])
    with tempfile.TemporaryFile() as said:
        stderr = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            for _ in range(100):
                agent.send_notif("deaf", bytes(1 << 20))
            peer.kill()
            wait_for(lambda: b"not delivered" in os.pread(said.fileno(), 1 << 16, 0), "a line on stderr")
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def forked_child():
    """a forked child drops its copy of an agent without harm, and the parent's goes on"""
    peer = Peer(serve_memory, "far", 100 * PAGE, 0)
    agent = make_agent("parent")
    memory, local, remote = connect(agent, peer, "far", 100)
    handle = agent.make_prepped_xfer("WRITE", local, np.arange(100), remote, np.arange(100), b"x")
    transfer(agent, handle)
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        agent.release_xfer_handle(handle)
        memory.close()
        agent.__dict__.clear()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    transfer(agent, handle)
    assert peer.ask("notifications", 2) == [("parent", b"x")] * 2
    peer.end()


def beside_ucx():
    """NIXL's own UCX works from the same folder, in the same agent, and takes what ours does not"""
    agent = make_agent("both")
    assert "UCX" in agent.get_plugin_list()
    agent.create_backend("UCX", {})
    memory = Memory(agent, PAGE)
    memory.close()


if __name__ == "__main__":
    sys.exit(run([write, write_many_descriptors, write_large, return_of_the_peer, return_of_the_initiator,
                  add_and_remove, release_does_not_wait, withdrawn_memory, deregistered_in_flight, stands_still,
                  ends_each_connection, last_words, undelivered_notifications, forked_child, beside_ucx]) > 0)
