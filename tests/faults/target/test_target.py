"""A whole import on the deployed target, again and again, while its host dies and its services fail it.

After each: one import, one receipt, a whole journal, turn and places given back, nothing left of the work;
and the next bundle of the same channel comes in, under the next fault. `./dev test` runs a sample.
"""

from __future__ import annotations

import pytest

from tests.faults.ends.faults import FAULTS, Fault, each_request, kind_of
from tests.faults.ends.judging import judged, under
from tests.faults.site import IS_FULL
from tests.faults.tally import TALLY
from tests.faults.target.site import Target

_EVERY = 1 if IS_FULL else 12
_SAMPLE = [one for one in FAULTS if IS_FULL or one.name == "answer lost"]


@pytest.mark.parametrize("fault", _SAMPLE, ids=lambda fault: fault.name)
def test_every_request_of_an_import_fails_once(target: Target, fault: Fault) -> None:
    each = each_request(fault)
    with target.network.watched() as asked:
        under(target, each)
    assert each.hits.keys() == {kind_of(one) for one in asked if fault.when(one)}


def test_host_is_killed_at_the_beginning_and_at_the_end_of_every_activity(target: Target) -> None:
    target.restart(kill_every=_EVERY)
    judged(target, "killed at every step")
    killed = target.kills
    target.restart()
    assert killed >= 36 // _EVERY
    TALLY.injected["target: kill -9 at a step"] += killed
    judged(target, "the import after the kills")
