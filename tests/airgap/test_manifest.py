"""The bundle manifest: strict reading of untrusted statements."""

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airgap import parts
from airgap.errors import Code, UntrustedInputError
from airgap.manifest import BundleManifest, TransferBlob, Void
from airgap.parts import MIB
from airgap.strict_json import dump_canonical
from tests.vectors.generate import NOW, full_manifest, minimal_manifest

Change = Callable[[dict[str, Any]], object]


def predicate(change: Change) -> Change:
    return lambda statement: change(statement["predicate"])


def blob(change: Change) -> Change:
    return lambda statement: change(statement["predicate"]["blobs"][0])


def artifact(change: Change) -> Change:
    return lambda statement: change(statement["predicate"]["blobs"][0]["artifacts"][0])


INVALID: dict[str, tuple[Change, str]] = {
    "other statement type": (lambda s: s.update(_type="https://in-toto.io/Statement/v0.1"), "_type"),
    "other predicate type": (
        lambda s: s.update(predicateType="urn:acr-airgap-transfer:receipt:v1"),
        "predicateType",
    ),
    "unknown member": (predicate(lambda p: p.update(notBefore="x")), "notBefore"),
    "missing member": (predicate(lambda p: p.pop("audience")), "audience"),
    "empty audience": (predicate(lambda p: p.update(audience=[])), "audience"),
    "audience with scheme": (predicate(lambda p: p.update(audience=["https://a.azurecr.io"])), "audience"),
    "transfer id climbs": (predicate(lambda p: p.update(transferId="../../../etc")), "transferId"),
    "transfer id is another folder's": (predicate(lambda p: p.update(transferId="receipts")), "transferId"),
    "transfer id too long": (predicate(lambda p: p.update(transferId="a" * 41)), "transferId"),
    "channel with slash": (predicate(lambda p: p.update(channel="a/b")), "channel"),
    "sequence zero": (predicate(lambda p: p.update(sequence=0)), "sequence"),
    "sequence true": (predicate(lambda p: p.update(sequence=True)), "sequence"),
    "sequence text": (predicate(lambda p: p.update(sequence="1")), "sequence"),
    "first with previous": (predicate(lambda p: p.update(previous={"sha256": "0" * 64})), "previous"),
    "second without previous": (predicate(lambda p: p.update(sequence=2)), "previous"),
    "time with offset": (predicate(lambda p: p.update(createdAt="2026-01-31T08:00:00+00:00")), "createdAt"),
    "impossible date": (predicate(lambda p: p.update(createdAt="2026-02-30T08:00:00Z")), "createdAt"),
    "expiry before making": (predicate(lambda p: p.update(expiresAt="2026-01-31T08:00:00Z")), "expiresAt"),
    "no blobs": (predicate(lambda p: p.update(blobs=[])), "blobs"),
    "blob misnamed": (blob(lambda b: b.update(name="002")), "name"),
    "blob climbs": (blob(lambda b: b.update(name="../001")), "name"),
    "blob empty": (blob(lambda b: b.update(size=0)), "size"),
    "blob beyond a block blob": (blob(lambda b: b.update(size=4000 * MIB * 50_000 + 1)), "size"),
    "part size too small": (blob(lambda b: b.update(partSize=4 * MIB - 1)), "partSize"),
    "part size too large": (blob(lambda b: b.update(partSize=4000 * MIB + 1)), "partSize"),
    "too many parts": (blob(lambda b: b.update(size=4 * MIB * 50_001)), "partSize"),
    "size of two parts": (blob(lambda b: b.update(size=4 * MIB + 1)), "subject"),
    "md5 not base64": (blob(lambda b: b.update(contentMd5="0" * 32)), "contentMd5"),
    "metadata with newline": (blob(lambda b: b.update(metadata={"a": "b\r\nx-evil: 1"})), "metadata"),
    "metadata name not a token": (blob(lambda b: b.update(metadata={"a b": "c"})), "metadata"),
    "no artifacts": (blob(lambda b: b.update(artifacts=[])), "artifacts"),
    "reference with host": (artifact(lambda a: a.update(reference="evil.io:443/app:1")), "reference"),
    "own tag need not be there": (artifact(lambda a: a.update(tags=["latest"])), "tags"),
    "reference climbs": (artifact(lambda a: a.update(reference="../app:1")), "reference"),
    "reference of another digest": (
        artifact(lambda a: a.update(reference="samples/app@sha256:" + "0" * 64)),
        "digest",
    ),
    "digest of another algorithm": (artifact(lambda a: a.update(digest="sha512:" + "0" * 128)), "digest"),
    "tag with slash": (artifact(lambda a: a.update(tags=["a/b"])), "tags"),
    "subject misnamed": (lambda s: s["subject"][0].update(name="001/00000002.part"), "subject"),
    "subject climbs": (lambda s: s["subject"][0].update(name="../../001/00000001.part"), "subject"),
    "subject twice": (lambda s: s["subject"].append(dict(s["subject"][0])), "subject"),
    "subject with md5 too": (lambda s: s["subject"][0]["digest"].update(md5="0" * 32), "digest"),
    "digest upper-case": (lambda s: s["subject"][0]["digest"].update(sha256="A" * 64), "digest"),
    "void without a reason": (predicate(lambda p: p.update(voids=[{"sequence": 1, "who": "x"}])), "reason"),
    "void of its own number": (
        predicate(lambda p: p.update(voids=[{"sequence": 1, "reason": "x", "who": "x"}])),
        "voids",
    ),
    "null byte in text": (predicate(lambda p: p["source"].update(cloud="a\0b")), "cloud"),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_manifest_is_refused_by_the_name_of_the_field(name: str) -> None:
    change, field = INVALID[name]
    statement = json.loads(minimal_manifest().to_bytes())
    change(statement)
    with pytest.raises(UntrustedInputError) as refusal:
        BundleManifest.from_bytes(dump_canonical(statement))
    assert refusal.value.code is Code.MANIFEST_MALFORMED
    assert field in refusal.value.detail


@pytest.mark.parametrize(
    "change",
    [
        {"predicateType": "urn:acr-airgap-transfer:bundle:v2", "predicate": {}},
        {"_type": "https://in-toto.io/Statement/v2", "subject": {}},
    ],
    ids=["bundle", "statement"],
)
def test_manifest_of_a_later_version_is_a_newer_tools(change: dict[str, Any]) -> None:
    statement = json.loads(minimal_manifest().to_bytes()) | change
    with pytest.raises(UntrustedInputError) as refusal:
        BundleManifest.from_bytes(dump_canonical(statement))
    assert refusal.value.code is Code.NEWER_FORMAT


@pytest.mark.parametrize("numbers", [(3, 2), (2, 2), (2, 5)])
def test_voids_are_lower_numbers_in_their_order(numbers: tuple[int, ...]) -> None:
    voids = tuple(Void(sequence=number, reason="x", who="x") for number in numbers)
    with pytest.raises(UntrustedInputError, match="voids"):
        replace(full_manifest(), voids=voids)


def test_part_digests_swapped_between_blobs_are_another_manifest() -> None:
    statement = json.loads(full_manifest().to_bytes())
    subjects = statement["subject"]
    subjects[0], subjects[3] = subjects[3], subjects[0]
    with pytest.raises(UntrustedInputError, match="subject"):
        BundleManifest.from_bytes(dump_canonical(statement))


def test_reference_that_occurs_in_two_blobs_is_refused() -> None:
    statement = json.loads(full_manifest().to_bytes())
    blobs = statement["predicate"]["blobs"]
    blobs[1]["artifacts"] = blobs[0]["artifacts"]
    with pytest.raises(UntrustedInputError, match="twice"):
        BundleManifest.from_bytes(dump_canonical(statement))


def test_blob_that_claims_other_parts_than_its_size_cannot_be_made() -> None:
    with pytest.raises(UntrustedInputError):
        TransferBlob(
            name="001",
            size_bytes=1,
            part_size_bytes=4 * MIB,
            part_sha256=(),
            content_md5=None,
            metadata={},
            catalog_digest=None,
            pipeline_run="run001",
            artifacts=(),
        )


@settings(max_examples=200, deadline=None)
@given(size=st.integers(1, 10**13), part_size=st.integers(4 * MIB, 4000 * MIB))
def test_parts_cover_each_byte_exactly_once(size: int, part_size: int) -> None:
    count = parts.part_count(size, part_size)
    if count > 2000:
        part_size = parts.MAX_PART_SIZE_BYTES
    ranges = list(parts.plan_parts("001", size_bytes=size, part_size_bytes=part_size))
    assert ranges[0].offset_bytes == 0
    assert sum(part.size_bytes for part in ranges) == size
    assert all(a.offset_bytes + a.size_bytes == b.offset_bytes for a, b in itertools.pairwise(ranges))
    assert all(parts.PART_NAME.fullmatch(part.name) for part in ranges)
    assert len({part.name for part in ranges}) == len(ranges)


@settings(max_examples=200, deadline=None)
@given(size=st.integers(1, parts.MAX_PART_SIZE_BYTES * parts.MAX_PARTS_PER_BLOB))
def test_every_blob_that_can_exist_has_a_valid_part_size(size: int) -> None:
    part_size = parts.fitting_part_size(size)
    assert parts.MIN_PART_SIZE_BYTES <= part_size <= parts.MAX_PART_SIZE_BYTES
    assert parts.part_count(size, part_size) <= parts.MAX_PARTS_PER_BLOB


def test_blob_larger_than_any_has_no_part_size() -> None:
    with pytest.raises(ValueError, match="no valid part size"):
        parts.fitting_part_size(parts.MAX_PART_SIZE_BYTES * parts.MAX_PARTS_PER_BLOB + 1)


def test_times_are_kept_to_the_second() -> None:
    manifest = minimal_manifest()
    assert BundleManifest.from_bytes(manifest.to_bytes()).created_at == NOW
    assert manifest.expires_at - manifest.created_at == timedelta(days=14)
