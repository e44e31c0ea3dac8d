"""TEMPORARY: filled in with the repair engine."""

from __future__ import annotations

from offline_mover.bag_group import Inspection


def can_repair(inspection: Inspection) -> bool:
    """Whether every lost part can be rebuilt."""
    return False
