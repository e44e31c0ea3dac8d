"""What an OCI manifest or index says of itself, as far as a transfer asks."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airgap.errors import Code, ServiceError
from airgap.fields import DIGEST
from airgap.pipeline_runs import MAX_LAYER_BYTES

_MAX_ENTRIES = 10_000
_FOREIGN = re.compile(r"\.foreign\.|\.nondistributable\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """OCI content by what it is: media type and digest."""

    digest: str
    media_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TagState:
    """What a tag points to, and when the registry says that it was written last.

    Two equal states of one tag mean that nobody wrote to it in between, not even there and back.
    """

    digest: str
    written_at: str
    """As the registry spells it: to be compared, not to be read."""


def list_manifests(index: Mapping[str, Any], about: str) -> list[Descriptor]:
    """The ``manifests`` of an index; none if it is no index.

    Raises:
        ServiceError: ``SERVICE_UNEXPECTED`` if they are malformed.
    """
    return [
        Descriptor(digest=one["digest"], media_type=str(one.get("mediaType", "")))
        for one in _entries(index, "manifests", about)
    ]


def find_obstacle(manifest: Mapping[str, Any], about: str) -> str | None:
    """Why ACR Transfer cannot carry the layers of a manifest; ``None`` if it can.

    Layers over 8 GB are refused by the service; foreign layers are left behind by it, silently.
    https://learn.microsoft.com/azure/container-registry/container-registry-transfer-troubleshooting
    """
    for layer in [*_entries(manifest, "layers", about), *_entries(manifest, "blobs", about)]:
        if type(size := layer.get("size")) is not int or size > MAX_LAYER_BYTES:
            return f"layer {layer['digest']} has {size} bytes, at most {MAX_LAYER_BYTES} cross"
        if layer.get("urls") or _FOREIGN.search(str(layer.get("mediaType", ""))):
            return f"layer {layer['digest']} is foreign: it is not in the registry"
    return None


def _entries(manifest: Mapping[str, Any], member: str, about: str) -> list[Mapping[str, Any]]:
    entries = manifest.get(member) or []
    if not isinstance(entries, list) or len(entries) > _MAX_ENTRIES:
        raise ServiceError(
            Code.SERVICE_UNEXPECTED, f"{about}: {member} is not a list of at most {_MAX_ENTRIES}"
        )
    for entry in entries:
        match entry:
            case {"digest": str(digest)} if DIGEST.fullmatch(digest):
                continue
        raise ServiceError(Code.SERVICE_UNEXPECTED, f"{about}: {member} holds a malformed descriptor")
    return entries
