"""The journal in its container and the projection behind it, in memory and on Azurite's blobs and tables."""

import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airgap.errors import AirgapError, Code, PolicyRefusal, UntrustedInputError
from airgap.journal import Journal
from airgap.states import Kind, State
from function_app.azure.tables import AzureTables
from function_app.journal.__main__ import report
from function_app.journal.store import JournalStore, forget_journals
from function_app.ports import BlobStore, JournalRow, RowFilter
from local_cloud.tokens import TokenAuthority
from tests.contract.credential import Credential
from tests.function_app.memory import MemoryBlobs
from tests.function_app.memory_projection import MemoryProjection

ID = "0123456789abcdef"
NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)


@pytest.fixture(params=["memory", pytest.param("azurite", marks=pytest.mark.e2e)])
def journals(request: pytest.FixtureRequest) -> Iterator[JournalStore]:
    if request.param == "memory":
        yield JournalStore(MemoryBlobs(), MemoryProjection())
        return
    server, blobs = request.getfixturevalue("azurite")
    server.ensure_table("journal")
    forget_journals()  # of the same account, by the test before
    tables = AzureTables(server.table_url, Credential(TokenAuthority()))
    yield JournalStore(blobs, tables)
    tables.close()
    for name in list(blobs.list_names("journal", "")):
        blobs.delete("journal", name)
    with server.table_client() as service:
        service.delete_table("journal")


def note(
    journals: JournalStore,
    *states: str,
    about: str = ID,
    kind: Kind = Kind.TRANSFERS,
    facts: Mapping[str, Any] | None = None,
) -> Journal:
    journal = journals.read(kind, about)
    for state in states:
        journal = journals.record(kind, about, State(state), facts or {}, by="app", at=NOW)
    return journal


def rows(journals: JournalStore, kind: Kind = Kind.TRANSFERS) -> list[JournalRow]:
    return list(journals.projection.page(kind, where=RowFilter(), limit=1000)[0])


def states_of(journal: Journal) -> list[str]:
    return [entry.state.value for entry in journal.entries]


def test_unknown_transfer_has_an_empty_journal(journals: JournalStore) -> None:
    assert journals.read(Kind.TRANSFERS, ID) == Journal(kind=Kind.TRANSFERS, about=ID)
    assert list(journals.ids(Kind.TRANSFERS)) == []


def test_what_is_recorded_is_read_back_and_listed(journals: JournalStore) -> None:
    note(journals, "requested", facts={"channel": "prod"})
    journal = note(journals, "planned", "failed", facts={"code": "PIPELINE_RUN_FAILED"})
    assert journals.read(Kind.TRANSFERS, ID) == journal
    assert states_of(journal) == ["requested", "planned", "failed"]
    (row,) = rows(journals)
    assert (row.about, row.number, row.state, row.channel) == (ID, 3, State.FAILED, "prod")
    assert (row.code, row.created_at, row.updated_at) == ("PIPELINE_RUN_FAILED", NOW, NOW)


def test_repeated_and_late_steps_write_nothing(journals: JournalStore) -> None:
    journal = note(journals, "requested", "planned", "exporting")
    assert note(journals, "planned", "requested", "exporting", facts={"other": 1}) == journal
    assert len(list(journals.blobs.list_names("journal", ""))) == 3


def test_what_cannot_follow_is_refused_and_leaves_nothing(journals: JournalStore) -> None:
    note(journals, "requested", "cancelled")
    with pytest.raises(PolicyRefusal, match="TRANSITION_REFUSED"):
        note(journals, "planned")
    assert states_of(journals.read(Kind.TRANSFERS, ID)) == ["requested", "cancelled"]


def test_one_of_two_decisions_at_once_prevails_for_both(journals: JournalStore) -> None:
    for number in range(3):
        about = f"race{number:04d}"
        note(journals, "requested", "planned", "exporting", "hashing", about=about)
        start = threading.Barrier(2)

        def decide(state: str, about: str = about, start: threading.Barrier = start) -> str:
            start.wait()
            try:
                return note(journals, state, about=about).entries[-1].state.value
            except AirgapError as error:
                return error.code.name

        with ThreadPoolExecutor(2) as both:
            outcomes = list(both.map(decide, ["sealed", "cancelled"]))
        state = journals.read(Kind.TRANSFERS, about).state
        assert sorted(outcomes) == sorted([str(state), "TRANSITION_REFUSED"])
        assert {row.about: row.state for row in rows(journals)}[about] is state


class OvertakenBlobs(MemoryBlobs):
    """Somebody else writes just before the first that is asked for."""

    faster: tuple[str, ...] = ("cancelled",)

    def create(self, container: str, name: str, content: bytes) -> bool:
        states, self.faster = self.faster, ()
        if name.endswith("1.json"):
            self.faster = states
        else:
            note(JournalStore(self, MemoryProjection()), *states)
        return super().create(container, name, content)


def test_what_was_overtaken_is_judged_by_what_was_faster() -> None:
    journals = JournalStore(OvertakenBlobs(), MemoryProjection())
    note(journals, "requested")
    with pytest.raises(PolicyRefusal, match="planned cannot follow cancelled"):
        note(journals, "planned")
    assert states_of(journals.read(Kind.TRANSFERS, ID)) == ["requested", "cancelled"]


def test_same_step_that_was_faster_elsewhere_counts_for_both() -> None:
    blobs = OvertakenBlobs()
    blobs.faster = ("planned", "exporting")
    journals = JournalStore(blobs, MemoryProjection())
    note(journals, "requested")
    assert states_of(note(journals, "planned")) == ["requested", "planned", "exporting"]
    assert [row.number for row in rows(journals)] == [3]


def test_many_writers_of_one_life_make_one_chain(journals: JournalStore) -> None:
    life = ("requested", "planned", "exporting", "hashing", "sealing", "sealed")

    def live(_: int) -> None:
        for state in life:
            note(journals, state)

    with ThreadPoolExecutor(4) as writers:
        list(writers.map(live, range(4)))
    assert states_of(journals.read(Kind.TRANSFERS, ID)) == list(life)
    assert [row.number for row in rows(journals)] == [len(life)]


def moved_one_further(blobs: BlobStore, names: list[str]) -> None:
    content = blobs.read("journal", names[2], max_bytes=9999)
    assert content is not None
    blobs.delete("journal", names[2])
    blobs.put("journal", names[2].replace("00003", "00004"), content)


@pytest.mark.parametrize(
    "attack",
    [
        lambda blobs, names: blobs.put("journal", names[1], blobs.read("journal", names[0], max_bytes=9999)),
        lambda blobs, names: blobs.put("journal", names[2], b"{}"),
        lambda blobs, names: blobs.put("journal", names[2], b"x" * 70_000),
        lambda blobs, names: blobs.delete("journal", names[0]),
        lambda blobs, names: blobs.delete("journal", names[1]),
        lambda blobs, names: blobs.put("journal", names[2] + ".bak", b""),
        lambda blobs, names: blobs.put("journal", names[2].replace("00003", "00005"), b"{}"),
        moved_one_further,
    ],
    ids=["copied", "emptied", "blown up", "first removed", "removed", "beside it", "after a gap", "moved"],
)
def test_journal_that_was_tampered_with_is_neither_read_nor_continued(
    journals: JournalStore, attack: Any
) -> None:
    note(journals, "requested", "planned", "exporting")
    attack(journals.blobs, list(journals.blobs.list_names("journal", "")))
    forget_journals()
    with pytest.raises(UntrustedInputError):
        journals.read(Kind.TRANSFERS, ID)
    with pytest.raises(UntrustedInputError):
        note(journals, "hashing")
    assert [row.number for row in rows(journals)] == [3]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_entry_that_was_removed_is_missed_by_who_knew_it(journals: JournalStore, number: int) -> None:
    """Also the last one: who reads the journal for the first time cannot know of it."""
    note(journals, "requested", "planned", "exporting")
    journals.blobs.delete("journal", f"transfers/{ID}/{number:08d}.json")
    with pytest.raises(UntrustedInputError, match="JOURNAL_BROKEN"):
        journals.read(Kind.TRANSFERS, ID)


def test_entry_is_read_once_by_a_process(journals: JournalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    known = note(journals, "requested", "planned")
    journals.blobs.put("journal", f"transfers/{ID}/00000001.json", b"what an entry was overwritten with")
    assert journals.read(Kind.TRANSFERS, ID) == known
    reads: list[str] = []
    monkeypatch.setattr(JournalStore, "_content", lambda *about: reads.append(about[1]))
    journals.read(Kind.TRANSFERS, ID)
    assert reads == []


def test_only_so_many_journals_are_kept_in_mind_and_no_large_one(
    journals: JournalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("function_app.journal.store._KEPT", 2)
    reads: list[str] = []
    read = JournalStore._content

    def counted(store: JournalStore, name: str) -> bytes:
        reads.append(name)
        return read(store, name)

    monkeypatch.setattr(JournalStore, "_content", counted)
    note(journals, "requested", about="11111111", facts={"detail": "x" * 60_000})
    note(journals, "planned", about="11111111", facts={"detail": "x" * 60_000})
    for about in ("aaaaaaaa", "bbbbbbbb", "cccccccc"):
        note(journals, "requested", about=about)
    reads.clear()
    for about in ("cccccccc", "bbbbbbbb", "aaaaaaaa", "11111111"):
        journals.read(Kind.TRANSFERS, about)
    assert [name.split("/")[1] for name in reads] == ["aaaaaaaa", "11111111", "11111111"]


def test_ids_come_one_after_the_other_each_once(journals: JournalStore) -> None:
    for about in ("cccccccc", "aaaaaaaa"):
        note(journals, "requested", "planned", about=about)
    note(journals, "received", about="import00", kind=Kind.IMPORTS)
    journals.blobs.put("journal", "transfers/readme.txt", b"")
    assert list(journals.ids(Kind.TRANSFERS)) == ["aaaaaaaa", "cccccccc"]
    assert list(journals.ids(Kind.IMPORTS)) == ["import00"]


def empty_again(journals: JournalStore) -> JournalStore:
    """The same journals with nothing listed of them."""
    return JournalStore(journals.blobs, MemoryProjection())


def test_rebuilt_projection_is_the_one_that_grew(
    journals: JournalStore, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(6):
        note(journals, "requested", about=f"{number:08d}", facts={"channel": f"c{number % 3}"})
        note(journals, *("planned", "exporting")[: number % 3], about=f"{number:08d}")
    note(journals, "received", "admitted", about="import00", kind=Kind.IMPORTS)
    rebuilt = empty_again(journals)
    for _ in range(2):
        assert report(rebuilt) == 0
        for kind in Kind:
            assert rows(rebuilt, kind) == rows(journals, kind)
    assert "journals read: 7, broken: 0" in capsys.readouterr().out


def test_rebuilding_mends_rows_that_are_behind(journals: JournalStore) -> None:
    note(journals, "requested")
    away = MemoryProjection()
    away.is_away = True
    note(JournalStore(journals.blobs, away), "planned")
    assert [row.state for row in rows(journals)] == [State.REQUESTED]
    assert report(journals) == 0
    assert [row.state for row in rows(journals)] == [State.PLANNED]


def test_rebuilding_tells_each_broken_journal_and_does_the_others(
    journals: JournalStore, capsys: pytest.CaptureFixture[str]
) -> None:
    for about in ("aaaaaaaa", "bbbbbbbb", "cccccccc"):
        note(journals, "requested", "planned", about=about)
    journals.blobs.delete("journal", "transfers/bbbbbbbb/00000001.json")
    rebuilt = empty_again(journals)
    assert report(rebuilt) == Code.JOURNAL_BROKEN.exit_code
    assert [row.about for row in rows(rebuilt)] == ["aaaaaaaa", "cccccccc"]
    said = capsys.readouterr()
    assert said.err.startswith("transfers/bbbbbbbb: JOURNAL_BROKEN")
    assert "journals read: 3, broken: 1" in said.out


def test_last_entry_that_was_removed_is_found_by_its_row(
    journals: JournalStore, capsys: pytest.CaptureFixture[str]
) -> None:
    note(journals, "requested", "cancelled")
    journals.blobs.delete("journal", f"transfers/{ID}/00000002.json")
    forget_journals()
    assert report(journals) == Code.JOURNAL_BROKEN.exit_code
    assert "entry 2 was there once, 1 is the last now" in capsys.readouterr().err
    assert [row.state for row in rows(journals)] == [State.CANCELLED]


class OneMoreEntry(MemoryProjection):
    """While it is written to, the app goes on."""

    def __init__(self, blobs: BlobStore) -> None:
        super().__init__()
        self.blobs = blobs

    def put(self, row: JournalRow) -> int:
        if row.number == 1:
            note(JournalStore(self.blobs, self), "planned")
        return super().put(row)


def test_entry_that_the_app_writes_meanwhile_is_no_damage(journals: JournalStore) -> None:
    note(journals, "requested")
    rebuilt = JournalStore(journals.blobs, OneMoreEntry(journals.blobs))
    assert report(rebuilt) == 0
    assert [row.number for row in rows(rebuilt)] == [2]


def test_projection_that_is_away_stops_nothing_and_is_logged(
    journals: JournalStore, caplog: pytest.LogCaptureFixture
) -> None:
    away = MemoryProjection()
    away.is_away = True
    assert note(JournalStore(journals.blobs, away), "requested").is_active
    assert "is behind" in caplog.text
    note(journals, "requested")
    later = NOW + timedelta(days=1)
    assert journals.record(Kind.TRANSFERS, ID, State.REQUESTED, {}, by="app", at=later).entries[0].at == NOW
    assert [row.number for row in rows(journals)] == [1]
