# SPDX-License-Identifier: Apache-2.0
"""What the tests of NIXL's backend share: agents, memory, a peer in a process of its own, and how cases run."""

import multiprocessing
import os
import time

import numpy as np
from nixl_cu12._api import nixl_agent, nixl_agent_config

LIMIT = 60.0
BACKEND = "KVTRANS"


def make_agent(name, **parameters):
    """An agent with our backend alone, under the name that it has here."""
    agent = nixl_agent(name, nixl_agent_config(backends=[], capture_telemetry=True))
    agent.create_backend(os.environ.get("KVTRANS_TEST_BACKEND", "KVTRANS"), parameters)
    return agent


def make_pages(address, count, nbytes, step=None):
    """The rows of a list of descriptors: count pages of nbytes each."""
    rows = np.zeros((count, 3), dtype=np.uint64)
    rows[:, 0] = address + np.arange(count, dtype=np.uint64) * np.uint64(step or nbytes)
    rows[:, 1] = nbytes
    return rows


class Memory:
    """An array that is registered with an agent."""

    def __init__(self, agent, nbytes, value=0):
        self.agent = agent
        self.array = np.full(nbytes, value, dtype=np.uint8)
        self.address = self.array.ctypes.data
        self.registered = agent.register_memory([(self.address, nbytes, 0, "")], "DRAM")

    def close(self):
        self.agent.deregister_memory(self.registered)


def wait_for(look, what):
    """What look() returns once that is true."""
    end = time.monotonic() + LIMIT
    while not (found := look()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {LIMIT:.0f} s for {what}")
        time.sleep(0.0005)
    return found


def finish(agent, handle):
    """Wait for a posted transfer. "DONE", or the exception of what ended it."""
    return wait_for(lambda: (state := agent.check_xfer_state(handle)) != "PROC" and state, "a transfer")


def transfer(agent, handle):
    state = agent.transfer(handle)
    assert state in ("PROC", "DONE"), state
    state = finish(agent, handle)
    assert state == "DONE", state


def take_notifications(agent, count):
    """count of them, as [(name, bytes)]."""
    taken = []

    def look():
        for name, texts in agent.get_new_notifs().items():
            taken.extend((name, text) for text in texts)
        return len(taken) >= count

    wait_for(look, f"{count} notifications")
    return taken


class Peer:
    """serve(pipe, *arguments) in another process; what it sends first is its agent's metadata."""

    def __init__(self, serve, *arguments, daemon=True, limit=LIMIT):
        self.limit = limit
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, *arguments), daemon=daemon)
        self.process.start()
        theirs.close()
        self.first = self.take()

    def take(self):
        assert self.pipe.poll(self.limit), "the peer says nothing"
        return self.pipe.recv()

    def ask(self, *words):
        self.pipe.send(words)
        return self.take()

    def kill(self):
        self.process.kill()
        self.process.join(LIMIT)

    def end(self):
        """It ends by itself, and well."""
        self.pipe.send(("end",))
        self.process.join(LIMIT)
        assert self.process.exitcode == 0, f"the peer ended with {self.process.exitcode}"


def serve_memory(pipe, name, nbytes, value):
    """An agent called name with one piece of memory, for Peer: tells of it what is asked."""
    agent = make_agent(name)
    memory = Memory(agent, nbytes, value)
    pipe.send((agent.get_agent_metadata(), memory.address))
    while (words := pipe.recv())[0] != "end":
        if words[0] == "bytes":
            pipe.send(memory.array.tobytes())
        elif words[0] == "notifications":
            pipe.send(take_notifications(agent, words[1]))
        elif words[0] == "add":
            pipe.send(agent.add_remote_agent(words[1]))
        elif words[0] == "notify":
            pipe.send(agent.send_notif(words[1], words[2]))
    memory.close()
