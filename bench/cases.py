# SPDX-License-Identifier: Apache-2.0
"""What compare measures, with whom, and the targets that KVTrans is held against."""

import dataclasses

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
    "16M": (16 << 20, 1),
    "64M": (64 << 20, 1),
    "8B": (8, 4096),
    "64B": (64, 1),
    "64Kx1": (65536, 1),
    "64Kx64": (65536, 64),
    "128K": (131072, 512),
}
# Messages: bytes, and slots of the pool.
MESSAGES = {"64B": (64, 4096), "4K": (4096, 4096), "1M": (1 << 20, 64), "16M": (16 << 20, 8), "64M": (64 << 20, 4)}


@dataclasses.dataclass(frozen=True)
class Program:
    """What moves the data: the name in tables, the colour in plots, and how it is called."""

    label: str
    colour: str  # of those that stay apart in print and for colour-blind eyes (Okabe and Ito)
    tool: str
    options: tuple = ()
    module: str = ""  # that its Python must have
    environment: tuple = ()


KVTRANS, SPIN, PYTHON, SOCKET = "kvtrans", "kvtrans-spin", "python", "socket"
CHECKSUM = "kvtrans-checksum"
PEERS = ("ucx", "nixl", "mooncake")
RIVALS = (*PEERS, "ucxown", "nixlown")
MAPPED, VM, TCP = "mapped", "vm", "kvtrans-tcp"  # one host: the limits, and what it was before
FABRIC, FABRIC_SPIN, FABRIC_BATCH = "libfabric", "libfabric-spin", "libfabric-batch"
SEGMENTS = ("UCX_TCP_TX_SEG_SIZE=64k", "UCX_TCP_RX_SEG_SIZE=64k")
PROGRAMS = {
    KVTRANS: Program("KVTrans", "#000000", "kvtrans-perf"),
    SPIN: Program("KVTrans, spinning", "#555555", "kvtrans-perf", ("--spin=1000",)),
    CHECKSUM: Program("KVTrans, checksums", "#777777", "kvtrans-perf", ("--checksum",)),
    PYTHON: Program("KVTrans, Python", "#999999", "peers.py", ("--path=kvtrans",), "kvtrans_engine"),
    SOCKET: Program("socket", "#56B4E9", "raw", ("--path=socket",)),
    # It sleeps between completions where there is much to move: polling was slower on two cores.
    FABRIC: Program("libfabric", "#009E73", "raw", ("--path=libfabric",)),
    FABRIC_SPIN: Program("libfabric, spinning", "#66C5AB", "raw", ("--path=libfabric", "--spin=1000")),
    FABRIC_BATCH: Program("libfabric, one completion", "#00664B", "raw", ("--path=libfabric-batch",)),
    "ucx": Program("UCX", "#E69F00", "raw", ("--path=ucx",)),
    "ucx64k": Program("UCX, 64 KiB segments", "#F0C36B", "raw", ("--path=ucx",), environment=SEGMENTS),
    "ucxown": Program("UCX, own choice", "#D9B38C", "raw", ("--path=ucx", "--provider=default")),
    MAPPED: Program("mapped copy", "#56B4E9", "raw", ("--path=mapped",)),
    VM: Program("process_vm_readv", "#009E73", "raw", ("--path=vm",)),
    TCP: Program("KVTrans, tcp", "#999999", "kvtrans-perf", ("--provider=tcp",)),
    "nixlown": Program("NIXL, own choice", "#D55E00", "peers.py", ("--path=nixl",), "nixl._api", ("UCX_TLS=all",)),
    "nixl": Program("NIXL", "#D55E00", "peers.py", ("--path=nixl",), "nixl._api"),
    "mooncake": Program("Mooncake", "#CC79A7", "peers.py", ("--path=mooncake",), "mooncake.engine"),
}
LABELS = {name: program.label for name, program in PROGRAMS.items()}
UNITS = {
    "us_p50": ("us, less is better", 1),
    "gb_per_s": ("GB/s", 1),
    "blocks_per_s": ("million blocks/s", 1e-6),
    "messages_per_s": ("million messages/s", 1e-6),
    "cpu_percent": ("% of a core", 1),
}
ALL = (KVTRANS, CHECKSUM, SOCKET, FABRIC, *PEERS, "ucx64k", "ucxown", PYTHON)
QUICK = (KVTRANS, SPIN, SOCKET, FABRIC_SPIN, *PEERS)
BIG = (*ALL, FABRIC_BATCH)
OURS = (KVTRANS,)


@dataclasses.dataclass(frozen=True)
class Case:
    """One job for all programs. figure: what counts; higher is better unless it is a time."""

    key: str
    title: str
    figure: str
    options: tuple
    programs: tuple
    busy: int = 0  # processes that do nothing but use a core meanwhile

    @property
    def is_checked_apart(self):
        """Filling and comparing messages counts, so it is done in a run of its own."""
        return "--op=send" in self.options or "--latency" in self.options


@dataclasses.dataclass(frozen=True)
class Target:
    """A bound that a program must keep in a case.

    against None: the bound is on the figure itself; "peers": the ratio to the best of RIVALS; a program: to that one,
    of other_key if that is named. figure None: the case's own. difference: not a ratio.
    """

    key: str
    against: str | None
    bound: float
    at_least: bool = True
    tool: str = KVTRANS
    figure: str | None = None
    other_key: str | None = None
    difference: bool = False

    def is_met(self, value):
        return value >= self.bound if self.at_least else value <= self.bound

    def describe(self):
        return f"{'at least' if self.at_least else 'at most'} {self.bound:g}"


def format_bytes(count):
    for unit, size in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size and count % size == 0:
            return f"{count // size} {unit}"
    return f"{count} B"


def paged(shape, op, pattern="random", depth=1, programs=None, **extra):
    """Transfers of blocks. extra: busy, extents, plain, allocate."""
    block, count = SHAPES[shape]
    key, text = f"{shape}-{op}", f"{format_bytes(block)} x {count:,} {op}"
    text = f"{shape} {text}" if shape in ("S1", "S2", "S3", "S4") else text
    options = [f"--op={op}", f"--block={block}", f"--count={count}", f"--pattern={pattern}", "--verify"]
    options += [f"--depth={depth}"]
    if pattern != "random":
        key, text = f"{key}-{pattern}", f"{text}, {'runs of 8' if pattern == 'runs' else pattern}"
    if depth > 1:
        key, text = f"{key}-depth{depth}", f"{text}, {depth} in flight"
    for name, words in (("busy", "busy processes"), ("extents", "arrays")):
        if name in extra:
            key, text = f"{key}-{name}{extra[name]}", f"{text}, {extra[name]} {words}"
    if extra.get("plain"):
        key, text, options = f"{key}-plain", f"{text}, not notified", [*options, "--plain"]
    if extra.get("allocate"):
        who = extra["allocate"]
        key, text, options = f"{key}-{who}", f"{text}, {who} allocated", [*options, f"--allocate={who}"]
    options += [f"--extents={extra['extents']}"] if "extents" in extra else []
    figure = {"64B": "us_p50", "64Kx1": "us_p50", "8B": "blocks_per_s"}.get(shape, "gb_per_s")
    ours = OURS if "busy" in extra or "extents" in extra else ALL
    return Case(key, text, figure, tuple(options), programs or ours, extra.get("busy", 0))


def messages(size, figure="gb_per_s", depth=4, programs=(KVTRANS, CHECKSUM, SOCKET, FABRIC, "ucx")):
    block, count = MESSAGES[size]
    options = ("--op=send", f"--block={block}", f"--count={count}", f"--depth={depth}")
    key = f"{size}-send" + ("" if depth == 4 else f"-depth{depth}")
    return Case(key, f"{format_bytes(block)} sends, {depth} in flight", figure, options, programs)


CASES = [
    Case(
        "64B-pingpong",
        "64 B, one way, two-sided",
        "us_p50",
        ("--latency", "--block=64"),
        (KVTRANS, CHECKSUM, SPIN, SOCKET, FABRIC, FABRIC_SPIN, "ucx"),
    ),
    paged("64B", "write", programs=QUICK),
    paged("64B", "write", programs=(KVTRANS, SPIN), plain=True),
    paged("64B", "write", busy=4),
    paged("64Kx1", "write", programs=QUICK),
    paged("64Kx1", "write", programs=(KVTRANS, SPIN), plain=True),
    *(messages("64B", "messages_per_s", depth=depth) for depth in (16, 256)),
    *(messages("4K", depth=depth) for depth in (16, 64)),
    messages("1M"),
    messages("16M"),
    messages("64M"),
    *(messages(size, depth=1, programs=(KVTRANS, PYTHON)) for size in ("1M", "16M", "64M")),
    *(paged(shape, "write", programs=BIG) for shape in ("16K", "S1", "64K", "S2", "S3", "S4", "1M")),
    *(paged(shape, "write", depth=4, programs=(KVTRANS, FABRIC)) for shape in ("16M", "64M")),
    paged("8B", "write"),
    *(paged(shape, "read", programs=BIG) for shape in ("16K", "S1", "64K", "S2", "S3", "S4", "1M")),
    paged("16K", "write", "runs"),
    paged("S1", "write", "runs"),
    paged("128K", "write"),
    paged("16K", "write", "contiguous"),
    *(paged(shape, op, depth=8) for shape, op in (("16K", "write"), ("64K", "write"), ("16K", "read"))),
    paged("S1", "write", extents=32),
    Case("connect", "connect", "us_p50", ("--connect", "--count=50"), OURS),
    Case("idle", "an idle connection", "cpu_percent", ("--idle", "--seconds=5"), OURS),
]
# Where small transfers and machines are slow: a virtual machine with Soft-RoCE.
VERBS_CASES = [
    Case("64B-pingpong", "64 B, one way", "us_p50", CASES[0].options, (KVTRANS, FABRIC)),
    messages("1M", programs=(KVTRANS,)),
    *(paged(shape, op, programs=(KVTRANS, FABRIC)) for shape in ("64Kx64", "1M") for op in ("write", "read")),
]
# Two processes of one host: --local.
BLOCKS = ("S1", "16K", "64K", "1M", "S3")
LOCAL_CASES = [
    Case("64B-pingpong", "64 B, one way, two-sided", "us_p50", CASES[0].options, (KVTRANS, SPIN, TCP, "ucxown")),
    paged("64B", "write", programs=(KVTRANS, SPIN, TCP, MAPPED, "ucxown", "nixlown"), plain=True, allocate="both"),
    messages("64B", "messages_per_s", depth=256, programs=(KVTRANS, SPIN, TCP, "ucxown")),
    paged("8B", "write", programs=(KVTRANS, TCP, MAPPED, "ucxown", "nixlown"), allocate="both"),
    *(
        paged(shape, op, programs=(KVTRANS, TCP, MAPPED, "ucxown", "nixlown", PYTHON), allocate="both")
        for shape in BLOCKS
        for op in ("write", "read")
    ),
    *(
        paged(shape, op, programs=(KVTRANS, TCP, VM, "ucxown", "nixlown"))
        for shape in BLOCKS
        for op in ("write", "read")
    ),
    *(
        paged(shape, "write", programs=(KVTRANS, VM), allocate=side)
        for shape in ("S1", "64K", "1M")
        for side in ("client", "server")
    ),
    *(case for case in CASES if case.key in ("connect", "idle")),
]

PACKED = ("16K-write", "S1-write", "16K-read", "S1-read")
BULK = [case.key for case in CASES if PYTHON in case.programs and case.figure == "gb_per_s" and "depth" not in case.key]
TARGETS = [
    # A small operation, issue 9.
    Target("64B-write", None, 25, False),
    Target("64B-write", FABRIC_SPIN, 1.3, False, tool=SPIN),
    Target("64B-pingpong", FABRIC_SPIN, 1.2, False, tool=SPIN),
    Target("64B-pingpong", FABRIC, 1.5, False),
    Target("64B-write-busy4", None, 1000, False),
    Target("64B-write", "peers", 1, False, figure="cpu_s_per_gib"),
    Target("64Kx1-write", None, 45, False),
    *(
        Target(f"{shape}-write", KVTRANS, 10, False, other_key=f"{shape}-write-plain", difference=True)
        for shape in ("64B", "64Kx1")
    ),
    *(Target(f"64B-send-depth{depth}", None, 1e6) for depth in (16, 256)),
    *(Target(f"4K-send-depth{depth}", FABRIC, 1) for depth in (16, 64)),
    # Large ones, also when the machine is quick, issue 9.
    Target("64K-write", SOCKET, 0.9),
    *(Target(key, SOCKET, 0.92) for key in ("16K-write", "S1-write")),
    *(Target(f"1M-{op}", FABRIC_BATCH, 0.97) for op in ("write", "read")),
    Target("16M-send", FABRIC, 0.95, other_key="16M-write-depth4"),
    Target("16M-write-depth4", FABRIC, 0.97),
    # Messages and connections, as DESIGN has them.
    Target("64M-send", FABRIC, 0.95, other_key="64M-write-depth4"),
    *(Target(f"{size}-send", SOCKET, 0.8) for size in ("16M", "64M")),
    *(Target(f"{size}-send-depth1", KVTRANS, 0.95, tool=PYTHON) for size in ("1M", "16M", "64M")),
    Target("connect", None, 10_000, False),
    Target("idle", None, 0.5, False),
    # Paged transfers, issue 4.
    *(Target(key, "peers", 2.5) for key in PACKED),
    *(Target(key, "peers", 1.2) for key in ("64K-write", "S2-write")),
    Target("8B-write", "peers", 100),
    Target("16K-write-runs", KVTRANS, 0.9, other_key="128K-write"),
    Target("S1-write-runs", KVTRANS, 0.9, other_key="64K-write"),
    *(Target(key, SOCKET, 1.5, False, figure="cpu_s_per_gib") for key in BULK),
    *(Target(key, KVTRANS, 0.97, tool=PYTHON) for key in BULK),
    Target("S1-write-extents32", None, 200, False, figure="submit_us_p50"),
]
VERBS_TARGETS = [
    Target("64B-pingpong", FABRIC, 1.5, False),
    Target("1M-send", FABRIC, 0.95, other_key="1M-write"),
    *(Target(f"{shape}-{op}", FABRIC, 0.95) for shape in ("64Kx64", "1M") for op in ("write", "read")),
]
# One host, issue 13.
LOCAL_TARGETS = [
    Target("64B-pingpong", None, 0.5, False, tool=SPIN),
    Target("64B-write-plain-both", None, 1, False, tool=SPIN),
    Target("64B-write-plain-both", TCP, 0.7, False),
    Target("64B-send-depth256", None, 5e6, tool=SPIN),
    Target("8B-write-both", None, 1e8),
    *(
        target
        for shape, bound in zip(BLOCKS, (0.7, 0.8, 0.85, 0.85, 0.85))
        for op in ("write", "read")
        for target in (
            Target(f"{shape}-{op}-both", MAPPED, bound),
            Target(f"{shape}-{op}-both", "peers", 1.2),
            Target(f"{shape}-{op}-both", KVTRANS, 0.95, tool=PYTHON),
            Target(f"{shape}-{op}-both", TCP, 0.6, False, figure="cpu_s_per_gib"),
            Target(f"{shape}-{op}", *(("peers", 1.5) if shape in ("S1", "16K") else (VM, 1))),
        )
    ),
    *(Target(f"{shape}-write-{side}", VM, 1.2) for shape in ("S1", "64K", "1M") for side in ("client", "server")),
    Target("connect", None, 5000, False),
    Target("idle", None, 0.1, False),
]
