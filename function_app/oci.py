"""OCI manifests and indexes, as far as a transfer needs to read them (OCI image-spec 1.1)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airgap.errors import Code, ServiceError
from airgap.fields import DIGEST
from airgap.pipeline_runs import MAX_LAYER_BYTES

MAX_DEPTH = 8
"""So deep an index may lie in indexes, and a referrer refer to referrers."""

_MAX_ENTRIES = 10_000
_FOREIGN = re.compile(r"\.foreign\.|\.nondistributable\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """The description of OCI content: its media type and its digest."""

    digest: str
    media_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TagState:
    """The state of a tag: the digest that it points to, and when the registry says that it was last written.

    Two equal states of one tag mean that nobody wrote to it in between, not even there and back.
    """

    digest: str
    written_at: str
    """As the registry spells it: to be compared, not to be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The digests of all that a manifest or index refers to, in its order."""

    blobs: tuple[tuple[str, str], ...]
    """Kind, ``config`` or ``layer``, and digest of what is stored beside it in the same repository."""
    manifests: tuple[str, ...]
    """Of an index."""
    subject: str | None
    """What it says that it belongs to."""


def read_contents(manifest: Mapping[str, Any], about: str) -> Contents:
    """The digests of all that a manifest or index refers to, except foreign layers, which no registry has.

    Raises:
        ServiceError: ``SERVICE_UNEXPECTED``: a part of it is malformed.
    """
    layers = [*_entries(manifest, "layers", about), *_entries(manifest, "blobs", about)]
    blobs = [("layer", str(layer["digest"])) for layer in layers if not _is_foreign(layer)]
    config, subject = _descriptor(manifest, "config", about), _descriptor(manifest, "subject", about)
    return Contents(
        blobs=tuple(([] if config is None else [("config", config)]) + blobs),
        manifests=tuple(one.digest for one in list_manifests(manifest, about)),
        subject=subject,
    )


def list_manifests(index: Mapping[str, Any], about: str) -> list[Descriptor]:
    """The descriptors in the member ``manifests`` of an index; none if it is no index.

    Raises:
        ServiceError: ``SERVICE_UNEXPECTED`` if they are malformed.
    """
    return [
        Descriptor(digest=one["digest"], media_type=str(one.get("mediaType", "")))
        for one in _entries(index, "manifests", about)
    ]


def find_obstacle(manifest: Mapping[str, Any], about: str) -> str | None:
    """The reason why ACR Transfer cannot carry the layers of a manifest; ``None`` if it can.

    Layers over 8 GB are refused by the service; foreign layers are left behind by it, silently.
    https://learn.microsoft.com/azure/container-registry/container-registry-transfer-troubleshooting
    """
    for layer in [*_entries(manifest, "layers", about), *_entries(manifest, "blobs", about)]:
        if type(size := layer.get("size")) is not int or size > MAX_LAYER_BYTES:
            return f"layer {layer['digest']} has {size} bytes, at most {MAX_LAYER_BYTES} cross"
        if _is_foreign(layer):
            return f"layer {layer['digest']} is foreign: it is not in the registry"
    return None


def _is_foreign(layer: Mapping[str, Any]) -> bool:
    return bool(layer.get("urls")) or _FOREIGN.search(str(layer.get("mediaType", ""))) is not None


def _descriptor(manifest: Mapping[str, Any], member: str, about: str) -> str | None:
    """The digest of a member that is one descriptor; ``None`` without it."""
    match manifest.get(member):
        case None:
            return None
        case {"digest": str(digest)} if DIGEST.fullmatch(digest):
            return digest
    raise ServiceError(Code.SERVICE_UNEXPECTED, f"{about}: {member} is no descriptor")


def content_sizes(manifest: Mapping[str, Any], about: str) -> dict[str, int]:
    """The sizes in bytes, by digest, of the configuration, layers and blobs that a manifest refers to.

    Raises:
        ServiceError: ``SERVICE_UNEXPECTED`` if they are malformed.
    """
    listed = [*_entries(manifest, "layers", about), *_entries(manifest, "blobs", about)]
    config = manifest.get("config")
    if isinstance(config, Mapping) and DIGEST.fullmatch(str(config.get("digest"))):
        listed.append(config)
    return {one["digest"]: size for one in listed if type(size := one.get("size")) is int and size >= 0}


def platforms(index: Mapping[str, Any], about: str) -> tuple[str, ...]:
    """The platforms of the manifests in an index, as ``os/architecture[/variant]``; none if it is no index.

    The member is ``platform`` of the OCI image-spec 1.1, Image Index. A manifest for ``unknown``, such as an
    attestation, is left out.
    """
    found = []
    for one in _entries(index, "manifests", about):
        match one.get("platform"):
            case {"os": str(os), "architecture": str(architecture), **rest} if "unknown" not in (
                os,
                architecture,
            ):
                variant = rest.get("variant")
                names = [os, architecture, *([variant] if isinstance(variant, str) and variant else [])]
                found.append("/".join(names)[:100])
    return tuple(dict.fromkeys(text for text in found if text.isprintable()))


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
