"""The storage: the containers that a pull reads and a push writes.

* :mod:`~offline_mover.storage.ports` — the contract
* :mod:`~offline_mover.storage.retrying` — patience, over any storage
* :mod:`~offline_mover.storage.blob_store` — Azure Blob storage; :mod:`blob_wire` sends its requests and
  :mod:`~offline_mover.storage.blob_answers` says what the answers mean
* :mod:`~offline_mover.storage.vault_key` — a person's key in Key Vault
* :mod:`~offline_mover.storage.signing_in` — who is signed in, where no SAS was given
* :mod:`~offline_mover.storage.storage_address` — URLs and SAS tokens
* :mod:`~offline_mover.storage.part_stream` — a part as it is sent, hashed on the way
"""
