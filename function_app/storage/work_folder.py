"""The working documents of an orchestration, to which its history only refers."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

import msgspec

from airgap.errors import Code, ServiceError, UntrustedInputError
from function_app.messages import Message, read
from function_app.ports import BlobStore
from function_app.storage.paths import WORK
from function_app.tally import tallies_of

M = TypeVar("M", bound=Message)

_MAX_DOCUMENT_BYTES = 64 * 1024 * 1024


def digest_of(document: Message) -> str:
    """The hex SHA-256 of a document in the form in which :class:`WorkFolder` writes it."""
    return hashlib.sha256(msgspec.json.encode(document)).hexdigest()


@dataclass(frozen=True, slots=True)
class WorkFolder:
    """The folder ``work/plans/<owner>/`` of working documents: a claim check for the owner's history.

    Nobody but the app should write to the container ``work``. What gets signed must not depend on that: the
    digest of such a document travels by value, and is compared when the document is read. A document of
    another schema is ``NEWER_FORMAT``, raised by whatever reads one.
    """

    blobs: BlobStore
    owner: str

    def _name(self, name: str) -> str:
        return f"plans/{self.owner}/{name}.json"

    def put(self, name: str, document: Message) -> str:
        """Write a document, in place of one of this name; returns the hex SHA-256 of what was written."""
        content = msgspec.json.encode(document)
        self.blobs.put(WORK, self._name(name), content)
        return hashlib.sha256(content).hexdigest()

    def keep(self, folder: str, document: Message) -> str:
        """Write a document under its own hex SHA-256, which is returned; :meth:`kept` reads it."""
        sha256 = digest_of(document)
        self.blobs.put(WORK, self._name(f"{folder}/{sha256}"), msgspec.json.encode(document))
        return sha256

    def kept(self, folder: str, sha256: str, kind: type[M]) -> M:
        """The document with that hex SHA-256, which :meth:`keep` wrote; raises as :meth:`get`."""
        return self.get(f"{folder}/{sha256}", kind, sha256=sha256)

    def create(self, name: str, document: Message) -> None:
        """Write a document unless there is one already."""
        self.blobs.create(WORK, self._name(name), msgspec.json.encode(document))

    def find(self, name: str, kind: type[M]) -> M | None:
        """The document of that name; ``None`` if there is none."""
        raw = self.blobs.read(WORK, self._name(name), max_bytes=_MAX_DOCUMENT_BYTES)
        return None if raw is None else read(msgspec.json.decode(raw), kind)

    def has(self, name: str) -> bool:
        """Whether there is a document of that name; it is not read."""
        return self.blobs.stat(WORK, self._name(name)) is not None

    def written_at(self, name: str) -> datetime:
        """The time at which a document was written last, by the storage's clock, in whole seconds.

        Raises:
            ServiceError: ``NOT_FOUND``: somebody removed it.
        """
        found = self.blobs.stat(WORK, self._name(name))
        if found is None:
            raise ServiceError(Code.NOT_FOUND, f"{WORK}/{self._name(name)}")
        return found.last_modified.replace(microsecond=0)

    def get(self, name: str, kind: type[M], *, sha256: str | None = None) -> M:
        """The document of that name, which an earlier step wrote, with the hex SHA-256 if one is given.

        Raises:
            ServiceError: ``NOT_FOUND``: somebody removed it.
            UntrustedInputError: ``BLOB_CHANGED``: somebody wrote something else.
        """
        raw = self._content(name)
        if sha256 is not None and hashlib.sha256(raw).hexdigest() != sha256:
            raise self._changed(name)
        return read(msgspec.json.decode(raw), kind)

    def _content(self, name: str) -> bytes:
        raw = self.blobs.read(WORK, self._name(name), max_bytes=_MAX_DOCUMENT_BYTES)
        if raw is None:
            raise ServiceError(Code.NOT_FOUND, f"{WORK}/{self._name(name)}")
        return raw

    def _changed(self, name: str) -> UntrustedInputError:
        return UntrustedInputError(
            Code.BLOB_CHANGED, f"{WORK}/{self._name(name)} is not what an earlier step wrote"
        )

    def names(self, prefix: str) -> Iterator[str]:
        """The names that begin with ``prefix``, in ascending order."""
        start = f"plans/{self.owner}/"
        for path in list(self.blobs.list_names(WORK, f"{start}{prefix}")):
            yield path.removeprefix(start).removesuffix(".json")

    def all(self, prefix: str, kind: type[M]) -> Iterator[M]:
        """The documents whose name begins with ``prefix``, in order of their names."""
        for name in self.names(prefix):
            yield self.get(name, kind)

    def tallied(self, names: Sequence[str], kind: type[M], tallies: Sequence[str]) -> list[M]:
        """The documents of these names, compared with the tallies of the lanes that wrote them in turn.

        Raises:
            ServiceError: ``NOT_FOUND``: a document is gone.
            UntrustedInputError: ``BLOB_CHANGED``: there is another number of them, or somebody changed one.
        """
        contents = [self._content(name) for name in names]
        self._require(names, (hashlib.sha256(content).hexdigest() for content in contents), tallies)
        return [read(msgspec.json.decode(content), kind) for content in contents]

    def pinned(self, names: Sequence[str], kind: type[M], tallies: Sequence[str]) -> "Documents[M]":
        """The documents of :meth:`tallied`, none of which is kept: each is read again when looked at."""
        digests = (hashlib.sha256(self._content(name)).hexdigest() for name in names)
        return Documents(self, kind, self._require(names, digests, tallies))

    def _require(
        self, names: Sequence[str], digests: Iterable[str], tallies: Sequence[str]
    ) -> Mapping[str, str]:
        """The digests by name, if they come to these tallies."""
        found = dict(zip(names, digests, strict=True))
        if tallies_of(list(found.values()), len(tallies)) != tuple(tallies):
            raise self._changed(f"{names[0]} …" if names else "")
        return found

    def drop(self, name: str) -> None:
        """Delete a document, if it is there."""
        self.blobs.delete(WORK, self._name(name))

    def remove(self, *, keep: tuple[str, ...] = (), at_most: int = 1000) -> bool:
        """Delete up to ``at_most`` documents; returns whether none is left to delete.

        Documents stay whose name begins with one of ``keep``.
        """
        count = 0
        for name in self.names(""):
            if name.startswith(keep):
                continue
            if count == at_most:
                return False
            self.blobs.delete(WORK, self._name(name))
            count += 1
        return True


@dataclass(frozen=True, slots=True)
class Documents(Generic[M]):
    """Working documents, in order, that were found to be what earlier steps wrote.

    One is in memory at a time. Iterating raises as :meth:`WorkFolder.get`.

    Args:
        folder: the folder that they lie in.
        kind: the class of each document.
        digests: the hex SHA-256 of each, by name.
    """

    folder: WorkFolder
    kind: type[M]
    digests: Mapping[str, str]

    def __iter__(self) -> Iterator[M]:
        for name, sha256 in self.digests.items():
            yield self.folder.get(name, self.kind, sha256=sha256)
