"""The target's door: it bounds how many uploads are dealt with at once, however many somebody uploads.

Each bundle manifest that is dealt with costs an orchestration, a journal and a signed receipt, and whoever
holds the upload SAS can put any number of them. So none is begun without a place, a blob
``work/door/<name>`` that holds the id of its orchestration. A manifest that the trust policy accepts, and
that nobody has decided upon, has the place of its own digest: whoever cannot sign makes no such place, and
takes none away. All others, and repeats, share a few; who finds none free waits in ``incoming`` until the
reconciler asks again.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from airgap.errors import UntrustedInputError
from function_app.ports import BlobStore
from function_app.storage.paths import WORK
from function_app.storage.turns import HeldPlace

SHARED_PLACES = 20
"""So many uploads that the trust policy does not accept are refused side by side."""

_FOLDER = "door/"
_MAX_OWNER_BYTES = 256


@dataclass(frozen=True, slots=True)
class Door:
    """The places at the door, taken for orchestrations before they start, given back when all is done."""

    blobs: BlobStore

    def enter(self, instance: str, *, accepted: str | None) -> bool:
        """Take a place for an instance; returns whether it has one, which may be from an earlier try.

        Args:
            instance: the id of the orchestration that is about to be started.
            accepted: the hex digest of the bundle manifest, if the trust policy accepts it and nobody has
                decided about it yet.
        """
        own = [] if accepted is None else [f"{_FOLDER}{accepted}"]
        taken = set(self.blobs.list_names(WORK, _FOLDER))
        free = (name for name in _shared() if name not in taken)
        return any(self._take(name, instance) for name in (*own, *free))

    def _take(self, name: str, instance: str) -> bool:
        """Whether a place is this instance's, also where it was so before or the answer to that was lost."""
        holder = instance.encode()
        is_new = self.blobs.create(WORK, name, holder)
        return is_new or self.blobs.read(WORK, name, max_bytes=_MAX_OWNER_BYTES) == holder

    def leave(self, instance: str) -> None:
        """Give back whatever place the instance has."""
        for place in self.held():
            if place.instance == instance:
                self.blobs.delete(WORK, place.name, etag=place.etag)

    def held(self, *, before: datetime | None = None) -> Iterator[HeldPlace]:
        """The places that are taken; with ``before`` (aware) only those taken earlier than that."""
        for name in list(self.blobs.list_names(WORK, _FOLDER)):
            found = self.blobs.stat(WORK, name)
            if found is None or (before is not None and found.last_modified >= before):
                continue
            with suppress(UntrustedInputError):  # BLOB_CHANGED: it changes hands just now
                holder = self.blobs.read(WORK, name, max_bytes=_MAX_OWNER_BYTES, etag=found.etag)
                if holder is not None:
                    yield HeldPlace(name=name, instance=holder.decode(errors="replace"), etag=found.etag)


def _shared() -> Iterator[str]:
    return (f"{_FOLDER}{number:02d}" for number in range(SHARED_PLACES))
