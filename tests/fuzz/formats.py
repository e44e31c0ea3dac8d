"""The formats that are read from outside: valid seeds, and what must hold for whatever is read instead.

A check returns whether the input was accepted; then it means nothing else than a seed. It fails on any
exception but an :class:`~airgap.errors.AirgapError` of the format's own codes, and when something is accepted
that says anything else than what was signed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from random import Random
from typing import TypeVar

from airgap.custody import verify_log
from airgap.custody_event import Action, CustodyEvent, EventBody, Head, SeenLog, VolumeMark, line_sha256
from airgap.damage import Damage
from airgap.envelope import Envelope
from airgap.errors import AirgapError, Code, error_for
from airgap.manifest import ENVELOPE_NAME, BundleManifest, Tool, manifest_digest
from airgap.parity import LAYOUT_NAME, SHARD_NAME, ParityLayout
from airgap.policy import TrustPolicy
from airgap.recarry import RecarryRequest
from airgap.receipt import Receipt, verify_receipt
from airgap.strict_json import dump_canonical
from airgap.ticket import Ticket
from airgap.verify import verify_bundle
from offline_mover.bags.bag_texts import (
    TAG_MANIFEST,
    TEXT_FILES,
    Contents,
    ListedFile,
    Place,
    bag_texts,
    read_texts,
)
from tests.fuzz.mutations import mutated_json, mutated_lines
from tests.vectors.generate import (
    ED25519,
    MLDSA87,
    NOW,
    P256,
    P384,
    TARGET,
    TARGET_KEY,
    full_manifest,
    imported_receipt,
    minimal_manifest,
    policy_json,
    refused_receipt,
    ticket,
)

T = TypeVar("T")
Mutation = Callable[[Random, Sequence[bytes]], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One format. ``structured`` changes a seed by what it is made of: JSON values, or lines."""

    name: str
    seeds: tuple[bytes, ...]
    check: Callable[[bytes], bool]
    structured: Mutation = mutated_json


def read(act: Callable[[], T], *codes: Code) -> T | None:
    """What ``act`` returns; ``None`` when it refuses with one of ``codes``. Anything else is a failure."""
    try:
        return act()
    except AirgapError as error:
        refusal = error
    assert refusal.code in codes, refusal
    assert type(refusal) is type(error_for(refusal.code))
    assert len(refusal.detail) <= 500
    return None


def says_the_same(raw: bytes, written: bytes) -> bool:
    """Whether two JSON texts have the same members and values: none read twice, none passed over."""
    return _pairs(raw) == _pairs(written)


def _pairs(raw: bytes) -> object:
    return json.loads(raw, object_pairs_hook=sorted)


# --- what is signed ----------------------------------------------------------------------------------------

_POLICY = TrustPolicy.from_bytes(dump_canonical(policy_json()))
_MANIFEST = full_manifest()
_MANIFEST_SHA256 = manifest_digest(_MANIFEST.to_bytes())
_MANIFESTS = {manifest_digest(m.to_bytes()): m for m in (minimal_manifest(), _MANIFEST)}
_RECEIPTS = (imported_receipt(), refused_receipt())
_ENVELOPES = (
    Envelope.sign(minimal_manifest().to_bytes(), [P384]),
    Envelope.sign(_MANIFEST.to_bytes(), [P384, MLDSA87, ED25519, P256]),
)
_SIGNED_ALONE = Envelope.sign(minimal_manifest().to_bytes(), [P256])
_RECEIPT_ENVELOPES = tuple(Envelope.sign(receipt.to_bytes(), [TARGET_KEY]) for receipt in _RECEIPTS)


def _check_envelope(raw: bytes) -> bool:
    """Whatever is accepted is the manifest that was signed, to the byte, and spelled in one way."""
    envelope = read(lambda: Envelope.from_bytes(raw), Code.ENVELOPE_MALFORMED, Code.TOO_LARGE)
    verdict = verify_bundle(raw, policy=_POLICY, now=NOW, target=TARGET)
    assert verdict.code is not None or envelope is not None
    if envelope is not None:
        assert says_the_same(raw, envelope.to_bytes())
    if verdict.manifest is not None:
        assert verdict.manifest == _MANIFESTS[verdict.manifest_sha256 or ""]
    return verdict.is_accepted


def _member_names(raw: bytes) -> list[str]:
    """Of all objects."""
    names: list[str] = []
    json.loads(raw, object_pairs_hook=lambda pairs: names.extend(name for name, _ in pairs))
    return sorted(names)


def _check_manifest(payload: bytes) -> bool:
    """What is read can be written and read again; under another's signatures it is never accepted."""
    manifest = read(
        lambda: BundleManifest.from_bytes(payload), Code.MANIFEST_MALFORMED, Code.TOO_LARGE, Code.NEWER_FORMAT
    )
    if manifest is not None:
        assert BundleManifest.from_bytes(manifest.to_bytes()) == manifest
        assert says_the_same(payload, manifest.to_bytes())
        assert sum(part.size_bytes for part, _ in manifest.parts()) == manifest.size_bytes
    if payload != _SIGNED_ALONE.payload:
        forged = Envelope(payload=payload or b" ", signatures=_SIGNED_ALONE.signatures).to_bytes()
        verdict = verify_bundle(forged, policy=_POLICY, now=NOW, target=TARGET)
        assert verdict.code is Code.SIGNATURE_INVALID
        assert verdict.manifest is None
    return manifest is not None


def _check_receipt(payload: bytes) -> bool:
    receipt = read(
        lambda: Receipt.from_bytes(payload), Code.RECEIPT_MALFORMED, Code.TOO_LARGE, Code.NEWER_FORMAT
    )
    if receipt is not None:
        assert Receipt.from_bytes(receipt.to_bytes()) == receipt
        assert says_the_same(payload, receipt.to_bytes())
    signed = _RECEIPT_ENVELOPES[0]
    if payload != signed.payload:
        forged = Envelope(payload=payload or b" ", signatures=signed.signatures).to_bytes()
        verify = partial(verify_receipt, forged, policy=_POLICY, channel="prod", now=NOW)
        assert read(verify, Code.SIGNATURE_INVALID) is None
    return receipt is not None


def _check_receipt_envelope(raw: bytes) -> bool:
    receipt = read(
        lambda: verify_receipt(raw, policy=_POLICY, channel="prod", now=NOW),
        *(Code.ENVELOPE_MALFORMED, Code.TOO_LARGE, Code.SIGNATURE_INVALID, Code.SIGNATURE_UNCHECKABLE),
        *(Code.SIGNER_UNKNOWN, Code.THRESHOLD_NOT_MET, Code.CHANNEL_UNKNOWN, Code.AUDIENCE_MISMATCH),
    )
    assert receipt is None or receipt in _RECEIPTS
    return receipt is not None


_POLICY_NAMES = set(_member_names(dump_canonical(policy_json())))


def _check_policy(raw: bytes) -> bool:
    """What is read still asks for signatures."""
    policy = read(lambda: TrustPolicy.from_bytes(raw), Code.POLICY_MALFORMED, Code.NEWER_FORMAT)
    if policy is None:
        return False
    channels = policy.channels.values()
    groups = [policy.policy_roles]
    for channel in channels:
        groups += [channel.bundle_roles, channel.receipt_roles, channel.release_roles]
        groups.append(channel.override_roles)
    free = {role for roles in groups for role in roles}
    names = _member_names(raw)
    assert set(names) <= _POLICY_NAMES | policy.channels.keys() | free
    assert names == _member_names(json.dumps(json.loads(raw)).encode())
    assert policy.channels
    for channel in channels:
        assert channel.bundle_roles
        assert channel.repositories
    for role in (role for roles in groups for role in roles.values()):
        assert role.keyids <= policy.keys.keys()
        assert 1 <= role.threshold <= len({policy.keys[keyid].holder for keyid in role.keyids})
    assert policy.revoked.keys() <= policy.keys.keys()
    return True


# --- what lies beside it, unsigned -------------------------------------------------------------------------

_REQUEST = RecarryRequest.for_parts(
    _MANIFEST, _MANIFEST_SHA256, ["001/00000002.part", "002/00000001.part"], NOW, reason="scratched"
)
_LAYOUT = ParityLayout(stripes=2, parity_shards=1)
_TICKET = ticket()


def _check_ticket(raw: bytes) -> bool:
    """Whatever is read names blobs of one bundle's folder, and no SAS stands in what is refused."""
    codes = (Code.TICKET_MALFORMED, Code.TOO_LARGE, Code.NEWER_FORMAT)
    found = read(lambda: Ticket.from_bytes(raw), *codes)
    if found is None:
        return False
    assert Ticket.from_bytes(found.to_bytes()) == found
    assert says_the_same(raw, found.to_bytes())
    assert not any(set(name) & set("/\\") for name in found.sas)
    return True


def _check_recarry(raw: bytes) -> bool:
    """Whatever matches asks for signed parts of this bundle only."""
    codes = (Code.RECARRY_MALFORMED, Code.TOO_LARGE, Code.NEWER_FORMAT)
    request = read(lambda: RecarryRequest.from_bytes(raw), *codes)
    if request is None:
        return False
    assert RecarryRequest.from_bytes(request.to_bytes()) == request
    assert says_the_same(raw, request.to_bytes())
    wanted = read(lambda: request.require_matches(_MANIFEST, _MANIFEST_SHA256), *codes)
    if wanted is not None:
        assert set(wanted) <= set(_MANIFEST.parts())
        asked = [(part.name, part.sha256, part.size_bytes) for part in request.parts]
        assert asked == [(part.name, sha256, part.size_bytes) for part, sha256 in wanted]
    return wanted is not None


def _check_parity(raw: bytes) -> bool:
    """Whatever suits the bundle keeps the bounds of a repair."""
    parts = [part for part, _ in _MANIFEST.parts()]
    layout = read(
        lambda: ParityLayout.from_bytes(raw, manifest_sha256=_MANIFEST_SHA256, part_count=len(parts)),
        *(Code.BAG_MALFORMED, Code.TOO_LARGE, Code.NEWER_FORMAT),
    )
    if layout is not None:
        assert says_the_same(raw, layout.to_bytes(_MANIFEST_SHA256))
        assert 1 <= layout.stripes <= len(parts)
        for number in range(layout.stripes):
            assert len(layout.stripe(number, parts).shards) <= 255
    return layout is not None


# --- bag ---------------------------------------------------------------------------------------------------

_HELD = {part.name: part.size_bytes for part, _ in _MANIFEST.parts()}
_SIGNED = {part.name: sha256 for part, sha256 in _MANIFEST.parts()}
_PLACES = Contents(
    place=Place(number=1, of=2),
    files={part.name: ListedFile(sha256, part.size_bytes) for part, sha256 in _MANIFEST.parts()},
    layout=_LAYOUT.to_bytes(_MANIFEST_SHA256),
)
_ENVELOPE = _ENVELOPES[1].to_bytes()
_TEXTS = {**bag_texts(_MANIFEST, _ENVELOPE, _PLACES, now=NOW), ENVELOPE_NAME: _ENVELOPE}


def _check_bag(name: str, raw: bytes) -> bool:
    """A changed text is found, and never vouches for a part with another digest than the signed one."""
    reading = read_texts(_MANIFEST, {**_TEXTS, name: raw}, _HELD)
    assert all(damage.code is Code.BAG_MALFORMED and damage.name in _TEXTS for damage in reading.damages)
    assert all(isinstance(damage, Damage) for damage in reading.damages)
    for listed, sha256 in (reading.listed or {}).items():
        assert _SIGNED.get(listed) == sha256 or SHARD_NAME.fullmatch(listed)
    if raw != _TEXTS[name] and name != TAG_MANIFEST:
        assert reading.damages
    return not reading.damages


# --- custody -----------------------------------------------------------------------------------------------


def _custody_log() -> tuple[bytes, Head]:
    mark = VolumeMark(label="BLUE 1", serial="1A2B-3C4D", number=1, of=2)
    lines: list[bytes] = []
    head = Head(count=0, sha256="0" * 64)
    for number, action in enumerate((Action.PULLED, Action.VERIFIED, Action.PUSHED), start=1):
        body = EventBody(
            action=action,
            at=NOW + timedelta(hours=number),
            who="operator",
            host="laptop",
            volume=mark,
            transfer_id=_MANIFEST.transfer_id,
            manifest_sha256=_MANIFEST_SHA256,
            code=None if number > 1 else "PART_CORRUPT",
            counts={"parts": 4, "bytes": 12},
            tool=Tool(name="offline-mover", version="0.1.0"),
        )
        seen = (SeenLog(log_sha256="a" * 64, head=Head(count=7, sha256="b" * 64), volume=mark),)
        event = CustodyEvent(number=number, previous_sha256=head.sha256, body=body)
        line = (event if number > 1 else replace(event, seen=seen)).to_line()
        lines.append(line)
        head = Head(count=number, sha256=line_sha256(line))
    return b"".join(lines), head


_LOG, _HEAD = _custody_log()


def _check_custody_log(raw: bytes) -> bool:
    """A log that is not the one its head file ends has at least one finding."""
    check = verify_log(raw, head=_HEAD)
    assert raw == _LOG or check.findings
    verify_log(raw)
    return check.is_intact


def _check_custody_line(raw: bytes) -> bool:
    """A line has one form: what is read is written the same, a newer tool's line too."""
    event = read(lambda: CustodyEvent.from_line(raw), Code.CUSTODY_BROKEN, Code.TOO_LARGE)
    assert event is None or event.to_line() == raw
    return event is not None


def _check_custody_head(raw: bytes) -> bool:
    head = read(lambda: Head.from_bytes(raw), Code.CUSTODY_BROKEN, Code.TOO_LARGE)
    members = {"schema", "count", "sha256"}
    if head is not None and json.loads(raw)["schema"] == 1:
        assert says_the_same(raw, head.to_bytes())
    elif head is not None:
        assert members <= json.loads(raw).keys()
    return head is not None


_BAG_STRUCTURES: Mapping[str, Mutation] = {LAYOUT_NAME: mutated_json}

FORMATS = (
    Format(
        name="envelope", seeds=tuple(envelope.to_bytes() for envelope in _ENVELOPES), check=_check_envelope
    ),
    Format(
        name="bundle manifest",
        seeds=tuple(envelope.payload for envelope in _ENVELOPES),
        check=_check_manifest,
    ),
    Format(name="receipt", seeds=tuple(receipt.to_bytes() for receipt in _RECEIPTS), check=_check_receipt),
    Format(
        name="receipt envelope",
        seeds=tuple(envelope.to_bytes() for envelope in _RECEIPT_ENVELOPES),
        check=_check_receipt_envelope,
    ),
    Format(name="trust policy", seeds=(dump_canonical(policy_json()),), check=_check_policy),
    Format(name="re-carry request", seeds=(_REQUEST.to_bytes(),), check=_check_recarry),
    Format(name="ticket", seeds=(_TICKET.to_bytes(),), check=_check_ticket),
    Format(name="parity layout", seeds=(_LAYOUT.to_bytes(_MANIFEST_SHA256),), check=_check_parity),
    *(
        Format(
            name=f"bag: {name}",
            seeds=(_TEXTS[name],),
            check=partial(_check_bag, name),
            structured=_BAG_STRUCTURES.get(name, mutated_lines),
        )
        for name in (*TEXT_FILES, LAYOUT_NAME)
    ),
    Format(name="custody log", seeds=(_LOG,), check=_check_custody_log, structured=mutated_lines),
    Format(name="custody line", seeds=tuple(_LOG.splitlines(keepends=True)), check=_check_custody_line),
    Format(name="custody head", seeds=(_HEAD.to_bytes(),), check=_check_custody_head),
)
