#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measure send_kv to recv_kv_into between two Python processes, as kvtrans-perf --depth 1 does in C.

It prints one JSON object with the keys of kvtrans-perf. It uses the classic calls only, and never more
than one message in flight: that is what those calls give.
"""

import argparse
import json
import mmap
import os
import statistics
import subprocess
import sys
import time

import numpy as np

import kvtrans_engine

TIMEOUT = 30.0


def parse_bytes(text):
    for suffix, shift in (("KiB", 10), ("MiB", 20), ("GiB", 30), ("K", 10), ("M", 20), ("G", 30)):
        if text.endswith(suffix):
            return int(text[: -len(suffix)]) << shift
    return int(text)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--block", type=parse_bytes, default=1 << 20, help="bytes of a message")
    parser.add_argument("--count", type=int, default=64, help="messages a batch, each in its own slot")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--warmup", type=float, default=0.5)
    parser.add_argument("--interface", default="lo")
    parser.add_argument("--provider", default=None)
    parser.add_argument("--ncpus", type=int, default=1)
    parser.add_argument("--nconn", type=int, default=1)
    parser.add_argument("--verify", action="store_true", help="the receiver checks every byte")
    parser.add_argument("--server", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.block < 1 or arguments.count < 1:
        parser.error("--block and --count are at least 1")
    return arguments


def open_engine(arguments):
    return kvtrans_engine.Engine(
        arguments.interface,
        ncpus=arguments.ncpus,
        nconn_per_cpu=arguments.nconn,
        provider=arguments.provider,
    )


def need(engine, ok, what):
    if not ok:
        raise SystemExit(f"{what}: {engine.last_error}")


def make_pool(arguments):
    # As in C: NumPy's own memory is advised to use huge pages, which would be another measurement.
    memory = mmap.mmap(-1, arguments.count * arguments.block, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    pool = np.frombuffer(memory, dtype=np.uint8).reshape(arguments.count, arguments.block)
    pool[:] = 1
    return pool, [pool[i] for i in range(arguments.count)]


def read_command(engine, control):
    ok, command = engine.recv_kv(control, max_size=64, timeout=TIMEOUT)
    need(engine, ok, "hearing the client")
    return int(command[0])


def serve(arguments):
    """Take a number of batches at a time, until that number is 0."""
    with open_engine(arguments) as engine:
        print(engine.port, flush=True)
        ok, _, _, conn = engine.accept(timeout=TIMEOUT)
        need(engine, ok, "accepting")
        pool, slots = make_pool(arguments)
        answer = np.zeros(2)
        ok, control = engine.reg_kv(conn, answer)
        need(engine, ok, "registering the control array")
        ok, data = engine.reg_kv(conn, pool)
        need(engine, ok, "registering the pool")
        message = 0
        while batches := read_command(engine, control):
            started, cpu = time.perf_counter(), time.process_time()
            for _ in range(batches):
                for slot in slots:
                    ok, size = engine.recv_kv_into(data, slot, timeout=TIMEOUT)
                    need(engine, ok and size == arguments.block, "receiving")
                    message += 1
                    if arguments.verify and not (slot == message % 251).all():
                        raise SystemExit(f"message {message} arrived with wrong bytes")
            answer[:] = time.perf_counter() - started, time.process_time() - cpu
            need(engine, engine.send_kv(control, answer, timeout=TIMEOUT), "answering")


class Client:
    """Sends rounds of batches and adds up what they took."""

    def __init__(self, arguments, engine, port):
        self.arguments = arguments
        self.engine = engine
        ok, conn = engine.connect("127.0.0.1", port, timeout=TIMEOUT)
        need(engine, ok, "connecting")
        self.pool, self.slots = make_pool(arguments)
        self.command = np.zeros(1, dtype=np.int64)
        ok, self.control = engine.reg_kv(conn, self.command)
        need(engine, ok, "registering the control array")
        ok, self.data = engine.reg_kv(conn, self.pool)
        need(engine, ok, "registering the pool")
        self.sent = 0

    def tell(self, batches):
        self.command[0] = batches
        ok = self.engine.send_kv(self.control, self.command, timeout=TIMEOUT)
        need(self.engine, ok, "telling the server")

    def run_round(self, batches, times):
        """Return seconds here, seconds at the receiver and CPU seconds of both."""
        engine, data, clock = self.engine, self.data, time.perf_counter
        self.tell(batches)
        started, cpu = clock(), time.process_time()
        for _ in range(batches):
            for slot in self.slots:
                begun = clock()
                self.sent += 1
                if self.arguments.verify:
                    slot[:] = self.sent % 251
                need(engine, engine.send_kv(data, slot, timeout=TIMEOUT), "sending")
                times.append(clock() - begun)
        seconds, cpu = clock() - started, time.process_time() - cpu
        ok, answer = engine.recv_kv(self.control, max_size=64, timeout=TIMEOUT)
        need(engine, ok, "hearing the server")
        return np.array([seconds, answer[0], cpu + answer[1]])

    def run(self, duration):
        """Rounds of about half a second until their times add up to the duration."""
        times, total, batches, done = [], np.zeros(3), 1, 0
        while not done or total[0] < duration:
            total += self.run_round(batches, times)
            done += batches
            batches = max(1, int(min(0.5, duration - total[0]) / (total[0] / done)))
        return total, times


def read_congestion_control():
    try:
        with open("/proc/sys/net/ipv4/tcp_congestion_control", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return "unknown"


def report(arguments, provider, total, times):
    sent = len(times) * arguments.block
    percentiles = statistics.quantiles(times, n=100) if len(times) > 1 else times * 99
    return {
        "tool": "python",
        "op": "send",
        "mode": "throughput",
        "provider": provider,
        "block_bytes": arguments.block,
        "count": arguments.count,
        "depth": 1,
        "messages": len(times),
        "bytes": sent,
        "seconds": total[0],
        "receiver_seconds": total[1],
        "gb_per_s": sent / total[0] / 1e9,
        "us_p50": percentiles[49] * 1e6,
        "us_p99": percentiles[98] * 1e6,
        "cpu_s_per_gib": total[2] / (sent / 2**30),
        "verified": arguments.verify,
        "congestion_control": read_congestion_control(),
        "lanes": arguments.ncpus * arguments.nconn,
    }


def main():
    arguments = parse_arguments()
    if arguments.server:
        serve(arguments)
        return
    command = [sys.executable, os.path.abspath(__file__), "--server", *sys.argv[1:]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            port = server.stdout.readline().strip()
            if not port:
                raise SystemExit("the server did not start")
            with open_engine(arguments) as engine:
                client = Client(arguments, engine, int(port))
                client.run(arguments.warmup)
                total, times = client.run(arguments.seconds)
                client.tell(0)
                server.wait(TIMEOUT)
                result = report(arguments, engine.provider, total, times)
        finally:
            server.kill()
    if server.returncode:
        raise SystemExit("the server failed")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
