# SPDX-License-Identifier: Apache-2.0
"""One thread that connects, accepts and serves: an event loop of selectors over two engines.

Nothing in it waits but select(). The peers ask for a square by a notification, and get it by one.
Both sides are in one process here; nothing changes when they are two, who then need the address.

    python3 examples/one_thread.py [interface]
"""

import selectors
import sys
import time

import kvtrans_engine

PEERS, SECONDS = 8, 30


class Server:
    """Takes peers as they come, and answers them."""

    def __init__(self, engine):
        self.engine, self.peers = engine, []

    def on_ready(self):
        for conn in self.engine.accepted():
            self.peers.append(conn)
            conn.on_lost(self.peers.remove)
        for note in self.engine.notifications():
            note.conn.notify(str(int(note.data) ** 2).encode()).detach()
        self.engine.reap()


class Client:
    """Calls the server many times at once, and asks on each connection that comes about."""

    def __init__(self, engine, address):
        self.engine, self.numbers, self.answers = engine, {}, {}
        self.calls = [engine.connect_async(address, timeout=SECONDS) for _ in range(PEERS)]
        for call in self.calls:
            call.add_done_callback(self.ask)

    def ask(self, call):
        conn = call.result()  # raises what the call has failed with
        self.numbers[conn] = len(self.numbers)
        conn.notify(str(self.numbers[conn]).encode()).detach()

    def on_ready(self):
        self.engine.reap()  # runs ask() for the calls that have ended
        for note in self.engine.notifications():
            self.answers[self.numbers[note.conn]] = int(note.data)


def main(interface):
    with (
        kvtrans_engine.Engine(interface, accept_events=True, identity=b"squares") as serving,
        kvtrans_engine.Engine(interface) as calling,
        selectors.DefaultSelector() as selector,
    ):
        server, client = Server(serving), Client(calling, serving.address)
        selector.register(serving, selectors.EVENT_READ, server.on_ready)
        selector.register(calling, selectors.EVENT_READ, client.on_ready)
        end = time.monotonic() + SECONDS
        while len(client.answers) < PEERS and time.monotonic() < end:
            for key, _ in selector.select(1):
                key.data()
        if client.answers != {number: number**2 for number in range(PEERS)}:
            sys.exit(f"these are no squares: {client.answers}")
        names = {conn.peer_identity.decode() for conn in client.numbers}
        print(f"{len(server.peers)} peers of {', '.join(names)} were answered by one thread")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "lo")
