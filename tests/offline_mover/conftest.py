from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from airgap.manifest import ENVELOPE_NAME
from offline_mover.commands.pull import pull
from offline_mover.commands.push import push
from offline_mover.commands.verify import verify
from offline_mover.outcome import Outcome
from offline_mover.progress import Meter
from offline_mover.pulling.destinations import PullOrder
from offline_mover.storage.ports import ReadableContainer, WritableContainer
from tests.bundles import Bundle, make_bundle
from tests.offline_mover.memory_container import MemoryContainer


class Bench:
    """One bundle, one volume, and the three commands on them."""

    def __init__(self, bundle: Bundle, volume: Path) -> None:
        self.bundle = bundle
        self.volume = volume

    @property
    def bag(self) -> Path:
        return self.volume / self.bundle.transfer_id

    def part(self, name: str) -> Path:
        """``001/00000001.part`` on the volume."""
        return self.bag / "data" / name

    def pull(self, source: ReadableContainer | None = None, *, concurrency: int = 2) -> Outcome:
        return pull(
            source or MemoryContainer.holding(self.bundle),
            PullOrder(volumes=(self.volume,)),
            transfer_id=self.bundle.transfer_id,
            policy=self.bundle.policy,
            now=datetime.now(UTC),
            concurrency=concurrency,
            meter=Meter(),
        )

    def verify(self, *, transfer_id: str | None = None) -> Outcome:
        _, outcome = verify(
            [self.volume],
            transfer_id=transfer_id,
            policy=self.bundle.policy,
            now=datetime.now(UTC),
            concurrency=2,
            meter=Meter(),
        )
        return outcome

    def push(self, target: WritableContainer, *, concurrency: int = 2) -> Outcome:
        return push(
            target,
            [self.volume],
            transfer_id=None,
            policy=self.bundle.policy,
            now=datetime.now(UTC),
            concurrency=concurrency,
            meter=Meter(),
        )


def put_bag(volume: Path, bundle: Bundle, transfer_id: str, place: str) -> None:
    """What tells a volume from others: a bundle's envelope, and ``2 of 3`` beside it."""
    folder = volume / transfer_id
    folder.mkdir(exist_ok=True)
    (folder / ENVELOPE_NAME).write_bytes(bundle.envelope)
    (folder / "bag-info.txt").write_text(f"Bag-Group-Identifier: {transfer_id}\nBag-Count: {place}\n")


def flip(path: Path, offset: int = 0) -> None:
    """Invert one byte: unlike writing a fixed one, this always changes something."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0xFF]))


@pytest.fixture(scope="session")
def sealed() -> Bundle:
    return make_bundle()


@pytest.fixture(scope="session")
def pulled_volume(sealed: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    volume = tmp_path_factory.mktemp("pulled")
    assert Bench(sealed, volume).pull().code is None
    return volume


@pytest.fixture
def empty(sealed: Bundle, tmp_path: Path) -> Bench:
    """A bench with an empty volume."""
    volume = tmp_path / "usb"
    volume.mkdir()
    return Bench(sealed, volume)


@pytest.fixture
def loaded(sealed: Bundle, pulled_volume: Path, tmp_path: Path) -> Bench:
    """A bench whose volume holds the bundle; the test may damage it."""
    volume = tmp_path / "usb"
    shutil.copytree(pulled_volume, volume)
    return Bench(sealed, volume)
