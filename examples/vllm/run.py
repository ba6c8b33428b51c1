#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""vLLM, unmodified, with prefill and decode in two servers whose KV caches move over KVTrans, beside UCX.

Makes what it needs in the user's cache (4 GB, once), asks one server alone, then pairs of servers, and compares tokens
and times. It ends with 0 when all tokens were the same, 1 when not, and 77 when something it needs cannot be had.
"""

import argparse
import contextlib
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import time
from statistics import median

import environment
from environment import say
from servers import Failure, Pair, Setting, ask, find_port, run_to_end, start_vllm

ROOT = pathlib.Path(__file__).resolve().parents[2]
PASSAGE = 2400  # characters of a prompt: some 700 tokens, 32 MB of cache
WARM_UP = "The first request meets cold caches."


def make_prompts(count, length=PASSAGE):
    """Passages of the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    step = (len(text) - length) // max(1, count - 1)
    return [text[number * step :][:length] for number in range(count)]


@contextlib.contextmanager
def prepare(options):
    """The Setting of this run. The servers' logs are kept when it does not end well."""
    python, model = environment.prepare(options.torch)
    logs = pathlib.Path(tempfile.mkdtemp(prefix="kvtrans-vllm-"))
    variables = {
        "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1",
        # The servers share the CPUs: none has some to itself, or polls.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 2) // 2)),
        "OMP_WAIT_POLICY": "passive",
        "KVTRANS_INTERFACES": options.interface, "KVTRANS_PROVIDER": options.provider, "UCX_TLS": "tcp",
        "TMPDIR": str(logs), **environment.make_variables(python),
    }
    yield Setting(python, model, logs, variables)
    shutil.rmtree(logs)


def ask_alone(setting, prompts, count):
    """What one server says that does all by itself."""
    server = start_vllm(setting, "alone", find_port())
    try:
        server.wait()
        ask(server.port, WARM_UP, 1)
        answers = [ask(server.port, prompt, count) for prompt in prompts]
    finally:
        server.end()
    for answer in answers:
        if answer.error:
            raise Failure(f"one server alone: {answer.error}")
    return answers


class Tally:
    """What a pair of servers did."""

    def __init__(self, pair):
        self.pair = pair
        self.first_s, self.transfer_s, self.post_s, self.nbytes = [], [], [], []
        self.same = self.asked = 0
        self.errors = []

    def warm_up(self):
        """The two meet, and connect."""
        answer = ask(self.pair.ports["proxy"], WARM_UP, 1)
        if answer.error:
            raise Failure(f"{self.pair.backend}: {answer.error}")
        wait_for_transfer(self.pair, {})

    def ask(self, prompt, right, count):
        """Ask, and look up what moving the cache took."""
        before = self.pair.get_transfers()
        answer = ask(self.pair.ports["proxy"], prompt, count)
        self.asked += 1
        self.same += answer.tokens == right.tokens
        if answer.error:
            self.errors.append(answer.error)
            return
        after = wait_for_transfer(self.pair, before)
        self.first_s.append(answer.first_s)
        for name, values in (("xfer_time_seconds", self.transfer_s), ("post_time_seconds", self.post_s),
                             ("bytes_transferred", self.nbytes)):
            values.append(after[f"{name}_sum"] - before[f"{name}_sum"])


def wait_for_transfer(pair, before, count=1, limit=30):
    """The counters once they have count transfers more: vLLM tells of them some time later."""
    end = time.monotonic() + limit
    while True:
        now = pair.get_transfers()
        if now.get("xfer_time_seconds_count", 0) >= before.get("xfer_time_seconds_count", 0) + count:
            return now
        if time.monotonic() > end:
            raise Failure(f"{pair.backend}: the transfers were not counted after {limit} s")
        time.sleep(0.05)


def print_table(alone, tallies):
    say(f"\n{'':<12}{'same tokens':>12}{'first token':>13}{'KV transfer':>13}{'post':>9}{'moved':>9}")
    say(f"{'one server':<12}{'':>12}{median(answer.first_s for answer in alone) * 1e3:>10.0f} ms")
    for backend, tally in tallies.items():
        if tally.first_s:
            say(f"{backend:<12}{f'{tally.same} of {tally.asked}':>12}{median(tally.first_s) * 1e3:>10.0f} ms"
                f"{median(tally.transfer_s) * 1e3:>10.1f} ms{median(tally.post_s) * 1e3:>6.1f} ms"
                f"{median(tally.nbytes) / 1e6:>6.0f} MB")
        for error in tally.errors:
            say(f"{backend}: {error}")
    say("\nMedians; KV transfer and post are vLLM's own metrics.")
    if {"KVTRANS", "UCX"} <= tallies.keys() and not any(tally.errors for tally in tallies.values()):
        pairs = zip(tallies["KVTRANS"].transfer_s, tallies["UCX"].transfer_s)
        say(f"KVTRANS moves a cache in {median(ours / theirs for ours, theirs in pairs):.2f} times the time of UCX.")


@contextlib.contextmanager
def stand_still(pairs):
    """UCX's agents poll, which would take the CPUs from the pair that is asked."""
    pairs = [pair for pair in pairs if pair.backend == "UCX"]
    for pair in pairs:
        pair.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for pair in pairs:
            pair.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def step(text):
    begin = time.monotonic()
    say(f"{text} ... ", end="")
    yield
    say(f"{time.monotonic() - begin:.0f} s")


def compare(options):
    prompts = make_prompts(options.prompts)
    with prepare(options) as setting, contextlib.ExitStack() as stack:
        with step(f"one server alone answers {options.prompts} prompts"):
            alone = ask_alone(setting, prompts, options.tokens)
        tallies = {}
        for backend in options.backends:
            with step(f"prefill and decode over {backend} start"):
                tallies[backend] = Tally(stack.enter_context(Pair(setting, backend, options.mode)))
                tallies[backend].warm_up()
        with step(f"they answer, in turns, {options.rounds} x {options.prompts} prompts"):
            for number in range(options.rounds * options.prompts):
                for backend in options.backends if number % 2 == 0 else options.backends[::-1]:
                    which = number % options.prompts
                    with stand_still(tally.pair for name, tally in tallies.items() if name != backend):
                        tallies[backend].ask(prompts[which], alone[which], options.tokens)
    print_table(alone, tallies)
    return all(tally.same == tally.asked for tally in tallies.values())


def parse_arguments(words=None):
    def positive(text):
        if (number := int(text)) < 1:
            raise ValueError
        return number

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--backends", type=lambda text: text.split(","), default=["KVTRANS", "UCX"], help="of NIXL (KVTRANS,UCX)")
    add("--mode", choices=("pull", "push"), default="pull", help="decode reads, or prefill writes (pull)")
    add("--prompts", type=positive, default=8, help="asked of each (8)")
    add("--tokens", type=positive, default=32, help="generated for each (32)")
    add("--rounds", type=positive, default=1, help="of all prompts (1)")
    add("--interface", default="lo", help="that KVTRANS listens on (lo)")
    add("--provider", default="tcp", help="libfabric's for KVTRANS; UCX has UCX_TLS=tcp (tcp)")
    add("--torch", metavar="FILE", help="a CPU build of torch 2.13.0: a wheel, or a folder of wheels")
    return parser.parse_args(words)


def main():
    options = parse_arguments()
    run_to_end(lambda: 0 if compare(options) else 1)


if __name__ == "__main__":
    main()
