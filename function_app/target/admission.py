"""Target, first steps: is this bundle manifest to be acted on, and is all there that it speaks of?"""

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from airgap.damage import Damage, gravest
from airgap.envelope import MAX_ENVELOPE_BYTES, Envelope
from airgap.errors import Code, PolicyRefusal, UntrustedInputError
from airgap.fields import parse_time
from airgap.ledger import LedgerEntry, judge_sequence, judge_taken
from airgap.manifest import BundleManifest, TransferBlob
from airgap.parts import PartRange
from airgap.receipt import MAX_DAMAGES
from airgap.verify import Verdict, verify_bundle
from function_app.durable.outcomes import Outcome, ending
from function_app.hashing import hash_part
from function_app.ports import BlobStore, TargetSide
from function_app.storage.ledger import Ledger
from function_app.storage.paths import INCOMING, LEDGER, WORK, blob_path, manifest_path
from function_app.storage.work_folder import WorkFolder

_SUPERSEDED: Outcome = {"outcome": "superseded"}
_VERDICT = "verdict"
MISSING_SEQUENCES = "missing-sequences"
_MAX_OWNER_BYTES = 256


def admit_bundle(side: TargetSide, order: Mapping[str, Any]) -> Outcome:
    """Judge the bundle manifest that arrived, before anything else is looked at.

    ``{"incoming", "etag", "envelopeSha256", "instance", "now"}`` → ``admitted``; a refusal; or ``superseded``
    when the upload is gone or another by now, which then has an orchestration of its own. What was found out
    is noted for the receipt. The ledger is read here, not written: a number is not used up by a bundle that
    turns out damaged.
    """
    raw = _read_manifest(side, order)
    if raw is None or hashlib.sha256(raw).hexdigest() != order["envelopeSha256"]:
        return _SUPERSEDED
    verdict = verify_bundle(
        raw,
        policy=side.settings.trust_policy,
        now=parse_time(order["now"]),
        target=side.settings.registry_login_server,
    )
    try:
        if verdict.is_accepted:
            _judge_further(side, order, verdict)
    except (UntrustedInputError, PolicyRefusal) as refusal:
        _note(side, order, verdict)
        return ending(refusal.code, refusal.detail)
    _note(side, order, verdict)
    if verdict.code is not None:
        return ending(verdict.code, verdict.detail)
    Ledger(side.blobs).keep_envelope(order["envelopeSha256"], raw)
    return {"outcome": "admitted"}


def _read_manifest(side: TargetSide, order: Mapping[str, Any]) -> bytes | None:
    """The envelope, no larger than any valid one; ``None`` if it is gone or was replaced."""
    path = manifest_path(order["incoming"])
    try:
        return side.blobs.read(INCOMING, path, max_bytes=MAX_ENVELOPE_BYTES, etag=order["etag"])
    except UntrustedInputError as error:
        if error.code is Code.BLOB_CHANGED:
            return None
        raise


def _judge_further(side: TargetSide, order: Mapping[str, Any], verdict: Verdict) -> None:
    """What :func:`verify_bundle` leaves to its caller and can be told at once: the path, and a replay."""
    manifest = verdict.require()
    if manifest.transfer_id != order["incoming"]:
        raise UntrustedInputError(
            Code.BLOB_MISMATCH, f"signed for transfer {manifest.transfer_id}, uploaded as {order['incoming']}"
        )
    entry = Ledger(side.blobs).find(manifest.channel, manifest.sequence)
    if entry is not None:
        judge_taken(entry, manifest_sha256=str(verdict.manifest_sha256), owner=order["instance"])


def take_turn(side: TargetSide, order: Mapping[str, Any]) -> Outcome:
    """Wait for the channel, then judge replay and order: ``turn``, or ``pending`` while another has it.

    ``{"envelopeSha256", "instance"}``. One bundle of a channel at a time, from here until it is cleaned up:
    two that are pushed one after the other are imported in this order, however large they are, and no number
    is judged while another is being taken.
    """
    manifest = admitted_manifest(side.blobs, order["envelopeSha256"])
    instance = order["instance"].encode()
    name = turn_name(manifest.channel)
    if not side.blobs.create(WORK, name, instance):
        holder = side.blobs.read(WORK, name, max_bytes=_MAX_OWNER_BYTES)
        if holder != instance:
            return {"outcome": "pending"}
    side.blobs.put(WORK, claim_name(manifest.transfer_id), instance)
    work = WorkFolder(side.blobs, order["instance"])
    missing = _judge_ledger(side, order["instance"], manifest, work.get(_VERDICT)["manifestSha256"])
    work.create(MISSING_SEQUENCES, list(missing))
    return {"outcome": "turn"}


def turn_name(channel: str) -> str:
    """The blob that says which orchestration has the channel's turn."""
    return f"channels/{channel}/turn"


def _judge_ledger(
    side: TargetSide, instance: str, manifest: BundleManifest, manifest_sha256: str
) -> tuple[int, ...]:
    ledger = Ledger(side.blobs)
    entry = ledger.find(manifest.channel, manifest.sequence)
    if entry is not None:
        judge_taken(entry, manifest_sha256=manifest_sha256, owner=instance)
    others = [number for number in ledger.numbers(manifest.channel) if number != manifest.sequence]
    if entry is not None:  # ours, from an earlier execution: the order was judged then
        return ()
    return judge_sequence(manifest, side.settings.trust_policy.channels[manifest.channel].order, others)


def _note(side: TargetSide, order: Mapping[str, Any], verdict: Verdict) -> None:
    """Keep for the receipt what a trusted signature vouches for."""
    manifest = verdict.manifest
    WorkFolder(side.blobs, order["instance"]).create(
        _VERDICT,
        {
            "transferId": manifest and manifest.transfer_id,
            "channel": manifest and manifest.channel,
            "sequence": manifest and manifest.sequence,
            "manifestSha256": verdict.manifest_sha256,
            "signers": [{"keyid": s.keyid, "role": s.role, "scheme": s.scheme} for s in verdict.signers],
        },
    )


def claim_name(transfer_id: str) -> str:
    """The blob that says which orchestration has its turn with the upload of a transfer."""
    return f"importing/{transfer_id}/owner"


@lru_cache(maxsize=1)
def admitted_manifest(blobs: BlobStore, envelope_sha256: str) -> BundleManifest:
    """The manifest that was admitted: from our own copy, which is named by its digest.

    The last one stays in memory: a thousand activities ask for it.

    Raises:
        UntrustedInputError: ``BLOB_CHANGED`` if the copy is not what was admitted.
    """
    raw = Ledger(blobs).envelope(envelope_sha256)
    if hashlib.sha256(raw).hexdigest() != envelope_sha256:
        raise UntrustedInputError(Code.BLOB_CHANGED, f"{LEDGER}: the admitted bundle manifest")
    return BundleManifest.from_bytes(Envelope.from_bytes(raw).payload)


def inspect_blobs(side: TargetSide, order: Mapping[str, Any]) -> Outcome:
    """Compare the uploaded blobs' sizes with the signed ones.

    ``{"incoming", "envelopeSha256", "instance"}`` → ``inspected`` with, for each blob that is there, its ETag
    and how many of its parts can be hashed. Parts that cannot be there are noted as damage.
    """
    blobs = []
    damages: list[Damage] = []
    for blob in admitted_manifest(side.blobs, order["envelopeSha256"]).blobs:
        found = side.blobs.stat(INCOMING, blob_path(order["incoming"], blob.name))
        size_bytes = 0 if found is None else found.size_bytes
        lost = _lost_parts(blob, size_bytes)
        damages += lost
        if found is not None and size_bytes > blob.size_bytes:
            damages.append(
                Damage(
                    code=Code.BLOB_MISMATCH,
                    name=blob.name,
                    detail=f"{size_bytes} bytes, {blob.size_bytes} are signed",
                )
            )
        if found is not None:
            whole = len(blob.part_sha256) - len(lost)
            blobs.append(
                {
                    "blob": blob.name,
                    "etag": found.etag,
                    "parts": whole,
                    "partSizeBytes": blob.part_size_bytes,
                }
            )
    _note_damage(side, order, "sizes", damages)
    return {"outcome": "inspected", "blobs": blobs}


def _lost_parts(blob: TransferBlob, size_bytes: int) -> list[Damage]:
    """The parts that a blob of ``size_bytes`` cannot hold, or not wholly."""
    return [
        _damage(
            part,
            Code.PART_MISSING if part.offset_bytes >= size_bytes else Code.PART_TRUNCATED,
            f"the blob has {size_bytes} of {blob.size_bytes} bytes",
        )
        for part, _ in blob.parts()
        if part.offset_bytes + part.size_bytes > size_bytes
    ]


def hash_incoming_parts(side: TargetSide, order: Mapping[str, Any]) -> Outcome:
    """Digest a group of parts of an uploaded blob and compare with the signed digests.

    ``{"incoming", "envelopeSha256", "instance", "blob", "etag", "first", "count"}`` → ``hashed``; damage is
    noted, also that the blob was written to meanwhile.
    """
    manifest = admitted_manifest(side.blobs, order["envelopeSha256"])
    blob = next(blob for blob in manifest.blobs if blob.name == order["blob"])
    expected = list(blob.parts())[order["first"] - 1 : order["first"] - 1 + order["count"]]
    path = blob_path(order["incoming"], blob.name)
    damages = []
    for part, sha256 in expected:
        try:
            actual = hash_part(side.blobs, INCOMING, path, etag=order["etag"], part=part)
        except UntrustedInputError as error:
            damages.append(_damage(part, error.code, error.detail))
            break  # whatever follows is of another state of the blob too
        if actual != sha256:
            damages.append(_damage(part, Code.PART_CORRUPT, f"sha256:{actual}, sha256:{sha256} is signed"))
    _note_damage(side, order, f"{blob.name}-{order['first']:06d}", damages)
    return {"outcome": "hashed"}


def _damage(part: PartRange, code: Code, detail: str) -> Damage:
    return Damage(
        code=code,
        name=part.name,
        detail=detail,
        offset_bytes=part.offset_bytes,
        size_bytes=part.size_bytes,
    )


def _note_damage(side: TargetSide, order: Mapping[str, Any], name: str, damages: list[Damage]) -> None:
    if damages:
        document = {
            "count": len(damages),
            "damages": [damage.to_json() for damage in damages[:MAX_DAMAGES]],
            "gravest": getattr(gravest(damages), "name", None),
        }
        WorkFolder(side.blobs, order["instance"]).put(f"damage/{name}", document)


def accept_bundle(side: TargetSide, order: Mapping[str, Any]) -> Outcome:
    """With every part hashed: refuse for any damage, or else take the manifest's number.

    ``{"envelopeSha256", "instance", "now"}`` → ``accepted``. From here on this number is used up, whatever
    becomes of the import: only this orchestration may still act on it.
    """
    work = WorkFolder(side.blobs, order["instance"])
    manifest = admitted_manifest(side.blobs, order["envelopeSha256"])
    notes = list(work.all("damage/"))
    if notes:
        count = sum(note["count"] for note in notes)
        code = min((Code[note["gravest"]] for note in notes), key=lambda one: one.exit_code)
        return ending(code, f"{count} of {manifest.part_count} parts are damaged or missing")
    verdict = work.get(_VERDICT)
    try:
        _judge_ledger(side, order["instance"], manifest, verdict["manifestSha256"])
        entry = LedgerEntry(
            channel=manifest.channel,
            sequence=manifest.sequence,
            manifest_sha256=verdict["manifestSha256"],
            transfer_id=manifest.transfer_id,
            owner=order["instance"],
            taken_at=parse_time(order["now"]),
        )
        holder = Ledger(side.blobs).take(entry)
        judge_taken(holder, manifest_sha256=entry.manifest_sha256, owner=entry.owner)
    except PolicyRefusal as refusal:
        return ending(refusal.code, refusal.detail)
    return {"outcome": "accepted"}
