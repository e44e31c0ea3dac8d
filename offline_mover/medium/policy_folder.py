"""A folder in which versions of a trust policy lie, each under the name of its number."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from airgap.override import MAX_OVERRIDE_BYTES, override_name
from airgap.policy_chain import MAX_VERSION_BYTES, version_name
from offline_mover.medium import media_fs


@dataclass(frozen=True, slots=True)
class PolicyFolder:
    """Beside a pinned policy, or on a volume; it need not be there yet."""

    path: Path

    @classmethod
    def beside(cls, trust: Path) -> PolicyFolder:
        """The one of a pinned policy: ``policy.versions`` beside ``policy.json``."""
        return cls(trust.with_suffix(".versions"))

    @classmethod
    def below(cls, volume: Path) -> PolicyFolder:
        """The one on a volume, or in any folder that is carried: ``policy`` below it."""
        return cls(volume / "policy")

    def _named(self, version: int) -> tuple[Path, str]:
        name = version_name(version)
        return self.path / name, f"{self.path.name}/{name}"

    def find(self, version: int) -> bytes | None:
        """The envelope of a version; ``None`` if there is none.

        Raises:
            UntrustedInputError: ``UNSAFE_NAME``: a link or a device has the name; ``TOO_LARGE``.
            MediaError: it cannot be read.
        """
        path, name = self._named(version)
        if not media_fs.exists(path):
            return None
        return media_fs.read_capped(path, name, max_bytes=MAX_VERSION_BYTES)

    def find_override(self, manifest_sha256: str) -> bytes | None:
        """The envelope of the override for a manifest; raises as :meth:`find`."""
        path = self.path / override_name(manifest_sha256)
        if not media_fs.exists(path):
            return None
        return media_fs.read_capped(path, path.name, max_bytes=MAX_OVERRIDE_BYTES)

    def keep_override(self, manifest_sha256: str, envelope: bytes) -> None:
        """Write the envelope of an override, in the place of one that is there; raises as :meth:`keep`."""
        path = self.path / override_name(manifest_sha256)
        media_fs.make_folder(self.path, self.path.name)
        media_fs.make_folder(path.parent, path.parent.name)
        media_fs.write_durably(path, path.name, envelope)

    def keep(self, version: int, envelope: bytes) -> None:
        """Write the envelope of a version, in the place of one that is there.

        Raises:
            UntrustedInputError: ``UNSAFE_NAME``: a link or something else has the folder's name.
            MediaError: it cannot be written.
        """
        media_fs.make_folder(self.path, self.path.name)
        path, name = self._named(version)
        media_fs.write_durably(path, name, envelope)
