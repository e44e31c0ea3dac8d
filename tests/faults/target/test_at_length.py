"""What only `./dev faults` breaks at the target: long outages, odd answers of ARM, other kills."""

from __future__ import annotations

import pytest

from tests.faults.ends.faults import (
    AWAY,
    FAULTS,
    Fault,
    each_kind,
    in_a_row,
    is_read,
    is_run,
    reported,
)
from tests.faults.ends.judging import judged, under
from tests.faults.ends.site import WORK
from tests.faults.proxy import Act, Answer, Asked, Forward, HungUpError
from tests.faults.tally import TALLY
from tests.faults.target.site import RECEIPTS, Target

_BEYOND_AN_SDK = 8
"""No SDK asks more than five times."""
_BEYOND_A_STEP = 40
"""No activity is tried more than three times; then it is waited for."""

_ODD = {
    "an empty state": reported(provisioningState="", response={"status": "Running"}),
    "succeeded while it runs": reported(provisioningState="Succeeded", response={"status": "Running"}),
}
_NO_TEXT = reported(
    provisioningState="Failed", response={"status": "Failed", "pipelineRunErrorMessage": None}
)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_kind_of_request_fails_until_the_sdk_gives_up(target: Target, fault: Fault) -> None:
    """A registry that refuses a token again and again has denied it: no outage, and not tried here."""
    under(target, each_kind(fault, 1 if fault.name.startswith("401") else _BEYOND_AN_SDK))


@pytest.mark.parametrize("fault", AWAY, ids=lambda fault: fault.name)
def test_service_is_away_for_longer_than_a_step_is_tried(target: Target, fault: Fault) -> None:
    under(target, in_a_row(fault, _BEYOND_A_STEP))


@pytest.mark.parametrize("act", _ODD.values(), ids=_ODD)
def test_arm_tells_of_a_run_that_goes_on_in_an_odd_way(target: Target, act: Act) -> None:
    under(target, each_kind(Fault(name="ARM tells oddly", act=act, when=is_run), 3))


def test_run_fails_without_a_text_and_is_asked_for_again(target: Target) -> None:
    under(target, each_kind(Fault(name="ARM tells oddly", act=_NO_TEXT, when=is_run), 1), runs=2)


def test_host_is_killed_when_a_write_of_each_kind_has_had_its_effect(target: Target) -> None:
    def killed(asked: Asked, forward: Forward) -> Answer:
        forward(asked)
        target.kill_host()
        raise HungUpError

    fault = Fault(name="kill -9 in a write", act=killed, when=lambda asked: not is_read(asked))
    under(target, each_kind(fault, 2))


def test_everything_is_delivered_twice(target: Target) -> None:
    target.restart(deliver_twice=True)
    judged(target, "everything delivered twice")
    TALLY.injected["target: everything delivered twice"] += 1


def test_everything_is_delivered_twice_to_a_host_that_is_killed(target: Target) -> None:
    target.restart(kill_every=3, deliver_twice=True)
    judged(target, "delivered twice, and killed")
    TALLY.injected["target: kill -9 at a step, delivered twice"] += target.kills
    target.restart()
    judged(target, "the import after that")


def test_judge_sees_what_is_missing_and_what_is_left(target: Target) -> None:
    case = target.carry_next()
    assert target.wrongs(case) == []
    bundle = target.bundles[-1]
    (name,) = (
        one for one, receipt in target.receipts().items() if receipt.manifest_sha256 == bundle.manifest_sha256
    )
    receipts = target.service.get_container_client(RECEIPTS)
    content = target.read(RECEIPTS, name)
    receipts.delete_blob(name)
    turn = target.service.get_blob_client(WORK, "channels/prod/turn")
    turn.upload_blob(b"")
    wrongs = target.wrongs(case)
    assert ["one receipt" in wrongs[0], "neither turn nor place" in wrongs[1]] == [True, True]
    turn.delete_blob()
    receipts.upload_blob(name, content)
