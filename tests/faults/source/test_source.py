"""A whole export on the deployed source, again and again, while its host dies and its services fail it.

After each: one bundle that the target would accept, the channel's next number, one run; and the next transfer
of the same channel is sealed, under the next fault. `./dev test` runs a sample.
"""

from __future__ import annotations

import pytest

from tests.faults.ends.faults import FAULTS, Fault, each_request, kind_of
from tests.faults.ends.judging import judged, under
from tests.faults.site import IS_FULL
from tests.faults.source.site import Source
from tests.faults.tally import TALLY

_EVERY = 1 if IS_FULL else 12
_STEPS = 20
"""An export has more steps than these."""
_SAMPLE = [one for one in FAULTS if IS_FULL or one.name == "answer lost"]


@pytest.mark.parametrize("fault", _SAMPLE, ids=lambda fault: fault.name)
def test_every_request_of_an_export_fails_once(source: Source, fault: Fault) -> None:
    each = each_request(fault)
    with source.network.watched() as asked:
        under(source, each)
    assert each.hits.keys() == {kind_of(one) for one in asked if fault.when(one)}


def test_host_is_killed_at_the_beginning_and_at_the_end_of_every_activity(source: Source) -> None:
    source.restart(kill_every=_EVERY)
    judged(source, "killed at every step")
    killed = source.kills
    source.restart()
    assert killed >= _STEPS // _EVERY
    TALLY.injected["source: kill -9 at a step"] += killed
    judged(source, "the export after the kills")
