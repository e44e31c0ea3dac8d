"""The content of an artifact: its manifests and blobs, walked from the top manifest down."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from local_cloud.acr_transfer.errors import RunError
from local_cloud.acr_transfer.layout import MAX_MEMBERS, Descriptor, load_object

_MAX_DEPTH = 4
_FOREIGN = ("nondistributable", "foreign")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The descriptors of all that an artifact consists of, each once; children before their parents."""

    blobs: tuple[Descriptor, ...]
    manifests: tuple[Descriptor, ...]  # the top one is the last


def contents_of(top: Descriptor, read_manifest: Callable[[Descriptor], bytes]) -> Contents:
    """Return everything that ``top`` reaches; foreign layers are not part of it.

    Raises:
        RunError: A manifest is missing or malformed, or there are too many.
    """
    blobs: dict[str, Descriptor] = {}
    manifests: dict[str, Descriptor] = {}
    _walk(top, read_manifest, blobs, manifests, 0)
    return Contents(blobs=tuple(blobs.values()), manifests=tuple(manifests.values()))


def _walk(
    manifest: Descriptor,
    read_manifest: Callable[[Descriptor], bytes],
    blobs: dict[str, Descriptor],
    manifests: dict[str, Descriptor],
    depth: int,
) -> None:
    if manifest.digest in manifests:
        return
    if depth > _MAX_DEPTH or len(blobs) + len(manifests) > MAX_MEMBERS:
        raise RunError(f"manifest {manifest.digest}: too deep or too much below it")
    fields = load_object(read_manifest(manifest), f"manifest {manifest.digest}")
    for child in _descriptors(fields.get("manifests")):
        _walk(child, read_manifest, blobs, manifests, depth + 1)
    config = fields.get("config")
    for blob in _descriptors([*([] if config is None else [config]), *_list(fields.get("layers"))]):
        blobs.setdefault(blob.digest, blob)
    manifests[manifest.digest] = manifest


def _list(raw: object) -> list[object]:
    if raw is not None and not isinstance(raw, list):
        raise RunError("a manifest holds a malformed list")
    return raw or []


def _descriptors(raw: object) -> Iterator[Descriptor]:
    for each in _list(raw):
        is_remote = isinstance(each, dict) and bool(each.get("urls"))
        descriptor = Descriptor.from_json(each)
        if not is_remote and not any(word in descriptor.media_type for word in _FOREIGN):
            yield descriptor
