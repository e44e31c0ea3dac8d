"""Pulling: from the source storage onto volumes.

A *destination* is a volume that is written to; *target* means the other cloud, here as everywhere.

* :mod:`~offline_mover.pulling.destinations` — which volumes, and what is missing on each
* :mod:`~offline_mover.pulling.fetching` — the bundle manifest, and parts onto volumes
* :mod:`~offline_mover.pulling.part_ranges` — one part over several connections, where there are more
* :mod:`~offline_mover.pulling.shards` — parity shards onto volumes
* :mod:`~offline_mover.pulling.read_back` — what was written, read from the medium itself
"""
