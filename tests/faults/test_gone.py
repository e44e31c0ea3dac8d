"""A stick that is not there, or not there any more: the computer's own disk is never filled in its place.

The folder of a stick that was taken away is a folder like any other, and the next run would fill it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airgap.errors import Code
from tests.faults.medium import FaultyMedium
from tests.faults.proxy import Answer, Asked, Forward, Rule
from tests.faults.site import Scene, Site
from tests.faults.test_storage import is_part

_CAPACITY = 64 * 2**20

pytestmark = pytest.mark.skipif(
    not os.path.exists("/dev/fuse") or os.geteuid() != 0, reason="needs /dev/fuse and root"
)


@pytest.fixture
def scene(site: Site) -> Iterator[Scene]:
    """One volume; the command is not told that folders of this computer will do."""
    with site.scene() as made:
        made.on_system_disk = False
        yield made


def _umount(folder: Path) -> None:
    subprocess.run(["umount", "-l", str(folder)], check=True)  # noqa: S607 - of the system


def _when(number: int, act: Callable[[], object]) -> Rule:
    """Do something while the part of that number is fetched."""

    def done(asked: Asked, forward: Forward) -> Answer:
        act()
        return forward(asked)

    return Rule(when=is_part, act=done, skip=number - 1)


def test_pull_onto_a_mount_point_without_its_stick_fills_nothing(site: Site, scene: Scene) -> None:
    run = scene.pull()
    site.tally.inject("volume: the stick is not plugged in")
    assert run.code == Code.VOLUME_ON_SYSTEM_DISK.name
    assert "--allow-system-disk" in run["next"]
    assert not list(scene.volumes[0].iterdir())


def test_medium_that_is_mounted_is_filled(scene: Scene) -> None:
    with FaultyMedium.mounted(scene.volumes[0], _CAPACITY):
        assert scene.pull().code is None
        assert scene.verify().code is None
        assert scene.push().code is None


def test_folder_of_the_system_that_is_mounted_elsewhere_is_still_no_medium(scene: Scene) -> None:
    """A bind mount has another path, and the same device."""
    point = scene.volumes[0]
    source = scene.folder / "source"
    source.mkdir()
    subprocess.run(["mount", "--bind", str(source), str(point)], check=True)  # noqa: S607 - of the system
    try:
        assert scene.pull().code == Code.VOLUME_ON_SYSTEM_DISK.name
    finally:
        _umount(point)


def test_stick_unmounted_in_the_middle_is_gone_and_its_folder_stays_empty(site: Site, scene: Scene) -> None:
    volume = scene.volumes[0]
    with FaultyMedium.mounted(volume, _CAPACITY) as medium:
        with site.proxy.scripted(_when(4, lambda: _umount(volume))):
            run = scene.pull("--concurrency", "1")
        site.tally.inject("volume: unmounted in the middle (umount -l)")
        assert run.code == Code.VOLUME_GONE.name
        assert f"volume {volume} is gone" in run["verdict"]
        assert not list(volume.iterdir())
        again = scene.pull()
        assert again.code == Code.VOLUME_ON_SYSTEM_DISK.name
        assert not list(volume.iterdir())
        # What was written went to the stick, and is good: it is held against the original.
        left = scene.folder / "what is left"
        left.mkdir()
        medium.dump(left)
        subprocess.run(["mount", "-t", "tmpfs", "again", str(volume)], check=True)  # noqa: S607 - for the end
    scene.volumes = [left]
    state = scene.state()
    assert not state.wrong
    assert not state.has_envelope
    assert state.whole


def test_another_stick_in_its_place_gets_nothing(site: Site, scene: Scene) -> None:
    volume = scene.volumes[0]
    with FaultyMedium.mounted(volume, _CAPACITY):

        def swap() -> None:
            _umount(volume)
            subprocess.run(["mount", "-t", "tmpfs", "other", str(volume)], check=True)  # noqa: S607 - as above

        with site.proxy.scripted(_when(4, swap)):
            run = scene.pull("--concurrency", "1")
        site.tally.inject("volume: another stick in its place in the middle")
        assert run.code == Code.VOLUME_GONE.name
        assert not list(volume.iterdir())


def test_stick_that_is_pulled_out_while_it_is_verified_is_gone_not_damaged(site: Site, scene: Scene) -> None:
    with FaultyMedium.mounted(scene.volumes[0], _CAPACITY) as medium:
        assert scene.pull().code is None
        medium.faults.gone_after = 40
        policy = ("--trust", str(scene.folder / "policy.json"))
        run = site.mover.run("verify", str(scene.volumes[0]), "--read-only", *policy)
        site.tally.inject("volume: pulled out while it is verified")
        assert medium.hits
        assert run.code == Code.VOLUME_GONE.name
        medium.faults.gone_after = None


def test_repair_onto_a_mount_point_without_its_stick_fills_nothing(site: Site, scene: Scene) -> None:
    with FaultyMedium.mounted(scene.volumes[0], _CAPACITY):
        assert scene.pull().code is None
        patch = scene.folder / "patch"
        patch.mkdir()
        run = scene.repair("--to", str(patch), volumes=scene.volumes)
        site.tally.inject("volume: the stick is not plugged in")
        assert run.code == Code.VOLUME_ON_SYSTEM_DISK.name
        assert not list(patch.iterdir())
