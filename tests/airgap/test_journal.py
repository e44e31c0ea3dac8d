"""The journal: what may follow what, and that nobody can alter the past."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap.errors import Code, PolicyRefusal, UntrustedInputError
from airgap.journal import (
    MAX_ENTRY_BYTES,
    Journal,
    JournalEntry,
    entry_name,
    parse_entry_name,
)
from airgap.states import ACTIVE, FINAL, FIRST, RESTING, TRANSITIONS, Kind, State
from airgap.strict_json import dump_canonical

ID = "0123456789abcdef"
NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
HAPPY = {
    Kind.TRANSFERS: "requested planned exporting hashing awaiting-signatures sealing "
    "sealed damaged delivered",
    Kind.IMPORTS: "received admitted waiting verified checking awaiting-release "
    "promoting importing proven closed",
    Kind.TICKETS: "issued",
    Kind.REMOVALS: "removed",
    Kind.ORDERS: "standing paused deleted",
}


def empty(kind: Kind = Kind.TRANSFERS) -> Journal:
    return Journal(kind=kind, about=ID)


def go(journal: Journal, state: str, facts: Mapping[str, Any] | None = None) -> Journal:
    """The journal after a step has recorded ``state``."""
    entry = journal.next(State(state), facts or {}, by="app", at=NOW)
    return journal if entry is None else journal.extended(entry)


def walked(states: str, kind: Kind = Kind.TRANSFERS) -> Journal:
    journal = empty(kind)
    for state in states.split():
        journal = go(journal, state)
    assert [entry.state for entry in journal.entries] == states.split()
    return journal


def raw(journal: Journal) -> list[bytes]:
    return [entry.to_bytes() for entry in journal.entries]


def broken(code: Code = Code.JOURNAL_BROKEN) -> Any:
    return pytest.raises(UntrustedInputError, match=code.name)


@pytest.mark.parametrize("kind", Kind)
def test_whole_life_is_written_and_read_back(kind: Kind) -> None:
    journal = walked(HAPPY[kind], kind)
    assert Journal.read(kind, ID, raw(journal)) == journal
    assert journal.first is not None
    assert journal.first.state in FIRST[kind]
    assert journal.is_final
    assert [entry.number for entry in journal.entries] == list(range(1, len(journal.entries) + 1))


@pytest.mark.parametrize("kind", Kind)
def test_every_state_is_reached_and_belongs_to_one_of_three_sorts(kind: Kind) -> None:
    table = TRANSITIONS[kind]
    reached, ahead = set(), list(FIRST[kind])
    while ahead:
        state = ahead.pop()
        if state not in reached:
            reached.add(state)
            ahead += table[state]
    assert reached == set(table)
    assert ACTIVE[kind] | FINAL[kind] | RESTING[kind] == reached
    assert not ACTIVE[kind] & RESTING[kind]
    assert not FINAL[kind] & RESTING[kind]


@pytest.mark.parametrize(
    ("kind", "state", "following"),
    [
        (Kind.TRANSFERS, "requested", "planned refused failed cancelled"),
        (Kind.TRANSFERS, "planned", "exporting previewed nothing-missing dividing refused failed cancelled"),
        (Kind.TRANSFERS, "dividing", "divided refused failed cancelled"),
        (Kind.TRANSFERS, "divided", ""),
        (Kind.TRANSFERS, "exporting", "hashing refused failed cancelled"),
        (Kind.TRANSFERS, "hashing", "awaiting-signatures sealing refused failed cancelled"),
        (Kind.TRANSFERS, "awaiting-signatures", "sealing refused failed cancelled"),
        (Kind.TRANSFERS, "sealing", "sealed failed"),
        (Kind.TRANSFERS, "sealed", "partly-delivered delivered refused damaged voided expired"),
        (Kind.TRANSFERS, "partly-delivered", "partly-delivered delivered refused damaged voided expired"),
        (Kind.TRANSFERS, "damaged", "partly-delivered delivered refused damaged voided expired"),
        (Kind.TRANSFERS, "expired", "partly-delivered delivered refused damaged voided"),
        *((Kind.TRANSFERS, end, "") for end in ("delivered", "cancelled", "previewed", "nothing-missing")),
        (Kind.TRANSFERS, "refused", "partly-delivered delivered refused damaged voided"),
        (Kind.TRANSFERS, "failed", "voided"),
        (Kind.TRANSFERS, "voided", "partly-delivered delivered"),
        (Kind.IMPORTS, "received", "admitted superseded refused failed"),
        (Kind.IMPORTS, "admitted", "waiting refused failed"),
        (Kind.IMPORTS, "waiting", "verified damaged refused failed"),
        (Kind.IMPORTS, "verified", "checking awaiting-release promoting refused failed"),
        (Kind.IMPORTS, "checking", "awaiting-release promoting refused failed"),
        (Kind.IMPORTS, "awaiting-release", "promoting refused failed"),
        (Kind.IMPORTS, "promoting", "importing refused failed"),
        (Kind.IMPORTS, "importing", "proven refused failed"),
        (Kind.IMPORTS, "proven", "closed"),
        (Kind.IMPORTS, "refused", "quarantined"),
        (Kind.IMPORTS, "failed", "quarantined"),
        (Kind.IMPORTS, "damaged", "held quarantined"),
        (Kind.IMPORTS, "held", "quarantined superseded"),
        *((Kind.IMPORTS, end, "") for end in ("closed", "quarantined", "superseded")),
        *((Kind.ORDERS, one, "standing paused deleted") for one in ("standing", "paused")),
        (Kind.ORDERS, "deleted", "standing paused"),
    ],
)
def test_what_may_follow(kind: Kind, state: str, following: str) -> None:
    assert TRANSITIONS[kind][State(state)] == {State(one) for one in following.split()}


def test_only_what_the_table_has_is_accepted() -> None:
    for kind, table in TRANSITIONS.items():
        for state in table:
            journal = _shortest_to(kind, state)
            for other in set(State) - {entry.state for entry in journal.entries}:
                if other in table[state]:
                    assert go(journal, other).state is other
                else:
                    with pytest.raises(PolicyRefusal, match="TRANSITION_REFUSED"):
                        go(journal, other)


def _shortest_to(kind: Kind, wanted: State) -> Journal:
    paths = [[state] for state in sorted(FIRST[kind])]
    for path in paths:
        if path[-1] is wanted:
            return walked(" ".join(path), kind)
        paths += [[*path, state] for state in sorted(TRANSITIONS[kind][path[-1]]) if state not in path]
    raise AssertionError(wanted)


def test_nothing_but_the_first_state_begins_a_journal() -> None:
    for kind in Kind:
        for state in set(State) - FIRST[kind]:
            with pytest.raises(PolicyRefusal, match=f"{state} cannot be the first"):
                go(empty(kind), state)


def test_repeated_step_writes_nothing() -> None:
    journal = go(walked("requested planned"), "exporting", {"blobs": 2})
    assert go(journal, "exporting", {"blobs": 2}) == journal


def test_late_step_writes_nothing_after_the_chain_went_on() -> None:
    journal = walked("requested planned exporting hashing")
    assert go(journal, "planned", {"blobs": 7}) == journal
    assert go(walked("requested cancelled"), "requested", {"other": "request"}).state is State.CANCELLED


def test_first_that_was_written_stays() -> None:
    first = go(walked("requested"), "cancelled", {"why": "first"})
    assert go(first, "cancelled", {"why": "second"}) == first


def test_cancelled_transfer_goes_no_further() -> None:
    with pytest.raises(PolicyRefusal, match="sealed cannot follow cancelled"):
        go(walked("requested planned exporting hashing cancelled"), "sealed")


def test_damage_that_comes_again_is_told_again_but_each_only_once() -> None:
    journal = walked("requested planned exporting hashing sealing sealed")
    for receipt in ("a", "b", "a", "b"):
        journal = go(journal, "damaged", {"receipt": receipt})
    damaged = [entry.facts["receipt"] for entry in journal.entries if entry.state is State.DAMAGED]
    assert damaged == ["a", "b"]
    assert go(journal, "delivered").is_final


def test_name_of_a_deleted_order_may_be_given_to_another_one() -> None:
    journal = empty(Kind.ORDERS)
    for revision, state in enumerate(("standing", "paused", "standing", "deleted", "standing")):
        journal = go(journal, state, {"revision": revision})
    assert [entry.state.value for entry in journal.entries][-2:] == ["deleted", "standing"]
    assert not journal.is_active
    assert not journal.is_final


@pytest.mark.parametrize("name", ["a", "nightly-base-images", "0" * 63])
def test_standing_order_is_known_by_its_name(name: str) -> None:
    path = entry_name(Kind.ORDERS, name, 1)
    assert parse_entry_name(path) == (Kind.ORDERS, name, 1)
    assert parse_entry_name(path.replace("orders", "transfers")) is None


@pytest.mark.parametrize("name", ["", "-", "a-", "-a", "0" * 64, "A", "a/b", "a.b"])
def test_what_is_no_name_has_no_standing_order(name: str) -> None:
    assert parse_entry_name(f"orders/{name}/00000001.json") is None
    with broken():
        JournalEntry(
            kind=Kind.ORDERS,
            about=name,
            number=1,
            state=State.STANDING,
            at=NOW,
            by="app",
            facts={},
            previous_sha256=None,
        )


def test_held_import_rests_until_its_parts_come_again_or_the_deadline() -> None:
    journal = go(go(walked("received admitted waiting", Kind.IMPORTS), "damaged"), "held", {"until": "x"})
    assert not journal.is_active
    assert not journal.is_final
    assert go(journal, "superseded", {"by": "import0002"}).is_final
    assert go(journal, "quarantined").is_final


@st.composite
def writers(draw: st.DrawFn) -> tuple[Kind, list[list[tuple[State, dict[str, Any]]]], list[int]]:
    """Two writers' records, and in which order they come to look and to write."""
    kind = draw(st.sampled_from(Kind))
    record = st.tuples(st.sampled_from(sorted(TRANSITIONS[kind])), st.just({}) | st.just({"receipt": "r"}))
    scripts = draw(st.lists(st.lists(record, max_size=12), min_size=2, max_size=2))
    return kind, scripts, draw(st.lists(st.integers(0, 1), max_size=60))


@given(writers())
def test_whatever_two_writers_do_there_is_one_chain_that_reads_back(
    work: tuple[Kind, list[list[tuple[State, dict[str, Any]]]], list[int]],
) -> None:
    kind, scripts, turns = work
    blobs: dict[str, bytes] = {}
    steps = [_writer(kind, blobs, script) for script in scripts]
    for turn in [*turns, *([0, 1] * 40)]:
        next(steps[turn], None)
    journal = Journal.read(kind, ID, [blobs[name] for name in sorted(blobs)])
    assert sorted(blobs) == [entry.name for entry in journal.entries]
    states = [(entry.state, str(entry.facts)) for entry in journal.entries]
    assert len(set(states)) == len(states)
    if journal.entries:
        again = {state for state, _ in states if [one for one, _ in states].count(state) > 1}
        told = {*TRANSITIONS[Kind.TRANSFERS][State.PARTLY_DELIVERED]} - {State.DELIVERED}
        assert again <= {*told, State.HELD, State.REMOVED, *TRANSITIONS[Kind.ORDERS]}


def _writer(kind: Kind, blobs: dict[str, bytes], script: list[tuple[State, dict[str, Any]]]) -> Any:
    """Looks, lets the other go on, then writes with ``If-None-Match: *``; looks again if it was too late."""
    for state, facts in script:
        while True:
            journal = Journal.read(kind, ID, [blobs[name] for name in sorted(blobs)])
            try:
                entry = journal.next(state, facts, by="app", at=NOW)
            except PolicyRefusal:
                break
            yield
            if entry is None or blobs.setdefault(entry.name, content := entry.to_bytes()) is content:
                break


CHAIN = raw(walked("requested planned exporting hashing sealing sealed"))
OTHER = raw(go(go(go(empty(), "requested", {"channel": "prod"}), "planned"), "exporting"))


def changed(entry: bytes, **members: Any) -> bytes:
    return dump_canonical(json.loads(entry) | members)


@pytest.mark.parametrize(
    "attack",
    [
        lambda chain: [chain[0], changed(chain[1], by="somebody else"), *chain[2:]],
        lambda chain: [changed(chain[0], facts={"channel": "prod"}), *chain[1:]],
        lambda chain: [chain[0], *chain[2:]],
        lambda chain: chain[1:],
        lambda chain: [chain[0], chain[2], chain[1], *chain[3:]],
        lambda chain: [chain[0], chain[1], chain[1], *chain[2:]],
        lambda chain: [*chain[:2], changed(chain[2], number=4), *chain[3:]],
        lambda chain: [changed(chain[0], id="f" * 16), *chain[1:]],
        lambda chain: [changed(chain[0], kind="imports", state="received"), *chain[1:]],
        lambda chain: [*chain[:2], OTHER[2], *chain[3:]],
        lambda chain: [*chain[:4], changed(chain[4], previousSha256=None)],
        lambda chain: [*chain[:4], changed(chain[4], state="delivered")],
        lambda chain: [*chain[:4], changed(chain[4], state="waiting")],
        lambda chain: [*chain[:4], changed(chain[4], state="glorious")],
        lambda chain: [changed(chain[0], kind="others"), *chain[1:]],
        lambda chain: [*chain[:4], json.dumps(json.loads(chain[4]), indent=1).encode()],
        lambda chain: [*chain[:4], changed(chain[4], more=1)],
        lambda chain: [*chain[:4], b"{}"],
        lambda chain: [*chain[:4], b""],
    ],
    ids=[
        "altered",
        "first altered",
        "removed",
        "first removed",
        "swapped",
        "doubled",
        "renumbered",
        "of another transfer",
        "of an import",
        "of another chain",
        "first again",
        "state skipped",
        "state of an import",
        "unknown state",
        "unknown kind",
        "not canonical",
        "unknown member",
        "emptied object",
        "emptied",
    ],
)
def test_entry_that_was_tampered_with_is_found(attack: Callable[[list[bytes]], list[bytes]]) -> None:
    Journal.read(Kind.TRANSFERS, ID, CHAIN)
    with broken():
        Journal.read(Kind.TRANSFERS, ID, attack(CHAIN))


def test_journal_of_another_is_not_taken_for_this_one() -> None:
    with broken():
        Journal.read(Kind.TRANSFERS, "f" * 16, CHAIN)
    with broken():
        Journal(kind=Kind.TRANSFERS, about="f" * 16).extended(walked("requested").entries[0])


def test_entry_of_a_newer_version_is_not_called_broken() -> None:
    with broken(Code.NEWER_FORMAT):
        JournalEntry.from_bytes(changed(CHAIN[0], schema=2, more="to come"))
    for schema in (0, "1", None, True):
        with broken():
            JournalEntry.from_bytes(changed(CHAIN[0], schema=schema))


def test_large_entry_is_refused_unread_and_unwritten() -> None:
    with broken(Code.TOO_LARGE):
        Journal.read(Kind.TRANSFERS, ID, [CHAIN[0].ljust(MAX_ENTRY_BYTES + 1)])
    for size in (MAX_ENTRY_BYTES - 100, MAX_ENTRY_BYTES):
        with broken(Code.TOO_LARGE):
            go(empty(), "requested", {"artifacts": ["x" * size]})


@pytest.mark.parametrize(
    "facts",
    [
        {"share": 0.5},
        {"at": NOW},
        {"count": 2**53},
        {"text": "\ud800"},
        {("a", "b"): 1},
        {"raw": b"bytes"},
        ["no object"],
    ],
    ids=str,
)
def test_facts_that_json_cannot_carry_are_refused(facts: Any) -> None:
    with broken():
        go(empty(), "requested", facts)


@pytest.mark.parametrize(
    "change",
    [
        {"about": "../escape"},
        {"about": "receipts"},
        {"about": "A" * 16},
        {"number": 0},
        {"number": True},
        {"number": 2},
        {"number": 0, "previous_sha256": "0" * 64},
        {"number": 1001, "previous_sha256": "0" * 64},
        {"number": 2, "previous_sha256": "g" * 64},
        {"at": NOW.replace(tzinfo=None)},
        {"at": NOW.replace(microsecond=1)},
        {"by": ""},
        {"by": "two\nlines"},
        {"by": "x" * 129},
        {"previous_sha256": "0" * 64},
        {"state": State.RECEIVED},
        {"facts": {"share": 0.5}},
    ],
    ids=str,
)
def test_entry_that_makes_no_sense_cannot_be_built(change: dict[str, Any]) -> None:
    entry = walked("requested").entries[0]
    with broken():
        replace(entry, **change)


def test_entry_at_every_limit_is_built_and_read() -> None:
    first = walked("requested").entries[0]
    full = replace(first, by="x" * 128, facts={"x": ""})
    full = replace(full, facts={"x": "x" * (64 * 1024 - len(full.to_bytes()))})
    assert len(full.to_bytes()) == 64 * 1024
    assert JournalEntry.from_bytes(full.to_bytes()) == full
    with broken(Code.TOO_LARGE):
        replace(full, facts={"x": f"{full.facts['x']}x"})
    last = replace(first, number=1000, previous_sha256="0" * 64)
    assert JournalEntry.from_bytes(last.to_bytes()) == last


def test_entry_that_does_not_follow_is_told_with_what_is_before_it() -> None:
    with broken() as refused:
        Journal.read(Kind.TRANSFERS, ID, [changed(CHAIN[0], state="planned")])
    assert "planned cannot follow nothing" in str(refused.value)
    with broken() as refused:
        Journal.read(Kind.TRANSFERS, ID, [CHAIN[0], changed(CHAIN[1], state="sealed")])
    assert "sealed cannot follow requested" in str(refused.value)


def test_journal_tells_its_first_entry_its_last_and_the_newest_of_a_state() -> None:
    assert (empty().first, empty().last, empty().state) == (None, None, None)
    assert empty().newest(State.PLANNED) is None
    journal = walked("requested planned exporting hashing sealing sealed")
    for receipt in ("a", "b"):
        journal = go(journal, "damaged", {"receipt": receipt})
    assert journal.first == journal.entries[0]
    assert journal.newest(State.PLANNED) == journal.entries[1]
    assert journal.newest(State.DAMAGED) == journal.last == journal.entries[7]
    assert journal.newest(State.FAILED) is None


def test_facts_are_a_copy_and_times_are_utc() -> None:
    facts: dict[str, Any] = {"audience": ["a.azurecr.io"], "state": State.SEALED}
    east = NOW.astimezone(timezone(timedelta(hours=5))).replace(microsecond=5)
    entry = empty().next(State.REQUESTED, facts, by="app", at=east)
    assert entry is not None
    facts["audience"].append("b.azurecr.io")
    assert entry.facts == {"audience": ["a.azurecr.io"], "state": "sealed"}
    assert entry.at.tzinfo is UTC
    assert json.loads(entry.to_bytes())["at"] == "2026-11-23T08:00:00Z"
    assert JournalEntry.from_bytes(entry.to_bytes()) == entry


def test_name_says_whose_entry_it_is_and_which() -> None:
    name = entry_name(Kind.IMPORTS, "import" + "0" * 40, 7)
    assert name == f"imports/import{'0' * 40}/00000007.json"
    assert parse_entry_name(name) == (Kind.IMPORTS, "import" + "0" * 40, 7)
    for other in (f"others/{ID}/00000001.json", f"transfers/{ID}/1.json", f"transfers/{ID}", "transfers/A/1"):
        assert parse_entry_name(other) is None
    assert parse_entry_name(f"transfers/{'a' * 41}/00000001.json") is None
