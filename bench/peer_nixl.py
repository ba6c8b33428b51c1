#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measure paged transfers through NIXL's Python API, as its users call it.

Both descriptor lists are prepared once; a transfer is make_prepped_xfer() with two index arrays,
transfer(), and check_xfer_state() until it is done, with a notification for a write. The backend is UCX,
its transport --provider ("tcp", or "default" for what UCX chooses).
"""

import os
import sys

import numpy as np
import paged_peer


class NixlPath(paged_peer.Path):
    tool = "nixl"
    spins = True
    notifies = True

    def __init__(self, arguments, pool, first):
        super().__init__(arguments, pool, first)
        if arguments.provider != "default":
            os.environ["UCX_TLS"] = arguments.provider
        os.environ.setdefault("NIXL_LOG_LEVEL", "ERROR")
        os.environ.setdefault("UCX_LOG_LEVEL", "error")
        from nixl._api import nixl_agent, nixl_agent_config

        self.provider = f"ucx;{arguments.provider}"
        self.agent = nixl_agent("first" if first else "second", nixl_agent_config(backends=["UCX"]))
        self.region = [(pool.base, pool.count * pool.block, 0, "")]
        self.registered = self.agent.register_memory(self.region, "DRAM")

    def make_list(self, base):
        rows = np.zeros((self.pool.count, 3), dtype=np.uint64)
        rows[:, 0] = base + np.arange(self.pool.count, dtype=np.uint64) * np.uint64(self.pool.block)
        rows[:, 1] = self.pool.block
        return rows

    def offer(self):
        return self.agent.get_agent_metadata(), self.pool.base

    def connect(self, offer):
        metadata, base = offer
        self.peer = self.agent.add_remote_agent(metadata)
        if isinstance(self.peer, bytes):
            self.peer = self.peer.decode()
        if not self.first:
            return
        self.local = self.agent.prep_xfer_dlist("NIXL_INIT_AGENT", self.make_list(self.pool.base), "DRAM")
        self.remote = self.agent.prep_xfer_dlist(self.peer, self.make_list(base), "DRAM")

    def start(self, number, local, remote):
        write = self.arguments.paged == "write"
        word = b"%d" % number if write else b""
        operation = "WRITE" if write else "READ"
        handle = self.agent.make_prepped_xfer(operation, self.local, local, self.remote, remote, word)
        if self.agent.transfer(handle) == "ERR":
            raise SystemExit("nixl: the transfer was refused")
        return handle

    def finish(self, handle):
        while (state := self.agent.check_xfer_state(handle)) == "PROC":
            pass
        if state == "ERR":
            raise SystemExit("nixl: the transfer failed")
        self.agent.release_xfer_handle(handle)

    def poll(self):
        return [int(word) for words in self.agent.get_new_notifs().values() for word in words]

    def close(self):
        if self.first:
            self.agent.release_dlist_handle(self.local)
            self.agent.release_dlist_handle(self.remote)
        self.agent.remove_remote_agent(self.peer)
        self.agent.deregister_memory(self.registered)

    def leave(self):
        # An interpreter in which an agent was opened dies of a segmentation fault at its end (1.5.1).
        os._exit(0)


if __name__ == "__main__":
    sys.exit(paged_peer.main(NixlPath, paged_peer.parse_arguments(__doc__)))
