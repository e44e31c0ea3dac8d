"""Parity: coding stripes of parts, and rebuilding what was lost.

* :mod:`~offline_mover.parity.stripe_coding` — one stripe, piece by piece
* :mod:`~offline_mover.parity.repairing` — lost parts rebuilt
* :mod:`~offline_mover.parity.repair_destinations` — the volumes that take what is rebuilt
"""
