"""The transfer blob of this emulator: an OCI image layout in a plain tar.

Azure's own format is not public. This one makes no claim to be it, and says so in its first member.

====================  =========================================================================
``FORMAT.json``       ``{"format": "acr-transfer-emulator", "version": 1}``: first
``oci-layout``        ``{"imageLayoutVersion": "1.0.0"}``
``blobs/sha256/HEX``  manifests, configs and layers, each once
``index.json``        one descriptor an artifact, annotated with its reference: last, so that it
                      lists what was really written
====================  =========================================================================

Headers are ustar with all times and owners zero, so equal content makes an equal blob. After the last member
come 1024 zero bytes and nothing else.
"""

import hashlib
import json
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Self

from local_cloud.acr_transfer.errors import RunError

REFERENCE = "org.opencontainers.image.ref.name"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
MAX_JSON_BYTES = 4 * 1024 * 1024
MAX_MEMBERS = 20_000
PIECE_BYTES = 1024 * 1024
_BLOCK = 512  # bytes: the unit of a tar
_END = bytes(2 * _BLOCK)
_FORMAT_FILE = "FORMAT.json"
_FORMAT = {
    "format": "acr-transfer-emulator",
    "version": 1,
    "note": "Made by a local emulator. Not the format of Azure Container Registry.",
}
_BLOB_NAME = re.compile(r"blobs/sha256/([0-9a-f]{64})")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MAX_MEDIA_TYPE_CHARS = 255


@dataclass(frozen=True, slots=True)
class Descriptor:
    """The description of OCI content before it is read: media type, digest and size in bytes."""

    media_type: str
    digest: str
    size: int

    @classmethod
    def from_json(cls, raw: object) -> Self:
        """Parse an OCI descriptor.

        Raises:
            RunError: A field is missing or malformed.
        """
        match raw:
            case {"mediaType": str(media_type), "digest": str(digest), "size": int(size)} if (
                _DIGEST.fullmatch(digest)
                and size >= 0
                and not isinstance(size, bool)
                and len(media_type) <= _MAX_MEDIA_TYPE_CHARS
                and media_type.isprintable()
            ):
                return cls(media_type, digest, size)
        raise RunError("a manifest holds a malformed descriptor")

    def to_json(self) -> dict[str, Any]:
        """Return the descriptor as OCI JSON."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


def digest_of(content: bytes) -> str:
    """Return the OCI digest of ``content``."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def load_object(content: bytes, what: str) -> Mapping[str, Any]:
    """Parse ``content`` as a JSON object; ``what`` names it in the error.

    Raises:
        RunError: It is no JSON object.
    """
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise RunError(f"{what} is not a JSON object")
    return parsed


def header(name: str, size: int) -> bytes:
    """Return the tar header of a member."""
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o444
    return member.tobuf(format=tarfile.USTAR_FORMAT)


def padding(size: int) -> bytes:
    """Return the zeros that fill the last block of a member."""
    return bytes(-size % _BLOCK)


def opening() -> Iterator[bytes]:
    """Yield the tar's first bytes, up to the blobs."""
    yield from _member(_FORMAT_FILE, _dump(_FORMAT))
    yield from _member("oci-layout", _dump({"imageLayoutVersion": "1.0.0"}))


def blob_member(descriptor: Descriptor, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield a blob's member; ``pieces`` must be the descriptor's bytes, which the reader of them checks."""
    yield header(f"blobs/sha256/{descriptor.digest.removeprefix('sha256:')}", descriptor.size)
    yield from pieces
    yield padding(descriptor.size)


def closing(artifacts: Iterable[tuple[str, Descriptor]]) -> Iterator[bytes]:
    """Yield the index, which maps references to descriptors, and the tar's end."""
    manifests = [
        {**descriptor.to_json(), "annotations": {REFERENCE: reference}} for reference, descriptor in artifacts
    ]
    yield from _member(
        "index.json", _dump({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests})
    )
    yield _END


def _member(name: str, content: bytes) -> Iterator[bytes]:
    yield header(name, len(content)) + content + padding(len(content))


def _dump(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


class LayoutReader:
    """A reader of a transfer blob in a seekable file; names in the tar are compared, never used as paths."""

    def __init__(self, file: BinaryIO, *, max_blob_bytes: int) -> None:
        """List the members.

        Raises:
            RunError: The file is not a transfer blob of this emulator, or holds anything beside one.
        """
        self._file = file
        self._members: dict[str, tuple[int, int]] = {}  # name -> offset, size
        self._scan(max_blob_bytes)
        marker = load_object(self._json(_FORMAT_FILE), _FORMAT_FILE)
        if (marker.get("format"), marker.get("version")) != (_FORMAT["format"], _FORMAT["version"]):
            raise RunError("the blob is a tar, but not one that this emulator wrote")

    def artifacts(self) -> list[tuple[str, Descriptor]]:
        """Return the references and descriptors that the index lists.

        Raises:
            RunError: The index lists no manifests, or one without a reference.
        """
        manifests = load_object(self._json("index.json"), "index.json").get("manifests")
        if not isinstance(manifests, list):
            raise RunError("index.json lists no manifests")
        found = []
        for entry in manifests:
            match entry:
                case {"annotations": {"org.opencontainers.image.ref.name": str(reference)}}:
                    found.append((reference, Descriptor.from_json(entry)))
                case _:
                    raise RunError("index.json lists a manifest without a reference")
        return found

    def manifest(self, descriptor: Descriptor) -> bytes:
        """Return a manifest's bytes, checked against its digest.

        Raises:
            RunError: It is too large, not there, or not what its digest says.
        """
        if descriptor.size > MAX_JSON_BYTES:
            raise RunError(f"manifest {descriptor.digest} is larger than {MAX_JSON_BYTES} bytes")
        return b"".join(self.blob(descriptor, lambda: None))

    def blob(self, descriptor: Descriptor, checkpoint: Callable[[], None]) -> Iterator[bytes]:
        """Yield a blob's bytes; call ``checkpoint`` before each piece.

        Raises:
            RunError: It is not there, or (after its last byte) is not what its digest says.
        """
        name = f"blobs/sha256/{descriptor.digest.removeprefix('sha256:')}"
        offset, size = self._members.get(name, (0, -1))
        if size < 0:
            raise RunError(f"the transfer blob lacks {descriptor.digest}")
        if size != descriptor.size:
            raise RunError(
                f"{descriptor.digest} has {size} bytes in the transfer blob, not {descriptor.size}"
            )
        hasher = hashlib.sha256()
        for start in range(0, size, PIECE_BYTES):
            checkpoint()
            self._file.seek(offset + start)
            piece = self._file.read(min(PIECE_BYTES, size - start))
            hasher.update(piece)
            yield piece
        if f"sha256:{hasher.hexdigest()}" != descriptor.digest:
            raise RunError(f"{descriptor.digest} is damaged in the transfer blob")

    def _json(self, name: str) -> bytes:
        offset, size = self._members.get(name, (0, 0))
        self._file.seek(offset)
        return self._file.read(size)

    def _scan(self, max_blob_bytes: int) -> None:
        end = self._file.seek(0, 2)
        offset = 0
        while True:
            self._file.seek(offset)
            block = self._file.read(_BLOCK)
            if block == bytes(_BLOCK):
                break
            member = _parse_header(block)
            limit = max_blob_bytes if _BLOB_NAME.fullmatch(member.name) else MAX_JSON_BYTES
            if not 0 <= member.size <= limit:
                raise RunError(f"the tar holds a member of {member.size} bytes; {limit} are allowed")
            if member.name in self._members or len(self._members) >= MAX_MEMBERS:
                raise RunError("the tar holds a member twice, or too many of them")
            self._members[member.name] = (offset + _BLOCK, member.size)
            offset += _BLOCK + member.size + len(padding(member.size))
            if offset > end:
                raise RunError("the tar is truncated")
        self._file.seek(offset)
        # The length first: what follows may be of any size, and is read only when it is not.
        if end - offset != len(_END) or self._file.read() != _END:
            raise RunError("the tar does not end where its members end")


def _parse_header(block: bytes) -> tarfile.TarInfo:
    # tarfile's own iteration follows links and long-name headers of any size; this blob has none of them.
    try:
        member = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.HeaderError, ValueError):
        raise RunError("the blob is not a tar, or is damaged") from None
    if member.type != tarfile.REGTYPE:
        raise RunError("the tar holds something that is not a plain file")
    if not _BLOB_NAME.fullmatch(member.name) and member.name not in (
        _FORMAT_FILE,
        "oci-layout",
        "index.json",
    ):
        raise RunError(f"the tar holds a member that does not belong there: {member.name[:100]!r}")
    return member
