"""The working documents of one orchestration: what its history only refers to."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from airgap.errors import Code, ServiceError
from function_app.messages import Message, read
from function_app.ports import BlobStore
from function_app.storage.paths import WORK

M = TypeVar("M", bound=Message)

_MAX_DOCUMENT_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class WorkFolder:
    """Documents in ``work/plans/<owner>/``: a claim check for the owner's history.

    Trusted: nobody but the app writes to the container ``work``. A document of another schema is
    ``NEWER_FORMAT``, raised by whatever reads one.
    """

    blobs: BlobStore
    owner: str

    def _name(self, name: str) -> str:
        return f"plans/{self.owner}/{name}.json"

    def put(self, name: str, document: Message) -> None:
        """Write a document, in the place of one of this name."""
        self.blobs.put(WORK, self._name(name), msgspec.json.encode(document))

    def create(self, name: str, document: Message) -> None:
        """Write a document unless there is one already."""
        self.blobs.create(WORK, self._name(name), msgspec.json.encode(document))

    def find(self, name: str, kind: type[M]) -> M | None:
        """The document of that name; ``None`` if there is none."""
        raw = self.blobs.read(WORK, self._name(name), max_bytes=_MAX_DOCUMENT_BYTES)
        return None if raw is None else read(msgspec.json.decode(raw), kind)

    def get(self, name: str, kind: type[M]) -> M:
        """A document that an earlier step wrote.

        Raises:
            ServiceError: ``NOT_FOUND``: somebody removed it.
        """
        document = self.find(name, kind)
        if document is None:
            raise ServiceError(Code.NOT_FOUND, f"{WORK}/{self._name(name)}")
        return document

    def names(self, prefix: str) -> Iterator[str]:
        """The names that begin with ``prefix``, in ascending order."""
        start = f"plans/{self.owner}/"
        for path in list(self.blobs.list_names(WORK, f"{start}{prefix}")):
            yield path.removeprefix(start).removesuffix(".json")

    def all(self, prefix: str, kind: type[M]) -> Iterator[M]:
        """The documents whose name begins with ``prefix``, in order of their names."""
        for name in self.names(prefix):
            yield self.get(name, kind)

    def remove(self, *, keep: str | None = None, at_most: int = 1000) -> bool:
        """Delete up to ``at_most`` documents but for ``keep``; whether none is left to delete."""
        count = 0
        for name in self.names(""):
            if name == keep:
                continue
            if count == at_most:
                return False
            self.blobs.delete(WORK, self._name(name))
            count += 1
        return True
