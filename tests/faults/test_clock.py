"""A clock that is a year off: refused with a code of its own, nothing written, nothing sent."""

from __future__ import annotations

import pytest

from airgap.manifest import ENVELOPE_NAME
from tests.faults.injection import Injection
from tests.faults.site import Site

_YEARS = {"ahead": (365, "EXPIRED"), "behind": (-365, "NOT_YET_VALID")}


@pytest.mark.parametrize("way", _YEARS)
def test_wrong_clock_is_refused_and_the_right_one_goes_on(site: Site, way: str) -> None:
    days, code = _YEARS[way]
    wrong = Injection(clock_days=days)
    with site.scene() as scene:
        assert scene.pull(injection=wrong).code == code
        assert list(scene.volumes[0].iterdir()) == []
        assert scene.pull().code is None
        assert scene.verify(injection=wrong).code == code
        assert scene.push(injection=wrong).code == code
        for verb in ("pull", "verify", "push"):
            site.tally.inject(f"clock a year {way} in {verb}")
        assert f"{scene.bundle.transfer_id}/{ENVELOPE_NAME}" not in scene.target().visible
        assert scene.push().code is None
