# SPDX-License-Identifier: Apache-2.0
"""The manual pages tell of every option, every JSON key and every exit status that there is."""

import json
import os
import pathlib
import re
import subprocess

import pytest

BUILD = pathlib.Path(os.environ["KVT_BUILDDIR"])
MANUALS = pathlib.Path(os.environ["KVT_SRCDIR"], "docs", "man")
PROGRAMS = {
    "kvtrans-info": "tools/kvtrans-info",
    "kvtrans-key": "tools/kvtrans-key",
    "kvtrans-perf": "bench/kvtrans-perf",
}


def read(program):
    return (MANUALS / f"{program}.1").read_text().replace("\\-", "-")


def run(program, *args):
    return subprocess.run(
        [BUILD / PROGRAMS[program], *args], capture_output=True, text=True, timeout=60, check=True
    ).stdout


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_manual_has_the_options_of_help_and_no_others(program):
    shown = set(re.findall(r"(?<!\w)--[a-z]+", run(program, "--help")))
    assert {"--help", "--version"} <= shown
    manual = read(program)
    assert set(re.findall(r"\\fB(--[a-z]+)", manual)) == shown
    short = set(re.findall(r"^ +(-\w), --", run(program, "--help"), re.MULTILINE))
    assert short <= set(re.findall(r"\\fB(-\w)\\fR", manual))


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_manual_has_the_exit_statuses_of_help(program):
    shown = " ".join(run(program, "--help").split("Exit status:")[1].split())
    manual = read(program).split(".SH EXIT STATUS")[1].split(".SH")[0]
    assert re.findall(r"(?:^|[,;] )(\d+) ", shown) == re.findall(r"\\fB(\d+)\\fR", manual)


def list_keys(value):
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from list_keys(item)
    if isinstance(value, list):
        for item in value:
            yield from list_keys(item)


@pytest.mark.parametrize(
    "program, args",
    [
        ("kvtrans-info", ["--json", "127.0.0.1"]),
        ("kvtrans-perf", ["--json", "--self", "--seconds=0.05", "--warmup=0"]),
    ],
)
def test_the_manual_has_every_key_of_the_output(program, args):
    keys = set(list_keys(json.loads(run(program, *args))))
    assert len(keys) > 10
    assert keys <= set(re.findall(r"\\fB([a-z0-9_]+)\\fR", read(program)))


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_manual_is_a_page_with_the_usual_sections(program):
    manual = read(program)
    assert manual.splitlines()[1].startswith(f".TH {program.upper()} 1 ")
    sections = re.findall(r"^\.SH (.*)$", manual, re.MULTILINE)
    assert sections[:4] == ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS"]
    assert {"OUTPUT", "EXIT STATUS", "EXAMPLES", "SEE ALSO"} <= set(sections)
    assert not [line for line in manual.splitlines() if line.endswith(" ")]
