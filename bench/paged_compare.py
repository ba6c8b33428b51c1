# SPDX-License-Identifier: Apache-2.0
"""compare --paged: the same blocks moved by kvtrans-perf, a gathering socket, libfabric, UCX, NIXL, Mooncake.

Each program runs once a turn, in the same order; results are kept one a line, so that a long comparison can be
made in parts and its table and plot drawn from the file of all of them.
"""

import json
import os
import subprocess
import sys

import paged_table
from paged_cases import CASES, LABELS, LIBRARY, PYTHON, SOCKET, TARGETS
from turns import Namespace, run_once, show_progress

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAMS = (LIBRARY, SOCKET, "fabric", "ucx", "ucx64k", "nixl", "mooncake")
BUSY = "while True: pass"


def add_options(parser):
    group = parser.add_argument_group("paged transfers")
    group.add_argument("--paged", action="store_true", help="compare paged transfers instead")
    group.add_argument("--peers", default=",".join(PROGRAMS[1:]), metavar="LIST", help="of %(default)s,ucxown")
    group.add_argument("--cases", metavar="LIST", help="some of: " + ", ".join(case.key for case in CASES))
    group.add_argument("--peer-python", default=sys.executable, metavar="PYTHON", help="has nixl and mooncake")
    group.add_argument("--from", dest="source", metavar="FILE", help="run nothing: read results of --out")
    group.add_argument("--table", metavar="FILE", help="write the table here too, as Markdown")
    group.add_argument("--plot", metavar="FILE", help="draw FILE.svg and FILE.png (needs python3-matplotlib)")


class Runner:
    """Knows the command of each program, or why it has none."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.reasons = {}
        bindir = os.path.abspath(arguments.bindir)
        self.paths = {
            LIBRARY: os.path.join(bindir, "kvtrans-perf"),
            SOCKET: os.path.join(bindir, "raw_socket"),
            "fabric": os.path.join(bindir, "raw_fabric"),
            "ucx": os.path.join(bindir, "raw_ucx"),
            "ucx64k": os.path.join(bindir, "raw_ucx"),
            "ucxown": os.path.join(bindir, "raw_ucx"),
            "nixl": os.path.join(HERE, "peer_nixl.py"),
            "mooncake": os.path.join(HERE, "peer_mooncake.py"),
            PYTHON: os.path.join(HERE, "python_paged.py"),
        }

    def choose(self):
        """The programs to run; what stands against the others is in reasons."""
        wanted = [LIBRARY, *(name.strip() for name in self.arguments.peers.split(",") if name.strip())]
        if self.arguments.python:
            wanted.append(PYTHON)
        chosen = []
        for name in dict.fromkeys(wanted):
            reason = self.find_fault(name)
            if reason:
                self.reasons[name] = reason
            else:
                chosen.append(name)
        return chosen

    def find_fault(self, name):
        if name not in self.paths:
            raise SystemExit(f"compare: --peers does not know {name}")
        if name in ("nixl", "mooncake", PYTHON):
            module = {"nixl": "nixl._api", "mooncake": "mooncake.engine"}.get(name, "kvtrans_engine")
            probe = [self.get_python(name), "-c", f"import {module}"]
            done = subprocess.run(probe, stderr=subprocess.PIPE, text=True, check=False)
            return f"{probe[0]}: {done.stderr.strip().splitlines()[-1]}" if done.returncode else None
        if os.access(self.paths[name], os.X_OK):
            return None
        return "not built: configure did not find UCX" if name.startswith("ucx") else "not built"

    def get_python(self, name):
        return self.arguments.python if name == PYTHON else self.arguments.peer_python

    def make_command(self, name, case):
        """None when the program does not do this case."""
        options = [f"--block={case.block}", f"--count={case.count}", f"--depth={case.depth}"]
        options += [f"--pattern={case.pattern}", f"--seconds={self.arguments.seconds}", "--warmup=0.3"]
        path = self.paths[name]
        if name == LIBRARY:
            lanes = [("ncpus", self.arguments.ncpus), ("nconn", self.arguments.nconn)]
            options += [f"--{key}={value}" for key, value in lanes if value]
            options += [f"--extents={case.extents}"] if case.extents > 1 else []
            options += ["--self", "--verify", f"--op={case.op}", f"--provider={self.arguments.provider}"]
            return [path, "--json", *options]
        options.append(f"--paged={case.op}")
        if name in ("nixl", "mooncake", PYTHON):
            if name == PYTHON:
                options += [f"--ncpus={self.arguments.ncpus or 1}", f"--nconn={self.arguments.nconn or 1}"]
            return [self.get_python(name), path, *options]
        # What was faster on two cores. One that polls takes a core from the other one's kernel work.
        if name.startswith("ucx") and case.op == "write":
            options.append("--spin")
        if name == "ucxown":
            options.append("--provider=default")
        elif name == "fabric":
            options.append(f"--provider={self.arguments.provider}")
            options += ["--spin"] if case.figure == "us_p50" else []
        command = [path, "--json", *options]
        if name == "ucx64k":
            return ["env", "UCX_TCP_TX_SEG_SIZE=64k", "UCX_TCP_RX_SEG_SIZE=64k", *command]
        return command


def choose_cases(text):
    if not text:
        return CASES
    keys = [key.strip() for key in text.split(",") if key.strip()]
    unknown = set(keys) - {case.key for case in CASES}
    if unknown:
        raise SystemExit(f"compare: no such case: {', '.join(sorted(unknown))}")
    return [case for case in CASES if case.key in keys]


def run_turns(arguments, runner, out):
    """Return the records of all runs: what was printed, with case, turn and program."""
    records = []
    programs = runner.choose()
    with Namespace(not arguments.no_namespace) as namespace:
        for case in choose_cases(arguments.cases):
            burners = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(case.busy)]
            try:
                records += run_case(arguments, runner, programs, case, namespace, out)
            finally:
                for burner in burners:
                    burner.kill()
                    burner.wait()
            show_progress("")
    for name, reason in runner.reasons.items():
        record = {"program": name, "failed": reason}
        records.append(record)
        if out:
            print(json.dumps(record), file=out, flush=True)
    return records


def run_case(arguments, runner, programs, case, namespace, out):
    records = []
    given_up = set()  # it would fail in each turn
    for turn in range(arguments.rounds):
        for name in programs:
            if name in given_up or (case.is_ours_alone and name != LIBRARY):
                continue
            show_progress(f"{case.title}: turn {turn + 1} of {arguments.rounds}, {LABELS[name]}")
            notes = {"case": case.key, "turn": turn, "program": name}
            result, reason = run_once(namespace, runner.make_command(name, case), out, notes)
            records.append({**notes, **(result or {"failed": reason})})
            if not result:
                given_up.add(name)
    return records


def compare(arguments, out):
    if arguments.source:
        with open(arguments.source, encoding="utf-8") as file:
            records = [json.loads(line) for line in file if line.strip()]
    else:
        records = run_turns(arguments, Runner(arguments), out)
    results = paged_table.Results(records)
    verdicts = results.judge(TARGETS)
    text = paged_table.write_table(results, verdicts)
    print(text)
    if arguments.table:
        with open(arguments.table, "w", encoding="utf-8") as file:
            file.write(text + "\n")
    if arguments.plot:
        try:
            import paged_plot
        except ImportError as error:
            print(f"compare: no plot: {error} (apt install python3-matplotlib)", file=sys.stderr)
        else:
            paged_plot.draw(results, arguments.plot)
    return all(verdict.met for verdict in verdicts)
