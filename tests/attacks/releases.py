"""Releases by people: too few persons, others than those asked, for something else, or not any more."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import azure.functions as func
import pytest

from airgap.envelope import Envelope
from airgap.errors import Code
from airgap.manifest import Tool
from airgap.release import ReleasedBundle, ReleaseStatement
from function_app.target import http_api
from tests.attacks.scene import Attack, Change, End, Harmless, Refused, Scene
from tests.bundles import AUDIENCE, CHANNEL, Bundle, SigningKey, default_key, new_key
from tests.function_app.test_import import RECEIPT_KEY

ADA, EVA, IDA, ADAS_SECOND = (new_key() for _ in range(4))
_HOLDERS = {"Ada": ADA, "Eva": EVA, "Ida": IDA}
PAST = "2020-01-01T00:00:00Z"

Round = Callable[[Scene], object]
"""What is done while the bundle waits, before the app counts once more."""


def two_of_three(policy: dict[str, Any]) -> None:
    """Two of three officers release each bundle; Ada has a second key."""
    keys = {**_HOLDERS, "Ada, again": ADAS_SECOND}
    policy["keys"] += [
        {"holder": name.partition(",")[0], "publicKey": key.public_pem} for name, key in keys.items()
    ]
    keyids = [key.keyid for key in keys.values()]
    policy["channels"][CHANNEL]["releaseRoles"] = {"officer": {"threshold": 2, "keyids": keyids}}


def statement(scene: Scene, bundle: Bundle, **other: Any) -> ReleaseStatement:
    about = ReleasedBundle.of(bundle.manifest, bundle.manifest_sha256, target=AUDIENCE[0])
    return ReleaseStatement(
        bundle=replace(about, **other),
        released_at=scene.target.host.now.replace(microsecond=0),
        tool=Tool(name="tests", version="0"),
    )


def _signed(scene: Scene, *keys: SigningKey, **other: Any) -> bytes:
    payload = statement(scene, scene.bundle, **other).to_bytes()
    return Envelope.sign(payload, [key.signer for key in keys]).to_bytes()


def post(scene: Scene, body: bytes, instance: str) -> int:
    """Hand a release in at the app's API; the status that it answers with."""

    class Clock:
        @staticmethod
        def now(_: object) -> datetime:
            return scene.target.host.now

    request = func.HttpRequest(
        method="POST",
        url=f"https://app/api/imports/{instance}/release",
        headers={},
        params={},
        route_params={"importId": instance},
        body=body,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http_api, "target_side", lambda: scene.target.side)
        patch.setattr(http_api, "datetime", Clock)
        release = http_api.release_import._function.get_user_function()
        answer: func.HttpResponse = asyncio.run(release(req=request))
    return int(answer.status_code)


def _release(*keys: SigningKey, status: int = 200, **other: Any) -> Round:
    """What these have signed is handed in, and taken or not."""

    def handed_in(scene: Scene) -> None:
        assert post(scene, _signed(scene, *keys, **other), scene.instance) == status

    return handed_in


def _forge(scene: Scene) -> None:
    """In Eva's name, by somebody else."""
    envelope = Envelope.from_bytes(_signed(scene, new_key()))
    (signature,) = envelope.signatures.values()
    forged = Envelope(payload=envelope.payload, signatures={EVA.keyid: signature})
    assert post(scene, forged.to_bytes(), scene.instance) == 400


def _kept(scene: Scene, key: SigningKey) -> str:
    return f"releases/{scene.bundle.manifest_sha256}/{key.keyid}.dsse.json"


def _plant(raw: Callable[[Scene], bytes]) -> Round:
    """It is put where Eva's release is kept."""
    return lambda scene: scene.target.blobs.put("ledger", _kept(scene, EVA), raw(scene))


def _remove(key: SigningKey) -> Round:
    return lambda scene: scene.target.blobs.delete("ledger", _kept(scene, key))


def _of_the_bundle_before(scene: Scene) -> bytes:
    """What Eva has really signed, for another bundle of the channel."""
    return _signed(scene, EVA, manifest_sha256="0" * 64)


def _litter(scene: Scene) -> None:
    """A thousand releases of strangers beside those that count."""
    folder, junk = f"releases/{scene.bundle.manifest_sha256}", _signed(scene, new_key())
    for number in range(1000):
        scene.target.blobs.put("ledger", f"{folder}/{number:064x}.dsse.json", junk)


def _policy(change: Change) -> Round:
    return lambda scene: scene.pin(change)


def _revoke(key: SigningKey) -> Round:
    return _policy(lambda policy: policy.update(revoked=[{"keyid": key.keyid, "from": PAST}]))


def _ask_all_three(policy: dict[str, Any]) -> None:
    policy["channels"][CHANNEL]["releaseRoles"]["officer"]["threshold"] = 3


def _another_role(policy: dict[str, Any]) -> None:
    """Ida stands in a role of her own from now on, and must release as well."""
    roles = policy["channels"][CHANNEL]["releaseRoles"]
    roles["officer"]["keyids"].remove(IDA.keyid)
    roles["chief"] = {"threshold": 1, "keyids": [IDA.keyid]}


def _released(*rounds: Round) -> Callable[[Scene], Mapping[str, Any]]:
    """A channel that asks two of three officers; one thing after the other is done while the bundle waits."""

    def act(scene: Scene) -> Mapping[str, Any]:
        scene.under(two_of_three)
        scene.attend = lambda bundle, instance: _release_honestly(scene, bundle, instance)
        left = [*rounds]

        def following() -> None:
            scene.before("clear_bundle", following)
            if left:
                left.pop(0)(scene)

        scene.before("clear_bundle", following)
        return scene.push()

    return act


def _release_honestly(scene: Scene, bundle: Bundle, instance: str) -> None:
    def both() -> None:
        payload = statement(scene, bundle).to_bytes()
        assert post(scene, Envelope.sign(payload, [EVA.signer, IDA.signer]).to_bytes(), instance) == 200

    scene.before("clear_bundle", both)


def _after_the_time(scene: Scene) -> Mapping[str, Any]:
    """The second release is missing until it is decided; then it comes."""
    outcome = _released(_release(ADA))(scene)
    _release(EVA, status=409)(scene)
    return outcome


EXPIRED = Refused(code=Code.RELEASE_EXPIRED, takes_number=True)

CASES: Mapping[str, tuple[str, tuple[Round, ...], End]] = {
    "nobody has": ("F", (), EXPIRED),
    "one of two has": ("D", (_release(ADA),), EXPIRED),
    "one has twice": ("D", (_release(ADA), _release(ADA)), EXPIRED),
    "one has with two keys": ("D", (_release(ADA), _release(ADA, ADAS_SECOND)), EXPIRED),
    "forged in the second one's name": ("F", (_release(ADA), _forge), EXPIRED),
    "signed by the source's key": (
        "D",
        (_release(ADA), _release(default_key(), status=403)),
        EXPIRED,
    ),
    "signed by the target's own key": (
        "D",
        (_release(ADA), _release(RECEIPT_KEY, status=403)),
        EXPIRED,
    ),
    "of another manifest": (
        "F",
        (_release(ADA), _release(EVA, status=400, manifest_sha256="0" * 64)),
        EXPIRED,
    ),
    "of another number": ("F", (_release(ADA), _release(EVA, status=400, sequence=7)), EXPIRED),
    "for another channel": ("F", (_release(ADA), _release(EVA, status=400, channel="dev")), EXPIRED),
    "for another registry": (
        "F",
        (_release(ADA), _release(EVA, status=400, target="other.azurecr.io")),
        EXPIRED,
    ),
    "a stranger's, planted in the second one's place": (
        "E",
        (_release(ADA), _plant(lambda scene: _signed(scene, new_key()))),
        EXPIRED,
    ),
    "of an earlier bundle, planted in the second one's place": (
        "E",
        (_release(ADA), _plant(_of_the_bundle_before)),
        EXPIRED,
    ),
    "taken away before the second one's": ("E", (_release(ADA), _remove(ADA), _release(EVA)), EXPIRED),
    "by a key that is revoked meanwhile": ("D", (_release(ADA), _revoke(ADA), _release(EVA)), EXPIRED),
    "by a key that was revoked before": (
        "D",
        (_release(ADA), _revoke(EVA), _release(EVA, status=403)),
        EXPIRED,
    ),
    "a third is asked for meanwhile": (
        "G",
        (_release(ADA), _policy(_ask_all_three), _release(EVA)),
        EXPIRED,
    ),
    "another role is asked for meanwhile": (
        "G",
        (_release(ADA), _policy(_another_role), _release(EVA)),
        EXPIRED,
    ),
    "of a bundle whose key is revoked meanwhile": (
        "D",
        (_release(ADA), _revoke(default_key()), _release(EVA)),
        Refused(code=Code.KEY_REVOKED, takes_number=True),
    ),
    "thousand of strangers beside those that count": (
        "E",
        (_litter, _release(ADA), _release(EVA)),
        Harmless(),
    ),
    "by both before a third is forged": ("F", (_forge, _release(ADA, EVA)), Harmless()),
}

ATTACKS: Mapping[str, Attack] = {
    **{
        f"release: {name}": Attack(by=by, act=_released(*rounds), end=end)
        for name, (by, rounds, end) in CASES.items()
    },
    "release: after the time is over": Attack(by="D", act=_after_the_time, end=EXPIRED),
}
