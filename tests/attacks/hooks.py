"""What somebody answers in the place of a check that is asked before a bundle is promoted."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from airgap.checks import MAX_ANSWER_BYTES, Check, Finding
from airgap.envelope import Envelope
from airgap.errors import Code, ServiceError
from airgap.signed_check import CheckStatement
from function_app.storage.paths import STAGING
from tests.attacks.scene import Attack, Change, End, Harmless, Partial, Refused, Scene
from tests.bundles import CHANNEL, SigningKey, default_key, new_key
from tests.function_app.memory import MemoryChecks
from tests.function_app.test_checking import SCAN, answer_to

SCANNER, LICENCES = new_key(), new_key()
PAST = "2020-01-01T00:00:00Z"

Answer = Callable[[bytes], bytes | None]
"""What comes back for a question."""


def must_sign(policy: dict[str, Any]) -> None:
    """The check ``scan`` counts only if the scanner's key has signed what it says."""
    policy["keys"].append({"holder": "the scanner", "publicKey": SCANNER.public_pem})
    rules = policy["channels"][CHANNEL]
    rules["checkRoles"] = {"scan": {"threshold": 1, "keyids": [SCANNER.keyid]}}


def _revoke(policy: dict[str, Any]) -> None:
    policy["revoked"] = [{"keyid": SCANNER.keyid, "from": PAST}]


def signed(question: bytes, key: SigningKey = SCANNER, **changes: Any) -> bytes:
    """A pass for exactly what is asked, signed by the scanner unless something is changed."""
    asked = json.loads(question)
    finding = Finding(
        manifest_sha256=changes.pop("manifest_sha256", asked["manifestDigest"].removeprefix("sha256:")),
        blobs=changes.pop("blobs", tuple((one["name"], one["etag"]) for one in asked["blobs"])),
        verdict="pass",
        detail="nothing found",
        scanner="tests 1",
    )
    told = {"check": asked["check"], "import_id": asked["importId"], "finding": finding} | changes
    return Envelope.sign(CheckStatement(**told).to_bytes(), [key.signer]).to_bytes()


def _forged(question: bytes) -> bytes:
    """In the scanner's name, by somebody else."""
    envelope = Envelope.from_bytes(signed(question, new_key()))
    (signature,) = envelope.signatures.values()
    return Envelope(payload=envelope.payload, signatures={SCANNER.keyid: signature}).to_bytes()


def _exchanged(question: bytes) -> bytes:
    """An objection that the scanner has signed, with a pass in its place under the same signature."""
    asked = json.loads(question)
    finding = Finding(
        manifest_sha256=asked["manifestDigest"].removeprefix("sha256:"),
        blobs=tuple((one["name"], one["etag"]) for one in asked["blobs"]),
        verdict="fail",
        detail="EICAR",
        scanner="tests 1",
    )
    objection = Envelope.from_bytes(signed(question, finding=finding))
    return replace(objection, payload=Envelope.from_bytes(signed(question)).payload).to_bytes()


def _asked(
    answer: Answer, rules: Change = lambda _: None, *, checks: tuple[Check, ...] = (SCAN,)
) -> Callable[[Scene], Mapping[str, Any]]:
    """A target that asks a scanner; what comes back about the honest bundle, in the scanner's place."""

    def act(scene: Scene) -> Mapping[str, Any]:
        ask(scene, answer, rules, checks)
        return scene.push()

    return act


def ask(scene: Scene, answer: Answer, rules: Change, checks: tuple[Check, ...] = (SCAN,)) -> None:
    """Let the target have checks, and the honest scanner say of every other bundle that it passes."""
    scene.under(rules)
    configure(scene, checks)
    service = scene.target.side.checks
    assert isinstance(service, MemoryChecks)

    def answered(_: Check, question: bytes) -> bytes | None:
        is_attacked = json.loads(question)["manifestDigest"] == f"sha256:{scene.bundle.manifest_sha256}"
        return answer(question) if is_attacked else _honest(scene, question)

    service.answer = answered
    scene.attend = lambda _bundle, _instance: configure(scene, (SCAN,))


def _honest(scene: Scene, question: bytes) -> bytes:
    is_signed = bool(scene.target.side.settings.trust_policy.channels[CHANNEL].check_roles)
    return signed(question) if is_signed else answer_to(question)


def configure(scene: Scene, checks: tuple[Check, ...]) -> None:
    """Let these checks be among the settings."""
    side = scene.target.side
    scene.target.side = replace(side, settings=replace(side.settings, checks=checks))
    scene.target.host.side = scene.target.side


def _while_waiting(scene: Scene) -> Mapping[str, Any]:
    """The scanner's key is revoked after it has answered, before anything is promoted."""
    ask(scene, signed, must_sign)
    scene.before("clear_bundle", lambda: scene.pin(_revoke))
    return scene.push()


def _must_sign_since(scene: Scene) -> Mapping[str, Any]:
    """Whoever answered unsigned has passed nothing once a newer policy asks for a signature."""
    ask(scene, answer_to, lambda _: None)

    def since() -> None:
        scene.under(must_sign)
        configure(scene, (SCAN,))

    scene.before("clear_bundle", since)
    return scene.push()


def _another_time(scene: Scene) -> Mapping[str, Any]:
    """It has found something; asked again, it would say that all is well."""
    said = iter([answer_to])

    def changes_its_mind(question: bytes) -> bytes:
        is_first = next(said, None) is not None
        return answer_to(question, verdict="fail", detail="EICAR") if is_first else answer_to(question)

    return _asked(changes_its_mind)(scene)


def _exchange_after(activity: str) -> Callable[[Scene], Mapping[str, Any]]:
    """The copies that passed are exchanged before they are promoted."""

    def act(scene: Scene) -> Mapping[str, Any]:
        ask(scene, answer_to, lambda _: None)

        def exchange() -> None:
            for name in scene.target.blobs.names(STAGING):
                scene.target.blobs.put(STAGING, name, b"something else")

        scene.before(activity, exchange)
        return scene.push()

    return act


def _first_blob(question: bytes) -> list[dict[str, str]]:
    found = json.loads(answer_to(question))["blobs"][:1]
    assert isinstance(found, list)
    return found


def _every_blob(question: bytes, **changes: str) -> list[dict[str, str]]:
    return [one | changes for one in json.loads(answer_to(question))["blobs"]]


def _denied(_: bytes) -> bytes:
    raise ServiceError(Code.SERVICE_DENIED, "HTTP 403")


def _duplicated(question: bytes) -> bytes:
    """The verdict twice: whoever keeps the last one reads a pass."""
    raw = answer_to(question, verdict="fail")
    return raw.replace(b'"verdict": "fail"', b'"verdict": "fail", "verdict": "pass"')


UNSIGNED: Mapping[str, Answer] = {
    "no answer at all": lambda _: None,
    "a refusal of the service": _denied,
    "nothing": lambda _: b"",
    "a page": lambda _: b"<html>pass</html>",
    "the question itself": lambda q: q,
    "more than any answer has": lambda q: answer_to(q) + b" " * MAX_ANSWER_BYTES,
    "a pass for another manifest": lambda q: answer_to(q, manifestDigest=f"sha256:{'0' * 64}"),
    "a pass for the first copy alone": lambda q: answer_to(q, blobs=_first_blob(q)),
    "a pass for the first copy, twice": lambda q: answer_to(q, blobs=_first_blob(q) * 2),
    "a pass for no copy": lambda q: answer_to(q, blobs=[]),
    "a pass for a copy more": lambda q: answer_to(q, blobs=[*_every_blob(q), {"name": "003", "etag": "0x1"}]),
    "a pass for the copies in another state": lambda q: answer_to(q, blobs=_every_blob(q, etag="0x0")),
    "a pass in other words": lambda q: answer_to(q, verdict="No threats found"),
    "a pass in capitals": lambda q: answer_to(q, verdict="PASS"),
    "two verdicts": _duplicated,
    "a member more": lambda q: answer_to(q, force=True),
    "a pass of a newer form": lambda q: answer_to(q, schema=2),
}

SIGNED: Mapping[str, tuple[Answer, Code]] = {
    "an unsigned pass": (answer_to, Code.CHECK_UNSIGNED),
    "a stranger's": (lambda q: signed(q, new_key()), Code.CHECK_UNSIGNED),
    "the source's": (lambda q: signed(q, default_key()), Code.CHECK_UNSIGNED),
    "forged in the scanner's name": (_forged, Code.CHECK_FORGED),
    "exchanged under the scanner's objection": (_exchanged, Code.CHECK_FORGED),
    "given for another check": (lambda q: signed(q, check="licences"), Code.CHECK_UNAVAILABLE),
    "given for another import": (lambda q: signed(q, import_id="import0"), Code.CHECK_UNAVAILABLE),
    "given for another manifest": (lambda q: signed(q, manifest_sha256="0" * 64), Code.CHECK_UNAVAILABLE),
    "given for the first copy alone": (
        lambda q: signed(q, blobs=tuple((one["name"], one["etag"]) for one in _first_blob(q))),
        Code.CHECK_UNAVAILABLE,
    ),
}


def _refused(code: Code) -> Refused:
    return Refused(code=code, takes_number=True)


CASES: Mapping[str, tuple[str, Callable[[Scene], Mapping[str, Any]], End]] = {
    "another verdict when it is asked again": ("F", _another_time, _refused(Code.CHECK_FAILED)),
    "the check is taken out of the settings": (
        "E",
        _asked(signed, must_sign, checks=()),
        _refused(Code.CHECK_UNAVAILABLE),
    ),
    "another check is asked in its place": (
        "E",
        _asked(signed, must_sign, checks=(replace(SCAN, name="scanner"),)),
        _refused(Code.CHECK_UNAVAILABLE),
    ),
    "its key is revoked after it has answered": ("D", _while_waiting, _refused(Code.CHECK_UNSIGNED)),
    "it must sign since it has answered": ("G", _must_sign_since, _refused(Code.CHECK_UNSIGNED)),
    "the copies are exchanged after they passed": (
        "E",
        _exchange_after("promote_blob"),
        Partial(code=Code.BLOB_CHANGED),
    ),
    "a pass that the scanner has signed": ("F", _asked(signed, must_sign), Harmless()),
}

ATTACKS: Mapping[str, Attack] = {
    **{
        f"check: {name}": Attack(by="F", act=_asked(answer), end=_refused(Code.CHECK_UNAVAILABLE))
        for name, answer in UNSIGNED.items()
    },
    **{
        f"check: a signed pass, {name}": Attack(by="F", act=_asked(answer, must_sign), end=_refused(code))
        for name, (answer, code) in SIGNED.items()
    },
    **{f"check: {name}": Attack(by=by, act=act, end=end) for name, (by, act, end) in CASES.items()},
}
