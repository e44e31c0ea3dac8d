"""The command ``push``: from any volumes into the target storage; the very bytes that are sent are checked.

A part becomes a block whose id holds the part's digest. The storage never takes a block that is not right
(:mod:`offline_mover.storage.part_stream`), a blob is committed only from all its parts, and the envelope is
written last. So volumes may come one by one, days apart: each run sends what the storage does not have, and
nothing half-done is ever visible. What the storage has from others than this run is read back before the
envelope is written (:mod:`offline_mover.commands.push_proof`).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from airgap.damage import Damage, gravest
from airgap.envelope import MAX_ENVELOPE_BYTES
from airgap.errors import AirgapError, Code, MediaError, ServiceError, UntrustedInputError
from airgap.fields import format_time
from airgap.manifest import ENVELOPE_NAME, TransferBlob
from airgap.parts import PartRange, SignedPart
from airgap.policy import TrustPolicy
from airgap.receipt import Receipt
from airgap.ticket import Ticket
from offline_mover.amounts import counted
from offline_mover.bags import checking
from offline_mover.bags.bag_group import BagGroup, open_group, volumes_with
from offline_mover.bags.bag_receipts import decision_of
from offline_mover.bags.volume_names import volumes_named
from offline_mover.commands.push_proof import Proof, prove
from offline_mover.custody import log as custody_log
from offline_mover.outcome import Finding, NextCommand, Outcome
from offline_mover.parallel import in_lanes
from offline_mover.places import Places
from offline_mover.progress import Meter
from offline_mover.storage.part_stream import PartDamagedError, PartStream
from offline_mover.storage.ports import Block, StoredBlob, WritableContainer

CUSTODY_FOLDER = "custody"
"""In the target container, beside the transfers; no bundle manifest is ever looked for there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """What the steps of one push have in common."""

    target: WritableContainer
    group: BagGroup
    connections: int
    meter: Meter
    ticket: Ticket | None
    places: Sequence[Places]
    """By the group's bags."""

    def may_replace(self, blob: TransferBlob) -> bool:
        """Whether parts of a blob that was put together may be replaced; of no ticket the storage says."""
        return self.ticket is None or self.ticket.allows(blob.name, "w")

    def name_of(self, name: str) -> str:
        """A blob's name in the container."""
        return f"{self.group.manifest.transfer_id}/{name}"


@dataclass(slots=True, kw_only=True)
class _Sent:
    """What became of the parts of one blob, or of all."""

    sent: int = 0
    skipped: int = 0
    not_here: list[PartRange] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    foreign: dict[str, list[SignedPart]] = field(default_factory=dict)
    """By blob, the parts of it that the storage had from others than this run when it was put together."""
    etags: dict[str, str] = field(default_factory=dict)
    """By blob that was there already: the state in which it was found to be the signed one."""

    def add(self, other: _Sent) -> None:
        self.sent += other.sent
        self.skipped += other.skipped
        self.not_here += other.not_here
        self.findings += other.findings
        self.foreign |= other.foreign
        self.etags |= other.etags


def push(
    target: WritableContainer,
    paths: Sequence[Path],
    *,
    transfer_id: str | None,
    policy: TrustPolicy,
    now: datetime,
    concurrency: int,
    meter: Meter,
    ticket: Ticket | None = None,
) -> Outcome:
    """Send the parts on these volumes; a second run sends only what the storage does not have.

    Exit codes: 0 when the bundle is complete in the storage, and what this run did not send was read back and
    is right, or could not be read back, as the outcome says then; ``BLOB_MISMATCH`` when it is not right, and
    nothing is published; ``VOLUME_MISSING`` when everything that is here was sent and other volumes are still
    to come. Not proven: that nobody writes to the storage afterwards; the target's receipt says that.

    Raises:
        AirgapError: a bag's envelope is not accepted, the storage refused, or it holds something else under
            this transfer's names. Blocks that were staged by then are kept for the next run.
        PolicyRefusal: ``TICKET_MISMATCH``: the ``ticket`` that the storage is shown is for another bundle.
    """
    group = _open(paths, transfer_id, ticket, policy=policy, now=now)
    lanes = len(group.bags)
    run = _Run(
        target=target,
        group=group,
        connections=concurrency,
        meter=meter,
        ticket=ticket,
        places=[Places(concurrency, lanes=lanes, meter=meter) for _ in range(lanes)],
    )
    undeclared = [Finding(damage=damage, volume=b.volume) for b in group.bags for damage in b.stock.damages]
    if undeclared:
        return _outcome(
            run, "other files are in the transfer's folder, nothing was sent", _Sent(findings=undeclared)
        )
    if (decision := decision_of(group.bags, policy=policy, now=now)) is not None:
        return _decided_already(run, *decision)
    is_published = _is_published(run)
    total = _Sent()
    for blob in group.manifest.blobs:
        total.add(_push_blob(run, blob, may_send=not is_published))
    if any(not finding.is_replaced for finding in total.findings) or total.not_here:
        return _outcome(run, _unfinished(run, total), total)
    proof = prove(
        target,
        total.foreign,
        run.name_of,
        etags=total.etags,
        is_published=is_published,
        connections=concurrency,
        meter=meter,
    )
    if proof.findings and not is_published:
        proof = _mend(run, total, proof)
    if proof.findings:
        total.findings += proof.findings
        return _outcome(run, _not_ours(proof), total, proof)
    if not is_published:
        _publish(run)
    done = f"{counted(total.sent, 'part')} sent, {_there(total)}{_told_of(proof)}"
    return _outcome(
        run, f"transfer {group.manifest.transfer_id} is whole in the target storage: {done}", total, proof
    )


def _open(
    paths: Sequence[Path],
    transfer_id: str | None,
    ticket: Ticket | None,
    *,
    policy: TrustPolicy,
    now: datetime,
) -> BagGroup:
    """The bags on the volumes, of the ticket's bundle; where they hold several transfers, it says which."""
    try:
        group = open_group(paths, transfer_id, policy=policy, now=now)
    except MediaError as error:
        if ticket is None or error.code is not Code.VOLUME_AMBIGUOUS:
            raise
        group = open_group(paths, ticket.transfer_id, policy=policy, now=now)
    if ticket is not None:
        ticket.require_bundle(group.manifest.transfer_id, group.verdict.manifest_sha256 or "")
    return group


def push_custody(
    target: WritableContainer, paths: Sequence[Path], transfer_id: str, side_dir: Path | None
) -> list[str]:
    """Send the target a copy of each volume's custody log, with side files of read-only media merged in.

    It lands as ``custody/<transferId>/<digest>.jsonl`` beside the transfers, and is what a log on a medium
    that was rewritten later can be held against.

    Returns:
        Warnings for the operator, one line each; the transfer itself does not depend on the copy.
    """
    notes: list[str] = []
    for path in paths:
        content = custody_log.load(path, side_dir).chained
        if not content:
            continue
        name = f"{CUSTODY_FOLDER}/{transfer_id}/{hashlib.sha256(content).hexdigest()[:32]}.jsonl"
        try:
            target.create_small(name, content)
        except AirgapError as error:
            if error.code is not Code.CONFLICT:  # the very same log is there already
                notes.append(f"custody log of {path}: not sent to the target: {error.code.name}")
    return notes


def block_id(part: PartRange, sha256: str) -> str:
    """The id of the block for a part, 52 characters, with the digest in it.

    Azure takes ids of up to 64 bytes, all of one blob equally long:
    https://learn.microsoft.com/rest/api/storageservices/put-block#uri-parameters
    """
    digest = base64.urlsafe_b64encode(bytes.fromhex(sha256)).decode("ascii").rstrip("=")
    return f"{part.number:08d}-{digest}"


def _blocks_of(blob: TransferBlob) -> list[Block]:
    return [
        Block(block_id=block_id(part, sha256), size_bytes=part.size_bytes) for part, sha256 in blob.parts()
    ]


def _is_published(run: _Run) -> bool:
    """Whether this very envelope is in the storage; another one under its name refuses the push."""
    name = run.name_of(ENVELOPE_NAME)
    try:
        held = run.target.read_small(name, max_bytes=MAX_ENVELOPE_BYTES)
    except UntrustedInputError as error:
        raise UntrustedInputError(Code.BLOB_MISMATCH, error.detail) from None
    if held is not None and held != run.group.bags[0].envelope:
        raise UntrustedInputError(Code.BLOB_MISMATCH, f"{name}: another bundle manifest is there already")
    return held is not None


def _push_blob(run: _Run, blob: TransferBlob, *, may_send: bool) -> _Sent:
    """Stage the parts that are missing in the storage, then commit, if every part is there."""
    name = run.name_of(blob.name)
    if (stored := run.target.describe(name)) is not None:
        _require_same(run, blob, stored)
        foreign = {blob.name: list(blob.parts())}
        return _Sent(skipped=len(blob.part_sha256), foreign=foreign, etags={blob.name: stored.etag})
    if not may_send:
        raise ServiceError(
            Code.CONFLICT,
            f"the bundle manifest is there, {name} is not: the target took it up; look for its receipt",
        )
    for is_again in (False, True):
        done = _stage_missing(run, blob)
        if done.not_here or any(not finding.is_replaced for finding in done.findings):
            return done
        try:
            if not _commit(run, blob):
                done.foreign[blob.name] = list(blob.parts())
        except ServiceError as error:
            # The storage drops blocks a week after they were staged: those are simply sent again.
            if error.code is not Code.SERVICE_REJECTED or is_again or not _lost_blocks(run, blob):
                raise
        else:
            break
    return done


def _mend(run: _Run, total: _Sent, proof: Proof) -> Proof:
    """Replace the parts that are wrong in the storage where the volumes have them; what is still wrong then.

    So the target asks for damaged parts only, and holds the rest. A blob is put together anew only from parts
    that this run sent and from those that it has just proven, in that very state.
    """
    left = {finding.damage.name: finding for finding in proof.findings}
    for blob in run.group.manifest.blobs:
        wrong = [signed for signed in total.foreign.get(blob.name, ()) if signed.part.name in left]
        if not wrong or not all(_holders(run.group, part) for part, _ in wrong) or not run.may_replace(blob):
            continue
        sent = [_send_part(run, blob, *signed) for signed in wrong]
        total.findings += [finding for _, findings in sent for finding in findings]
        if not all(is_sent for is_sent, _ in sent):
            continue
        run.target.replace_blocks(
            run.name_of(blob.name),
            [block.block_id for block in _blocks_of(blob)],
            replaced={block_id(part, sha256) for part, sha256 in wrong},
            etag=proof.etags[blob.name],
            content_md5=blob.content_md5,
            metadata=blob.metadata,
        )
        total.sent += len(wrong)
        total.skipped -= len(wrong)
        total.findings += [_replaced(left.pop(part.name)) for part, _ in wrong]
    replaced = len(proof.findings) - len(left)
    return replace(proof, findings=tuple(left.values()), replaced=replaced)


def _lost_blocks(run: _Run, blob: TransferBlob) -> set[Block]:
    return set(_blocks_of(blob)) - set(run.target.staged_blocks(run.name_of(blob.name)))


def _stage_missing(run: _Run, blob: TransferBlob) -> _Sent:
    staged = set(run.target.staged_blocks(run.name_of(blob.name)))
    missing = [
        item for item, block in zip(blob.parts(), _blocks_of(blob), strict=True) if block not in staged
    ]
    kept = [item for item, block in zip(blob.parts(), _blocks_of(blob), strict=True) if block in staged]
    done = _Sent(skipped=len(kept), foreign={blob.name: kept})
    lanes: dict[int, list[SignedPart]] = {index: [] for index in range(len(run.group.bags))}
    for signed in missing:
        part = signed.part
        holders = _holders(run.group, part)
        if holders:
            lanes[holders[0]].append(signed)
        elif any(bag.claims(part) for bag in run.group.bags):
            done.findings += _absences(run.group, part)
        else:
            done.not_here.append(part)
    sizes = {
        str(run.group.bags[index].volume): sum(part.size_bytes for part, _ in lane)
        for index, lane in lanes.items()
        if lane
    }
    title = f"sending blob {blob.name} of {len(run.group.manifest.blobs):03d}"
    run.meter.start(title, sum(sizes.values()), sizes, parts=sum(map(len, lanes.values())))

    def send(item: SignedPart) -> tuple[bool, list[Finding]]:
        return _send_part(run, blob, *item)

    for is_sent, findings in in_lanes(
        send, [lane for lane in lanes.values() if lane], concurrency=run.connections, meter=run.meter
    ):
        done.sent += is_sent
        done.findings += findings
    return done


def _holders(group: BagGroup, part: PartRange) -> list[int]:
    """Indexes of the bags that have a file of the right size for the part."""
    return [index for index, bag in enumerate(group.bags) if bag.part_damage(part) is None]


def _absences(group: BagGroup, part: PartRange) -> Iterator[Finding]:
    for bag in group.bags:
        if bag.claims(part) and (damage := bag.part_damage(part)):
            yield Finding(damage=damage, volume=bag.volume)


def _send_part(run: _Run, blob: TransferBlob, part: PartRange, sha256: str) -> tuple[bool, list[Finding]]:
    """Send a part from the first volume that has it whole; whether it was, and what was wrong on others."""
    findings: list[Finding] = []
    for index in _holders(run.group, part):
        bag = run.group.bags[index]
        with run.places[index].place():
            damage = _send_from(run, index, run.name_of(blob.name), part, sha256)
        if damage is None:
            return True, [_replaced(finding) for finding in findings]
        findings.append(Finding(damage=damage, volume=bag.volume))
    return False, findings


def _replaced(finding: Finding) -> Finding:
    return Finding(damage=finding.damage, volume=finding.volume, is_replaced=True)


def _send_from(run: _Run, index: int, name: str, part: PartRange, sha256: str) -> Damage | None:
    """Send one part from the bag of that index; a wrong one is read again, from the medium, before that."""
    bag = run.group.bags[index]
    path = bag.path_of(part.name)
    gauge = run.places[index].gauge(run.meter.lane(str(bag.volume), part.name))
    for _ in range(2):
        try:
            with PartStream.open(path, part, sha256, gauge) as stream:
                run.target.stage(name, block_id(part, sha256), stream)
        except PartDamagedError as error:
            found = checking.check_part(path, part, sha256, gauge, from_medium=True)
            if found is not None:
                return found
            last = error.damage
        else:
            return None
    return last


def _commit(run: _Run, blob: TransferBlob) -> bool:
    """Put the blob together; whether it was this run, for certain."""
    name = run.name_of(blob.name)
    try:
        run.target.commit(
            name,
            [block.block_id for block in _blocks_of(blob)],
            content_md5=blob.content_md5,
            metadata=blob.metadata,
        )
    except ServiceError as error:
        stored = run.target.describe(name) if error.code is Code.CONFLICT else None
        if stored is None:
            raise
        # Either the answer to our own commit got lost, or another run was faster: the same is fine.
        _require_same(run, blob, stored)
        return False
    return True


def _require_same(run: _Run, blob: TransferBlob, stored: StoredBlob) -> None:
    """Refuse a blob that is not provably ours.

    The evidence: its blocks carry the names that this tool gives to parts with the signed digests, in order
    and with the right sizes, and Content-MD5 and metadata are those of the bundle manifest. What is in them
    is read back afterwards.

    Raises:
        UntrustedInputError: ``BLOB_MISMATCH``: some of that is otherwise.
    """
    name = run.name_of(blob.name)
    if stored.size_bytes != blob.size_bytes:
        why = f"{stored.size_bytes} bytes, not {blob.size_bytes}"
    elif run.target.committed_blocks(name) != _blocks_of(blob):
        why = "it was not put together from the signed parts"
    elif stored.content_md5 != blob.content_md5:
        why = "its Content-MD5 is another"
    elif _folded(stored.metadata) != _folded(blob.metadata):
        why = "its metadata is other"
    else:
        return
    raise UntrustedInputError(
        Code.BLOB_MISMATCH, f"{name} is there already, and is not the signed one: {why}"
    )


def _folded(metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata names travel as HTTP headers: their case does not count."""
    return {name.casefold(): value for name, value in metadata.items()}


def _publish(run: _Run) -> None:
    try:
        run.target.create_small(run.name_of(ENVELOPE_NAME), run.group.bags[0].envelope)
    except ServiceError as error:
        if error.code is not Code.CONFLICT or not _is_published(run):
            raise


def _decided_already(run: _Run, volume: Path, receipt: Receipt) -> Outcome:
    """Nothing is sent: the target would refuse it as a replay. The receipt is on that volume."""
    when = format_time(receipt.decided_at)
    step = NextCommand(verb="receipts push", words={"volume": (str(volume),)})
    if receipt.is_imported:
        verdict = f"{receipt.target} has imported this bundle already, at {when}: nothing was sent"
        then = "Carry its receipt to the source and run there:"
        return replace(_outcome(run, verdict, _Sent()), next_step=then, next_command=step)
    why = f" ({receipt.code.name})" if receipt.code else ""
    decided = f"{receipt.target} has decided about this bundle already, at {when}"
    verdict = f"{decided}: {receipt.verdict.value}{why}; nothing was sent, it would be refused as a replay"
    outcome = replace(_outcome(run, verdict, _Sent()), code=Code.REPLAYED)
    then = "A new transfer brings what is missing. Carry this one's receipt to the source and run there:"
    return replace(outcome, next_step=then, next_command=step)


# --- telling ------------------------------------------------------------------------------------------------


def _unfinished(run: _Run, total: _Sent) -> str:
    staged = f"{counted(total.sent, 'part')} sent, {_there(total)}"
    damaged = len({finding.damage.name for finding in total.findings if not finding.is_replaced})
    if damaged:
        return f"{staged}; damaged parts: {damaged:,}; their blobs are not committed, the target sees nothing"
    return (
        f"{staged}; {counted(len(total.not_here), 'part')} on {_elsewhere(run, total)}; "
        "until they are sent too, the target sees nothing"
    )


def _there(total: _Sent) -> str:
    return counted(total.skipped, "was there", "were there")


def _elsewhere(run: _Run, total: _Sent) -> str:
    return volumes_named(volumes_with(run.group, {part.name for part in total.not_here})) or "other volumes"


def _not_ours(proof: Proof) -> str:
    return (
        f"parts in the storage that are not what was signed: {len(proof.findings)}; somebody else who may "
        "write there sent them; the bundle manifest is not published, the target sees nothing"
    )


def _told_of(proof: Proof) -> str:
    """What is known of the parts that this run did not send."""
    if proof.unprovable:
        return f"; those could not be read back and are not proven ({proof.unprovable})"
    right = ("of those was read back and is right", "of those were read back and are right")
    told = f"; {counted(proof.proven, *right)}" if proof.proven else ""
    wrong = (
        "part in the storage was not what was signed, and was replaced",
        "parts in the storage were not what was signed, and were replaced",
    )
    return f"{told}; {counted(proof.replaced, *wrong)}" if proof.replaced else told


_FOREIGN_BYTES = (
    "Somebody else holds rights to this container: have its SAS withdrawn and the transfer's blobs deleted "
    "there (docs/operations.md, An upload stays in incoming), then push again:"
)

_REPLACED_BYTES = (
    "Unless the target had called what was replaced damaged, somebody else holds rights to this container: "
    "have its SAS withdrawn."
)


def _next_step(
    run: _Run, total: _Sent, code: Code | None, proof: Proof | None
) -> tuple[str, NextCommand | None]:
    if proof is not None and proof.findings:
        return _FOREIGN_BYTES, NextCommand(verb="push")
    if code is Code.VOLUME_MISSING:
        return (
            f"Insert {_elsewhere(run, total)} and push within a week, so long the storage keeps the rest:",
            NextCommand(verb="push"),
        )
    if code is None:
        receipts = NextCommand(verb="receipts pull", words={"volume": (str(run.group.bags[0].volume),)})
        told = "The import starts by itself; only the receipt proves what was imported. Bring that, too:"
        if proof is not None and proof.replaced:
            told = f"{_REPLACED_BYTES} {told}"
        return told, receipts
    if any(finding.damage.offset_bytes is not None for finding in total.findings):
        verify = NextCommand.on("verify", [bag.volume for bag in run.group.bags])
        return "Run verify: it says whether repair can help, and writes recarry.json:", verify
    return f"{code.remedy} Then run it again:", NextCommand(verb="push")


def _outcome(run: _Run, verdict: str, total: _Sent, proof: Proof | None = None) -> Outcome:
    manifest = run.group.manifest
    code = gravest(finding.damage for finding in total.findings if not finding.is_replaced)
    if code is None and total.not_here:
        code = Code.VOLUME_MISSING
    next_step, next_command = _next_step(run, total, code, proof)
    return Outcome(
        command="push",
        code=code,
        verdict=verdict,
        next_step=next_step,
        next_command=next_command,
        transfer_id=manifest.transfer_id,
        manifest_sha256=run.group.verdict.manifest_sha256,
        signers=run.group.verdict.signers,
        counts={
            "parts": manifest.part_count,
            "bytes": manifest.size_bytes,
            "sentParts": total.sent,
            "skippedParts": total.skipped,
            "notHereParts": len(total.not_here),
            "provenParts": proof.proven if proof else 0,
            "replacedParts": proof.replaced if proof else 0,
        },
        findings=tuple(sorted(total.findings, key=lambda finding: finding.damage.name)),
        facts={
            "absentVolumes": list(run.group.absent),
            "notProven": (proof.unprovable or None) if proof else None,
        },
    )
