"""The proof of a ``push``: parts that this run did not send itself are read back and compared.

The names of blocks hold the digests that they should have; the storage does not check it. Whoever may write
to the container can stage other bytes under these names, and a push that goes on would put the blob together
from them. So what this run did not send itself is read back, once, and compared with the signed digests.
After that the same person may still write: only the receipt of the target, which copies everything to where
nobody else writes before it hashes it, proves what was imported.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from airgap.damage import Damage
from airgap.errors import Code, ServiceError
from airgap.parts import SignedPart
from offline_mover.outcome import Finding
from offline_mover.parallel import in_lanes
from offline_mover.places import Places
from offline_mover.progress import Gauge, Meter
from offline_mover.storage.ports import ReadableContainer


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The result of reading parts back: how many are proven, what is wrong, why the rest is unproven."""

    proven: int = 0
    findings: tuple[Finding, ...] = ()
    unprovable: str = ""
    replaced: int = 0
    """How many wrong parts were replaced by those of the volumes."""
    etags: Mapping[str, str] = field(default_factory=dict)
    """By blob of the bundle manifest: the state in which it was read back."""


def prove(
    target: ReadableContainer,
    foreign: Mapping[str, Sequence[SignedPart]],
    name_of: Callable[[str], str],
    *,
    etags: Mapping[str, str],
    is_published: bool,
    connections: int,
    meter: Meter,
) -> Proof:
    """Read parts back from the storage, each pinned to the state in which its blob was found.

    Args:
        target: the container.
        foreign: the parts that this run did not send, by blob of the bundle manifest.
        name_of: a blob's name in the container.
        etags: the ETag of each blob that was there before this run, in the state that was compared with the
            signed one. The others are asked for theirs.
        is_published: whether the target may have taken blobs away by now; a missing one then proves nothing.
        connections: the most connections; a part is read over one, in pieces of a few MiB.
        meter: is told the bytes that were read.

    Raises:
        ServiceError: an outage, a blob that is gone (unless ``is_published``), or another refusal than that
            reading is not allowed.
        UntrustedInputError: ``BLOB_CHANGED``: somebody wrote to the blob meanwhile.
    """
    wanted = {name: parts for name, parts in foreign.items() if parts}
    if not wanted:
        return Proof()
    items = [item for parts in wanted.values() for item in parts]
    meter.start("reading back what others sent", sum(part.size_bytes for part, _ in items))
    found: dict[str, str] = {}
    places = Places(connections, meter=meter)

    def check(item: SignedPart) -> Finding | None:
        part, sha256 = item
        name, gauge = name_of(part.blob), meter.lane("storage", part.name)
        with places.place():
            for _ in range(2):  # once more before the storage is accused
                if _digest_of(target, name, item, found[part.blob], places.gauge(gauge)) == sha256:
                    return None
        detail = "the storage holds other bytes under its name, and this run did not send them"
        return Finding(damage=Damage.of_part(Code.BLOB_MISMATCH, part, detail))

    try:
        for name in wanted:
            found[name] = etags.get(name) or _etag(target, name_of(name))
        results = list(in_lanes(check, [items], concurrency=connections, meter=meter))
    except ServiceError as error:
        if error.code is not Code.SERVICE_DENIED and not (is_published and error.code is Code.NOT_FOUND):
            raise
        return Proof(unprovable=f"{error.code.name} {error.detail}".rstrip())
    findings = tuple(finding for finding in results if finding)
    return Proof(proven=len(results) - len(findings), findings=findings, etags=found)


def _etag(target: ReadableContainer, name: str) -> str:
    stored = target.describe(name)
    if stored is None:
        raise ServiceError(Code.NOT_FOUND, name)
    return stored.etag


def _digest_of(target: ReadableContainer, name: str, item: SignedPart, etag: str, gauge: Gauge) -> str:
    part, _ = item
    digest = hashlib.sha256()
    pieces = target.read_range(name, offset_bytes=part.offset_bytes, size_bytes=part.size_bytes, etag=etag)
    for piece in pieces:
        digest.update(piece)
        gauge.advance(len(piece))
    return digest.hexdigest()
