# SPDX-License-Identifier: Apache-2.0
"""What both modes of compare need: a network namespace of their own, and programs that are run in it."""

import json
import os
import subprocess
import sys

LIMIT = 120  # seconds a run may take


class Namespace:
    """A network namespace with a loopback and reno, or nothing at all for those who may not have one."""

    def __init__(self, wanted):
        self.name = f"kvtrans-bench-{os.getpid()}"
        self.wanted = wanted
        self.made = False

    def __enter__(self):
        if not self.wanted:
            return self
        if os.geteuid() != 0:
            print(
                "compare: a network namespace needs root (ip netns add). Without it these figures are "
                "taken on the host's loopback, with its congestion control.",
                file=sys.stderr,
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


def run_once(namespace, command, out, notes=None):
    """Run a program. Return its result and None, or None and why there is none; that is printed too, unless
    the result is kept with notes (which are added to it).
    """
    text = " ".join([os.path.basename(command[0]), *command[1:]])
    pipe = subprocess.PIPE
    stderr = pipe if notes is not None else None
    try:
        done = subprocess.run(
            namespace.wrap(command), stdout=pipe, stderr=stderr, text=True, timeout=LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        result, reason = None, f"took more than {LIMIT} s"
    else:
        result, reason = read_result(done)
    if reason and notes is None:
        print(f"compare: {reason}: {text}", file=sys.stderr)
    if out and (result or notes is not None):
        kept = {**(notes or {}), **(result or {"failed": reason})}
        print(json.dumps(kept), file=out, flush=True)
    return result, reason


def read_result(done):
    if done.returncode:
        words = (done.stderr or "").strip().splitlines()[-1:]
        return None, words[0] if words else f"exit status {done.returncode}"
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return (json.loads(lines[-1]), None) if lines else (None, "it printed no result")


def show_progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
