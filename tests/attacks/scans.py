"""What the tags of the storage's scanner say of the copies, or somebody in its place."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from airgap.checks import ScanCheck
from airgap.errors import Code
from tests.attacks.scene import Attack, End, Harmless, Refused, Scene
from tests.function_app.memory import START

RESULT, TIME = "Malware Scanning scan result", "Malware Scanning scan time UTC"
CLEAN, MALICIOUS = "No threats found", "Malicious"
Says = Mapping[str, Mapping[str, str]]
"""What is written beside a copy, by the name of the blob; an honest scanner finds nothing in the others."""


def _tags(result: str = CLEAN, *, at: timedelta = timedelta(seconds=5)) -> dict[str, str]:
    return {RESULT: result, TIME: f"{START + at:%Y-%m-%d %H:%M:%SZ}"}


def _scanned(says: Says, touch: Callable[[Scene], object] = lambda _: None) -> Callable[[Scene], Any]:
    """A target that goes by Defender's tags; what they say of the honest bundle's copies."""

    def act(scene: Scene) -> Mapping[str, Any]:
        side = scene.target.side
        settings = replace(side.settings, checks=(ScanCheck(name="malware"),))
        scene.target.side = scene.target.host.side = replace(side, settings=settings)

        def scan(container: str, name: str) -> Mapping[str, str]:
            if container != "staging":
                return {}
            is_attacked = scene.bundle.manifest_sha256 in name
            return says.get(name[-3:], _tags()) if is_attacked else _tags()

        scene.target.blobs.scanner = scan
        touch(scene)
        return scene.push()

    return act


def _tag_the_upload(scene: Scene) -> None:
    """As whoever holds a SAS that may set tags."""
    blobs, folder = scene.target.blobs, scene.bundle.transfer_id

    def tag() -> None:
        for name in ("001", "002"):
            blobs.tagged["incoming", f"{folder}/{name}"] = _tags()

    scene.before("admit_bundle", tag)


def _exchange_the_copies(scene: Scene) -> None:
    """Harmless bytes where the copies were, to be scanned in their place."""

    def exchange() -> None:
        for name in scene.target.blobs.names("staging"):
            scene.target.blobs.put("staging", name, b"harmless")

    scene.before("run_check", exchange)


def _attack(by: str, end: End, says: Says, touch: Callable[[Scene], object] = lambda _: None) -> Attack:
    return Attack(by=by, act=_scanned(says, touch), end=end)


def _refused(code: Code) -> Refused:
    return Refused(code=code, takes_number=True)


ATTACKS: Mapping[str, Attack] = {
    "scan: all copies are clean": _attack("D", Harmless(), {}),
    "scan: malware in the last blob": _attack("D", _refused(Code.CHECK_FAILED), {"002": _tags(MALICIOUS)}),
    "scan: malware beside a blob that is never scanned": _attack(
        "D", _refused(Code.CHECK_FAILED), {"001": {}, "002": _tags(MALICIOUS)}
    ),
    **{
        f"scan: {name}": _attack("D", _refused(Code.NOT_SCANNED), {"001": _tags(result)})
        for name, result in {
            "a blob that cannot be scanned": "Not scanned",
            "an archive that breaks the scanner": "SAM259207: Scan failed - nested too deep.",
            "a result of another case": CLEAN.lower(),
            "a result with more behind it": f"{CLEAN} yet",
            "an empty result": "",
        }.items()
    },
    "scan: the tag of a scan twice, clean and not": _attack(
        "E", _refused(Code.NOT_SCANNED), {"001": {**_tags(MALICIOUS), RESULT.lower(): CLEAN}}
    ),
    "scan: a blob that is never scanned": _attack("D", _refused(Code.CHECK_UNAVAILABLE), {"002": {}}),
    "scan: a result that bears no time": _attack(
        "E", _refused(Code.CHECK_UNAVAILABLE), {"001": {RESULT: CLEAN}}
    ),
    "scan: a result from before the copy was made": _attack(
        "E", _refused(Code.CHECK_UNAVAILABLE), {"001": _tags(at=timedelta(days=-1))}
    ),
    "scan: the upload is tagged as clean by whoever uploads": _attack(
        "B", _refused(Code.CHECK_UNAVAILABLE), {"001": {}, "002": {}}, _tag_the_upload
    ),
    "scan: the copies are exchanged for clean ones": _attack(
        "E", _refused(Code.BLOB_CHANGED), {}, _exchange_the_copies
    ),
}
