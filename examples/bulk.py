# SPDX-License-Identifier: Apache-2.0
"""Part 2 of the demo: a cache of Llama-3-8B's shape, through the engine and through a plain socket.

send() runs in the prefill process, receive() in the decode process. The two ways take turns, so
that both see the same machine. The receiver's clock counts, from asking for the cache until it has
all of it, and every byte of every run is verified.
"""

import resource
import socket
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from peer import Failure, register
from terminal import Progress, heading, paragraph, say

LAYERS, KV_HEADS, HEAD_DIM = 32, 8, 128
WEIGHTS = 8.0e9
ARRAYS = 2 * LAYERS  # K and V of each layer
TOKEN_BYTES = ARRAYS * KV_HEADS * HEAD_DIM * 2  # 16 bits each: bf16, which NumPy has no name for
SPARE_BYTES = 512 << 20
ENGINE, SOCKET = "KVTrans", "TCP socket"


def new_cache(tokens):
    return np.empty((ARRAYS, tokens, KV_HEADS, HEAD_DIM), np.uint16)


def order_of_runs(rounds):
    """One warm-up of each way, then the rounds, in which the ways swap places."""
    for number in range(rounds + 1):
        for way in (ENGINE, SOCKET) if number % 2 == 0 else (SOCKET, ENGINE):
            yield number, way


class Pattern:
    """Contents that differ in every array of every run, made and verified at the speed of memory:
    noise, which shows bytes in the wrong place, XOR a key, which shows arrays of another run."""

    def __init__(self, seed, tokens):
        self.random = np.random.default_rng(seed)
        words = tokens * TOKEN_BYTES // ARRAYS // 8
        self.noise = self.random.integers(0, 2**64, words, np.uint64)
        self.scratch = np.empty_like(self.noise)

    def next_keys(self):
        return self.random.integers(0, 2**64, ARRAYS, np.uint64)

    def fill(self, cache):
        for array, key in zip(cache, self.next_keys()):
            np.bitwise_xor(self.noise, key, out=array.reshape(-1).view(np.uint64))

    def verify(self, cache, run):
        for index, (array, key) in enumerate(zip(cache, self.next_keys())):
            np.bitwise_xor(array.reshape(-1).view(np.uint64), key, out=self.scratch)
            if not np.array_equal(self.scratch, self.noise):
                wrong = np.flatnonzero(self.scratch != self.noise)
                name = f"{'KV'[index % 2]} of layer {index // 2}"
                raise Failure(f"{run}: {name} is wrong at {len(wrong)} words, first {wrong[0]}")


def available_bytes():
    """Memory this process may still take: the system's, or less in a container with a limit."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(fields["MemAvailable"].split()[0]) << 10
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return available  # no container, or one without a limit
    return min(available, limit - used + int(stat["inactive_file"]))


def limit_waits(wire, deadline):
    """Time limits in the kernel: settimeout() would poll before each call, and cost speed."""
    wire.settimeout(None)
    limit = struct.pack("@ll", int(deadline.left()) + 1, 0)
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        wire.setsockopt(socket.SOL_SOCKET, option, limit)


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


# ---- the prefill side ----


def send(engine, conn_id, talk, options):
    decode = talk.hear()
    tokens = fit_tokens(options.tokens, min(available_bytes(), decode["available"]))
    talk.tell(tokens=tokens, rounds=options.rounds, seed=options.seed)
    wire = socket.create_connection((decode["host"], decode["port"]), talk.deadline.left())

    cache = new_cache(tokens)
    kv_ids = register(engine, conn_id, cache)
    pattern = Pattern(options.seed, tokens)
    with wire:
        for _, way in order_of_runs(options.rounds):
            pattern.fill(cache)
            talk.tell(ready=True)
            talk.hear()  # the receiver is ready, too
            before = cpu_seconds()
            if way == ENGINE:
                send_by_engine(engine, kv_ids, cache, talk.deadline)
            else:
                send_by_socket(wire, cache, talk.deadline)
            talk.tell(cpu=cpu_seconds() - before)


def send_by_engine(engine, kv_ids, cache, deadline):
    """Start all arrays, then wait: with many in flight, no lane waits for the next one."""
    transfers = [
        engine.send_kv_async(kv_id, array, timeout=deadline.left())
        for kv_id, array in zip(kv_ids, cache)
    ]
    for transfer in transfers:
        transfer.result(deadline.left())


def send_by_socket(wire, cache, deadline):
    limit_waits(wire, deadline)
    for array in cache:
        wire.sendall(memoryview(array).cast("B"))


def fit_tokens(wanted, available):
    """As many tokens as fit into memory twice, for both processes may be on this host."""
    fitting = (available - SPARE_BYTES) // (2 * TOKEN_BYTES)
    if fitting >= wanted:
        return wanted
    if fitting < 16:
        raise Failure(f"{available >> 20} MiB of available memory is too little for part 2")
    say("prefill", f"memory is short: {fitting} tokens instead of {wanted}")
    return fitting


# ---- the decode side ----


@dataclass
class Run:
    seconds: float
    cpu: float  # of both processes


def receive(engine, conn_id, talk, host):
    """Receive and verify every run, then print the table."""
    with listen_towards(host) as listener:
        address, port = listener.getsockname()[:2]
        talk.tell(host=address, port=port, available=available_bytes())
        plan = talk.hear()
        listener.settimeout(talk.deadline.left())
        wire, _ = listener.accept()

    tokens, rounds = plan["tokens"], plan["rounds"]
    cache = new_cache(tokens)
    heading(f"2. A cache of Llama-3-8B's shape: {tokens:,} tokens, {cache.nbytes / 2**20:,.0f} MiB")
    say(
        "",
        f"{LAYERS} layers, K and V, {KV_HEADS} KV heads of {HEAD_DIM}, bf16: {ARRAYS} arrays of "
        f"{cache[0].nbytes / 2**20:.3g} MiB, rounds each way: {rounds} and a warm-up",
    )
    kv_ids = register(engine, conn_id, cache)
    pattern = Pattern(plan["seed"], tokens)
    runs = {ENGINE: [], SOCKET: []}
    with wire, Progress(2 * (rounds + 1) * ARRAYS) as progress:
        for number, way in order_of_runs(rounds):
            label = f"round {number}" if number else "warm-up"
            talk.hear()  # the contents are ready
            before, start = cpu_seconds(), time.monotonic()
            if way == ENGINE:
                receive_by_engine(engine, kv_ids, talk, progress)
            else:
                receive_by_socket(wire, cache, talk, progress)
            seconds, cpu = time.monotonic() - start, cpu_seconds() - before
            cpu += talk.hear()["cpu"]
            progress.note(f"         {label:<9}{way:<12}{cache.nbytes / seconds / 1e9:6.2f} GB/s")
            pattern.verify(cache, f"{way}, {label}")
            if number:
                runs[way].append(Run(seconds, cpu))
    report(runs, tokens, cache.nbytes, engine.stats(conn_id)["path"])


def receive_by_engine(engine, kv_ids, talk, progress):
    """Ask for all arrays before the sender starts: each can then be written straight into place."""
    transfers = [engine.recv_kv_into_async(kv_id, timeout=talk.deadline.left()) for kv_id in kv_ids]
    talk.tell(go=True)
    for transfer in transfers:
        transfer.result(talk.deadline.left())
        progress.step()


def receive_by_socket(wire, cache, talk, progress):
    limit_waits(wire, talk.deadline)
    talk.tell(go=True)
    for array in cache:
        view = memoryview(array).cast("B")
        while view:
            count = wire.recv_into(view, 0, socket.MSG_WAITALL)
            if count == 0:
                raise Failure("the socket's peer closed")
            view = view[count:]
        progress.step()


def listen_towards(host):
    """A listening socket on the address of this machine that faces host."""
    family, kind, _, _, address = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(address)  # sends nothing: it only chooses the route
        local = probe.getsockname()[0]
    return socket.create_server((local, 0), family=family)


def report(runs, tokens, nbytes, path):
    names = {ENGINE: f"KVTrans ({path})", SOCKET: "plain TCP socket"}
    times = {way: median(run.seconds for run in runs[way]) for way in names}
    cpu = {way: median(run.cpu for run in runs[way]) for way in names}
    gib = nbytes / 2**30
    print(
        f"\n{'median':<22}{'GB/s':>8}{'lowest':>9}{'highest':>9}{'CPU s/GiB':>12}{'verified':>12}"
    )
    for way, name in names.items():
        rates = [nbytes / run.seconds / 1e9 for run in runs[way]]
        print(
            f"{name:<22}{median(rates):>8.2f}{min(rates):>9.2f}{max(rates):>9.2f}"
            f"{cpu[way] / gib:>12.2f}{len(rates) * gib:>8.2f} GiB"
        )
    print(
        f"\nRatio: KVTrans has {times[SOCKET] / times[ENGINE]:.2f} of the socket's GB/s and takes "
        f"{cpu[ENGINE] / cpu[SOCKET]:.2f} of its CPU time.",
        flush=True,
    )

    moving = times[ENGINE] * 1e3
    work = 2 * WEIGHTS * tokens
    paragraph(
        f"Time to first token: sent after prefill, the cache of a {tokens:,}-token prompt adds "
        f"{moving:,.0f} ms here; sent layer by layer while prefill computes, as in part 1, it can "
        f"add as little as the last layer's {moving / LAYERS:.1f} ms. The rest is prefill: about "
        f"{work / 1e12:.0f} TFLOP for 8 billion weights, {work / 3e14 * 1e3:.0f} ms on a GPU that "
        "does 300 TFLOP/s."
    )
