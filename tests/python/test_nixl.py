# SPDX-License-Identifier: Apache-2.0
"""python -m kvtrans_engine nixl: the folder of plugins for NIXL. What is in it is run by make check-nixl."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

import kvtrans_engine

PLUGIN = pathlib.Path(kvtrans_engine.__file__).with_name("libplugin_KVTRANS.so")


@pytest.fixture
def wheel(tmp_path):
    """The shape of an installed NIXL."""
    plugins = tmp_path / "site" / ".nixl_cu12.mesonpy.libs" / "plugins"
    plugins.mkdir(parents=True)
    for name in ("libplugin_UCX.so", "libplugin_POSIX.so", "../libnixl.so", "../../nixl_cu12.libs/libucp.so"):
        (plugins / name).resolve().parent.mkdir(exist_ok=True)
        (plugins / name).write_text(name)
    return plugins


def run_nixl(tmp_path, *arguments):
    environment = dict(os.environ, XDG_CACHE_HOME=str(tmp_path / "cache dir"))
    return subprocess.run([sys.executable, "-m", "kvtrans_engine", "nixl", *map(str, arguments)],
                          capture_output=True, text=True, timeout=60, env=environment)


def find_folder(done):
    assert done.returncode == 0, done.stderr
    return pathlib.Path(re.search("^export NIXL_PLUGIN_DIR='?([^'\n]*)", done.stdout, re.M)[1])


needs_plugin = pytest.mark.skipif(not PLUGIN.exists(), reason="built without the plugin for NIXL")


@needs_plugin
def test_the_folder_has_our_plugin_beside_those_of_nixl(tmp_path, wheel):
    folder = find_folder(run_nixl(tmp_path, "--plugins", wheel))
    assert (folder / "libplugin_KVTRANS.so").resolve() == PLUGIN.resolve()
    assert (folder / "libplugin_UCX.so").read_text() == "libplugin_UCX.so"
    assert (folder / "libplugin_POSIX.so").exists()
    # Where a plugin of NIXL's wheel looks for libraries.
    assert (folder / "../libnixl.so").exists() and (folder / "../../nixl_cu12.libs/libucp.so").exists()


@needs_plugin
def test_ours_can_take_the_name_of_another(tmp_path, wheel):
    folder = find_folder(run_nixl(tmp_path, "--plugins", wheel, "--as", "UCX"))
    assert (folder / "libplugin_UCX.so").resolve() == PLUGIN.resolve()
    assert (folder / "libplugin_POSIX.so").exists() and not (folder / "libplugin_KVTRANS.so").exists()


@needs_plugin
def test_the_folder_is_made_anew_each_time_and_nothing_is_left_over(tmp_path, wheel):
    first = find_folder(run_nixl(tmp_path, "--plugins", wheel))
    (wheel / "libplugin_POSIX.so").unlink()
    assert find_folder(run_nixl(tmp_path, "--plugins", wheel)) == first
    assert not (first / "libplugin_POSIX.so").exists() and (first / "libplugin_UCX.so").exists()
    cache = tmp_path / "cache dir" / "kvtrans" / "nixl"
    assert len(list(cache.iterdir())) == 3  # the link, what it names, and what it named and somebody may be reading
    for folder in cache.iterdir():
        if not folder.is_symlink():
            os.utime(folder, (1, 1))
    assert find_folder(run_nixl(tmp_path, "--plugins", wheel)) == first
    assert len(list(cache.iterdir())) == 2 and (first / "libplugin_UCX.so").exists()


@needs_plugin
def test_processes_that_start_together_all_get_the_folder(tmp_path, wheel):
    # Each makes it many times, for they would seldom meet otherwise.
    again = ("import pathlib, sys; from kvtrans_engine import _nixl\n"
             "for _ in range(100):\n"
             "    folder = _nixl.make_folder(pathlib.Path(sys.argv[1]), 'KVTRANS')\n"
             "    assert (folder / 'libplugin_KVTRANS.so').exists() and (folder / 'libplugin_UCX.so').exists()\n"
             "print(folder)")
    environment = dict(os.environ, XDG_CACHE_HOME=str(tmp_path / "cache"))
    ranks = [subprocess.Popen([sys.executable, "-c", again, str(wheel)], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, env=environment) for _ in range(4)]
    done = [rank.communicate(timeout=60) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0] * 4, done
    assert len({folder for folder, _ in done}) == 1
    assert len(list(pathlib.Path(done[0][0].strip()).iterdir())) >= 3


@needs_plugin
def test_signals_are_left_to_the_engine(tmp_path, wheel):
    done = run_nixl(tmp_path, "--plugins", wheel)
    assert "\nexport IPATH_NO_BACKTRACE=1 HFI_NO_BACKTRACE=1\n" in done.stdout


@needs_plugin
def test_what_is_wrong_is_said(tmp_path, wheel):
    done = run_nixl(tmp_path, "--plugins", tmp_path)
    assert done.returncode == 2 and "no libplugin_*.so is there" in done.stderr
    done = run_nixl(tmp_path, "--plugins", wheel, "--as", "../UCX")
    assert done.returncode == 2 and "a name of letters" in done.stderr
    done = run_nixl(tmp_path)
    assert done.returncode == 0 and "no nixl whose plugins" in done.stdout


def test_another_word_is_refused():
    done = subprocess.run([sys.executable, "-m", "kvtrans_engine", "mixl"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "mixl" in done.stderr
