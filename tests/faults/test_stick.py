"""Sticks with real FAT32, exFAT and NTFS: carried, damaged below the file system, pulled out too early."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.faults.proxy import Answer, Asked, Forward, Rule
from tests.faults.site import Scene, Site
from tests.faults.stick import FORMATS, MountError, Stick
from tests.faults.test_storage import is_part

_SIZE_BYTES = 300 * 2**20  # sparse; FAT32 with its usual clusters begins at 256 MiB


@pytest.fixture(params=FORMATS)
def carried(request: pytest.FixtureRequest, site: Site) -> Iterator[tuple[Scene, Stick]]:
    if not FORMATS[request.param].is_here:
        pytest.skip(f"no program that serves {request.param}, or no right to mount")
    with site.scene() as scene, ExitStack() as stack:
        image = scene.folder / "stick.img"
        try:
            stick = stack.enter_context(Stick.new(request.param, image, scene.volumes[0], _SIZE_BYTES))
        except MountError as error:
            pytest.skip(str(error))
        yield scene, stick


def test_stick_is_carried_damaged_and_carried_again(site: Site, carried: tuple[Scene, Stick]) -> None:
    scene, stick = carried
    pulled = scene.pull()
    assert (pulled.code, pulled["readBack"]) == (None, "none")
    assert "plug them in again" in pulled["next"]
    stick.eject()
    stick.plug_in()
    assert scene.verify().code is None
    stick.eject()

    victim = next(part for part in scene.bundle.parts if part.number == 2)  # of the first blob: big, unique
    stick.flip(scene.bundle.part_bytes(victim))
    site.tally.inject("bit flipped below FAT32, exFAT, NTFS")
    stick.plug_in()
    request = scene.folder / "recarry.json"
    found = scene.verify("--recarry", str(request))
    assert found.code == "PART_CORRUPT"
    assert [damage["name"] for damage in found["damage"]] == [victim.name]
    assert scene.push().code == "PART_CORRUPT"

    patch = scene.add_volume("patch")
    scene.volumes = [patch]
    with site.proxy.watched() as asked:
        assert scene.pull("--recarry", str(request)).code is None
    assert scene.fetched(asked) == [victim.name]
    scene.volumes = [stick.point, patch]
    assert scene.push().code is None
    stick.eject()


def test_stick_pulled_out_in_the_middle_is_filled_up_later(site: Site, carried: tuple[Scene, Stick]) -> None:
    scene, stick = carried

    def pull_out(asked: Asked, forward: Forward) -> Answer:
        stick.pull_out()
        return forward(asked)

    with site.proxy.scripted(Rule(when=is_part, act=pull_out, skip=5)):
        run = scene.pull("--concurrency", "1")
    site.tally.inject("stick with FAT32, exFAT, NTFS pulled out")
    assert not stick.is_plugged_in
    assert run.code == "VOLUME_GONE"
    stick.mend()
    stick.plug_in()
    state = scene.state()
    assert not state.wrong
    assert not state.has_envelope
    with site.proxy.watched() as asked:
        assert scene.pull().code is None
    assert scene.fetched(asked) == sorted(scene.all_parts - state.whole)
    stick.eject()
    stick.plug_in()
    assert scene.verify().code is None
