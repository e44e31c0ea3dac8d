"""The ledger of a side, as blobs in its storage account."""

import hashlib
from dataclasses import dataclass
from datetime import datetime

from airgap.checks import MAX_ANSWER_BYTES
from airgap.cosigning import MAX_SIGNATURE_BYTES, KeptSignature
from airgap.envelope import MAX_ENVELOPE_BYTES
from airgap.errors import Code, ServiceError, UntrustedInputError
from airgap.ledger import (
    MAX_ENTRY_BYTES,
    LedgerEntry,
    VoidEntry,
    entry_name,
    require_entry,
    sequence_of,
    void_folder,
    void_name,
    void_sequence_of,
)
from airgap.manifest import BundleManifest
from airgap.release import MAX_RELEASE_BYTES
from function_app.ports import BlobStore
from function_app.storage.paths import LEDGER


@dataclass(frozen=True, slots=True)
class Ledger:
    """The ledger of a side: numbers taken, the envelopes they were taken for, who signed or released them.

    Nothing in its container is ever changed or deleted, so that it may be made immutable.
    """

    blobs: BlobStore

    def numbers(self, channel: str) -> list[int]:
        """The sequence numbers of a channel that are taken, ascending."""
        names = self.blobs.list_names(LEDGER, f"{channel}/")
        return [number for name in names if (number := sequence_of(name)) is not None]

    def find(self, channel: str, sequence: int) -> LedgerEntry | None:
        """The entry of a number, checked to speak of this very number; ``None`` while the number is free."""
        raw = self.blobs.read(LEDGER, entry_name(channel, sequence), max_bytes=MAX_ENTRY_BYTES)
        if raw is None:
            return None
        return require_entry(LedgerEntry.from_bytes(raw), channel=channel, sequence=sequence)

    def take(self, entry: LedgerEntry) -> LedgerEntry:
        """Take a number; returns the entry that has it now: ``entry``, or the one that was faster.

        Raises:
            ServiceError: ``SERVICE_UNEXPECTED``: an entry was there and is gone; nobody may delete any.
            UntrustedInputError: the entry that is there is malformed or speaks of another number.
        """
        if self.blobs.create(LEDGER, entry.name, entry.to_bytes()):
            return entry
        holder = self.find(entry.channel, entry.sequence)
        if holder is None:
            raise ServiceError(Code.SERVICE_UNEXPECTED, f"ledger entry {entry.name} came and went")
        return holder

    def taken_at(self, entry: LedgerEntry) -> datetime:
        """The time at which a number was taken, by its entry or, if that is later, by the storage."""
        found = self.blobs.stat(LEDGER, entry.name)
        return entry.taken_at if found is None else max(entry.taken_at, found.last_modified)

    def enter_voids(self, manifest: BundleManifest, manifest_sha256: str) -> None:
        """Enter each number that a manifest calls void, unless it is entered already."""
        known = self.voids(manifest.channel) if manifest.voids else frozenset()
        for void in manifest.voids:
            if void.sequence not in known:
                entry = VoidEntry(channel=manifest.channel, void=void, manifest_sha256=manifest_sha256)
                self.enter_void(entry)

    def enter_void(self, entry: VoidEntry) -> None:
        """Enter that a number was given up, unless it is entered already."""
        self.blobs.create(LEDGER, entry.name, entry.to_bytes())

    def find_void(self, channel: str, sequence: int) -> VoidEntry | None:
        """The entry by which a number was given up; ``None`` if it was not.

        Raises:
            UntrustedInputError: ``MANIFEST_MALFORMED``: the entry is malformed, or speaks of another number;
                or as :meth:`VoidEntry.from_bytes`.
        """
        name = void_name(channel, sequence)
        raw = self.blobs.read(LEDGER, name, max_bytes=MAX_ENTRY_BYTES)
        entry = None if raw is None else VoidEntry.from_bytes(raw)
        if entry is not None and entry.name != name:
            raise UntrustedInputError(Code.MANIFEST_MALFORMED, f"{LEDGER}/{name} speaks of {entry.name}")
        return entry

    def voids(self, channel: str) -> frozenset[int]:
        """The numbers of a channel that the source gave up."""
        names = self.blobs.list_names(LEDGER, void_folder(channel))
        return frozenset(number for name in names if (number := void_sequence_of(name)) is not None)

    def keep_envelope(self, sha256: str, envelope: bytes) -> bytes:
        """Store an envelope under ``sha256``, unless one is there; returns the one that is there then."""
        if self.blobs.create(LEDGER, _envelope_name(sha256), envelope):
            return envelope
        return self.envelope(sha256)

    def envelope(self, sha256: str) -> bytes:
        """The envelope that was stored under ``sha256``; not checked is whether its bytes have that digest.

        Raises:
            ServiceError: ``NOT_FOUND``: there is none.
        """
        raw = self.find_envelope(sha256)
        if raw is None:
            raise ServiceError(Code.NOT_FOUND, f"{LEDGER}/{_envelope_name(sha256)}")
        return raw

    def find_envelope(self, sha256: str) -> bytes | None:
        """The envelope stored under ``sha256``, as :meth:`envelope` gives it; ``None`` if there is none."""
        return self.blobs.read(LEDGER, _envelope_name(sha256), max_bytes=MAX_ENVELOPE_BYTES)

    def keep_override(self, manifest_sha256: str, envelope: bytes) -> None:
        """Store an override that let a bundle pass, under the digests of both; a repeat changes nothing."""
        sha256 = hashlib.sha256(envelope).hexdigest()
        self.blobs.create(LEDGER, f"overrides/{manifest_sha256}/{sha256}.dsse.json", envelope)

    def keep_check_answer(self, manifest_sha256: str, envelope: bytes) -> None:
        """Store the signed answer of a check, under the digests of manifest and answer, once."""
        sha256 = hashlib.sha256(envelope).hexdigest()
        self.blobs.create(LEDGER, _answer_name(manifest_sha256, sha256), envelope)

    def find_check_answer(self, manifest_sha256: str, sha256: str) -> bytes | None:
        """The signed answer of a check with that digest; ``None`` if there is none. It is not verified.

        Raises:
            UntrustedInputError: ``TOO_LARGE``: the app did not write this.
        """
        name = _answer_name(manifest_sha256, sha256)
        return self.blobs.read(LEDGER, name, max_bytes=MAX_ANSWER_BYTES)

    def keep_signature(self, manifest_sha256: str, kept: KeptSignature) -> bool:
        """Store a person's signature at the source; returns whether it is new, and only then is it stored."""
        return self.blobs.create(LEDGER, _signature_name(manifest_sha256, kept.keyid), kept.to_bytes())

    def find_signature(self, manifest_sha256: str, keyid: str) -> KeptSignature | None:
        """The signature by a key that was kept for a manifest; ``None`` if there is none that can be read.

        Not checked: whether it is valid.
        """
        name = _signature_name(manifest_sha256, keyid)
        try:
            raw = self.blobs.read(LEDGER, name, max_bytes=MAX_SIGNATURE_BYTES)
            kept = None if raw is None else KeptSignature.from_bytes(raw)
        except UntrustedInputError:
            return None
        return kept if kept is not None and kept.keyid == keyid else None

    def keep_release(self, manifest_sha256: str, keyid: str, envelope: bytes) -> bool:
        """Store the release of a bundle by a key; returns whether it is new, and only then is it stored.

        One name for each key: however often somebody releases a bundle, there is one thing to be read.
        """
        return self.blobs.create(LEDGER, _release_name(manifest_sha256, keyid), envelope)

    def find_release(self, manifest_sha256: str, keyid: str) -> bytes | None:
        """The release of a bundle by a key that was kept; ``None`` if there is none. It is not verified.

        Raises:
            UntrustedInputError: ``TOO_LARGE``: the app did not write this.
        """
        return self.blobs.read(LEDGER, _release_name(manifest_sha256, keyid), max_bytes=MAX_RELEASE_BYTES)


def _signature_name(manifest_sha256: str, keyid: str) -> str:
    return f"signatures/{manifest_sha256}/{keyid}.json"


def _envelope_name(sha256: str) -> str:
    return f"envelopes/{sha256}.dsse.json"


def _answer_name(manifest_sha256: str, sha256: str) -> str:
    return f"checks/{manifest_sha256}/{sha256}.dsse.json"


def _release_name(manifest_sha256: str, keyid: str) -> str:
    return f"releases/{manifest_sha256}/{keyid}.dsse.json"
