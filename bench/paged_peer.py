# SPDX-License-Identifier: Apache-2.0
"""Paged transfers between two Python processes: what raw_paged.c is for C programs.

Which blocks a transfer moves, when it starts, what is counted and how the bytes are checked is the same
as there, block for block; a Path moves them. A program that uses this is a Path and a call of main().
"""

import argparse
import json
import mmap
import multiprocessing
import multiprocessing.connection
import signal
import time

import numpy as np

POOL_LEN = 512 << 20
SETS_MAX = 8
WORD = (1 << 64) - 1
LIMIT = 110.0  # seconds a run may take


class Path:
    """How blocks move. The first process starts every transfer; the other one serves."""

    tool = "?"
    provider = "?"
    spins = False  # it polls for the end of a transfer
    notifies = False  # the serving process learns of writes: poll() gives their numbers

    def __init__(self, arguments, pool, first):
        self.arguments = arguments
        self.pool = pool
        self.first = first

    def offer(self):
        """What the other process must know, picklable."""
        raise NotImplementedError

    def connect(self, offer):
        raise NotImplementedError

    def start(self, number, local, remote):
        """Start a transfer between slots; return what finish() takes."""
        raise NotImplementedError

    def finish(self, flight):
        """Return when every byte is in place."""
        raise NotImplementedError

    def poll(self):
        """At the serving process: the numbers of writes that have arrived since the last call."""
        return ()

    def fileno(self):
        """What is readable when poll() has something; None: poll() must be called every now and then."""
        return None

    def close(self):
        pass

    def leave(self):
        """The last thing that a process does."""


def parse_bytes(text):
    for suffix, shift in (("KiB", 10), ("MiB", 20), ("K", 10), ("M", 20)):
        if text.endswith(suffix):
            return int(text[: -len(suffix)]) << shift
    return int(text)


def parse_arguments(doc, extra=None):
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--paged", choices=("write", "read"), default="write")
    parser.add_argument("--block", type=parse_bytes, default=16384, help="bytes of a block")
    parser.add_argument("--count", type=int, default=4096, help="blocks of a transfer")
    parser.add_argument("--depth", type=int, default=1, help="transfers in flight")
    parser.add_argument("--pattern", choices=("contiguous", "runs", "random"), default="random")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--warmup", type=float, default=0.5)
    parser.add_argument("--provider", default="tcp", help="transport, as the engine names it")
    parser.add_argument("--json", action="store_true", help="accepted; the result is always JSON")
    if extra:
        extra(parser)
    arguments = parser.parse_args()
    if min(arguments.block, arguments.count, arguments.depth) < 1:
        parser.error("--block, --count and --depth are at least 1")
    return arguments


def make_order(count, pattern, seed):
    """perf_order_make() of perf_pool.c."""
    run = {"contiguous": count, "runs": 8, "random": 1}[pattern]
    order = list(range(count))
    if pattern == "contiguous":
        return np.array(order, dtype=np.int32)
    runs = [order[i : i + run] for i in range(0, count - count % run, run)]
    state = (seed * 0x9E3779B97F4A7C15 + 1) & WORD
    for i in range(len(runs), 1, -1):
        state ^= (state << 13) & WORD
        state ^= state >> 7
        state ^= (state << 17) & WORD
        other = state % i
        runs[i - 1], runs[other] = runs[other], runs[i - 1]
    flat = [slot for part in runs for slot in part]
    return np.array(flat + order[len(flat) :], dtype=np.int32)


class Pool:
    """Slots with every page touched, and the bytes that prove that a block has arrived."""

    def __init__(self, arguments, seed):
        self.block = arguments.block
        self.sets = min(POOL_LEN // arguments.block // arguments.count, SETS_MAX)
        self.sets = max(self.sets, arguments.depth, 1)
        self.count = self.sets * arguments.count
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
        if not source:
            self.array[:] = 0xEE
            return
        for first, end in self.get_chunks():
            self.array[self.order[first:end]] = self.make_blocks(first, end)

    def count_wrong(self):
        wrong = 0
        for first, end in self.get_chunks():
            differs = self.array[self.order[first:end]] != self.make_blocks(first, end)
            wrong += int(differs.any(axis=1).sum())
        return wrong


def await_command(path, control):
    """Wait for a command or for something to poll; return whether there is a command."""
    if not path.notifies:
        return control.poll(0.1)
    if path.fileno() is not None:
        return control in multiprocessing.connection.wait([control, path.fileno()], 0.1)
    if control.poll(0):
        return True
    time.sleep(20e-6)
    return False


def serve(make_path, arguments, control):
    """The second process: commands come on a pipe, writes through the path."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pool = Pool(arguments, 2)
    path = make_path(arguments, pool, False)
    control.send(path.offer())
    path.connect(control.recv())
    control.send("ready")
    stamps = {}
    while True:
        for number in path.poll():
            stamps[number] = time.monotonic_ns()
        if not await_command(path, control):
            continue
        command, number = control.recv()
        answer = None
        if command == "cpu":
            answer = time.process_time()
        elif command == "stamps":
            limit = time.monotonic() + 5
            while path.notifies and number not in stamps and time.monotonic() < limit:
                for arrived in path.poll():
                    stamps[arrived] = time.monotonic_ns()
            answer = stamps
        elif command == "prepare":
            pool.prepare(arguments.paged == "read")
        elif command == "check":
            answer = pool.count_wrong()
        control.send(answer)
        if command == "end":
            path.close()
            path.leave()
            return


class First:
    """The first process."""

    def __init__(self, make_path, arguments, control):
        self.arguments = arguments
        self.control = control
        self.pool = Pool(arguments, 1)
        self.remote_order = make_order(self.pool.count, arguments.pattern, 2)
        self.path = make_path(arguments, self.pool, True)
        offer = control.recv()
        control.send(self.path.offer())
        self.path.connect(offer)
        control.recv()
        self.flights = []
        self.started = 0
        self.starts, self.submits, self.times = {}, [], []

    def ask(self, command, number=0):
        self.control.send((command, number))
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
        begun = time.monotonic()
        count = 0
        while not count or time.monotonic() < begun + seconds:
            while len(self.flights) < self.arguments.depth:
                self.start()
            self.finish()
            count += 1
        return time.monotonic() - begun, count

    def verify(self):
        source = self.arguments.paged == "write"
        self.pool.prepare(source)
        self.ask("prepare")
        for _ in range(self.pool.sets):
            self.start()
            self.finish()
        wrong = self.ask("check") if source else self.pool.count_wrong()
        if wrong:
            raise SystemExit(f"{self.path.tool}: {wrong} of {self.pool.count} blocks have wrong bytes")

    def measure(self):
        self.run_for(self.arguments.warmup)
        self.starts, self.submits, self.times = dict(self.starts), [], []
        measured_from = self.started
        cpu = time.process_time() + self.ask("cpu")
        seconds, count = self.run_for(self.arguments.seconds)
        cpu = time.process_time() + self.ask("cpu") - cpu
        while self.flights:
            self.finish()
        stamps = {}
        if self.arguments.paged == "write":
            stamps = self.ask("stamps", self.started - 1)
        notified = [at - self.starts[n] for n, at in stamps.items() if n >= measured_from]
        self.verify()
        self.ask("end")
        self.path.close()
        return self.report(seconds, count, cpu, notified)

    def report(self, seconds, count, cpu, notified):
        arguments = self.arguments
        moved = count * arguments.count * arguments.block
        split = getattr(self.path, "splits_submit", True)
        return {
            "tool": self.path.tool,
            "op": arguments.paged,
            "mode": "throughput",
            "provider": self.path.provider,
            "block_bytes": arguments.block,
            "segment_bytes": 0,
            "count": arguments.count,
            "depth": arguments.depth,
            "messages": count * arguments.count,
            "bytes": moved,
            "seconds": seconds,
            "receiver_seconds": None,
            "gb_per_s": moved / seconds / 1e9,
            "us_p50": get_percentile(self.times, 50),
            "us_p99": get_percentile(self.times, 99),
            "cpu_s_per_gib": cpu / (moved / 2**30),
            "cpu_percent": None,
            "pattern": arguments.pattern,
            "transfers": count,
            "blocks_per_s": count * arguments.count / seconds,
            "submit_us_p50": get_percentile(self.submits, 50) if split else None,
            "notified_us_p50": get_percentile(notified, 50),
            "notified_us_p99": get_percentile(notified, 99),
            "spin": self.path.spins,
            "verified": True,
            "interrupted": False,
            "congestion_control": read_congestion_control(),
            "lanes": 1,
        }


def get_percentile(values_ns, percent):
    return float(np.percentile(values_ns, percent)) / 1e3 if values_ns else None


def read_congestion_control():
    try:
        with open("/proc/sys/net/ipv4/tcp_congestion_control", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return "unknown"


def main(make_path, arguments):
    """Run both processes and print the result. Call it under if __name__ == "__main__"."""
    signal.alarm(int(LIMIT))
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(make_path, arguments, theirs), daemon=True)
    server.start()
    theirs.close()
    try:
        first = First(make_path, arguments, ours)
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
