"""200 seeds, in four lots; a file of their own, so that another worker looks for the causes meanwhile."""

import pytest

from tests.simulation.__main__ import told
from tests.simulation.simulator import simulate

pytestmark = pytest.mark.timeout(600)

_LOTS = 4
_SEEDS = 200


@pytest.mark.parametrize("lot", range(_LOTS))
def test_invariants_hold_in_every_seed(lot: int) -> None:
    for seed in range(1 + lot, 1 + _SEEDS, _LOTS):
        result = simulate(seed)
        assert result.violation is None, told(result, result.lines)
        assert result.imported > 0
