# SPDX-License-Identifier: Apache-2.0
"""Awaiting transfers and notifications in asyncio.

While something in a loop waits, the loop watches a copy of the engine's descriptor, and takes in
what has happened when it becomes readable. Several loops, in several threads, may watch one engine:
whoever takes in a completion tells the loop that waits for it. Nothing is left in a loop when
nothing in it waits, so there is nothing to clean up when it closes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from ._kvtrans import Closed, TransferTimeout

if TYPE_CHECKING:
    from ._kvtrans import Connection, Engine, Notification, Transfer

_T = TypeVar("_T")

# How long a loop looks away when nobody takes the notifications, or the peers, that have come.
_PAUSE = 0.02


class _Watcher:
    """One loop's reader of one engine, for as long as it has users."""

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        self.engine = engine
        self.loop = loop
        self.users = 0
        self.fd = engine._dup_fd()
        self.pause: asyncio.TimerHandle | None = None
        loop.add_reader(self.fd, self._read)

    def _read(self) -> None:
        try:
            must_pause = self.engine._pull()
        except ValueError:  # closed: what waits has been told
            self.loop.remove_reader(self.fd)
            return
        if must_pause:
            self.loop.remove_reader(self.fd)
            self.pause = self.loop.call_later(_PAUSE, self._resume)

    def _resume(self) -> None:
        self.pause = None
        self.loop.add_reader(self.fd, self._read)

    def close(self) -> None:
        if self.pause is not None:
            self.pause.cancel()
        if not self.loop.is_closed():
            self.loop.remove_reader(self.fd)
        os.close(self.fd)


# Of each loop, which only its own thread looks at.
_watchers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Engine, _Watcher]] = (
    WeakKeyDictionary()
)


@contextmanager
def _watch(engine: Engine, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Have the loop take in what happens on the engine."""
    of_loop = _watchers.setdefault(loop, {})
    watcher = of_loop.get(engine)
    if watcher is None:
        watcher = of_loop[engine] = _Watcher(engine, loop)
    watcher.users += 1
    try:
        yield
    finally:
        watcher.users -= 1
        if watcher.users == 0:
            del of_loop[engine]
            watcher.close()


def _call_in(loop: asyncio.AbstractEventLoop, function: Callable[[], Any]) -> None:
    """Call a function in the thread of a loop, soon; a loop that has closed needs it no more."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(function)


async def _wait_for_teller(
    engine: Engine, transfer: Transfer[_T], loop: asyncio.AbstractEventLoop
) -> None:
    future = loop.create_future()

    def finish() -> None:
        if not future.done():
            future.set_result(None)

    def tell(_: Transfer[_T]) -> None:
        if asyncio._get_running_loop() is loop:
            finish()
        else:
            _call_in(loop, finish)

    with _watch(engine, loop):
        transfer.add_done_callback(tell)
        await future


async def _get_result(transfer: Transfer[_T]) -> _T:
    if not transfer.done():
        loop = asyncio.get_running_loop()
        engine = transfer._teller
        try:
            await _wait_for_teller(engine, transfer, loop)
        except asyncio.CancelledError:
            transfer._abandon()
            raise
    return transfer.result()


def await_transfer(transfer: Transfer[_T]) -> Generator[Any, None, _T]:
    """What `await transfer` iterates over. Cancelling the task cancels the transfer, too, even when the
    task was just about to get its result: a connection would be nobody's then."""
    return _get_result(transfer).__await__()


async def iterate_notifications(engine: Engine) -> AsyncIterator[Notification]:
    """Each notification as it comes, to one iterator; ends when the engine is closed."""
    loop = asyncio.get_running_loop()
    has_come = asyncio.Event()

    def tell() -> None:
        _call_in(loop, has_come.set)

    with _watch(engine, loop):
        engine._add_listener(tell)
        try:
            while True:
                has_come.clear()
                note = engine._next_notification()
                if note is not None:
                    yield note
                elif engine.closed:
                    return
                else:
                    await has_come.wait()
        finally:
            engine._remove_listener(tell)


async def accept(engine: Engine, timeout: float | None = None) -> Connection:
    """What accept_async() is. A peer goes to one of those who wait, and to none who was cancelled."""
    loop = asyncio.get_running_loop()
    end = None if timeout is None else loop.time() + timeout
    has_come = asyncio.Event()

    def tell() -> None:
        _call_in(loop, has_come.set)

    with _watch(engine, loop):
        timer = None if timeout is None else loop.call_later(timeout, has_come.set)
        try:
            engine._add_listener(tell)
            while True:
                has_come.clear()
                if engine.closed:
                    raise Closed("the engine was closed meanwhile")
                conn = engine._next_arrival()
                if conn is not None:
                    return conn
                if end is not None and loop.time() >= end:
                    raise TransferTimeout("no peer has connected in time")
                await has_come.wait()
        finally:
            engine._remove_listener(tell)
            if timer is not None:
                timer.cancel()
