# SPDX-License-Identifier: Apache-2.0
"""The benchmark programs move what they say and see wrong bytes, and compare and scale print what was found."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys

import pytest
from conftest import HOST, INTERFACE, PROVIDER

BENCH = pathlib.Path(os.environ["KVT_SRCDIR"], "bench")
PROGRAMS = pathlib.Path(os.environ["KVT_BUILDDIR"], "bench")
SHORT = ("--json", "--verify", "--seconds=0.05", "--warmup=0")
PAGED = ("--block=1000", "--count=160", "--depth=3")
RAW = {
    "socket": [],
    "libfabric": [f"--provider={PROVIDER or 'tcp'}", f"--interface={HOST}"],
    "libfabric-batch": [f"--provider={PROVIDER or 'tcp'}", f"--interface={HOST}"],
    "ucx": ["--spin=1"],
    "mapped": ["--allocate=both"],
    "vm": [],
}
LIMITS = ("mapped", "vm")  # which have no messages


def run(program, *options):
    done = subprocess.run(
        [PROGRAMS / program, *options], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def run_raw(path, *options):
    if path == "ucx" and b"ucp_init" not in (PROGRAMS / "raw").read_bytes():
        pytest.skip("configure did not find UCX")
    return run("raw", f"--path={path}", *SHORT, *RAW[path], *options)


@pytest.mark.parametrize("pattern", ["contiguous", "runs", "random"])
@pytest.mark.parametrize("op", ["write", "read"])
@pytest.mark.parametrize("path", RAW)
def test_baselines_move_every_byte_of_paged_transfers(path, op, pattern):
    told = run_raw(path, *PAGED, f"--op={op}", f"--pattern={pattern}")
    assert told["verified"] and told["op"] == op and told["pattern"] == pattern
    assert told["messages"] == told["transfers"] * 160
    assert (told["notified_us_p50"] is None) == (op == "read")


@pytest.mark.parametrize("job", [("--latency",), ("--op=send", "--block=1000", "--count=32", "--depth=8")])
@pytest.mark.parametrize("path", [path for path in RAW if path not in LIMITS])
def test_baselines_move_every_byte_of_messages(path, job):
    told = run_raw(path, *job)
    assert told["verified"] and told["messages"] > 0 and told["us_p50"] > 0


@pytest.mark.parametrize("provider", ["local", "tcp"])
@pytest.mark.parametrize("side", ["client", "server", "both"])
@pytest.mark.parametrize("op", ["write", "read"])
def test_memory_of_the_engine_is_moved_as_any_other(op, side, provider):
    options = ("--self", f"--provider={provider}", f"--op={op}", f"--allocate={side}", *PAGED, *SHORT)
    assert run("kvtrans-perf", *options)["verified"]


@pytest.mark.parametrize(
    "wrong", [("--path=vm", "--op=send"), ("--path=mapped", "--op=write"), ("--path=ucx", "--allocate=both")]
)
def test_baselines_refuse_what_they_have_not(wrong):
    done = subprocess.run([PROGRAMS / "raw", *wrong], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (1, 2) and "--" in done.stderr


@pytest.mark.parametrize("op", ["write", "read"])
def test_one_completion_is_enough_for_a_transfer_of_libfabric(op):
    assert run_raw("libfabric-batch", f"--op={op}", "--block=64K", "--count=16")["verified"]


def run_peers(*options):
    done = subprocess.run(
        [sys.executable, BENCH / "peers.py", "--path=kvtrans", *SHORT, *options],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(bool(PROVIDER), reason="peers.py measures over tcp on the loopback")
@pytest.mark.parametrize("op", ["write", "read"])
def test_the_adapter_moves_every_byte_of_paged_transfers(op):
    told = run_peers(*PAGED, f"--op={op}")
    assert told["verified"] and told["op"] == op and told["messages"] == told["transfers"] * 160


@pytest.mark.skipif(bool(PROVIDER), reason="peers.py measures over tcp on the loopback")
def test_the_adapter_moves_every_byte_of_messages():
    told = run_peers("--op=send", "--block=1000", "--count=32")
    assert told["verified"] and told["messages"] > 0


@pytest.fixture
def bench_modules(monkeypatch):
    """Modules of bench/ can be imported."""
    monkeypatch.syspath_prepend(str(BENCH))


def test_the_adapter_sees_a_wrong_byte(bench_modules):
    import peers

    sys.argv = ["peers.py", "--path=nixl", "--block=100", "--count=10"]
    pool = peers.Pool(peers.parse_arguments(), 1)
    pool.prepare(True)
    assert pool.count_wrong() == 0
    pool.array[7, 99] ^= 1
    assert pool.count_wrong() == 1
    pool.prepare(False)
    assert pool.count_wrong() == pool.count


PERF = ("--self", f"--interface={INTERFACE}", *([f"--provider={PROVIDER}"] if PROVIDER else []))


@pytest.mark.parametrize("pattern", ["contiguous", "runs", "random"])
@pytest.mark.parametrize("op", ["write", "read"])
def test_kvtrans_perf_moves_every_byte_of_paged_transfers(op, pattern):
    job = (f"--op={op}", f"--pattern={pattern}", "--extents=5")
    told = run("kvtrans-perf", *SHORT, *PAGED, *PERF, *job)
    assert told["verified"] and told["op"] == op and told["pattern"] == pattern
    assert told["messages"] == told["transfers"] * 160
    assert 0 < told["submit_us_p50"] <= told["us_p50"] and told["notified_us_p50"] > 0


JOBS = {
    "send": ("--block=64K", "--count=16"),
    "latency": ("--latency",),
    "write": ("--op=write", "--shape=S1", "--verify"),
    "read": ("--op=read", "--block=1000", "--count=160"),
    "notify": ("--op=notify",),
    "connect": ("--connect", "--count=20"),
}
NUMBER = r"(\d+(?:\.\d+)?)"


@pytest.mark.parametrize("job", JOBS)
def test_kvtrans_perf_speaks_to_people_in_three_digits_and_words(job):
    time = [] if job == "connect" else ["--seconds=0.05", "--warmup=0"]
    command = [PROGRAMS / "kvtrans-perf", *PERF, *JOBS[job], *time]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    title, *lines = done.stdout.splitlines()
    assert title.startswith("kvtrans-perf: ") and lines
    told = {line[:23].strip(): line[23:] for line in lines}
    for label, text in told.items():
        if label in ("message", "block", "blocks a transfer", "in flight", "pattern"):
            continue
        for number in re.findall(NUMBER, text):
            assert len(number.replace(".", "").strip("0") or "0") <= 3, (label, text)
        if re.search("time|median|99 %|CPU, both", label):
            assert re.fullmatch(rf"{NUMBER} (ns|us|ms|s)( a GiB)?", text), (label, text)
    if job in ("send", "write", "read"):
        assert re.match(rf"{NUMBER} [kMG]?B/s", told["rate"])
    if job in ("write", "read"):
        assert re.fullmatch(rf"{NUMBER}( thousand| million)?", told["blocks a second"])
    if job == "write":
        assert told["block"] == "8 KiB" and told["blocks a transfer"] == "5120"


# Whatever came in one call and is so long that it must be data has a wrong byte.
CORRUPT = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/socket.h>
#include <sys/uio.h>
#define CORRUPT(call, base, ...) \\
	static ssize_t (*real)(); \\
	if (!real) \\
		real = (ssize_t(*)())dlsym(RTLD_NEXT, call); \\
	ssize_t n = real(__VA_ARGS__); \\
	if (n > 60000) \\
		((char *)(base))[5] ^= 1; \\
	return n
ssize_t recvmsg(int fd, struct msghdr *m, int flags) { CORRUPT("recvmsg", m->msg_iov->iov_base, fd, m, flags); }
ssize_t readv(int fd, const struct iovec *v, int count) { CORRUPT("readv", v->iov_base, fd, v, count); }
ssize_t recv(int fd, void *base, size_t len, int flags) { CORRUPT("recv", base, fd, base, len, flags); }
"""


@pytest.fixture(scope="module")
def corruption(tmp_path_factory):
    """A library that changes what comes from sockets."""
    if not shutil.which("cc"):
        pytest.skip("no cc")
    folder = tmp_path_factory.mktemp("corruption")
    (folder / "corrupt.c").write_text(CORRUPT)
    command = ["cc", "-std=gnu11", "-shared", "-fPIC", "-o", folder / "corrupt.so", folder / "corrupt.c", "-ldl"]
    subprocess.run(command, check=True, timeout=60)
    return folder / "corrupt.so"


@pytest.mark.skipif(PROVIDER not in (None, "", "tcp"), reason="only what comes from sockets can be changed")
@pytest.mark.parametrize("job", [("--op=send",), ("--op=write",), ("--op=read",), ("--latency", "--block=1M")])
@pytest.mark.parametrize("program", ["kvtrans-perf", "socket", "libfabric"])
def test_a_byte_that_changes_on_its_way_is_seen(corruption, program, job):
    command = ["kvtrans-perf", *PERF] if program == "kvtrans-perf" else ["raw", f"--path={program}", *RAW[program]]
    size = () if job[0] == "--latency" else ("--block=1M", "--count=8")
    done = subprocess.run(
        [PROGRAMS / command[0], *command[1:], *SHORT, *job, *size],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        # Found by its name: the loader takes a blank in a path for its end.
        env={**os.environ, "LD_PRELOAD": corruption.name, "LD_LIBRARY_PATH": str(corruption.parent)},
    )
    if "ASan runtime" in done.stderr:
        pytest.skip("ASan wants to be the first library")
    # What frames the data may be hit, too; a stream has nothing but data.
    assert done.returncode in ((3,) if program == "socket" else (1, 3)), done.stderr
    assert done.returncode == 1 or "wrong bytes" in done.stderr


@pytest.fixture
def server():
    """A server of kvtrans-perf, and its port, which no other run of the tests has at the same time."""
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    command = [PROGRAMS / "kvtrans-perf", *PERF[1:], f"--port={port}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        line = process.stderr.readline()
        assert f"port {port}, provider" in line, line
        yield process, port
        process.kill()


def test_a_server_serves_one_client_after_another_and_outlives_those_that_fail(server):
    """It goes on after those that are killed in the middle, and ends at Ctrl-C."""
    process, port = server
    client = [PROGRAMS / "kvtrans-perf", *PERF[1:], f"--port={port}", "--json", HOST]
    for job in ("--op=write", "--connect", "--latency"):
        done = subprocess.run(
            [*client, "--seconds=0.05", "--warmup=0", job, "--count=5"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        with subprocess.Popen([*client, "--seconds=60"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as left:
            with socket.create_connection((HOST, port), timeout=10):
                pass
            left.kill()
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0


def test_kvtrans_perf_measures_notifications_alone():
    told = run("kvtrans-perf", *PERF, "--json", "--op=notify", "--seconds=0.05", "--block=100")
    assert told["op"] == "notify" and told["block_bytes"] == 100 and told["transfers"] > 0
    assert 0 < told["notified_us_p50"] <= told["notified_us_p99"]


@pytest.mark.parametrize("op", ["write", "read"])
def test_kvtrans_perf_moves_every_byte_without_notifications(op):
    told = run("kvtrans-perf", *SHORT, *PAGED, *PERF, f"--op={op}", "--plain")
    assert told["verified"] and told["transfers"] > 0 and told["notified_us_p50"] is None


@pytest.mark.parametrize(
    "job",
    [
        ("--op=write", "--block=64", "--count=1", "--depth=3000"),
        ("--op=send", "--block=64", "--count=3000", "--depth=3000"),
        ("--op=notify", "--depth=3000"),
    ],
)
def test_kvtrans_perf_has_thousands_in_flight(job):
    told = run("kvtrans-perf", *SHORT, *PERF, *job)
    assert told["depth"] == 3000 and told["messages"] >= 6000 and told["memory_bytes"] > 0
    assert told["verified"] == ("--op=notify" not in job)


@pytest.mark.parametrize("job", [("--latency",), ("--op=write", *PAGED), ("--connect", "--count=5"), ("--idle",)])
def test_kvtrans_perf_measures_beside_idle_connections(job):
    told = run("kvtrans-perf", *SHORT, *PERF, *job, "--beside=20")
    assert told["beside"] == 20 and told["beside_bytes"] > 0
    assert told["mode"] == "idle" or told["us_p50"] > 0


def test_kvtrans_perf_measures_beside_a_peer_that_stopped():
    told = run("kvtrans-perf", *SHORT, *PERF, "--latency", "--stopped=10000")
    assert 0 < told["us_p50"] <= told["us_p99"]


def test_kvtrans_perf_knows_the_shapes_of_models():
    told = run("kvtrans-perf", *PERF, "--json", "--op=write", "--shape=S3", "--seconds=0.05", "--warmup=0")
    assert (told["block_bytes"], told["count"], told["pattern"]) == (73728, 976, "random")


def test_kvtrans_perf_measures_connecting_though_some_end_before_they_are_accepted():
    told = run("kvtrans-perf", *PERF, "--json", "--connect", "--count=1000", "--timeout=60")
    assert told["mode"] == "connect" and told["messages"] == 1000
    assert 0 < told["us_p50"] <= told["us_p99"]


@pytest.mark.parametrize(
    "wrong",
    [
        ("--op=move",),
        ("--op=write", "--shape=S9"),
        ("--op=write", "--count=100", "--extents=3"),
        ("--op=write", "--latency"),
        ("--op=notify", "--block=5"),
        ("--op=send", "--plain"),
        ("--idle", "--beside=5000"),
        ("--op=write", "--block=8", "--count=1000000", "--depth=1000"),
    ],
)
def test_kvtrans_perf_refuses_wrong_use(wrong):
    done = subprocess.run([PROGRAMS / "kvtrans-perf", "--self", *wrong], capture_output=True, check=False)
    assert done.returncode == 2 and done.stderr


def test_compare_judges_within_turns_and_says_what_is_not_there(tmp_path):
    lines = [{"program": "nixl", "failed": "No module named 'nixl'"}]
    for turn in range(3):
        for program, rate in {"kvtrans": 3.0, "ucx": 1.0, "socket": 4.0}.items():
            record = {"case": "16K-write", "turn": turn, "program": program, "memcpy_gb_per_s": 5.0 + turn}
            lines.append({**record, "gb_per_s": rate * (0.9 + 0.1 * turn)})
    (tmp_path / "out").write_text("\n".join(map(json.dumps, lines)))
    done = subprocess.run(
        [sys.executable, BENCH / "compare", "--from", tmp_path / "out"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "- NIXL: No module named 'nixl'" in done.stdout
    rows = {re.sub(" +", " ", row) for row in done.stdout.splitlines()}
    title = "| 16 KiB x 4,096 write"
    assert f"{title} / UCX | 3 (3 to 3, 3 turns) | 3 | at least 2.5 | met |" in rows
    assert f"{title} / socket | 0.75 (0.75 to 0.75, 3 turns) | 0.75 | at least 0.92 | MISSED |" in rows


def test_compare_holds_one_host_against_its_limits(tmp_path):
    lines = [
        {"program": program, "case": "16K-write-both", "turn": turn, "gb_per_s": rate}
        for turn in range(3)
        for program, rate in {"kvtrans": 8.0, "mapped": 10.0, "ucxown": 6.0, "nixlown": 2.0}.items()
    ]
    (tmp_path / "out").write_text("\n".join(map(json.dumps, lines)))
    command = [sys.executable, BENCH / "compare", "--local", "--from", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {re.sub(" +", " ", row) for row in done.stdout.splitlines()}
    title = "| 16 KiB x 4,096 write, both allocated"
    assert f"{title} / mapped copy | 0.8 (0.8 to 0.8, 3 turns) | | at least 0.8 | met |" in rows
    assert f"{title} / UCX, own choice | 1.33 (1.33 to 1.33, 3 turns) | | at least 1.2 | met |" in rows


def test_scale_holds_its_bounds(tmp_path):
    lines = []
    for depth, seconds in ((100, 1.0), (65000, 1.4)):
        points = [("flight", "paged, 1 lane", depth)]
        told = {"transfers": 100, "messages": 100, "seconds": seconds, "submit_us_p99": 1}
        lines.append({"points": points, "turn": 0, "memcpy_gb_per_s": 5, **told})
    (tmp_path / "out").write_text("\n".join(map(json.dumps, lines)))
    done = subprocess.run(
        [sys.executable, BENCH / "scale", "--from", tmp_path / "out"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"paged, 1 lane, at 65,000 / at 100 +\| 1\.4 +\| at most 1\.5 +\| met", done.stdout)


@pytest.mark.skipif(bool(os.environ.get("KVT_SANITIZERS")), reason="a sanitizer keeps memory that was freed")
def test_strangers_are_not_let_in_and_cost_little():
    done = subprocess.run(
        [sys.executable, BENCH / "strangers", "--seconds=0.2", "--rounds=1"]
        + [f"--{kind}=60" for kind in ("wrong-keys", "replays", "flips", "nonsense", "idle")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^calls of strangers +300 ", done.stdout)
