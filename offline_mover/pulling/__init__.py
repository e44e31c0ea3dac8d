"""Pulling: from the source storage onto volumes.

* :mod:`~offline_mover.pulling.targets` — which volumes, and what is missing on each
* :mod:`~offline_mover.pulling.fetching` — parts onto volumes
* :mod:`~offline_mover.pulling.shards` — parity shards onto volumes
"""
