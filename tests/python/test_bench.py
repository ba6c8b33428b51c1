# SPDX-License-Identifier: Apache-2.0
"""The benchmark programs move what they say, and compare --paged judges what they print."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest
from conftest import HOST, INTERFACE, PROVIDER

BENCH = pathlib.Path(os.environ["KVT_SRCDIR"], "bench")
PROGRAMS = pathlib.Path(os.environ["KVT_BUILDDIR"], "bench")
SHORT = ("--json", "--seconds=0.05", "--warmup=0", "--block=1000", "--count=160")
RAW = {"raw_socket": [], "raw_fabric": [f"--provider={PROVIDER or 'tcp'}", f"--host={HOST}"]}


@pytest.fixture(scope="module")
def tables():
    sys.path.insert(0, str(BENCH))
    try:
        import paged_cases
        import paged_table
    finally:
        sys.path.remove(str(BENCH))
    return paged_cases, paged_table


def run(program, *options):
    done = subprocess.run(
        [PROGRAMS / program, *options], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("pattern", ["contiguous", "runs", "random"])
@pytest.mark.parametrize("op", ["write", "read"])
@pytest.mark.parametrize("program", RAW)
def test_baselines_move_every_byte_of_paged_transfers(program, op, pattern):
    told = run(program, *SHORT, *RAW[program], f"--paged={op}", f"--pattern={pattern}", "--depth=3")
    assert told["verified"] and told["op"] == op and told["pattern"] == pattern
    assert told["messages"] == told["transfers"] * 160
    assert (told["notified_us_p50"] is None) == (op == "read")


@pytest.mark.parametrize("op", ["write", "read"])
def test_python_paged_moves_every_byte(op):
    options = [*SHORT, f"--paged={op}", "--depth=3", f"--interface={INTERFACE}", f"--host={HOST}"]
    options += [f"--provider={PROVIDER}"] if PROVIDER else []
    done = subprocess.run(
        [sys.executable, BENCH / "python_paged.py", *options],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["verified"] and told["op"] == op and told["messages"] == told["transfers"] * 160


PERF = ("--self", f"--interface={INTERFACE}", *([f"--provider={PROVIDER}"] if PROVIDER else []))


@pytest.mark.parametrize("pattern", ["contiguous", "runs", "random"])
@pytest.mark.parametrize("op", ["write", "read"])
def test_kvtrans_perf_moves_every_byte_of_paged_transfers(op, pattern):
    job = (f"--op={op}", f"--pattern={pattern}", "--depth=3", "--extents=5", "--verify")
    told = run("kvtrans-perf", *SHORT, *PERF, *job)
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
        if label in ("message", "blocks", "pattern"):
            continue
        for number in re.findall(NUMBER, text):
            assert len(number.replace(".", "").strip("0") or "0") <= 3, (label, text)
        if re.search("time|median|99 %|CPU, both", label):
            assert re.fullmatch(rf"{NUMBER} (ns|us|ms|s)( a GiB)?", text), (label, text)
    if job in ("send", "write", "read"):
        assert re.match(rf"{NUMBER} [kMG]?B/s", told["rate"])
    if job in ("write", "read"):
        assert re.search(rf", {NUMBER}( thousand| million)? blocks a second$", told["rate"])
    if job == "write":
        assert told["blocks"].startswith("8 KiB each, 5120 a batch")


def test_kvtrans_perf_measures_notifications_alone():
    told = run("kvtrans-perf", *PERF, "--json", "--op=notify", "--seconds=0.05", "--block=100")
    assert told["op"] == "notify" and told["block_bytes"] == 100 and told["transfers"] > 0
    assert 0 < told["notified_us_p50"] <= told["notified_us_p99"]


def test_kvtrans_perf_knows_the_shapes_of_models():
    told = run("kvtrans-perf", *PERF, "--json", "--op=write", "--shape=S3", "--seconds=0.05", "--warmup=0")
    assert (told["block_bytes"], told["count"], told["pattern"]) == (73728, 976, "random")


def test_kvtrans_perf_measures_connecting_though_some_end_before_they_are_accepted():
    told = run("kvtrans-perf", *PERF, "--json", "--connect", "--count=1000", "--timeout=5")
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
        ("--op=write", "--block=8", "--count=1000000", "--depth=1000"),
    ],
)
def test_kvtrans_perf_refuses_wrong_use(wrong):
    done = subprocess.run([PROGRAMS / "kvtrans-perf", "--self", *wrong], capture_output=True, check=False)
    assert done.returncode == 2 and done.stderr


def make_records(case, **rates):
    """Three turns with the rates given, times 0.9, 1 and 1.1."""
    return [
        {"case": case, "turn": turn, "program": program, "gb_per_s": rate * (0.9 + 0.1 * turn)}
        for turn in range(3)
        for program, rate in rates.items()
    ]


def judge(tables, records, key, against):
    cases, table = tables
    verdicts = table.Results(records).judge(cases.TARGETS)
    return next(v for v in verdicts if v.target.key == key and v.target.against == against)


def test_a_target_is_held_against_the_best_peer_within_turns(tables):
    records = make_records("16K-write", kvtrans=3.0, ucx=1.0, nixl=1.1, socket=4.0)
    verdict = judge(tables, records, "16K-write", "peers")
    assert verdict.against == "nixl" and verdict.value == pytest.approx(3 / 1.1) and verdict.met
    assert judge(tables, records, "16K-write", "socket").value == pytest.approx(0.75)
    assert not judge(tables, make_records("16K-write", kvtrans=2.4, ucx=1.0), "16K-write", "peers").met


def test_a_target_without_figures_is_open_and_not_met(tables):
    records = make_records("16K-write", ucx=1.0)
    records.append({"case": "16K-write", "turn": 0, "program": "kvtrans", "failed": "no such thing"})
    verdict = judge(tables, records, "16K-write", "peers")
    assert not verdict.met and verdict.get_row()[-1] == "open"


def test_the_table_says_which_peer_could_not_be_run_and_why(tables):
    _, table = tables
    records = make_records("16K-write", kvtrans=3.0, ucx=1.0)
    records.append({"program": "nixl", "failed": "No module named 'nixl'"})
    records.append({"case": "16K-write", "turn": 0, "program": "ucx", "failed": "mended since"})
    text = table.write_table(table.Results(records), [])
    assert "- NIXL: No module named 'nixl'" in text and "mended" not in text
