"""What the holder of the upload SAS does to the blobs, before, while and after they are admitted."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

from airgap.envelope import Envelope
from airgap.errors import Code
from airgap.manifest import ENVELOPE_NAME
from tests.attacks.scene import DEV_KEY, Attack, End, Harmless, Refused, Scene, seal
from tests.bundles import make_bundle, new_key
from tests.function_app.memory import START
from tests.function_app.test_import import flip

Touch = Callable[[Scene], object]


def _name(scene: Scene, name: str) -> str:
    return f"{scene.bundle.transfer_id}/{name}"


def _write(name: str, change: Callable[[bytes], bytes]) -> Touch:
    def touch(scene: Scene) -> None:
        content = scene.bundle.blobs.get(name, b"hello")
        scene.target.blobs.upload("incoming", _name(scene, name), change(content))

    return touch


def _delete(name: str) -> Touch:
    return lambda scene: scene.target.blobs.delete("incoming", _name(scene, name))


def _manifest(raw: Callable[[Scene], bytes]) -> Touch:
    return lambda scene: scene.target.blobs.upload("incoming", _name(scene, ENVELOPE_NAME), raw(scene))


def _exchange(scene: Scene) -> None:
    first, second = scene.bundle.blobs["001"], scene.bundle.blobs["002"]
    scene.target.blobs.upload("incoming", _name(scene, "001"), second)
    scene.target.blobs.upload("incoming", _name(scene, "002"), first)


def _many(scene: Scene) -> None:
    for number in range(300):
        scene.target.blobs.upload("incoming", _name(scene, f"junk/{number:04d}"), b"x")


def _of_another_channel(scene: Scene) -> bytes:
    return make_bundle(
        blob_sizes=(50,),
        created_at=START,
        channel="dev",
        keys=[DEV_KEY],
        transfer_id=scene.bundle.transfer_id,
    ).envelope


def _before_the_event(touch: Touch) -> Callable[[Scene], Mapping[str, Any]]:
    """It is done before anybody looked."""

    def act(scene: Scene) -> Mapping[str, Any]:
        raw = scene.target.upload(scene.bundle)
        touch(scene)
        return scene.run(raw)

    return act


def _just_before(activity: str, touch: Touch) -> Callable[[Scene], Mapping[str, Any]]:
    """It is done at that moment."""

    def act(scene: Scene) -> Mapping[str, Any]:
        scene.before(activity, lambda: touch(scene))
        return scene.push()

    return act


CORRUPT: Mapping[str, tuple[Touch, Code]] = {
    "a flipped bit at a blob's start": (_write("001", lambda c: flip(c, 0)), Code.PART_CORRUPT),
    "a flipped bit in a blob's middle": (_write("001", lambda c: flip(c, len(c) // 2)), Code.PART_CORRUPT),
    "a flipped bit at a blob's end": (_write("002", lambda c: flip(c, len(c) - 1)), Code.PART_CORRUPT),
    "a blob of zeros": (_write("001", lambda c: bytes(len(c))), Code.PART_CORRUPT),
    "a blob with one byte less": (_write("001", lambda c: c[:-1]), Code.PART_TRUNCATED),
    "a blob cut to one byte": (_write("001", lambda c: c[:1]), Code.PART_TRUNCATED),
    "an empty blob": (_write("002", lambda _: b""), Code.PART_MISSING),
    "a blob with one byte more": (_write("001", lambda c: c + b"\0"), Code.BLOB_MISMATCH),
    "a blob twice as long": (_write("001", lambda c: c + c), Code.BLOB_MISMATCH),
    "a blob that begins with another tar": (_write("001", lambda c: b"ustar" + c[5:]), Code.PART_CORRUPT),
    "the first blob missing": (_delete("001"), Code.PART_MISSING),
    "the last blob missing": (_delete("002"), Code.PART_MISSING),
    "the blobs exchanged": (_exchange, Code.PART_TRUNCATED),
}

BESIDE: Mapping[str, Touch] = {
    "a blob more": _write("003", lambda _: b"evil"),
    "a blob numbered zero": _write("000", lambda _: b"evil"),
    "a blob below a blob": _write("001/evil", lambda _: b"evil"),
    "a blob that is called nearly so": _write("001.part", lambda _: b"evil"),
    "a blob in other digits": _write("00\N{ARABIC-INDIC DIGIT ONE}", lambda _: b"evil"),
    "a manifest that is called nearly so": _write(f"{ENVELOPE_NAME}.bak", lambda _: b"evil"),
    "a manifest a folder below": _write(f"x/{ENVELOPE_NAME}", lambda _: b"evil"),
    "an executable": _write("setup.exe", lambda _: b"MZ"),
    "a name without end": _write("a" * 900, lambda _: b"evil"),
    "300 blobs more": _many,
}

TOUCHES: Mapping[str, Touch] = {
    "a blob overwritten": _write("001", lambda c: flip(c, 7)),
    "a blob deleted": _delete("001"),
    "the last blob cut": _write("002", lambda c: c[:10]),
    "the manifest deleted": _delete(ENVELOPE_NAME),
    "a forgery in the manifest's place": _manifest(lambda s: seal(s.bundle.payload, new_key())),
    "garbage in the manifest's place": _manifest(lambda _: b"{"),
    "the manifest written once more": _manifest(lambda s: s.bundle.envelope),
    "the manifest signed once more": _manifest(
        lambda s: Envelope.from_bytes(seal(s.bundle.payload)).to_bytes()
    ),
    "another channel's manifest in its place": _manifest(_of_another_channel),
    "300 blobs beside": _many,
}

IN_CUSTODY = (
    *("take_turn", "hash_staged_parts", "accept_bundle", "promote_blob"),
    *("start_import_run", "prove_artifacts", "conclude_import", "record_decision"),
)
"""Once the app has its own copies, whatever is done to the upload changes nothing."""

_BLOBS_TOUCHED: Mapping[str, Code] = {
    "a blob overwritten": Code.BLOB_CHANGED,
    "a blob deleted": Code.BLOB_CHANGED,
    "the last blob cut": Code.BLOB_CHANGED,
}


def _end_before_custody(name: str) -> End:
    return Refused(code=_BLOBS_TOUCHED[name]) if name in _BLOBS_TOUCHED else Harmless()


ATTACKS: Mapping[str, Attack] = {
    **{
        f"upload: {name}": Attack(by="B", act=_before_the_event(touch), end=Refused(code=code))
        for name, (touch, code) in CORRUPT.items()
    },
    **{
        f"upload: {name} beside": Attack(by="B", act=_before_the_event(touch), end=Harmless())
        for name, touch in BESIDE.items()
    },
    **{
        f"upload: {name}, before take_custody": Attack(
            by="B", act=_just_before("take_custody", touch), end=_end_before_custody(name)
        )
        for name, touch in TOUCHES.items()
    },
    **{
        f"upload: {name}, before {activity}": Attack(
            by="B", act=_just_before(activity, touch), end=Harmless()
        )
        for activity, (name, touch) in itertools.product(IN_CUSTODY, TOUCHES.items())
    },
}
