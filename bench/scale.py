"""The mover's own work by the number of parts, up to 20,000 parts of 64 MiB: 1.25 TiB.

    python -m bench.scale [--small]

The parts are sparse files, and what a digest costs is left out (a file's size stands in for its content):
what is measured is everything else, once a part: reading the bundle manifest, planning, taking stock and
judging, resuming a pull, re-carrying a hundredth of the parts. A column that stays level is linear.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

from airgap.damage import Damage
from airgap.media_plan import Capacity
from airgap.parts import DEFAULT_PART_SIZE_BYTES
from airgap.policy import TrustPolicy
from airgap.recarry import RecarryRequest
from airgap.verify import verify_bundle
from bench.bundle import BLOB_NAME, TRANSFER_ID, seal, transfer_blob
from offline_mover.bags import bag_writing, checking
from offline_mover.bags.accepted_bundle import AcceptedBundle
from offline_mover.bags.bag import inspect_bag
from offline_mover.bags.bag_group import inspect, open_group
from offline_mover.bags.bag_texts import Contents, ListedFile, Place, payload_name
from offline_mover.bags.placement import VolumeOutlook
from offline_mover.commands.plan import plan
from offline_mover.commands.pull import pull
from offline_mover.commands.verify import recarry_request
from offline_mover.medium import media_fs
from offline_mover.progress import Meter
from offline_mover.pulling.destinations import PullOrder
from offline_mover.storage.ports import StoredBlob

COUNTS = (1250, 2500, 5000, 10_000, 20_000)
_SMALL_COUNTS = (50, 100)
_VOLUMES = 8


class _Source:
    """A source storage with one blob of zeros; only its envelope and its size are ever real."""

    def __init__(self, folder: Path, size_bytes: int) -> None:
        self._envelope = (folder / "bundle-manifest.dsse.json").read_bytes()
        self._size_bytes = size_bytes

    def read_small(self, name: str, *, max_bytes: int) -> bytes | None:
        return self._envelope if name.endswith(".json") and len(self._envelope) <= max_bytes else None

    def describe(self, name: str) -> StoredBlob | None:
        assert name.endswith(BLOB_NAME)
        return StoredBlob(size_bytes=self._size_bytes, etag="1", content_md5=None, metadata={})

    def read_range(self, name: str, *, offset_bytes: int, size_bytes: int, etag: str) -> Iterator[bytes]:
        yield bytes(min(size_bytes, offset_bytes + len(name + etag)))

    def list_names(self, prefix: str, *, most: int) -> list[str]:
        return [prefix][:0][:most]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--small", action="store_true", help="little of everything: does it still run?")
    options = parser.parse_args(arguments)
    print("microseconds a part")
    rows = [(count, _measure(count)) for count in (_SMALL_COUNTS if options.small else COUNTS)]
    print("  parts  " + "  ".join(f"{name:>9}" for name in rows[0][1]))
    for count, times in rows:
        print(f"{count:>7}  " + "  ".join(f"{1e6 * spent_s / count:9.1f}" for spent_s in times.values()))
    return 0


def _measure(count: int) -> dict[str, float]:
    """Seconds of each step for a bundle of ``count`` parts on eight volumes."""
    folder = Path(tempfile.mkdtemp(prefix="bench-scale-"))
    try:
        return _steps(folder, count)
    finally:
        shutil.rmtree(folder)


def _steps(folder: Path, count: int) -> dict[str, float]:
    size = DEFAULT_PART_SIZE_BYTES
    blob = transfer_blob(
        count * size, size, [hashlib.sha256(str(n).encode()).hexdigest() for n in range(count)]
    )
    seal(folder / "source", blob)
    envelope = (folder / "source" / "bundle-manifest.dsse.json").read_bytes()
    policy = TrustPolicy.from_bytes((folder / "source" / "policy.json").read_bytes())
    now = datetime.now(UTC)
    paths = [folder / f"volume{number}" for number in range(_VOLUMES)]
    known: dict[str, Any] = {"policy": policy, "now": now, "concurrency": 2, "meter": Meter()}
    source: Any = _Source(folder / "source", count * size)
    times: dict[str, float] = {}
    times["manifest"], verdict = _timed(lambda: verify_bundle(envelope, policy=policy, now=now))
    share = -(-count // _VOLUMES) * size + 64 * 1024 * 1024
    outlooks = [
        VolumeOutlook(name=path.name, path=None, file_system="exfat", capacity=Capacity(free_bytes=share))
        for path in paths
    ]
    times["plan"], (_, saved) = _timed(
        lambda: plan(source, outlooks, transfer_id=TRANSFER_ID, parity=None, rate_bytes_per_s=None, **known)
    )
    assert saved is not None
    manifest = verdict.require()
    signed = {part.name: sha256 for part, sha256 in manifest.parts()}
    for number, (path, names) in enumerate(zip(paths, saved.volumes, strict=True), start=1):
        path.mkdir()
        found = inspect_bag(path, AcceptedBundle(envelope=envelope, verdict=verdict))
        bag_writing.prepare(found, keep=())
        bag_writing.make_payload_folders(found, names)
        for name in names:
            _write_sparse(found.folder / payload_name(name), size)
        files = {name: ListedFile(signed[name], size) for name in names}
        bag_writing.complete(found, Contents(place=Place(number=number, of=_VOLUMES), files=files), now=now)
    with mock.patch.object(checking, "check_file", _believe):
        times["verify"], inspection = _timed(
            lambda: inspect(open_group(paths, None, policy=policy, now=now), concurrency=2, meter=Meter())
        )
        assert inspection.code is None
        order = PullOrder(volumes=tuple(paths))
        times["resume"], outcome = _timed(lambda: pull(source, order, transfer_id=TRANSFER_ID, **known))
        assert outcome.code is None
        for name in [*signed][::100]:
            next(path for path in paths if _remove(path, name))
        lost = inspect(open_group(paths, None, policy=policy, now=now), concurrency=2, meter=Meter())
        times["recarry"], request = _timed(
            lambda: RecarryRequest.from_bytes((recarry_request(lost, now=now) or _none()).to_bytes())
        )
    assert len(request.parts) == len([*signed][::100])
    return times


def _none() -> RecarryRequest:
    raise AssertionError("parts are missing")


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def _write_sparse(path: Path, size_bytes: int) -> None:
    with path.open("wb") as file:
        os.truncate(file.fileno(), size_bytes)


def _remove(volume: Path, name: str) -> bool:
    path = volume / TRANSFER_ID / payload_name(name)
    if not path.exists():
        return False
    path.unlink()
    return True


def _believe(path: Path, name: str, _sha256: str, size_bytes: int, *_: Any, **__: Any) -> Damage | None:
    """Opens the file as hashing would, and takes its size for its digest."""
    with media_fs.open_regular(path, name) as file:
        assert os.fstat(file.fileno()).st_size == size_bytes
    return None


if __name__ == "__main__":
    raise SystemExit(main())
