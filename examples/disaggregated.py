#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Disaggregated inference: one process computes a prompt's KV cache, another generates from it.

Part 1 does it for real, with a small Llama in NumPy (tinyllama.py). Part 2 moves a cache of
Llama-3-8B's size and measures (bulk.py). Without a role, both processes run here; with one, this is
one of them, and the other may be on another host.
"""

import argparse
import os
import sys
import time

try:
    import kvtrans_engine  # noqa: F401
    import numpy as np
except ImportError as error:
    sys.exit(f"{error}: './quickstart demo' builds what is needed and runs this")

import bulk
from peer import Deadline, Failure, Talk, check, open_engine, register
from processes import Roles, add_arguments, parse_arguments, positive
from terminal import dump, heading, say
from tinyllama import TinyLlama

# Lewis Carroll, Alice's Adventures in Wonderland (1865), the opening.
PROMPT = b"""\
Alice was beginning to get very tired of sitting by her sister on the bank, and of having nothing \
to do: once or twice she had peeped into the book her sister was reading, but it had no pictures \
or conversations in it, "and what is the use of a book," thought Alice "without pictures or \
conversations?"

So she was considering in her own mind (as well as she could, for the hot day made her feel very \
sleepy and stupid), whether the pleasure of making a daisy-chain would be worth the trouble of \
getting up and picking the daisies, when suddenly a White Rabbit with pink eyes ran close by her.
"""
GENERATED = 48


# ---- the two processes ----


def prefill(options, announce):
    deadline = Deadline(options.timeout)
    with open_engine(options, listen_port=options.listen) as engine:
        announce(engine.port)
        ok, _, _, conn_id = engine.accept(timeout=deadline.left())
        check(engine, ok, "no decode process came")
        talk = Talk(engine, conn_id, deadline)
        introduce(engine.stats(conn_id)["path"], options.interface)
        hand_over(engine, conn_id, talk, options.seed)
        bulk.send(engine, conn_id, talk, options)
        talk.hear()  # decode has all it wants


def decode(options):
    deadline = Deadline(options.timeout)
    host, port = options.connect
    with open_engine(options) as engine:
        ok, conn_id = engine.connect(host, port, timeout=min(10, deadline.left()))
        check(engine, ok, f"cannot connect to {host} port {port}")
        talk = Talk(engine, conn_id, deadline)
        take_over(engine, conn_id, talk)
        bulk.receive(engine, conn_id, talk, host)
        talk.tell(done=True)


# ---- part 1 ----


def hand_over(engine, conn_id, talk, seed):
    """Compute the prompt; send each layer's K and V while the next layer is computed."""
    model = TinyLlama(seed)
    tokens = np.frombuffer(PROMPT, np.uint8)
    cache = model.shape.empty_cache(len(tokens))
    arrays = cache.reshape(-1, *cache.shape[2:])  # K of layer 0, V of layer 0, K of layer 1, ...
    talk.tell(seed=seed)
    kv_ids = register(engine, conn_id, arrays)
    sends = []

    def send_layer(layer):
        for i in (2 * layer, 2 * layer + 1):
            sends.append(engine.send_kv_async(kv_ids[i], arrays[i], timeout=talk.deadline.left()))

    start = time.monotonic()
    logits = model.forward(tokens, 0, cache, on_layer=send_layer)
    computed = time.monotonic()
    for send in sends:
        send.result(talk.deadline.left())  # raises when the transfer failed
    delivered = time.monotonic()

    shape = model.shape
    say(
        "prefill",
        f"a Llama of {shape.layers} layers, {shape.heads} heads on {shape.kv_heads} KV "
        f"heads, {shape.dim} wide; random weights, seed {seed}",
    )
    say(
        "prefill",
        f"{len(tokens)} bytes of Alice in Wonderland in {(computed - start) * 1e3:.0f} ms, "
        f"delivered {(delivered - computed) * 1e3:.1f} ms later: {len(arrays)} arrays, "
        f"{cache.nbytes:,} bytes",
    )
    talk.tell(first=int(np.argmax(logits)))


def take_over(engine, conn_id, talk):
    """Receive the cache straight into place, generate, compare with doing it all in one process."""
    seed = talk.hear()["seed"]
    model = TinyLlama(seed)
    prompt = len(PROMPT)
    cache = model.shape.empty_cache(prompt + GENERATED)
    arrays = [cache[layer, kind, :prompt] for layer in range(model.shape.layers) for kind in (0, 1)]
    for kv_id, array in zip(register(engine, conn_id, arrays), arrays):
        ok, nbytes = engine.recv_kv_into(kv_id, timeout=talk.deadline.left())
        check(engine, ok, "the cache did not arrive")
        if nbytes != array.nbytes:
            raise Failure(f"received {nbytes} bytes of a layer, expected {array.nbytes}")
    first = talk.hear()["first"]

    start = time.monotonic()
    generated = model.generate(first, prompt, GENERATED, cache)
    say(
        "decode",
        f"{GENERATED} tokens from the received cache in {(time.monotonic() - start) * 1e3:.0f} ms:",
    )
    dump(bytes(generated))
    say("decode", "gibberish, for the weights are random; but it must be the right gibberish:")
    compare(model, first, generated)


def compare(model, first, generated):
    prompt = len(PROMPT)
    cache = model.shape.empty_cache(prompt + GENERATED)
    logits = model.forward(np.frombuffer(PROMPT, np.uint8), 0, cache)
    alone = [int(np.argmax(logits))]
    alone += model.generate(alone[0], prompt, GENERATED, cache)
    if alone != [first] + generated:
        same = sum(a == b for a, b in zip(alone, [first] + generated))
        raise Failure(f"one process alone gives other tokens: only {same} of {len(alone)} agree")
    say("decode", f"one process alone gives the same {GENERATED} tokens")

    # The comparison says something only if the tokens depend on what was received.
    cache[:] = 0
    blind = model.generate(first, prompt, GENERATED, cache)
    same = sum(a == b for a, b in zip(blind, generated))
    if same == GENERATED:
        raise Failure("an empty cache gives the same tokens: take another --seed")
    say("decode", f"an empty cache gives others ({same} of {GENERATED} agree)")


def introduce(path, interface):
    heading("1. A prompt changes hands between prefill and decode")
    network = "" if path == "local" else f", {interface}, TCP congestion control {read_congestion_control()}"
    say("", f"path {path}{network}, {len(os.sched_getaffinity(0))} CPUs")


def read_congestion_control():
    try:
        with open("/proc/sys/net/ipv4/tcp_congestion_control") as file:
            control = file.read().strip()
    except OSError:
        return "unknown"
    return control + (", which paces loopback, too: all TCP here is slower than it could be" if control == "bbr" else "")


def main():
    parser = argparse.ArgumentParser(
        description="One process computes a KV cache, another generates from it.",
        epilog="Without a role, both run here. decode takes tokens, rounds and seed from prefill.",
    )
    add = parser.add_argument
    add("role", nargs="?", choices=("prefill", "decode"), help="run this side only")
    add_arguments(parser)
    add("--tokens", type=positive, default=4096, help="tokens in the cache of part 2 (4096)")
    add("--rounds", type=positive, default=5, help="measured in part 2, each way (5)")
    add("--seed", type=positive, default=1, help="of weights and contents (1)")
    Roles(prefill, decode).run(parse_arguments(parser))


if __name__ == "__main__":
    main()
