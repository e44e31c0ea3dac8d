"""A folder in which versions of a trust policy lie, each under the name of its number."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from airgap.errors import Code, MediaError
from airgap.override import MAX_OVERRIDE_BYTES, override_name
from airgap.policy_chain import MAX_VERSION_BYTES, version_name
from offline_mover.medium import media_fs


@dataclass(frozen=True, slots=True)
class PolicyFolder:
    """A folder with versions of a trust policy, beside the pinned one or on a volume; it may not exist."""

    path: Path

    @classmethod
    def beside(cls, trust: Path) -> PolicyFolder:
        """The folder that goes with a pinned policy: ``policy.versions`` beside ``policy.json``."""
        return cls(trust.with_suffix(".versions"))

    @classmethod
    def below(cls, volume: Path) -> PolicyFolder:
        """The folder ``policy`` on a volume, or in any other folder that is carried."""
        return cls(volume / "policy")

    def _place_of(self, name: str) -> Path:
        """Where a file of that name lies.

        Raises:
            MediaError: ``MEDIA_UNREADABLE``: the folder is a file. A link is refused where it is opened.
        """
        if self.path.is_file() and not self.path.is_symlink():
            error = MediaError(
                Code.MEDIA_UNREADABLE, f"{self.path}: a file, and must be a folder or not there"
            )
            error.remedy = (
                "Move that file away: only versions of the trust policy lie there. Then run it again:"
            )
            raise error
        return self.path / name

    def find(self, version: int) -> bytes | None:
        """The envelope of a version; ``None`` if there is none.

        Raises:
            UntrustedInputError: ``UNSAFE_NAME``: a link or a device has the name; ``TOO_LARGE``: it is larger
                than any version.
            MediaError: it cannot be read.
        """
        return _read(self._place_of(version_name(version)), MAX_VERSION_BYTES)

    def find_override(self, manifest_sha256: str) -> bytes | None:
        """The envelope of the override for a manifest; raises as :meth:`find`."""
        return _read(self._place_of(override_name(manifest_sha256)), MAX_OVERRIDE_BYTES)

    def keep_override(self, manifest_sha256: str, envelope: bytes) -> None:
        """Write the envelope of an override, in the place of one that is there; raises as :meth:`keep`."""
        path = self._place_of(override_name(manifest_sha256))
        for folder in (self.path, path.parent):
            media_fs.make_folder(folder, str(folder))
        media_fs.write_durably(path, str(path), envelope)

    def keep(self, version: int, envelope: bytes) -> None:
        """Write the envelope of a version, in the place of one that is there.

        Raises:
            UntrustedInputError: ``UNSAFE_NAME``: a link or something else has the folder's name.
            MediaError: it cannot be written.
        """
        path = self._place_of(version_name(version))
        media_fs.make_folder(self.path, str(self.path))
        media_fs.write_durably(path, str(path), envelope)


def _read(path: Path, max_bytes: int) -> bytes | None:
    return media_fs.read_capped(path, str(path), max_bytes=max_bytes) if media_fs.exists(path) else None
