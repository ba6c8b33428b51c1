# SPDX-License-Identifier: Apache-2.0
"""kvtrans-key: the program, run as users run it, each test in a home directory of its own."""

import base64
import fcntl
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import pytest

import kvtrans_engine

PROGRAM = pathlib.Path(os.environ["KVT_BUILDDIR"], "tools", "kvtrans-key")
NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("KVTRANS_KEY_FILE", raising=False)
    return tmp_path


@pytest.fixture
def pod():
    """A directory that every user may enter, with a copy of the program in it."""
    # Not in TMPDIR, which may be the tester's own.
    with tempfile.TemporaryDirectory(prefix="kvtrans-key-", dir="/tmp") as name:
        path = pathlib.Path(name)
        path.chmod(0o755)
        shutil.copy(PROGRAM, path)
        yield path


@pytest.fixture
def key_file(home):
    return home / ".config" / "kvtrans" / "key"


def run(*args, program=PROGRAM, **options):
    return subprocess.run(
        [program, *args], capture_output=True, text=True, timeout=60, check=False, **options
    )


def succeed(*args, **options):
    done = run(*args, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def fail(*args, status=1, **options):
    done = run(*args, **options)
    assert done.returncode == status, done
    assert done.stdout == ""
    assert not re.search(r"[A-Za-z0-9+/]{40}", done.stderr.replace("/", " "))
    return done.stderr


def get_id(secret):
    return hashlib.sha256(b"KVTrans key id 1\0" + base64.b64decode(secret)).hexdigest()[:16]


def make_line():
    secret = base64.b64encode(os.urandom(32)).decode()
    return f"{get_id(secret)}:{secret}"


def write(path, text, mode=0o600):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


# ---- make and show ----


def test_a_key_file_is_made_for_its_user_alone(key_file):
    done = run("make")
    assert done.returncode == 0
    assert done.stderr == f"made {key_file}\n"
    assert key_file.stat().st_mode & 0o7777 == 0o600
    assert key_file.parent.stat().st_mode & 0o7777 == 0o700
    assert os.listdir(key_file.parent) == ["key"]
    (line,) = [line for line in key_file.read_text().splitlines() if not line.startswith("#")]
    key_id, secret = line.split(":")
    assert done.stdout.split() == [key_id] == [get_id(secret)]
    assert len(base64.b64decode(secret)) == 32
    assert secret not in done.stdout + done.stderr


def test_a_key_file_that_is_there_stays(key_file):
    made = succeed("make")
    before = key_file.read_bytes()
    done = run("make")
    assert done.returncode == 0 and done.stdout.split() == made
    assert "is there already" in done.stderr
    assert key_file.read_bytes() == before


def test_no_two_keys_are_the_same(home):
    ids = [succeed("make", "-f", str(home / name))[0] for name in "abcd"]
    assert len(set(ids)) == 4


def test_many_that_make_it_at_once_get_one_key(key_file):
    for _ in range(5):
        makers = [
            subprocess.Popen([PROGRAM, "make"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for _ in range(8)
        ]
        told = [maker.communicate(timeout=60) for maker in makers]
        assert [maker.returncode for maker in makers] == [0] * 8, told
        assert len({out for out, _ in told}) == 1
        assert sum(b"made" in err for _, err in told) == 1
        assert os.listdir(key_file.parent) == ["key"]
        key_file.unlink()


def test_ids_are_shown_and_secrets_only_when_asked_for(key_file):
    lines = [make_line() for _ in range(3)]
    write(key_file, "# three\n" + "\n".join(lines))
    assert succeed("show") == [line.split(":")[0] for line in lines]
    assert succeed("show", "--secret") == lines
    copy = key_file.with_name("copy")
    write(copy, "\n".join(succeed("show", "-s")))
    assert succeed("show", "--file", str(copy)) == succeed("show")


def test_a_secret_alone_is_a_key_as_openssl_makes_them(key_file):
    secret = base64.b64encode(bytes(range(32))).decode()
    write(key_file, secret + "\n")
    assert succeed("show") == [get_id(secret)]


# ---- where ----


def test_the_environment_chooses_the_file(home, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "xdg"))
    succeed("make")
    assert (home / "xdg" / "kvtrans" / "key").exists()
    monkeypatch.setenv("KVTRANS_KEY_FILE", str(home / "mine"))
    succeed("make")
    assert (home / "mine").exists()
    succeed("make", "-f", str(home / "other"))
    assert (home / "other").exists()
    assert not (home / ".config").exists()


def test_without_HOME_the_system_is_asked(home, monkeypatch):
    monkeypatch.delenv("HOME")
    told = run("check")
    assert "/.config/kvtrans/key" in told.stdout + told.stderr


@as_root
def test_a_user_without_a_home_directory_is_told_what_to_set(home, pod, monkeypatch):
    """A container that runs as some number, without HOME."""
    monkeypatch.delenv("HOME")
    someone = {"user": 987654, "group": 987654, "extra_groups": []}
    someone["program"] = pod / PROGRAM.name
    told = fail("make", **someone)
    assert "user 987654 has no home directory" in told and "KVTRANS_KEY_FILE" in told
    write(pod / "secret", make_line())
    os.chown(pod / "secret", 987654, 987654)
    monkeypatch.setenv("KVTRANS_KEY_FILE", str(pod / "secret"))
    assert succeed("check", **someone)


def test_a_home_directory_that_cannot_be_written_is_told(monkeypatch, home):
    monkeypatch.setenv("HOME", "/proc/nosuch")
    assert "cannot make directory /proc/nosuch/.config" in fail("make")


# ---- check ----


def test_a_good_file_is_told_good(key_file):
    succeed("make")
    assert run("check").stdout == f"{key_file}: 1 key\n"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601, 0o666])
def test_a_file_that_is_open_to_others_is_refused(key_file, mode):
    # Root gives keys to groups: the case of another user is below.
    write(key_file, make_line(), mode)
    if os.geteuid() == 0 and mode == 0o640:
        os.chown(key_file, NOBODY, -1)
        assert "belongs to another user" in fail("check")
        return
    for command in ("check", "show", "rotate", "make"):
        told = fail(command)
        assert "is open to others than its owner: chmod 600 it" in told and str(key_file) in told
    assert key_file.stat().st_mode & 0o7777 == mode


@as_root
def test_secrets_of_kubernetes_are_taken_as_it_mounts_them(pod, monkeypatch):
    """Root's, behind links; 0440 with fsGroup, and with the default 0644 refused."""
    data = pod / "..2026_11_29"
    data.mkdir(mode=0o755)
    (pod / "..data").symlink_to(data.name)
    (pod / "key").symlink_to("..data/key")
    write(data / "key", make_line(), 0o440)
    os.chown(data / "key", 0, 2000)
    monkeypatch.setenv("KVTRANS_KEY_FILE", str(pod / "key"))
    program = pod / PROGRAM.name
    user = {"user": 1000, "group": 1000, "extra_groups": [2000], "program": program}
    stranger = {**user, "extra_groups": []}
    assert succeed("check", **user)
    assert succeed("check")  # the container's user is root
    assert "Permission denied" in fail("check", **stranger)
    (data / "key").chmod(0o644)
    for who in (user, {}):
        assert "defaultMode: 0400" in fail("check", **who)


@as_root
def test_the_file_of_another_user_is_refused(key_file):
    succeed("make")
    os.chown(key_file, NOBODY, NOBODY)
    assert "belongs to another user" in fail("check")


def test_what_is_no_key_file_is_told_without_what_is_in_it(key_file):
    good = make_line()
    for text, told in {
        "": "no key in it",
        "# only this\n": "no key in it",
        f"{good}\n{good[:-5]}\n": "line 2 is neither a key nor a comment",
        good[:20] + ("A" if good[20] != "A" else "B") + good[21:]: "line 1 is a key whose id",
        "x" * 20000: "is too large to be a key file",
        "\0" * 100: "line 1 is neither a key nor a comment",
        "A" * 43 + "=": "line 1 is a key of zeros",
        "\n".join(make_line() for _ in range(65)): "line 65 is one key too many",
    }.items():
        write(key_file, text)
        for command in ("check", "show", "rotate"):
            assert told in fail(command)
        assert key_file.read_text() == text


def test_what_is_no_file_is_told(key_file):
    assert "No such file" in fail("check") and '"kvtrans-key make" makes it' in fail("show")
    key_file.mkdir(parents=True)
    assert "is a directory" in fail("check")
    key_file.rmdir()
    key_file.symlink_to(key_file)
    for command in ("check", "rotate", "make"):
        assert "Too many levels of symbolic links" in fail(command)
    key_file.unlink()
    os.mkfifo(key_file, 0o600)
    for command in ("check", "rotate"):
        assert "is no regular file" in fail(command)
    key_file.unlink()
    key_file.parent.rmdir()
    key_file.parent.write_text("")
    assert "Not a directory" in fail("make")


# ---- rotate ----


def test_rotation_puts_a_new_key_first_and_keeps_the_old(key_file):
    (old,) = succeed("make")
    new, kept = succeed("rotate")
    assert kept == old != new
    assert succeed("show") == [new, old]
    assert key_file.stat().st_mode & 0o7777 == 0o600
    assert os.listdir(key_file.parent) == ["key"]


def test_rotation_in_three_steps(key_file):
    (old,) = succeed("make")
    kept, new = succeed("rotate", "--last")
    assert kept == old
    assert succeed("rotate", "--first", new) == [new, old]
    assert succeed("rotate", "--first", new) == [new, old]
    assert succeed("rotate", "--drop", old.upper()) == [new]
    assert "its only key is not dropped" in fail("rotate", "--drop", new)
    assert "no key with that id" in fail("rotate", "--drop", old)
    assert "no key with that id" in fail("rotate", "--first", old)
    assert succeed("show") == [new]


def test_comments_stay_where_they_are(key_file):
    a, b, c = make_line(), make_line(), make_line()
    write(key_file, f"# top\n\n{a} # a\n# between\n{b}\n# c follows\n{c}")
    key_id = {line: line.split(":")[0] for line in (a, b, c)}
    succeed("rotate", "--first", key_id[c])
    assert key_file.read_text() == f"# top\n\n{c}\n{a} # a\n# between\n{b}\n# c follows\n"
    succeed("rotate", "--drop", key_id[b])
    assert key_file.read_text() == f"# top\n\n{c}\n{a} # a\n# between\n# c follows\n"
    succeed("rotate")
    text = key_file.read_text()
    assert text.startswith("# top\n\n") and text.endswith(f"\n{c}\n{a} # a\n# between\n# c follows\n")
    assert len(text.splitlines()) == 7


def test_a_file_behind_a_link_is_changed_there(key_file, home):
    real = home / "dotfiles"
    write(real, make_line())
    key_file.parent.mkdir(parents=True)
    key_file.symlink_to(real)
    succeed("rotate")
    assert key_file.is_symlink()
    assert len(real.read_text().splitlines()) == 2


def test_a_full_file_is_not_made_longer(key_file):
    text = "\n".join(make_line() for _ in range(64))
    write(key_file, text)
    assert "one key too many" in fail("rotate")
    assert key_file.read_text() == text
    write(key_file, make_line() + "\n" + "#" * 16300)
    assert "too long with one key more" in fail("rotate")
    assert os.listdir(key_file.parent) == ["key"]


def test_many_that_rotate_at_once_lose_no_key(key_file):
    ids = set(succeed("make"))
    jobs = [
        subprocess.Popen([PROGRAM, "rotate"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(10)
    ]
    while any(job.poll() is None for job in jobs):
        succeed("check")  # never half a file
    assert [job.returncode for job in jobs] == [0] * 10, [job.communicate() for job in jobs]
    assert len(set(succeed("show"))) == 11 and ids <= set(succeed("show"))
    assert os.listdir(key_file.parent) == ["key"]
    for job in jobs:
        job.communicate()


def test_who_keeps_the_file_locked_is_waited_for(key_file):
    succeed("make")
    with open(key_file, "r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        job = subprocess.Popen([PROGRAM, "rotate"], stdout=subprocess.PIPE)
        with pytest.raises(subprocess.TimeoutExpired):
            job.wait(0.3)
        fcntl.flock(held, fcntl.LOCK_UN)
        assert job.communicate(timeout=60)[0].count(b"\n") == 2
        assert job.returncode == 0


def test_who_keeps_it_for_ever_is_told(key_file):
    succeed("make")
    with open(key_file, "r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "locked for 10 s" in fail("rotate")
    assert len(succeed("show")) == 1


@as_root
def test_a_file_that_cannot_be_replaced_stays(key_file):
    key_file.parent.mkdir(parents=True)
    succeed("make")
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", 'mount --bind "$1" "$1" && '
         'mount -o remount,ro,bind "$1" && exec "$0" rotate', PROGRAM, str(key_file.parent)],
        capture_output=True, text=True, timeout=60, check=False,
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("no mounts here: " + done.stderr)
    assert done.returncode == 1 and "Read-only file system" in done.stderr
    assert len(succeed("show")) == 1


# ---- use ----


@pytest.mark.parametrize(
    "args, text",
    [
        ([], "Usage"),
        (["nosuch"], '"nosuch" is none of make, show, check, rotate'),
        (["make", "show"], "one command is enough"),
        (["-f", "a", "-f", "b", "make"], "one --file is enough"),
        (["check", "--secret"], "--secret is for show"),
        (["show", "--drop", "0123456789abcdef"], "are for rotate"),
        (["rotate", "--last", "--drop", "0123456789abcdef"], "is enough"),
        (["rotate", "--drop", "0123"], "an ID has 16 hex digits"),
        (["rotate", "--drop", "0123456789abcdeg"], "an ID has 16 hex digits"),
        (["rotate", "--first", ""], "an ID has 16 hex digits"),
        (["--nosuch"], "--nosuch"),
    ],
)
def test_wrong_use_is_told(key_file, args, text):
    assert text in fail(*args, status=2)
    assert not key_file.exists()


def test_output_that_cannot_be_written_is_a_failure(key_file):
    succeed("make")
    for command in ("show", "check"):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [PROGRAM, command], stdout=full, stderr=subprocess.PIPE, text=True, check=False
            )
        assert done.returncode == 1 and "cannot write" in done.stderr


def test_help_and_version(home):
    shown = run("--help")
    assert shown.returncode == 0 and "Exit status:" in shown.stdout
    assert run("--version").stdout == f"kvtrans-key {kvtrans_engine.__version__}\n"
