# SPDX-License-Identifier: Apache-2.0
"""Memory that another program has made, and what is asked of memory that the engine makes."""

import fcntl
import mmap
import os
import re

import numpy as np
import pytest
from conftest import HOST, INTERFACE, PROVIDER

import kvtrans_engine

BLOCK, COUNT = 65536, 16
SIZE = BLOCK * COUNT
F_SEAL_SHRINK, F_SEAL_WRITE = 2, 8
# Another program: it makes memory, fills it, and seals it if it is told to.
MAKER = """
import fcntl, os, sys
fd = os.memfd_create("another", os.MFD_ALLOW_SEALING)
os.write(fd, bytes(range(256)) * (int(sys.argv[1]) // 256))
if sys.argv[2] == "sealed":
    fcntl.fcntl(fd, 1033, 2)
print(f"/proc/{os.getpid()}/fd/{fd}", flush=True)
sys.stdin.read()
"""
# An engine over such memory, which truncates it when it is told to.
OWNER = """
import os, sys
from kvtrans_engine import Engine
interface, provider, path, block, count = sys.argv[1:]
fd = os.open(path, os.O_RDWR)
engine = Engine(interface, provider=provider or None, ncpus=1)
print(engine.port, flush=True)
conn = engine.accept_connection(timeout=30)
pool = engine.adopt(fd, int(count), int(block))
conn.export(pool, name="cache")
print("exported", flush=True)
sys.stdin.readline()
os.ftruncate(fd, 0)
print("truncated", flush=True)
sys.stdin.readline()
print("alive", flush=True)
"""


@pytest.fixture
def make_file(start_python):
    """The path of another program's memory, and how to read what is there."""

    def make(kind, size=SIZE):
        return start_python(MAKER, size, kind).stdout.readline().strip()

    return make


@pytest.fixture
def open_file():
    """A descriptor of memory of this process's, named "ours"."""
    fds = []

    def make(size=SIZE, seals=0):
        fd = os.memfd_create("ours", os.MFD_ALLOW_SEALING)
        fds.append(fd)
        os.ftruncate(fd, size)
        if seals:
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        return fd

    yield make
    for fd in fds:
        os.close(fd)


def find_mappings(name):
    """How this process has mapped a file: access of each mapping."""
    with open("/proc/self/maps", encoding="utf-8") as file:
        return [line.split()[1] for line in file if name in line]


@pytest.mark.parametrize("kind", ["sealed", "unsealed"])
def test_memory_of_another_program_is_moved_and_kept(link, make_file, kind):
    path = make_file(kind)
    fd = os.open(path, os.O_RDWR)
    with link.server.adopt(fd, COUNT, BLOCK, dtype="u4") as pool:
        os.close(fd)
        assert (pool.block_count, pool.block_nbytes, pool.read_only) == (COUNT, BLOCK, False)
        assert pool.arrays[0].view(np.uint8).tobytes() == bytes(range(256)) * (SIZE // 256)
        remote = link.conn.import_remote(link.peer.export(pool))
        mine = link.client.allocate(COUNT, BLOCK)
        order = np.arange(COUNT)
        link.conn.read_blocks(mine, order[::-1].copy(), remote, order).result(20)
        assert (mine.arrays[0] == pool.arrays[0].view(np.uint8)[::-1]).all()
        mine.arrays[0][:] = 7
        link.conn.write_blocks(mine, order[:4], remote, order[4:8]).result(20)
        assert (pool.arrays[0].view(np.uint8)[4:8] == 7).all()
    with open(path, "rb") as file:
        there = np.frombuffer(file.read(), np.uint8).reshape(COUNT, BLOCK)
    assert (there[4:8] == 7).all() and there[0].tobytes() == bytes(range(256)) * (BLOCK // 256)


def test_extents_and_an_offset_say_where_in_the_file_the_blocks_are(link, open_file):
    fd = open_file(5 * 4096)
    os.pwrite(fd, b"\1" * 8192 + b"\2" * 8192, 4096)
    pool = link.client.adopt(fd, 2, 4096, extent_count=2, offset=4096)
    first, second = pool.arrays
    assert (first == 1).all() and (second == 2).all()
    second[1, :] = 9
    assert os.pread(fd, 4096, 4 * 4096) == b"\t" * 4096
    assert (link.client.adopt(fd, 1, 100, offset=4000).arrays[0][0][:96] == 0).all()


def test_files_in_dev_shm_are_adopted(link, tmp_path):
    path = f"/dev/shm/kvtrans-test-{os.getpid()}"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.ftruncate(fd, SIZE)
        pool = link.server.adopt(fd, COUNT, BLOCK)
        remote = link.conn.import_remote(link.peer.export(pool))
        mine = link.client.allocate(COUNT, BLOCK)
        mine.arrays[0][:] = 3
        link.conn.write_blocks(mine, np.arange(COUNT), remote, np.arange(COUNT)).result(20)
        assert os.pread(fd, SIZE, 0) == b"\3" * SIZE
    finally:
        os.close(fd)
        os.unlink(path)


def test_read_only_memory_is_read_and_never_written(link, open_file):
    fd = os.open(f"/proc/self/fd/{open_file()}", os.O_RDONLY)
    with pytest.raises(ValueError, match="open for reading only"):
        link.client.adopt(fd, COUNT, BLOCK)
    pool = link.client.adopt(fd, COUNT, BLOCK, read_only=True, prefault=True)
    os.close(fd)
    assert pool.read_only and not pool.arrays[0].flags.writeable
    _, remote = link.share(np.ones((COUNT, BLOCK), np.uint8))
    with pytest.raises(ValueError, match="read-only"):
        link.conn.read_blocks(pool, [0], remote, [0])
    there = link.server.allocate(COUNT, BLOCK)
    there.arrays[0][:] = 1
    target = link.conn.import_remote(link.peer.export(there))
    link.conn.write_blocks(pool, [1], target, [2]).result(20)
    assert not there.arrays[0][2].any() and there.arrays[0][3].all()


def test_what_is_no_memory_of_that_size_is_refused(link, open_file):
    sealed = open_file(SIZE, F_SEAL_WRITE)
    write_only = os.open(f"/proc/self/fd/{open_file()}", os.O_WRONLY)
    on_disk = os.open(os.path.realpath("/proc/self/exe"), os.O_RDONLY)
    reader, writer = os.pipe()
    small = open_file(SIZE - 1)
    cases = [
        (-1, {}, "descriptor"),
        (10**6, {}, "Bad file descriptor"),
        (reader, {}, "is no memory"),
        (on_disk, {"read_only": True}, "is no memory"),
        (write_only, {}, "open for writing only"),
        (sealed, {}, "mapping descriptor"),
        (small, {}, f"the file has {SIZE - 1} bytes, and the pool ends at {SIZE}"),
        (open_file(), {"offset": 1}, f"the pool ends at {SIZE + 1}"),
        (open_file(), {"offset": 2**62}, "the pool ends at"),
        (open_file(), {"extent_count": 2}, f"the pool ends at {2 * SIZE}"),
    ]
    before = link.client.stats()["registrations"]
    for fd, options, text in cases:
        with pytest.raises(ValueError, match=text):
            link.client.adopt(fd, COUNT, BLOCK, **options)
    with pytest.raises(ValueError, match="offset must be from 0"):
        link.client.adopt(small, 1, 8, offset=-1)
    with pytest.raises(TypeError):
        link.client.adopt("a name", 1, 8)
    assert link.client.stats()["registrations"] == before and not find_mappings("memfd:ours")
    for fd in (write_only, on_disk, reader, writer):
        os.close(fd)


@pytest.fixture
def open_owner(start_python, open_engine, make_file):
    """A process whose engine has adopted another's memory: it, this process's engine, and the remote."""

    def make(kind, provider):
        path = make_file(kind)
        process = start_python(OWNER, INTERFACE, provider or "", path, BLOCK, COUNT)
        engine = open_engine(provider=provider)
        conn = engine.open_connection(HOST, int(process.stdout.readline()), timeout=30)
        assert process.stdout.readline() == "exported\n"
        return process, engine, conn, conn.remote("cache", timeout=30)

    return make


def test_a_peer_maps_what_cannot_shrink_for_reading_and_nothing_else(open_owner):
    for kind, mapped in (("sealed", {"r--s"}), ("unsealed", set())):
        _, engine, conn, remote = open_owner(kind, "local")
        mine = engine.allocate(COUNT, BLOCK)
        for _ in range(3):  # the first may come before the owner's offer
            conn.read_blocks(mine, range(COUNT), remote, range(COUNT)).result(20)
        assert (mine.arrays[0] == np.arange(BLOCK, dtype=np.uint8)).all()
        assert set(find_mappings("memfd:another")) == mapped
        conn.close()
        engine.close()
        assert not find_mappings("memfd:another")


def test_memory_that_its_maker_cuts_off_costs_the_connection_and_no_process(open_owner):
    process, engine, conn, remote = open_owner("unsealed", PROVIDER or "local")
    mine = engine.allocate(COUNT, BLOCK)
    conn.read_blocks(mine, range(COUNT), remote, range(COUNT)).result(20)
    process.stdin.write("cut\n")
    process.stdin.flush()
    assert process.stdout.readline() == "truncated\n"
    failed = conn.read_blocks(mine, range(COUNT), remote, range(COUNT), timeout=20).exception(30)
    assert isinstance(failed, kvtrans_engine.Error)
    process.stdin.write("go\n")
    process.stdin.flush()
    assert process.stdout.readline() == "alive\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_users_memory_is_adopted_by_its_descriptor(start_python):
    """Which is all that the user has of it; two engines of that user move it."""
    path = f"/dev/shm/kvtrans-test-user-{os.getpid()}"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.ftruncate(fd, SIZE)
        os.set_inheritable(fd, True)
        script = """
        import os, sys
        from kvtrans_engine import Engine
        os.setuid(987654)
        try:
            open(sys.argv[2])
            sys.exit("the file is not another's")
        except PermissionError:
            pass
        client, server = (Engine("lo", provider=sys.argv[3] or None, ncpus=1, insecure=True) for _ in range(2))
        conn, peer = client.open_connection("127.0.0.1", server.port), server.accept_connection(timeout=10)
        mine, theirs = client.allocate(16, 65536), server.adopt(int(sys.argv[1]), 16, 65536)
        mine.arrays[0][:] = 5
        remote = conn.import_remote(peer.export(theirs))
        conn.write_blocks(mine, range(16), remote, range(16)).result(20)
        client.close(), server.close()
        """
        process = start_python(script, fd, path, PROVIDER or "", pass_fds=(fd,))
        _, told = process.communicate(timeout=60)
        assert process.returncode == 0, told
        assert os.pread(fd, SIZE, 0) == b"\5" * SIZE
    finally:
        os.close(fd)
        os.unlink(path)


def test_memory_that_is_not_shared_is_in_no_file_and_moves_as_well(open_link, make_file):
    link = open_link(provider="local")
    hidden = link.server.allocate(COUNT, BLOCK, shared=False)
    assert not find_mappings("memfd:kvtrans-pool")
    fd = os.open(make_file("sealed"), os.O_RDWR)
    adopted = link.server.adopt(fd, COUNT, BLOCK, shared=False)
    os.close(fd)
    mine = link.client.allocate(COUNT, BLOCK)
    for pool in (hidden, adopted):
        pool.arrays[0][:] = 4
        remote = link.conn.import_remote(link.peer.export(pool))
        for _ in range(3):
            link.conn.read_blocks(mine, range(COUNT), remote, range(COUNT)).result(20)
        assert (mine.arrays[0] == 4).all()
        mine.arrays[0][:] = 0
    assert find_mappings("memfd:another") == ["rw-s"]  # ours, which the other engine has not mapped


def get_resident(name):
    """KiB of this process's mappings of a file: there, and there in huge pages."""
    with open("/proc/self/smaps", encoding="utf-8") as file:
        areas = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", file.read(), flags=re.M)
    chosen = [area for area in areas if name in area.partition("\n")[0]]
    return tuple(
        sum(int(kib) for area in chosen for kib in re.findall(rf"^{word}: +(\d+)", area, re.M))
        for word in ("Rss", "ShmemPmdMapped")
    )


def test_prefaulted_memory_is_there_at_once(open_engine):
    engine = open_engine(provider="local")
    lazy = engine.allocate(1024, 4096)
    assert get_resident("memfd:kvtrans-pool")[0] < 4096
    lazy.close()
    del lazy
    pool = engine.allocate(1024, 4096, prefault=True)
    assert get_resident("memfd:kvtrans-pool")[0] >= 4096 and not pool.arrays[0].any()
    engine.allocate(1024, 4096, prefault=True, shared=False).arrays[0][:] = 1


@pytest.mark.parametrize("option", ["prefault", "hugepages"])
@pytest.mark.parametrize("read_only", [False, True])
def test_of_a_file_nothing_is_made_before_the_pool(open_engine, open_file, option, read_only):
    engine = open_engine(provider="local")
    start = 64 << 20
    fd = open_file(start + SIZE)
    engine.adopt(fd, COUNT, BLOCK, offset=start, read_only=read_only, **{option: True})
    assert SIZE <= os.fstat(fd).st_blocks * 512 < start


def test_huge_pages_are_had_where_the_kernel_can(open_engine):
    engine = open_engine(provider="local")
    pool = engine.allocate(1024, 4096, hugepages=True)
    there, huge = get_resident("memfd:kvtrans-pool")
    assert there >= 4096 and not pool.arrays[0].any()
    release = [int(number) for number in re.findall(r"\d+", os.uname().release)[:2]]
    if release < [6, 1] or not os.path.exists("/sys/kernel/mm/transparent_hugepage") or mmap.PAGESIZE != 4096:
        pytest.skip("this kernel joins no pages")
    if huge == 0:
        pytest.skip("no free huge pages, or the host denies them")
    assert huge % 2048 == 0
