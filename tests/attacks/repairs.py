"""Damaged uploads that are held to be repaired: what comes in place of the parts, and beside them."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from airgap.errors import Code
from airgap.manifest import ENVELOPE_NAME
from airgap.states import Kind, State
from function_app.journal.store import JournalStore
from tests.attacks.scene import DEV_KEY, HONEST_POLICY, SMALL, Attack, End, Harmless, Refused, Scene, seal
from tests.bundles import default_key, make_bundle, new_key
from tests.function_app.memory import START
from tests.function_app.test_import import flip

Touch = Callable[[Scene], object]
PAST = "2020-01-01T00:00:00Z"


def damage(scene: Scene) -> None:
    """The honest bundle is pushed whole, one bit of its first blob flips on the way, and it is held."""
    raw = scene.target.upload(scene.bundle)
    _write("001", lambda content: flip(content, 7))(scene)
    outcome = scene.run(raw)
    assert outcome["code"] == Code.PART_CORRUPT.name, outcome
    journal = JournalStore(scene.target.blobs, scene.target.side.projection)
    assert journal.read(Kind.IMPORTS, scene.instance).state is State.HELD


def _name(scene: Scene, name: str) -> str:
    return f"{scene.bundle.transfer_id}/{name}"


def _write(name: str, change: Callable[[bytes], bytes] = lambda content: content) -> Touch:
    """A blob of the bundle is uploaded once more, changed."""

    def touch(scene: Scene) -> None:
        content = change(scene.bundle.blobs[name])
        scene.target.blobs.upload("incoming", _name(scene, name), content)

    return touch


def _delete(name: str) -> Touch:
    return lambda scene: scene.target.blobs.delete("incoming", _name(scene, name))


SENT_AGAIN = _write("001")
"""The damaged blob comes again as it was signed."""


def complete(scene: Scene) -> dict[str, Any]:
    """The bundle manifest comes once more, after whatever came before it."""
    scene.target.blobs.upload("incoming", _name(scene, ENVELOPE_NAME), scene.bundle.envelope)
    return scene.run(scene.bundle.envelope, again=1)


def _repaired(*touches: Touch) -> Callable[[Scene], Mapping[str, Any]]:
    """These things are done to what is held, and then the bundle manifest comes again."""

    def act(scene: Scene) -> Mapping[str, Any]:
        damage(scene)
        for touch in touches:
            touch(scene)
        return complete(scene)

    return act


def _before(activity: str, touch: Touch) -> Touch:
    return lambda scene: scene.before(activity, lambda: touch(scene))


def _forge(scene: Scene) -> None:
    """A forgery of the bundle manifest, before the honest one comes again."""
    forged = seal(scene.bundle.payload, new_key())
    scene.target.blobs.upload("incoming", _name(scene, ENVELOPE_NAME), forged)
    assert scene.run(forged)["code"] == Code.SIGNER_UNKNOWN.name


def _rival(scene: Scene) -> None:
    """Another channel's bundle of the same name is pushed over what is held; the honest one is sent anew."""
    rival = make_bundle(
        blob_sizes=SMALL,
        created_at=START,
        channel="dev",
        keys=[DEV_KEY],
        transfer_id=scene.bundle.transfer_id,
        policy_json=HONEST_POLICY,
        seed=3,
    )
    raw = scene.target.upload(rival)
    scene.target.blobs.upload("incoming", _name(scene, "001"), flip(rival.blobs["001"], 7))
    assert scene.run(raw)["code"] == Code.PART_CORRUPT.name
    scene.target.upload(scene.bundle)


def _overtake(scene: Scene) -> None:
    """The channel's next number is imported while this one is held."""
    following = make_bundle(
        blob_sizes=(400,),
        created_at=START,
        policy_json=HONEST_POLICY,
        transfer_id="honest0003",
        sequence=2,
        previous_sha256=scene.bundle.manifest_sha256,
        seed=5,
    )
    assert scene.push(following)["outcome"] == "imported"
    scene.numbers = scene.target.numbers()
    scene.imported.clear()


def _revoke(scene: Scene) -> None:
    scene.pin(lambda policy: policy.update(revoked=[{"keyid": default_key().keyid, "from": PAST}]))


def _expired(scene: Scene) -> Mapping[str, Any]:
    """It is held for longer than the bundle is good."""
    damage(scene)
    now = scene.target.host.now
    scene.target.host.now = now + timedelta(days=31)
    SENT_AGAIN(scene)
    outcome = complete(scene)
    scene.target.host.now = now
    return outcome


def _twice(scene: Scene) -> Mapping[str, Any]:
    """Once it was completed and imported, it is pushed whole once more."""
    outcome = _repaired(SENT_AGAIN)(scene)
    assert outcome["outcome"] == "imported"
    scene.numbers = scene.target.numbers()
    scene.imported.clear()
    return scene.run(scene.target.upload(scene.bundle), again=2)


def _remove(prefix: str) -> Touch:
    """Notes of the app are removed by somebody with too many rights."""

    def touch(scene: Scene) -> None:
        blobs = scene.target.blobs
        found = [name for name in blobs.names("work") if prefix in name]
        assert found
        for name in found:
            blobs.delete("work", name)

    return touch


def _corrupt(code: Code = Code.PART_CORRUPT) -> Refused:
    return Refused(code=code)


CASES: Mapping[str, tuple[str, Callable[[Scene], Mapping[str, Any]], End]] = {
    "the manifest comes again, and nothing else": ("B", _repaired(), _corrupt()),
    "the damaged blob comes damaged elsewhere": (
        "A",
        _repaired(_write("001", lambda content: flip(content, len(content) - 1))),
        _corrupt(),
    ),
    "other bytes come in the damaged blob's place": (
        "B",
        _repaired(_write("001", lambda content: bytes(len(content)))),
        _corrupt(),
    ),
    "the damaged blob comes shorter": (
        "A",
        _repaired(_write("001", lambda content: content[:-1])),
        _corrupt(Code.PART_TRUNCATED),
    ),
    "the damaged blob comes longer": (
        "B",
        _repaired(_write("001", lambda content: content + b"\0")),
        _corrupt(Code.BLOB_MISMATCH),
    ),
    "a blob that is held is overwritten meanwhile": (
        "B",
        _repaired(_write("002", lambda content: flip(content, 3)), SENT_AGAIN),
        _corrupt(),
    ),
    "a blob that is held is deleted meanwhile": (
        "B",
        _repaired(_delete("002"), SENT_AGAIN),
        _corrupt(Code.PART_MISSING),
    ),
    "the blob that came again is exchanged before custody": (
        "B",
        _repaired(SENT_AGAIN, _before("take_custody", _write("001", lambda content: flip(content, 7)))),
        _corrupt(Code.BLOB_CHANGED),
    ),
    "the blob that came again is exchanged once it is in custody": (
        "B",
        _repaired(SENT_AGAIN, _before("take_turn", _write("001", lambda content: flip(content, 7)))),
        Harmless(),
    ),
    "a forgery of its manifest comes first": ("B", _repaired(_forge, SENT_AGAIN), Harmless()),
    "another channel's bundle comes under its name": ("D", _repaired(_rival), Harmless()),
    "its key is revoked meanwhile": ("D", _repaired(_revoke, SENT_AGAIN), _corrupt(Code.KEY_REVOKED)),
    "it has expired meanwhile": ("G", _expired, _corrupt(Code.EXPIRED)),
    "the next number was imported meanwhile": (
        "A",
        _repaired(_overtake, SENT_AGAIN),
        _corrupt(Code.OUT_OF_ORDER),
    ),
    "it comes once more after it was completed": ("A", _twice, _corrupt(Code.REPLAYED)),
    "the note of what is held is removed": ("E", _repaired(_remove("held/"), SENT_AGAIN), Harmless()),
    "the notes of new damage are removed": (
        "E",
        _repaired(_before("accept_bundle", _remove("/damage/"))),
        _corrupt(Code.SERVICE_UNEXPECTED),
    ),
}

ATTACKS: Mapping[str, Attack] = {
    f"repair: {name}": Attack(by=by, act=act, end=end) for name, (by, act, end) in CASES.items()
}
