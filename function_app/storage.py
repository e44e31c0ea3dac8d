"""Where things lie in the storage account: containers, names, working documents, the ledger."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from airgap.envelope import MAX_ENVELOPE_BYTES
from airgap.errors import Code, ServiceError
from airgap.ledger import MAX_ENTRY_BYTES, LedgerEntry, entry_name, require_entry, sequence_of
from airgap.manifest import ENVELOPE_NAME
from function_app.ports import BlobStore

TRANSFER = "transfer"
LEDGER = "ledger"
WORK = "work"
INCOMING = "incoming"
QUARANTINE = "quarantine"
RECEIPTS = "receipts"

_MAX_DOCUMENT_BYTES = 64 * 1024 * 1024


def blob_path(folder: str, blob: str) -> str:
    """Where a transfer blob lies: ``<transferId>/001``."""
    return f"{folder}/{blob}"


def manifest_path(folder: str) -> str:
    """Where the bundle manifest lies: ``<transferId>/bundle-manifest.dsse.json``."""
    return f"{folder}/{ENVELOPE_NAME}"


def is_safe_name(name: str) -> bool:
    """Whether a blob's name means the same in a URL: dot segments would be resolved (RFC 3986 §5.2.4).

    Names come from listings of what others uploaded; such a one could reach into another container.
    """
    return not {"", ".", ".."} & set(name.split("/"))


@dataclass(frozen=True, slots=True)
class WorkFolder:
    """JSON documents of one orchestration, in ``work/plans/<owner>/``: a claim check for its history.

    Trusted: nobody but the app writes to the container ``work``.
    """

    blobs: BlobStore
    owner: str

    def _name(self, name: str) -> str:
        return f"plans/{self.owner}/{name}.json"

    def put(self, name: str, value: Any) -> None:
        """Write a document."""
        self.blobs.put(WORK, self._name(name), json.dumps(value).encode())

    def create(self, name: str, value: Any) -> None:
        """Write a document unless there is one already."""
        self.blobs.create(WORK, self._name(name), json.dumps(value).encode())

    def find(self, name: str) -> Any:
        """A document, or ``None``."""
        raw = self.blobs.read(WORK, self._name(name), max_bytes=_MAX_DOCUMENT_BYTES)
        return None if raw is None else json.loads(raw)

    def get(self, name: str) -> Any:
        """A document that an earlier step wrote.

        Raises:
            ServiceError: ``NOT_FOUND``: somebody removed it.
        """
        value = self.find(name)
        if value is None:
            raise ServiceError(Code.NOT_FOUND, f"{WORK}/{self._name(name)}")
        return value

    def all(self, prefix: str) -> Iterator[Any]:
        """The documents whose name begins with ``prefix``, in order of their names."""
        start = f"plans/{self.owner}/"
        for path in list(self.blobs.list_names(WORK, f"{start}{prefix}")):
            yield self.get(path.removeprefix(start).removesuffix(".json"))

    def remove(self, *, keep: str | None = None) -> None:
        """Delete them all, but for ``keep``."""
        for path in list(self.blobs.list_names(WORK, f"plans/{self.owner}/")):
            if keep is None or path != self._name(keep):
                self.blobs.delete(WORK, path)


@dataclass(frozen=True, slots=True)
class Ledger:
    """The ledger of one side: numbers taken, and the envelopes they were taken for.

    Nothing in its container is ever changed or deleted, so that it may be made immutable.
    """

    blobs: BlobStore

    def numbers(self, channel: str) -> list[int]:
        """The sequence numbers of a channel that are taken, ascending."""
        names = self.blobs.list_names(LEDGER, f"{channel}/")
        return [number for name in names if (number := sequence_of(name)) is not None]

    def find(self, channel: str, sequence: int) -> LedgerEntry | None:
        """The entry of a number, checked to speak of this very number."""
        raw = self.blobs.read(LEDGER, entry_name(channel, sequence), max_bytes=MAX_ENTRY_BYTES)
        if raw is None:
            return None
        return require_entry(LedgerEntry.from_bytes(raw), channel=channel, sequence=sequence)

    def take(self, entry: LedgerEntry) -> LedgerEntry:
        """The entry that holds the number now: ``entry``, or the one that was faster."""
        if self.blobs.create(LEDGER, entry.name, entry.to_bytes()):
            return entry
        holder = self.find(entry.channel, entry.sequence)
        if holder is None:
            raise ServiceError(Code.SERVICE_UNEXPECTED, f"ledger entry {entry.name} came and went")
        return holder

    def keep_envelope(self, sha256: str, envelope: bytes) -> bytes:
        """Store an envelope under ``sha256``, unless one is there; returns the one that is there."""
        name = f"envelopes/{sha256}.dsse.json"
        if self.blobs.create(LEDGER, name, envelope):
            return envelope
        return self.envelope(sha256)

    def envelope(self, sha256: str) -> bytes:
        """A stored envelope.

        Raises:
            ServiceError: ``NOT_FOUND``.
        """
        name = f"envelopes/{sha256}.dsse.json"
        raw = self.blobs.read(LEDGER, name, max_bytes=MAX_ENVELOPE_BYTES)
        if raw is None:
            raise ServiceError(Code.NOT_FOUND, f"{LEDGER}/{name}")
        return raw
