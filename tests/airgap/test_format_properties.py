"""What holds of every format: what can be built is read again the same, and nothing can be added to it.

A constructor that returns is a promise, so that whoever signs an object need not read it first to find out
whether the far side would.
"""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airgap.custody_event import Action, CustodyEvent, EventBody, Head, SeenLog, UnknownAction, VolumeMark
from airgap.damage import Damage
from airgap.envelope import Envelope
from airgap.errors import AirgapError, Code, UnknownCode, UntrustedInputError
from airgap.ledger import LedgerEntry, entry_name
from airgap.manifest import Artifact, BundleManifest, Source, Tool, TransferBlob, Void
from airgap.media_plan import SavedPlan
from airgap.parity import ParityLayout
from airgap.parts import MIN_PART_SIZE_BYTES, part_count
from airgap.policy import OnGap, Order, Role, TrustPolicy
from airgap.recarry import RecarryRequest, WantedPart
from airgap.receipt import (
    ArtifactProof,
    CheckResult,
    LedgerPosition,
    MissingContent,
    Receipt,
    ReceiptVerdict,
    Release,
)
from airgap.release import ReleasedBundle, ReleaseStatement
from airgap.strict_json import MAX_SAFE_INTEGER, dump_canonical
from airgap.verify import CountedKey
from tests.airgap.test_vectors import ACCEPTED, reader, vector
from tests.vectors import generate as vectors

# --- what fields may hold ----------------------------------------------------------------------------------

hexes = st.binary(min_size=32, max_size=32).map(bytes.hex)
digests = hexes.map("sha256:{}".format)
transfer_ids = st.text("abcxyz0189", min_size=8, max_size=40).filter(lambda text: text != "receipts")
channels = st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
login_servers = st.sampled_from(["a.azurecr.io", "acr.azurecr.us:8443", "127.0.0.1:5001"])
moments = st.integers(0, 8 * 10**9).map(lambda s: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=s))
notes = st.text(st.characters(exclude_categories=["Cs"]), max_size=500)
counts = st.integers(0, MAX_SAFE_INTEGER)
numbers = st.integers(1, MAX_SAFE_INTEGER)
codes = st.sampled_from(Code) | st.just(UnknownCode("QUANTUM_BROKEN"))


def texts(limit: int = 64) -> st.SearchStrategy[str]:
    """Printable characters of any script."""
    printable = st.characters(exclude_categories=["C", "Z"], include_characters=" ")
    return st.text(printable, min_size=1, max_size=limit)


tools = st.builds(Tool, name=texts(), version=texts())
tags = st.text(string.ascii_letters + string.digits + "_", min_size=1, max_size=20)


@st.composite
def artifacts(draw: st.DrawFn, name: str) -> Artifact:
    digest = draw(digests)
    own = draw(st.sampled_from([("v1",), ()]))
    return Artifact(
        reference=f"team/{name}:v1" if own else f"team/{name}@{digest}",
        digest=digest,
        media_type=draw(texts(255)),
        tags=(*own, *draw(st.lists(tags.filter(lambda tag: tag != "v1"), max_size=3, unique=True))),
        artifact_type=(kind := draw(st.none() | texts(255))),
        subject=None if kind is None else draw(digests),
    )


@st.composite
def blobs(draw: st.DrawFn, number: int) -> TransferBlob:
    size = draw(st.integers(1, 3 * MIN_PART_SIZE_BYTES))
    count = part_count(size, MIN_PART_SIZE_BYTES)
    return TransferBlob(
        name=f"{number:03d}",
        size_bytes=size,
        part_size_bytes=MIN_PART_SIZE_BYTES,
        part_sha256=tuple(draw(st.lists(hexes, min_size=count, max_size=count))),
        content_md5=draw(st.none() | st.just("XrY7u+Ae7tCTyyK7j1rNww==")),
        metadata=draw(st.dictionaries(st.sampled_from(["a", "_b", "C9"]), st.just("x y"))),
        catalog_digest=draw(st.none() | digests),
        pipeline_run=draw(st.text(string.ascii_letters + string.digits, min_size=5, max_size=50)),
        artifacts=tuple(draw(artifacts(f"app{number}x{place}")) for place in range(draw(st.integers(1, 2)))),
    )


@st.composite
def manifests(draw: st.DrawFn) -> BundleManifest:
    sequence = draw(st.integers(1, 50) | numbers)
    created_at = draw(moments)
    given_up = draw(st.lists(st.integers(1, 50), unique=True, max_size=3))
    return BundleManifest(
        transfer_id=draw(transfer_ids),
        channel=draw(channels),
        sequence=sequence,
        previous_sha256=None if sequence == 1 else draw(hexes),
        created_at=created_at,
        expires_at=created_at + timedelta(seconds=draw(st.integers(1, 10**8))),
        source=Source(cloud=draw(texts()), registry=draw(login_servers), export_pipeline=draw(texts())),
        audience=tuple(draw(st.lists(login_servers, min_size=1, max_size=2))),
        blobs=tuple(draw(blobs(number)) for number in range(1, draw(st.integers(1, 3)) + 1)),
        tool=draw(tools),
        voids=tuple(
            Void(sequence=number, reason=draw(texts(200)), who=draw(texts(128)))
            for number in sorted(given_up)
            if number < sequence
        ),
        requested_by=draw(st.none() | texts(128)),
    )


damages = st.builds(
    Damage,
    code=codes,
    name=texts(),
    detail=notes,
    offset_bytes=st.none() | counts,
    size_bytes=st.none() | counts,
)
keys = {"keyid": hexes, "role": texts(32), "scheme": texts()}
proofs = st.builds(
    ArtifactProof,
    reference=st.just("team/app:v1"),
    digest=digests,
    found=st.none() | digests,
    missing_tags=st.lists(tags, max_size=2).map(tuple),
    missing=st.lists(
        st.builds(MissingContent, kind=st.sampled_from(["config", "layer", "manifest"]), digest=digests),
        max_size=2,
    ).map(tuple),
    missing_count=st.integers(2, 100),
)


@st.composite
def receipts(draw: st.DrawFn) -> Receipt:
    verdict = draw(st.sampled_from(ReceiptVerdict))
    is_named = verdict is not ReceiptVerdict.REFUSED or draw(st.booleans())
    channel, sequence = draw(channels), draw(numbers)
    is_partial = verdict is ReceiptVerdict.PARTIAL
    position = LedgerPosition(name=entry_name(channel, sequence), sha256=draw(hexes))
    found = tuple(draw(st.lists(damages, min_size=verdict is ReceiptVerdict.DAMAGED, max_size=2)))
    return Receipt(
        envelope_sha256=draw(hexes),
        incoming=draw(texts(200)),
        target=draw(login_servers),
        decided_at=draw(moments),
        verdict=verdict,
        code=None if verdict is ReceiptVerdict.IMPORTED else draw(codes),
        detail=draw(notes),
        transfer_id=draw(transfer_ids) if is_named else None,
        channel=channel if is_named else None,
        sequence=sequence if is_named else None,
        manifest_sha256=draw(hexes) if is_named else None,
        policy_version=draw(st.none() | numbers),
        ledger=position if is_named and draw(st.booleans()) else None,
        signers=tuple(draw(st.lists(st.builds(CountedKey, **keys), max_size=2))),
        checks=tuple(
            draw(
                st.lists(
                    st.builds(
                        CheckResult,
                        name=texts(),
                        passed=st.booleans(),
                        detail=notes,
                        scanner=texts(),
                        answer_sha256=hexes,
                        checked_at=moments,
                    ),
                    max_size=2,
                )
            )
        ),
        releases=tuple(
            draw(st.lists(st.builds(Release, **keys, holder=texts(), released_at=moments), max_size=2))
        ),
        artifacts=tuple(draw(st.lists(proofs, max_size=2))) if is_named else (),
        undeclared=tuple(draw(st.lists(texts(200), max_size=2))) if is_partial else (),
        undeclared_count=draw(st.integers(2, 10**6)) if is_partial else 0,
        damages=found,
        damage_count=len(found) + draw(st.integers(0, 10**6)),
        missing_sequences=tuple(draw(st.lists(numbers, max_size=3))),
        tool=draw(tools),
    )


entries = st.builds(
    LedgerEntry,
    channel=channels,
    sequence=numbers,
    manifest_sha256=hexes,
    transfer_id=transfer_ids,
    owner=texts(256),
    taken_at=moments,
)
requests = st.builds(
    RecarryRequest,
    transfer_id=transfer_ids,
    manifest_sha256=hexes,
    channel=channels,
    requested_at=moments,
    parts=st.sets(st.integers(1, 10**8 - 1), min_size=1, max_size=4).map(
        lambda found: tuple(
            WantedPart(name=f"001/{number:08d}.part", sha256="a" * 64, size_bytes=number)
            for number in sorted(found)
        )
    ),
    reason=st.none() | texts(200),
)
layouts = st.builds(ParityLayout, stripes=st.integers(600, 120_000), parity_shards=st.integers(1, 16))
plans = st.builds(
    SavedPlan,
    transfer_id=transfer_ids,
    manifest_sha256=hexes,
    volumes=st.lists(st.integers(0, 9), min_size=1, max_size=3).map(
        lambda sizes: tuple(
            tuple(f"{place + 1:03d}/{number + 1:08d}.part" for number in range(size))
            for place, size in enumerate(sizes)
        )
    ),
    layout=st.none() | layouts,
)
marks = st.builds(
    VolumeMark,
    label=st.none() | texts(128),
    serial=st.none() | texts(128),
    number=st.none() | st.integers(1, 9999),
    of=st.none() | st.integers(1, 9999),
)
heads = st.builds(Head, count=st.integers(1, 10**9), sha256=hexes)
bodies = st.builds(
    EventBody,
    action=st.sampled_from(Action) | st.just(UnknownAction("teleported")),
    at=moments,
    who=texts(128),
    host=texts(128),
    volume=st.none() | marks,
    transfer_id=st.none() | transfer_ids,
    manifest_sha256=st.none() | hexes,
    code=st.none() | codes.map(lambda code: code.name),
    counts=st.dictionaries(st.sampled_from(["parts", "tornBytes"]), counts),
    tool=tools,
)
events = st.builds(
    CustodyEvent,
    number=st.integers(1, 10**9),
    previous_sha256=hexes,
    body=bodies,
    seen=st.lists(st.builds(SeenLog, log_sha256=hexes, head=heads, volume=st.none() | marks), max_size=3).map(
        tuple
    ),
    recorded_as=st.none() | hexes,
)

FORMATS: Mapping[str, tuple[st.SearchStrategy[Any], Callable[[Any], bytes], Callable[[bytes], Any]]] = {
    "bundle manifest": (manifests(), BundleManifest.to_bytes, BundleManifest.from_bytes),
    "receipt": (receipts(), Receipt.to_bytes, Receipt.from_bytes),
    "envelope": (
        st.builds(
            Envelope,
            payload=st.binary(min_size=1, max_size=500),
            signatures=st.dictionaries(hexes, st.binary(min_size=1, max_size=100), min_size=1, max_size=3),
        ),
        Envelope.to_bytes,
        Envelope.from_bytes,
    ),
    "release": (
        st.builds(
            ReleaseStatement,
            bundle=st.builds(
                ReleasedBundle,
                manifest_sha256=hexes,
                transfer_id=transfer_ids,
                channel=channels,
                sequence=numbers,
                target=login_servers,
            ),
            released_at=moments,
            tool=tools,
        ),
        ReleaseStatement.to_bytes,
        ReleaseStatement.from_bytes,
    ),
    "ledger entry": (entries, LedgerEntry.to_bytes, LedgerEntry.from_bytes),
    "re-carry request": (requests, RecarryRequest.to_bytes, RecarryRequest.from_bytes),
    "parity layout": (
        layouts,
        lambda layout: layout.to_bytes("a" * 64),
        lambda raw: ParityLayout.from_bytes(raw, manifest_sha256="a" * 64, part_count=120_000),
    ),
    "saved plan": (plans, SavedPlan.to_bytes, SavedPlan.from_bytes),
    "custody event": (events, CustodyEvent.to_line, CustodyEvent.from_line),
    "custody head": (heads, Head.to_bytes, Head.from_bytes),
}


@pytest.mark.parametrize("name", FORMATS)
def test_what_can_be_built_is_read_again_the_same(name: str) -> None:
    values, write, read = FORMATS[name]

    @settings(max_examples=60, deadline=None)
    @given(values)
    def check(value: Any) -> None:
        raw = write(value)
        assert read(raw) == value
        assert write(read(raw)) == raw

    check()


# --- nothing is added --------------------------------------------------------------------------------------

FREE = {
    "metadata",
    "counts",
    "facts",
    "channels",
    "bundleRoles",
    "receiptRoles",
    "releaseRoles",
    "checkRoles",
    "policyRoles",
}
"""Objects whose members' names are data."""


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all objects within a JSON value that have a fixed set of members."""
    if isinstance(value, dict):
        if not path or path[-1] not in FREE:
            yield path
        for name, member in value.items():
            yield from places(member, (*path, name))
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from places(member, (*path, index))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


DOCUMENTS = [name for name in ACCEPTED if name.endswith(".json")]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_further_member_of_any_object_is_refused(name: str) -> None:
    for path in places(json.loads(vector(name))):
        document = json.loads(vector(name))
        at(document, path)["further"] = 1
        with pytest.raises(AirgapError) as refusal:
            reader(name)(dump_canonical(document))
        assert refusal.value.code.name.endswith(("MALFORMED", "BROKEN")) or refusal.value.code is Code.USAGE


@pytest.mark.parametrize("name", DOCUMENTS)
def test_member_that_is_missing_is_refused(name: str) -> None:
    optional = {"reason", "receiptRoles", "releaseRoles", "checkRoles", "requiredAlgorithms"}
    optional |= {"policyRoles", "revoked"}
    for path in places(json.loads(vector(name))):
        for member in at(json.loads(vector(name)), path):
            if member in optional and path != ("predicate", "voids", 0):
                continue
            document = json.loads(vector(name))
            del at(document, path)[member]
            with pytest.raises(AirgapError):
                reader(name)(dump_canonical(document))


# --- what cannot be built ----------------------------------------------------------------------------------

_POLICY = TrustPolicy.from_bytes(dump_canonical(vectors.policy_json()))
_MANIFEST = vectors.full_manifest()
_BLOB = _MANIFEST.blobs[0]
_EVENT = CustodyEvent.from_line(vectors.custody_lines()[1])
_NAIVE = datetime(2026, 1, 31, 8)  # noqa: DTZ001 - without a zone on purpose
_FRACTION = vectors.NOW.replace(microsecond=1)

INVALID: Mapping[str, tuple[Any, Mapping[str, Any]]] = {
    "manifest of a naive time": (_MANIFEST, {"created_at": _NAIVE}),
    "manifest of fractions of a second": (_MANIFEST, {"created_at": _FRACTION}),
    "manifest without blobs": (_MANIFEST, {"blobs": ()}),
    "manifest with a list of blobs": (_MANIFEST, {"blobs": list(_MANIFEST.blobs)}),
    "manifest with a gap": (_MANIFEST, {"blobs": (_MANIFEST.blobs[1],)}),
    "manifest with an artifact twice": (
        _MANIFEST,
        {"blobs": (_BLOB, replace(_MANIFEST.blobs[1], artifacts=_BLOB.artifacts))},
    ),
    "manifest that climbs": (_MANIFEST, {"transfer_id": "../../etc"}),
    "manifest for nobody": (_MANIFEST, {"audience": ()}),
    "manifest of a number twice": (_MANIFEST, {"voids": _MANIFEST.voids * 2}),
    "artifact of no reference": (_BLOB.artifacts[0], {"reference": "https://evil.io/app:1"}),
    "artifact of another digest": (_BLOB.artifacts[1], {"digest": "sha256:" + "0" * 64}),
    "artifact of a kind and no subject": (_BLOB.artifacts[0], {"artifact_type": "application/x"}),
    "artifact that belongs to no digest": (_BLOB.artifacts[1], {"subject": "samples/app:2.0"}),
    "artifact of an endless kind": (_BLOB.artifacts[1], {"artifact_type": "x" * 256}),
    "manifest that everybody ordered": (_MANIFEST, {"requested_by": "x" * 129}),
    "manifest that nobody ordered": (_MANIFEST, {"requested_by": ""}),
    "manifest ordered by a line break": (_MANIFEST, {"requested_by": "ada\nbob"}),
    "blob of another size": (_BLOB, {"size_bytes": 1}),
    "blob of no digest": (_BLOB, {"part_sha256": ("A" * 64, *_BLOB.part_sha256[1:])}),
    "blob with an evil header": (_BLOB, {"metadata": {"a": "b\r\nx-evil: 1"}}),
    "receipt for an import with a code": (vectors.imported_receipt(), {"code": Code.EXPIRED}),
    "receipt for damage without any": (vectors.damaged_receipt(), {"damages": (), "damage_count": 0}),
    "receipt for half a bundle": (vectors.imported_receipt(), {"manifest_sha256": None}),
    "receipt of another position": (vectors.imported_receipt(), {"sequence": 6}),
    "receipt of a list": (
        vectors.imported_receipt(),
        {"artifacts": list(vectors.imported_receipt().artifacts)},
    ),
    "damage of no name": (vectors.damaged_receipt().damages[0], {"name": ""}),
    "damage of a lone surrogate": (vectors.damaged_receipt().damages[0], {"detail": "\ud800"}),
    "damage before its blob": (vectors.damaged_receipt().damages[0], {"offset_bytes": -1}),
    "release of number zero": (vectors.release_statement().bundle, {"sequence": 0}),
    "release for no registry": (vectors.release_statement().bundle, {"target": "https://x"}),
    "release of no digest": (vectors.release_statement().bundle, {"manifest_sha256": "A" * 64}),
    "release of a transfer that climbs": (vectors.release_statement().bundle, {"transfer_id": "../x"}),
    "release of no channel": (vectors.release_statement().bundle, {"channel": "Prod"}),
    "release of a naive time": (vectors.release_statement(), {"released_at": _NAIVE}),
    "release by nobody": (vectors.imported_receipt().releases[0], {"holder": ""}),
    "release by everybody": (vectors.imported_receipt().releases[0], {"holder": "x" * 65}),
    "ledger entry of number zero": (vectors.ledger_entry(), {"sequence": 0}),
    "ledger entry of no digest": (vectors.ledger_entry(), {"manifest_sha256": "sha256:" + "0" * 64}),
    "request for nothing": (vectors.recarry_request(), {"parts": ()}),
    "request out of order": (vectors.recarry_request(), {"parts": vectors.recarry_request().parts[::-1]}),
    "request with a long reason": (vectors.recarry_request(), {"reason": "x" * 201}),
    "plan with a part twice": (vectors.saved_plan(), {"volumes": (vectors.saved_plan().volumes[0],) * 2}),
    "plan with a foreign file": (vectors.saved_plan(), {"volumes": (("../etc/passwd",),)}),
    "event of number zero": (_EVENT, {"number": 0}),
    "event of a naive time": (_EVENT.body, {"at": _NAIVE}),
    "event of two lines": (_EVENT.body, {"who": "two\nlines"}),
    "event of too many neighbours": (_EVENT, {"seen": _EVENT.seen * 17}),
    "role of no keys": (Role(threshold=1, keyids=frozenset({"a" * 64})), {"keyids": frozenset()}),
    "role that asks for too many": (Role(threshold=1, keyids=frozenset({"a" * 64})), {"threshold": 2}),
    "channel that accepts nobody": (_POLICY.channels["prod"], {"bundle_roles": {}}),
    "channel of no age": (_POLICY.channels["prod"], {"max_age": timedelta(0)}),
    "channel that holds what may come in any order": (
        _POLICY.channels["prod"],
        {"order": Order.ANY, "on_gap": OnGap.HOLD},
    ),
    "policy of version zero": (_POLICY, {"version": 0}),
    "policy of a role without its key": (_POLICY, {"keys": dict([next(iter(_POLICY.keys.items()))])}),
    "policy that revokes a stranger": (_POLICY, {"revoked": {"a" * 64: vectors.NOW}}),
    "policy without channels": (_POLICY, {"channels": {}}),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_object_cannot_be_built(name: str) -> None:
    value, changes = INVALID[name]
    with pytest.raises(AirgapError):
        replace(value, **changes)


def test_statement_that_no_reader_would_take_is_not_written() -> None:
    tags = ("1", *(f"{number:0128d}" for number in range(999)))
    artifacts = tuple(replace(_BLOB.artifacts[0], reference=f"app{n}:1", tags=tags) for n in range(150))
    manifest = replace(_MANIFEST, blobs=(replace(_BLOB, artifacts=artifacts),))
    with pytest.raises(UntrustedInputError) as refusal:
        manifest.to_bytes()
    assert refusal.value.code is Code.TOO_LARGE
