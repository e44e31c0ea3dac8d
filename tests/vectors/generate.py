"""The golden vectors of ``docs/format.md``: fixed keys, fixed times, byte-exact files.

``./dev vectors`` makes them anew and compares; ``./dev vectors --write`` writes them. Files in ``newer/`` are
what a newer tool may write and this one must read as far as it can; a file in ``refused/CODE/`` is refused
with that code. ECDSA and ML-DSA signatures are random, so a recorded envelope stays as long as it holds the
payload of today under valid signatures of these keys, in this order.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from airgap.checks import CheckedBlob, CheckQuestion, Finding
from airgap.cosigning import KeptSignature
from airgap.custody_event import (
    GENESIS,
    Action,
    CustodyEvent,
    EventBody,
    Head,
    SeenLog,
    VolumeMark,
    line_sha256,
)
from airgap.damage import Damage
from airgap.envelope import Envelope, SignatureCheck
from airgap.errors import Code
from airgap.fields import format_time
from airgap.journal import Journal
from airgap.keys import signer_from_pem
from airgap.ledger import LedgerEntry, VoidEntry
from airgap.manifest import (
    ENVELOPE_NAME,
    Artifact,
    BundleManifest,
    Source,
    Tool,
    TransferBlob,
    Void,
    manifest_digest,
)
from airgap.media_plan import SavedPlan
from airgap.override import Override
from airgap.parity import ParityLayout
from airgap.policy import TrustPolicy
from airgap.policy_chain import PolicyVersion, UsedPolicy
from airgap.recarry import RecarryRequest, recarry_from_receipt
from airgap.receipt import (
    ArtifactProof,
    CheckResult,
    LedgerPosition,
    MissingContent,
    Receipt,
    ReceiptVerdict,
    Release,
)
from airgap.release import ReleasedBundle, ReleaseStatement
from airgap.signatures import CryptoSigner, DsseEnvelope
from airgap.signed_check import CheckStatement
from airgap.states import Kind, State
from airgap.strict_json import dump_canonical
from airgap.ticket import Ticket, TicketKind
from airgap.verify import CountedKey
from offline_mover.bags import bag_texts

FOLDER = Path(__file__).parent
NOW = datetime(2026, 1, 31, 8, 0, 0, tzinfo=UTC)
TARGET = "acrtarget.azurecr.us"


def _signer(private_key: object) -> CryptoSigner:
    """A signer as the product makes it: through PKCS#8 PEM."""
    return signer_from_pem(CryptoSigner(private_key).private_bytes)  # type: ignore[arg-type]  # one of four kinds


P256 = _signer(ec.derive_private_key(0x1001, ec.SECP256R1()))
P384 = _signer(ec.derive_private_key(0x1002, ec.SECP384R1()))
ED25519 = _signer(ed25519.Ed25519PrivateKey.from_private_bytes(b"\x03" * 32))
MLDSA87 = _signer(mldsa.MLDSA87PrivateKey.from_seed_bytes(b"\x04" * 32))
STRANGER = _signer(ec.derive_private_key(0x1005, ec.SECP384R1()))
TARGET_KEY = _signer(ec.derive_private_key(0x1006, ec.SECP384R1()))
OFFICER = _signer(ec.derive_private_key(0x1007, ec.SECP384R1()))
REVOKED = _signer(ec.derive_private_key(0x1008, ec.SECP384R1()))
"""Counts no more, from :data:`NOW` on."""

REVOKED_TARGET = _signer(ec.derive_private_key(0x100A, ec.SECP384R1()))
"""Likewise, of a target."""

RETIRING = _signer(ec.derive_private_key(0x1009, ec.SECP384R1()))
"""Counts for another day."""

SCANNER = _signer(ec.derive_private_key(0x100B, ec.SECP384R1()))
"""Of a check that signs its answers."""

HOLDERS = {
    P256: "Ada Byron",
    P384: "source app",
    ED25519: "Åsa Öberg",
    MLDSA87: "source app",
    TARGET_KEY: "target app",
    OFFICER: "security office",
    REVOKED: "source app of last year",
    REVOKED_TARGET: "target app of last year",
    RETIRING: "source app of this year",
    SCANNER: "scanner",
}
"""Who holds which key; one signs with two algorithms."""

TOOL = Tool(name="acr-airgap-transfer", version="0.1.0")


def public_pem(signer: CryptoSigner) -> str:
    """The public key as it stands in a policy."""
    key = signer.public_key._crypto_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")


def policy_json() -> dict[str, object]:
    """A policy with a hybrid channel of two roles and a plain one."""
    return {
        "schema": 1,
        "version": 3,
        "expiresAt": "2036-01-31T08:00:00Z",
        "keys": [{"holder": holder, "publicKey": public_pem(signer)} for signer, holder in HOLDERS.items()],
        "policyRoles": {"officer": {"threshold": 1, "keyids": [OFFICER.public_key.keyid]}},
        "revoked": [
            {"keyid": REVOKED.public_key.keyid, "from": format_time(NOW)},
            {"keyid": REVOKED_TARGET.public_key.keyid, "from": format_time(NOW)},
            {"keyid": RETIRING.public_key.keyid, "from": format_time(NOW + timedelta(days=1))},
        ],
        "channels": {
            "prod": {
                "audience": [TARGET],
                "repositories": ["charts/*", "samples/**"],
                "bundleRoles": {
                    "source": {
                        "threshold": 1,
                        "keyids": [P384.public_key.keyid, MLDSA87.public_key.keyid],
                        "requiredAlgorithms": ["ecdsa-sha2-nistp384", "ml-dsa-87/1"],
                    },
                    "releaser": {
                        "threshold": 1,
                        "keyids": [ED25519.public_key.keyid, P256.public_key.keyid],
                    },
                },
                "receiptRoles": {"target": {"threshold": 1, "keyids": [TARGET_KEY.public_key.keyid]}},
                "checkRoles": {"scan": {"threshold": 1, "keyids": [SCANNER.public_key.keyid]}},
                "maxAgeSeconds": 30 * 24 * 3600,
                "clockSkewSeconds": 300,
                "order": "rising",
                "onGap": "record",
                "maxSequenceJump": 100,
            },
            "test": {
                "audience": [TARGET, "127.0.0.1:5001"],
                "repositories": ["samples/app", "team/**"],
                "bundleRoles": {"source": {"threshold": 1, "keyids": [P384.public_key.keyid]}},
                "maxAgeSeconds": 30 * 24 * 3600,
                "clockSkewSeconds": 300,
                "order": "any",
                "onGap": "record",
                "maxSequenceJump": 1000,
            },
            "guarded": {
                "audience": [TARGET],
                "repositories": ["**"],
                "bundleRoles": {
                    "source": {
                        "threshold": 1,
                        "keyids": [s.public_key.keyid for s in (P384, REVOKED, RETIRING)],
                    }
                },
                "receiptRoles": {"target": {"threshold": 1, "keyids": [REVOKED_TARGET.public_key.keyid]}},
                "releaseRoles": {"officer": {"threshold": 1, "keyids": [OFFICER.public_key.keyid]}},
                "maxAgeSeconds": 24 * 3600,
                "clockSkewSeconds": 0,
                "order": "rising",
                "onGap": "hold",
                "maxSequenceJump": 1,
            },
        },
    }


def _hex(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def minimal_manifest() -> BundleManifest:
    """One blob of one part with one artifact: the first of its channel."""
    return BundleManifest(
        transfer_id="0123456789abcdef0123456789abcdef",
        channel="test",
        sequence=1,
        previous_sha256=None,
        created_at=NOW,
        expires_at=datetime(2026, 2, 14, 8, 0, 0, tzinfo=UTC),
        source=Source(cloud="AzureCloud", registry="acrsource.azurecr.io", export_pipeline="exp01"),
        audience=(TARGET,),
        blobs=(
            TransferBlob(
                name="001",
                size_bytes=11,
                part_size_bytes=4 * 1024 * 1024,
                part_sha256=(_hex("hello world"),),
                content_md5="XrY7u+Ae7tCTyyK7j1rNww==",
                metadata={"category": "acr-transfer-blob"},
                catalog_digest="sha256:" + _hex("catalog"),
                pipeline_run="e0123456789abcdef0123456789abcdef01234567",
                artifacts=(
                    Artifact(
                        reference="samples/app:1.0",
                        digest="sha256:" + _hex("index"),
                        media_type="application/vnd.oci.image.index.v1+json",
                        tags=("1.0",),
                    ),
                ),
            ),
        ),
        tool=TOOL,
    )


def full_manifest() -> BundleManifest:
    """Two blobs of several parts, artifacts by tag and by digest, text beyond ASCII, null where allowed."""
    part_size = 4 * 1024 * 1024
    digest = "sha256:" + _hex("signature")
    return BundleManifest(
        transfer_id="fedcba9876543210fedcba9876543210",
        channel="prod",
        sequence=5,
        previous_sha256=_hex("previous"),
        created_at=NOW,
        expires_at=datetime(2026, 2, 14, 8, 0, 0, tzinfo=UTC),
        source=Source(cloud="Azure Ünïon 雲", registry="acrsource.azurecr.io", export_pipeline="exp01"),
        audience=(TARGET, "other.azurecr.us:8443"),
        blobs=(
            TransferBlob(
                name="001",
                size_bytes=2 * part_size + 1,
                part_size_bytes=part_size,
                part_sha256=(_hex("a"), _hex("b"), _hex("c")),
                content_md5=None,
                metadata={},
                catalog_digest=None,
                pipeline_run="e" + "1" * 40,
                artifacts=(
                    Artifact(
                        reference="charts/hello:0.1.0",
                        digest="sha256:" + _hex("chart"),
                        media_type="application/vnd.oci.image.manifest.v1+json",
                        tags=("0.1.0", "latest"),
                    ),
                    Artifact(
                        reference=f"samples/signed@{digest}",
                        digest=digest,
                        media_type="application/vnd.oci.image.manifest.v1+json",
                        artifact_type="application/vnd.cncf.notary.signature",
                        subject="sha256:" + _hex("signed"),
                    ),
                ),
            ),
            TransferBlob(
                name="002",
                size_bytes=part_size,
                part_size_bytes=part_size,
                part_sha256=(_hex("d"),),
                content_md5="1B2M2Y8AsgTpgAmY7PhCfg==",
                metadata={"category": "acr-transfer-blob", "other": "x y"},
                catalog_digest="sha256:" + _hex("catalog 2"),
                pipeline_run="e" + "2" * 40,
                artifacts=(
                    Artifact(
                        reference="samples/app:2.0",
                        digest="sha256:" + _hex("index 2"),
                        media_type="application/vnd.oci.image.index.v1+json",
                        tags=("2.0",),
                    ),
                ),
            ),
        ),
        tool=TOOL,
        voids=(
            Void(sequence=2, reason="cancelled before it was sealed", who="caller: release-bot"),
            Void(sequence=3, reason="lost with its volume: Lübeck", who="olga"),
        ),
        requested_by="ada.lovelace@contoso.com",
    )


def imported_receipt() -> Receipt:
    """The target imported and proved the full manifest, after a check and a release."""
    payload = full_manifest().to_bytes()
    return Receipt(
        envelope_sha256=_hex("envelope"),
        incoming="fedcba9876543210fedcba9876543210/bundle-manifest.dsse.json",
        target=TARGET,
        decided_at=NOW,
        verdict=ReceiptVerdict.IMPORTED,
        code=None,
        detail="",
        transfer_id="fedcba9876543210fedcba9876543210",
        channel="prod",
        sequence=5,
        manifest_sha256=hashlib.sha256(payload).hexdigest(),
        policy_version=3,
        ledger=LedgerPosition.of(ledger_entry()),
        signers=(
            CountedKey(keyid=P384.public_key.keyid, role="source", scheme="ecdsa-sha2-nistp384"),
            CountedKey(keyid=MLDSA87.public_key.keyid, role="source", scheme="ml-dsa-87/1"),
        ),
        checks=(
            CheckResult(
                name="scan",
                passed=True,
                detail="0 findings",
                scanner="clamav 1.4",
                answer_sha256=_hex("answer"),
                checked_at=NOW,
                signers=(
                    CountedKey(keyid=SCANNER.public_key.keyid, role="scan", scheme=SCANNER.public_key.scheme),
                ),
            ),
        ),
        releases=(
            Release(
                keyid=OFFICER.public_key.keyid,
                holder=HOLDERS[OFFICER],
                role="officer",
                scheme="ecdsa-sha2-nistp384",
                released_at=NOW,
            ),
        ),
        artifacts=tuple(
            ArtifactProof(reference=a.reference, digest=a.digest, found=a.digest)
            for a in full_manifest().artifacts
        ),
        damages=(),
        damage_count=0,
        missing_sequences=(1,),
        tool=TOOL,
    )


def refused_receipt() -> Receipt:
    """The target refused an envelope before anything of it could be believed."""
    return replace(
        imported_receipt(),
        verdict=ReceiptVerdict.REFUSED,
        code=Code.SIGNER_UNKNOWN,
        detail=f"signed by key {STRANGER.public_key.keyid}",
        transfer_id=None,
        channel=None,
        sequence=None,
        manifest_sha256=None,
        ledger=None,
        signers=(),
        checks=(),
        releases=(),
        artifacts=(),
        missing_sequences=(),
    )


def damaged_receipt() -> Receipt:
    """Parts of the full manifest came damaged; its number is not used up."""
    return replace(
        imported_receipt(),
        verdict=ReceiptVerdict.DAMAGED,
        code=Code.PART_CORRUPT,
        detail="2 of 4 parts are damaged or missing",
        ledger=None,
        checks=(),
        releases=(),
        artifacts=(),
        damages=(
            Damage(code=Code.PART_CORRUPT, name="001/00000001.part", offset_bytes=0, size_bytes=4194304),
            Damage(code=Code.PART_MISSING, name="002/00000001.part", offset_bytes=0, size_bytes=4194304),
        ),
        damage_count=2,
    )


def partial_receipt() -> Receipt:
    """The import is not the bundle: of each artifact something is not there, and two came undeclared."""
    found = imported_receipt().artifacts
    return replace(
        imported_receipt(),
        verdict=ReceiptVerdict.PARTIAL,
        code=Code.UNDECLARED_ARTIFACTS,
        detail="2 artifacts, such as infra/shell:v1; 3 of 3 artifacts are not as signed",
        artifacts=(
            replace(found[0], missing_tags=("latest",)),
            replace(
                found[1],
                missing=(
                    MissingContent(kind="layer", digest=f"sha256:{_hex('layer')}"),
                    MissingContent(kind="referrer", digest=found[0].digest),
                ),
                missing_count=2,
            ),
            replace(found[2], found=None),
        ),
        undeclared=("infra/shell:v1",),
        undeclared_count=2,
    )


def ledger_entry() -> LedgerEntry:
    """The target took the full manifest's number."""
    return LedgerEntry(
        channel="prod",
        sequence=5,
        manifest_sha256=manifest_digest(full_manifest().to_bytes()),
        transfer_id="fedcba9876543210fedcba9876543210",
        owner="fedcba9876543210fedcba9876543210a1",
        taken_at=NOW,
    )


def recarry_request() -> RecarryRequest:
    """What the damaged receipt asks for."""
    manifest = full_manifest()
    request = recarry_from_receipt(damaged_receipt(), manifest, manifest_digest(manifest.to_bytes()))
    assert request is not None
    return request


def ticket() -> Ticket:
    """A drop ticket for the full manifest; its SAS prove nothing to anybody."""
    manifest = full_manifest()
    names = [*(blob.name for blob in manifest.blobs), ENVELOPE_NAME]
    return Ticket(
        kind=TicketKind.DROP,
        ticket_id=_hex("ticket")[:32],
        transfer_id=manifest.transfer_id,
        channel=manifest.channel,
        manifest_sha256=manifest_digest(manifest.to_bytes()),
        container_url="https://target.blob.core.windows.net/incoming",
        valid_from=NOW,
        expires_at=NOW + timedelta(hours=24),
        sas={name: f"sv=2026-10-06&spr=https&sr=b&sp=rc&sig=none-of-{name}" for name in names},
    )


def _ticket_blobs(change: Callable[[list[Any]], object]) -> bytes:
    blobs = json.loads(ticket().to_bytes())["blobs"]
    change(blobs)
    return changed(ticket().to_bytes(), blobs=blobs)


def guarded_manifest() -> BundleManifest:
    """The minimal manifest in the channel whose bundles must be released."""
    return replace(minimal_manifest(), channel="guarded")


def release_statement() -> ReleaseStatement:
    """The officer's word that the guarded manifest may be imported."""
    manifest = guarded_manifest()
    return ReleaseStatement(
        bundle=ReleasedBundle.of(manifest, manifest_digest(manifest.to_bytes()), target=TARGET),
        released_at=NOW,
        tool=Tool(name="offline-mover", version="0.1.0"),
    )


def check_question() -> CheckQuestion:
    """A check is asked about the two blobs of the full manifest."""
    manifest = full_manifest()
    return CheckQuestion(
        check="scan",
        import_id="import0123456789abcdef0123456789abcdef",
        transfer_id=manifest.transfer_id,
        channel=manifest.channel,
        sequence=manifest.sequence,
        manifest_sha256=manifest_digest(manifest.to_bytes()),
        blobs=tuple(
            CheckedBlob(
                name=f"00{number}",
                url=f"https://a.blob.core.windows.net/staging/x/00{number}",
                etag=f"0x{number}",
                size_bytes=10 * number,
            )
            for number in (1, 2)
        ),
    )


def check_answer() -> bytes:
    """It has no objection."""
    question = check_question()
    return dump_canonical(
        {
            "schema": 1,
            "manifestDigest": f"sha256:{question.manifest_sha256}",
            "blobs": [{"name": one.name, "etag": one.etag} for one in question.blobs],
            "verdict": "pass",
            "detail": "0 findings",
            "scanner": "clamav 1.4",
        }
    )


def check_statement() -> CheckStatement:
    """The same, to be signed."""
    question = check_question()
    return CheckStatement(
        check=question.check,
        import_id=question.import_id,
        finding=Finding(
            manifest_sha256=question.manifest_sha256,
            blobs=tuple((one.name, one.etag) for one in question.blobs),
            verdict="pass",
            detail="0 findings",
            scanner="clamav 1.4",
        ),
    )


def parity_layout() -> bytes:
    """Two stripes of two parts and one parity shard each, for the full manifest."""
    return ParityLayout(stripes=2, parity_shards=1).to_bytes(manifest_digest(full_manifest().to_bytes()))


BAG_TOOL = "1.0.0"
"""The version of the tool that the recorded bag was written by."""


def bag_files() -> dict[str, bag_texts.ListedFile]:
    """The payload of the recorded bag: the parts of the full manifest, and the shard of the first stripe."""
    parts = {
        part.name: bag_texts.ListedFile(sha256, part.size_bytes) for part, sha256 in full_manifest().parts()
    }
    return {**parts, "parity/00000000-00.parity": bag_texts.ListedFile(_hex("shard"), 4 * 1024 * 1024)}


def bag() -> dict[str, bytes]:
    """All tag files of the second of three volumes, the envelope last."""
    envelope = (FOLDER / "envelope-hybrid.dsse.json").read_bytes()
    contents = bag_texts.Contents(
        place=bag_texts.Place(number=2, of=3), files=bag_files(), layout=parity_layout()
    )
    with patch.object(bag_texts, "__version__", BAG_TOOL):
        texts = bag_texts.bag_texts(full_manifest(), envelope, contents, now=NOW)
    return {**texts, ENVELOPE_NAME: envelope}


def _bag_text(name: str, old: str = "", new: str = "") -> bytes:
    """A text of the bag, something in it written otherwise."""
    text = bag()[name].decode()
    assert old in text, f"{name} has no {old}"
    return text.replace(old, new, 1).encode()


def saved_plan() -> SavedPlan:
    """The full manifest on two volumes, parity on the second."""
    names = [part.name for part, _ in full_manifest().parts()]
    return SavedPlan(
        transfer_id="fedcba9876543210fedcba9876543210",
        manifest_sha256=manifest_digest(full_manifest().to_bytes()),
        volumes=(tuple(names), ("parity/00000000-00.parity", "parity/00000001-00.parity")),
        layout=ParityLayout(stripes=2, parity_shards=1),
    )


def custody_lines() -> list[bytes]:
    """Pulled, verified with a neighbour, and brought over from a side file."""
    mark = VolumeMark(label="BLÅ 1", serial="1A2B-3C4D", number=1, of=2)
    pulled = EventBody(
        action=Action.PULLED,
        at=NOW,
        who="olga",
        host="laptop-7",
        volume=mark,
        transfer_id="fedcba9876543210fedcba9876543210",
        manifest_sha256=manifest_digest(full_manifest().to_bytes()),
        counts={"parts": 4, "bytes": 12582913},
        tool=Tool(name="offline-mover", version="0.1.0"),
    )
    verified = replace(
        pulled, action=Action.VERIFIED, at=NOW + timedelta(hours=1), code="PART_CORRUPT", counts={}
    )
    merged = replace(verified, action=Action.MERGED, at=NOW + timedelta(hours=2), code=None, volume=None)
    seen = SeenLog(
        log_sha256=_hex("first line of the neighbour"),
        head=Head(count=7, sha256=_hex("its last line")),
        volume=replace(mark, label="BLÅ 2", number=2),
    )
    events = (
        CustodyEvent(number=1, previous_sha256=GENESIS.sha256, body=pulled),
        CustodyEvent(number=2, previous_sha256=GENESIS.sha256, body=verified, seen=(seen,)),
        CustodyEvent(number=3, previous_sha256=GENESIS.sha256, body=merged, recorded_as=_hex("aside")),
    )
    return chained([event.to_json() for event in events])


def chained(events: Iterable[dict[str, Any]]) -> list[bytes]:
    """Events as the lines of a log, each with the digest of the one before."""
    lines: list[bytes] = []
    previous = GENESIS.sha256
    for event in events:
        lines.append(dump_canonical({**event, "previous": previous}) + b"\n")
        previous = line_sha256(lines[-1])
    return lines


def custody_head(lines: Sequence[bytes]) -> Head:
    """The head file of a log."""
    return Head(count=len(lines), sha256=line_sha256(lines[-1]))


def _changed_lines(**changes: Any) -> list[bytes]:
    """The custody log with its second event changed, and chained as a newer tool would have."""
    events = [json.loads(line) for line in custody_lines()]
    events[1] |= changes
    return chained(events)


def journal() -> list[bytes]:
    """The first two entries of a transfer's journal."""
    entries = Journal(kind=Kind.TRANSFERS, about="fedcba9876543210fedcba9876543210")
    for state, facts in ((State.REQUESTED, {"channel": "prod"}), (State.PLANNED, {"batches": 2})):
        entry = entries.next(state, facts, by="caller:release-bot", at=NOW)
        assert entry is not None
        entries = entries.extended(entry)
    return [entry.to_bytes() for entry in entries.entries]


def changed(raw: bytes, predicate: dict[str, Any] | None = None, **members: Any) -> bytes:
    """A JSON document with other or further members, of itself or of its predicate."""
    document = json.loads(raw) | members
    if predicate:
        document["predicate"] |= predicate
    return dump_canonical(document)


def respelled(text: str, how: Callable[[str], str]) -> bytes:
    """The recorded Ed25519 envelope with its signature's base64 spelled in another way."""
    envelope = json.loads((FOLDER / text).read_bytes())
    signature = envelope["signatures"][0]
    signature["sig"] = how(signature["sig"])
    return dump_canonical(envelope) + b"\n"


def pae_vectors() -> bytes:
    """DSSE pre-authentication encodings, among them the specification's own and one beyond ASCII."""
    cases = [
        ("http://example.com/HelloWorld", b"hello world"),
        ("application/vnd.in-toto+json", b"{}"),
        ("", b""),
        ("application/x-ünïcode", "größe 雲".encode()),
    ]
    return dump_canonical(
        [
            {
                "payloadType": payload_type,
                "payloadHex": payload.hex(),
                "paeHex": DsseEnvelope(payload, payload_type, {}).pae().hex(),
            }
            for payload_type, payload in cases
        ]
    )


POLICY_FAULTS: dict[str, Callable[[Any], object]] = {
    "key-without-holder": lambda policy: policy["keys"][0].pop("holder"),
    "two-keys-of-one-holder": lambda policy: policy["channels"]["prod"]["bundleRoles"]["source"].update(
        threshold=2
    ),
    "holder-in-two-roles": lambda policy: policy["keys"][2].update(holder="source app"),
    "signer-of-receipts": lambda policy: policy["keys"][4].update(holder="source app"),
    "no-repositories": lambda policy: policy["channels"]["prod"].pop("repositories"),
    "part-of-a-segment": lambda policy: policy["channels"]["prod"].update(repositories=["team/app-*"]),
    "no-expiry": lambda policy: policy.pop("expiresAt"),
    "no-bound-of-jumps": lambda policy: policy["channels"]["prod"].pop("maxSequenceJump"),
}
"""What is wrong with a policy, by the name of its vector."""


def override() -> Override:
    """A permission for the full manifest to come late."""
    manifest = full_manifest()
    return Override(
        manifest_sha256=manifest_digest(manifest.to_bytes()),
        channel=manifest.channel,
        target=TARGET,
        lifts=frozenset({Code.EXPIRED, Code.SEQUENCE_GAP}),
        reason="the courier was held up for a month",
        expires_at=NOW + timedelta(days=7),
    )


def kept_signature() -> KeptSignature:
    """A signature that a person made of a bundle manifest, as the source keeps it."""
    signed = Envelope.from_bytes((FOLDER / "envelope-ed25519.dsse.json").read_bytes())
    ((keyid, signature),) = signed.signatures.items()
    return KeptSignature(keyid=keyid, signature=signature, by="ada@contoso.com", at=NOW)


def void_entry() -> VoidEntry:
    """A number that the source gave up, by the full manifest."""
    manifest = full_manifest()
    sha256 = manifest_digest(manifest.to_bytes())
    return VoidEntry(channel=manifest.channel, void=manifest.voids[0], manifest_sha256=sha256)


def policy_version() -> PolicyVersion:
    """Version 4, which follows the policy of the vectors and differs in its number only."""
    before = TrustPolicy.from_json(policy_json())
    policy = TrustPolicy.from_json(policy_json() | {"version": before.version + 1})
    return PolicyVersion(policy=policy, previous_sha256=before.sha256)


def used_policy() -> UsedPolicy:
    """The record that it was in force."""
    policy = policy_version().policy
    return UsedPolicy(version=policy.version, sha256=policy.sha256)


def _changed_policy(change: Callable[[Any], object]) -> bytes:
    policy = policy_json()
    change(policy)
    return dump_canonical(policy)


PAYLOADS: dict[str, Callable[[], bytes]] = {
    "manifest-minimal.json": lambda: minimal_manifest().to_bytes(),
    "manifest-full.json": lambda: full_manifest().to_bytes(),
    "receipt-imported.json": lambda: imported_receipt().to_bytes(),
    "receipt-refused.json": lambda: refused_receipt().to_bytes(),
    "receipt-damaged.json": lambda: damaged_receipt().to_bytes(),
    "receipt-partial.json": lambda: partial_receipt().to_bytes(),
    "release.json": lambda: release_statement().to_bytes(),
    "check-question.json": lambda: check_question().to_bytes(),
    "check-answer.json": check_answer,
    "check-statement.json": lambda: check_statement().to_bytes(),
    "policy.json": lambda: dump_canonical(policy_json()),
    "policy-version.json": lambda: policy_version().to_bytes(),
    "used-policy.json": lambda: used_policy().to_bytes(),
    "pae.json": pae_vectors,
    "ledger-entry.json": lambda: ledger_entry().to_bytes(),
    "override.json": lambda: override().to_bytes(),
    "void-entry.json": lambda: void_entry().to_bytes(),
    "kept-signature.json": lambda: kept_signature().to_bytes(),
    "recarry.json": lambda: recarry_request().to_bytes(),
    "ticket.json": lambda: ticket().to_bytes(),
    "parity.json": parity_layout,
    "plan.json": lambda: saved_plan().to_bytes(),
    "custody-log.jsonl": lambda: b"".join(custody_lines()),
    "custody-head.json": lambda: custody_head(custody_lines()).to_bytes(),
    "journal-1.json": lambda: journal()[0],
    "journal-2.json": lambda: journal()[1],
    **{f"bag/{name}": partial(_bag_text, name) for name in bag_texts.TEXT_FILES},
    # what a newer tool may write and this one reads as far as it can
    "newer/receipt-code.json": lambda: changed(
        refused_receipt().to_bytes(), predicate={"code": "QUANTUM_BROKEN"}
    ),
    "newer/custody-log-action.jsonl": lambda: b"".join(_changed_lines(event="teleported")),
    "newer/custody-log-code.jsonl": lambda: b"".join(_changed_lines(code="QUANTUM_BROKEN")),
    "newer/custody-log-schema.jsonl": lambda: b"".join(_changed_lines(schema=2, witness={"who": "eve"})),
    "newer/custody-head.json": lambda: (
        changed(custody_head(_changed_lines(schema=2, witness={"who": "eve"})).to_bytes(), schema=2, size=1)
        + b"\n"
    ),
    # what is refused, by the code
    **{
        f"refused/NEWER_FORMAT/{name}": make
        for name, make in {
            "statement.json": lambda: changed(
                minimal_manifest().to_bytes(), _type="https://in-toto.io/Statement/v2"
            ),
            "manifest.json": lambda: changed(
                minimal_manifest().to_bytes(), predicateType="urn:acr-airgap-transfer:bundle:v2"
            ),
            "receipt.json": lambda: changed(
                refused_receipt().to_bytes(), predicateType="urn:acr-airgap-transfer:receipt:v2"
            ),
            "release.json": lambda: changed(
                release_statement().to_bytes(), predicateType="urn:acr-airgap-transfer:release:v2"
            ),
            "check-answer.json": lambda: changed(check_answer(), schema=2),
            "check-statement.json": lambda: changed(
                check_statement().to_bytes(), predicateType="urn:acr-airgap-transfer:check:v2"
            ),
            "policy.json": lambda: changed(dump_canonical(policy_json()), schema=2, expires="2030"),
            "policy-version.json": lambda: changed(
                policy_version().to_bytes(), predicateType="urn:acr-airgap-transfer:trust-policy:v2"
            ),
            "used-policy.json": lambda: changed(used_policy().to_bytes(), schema=2),
            "ledger-entry.json": lambda: changed(ledger_entry().to_bytes(), schema=2),
            "void-entry.json": lambda: changed(void_entry().to_bytes(), schema=2),
            "kept-signature.json": lambda: changed(kept_signature().to_bytes(), schema=2),
            "override.json": lambda: changed(
                override().to_bytes(), predicateType="urn:acr-airgap-transfer:override:v2"
            ),
            "recarry.json": lambda: changed(recarry_request().to_bytes(), schema=2),
            "ticket.json": lambda: changed(ticket().to_bytes(), schema=2),
            "parity.json": lambda: changed(parity_layout(), schema=2),
            "plan.json": lambda: changed(saved_plan().to_bytes(), schema=2),
            "journal.json": lambda: changed(journal()[0], schema=2),
        }.items()
    },
    "refused/MANIFEST_MALFORMED/manifest-member.json": lambda: changed(
        minimal_manifest().to_bytes(), predicate={"notBefore": "2026-01-31T08:00:00Z"}
    ),
    "refused/OVERRIDE_MALFORMED/override-signature.json": lambda: changed(
        override().to_bytes(), predicate={"lifts": ["SIGNATURE_INVALID"]}
    ),
    "refused/OVERRIDE_MALFORMED/override-member.json": lambda: changed(
        override().to_bytes(), predicate={"again": True}
    ),
    "refused/MANIFEST_MALFORMED/void-entry-member.json": lambda: changed(void_entry().to_bytes(), note="x"),
    "refused/MANIFEST_MALFORMED/ledger-entry-member.json": lambda: changed(
        ledger_entry().to_bytes(), note="x"
    ),
    **{
        f"refused/POLICY_MALFORMED/policy-{name}.json": partial(_changed_policy, change)
        for name, change in POLICY_FAULTS.items()
    },
    "refused/POLICY_MALFORMED/policy-member.json": lambda: changed(dump_canonical(policy_json()), allow="*"),
    "refused/POLICY_MALFORMED/policy-version-member.json": lambda: changed(
        policy_version().to_bytes(), predicate={"lax": True}
    ),
    "refused/POLICY_MALFORMED/policy-version-subject.json": lambda: changed(
        policy_version().to_bytes(), subject=[{"name": "trust-policy.json", "digest": {"sha256": "0" * 64}}]
    ),
    "refused/POLICY_MALFORMED/used-policy-member.json": lambda: changed(used_policy().to_bytes(), note="x"),
    "refused/RECEIPT_MALFORMED/receipt-member.json": lambda: changed(
        refused_receipt().to_bytes(), predicate={"but": "held"}
    ),
    "refused/RECEIPT_MALFORMED/receipt-verdict.json": lambda: changed(
        refused_receipt().to_bytes(), predicate={"verdict": "held"}
    ),
    "refused/RELEASE_MALFORMED/release-member.json": lambda: changed(
        release_statement().to_bytes(), predicate={"unless": "it rains"}
    ),
    "refused/RELEASE_MALFORMED/release-type.json": lambda: changed(
        release_statement().to_bytes(), predicateType="urn:acr-airgap-transfer:bundle:v1"
    ),
    "refused/CHECK_MALFORMED/check-answer-other.json": lambda: changed(
        check_answer(), manifestDigest=f"sha256:{_hex('another bundle')}"
    ),
    "refused/CHECK_MALFORMED/check-answer-some.json": lambda: changed(
        check_answer(), blobs=json.loads(check_answer())["blobs"][:1]
    ),
    "refused/CHECK_MALFORMED/check-statement-member.json": lambda: changed(
        check_statement().to_bytes(), predicate={"unless": "it rains"}
    ),
    "refused/CHECK_MALFORMED/check-statement-type.json": lambda: changed(
        check_statement().to_bytes(), predicateType="urn:acr-airgap-transfer:release:v1"
    ),
    "refused/CHECK_MALFORMED/check-statement-verdict.json": lambda: changed(
        check_statement().to_bytes(), predicate={"verdict": "passed"}
    ),
    "refused/RECARRY_MALFORMED/recarry-member.json": lambda: changed(recarry_request().to_bytes(), note="x"),
    "refused/TICKET_MALFORMED/ticket-member.json": lambda: changed(ticket().to_bytes(), note="x"),
    "refused/TICKET_MALFORMED/ticket-name.json": lambda: _ticket_blobs(
        lambda blobs: blobs[0].update(name="../001")
    ),
    "refused/TICKET_MALFORMED/ticket-http.json": lambda: changed(
        ticket().to_bytes(), container="http://target.blob.core.windows.net/incoming"
    ),
    "refused/BAG_MALFORMED/parity-member.json": lambda: changed(parity_layout(), note="x"),
    **{
        f"refused/BAG_MALFORMED/{name.removesuffix('.txt')}-{what}.txt": partial(_bag_text, name, old, new)
        for name, what, old, new in (
            ("bagit.txt", "version", "1.0", "0.97"),
            ("bag-info.txt", "transfer", "fedcba98", "00000000"),
            ("bag-info.txt", "count", "2 of 3", "2"),
            ("bag-info.txt", "oxum", "Payload-Oxum: ", "Payload-Oxum: 1"),
            ("manifest-sha256.txt", "digest", _hex("b"), _hex("another part")),
            ("manifest-sha256.txt", "stranger", "", f"{_hex('stranger')}  data/001/00000099.part\n"),
            ("tagmanifest-sha256.txt", "name", ENVELOPE_NAME, "envelope.json"),
        )
    },
    "refused/USAGE/plan-member.json": lambda: changed(saved_plan().to_bytes(), note="x"),
    "refused/CUSTODY_BROKEN/custody-log-altered.jsonl": lambda: (
        custody_lines()[0] + _changed_lines(event="teleported")[1] + custody_lines()[2]
    ),
    "refused/JOURNAL_BROKEN/journal-member.json": lambda: changed(journal()[0], note="x"),
    "refused/ENVELOPE_MALFORMED/kept-signature-member.json": lambda: changed(
        kept_signature().to_bytes(), note="x"
    ),
    "refused/ENVELOPE_MALFORMED/envelope-padding.dsse.json": lambda: respelled(
        "envelope-ed25519.dsse.json", lambda sig: sig + "="
    ),
    "refused/ENVELOPE_MALFORMED/envelope-unused-bits.dsse.json": lambda: respelled(
        "envelope-ed25519.dsse.json", lambda sig: sig[:-3] + chr(ord(sig[-3]) + 1) + sig[-2:]
    ),
}

Signed = BundleManifest | ReleaseStatement | CheckStatement
ENVELOPES: dict[str, tuple[Callable[[], Signed], tuple[CryptoSigner, ...]]] = {
    "envelope-ed25519.dsse.json": (minimal_manifest, (ED25519,)),
    "envelope-p384.dsse.json": (minimal_manifest, (P384,)),
    "envelope-hybrid.dsse.json": (full_manifest, (P384, MLDSA87, ED25519, P256)),
    "envelope-release.dsse.json": (release_statement, (OFFICER,)),
    "envelope-check.dsse.json": (check_statement, (SCANNER,)),
}


def write(folder: Path) -> None:
    """Write every vector into ``folder``, recorded envelopes that still hold as they are."""
    for name, (statement, signers) in ENVELOPES.items():
        payload = statement().to_bytes()
        recorded = FOLDER / name
        is_kept = recorded.exists() and holds(recorded.read_bytes(), payload, signers)
        raw = recorded.read_bytes() if is_kept else Envelope.sign(payload, signers).to_bytes()
        _write(folder / name, raw)
    for name, make in PAYLOADS.items():
        _write(folder / name, make())


def holds(raw: bytes, payload: bytes, signers: Sequence[CryptoSigner]) -> bool:
    """Whether an envelope is what :meth:`Envelope.sign` makes, but for the randomness of signatures."""
    envelope = Envelope.from_bytes(raw)
    checks = envelope.check_signatures([signer.public_key for signer in signers])
    return (
        (envelope.payload, envelope.to_bytes()) == (payload, raw)
        and list(envelope.signatures) == [signer.public_key.keyid for signer in signers]
        and set(checks.values()) == {SignatureCheck.VALID}
    )


def differences(folder: Path) -> list[str]:
    """What is not as recorded between ``folder`` and the recorded vectors, byte for byte, as a diff."""
    lines: list[str] = []
    for name in sorted({*names(FOLDER), *names(folder)}):
        recorded, made = _read(FOLDER / name), _read(folder / name)
        if recorded != made:
            lines.append(f"{name} is not as recorded")
            lines += difflib.unified_diff(
                recorded.decode("utf-8", "backslashreplace").splitlines(),
                made.decode("utf-8", "backslashreplace").splitlines(),
                f"recorded/{name}",
                f"made/{name}",
                lineterm="",
            )
    return lines


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def names(folder: Path) -> set[str]:
    """The vectors in a folder, by their path below it."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix in {".json", ".jsonl", ".txt"}
    }


def _write(path: Path, raw: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)


def main(arguments: Sequence[str]) -> int:
    """Compare the recorded vectors with what is made today, or write them; 1 when they differ."""
    if arguments == ["--write"]:
        for name in names(FOLDER) - {*PAYLOADS, *ENVELOPES}:
            (FOLDER / name).unlink()
        write(FOLDER)
        return 0
    if arguments:
        sys.stderr.write("usage: vectors [--write]\n")
        return 2
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        found = differences(Path(folder))
    sys.stdout.writelines(f"{line}\n" for line in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
