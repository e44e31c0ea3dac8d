"""The platforms and Pythons that a packed mover runs on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

WHEEL_PLATFORMS: Mapping[str, str] = {
    "linux-x86_64": "x86_64-manylinux2014",
    "linux-aarch64": "aarch64-manylinux2014",
    "win-amd64": "x86_64-pc-windows-msvc",
    "macosx-arm64": "aarch64-apple-darwin",
}
"""What uv calls each platform; manylinux2014 means glibc 2.17 or later."""

MINORS = (11, 12, 13, 14)
"""The minor versions of CPython 3 that the packed mover runs on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A target: one platform with one minor version of Python."""

    platform: str
    minor: int

    @property
    def key(self) -> str:
        """The target's name, as :func:`portable.native_loader.target_key` finds it at run time."""
        return f"{self.platform}-cp3{self.minor}"

    @property
    def wheel_platform(self) -> str:
        """The platform's name for uv."""
        return WHEEL_PLATFORMS[self.platform]

    @property
    def python_version(self) -> str:
        """The version of Python, such as ``3.11``."""
        return f"3.{self.minor}"


TARGETS = tuple(Target(platform=platform, minor=minor) for platform in WHEEL_PLATFORMS for minor in MINORS)
