"""The command ``list``: which transfers are in a storage or on volumes, how large, for whom, until when.

Nothing is read of their parts.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from airgap import fields
from airgap.envelope import MAX_ENVELOPE_BYTES
from airgap.errors import AirgapError, Code, MediaError, ServiceError, UntrustedInputError
from airgap.fields import format_time
from airgap.manifest import ENVELOPE_NAME
from airgap.policy import TrustPolicy
from airgap.verify import Verdict, verify_bundle
from offline_mover import amounts
from offline_mover.amounts import counted
from offline_mover.bags.bag import open_bag, read_envelope
from offline_mover.bags.volumes import transfers_on
from offline_mover.outcome import NextCommand, Outcome, Placeholder
from offline_mover.storage.ports import ReadableContainer

MAX_NAMES = 50_000
"""Of a container; what comes after them is not looked at, and said so."""
MAX_TRANSFERS = 500
_DAY_S = 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listed:
    """One transfer at one place; ``verdict`` is ``None`` where there is no bundle manifest to judge."""

    transfer_id: str
    where: str
    verdict: Verdict | None
    place: str | None = None
    """Which volume of how many."""
    here_bytes: int | None = None
    """Of parts and shards on the volume."""
    is_carried: bool = False
    """Whether ``where`` is a volume; else it is a container."""

    @property
    def state(self) -> str:
        if self.verdict is None:
            return "unfinished"
        return "ready" if self.verdict.is_accepted else "refused"

    def line(self, now: datetime) -> str:
        """What a person is told, of a volume with its path."""
        return f"{self.where}: {self._told(now)}" if self.is_carried else self._told(now)

    def _told(self, now: datetime) -> str:
        if self.verdict is None:
            return f"{self.transfer_id}: no bundle manifest yet, its export or push is not finished"
        manifest, code = self.verdict.manifest, self.verdict.code
        words = []
        if code is not None:
            words.append(f"refused, {code.name} {self.verdict.detail}".rstrip())
        if manifest is not None:
            days = int((manifest.expires_at - now).total_seconds() // _DAY_S)
            left = f"{counted(days, 'day')} left" if manifest.expires_at > now else "expired"
            words += [
                f"channel {manifest.channel} no. {manifest.sequence:,}",
                f"{amounts.size(manifest.size_bytes)} in {counted(manifest.part_count, 'part')}",
                f"for {', '.join(manifest.audience[:3])}",
                f"until {format_time(manifest.expires_at)} ({left})",
            ]
        if self.here_bytes is not None:
            words.append(f"{self.place or 'a volume'}, {amounts.size(self.here_bytes)} on it")
        return f"{self.transfer_id}: {'; '.join(words)}"

    def to_json(self) -> dict[str, Any]:
        """One element of ``transferList``."""
        verdict = self.verdict
        manifest = None if verdict is None else verdict.manifest
        return {
            "transferId": self.transfer_id,
            "where": self.where,
            "state": self.state,
            "refusal": None if verdict is None or verdict.code is None else verdict.code.name,
            "manifestDigest": verdict and verdict.manifest_sha256 and f"sha256:{verdict.manifest_sha256}",
            "channel": manifest and manifest.channel,
            "sequence": manifest and manifest.sequence,
            "bytes": manifest and manifest.size_bytes,
            "parts": manifest and manifest.part_count,
            "audience": manifest and list(manifest.audience),
            "createdAt": manifest and format_time(manifest.created_at),
            "expiresAt": manifest and format_time(manifest.expires_at),
            "volume": self.place,
            "bytesHere": self.here_bytes,
        }


def list_stored(source: ReadableContainer, where: str, *, policy: TrustPolicy, now: datetime) -> Outcome:
    """List the transfers in a container: ``transfer`` of the source, or ``incoming`` of the target.

    Args:
        source: the container; its SAS needs r and l.
        where: the container's URL, for the words.
        policy: the trust policy by which bundle manifests are judged.
        now: the current time, aware.

    Not checked: the blobs. Their names are counted up to 50,000, of at most 500 transfers.

    Raises:
        ServiceError: ``NOT_FOUND``: there are none; or the storage refused.
    """
    names = source.list_names("", most=MAX_NAMES + 1)
    folders = {name.partition("/")[0] for name in names[:MAX_NAMES] if "/" in name}
    ids = sorted(folder for folder in folders if fields.TRANSFER_ID.fullmatch(folder))
    if not ids:
        raise ServiceError(Code.NOT_FOUND, f"{where}: no transfers")
    known = set(names)
    listed = []
    for one in ids[:MAX_TRANSFERS]:
        has_manifest = f"{one}/{ENVELOPE_NAME}" in known
        verdict = _stored(source, one, policy, now) if has_manifest else None
        listed.append(_Listed(transfer_id=one, where=where, verdict=verdict))
    is_cut = len(names) > MAX_NAMES or len(ids) > MAX_TRANSFERS
    return _outcome(listed, where, now, is_cut=is_cut)


def _stored(
    source: ReadableContainer, transfer_id: str, policy: TrustPolicy, now: datetime
) -> Verdict | None:
    try:
        raw = source.read_small(f"{transfer_id}/{ENVELOPE_NAME}", max_bytes=MAX_ENVELOPE_BYTES)
    except UntrustedInputError as error:
        return _refusal(error)
    return None if raw is None else _judge(raw, transfer_id, policy, now)


def list_carried(volumes: Sequence[Path], *, policy: TrustPolicy, now: datetime) -> Outcome:
    """List the transfers on volumes: what is signed, and how much of it lies there.

    Not checked: the parts; ``verify`` does.

    Raises:
        MediaError: ``VOLUME_EMPTY``: there are no transfers; ``VOLUME_NOT_FOUND``, ``MEDIA_UNREADABLE``: a
            volume is not there, or does not answer.
    """
    pairs = ((volume, one) for volume in volumes for one in transfers_on(volume))
    listed = [_carried(volume, one, policy, now) for volume, one in itertools.islice(pairs, MAX_TRANSFERS)]
    told = ", ".join(str(volume) for volume in volumes)
    if not listed:
        raise MediaError(Code.VOLUME_EMPTY, f"{told}: no transfers")
    return _outcome(listed, told, now, is_cut=len(listed) == MAX_TRANSFERS)


def _carried(volume: Path, transfer_id: str, policy: TrustPolicy, now: datetime) -> _Listed:
    where = str(volume)
    try:
        verdict = _judge(read_envelope(volume / transfer_id), transfer_id, policy, now)
        if not verdict.is_accepted:
            return _Listed(transfer_id=transfer_id, where=where, verdict=verdict, is_carried=True)
        bag = open_bag(volume, transfer_id, policy=policy, now=now)
    except AirgapError as error:
        return _Listed(transfer_id=transfer_id, where=where, verdict=_refusal(error), is_carried=True)
    return _Listed(
        transfer_id=transfer_id,
        where=where,
        verdict=verdict,
        place=None if bag.place is None else f"volume {bag.place}",
        here_bytes=sum(bag.payload_sizes.values()),
        is_carried=True,
    )


def _judge(envelope: bytes, transfer_id: str, policy: TrustPolicy, now: datetime) -> Verdict:
    verdict = verify_bundle(envelope, policy=policy, now=now)
    manifest = verdict.manifest
    if manifest is not None and manifest.transfer_id != transfer_id:
        return _refusal(
            UntrustedInputError(Code.BLOB_MISMATCH, f"it is the bundle manifest of {manifest.transfer_id}")
        )
    return verdict


def _refusal(error: AirgapError) -> Verdict:
    return Verdict(code=error.code, detail=error.detail, manifest=None, manifest_sha256=None, signers=())


def _outcome(listed: Sequence[_Listed], where: str, now: datetime, *, is_cut: bool) -> Outcome:
    by_state: dict[str, set[str]] = {"ready": set(), "refused": set(), "unfinished": set()}
    for one in listed:
        by_state[one.state].add(one.transfer_id)
    counts = {state: len(ids) for state, ids in by_state.items()}
    transfers = len({one.transfer_id for one in listed})
    told = ", ".join(f"{count:,} {state}" for state, count in counts.items() if count)
    more = "; there is more, which was not looked at" if is_cut else ""
    follow, step = _next_step([one for one in listed if one.state == "ready"])
    return Outcome(
        command="list",
        code=None,
        verdict=f"{counted(transfers, 'transfer')} at {where}: {told}{more}",
        next_step=follow,
        next_command=step,
        counts={"transfers": transfers, **counts},
        facts={"transferList": [one.to_json() for one in listed], "isCut": is_cut},
        lines=tuple(one.line(now) for one in listed),
    )


def _next_step(ready: Sequence[_Listed]) -> tuple[str, NextCommand | None]:
    """What the operator does with the transfers that can be used; of several, with the one that is chosen."""
    if not ready:
        return "Nothing here is ready: each line says why.", None
    is_one = len({one.transfer_id for one in ready}) == 1
    if ready[0].is_carried:
        step = NextCommand.on("verify", dict.fromkeys(one.where for one in ready))
        chosen = step if is_one else replace(step, options={"transfer": Placeholder("ID")})
        return "Check the parts:" if is_one else "Check the parts of one of them:", chosen
    address = f"{ready[0].where}/{ready[0].transfer_id if is_one else Placeholder('ID')}"
    step = NextCommand(verb="plan", words={"source": (address if is_one else Placeholder(address),)})
    return "See what it needs, then pull it:" if is_one else "See what one of them needs, then pull it:", step
