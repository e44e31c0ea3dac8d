"""What the holder of the source's key signs: statements that are malformed, or not for here and now."""

from collections.abc import Callable, Mapping
from typing import Any

from airgap.errors import Code
from tests.airgap.test_manifest import INVALID, artifact, blob, predicate
from tests.attacks.scene import DEV_KEY, Attack, Refused, Scene
from tests.bundles import default_key

Change = Callable[[dict[str, Any]], object]

_LONG = "a" * 1001


def _signed(change: Change, *keys: Any) -> Callable[[Scene], Mapping[str, Any]]:
    return lambda scene: scene.push(envelope=scene.signed(change, *keys))


def _source(**more: Any) -> Change:
    return predicate(lambda p: p["source"].update(more))


FURTHER: Mapping[str, Change] = {
    "sequence negative": predicate(lambda p: p.update(sequence=-1)),
    "sequence a fraction": predicate(lambda p: p.update(sequence=1.5)),
    "sequence beyond what JSON carries": predicate(lambda p: p.update(sequence=2**53)),
    "sequence an array": predicate(lambda p: p.update(sequence=[1])),
    "sequence null": predicate(lambda p: p.update(sequence=None)),
    "transfer id empty": predicate(lambda p: p.update(transferId="")),
    "transfer id in upper case": predicate(lambda p: p.update(transferId="HONEST0001")),
    "transfer id with a zero byte": predicate(lambda p: p.update(transferId="honest0001\0")),
    "transfer id in other digits": predicate(
        lambda p: p.update(transferId="honest000\N{ARABIC-INDIC DIGIT ONE}")
    ),
    "transfer id a number": predicate(lambda p: p.update(transferId=1234567890)),
    "channel empty": predicate(lambda p: p.update(channel="")),
    "channel in upper case": predicate(lambda p: p.update(channel="PROD")),
    "channel climbs": predicate(lambda p: p.update(channel="..")),
    "channel of 64 characters": predicate(lambda p: p.update(channel="a" * 64)),
    "channel null": predicate(lambda p: p.update(channel=None)),
    "audience a text": predicate(lambda p: p.update(audience="target.azurecr.io")),
    "audience with a path": predicate(lambda p: p.update(audience=["target.azurecr.io/team"])),
    "audience with a wildcard": predicate(lambda p: p.update(audience=["*"])),
    "audience without end": predicate(lambda p: p.update(audience=[f"r{n}.azurecr.io" for n in range(101)])),
    "requester with a line end": predicate(lambda p: p.update(requestedBy="ada\nadmin")),
    "requester without end": predicate(lambda p: p.update(requestedBy=_LONG)),
    "tool missing": predicate(lambda p: p.pop("tool")),
    "tool null": predicate(lambda p: p.update(tool=None)),
    "source null": predicate(lambda p: p.update(source=None)),
    "source with a member more": _source(secret="x"),
    "source's registry with a scheme": _source(registry="https://source.azurecr.io"),
    "made at no time": predicate(lambda p: p.update(createdAt=None)),
    "made in local time": predicate(lambda p: p.update(createdAt="2026-01-31T08:00:00")),
    "made with a fraction of a second": predicate(lambda p: p.update(createdAt="2026-01-31T08:00:00.5Z")),
    "made as a number": predicate(lambda p: p.update(createdAt=1769846400)),
    "expires never": predicate(lambda p: p.pop("expiresAt")),
    "previous a text": predicate(lambda p: p.update(previous="0" * 64, sequence=2)),
    "previous in upper case": predicate(lambda p: p.update(previous={"sha256": "A" * 64}, sequence=2)),
    "voids an object": predicate(lambda p: p.update(voids={})),
    "void with a number of nobody": predicate(
        lambda p: p.update(voids=[{"sequence": 0, "reason": "x", "who": "x"}])
    ),
    "blobs an object": predicate(lambda p: p.update(blobs={})),
    "blob twice": predicate(lambda p: p["blobs"].append(dict(p["blobs"][0]))),
    "blob null": predicate(lambda p: p.update(blobs=[None])),
    "blobs in another order": predicate(lambda p: p["blobs"].reverse()),
    "blob's size a text": blob(lambda b: b.update(size="900")),
    "blob's size true": blob(lambda b: b.update(size=True)),
    "blob's size negative": blob(lambda b: b.update(size=-900)),
    "blob's part size zero": blob(lambda b: b.update(partSize=0)),
    "blob's metadata an array": blob(lambda b: b.update(metadata=[])),
    "blob's metadata beyond what the storage takes": blob(lambda b: b.update(metadata={"a": "b" * 9000})),
    "blob's metadata with a header of ours": blob(lambda b: b.update(metadata={"a:b": "c"})),
    "run's name with a slash": blob(lambda b: b.update(pipelineRun="a/b")),
    "artifact null": blob(lambda b: b.update(artifacts=[None])),
    "artifact twice": blob(lambda b: b["artifacts"].append(dict(b["artifacts"][0]))),
    "reference empty": artifact(lambda a: a.update(reference="")),
    "reference without tag and digest": artifact(lambda a: a.update(reference="team/app001")),
    "reference in upper case": artifact(lambda a: a.update(reference="Team/App001:v1")),
    "reference without end": artifact(lambda a: a.update(reference=f"{_LONG}:v1")),
    "reference with a query": artifact(lambda a: a.update(reference="team/app001:v1?x=1")),
    "digest without its algorithm": artifact(lambda a: a.update(digest="0" * 64)),
    "digest cut": artifact(lambda a: a.update(digest="sha256:" + "0" * 63)),
    "digest null": artifact(lambda a: a.update(digest=None)),
    "media type with a line end": artifact(lambda a: a.update(mediaType="application/json\r\nx: y")),
    "media type missing": artifact(lambda a: a.pop("mediaType")),
    "tags a text": artifact(lambda a: a.update(tags="v1")),
    "tag of 129 characters": artifact(lambda a: a.update(tags=["v1", "a" * 129])),
    "tag twice": artifact(lambda a: a.update(tags=["v1", "v1"])),
    "tag that begins with a dot": artifact(lambda a: a.update(tags=["v1", ".hidden"])),
    "subjects an object": lambda s: s.update(subject={}),
    "no subjects": lambda s: s.update(subject=[]),
    "a subject less": lambda s: s["subject"].pop(),
    "subjects in another order": lambda s: s["subject"].reverse(),
    "subject's digest cut": lambda s: s["subject"][0]["digest"].update(sha256="0" * 63),
    "subject without a digest": lambda s: s["subject"][0].pop("digest"),
    "subject with a uri": lambda s: s["subject"][0].update(uri="https://evil.example"),
    "predicate missing": lambda s: s.pop("predicate"),
    "predicate an array": lambda s: s.update(predicate=[]),
    "statement with a member more": lambda s: s.update(note="x"),
}

OTHERWISE: Mapping[str, tuple[Change, Code]] = {
    "of a later version": (
        lambda s: s.update(predicateType="urn:acr-airgap-transfer:bundle:v2"),
        Code.NEWER_FORMAT,
    ),
    "for another registry": (
        predicate(lambda p: p.update(audience=["other.azurecr.io"])),
        Code.AUDIENCE_MISMATCH,
    ),
    "for a registry that is called nearly so": (
        predicate(lambda p: p.update(audience=["target.azurecr.io.evil.example"])),
        Code.AUDIENCE_MISMATCH,
    ),
    "for a channel that nobody knows": (
        predicate(lambda p: p.update(channel="staging")),
        Code.CHANNEL_UNKNOWN,
    ),
    "for another channel": (predicate(lambda p: p.update(channel="dev")), Code.THRESHOLD_NOT_MET),
    "of another transfer": (
        predicate(lambda p: p.update(transferId="honest0007")),
        Code.BLOB_MISMATCH,
    ),
    "expired": (
        predicate(lambda p: p.update(createdAt="2025-01-01T00:00:00Z", expiresAt="2025-01-02T00:00:00Z")),
        Code.EXPIRED,
    ),
    "too old": (predicate(lambda p: p.update(createdAt="2025-01-01T00:00:00Z")), Code.TOO_OLD),
    "from the future": (
        predicate(lambda p: p.update(createdAt="2030-01-01T00:00:00Z", expiresAt="2030-01-02T00:00:00Z")),
        Code.NOT_YET_VALID,
    ),
    "with a number that closes the channel": (
        predicate(lambda p: p.update(sequence=2**53 - 1, previous={"sha256": "0" * 64})),
        Code.SEQUENCE_JUMP,
    ),
    "with a number one beyond the jump": (
        predicate(lambda p: p.update(sequence=1001, previous={"sha256": "0" * 64})),
        Code.SEQUENCE_JUMP,
    ),
}

ATTACKS: Mapping[str, Attack] = {
    **{
        f"manifest: {name}": Attack(by="D", act=_signed(change), end=Refused(code=Code.MANIFEST_MALFORMED))
        for name, change in {**{name: change for name, (change, _) in INVALID.items()}, **FURTHER}.items()
    },
    **{
        f"manifest: {name}": Attack(by="D", act=_signed(change), end=Refused(code=code))
        for name, (change, code) in OTHERWISE.items()
    },
    "manifest: malformed and signed by another channel's key as well": Attack(
        by="D",
        act=_signed(predicate(lambda p: p.update(sequence=0)), default_key(), DEV_KEY),
        end=Refused(code=Code.MANIFEST_MALFORMED),
    ),
}
