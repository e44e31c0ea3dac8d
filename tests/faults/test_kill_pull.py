"""``kill -9`` at every step of a pull: what is there under its name is whole, and is not fetched again."""

from __future__ import annotations

import pytest

from tests.faults.injection import Injection
from tests.faults.site import Scene, Site, again_and_again, sampled


def _steps(scene: Scene, *extra: str) -> int:
    run = scene.pull(*extra)
    assert run.code is None
    scene.clear()
    return run.steps


def _kill_and_go_on(scene: Scene, step: int, *extra: str, kind: str, power_cut: str = "") -> None:
    scene.clear()
    run = scene.pull(*extra, injection=Injection(kill_at=step, power_cut=power_cut))
    if run.was_killed:
        scene.site.tally.inject(kind)
    states = [scene.state(number) for number in range(len(scene.volumes))]
    assert not any(state.wrong or state.strange for state in states), f"step {step}"
    assert all(state.has_right_envelope for state in states if state.has_envelope), f"step {step}"
    if any(state.has_envelope for state in states):
        assert scene.whole == scene.all_parts, f"step {step}: sealed, and not whole"
    if not power_cut and step % 4 == 0:
        scene.verify()
    kept = scene.whole
    with scene.site.proxy.watched() as asked:
        again = scene.pull(*extra)
    assert (again.code, again["keptParts"]) == (None, len(kept)), f"step {step}"
    assert scene.fetched(asked) == sorted(scene.all_parts - kept), f"step {step}: fetched what was good"
    assert not any(scene.state(number).partial for number in range(len(scene.volumes)))


@pytest.mark.parametrize(
    ("volumes", "parity_shards"), [(1, 0), (2, 0), (3, 1)], ids=["one volume", "two volumes", "parity"]
)
def test_pull_killed_at_any_step_goes_on(site: Site, volumes: int, parity_shards: int) -> None:
    with site.scene(volumes=volumes) as scene:
        scene.options = ("--concurrency", "1")
        extra = ("--plan", scene.plan_file(parity_shards)) if volumes > 1 else ()
        for step in sampled(_steps(scene, *extra), cases=3):
            _kill_and_go_on(scene, step, *extra, kind=f"kill -9 in pull, {volumes} volumes")
        assert scene.verify().code is None


@pytest.mark.parametrize("lost", ["content", "names"])
def test_power_cut_at_any_step_of_a_pull_loses_nothing_that_was_sealed(site: Site, lost: str) -> None:
    with site.scene() as scene:
        for step in sampled(_steps(scene), cases=5):
            _kill_and_go_on(scene, step, kind=f"power cut in pull, unflushed {lost} lost", power_cut=lost)
        assert scene.verify().code is None


def test_pull_of_some_hundred_parts_killed_again_and_again(site: Site) -> None:
    """Each run gets a little further; nothing is fetched twice over all of them."""
    with site.scene(site.big_bundle, volumes=2) as scene:
        plan = scene.plan_file()
        fetched: list[str] = []
        for further in again_and_again(40):
            kept = scene.whole
            # Each blob that is still to be fetched from is asked for first.
            step = len(scene.all_parts - kept) + further
            with site.proxy.watched() as asked:
                run = scene.pull("--plan", plan, injection=Injection(kill_at=step))
            assert not set(scene.fetched(asked)) & kept
            assert not any(scene.state(number).wrong for number in range(2))
            fetched += sorted(scene.whole - kept)
            if not run.was_killed:
                break
            site.tally.inject("kill -9 in pull, some hundred parts")
        else:
            pytest.fail("it never came to its end")
        assert sorted(fetched) == sorted(scene.all_parts)
        assert scene.verify().code is None
