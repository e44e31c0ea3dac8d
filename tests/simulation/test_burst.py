"""Fifty bundles come within a minute, over five channels, their events late, doubled and out of order."""

from datetime import timedelta
from itertools import pairwise

import pytest

from airgap.states import State
from tests.simulation.options import Faults, Options
from tests.simulation.simulator import Simulation, alone

pytestmark = pytest.mark.timeout(600)

_CHANNELS, _BUNDLES = 5, 10


def burst(seed: int, *, is_staged: bool) -> Simulation:
    """All of them pushed within a minute, in any order; a channel holds what comes before its turn."""
    options = Options(
        faults=Faults(turn=0.3, twice=0.1, late=0.1, event_late=0.3, event_twice=0.3),
        lasts=timedelta(minutes=2),
        channels=_CHANNELS,
        bundles=_BUNDLES,
        attacks=0,
        forks=0,
        outages=0,
        jumps=0,
        deaths=0,
        interventions=0,
        revocations=0,
        intrusions=0,
        order="rising",
        on_gap="hold",
        releases=0,
        release_hours=1,
        checks=0,
        is_staged=is_staged,
        policies=0,
        rollbacks=0,
        permissions=0,
        copy_polls=1,
        at_once=2,
    )
    return Simulation(seed, options=options)


@pytest.mark.parametrize("is_staged", [False, True])
def test_fifty_bundles_in_a_minute_end_right_and_in_order_and_nobody_is_given_up(
    is_staged: bool,
) -> None:
    with alone():
        simulation = burst(1, is_staged=is_staged)
        result = simulation.run()
    assert result.violation is None, result.violation
    watch, carriers = simulation.watch, simulation.carriers
    assert len(carriers.bundles) == _CHANNELS * _BUNDLES
    assert all(watch.is_imported(bundle) for bundle in carriers.bundles)
    endings = {journal.state for journal in watch.journals.values()}
    assert endings <= {State.CLOSED, State.SUPERSEDED}
    for channel in {bundle.channel for bundle in carriers.bundles}:
        taken = [watch.entries[channel, number].taken_at for number in range(1, 1 + _BUNDLES)]
        assert all(before <= after for before, after in pairwise(taken))
