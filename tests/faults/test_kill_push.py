"""``kill -9`` at every step of a push: nothing half is ever visible, and what is staged is not sent again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.injection import Injection
from tests.faults.site import Scene, Site, again_and_again, sampled


@pytest.fixture(scope="module")
def loaded(site: Site) -> Iterator[Scene]:
    """Two volumes that hold the bundle."""
    with site.scene(volumes=2) as scene:
        assert scene.pull("--plan", scene.plan_file()).code is None
        yield scene


def test_push_killed_at_any_step_goes_on(site: Site, loaded: Scene) -> None:
    scene = loaded
    scene.options = ("--concurrency", "1")
    all_blocks = len(scene.all_parts)
    whole = scene.push()
    assert (whole.code, whole["sentParts"]) == (None, all_blocks)
    before = _texts(scene)
    for step in sampled(whole.steps):
        scene.new_container()
        with site.proxy.watched() as sent_first:
            run = scene.push(injection=Injection(kill_at=step))
        if run.was_killed:
            site.tally.inject("kill -9 in push, 2 volumes")
        assert scene.target_state is not None
        staged = scene.target_state.staged
        with site.proxy.watched() as sent_again:
            again = scene.push()
        assert again.code is None, f"step {step}"
        assert not staged & set(scene.sent(sent_again)), f"step {step}: sent what was there"
        # The block under way when it was killed may have reached the storage after the look at it.
        assert all_blocks - len(staged) - len(scene.sent(sent_again)) in {0, 1}, f"step {step}"
        assert len(set(scene.sent(sent_first))) == len(scene.sent(sent_first))
    assert _texts(scene) == before, "a push changes nothing of a bag"
    assert scene.verify().code is None


def test_push_of_some_hundred_parts_killed_again_and_again(site: Site) -> None:
    with site.scene(site.big_bundle) as scene:
        assert scene.pull().code is None
        sent: list[tuple[str, str]] = []
        kills = 0
        for further in again_and_again(100):
            # What is committed is asked for each time, with two requests a blob; when all of it is, each blob
            # is also read back, since none was sent by the run that is about to publish them.
            visible = len(scene.target_state.visible) if scene.target_state else 0
            known = (3 if visible == len(scene.bundle.blobs) else 2) * visible
            with site.proxy.watched() as asked:
                run = scene.push(injection=Injection(kill_at=known + further))
            sent += scene.sent(asked)
            if not run.was_killed:
                break
            kills += 1
            site.tally.inject("kill -9 in push, some hundred parts")
        else:
            pytest.fail("it never came to its end")
        # The blocks under way when it was killed may be sent again, no other.
        assert len(set(sent)) == len(scene.all_parts)
        assert len(sent) <= len(scene.all_parts) + 2 * kills


def _texts(scene: Scene) -> dict[Path, bytes]:
    """Every file of the bags."""
    return {
        path: path.read_bytes()
        for number in range(len(scene.volumes))
        for path in sorted(scene.bag(number).rglob("*"))
        if path.is_file()
    }
