"""The operator's command: storage to media, media to storage, and every byte checked on the way.

It trusts neither the media nor the storage, only signatures under the keys of the trust policy. Its wings, in
reading order; each one's own docstring is the map of its modules:

* :mod:`offline_mover.cli` — the command line: one module a verb, the session, exit codes
* :mod:`offline_mover.commands` — what each verb does
* :mod:`offline_mover.pulling` — from the source storage onto volumes
* :mod:`offline_mover.parity` — coding stripes of parts, and rebuilding what was lost
* :mod:`offline_mover.paper` — the report as one page, and its JSON twin
* :mod:`offline_mover.bags` — what a volume holds of a transfer: bags of RFC 8493, alone and in a group
* :mod:`offline_mover.custody` — who had a volume, when, and what they found
* :mod:`offline_mover.storage` — the storage containers; all that knows Azure
* :mod:`offline_mover.medium` — the file system under a volume

What they share: :mod:`offline_mover.outcome` (what a command tells), :mod:`offline_mover.progress`,
:mod:`offline_mover.parallel`, and :mod:`offline_mover.places` with :mod:`offline_mover.tuning` (how many
connections are worth it); :mod:`offline_mover.tool_copy` lays the tool itself onto a volume.
"""
