"""Journals that have said nothing for a while: found among many that are at work."""

from datetime import UTC, datetime, timedelta

from airgap.journal import Journal
from airgap.states import Kind, State
from function_app.journal.neglected import neglected_journals
from function_app.journal.store import JournalStore, forget_journals
from function_app.ports import RowFilter, SourceSide
from tests.function_app.memory import make_source
from tests.function_app.memory_projection import MemoryProjection

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
QUIET = NOW - timedelta(minutes=10)


def note(side: SourceSide, about: str, *states: tuple[State, timedelta]) -> None:
    for state, age in states:
        JournalStore(side.blobs, side.projection).record(
            Kind.TRANSFERS, about, state, {}, by="app", at=NOW - age
        )


def found(side: SourceSide, *, at_most: int = 100) -> list[Journal]:
    return list(neglected_journals(side, Kind.TRANSFERS, QUIET, at_most=at_most))


def test_neglected_are_found_behind_any_number_of_those_at_work() -> None:
    side, _, _ = make_source()
    for number in range(3):
        age = timedelta(days=9 + number)
        note(side, f"neglected{number}", (State.REQUESTED, age), (State.PLANNED, age))
    for number in range(230):
        note(
            side,
            f"atwork{number:04d}",
            (State.REQUESTED, timedelta(days=1, seconds=number)),
            (State.PLANNED, timedelta(minutes=number % 10)),
        )
        note(side, f"ordered{number:04d}", (State.REQUESTED, timedelta(minutes=number % 10)))
    assert [journal.about for journal in found(side)] == [f"neglected{number}" for number in range(3)]
    assert [journal.about for journal in found(side, at_most=2)] == ["neglected0", "neglected1"]


def test_what_rests_or_has_ended_is_not_neglected() -> None:
    side, _, _ = make_source()
    old = timedelta(days=9)
    note(side, "cancelled0", (State.REQUESTED, old), (State.CANCELLED, old))
    life = (State.REQUESTED, State.PLANNED, State.EXPORTING, State.HASHING, State.SEALING, State.SEALED)
    note(side, "sealed0000", *((state, old) for state in life))
    assert found(side) == []


def test_row_that_is_behind_is_brought_up_to_date_on_the_way() -> None:
    side, _, _ = make_source()
    note(side, "behind0000", (State.REQUESTED, timedelta(days=2)))
    assert isinstance(side.projection, MemoryProjection)
    side.projection.is_away = True
    note(side, "behind0000", (State.CANCELLED, timedelta(days=1)))
    side.projection.is_away = False
    assert found(side) == []
    rows, _ = side.projection.page(Kind.TRANSFERS, where=RowFilter(), limit=10)
    assert [row.state for row in rows] == [State.CANCELLED]


def test_broken_journal_is_passed_over() -> None:
    side, blobs, _ = make_source()
    for about in ("aaaaaaaa", "bbbbbbbb"):
        note(side, about, (State.REQUESTED, timedelta(days=2)))
    blobs.put("journal", "transfers/aaaaaaaa/00000001.json", b"{}")
    forget_journals()
    assert [journal.about for journal in found(side)] == ["bbbbbbbb"]
