"""When what lies there of a transfer may be removed: never while its bundle may still have to be fetched."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airgap.fields import format_time
from airgap.journal import Journal
from airgap.retention import import_removable_from, removable_from
from airgap.states import ACTIVE, Kind, State

START = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
KEEP = timedelta(days=30)
EXPIRES_AT = START + timedelta(days=90)
LIFE = "requested planned exporting hashing sealing sealed"


def journal(states: str, audience: Sequence[str] = ("a.azurecr.io",)) -> Journal:
    """One entry an hour."""
    made = Journal(kind=Kind.TRANSFERS, about="0123456789abcdef")
    for hour, state in enumerate(states.split()):
        facts: Mapping[str, Any] = {}
        if state == "requested":
            facts = {"audience": list(audience)}
        elif state == "sealing":
            facts = {"bundle": {"expiresAt": format_time(EXPIRES_AT)}}
        entry = made.next(State(state), facts, by="app", at=START + timedelta(hours=hour))
        assert entry is not None
        made = made.extended(entry)
    return made


def last_at(states: str) -> datetime:
    return START + timedelta(hours=len(states.split()) - 1)


@pytest.mark.parametrize(
    "states",
    [
        f"{LIFE} delivered",
        f"{LIFE} voided",
        "requested cancelled",
        "requested planned exporting failed",
        "requested planned previewed",
        "requested planned nothing-missing",
        "requested planned dividing divided",
        "requested planned refused",
    ],
)
def test_what_nobody_can_need_any_more_is_kept_for_the_days_after_its_end(states: str) -> None:
    assert removable_from(journal(states), KEEP) == last_at(states) + KEEP


@pytest.mark.parametrize("states", [f"{LIFE} refused", "requested planned exporting hashing sealing failed"])
def test_bundle_that_may_be_let_in_after_all_is_kept_until_it_can_be_imported_no_more(states: str) -> None:
    assert removable_from(journal(states), KEEP) == EXPIRES_AT + KEEP


def test_bundle_for_several_registries_is_kept_until_the_last_has_it() -> None:
    several = ("a.azurecr.io", "b.azurecr.io")
    assert removable_from(journal(f"{LIFE} partly-delivered", several), KEEP) is None
    states = f"{LIFE} partly-delivered delivered"
    assert removable_from(journal(states, several), KEEP) == last_at(states) + KEEP


def test_expired_transfer_is_kept_for_the_days_after_that() -> None:
    found = journal(LIFE)
    entry = found.next(State.EXPIRED, {}, by="app", at=EXPIRES_AT + timedelta(days=14))
    assert entry is not None
    assert removable_from(found.extended(entry), KEEP) == EXPIRES_AT + timedelta(days=14) + KEEP


@pytest.mark.parametrize(
    "states",
    [
        *(
            LIFE[: LIFE.index(state) + len(state)]
            for state in LIFE.split()
            if State(state) in ACTIVE[Kind.TRANSFERS]
        ),
        LIFE,
        f"{LIFE} damaged",
        f"{LIFE} partly-delivered",
        "",
    ],
)
def test_nothing_is_removed_while_it_is_at_work_or_may_have_to_be_carried(states: str) -> None:
    assert removable_from(journal(states), KEEP) is None


IMPORT = "received admitted waiting"


def import_journal(states: str) -> Journal:
    made = Journal(kind=Kind.IMPORTS, about="import0123456789")
    for hour, state in enumerate(states.split()):
        entry = made.next(State(state), {}, by="app", at=START + timedelta(hours=hour))
        assert entry is not None
        made = made.extended(entry)
    return made


@pytest.mark.parametrize(
    "states",
    [
        "received superseded",
        "received refused quarantined",
        f"{IMPORT} damaged held superseded",
        f"{IMPORT} damaged held quarantined",
        f"{IMPORT} verified promoting importing failed quarantined",
        f"{IMPORT} verified promoting importing proven closed",
    ],
)
def test_what_is_left_of_an_import_is_kept_for_the_days_after_its_end(states: str) -> None:
    assert import_removable_from(import_journal(states), KEEP) == last_at(states) + KEEP


@pytest.mark.parametrize(
    "states",
    [
        *("", "received", IMPORT, f"{IMPORT} verified", f"{IMPORT} verified checking"),
        *(f"{IMPORT} verified awaiting-release", f"{IMPORT} verified promoting importing"),
        *(f"{IMPORT} damaged", f"{IMPORT} damaged held", f"{IMPORT} refused", "received failed"),
        f"{IMPORT} verified promoting importing proven",
    ],
)
def test_nothing_is_removed_of_an_import_that_waits_is_held_or_not_closed(states: str) -> None:
    assert import_removable_from(import_journal(states), KEEP) is None
