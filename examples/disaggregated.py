#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Disaggregated inference: one process computes a prompt's KV cache, another generates from it.

Part 1 does it for real, with a small Llama in NumPy (tinyllama.py). Part 2 moves a cache of
Llama-3-8B's size and measures (bulk.py). Without a role, both processes run here; with one, this is
one of them, and the other may be on another host.
"""

import argparse
import fcntl
import ipaddress
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import struct
import sys
import time

try:
    import kvtrans_engine
    import numpy as np
except ImportError as error:
    sys.exit(f"{error}: './quickstart demo' builds what is needed and runs this")

import bulk
from peer import Deadline, Failure, Talk, check, open_engine, register
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
        introduce(engine, options.interface)
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


def introduce(engine, interface):
    try:
        with open("/proc/sys/net/ipv4/tcp_congestion_control") as file:
            control = file.read().strip()
    except OSError:
        control = "unknown"
    heading("1. A prompt changes hands between prefill and decode")
    note = ", which paces loopback, too: all TCP here is slower than it could be"
    say(
        "",
        f"interface {interface}, provider {engine.provider}, {len(os.sched_getaffinity(0))} CPUs, "
        f"TCP congestion control {control}{note if control == 'bbr' else ''}",
    )


# ---- starting them ----


def run_role(role, options, announce=None):
    """Run one role to its end and exit; the parent learns of the outcome by the exit code."""
    try:
        prefill(options, announce) if role == "prefill" else decode(options)
    except (Failure, kvtrans_engine.Error, OSError) as error:
        print(f"{role}: error: {error}", file=sys.stderr, flush=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def run_child(role, options, pipe=None):
    run_role(role, options, pipe.send if pipe else None)


def run_both(options):
    """Both processes on this host. Whatever becomes of them, this one ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    deadline = Deadline(options.timeout)
    host = address_of(options.interface)
    spawn = multiprocessing.get_context("spawn")  # an engine does not survive fork
    ours, theirs = spawn.Pipe(duplex=False)
    options.listen = 0
    children = [spawn.Process(target=run_child, args=("prefill", options, theirs), name="prefill")]
    try:
        children[0].start()
        theirs.close()
        try:
            port = ours.recv() if ours.poll(deadline.left()) else None
        except EOFError:
            port = None  # it died; supervise() tells
        if port:
            options.connect = host, port
            children.append(
                spawn.Process(target=run_child, args=("decode", options), name="decode")
            )
            children[1].start()
        return supervise(children, deadline)
    finally:
        for child in children:
            if child.is_alive():
                child.kill()
                child.join()


def supervise(children, deadline):
    """Wait for all. When one fails the others have 5 s to notice; then the caller ends them."""
    failed = 0
    running = list(children)
    while running:
        ready = multiprocessing.connection.wait([c.sentinel for c in running], deadline.left() + 5)
        if not ready:
            names = " and ".join(child.name for child in running)
            print(f"demo: error: {names} did not end and had to be killed", file=sys.stderr)
            return 1
        for child in [child for child in running if child.sentinel in ready]:
            child.join()
            running.remove(child)
            if child.exitcode < 0:
                name = signal.Signals(-child.exitcode).name
                print(f"demo: error: the {child.name} process died of {name}", file=sys.stderr)
            if child.exitcode and not failed:
                failed = child.exitcode if child.exitcode > 0 else 1
                deadline = Deadline(0)
    return failed


def address_of(interface):
    """The address at which another process of this host reaches an engine on interface."""
    try:
        return str(ipaddress.ip_address(interface))
    except ValueError:
        pass
    request = struct.pack("256s", interface.encode()[:15])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            siocgifaddr = 0x8915
            return socket.inet_ntoa(fcntl.ioctl(probe, siocgifaddr, request)[20:24])
        except OSError:
            raise Failure(
                f"{interface} has no IPv4 address here; run prefill and decode by hand"
            ) from None


def parse_arguments():
    def positive(text):
        if (number := int(text)) < 1:
            raise ValueError
        return number

    def port(text):
        if not 0 <= (number := int(text)) < 65536:
            raise ValueError
        return number

    def host_and_port(text):
        host, _, number = text.rpartition(":")
        if not host:
            raise ValueError
        return host.strip("[]"), port(number)

    parser = argparse.ArgumentParser(
        description="One process computes a KV cache, another generates from it.",
        epilog="Without a role, both run here. decode takes tokens, rounds and seed from prefill.",
    )
    add = parser.add_argument
    add("role", nargs="?", choices=("prefill", "decode"), help="run this side only")
    add("--listen", type=port, default=0, metavar="PORT", help="of prefill; 0 takes a free one (0)")
    add("--connect", type=host_and_port, metavar="HOST:PORT", help="of prefill, for decode")
    add("--interface", default="lo", help="interface, RDMA device or address (lo)")
    add("--provider", help="libfabric provider (the best one for the interface)")
    add("--tokens", type=positive, default=4096, help="tokens in the cache of part 2 (4096)")
    add("--rounds", type=positive, default=5, help="measured in part 2, each way (5)")
    add("--seed", type=positive, default=1, help="of weights and contents (1)")
    add("--timeout", type=positive, default=120, metavar="SECONDS", help="for everything (120)")
    options = parser.parse_args()
    if (options.role == "decode") != (options.connect is not None):
        parser.error("decode needs --connect HOST:PORT, and nothing else takes it")
    return options


def main():
    options = parse_arguments()
    if options.role == "prefill":
        run_role("prefill", options, lambda port: say("prefill", f"listening on port {port}"))
    elif options.role == "decode":
        run_role("decode", options)
    else:
        try:
            sys.exit(run_both(options))
        except Failure as error:
            sys.exit(f"demo: error: {error}")
        except KeyboardInterrupt:
            sys.exit(130)


if __name__ == "__main__":
    main()
