"""Steps of a transfer's sealing that come after it has ended: they publish nothing, and keep no number."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from airgap.errors import Code, PolicyRefusal, ServiceError
from airgap.journal import Journal
from airgap.states import Kind, State
from function_app.journal.store import JournalStore
from function_app.source.reconciling import Reconciler
from function_app.source.removing import remove_ended
from function_app.source.sealing import publish, seal_bundle
from function_app.source.voiding import void_transfer
from function_app.source.wire import Sealing
from function_app.storage.ledger import Ledger
from function_app.storage.paths import LEDGER
from tests.bundles import CHANNEL
from tests.function_app.durable_client import DurableClient
from tests.function_app.memory import START
from tests.function_app.test_sealing import manifests, ready_source, sealing_order, transfer

LATER = START + timedelta(hours=3)


class Late:
    """A source with one transfer that is about to be sealed."""

    def __init__(self) -> None:
        self.side, self.blobs = ready_source()
        self.order: Sealing = sealing_order(self.side)
        self.about = self.order.transfer_id
        self.journals = JournalStore(self.blobs, self.side.projection)

    @property
    def journal(self) -> Journal:
        return self.journals.read(Kind.TRANSFERS, self.about)

    def fail(self) -> None:
        facts = {"code": Code.SERVICE_UNEXPECTED.name, "detail": "given up"}
        self.journals.record(Kind.TRANSFERS, self.about, State.FAILED, facts, by="app", at=LATER)

    def void(self) -> None:
        void_transfer(self.side, self.journal, reason="lost", by="caller", now=LATER)

    def seal_until(self, where: str, do: Callable[[], object], *, before: bool = True) -> None:
        """Seal the bundle; once a blob of that name is written, before or after it, something happens."""
        create = self.blobs.create

        def interfering(container: str, name: str, content: bytes) -> bool:
            if not f"{container}/{name}".startswith(where):
                return create(container, name, content)
            self.blobs.create = create  # type: ignore[method-assign]  # once
            if before:
                do()
            done = create(container, name, content)
            if not before:
                do()
            return done

        self.blobs.create = interfering  # type: ignore[method-assign]  # to interfere
        try:
            seal_bundle(self.side, self.order)
        finally:
            self.blobs.create = create  # type: ignore[method-assign]  # as before

    @property
    def manifest(self) -> str:
        return f"transfer/{self.about}/bundle-manifest"

    @property
    def number(self) -> str:
        return f"{LEDGER}/{CHANNEL}/"


def die() -> None:
    raise KeyboardInterrupt


@pytest.fixture
def late() -> Late:
    return Late()


def test_publication_of_a_transfer_that_ends_that_very_moment_is_taken_back(late: Late) -> None:
    with pytest.raises(PolicyRefusal, match="TRANSITION_REFUSED"):
        late.seal_until(late.manifest, late.fail)
    assert (manifests(late.blobs), late.journal.state) == ([], State.FAILED)


def test_publication_that_was_paused_with_an_old_journal_publishes_nothing_of_what_was_voided(
    late: Late,
) -> None:
    with pytest.raises(KeyboardInterrupt):
        late.seal_until(late.manifest, die)
    read_long_ago = late.journal
    assert read_long_ago.state is State.SEALING
    late.fail()
    late.void()
    publish(late.side, read_long_ago)
    assert (manifests(late.blobs), late.journal.state) == ([], State.VOIDED)


def test_what_was_published_as_the_app_died_is_taken_back_by_the_next_delivery(late: Late) -> None:
    def fail_and_die() -> None:
        late.fail()
        die()

    with pytest.raises(KeyboardInterrupt):
        late.seal_until(late.manifest, fail_and_die, before=False)
    assert len(manifests(late.blobs)) == 1
    seal_bundle(late.side, late.order)
    assert manifests(late.blobs) == []


def test_what_somebody_else_put_there_is_not_taken_back(late: Late) -> None:
    with pytest.raises(KeyboardInterrupt):
        late.seal_until(late.manifest, die)
    late.fail()
    name = f"{late.about}/bundle-manifest.dsse.json"
    late.blobs.upload("transfer", name, b"another")
    publish(late.side, late.journal)
    assert name in late.blobs.names("transfer")


def test_bundle_that_was_sealed_and_then_voided_stays_for_whoever_looks_into_it(late: Late) -> None:
    seal_bundle(late.side, late.order)
    late.void()
    seal_bundle(late.side, late.order)
    assert len(manifests(late.blobs)) == 1


def test_publication_with_an_old_journal_publishes_nothing_of_what_was_removed(late: Late) -> None:
    seal_bundle(late.side, late.order)
    read_long_ago = late.journal
    late.void()
    remove_ended(late.side, now=LATER + timedelta(days=40))
    assert manifests(late.blobs) == []
    publish(late.side, read_long_ago)
    assert manifests(late.blobs) == []


# --- a number that the journal does not know of -------------------------------------------------------------


def number_without_a_journal(late: Late) -> None:
    with pytest.raises(KeyboardInterrupt):
        late.seal_until(late.number, die, before=False)
    assert Ledger(late.blobs).numbers(CHANNEL) == [1]
    assert late.journal.newest(State.SEALING) is None


def next_voids(late: Late) -> list[int]:
    transfer(late.side, 7)
    return [void.sequence for void in manifests(late.blobs)[-1].voids]


def test_number_that_the_journal_never_knew_of_is_given_up_by_the_reconciler(late: Late) -> None:
    number_without_a_journal(late)
    asyncio.run(Reconciler(late.side, DurableClient(), LATER).run())
    assert late.journal.state is State.FAILED
    assert next_voids(late) == [1]


def test_number_that_the_journal_never_knew_of_is_given_up_within_hours_of_the_end(late: Late) -> None:
    """The orchestration had ended the transfer itself."""
    number_without_a_journal(late)
    late.fail()
    remove_ended(late.side, now=LATER + timedelta(hours=1))
    assert next_voids(late) == [1]


def test_number_is_found_however_many_others_have_taken_theirs_since(late: Late) -> None:
    late.blobs.put("work", f"sealing/{late.about}/first.json", b"1")  # it had begun, and others were faster
    for number in (3, 4):
        transfer(late.side, number)
    number_of_it = 3
    with pytest.raises(KeyboardInterrupt):
        late.seal_until(f"{late.number}{number_of_it:016d}", die, before=False)
    transfer(late.side, 5)
    late.fail()
    remove_ended(late.side, now=LATER + timedelta(hours=1))
    assert Ledger(late.blobs).voids(CHANNEL) == {number_of_it}


def test_nothing_is_given_up_of_a_transfer_that_took_no_number_or_is_still_at_work(late: Late) -> None:
    number_without_a_journal(late)
    remove_ended(late.side, now=LATER)
    assert Ledger(late.blobs).voids(CHANNEL) == frozenset()
    seal_bundle(late.side, late.order)  # it goes on, with the number that it has
    assert [one.sequence for one in manifests(late.blobs)] == [1]
    other = Late()
    with pytest.raises(KeyboardInterrupt):
        other.seal_until(other.number, die)
    other.fail()
    remove_ended(other.side, now=LATER)
    assert Ledger(other.blobs).voids(CHANNEL) == frozenset()


def test_transfer_whose_note_was_changed_keeps_no_other_number_from_being_given_up(late: Late) -> None:
    number_without_a_journal(late)
    late.fail()
    late.blobs.put("work", f"sealing/{late.about}/first.json", b"one")
    remove_ended(late.side, now=LATER + timedelta(hours=1))  # which is logged
    assert Ledger(late.blobs).voids(CHANNEL) == frozenset()
    late.blobs.put("work", f"sealing/{late.about}/first.json", b"1")
    remove_ended(late.side, now=LATER + timedelta(hours=2))
    assert Ledger(late.blobs).voids(CHANNEL) == {1}


def test_storage_that_fails_at_the_ledger_leaves_a_transfer_that_can_be_sealed_again(late: Late) -> None:
    def away() -> None:
        raise ServiceError(Code.SERVICE_UNREACHABLE, "away")

    with pytest.raises(ServiceError):
        late.seal_until(late.number, away, before=False)
    result: Any = seal_bundle(late.side, late.order)
    assert result.bundle["sequence"] == 1
