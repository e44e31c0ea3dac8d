"""The working documents of one orchestration: what its history only refers to."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from airgap.errors import Code, ServiceError
from function_app.ports import BlobStore
from function_app.storage.paths import WORK

_MAX_DOCUMENT_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class WorkFolder:
    """JSON documents of one orchestration, in ``work/plans/<owner>/``: a claim check for its history.

    Trusted: nobody but the app writes to the container ``work``.
    """

    blobs: BlobStore
    owner: str

    def _name(self, name: str) -> str:
        return f"plans/{self.owner}/{name}.json"

    def put(self, name: str, value: Any) -> None:
        """Write a document."""
        self.blobs.put(WORK, self._name(name), json.dumps(value).encode())

    def create(self, name: str, value: Any) -> None:
        """Write a document unless there is one already."""
        self.blobs.create(WORK, self._name(name), json.dumps(value).encode())

    def find(self, name: str) -> Any:
        """A document, or ``None``."""
        raw = self.blobs.read(WORK, self._name(name), max_bytes=_MAX_DOCUMENT_BYTES)
        return None if raw is None else json.loads(raw)

    def get(self, name: str) -> Any:
        """A document that an earlier step wrote.

        Raises:
            ServiceError: ``NOT_FOUND``: somebody removed it.
        """
        value = self.find(name)
        if value is None:
            raise ServiceError(Code.NOT_FOUND, f"{WORK}/{self._name(name)}")
        return value

    def all(self, prefix: str) -> Iterator[Any]:
        """The documents whose name begins with ``prefix``, in order of their names."""
        start = f"plans/{self.owner}/"
        for path in list(self.blobs.list_names(WORK, f"{start}{prefix}")):
            yield self.get(path.removeprefix(start).removesuffix(".json"))

    def remove(self, *, keep: str | None = None) -> None:
        """Delete them all, but for ``keep``."""
        for path in list(self.blobs.list_names(WORK, f"plans/{self.owner}/")):
            if keep is None or path != self._name(keep):
                self.blobs.delete(WORK, path)
