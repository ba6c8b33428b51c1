# SPDX-License-Identifier: Apache-2.0
"""vLLM's servers and the proxy as processes that are started, watched and ended, and requests to them."""

import contextlib
import ctypes
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field

import environment

HERE = pathlib.Path(__file__).resolve().parent
START_LIMIT, STOP_LIMIT, ANSWER_LIMIT = 600, 20, 300
CONNECTORS = {"pull": "NixlConnector", "push": "NixlPushConnector"}


class Failure(Exception):
    """Something the user should read, without a traceback."""


def run_to_end(work):
    """End this process with what work() returns: 77 when something it needs cannot be had, 1 when something failed, with
    a sentence. SIGTERM ends it, too, and so the processes that it has started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(work())
    except environment.Missing as error:
        print(f"not run: {error}", file=sys.stderr)
        sys.exit(77)
    except Failure as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def find_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def end_with_parent():
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


class Server:
    """A process with children of its own, which are one group, that answers on a port once it is up."""

    def __init__(self, name, command, port, log, environment=None):
        self.name, self.port, self.log = name, port, log
        with open(log, "ab") as output:
            self.process = subprocess.Popen(
                list(map(str, command)), stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment,
                start_new_session=True, preexec_fn=end_with_parent)

    def wait(self, limit=START_LIMIT):
        end = time.monotonic() + limit
        while not self.answers():
            if self.process.poll() is not None:
                raise Failure(f"{self.name} ended with {self.process.returncode}:\n{self.quote()}")
            if time.monotonic() > end:
                raise Failure(f"{self.name} was not up after {limit} s:\n{self.quote()}")
            time.sleep(0.2)
        self.unbind()

    def answers(self):
        try:
            return self.get("/health").status == 200
        except (OSError, http.client.HTTPException):
            return False

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", path)
        return connection.getresponse()

    def get_metrics(self):
        """vLLM's counters of NIXL's transfers: {name: value}."""
        lines = re.findall(r"^vllm:nixl_(\w+)\{[^}]*\} (\S+)$", self.get("/metrics").read().decode(), re.M)
        return {name: float(value) for name, value in lines if "bucket" not in name and "created" not in name}

    def unbind(self):
        """Let its threads run on all CPUs. vLLM's connector binds a server without a GPU to the last CPU of each NUMA node.
        Two on one host share that one, and where one polls the other hardly gets a turn."""
        for task in pathlib.Path("/proc").glob("[0-9]*/task/[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended
                if os.getpgid(int(task.parts[2])) == self.process.pid:
                    os.sched_setaffinity(int(task.name), os.sched_getaffinity(0))

    def quote(self):
        return "\n".join(pathlib.Path(self.log).read_text(errors="replace").splitlines()[-25:])

    def kill(self):
        """As a crash, or the kernel's out-of-memory killer, would: all of it at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_LIMIT)

    def end(self):
        """In order if it can, for sure in any case."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_LIMIT)
        self.kill()


@dataclass
class Setting:
    """What all servers of a run have in common."""

    python: pathlib.Path
    model: pathlib.Path
    logs: pathlib.Path
    variables: dict = field(default_factory=dict)


def start_vllm(setting, name, port, variables=None, connector=None):
    command = [setting.python, "-m", "vllm.entrypoints.openai.api_server", "--model", setting.model,
               "--served-model-name", "smollm2", "--host", "127.0.0.1", "--port", port, "--enforce-eager",
               "--max-model-len", 2048, "--dtype", "float32", "--block-size", 32, "--no-enable-prefix-caching"]
    if connector:
        command += ["--kv-transfer-config", json.dumps(connector)]
    environment = dict(os.environ, **setting.variables, **(variables or {}))
    environment.pop("PYTHONPATH", None)  # the engine needs the plugin alone, by NIXL_PLUGIN_DIR
    return Server(name, command, port, setting.logs / f"{name}.log", environment)


class Pair:
    """A prefill and a decode server, and the proxy before them, on one of NIXL's backends."""

    def __init__(self, setting, backend, mode="pull"):
        self.setting, self.backend, self.mode = setting, backend, mode
        self.ports = {name: find_port() for name in ("prefill", "decode", "proxy", "prefill side", "decode side")}
        self.servers = {}

    def __enter__(self):
        try:
            for name in ("prefill", "decode", "proxy"):
                self.start(name)
            for server in self.servers.values():
                server.wait()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        for server in self.servers.values():
            server.process.terminate()
        for server in self.servers.values():
            server.end()

    def start(self, name):
        log = f"{name}-{self.backend}-{self.mode}"
        if name == "proxy":
            ports = [self.ports[key] for key in ("proxy", "prefill", "decode")]
            self.servers[name] = Server(name, [sys.executable, HERE / "proxy.py", *ports, ANSWER_LIMIT], ports[0],
                                        self.setting.logs / f"{log}.log")
            return
        connector = {"kv_connector": CONNECTORS[self.mode], "kv_buffer_device": "cpu",
                     "kv_role": "kv_producer" if name == "prefill" else "kv_consumer",
                     "kv_connector_extra_config": {"backends": [self.backend]}}
        side = {"VLLM_NIXL_SIDE_CHANNEL_HOST": "127.0.0.1",
                "VLLM_NIXL_SIDE_CHANNEL_PORT": str(self.ports[f"{name} side"])}
        self.servers[name] = start_vllm(self.setting, log, self.ports[name], side, connector)

    def send_signal(self, number):
        for server in self.servers.values():
            os.killpg(server.process.pid, number)

    def get_transfers(self):
        """Counters of the side that posts the transfers."""
        return self.servers["decode" if self.mode == "pull" else "prefill"].get_metrics()


@dataclass
class Answer:
    tokens: list
    text: str
    first_s: float  # until the first token
    error: str = ""


def ask(port, prompt, count, limit=ANSWER_LIMIT):
    """count tokens that follow prompt, the most likely one each. What fails is an Answer with an error."""
    request = {"model": "smollm2", "prompt": prompt, "max_tokens": count, "temperature": 0, "ignore_eos": True,
               "stream": True, "return_token_ids": True}
    answer = Answer([], "", 0.0)
    begin = time.monotonic()
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=limit)
        connection.request("POST", "/v1/completions", json.dumps(request), {"Content-Type": "application/json"})
        reply = connection.getresponse()
        if reply.status != 200:
            answer.error = f"status {reply.status}: {reply.read()[:300].decode(errors='replace')}"
        for line in reply:
            if line.startswith(b"data: {"):
                take(answer, json.loads(line[6:]), begin)
    except (OSError, http.client.HTTPException) as error:
        answer.error = f"{type(error).__name__}: {error}"
    if not answer.error and len(answer.tokens) != count:
        answer.error = f"{len(answer.tokens)} tokens of {count}"
    return answer


def take(answer, event, begin):
    """One event of a reply that comes token by token."""
    if "error" in event:
        answer.error = str(event["error"])
        return
    for choice in event["choices"]:
        if choice.get("token_ids") and not answer.tokens:
            answer.first_s = time.monotonic() - begin
        answer.tokens += choice.get("token_ids") or []
        answer.text += choice["text"]
        if choice["finish_reason"] == "error":
            answer.error = "the engine says: error"
