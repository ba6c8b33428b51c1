# SPDX-License-Identifier: Apache-2.0
"""Moves KV cache between processes over libfabric.

    engine = kvtrans_engine.Engine("eth0", listen_port=12345)
    ok, conn_id = engine.connect("192.168.1.100", 12345)
    ok, kv_id = engine.reg_kv(conn_id, data)
    ok = engine.send_kv(kv_id, data)
    ok, received = engine.recv_kv(kv_id, max_size=1 << 20)

    conn = engine.open_connection("192.168.1.100", 12345)
    pool = engine.register(cache)
    remote = conn.remote("cache")
    conn.write_blocks(pool, local_idx, remote, remote_idx, notify=b"request 7").result()

docs/python.md is the manual.
"""

import atexit
import os

# Some builds of libfabric load libinfinipath, whose constructor takes over SIGINT and SIGSEGV to
# print backtraces unless it is told not to. It runs when the extension below is loaded.
os.environ.setdefault("IPATH_NO_BACKTRACE", "1")
os.environ.setdefault("HFI_NO_BACKTRACE", "1")

from ._kvtrans import (  # noqa: E402
    AccessError,
    AuthError,
    Cancelled,
    Closed,
    Connection,
    Corrupt,
    Engine,
    Error,
    Forked,
    Notification,
    PeerLost,
    Pool,
    ProtocolError,
    Remote,
    TooLarge,
    Transfer,
    TransferStats,
    TransferTimeout,
    Unreachable,
    Withdrawn,
    __version__,
    live_engines as _live_engines,
)
from .batch import Batch  # noqa: E402

__all__ = [
    "AccessError",
    "AuthError",
    "Batch",
    "Cancelled",
    "Closed",
    "Connection",
    "Corrupt",
    "Engine",
    "Error",
    "Forked",
    "Notification",
    "PeerLost",
    "Pool",
    "ProtocolError",
    "Remote",
    "TooLarge",
    "Transfer",
    "TransferStats",
    "TransferTimeout",
    "Unreachable",
    "Withdrawn",
    "__version__",
]


@atexit.register
def _close_live_engines() -> None:
    """Close what the program left open while the interpreter is whole, so that peers are told."""
    for engine in list(_live_engines):
        engine.close()
