"""Volumes, and the transfers that they hold; their bags are not opened yet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from airgap import fields
from airgap.errors import Code, MediaError
from offline_mover.bags.bag_texts import PAYLOAD_FOLDER, TAG_FILES
from offline_mover.medium import held_volumes, media_fs

_MOST_NAMES = 100_000
"""Of a volume's own folder."""


def require_volume(volume: Path) -> None:
    """Refuse a volume that is not there.

    Raises:
        MediaError: ``VOLUME_NOT_FOUND``: it is no folder, or not mounted.
    """
    held_volumes.require_there(volume)
    with media_fs.media_errors(str(volume), is_reading=True):
        if not volume.is_dir():
            raise MediaError(Code.VOLUME_NOT_FOUND, f"{volume}: not a folder")


def transfers_on(volume: Path) -> list[str]:
    """The ids of the transfers that have a folder on a volume, in order.

    Raises:
        MediaError: ``VOLUME_NOT_FOUND``: it is no folder, or not mounted;
            ``MEDIA_UNREADABLE``: the medium does not give it.
    """
    require_volume(volume)
    return [
        name
        for name in media_fs.names_in(volume, most=_MOST_NAMES)
        if fields.TRANSFER_ID.fullmatch(name) and _looks_like_bag(volume / name)
    ]


def choose_transfer(volumes: Sequence[Path], transfer_id: str | None) -> str:
    """The transfer that is asked for, or the only one that all volumes have.

    Raises:
        MediaError: ``VOLUME_EMPTY``: a volume does not have it, or has none; ``VOLUME_AMBIGUOUS``: there are
            several, and none was named; ``VOLUME_NOT_FOUND``, ``MEDIA_UNREADABLE``: a volume is not there or
            does not answer.
    """
    found = {volume: transfers_on(volume) for volume in volumes}
    for volume, ids in found.items():
        if transfer_id is not None and not media_fs.is_real_folder(volume / transfer_id):
            raise MediaError(Code.VOLUME_EMPTY, f"{volume}: no transfer {transfer_id}")
        if transfer_id is None and not ids:
            is_bag = _looks_like_bag(volume)
            hint = "this is the transfer's own folder, name the one above it"
            raise MediaError(Code.VOLUME_EMPTY, f"{volume}: {hint if is_bag else 'no transfer on it'}")
    if transfer_id is not None:
        return transfer_id
    shared = set.intersection(*(set(ids) for ids in found.values()))
    every = sorted(set().union(*found.values()))
    if len(shared) == 1 and (len(every) == 1 or len(volumes) > 1):
        return shared.pop()
    names = ", ".join(str(volume) for volume in volumes)
    raise MediaError(Code.VOLUME_AMBIGUOUS, f"{names}: --transfer {' or '.join(every[:10])}")


def _looks_like_bag(folder: Path) -> bool:
    names = (PAYLOAD_FOLDER, *TAG_FILES)
    return media_fs.is_real_folder(folder) and any(media_fs.exists(folder / name) for name in names)
