"""``kill -9`` at every step of a repair: what is rebuilt is whole, and the originals are as they were."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.injection import Injection
from tests.faults.site import Scene, Site, again_and_again, sampled


@pytest.fixture(scope="module")
def loaded(site: Site) -> Iterator[Scene]:
    """Two volumes of parts and one of parity shards."""
    with site.scene(volumes=3) as scene:
        assert scene.pull("--plan", scene.plan_file(1)).code is None
        yield scene


def test_repair_killed_at_any_step_goes_on(site: Site, loaded: Scene) -> None:
    patch = loaded.folder / "patch"
    patch.mkdir()
    survivors = [loaded.volumes[0], loaded.volumes[2]]
    with site.scene() as scene:
        scene.volumes = [*survivors, patch]
        first = scene.repair("--to", str(patch), volumes=survivors)
        assert first.code is None
        lost = scene.state(2).whole
        assert lost
        before = scene.state(0), scene.state(1)
        for step in sampled(first.steps, cases=3):
            scene.volumes[2:] = []
            patch = loaded.folder / f"patch{step}"
            patch.mkdir()
            scene.volumes.append(patch)
            run = scene.repair("--to", str(patch), volumes=survivors, injection=Injection(kill_at=step))
            if run.was_killed:
                site.tally.inject("kill -9 in repair")
            assert not scene.state(2).wrong, f"step {step}"
            again = scene.repair("--to", str(patch), volumes=survivors)
            assert (again.code, scene.state(2).whole) == (None, lost), f"step {step}"
            assert (scene.state(0), scene.state(1)) == before
        assert scene.push().code is None


def test_repair_of_some_hundred_parts_killed_again_and_again(site: Site) -> None:
    """Each run gets a little further, and keeps what earlier ones rebuilt."""
    with site.scene(site.big_bundle, volumes=3) as scene:
        assert scene.pull("--plan", scene.plan_file(1)).code is None
        lost = scene.state(1).whole
        patch = scene.add_volume("patch")
        survivors = [scene.volumes[0], scene.volumes[2]]
        scene.volumes = [*survivors, patch]
        for step in again_and_again(40):
            kept = scene.state(2).whole
            run = scene.repair("--to", str(patch), volumes=survivors, injection=Injection(kill_at=step))
            assert not scene.state(2).wrong
            assert kept <= scene.state(2).whole
            if not run.was_killed:
                break
            site.tally.inject("kill -9 in repair, some hundred parts")
        else:
            pytest.fail("it never came to its end")
        assert (run.code, scene.state(2).whole) == (None, lost)
        assert run["keptParts"] == len(kept)
        assert scene.verify().code is None
