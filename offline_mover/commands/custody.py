"""The command ``custody``: what the logs of the volumes say, and whether they were tampered with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from offline_mover.custody import view
from offline_mover.outcome import Outcome


def show(volumes: Sequence[Path], *, side_dir: Path | None = None) -> Outcome:
    """Tell everything that the custody logs of volumes say, judged as :func:`verify` does.

    Raises:
        MediaError: ``VOLUME_NOT_FOUND``: a volume is no folder, or not mounted.
    """
    return _outcome("custody show", view.judge(volumes, side_dir=side_dir), with_entries=True)


def verify(volumes: Sequence[Path], *, side_dir: Path | None = None) -> Outcome:
    """Tell whether the custody logs are unbroken, each by itself and by what the others know of it.

    Raises:
        MediaError: ``VOLUME_NOT_FOUND``: a volume is no folder, or not mounted.
    """
    return _outcome("custody verify", view.judge(volumes, side_dir=side_dir), with_entries=False)


def _outcome(command: str, seen: view.CustodyView, *, with_entries: bool) -> Outcome:
    return Outcome(
        command=command,
        code=seen.code,
        verdict=seen.verdict,
        next_step=seen.next_step,
        facts={
            "volumes": [volume.to_json(with_entries=with_entries) for volume in seen.volumes],
            "absentLogs": seen.absent_logs,
        },
        lines=tuple(line for volume in seen.volumes for line in volume.lines(with_entries=with_entries)),
    )
