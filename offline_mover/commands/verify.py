"""``verify``: is what the volumes hold the signed bundle, all of it and nothing else?"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from airgap.policy import TrustPolicy
from airgap.recarry import REQUEST_NAME, RecarryRequest
from offline_mover.bags.bag_group import Inspection, inspect, open_group
from offline_mover.commands.inspection_outcome import outcome_of
from offline_mover.outcome import Outcome
from offline_mover.progress import Meter


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

    Exit codes: 0 when the whole bundle is here and right; ``VOLUME_MISSING`` when all that is here is right
    but other volumes of the transfer were not shown; else the code of the gravest damage.

    Raises:
        AirgapError: a bag could not be found, or its envelope is not accepted; then no part was looked at,
            since nothing says which parts there should be.
    """
    group = open_group(volumes, transfer_id, policy=policy, now=now)
    inspection = inspect(group, concurrency=concurrency, meter=meter)
    return inspection, outcome_of(inspection, command="verify", recarry=recarry)


def recarry_request(inspection: Inspection, *, now: datetime) -> RecarryRequest | None:
    """Asks for exactly the parts that no volume here has whole and none elsewhere can have; else ``None``."""
    if not inspection.lost:
        return None
    group = inspection.group
    return RecarryRequest.for_parts(group.manifest, group.verdict.manifest_sha256 or "", inspection.lost, now)
