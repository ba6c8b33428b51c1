#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measure NIXL, Mooncake, or the Python calls of KVTrans, between two processes of this host.

Which blocks a transfer moves, when it starts, what is counted and how the bytes are checked is the same as in the C
programs (perf_run.c, perf_pool.c), block for block; a path moves them. It prints one JSON object with those of their
keys that compare reads.
"""

import argparse
import json
import mmap
import multiprocessing
import multiprocessing.connection
import os
import signal
import statistics
import sys
import time

import numpy as np

HOST = "127.0.0.1"
POOL_LEN, SETS_MAX = 512 << 20, 8
WORD = (1 << 64) - 1
TIMEOUT = 30.0
LIMIT = 160  # seconds a run may take


class Path:
    """How blocks move. The first process starts every transfer; the other one serves. A path also has

    offer()                       what the other process must know, picklable
    connect(offer)
    start(number, local, remote)  starts a transfer between slots; returns what finish() takes
    finish(flight)                returns when every byte is in place
    """

    tells = False  # the serving process learns of writes: poll() gives their numbers
    splits = True  # a transfer starts in one call and ends in another

    def __init__(self, arguments, pool, first):
        self.arguments, self.pool, self.first = arguments, pool, first

    def poll(self):
        """At the serving process: the numbers of writes that have arrived since the last call."""
        return ()

    def fileno(self):
        """What is readable when poll() has something; None: poll() must be called every now and then."""
        return None

    def leave(self):
        """The last thing that a process does."""


class Nixl(Path):
    """Both descriptor lists are prepared once; a transfer is make_prepped_xfer() with two index arrays, transfer(), and
    check_xfer_state() until it is done, with a notification for a write. The backend is UCX over tcp.
    """

    tells = True

    def __init__(self, arguments, pool, first):
        super().__init__(arguments, pool, first)
        os.environ.setdefault("UCX_TLS", "tcp")
        os.environ.setdefault("NIXL_LOG_LEVEL", "ERROR")
        os.environ.setdefault("UCX_LOG_LEVEL", "error")
        from nixl._api import nixl_agent, nixl_agent_config

        self.agent = nixl_agent("first" if first else "second", nixl_agent_config(backends=["UCX"]))
        self.registered = self.agent.register_memory([(pool.base, pool.count * pool.block, 0, "")], "DRAM")

    def make_list(self, base):
        rows = np.zeros((self.pool.count, 3), dtype=np.uint64)
        rows[:, 0] = base + np.arange(self.pool.count, dtype=np.uint64) * np.uint64(self.pool.block)
        rows[:, 1] = self.pool.block
        return rows

    def offer(self):
        return self.agent.get_agent_metadata(), self.pool.base

    def connect(self, offer):
        metadata, base = offer
        peer = self.agent.add_remote_agent(metadata)
        self.peer = peer.decode() if isinstance(peer, bytes) else peer
        if self.first:
            self.local = self.agent.prep_xfer_dlist("NIXL_INIT_AGENT", self.make_list(self.pool.base), "DRAM")
            self.remote = self.agent.prep_xfer_dlist(self.peer, self.make_list(base), "DRAM")

    def start(self, number, local, remote):
        operation = self.arguments.op.upper()
        word = b"%d" % number if operation == "WRITE" else b""
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


class Mooncake(Path):
    """A transfer is batch_transfer_sync_write() or _read() with three lists of integers, made anew for each, as engines
    do that compute addresses from block indices; with several in flight the calls that have async in their names.
    Nothing tells the other side. Connections are pooled, which is not Mooncake's default: without it each block opens a
    connection of its own, which is far slower, and long lists fail. Lists of 4,096 blocks fail with the pool, too.
    """

    LONGEST = 1024

    def __init__(self, arguments, pool, first):
        super().__init__(arguments, pool, first)
        os.environ.setdefault("MC_TCP_ENABLE_CONNECTION_POOL", "1")
        os.environ.setdefault("MC_LOG_LEVEL", "ERROR")
        os.environ.setdefault("GLOG_minloglevel", "2")
        from mooncake.engine import TransferEngine

        self.splits = arguments.depth > 1
        self.engine = TransferEngine()
        if self.engine.initialize(HOST, "P2PHANDSHAKE", "tcp", ""):
            raise SystemExit("mooncake: initialize() failed")
        if self.engine.register_memory(pool.base, pool.count * pool.block):
            raise SystemExit("mooncake: register_memory() failed")

    def offer(self):
        return f"{HOST}:{self.engine.get_rpc_port()}", self.pool.base

    def connect(self, offer):
        self.peer, self.peer_base = offer

    def start(self, number, local, remote):
        """Batches one after the other, but for the last, which finish() waits for when it may."""
        block, call = self.pool.block, None
        for first in range(0, len(local), self.LONGEST):
            self.finish(call)
            part = slice(first, first + self.LONGEST)
            here = (local[part].astype("u8") * block + self.pool.base).tolist()
            there = (remote[part].astype("u8") * block + self.peer_base).tolist()
            call = self.submit(self.peer, here, there, [block] * len(here))
        return call

    def submit(self, *batch):
        how = "async" if self.splits else "sync"
        result = getattr(self.engine, f"batch_transfer_{how}_{self.arguments.op}")(*batch)
        if bool(result) != self.splits:
            raise SystemExit(f"mooncake: a batch of {len(batch[1])} blocks failed: {result}")
        return result

    def finish(self, flight):
        if flight and self.engine.get_batch_transfer_status([flight]):
            raise SystemExit("mooncake: a batch failed")

    def close(self):
        self.engine.unregister_memory(self.pool.base)


class Kvtrans(Path):
    """One call a transfer, with two index arrays and a notification; the serving process sleeps until the engine's
    descriptor is readable. --op send: the classic calls, which have one message in flight.
    """

    def __init__(self, arguments, pool, first):
        super().__init__(arguments, pool, first)
        import kvtrans_engine

        self.engine = kvtrans_engine.Engine(
            "lo", ncpus=arguments.ncpus, nconn_per_cpu=arguments.nconn, provider=arguments.provider
        )
        self.tells = arguments.op != "send"
        self.splits = self.tells
        if self.tells:
            pool.array, self.region = self.make_region(pool)

    def make_region(self, pool):
        if self.arguments.allocate not in ("both", "client" if self.first else "server"):
            return pool.array, self.engine.register(pool.array, block_nbytes=pool.block)
        region = self.engine.allocate(pool.count, pool.block)
        array = region.arrays[0].view(np.uint8).reshape(pool.array.shape)
        array[:] = 1
        return array, region

    def offer(self):
        return self.engine.port

    def connect(self, offer):
        engine, op = self.engine, self.arguments.op
        if op == "send":
            conn = engine.connect(HOST, offer, timeout=TIMEOUT)[1] if self.first else engine.accept(TIMEOUT)[3]
            self.kv = self.need(engine.reg_kv(conn, self.pool.array))
            return
        if self.first:
            self.conn = engine.open_connection(HOST, offer, timeout=TIMEOUT)
            self.remote = self.conn.remote("pool", timeout=TIMEOUT)
            self.move = self.conn.write_blocks if op == "write" else self.conn.read_blocks
        else:
            self.conn = engine.accept_connection(timeout=TIMEOUT)
            self.conn.export(self.region, access=op[0], name="pool")

    def need(self, answer):
        ok, value = answer if isinstance(answer, tuple) else (answer, None)
        if not ok:
            raise SystemExit(f"kvtrans: {self.engine.last_error}")
        return value

    def start(self, number, local, remote):
        if self.tells:
            return self.move(self.region, local, self.remote, remote, notify=b"%d" % number, timeout=TIMEOUT)
        slot = self.pool.array[number % self.pool.count]
        if self.arguments.verify:
            slot[:] = number % 251
        return self.need(self.engine.send_kv(self.kv, slot, timeout=TIMEOUT))

    def finish(self, flight):
        if flight:
            flight.result()

    def receive(self, first, end):
        """Messages first to end - 1; how many had wrong bytes."""
        wrong = 0
        for number in range(first, end):
            slot = self.pool.array[number % self.pool.count]
            size = self.need(self.engine.recv_kv_into(self.kv, slot, timeout=TIMEOUT))
            good = size == self.pool.block and (not self.arguments.verify or (slot == number % 251).all())
            wrong += not good
        return wrong

    def poll(self):
        return [int(notification.data) for notification in self.engine.notifications()]

    def fileno(self):
        return self.engine.fileno()

    def close(self):
        self.engine.close()


PATHS = {"nixl": Nixl, "mooncake": Mooncake, "kvtrans": Kvtrans}


def make_order(count, pattern, seed):
    """perf_order_make() of perf_pool.c."""
    run = {"contiguous": count, "runs": 8, "random": 1}[pattern]
    runs = np.arange(count - count % run, dtype=np.int32).reshape(-1, run)
    places = list(range(len(runs)))
    state = (seed * 0x9E3779B97F4A7C15 + 1) & WORD
    for i in range(len(runs), 1, -1):
        state ^= (state << 13) & WORD
        state ^= state >> 7
        state ^= (state << 17) & WORD
        other = state % i
        places[i - 1], places[other] = places[other], places[i - 1]
    return np.concatenate([runs[places].ravel(), np.arange(count - count % run, count, dtype=np.int32)])


class Pool:
    """Slots with every page touched, and the bytes that prove that a block has arrived."""

    def __init__(self, arguments, seed):
        self.block = arguments.block
        self.sets = max(min(POOL_LEN // arguments.block // arguments.count, SETS_MAX), arguments.depth, 1)
        self.count = arguments.count * (1 if arguments.op == "send" else self.sets)
        # NumPy's own memory is advised to use huge pages, which would be another measurement.
        memory = mmap.mmap(-1, self.count * self.block, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.array = np.frombuffer(memory, dtype=np.uint8).reshape(self.count, self.block)
        self.array[:] = 1
        self.base = self.array.ctypes.data
        self.order = make_order(self.count, arguments.pattern, seed)

    def make_blocks(self, first, end):
        """perf_fill() of perf_pool.c, for blocks first to end - 1."""
        index = np.arange((self.block + 7) // 8, dtype=np.uint64) * np.uint64(0xD1342543DE82EF95)
        numbers = np.arange(first + 1, end + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        return (numbers[:, None] ^ index).view(np.uint8)[:, : self.block]

    def get_chunks(self):
        """Ranges of blocks that are looked at together: a few MiB."""
        step = max(1, (4 << 20) // self.block)
        return [(first, min(first + step, self.count)) for first in range(0, self.count, step)]

    def prepare(self, source):
        self.array[:] = 0xEE
        for first, end in self.get_chunks() if source else ():
            self.array[self.order[first:end]] = self.make_blocks(first, end)

    def count_wrong(self):
        wrong = 0
        for first, end in self.get_chunks():
            differs = self.array[self.order[first:end]] != self.make_blocks(first, end)
            wrong += int(differs.any(axis=1).sum())
        return wrong


def await_command(path, control):
    """Wait for a command or for something to poll; return whether there is a command."""
    if not path.tells:
        return control.poll(0.1)
    if path.fileno() is not None:
        return control in multiprocessing.connection.wait([control, path.fileno()], 0.1)
    if not control.poll(0):
        time.sleep(20e-6)
        return False
    return True


def serve(arguments, control):
    """The second process: commands come on a pipe, writes through the path."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pool = Pool(arguments, 2)
    path = PATHS[arguments.path](arguments, pool, False)
    control.send(path.offer())
    path.connect(control.recv())
    control.send("ready")
    stamps, wrong = {}, 0
    while True:
        stamps.update(dict.fromkeys(path.poll() if path.tells else (), time.monotonic_ns()))
        if not await_command(path, control):
            continue
        command, *values = control.recv()
        answer = None
        if command == "cpu":
            answer = time.process_time()
        elif command == "receive":
            wrong += path.receive(*values)
        elif command == "stamps":
            limit = time.monotonic() + 5
            while path.tells and values[0] not in stamps and time.monotonic() < limit:
                stamps.update(dict.fromkeys(path.poll(), time.monotonic_ns()))
            answer = stamps
        elif command == "prepare":
            pool.prepare(arguments.op == "read")
        elif command == "check":
            answer = wrong if arguments.op == "send" else pool.count_wrong()
        control.send(answer)
        if command == "end":
            path.close()
            path.leave()
            return


class First:
    """The first process."""

    def __init__(self, arguments, control):
        self.arguments, self.control = arguments, control
        self.pool = Pool(arguments, 1)
        self.remote_order = make_order(self.pool.count, arguments.pattern, 2)
        self.path = PATHS[arguments.path](arguments, self.pool, True)
        offer = control.recv()
        control.send(self.path.offer())
        self.path.connect(offer)
        control.recv()
        self.flights = []
        self.started = 0
        self.starts, self.submits, self.times = {}, [], []

    def ask(self, *command):
        self.control.send(command)
        return self.control.recv()

    def start(self):
        number, count = self.started, self.arguments.count
        first = number % self.pool.sets * count
        local, remote = self.pool.order[first : first + count], self.remote_order[first : first + count]
        begun = time.monotonic_ns()
        flight = self.path.start(number, local, remote)
        self.submits.append(time.monotonic_ns() - begun)
        self.starts[number] = begun
        self.flights.append((number, flight))
        self.started += 1

    def finish(self):
        number, flight = self.flights.pop(0)
        self.path.finish(flight)
        self.times.append(time.monotonic_ns() - self.starts[number])

    def run_for(self, seconds):
        """Keep depth transfers in flight; return seconds and how many were finished."""
        if self.arguments.op == "send":
            return self.send_for(seconds)
        begun = time.monotonic()
        count = 0
        while not count or time.monotonic() < begun + seconds:
            while len(self.flights) < self.arguments.depth:
                self.start()
            self.finish()
            count += 1
        return time.monotonic() - begun, count

    def send_for(self, seconds):
        """Batches, each of which the other process is told to receive."""
        took, done, batch = 0.0, 0, self.arguments.count
        while not done or took < seconds:
            self.control.send(("receive", self.started, self.started + batch))
            begun = time.monotonic()
            for _ in range(batch):
                self.start()
                self.finish()
            took += time.monotonic() - begun
            self.control.recv()
            done += batch
        return took, done

    def verify(self):
        send, source = self.arguments.op == "send", self.arguments.op == "write"
        if not send:
            self.pool.prepare(source)
            self.ask("prepare")
        for _ in range(0 if send else self.pool.sets):
            self.start()
            self.finish()
        wrong = self.ask("check") if source or send else self.pool.count_wrong()
        if wrong:
            print(f"{self.arguments.path}: {wrong} blocks have wrong bytes", file=sys.stderr)
            raise SystemExit(3)

    def measure(self):
        arguments = self.arguments
        self.run_for(arguments.warmup)
        self.submits, self.times = [], []
        measured_from = self.started
        cpu = time.process_time() + self.ask("cpu")
        seconds, count = self.run_for(arguments.seconds)
        cpu = time.process_time() + self.ask("cpu") - cpu
        while self.flights:
            self.finish()
        stamps = self.ask("stamps", self.started - 1) if arguments.op == "write" else {}
        notified = [at - self.starts[n] for n, at in stamps.items() if n >= measured_from]
        if arguments.verify:
            self.verify()
        self.ask("end")
        self.path.close()
        return self.report(seconds, count, cpu, notified)

    def report(self, seconds, count, cpu, notified):
        arguments = self.arguments
        blocks = count * (1 if arguments.op == "send" else arguments.count)
        moved = blocks * arguments.block
        with open("/proc/sys/net/ipv4/tcp_congestion_control", encoding="ascii") as file:
            congestion_control = file.read().strip()
        return {
            **{name: getattr(arguments, name) for name in ("op", "block", "count", "depth", "pattern")},
            "messages": blocks,
            "transfers": count,
            "seconds": seconds,
            "gb_per_s": moved / seconds / 1e9,
            "blocks_per_s": blocks / seconds,
            "us_p50": get_median(self.times),
            "submit_us_p50": get_median(self.submits) if self.path.splits else None,
            "notified_us_p50": get_median(notified),
            "cpu_s_per_gib": cpu / (moved / 2**30),
            "verified": arguments.verify,
            "congestion_control": congestion_control,
        }


def get_median(values_ns):
    return statistics.median(values_ns) / 1e3 if values_ns else None


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--path", choices=PATHS, required=True)
    parser.add_argument("--op", choices=("write", "read", "send"), default="write")
    parser.add_argument("--block", type=int, default=16384, help="bytes of a block")
    parser.add_argument("--count", type=int, default=4096, help="blocks of a transfer, messages of a batch")
    parser.add_argument("--depth", type=int, default=1, help="transfers in flight")
    parser.add_argument("--pattern", choices=("contiguous", "runs", "random"), default="random")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--warmup", type=float, default=0.5)
    parser.add_argument("--verify", action="store_true", help="check every byte")
    parser.add_argument("--ncpus", type=int, default=1, help="kvtrans: workers")
    parser.add_argument("--nconn", type=int, default=1, help="kvtrans: lanes of a worker")
    parser.add_argument("--provider", default="tcp", help="kvtrans: the provider")
    parser.add_argument("--allocate", choices=("none", "client", "server", "both"), help="kvtrans: whose pool the engine has")
    parser.add_argument("--plain", action="store_true", help="accepted")
    parser.add_argument("--json", action="store_true", help="accepted; the result is always JSON")
    arguments = parser.parse_args()
    if min(arguments.block, arguments.count, arguments.depth) < 1:
        parser.error("--block, --count and --depth are at least 1")
    if arguments.op == "send" and (arguments.path != "kvtrans" or arguments.depth > 1):
        parser.error("--op send goes with --path kvtrans and --depth 1")
    return arguments


def main():
    arguments = parse_arguments()
    signal.alarm(LIMIT)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(arguments, theirs), daemon=True)
    server.start()
    theirs.close()
    try:
        first = First(arguments, ours)
        result = first.measure()
        server.join(10)
    except EOFError:
        raise SystemExit("the other process ended before its time") from None
    finally:
        if server.is_alive():
            server.kill()
            server.join()
    print(json.dumps(result), flush=True)
    first.path.leave()


if __name__ == "__main__":
    main()
