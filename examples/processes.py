# SPDX-License-Identifier: Apache-2.0
"""Prefill and decode as processes: one of them is this one, or both are its children and are watched."""

import fcntl
import ipaddress
import multiprocessing
import multiprocessing.connection
import signal
import socket
import struct
import sys

import kvtrans_engine

from peer import Deadline, Failure
from terminal import say


class Roles:
    """The two functions: prefill(options, announce), which calls announce(port) once it listens, and decode(options)
    with options.connect set to that."""

    def __init__(self, prefill, decode):
        self.prefill, self.decode = prefill, decode

    def run(self, options):
        """What the command line asks for: one role or both. Ends this process, with 0 when all went well."""
        try:
            if options.role:
                self.run_role(options.role, options, lambda port: say("prefill", f"listening on port {port}"))
            else:
                sys.exit(run_both(self, options))
        except Failure as error:
            sys.exit(f"demo: error: {error}")
        except KeyboardInterrupt:
            sys.exit(130)

    def run_role(self, role, options, announce=None):
        """Run one role to its end; the parent learns of a bad one by the exit code."""
        try:
            self.prefill(options, announce) if role == "prefill" else self.decode(options)
        except (Failure, kvtrans_engine.Error, OSError) as error:
            print(f"{role}: error: {error}", file=sys.stderr, flush=True)
            sys.exit(1)
        except KeyboardInterrupt:
            sys.exit(130)


def run_child(roles, role, options, pipe=None):
    roles.run_role(role, options, pipe.send if pipe else None)


def run_both(roles, options):
    """Both processes on this host. Whatever becomes of them, this one ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    deadline = Deadline(options.timeout)
    host = address_of(options.interface)
    spawn = multiprocessing.get_context("spawn")  # an engine does not survive fork
    ours, theirs = spawn.Pipe(duplex=False)
    options.listen = 0
    children = [
        spawn.Process(target=run_child, args=(roles, "prefill", options, theirs), name="prefill")
    ]
    try:
        children[0].start()
        theirs.close()
        try:
            port = ours.recv() if ours.poll(deadline.left()) else None
        except EOFError:
            port = None  # it died; supervise() tells
        if port:
            options.connect = host, port
            children.append(
                spawn.Process(target=run_child, args=(roles, "decode", options), name="decode")
            )
            children[1].start()
        return supervise(children, deadline)
    finally:
        for child in children:
            if child.is_alive():
                child.kill()
                child.join()


def supervise(children, deadline):
    """Wait for all. When one fails the others have 5 s to notice; then the caller ends them."""
    failed = 0
    running = list(children)
    while running:
        ready = multiprocessing.connection.wait([c.sentinel for c in running], deadline.left() + 5)
        if not ready:
            names = " and ".join(child.name for child in running)
            print(f"demo: error: {names} did not end and had to be killed", file=sys.stderr)
            return 1
        for child in [child for child in running if child.sentinel in ready]:
            child.join()
            running.remove(child)
            if child.exitcode < 0:
                name = signal.Signals(-child.exitcode).name
                print(f"demo: error: the {child.name} process died of {name}", file=sys.stderr)
            if child.exitcode and not failed:
                failed = child.exitcode if child.exitcode > 0 else 1
                deadline = Deadline(0)
    return failed


def address_of(interface):
    """The address at which another process of this host reaches an engine on interface."""
    try:
        return str(ipaddress.ip_address(interface))
    except ValueError:
        pass
    request = struct.pack("256s", interface.encode()[:15])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            siocgifaddr = 0x8915
            return socket.inet_ntoa(fcntl.ioctl(probe, siocgifaddr, request)[20:24])
        except OSError:
            raise Failure(
                f"{interface} has no IPv4 address here; run prefill and decode by hand"
            ) from None


def positive(text):
    if (number := int(text)) < 1:
        raise ValueError
    return number


def add_arguments(parser):
    """Those that any pair of roles takes."""

    def port(text):
        if not 0 <= (number := int(text)) < 65536:
            raise ValueError
        return number

    def host_and_port(text):
        host, _, number = text.rpartition(":")
        if not host:
            raise ValueError
        return host.strip("[]"), port(number)

    add = parser.add_argument
    add("--listen", type=port, default=0, metavar="PORT", help="of prefill; 0 takes a free one (0)")
    add("--connect", type=host_and_port, metavar="HOST:PORT", help="of prefill, for decode")
    add("--interface", default="lo", help="interface, RDMA device or address (lo)")
    add("--provider", help="libfabric provider (the best one for the interface)")
    add("--timeout", type=positive, default=120, metavar="SECONDS", help="for everything (120)")


def parse_arguments(parser):
    options = parser.parse_args()
    if (options.role == "decode") != (options.connect is not None):
        parser.error("decode needs --connect HOST:PORT, and nothing else takes it")
    return options
