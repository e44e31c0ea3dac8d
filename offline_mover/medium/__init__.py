"""The medium: the file system under a volume is written durably, read past its cache, identified and locked.

* :mod:`~offline_mover.medium.held_volumes` — the volumes of a run, held from its beginning to its end
* :mod:`~offline_mover.medium.system_disk` — whether a folder is a medium at all
* :mod:`~offline_mover.medium.open_folder` — the one door to the file system: follows nothing that was planted
* :mod:`~offline_mover.medium.media_fs` — durable writes, careful reads
* :mod:`~offline_mover.medium.operator_files` — the files that the operator names
* :mod:`~offline_mover.medium.medium_read` — reads what the medium really holds; on Windows with
  :mod:`~offline_mover.medium.windows_file`
* :mod:`~offline_mover.medium.media_identity` — what kind of medium it is, and which one
* :mod:`~offline_mover.medium.file_lock` — one writer at a time
"""
