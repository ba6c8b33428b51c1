#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""LMCache's own benchmark of its transfer channels, unmodified, over KVTRANS and over UCX, with every byte verified.

A server process fills its memory, a client process reads randomly chosen objects of it. Uses the environment of
examples/vllm, made in the user's cache (4 GB, once). It ends with 0 when KVTRANS did all that, and 77 when something it
needs cannot be had.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from statistics import median

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "vllm"))
import environment
from environment import say
from servers import Failure, end_with_parent, find_port, run_to_end

PACKAGES = ["lmcache==0.5.6", "sortedcontainers==2.4.0"]
LIMIT = 120
PAGE = 512 << 10


class Side:
    """A process of the benchmark, in one role."""

    def __init__(self, python, variables, arguments):
        self.output = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [python, "-m", "lmcache.tools.transfer_channel_benchmark", *map(str, arguments)],
            stdin=subprocess.DEVNULL, stdout=self.output, stderr=subprocess.STDOUT,
            env=dict(os.environ, **variables), preexec_fn=end_with_parent)

    def read(self):
        self.output.seek(0)
        return self.output.read()

    def wait_for(self, words):
        end = time.monotonic() + LIMIT
        while words not in self.read():
            if self.process.poll() is not None or time.monotonic() > end:
                raise Failure(f"LMCache's {words!r} was awaited, it said:\n{self.read()[-2000:]}")
            time.sleep(0.1)

    def end(self):
        self.process.kill()
        self.process.wait()
        self.output.close()


def measure(python, variables, backend, options):
    """One run: what the client says, verified."""
    url, listen, control = (f"127.0.0.1:{find_port()}" for _ in range(3))
    arguments = ["--nixl-backend", backend, "--url", url, "--control-url", control, "--num-objects", options.objects,
                 "--object-size", options.object_nbytes, "--buffer-size", 6 * options.objects * options.object_nbytes,
                 "--page-size", PAGE, "--server-timeout", LIMIT]
    sides = [Side(python, variables, ["--role", "server", *arguments])]
    try:
        sides[0].wait_for("[server] ready")
        sides.append(Side(python, variables, ["--role", "client", "--listen-url", listen, "--verify",
                                              "--iters", options.iterations, *arguments]))
        try:
            sides[1].process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            raise Failure(f"{backend}: the client did not end within {LIMIT} s") from None
        return judge(sides[1], backend)
    finally:
        for side in sides:
            side.end()


def judge(client, backend):
    """GB/s. NIXL's UCX may crash when it is asked to end, after all was said: that is told, and no failure of ours."""
    said = client.read()
    rate = re.search(r"median *:.* ([\d.]+) GB/s", said)
    if "verify OK" not in said or not rate:
        raise Failure(f"{backend}: not verified:\n{said[-2000:]}")
    if client.process.returncode:
        say(f"{backend}: verified, then the client ended with {client.process.returncode}")
        if backend == "KVTRANS":
            raise Failure("KVTRANS: the client did not end well")
    return float(rate.group(1))


def compare(options):
    python, _ = environment.prepare(options.torch)
    variables = {"PYTHONPATH": str(environment.add(PACKAGES)), "KVTRANS_INTERFACES": options.interface,
                 "KVTRANS_PROVIDER": options.provider, "UCX_TLS": "tcp", **environment.make_variables(python)}
    rates = {backend: [] for backend in options.backends}
    for turn in range(options.turns):
        for backend in options.backends if turn % 2 == 0 else options.backends[::-1]:
            rates[backend].append(measure(python, variables, backend, options))
    for backend, values in rates.items():
        say(f"{backend}: {options.objects} objects of {options.object_nbytes:,} bytes, verified in {len(values)} "
            f"runs; {median(values):.2f} GB/s")
    if {"KVTRANS", "UCX"} <= rates.keys():
        say(f"KVTRANS is {median(a / b for a, b in zip(rates['KVTRANS'], rates['UCX'])):.1f} times as fast as UCX "
            "(median of turns)")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--backends", type=lambda text: text.split(","), default=["KVTRANS", "UCX"], help="of NIXL (KVTRANS,UCX)")
    add("--objects", type=int, default=20, help="read at once (20)")
    add("--object-nbytes", type=int, default=2 << 20, help="of each, a multiple of 524288 (2097152)")
    add("--iterations", type=int, default=20, help="reads in a run (20)")
    add("--turns", type=int, default=3, help="runs of each backend, which swap places (3)")
    add("--interface", default="lo", help="that KVTRANS listens on (lo)")
    add("--provider", default="tcp", help="libfabric's for KVTRANS; UCX has UCX_TLS=tcp (tcp)")
    add("--torch", metavar="FILE", help="a CPU build of torch 2.13.0: a wheel, or a folder of wheels")
    return parser.parse_args()


def main():
    options = parse_arguments()
    run_to_end(lambda: compare(options))


if __name__ == "__main__":
    main()
