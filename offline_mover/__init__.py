"""The operator's command: storage to media, media to storage, and every byte checked on the way.

It trusts neither the media nor the storage, only signatures under the keys of the trust policy. In reading
order:

* :mod:`offline_mover.cli` — the command line: one module a verb, the session, exit codes
* :mod:`offline_mover.commands` — what each verb does
* :mod:`offline_mover.bag` and :mod:`offline_mover.volume` — the texts of RFC 8493, and a bag on a volume;
  :mod:`offline_mover.bag_group` — the bags of one transfer on any number of volumes;
  :mod:`offline_mover.bag_writing`
* :mod:`offline_mover.placement`, :mod:`offline_mover.pull_targets`, :mod:`offline_mover.fetching` — what goes
  where, and bringing it there
* :mod:`offline_mover.stripe_coding`, :mod:`offline_mover.parity_writing`,
  :mod:`offline_mover.repairing` — parity
* :mod:`offline_mover.custody_log` — who had a volume; :mod:`offline_mover.custody_file`,
  :mod:`offline_mover.custody_side`, :mod:`offline_mover.file_lock`
* :mod:`offline_mover.media_fs` and :mod:`offline_mover.media_identity` — the file system: durable writes,
  careful reads, what kind of medium it is
* :mod:`offline_mover.ports` — the storage; :mod:`offline_mover.retrying` is patient with it,
  :mod:`offline_mover.blob_store` (with ``blob_wire`` and ``blob_answers``) is all that knows Azure;
  :mod:`offline_mover.storage_address` — URLs and SAS tokens; :mod:`offline_mover.part_stream`
* :mod:`offline_mover.report` — what a command tells; :mod:`offline_mover.report_facts` and
  :mod:`offline_mover.report_page` — the report on paper
* :mod:`offline_mover.parallel`, :mod:`offline_mover.progress`, :mod:`offline_mover.tool_copy`
"""
