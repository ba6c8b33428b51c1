#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measure paged transfers through kvtrans_engine, as kvtrans-perf --op write and read do in C.

One call a transfer, with two index arrays and a notification; the serving process sleeps until the engine's
descriptor is readable.
"""

import sys

import paged_peer

TIMEOUT = 30.0


class EnginePath(paged_peer.Path):
    tool = "python"
    notifies = True

    def __init__(self, arguments, pool, first):
        super().__init__(arguments, pool, first)
        import kvtrans_engine

        self.engine = kvtrans_engine.Engine(
            arguments.interface,
            ncpus=arguments.ncpus,
            nconn_per_cpu=arguments.nconn,
            provider=arguments.provider,
        )
        self.provider = self.engine.provider
        self.region = self.engine.register(pool.array, block_bytes=pool.block)

    def offer(self):
        return self.engine.port

    def connect(self, offer):
        if not self.first:
            self.conn = self.engine.accept_connection(timeout=TIMEOUT)
            access = "w" if self.arguments.paged == "write" else "r"
            self.conn.export(self.region, access=access, name="pool")
            return
        self.conn = self.engine.open_connection(self.arguments.host, offer, timeout=TIMEOUT)
        self.remote = self.conn.remote("pool", timeout=TIMEOUT)
        write = self.arguments.paged == "write"
        self.move = self.conn.write_blocks if write else self.conn.read_blocks

    def start(self, number, local, remote):
        return self.move(self.region, local, self.remote, remote, notify=b"%d" % number, timeout=TIMEOUT)

    def finish(self, flight):
        flight.result()

    def poll(self):
        return [int(notification.data) for notification in self.engine.notifications()]

    def fileno(self):
        return self.engine.fileno()

    def close(self):
        self.conn.close()
        self.engine.close()


def add_options(parser):
    parser.add_argument("--interface", default="lo")
    parser.add_argument("--host", default="127.0.0.1", help="the interface's address")
    parser.add_argument("--ncpus", type=int, default=1)
    parser.add_argument("--nconn", type=int, default=1)


if __name__ == "__main__":
    sys.exit(paged_peer.main(EnginePath, paged_peer.parse_arguments(__doc__, add_options)))
