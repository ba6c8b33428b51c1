# SPDX-License-Identifier: Apache-2.0
"""KVTRANS against UCX over tcp, as backends of the same NIXL, between two processes of this host.

usage: bench_backends.py [PAIRS [KVTRANS_PERF]]

NIXL_PLUGIN_DIR holds the plugins of both. Each pair of turns measures one backend and then the other, so that both
meet the same machine, and alone, since UCX's agents poll; what is printed are medians, and the median of the
pairs' ratios. With the path of kvtrans-perf each pair has a third turn, the same shape without NIXL.
"""

import json
import os
import statistics
import subprocess
import sys
import time

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from agents import Memory, Peer, finish, make_agent, make_pages, serve_memory

BACKENDS = ("KVTRANS", "UCX")
CASES = [("WRITE", 4096, 100_000), ("READ", 4096, 100_000), ("READ", 16384, 16_384), ("WRITE", 16384, 16_384),
         ("READ", 65536, 4_096), ("WRITE", 65536, 4_096)]
ROUNDS = 5


class Side:
    """A pair of agents on one backend, and a transfer between them that is posted again and again."""

    def __init__(self, backend, operation, nbytes, count):
        os.environ["KVTRANS_TEST_BACKEND"] = backend
        self.peer = Peer(serve_memory, f"{backend}-far", nbytes * count, 1)
        metadata, address = self.peer.first
        self.agent = make_agent(f"{backend}-near")
        self.memory = Memory(self.agent, nbytes * count, 2)
        self.agent.add_remote_agent(metadata)
        local = self.agent.prep_xfer_dlist("NIXL_INIT_AGENT", make_pages(self.memory.address, count, nbytes), "DRAM")
        remote = self.agent.prep_xfer_dlist(f"{backend}-far", make_pages(address, count, nbytes), "DRAM")
        random = np.random.default_rng(1)
        self.handle = self.agent.make_prepped_xfer(operation, local, random.permutation(count), remote,
                                                   random.permutation(count))
        self.nbytes = nbytes * count
        self.measure()

    def measure(self):
        """GB/s and seconds in the call that posts: medians of a few rounds."""
        rates, posts = [], []
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            self.agent.transfer(self.handle)
            posted = time.perf_counter()
            assert finish(self.agent, self.handle) == "DONE"
            rates.append(self.nbytes / (time.perf_counter() - begin) / 1e9)
            posts.append(posted - begin)
        return statistics.median(rates), statistics.median(posts)


def serve_turn(pipe, backend, operation, nbytes, count):
    side = Side(backend, operation, nbytes, count)
    pipe.send(side.measure())
    pipe.recv()
    side.peer.kill()  # UCX crashes when it is asked to end
    os._exit(0)


def take_turn(*arguments):
    near = Peer(serve_turn, *arguments, daemon=False, limit=600)  # those have no children
    near.pipe.send("end")
    near.process.join()
    return near.first


def measure_perf(program, operation, nbytes, count):
    """GB/s of kvtrans-perf."""
    run = subprocess.run([program, "--self", "--json", "--plain", "--seconds", "0.5", "--op", operation.lower(), "--block",
                          str(nbytes), "--count", str(count), "--provider", os.environ["KVTRANS_PROVIDER"]],
                         stdout=subprocess.PIPE, check=True)
    return json.loads(run.stdout)["gb_per_s"]


def main():
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    perf = sys.argv[2] if len(sys.argv) > 2 else None
    os.environ.setdefault("UCX_TLS", "tcp")
    os.environ.setdefault("KVTRANS_PROVIDER", "tcp")
    print("| operation | KVTRANS GB/s | UCX GB/s | ratio | KVTRANS post ms | UCX post ms | ratio | kvtrans-perf | ratio |")
    print("|---|---|---|---|---|---|---|---|---|")
    median = statistics.median
    for case in CASES:
        turns, perfs = [], []
        for _ in range(pairs):
            turns.append([take_turn(backend, *case) for backend in BACKENDS])
            perfs.append(measure_perf(perf, *case) if perf else float("nan"))
        rates = [median(turn[i][0] for turn in turns) for i in range(2)]
        posts = [median(turn[i][1] for turn in turns) * 1e3 for i in range(2)]
        faster = median(ours[0] / theirs[0] for ours, theirs in turns)
        sooner = median(ours[1] / theirs[1] for ours, theirs in turns)
        of_perf = median(ours[0] / rate for (ours, _), rate in zip(turns, perfs))
        operation, nbytes, count = case
        print(f"| {operation} {nbytes // 1024} KiB x {count} | {rates[0]:.2f} | {rates[1]:.2f} | {faster:.1f} |"
              f" {posts[0]:.1f} | {posts[1]:.1f} | {sooner:.2f} | {median(perfs):.2f} | {of_perf:.2f} |", flush=True)


if __name__ == "__main__":
    main()
