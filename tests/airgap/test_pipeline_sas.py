"""When a SAS is renewed, when somebody is told, and what is left alone."""

from datetime import UTC, datetime, timedelta

import pytest

from airgap.pipeline_sas import (
    LIFETIME,
    PATIENCE,
    RENEW_BEFORE,
    SasVersion,
    Step,
    is_overdue,
    next_step,
    period,
)

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def version(*, ends: timedelta | None, is_enabled: bool = True, made: timedelta = timedelta()) -> SasVersion:
    """One whose SAS ends so long after noon, made so long before it."""
    expires_at = None if ends is None else NOON + ends
    return SasVersion(created_at=NOON - made, expires_at=expires_at, is_enabled=is_enabled)


@pytest.mark.parametrize(
    ("left", "step"),
    [
        (LIFETIME, Step.KEEP),
        (RENEW_BEFORE + SECOND, Step.KEEP),
        (RENEW_BEFORE, Step.RENEW),
        (SECOND, Step.RENEW),
        (-timedelta(days=400), Step.RENEW),
    ],
)
def test_sas_is_renewed_with_half_of_its_life_left_and_after_its_end(left: timedelta, step: Step) -> None:
    assert next_step(version(ends=left), now=NOON) is step


def test_sas_of_the_deployment_is_renewed_at_once() -> None:
    assert next_step(version(ends=None), now=NOON) is Step.RENEW


@pytest.mark.parametrize("left", [LIFETIME, SECOND, -SECOND, None])
def test_sas_that_somebody_has_switched_off_is_never_renewed(left: timedelta | None) -> None:
    off = version(ends=left, is_enabled=False, made=timedelta(days=9))
    assert next_step(off, now=NOON) is Step.LEAVE
    assert is_overdue(off, now=NOON)


def test_secret_that_somebody_has_deleted_is_not_made_anew() -> None:
    assert next_step(None, now=NOON) is Step.LEAVE
    assert is_overdue(None, now=NOON)


@pytest.mark.parametrize(
    ("newest", "expected"),
    [
        (version(ends=LIFETIME), False),
        (version(ends=RENEW_BEFORE), False),
        (version(ends=RENEW_BEFORE - PATIENCE + SECOND), False),
        (version(ends=RENEW_BEFORE - PATIENCE), True),
        (version(ends=-SECOND), True),
        (version(ends=None), False),
        (version(ends=None, made=PATIENCE), True),
    ],
)
def test_somebody_is_told_once_two_rounds_were_missed(newest: SasVersion, expected: bool) -> None:
    assert is_overdue(newest, now=NOON) is expected


def test_somebody_has_days_from_when_they_are_told_to_the_end() -> None:
    assert timedelta(days=2) < RENEW_BEFORE - PATIENCE


def test_sas_begins_before_now_in_whole_seconds_and_ends_before_azure_says_it_must() -> None:
    valid_from, expires_at = period(NOON + timedelta(microseconds=999_999))
    assert (NOON - valid_from, expires_at - NOON) == (timedelta(minutes=5), LIFETIME)
    assert expires_at - valid_from < timedelta(days=7)
