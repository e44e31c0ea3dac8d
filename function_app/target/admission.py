"""The target's admission, its first step: is this bundle manifest to be acted on?"""

import hashlib
from collections.abc import Iterator, Sequence

from airgap.envelope import MAX_ENVELOPE_BYTES, Envelope
from airgap.errors import Code, UntrustedInputError
from airgap.fields import parse_time
from airgap.manifest import Artifact, BundleManifest, TransferBlob
from airgap.policy import TrustPolicy
from airgap.states import DECIDED, Kind, State
from airgap.verify import Verdict
from function_app.journal.recording import BY_APP
from function_app.journal.store import JournalStore
from function_app.part_groups import Digests, parted
from function_app.ports import BlobStore, TargetSide
from function_app.storage.door import Door
from function_app.storage.ledger import Ledger
from function_app.storage.paths import INCOMING, LEDGER, WORK, manifest_path, upload_path
from function_app.storage.policies import policy_in_force
from function_app.storage.turns import Turns
from function_app.storage.work_folder import WorkFolder
from function_app.target.holding import take_over
from function_app.target.judging import judge_bundle, require_undecided
from function_app.target.wire import (
    Admitted,
    Declared,
    Judging,
    PolicyNote,
    SignerNote,
    Upload,
    VerdictNote,
)

VERDICT = "verdict"
_REFUSED_VERDICT = "refused-verdict"
"""Beside it: what is delivered twice may be refused once and accepted once; worked by is what accepted."""
JUDGED_BY = "judged-by/"
_LOOKUPS_PER_GROUP = 200
GROUPS_PER_DOCUMENT = 64
"""Up to 1,024 digests, 70 KB: an activity that reads 2 GiB reads this beside it."""


def admit_bundle(side: TargetSide, order: Judging) -> Admitted:
    """The activity that judges a bundle manifest that arrived, before anything else is looked at.

    The verdict is noted for the receipt, and the signed digests of the parts for the hashing. The ledger is
    read here, not written: a number is not used up by a bundle that turns out damaged.

    Raises:
        UntrustedInputError, PolicyRefusal: what :func:`judge_bundle` found; ``TRANSITION_REFUSED``: it was
            decided upon before, and this delivery is late.
    """
    found = None
    if not _is_superseded(side, order.instance):
        require_undecided(side, order.instance)
        found = _read_manifest(side, order)
    if found is None or hashlib.sha256(found[1]).hexdigest() != order.envelope_sha256:
        _withdraw(side, order)
        return Admitted(is_current=False)
    manifest_etag, raw = found
    verdict = judge_bundle(side, order, raw)
    _note(side, order, verdict, manifest_etag)
    manifest = verdict.require()
    ledger = Ledger(side.blobs)
    ledger.keep_envelope(order.envelope_sha256, raw)
    if _is_within_reach(side, manifest):
        ledger.enter_voids(manifest, str(verdict.manifest_sha256))
    work = WorkFolder(side.blobs, order.instance)
    note_expected(work, manifest)
    _note_declared(work, manifest)
    side.blobs.create(WORK, upload_path(order.incoming, order.instance), b"")
    take_over(side, order.incoming, order.instance, str(verdict.manifest_sha256), at=order.now)
    Turns(side.blobs, manifest.channel).enter(manifest.sequence, order.instance)
    facts = {
        "transferId": manifest.transfer_id,
        "channel": manifest.channel,
        "sequence": manifest.sequence,
        "requestedBy": manifest.requested_by,
        "manifestSha256": verdict.manifest_sha256,
        "policyVersion": verdict.policy_version,
        "keyids": [signer.keyid for signer in verdict.signers],
    }
    journals = JournalStore(side.blobs, side.projection)
    journals.record(Kind.IMPORTS, order.instance, State.ADMITTED, facts, by=BY_APP, at=parse_time(order.now))
    return Admitted()


def _is_superseded(side: TargetSide, instance: str) -> bool:
    """Whether it ended without a decision before, and was started anew by an event that had been held up."""
    journal = JournalStore(side.blobs, side.projection).read(Kind.IMPORTS, instance)
    is_decided = any(entry.state in DECIDED for entry in journal.entries)  # it was held for damage
    return journal.state is State.SUPERSEDED and not is_decided


def _is_within_reach(side: TargetSide, manifest: BundleManifest) -> bool:
    """Whether the number can be taken at all: what one that jumps too far calls void is not believed."""
    jump = policy_in_force(side).channels[manifest.channel].max_sequence_jump
    return manifest.sequence - max(Ledger(side.blobs).numbers(manifest.channel), default=0) <= jump


def _withdraw(side: TargetSide, order: Upload) -> None:
    """Give back what an admission that broke off has taken: another upload lies there now."""
    Door(side.blobs).leave(order.instance)
    side.blobs.delete(WORK, upload_path(order.incoming, order.instance))
    noted = noted_verdict(WorkFolder(side.blobs, order.instance))
    if noted is not None and noted.channel is not None:
        Turns(side.blobs, noted.channel).leave(order.instance)


def _read_manifest(side: TargetSide, order: Upload) -> tuple[str, bytes] | None:
    """ETag and content of the envelope, if it is no larger than any; ``None`` if it is gone or just replaced.

    The event's ETag is not asked for: the same bytes that were uploaded again are the same bundle manifest.
    """
    path = manifest_path(order.incoming)
    found = side.blobs.stat(INCOMING, path)
    if found is None:
        return None
    try:
        raw = side.blobs.read(INCOMING, path, max_bytes=MAX_ENVELOPE_BYTES, etag=found.etag)
    except UntrustedInputError as error:
        if error.code is Code.BLOB_CHANGED:
            return None
        raise
    return None if raw is None else (found.etag, raw)


def _note(side: TargetSide, order: Upload, verdict: Verdict, manifest_etag: str) -> None:
    """Keep for the receipt what a trusted signature vouches for."""
    manifest = verdict.manifest
    WorkFolder(side.blobs, order.instance).create(
        VERDICT if verdict.is_accepted else _REFUSED_VERDICT,
        VerdictNote(
            manifest_etag=manifest_etag,
            transfer_id=None if manifest is None else manifest.transfer_id,
            channel=None if manifest is None else manifest.channel,
            sequence=None if manifest is None else manifest.sequence,
            manifest_sha256=verdict.manifest_sha256,
            policy_version=verdict.policy_version,
            signers=tuple(
                SignerNote(keyid=one.keyid, role=one.role, scheme=one.scheme) for one in verdict.signers
            ),
        ),
    )


def noted_verdict(work: WorkFolder) -> VerdictNote | None:
    """The verdict noted by the delivery of the admission that accepted, or else by one that refused."""
    return work.find(VERDICT, VerdictNote) or work.find(_REFUSED_VERDICT, VerdictNote)


def judging_policy(side: TargetSide, work: WorkFolder) -> TrustPolicy:
    """The trust policy in force, by which a step judges now; its version is noted for a refusal's receipt.

    Raises:
        PolicyRefusal, UntrustedInputError, ServiceError: as :func:`policy_in_force`.
    """
    policy = policy_in_force(side)
    note_policy_version(work, policy.version, is_accepted=False)
    return policy


def note_policy_version(work: WorkFolder, version: int | None, *, is_accepted: bool) -> None:
    """Note for the receipt which policy version judged again, if a later one than at admission is in force.

    Each version has a document of its own, so that a step delivered once more, late, takes nothing back.
    """
    if version is not None and version > (work.get(VERDICT, VerdictNote).policy_version or 0):
        found = "accepted" if is_accepted else "asked"
        work.create(f"{JUDGED_BY}{found}/{version:010d}", PolicyNote(version=version))


def judged_last(work: WorkFolder, noted: VerdictNote, *, is_refused: bool) -> int | None:
    """The policy version that judged last: of all or, without a refusal, of those that accepted."""
    names = work.names(JUDGED_BY if is_refused else f"{JUDGED_BY}accepted/")
    return max((int(name.rpartition("/")[2]) for name in names), default=noted.policy_version)


def note_expected(work: WorkFolder, manifest: BundleManifest) -> None:
    """Write the signed digests into documents of some groups each, so that hashing reads no manifest."""
    for blob in manifest.blobs:
        for number, digests in enumerate(_documents(blob)):
            work.create(expected_document(blob.name, number), Digests(sha256=digests))


def _documents(blob: TransferBlob) -> Iterator[tuple[str, ...]]:
    size = GROUPS_PER_DOCUMENT * parted(blob.size_bytes, blob.part_size_bytes).group_size
    for start in range(0, len(blob.part_sha256), size):
        yield blob.part_sha256[start : start + size]


def _note_declared(work: WorkFolder, manifest: BundleManifest) -> None:
    """Write the declared artifacts down in groups of as many lookups as one activity makes."""
    for blob in manifest.blobs:
        for number, group in enumerate(lookup_groups(blob.artifacts)):
            declared = tuple(artifact.to_json() for artifact in group)
            work.create(f"{declared_folder(blob.name)}{number:06d}", Declared(artifacts=declared))


def lookup_groups(artifacts: Sequence[Artifact]) -> Iterator[tuple[Artifact, ...]]:
    """The artifacts in order, in groups of at most 200 lookups: one for each digest and one for each tag.

    An artifact with more tags than that has a group of its own.
    """
    group: list[Artifact] = []
    lookups = 0
    for artifact in artifacts:
        if group and lookups + 1 + len(artifact.tags) > _LOOKUPS_PER_GROUP:
            yield tuple(group)
            group, lookups = [], 0
        group.append(artifact)
        lookups += 1 + len(artifact.tags)
    if group:
        yield tuple(group)


def declared_folder(blob: str = "") -> str:
    """The prefix of the documents with the declared artifacts of a blob, or of all blobs."""
    return f"declared/{blob}/" if blob else "declared/"


def expected_document(blob: str, number: int) -> str:
    """The name of the ``number``-th document, from 0, of a blob's signed digests."""
    return f"expected/{blob}/{number:06d}"


def admitted_envelope(blobs: BlobStore, envelope_sha256: str) -> bytes:
    """The envelope that was admitted, from the app's own copy, which is named by its digest.

    Raises:
        UntrustedInputError: ``BLOB_CHANGED``: the copy is not what was admitted.
    """
    raw = Ledger(blobs).envelope(envelope_sha256)
    if hashlib.sha256(raw).hexdigest() != envelope_sha256:
        raise UntrustedInputError(Code.BLOB_CHANGED, f"{LEDGER}: the admitted bundle manifest")
    return raw


def admitted_manifest(blobs: BlobStore, envelope_sha256: str) -> BundleManifest:
    """The bundle manifest that was admitted; raises as :func:`admitted_envelope`."""
    return BundleManifest.from_bytes(Envelope.from_bytes(admitted_envelope(blobs, envelope_sha256)).payload)
