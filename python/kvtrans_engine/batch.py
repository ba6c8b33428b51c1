# SPDX-License-Identifier: Apache-2.0
"""Several transfers that end as one: the layers of a request, say."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Generator
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._kvtrans import Connection, Transfer


_LONGEST = 1e9  # seconds; threading takes no more than it can add to the time


class Batch:
    """Transfers of one connection, and one notification once all of them have landed.

        with conn.batch(notify=b"request 7") as batch:
            for layer in range(layers):
                compute(layer)
                batch.write_blocks(pool, local_idx, remote, remote_idx, extents=layer)
        batch.result()

    When the `with` block ends, no more are added; when it ends with an exception, what was started
    is cancelled. The notification is sent by the thread that learns of the last completion: the one
    in result(), or the one that calls engine.reap(), or the event loop. When a transfer failed, the
    peer's notification has its error, and the batch fails with it.
    """

    __module__ = "kvtrans_engine"  # where it is imported from

    def __init__(
        self, conn: Connection, notify: bytes | None = None, timeout: float | None = None
    ) -> None:
        _check_timeout(timeout)
        self.conn = conn
        self.notify = notify
        self.timeout = timeout
        self.transfers: list[Transfer[int]] = []
        self.sealed = False
        self._lock = threading.Lock()
        self._left = 1  # transfers in flight, and one for a batch that is not sealed
        self._finished = threading.Event()
        self._note: Transfer[int] | None = None
        self._error: Exception | None = None  # the notification could not be started

    def add(self, transfer: Transfer[int]) -> Transfer[int]:
        """Add a transfer that was started, and return it."""
        with self._lock:
            if self.sealed:
                raise ValueError("the batch is sealed")
            self.transfers.append(transfer)
            self._left += 1
        transfer.add_done_callback(lambda _: self._count_down())
        return transfer

    def write_blocks(self, *args: Any, **options: Any) -> Transfer[int]:
        """conn.write_blocks(), as a part of the batch."""
        return self.add(self.conn.write_blocks(*args, **options))

    def read_blocks(self, *args: Any, **options: Any) -> Transfer[int]:
        """conn.read_blocks(), as a part of the batch."""
        return self.add(self.conn.read_blocks(*args, **options))

    def write_spans(self, *args: Any, **options: Any) -> Transfer[int]:
        """conn.write_spans(), as a part of the batch."""
        return self.add(self.conn.write_spans(*args, **options))

    def read_spans(self, *args: Any, **options: Any) -> Transfer[int]:
        """conn.read_spans(), as a part of the batch."""
        return self.add(self.conn.read_spans(*args, **options))

    def seal(self) -> None:
        """Add no more: the notification is sent once what was added has landed."""
        with self._lock:
            if self.sealed:
                return
            self.sealed = True
        self._count_down()

    def cancel(self) -> None:
        """Seal the batch and cancel what is in flight."""
        for transfer in self.transfers:
            transfer.cancel()
        self.seal()

    def done(self) -> bool:
        """True once everything has ended, the notification too, with any outcome. Never waits."""
        return self._finished.is_set() and (self._note is None or self._note.done())

    def result(self, timeout: float | None = None) -> int:
        """Seal the batch, wait until everything has ended, and return the bytes moved.

        Raises the first error among the transfers and the notification, or builtin TimeoutError
        when something is still in flight after timeout seconds (None: no limit).
        """
        _check_timeout(timeout)
        self.seal()
        end = None if timeout is None or timeout > _LONGEST else time.monotonic() + timeout

        def left() -> float | None:
            return None if end is None else max(0.0, end - time.monotonic())

        for transfer in self.transfers:
            transfer.exception(left())
        if not self._finished.wait(left()):
            raise TimeoutError("the batch is still in flight")
        if self._note is not None:
            self._note.exception(left())
        return self._get_result()

    def __await__(self) -> Generator[Any, None, int]:
        return self._wait().__await__()

    def __enter__(self) -> Batch:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is None:
            self.seal()
        else:
            self.cancel()

    async def _wait(self) -> int:
        self.seal()
        try:
            for transfer in self.transfers:
                await _end(transfer)
            while not self._finished.is_set():  # another thread is about to set it
                await asyncio.sleep(0)
            if self._note is not None:
                await _end(self._note)
        except asyncio.CancelledError:
            self.cancel()
            raise
        return self._get_result()

    def _count_down(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left > 0:
                return
        failures = [transfer.exception() for transfer in self.transfers]
        failure = next((error for error in failures if error is not None), None)
        if self.notify is not None:
            try:
                self._note = self.conn.notify(self.notify, self.timeout, failure)
            except Exception as error:  # for result(): this may be a callback
                self._error = error
        self._finished.set()

    def _get_result(self) -> int:
        for transfer in self.transfers:
            transfer.result()
        if self._error is not None:
            raise self._error
        if self._note is not None:
            self._note.result()
        return sum(transfer.result() for transfer in self.transfers)


def _check_timeout(timeout: float | None) -> None:
    if timeout is not None and not timeout >= 0:  # NaN, too
        raise ValueError(f"timeout must be 0 or more seconds, not {timeout!r}")


async def _end(transfer: Transfer[int]) -> None:
    """Wait until a transfer has ended, with any outcome."""
    with suppress(Exception):
        await transfer
