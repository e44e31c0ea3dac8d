"""Volumes swapped, copied, cut, renamed, mixed and rewritten: what is not the bundle is never called it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airgap.errors import Code
from airgap.manifest import ENVELOPE_NAME
from tests.bundles import make_bundle
from tests.faults.site import Scene, Site, blob_sizes
from tests.offline_mover.conftest import flip

DENIED = {code.name for code in Code}


@pytest.fixture(scope="module")
def original(site: Site) -> Iterator[Scene]:
    with site.scene(volumes=2) as scene:
        assert scene.pull("--plan", scene.plan_file()).code is None
        yield scene


@pytest.fixture
def scene(site: Site, original: Scene) -> Iterator[Scene]:
    """Two volumes that hold the bundle; the test may do to them what it likes."""
    with site.scene(volumes=2) as copy:
        copy.load(original.volumes)
        yield copy


def part_of(scene: Scene, number: int = 0) -> Path:
    return min(scene.bag(number).rglob("*.part"))


def _truncate(scene: Scene) -> None:
    os.truncate(part_of(scene), 10)


def _lengthen(scene: Scene) -> None:
    with part_of(scene).open("ab") as file:
        file.write(b"more")


def _remove(scene: Scene) -> None:
    part_of(scene, 1).unlink()


def _swap_parts(scene: Scene) -> None:
    first, second = sorted(scene.bag(0).rglob("*.part"))[1:3]
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def _link(scene: Scene) -> None:
    part = part_of(scene)
    part.rename(scene.folder / "elsewhere")
    part.symlink_to(scene.folder / "elsewhere")


def _fifo(scene: Scene) -> None:
    part = part_of(scene)
    part.unlink()
    os.mkfifo(part)


def _extra(scene: Scene) -> None:
    (scene.bag(0) / "data" / "autorun.inf").write_text("open=evil.exe")


def _twin(scene: Scene) -> None:
    part = part_of(scene)
    part.with_name(part.name.upper()).write_bytes(b"other")


def _claim_less(scene: Scene) -> None:
    part = part_of(scene, 1)
    name = part.relative_to(scene.bag(1)).as_posix()
    part.unlink()
    manifest = scene.bag(1) / "manifest-sha256.txt"
    lines = manifest.read_text().splitlines(keepends=True)
    manifest.write_text("".join(line for line in lines if name not in line))


def _claim_more(scene: Scene) -> None:
    with (scene.bag(0) / "manifest-sha256.txt").open("a") as file:
        file.write(f"{'0' * 64}  data/001/00000099.part\n")


def _claim_other_digest(scene: Scene) -> None:
    flip(part_of(scene))
    manifest = scene.bag(0) / "manifest-sha256.txt"
    manifest.write_text(manifest.read_text().replace("a", "b"))


def _hide_the_other_volume(scene: Scene) -> None:
    shutil.rmtree(scene.bag(1))
    scene.volumes.pop()
    info = scene.bag(0) / "bag-info.txt"
    info.write_text(info.read_text().replace("1 of 2", "1 of 1"))


def _rename(scene: Scene) -> None:
    for number in (0, 1):
        scene.bag(number).rename(scene.volumes[number] / "other0transfer")


def _foreign_envelope(scene: Scene) -> None:
    other = make_bundle(blob_sizes=blob_sizes(3), seed=5)
    (scene.bag(0) / ENVELOPE_NAME).write_bytes(other.envelope)


def _flipped_envelope(scene: Scene) -> None:
    flip(scene.bag(1) / ENVELOPE_NAME, 200)


SPOILED: dict[str, Callable[[Scene], None]] = {
    "part truncated": _truncate,
    "part lengthened": _lengthen,
    "part removed": _remove,
    "two parts swapped": _swap_parts,
    "part a symbolic link": _link,
    "part a FIFO": _fifo,
    "undeclared file": _extra,
    "name twice, in two spellings": _twin,
    "texts claim less": _claim_less,
    "texts claim more": _claim_more,
    "texts claim another digest": _claim_other_digest,
    "a volume hidden": _hide_the_other_volume,
    "bag renamed": _rename,
    "envelope of another bundle": _foreign_envelope,
    "envelope flipped": _flipped_envelope,
}
_WHOLE_ANYWAY = {"texts claim more"}
"""Every part is there and right: only the texts are not, which prove nothing. Push goes by the parts."""


@pytest.mark.parametrize("kind", SPOILED)
def test_spoiled_volume_is_refused_and_the_good_one_goes_on(
    site: Site, original: Scene, scene: Scene, kind: str
) -> None:
    SPOILED[kind](scene)
    site.tally.inject(f"volume: {kind}")
    assert scene.verify().code in DENIED
    assert (scene.push().code is None) is (kind in _WHOLE_ANYWAY)
    if len(scene.volumes) == 1:
        scene.volumes.append(scene.folder / "usb2")
    scene.load(original.volumes)
    assert scene.verify().code is None
    assert scene.push().code is None


def test_reordered_duplicated_and_case_changed_volumes_are_still_the_bundle(site: Site, scene: Scene) -> None:
    part = part_of(scene)
    part.rename(part.with_name(part.name.upper()))
    shutil.copytree(scene.volumes[0], scene.add_volume("copy"), dirs_exist_ok=True)
    for kind in ("reordered", "duplicated", "in upper case"):
        site.tally.inject(f"volume: {kind}")
    assert scene.verify(volumes=reversed(scene.volumes)).code is None
    assert scene.push(volumes=reversed(scene.volumes)).code is None


def test_older_bundle_under_the_same_id_does_not_mix(site: Site, scene: Scene) -> None:
    older = make_bundle(blob_sizes=blob_sizes(3), seed=7)
    with site.scene(older) as other:
        # Not uploaded: written as a copy of what such a volume would be.
        (other.bag()).mkdir()
        (other.bag() / ENVELOPE_NAME).write_bytes(older.envelope)
        site.tally.inject("volume: an older bundle under the same id")
        run = scene.verify(volumes=[scene.volumes[0], other.volumes[0]])
        assert run.code == "VOLUME_CONFLICT"
        assert scene.push(volumes=[scene.volumes[0], other.volumes[0]]).code == "VOLUME_CONFLICT"
    assert scene.push().code is None
