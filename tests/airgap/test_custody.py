"""The chain of a custody log: what was done to it is found, and where."""

import hashlib
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airgap import custody
from airgap.custody import (
    GENESIS,
    MAX_LINE_BYTES,
    MAX_LINES,
    MAX_LOG_BYTES,
    MAX_SEEN,
    Action,
    CustodyEvent,
    EventBody,
    Fault,
    Head,
    LogCheck,
    SeenLog,
    VolumeMark,
    line_sha256,
)
from airgap.errors import AirgapError, Code, UntrustedInputError
from airgap.manifest import Tool
from airgap.strict_json import dump_canonical
from tests.vectors.generate import NOW, chained

BODY = EventBody(
    action=Action.VERIFIED,
    at=NOW,
    who="Åsa",
    host="desk-7",
    volume=VolumeMark(label="RED", serial="1A2B-3C4D", number=1, of=3),
    transfer_id="0123456789abcdef",
    manifest_sha256="a" * 64,
    code="PART_CORRUPT",
    counts={"parts": 12, "damagedParts": 1},
    tool=Tool(name="offline-mover", version="0.1.0"),
)
SEEN = SeenLog(log_sha256="b" * 64, head=Head(count=4, sha256="c" * 64), volume=BODY.volume)
LENGTH = 7


def body(minute: int) -> EventBody:
    return replace(BODY, at=NOW + timedelta(minutes=minute))


def make_lines(count: int) -> list[bytes]:
    lines: list[bytes] = []
    at = GENESIS
    for minute in range(count):
        lines.append(custody.chain(body(minute), at, seen=(SEEN,)))
        at = Head(count=at.count + 1, sha256=line_sha256(lines[-1]))
    return lines


LINES = make_lines(LENGTH)
RAW = b"".join(LINES)
HEAD = Head(count=LENGTH, sha256=line_sha256(LINES[-1]))


def faults(check: LogCheck) -> list[tuple[Fault, int]]:
    return [(finding.fault, finding.line) for finding in check.findings]


def found_lines(lines: list[bytes]) -> set[int]:
    return {finding.line for finding in custody.verify_log(b"".join(lines), head=HEAD).findings}


# --- one line ----------------------------------------------------------------------------------------------


def test_line_says_everything_and_coreutils_can_check_the_chain() -> None:
    assert json.loads(LINES[1]) == {
        "schema": 1,
        "number": 2,
        "previous": hashlib.sha256(LINES[0]).hexdigest(),
        "at": "2026-01-31T08:01:00Z",
        "event": "verified",
        "who": "Åsa",
        "host": "desk-7",
        "volume": {"label": "RED", "serial": "1A2B-3C4D", "number": 1, "of": 3},
        "transferId": "0123456789abcdef",
        "manifestDigest": f"sha256:{'a' * 64}",
        "code": "PART_CORRUPT",
        "counts": {"parts": 12, "damagedParts": 1},
        "tool": {"name": "offline-mover", "version": "0.1.0"},
        "seen": [
            {
                "log": "b" * 64,
                "count": 4,
                "sha256": "c" * 64,
                "volume": {"label": "RED", "serial": "1A2B-3C4D", "number": 1, "of": 3},
            }
        ],
    }
    assert json.loads(LINES[0])["previous"] == "0" * 64


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("is_bare", [True, False])
def test_event_survives_the_medium(action: Action, *, is_bare: bool) -> None:
    bare = EventBody(action=action, at=NOW, who="w", host="h", tool=BODY.tool)
    event = CustodyEvent(
        number=9,
        previous_sha256="d" * 64,
        body=bare if is_bare else replace(BODY, action=action),
        seen=() if is_bare else (SEEN,) * MAX_SEEN,
        recorded_as=None if is_bare else "e" * 64,
    )
    assert CustodyEvent.from_line(event.to_line()) == event


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 0},
        {"schema": True},
        {"schema": 2, "who": ""},
        {"schema": 2, "number": 0},
        {"number": 0},
        {"number": 10**9 + 1},
        {"previous": "0" * 63},
        {"previous": "A" * 64},
        {"at": "2026-01-31T08:00:00+00:00"},
        {"at": "2026-02-31T08:00:00Z"},
        {"event": "Exploded"},
        {"who": ""},
        {"who": "a\nb"},
        {"who": "\u202e"},
        {"who": "x" * 129},
        {"host": None},
        {"volume": {"label": None, "serial": None, "number": 1}},
        {"volume": {"label": "", "serial": None, "number": 1, "of": 1}},
        {"volume": {"label": None, "serial": None, "number": 0, "of": 1}},
        {"transferId": "../../etc"},
        {"manifestDigest": "a" * 64},
        {"code": "lower"},
        {"counts": {"parts": -1}},
        {"counts": {"parts": 2**53}},
        {"counts": {"Parts": 1}},
        {"counts": {f"n{i}": i for i in range(33)}},
        {"tool": {"name": "x"}},
        {"seen": []},
        {"seen": [SEEN.to_json()] * (MAX_SEEN + 1)},
        {"seen": [SEEN.to_json() | {"count": 0}]},
        {"recordedAs": None},
        {"extra": 1},
    ],
    ids=lambda change: str(change)[:40],
)
def test_line_with_a_wrong_member_is_refused(change: dict[str, Any]) -> None:
    line = dump_canonical(json.loads(LINES[0]) | change) + b"\n"
    with pytest.raises(AirgapError) as refusal:
        CustodyEvent.from_line(line)
    assert refusal.value.code is Code.CUSTODY_BROKEN


@pytest.mark.parametrize(
    "line",
    [
        LINES[0][:-1],
        LINES[0].replace(b",", b", ", 1),
        LINES[0].replace("Å".encode(), b"\\u00c5"),
        LINES[0][:-2] + b',"who":"eve"}\n',
        b"\n",
        b"\xff\n",
        b"[]\n",
    ],
)
def test_line_has_one_form_only(line: bytes) -> None:
    with pytest.raises(AirgapError) as refusal:
        CustodyEvent.from_line(line)
    assert refusal.value.code is Code.CUSTODY_BROKEN


def test_line_that_no_event_needs_is_refused_unread() -> None:
    with pytest.raises(AirgapError) as refusal:
        CustodyEvent.from_line(b'"' + bytes(MAX_LINE_BYTES) + b'"\n')
    assert refusal.value.code is Code.TOO_LARGE


def test_event_that_could_not_be_read_again_is_not_written() -> None:
    with pytest.raises(AirgapError):
        custody.chain(replace(BODY, who="two\nlines"), GENESIS)


# --- written by a newer tool -------------------------------------------------------------------------------


NEWER: dict[str, dict[str, Any]] = {
    "action": {"event": "teleported"},
    "code": {"code": "QUANTUM_BROKEN"},
    "schema": {"schema": 2, "witness": {"who": "eve"}, "counts": "many"},
}


def newer_log(change: dict[str, Any], place: int) -> list[bytes]:
    """The log with one line changed and all after it chained anew, as by the tool that wrote it."""
    events = [json.loads(line) for line in LINES]
    events[place] |= change
    return chained(events)


@pytest.mark.parametrize("change", NEWER.values(), ids=NEWER)
@pytest.mark.parametrize("place", [0, 2, LENGTH - 1])
def test_line_of_a_newer_tool_is_told_and_is_no_tampering(change: dict[str, Any], place: int) -> None:
    lines = newer_log(change, place)
    check = custody.verify_log(b"".join(lines), head=Head(count=LENGTH, sha256=line_sha256(lines[-1])))
    assert faults(check) == [(Fault.NEWER, place + 1)]
    assert check.is_intact
    event = check.entries[place].event
    assert event.is_newer
    assert (event.number, event.body.who, event.to_line()) == (place + 1, BODY.who, lines[place])


@pytest.mark.parametrize("change", NEWER.values(), ids=NEWER)
def test_line_made_a_newer_tools_afterwards_is_found(change: dict[str, Any]) -> None:
    lines = list(LINES)
    lines[2] = newer_log(change, 2)[2]
    assert (Fault.ALTERED, 3) in faults(custody.verify_log(b"".join(lines), head=HEAD))


@pytest.mark.parametrize("change", NEWER.values(), ids=NEWER)
def test_line_of_a_newer_tool_put_for_a_removed_one_is_found(change: dict[str, Any]) -> None:
    lines = list(LINES)
    lines[1:3] = [newer_log(change, 1)[1]]
    check = custody.verify_log(b"".join(lines), head=HEAD)
    assert not check.is_intact


def test_many_lines_of_a_newer_tool_do_not_crowd_out_tampering() -> None:
    events = [{**json.loads(LINES[0]), "event": "teleported", "number": n} for n in range(1, 1502)]
    for event in events:
        event.pop("seen", None)
    lines = chained(events)
    check = custody.verify_log(b"".join((*lines[:1500], lines[1500].replace(BODY.who.encode(), b"eve"))))
    assert check.is_intact, "the last line has nobody after it"
    lines[1400] = lines[1400].replace(BODY.who.encode(), b"eve")
    check = custody.verify_log(b"".join(lines))
    assert faults(check) == [(Fault.NEWER, 1), (Fault.ALTERED, 1401)]


def test_word_in_the_head_file_does_not_hide_that_the_end_was_cut_off() -> None:
    newer = dump_canonical(json.loads(HEAD.to_bytes()) | {"schema": 2, "signed": False}) + b"\n"
    head = Head.from_bytes(newer)
    assert head == HEAD
    assert (Fault.CUT, LENGTH) in faults(custody.verify_log(b"".join(LINES[:-1]), head=head))
    with pytest.raises(UntrustedInputError):
        Head.from_bytes(b'{"schema":2}')


@pytest.mark.parametrize("change", NEWER.values(), ids=NEWER)
def test_line_of_a_newer_tool_is_chained_anew_with_all_that_it_says(change: dict[str, Any]) -> None:
    (entry,) = custody.verify_log(newer_log(change, 0)[0]).entries
    moved = json.loads(custody.rechain(entry, HEAD))
    expected = json.loads(entry.event.to_line())
    expected |= {"number": LENGTH + 1, "previous": HEAD.sha256, "recordedAs": entry.sha256}
    assert moved == expected


# --- a whole log -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", [None, HEAD, Head(count=3, sha256=line_sha256(LINES[2]))])
def test_unbroken_log_has_no_findings_and_may_be_ahead_of_its_head(head: Head | None) -> None:
    check = custody.verify_log(RAW, head=head)
    assert check.findings == ()
    assert [entry.line for entry in check.entries] == list(range(1, LENGTH + 1))
    assert check.entries[-1].head == HEAD


def test_no_log_is_an_empty_one() -> None:
    assert custody.verify_log(b"") == LogCheck(entries=(), findings=())


@pytest.mark.parametrize("line", range(1, LENGTH))
def test_deleted_line_is_found_where_it_stood(line: int) -> None:
    lines = LINES[: line - 1] + LINES[line:]
    assert faults(custody.verify_log(b"".join(lines))) == [(Fault.REMOVED, line)]


@pytest.mark.parametrize("left", range(LENGTH))
def test_cut_tail_is_found_by_the_head_file_alone(left: int) -> None:
    raw = b"".join(LINES[:left])
    assert custody.verify_log(raw).is_intact
    assert faults(custody.verify_log(raw, head=HEAD)) == [(Fault.CUT, left + 1)]


@pytest.mark.parametrize("line", range(1, LENGTH + 1))
def test_altered_event_is_found_although_it_is_well_formed(line: int) -> None:
    lines = list(LINES)
    lines[line - 1] = lines[line - 1].replace(b'"code":"PART_CORRUPT"', b'"code":null')
    assert faults(custody.verify_log(b"".join(lines), head=HEAD)) == [(Fault.ALTERED, line)]


@pytest.mark.parametrize("line", range(1, LENGTH))
def test_neighbours_that_were_swapped_are_reordered(line: int) -> None:
    lines = list(LINES)
    lines[line - 1], lines[line] = lines[line], lines[line - 1]
    ((fault, where),) = faults(custody.verify_log(b"".join(lines), head=HEAD))
    assert fault is Fault.REORDERED
    assert where in {line, line + 1}


@pytest.mark.parametrize("line", range(1, LENGTH + 1))
def test_line_that_stands_there_twice_was_inserted(line: int) -> None:
    lines = [*LINES[:line], LINES[line - 1], *LINES[line:]]
    ((fault, where),) = faults(custody.verify_log(b"".join(lines), head=HEAD))
    assert fault is Fault.INSERTED
    assert where in {line, line + 1}


@pytest.mark.parametrize("line", range(1, LENGTH + 1))
def test_junk_between_the_lines_is_malformed(line: int) -> None:
    lines = [*LINES[: line - 1], b"{}\n", *LINES[line - 1 :]]
    assert faults(custody.verify_log(b"".join(lines), head=HEAD)) == [(Fault.MALFORMED, line)]


@pytest.mark.parametrize("line", range(1, LENGTH + 1))
def test_line_replaced_by_junk_is_malformed_not_removed(line: int) -> None:
    lines = [*LINES[: line - 1], b"{}\n", *LINES[line:]]
    assert faults(custody.verify_log(b"".join(lines), head=HEAD)) == [(Fault.MALFORMED, line)]


def test_forged_entry_beside_the_genuine_one_is_the_inserted_one() -> None:
    forged = custody.chain(replace(BODY, who="mallory"), Head(count=2, sha256=line_sha256(LINES[1])))
    for at in (2, 3):
        check = custody.verify_log(b"".join([*LINES[:at], forged, *LINES[at:]]), head=HEAD)
        assert faults(check) == [(Fault.INSERTED, at + 1)]


INDEX = st.integers(min_value=0, max_value=LENGTH - 1)


@pytest.mark.parametrize("line", [2, 4, 6])
def test_entry_whose_number_became_that_of_the_one_before_it_is_found_in_its_line(line: int) -> None:
    changed = LINES[line].replace(b'"number":%d' % (line + 1), b'"number":%d' % line)
    assert line + 1 in found_lines([*LINES[:line], changed, *LINES[line + 1 :]])


@given(INDEX, st.data())
@settings(max_examples=300, deadline=None)
def test_any_flipped_byte_is_found_in_its_line(line: int, data: st.DataObject) -> None:
    offset = data.draw(st.integers(min_value=0, max_value=len(LINES[line]) - 1))
    mask = data.draw(st.integers(min_value=1, max_value=255))
    changed = bytearray(LINES[line])
    changed[offset] ^= mask
    assert line + 1 in found_lines([*LINES[:line], bytes(changed), *LINES[line + 1 :]])


@given(INDEX, INDEX)
@settings(max_examples=100, deadline=None)
def test_any_two_swapped_lines_are_found(first: int, second: int) -> None:
    lines = list(LINES)
    lines[first], lines[second] = lines[second], lines[first]
    found = found_lines(lines)
    assert found == set() if first == second else found & {first + 1, second + 1}


@given(
    place=st.integers(min_value=0, max_value=LENGTH),
    number=st.integers(min_value=1, max_value=12),
    is_chained=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_any_inserted_entry_is_found(*, place: int, number: int, is_chained: bool) -> None:
    previous = line_sha256(LINES[number - 2]) if is_chained and 2 <= number <= LENGTH + 1 else "f" * 64
    forged = CustodyEvent(number=number, previous_sha256=previous, body=replace(BODY, who="eve")).to_line()
    lines = [*LINES[:place], forged, *LINES[place:]]
    if place == LENGTH and number == LENGTH + 1 and is_chained:
        assert found_lines(lines) == set()  # that is an append: what anybody with the tool may do
    else:
        assert found_lines(lines) & {place, place + 1, place + 2}


@given(st.lists(st.integers(min_value=0, max_value=LENGTH - 1), unique=True, max_size=LENGTH - 1))
@settings(max_examples=100, deadline=None)
def test_any_set_of_deleted_lines_is_found(kept: list[int]) -> None:
    assert found_lines([LINES[index] for index in sorted(kept)])


@given(st.permutations(range(LENGTH)))
@settings(max_examples=100, deadline=None)
def test_any_other_order_is_found(order: list[int]) -> None:
    assert bool(found_lines([LINES[index] for index in order])) == (order != sorted(order))


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_noise_is_a_finding_never_an_exception(noise: bytes) -> None:
    assert (custody.verify_log(noise).findings == ()) == (noise == b"")
    custody.resume(noise, HEAD)


@pytest.mark.parametrize(
    "raw", [b"\n" * (MAX_LINES + 1), b"\n" * (MAX_LOG_BYTES + 1), bytes(MAX_LOG_BYTES + 1)]
)
def test_log_that_is_too_large_is_refused_unread(raw: bytes) -> None:
    check = custody.verify_log(raw)
    assert faults(check) == [(Fault.TOO_LARGE, 0)]
    assert not check.is_intact


def test_findings_are_bounded() -> None:
    assert len(custody.verify_log(b"x\n" * MAX_LINES).findings) == custody.MAX_FINDINGS


def test_side_chain_begins_where_it_is_told_to() -> None:
    start = Head(count=2, sha256=line_sha256(LINES[1]))
    assert custody.verify_log(b"".join(LINES[2:]), start=start).findings == ()
    assert faults(custody.verify_log(b"".join(LINES[3:]), start=start)) == [(Fault.REMOVED, 1)]


# --- the head file -----------------------------------------------------------------------------------------


def test_head_survives_the_medium() -> None:
    assert Head.from_bytes(HEAD.to_bytes()) == HEAD


@pytest.mark.parametrize(
    "raw", [b"", b"{}", b'{"schema":1,"count":0,"sha256":"' + b"0" * 64 + b'"}', HEAD.to_bytes() * 2]
)
def test_malformed_head_is_refused(raw: bytes) -> None:
    with pytest.raises(AirgapError):
        Head.from_bytes(raw)


# --- going on ----------------------------------------------------------------------------------------------


def go_on(raw: bytes, head: Head | None) -> bytes:
    resumption = custody.resume(raw, head)
    return raw[: resumption.kept_bytes] + resumption.prefix + custody.chain(BODY, resumption.at)


def test_line_torn_at_any_byte_is_told_from_tampering_and_mended() -> None:
    before, last = RAW[: -len(LINES[-1])], LINES[-1]
    head = Head(count=LENGTH - 1, sha256=line_sha256(LINES[-2]))
    for size in range(1, len(last)):
        torn = before + last[:size]
        check = custody.verify_log(torn, head=head)
        assert faults(check) == [(Fault.TORN, LENGTH)], size
        assert check.is_intact
        is_whole = size == len(last) - 1
        resumption = custody.resume(torn, head)
        assert resumption.torn_bytes == (0 if is_whole else size)
        assert custody.verify_log(go_on(torn, head), head=head).findings == ()
        assert go_on(torn, head).startswith(RAW if is_whole else before)


def test_whole_event_without_a_lines_end_is_kept_even_where_it_does_not_belong() -> None:
    raw = LINES[0] + LINES[3][:-1]
    assert go_on(raw, None).startswith(LINES[0] + LINES[3])
    assert (Fault.REMOVED, 2) in faults(custody.verify_log(go_on(raw, None)))


def test_very_first_line_torn() -> None:
    torn = LINES[0][:50]
    assert faults(custody.verify_log(torn)) == [(Fault.TORN, 1)]
    assert custody.verify_log(go_on(torn, None)).findings == ()


def test_torn_line_that_the_head_file_knows_was_cut() -> None:
    for size in (1, 100, len(LINES[-1]) - 2):
        check = custody.verify_log(RAW[: size - len(LINES[-1])], head=HEAD)
        assert (Fault.CUT, LENGTH) in faults(check)


def test_zeros_that_a_power_cut_left_are_a_torn_line() -> None:
    check = custody.verify_log(RAW + bytes(512), head=HEAD)
    assert faults(check) == [(Fault.TORN, LENGTH + 1)]
    assert custody.verify_log(go_on(RAW + bytes(512), HEAD), head=HEAD).findings == ()


@pytest.mark.parametrize("left", range(LENGTH))
def test_hole_left_by_a_cut_tail_is_not_papered_over_by_the_next_entry(left: int) -> None:
    raw = b"".join(LINES[:left])
    assert custody.resume(raw, HEAD).is_cut
    longer = go_on(raw, HEAD)
    check = custody.verify_log(longer)  # by then the head file is the new one
    assert faults(check) == [(Fault.REMOVED, left + 1)]
    assert custody.verify_log(go_on(longer, check.entries[-1].head)).findings == check.findings


def test_altered_last_line_is_not_papered_over_either() -> None:
    raw = b"".join(LINES[:-1]) + LINES[-1].replace(b"desk-7", b"desk-8")
    assert custody.resume(raw, HEAD).is_cut
    assert faults(custody.verify_log(go_on(raw, HEAD))) == [(Fault.ALTERED, LENGTH)]


def test_log_ahead_of_its_head_is_gone_on_with() -> None:
    head = Head(count=1, sha256=line_sha256(LINES[0]))
    resumption = custody.resume(RAW, head)
    assert (resumption.at, resumption.is_cut) == (HEAD, False)


def test_head_that_is_absurdly_far_ahead_does_not_use_up_the_numbers() -> None:
    resumption = custody.resume(RAW, Head(count=10**9, sha256="f" * 64))
    assert resumption.at == HEAD
    assert resumption.is_cut


def test_log_ending_in_junk_is_gone_on_with_and_stays_broken() -> None:
    raw = RAW + b"junk\n"
    check = custody.verify_log(go_on(raw, HEAD))
    assert faults(check) == [(Fault.MALFORMED, LENGTH + 1)]


def test_event_from_a_side_file_keeps_its_line_where_it_fits() -> None:
    (entry,) = custody.verify_log(LINES[2], start=Head(count=2, sha256=line_sha256(LINES[1]))).entries
    assert custody.rechain(entry, Head(count=2, sha256=line_sha256(LINES[1]))) == LINES[2]


@pytest.mark.parametrize("again", [False, True])
def test_event_chained_anew_says_as_what_it_was_recorded(*, again: bool) -> None:
    entries = custody.verify_log(RAW).entries
    line = custody.rechain(entries[2], HEAD)
    if again:
        (moved,) = custody.verify_log(line, start=HEAD).entries
        line = custody.rechain(moved, moved.head)
    event = CustodyEvent.from_line(line)
    assert event.recorded_as == line_sha256(LINES[2])
    assert event.body == entries[2].event.body
