"""A file system that is truly full, before and in the middle; then there is room, and it goes on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.proxy import Answer, Asked, Forward, Rule
from tests.faults.site import Scene, Site
from tests.faults.test_storage import is_part


@contextmanager
def small_volume(scene: Scene, size_bytes: int) -> Iterator[Path]:
    """The first volume, on a tmpfs of that size."""
    path = scene.volumes[0]
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)  # noqa: S607 - of the system


def test_too_small_a_volume_is_refused_before_anything_is_written(site: Site) -> None:
    with site.scene() as scene, small_volume(scene, scene.bundle.manifest.size_bytes) as volume:
        assert scene.pull().code == "MEDIA_FULL"
        site.tally.inject("full file system, before")
        assert list(volume.iterdir()) == []


def test_volume_that_fills_up_meanwhile_goes_on_when_there_is_room(site: Site) -> None:
    with site.scene() as scene, small_volume(scene, scene.bundle.manifest.size_bytes + 4 * 2**20) as volume:
        ballast = volume / "somebody-elses-file"

        def fill(asked: Asked, forward: Forward) -> Answer:
            with ballast.open("wb") as file:
                try:
                    while True:
                        file.write(bytes(2**20))
                        file.flush()
                except OSError:
                    pass
            return forward(asked)

        with site.proxy.scripted(Rule(when=is_part, act=fill, skip=4)):
            assert scene.pull("--concurrency", "1").code == "MEDIA_FULL"
        site.tally.inject("full file system, in the middle")
        state = scene.state()
        assert not state.wrong
        assert not state.partial
        assert not state.has_envelope
        ballast.unlink()
        with site.proxy.watched() as asked:
            assert scene.pull().code is None
        assert scene.fetched(asked) == sorted(scene.all_parts - state.whole)
        assert scene.verify().code is None


def test_fitting_volume_is_filled_again_after_a_kill(site: Site) -> None:
    """What the killed run left half written is as large as the room that is left."""
    with site.scene() as scene, small_volume(scene, scene.bundle.manifest.size_bytes + 5 * 2**20) as volume:
        folder = scene.part("001/00000001.part").parent
        folder.mkdir(parents=True)
        (folder / "00000001.part.partial").write_bytes(bytes(4 * 2**20))
        site.tally.inject("full file system, of half-written files")
        assert scene.pull().code is None
        assert not list(volume.rglob("*.partial"))
        assert not scene.state().partial
