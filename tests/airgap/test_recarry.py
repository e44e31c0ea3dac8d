"""Re-carry requests: anybody may write one; it can ask for signed parts and for nothing else."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airgap.errors import Code, UntrustedInputError
from airgap.manifest import BundleManifest, manifest_digest
from airgap.recarry import (
    MAX_REQUEST_BYTES,
    REQUEST_NAME,
    RecarryRequest,
    WantedPart,
    describe_parts,
)
from airgap.statement import MAX_SUBJECTS
from airgap.strict_json import dump_canonical
from tests.vectors.generate import NOW, full_manifest, minimal_manifest

MANIFEST = full_manifest()
DIGEST = manifest_digest(MANIFEST.to_bytes())
NAMES = [part.name for part, _ in MANIFEST.parts()]


def request(*names: str, reason: str | None = None) -> RecarryRequest:
    return RecarryRequest.for_parts(MANIFEST, DIGEST, names or NAMES, NOW, reason=reason)


def refusal(act: Callable[[], object]) -> UntrustedInputError:
    with pytest.raises(UntrustedInputError) as caught:
        act()
    return caught.value


def test_request_names_the_missing_parts_with_their_signed_digests() -> None:
    asked = request("002/00000001.part", "001/00000003.part", "001/00000003.part")
    assert json.loads(asked.to_bytes()) == {
        "schema": 1,
        "transferId": MANIFEST.transfer_id,
        "manifestDigest": f"sha256:{DIGEST}",
        "channel": "prod",
        "requestedAt": "2026-01-31T08:00:00Z",
        "partCount": 2,
        "byteCount": 1 + 4 * 1024 * 1024,
        "parts": [
            {"name": "001/00000003.part", "sha256": MANIFEST.blobs[0].part_sha256[2], "size": 1},
            {"name": "002/00000001.part", "sha256": MANIFEST.blobs[1].part_sha256[0], "size": 4194304},
        ],
    }
    assert REQUEST_NAME == "recarry.json"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(NAMES), min_size=1), st.none() | st.just("scratched, 雲"))
def test_what_was_written_is_read_and_matches(names: list[str], reason: str | None) -> None:
    asked = RecarryRequest.from_bytes(request(*names, reason=reason).to_bytes())
    assert asked == request(*names, reason=reason)
    assert [part.name for part, _ in asked.require_matches(MANIFEST, DIGEST)] == sorted(set(names))


def test_microseconds_do_not_survive_and_do_not_break_the_round_trip() -> None:
    asked = RecarryRequest.for_parts(MANIFEST, DIGEST, NAMES, NOW + timedelta(microseconds=7))
    assert RecarryRequest.from_bytes(asked.to_bytes()) == asked


@pytest.mark.parametrize(
    "names", [["003/00000001.part"], ["../etc/passwd"], []], ids=["other", "no part", "none"]
)
def test_parts_of_no_manifest_cannot_be_asked_for(names: list[str]) -> None:
    caught = refusal(lambda: RecarryRequest.for_parts(MANIFEST, DIGEST, names, NOW))
    assert caught.code is Code.RECARRY_MALFORMED


INVALID: dict[str, Callable[[dict[str, Any]], object]] = {
    "earlier schema": lambda r: r.update(schema=0),
    "schema true": lambda r: r.update(schema=True),
    "unknown member": lambda r: r.update(command="format"),
    "no digest": lambda r: r.pop("manifestDigest"),
    "digest without algorithm": lambda r: r.update(manifestDigest=DIGEST),
    "traversal for a transfer": lambda r: r.update(transferId="../../../etc"),
    "traversal for a part": lambda r: r["parts"][0].update(name="../../secret/1.part"),
    "nothing asked for": lambda r: r.update(parts=[], partCount=0, byteCount=0),
    "wrong count": lambda r: r.update(partCount=3),
    "wrong sum": lambda r: r.update(byteCount=1),
    "out of order": lambda r: r["parts"].reverse(),
    "a part twice": lambda r: r["parts"].insert(0, r["parts"][0]),
    "size zero": lambda r: r["parts"][0].update(size=0),
    "size beyond any part": lambda r: r["parts"][0].update(size=2**40),
    "upper-case digest": lambda r: r["parts"][0].update(sha256="A" * 64),
    "unknown member of a part": lambda r: r["parts"][0].update(url="https://example.com"),
    "parts an object": lambda r: r.update(parts={}),
    "local time": lambda r: r.update(requestedAt="2026-01-31T08:00:00+01:00"),
    "reason null": lambda r: r.update(reason=None),
    "reason with a line break": lambda r: r.update(reason="a\nb"),
    "reason without end": lambda r: r.update(reason="a" * 201),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_request_is_refused(name: str) -> None:
    value = json.loads(request().to_bytes())
    INVALID[name](value)
    caught = refusal(lambda: RecarryRequest.from_bytes(dump_canonical(value)))
    assert caught.code is Code.RECARRY_MALFORMED


@pytest.mark.parametrize(
    "raw",
    [b"", b"null", b"[]", b"\xff", b"[" * 200_000, b'{"schema":1,"schema":1}', b'{"":0' + b',"":0' * 400_000],
    ids=["empty", "null", "array", "not UTF-8", "brackets", "a member twice", "a flood of members"],
)
def test_what_is_no_request_at_all_is_refused(raw: bytes) -> None:
    assert refusal(lambda: RecarryRequest.from_bytes(raw)).code is Code.RECARRY_MALFORMED


def other_part(**changes: Any) -> RecarryRequest:
    first, *rest = request().parts
    return replace(request(), parts=(replace(first, **changes), *rest))


MISMATCHES: dict[str, RecarryRequest] = {
    "other bundle": replace(request(), manifest_sha256="0" * 64),
    "other transfer": replace(request(), transfer_id="0" * 32),
    "other channel": replace(request(), channel="test"),
    "other digest": other_part(sha256="0" * 64),
    "other size": other_part(size_bytes=1),
    "no such part": replace(
        request(),
        parts=(*request().parts, WantedPart(name="003/00000001.part", sha256="0" * 64, size_bytes=1)),
    ),
}


@pytest.mark.parametrize("name", MISMATCHES)
def test_request_for_anything_else_than_signed_parts_is_refused(name: str) -> None:
    caught = refusal(lambda: MISMATCHES[name].require_matches(MANIFEST, DIGEST))
    assert caught.code is Code.RECARRY_MALFORMED


def test_request_for_one_bundle_is_none_for_another() -> None:
    other = minimal_manifest()
    asked = RecarryRequest.for_parts(other, manifest_digest(other.to_bytes()), ["001/00000001.part"], NOW)
    assert refusal(lambda: asked.require_matches(MANIFEST, DIGEST)).code is Code.RECARRY_MALFORMED


def largest_manifest() -> BundleManifest:
    """120,000 parts of the largest size in three blobs."""
    blob = MANIFEST.blobs[1]
    size = 4000 * 1024 * 1024
    blobs = tuple(
        replace(
            blob,
            name=f"{index + 1:03d}",
            size_bytes=40_000 * size,
            part_size_bytes=size,
            part_sha256=("f" * 64,) * 40_000,
            artifacts=(replace(MANIFEST.artifacts[0], reference=f"app{index}:1", tags=("1",)),),
        )
        for index in range(3)
    )
    return replace(MANIFEST, blobs=blobs, transfer_id="t" * 40, channel="c" * 63)


def test_all_parts_of_the_largest_bundle_fit_into_a_request() -> None:
    manifest = largest_manifest()
    names = [part.name for part, _ in manifest.parts()]
    raw = RecarryRequest.for_parts(manifest, DIGEST, names, NOW, reason="{" * 200).to_bytes()
    assert len(names) == MAX_SUBJECTS
    assert len(raw) <= MAX_REQUEST_BYTES
    assert len(RecarryRequest.from_bytes(raw).require_matches(manifest, DIGEST)) == MAX_SUBJECTS
    assert refusal(lambda: RecarryRequest.from_bytes(raw + b" " * MAX_REQUEST_BYTES)).code is Code.TOO_LARGE


def test_neighbours_are_drawn_together_for_a_person() -> None:
    assert describe_parts([]) == ""
    assert describe_parts(NAMES) == "001/00000001-00000003, 002/00000001"
    gaps = [f"001/{number:08d}.part" for number in range(1, 40, 2)]
    assert describe_parts(gaps, most=2) == "001/00000001, 001/00000003 and 18 more"
