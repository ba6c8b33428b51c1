# SPDX-License-Identifier: Apache-2.0
"""The loop of a vLLM-shaped KV connector, against a plain NumPy paged cache.

A prefill process computes requests into its cache and tells their block tables. A decode process
has a scheduler: in each step it starts loads, waits for a layer only where it needs it at once, and
learns which requests are complete. Usage: connector.py [interface]
"""

import json
import multiprocessing
import sys

import numpy as np

import kvtrans_engine

LAYERS, BLOCKS, TOKENS, HEADS, DIM = 8, 256, 16, 4, 32
REQUESTS, SEED = 24, 7


def make_cache():  # for each layer [K or V, block, token, head, dim]
    return [np.zeros((2, BLOCKS, TOKENS, HEADS, DIM), np.float16) for _ in range(LAYERS)]


def register(engine, cache):
    """K and V of every layer are extents of one pool: one block table serves them all."""
    return engine.register([part for layer in cache for part in layer])


def compute(request, layer, count):
    """What stands for K and V of a request in a layer."""
    shape = 2, count, TOKENS, HEADS, DIM
    return np.random.default_rng([request, layer]).random(shape).astype(np.float16)


def prefill(interface, port):
    cache = make_cache()
    free = list(np.random.default_rng(SEED).permutation(BLOCKS))
    tables, waiting = {}, list(range(REQUESTS))
    with kvtrans_engine.Engine(interface) as engine:
        conn = engine.open_connection("127.0.0.1" if interface == "lo" else interface, port)
        conn.export(register(engine, cache), access="r", name="cache")
        while waiting or tables:
            while waiting and len(free) > 40:
                request = waiting.pop(0)
                table = tables[request] = [free.pop() for _ in range(4 + request % 30)]
                for layer in range(LAYERS):
                    cache[layer][:, table] = compute(request, layer, len(table))
                conn.notify(json.dumps([request, list(map(int, table))]).encode())
            engine.wait(10)
            engine.reap()
            for note in engine.notifications():  # the peer has read a request: its blocks are free
                free += tables.pop(int(note.data))


class Connector:
    """What the decode side's worker calls: start_load, wait_for_layer, get_finished."""

    def __init__(self, engine, conn, cache):
        self.engine, self.conn = engine, conn
        self.pool = register(engine, cache)
        self.remote = conn.remote("cache")
        self.loads = {}  # request: Batch of one transfer a layer, in order

    def start_load(self, request, local_blocks, remote_blocks):
        local = np.array(local_blocks, np.int32)
        remote = np.array(remote_blocks, np.int32)
        with self.conn.batch(notify=str(request).encode()) as batch:
            for layer in range(LAYERS):
                k_and_v = 2 * layer, 2 * layer + 1
                batch.read_blocks(self.pool, local, self.remote, remote, extents=k_and_v)
        self.loads[request] = batch

    def wait_for_layer(self, request, layer):
        self.loads[request].transfers[layer].result(timeout=30)

    def get_finished(self):
        self.engine.reap()  # O(1) when nothing happened; runs what is due for the batches
        finished = [request for request, batch in self.loads.items() if batch.done()]
        for request in finished:
            self.loads.pop(request).result()
        return finished


def decode(interface):
    cache, queue = make_cache(), []
    free, tables, served = list(range(BLOCKS)), {}, 0
    with kvtrans_engine.Engine(interface, listen_port=0) as engine:
        context = multiprocessing.get_context("spawn")
        peer = context.Process(target=prefill, args=(interface, engine.port), daemon=True)
        peer.start()
        connector = Connector(engine, engine.accept_connection(timeout=30), cache)
        while served < REQUESTS:  # a step of the scheduler
            queue += [json.loads(note.data) for note in engine.notifications()]
            while queue and len(free) >= len(queue[0][1]):
                request, remote_blocks = queue.pop(0)
                tables[request] = [free.pop() for _ in remote_blocks]
                connector.start_load(request, tables[request], remote_blocks)
                if request % 8 == 0:  # this one is computed at once, layer by layer
                    for layer in range(LAYERS):
                        connector.wait_for_layer(request, layer)
                        check(cache, tables[request], request, layer)
            for request in connector.get_finished():
                for layer in range(LAYERS):
                    check(cache, tables[request], request, layer)
                free += tables.pop(request)
                served += 1
            engine.wait(0.001)  # in the place of a forward pass
        peer.join(30)
    print(f"{served} requests of {LAYERS} layers were loaded and are right")


def check(cache, table, request, layer):
    if not np.array_equal(cache[layer][:, table], compute(request, layer, len(table))):
        sys.exit(f"request {request}: layer {layer} is wrong")


if __name__ == "__main__":
    decode(sys.argv[1] if len(sys.argv) > 1 else "lo")
