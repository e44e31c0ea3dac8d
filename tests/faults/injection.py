"""Faults inside one run of the command: it is killed at a step, its power is cut, its clock is wrong.

Loaded in the child process that becomes the command (:mod:`tests.faults.launcher`). The product's code stays
as it is: what is wrapped are the operating system's calls below it. A *step* is one call that changes a
volume or sends bytes: creating, writing, flushing, renaming, removing a file, making a folder, sending on a
TLS connection. The command is killed in the middle of its step: half of a write is written, half of what was
to be sent is sent.
"""

from __future__ import annotations

import importlib
import io
import os
import signal
import ssl
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from typing import Any, Self

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass(frozen=True, kw_only=True)
class Injection:
    """What goes wrong in one run.

    Args:
        kill_at: the step, counted from 1, in which the process is killed; 0 for never.
        power_cut: what was not flushed by then is lost as well, see :class:`_Unflushed`.
        clock_days: how wrong the clock is, in days.
        constants: module attributes to set, ``module:name``; only waiting times are ever set with it.
        blind: the digests that the command computes are not compared with anything: a broken mover, for the
            suite's test of itself.
    """

    kill_at: int = 0
    power_cut: str = ""
    clock_days: int = 0
    constants: dict[str, float] = field(default_factory=dict)
    blind: bool = False

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Self:
        """As the launcher received it."""
        return cls(**raw)

    def install(self, steps_to: int) -> None:
        """Take effect in this process; the count of steps goes to the file descriptor ``steps_to``."""
        for target, value in self.constants.items():
            module, name = target.split(":")
            setattr(importlib.import_module(module), name, value)
        if self.clock_days:
            _set_clock(timedelta(days=self.clock_days))
        if self.blind:
            _blind()
        _Steps(self.kill_at, steps_to, self.power_cut).install()


class _Unflushed:
    """What a power cut at this moment would take away; a kernel may have written any of it, or nothing.

    ``content``: names are kept, what was written since the last fsync of a file reads as nothing.
    ``names``: renames since the last fsync of their folder have not happened.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._dirty: dict[int, str] = {}
        self._renames: dict[str, list[tuple[str, str]]] = {}

    def written(self, descriptor: int) -> None:
        self._dirty[descriptor] = os.readlink(f"/proc/self/fd/{descriptor}")

    def synced(self, descriptor: int) -> None:
        self._dirty.pop(descriptor, None)
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            self._renames.pop(os.readlink(f"/proc/self/fd/{descriptor}"), None)

    def renamed(self, source: str, target: str, *, was_there: bool) -> None:
        for descriptor, name in list(self._dirty.items()):  # other threads write meanwhile
            if name == os.path.realpath(source):
                self._dirty[descriptor] = os.path.realpath(target)
        if not was_there:
            folder = os.path.realpath(os.path.dirname(target))
            self._renames.setdefault(folder, []).append((source, target))

    def lose(self) -> None:
        """The power is gone."""
        if self._kind == "content":
            for name in list(self._dirty.values()):
                if os.path.isfile(name):
                    os.truncate(name, 0)
        elif self._kind == "names":
            for renames in list(self._renames.values()):
                for source, target in reversed(renames):
                    if os.path.lexists(target):
                        os.rename(target, source)


class _Steps:
    """Counts the steps and kills in the middle of one."""

    def __init__(self, kill_at: int, steps_to: int, power_cut: str) -> None:
        self._kill_at = kill_at
        self._steps_to = steps_to
        self._count = 0
        self._lock = threading.Lock()
        self._unflushed = _Unflushed(power_cut)
        self._own = threading.local()

    def install(self) -> None:
        steps, real_open = self, os.open
        for name in ("mkdir", "unlink", "rmdir", "ftruncate"):
            setattr(os, name, self._counted(getattr(os, name)))
        os.fsync = self._fsync(os.fsync)  # type: ignore[assignment]  # only ever called with a descriptor
        os.replace = self._replace(os.replace)
        os.rename = self._replace(os.rename)
        os.write = self._write(os.write)

        def counted_open(path: Any, flags: int, *args: Any, **options: Any) -> int:
            if flags & _WRITING:
                steps.step(lambda: None)
            return real_open(path, flags, *args, **options)

        os.open = counted_open

        class CountedFile(io.FileIO):
            def write(self, content: Any, /) -> int:
                half = memoryview(content)[: len(content) // 2]
                steps.step(lambda: super(CountedFile, self).write(half))
                steps.note_written(self.fileno())
                return super().write(content) or 0

        io.FileIO = CountedFile  # type: ignore[misc]  # the name that media_fs looks up
        real_send, real_sendall = ssl.SSLSocket.send, ssl.SSLSocket.sendall

        def send(self: ssl.SSLSocket, content: Any, flags: int = 0) -> int:
            half = memoryview(content)[: len(content) // 2]
            steps.step(lambda: real_send(self, half, flags) if half else None)
            with steps.own():
                return real_send(self, content, flags)

        def sendall(self: ssl.SSLSocket, content: Any, flags: int = 0) -> None:
            half = memoryview(content)[: len(content) // 2]
            steps.step(lambda: real_sendall(self, half, flags) if half else None)
            with steps.own():
                real_sendall(self, content, flags)

        ssl.SSLSocket.send = send  # type: ignore[assignment,method-assign]  # the edge to the network
        ssl.SSLSocket.sendall = sendall  # type: ignore[assignment,method-assign]  # as above

    def step(self, half: Callable[[], object]) -> None:
        """One step; ``half`` does half of it, when the process is to end in its middle."""
        if getattr(self._own, "depth", 0):
            return
        with self._lock:
            self._count += 1
            os.pwrite(self._steps_to, b"%08d" % self._count, 0)
            if self._count != self._kill_at:
                return
            with self.own():
                half()
                self._unflushed.lose()
            os.kill(os.getpid(), signal.SIGKILL)

    def own(self) -> _Own:
        """What is called in this block, in this thread, is part of a step that was counted."""
        return _Own(self._own)

    def note_written(self, descriptor: int) -> None:
        self._unflushed.written(descriptor)

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            self.step(lambda: None)
            return real(*args, **options)

        return call

    def _fsync(self, real: Callable[[int], None]) -> Callable[[int], None]:
        def call(descriptor: int) -> None:
            self.step(lambda: None)
            real(descriptor)
            self._unflushed.synced(descriptor)

        return call

    def _replace(self, real: Callable[..., None]) -> Callable[..., None]:
        def call(source: Any, target: Any, **options: Any) -> None:
            self.step(lambda: None)
            old, new = _full(source, options.get("src_dir_fd")), _full(target, options.get("dst_dir_fd"))
            was_there = os.path.lexists(new)
            real(source, target, **options)
            self._unflushed.renamed(old, new, was_there=was_there)

        return call

    def _write(self, real: Callable[[int, Any], int]) -> Callable[[int, Any], int]:
        def call(descriptor: int, content: Any) -> int:
            if descriptor > 2 and stat.S_ISREG(os.fstat(descriptor).st_mode):
                half = memoryview(content)[: len(content) // 2]
                self.step(lambda: real(descriptor, half))
                self._unflushed.written(descriptor)
            return real(descriptor, content)

        return call


def _full(name: Any, folder: int | None) -> str:
    """A name with its open folder's path before it."""
    return os.fspath(name) if folder is None else f"{os.readlink(f'/proc/self/fd/{folder}')}/{name}"


class _Own:
    """Marks a stretch of one thread."""

    def __init__(self, local: threading.local) -> None:
        self._local = local

    def __enter__(self) -> None:
        self._local.depth = getattr(self._local, "depth", 0) + 1

    def __exit__(self, *_: object) -> None:
        self._local.depth -= 1


def _set_clock(shift: timedelta) -> None:
    """Of the one place where the command reads it."""
    session = importlib.import_module("offline_mover.cli.session")

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.now(tz) + shift

    session.datetime = Shifted  # type: ignore[attr-defined]  # a name of the module


def _blind() -> None:
    """Every hash comes out as if it were right: what a mover that compares nothing would do."""
    checking = importlib.import_module("offline_mover.bags.checking")
    stream = importlib.import_module("offline_mover.storage.part_stream")
    checking.check_file = lambda *_args, **_options: None  # type: ignore[attr-defined]  # as above

    class Agreeable(str):
        __slots__ = ()

        def __ne__(self, other: object) -> bool:
            return False

        __hash__ = str.__hash__

    real_open = stream.PartStream.__init__

    def opened(self: Any, file: Any, part: Any, sha256: str, meter: Any) -> None:
        real_open(self, file, part, Agreeable(sha256), meter)

    stream.PartStream.__init__ = opened
