"""Target: the blobs of a damaged upload are held, so that only what is damaged is carried again.

They stay in ``incoming`` until the bundle manifest is uploaded once more, and are judged then as any upload
is; or until the deadline, when they are put away as well. Whatever else is uploaded beside them takes nothing
from them.
"""

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta

import msgspec

from airgap.errors import PolicyRefusal
from airgap.fields import format_time, parse_time
from airgap.states import Kind, State
from function_app.journal.recording import BY_APP
from function_app.journal.store import JournalStore
from function_app.messages import read
from function_app.ports import BlobStore, TargetSide
from function_app.storage.paths import WORK, closing_path
from function_app.target.wire import Closing, HeldUpload, Inspection, Judging

_HELD = "held/"
_MAX_NOTE_BYTES = 256 * 1024


def hold_upload(side: TargetSide, order: Closing, inspection: Inspection) -> None:
    """Hold the blobs of the size that is signed: parts of them can be replaced; the others are put away."""
    until = parse_time(order.decided_at) + timedelta(days=side.settings.held_upload_days)
    held = HeldUpload(
        closing=order,
        blobs=tuple(blob.name for blob in inspection.blobs if blob.uploaded_bytes == blob.size_bytes),
        until=format_time(until),
    )
    side.blobs.put(WORK, _path(order.incoming), msgspec.json.encode(held))


def held_upload(blobs: BlobStore, folder: str) -> HeldUpload | None:
    """What is held in a folder of ``incoming``; ``None`` if nothing is."""
    raw = blobs.read(WORK, _path(folder), max_bytes=_MAX_NOTE_BYTES)
    return None if raw is None else read(msgspec.json.decode(raw), HeldUpload)


def take_over(side: TargetSide, order: Judging) -> None:
    """Let an upload that was just admitted have what is held in its folder.

    From here on this orchestration decides about all that lies there.
    """
    held = held_upload(side.blobs, order.incoming)
    if held is None or held.closing.instance == order.instance:
        return
    facts = {"by": order.instance}
    journals = JournalStore(side.blobs, side.projection)
    with suppress(PolicyRefusal):  # its closing is not over yet, and ends by itself
        journals.record(
            *(Kind.IMPORTS, held.closing.instance, State.SUPERSEDED, facts),
            by=BY_APP,
            at=parse_time(order.now),
        )
    side.blobs.delete(WORK, _path(order.incoming))


def end_holds(side: TargetSide, now: datetime, *, at_most: int) -> Iterator[Closing]:
    """Give up what nobody has completed in time: it is to be closed once more, and nothing is held then.

    Yields:
        The decisions whose uploads are put away now.
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
