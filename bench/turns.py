# SPDX-License-Identifier: Apache-2.0
"""What compare and scale need: a network namespace of their own, and programs that are run in it."""

import json
import os
import resource
import signal
import subprocess
import sys
import time

LIMIT = 170  # seconds a run may take
HERE = os.path.dirname(os.path.abspath(__file__))


class Namespace:
    """A network namespace with a loopback and reno, or nothing at all for those who may not have one."""

    def __init__(self, wanted):
        self.name = f"kvtrans-bench-{os.getpid()}"
        self.wanted = wanted
        self.made = False

    def __enter__(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, leave)
        raise_limits()
        if not self.wanted:
            return self
        if os.geteuid() != 0:
            say(
                "a network namespace needs root (ip netns add). Without it these figures are taken on the "
                "host's loopback, with its congestion control."
            )
            return self
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.made = True
        try:
            subprocess.run(self.wrap(["ip", "link", "set", "lo", "up"]), check=True)
            setting = "net.ipv4.tcp_congestion_control=reno"
            subprocess.run(self.wrap(["sysctl", "-q", "-w", setting]), check=True)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.made:
            subprocess.run(["ip", "netns", "del", self.name], check=False)
            self.made = False

    def wrap(self, command):
        return ["ip", "netns", "exec", self.name, *command] if self.made else command

    def run(self, command):
        """Run a program; return what it printed, or {"failed": why}."""
        try:
            done = subprocess.run(
                self.wrap(command), capture_output=True, text=True, timeout=LIMIT, check=False
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"took more than {LIMIT} s"}
        return read_result(done)


def keep(record, out):
    print(json.dumps(record), file=out, flush=True)
    return record


def leave(_signal, _frame):
    """An exception, so that the namespace is removed on the way out."""
    raise SystemExit(130)


def raise_limits():
    """Thousands of connections, each with some descriptors, in each of two processes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < 16_000:
        say(f"ulimit -Hn is {hard}: thousands of connections may not fit")


def read_result(done):
    if done.returncode:
        words = (done.stderr or "").strip().splitlines()[-1:]
        return {"failed": words[0] if words else f"exit status {done.returncode}"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return json.loads(lines[-1]) if lines else {"failed": "it printed no result"}


def measure_memory():
    """GB/s that this machine copies just now: what its phase is."""
    source, target = memoryview(bytearray(64 << 20)), memoryview(bytearray(64 << 20))
    best = 0.0
    for _ in range(4):
        started = time.perf_counter()
        target[:] = source
        best = max(best, len(source) / (time.perf_counter() - started) / 1e9)
    return best


def add_options(parser, here):
    """Options of compare and scale, whose programs are beside here unless they were built elsewhere."""
    parser.add_argument("--bindir", default=here, help="where the programs were built (here)")
    parser.add_argument("--no-namespace", action="store_true", help="use the host's network")
    parser.add_argument("--out", metavar="FILE", help="append every result, one JSON object a line")
    parser.add_argument("--from", dest="source", metavar="FILE", help="run nothing: read results of --out")
    parser.add_argument("--table", metavar="FILE", help="write the tables here too, as Markdown")
    parser.add_argument("--plot", metavar="FILE", help="draw FILE.svg and FILE.png (needs python3-matplotlib)")


def get_records(arguments, run):
    """Those of --from, or of run(out), where out is the file to keep them in, or None."""
    if arguments.source:
        with open(arguments.source, encoding="utf-8") as file:
            return [json.loads(line) for line in file if line.strip()]
    with open(arguments.out or os.devnull, "a", encoding="utf-8") as out:
        return run(out)


def show(arguments, text, draw):
    """Print the tables, and write and draw what was asked for. draw(plot, path) is given the module plot."""
    print(text)
    if arguments.table:
        with open(arguments.table, "w", encoding="utf-8") as file:
            file.write(text + "\n")
    if not arguments.plot:
        return
    try:
        import plot
    except ImportError as error:
        say(f"no plot: {error} (apt install python3-matplotlib)")
    else:
        draw(plot, arguments.plot)


def say(text):
    print(f"{os.path.basename(sys.argv[0])}: {text}", file=sys.stderr)


def show_progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
