"""Bundles that were decided upon before, forks of a channel's history, and numbers that belong to others."""

from collections.abc import Callable, Mapping
from typing import Any

from airgap.errors import Code
from tests.attacks.scene import HONEST_POLICY, SMALL, Attack, Refused, Scene, seal
from tests.bundles import CHANNEL, Bundle, make_bundle
from tests.function_app.memory import START

Touch = Callable[[Scene], object]


def _forget(container: str, prefix: str = "") -> Touch:
    """Somebody with too many rights removes what was written down."""

    def touch(scene: Scene) -> None:
        for name in scene.target.blobs.names(container):
            if name.startswith(prefix):
                scene.target.blobs.delete(container, name)

    return touch


LEDGER, RECEIPTS = _forget("ledger", f"{CHANNEL}/"), _forget("receipts")
PROJECTION = _forget("work")


def _again(*touches: Touch, **more: Any) -> Callable[[Scene], Mapping[str, Any]]:
    """The imported bundle is pushed once more."""

    def act(scene: Scene) -> Mapping[str, Any]:
        scene.import_honestly()
        numbers = scene.numbers
        for touch in touches:
            touch(scene)
        outcome = scene.push(**more)
        if scene.target.numbers() != numbers:  # the ledger had lost it, and nothing was taken again
            assert scene.target.numbers() == []
            scene.numbers = []
        return outcome

    return act


def _signed_again(scene: Scene) -> Mapping[str, Any]:
    scene.import_honestly()
    return scene.push(envelope=seal(scene.bundle.payload))


def _other(**more: Any) -> Callable[[Scene], Mapping[str, Any]]:
    """After the honest bundle another one is pushed, which the source's key has signed as well."""

    def act(scene: Scene) -> Mapping[str, Any]:
        scene.import_honestly()
        more.setdefault("transfer_id", "honest0009")
        bundle: Bundle = make_bundle(
            blob_sizes=SMALL, created_at=START, policy_json=HONEST_POLICY, seed=5, **more
        )
        return scene.push(bundle)

    return act


CASES: Mapping[str, tuple[Callable[[Scene], Mapping[str, Any]], Code]] = {
    "the same upload again": (_again(), Code.REPLAYED),
    "the same bundle, signed again": (_signed_again, Code.REPLAYED),
    "again after its receipt was removed": (_again(RECEIPTS), Code.REPLAYED),
    "again after its ledger entry was removed": (_again(LEDGER), Code.REPLAYED),
    "again after entry and receipt were removed": (_again(LEDGER, RECEIPTS), Code.REPLAYED),
    "again after the work folders were removed": (_again(PROJECTION), Code.REPLAYED),
    "again under the folder of another transfer": (_again(folder="honest0005"), Code.BLOB_MISMATCH),
    "another bundle with the same number": (_other(), Code.SEQUENCE_REUSED),
    "another bundle with the same number and transfer id": (
        _other(transfer_id="honest0001"),
        Code.SEQUENCE_REUSED,
    ),
    "a history that forks at the next number": (
        _other(sequence=2, previous_sha256="f" * 64),
        Code.HISTORY_FORKED,
    ),
    "a number one beyond what the channel may jump": (
        _other(sequence=1002, previous_sha256="f" * 64),
        Code.SEQUENCE_JUMP,
    ),
    "the highest number there is": (
        _other(sequence=2**53 - 1, previous_sha256="f" * 64),
        Code.SEQUENCE_JUMP,
    ),
}

ATTACKS: Mapping[str, Attack] = {
    f"history: {name}": Attack(by="D", act=act, end=Refused(code=code)) for name, (act, code) in CASES.items()
}
