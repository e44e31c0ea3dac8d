"""A faulty medium, as the kernel sees one: a small file system of our own, mounted through ``/dev/fuse``.

It keeps blocks of 4 KiB on a "device", so that a stick with less room than it claims wraps around as real
ones do, and so that what the kernel remembers of a file (its page cache) and what the medium holds can
differ. Needs Linux and root. The structures are those of linux/fuse.h, protocol 7.31.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

BLOCK = 4096
_MAX_WRITE = 128 * 1024
_HEADER = struct.Struct("<IIQQIIIHH")
_ANSWER = struct.Struct("<IiQ")
_ATTR = struct.Struct("<6Q10I")
_ENTRY = struct.Struct("<4Q2I")
_IO = struct.Struct("<QQIIQII")
_ROOT = 1
_NAME_ONLY = b"\0"
_SIZE_GIVEN = 1 << 3
_DIRECT_IO = 1


@dataclass(slots=True)
class Node:
    """A file or a folder; ``blocks`` are places on the device."""

    number: int
    mode: int
    size: int = 0
    blocks: list[int] = field(default_factory=list)
    children: dict[str, int] = field(default_factory=dict)

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)


@dataclass(slots=True, kw_only=True)
class Faults:
    """What is wrong with a medium; names are those of files, without folders.

    Args:
        flip_once: the first read of this file has one bit wrong.
        flip_always: every read of it has.
        unreadable: reads of it fail with EIO from the middle on.
        short_reads: a read gives at most 1000 bytes.
        keeps_nothing_after: of what is written beyond so many bytes, in all, nothing is kept.
        real_bytes: beyond that the device begins again at its start.
        gone_after: so many requests later every request fails, as with a stick that was pulled out.
    """

    flip_once: str = ""
    flip_always: str = ""
    unreadable: str = ""
    short_reads: bool = False
    keeps_nothing_after: int | None = None
    real_bytes: int | None = None
    gone_after: int | None = None


class FaultyMedium:
    """The file system; its faults may be changed while it is mounted."""

    def __init__(self, capacity_bytes: int) -> None:
        self.faults = Faults()
        self.hits = 0
        self._capacity_bytes = capacity_bytes
        self._device: dict[int, bytes] = {}
        self._next_block = 0
        self._written = 0
        self._requests = 0
        self._flipped: set[str] = set()
        self._nodes: dict[int, Node] = {_ROOT: Node(_ROOT, stat.S_IFDIR | 0o755)}
        self._names: dict[int, str] = {_ROOT: ""}
        self._next_node = _ROOT + 1
        self._lock = threading.RLock()
        self._operations: dict[int, Callable[[int, bytes], bytes]] = {
            1: self._lookup,
            3: self._getattr,
            4: self._setattr,
            9: self._mkdir,
            10: self._unlink,
            11: self._unlink,
            12: lambda node, body: self._rename(node, body[:8], body[8:]),
            14: self._open,
            15: self._read,
            16: self._write,
            17: self._statfs,
            18: lambda _node, _body: b"",
            20: lambda _node, _body: b"",
            25: lambda _node, _body: b"",
            26: self._init,
            27: self._open,
            28: self._readdir,
            29: lambda _node, _body: b"",
            30: lambda _node, _body: b"",
            34: lambda _node, _body: b"",
            35: self._create,
            45: lambda node, body: self._rename(node, body[:8], body[16:]),
        }

    @classmethod
    @contextmanager
    def mounted(cls, folder: Path, capacity_bytes: int) -> Iterator[Self]:
        """Mounted at ``folder`` for as long as the block lasts."""
        medium = cls(capacity_bytes)
        device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"faulty", os.fsencode(folder), b"fuse", 0, options.encode()):
            os.close(device)
            raise OSError(ctypes.get_errno(), "mount")
        thread = threading.Thread(target=medium._serve, args=(device,), daemon=True)
        thread.start()
        try:
            yield medium
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)  # noqa: S607 - of the system
            thread.join(10)
            os.close(device)

    def dump(self, folder: Path) -> None:
        """Write what the medium really holds, every lasting fault included, into an empty folder."""
        with self._lock:
            self._dump(self._nodes[_ROOT], folder)

    def _dump(self, node: Node, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        for name, number in node.children.items():
            child = self._nodes[number]
            if child.is_folder:
                self._dump(child, folder / name)
                continue
            content = self._content(child, 0, child.size)
            if name in (self.faults.flip_always, self.faults.unreadable):
                content = _flip(content, len(content) // 2)
            (folder / name).write_bytes(content)

    # --- the protocol ----------------------------------------------------------------------------------

    def _serve(self, device: int) -> None:
        while True:
            try:
                request = os.read(device, _MAX_WRITE + 4096)
            except OSError as error:
                if error.errno in {errno.EINTR, errno.EAGAIN, errno.ENOENT}:
                    continue
                return  # ENODEV: unmounted
            _, opcode, unique, node, *_ = _HEADER.unpack_from(request)
            if opcode in {2, 36, 42}:  # FORGET, INTERRUPT, BATCH_FORGET: no answer is wanted
                continue
            try:
                with self._lock:
                    answer, code = self._answer(opcode, node, request[_HEADER.size :]), 0
            except OSError as error:
                answer, code = b"", error.errno or errno.EIO
            try:
                os.write(device, _ANSWER.pack(_ANSWER.size + len(answer), -code, unique) + answer)
            except OSError:  # whoever asked was killed
                continue

    def _answer(self, opcode: int, node: int, body: bytes) -> bytes:
        operation = self._operations.get(opcode)
        if operation is None:
            raise OSError(errno.ENOSYS, "")
        self._requests += 1
        if self.faults.gone_after is not None and opcode != 26:
            if self.faults.gone_after <= 0:
                self.hits += 1
                raise OSError(errno.EIO, "")
            self.faults.gone_after -= 1
        return operation(node, body)

    def _init(self, _node: int, _body: bytes) -> bytes:
        return struct.pack("<IIIIHHIIHHII6I", 7, 31, _MAX_WRITE, 1 << 5, 16, 12, _MAX_WRITE, 1, *[0] * 10)

    def _attr(self, node: Node) -> bytes:
        blocks = len(node.blocks) * BLOCK // 512
        return _ATTR.pack(node.number, node.size, blocks, 0, 0, 0, 0, 0, 0, node.mode, 1, 0, 0, 0, BLOCK, 0)

    def _entry(self, node: Node) -> bytes:
        return _ENTRY.pack(node.number, 0, 0, 0, 0, 0) + self._attr(node)

    def _child(self, folder: int, name: str) -> Node:
        number = self._nodes[folder].children.get(name)
        if number is None:
            raise OSError(errno.ENOENT, "")
        return self._nodes[number]

    def _lookup(self, folder: int, body: bytes) -> bytes:
        return self._entry(self._child(folder, _text(body)))

    def _getattr(self, number: int, _body: bytes) -> bytes:
        return struct.pack("<QII", 0, 0, 0) + self._attr(self._nodes[number])

    def _setattr(self, number: int, body: bytes) -> bytes:
        valid, _, _, size = struct.unpack_from("<IIQQ", body)
        node = self._nodes[number]
        if valid & _SIZE_GIVEN:
            node.size = size
            del node.blocks[-(-size // BLOCK) :]
            if size % BLOCK and node.blocks:
                last = node.blocks[-1]
                self._keep(last, self._block(last)[: size % BLOCK].ljust(BLOCK, b"\0"))
        return self._getattr(number, b"")

    def _new(self, folder: int, name: str, mode: int) -> Node:
        if name in self._nodes[folder].children:
            raise OSError(errno.EEXIST, "")
        node = Node(self._next_node, mode)
        self._next_node += 1
        self._nodes[node.number] = node
        self._nodes[folder].children[name] = node.number
        self._names[node.number] = name
        return node

    def _mkdir(self, folder: int, body: bytes) -> bytes:
        return self._entry(self._new(folder, _text(body[8:]), stat.S_IFDIR | 0o755))

    def _create(self, folder: int, body: bytes) -> bytes:
        node = self._new(folder, _text(body[16:]), stat.S_IFREG | 0o644)
        return self._entry(node) + self._open(node.number, b"")

    def _unlink(self, folder: int, body: bytes) -> bytes:
        name = _text(body)
        if self._child(folder, name).children:
            raise OSError(errno.ENOTEMPTY, "")
        del self._nodes[folder].children[name]
        return b""

    def _rename(self, folder: int, new_folder: bytes, names: bytes) -> bytes:
        old, new, _ = names.split(_NAME_ONLY, 2)
        node = self._child(folder, os.fsdecode(old))
        del self._nodes[folder].children[os.fsdecode(old)]
        self._nodes[struct.unpack("<Q", new_folder)[0]].children[os.fsdecode(new)] = node.number
        self._names[node.number] = os.fsdecode(new)
        return b""

    def _open(self, number: int, _body: bytes) -> bytes:
        is_direct = self.faults.short_reads and not self._nodes[number].is_folder
        return struct.pack("<QII", number, _DIRECT_IO if is_direct else 0, 0)

    def _statfs(self, _node: int, _body: bytes) -> bytes:
        used = sum(len(node.blocks) for node in self._live())
        total = self._capacity_bytes // BLOCK
        free = max(0, total - used)
        return struct.pack("<5Q4I6I", total, free, free, 1000, 900, BLOCK, 255, BLOCK, 0, *[0] * 6)

    def _live(self) -> Iterator[Node]:
        queue = [self._nodes[_ROOT]]
        while queue:
            node = queue.pop()
            yield node
            queue += [self._nodes[number] for number in node.children.values()]

    def _readdir(self, number: int, body: bytes) -> bytes:
        _, offset, size, *_ = _IO.unpack_from(body)
        listed = b""
        for index, (name, child) in enumerate(self._nodes[number].children.items()):
            if index < offset:
                continue
            raw = os.fsencode(name)
            kind = stat.S_IFMT(self._nodes[child].mode) >> 12
            entry = struct.pack("<QQII", child, index + 1, len(raw), kind) + raw
            entry += b"\0" * (-len(entry) % 8)
            if len(listed) + len(entry) > size:
                break
            listed += entry
        return listed

    # --- bytes -----------------------------------------------------------------------------------------

    def _place(self, block: int) -> int:
        real = self.faults.real_bytes
        if real is None or block < real // BLOCK:
            return block
        self.hits += 1
        return block % (real // BLOCK)

    def _block(self, block: int) -> bytes:
        return self._device.get(self._place(block), b"\0" * BLOCK)

    def _keep(self, block: int, content: bytes) -> None:
        limit = self.faults.keeps_nothing_after
        if limit is not None and self._written > limit:
            self.hits += 1
            return
        self._device[self._place(block)] = content

    def _content(self, node: Node, offset: int, size: int) -> bytes:
        end = min(node.size, offset + size)
        if end <= offset:
            return b""
        first, last = offset // BLOCK, -(-end // BLOCK)
        whole = b"".join(self._block(block) for block in node.blocks[first:last])
        return whole[offset - first * BLOCK : end - first * BLOCK]

    def _read(self, number: int, body: bytes) -> bytes:
        _, offset, size, *_ = _IO.unpack_from(body)
        node, name = self._nodes[number], self._names[number]
        middle = node.size // 2
        faults = self.faults
        if faults.unreadable == name and offset + size > middle:
            self.hits += 1
            raise OSError(errno.EIO, "")
        content = self._content(node, offset, min(size, 1000) if faults.short_reads else size)
        self.hits += faults.short_reads
        if offset <= middle < offset + len(content):
            is_first = name == faults.flip_once and name not in self._flipped
            if is_first or name == faults.flip_always:
                self.hits += 1
                self._flipped.add(name)
                content = _flip(content, middle - offset)
        return content

    def _write(self, number: int, body: bytes) -> bytes:
        _, offset, size, *_ = _IO.unpack_from(body)
        content = body[_IO.size : _IO.size + size]
        node = self._nodes[number]
        needed = -(-(offset + size) // BLOCK)
        if sum(len(other.blocks) for other in self._live()) + needed - len(node.blocks) > (
            self._capacity_bytes // BLOCK
        ):
            raise OSError(errno.ENOSPC, "")
        while len(node.blocks) < needed:
            node.blocks.append(self._next_block)
            self._next_block += 1
        self._written += size
        done = 0
        while done < size:
            index, start = divmod(offset + done, BLOCK)
            piece = content[done : done + BLOCK - start]
            old = self._block(node.blocks[index])
            self._keep(node.blocks[index], old[:start] + piece + old[start + len(piece) :])
            done += len(piece)
        node.size = max(node.size, offset + size)
        return struct.pack("<II", size, 0)


def _text(raw: bytes) -> str:
    return os.fsdecode(raw.rstrip(b"\0"))


def _flip(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0x04]) + content[at + 1 :] if at < len(content) else content
