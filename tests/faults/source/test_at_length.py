"""What only `./dev faults` breaks at the source: outages, odd answers, tags, the clock, other kills."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import pytest

from airgap.errors import Code
from airgap.manifest import ENVELOPE_NAME
from airgap.states import State
from tests.faults.ends.faults import (
    AWAY,
    FAULTS,
    Fault,
    each_kind,
    in_a_row,
    is_read,
    is_run,
    kind_of,
    reported,
)
from tests.faults.ends.judging import judged, under
from tests.faults.ends.site import TRANSFER
from tests.faults.proxy import Act, Answer, Asked, Forward, HungUpError, Rule
from tests.faults.source.site import Source
from tests.faults.tally import TALLY

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
def test_every_kind_of_request_fails_until_the_sdk_gives_up(source: Source, fault: Fault) -> None:
    """A registry that refuses a token again and again has denied it: no outage, and not tried here."""
    under(source, each_kind(fault, 1 if fault.name.startswith("401") else _BEYOND_AN_SDK))


@pytest.mark.parametrize("fault", AWAY, ids=lambda fault: fault.name)
def test_service_is_away_for_longer_than_a_step_is_tried(source: Source, fault: Fault) -> None:
    under(source, in_a_row(fault, _BEYOND_A_STEP))


@pytest.mark.parametrize("act", _ODD.values(), ids=_ODD)
def test_arm_tells_of_a_run_that_goes_on_in_an_odd_way(source: Source, act: Act) -> None:
    under(source, each_kind(Fault(name="ARM tells oddly", act=act, when=is_run), 3))


def test_run_fails_without_a_text_and_is_asked_for_again(source: Source) -> None:
    under(source, each_kind(Fault(name="ARM tells oddly", act=_NO_TEXT, when=is_run), 1), runs=2)


def test_host_is_killed_when_a_write_of_each_kind_has_had_its_effect(source: Source) -> None:
    def killed(asked: Asked, forward: Forward) -> Answer:
        forward(asked)
        source.kill_host()
        raise HungUpError

    fault = Fault(name="kill -9 in a write", act=killed, when=lambda asked: not is_read(asked))
    under(source, each_kind(fault, 2))


def test_everything_is_delivered_twice(source: Source) -> None:
    source.restart(deliver_twice=True)
    judged(source, "everything delivered twice")
    TALLY.injected["source: everything delivered twice"] += 1


def test_everything_is_delivered_twice_to_a_host_that_is_killed(source: Source) -> None:
    source.restart(kill_every=3, deliver_twice=True)
    judged(source, "delivered twice, and killed")
    TALLY.injected["source: kill -9 at a step, delivered twice"] += source.kills
    source.restart()
    judged(source, "the export after that")


@dataclass
class Mover:
    """Somebody who moves the tag of a transfer that is on its way, each time that its run was ordered."""

    source: Source
    reference: str
    moves: int = 0

    def act(self, asked: Asked, forward: Forward) -> Answer:
        answer = forward(asked)
        self.moves += 1
        self.source.move_tag(self.reference, self.source.references[-1 - self.moves])
        return answer

    def rule(self, times: int) -> Rule:
        """So often."""
        return Rule(when=lambda asked: kind_of(asked) == "arm PUT pipelineRuns", act=self.act, times=times)


def test_tag_that_moves_while_its_run_is_at_work_is_exported_where_it_is_then(source: Source) -> None:
    mover = Mover(source, source.reference())
    with source.network.scripted(mover.rule(1)):
        judged(source, "a tag moves during the export", runs=2)
    assert mover.moves == 1
    TALLY.injected["source: a tag moves during the export"] += 1


def test_tag_that_moves_during_every_run_is_never_signed_and_takes_no_number(source: Source) -> None:
    mover = Mover(source, source.references[-1])
    with source.network.scripted(mover.rule(20)):
        transfer_id = source.order(mover.reference)
        ended = source.await_ended(transfer_id)
    assert ended is State.FAILED
    assert source.journal(transfer_id).entries[-1].facts["code"] == Code.EXPORT_INCONSISTENT.name
    assert f"{transfer_id}/{ENVELOPE_NAME}" not in source.names(TRANSFER)
    TALLY.injected["source: a tag moves during the export"] += mover.moves
    judged(source, "the export after that")


@pytest.mark.parametrize("by", [timedelta(hours=1), timedelta(days=3)], ids=["an hour", "three days"])
@pytest.mark.parametrize("where", ["arm PUT pipelineRuns", "storage PUT work", "vault POST sign"])
def test_clock_jumps_while_the_host_is_away(source: Source, where: str, by: timedelta) -> None:
    def later(asked: Asked, forward: Forward) -> Answer:
        forward(asked)
        source.jump(by)
        raise HungUpError

    fault = Fault(name="kill -9, and the clock jumps", act=later, when=lambda asked: kind_of(asked) == where)
    under(source, each_kind(fault, 1))


def test_judge_sees_what_is_missing_and_what_is_beside_it(source: Source) -> None:
    case = source.carry_next()
    assert source.wrongs(case) == []
    container = source.service.get_container_client(TRANSFER)
    container.upload_blob(f"{case}/002", b"x")
    content = source.read(TRANSFER, f"{case}/001")
    container.upload_blob(f"{case}/001", content[:-1] + b"x", overwrite=True)
    wrongs = source.wrongs(case)
    assert ["no blob but" in wrongs[0], "what lies there" in wrongs[1]] == [True, True]
    container.delete_blob(f"{case}/002")
    container.delete_blob(f"{case}/{ENVELOPE_NAME}")
    assert "which the target would accept" in source.wrongs(case)[0]
