"""A medium that lies: a real file system whose device flips bits, fails, drops writes or wraps around."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from airgap.errors import Code
from tests.faults.audit import wrong_on_volumes
from tests.faults.medium import Faults, FaultyMedium
from tests.faults.site import Scene, Site

_CAPACITY = 64 * 2**20
_VICTIM = "00000002.part"

pytestmark = pytest.mark.skipif(
    not os.path.exists("/dev/fuse") or os.geteuid() != 0, reason="needs /dev/fuse and root"
)


@pytest.fixture
def scene(site: Site) -> Iterator[tuple[Scene, FaultyMedium]]:
    with site.scene() as made, FaultyMedium.mounted(made.volumes[0], _CAPACITY) as medium:
        yield made, medium


WHILE_PULLING = {
    "keeps nothing after the first MiB": Faults(keeps_nothing_after=2**20),
    "wraps around: less room than it says": Faults(real_bytes=2 * 2**20),
    "flips a bit in every read": Faults(flip_always=_VICTIM),
}


@pytest.mark.parametrize("kind", WHILE_PULLING)
def test_medium_that_does_not_keep_what_was_written_never_leaves_the_desk(
    site: Site, scene: tuple[Scene, FaultyMedium], kind: str
) -> None:
    carried, medium = scene
    medium.faults = WHILE_PULLING[kind]
    run = carried.pull()
    site.tally.inject(f"medium: {kind}")
    assert run.code in {Code.MEDIA_LIED.name, Code.MEDIA_UNREADABLE.name}
    assert not carried.state().has_envelope


@pytest.mark.parametrize(
    ("kind", "faults", "codes"),
    [
        ("flips a bit always", Faults(flip_always=_VICTIM), {"PART_CORRUPT"}),
        ("cannot be read from the middle on", Faults(unreadable=_VICTIM), {"MEDIA_UNREADABLE"}),
    ],
)
def test_lasting_damage_is_found_by_verify_and_never_sent(
    site: Site, scene: tuple[Scene, FaultyMedium], kind: str, faults: Faults, codes: set[str]
) -> None:
    carried, medium = scene
    assert carried.pull().code is None
    medium.faults = faults
    site.tally.inject(f"medium: {kind}")
    run = carried.site.mover.run(
        "verify", str(carried.volumes[0]), "--trust", str(carried.folder / "policy.json"), "--read-only"
    )
    assert run.code in codes
    carried.planted = frozenset(carried.planted)
    pushed = carried.site.mover.run(
        *("push", str(carried.volumes[0]), f"{site.proxy.url}/{carried.container}"),
        *("--trust", str(carried.folder / "policy.json")),
        *("--sas-file", str(site.sas_file(carried.container))),
    )
    assert pushed.code in codes
    assert not carried.target().wrongs(carried.bundle, is_done=False)
    medium.faults = Faults()
    assert carried.push().code is None


@pytest.mark.parametrize("faults", [Faults(flip_once=_VICTIM), Faults(short_reads=True)])
def test_passing_trouble_accuses_nobody(
    site: Site, scene: tuple[Scene, FaultyMedium], faults: Faults
) -> None:
    carried, medium = scene
    assert carried.pull().code is None
    medium.faults = faults
    site.tally.inject("medium: a passing fault")
    run = carried.verify()
    assert run.code is None
    assert not wrong_on_volumes(carried.bundle, carried.volumes)
