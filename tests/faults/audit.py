"""What is really there: volumes and storage looked at without any code of the mover, byte by byte.

The bundle's original bytes are the only measure. A command that says OK is held against this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from azure.storage.blob import BlobServiceClient

from airgap.manifest import ENVELOPE_NAME
from tests.bundles import Bundle

LITTER = frozenset({"System Volume Information", ".Trashes", ".DS_Store"})


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeState:
    """One volume. ``whole`` and ``wrong`` name parts; a wrong one has its final name, but other bytes.

    ``strange`` is what is in the transfer's folder and belongs to no bag of this bundle.
    """

    whole: frozenset[str]
    wrong: frozenset[str]
    partial: frozenset[str]
    strange: frozenset[str]
    has_envelope: bool
    has_right_envelope: bool


_TAG_FILES = frozenset(
    {
        "bagit.txt",
        "bag-info.txt",
        "manifest-sha256.txt",
        "tagmanifest-sha256.txt",
        "parity.json",
        ENVELOPE_NAME,
    }
)


def look_at_volume(bundle: Bundle, volume: Path) -> VolumeState:
    """Read everything on a volume."""
    folder = volume / bundle.transfer_id
    expected = {f"data/{part.name}": bundle.part_bytes(part) for part in bundle.parts}
    whole: set[str] = set()
    wrong: set[str] = set()
    partial: set[str] = set()
    strange: set[str] = set()
    for found, path in _files(folder):
        name = found.lower() if found.isascii() else found  # file systems for media fold case
        if name in expected:
            is_whole = not path.is_symlink() and path.is_file() and path.read_bytes() == expected[name]
            (whole if is_whole else wrong).add(name.removeprefix("data/"))
        elif name.endswith(".partial"):
            partial.add(name)
        elif name not in _TAG_FILES and not (name.startswith("data/parity/") and name.endswith(".parity")):
            strange.add(name)
    envelope = folder / ENVELOPE_NAME
    return VolumeState(
        whole=frozenset(whole),
        wrong=frozenset(wrong),
        partial=frozenset(partial),
        strange=frozenset(strange),
        has_envelope=envelope.is_file(),
        has_right_envelope=envelope.is_file() and envelope.read_bytes() == bundle.envelope,
    )


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Everything that is no folder, links not followed."""
    if not folder.is_dir():
        return
    for path in sorted(folder.rglob("*")):
        if (path.is_symlink() or not path.is_dir()) and not LITTER & set(path.parts):
            yield path.relative_to(folder).as_posix(), path


def wrong_on_volumes(bundle: Bundle, volumes: Iterable[Path], *, is_partial: bool = False) -> list[str]:
    """Why "these volumes hold this bundle, and nothing else" is not true; empty if it is.

    With ``is_partial`` other volumes are elsewhere: parts may be missing, but none may be wrong.
    """
    states = {volume: look_at_volume(bundle, volume) for volume in volumes}
    everywhere = frozenset().union(*(state.whole for state in states.values()))
    every_name = {part.name for part in bundle.parts}
    wrongs = [] if is_partial else [f"{name} is nowhere whole" for name in sorted(every_name - everywhere)]
    for volume, state in states.items():
        wrongs += [f"{volume.name}: {name} is wrong" for name in sorted(state.wrong - everywhere)]
        wrongs += [f"{volume.name}: {name} is strange" for name in sorted(state.strange)]
        if not state.has_envelope and (volume / bundle.transfer_id).exists():
            wrongs.append(f"{volume.name}: no envelope")
    return wrongs


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetState:
    """A target container: blobs that are visible, and block ids by blob that are staged and not."""

    visible: frozenset[str]
    wrong: tuple[str, ...]
    staged: frozenset[tuple[str, str]]

    def wrongs(self, bundle: Bundle, *, is_done: bool) -> list[str]:
        """What must never be seen; and, when the push is done, what is missing."""
        names = {f"{bundle.transfer_id}/{name}" for name in bundle.blobs}
        envelope = f"{bundle.transfer_id}/{ENVELOPE_NAME}"
        wrongs = list(self.wrong)
        if envelope in self.visible or is_done:
            wrongs += [f"{name} is missing" for name in sorted((names | {envelope}) - self.visible)]
        return wrongs


def look_at_target(bundle: Bundle, service: BlobServiceClient, container: str) -> TargetState:
    """Read every blob that is visible, and the list of what is staged."""
    expected = {f"{bundle.transfer_id}/{name}": content for name, content in bundle.blobs.items()}
    expected[f"{bundle.transfer_id}/{ENVELOPE_NAME}"] = bundle.envelope
    client = service.get_container_client(container)
    visible: set[str] = set()
    wrong: list[str] = []
    staged: set[tuple[str, str]] = set()
    for found in client.list_blobs(include=["uncommittedblobs"]):
        blob = client.get_blob_client(found.name)
        if found.name.startswith("custody/"):
            continue
        committed, uncommitted = blob.get_block_list("all")
        staged |= {(found.name, str(block.id)) for block in (*committed, *uncommitted)}
        if found.size == 0 and not committed:
            continue
        visible.add(found.name)
        if found.name not in expected:
            wrong.append(f"{found.name} is of no bundle of ours")
        elif blob.download_blob().readall() != expected[found.name]:
            wrong.append(f"{found.name} is visible and wrong")
    return TargetState(visible=frozenset(visible), wrong=tuple(wrong), staged=frozenset(staged))
