"""The answers of an audience's registries about a bundle, and what becomes of its transfer by them.

A bundle may be made for several registries, each of which answers by a receipt of its own. Delivered is what
all of them have imported.
"""

from __future__ import annotations

from collections.abc import Mapping

from airgap.errors import Code, PolicyRefusal
from airgap.journal import Journal, JournalEntry
from airgap.receipt import ReceiptVerdict
from airgap.states import State

_STATES: Mapping[ReceiptVerdict, State] = {
    ReceiptVerdict.IMPORTED: State.DELIVERED,
    ReceiptVerdict.REFUSED: State.REFUSED,
    ReceiptVerdict.PARTIAL: State.REFUSED,  # the number is used up, and what came over is not the bundle
    ReceiptVerdict.DAMAGED: State.DAMAGED,
}


def answers_of(journal: Journal) -> Mapping[str, JournalEntry]:
    """The journal entry with the newest answer of each registry that has answered, by its name."""
    return {str(entry.facts["target"]): entry for entry in journal.entries if _is_answer(entry)}


def is_new(journal: Journal, target: str, verdict: ReceiptVerdict) -> bool:
    """Whether a registry's verdict is news, and is to be recorded as its answer.

    Damaged parts are carried again, and may be damaged again. What a registry has refused it may have
    imported after all: a key was added to its policy meanwhile. Of a bundle that was given up only an import
    is news.

    Raises:
        PolicyRefusal: ``TRANSITION_REFUSED``: it contradicts what this registry has answered before, or the
            bundle was given up.
    """
    before, now = _states(journal).get(target), _STATES[verdict]
    if _is_voided(journal) and now is not State.DELIVERED:
        raise PolicyRefusal(Code.TRANSITION_REFUSED, "the bundle was given up, and its refusal is expected")
    if before in (None, State.DAMAGED):
        return True
    if before is now:
        return False
    if (before, now) == (State.REFUSED, State.DELIVERED):
        return True
    raise PolicyRefusal(
        Code.TRANSITION_REFUSED, f"{target} has answered {before} before, and cannot answer {now} now"
    )


def state_after(journal: Journal, target: str, verdict: ReceiptVerdict) -> State:
    """The state that a transfer comes to once the registry ``target`` has answered with ``verdict``."""
    return _whole(journal, {**_states(journal), target: _STATES[verdict]})


def state_by_answers(journal: Journal) -> State | None:
    """The state to which all answers together bring a transfer; ``None`` if the last entry is not an answer.

    The last entry may say another state, where several answers were recorded at the same moment.
    """
    last = journal.last
    return _whole(journal, _states(journal)) if last is not None and _is_answer(last) else None


def _is_answer(entry: JournalEntry) -> bool:
    return "verdict" in entry.facts


def _states(journal: Journal) -> dict[str, State]:
    """What each registry has answered."""
    answers = answers_of(journal)
    return {target: _STATES[ReceiptVerdict(entry.facts["verdict"])] for target, entry in answers.items()}


def _whole(journal: Journal, states: Mapping[str, State]) -> State:
    """What all answers come to: what is to be done first, then what cannot; neither once it is given up."""
    for gravest in () if _is_voided(journal) else (State.DAMAGED, State.REFUSED):
        if gravest in states.values():
            return gravest
    imported = {target for target, state in states.items() if state is State.DELIVERED}
    audience = journal.entries[0].facts["audience"]
    return State.DELIVERED if imported.issuperset(audience) else State.PARTLY_DELIVERED


def _is_voided(journal: Journal) -> bool:
    return journal.newest(State.VOIDED) is not None
