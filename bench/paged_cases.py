# SPDX-License-Identifier: Apache-2.0
"""What compare --paged measures, and the targets that paged transfers are held against."""

# Block bytes and blocks of a transfer, as they are named in tables. S1 to S4 stand for models (S1: Llama-3-70B
# on eight GPUs, S2: Llama-3-8B, S3: DeepSeek-V3, S4: Llama-3-8B with all layers in a page), with about a
# thousand tokens each.
SHAPES = {
    "16K": (16384, 4096),
    "S1": (8192, 5120),
    "64K": (65536, 1024),
    "S2": (32768, 4096),
    "S3": (73728, 976),
    "S4": (2 << 20, 64),
    "1M": (1 << 20, 16),
    "8B": (8, 4096),
    "64B": (64, 1),
    "128K": (131072, 512),
}
SHAPE_NAMES = {"S1", "S2", "S3", "S4"}

LIBRARY = "kvtrans"
SOCKET = "socket"
PYTHON = "python"
PEERS = ("ucx", "nixl", "mooncake")
LABELS = {
    LIBRARY: "kvtrans-perf",
    PYTHON: "kvtrans, Python",
    SOCKET: "gathering socket",
    "fabric": "libfabric",
    "ucx": "UCX",
    "ucx64k": "UCX, 64 KiB segments",
    "ucxown": "UCX, own choice",
    "nixl": "NIXL",
    "mooncake": "Mooncake",
}


class Case:
    """One job for all programs. figure: what counts; higher is better unless it is a time."""

    def __init__(self, shape, op, pattern="random", depth=1, busy=0, extents=1):
        self.shape = shape
        self.block, self.count = SHAPES[shape]
        self.op = op
        self.pattern = pattern
        self.depth = depth
        self.busy = busy  # processes that do nothing but use a core meanwhile
        self.extents = extents  # arrays of the pool
        self.figure = "us_p50" if shape == "64B" else "gb_per_s"
        if shape == "8B":
            self.figure = "blocks_per_s"

    @property
    def key(self):
        parts = [self.shape, self.op]
        parts += [self.pattern] if self.pattern != "random" else []
        parts += [f"depth{self.depth}"] if self.depth > 1 else []
        parts += [f"busy{self.busy}"] if self.busy else []
        parts += [f"extents{self.extents}"] if self.extents > 1 else []
        return "-".join(parts)

    @property
    def title(self):
        name = f"{self.shape} " if self.shape in SHAPE_NAMES else ""
        text = f"{name}{format_bytes(self.block)} x {self.count:,} {self.op}"
        if self.pattern != "random":
            text += f", {'runs of 8' if self.pattern == 'runs' else self.pattern}"
        if self.depth > 1:
            text += f", {self.depth} in flight"
        if self.busy:
            text += f", {self.busy} busy processes"
        if self.extents > 1:
            text += f", in {self.extents} arrays"
        return text

    @property
    def is_ours_alone(self):
        """The other programs have nothing to compare with."""
        return self.busy > 0 or self.extents > 1

    @property
    def unit(self):
        return {"us_p50": "us, less is better", "gb_per_s": "GB/s", "blocks_per_s": "million blocks/s"}[self.figure]

    def scale(self, value):
        return value / 1e6 if self.figure == "blocks_per_s" else value


def format_bytes(count):
    for unit, size in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size and count % size == 0:
            return f"{count // size} {unit}"
    return f"{count} B"


CASES = [
    Case("16K", "write"),
    Case("S1", "write"),
    Case("64K", "write"),
    Case("S2", "write"),
    Case("S3", "write"),
    Case("S4", "write"),
    Case("1M", "write"),
    Case("8B", "write"),
    Case("64B", "write"),
    Case("16K", "read"),
    Case("S1", "read"),
    Case("64K", "read"),
    Case("S2", "read"),
    Case("S3", "read"),
    Case("S4", "read"),
    Case("1M", "read"),
    Case("16K", "write", "runs"),
    Case("S1", "write", "runs"),
    Case("128K", "write"),
    Case("16K", "write", "contiguous"),
    Case("16K", "write", depth=8),
    Case("64K", "write", depth=8),
    Case("16K", "read", depth=8),
    Case("64B", "write", busy=4),
    Case("S1", "write", extents=32),
]


class Target:
    """A bound that the library must keep in a case.

    against "peers": the best of PEERS in the same turn; another program: that one. case_key: the baseline is
    of another case. figure None: the case's own. A bound with against None is on the figure itself.
    """

    def __init__(self, key, against, bound, at_least=True, **options):
        self.key = key
        self.against = against
        self.bound = bound
        self.at_least = at_least
        self.tool = options.get("tool", LIBRARY)
        self.figure = options.get("figure")
        self.other_key = options.get("other_key", key)

    def is_met(self, value):
        return value >= self.bound if self.at_least else value <= self.bound

    def describe(self):
        return f"{'at least' if self.at_least else 'at most'} {self.bound:g}"


PACKED = ("16K-write", "S1-write", "16K-read", "S1-read")
BULK = [case.key for case in CASES if case.figure == "gb_per_s" and case.depth == case.extents == 1]
TARGETS = [
    *(Target(key, "peers", 2.5) for key in PACKED),
    *(Target(key, SOCKET, 0.65) for key in ("16K-write", "S1-write")),
    *(Target(key, "peers", 1.2) for key in ("64K-write", "S2-write")),
    Target("8B-write", "peers", 100),
    Target("16K-write-runs", LIBRARY, 0.9, other_key="128K-write"),
    Target("S1-write-runs", LIBRARY, 0.9, other_key="64K-write"),
    *(Target(key, SOCKET, 1.5, False, figure="cpu_s_per_gib") for key in BULK),
    *(Target(key, LIBRARY, 0.97, tool=PYTHON) for key in BULK),
    Target("64B-write-busy4", None, 1000, False),
    Target("S1-write-extents32", None, 200, False, figure="submit_us_p50"),
]
