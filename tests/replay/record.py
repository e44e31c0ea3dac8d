"""Records the histories in ``tests/replay/histories``: ``python -m tests.replay.record``.

The same code records the same files, byte for byte. See ``tests/replay/README.md`` for when to do it.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from airgap.checks import Check
from airgap.division import divide
from airgap.envelope import Envelope
from airgap.receipt import ArtifactProof
from airgap.release import ReleasedBundle, ReleaseStatement
from airgap.states import Kind, State
from function_app.journal.store import JournalStore
from function_app.ports import SourceSide, TargetSide
from function_app.settings import SourceSettings
from function_app.source import planning
from function_app.source.cosigning import SignedManifest
from function_app.source.holdings import keep_receipt
from function_app.storage.ledger import Ledger
from tests.bundles import AUDIENCE, CHANNEL, Bundle, make_bundle
from tests.function_app.memory import (
    ENVIRONMENT,
    STAGING,
    START,
    MemoryChecks,
    MemoryPipelines,
    MemoryRegistry,
    succeeded,
)
from tests.histories.harness import Clock, Start, Tap
from tests.histories.scenarios import (
    DAY,
    GUARDED,
    OFFICER_KEY,
    POLICY,
    RECEIPT_KEY,
    SCAN,
    SOURCE_KEY,
    TRANSFER_ID,
    UNKNOWN_KEY,
    LonelyImages,
    Outage,
    Vault,
    new_source,
    new_target,
    order_transfer,
    run,
    signed_answer,
    upload,
)
from tests.vectors.generate import imported_receipt

HISTORIES = Path(__file__).parent / "histories"
_HOUR = timedelta(hours=1)


class Recorder:
    """A tap that keeps of each generation its last call, and what was answered at each step."""

    def __init__(self) -> None:
        self.generations: dict[str, dict[str, Any]] = {}

    def __call__(self, payload: str, answer: Mapping[str, Any]) -> None:
        body = json.loads(payload)
        for item in body["history"]:
            if item.get("Details"):  # a stack trace names folders of whoever records
                item["Details"] = "Traceback (most recent call last): …"
        started = next(item for item in body["history"] if "OrchestrationInstance" in item)
        execution = str(started["OrchestrationInstance"]["ExecutionId"])
        generation = self.generations.setdefault(execution, {"orchestrator": started["Name"], "steps": []})
        actions = [action for group in answer["actions"] for action in group]
        step = {"events": len(body["history"]), "actions": len(actions), "isDone": answer["isDone"]}
        generation["steps"].append(step)
        generation |= {"payload": body, "actions": actions, "output": answer.get("output")}


def export_sealed(tap: Tap) -> None:
    """Two blobs, 51 artifacts."""
    side = new_source(registry=LonelyImages())
    references = [f"team/app:v{number}" for number in range(51)]
    for reference in references:
        _registry(side).push_image("team/app", reference.partition(":")[2])
    run(side, Clock(), order_transfer(side, references), tap=tap)


def export_refused(tap: Tap) -> None:
    """An artifact that the registry does not have."""
    side = new_source()
    run(side, Clock(), order_transfer(side, ["team/gone:v1"]), tap=tap)


def export_cancelled(tap: Tap) -> None:
    """Somebody cancels it while its pipeline run is under way."""

    def cancelled_meanwhile(request: Mapping[str, Any]) -> dict[str, Any]:
        journals = JournalStore(side.blobs, side.projection)
        journals.record(Kind.TRANSFERS, TRANSFER_ID, State.CANCELLED, {}, by="caller", at=START)
        side.blobs.put("transfer", request["target"]["name"], b"exported all the same")
        return succeeded()

    side = new_source(registry=LonelyImages(), pipelines=MemoryPipelines(cancelled_meanwhile))
    _registry(side).push_image("team/app", "v1")
    run(side, Clock(), order_transfer(side, ["team/app:v1"]), tap=tap)


def export_in_an_outage(tap: Tap) -> None:
    """The vault is away for two hours when the signing keys are judged."""
    clock = Clock()
    side = new_source(signing=Vault([SOURCE_KEY], Outage(clock, START + 2 * _HOUR)), registry=LonelyImages())
    _registry(side).push_image("team/app", "v1")
    run(side, clock, order_transfer(side, ["team/app:v1"]), tap=tap)


def export_in_one_lane(tap: Tap) -> None:
    """One run at a time: its lane has more items than one history takes."""
    side = new_source(registry=LonelyImages())
    references = [f"team/app:v{number}" for number in range(1050)]
    for reference in references:
        _registry(side).push_image("team/app", reference.partition(":")[2])
    lanes_only = _only("run_lane", tap)
    run(side, Clock(), order_transfer(side, references), tap=lanes_only, PIPELINE_RUNS_AT_ONCE="1")


def export_nothing_missing(tap: Tap) -> None:
    """The target holds all that was ordered, as its receipt says."""
    settings = SourceSettings.from_environment(ENVIRONMENT | {"TRUST_POLICY": POLICY.decode()})
    side = replace(new_source(), settings=settings)
    digest = _registry(side).push_image("team/app", "v1")
    proof = ArtifactProof(reference="team/app:v1", digest=digest, found=digest)
    receipt = replace(imported_receipt(), target=AUDIENCE[0], decided_at=START, artifacts=(proof,))
    signed = Envelope.sign(receipt.to_bytes(), [RECEIPT_KEY.signer]).to_bytes()
    keep_receipt(side.blobs, signed, receipt)
    run(side, Clock(), order_transfer(side, ["team/app:v1"], only_missing=True), tap=tap)


def export_divided(tap: Tap) -> None:
    """It is more than a bundle takes, and becomes two transfers."""
    side = new_source(registry=LonelyImages())
    references = [f"team/app:v{number}" for number in range(3)]
    for reference in references:
        _registry(side).push_image("team/app", reference.partition(":")[2])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "MAX_ARTIFACTS", 2)
        patch.setattr(planning, "divide", partial(divide, most=2))
        run(side, Clock(), order_transfer(side, references), tap=tap)


def export_signed_by_people(tap: Tap) -> None:
    """The source has signed, and an officer signs a quarter of an hour later."""
    clock, late = Clock(), START + timedelta(minutes=15)
    policy = json.loads(POLICY)
    policy["keys"].append({"holder": "officer", "publicKey": OFFICER_KEY.public_pem})
    policy["channels"][CHANNEL]["bundleRoles"]["officer"] = {"threshold": 1, "keyids": [OFFICER_KEY.keyid]}
    asked = {"TRUST_POLICY": json.dumps(policy)}
    settings = SourceSettings.from_environment(ENVIRONMENT | asked)
    side = replace(new_source(registry=LonelyImages()), settings=settings)
    _registry(side).push_image("team/app", "v1")

    def until_signed(payload: str, given: Mapping[str, Any]) -> None:
        if clock.now >= late:
            journal = JournalStore(side.blobs, side.projection).read(Kind.TRANSFERS, TRANSFER_ID)
            manifest = SignedManifest.of(side, journal)
            if manifest is not None:
                signed = Envelope.sign(manifest.envelope().payload, [OFFICER_KEY.signer]).to_bytes()
                manifest.keep(signed, is_open=True, by="officer", now=late)
        tap(payload, given)

    run(side, clock, order_transfer(side, ["team/app:v1"]), tap=until_signed, **asked)


def import_imported(tap: Tap) -> None:
    """A bundle as it should be."""
    _receive(_bundle(), tap)


def import_refused(tap: Tap) -> None:
    """A bundle that a stranger signed."""
    _receive(_bundle(keys=[UNKNOWN_KEY]), tap)


def import_damaged(tap: Tap) -> None:
    """A bundle one of whose blobs arrives too short."""
    bundle = _bundle()
    damaged = {name: content[:-1] for name, content in bundle.blobs.items()}
    _receive(replace(bundle, blobs=damaged), tap)


def import_checked_and_released(tap: Tap) -> None:
    """A scanner that signs has a verdict after an hour, and an officer releases the bundle later still."""
    clock, bundle = Clock(START + _HOUR), _bundle()
    side = new_target(policy=GUARDED)
    scanner = Outage(clock, START + 2 * _HOUR)

    def answer(_: Check, question: bytes) -> bytes | None:
        return signed_answer(question) if scanner.is_over else None

    def until_released(payload: str, given: Mapping[str, Any]) -> None:
        if clock.now >= START + 3 * _HOUR:
            released = ReleasedBundle.of(bundle.manifest, bundle.manifest_sha256, target=AUDIENCE[0])
            statement = ReleaseStatement(bundle=released, released_at=START, tool=bundle.manifest.tool)
            envelope = Envelope.sign(statement.to_bytes(), [OFFICER_KEY.signer]).to_bytes()
            Ledger(side.blobs).keep_release(bundle.manifest_sha256, OFFICER_KEY.keyid, envelope)
        tap(payload, given)

    _checks(side).answer = answer
    guarded = {"TRUST_POLICY": GUARDED.decode(), "CHECKS": SCAN}
    run(side, clock, upload(side, bundle), tap=until_released, **guarded)


def import_not_released(tap: Tap) -> None:
    """The scanner answers at once, and nobody releases the bundle for an hour."""
    side = new_target(policy=GUARDED)
    _checks(side).answer = lambda _, question: signed_answer(question)
    guarded = {"TRUST_POLICY": GUARDED.decode(), "CHECKS": SCAN, "RELEASE_TIMEOUT_S": "3600"}
    side = replace(side, settings=replace(side.settings, release_timeout_s=3600))
    run(side, Clock(START + _HOUR), upload(side, _bundle()), tap=tap, **guarded)


def import_staged(tap: Tap) -> None:
    """A bundle comes in by way of the staging registry."""
    side, bundle = new_target(is_staged=True), _bundle()
    start = upload(side, bundle)
    assert isinstance(side.registry, MemoryRegistry)
    assert side.staged is not None
    assert isinstance(side.pipelines, MemoryPipelines)
    real, staging = side.registry, side.staged.registry
    assert isinstance(staging, MemoryRegistry)
    manifests, tags = dict(real.manifests), dict(real.tags)
    real.manifests.clear()
    real.tags.clear()

    def brings(_: Mapping[str, Any]) -> dict[str, Any]:
        staging.manifests |= manifests
        staging.tags |= tags
        return succeeded(importedArtifacts=[one.reference for one in bundle.manifest.artifacts])

    side.pipelines.work = brings
    run(side, Clock(START + _HOUR), start, tap=tap, **STAGING)


def closing_put_off(tap: Tap) -> None:
    """The vault stays away for longer than a receipt is waited for."""
    clock = Clock(START + _HOUR)
    side = new_target(signing=Vault([RECEIPT_KEY], Outage(clock, START + 30 * DAY)))
    run(side, clock, upload(side, _bundle()), tap=_only("close_import", tap))


SCENARIOS: Mapping[str, Callable[[Tap], None]] = {
    "export-sealed": export_sealed,
    "export-refused": export_refused,
    "export-cancelled": export_cancelled,
    "export-in-an-outage": export_in_an_outage,
    "export-in-one-lane": export_in_one_lane,
    "export-nothing-missing": export_nothing_missing,
    "export-divided": export_divided,
    "export-signed-by-people": export_signed_by_people,
    "import-imported": import_imported,
    "import-refused": import_refused,
    "import-damaged": import_damaged,
    "import-checked-and-released": import_checked_and_released,
    "import-not-released": import_not_released,
    "import-staged": import_staged,
    "closing-put-off": closing_put_off,
}


def recorded(scenario: Callable[[Tap], None]) -> str:
    """The file of a scenario."""
    recorder = Recorder()
    scenario(recorder)
    lines = [json.dumps(one, sort_keys=True) for one in recorder.generations.values()]
    return "[\n" + ",\n".join(lines) + "\n]\n"


def record(folder: Path) -> None:
    """Write one file for each scenario."""
    for name, scenario in SCENARIOS.items():
        (folder / f"{name}.json").write_text(recorded(scenario))


def _only(orchestrator: str, tap: Tap) -> Tap:
    def selective(payload: str, answer: Mapping[str, Any]) -> None:
        history = json.loads(payload)["history"]
        if history[1]["Name"] == orchestrator:
            tap(payload, answer)

    return selective


def _receive(bundle: Bundle, tap: Tap) -> None:
    side = new_target()
    start: Start = upload(side, bundle)
    run(side, Clock(START + _HOUR), start, tap=tap)


def _bundle(**more: Any) -> Bundle:
    more.setdefault("keys", [SOURCE_KEY])
    return make_bundle(blob_sizes=[1000], created_at=START, policy_json=POLICY, **more)


def _checks(side: TargetSide) -> MemoryChecks:
    assert isinstance(side.checks, MemoryChecks)
    return side.checks


def _registry(side: SourceSide) -> MemoryRegistry:
    assert isinstance(side.registry, MemoryRegistry)
    return side.registry


if __name__ == "__main__":
    record(HISTORIES)
