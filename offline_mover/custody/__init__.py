"""Custody: who had a volume, when, and what they found.

* :mod:`~offline_mover.custody.log` — the log of a volume, kept and read
* :mod:`~offline_mover.custody.file` — its file on the volume
* :mod:`~offline_mover.custody.side` — events of read-only media, kept on this machine
* :mod:`~offline_mover.custody.view` — logs judged, by themselves and by each other
"""
