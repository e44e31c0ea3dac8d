"""Target, first step: is this bundle manifest to be acted on?"""

import hashlib
from collections.abc import Iterator

from airgap.envelope import MAX_ENVELOPE_BYTES, Envelope
from airgap.errors import Code, PolicyRefusal, UntrustedInputError
from airgap.fields import parse_time
from airgap.ledger import judge_taken
from airgap.manifest import BundleManifest, TransferBlob
from airgap.states import Kind, State
from airgap.verify import Verdict, verify_bundle
from function_app.durable.outcomes import Failed, Refused, ending
from function_app.journal.recording import BY_APP
from function_app.journal.store import JournalStore
from function_app.part_groups import Digests, parted
from function_app.ports import BlobStore, TargetSide
from function_app.storage.ledger import Ledger
from function_app.storage.paths import INCOMING, LEDGER, manifest_path
from function_app.storage.turns import Turns
from function_app.storage.work_folder import WorkFolder
from function_app.target.wire import Admitted, Judging, SignerNote, Upload, VerdictNote

VERDICT = "verdict"
GROUPS_PER_DOCUMENT = 64
"""Up to 1,024 digests, 70 KB: an activity that reads 2 GiB reads this beside it."""


def admit_bundle(side: TargetSide, order: Judging) -> Admitted | Refused | Failed:
    """Judge the bundle manifest that arrived, before anything else is looked at.

    What was found out is noted for the receipt, and what is expected of each part for the hashing. The ledger
    is read here, not written: a number is not used up by a bundle that turns out damaged.
    """
    raw = _read_manifest(side, order)
    if raw is None or hashlib.sha256(raw).hexdigest() != order.envelope_sha256:
        return Admitted(is_current=False)
    verdict = verify_bundle(
        raw,
        policy=side.settings.trust_policy,
        now=parse_time(order.now),
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
    manifest = verdict.require()
    Ledger(side.blobs).keep_envelope(order.envelope_sha256, raw)
    _note_expected(WorkFolder(side.blobs, order.instance), manifest)
    Turns(side.blobs, manifest.channel).enter(manifest.sequence, order.instance)
    facts = {
        "transferId": manifest.transfer_id,
        "channel": manifest.channel,
        "sequence": manifest.sequence,
        "manifestSha256": verdict.manifest_sha256,
        "keyids": [signer.keyid for signer in verdict.signers],
    }
    journals = JournalStore(side.blobs, side.projection)
    journals.record(Kind.IMPORTS, order.instance, State.ADMITTED, facts, by=BY_APP, at=parse_time(order.now))
    return Admitted()


def _read_manifest(side: TargetSide, order: Upload) -> bytes | None:
    """The envelope, no larger than any valid one; ``None`` if it is gone or was replaced."""
    path = manifest_path(order.incoming)
    try:
        return side.blobs.read(INCOMING, path, max_bytes=MAX_ENVELOPE_BYTES, etag=order.manifest_etag)
    except UntrustedInputError as error:
        if error.code is Code.BLOB_CHANGED:
            return None
        raise


def _judge_further(side: TargetSide, order: Upload, verdict: Verdict) -> None:
    """What :func:`verify_bundle` leaves to its caller and can be told at once: the path, and a replay."""
    manifest = verdict.require()
    if manifest.transfer_id != order.incoming:
        raise UntrustedInputError(
            Code.BLOB_MISMATCH, f"signed for transfer {manifest.transfer_id}, uploaded as {order.incoming}"
        )
    entry = Ledger(side.blobs).find(manifest.channel, manifest.sequence)
    if entry is not None:
        judge_taken(entry, manifest_sha256=str(verdict.manifest_sha256), owner=order.instance)


def _note(side: TargetSide, order: Upload, verdict: Verdict) -> None:
    """Keep for the receipt what a trusted signature vouches for."""
    manifest = verdict.manifest
    WorkFolder(side.blobs, order.instance).create(
        VERDICT,
        VerdictNote(
            transfer_id=None if manifest is None else manifest.transfer_id,
            channel=None if manifest is None else manifest.channel,
            sequence=None if manifest is None else manifest.sequence,
            manifest_sha256=verdict.manifest_sha256,
            policy_version=side.settings.trust_policy.version,
            signers=tuple(
                SignerNote(keyid=one.keyid, role=one.role, scheme=one.scheme) for one in verdict.signers
            ),
        ),
    )


def _note_expected(work: WorkFolder, manifest: BundleManifest) -> None:
    """Write the signed digests down in documents of some groups each, so that hashing reads no manifest."""
    for blob in manifest.blobs:
        for number, digests in enumerate(_documents(blob)):
            work.create(expected_document(blob.name, number), Digests(sha256=digests))


def _documents(blob: TransferBlob) -> Iterator[tuple[str, ...]]:
    size = GROUPS_PER_DOCUMENT * parted(blob.size_bytes, blob.part_size_bytes).group_size
    for start in range(0, len(blob.part_sha256), size):
        yield blob.part_sha256[start : start + size]


def expected_document(blob: str, number: int) -> str:
    """Name of the ``number``-th document of a blob's signed digests, from 0."""
    return f"expected/{blob}/{number:06d}"


def admitted_manifest(blobs: BlobStore, envelope_sha256: str) -> BundleManifest:
    """The manifest that was admitted: from our own copy, which is named by its digest.

    Raises:
        UntrustedInputError: ``BLOB_CHANGED`` if the copy is not what was admitted.
    """
    raw = Ledger(blobs).envelope(envelope_sha256)
    if hashlib.sha256(raw).hexdigest() != envelope_sha256:
        raise UntrustedInputError(Code.BLOB_CHANGED, f"{LEDGER}: the admitted bundle manifest")
    return BundleManifest.from_bytes(Envelope.from_bytes(raw).payload)
