"""The largest inputs that are read at all, made to cost as much as they can: memory stays in bounds."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest

from airgap.custody import MAX_LOG_BYTES, verify_log
from airgap.envelope import MAX_ENVELOPE_BYTES, Envelope
from airgap.errors import AirgapError, Code
from airgap.policy import MAX_POLICY_BYTES, TrustPolicy
from airgap.recarry import MAX_REQUEST_BYTES, RecarryRequest
from offline_mover.bags.bag_texts import MAX_TEXT_BYTES, TEXT_FILES, read_texts
from tests.vectors.generate import full_manifest

MOST_BYTES = 140 * 1024 * 1024
"""Beside what the interpreter takes, so that a command keeps below 150 MB more or less."""

_READERS: dict[str, tuple[Callable[[bytes], object], int]] = {
    "envelope": (Envelope.from_bytes, MAX_ENVELOPE_BYTES),
    "re-carry request": (RecarryRequest.from_bytes, MAX_REQUEST_BYTES),
    "trust policy": (TrustPolicy.from_bytes, MAX_POLICY_BYTES),
}
_MALFORMED = {Code.ENVELOPE_MALFORMED, Code.RECARRY_MALFORMED, Code.POLICY_MALFORMED}
_FILLERS: dict[str, Callable[[int], bytes]] = {
    "arrays": lambda size: b"[" + b"[]," * (size // 3 - 2) + b"0]",
    "nested arrays": lambda size: b"[" * size,
    "members": lambda size: b"{" + b",".join(b'"%x":0' % n for n in range(size // 12)) + b"}",
    "numbers": lambda size: b"[" + b"0," * (size // 2 - 2) + b"0]",
    "digits": lambda size: b"9" * size,
    "strings": lambda size: b"[" + b'"ab",' * (size // 5 - 2) + b"0]",
    "ASCII": lambda size: b'"' + b"a" * (size - 2) + b'"',
    "escapes": lambda size: b'"' + rb"\ud83d" * (size // 6 - 2) + b'"',
    "commas": lambda size: b"," * size,
    "a wide character": lambda size: b'"' + b"a" * (size - 6) + "\U0001f600".encode() + b'"',
}


def peak_bytes(act: Callable[[], object]) -> int:
    """The most memory that was held while ``act`` ran, beside what was there before."""
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def refusal(reader: Callable[[bytes], object], raw: bytes) -> Code:
    with pytest.raises(AirgapError) as caught:
        reader(raw)
    return caught.value.code


@pytest.mark.parametrize("filler", _FILLERS)
@pytest.mark.parametrize("name", _READERS)
def test_hostile_json_of_the_largest_size(name: str, filler: str) -> None:
    reader, most = _READERS[name]
    raw = _FILLERS[filler](most)
    assert len(raw) <= most
    assert peak_bytes(lambda: refusal(reader, raw)) < MOST_BYTES
    assert refusal(reader, raw) in _MALFORMED


@pytest.mark.parametrize("name", _READERS)
def test_more_than_the_largest_size_is_refused_unread(name: str) -> None:
    reader, most = _READERS[name]
    raw = b"[" * (most + 1)
    assert peak_bytes(lambda: refusal(reader, raw)) < 1024 * 1024
    assert refusal(reader, raw) in {Code.TOO_LARGE, Code.POLICY_MALFORMED}


_SHARE = 32
"""Lines that are read cost time under the tracer: a share of them may cost that share of the memory."""


@pytest.mark.parametrize(
    "filler", [b"\n", b"a: b\n", b"0" * 64 + b"  x\n"], ids=["empty", "short", "digests"]
)
@pytest.mark.parametrize("name", TEXT_FILES)
def test_bag_text_of_nothing_but_lines(name: str, filler: bytes) -> None:
    share = 1 if len(filler) < 64 else _SHARE
    raw = filler * (MAX_TEXT_BYTES // len(filler) // share)
    manifest = full_manifest()
    assert peak_bytes(lambda: read_texts(manifest, {name: raw}, {})) < MOST_BYTES // share
    assert read_texts(manifest, {name: raw}, {}).damages


@pytest.mark.parametrize("filler", [b"\n", b"{}\n", b"a"], ids=["empty", "objects", "one line"])
def test_custody_log_of_nothing_but_lines(filler: bytes) -> None:
    raw = filler * (MAX_LOG_BYTES // len(filler))
    assert peak_bytes(lambda: verify_log(raw)) < MOST_BYTES
    assert verify_log(raw).findings
