# SPDX-License-Identifier: Apache-2.0
"""What both parts of the demo need: an engine, a deadline, and small messages beside the cache."""

import json
import time

import kvtrans_engine
import numpy as np

MESSAGE_BYTES = 4096


class Failure(Exception):
    """Something the user should read, without a traceback."""


class Deadline:
    """One time limit for everything: each wait gets what is left of it."""

    def __init__(self, seconds):
        self.end = time.monotonic() + seconds

    def left(self):
        return max(0.001, self.end - time.monotonic())


def open_engine(options, listen_port=0):
    try:
        return kvtrans_engine.Engine(
            options.interface, provider=options.provider, listen_port=listen_port
        )
    except ValueError as error:
        raise Failure(error) from None


def check(engine, ok, action):
    """The classic calls return False when they fail; engine.last_error then says why."""
    if not ok:
        raise Failure(f"{action}: {engine.last_error}")


def register(engine, conn_id, arrays):
    """Register each array as a KV. The n-th KV of this side of a connection meets the n-th of the
    other, so both sides must register in the same order."""
    kv_ids = []
    for array in arrays:
        ok, kv_id = engine.reg_kv(conn_id, array)
        check(engine, ok, "cannot register an array")
        kv_ids.append(kv_id)
    return kv_ids


class Talk:
    """Small messages in both directions, as JSON over a KV of their own."""

    def __init__(self, engine, conn_id, deadline):
        self.engine = engine
        self.deadline = deadline
        (self.kv_id,) = register(engine, conn_id, [np.zeros(MESSAGE_BYTES, np.uint8)])

    def tell(self, **message):
        data = np.frombuffer(json.dumps(message).encode(), np.uint8)
        ok = self.engine.send_kv(self.kv_id, data, timeout=self.deadline.left())
        check(self.engine, ok, "cannot send a message")

    def hear(self):
        ok, data = self.engine.recv_kv(
            self.kv_id, max_size=MESSAGE_BYTES, timeout=self.deadline.left()
        )
        check(self.engine, ok, "no message came")
        return json.loads(data.tobytes())
