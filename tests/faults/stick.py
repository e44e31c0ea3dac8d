"""A stick: an image with a real FAT32, exFAT or NTFS on it, plugged in, ejected, or just pulled out.

The kernels of test machines often know none of these; the same formats are served by programs then
(exfat-fuse, ntfs-3g, fusefat). Needs Linux, root, ``/dev/fuse`` and those programs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

_SECTOR_BYTES = 512
_DEADLINE_S = 20.0
_POLL_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """Programs for a file system; ``{image}`` and ``{point}`` are put in. ``serve`` runs until it is over."""

    make: Sequence[str]
    serve: Sequence[str]
    check: Sequence[str]
    mend: Sequence[str]
    needs_block_device: bool = False

    @property
    def is_here(self) -> bool:
        """Whether it can be tried on this machine."""
        programs = {command[0] for command in (self.make, self.serve, self.check, self.mend)}
        return os.path.exists("/dev/fuse") and os.geteuid() == 0 and all(map(shutil.which, programs))


FORMATS = {
    "fat32": Format(
        make=("mkfs.vfat", "-F", "32", "{image}"),
        serve=("fusefat", "-f", "-o", "rw+", "{image}", "{point}"),
        check=("fsck.vfat", "-n", "{image}"),
        mend=("fsck.vfat", "-a", "{image}"),
    ),
    "exfat": Format(
        make=("mkfs.exfat", "{image}"),
        serve=("mount.exfat-fuse", "-d", "{image}", "{point}"),
        check=("fsck.exfat", "-n", "{image}"),
        mend=("fsck.exfat", "-y", "{image}"),
        needs_block_device=True,
    ),
    "ntfs": Format(
        make=("mkntfs", "-F", "-Q", "{image}"),
        serve=("ntfs-3g", "-o", "no_detach", "{image}", "{point}"),
        check=("ntfsfix", "-n", "{image}"),
        mend=("ntfsfix", "{image}"),
    ),
}


class MountError(Exception):
    """This machine does not let us."""


@dataclass(slots=True, kw_only=True)
class Stick:
    """Plugged in at ``point`` or not at all."""

    format: Format
    image: Path
    point: Path
    _program: subprocess.Popen[bytes] | None = None
    _loop: str = field(default="")

    @classmethod
    @contextmanager
    def new(cls, kind: str, image: Path, point: Path, size_bytes: int) -> Iterator[Self]:
        """A formatted one, plugged in; it is gone afterwards."""
        image.touch()
        os.truncate(image, size_bytes)
        stick = cls(format=FORMATS[kind], image=image, point=point)
        try:
            stick._run(stick.format.make)
            stick.plug_in()
            yield stick
        finally:
            stick.pull_out()
            image.unlink()

    @property
    def is_plugged_in(self) -> bool:
        """Whether it was not taken away since."""
        return self._program is not None

    def plug_in(self) -> None:
        """Mount it."""
        assert self._program is None, "it is plugged in already"
        served = str(self.image)
        if self.format.needs_block_device:
            if not os.path.exists("/dev/loop-control"):
                raise MountError("no loop devices")
            served = self._loop = self._run(("losetup", "--find", "--show", "{image}")).strip()
        command = [word.format(image=served, point=self.point) for word in self.format.serve]
        self._program = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + _DEADLINE_S
        while not os.path.ismount(self.point):
            if self._program.poll() is not None or time.monotonic() > deadline:
                raise MountError(f"{command[0]} does not mount")
            threading.Event().wait(_POLL_S)

    def eject(self) -> None:
        """Unmount it in order; its file system has to be consistent then."""
        assert self._program is not None
        self._run(("umount", "{point}"))
        self._program.wait(_DEADLINE_S)
        self._program = None
        self._unloop()
        self._run(self.format.check)

    def pull_out(self) -> None:
        """Without a word: what its driver has not written is lost."""
        if self._program is not None:
            self._program.kill()
            self._program.wait(_DEADLINE_S)
            self._program = None
        if os.path.ismount(self.point) or self._is_dead():
            self._run(("umount", "--lazy", "{point}"))
        self._unloop()

    def mend(self) -> None:
        """What a desktop offers to do with a stick that was pulled out."""
        command = [word.format(image=self.image, point=self.point) for word in self.format.mend]
        subprocess.run(command, capture_output=True, check=False, timeout=_DEADLINE_S)

    def flip(self, content: bytes) -> None:
        """One bit of the only place that holds these bytes; not while it is plugged in."""
        held = bytearray(self.image.read_bytes())
        # What was written beside other files lies in pieces: only a sector is sure to be in one.
        sector = content[:_SECTOR_BYTES]
        assert held.count(sector) == 1
        held[held.index(sector) + len(sector) // 2] ^= 0x10
        self.image.write_bytes(held)

    def _is_dead(self) -> bool:
        try:
            os.stat(self.point)
        except OSError:
            return True
        return False

    def _unloop(self) -> None:
        if self._loop:
            self._run(("losetup", "--detach", self._loop))
            self._loop = ""

    def _run(self, command: Sequence[str]) -> str:
        words = [word.format(image=self.image, point=self.point) for word in command]
        done = subprocess.run(words, capture_output=True, check=False, timeout=_DEADLINE_S, text=True)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout
