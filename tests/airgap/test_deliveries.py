"""Delivered is what every registry of the audience has imported, in whatever order their receipts come."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airgap.deliveries import answers_of, is_new, state_after, state_by_answers
from airgap.errors import PolicyRefusal
from airgap.journal import Journal
from airgap.receipt import ReceiptVerdict
from airgap.states import Kind, State

START = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
A, B, C = "a.azurecr.io", "b.azurecr.io", "c.azurecr.io"
IMPORTED, REFUSED, PARTIAL, DAMAGED = (
    *(ReceiptVerdict.IMPORTED, ReceiptVerdict.REFUSED),
    *(ReceiptVerdict.PARTIAL, ReceiptVerdict.DAMAGED),
)


def go(journal: Journal, state: State, facts: dict[str, Any] | None = None) -> Journal:
    at = START + timedelta(hours=len(journal.entries))
    entry = journal.next(state, facts or {}, by="receipt", at=at)
    assert entry is not None
    return journal.extended(entry)


def sealed(*audience: str) -> Journal:
    journal = go(
        Journal(kind=Kind.TRANSFERS, about="0123456789abcdef"), State.REQUESTED, {"audience": [*audience]}
    )
    for state in (State.PLANNED, State.EXPORTING, State.HASHING, State.SEALING, State.SEALED):
        journal = go(journal, state)
    return journal


def hear(journal: Journal, *answers: tuple[str, ReceiptVerdict]) -> Journal:
    """As the source does; each answer has a receipt of its own."""
    for target, verdict in answers:
        assert is_new(journal, target, verdict)
        facts = {"target": target, "verdict": verdict.value, "receipt": f"r{len(journal.entries)}"}
        journal = go(journal, state_after(journal, target, verdict), facts)
    return journal


@pytest.mark.parametrize("order", list(itertools.permutations((A, B, C))))
def test_one_receipt_of_one_registry_delivers_nothing_to_the_others(order: tuple[str, ...]) -> None:
    journal = sealed(A, B, C)
    for target in order[:-1]:
        journal = hear(journal, (target, IMPORTED))
        assert journal.state is State.PARTLY_DELIVERED
        assert not journal.is_final
    assert hear(journal, (order[-1], IMPORTED)).state is State.DELIVERED


@pytest.mark.parametrize(
    ("verdict", "state"),
    [
        *((IMPORTED, State.DELIVERED), (REFUSED, State.REFUSED)),
        *((PARTIAL, State.REFUSED), (DAMAGED, State.DAMAGED)),
    ],
)
def test_for_one_registry_its_receipt_is_the_whole(verdict: ReceiptVerdict, state: State) -> None:
    assert hear(sealed(A), (A, verdict)).state is state


@pytest.mark.parametrize("first_is_a", [True, False])
@pytest.mark.parametrize(
    ("of_b", "state"), [(REFUSED, State.REFUSED), (PARTIAL, State.REFUSED), (DAMAGED, State.DAMAGED)]
)
def test_what_one_lacks_is_told_whatever_the_other_has_imported(
    of_b: ReceiptVerdict, state: State, *, first_is_a: bool
) -> None:
    answers = [(A, IMPORTED), (B, of_b)]
    journal = hear(sealed(A, B), *(answers if first_is_a else reversed(answers)))
    assert journal.state is state
    assert {target: one.facts["verdict"] for target, one in answers_of(journal).items()} == {
        A: "imported",
        B: of_b.value,
    }
    assert hear(journal, (B, IMPORTED)).state is State.DELIVERED


def test_damage_is_to_be_carried_again_before_a_refusal_is_the_end() -> None:
    journal = hear(sealed(A, B), (A, REFUSED), (B, DAMAGED))
    assert journal.state is State.DAMAGED
    assert hear(journal, (B, DAMAGED)).state is State.DAMAGED
    assert hear(journal, (B, IMPORTED)).state is State.REFUSED


def test_repeat_is_no_news() -> None:
    journal = hear(sealed(A, B), (A, IMPORTED))
    assert not is_new(journal, A, IMPORTED)
    journal = hear(sealed(A, B), (A, REFUSED))
    assert not is_new(journal, A, PARTIAL)
    assert is_new(journal, A, IMPORTED)
    assert is_new(hear(sealed(A), (A, DAMAGED)), A, DAMAGED)


@pytest.mark.parametrize(("first", "then"), [(IMPORTED, REFUSED), (IMPORTED, DAMAGED), (REFUSED, DAMAGED)])
def test_registry_that_contradicts_itself_changes_nothing(
    first: ReceiptVerdict, then: ReceiptVerdict
) -> None:
    journal = hear(sealed(A, B), (A, first))
    with pytest.raises(PolicyRefusal, match=r"TRANSITION_REFUSED: .* has answered"):
        is_new(journal, A, then)


def test_of_a_bundle_that_was_given_up_only_imports_are_news() -> None:
    journal = go(hear(sealed(A, B), (B, REFUSED)), State.VOIDED, {"sequence": 1, "reason": "lost"})
    assert state_by_answers(journal) is None
    for verdict in (REFUSED, DAMAGED):
        with pytest.raises(PolicyRefusal, match="given up"):
            is_new(journal, A, verdict)
    journal = hear(journal, (A, IMPORTED))
    assert journal.state is State.PARTLY_DELIVERED
    assert hear(journal, (B, IMPORTED)).state is State.DELIVERED


def test_two_answers_at_once_come_to_what_both_say() -> None:
    """Each was judged without the other."""
    journal = sealed(A, B)
    for target in (A, B):
        journal = go(journal, State.PARTLY_DELIVERED, {"target": target, "verdict": "imported"})
    assert journal.state is State.PARTLY_DELIVERED
    assert state_by_answers(journal) is State.DELIVERED


def test_nothing_follows_from_answers_where_something_else_was_decided_since() -> None:
    for state in (State.VOIDED, State.EXPIRED):
        journal = go(hear(sealed(A, B), (A, IMPORTED)), state)
        assert state_by_answers(journal) is None
    assert state_by_answers(sealed(A)) is None
    assert state_by_answers(Journal(kind=Kind.TRANSFERS, about="0123456789abcdef")) is None
