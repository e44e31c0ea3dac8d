"""The turns of a channel at the target: one bundle at a time, the lowest sequence number next.

From its turn until its decision a bundle has the channel to itself: two that are pushed one after the other
are imported in this order, however large they are, and no number is judged while another is being taken
(``docs/adr/0005-one-bundle-of-a-channel-at-a-time.md``). Whoever is admitted gets a place in the queue,
a blob ``work/channels/<channel>/waiting/<sequence>-<instance>``; whoever has the turn is named in
``work/channels/<channel>/turn``. How long one may wait :mod:`function_app.target.longest_waits` says. An
orchestration that ended without giving its turn or its place back is taken out by the reconciler.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from airgap.errors import Code, PolicyRefusal, UntrustedInputError
from function_app.ports import BlobStore
from function_app.storage.paths import WORK

STAGING_QUEUE = "-staging-registry"
"""Instead of a channel, in the queue for the staging registry; no channel can be named so."""

_MAX_OWNER_BYTES = 256
_TURN = re.compile(r"channels/[a-z0-9-]{1,63}/turn")
_PLACE = re.compile(r"channels/[a-z0-9-]{1,63}/waiting/[0-9]{16}-([A-Za-z0-9-]{1,200})")


@dataclass(frozen=True, slots=True)
class Turns:
    """The queue of one channel, and the holder of its turn; instances are orchestrations' ids.

    The staging registry has such a queue as well, in the order in which imports asked for it.
    """

    blobs: BlobStore
    channel: str

    @property
    def _turn(self) -> str:
        return f"channels/{self.channel}/turn"

    @property
    def _waiting(self) -> str:
        return f"channels/{self.channel}/waiting/"

    def enter(self, sequence: int, instance: str) -> None:
        """Give ``instance`` its place in the queue, by its sequence number, unless it has one."""
        if not self.waits(instance):
            self.blobs.create(WORK, f"{self._waiting}{sequence:016d}-{instance}", b"")

    def waits(self, instance: str) -> bool:
        """Whether ``instance`` has a place in the queue."""
        return any(place.endswith(f"-{instance}") for place in self.blobs.list_names(WORK, self._waiting))

    def take(self, instance: str) -> bool:
        """Take the turn if nobody has it, and nobody waits with a lower number; returns whether it is taken.

        Raises:
            PolicyRefusal: ``TRANSITION_REFUSED``: the instance neither has the turn nor waits for it any
                more.
        """
        holder = self.blobs.read(WORK, self._turn, max_bytes=_MAX_OWNER_BYTES)
        if holder == instance.encode():
            return True
        places = list(self.blobs.list_names(WORK, self._waiting))
        if not any(place.endswith(f"-{instance}") for place in places):
            raise PolicyRefusal(
                Code.TRANSITION_REFUSED, f"{instance} waits for the turn of {self.channel} no more"
            )
        is_next = places[0].endswith(f"-{instance}")
        return holder is None and is_next and self.blobs.create(WORK, self._turn, instance.encode())

    def has(self, instance: str) -> bool:
        """Whether ``instance`` has the turn."""
        return self.blobs.read(WORK, self._turn, max_bytes=_MAX_OWNER_BYTES) == instance.encode()

    def leave(self, instance: str) -> None:
        """Give back the turn of ``instance`` and its place in the queue; the turn of another stays."""
        for place in list(self.blobs.list_names(WORK, self._waiting)):
            if place.endswith(f"-{instance}"):
                self.blobs.delete(WORK, place)
        found = self.blobs.stat(WORK, self._turn)
        if found is None:
            return
        if self.blobs.read(WORK, self._turn, max_bytes=_MAX_OWNER_BYTES) == instance.encode():
            self.blobs.delete(WORK, self._turn, etag=found.etag)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldPlace:
    """A turn, or a place in a queue or at the door, and the instance that has it."""

    name: str
    """Of the blob."""
    instance: str
    etag: str | None
    """The state of a turn in which it was this instance's; ``None`` for a place, which is nobody else's."""


def held_places(blobs: BlobStore) -> Iterator[HeldPlace]:
    """Every turn and every place in a queue, of all channels, but for turns that change hands just now."""
    for name in list(blobs.list_names(WORK, "channels/")):
        if (place := _PLACE.fullmatch(name)) is not None:
            yield HeldPlace(name=name, instance=place[1], etag=None)
        elif _TURN.fullmatch(name) and (found := blobs.stat(WORK, name)) is not None:
            with suppress(UntrustedInputError):  # BLOB_CHANGED
                holder = blobs.read(WORK, name, max_bytes=_MAX_OWNER_BYTES, etag=found.etag)
                if holder is not None:
                    yield HeldPlace(name=name, instance=holder.decode(), etag=found.etag)
