"""The largest inputs that are read at all, made to cost as much as they can: memory stays in bounds."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from airgap.custody import MAX_LOG_BYTES, verify_log
from airgap.envelope import MAX_ENVELOPE_BYTES, Envelope
from airgap.errors import AirgapError, Code
from airgap.policy import MAX_POLICY_BYTES, TrustPolicy
from airgap.recarry import MAX_REQUEST_BYTES, RecarryRequest
from offline_mover import bag
from tests.vectors.generate import full_manifest

MOST_BYTES = 140 * 1024 * 1024
"""Beside what the interpreter takes, so that a command keeps below 150 MB more or less."""

_READERS: dict[str, tuple[Callable[[bytes], object], int]] = {
    "envelope": (Envelope.from_bytes, MAX_ENVELOPE_BYTES),
    "re-carry request": (RecarryRequest.from_bytes, MAX_REQUEST_BYTES),
    "trust policy": (TrustPolicy.from_bytes, MAX_POLICY_BYTES),
}
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


@pytest.fixture
def peak_bytes() -> Iterator[Callable[[], int]]:
    """Asks for the most memory that was held since the test began."""
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("filler", _FILLERS)
@pytest.mark.parametrize("name", _READERS)
def test_hostile_json_of_the_largest_size(peak_bytes: Callable[[], int], name: str, filler: str) -> None:
    reader, most = _READERS[name]
    raw = _FILLERS[filler](most)
    assert len(raw) <= most
    tracemalloc.reset_peak()
    with pytest.raises(AirgapError) as refusal:
        reader(raw)
    assert refusal.value.code in {Code.ENVELOPE_MALFORMED, Code.RECARRY_MALFORMED, Code.POLICY_MALFORMED}
    assert peak_bytes() < MOST_BYTES


@pytest.mark.parametrize("name", _READERS)
def test_more_than_the_largest_size_is_refused_unread(peak_bytes: Callable[[], int], name: str) -> None:
    reader, most = _READERS[name]
    raw = b"[" * (most + 1)
    tracemalloc.reset_peak()
    before = peak_bytes()
    with pytest.raises(AirgapError) as refusal:
        reader(raw)
    assert refusal.value.code in {Code.TOO_LARGE, Code.POLICY_MALFORMED}
    assert peak_bytes() - before < 1024 * 1024


_SHARE = 8
"""Many short lines cost the bag's reader much time: an eighth of them may cost an eighth of the memory."""


@pytest.mark.parametrize(
    "filler", [b"\n", b"a: b\n", b"0" * 64 + b"  x\n"], ids=["empty", "short", "digests"]
)
@pytest.mark.parametrize("name", bag.TEXT_FILES)
def test_bag_text_of_nothing_but_lines(
    peak_bytes: Callable[[], int], request: pytest.FixtureRequest, name: str, filler: bytes
) -> None:
    if len(filler) < 64:
        reason = "bag.py splits a text into lines before it has counted them: 16 MiB of newlines take 300 MB"
        request.applymarker(pytest.mark.xfail(strict=True, reason=reason))
    raw = filler * (bag.MAX_TEXT_BYTES // len(filler) // _SHARE)
    tracemalloc.reset_peak()
    assert bag.read_texts(full_manifest(), {name: raw}, {}).damages
    assert peak_bytes() < MOST_BYTES // _SHARE


@pytest.mark.parametrize("filler", [b"\n", b"{}\n", b"a"], ids=["empty", "objects", "one line"])
def test_custody_log_of_nothing_but_lines(peak_bytes: Callable[[], int], filler: bytes) -> None:
    raw = filler * (MAX_LOG_BYTES // len(filler))
    tracemalloc.reset_peak()
    assert verify_log(raw).findings
    assert peak_bytes() < MOST_BYTES
