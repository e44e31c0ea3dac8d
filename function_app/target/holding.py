"""The holding of a damaged upload's blobs at the target, so that only what is damaged is carried again.

They stay in ``incoming`` until the bundle manifest is uploaded once more, and are judged then as any upload
is; or until the deadline, when they are put away as well. Whatever else is uploaded beside them takes nothing
from them.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta

import msgspec

from airgap.errors import PolicyRefusal
from airgap.fields import format_time, parse_time
from airgap.states import Kind, State
from function_app.journal.recording import BY_APP
from function_app.journal.store import JournalStore
from function_app.messages import read
from function_app.ports import BlobStore, JournalRow, TargetSide
from function_app.storage.paths import WORK, closing_path, upload_path
from function_app.storage.work_folder import WorkFolder
from function_app.target.damage_notes import listed_damages
from function_app.target.wire import Closing, HeldUpload, Inspection, Upload

_HELD = "held/"
_MAX_NOTE_BYTES = 256 * 1024


def hold_upload(side: TargetSide, order: Closing, inspection: Inspection) -> None:
    """Hold those blobs of an upload that have the signed size, so that their parts can be replaced.

    Blobs of another size are put away.
    """
    until = parse_time(order.decided_at) + timedelta(days=side.settings.held_upload_days)
    blobs = tuple(blob.name for blob in inspection.blobs if blob.uploaded_bytes == blob.size_bytes)
    damages, count = listed_damages(WorkFolder(side.blobs, order.instance))
    damaged = {damage.name.partition("/")[0] for damage in damages}
    held = HeldUpload(
        closing=order,
        blobs=blobs,
        until=format_time(until),
        # Of more than are listed, nobody knows any more where they are.
        damaged=tuple(name for name in blobs if name in damaged or count > len(damages)),
    )
    side.blobs.put(WORK, _path(order.incoming), msgspec.json.encode(held))


def held_upload(blobs: BlobStore, folder: str) -> HeldUpload | None:
    """The upload that is held in a folder of ``incoming``; ``None`` if none is."""
    raw = blobs.read(WORK, _path(folder), max_bytes=_MAX_NOTE_BYTES)
    return None if raw is None else read(msgspec.json.decode(raw), HeldUpload)


def is_shared(blobs: BlobStore, order: Upload) -> bool:
    """Whether another import was admitted with this folder's blobs, or holds them, and so decides on them."""
    own = upload_path(order.incoming, order.instance)
    held = held_upload(blobs, order.incoming)
    if held is not None and held.closing.instance != order.instance:
        return True
    return any(name != own for name in blobs.list_names(WORK, upload_path(order.incoming, "")))


def take_over(side: TargetSide, folder: str, instance: str, manifest_sha256: str, *, at: str) -> None:
    """Let an admitted import have the blobs that are held in its folder for the same bundle manifest.

    Blobs that are held for another bundle in this folder stay held: whoever signs for one channel takes
    nothing from another.
    """
    held = held_upload(side.blobs, folder)
    if held is None or held.closing.instance == instance:
        return
    journal = JournalStore(side.blobs, side.projection).read(Kind.IMPORTS, held.closing.instance)
    admitted = journal.newest(State.ADMITTED)
    if admitted is None or admitted.facts["manifestSha256"] != manifest_sha256:
        return
    _supersede(side, held.closing.instance, instance, at=parse_time(at))
    side.blobs.delete(WORK, _path(folder))


def _supersede(side: TargetSide, held: str, instance: str | None, *, at: datetime) -> None:
    journals = JournalStore(side.blobs, side.projection)
    with suppress(PolicyRefusal):  # its closing is not over yet: then it is told later, by end_lost_holds
        journals.record(Kind.IMPORTS, held, State.SUPERSEDED, {"by": instance}, by=BY_APP, at=at)


def end_lost_holds(side: TargetSide, rows: Iterable[JournalRow], now: datetime) -> None:
    """Record of imports that are listed as held, and hold nothing any more, that another has taken over."""
    journals = JournalStore(side.blobs, side.projection)
    for row in rows:
        journal = journals.read(Kind.IMPORTS, row.about)
        if journal.first is None or journal.state is not State.HELD:
            continue
        held = held_upload(side.blobs, str(journal.first.facts["incoming"]))
        holder = None if held is None else held.closing.instance
        is_ending = side.blobs.stat(WORK, closing_path(row.about)) is not None
        if holder != row.about and not is_ending:
            _supersede(side, row.about, holder, at=now)


def end_holds(side: TargetSide, now: datetime, *, at_most: int) -> Iterator[Closing]:
    """Give up the uploads that nobody has completed in time; each is to be closed once more, holding nothing.

    Yields:
        The decisions whose uploads are to be put away now.
    """
    for name in list(side.blobs.list_names(WORK, _HELD)):
        held = held_upload(side.blobs, name.removeprefix(_HELD).removesuffix(".json"))
        if held is None or now < parse_time(held.until):
            continue
        side.blobs.create(WORK, closing_path(held.closing.instance), msgspec.json.encode(held.closing))
        side.blobs.delete(WORK, name)
        yield held.closing
        at_most -= 1
        if at_most <= 0:
            return


def _path(folder: str) -> str:
    """Name in ``work`` of the note. The folder is that of a bundle that was admitted: a transfer's id."""
    return f"{_HELD}{folder}.json"
