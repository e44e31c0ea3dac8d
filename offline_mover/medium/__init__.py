"""The medium: the file system under a volume, read past its cache, identified, locked; durable writes.

* :mod:`~offline_mover.medium.media_fs` — durable writes, careful reads
* :mod:`~offline_mover.medium.medium_read` — reads what the medium really holds; on Windows with
  :mod:`~offline_mover.medium.windows_file`
* :mod:`~offline_mover.medium.media_identity` — what kind of medium it is, and which one
* :mod:`~offline_mover.medium.file_lock` — one writer at a time
"""
