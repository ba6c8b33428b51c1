# SPDX-License-Identifier: Apache-2.0
"""python -m kvtrans_engine, docstrings, signatures, stubs."""

import ast
import inspect
import pathlib
import subprocess
import sys

import numpy as np

import kvtrans_engine
from kvtrans_engine import Connection, Engine, Pool, Remote, Transfer

TYPES = (Engine, Transfer, Connection, Pool, Remote)


def test_the_program_prints_facts():
    done = subprocess.run(
        [sys.executable, "-m", "kvtrans_engine"], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0 and done.stderr == ""
    facts = dict(line.split(":", 1) for line in done.stdout.splitlines())
    assert facts["kvtrans_engine"].strip() == kvtrans_engine.__version__
    assert np.__version__ in facts["NumPy"]
    assert facts["provider on lo"].strip()
    assert "kvtrans-info" in facts["more"]


def test_everything_public_has_a_docstring_and_a_signature():
    for class_ in TYPES:
        for name, item in vars(class_).items():
            if name.startswith("_") and name not in ("__enter__", "__exit__"):
                continue
            assert item.__doc__, name
            if callable(item):
                assert inspect.signature(item)
    assert list(inspect.signature(Engine).parameters)[:4] == [
        "interface",
        "ncpus",
        "nconn_per_cpu",
        "listen_port",
    ]


def parse_stub():
    path = pathlib.Path(kvtrans_engine.__file__).with_name("_kvtrans.pyi")
    return {
        item.name: item
        for item in ast.parse(path.read_text()).body
        if isinstance(item, ast.ClassDef)
    }


def test_the_stub_has_what_the_extension_has():
    classes = parse_stub()
    for class_ in TYPES:
        stubs = {
            item.name: item
            for item in classes[class_.__name__].body
            if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef))
        }
        real = {name for name in vars(class_) if not name.startswith("_")}
        assert real == {name for name in stubs if not name.startswith("_")}
        for name in real:
            if callable(getattr(class_, name)):
                names = list(inspect.signature(getattr(class_, name)).parameters)
                args = stubs[name].args
                every = args.posonlyargs + args.args + args.kwonlyargs
                assert names == [arg.arg for arg in every], name
    for class_ in (kvtrans_engine.Notification, kvtrans_engine.TransferStats):
        fields = [item.target.id for item in classes[class_.__name__].body]
        assert list(class_.__match_args__) == fields
    public = set(kvtrans_engine.__all__) - {"Batch", "__version__"}
    assert {name for name in classes if not name.startswith("_")} == public


def test_typed_is_marked():
    assert pathlib.Path(kvtrans_engine.__file__).with_name("py.typed").exists()
