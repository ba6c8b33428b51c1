# SPDX-License-Identifier: Apache-2.0
"""kvtrans-info: the program, run as users run it. On a host with an RDMA device, and with KVT_TEST_*
as conftest.py has them, it has to show that one."""

import json
import os
import pathlib
import re
import subprocess

import pytest
from conftest import HOST, INTERFACE, PROVIDER

import kvtrans_engine

PROGRAM = pathlib.Path(os.environ["KVT_BUILDDIR"], "tools", "kvtrans-info")
RDMA_CLASS = pathlib.Path("/sys/class/infiniband")
QUIET = {"IPATH_NO_BACKTRACE": "1", "HFI_NO_BACKTRACE": "1"}


def run(*args, **environment):
    env = {name: value for name, value in os.environ.items() if name != "FI_MR_CACHE_MAX_COUNT"}
    env.update(QUIET, **environment)
    return subprocess.run(
        [PROGRAM, *args], capture_output=True, text=True, timeout=60, env=env, check=False
    )


def report(*args, **environment):
    done = run(*args, "--json", **environment)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    return json.loads(done.stdout)


def find(items, name, key="name"):
    return next(item for item in items if item[key] == name)


def test_json_says_what_an_engine_takes(open_engine):
    told = report()
    assert told["tool"] == "kvtrans-info"
    assert told["version"] == kvtrans_engine.__version__
    assert told["peer"] is None
    interface = find(told["interfaces"], INTERFACE)
    assert HOST in interface["addresses"] and interface["up"]
    assert interface["local_address"] == HOST
    with kvtrans_engine.Engine(INTERFACE, ncpus=1) as engine:
        assert interface["provider"] == engine.provider
    if PROVIDER is not None:
        assert find(interface["candidates"], PROVIDER, "provider")["serves"]


def test_exactly_one_candidate_is_taken_and_each_has_a_reason():
    told = report()
    used = [item["name"] for item in told["providers"] if item["used"]]
    for interface in told["interfaces"]:
        if not interface["addresses"]:
            assert interface["provider"] is None and interface["error"]
            continue
        taken = [item["provider"] for item in interface["candidates"] if item["taken"]]
        assert taken == [interface["provider"]]
        assert [item["provider"] for item in interface["candidates"]] == used
        assert all(item["why"] for item in interface["candidates"])
    assert all(item["why"] for item in told["providers"])
    assert "FI_EP_MSG" in find(told["providers"], "tcp")["endpoints"]


def test_rdma_devices_are_those_of_the_kernel():
    told = report()
    devices = sorted(path.name for path in RDMA_CLASS.iterdir()) if RDMA_CLASS.exists() else []
    assert sorted({port["rdma_device"] for port in told["rdma_ports"]}) == devices
    for interface in told["interfaces"]:
        if interface["rdma_device"] is not None and interface["pins_memory"]:
            assert interface["domain"] == interface["rdma_device"]
            assert interface["port_state"] == "ACTIVE"


@pytest.mark.skipif(PROVIDER != "verbs", reason="no RDMA device is given to the tests")
def test_an_rdma_device_is_shown_and_taken_by_its_name():
    interface = find(report()["interfaces"], INTERFACE)
    assert interface["provider"] == "verbs"
    assert interface["rdma_device"] == interface["domain"]
    named = report("-i", interface["rdma_device"])["interfaces"]
    assert [item["name"] for item in named] == [INTERFACE]
    assert named[0] == interface


@pytest.mark.skipif(PROVIDER != "verbs", reason="no RDMA device is given to the tests")
def test_a_cache_of_registrations_is_found():
    told = report("-i", INTERFACE, FI_MR_CACHE_MAX_COUNT="1000")
    assert any("no memory can be opened to peers" in item["what"] for item in told["advice"])


@pytest.mark.parametrize("name", [INTERFACE, HOST])
def test_one_interface_can_be_named_in_each_way(name):
    told = report("--interface", name)
    assert [item["name"] for item in told["interfaces"]] == [INTERFACE]


def test_a_peer_is_reached_by_the_interface_of_its_route():
    peer = report(HOST)["peer"]
    assert peer["name"] == peer["address"] == peer["local_address"] == HOST
    assert peer["interface"] == INTERFACE
    with kvtrans_engine.Engine(INTERFACE, ncpus=1) as engine:
        assert peer["provider"] == engine.provider


def test_the_path_between_processes_of_this_host_is_tried():
    told = report(KVTRANS_LOCAL="1")
    assert told["this_host"]["path"] == "local" and told["this_host"]["reason"] is None
    assert "local" not in [item["name"] for item in told["providers"]]
    told = report(KVTRANS_LOCAL="0")["this_host"]
    assert told["path"] != "local" and "KVTRANS_LOCAL=0" in told["reason"]
    text = run(KVTRANS_LOCAL="0").stdout
    assert "To processes of this host" in text and "not local: KVTRANS_LOCAL=0" in text


def test_limits_are_those_of_the_process():
    plain = report()["limits"]
    limited = subprocess.run(
        ["sh", "-c", 'ulimit -n 100; ulimit -l 32; exec "$0" --json', PROGRAM],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **QUIET, "FI_MR_CACHE_MAX_COUNT": "7"},
        check=True,
    )
    told = json.loads(limited.stdout)
    assert told["limits"]["nofile"] == 100 != plain["nofile"]
    assert told["limits"]["memlock_bytes"] == 32 * 1024
    assert told["limits"]["memlock_needed_bytes"] > 1 << 20
    assert told["limits"]["fi_mr_cache_max_count"] == "7"
    assert plain["fi_mr_cache_max_count"] is None
    advice = " ".join(item["what"] for item in told["advice"])
    assert "only 100 files may be open" in advice
    assert "FI_MR_CACHE_MAX_COUNT=7" in advice or "caches registrations" in advice
    assert all(item["fix"] for item in told["advice"])


def test_defaults_are_those_of_an_engine():
    told = report()["defaults"]
    assert told["cpus"] == len(os.sched_getaffinity(0))
    assert told["ncpus"] == min(max(told["cpus"] // 2, 1), 4)
    assert told["nconn_per_cpu"] == 1
    assert told["eager_bytes"] == 64 * 1024


def test_text_fits_eighty_columns_and_names_everything():
    done = run(HOST)
    assert done.returncode == 0 and done.stderr == ""
    told = report(HOST)
    words = done.stdout.split()
    for line in done.stdout.splitlines():
        assert len(line) <= 80 and line == line.rstrip(), line
    for interface in told["interfaces"]:
        assert interface["name"] in [word.rstrip(",") for word in words]
    for provider in told["providers"]:
        assert provider["name"] in words
    for section in ("Peer", "Interfaces", "To", "Providers", "Defaults", "What"):
        assert any(line.startswith(section) for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    "args, status, text",
    [
        (["-i", "nosuch0"], 1, 'no interface "nosuch0"; there are:'),
        (["-i", "192.0.2.254"], 1, 'no interface "192.0.2.254"'),
        (["host.invalid"], 1, "cannot resolve host.invalid"),
        (["127.0.0.1", "127.0.0.2"], 2, "one HOST is enough"),
        (["-i", "lo", "-i", "lo"], 2, "one --interface is enough"),
        (["--nosuch"], 2, "--nosuch"),
    ],
)
def test_what_cannot_be_used_is_told(args, status, text):
    for extra in ([], ["--json"]):
        done = run(*extra, *args)
        assert done.returncode == status
        assert done.stdout == ""
        assert text in done.stderr


def test_a_report_that_cannot_be_written_is_a_failure():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [PROGRAM], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert done.returncode == 1 and "cannot write the report" in done.stderr


def test_help_and_version():
    shown = run("--help")
    assert shown.returncode == 0 and "Exit status:" in shown.stdout
    assert run("--version").stdout == f"kvtrans-info {kvtrans_engine.__version__}\n"


# ---- libfabric's variables ----

SETTINGS = {
    "FI_PROVIDER": ("^sockets", "offers these providers only"),
    "FI_TCP_IFACE": ("lo", "an engine names its address"),
    "FI_TCP_ZEROCOPY_SIZE": ("4096", "tcp is not taken"),
    "FI_TCP_PORT_LOW_RANGE": ("20000", "lanes over tcp listen on ports of that range"),
    "FI_MR_CACHE_MAX_COUNT": ("7", "caches registrations"),
    "FI_MR_CACHE_MONITOR": ("disabled", "an engine turns off"),
    "FI_LOG_PROV": ("none", "writes to stderr"),
    "FI_VERBS_TX_SIZE": ("100", "bounds what a lane may have posted"),
    "FI_EFA_X": ("1", "no setting of a provider that an engine uses"),
}


def test_variables_of_libfabric_are_told_with_what_they_do():
    values = {name: value for name, (value, _) in SETTINGS.items()}
    advice = [item["what"] for item in report(**values)["advice"]]
    for name, (value, sentence) in SETTINGS.items():
        told = [what for what in advice if what.startswith(f"{name}={value}: ")]
        assert len(told) == 1 and sentence in told[0], (name, advice)
    quiet = [item["what"] for item in report(FI_MR_CACHE_MAX_COUNT="0")["advice"]]
    assert not any(what.startswith("FI_") for what in quiet), quiet


def test_variables_that_the_library_knows_are_in_the_manual():
    source = pathlib.Path(os.environ["KVT_SRCDIR"])
    known = re.findall(r'\{ "(FI_\w+)', (source / "src/fabric/profile.c").read_text())
    manual = (source / "docs/providers.md").read_text()
    assert len(known) > 10
    for name in known:
        assert name in manual, name


@pytest.mark.skipif(PROVIDER is not None, reason="the provider under test is not tcp")
@pytest.mark.parametrize(
    "name, value", [("FI_PROVIDER", "^tcp"), ("FI_PROVIDER", "udp"), ("FI_TCP_ZEROCOPY_SIZE", "4096")]
)
def test_an_engine_without_a_provider_names_the_variables_that_hide_it(run_python, name, value):
    script = """
        import os, sys
        os.environ[sys.argv[1]] = sys.argv[2]
        os.environ["FI_LOG_PROV"] = "x"
        import kvtrans_engine
        for provider in (None, "tcp"):
            try:
                kvtrans_engine.Engine("lo", provider=provider)
            except kvtrans_engine.Error as error:
                print(error.name, error)
    """
    status, out, err = run_python(script, name, value)
    assert status == 0, err
    assert out.splitlines() == [
        "KVT_E_NO_PROVIDER no libfabric provider serves 127.0.0.1; in the environment: "
        f"{name}={value}",
        "KVT_E_NO_PROVIDER provider tcp does not serve 127.0.0.1; in the environment: "
        f"{name}={value}",
    ]
    told = run("-i", "lo", **{name: value})
    assert told.returncode == 1 and f"{name}={value}" in told.stderr


@pytest.mark.skipif(PROVIDER is not None, reason="the provider under test is not tcp")
def test_a_failure_of_libfabric_names_the_variables_that_may_be_why(run_python):
    script = """
        import os, socket
        busy = socket.create_server(("127.0.0.1", 0))
        port = str(busy.getsockname()[1])
        os.environ["FI_TCP_PORT_LOW_RANGE"] = os.environ["FI_TCP_PORT_HIGH_RANGE"] = port
        import kvtrans_engine
        with kvtrans_engine.Engine("lo", ncpus=1) as engine:
            print(engine.connect("127.0.0.1", engine.port)[0], port, engine.last_error)
    """
    status, out, err = run_python(script)
    assert status == 0, err
    ok, port, text = out.split(" ", 2)
    assert ok == "False" and f"FI_TCP_PORT_LOW_RANGE={port}" in text, text
    assert f"FI_TCP_PORT_HIGH_RANGE={port}" in text
