"""The facts of a report, collected once: the page shows them, the JSON twin lists them.

The twin is canonical JSON (RFC 8785) and a newline. Its members, all of them always there:

================  =========================================================================================
``schema``        1
``madeAt``        when, RFC 3339 UTC
``madeBy``        ``{who, host, tool: {name, version}}``
``status``        ``whole``, ``incomplete``, ``damaged``, ``tampered`` or ``refused``
``code``          of ``docs/errors.md``; ``null`` when all is well
``exitCode``      of the command
``verdict``       one line: what was found
``next``          one line: what to do now
``notes``         further lines that somebody should read
``transferId``    as asked for; vouched for only where ``bundle`` is not ``null``
``bundle``        what the signed bundle manifest says: ``{manifestDigest, isAccepted, transferId, channel,
                  sequence, previous, createdAt, expiresAt, source, audience, tool, requestedBy, bytes, parts,
                  blobs}``;
                  ``null`` when no trusted signature covers one, or when the volumes hold different ones
``signers``       ``[{keyid, role, scheme}]``: whose signatures counted
``artifacts``     ``[{reference, digest, mediaType, tags, artifactType, subject}]``
``counts``        ``{parts, bytes, wholeParts, damagedParts, missingParts, notSeenParts}``, ``{}`` if refused
``volumes``       ``[{path, label, serial, fileSystem, isReadOnly, totalBytes, number, of, manifestDigest,
                  code, detail, parts, wholeParts, parityShards, bytes, labelText}]``; ``labelText`` is what
                  the QR code of its label says, ``null`` without a label
``absentVolumes`` numbers of the group's volumes that were not shown
``damage``        every finding: ``{code, name, detail, offset, size, volume, isReplaced}``
``partStates``    ``[{blob, first, last, state}]``: runs of part numbers in one state: ``WHOLE``,
                  ``REPLACED`` (whole, beside a damaged copy), ``NOT_SEEN``, ``MISSING``, ``DAMAGED``
``custody``       ``{code, verdict, absentLogs, volumes}`` as ``custody show --json`` has them, with the
                  newest 1,000 entries of each log; ``entryCount`` says how many there are
``receipts``      ``[{volume, name, code, detail, receipt}]``: ``code`` and ``detail`` say why one is not
                  acceptable; else ``receipt`` has ``{verdict, code, target, decidedAt, artifacts,
                  provenArtifacts, damageCount}``
================  =========================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Any

from airgap import __version__
from airgap.errors import Code
from airgap.fields import format_time
from airgap.manifest import BundleManifest
from airgap.receipt import Receipt
from airgap.strict_json import dump_canonical
from airgap.verify import Verdict
from offline_mover.bags.bag_texts import Place
from offline_mover.custody.view import CustodyView, VolumeHistory
from offline_mover.medium.media_identity import MediaIdentity
from offline_mover.outcome import Outcome
from offline_mover.paper.markup import presentable
from offline_mover.paper.parts_picture import BlobRow
from offline_mover.paper.qr_code import label_text

SCHEMA = 1
MAX_EVENTS = 1000
"""Of one custody log, the newest; the report must not grow with the age of a medium."""


class Status(Enum):
    """The headline of a report: one word for the member ``status``, and one for a person."""

    WHOLE = ("whole", "Whole")
    INCOMPLETE = ("incomplete", "Incomplete")
    UNCLEAN = ("unclean", "Whole, not clean")
    DAMAGED = ("damaged", "Damaged")
    TAMPERED = ("tampered", "Custody broken")
    REFUSED = ("refused", "Refused")

    @classmethod
    def of(cls, code: Code | None, *, is_refused: bool, is_all_whole: bool = False) -> Status:
        """The headline for a report's code; a finding where every part is whole is about other files."""
        if is_refused:
            return cls.REFUSED
        special = {None: cls.WHOLE, Code.VOLUME_MISSING: cls.INCOMPLETE, Code.CUSTODY_BROKEN: cls.TAMPERED}
        return special.get(code, cls.UNCLEAN if is_all_whole else cls.DAMAGED)


def is_twin(content: bytes) -> bool:
    """Whether a file looks like the JSON twin of a report, so that the next one may take its place.

    Members of canonical JSON are in alphabetical order, and no other file of ours begins with this one.
    """
    return content.startswith(b'{"absentVolumes":[')


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptFacts:
    """A receipt on a volume: its content, or the code and the words for why it is not acceptable."""

    volume: str
    name: str
    code: Code | None = None
    detail: str = ""
    receipt: Receipt | None = None

    @property
    def proven(self) -> int:
        """The number of artifacts that the target registry held as they were signed."""
        return 0 if self.receipt is None else sum(proof.is_proven for proof in self.receipt.artifacts)

    def to_json(self) -> dict[str, Any]:
        """The receipt as an element of ``receipts`` in the twin."""
        receipt = self.receipt
        return {
            "volume": self.volume,
            "name": self.name,
            "code": None if self.code is None else self.code.name,
            "detail": self.detail,
            "receipt": None
            if receipt is None
            else {
                "verdict": receipt.verdict.value,
                "code": None if receipt.code is None else receipt.code.name,
                "target": receipt.target,
                "decidedAt": format_time(receipt.decided_at),
                "artifacts": len(receipt.artifacts),
                "provenArtifacts": self.proven,
                "damageCount": receipt.damage_count,
            },
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeFacts:
    """The facts of one volume, and what is wrong with it.

    Args:
        path: the path as it was given, safe to print.
        identity: what the system tells of the medium.
        place: the place in the group that it claims.
        manifest_sha256: the digest (hex) of the bundle on it; ``None`` when no trusted signature covers one.
        code: the gravest finding on it, replaced ones too, or why its bundle is refused.
        detail: the words of a refusal.
        parts: how many parts should be on it.
        whole_parts: how many of them are right.
        shards: how many parity shards are on it.
        size_bytes: the size of all parts and shards on it together.
    """

    path: str
    identity: MediaIdentity
    place: Place | None = None
    manifest_sha256: str | None = None
    code: Code | None = None
    detail: str = ""
    parts: int = 0
    whole_parts: int = 0
    shards: int = 0
    size_bytes: int = 0

    def to_json(self, label: str | None) -> dict[str, Any]:
        """The volume as an element of ``volumes`` in the twin."""
        identity, place = self.identity, self.place
        return {
            "path": self.path,
            "label": identity.label,
            "serial": identity.serial,
            "fileSystem": identity.file_system,
            "isReadOnly": identity.is_read_only,
            "totalBytes": identity.total_bytes,
            "number": None if place is None else place.number,
            "of": None if place is None else place.of,
            "manifestDigest": self.manifest_sha256 and f"sha256:{self.manifest_sha256}",
            "code": None if self.code is None else self.code.name,
            "detail": self.detail,
            "parts": self.parts,
            "wholeParts": self.whole_parts,
            "parityShards": self.shards,
            "bytes": self.size_bytes,
            "labelText": label,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFacts:
    """The facts of a whole report, from which page and twin are made.

    Args:
        made_at: when the report was made, aware.
        who: the person who made it, by the account's name or by their own word.
        host: the name of the machine.
        status: the headline.
        outcome: code, verdict, next step, counts, findings.
        notes: further lines that somebody should read.
        verdict: the verdict on the bundle; without manifest, or ``None``, as the member ``bundle`` says.
        volumes: the facts of each volume, in the order given.
        absent: numbers of the volumes that were not shown.
        blobs: the rows of the picture; empty when the bundle is refused.
        custody: the custody of the same volumes in the same order.
        receipts: the receipts for this transfer on the volumes.
    """

    made_at: datetime
    who: str
    host: str
    status: Status
    outcome: Outcome
    notes: tuple[str, ...]
    verdict: Verdict | None
    volumes: tuple[VolumeFacts, ...]
    absent: tuple[int, ...]
    blobs: tuple[BlobRow, ...]
    custody: CustodyView
    receipts: tuple[ReceiptFacts, ...]

    @property
    def manifest(self) -> BundleManifest | None:
        """The bundle manifest, if a trusted signature covers it, and all volumes have the same."""
        return self.verdict.manifest if self.verdict else None

    @property
    def next_step(self) -> str:
        """The words for what to do now, as a sentence of its own: no command follows it here."""
        step = self.outcome.next_step
        return f"{step[:-1]}." if step.endswith(":") else step

    def label(self, volume: VolumeFacts) -> str | None:
        """The text of a volume's label; ``None`` where nothing should be carried."""
        if self.status is Status.REFUSED or volume.manifest_sha256 is None:
            return None
        return label_text(self.outcome.transfer_id, volume.manifest_sha256, volume.place)

    def to_bytes(self) -> bytes:
        """The JSON twin of the report, as the module describes it."""
        outcome, manifest = self.outcome, self.manifest
        told = outcome.to_json()
        value = {
            "schema": SCHEMA,
            "madeAt": format_time(self.made_at),
            "madeBy": {
                "who": self.who,
                "host": self.host,
                "tool": {"name": "offline-mover", "version": __version__},
            },
            "status": self.status.value[0],
            **{name: told[name] for name in ("code", "exitCode", "verdict", "transferId", "signers")},
            "next": self.next_step,
            "notes": list(self.notes),
            "bundle": None if manifest is None else self._bundle(manifest),
            "artifacts": [artifact.to_json() for artifact in manifest.artifacts] if manifest else [],
            "counts": dict(outcome.counts),
            "volumes": [volume.to_json(self.label(volume)) for volume in self.volumes],
            "absentVolumes": list(self.absent),
            "damage": told["damage"],
            "partStates": [
                {"blob": blob.name, "first": first, "last": last, "state": cell.name}
                for blob in self.blobs
                for first, last, cell in blob.runs()
            ],
            "custody": self._custody(),
            "receipts": [receipt.to_json() for receipt in self.receipts],
        }
        return dump_canonical(_printable(value)) + b"\n"

    def _bundle(self, manifest: BundleManifest) -> dict[str, Any]:
        previous = manifest.previous_sha256
        source = manifest.source
        return {
            "manifestDigest": f"sha256:{self.verdict and self.verdict.manifest_sha256}",
            "isAccepted": self.status is not Status.REFUSED,
            "transferId": manifest.transfer_id,
            "channel": manifest.channel,
            "sequence": manifest.sequence,
            "previous": previous and f"sha256:{previous}",
            "createdAt": format_time(manifest.created_at),
            "expiresAt": format_time(manifest.expires_at),
            "source": {
                "cloud": source.cloud,
                "registry": source.registry,
                "exportPipeline": source.export_pipeline,
            },
            "audience": list(manifest.audience),
            "tool": {"name": manifest.tool.name, "version": manifest.tool.version},
            "requestedBy": manifest.requested_by,
            "bytes": manifest.size_bytes,
            "parts": manifest.part_count,
            "blobs": [
                {
                    "name": blob.name,
                    "size": blob.size_bytes,
                    "partSize": blob.part_size_bytes,
                    "parts": len(blob.part_sha256),
                    "pipelineRun": blob.pipeline_run,
                }
                for blob in manifest.blobs
            ],
        }

    def _custody(self) -> dict[str, Any]:
        view = self.custody
        return {
            "code": None if view.code is None else view.code.name,
            "verdict": view.verdict,
            "absentLogs": view.absent_logs,
            "volumes": [
                {**volume.to_json(with_entries=False), **newest_events(volume).to_json(with_entries=True)}
                | {"entryCount": len(volume.log.entries), "sideCount": len(volume.log.side)}
                for volume in view.volumes
            ],
        }


def newest_events(history: VolumeHistory) -> VolumeHistory:
    """The history with the newest 1,000 entries of the log, and of what is beside it."""
    log = history.log
    return replace(history, log=replace(log, entries=log.entries[-MAX_EVENTS:], side=log.side[-MAX_EVENTS:]))


def _printable(value: Any) -> Any:
    """``value`` with every string safe to print: what comes from media may hold what JSON cannot."""
    match value:
        case str():
            return presentable(value)
        case dict():
            return {name: _printable(member) for name, member in value.items()}
        case list():
            return [_printable(member) for member in value]
    return value
