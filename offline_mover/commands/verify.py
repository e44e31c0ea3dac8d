"""``verify``: is what the volume holds the signed bundle, all of it and nothing else?"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from airgap.damage import Damage, gravest
from airgap.parts import PartRange
from airgap.policy import TrustPolicy
from offline_mover import volume as volumes
from offline_mover.parallel import in_parallel
from offline_mover.progress import Meter
from offline_mover.report import Outcome


def verify(
    volume: Path,
    *,
    transfer_id: str | None,
    policy: TrustPolicy,
    now: datetime,
    concurrency: int,
    meter: Meter,
) -> Outcome:
    """Check one bag on ``volume``, without network; all damage is found in one pass.

    Raises:
        AirgapError: the bag could not be found, or its envelope is not accepted; then no part was looked at,
            since nothing says which parts there should be.
    """
    checked = volumes.open_bag(volumes.find_bag(volume, transfer_id), policy=policy, now=now)
    manifest = checked.manifest
    stock = volumes.take_stock(checked.folder, manifest)
    damages = [*stock.damages, *volumes.check_tag_files(checked, stock)]
    damaged_sizes = {part.name: volumes.size_damage(part, stock) for part, _ in manifest.parts()}
    damages += [damage for damage in damaged_sizes.values() if damage]

    def check(item: tuple[PartRange, str]) -> Damage | None:
        part, sha256 = item
        return volumes.check_part(checked.path_of(part), part, sha256, meter)

    to_hash = [(part, sha256) for part, sha256 in manifest.parts() if damaged_sizes[part.name] is None]
    meter.start("verifying", sum(part.size_bytes for part, _ in to_hash))
    damages += [
        damage for damage in in_parallel(check, to_hash, concurrency=concurrency, meter=meter) if damage
    ]
    damages.sort(key=lambda damage: damage.name)
    code = gravest(damages)
    whole = f"{manifest.part_count} parts, {manifest.size_bytes} bytes of transfer {manifest.transfer_id}"
    return Outcome(
        command="verify",
        code=code,
        verdict=f"findings: {len(damages)}, in {whole}"
        if code
        else f"{whole} are what was signed for {', '.join(manifest.audience)}, and nothing else is there",
        next_step=code.remedy if code else "Carry the volume on, or push it.",
        transfer_id=manifest.transfer_id,
        manifest_sha256=checked.verdict.manifest_sha256,
        signers=checked.verdict.signers,
        counts={
            "parts": manifest.part_count,
            "bytes": manifest.size_bytes,
            "damagedParts": _parts_in(damages),
        },
        damages=tuple(damages),
    )


def _parts_in(damages: list[Damage]) -> int:
    return sum(damage.offset_bytes is not None for damage in damages)
