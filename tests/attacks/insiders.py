"""What an identity does that has got rights in the target's storage which nobody should have."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from airgap.errors import Code
from tests.attacks.scene import Attack, End, Partial, Refused, Scene
from tests.bundles import CHANNEL
from tests.function_app.test_import import flip

Touch = Callable[[Scene], object]


def _folder(scene: Scene) -> str:
    return f"{CHANNEL}/{scene.bundle.manifest_sha256}"


def _staged(scene: Scene) -> str:
    return f"{_folder(scene)}/{scene.instance}/001"


def _overwrite(container: str, path: Callable[[Scene], str]) -> Touch:
    return lambda scene: scene.target.blobs.upload(container, path(scene), flip(scene.bundle.blobs["001"], 3))


def _touch_only(container: str, path: Callable[[Scene], str]) -> Touch:
    """The same bytes, written by somebody else."""
    return lambda scene: scene.target.blobs.upload(container, path(scene), scene.bundle.blobs["001"])


def _delete(container: str, path: Callable[[Scene], str]) -> Touch:
    return lambda scene: scene.target.blobs.delete(container, path(scene))


def _promoted(scene: Scene) -> str:
    return f"{_folder(scene)}/001"


def _mark_as_copied(scene: Scene) -> None:
    """A planted blob that bears the very mark of a copy."""
    blobs = scene.target.blobs
    staged = blobs.containers["staging"][_staged(scene)]
    blobs.upload(
        "transfer", _promoted(scene), flip(scene.bundle.blobs["001"], 3), metadata={"copiedfrom": staged.etag}
    )


def _kept_envelope(scene: Scene) -> None:
    """The kept manifest is exchanged."""
    blobs = scene.target.blobs
    (name,) = [one for one in blobs.names("ledger") if one.startswith("envelopes/")]
    found = blobs.containers["ledger"][name]
    blobs.containers["ledger"][name] = replace(found, content=flip(found.content, 40))


def _number_taken(scene: Scene) -> None:
    """Somebody plants an entry under the number of the bundle."""
    scene.target.blobs.upload("ledger", f"{CHANNEL}/0000000000000001.json", b"{}")


def _just_before(activity: str, touch: Touch) -> Callable[[Scene], Mapping[str, Any]]:
    def act(scene: Scene) -> Mapping[str, Any]:
        scene.before(activity, lambda: touch(scene))
        return scene.push()

    return act


CASES: Mapping[str, tuple[str, Touch, End]] = {
    "the copy in custody overwritten before it is hashed": (
        "hash_staged_parts",
        _overwrite("staging", _staged),
        Refused(code=Code.BLOB_CHANGED),
    ),
    "the copy in custody written again before it is hashed": (
        "hash_staged_parts",
        _touch_only("staging", _staged),
        Refused(code=Code.BLOB_CHANGED),
    ),
    "the copy in custody deleted before it is hashed": (
        "hash_staged_parts",
        _delete("staging", _staged),
        Refused(code=Code.BLOB_CHANGED),
    ),
    "the copy in custody overwritten after it was hashed": (
        "promote_blob",
        _overwrite("staging", _staged),
        Partial(code=Code.BLOB_CHANGED),
    ),
    "the copy in custody written again after it was hashed": (
        "promote_blob",
        _touch_only("staging", _staged),
        Partial(code=Code.BLOB_CHANGED),
    ),
    "the copy in custody deleted after it was hashed": (
        "promote_blob",
        _delete("staging", _staged),
        Partial(code=Code.BLOB_CHANGED),
    ),
    "a blob planted where the promoted one belongs": (
        "promote_blob",
        _overwrite("transfer", _promoted),
        Partial(code=Code.CONFLICT),
    ),
    "the right bytes planted where the promoted blob belongs": (
        "promote_blob",
        _touch_only("transfer", _promoted),
        Partial(code=Code.CONFLICT),
    ),
    "a blob planted with the mark of a copy": ("promote_blob", _mark_as_copied, Partial(code=Code.CONFLICT)),
    "the promoted blob overwritten": (
        "start_import_run",
        _overwrite("transfer", _promoted),
        Partial(code=Code.BLOB_CHANGED),
    ),
    "the promoted blob written again": (
        "start_import_run",
        _touch_only("transfer", _promoted),
        Partial(code=Code.BLOB_CHANGED),
    ),
    "the promoted blob deleted": (
        "start_import_run",
        _delete("transfer", _promoted),
        Partial(code=Code.BLOB_CHANGED),
    ),
    "the kept manifest changed before the sizes are compared": (
        "inspect_blobs",
        _kept_envelope,
        Refused(code=Code.BLOB_CHANGED),
    ),
    "the kept manifest changed before the turn": (
        "take_turn",
        _kept_envelope,
        Refused(code=Code.BLOB_CHANGED),
    ),
    "the kept manifest changed before the number is taken": (
        "accept_bundle",
        _kept_envelope,
        Refused(code=Code.BLOB_CHANGED),
    ),
}

ATTACKS: Mapping[str, Attack] = {
    f"insider: {name}": Attack(by="E", act=_just_before(activity, touch), end=end)
    for name, (activity, touch, end) in CASES.items()
}
