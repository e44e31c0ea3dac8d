"""Bundles that the source has signed well, before a policy that does not let them in."""

from collections.abc import Callable, Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from airgap.errors import Code
from tests.attacks.scene import DEV_KEY, Attack, Harmless, Refused, Scene
from tests.bundles import CHANNEL, default_key, key_from_private, new_key
from tests.function_app.memory import START

Change = Callable[[dict[str, Any]], object]
SECOND_KEY = new_key()
P384_KEY = key_from_private(ec.generate_private_key(ec.SECP384R1()))
PAST, FUTURE = "2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z"


def _channel(change: Change) -> Change:
    return lambda policy: change(policy["channels"][CHANNEL])


def _held(*holders: str) -> Change:
    """The source's key and a second one are both asked for; who holds which is said."""

    def changed(policy: dict[str, Any]) -> None:
        policy["keys"][0]["holder"] = holders[0]
        policy["keys"].append({"holder": holders[1], "publicKey": SECOND_KEY.public_pem})
        keyids = [default_key().keyid, SECOND_KEY.keyid]
        policy["channels"][CHANNEL]["bundleRoles"]["source"] = {"threshold": 2, "keyids": keyids}

    return changed


def _second_algorithm(policy: dict[str, Any]) -> None:
    """The source must sign by a second algorithm as well."""
    policy["keys"].append({"holder": policy["keys"][0]["holder"], "publicKey": P384_KEY.public_pem})
    policy["channels"][CHANNEL]["bundleRoles"]["source"].update(
        keyids=[default_key().keyid, P384_KEY.keyid],
        requiredAlgorithms=["ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384"],
    )


def _second_role(policy: dict[str, Any]) -> None:
    policy["keys"].append({"holder": "the releaser", "publicKey": SECOND_KEY.public_pem})
    policy["channels"][CHANNEL]["bundleRoles"]["releaser"] = {"threshold": 1, "keyids": [SECOND_KEY.keyid]}


def _under(change: Change) -> Callable[[Scene], Mapping[str, Any]]:
    """The target has that policy when the bundle arrives."""

    def act(scene: Scene) -> Mapping[str, Any]:
        scene.pin(change)
        return scene.push()

    return act


def _later(activity: str, change: Change) -> Callable[[Scene], Mapping[str, Any]]:
    """The target gets that policy while the bundle is under way."""

    def act(scene: Scene) -> Mapping[str, Any]:
        scene.before(activity, lambda: scene.pin(change))
        return scene.push()

    return act


REFUSED: Mapping[str, tuple[Change, Code]] = {
    "it has expired": (lambda p: p.update(expiresAt=PAST), Code.POLICY_EXPIRED),
    "the key is revoked": (
        lambda p: p.update(revoked=[{"keyid": default_key().keyid, "from": PAST}]),
        Code.KEY_REVOKED,
    ),
    "the key is no more among the channel's": (
        lambda p: (
            p["keys"].append({"holder": "another source", "publicKey": SECOND_KEY.public_pem}),
            p["channels"][CHANNEL]["bundleRoles"]["source"].update(keyids=[SECOND_KEY.keyid]),
        ),
        Code.THRESHOLD_NOT_MET,
    ),
    "a second person must sign": (_held("ada", "grace"), Code.THRESHOLD_NOT_MET),
    "a second role must sign": (_second_role, Code.THRESHOLD_NOT_MET),
    "the channel is gone": (lambda p: p["channels"].pop(CHANNEL), Code.CHANNEL_UNKNOWN),
    "the channel serves another registry": (
        _channel(lambda c: c.update(audience=["other.azurecr.io"])),
        Code.AUDIENCE_MISMATCH,
    ),
    "the channel carries no such repository": (
        _channel(lambda c: c.update(repositories=["infra/**"])),
        Code.REPOSITORY_REFUSED,
    ),
    "the channel carries only one of the repositories": (
        _channel(lambda c: c.update(repositories=["team/app001"])),
        Code.REPOSITORY_REFUSED,
    ),
    "the channel carries what begins alike": (
        _channel(lambda c: c.update(repositories=["team/app"])),
        Code.REPOSITORY_REFUSED,
    ),
    "the source must sign by a second algorithm": (_second_algorithm, Code.ALGORITHM_MISSING),
    "the channel takes nothing so old": (_channel(lambda c: c.update(maxAgeSeconds=1)), Code.TOO_OLD),
}

STALE: Mapping[str, tuple[Change, Code]] = {
    name: found
    for name, found in REFUSED.items()
    if name in {"it has expired", "the key is revoked", "the channel is gone", "a second person must sign"}
}

MOMENTS = ("inspect_blobs", "take_custody", "take_turn", "hash_staged_parts", "accept_bundle")
"""From the admission to the moment when the number is taken: until then the policy in force decides."""


def _one_holder_of_two_keys(scene: Scene) -> Mapping[str, Any]:
    """A threshold of two is not reached by one person's two keys; such a policy cannot even be pinned."""
    try:
        scene.pin(_held("ada", "ada"))
    except Exception as error:  # noqa: BLE001 - any refusal will do
        assert "more than there are holders" in str(error)  # noqa: PT017
        return scene.push()
    raise AssertionError("the policy was taken")


def _revoked_from_tomorrow(scene: Scene) -> Mapping[str, Any]:
    scene.pin(lambda p: p.update(revoked=[{"keyid": default_key().keyid, "from": FUTURE}]))
    return scene.push()


def _signed_by_both_but_forged_once(scene: Scene) -> Mapping[str, Any]:
    scene.pin(_held("ada", "grace"))
    return scene.push(envelope=scene.signed(lambda _: None, default_key(), DEV_KEY))


def _clock(activity: str, years: int) -> Callable[[Scene], Mapping[str, Any]]:
    """The machine's clock jumps while the bundle is under way."""

    def act(scene: Scene) -> Mapping[str, Any]:
        def jump() -> None:
            scene.target.host.now = START.replace(year=START.year + years)

        scene.before(activity, jump)
        outcome = scene.push()
        scene.target.host.now = START.replace(hour=(START.hour + 1) % 24)
        return outcome

    return act


ATTACKS: Mapping[str, Attack] = {
    **{
        f"policy: {name}": Attack(by="D", act=_under(change), end=Refused(code=code))
        for name, (change, code) in REFUSED.items()
    },
    **{
        f"policy: {name}, from {activity} on": Attack(
            by="G", act=_later(activity, change), end=Refused(code=code)
        )
        for name, (change, code) in STALE.items()
        for activity in MOMENTS
    },
    **{
        f"clock: a year ahead from {activity} on": Attack(
            by="G", act=_clock(activity, 1), end=Refused(code=Code.EXPIRED)
        )
        for activity in ("take_custody", "take_turn", "hash_staged_parts")
    },
    "policy: one person's two keys for two persons": Attack(
        by="D", act=_one_holder_of_two_keys, end=Harmless()
    ),
    "policy: the key is revoked from a later day on": Attack(
        by="D", act=_revoked_from_tomorrow, end=Harmless()
    ),
    "policy: the key of another channel signs as the second person": Attack(
        by="D", act=_signed_by_both_but_forged_once, end=Refused(code=Code.THRESHOLD_NOT_MET)
    ),
}
