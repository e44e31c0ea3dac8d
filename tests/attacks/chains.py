"""Trust policies that nobody may bring, and chains put back, held back, run ahead, forked or mixed."""

from collections.abc import Callable, Mapping
from typing import Any

from airgap.envelope import Envelope
from airgap.errors import Code
from airgap.policy import TrustPolicy
from airgap.policy_chain import MAX_VERSION_BYTES, PolicyVersion, UsedPolicy, version_name
from tests.attacks.scene import HONEST_POLICY, Attack, Change, End, Harmless, Refused, Scene
from tests.bundles import CHANNEL, SigningKey, default_key, new_key
from tests.function_app.test_import import RECEIPT_KEY
from tests.policies import ADA, BOB, CLEO, DAN, policy_version

THIEF, ADAS_SECOND = new_key(), new_key()
OFFICERS: Mapping[str, SigningKey] = {"Ada": ADA, "Bob": BOB, "Cleo": CLEO, "Ada, again": ADAS_SECOND}
PAST = "2020-01-01T00:00:00Z"
LATER = 9
"""A version beyond all that an attack brings: the one that is pinned when the channel goes on."""

Touch = Callable[[Scene], object]


def version(number: int, change: Change = lambda _: None, **more: Any) -> bytes:
    """A policy of the honest source's channel, whose next version two of three officers must sign."""
    return policy_version(number, base=HONEST_POLICY, change=change, **{"officers": OFFICERS, **more})


def let_the_thief_in(policy: dict[str, Any]) -> None:
    """The thief's key counts as the source's."""
    policy["keys"].append({"holder": "the thief", "publicKey": THIEF.public_pem})
    policy["channels"][CHANNEL]["bundleRoles"]["source"]["keyids"].append(THIEF.keyid)


def _revoke(key: SigningKey) -> Change:
    return lambda policy: policy.update(revoked=[{"keyid": key.keyid, "from": PAST}])


def _let_the_thief_in_and_ada_out(policy: dict[str, Any]) -> None:
    let_the_thief_in(policy)
    _revoke(ADA)(policy)


V1, V2, EVIL = version(1), version(2), version(2, let_the_thief_in)
STRICTER = version(2, _revoke(default_key()))
"""By which the source's key counts no more: whoever has stolen it wants it gone."""


def signed(before: bytes, policy: bytes, *keys: SigningKey) -> bytes:
    """A version in its envelope, whatever its number is."""
    statement = PolicyVersion(
        policy=TrustPolicy.from_bytes(policy), previous_sha256=TrustPolicy.from_bytes(before).sha256
    )
    return Envelope.sign(statement.to_bytes(), [key.signer for key in keys]).to_bytes()


def _forged() -> bytes:
    """What Ada has signed, with a signature in Bob's name beside it."""
    envelope = Envelope.from_bytes(signed(V1, EVIL, ADA, DAN))
    signatures = {ADA.keyid: envelope.signatures[ADA.keyid], BOB.keyid: envelope.signatures[DAN.keyid]}
    return Envelope(payload=envelope.payload, signatures=signatures).to_bytes()


def _exchanged() -> bytes:
    """What two officers have signed, with another policy under it."""
    evil = Envelope.from_bytes(signed(V1, EVIL, ADA))
    honest = Envelope.from_bytes(signed(V1, V2, ADA, BOB))
    return Envelope(payload=evil.payload, signatures=honest.signatures).to_bytes()


_BY_DAN = version(2, let_the_thief_in, officers={"Dan": DAN}, threshold=1)
_WITHOUT_ADA = version(2, officers={"Cleo": CLEO, "Dan": DAN})
_ADA_REVOKED = version(2, _revoke(ADA))
_OTHER_V2 = version(2, lambda policy: policy.update(expiresAt="2099-01-01T00:00:00Z"))
_EVIL_3, _EVIL_4 = (version(number, let_the_thief_in) for number in (3, 4))

BROUGHT: Mapping[str, tuple[str, Mapping[str, bytes]]] = {
    name: (by, {version_name(number): raw for number, raw in versions.items()})
    for name, (by, versions) in {
        "signed by one officer": ("D", {2: signed(V1, EVIL, ADA)}),
        "signed by one officer with two keys": ("D", {2: signed(V1, EVIL, ADA, ADAS_SECOND)}),
        "signed by the source's key and one officer": ("D", {2: signed(V1, EVIL, ADA, default_key())}),
        "signed by the target's key and one officer": ("D", {2: signed(V1, EVIL, ADA, RECEIPT_KEY)}),
        "signed by those alone whom it makes officers": ("D", {2: signed(V1, _BY_DAN, DAN)}),
        "not signed by those whom it makes officers": ("D", {2: signed(V1, _BY_DAN, ADA, BOB)}),
        "signed in the second officer's name": ("G", {2: _forged()}),
        "exchanged under the officers' signatures": ("G", {2: _exchanged()}),
        "of a number further on": ("G", {2: signed(V1, _EVIL_3, ADA, BOB)}),
        "of a number further on, under its own name": ("G", {3: signed(V1, _EVIL_3, ADA, BOB)}),
        "that follows another history": ("G", {2: signed(_OTHER_V2, EVIL, ADA, BOB)}),
        "after a version of another history": (
            "G",
            {2: signed(V1, V2, ADA, BOB), 3: signed(_OTHER_V2, _EVIL_3, ADA, BOB)},
        ),
        "after the one before it was brought twice": (
            "G",
            {
                2: signed(V1, V2, ADA, BOB),
                3: signed(V1, V2, ADA, BOB),
                4: signed(V2, _EVIL_4, ADA, BOB),
            },
        ),
        "signed by officers who were rotated away": (
            "D",
            {2: signed(V1, _WITHOUT_ADA, ADA, BOB, CLEO, DAN), 3: signed(_WITHOUT_ADA, _EVIL_3, ADA, BOB)},
        ),
        "signed by an officer who was revoked": (
            "D",
            {2: signed(V1, _ADA_REVOKED, BOB, CLEO), 3: signed(_ADA_REVOKED, _EVIL_3, ADA, BOB)},
        ),
        "signed by an officer whom it revokes itself": (
            "D",
            {
                2: signed(
                    *(V1, version(2, _let_the_thief_in_and_ada_out), ADA, BOB),
                )
            },
        ),
        "in more bytes than any has": ("G", {2: b" " * MAX_VERSION_BYTES + signed(V1, EVIL, ADA, BOB)}),
    }.items()
} | {
    f"called {name!r}": ("G", {name: signed(V1, EVIL, ADA, BOB)})
    for name in ("2.dsse.json", "00000002.json", "00000002.dsse.json.bak", "a/00000002.dsse.json")
}
"""Each lets the thief's key in, by its name in the container."""


def _pinned(scene: Scene) -> None:
    scene.follow(V1)
    scene.policies = LATER


def _bring(scene: Scene, versions: Mapping[str, bytes]) -> None:
    for name, raw in versions.items():
        scene.target.blobs.upload("policy", name, raw)


def _thief_comes(versions: Mapping[str, bytes]) -> Callable[[Scene], Mapping[str, Any]]:
    """What is brought would let the thief's key in; then he sends the honest bundle, signed by himself."""

    def act(scene: Scene) -> Mapping[str, Any]:
        _pinned(scene)
        _bring(scene, versions)
        return scene.push(envelope=scene.signed(lambda _: None, THIEF))

    return act


def _after(*touches: Touch, then: str = "") -> Callable[[Scene], Mapping[str, Any]]:
    """The stricter version is in force, or comes before the step ``then``; after it, this is done."""

    def act(scene: Scene) -> Mapping[str, Any]:
        _pinned(scene)

        def meddle() -> None:
            _bring(scene, {version_name(2): signed(V1, STRICTER, ADA, BOB)})
            assert scene.policy_version() == 2
            for touch in touches:
                touch(scene)

        if then:
            scene.before(then, meddle)
        else:
            meddle()
        return scene.push()

    return act


def _withhold(scene: Scene) -> None:
    """The version is taken away, and no process remembers it."""
    scene.target.blobs.delete("policy", version_name(2))
    scene.restart()


def _replace(other: bytes) -> Touch:
    """Another one that two officers have signed lies in its place."""

    def touch(scene: Scene) -> None:
        _bring(scene, {version_name(2): signed(V1, other, ADA, BOB)})
        scene.restart()

    return touch


def _pin(policy: bytes) -> Touch:
    return lambda scene: scene.follow(policy)


def _garbage(raw: bytes) -> Callable[[Scene], Mapping[str, Any]]:
    """It lies where the next version belongs."""

    def act(scene: Scene) -> Mapping[str, Any]:
        _pinned(scene)
        _bring(scene, {version_name(2): raw})
        return scene.push()

    return act


def _run_ahead(scene: Scene) -> Mapping[str, Any]:
    """The record of a version that there never was: nothing goes until a later one is pinned."""
    scene.policies = 50
    record = UsedPolicy(version=50, sha256="0" * 64)
    scene.target.blobs.put("ledger", "policies/00000050.json", record.to_bytes())
    return scene.push()


def _freeze(scene: Scene) -> Mapping[str, Any]:
    """The pinned version has expired, and whoever holds the next one back gains nothing by it any more."""
    _pinned(scene)
    scene.follow(version(1, lambda policy: policy.update(expiresAt="2026-11-23T08:30:00Z")))
    return scene.push()


def _thieves_are_pinned_out(scene: Scene) -> Mapping[str, Any]:
    """They had two officers' keys, and brought versions of their own; a later one was pinned by hand."""
    _pinned(scene)
    _bring(scene, {version_name(2): signed(V1, _BY_DAN, ADA, BOB, DAN)})
    assert scene.policy_version() == 2
    by_dan = version(3, let_the_thief_in, officers={"Dan": DAN}, threshold=1)
    _bring(scene, {version_name(3): signed(_BY_DAN, by_dan, DAN)})
    scene.follow(version(4))
    again = version(5, let_the_thief_in, officers={"Dan": DAN}, threshold=1)
    _bring(scene, {version_name(5): signed(by_dan, again, DAN)})
    return scene.push(envelope=scene.signed(lambda _: None, THIEF))


_BACK, _FORK = Refused(code=Code.POLICY_ROLLED_BACK), Refused(code=Code.POLICY_FORKED)

CASES: Mapping[str, tuple[str, Callable[[Scene], Mapping[str, Any]], End]] = {
    "put back: the version in force is withheld": ("G", _after(_withhold), _BACK),
    "put back: an older one is pinned": ("G", _after(_withhold, _pin(V1)), _BACK),
    **{
        f"put back: the version in force is withheld from {activity} on": (
            "G",
            _after(_withhold, then=activity),
            _BACK,
        )
        for activity in ("take_turn", "accept_bundle")
    },
    "forked: another one is signed in place of the one in force": ("D", _after(_replace(V2)), _FORK),
    "forked: another one is pinned under the number in force": (
        "G",
        _after(lambda scene: scene.target.blobs.delete("policy", version_name(2)), _pin(V2)),
        _FORK,
    ),
    "run ahead: a record of a version that there never was": ("E", _run_ahead, _BACK),
    "run ahead: thieves who were officers are pinned out": (
        "D",
        _thieves_are_pinned_out,
        Refused(code=Code.SIGNER_UNKNOWN),
    ),
    "held back: the last version has expired": ("G", _freeze, Refused(code=Code.POLICY_EXPIRED)),
    "held back: junk where the next one belongs": ("G", _garbage(b"{"), Harmless()),
    "held back: the next one half signed": ("G", _garbage(signed(V1, STRICTER, ADA)), Harmless()),
}

ATTACKS: Mapping[str, Attack] = {
    **{
        f"chain: a version {name}": Attack(
            by=by, act=_thief_comes(versions), end=Refused(code=Code.SIGNER_UNKNOWN)
        )
        for name, (by, versions) in BROUGHT.items()
    },
    **{f"chain: {name}": Attack(by=by, act=act, end=end) for name, (by, act, end) in CASES.items()},
}
