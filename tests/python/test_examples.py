# SPDX-License-Identifier: Apache-2.0
"""The examples run, and are short enough to be read."""

import pathlib
import subprocess
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"
SAYS = {
    "connector.py": "24 requests of 8 layers were loaded and are right\n",
    "one_thread.py": "8 peers of squares were answered by one thread\n",
    "async_blocks.py": "512 blocks, 8388608 bytes from 8 writers have landed\n",
}


@pytest.mark.parametrize("name, says", SAYS.items(), ids=SAYS.keys())
def test_an_example_runs(name, says):
    done = subprocess.run(
        [sys.executable, EXAMPLES / name], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, says, "")


def test_the_demo_moves_a_prompt_and_a_cache():
    done = subprocess.run(
        [sys.executable, EXAMPLES / "disaggregated.py", "--tokens", "64", "--rounds", "1"],
        capture_output=True, text=True, timeout=180,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "one process alone gives the same 48 tokens" in " ".join(done.stdout.split())


@pytest.mark.parametrize("name", [*SAYS, "write_blocks.c", "send_receive.c"])
def test_an_example_is_short(name):
    assert len((EXAMPLES / name).read_text().splitlines()) < 120
