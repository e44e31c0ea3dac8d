"""The operator's command: storage to medium, medium to storage, and every byte checked on the way.

It trusts neither the medium nor the storage, only signatures under the keys of the trust policy. In reading
order:

* :mod:`offline_mover.arguments` and :mod:`offline_mover.cli` — the command line, exit codes
* :mod:`offline_mover.commands` — ``pull``, ``verify``, ``push``: one module each
* :mod:`offline_mover.volume` — a bag on a volume: found, read, taken stock of, checked
* :mod:`offline_mover.bag` — the texts of RFC 8493
* :mod:`offline_mover.media_fs` — the file system: durable writes, careful reads
* :mod:`offline_mover.ports` and :mod:`offline_mover.blob_store` — the storage; the latter is all that knows
Azure
* :mod:`offline_mover.storage_address` — URLs and SAS tokens
* :mod:`offline_mover.parallel`, :mod:`offline_mover.progress`, :mod:`offline_mover.report`
"""
