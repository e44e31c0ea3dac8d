"""What must hold over both ends of a crossing, looked at after every write of either side."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from airgap.envelope import Envelope
from airgap.holdings import KeptReceipt
from airgap.journal import Journal, JournalEntry, parse_entry_name
from airgap.ledger import LedgerEntry, VoidEntry, sequence_of, void_sequence_of
from airgap.manifest import ENVELOPE_NAME, BundleManifest, manifest_digest
from airgap.receipt import Receipt
from airgap.states import Kind, State
from function_app.storage.paths import JOURNAL, LEDGER, RECEIPTS, TRANSFER, WORK, blob_path
from tests.bundles import AUDIENCE
from tests.simulation.invariants import require
from tests.simulation.services import Blobs, Registry

DELIVERED = "what the source believes delivered is in the target's registry"
ONE_NUMBER = "no number is used twice, by a transfer or for a bundle, at either end"
PLANNED = "nothing is exported but what the order names"
AS_EXPORTED = "a bundle names what its runs have exported, at the digests that they found"
LEFT_OUT = "what a transfer leaves out is in the target's registry"
ANSWERED = "an answer counts only from a registry that the bundle was made for"
GIVEN_UP = "a bundle calls void only what the source has given up"
VOIDS_TOLD = "a bundle tells of every number below its own that was given up before"
ONE_TIME = "a standing order is placed once for each of its times"
KEPT = "of what is kept as a receipt of the target, the target has issued all"
CROSSED = "what nothing excuses is delivered once faults stop"

_CLOCKS_DIFFER = timedelta(minutes=10)
"""Two workers' clocks are wrong by four minutes each; what is closer than that has no order."""


@dataclass(frozen=True, slots=True)
class Exported:
    """The blob of a run, as the run wrote it."""

    content: bytes


def artifacts_of(content: bytes) -> list[tuple[str, str]]:
    """References and digests of what a transfer blob of a crossing brings; nothing of what is none."""
    try:
        return [(reference, digest) for reference, digest in json.loads(content)["artifacts"]]
    except (ValueError, KeyError, TypeError):
        return []


class Watch:
    """Sees every write of both sides to their storage, and every run that is asked for."""

    def __init__(self, source: Blobs, target: Blobs, registry: Registry) -> None:
        """``registry``: the target's."""
        self._source, self._target, self._registry = source, target, registry
        self.published: Callable[[str], None] = lambda _: None
        """Is told of each transfer whose bundle manifest is out."""
        self.receipt_issued: Callable[[Receipt, bytes], None] = lambda *_: None
        self.journals: dict[str, Journal] = {}
        """Of transfers."""
        self.manifests: dict[str, BundleManifest] = {}
        """Of what was published, by transfer."""
        self.sha256_of: dict[str, str] = {}
        """The digest of each of them."""
        self.exported: dict[str, Exported] = {}
        self.issued: dict[bytes, Receipt] = {}
        """The target's receipts, by their envelopes."""
        self.source_numbers: dict[tuple[str, int], LedgerEntry] = {}
        self.target_numbers: dict[tuple[str, int], LedgerEntry] = {}
        self.planted: set[str] = set()
        """Names in the source's ledger that somebody wrote to who should not."""
        self._requests: dict[str, tuple[str, ...]] = {}
        """The references that each transfer was ordered with."""
        self._given_up: set[tuple[str, int]] = set()
        self._void_since: dict[tuple[str, int], datetime] = {}
        """When the ledger had it that a number was given up."""
        self._placed: dict[tuple[str, str], str] = {}
        """By a standing order and one of its times, the transfer."""

    # --- the source ---

    def after_source(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """A call of the source's blob port had its effect."""
        del kwargs, result
        if method not in {"create", "put"}:
            return
        container, name = args[:2]
        content = self._source.containers[container][name].content
        if container == WORK and name.endswith("/request.json"):  # kept: it is removed one day
            self._requests.setdefault(name.split("/")[1], tuple(json.loads(content)["artifacts"]))
        elif container == JOURNAL:
            self._journal_grown(name, content)
        elif container == LEDGER and name not in self.planted:
            self._entered(name, content)
        elif container == TRANSFER and name.endswith(ENVELOPE_NAME):
            self._manifest_out(name.partition("/")[0], content)

    def asked_to_export(self, request: Mapping[str, Any]) -> None:
        """A run is asked for."""
        about = request["target"]["name"].partition("/")[0]
        journal = self.journals[about]
        require(journal.newest(State.PLANNED) is not None, PLANNED, f"{about} has no plan")
        ordered = set(self._ordered(about))
        unnamed = [one for one in request["artifacts"] if one not in ordered]
        require(not unnamed, PLANNED, f"{about}: {unnamed}")

    def _ordered(self, about: str) -> tuple[str, ...]:
        return self._requests[about]

    def _journal_grown(self, name: str, content: bytes) -> None:
        parsed = parse_entry_name(name)
        if parsed is None or parsed[0] is not Kind.TRANSFERS:
            return
        about, entry = parsed[1], JournalEntry.from_bytes(content)
        journal = self.journals.get(about) or Journal(kind=Kind.TRANSFERS, about=about)
        if any(one.number == entry.number for one in journal.entries):
            return
        self.journals[about] = journal = journal.extended(entry)
        if entry.number == 1 and "order" in entry.facts:
            placed = entry.facts["order"]
            known = self._placed.setdefault((placed["name"], placed["time"]), about)
            require(known == about, ONE_TIME, f"{placed}: {known} and {about}")
        if "verdict" in entry.facts:
            target = entry.facts["target"]
            require(target in journal.entries[0].facts["audience"], ANSWERED, f"{about}: {target}")
        if entry.state is State.VOIDED:
            self._given_up.add((journal.entries[0].facts["channel"], entry.facts["sequence"]))
        if entry.state is State.DELIVERED:
            self._require_there(about)
        if entry.state is State.NOTHING_MISSING:
            self._require_left_out_there(about, set())

    def _require_there(self, about: str) -> None:
        manifest = self.manifests[about]
        is_told = any(one.is_imported and one.transfer_id == about for one in self.issued.values())
        require(is_told, DELIVERED, f"{about}: the target has issued no such receipt")
        for artifact in manifest.artifacts:
            is_there = (artifact.repository, artifact.digest) in self._registry.manifests
            require(is_there, DELIVERED, f"{about}: {artifact.reference}")

    def _entered(self, name: str, content: bytes) -> None:
        if void_sequence_of(name) is not None:
            entry = VoidEntry.from_bytes(content)
            self._given_up.add((entry.channel, entry.void.sequence))
            self._void_since.setdefault((entry.channel, entry.void.sequence), self._source.now)
        elif sequence_of(name) is not None:
            taken = LedgerEntry.from_bytes(content)
            self._number_taken(self.source_numbers, taken)
            own = [one.name for one in self.source_numbers.values() if one.transfer_id == taken.transfer_id]
            require(len(own) == 1, ONE_NUMBER, f"{taken.transfer_id} has {own}")
        elif (kept := KeptReceipt.from_name(name)) is not None and kept.registry in AUDIENCE:
            require(content in self.issued, KEPT, name)

    def _number_taken(self, numbers: dict[tuple[str, int], LedgerEntry], entry: LedgerEntry) -> None:
        before = numbers.setdefault((entry.channel, entry.sequence), entry)
        is_same = before.manifest_sha256 == entry.manifest_sha256
        require(is_same, ONE_NUMBER, f"{entry.name}: of {before.transfer_id} and of {entry.transfer_id}")

    def _manifest_out(self, about: str, envelope: bytes) -> None:
        if about in self.manifests:
            return
        manifest = BundleManifest.from_bytes(Envelope.from_bytes(envelope).payload)
        taken = self.source_numbers.get((manifest.channel, manifest.sequence))
        require(taken is not None and taken.transfer_id == about, ONE_NUMBER, f"{about} is out: {taken}")
        for void in manifest.voids:
            number = manifest.channel, void.sequence
            require(number in self._given_up and void.who != "intruder", GIVEN_UP, f"{about}: {void}")
        self._require_voids_told(about, manifest)
        for blob in manifest.blobs:
            signed = sorted((one.reference, one.digest) for one in blob.artifacts)
            found = sorted(artifacts_of(self.exported[blob_path(about, blob.name)].content))
            require(signed == found, AS_EXPORTED, f"{about}/{blob.name}: {signed}, and {found}")
        self._require_left_out_there(about, {one.reference for one in manifest.artifacts})
        self.manifests[about] = manifest
        self.sha256_of[about] = manifest_digest(Envelope.from_bytes(envelope).payload)
        self.published(about)

    def _require_voids_told(self, about: str, manifest: BundleManifest) -> None:
        told = {void.sequence for void in manifest.voids}
        for (channel, number), since in self._void_since.items():
            is_due = since + _CLOCKS_DIFFER < manifest.created_at and number < manifest.sequence
            if channel == manifest.channel and is_due:
                require(number in told, VOIDS_TOLD, f"{about}: {number}, given up at {since}")

    def _require_left_out_there(self, about: str, travels: set[str]) -> None:
        for reference, digest in self._left_out(about):
            repository = reference.partition(":")[0]
            is_there = (repository, digest) in self._registry.manifests
            require(is_there, LEFT_OUT, f"{about}: {reference} {digest}")
        missing = set(self._ordered(about)) - travels - {one[0] for one in self._left_out(about)}
        require(not missing, PLANNED, f"{about} lacks {missing}")

    def _left_out(self, about: str) -> Iterator[tuple[str, str]]:
        for name, blob in self._source.containers["work"].items():
            if name.startswith(f"plans/{about}/held/"):
                for one in json.loads(blob.content).get("artifacts", []):
                    yield one["reference"], one["digest"]

    # --- the target ---

    def after_target(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """A call of the target's blob port had its effect."""
        del kwargs, result
        if method not in {"create", "put"}:
            return
        container, name = args[:2]
        content = self._target.containers[container][name].content
        if container == LEDGER and sequence_of(name) is not None:
            entry = LedgerEntry.from_bytes(content)
            self._number_taken(self.target_numbers, entry)
            ours = self.source_numbers.get((entry.channel, entry.sequence))
            is_same = ours is not None and ours.manifest_sha256 == entry.manifest_sha256
            require(is_same, ONE_NUMBER, f"{name} at the target, and {ours} at the source")
        elif container == RECEIPTS and content not in self.issued:
            receipt = Receipt.from_bytes(Envelope.from_bytes(content).payload)
            self.issued[content] = receipt
            self.receipt_issued(receipt, content)

    # --- once all has come to rest ---

    def at_work(self) -> Iterator[Journal]:
        """The transfers that are under way at the source."""
        return (journal for journal in self.journals.values() if journal.is_active)

    def at_rest(self) -> None:
        """Everything that must hold now that nothing is under way."""
        for about, journal in self.journals.items():
            if journal.newest(State.DELIVERED) is not None:
                self._require_there(about)
