# SPDX-License-Identifier: Apache-2.0
"""README's table "Limits and defaults" is true: each row has the numbers of the library, and is held by tests.

ROWS says where a row's numbers come from, and which tests hold it; those of this file name it with @holds.
"""

import os
import pathlib
import re
import socket
import time

import numpy as np
import pytest

import kvtrans_engine
from conftest import HOST, LATENESS

SOURCE = pathlib.Path(os.environ["KVT_SRCDIR"])
HEADERS = [
    "include/kvtrans.h",
    "include/kvtrans_base.h",
    "include/kvtrans_paged.h",
    "src/wire/wire.h",
    "src/engine/core/settings.h",
    "src/engine/conn/strangers.h",
    "src/engine/tagged/start_window.h",
    "python/ext/notes.c",
]
SECOND = 10**9

# A row's name: its default, its maximum, the tests elsewhere that hold it. {NAME} is a constant of the
# library's; :kib, :mib and :s are its units.
ROWS = {
    "interfaces of an engine": (
        "",
        "{KVI_RAILS_MAX}",
        ["tests/unit/check_engine_settings.c: interfaces_are_needed_and_have_names"],
    ),
    "`ncpus`": (
        "half the CPUs, 1 to 4",
        "{KVI_CPUS_MAX}",
        [
            "tests/unit/check_engine_settings.c: zero_means_the_default",
            "tests/unit/check_engine_settings.c: workers_and_lanes_are_limited",
        ],
    ),
    "`nconn_per_cpu`": (
        "1",
        "`ncpus` x `nconn_per_cpu` <= {KVI_LANES_MAX}",
        [
            "tests/unit/check_engine_settings.c: zero_means_the_default",
            "tests/unit/check_engine_settings.c: workers_and_lanes_are_limited",
        ],
    ),
    "connections of an engine": (
        "",
        "{KVI_CONNECTIONS_MAX}",
        ["tests/engine/check_flow.c: connections_are_limited_per_engine"],
    ),
    "of these, and of those that have ended, not accepted yet": (
        "",
        "{KVI_UNACCEPTED_MAX}; further peers are refused: `KVT_E_LIMIT`",
        ["tests/engine/check_delivery.c: peers_are_refused_once_so_many_wait_that_no_more_are_kept"],
    ),
    "what they have sent, all together": (
        "",
        "{KVI_UNACCEPTED_LEN_MAX:mib}; further messages wait until they are accepted",
        ["tests/engine/check_delivery.c: a_sender_waits_once_so_much_was_left_that_no_more_is_kept"],
    ),
    "KVs, transfers in flight, of a connection": (
        "",
        "{KVI_KVS_MAX} each",
        [
            "tests/engine/check_flow.c: kvs_are_limited_per_connection",
            "tests/engine/check_flow.c: transfers_in_flight_are_limited_per_connection",
        ],
    ),
    "bytes of a message": (
        "",
        "2^63 - 1",
        ["tests/protocol/check_malformed.c: what_the_document_excludes_is_rejected"],
    ),
    "message sent before the receiver asks (`eager_nbytes`)": (
        "{KVI_EAGER_LEN:kib}",
        "{KVI_EAGER_LEN_MAX:mib}",
        [
            "tests/unit/check_engine_settings.c: lengths_and_times_are_limited",
            "tests/engine/check_flow.c: the_longest_eager_message_does_not_wait_for_its_receive",
        ],
    ),
    "such messages, and notifications, that nobody takes, per lane": (
        "",
        "2 MiB + 16 KiB, {KVI_MESSAGE_CHARGE} bytes of it for each on top of its own ({EMPTY_NOTES} empty ones); "
        "further messages wait for a receive, further notifications at the peer",
        [
            "tests/engine/check_paged_events.c: "
            "small_notifications_that_nobody_takes_are_bounded_as_large_ones_are",
            "tests/engine/check_paged_hostile.c: more_than_the_window_is_refused",
        ],
    ),
    "larger messages that nobody receives, per lane": (
        "",
        "{KVI_START_WINDOW:mib}, of which each takes {KVI_START_CHARGE} bytes and its meta ({EMPTY_STARTS} without); half "
        "of that of one KV while others need it; further ones wait at the peer",
        [
            "tests/engine/check_windows.c: messages_that_nobody_receives_wait_on_their_senders_side",
            "tests/engine/check_windows.c: "
            "a_peer_that_announces_more_than_its_window_costs_its_own_connection",
        ],
    ),
    "description of a dtype (C: meta of a message)": (
        "",
        "{KVT_META_LEN_MAX} bytes",
        [
            "tests/python/test_arrays.py: test_a_description_that_is_too_long_is_refused",
            "tests/protocol/check_malformed.c: meta_has_a_limit",
        ],
    ),
    "extents of a pool": ("", "{KVT_EXTENTS_MAX}", []),
    "name of an export; notification": (
        "",
        "{KVT_NAME_LEN_MAX} bytes; {KVT_NOTIFY_LEN_MAX:mib}",
        ["tests/engine/check_find.c: an_export_is_found_by_its_name"],
    ),
    "notifications that Python keeps beside those until somebody asks, of an engine": (
        "",
        "{NOTES_MAX}, or {NOTES_LEN_MAX:mib}",
        [],
    ),
    "bytes that are flipped on their way": (
        "found by TCP, the NIC and memory, if at all",
        "`checksum=True` ([what it does](docs/python.md#checksums))",
        [
            "tests/engine/check_checksum.c: either_side_can_want_sums_and_nobody_has_them_else",
            "tests/engine/check_checksum.c: a_bit_flipped_in_a_packet_ends_the_connection_on_both_sides",
        ],
    ),
    "ports that a server is reached on": (
        "`listen_port`, and any free one for lanes",
        '`lane_ports="40000-40100"`',
        [
            "tests/python/test_connect.py: test_a_firewall_that_knows_lane_ports_lets_lanes_through",
            "tests/python/test_connect.py: test_bad_lane_ports_are_refused",
        ],
    ),
    "time to connect": (
        "{KVI_CONNECT_NS:s}",
        "the server gives a stranger {KVI_HANDSHAKE_NS:s} to say hello",
        [
            "tests/integration/test_strangers.c: "
            "strangers_cost_their_own_sockets_while_clients_are_served"
        ],
    ),
    "time to send, write, read, notify": (
        "{KVI_SEND_NS:s}",
        "`timeout=`",
        ["tests/engine/check_paged_events.c: what_has_no_timeout_has_the_default_deadline"],
    ),
    "time to accept, to receive": (
        "for ever",
        "`timeout=`; the loss of the peer ends a receive",
        [
            "tests/engine/check_paged_events.c: what_has_no_timeout_has_the_default_deadline",
            "tests/python/test_waits.py: test_a_deadline_ends_every_wait",
            "tests/python/test_lifetime.py: test_a_peer_that_is_killed_is_lost",
        ],
    ),
    "giving up a transfer, closing a KV or pool, withdrawing": (
        "",
        "{KVI_QUIESCE_NS:s} on top; while a slow link still drains, {KVI_DRAIN_NS:s}",
        [
            "tests/engine/check_abort.c: "
            "a_send_given_up_cuts_the_connection_when_its_writes_do_not_end",
            "tests/engine/check_paged_end.c: "
            "a_transfer_given_up_cuts_the_connection_when_what_is_out_does_not_end",
            "tests/engine/check_drain.c: a_peer_that_only_trickles_does_not_hold_a_call_for_ever",
        ],
    ),
    "closing a connection or the engine": (
        "",
        "1 s",
        [
            "tests/integration/test_orderly_close.c: "
            "an_engine_closes_in_the_middle_of_messages_and_its_handles_stay_valid"
        ],
    ),
    "heartbeat; silence until a peer is lost": (
        "1 s; 3 s",
        "`heartbeat=`, `lost_after=`",
        [
            "tests/unit/check_engine_settings.c: zero_means_the_default",
            "tests/unit/check_engine_settings.c: lengths_and_times_are_limited",
        ],
    ),
    "strangers that have not said hello": (
        "",
        "{KVI_STRANGERS_MAX}, of them {KVI_STRANGERS_PER_SOURCE_MAX} from one source; "
        "{KVI_CALLERS_MAX}, of them {KVI_CALLERS_PER_SOURCE_MAX}, whose first message showed a key",
        [],
    ),
}
HERE = {}


def holds(row):
    """The test holds a row of the table."""

    def mark(test):
        HERE.setdefault(row, []).append(test.__name__)
        return test

    return mark


class Number(int):
    """A constant that prints itself as README writes it."""

    def __format__(self, unit):
        if unit == "s":
            assert self % SECOND == 0
            return f"{self // SECOND} s"
        size = {"": 1, "kib": 1 << 10, "mib": 1 << 20}[unit]
        assert self % size == 0
        return f"{self // size:,d}" + {"": "", "kib": " KiB", "mib": " MiB"}[unit]


def read_constants():
    """The constants that the library's headers define as numbers."""
    constants = {"KVI_SECOND": SECOND, "KVI_MS": SECOND // 1000, "UINT16_MAX": 65535}
    for header in HEADERS:
        text = re.sub(r"/\*.*?\*/", "", (SOURCE / header).read_text(), flags=re.DOTALL)
        found = re.findall(r"\b([A-Z][A-Z0-9_]*) =\s+([^,;{}]+?)[,\s]*(?=[,}])", text)
        found += re.findall(r"#define (\w+_NS) (\(.+?\))\s*$", text, re.MULTILINE)
        for name, value in found:
            if re.fullmatch(r"[\w\s+*/()-]+", value):
                try:
                    constants[name] = eval(value.replace("/", "//"), {}, constants)
                except (NameError, SyntaxError):
                    pass  # in terms of what is no number
    constants["EMPTY_NOTES"] = constants["KVI_LANE_WINDOW"] // constants["KVI_MESSAGE_CHARGE"]
    constants["EMPTY_STARTS"] = constants["KVI_START_WINDOW"] // constants["KVI_START_CHARGE"]
    return {name: Number(value) for name, value in constants.items()}


CONSTANTS = read_constants()


def read_table():
    """The rows of README's table: name, default, maximum."""
    text = (SOURCE / "README.md").read_text().split("## Limits and defaults")[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    assert rows[:2] == [["", "default", "at most"], ["---"] * 3]
    return {name: (default, most) for name, default, most in rows[2:]}


def test_the_table_has_these_rows_and_no_others():
    assert list(read_table()) == list(ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_a_row_has_the_numbers_of_the_library(row):
    default, most, _ = ROWS[row]
    assert read_table()[row] == (default.format(**CONSTANTS), most.format(**CONSTANTS))


@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_held_by_tests_that_there_are(row):
    elsewhere = ROWS[row][2]
    for path, name in (entry.split(": ") for entry in elsewhere):
        assert re.search(rf"(START_TEST\(|def ){name}\b", (SOURCE / path).read_text()), path
    assert elsewhere or HERE[row]


def test_the_numbers_that_stand_elsewhere_are_the_same():
    assert CONSTANTS["KVI_KVS_MAX"] == CONSTANTS["KVI_TRANSFERS_MAX"]
    assert CONSTANTS["KVI_LANE_WINDOW"] == (2 << 20) + (16 << 10)
    protocol = (SOURCE / "docs" / "protocol.md").read_text()
    assert f"{CONSTANTS['KVI_MESSAGE_CHARGE']} + meta_len + data_len bytes" in protocol
    assert f"application are at most {CONSTANTS['KVI_LANE_WINDOW']}" in protocol
    assert f"at most {CONSTANTS['KVI_DESCRIPTOR_LEN_MAX']}, and data is a part of it" in protocol
    assert f"has at least {CONSTANTS['KVI_PART_LEN_MIN']} bytes" in protocol


# ---- the limits that users of Python meet ----


@holds("extents of a pool")
@pytest.mark.parametrize("eager_nbytes", [0, 100, None])
@pytest.mark.parametrize("count", [1, 160, 2_200, CONSTANTS["KVT_EXTENTS_MAX"]])
def test_a_pool_of_any_number_of_extents_is_found_by_its_name(open_link, count, eager_nbytes):
    link = open_link(eager_nbytes=eager_nbytes)
    here = np.random.default_rng(count).integers(0, 256, (count, 2, 8), dtype=np.uint8)
    there = np.zeros_like(here)
    link.peer.export(link.server.register(list(there)), name="layers")
    remote = link.conn.remote("layers")
    pool = link.client.register(list(here))
    assert link.conn.write_blocks(pool, [1], remote, [0]).result(20) == count * 8
    assert (there[:, 0] == here[:, 1]).all()


@holds("extents of a pool")
def test_more_extents_are_refused(link):
    count = CONSTANTS["KVT_EXTENTS_MAX"]
    with pytest.raises(ValueError, match="4096|4,096"):
        link.server.register(list(np.zeros((count + 1, 1, 8), np.uint8)))


@holds("name of an export; notification")
@pytest.mark.parametrize("eager_nbytes", [0, 1, 100, None])
def test_the_longest_name_and_notification_need_no_eager_nbytes(open_link, eager_nbytes):
    link = open_link(eager_nbytes=eager_nbytes)
    name = "n" * CONSTANTS["KVT_NAME_LEN_MAX"]
    pool = link.server.register(np.zeros((4, 64), np.uint8))
    link.peer.export(pool, name=name)
    assert link.conn.remote(name) is not None
    with pytest.raises(ValueError, match="255"):
        link.peer.export(pool, name=name + "n")

    data = bytes(range(256)) * (CONSTANTS["KVT_NOTIFY_LEN_MAX"] // 256)
    link.conn.notify(data)
    error = kvtrans_engine.TransferTimeout("too late")
    link.conn.notify(data, error=error)
    assert [note.data for note in link.get_notes(2)] == [data, data]
    with pytest.raises(ValueError, match="1048576"):
        link.conn.notify(data + b"x")


@holds("description of a dtype (C: meta of a message)")
@pytest.mark.parametrize("eager_nbytes", [0, 1, 100])
def test_the_longest_description_needs_no_eager_nbytes(open_pair, in_thread, eager_nbytes):
    pair = open_pair(eager_nbytes=eager_nbytes)
    ids = pair.register()
    fields = [(f"{i:0>40}", "<i4") for i in range(70)]
    for data in (np.zeros(3, fields), np.ones((1,) * 32, "<f8"), np.zeros((0,) * 32, "<f8")):
        received = in_thread(pair.server.recv_kv, ids[1], timeout=10)
        assert pair.client.send_kv(ids[0], data), pair.client.last_error
        ok, got = received.result(10)
        assert ok and got.dtype == data.dtype and got.shape == data.shape


@holds("notifications that Python keeps beside those until somebody asks, of an engine")
def test_empty_notifications_that_nobody_takes_wait_at_the_peer(open_link):
    link = open_link()
    most = CONSTANTS["EMPTY_NOTES"] + CONSTANTS["NOTES_MAX"]
    count = most + 500
    transfers = [link.conn.notify(b"", timeout=60) for _ in range(count)]

    def get_done():
        end, done = time.monotonic() + 10, 0
        while done < most and time.monotonic() < end:
            link.server.reap()  # looks, and asks for none
            time.sleep(0.01)
            done = sum(transfer.done() for transfer in transfers)
        time.sleep(0.2)
        link.server.reap()
        return sum(transfer.done() for transfer in transfers)

    # The peer learns of room in steps of a quarter of a window.
    assert most - CONSTANTS["EMPTY_NOTES"] // 4 <= get_done() <= most
    assert len(link.get_notes(count, 40)) == count
    for transfer in transfers:
        transfer.result(20)


@holds("time to connect")
def test_connecting_to_who_never_answers_has_its_default_limit(open_engine):
    engine = open_engine()
    with socket.create_server((HOST, 0)) as silent:
        started = time.monotonic()
        ok, _ = engine.connect(HOST, silent.getsockname()[1])
        seconds = time.monotonic() - started
    limit = CONSTANTS["KVI_CONNECT_NS"] / SECOND
    assert not ok and isinstance(engine.last_error, kvtrans_engine.Unreachable)
    assert limit - 0.1 <= seconds <= limit + 1.5 + LATENESS


def is_open(call):
    call.setblocking(False)
    try:
        return call.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


@holds("strangers that have not said hello")
@pytest.mark.skipif(HOST != "127.0.0.1", reason="callers have addresses of the loopback interface")
def test_strangers_are_limited_in_all_and_per_address(open_engine):
    most, of_one = CONSTANTS["KVI_STRANGERS_MAX"], CONSTANTS["KVI_STRANGERS_PER_SOURCE_MAX"]
    patience = CONSTANTS["KVI_HANDSHAKE_NS"] / SECOND

    def look():
        """Who of them is open: of one host, and in all; None: they may be closed for saying nothing."""
        engine, end = open_engine(), time.monotonic() + patience

        def call(host):
            return socket.create_connection((HOST, engine.port), 20, (host, 0))

        def await_open(callers, count):
            while sum(map(is_open, callers)) != count and time.monotonic() < end:
                time.sleep(0.01)
            return list(map(is_open, callers))

        lone = call("127.0.3.1")
        one = [call("127.0.0.2") for _ in range(of_one + 3)]
        of_one_open = await_open(one, of_one)
        # As many more as there are places: nobody who has few of them loses one to who has many.
        others = [call(f"127.0.1.{i // of_one + 1}") for i in range(most)]
        are_open = await_open([lone] + one + others, most)
        is_in_time = time.monotonic() < end
        for caller in [lone] + one + others:
            caller.close()
        engine.close()
        return (of_one_open, are_open) if is_in_time else None

    end = time.monotonic() + 1 + LATENESS
    while (seen := look()) is None and time.monotonic() < end:
        pass  # the machine is busy
    assert seen is not None
    of_one_open, are_open = seen
    assert of_one_open == [False] * 3 + [True] * of_one
    assert sum(are_open) == most and are_open[0]
    sources = [are_open[1 : of_one + 4]]
    sources += [are_open[i : i + of_one] for i in range(of_one + 4, len(are_open), of_one)]
    counts = list(map(sum, sources))
    assert max(counts) - min(counts) <= 2, counts
