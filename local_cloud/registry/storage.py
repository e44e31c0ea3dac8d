"""The built-in registry's folder: content by digest, and small files that say what a repository holds.

===========================================  ============================================================
``blobs/<aa>/<hex>``                         content, blobs and manifests alike; ``aa`` = first two digits
``uploads/<id>``                             an upload not yet complete; emptied at start
``repositories/<name>/_blobs/<hex>``         empty: the repository holds this blob
``repositories/<name>/_manifests/<hex>``     the manifest's media type
``repositories/<name>/_tags/<tag>``          the digest the tag stands for
``repositories/<name>/_referrers/<hex>/…``   by subject: one file per referrer, its descriptor
===========================================  ============================================================

No component of a repository's name begins with an underscore, so names and these folders cannot meet.
"""

import asyncio
import hashlib
import json
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local_cloud.registry.addresses import is_digest
from local_cloud.registry.errors import RegistryError
from local_cloud.registry.manifests import MAX_MANIFEST_BYTES, Manifest

MAX_BLOB_BYTES = 200 * 1024**3  # ACR's largest layer
MAX_UPLOADS = 1000


@dataclass(slots=True, kw_only=True)
class Upload:
    """An upload of one blob: the bytes so far; `lock` keeps a second request out while one writes."""

    upload_id: str
    name: str
    path: Path
    size_bytes: int = 0
    sha256: Any = field(default_factory=hashlib.sha256)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def append(self, piece: bytes) -> None:
        """Add `piece`; what was added stays if a later piece never comes.

        Raises:
            RegistryError: SIZE_INVALID: the blob has become too large.
        """
        if self.size_bytes + len(piece) > MAX_BLOB_BYTES:
            raise RegistryError("SIZE_INVALID", f"a blob may have {MAX_BLOB_BYTES} bytes")
        with self.path.open("ab", buffering=0) as stream:
            stream.write(piece)
        self.sha256.update(piece)
        self.size_bytes += len(piece)


class Storage:
    """Blobs, manifests, tags and referrers; content appears by rename, whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._blobs = folder / "blobs"
        self._uploads = folder / "uploads"
        self._repositories = folder / "repositories"
        shutil.rmtree(self._uploads, ignore_errors=True)
        for each in (self._blobs, self._uploads, self._repositories):
            each.mkdir(parents=True, exist_ok=True)
        self._open_uploads: dict[str, Upload] = {}

    def begin_upload(self, name: str) -> Upload:
        """Opens an upload for a blob of repository `name`.

        Raises:
            RegistryError: TOOMANYREQUESTS above `MAX_UPLOADS` open ones.
        """
        if len(self._open_uploads) >= MAX_UPLOADS:
            raise RegistryError("TOOMANYREQUESTS", "too many uploads are open")
        upload_id = str(uuid.uuid4())
        upload = Upload(upload_id=upload_id, name=name, path=self._uploads / upload_id)
        upload.path.touch()
        self._open_uploads[upload_id] = upload
        return upload

    def upload(self, name: str, upload_id: str) -> Upload:
        """The open upload with that id.

        Raises:
            RegistryError: BLOB_UPLOAD_UNKNOWN: there is no such upload.
        """
        upload = self._open_uploads.get(upload_id)
        if upload is None or upload.name != name:
            raise RegistryError("BLOB_UPLOAD_UNKNOWN", "no such upload")
        return upload

    def drop_upload(self, upload: Upload) -> None:
        """Forgets an upload and its bytes."""
        self._open_uploads.pop(upload.upload_id, None)
        upload.path.unlink(missing_ok=True)

    def commit_upload(self, upload: Upload, digest: str) -> None:
        """Makes the upload a blob if its content has `digest`; drops it otherwise.

        Raises:
            RegistryError: DIGEST_INVALID: it has another digest.
        """
        if f"sha256:{upload.sha256.hexdigest()}" != digest:
            self.drop_upload(upload)
            raise RegistryError("DIGEST_INVALID", "the content does not have the digest it was sent under")
        path = self.content_path(digest)
        path.parent.mkdir(exist_ok=True)
        upload.path.replace(path)
        self._open_uploads.pop(upload.upload_id, None)
        self.link_blob(upload.name, digest)

    def content_path(self, digest: str) -> Path:
        """The path of the content with `digest`, whether it is there or not."""
        digits = _hex(digest)
        return self._blobs / digits[:2] / digits

    def has_blob(self, name: str, digest: str) -> bool:
        """Whether repository `name` holds the blob."""
        return (self._repositories / name / "_blobs" / _hex(digest)).exists()

    def link_blob(self, name: str, digest: str) -> None:
        """Makes stored content a blob of repository `name` as well."""
        _write_whole(self._repositories / name / "_blobs" / _hex(digest), b"")

    def put_manifest(self, name: str, manifest: Manifest, tag: str | None) -> None:
        """Stores `manifest`; content first and the tag last, so that no name leads to nothing.

        Raises:
            RegistryError: MANIFEST_BLOB_UNKNOWN if something it refers to is not in the repository.
        """
        for digest in manifest.blobs:
            if not self.has_blob(name, digest):
                raise RegistryError("MANIFEST_BLOB_UNKNOWN", "blob unknown to registry", detail=digest)
        for digest in manifest.manifests:
            if not self.manifest_file(name, digest).exists():
                raise RegistryError("MANIFEST_BLOB_UNKNOWN", "manifest unknown to registry", detail=digest)
        _write_whole(self.content_path(manifest.digest), manifest.content)
        if manifest.subject:
            descriptor = json.dumps(manifest.descriptor).encode()
            _write_whole(self._referrers_folder(name, manifest.subject) / _hex(manifest.digest), descriptor)
        _write_whole(self.manifest_file(name, manifest.digest), manifest.media_type.encode())
        if tag:
            _write_whole(self.tag_file(name, tag), manifest.digest.encode())

    def manifest(self, name: str, reference: str) -> tuple[str, str, bytes]:
        """Returns digest, media type and content of a tag or digest.

        Raises:
            RegistryError: MANIFEST_UNKNOWN: the repository has no such manifest.
        """
        try:
            digest = self.resolve(name, reference)
            media_type = self.manifest_file(name, digest).read_text()
            with self.content_path(digest).open("rb") as stream:
                return digest, media_type, stream.read(MAX_MANIFEST_BYTES)
        except FileNotFoundError:
            raise _unknown_manifest(name, reference) from None

    def resolve(self, name: str, reference: str) -> str:
        """The digest of a tag or digest.

        Raises:
            FileNotFoundError: There is no such tag.
        """
        if is_digest(reference):
            return reference
        return self.tag_file(name, reference).read_text()

    def tag_file(self, name: str, tag: str) -> Path:
        """The path of the file with a tag's digest, which each push of the tag writes anew."""
        return self._repositories / name / "_tags" / tag

    def delete_manifest(self, name: str, reference: str) -> None:
        """Removes a tag; or, by digest, a manifest with the tags that stand for it. Content stays on disk.

        Raises:
            RegistryError: MANIFEST_UNKNOWN: the repository has no such manifest.
        """
        digest, _, content = self.manifest(name, reference)
        tags = self._repositories / name / "_tags"
        if not is_digest(reference):
            (tags / reference).unlink()
            return
        for tag in _file_names(tags):
            if (tags / tag).read_text() == digest:
                (tags / tag).unlink()
        subject = (json.loads(content).get("subject") or {}).get("digest")
        if subject:
            (self._referrers_folder(name, subject) / _hex(digest)).unlink(missing_ok=True)
        self.manifest_file(name, digest).unlink()

    def tags(self, name: str) -> list[str]:
        """Returns the repository's tags in ASCII order.

        Raises:
            RegistryError: NAME_UNKNOWN: there is no such repository.
        """
        if not (self._repositories / name / "_manifests").exists():
            raise RegistryError(
                "NAME_UNKNOWN", "repository name not known to registry", detail={"name": name}
            )
        return _file_names(self._repositories / name / "_tags")

    def repositories(self) -> list[str]:
        """Returns the names of all repositories that hold a manifest, in ASCII order."""
        folders = self._repositories.rglob("_manifests")
        return sorted(
            str(folder.parent.relative_to(self._repositories)) for folder in folders if any(folder.iterdir())
        )

    def manifests(self, name: str) -> list[str]:
        """Returns the digests of the repository's manifests, in order."""
        return [f"sha256:{digits}" for digits in _file_names(self._repositories / name / "_manifests")]

    def delete_repository(self, name: str) -> None:
        """Forget all that is the repository's own; repositories below it stay."""
        forget_repository(self._repositories / name)

    def referrers(self, name: str, subject: str) -> Iterable[dict[str, Any]]:
        """Yields the descriptors of the manifests that name `subject`, in order of digest."""
        folder = self._referrers_folder(name, subject)
        for digits in _file_names(folder):
            yield json.loads((folder / digits).read_bytes())

    def manifest_file(self, name: str, digest: str) -> Path:
        """The path of the file with a manifest's media type, which each push of it writes anew."""
        return self._repositories / name / "_manifests" / _hex(digest)

    def _referrers_folder(self, name: str, subject: str) -> Path:
        return self._repositories / name / "_referrers" / _hex(subject)


def _unknown_manifest(name: str, reference: str) -> RegistryError:
    if is_digest(reference):
        message, detail = f"manifest {reference} is not found", {"Name": name, "Revision": reference}
    else:
        message, detail = f'manifest tagged by "{reference}" is not found', {"Tag": reference}
    return RegistryError("MANIFEST_UNKNOWN", message, detail=detail)


def forget_repository(folder: Path) -> None:
    """Remove from a repository's folder what begins with an underscore, as no name of a repository does."""
    for own in folder.glob("_*"):
        shutil.rmtree(own)


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")


def _file_names(folder: Path) -> list[str]:
    # A tag cannot begin with a dot: what does is being written.
    return sorted(path.name for path in folder.iterdir() if path.name[0] != ".") if folder.exists() else []


def _write_whole(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.parent / f".{uuid.uuid4()}"
    staging.write_bytes(content)
    staging.replace(path)
