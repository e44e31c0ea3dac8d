"""The command ``verify``: is what the volumes hold the signed bundle, all of it and nothing else?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from airgap.damage import Damage
from airgap.errors import Code, UntrustedInputError
from airgap.manifest import ENVELOPE_NAME
from airgap.policy import TrustPolicy
from airgap.recarry import REQUEST_NAME, RecarryRequest
from offline_mover.bags.bag_group import Inspection, inspect, open_group
from offline_mover.bags.volumes import choose_transfer
from offline_mover.commands.inspection_outcome import outcome_of
from offline_mover.medium import media_fs
from offline_mover.outcome import Finding, Outcome
from offline_mover.progress import Meter

_UNFINISHED = "the pull onto it did not finish: its envelope is missing"


def verify(
    volumes: Sequence[Path],
    *,
    transfer_id: str | None,
    policy: TrustPolicy,
    now: datetime,
    concurrency: int,
    meter: Meter,
    recarry: Path = Path(REQUEST_NAME),
) -> tuple[Inspection, Outcome]:
    """Check a transfer's bags on any of its volumes, in any order; without network, without writing.

    A volume whose pull did not finish is a finding, and the others are looked at all the same.

    Exit codes: 0 when the whole bundle is here and right; ``VOLUME_MISSING`` when all that is here is right
    but other volumes of the transfer were not shown; else the code of the gravest damage.

    Raises:
        AirgapError: a bag could not be found, or its envelope is not accepted; then no part was looked at,
            since nothing says which parts there should be. ``BAG_MALFORMED``: no pull
            onto any of them finished.
    """
    chosen = choose_transfer(volumes, transfer_id)
    unfinished = [path for path in volumes if not media_fs.exists(path / chosen / ENVELOPE_NAME)]
    if finished := [path for path in volumes if path not in unfinished]:
        group = open_group(finished, chosen, policy=policy, now=now)
    else:
        names = ", ".join(map(str, unfinished))
        raise UntrustedInputError(Code.BAG_MALFORMED, f"{names}: {_UNFINISHED}")
    inspection = inspect(group, concurrency=concurrency, meter=meter)
    damage = Damage(code=Code.BAG_MALFORMED, name=ENVELOPE_NAME, detail=_UNFINISHED)
    findings = [Finding(damage=damage, volume=path) for path in unfinished]
    inspection = replace(inspection, findings=(*inspection.findings, *findings), unfinished=tuple(unfinished))
    return inspection, outcome_of(inspection, command="verify", recarry=recarry)


def recarry_request(inspection: Inspection, *, now: datetime) -> RecarryRequest | None:
    """A request for the parts that no volume here has whole and none elsewhere can have; else ``None``."""
    if not inspection.lost:
        return None
    group = inspection.group
    return RecarryRequest.for_parts(group.manifest, group.verdict.manifest_sha256 or "", inspection.lost, now)
