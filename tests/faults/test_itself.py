"""The suite can fail: a mover that compares no digest is caught as a silent acceptance."""

from __future__ import annotations

import pytest

from tests.faults.injection import Injection
from tests.faults.site import Site
from tests.faults.tally import SilentAcceptanceError, Tally
from tests.offline_mover.conftest import flip


def test_mover_that_compares_nothing_is_caught(site: Site) -> None:
    with site.scene() as scene:
        assert scene.pull().code is None
        flip(scene.part("002/00000001.part"))
        assert scene.verify().code == "PART_CORRUPT"
        site.tally.inject("flipped part")
        scene.tally = Tally()  # what follows is meant to be silent
        for command in (scene.verify, scene.push):
            with pytest.raises(SilentAcceptanceError):
                command(injection=Injection(blind=True))
        assert len(scene.tally.silent) == 2
