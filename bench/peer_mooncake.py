#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measure paged transfers through Mooncake's Python API, as its users call it.

A transfer is batch_transfer_sync_write() or _read() with three lists of integers, which are made anew for
each, as engines do that compute addresses from block indices. With several in flight the calls are those
whose names have async in them. Nothing tells the other side.

Connections are pooled (MC_TCP_ENABLE_CONNECTION_POOL=1), which is not Mooncake's default: without it each
block opens a connection of its own, which is far slower, and long lists fail. A list of 4,096 blocks fails
with the pool, too: hence --batch.
"""

import os
import sys

import paged_peer

HOST = "127.0.0.1"


class MooncakePath(paged_peer.Path):
    tool = "mooncake"

    def __init__(self, arguments, pool, first):
        super().__init__(arguments, pool, first)
        os.environ.setdefault("MC_TCP_ENABLE_CONNECTION_POOL", "1")
        os.environ.setdefault("MC_LOG_LEVEL", "ERROR")
        os.environ.setdefault("GLOG_minloglevel", "2")
        from mooncake.engine import TransferEngine

        self.provider = arguments.provider
        self.splits_submit = arguments.depth > 1
        self.engine = TransferEngine()
        if self.engine.initialize(HOST, "P2PHANDSHAKE", arguments.provider, ""):
            raise SystemExit("mooncake: initialize() failed")
        if self.engine.register_memory(pool.base, pool.count * pool.block):
            raise SystemExit("mooncake: register_memory() failed")

    def offer(self):
        return f"{HOST}:{self.engine.get_rpc_port()}", self.pool.base

    def connect(self, offer):
        self.peer, self.peer_base = offer

    def start(self, number, local, remote):
        """Batches one after the other, but for the last, which finish() waits for when it may."""
        block, batch = self.pool.block, self.arguments.batch
        self.call = None
        for first in range(0, len(local), batch):
            self.finish(self.call)
            part = slice(first, first + batch)
            here = (local[part].astype("u8") * block + self.pool.base).tolist()
            there = (remote[part].astype("u8") * block + self.peer_base).tolist()
            self.call = self.submit(self.peer, here, there, [block] * len(here))
        return self.call

    def submit(self, *batch):
        how = "async" if self.splits_submit else "sync"
        result = getattr(self.engine, f"batch_transfer_{how}_{self.arguments.paged}")(*batch)
        if self.splits_submit and result == 0 or not self.splits_submit and result:
            raise SystemExit(f"mooncake: a batch of {len(batch[1])} blocks failed: {result}")
        return result

    def finish(self, flight):
        if flight and self.engine.get_batch_transfer_status([flight]):
            raise SystemExit("mooncake: a batch failed")

    def close(self):
        self.engine.unregister_memory(self.pool.base)


def add_options(parser):
    parser.add_argument("--batch", type=int, default=1024, help="longest list given to one call (1024)")


if __name__ == "__main__":
    sys.exit(paged_peer.main(MooncakePath, paged_peer.parse_arguments(__doc__, add_options)))
