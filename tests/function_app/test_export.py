import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from airgap.envelope import Envelope
from airgap.errors import Code
from airgap.journal import Journal
from airgap.manifest import BundleManifest
from airgap.policy import TrustPolicy
from airgap.states import Kind, State
from airgap.verify import verify_bundle
from function_app.durable.outcomes import run_step
from function_app.journal.store import JournalStore
from function_app.messages import Item, Message, dump
from function_app.ports import Ports, SourceSide
from function_app.settings import SourceSettings
from function_app.source.planning import REQUEST
from function_app.source.transfer_plan import describe_plan
from function_app.source.wire import BlobAttempt, RequestDocument, TransferOrder
from function_app.storage.work_folder import WorkFolder, digest_of
from tests.bundles import AUDIENCE, default_key, make_policy, new_key
from tests.function_app.memory import (
    ENVIRONMENT,
    INDEX_TYPE,
    START,
    STEPS,
    Host,
    MemoryBlobs,
    MemoryPipelines,
    MemoryRegistry,
    failed,
    make_source,
    succeeded,
)

TRANSFER_ID = "0123456789abcdef0123456789abcdef"


def run(
    host: Host,
    *artifacts: str,
    transfer_id: str = TRANSFER_ID,
    by: str = "caller",
    referrers: str | tuple[str, ...] = "all",
    audience: Sequence[str] = AUDIENCE,
    **more: Any,
) -> dict[str, Any]:
    """A transfer from its order, as the HTTP API leaves it, to its end; ``more`` of what the request says."""
    request = RequestDocument(
        artifacts=artifacts,
        channel="prod",
        audience=tuple(audience),
        expires_in_seconds=3600,
        referrers=referrers,
        **more,
    )
    facts = {"channel": "prod", "audience": list(audience)}
    journals(host.side).record(*(Kind.TRANSFERS, transfer_id, State.REQUESTED, facts), by=by, at=START)
    WorkFolder(host.side.blobs, transfer_id).create(REQUEST, request)
    order = TransferOrder(
        transfer_id=transfer_id,
        request=digest_of(request),
        artifacts=len(artifacts),
        runs_at_once=5,
        hashes_at_once=8,
        selects=bool(request.select),
        is_dry_run=request.dry_run,
        only_missing=request.only_missing,
    )
    return host.run("export_transfer", dump(order), transfer_id)


def journals(side: Ports) -> JournalStore:
    return JournalStore(side.blobs, side.projection)


def journal_of(side: Ports, transfer_id: str = TRANSFER_ID) -> Journal:
    return journals(side).read(Kind.TRANSFERS, transfer_id)


def export(side: SourceSide, *artifacts: str) -> dict[str, Any]:
    return run(Host(side), *artifacts)


def sealed_manifest(blobs: MemoryBlobs, transfer_id: str = TRANSFER_ID) -> BundleManifest:
    raw = blobs.containers["transfer"][f"{transfer_id}/bundle-manifest.dsse.json"].content
    return BundleManifest.from_bytes(Envelope.from_bytes(raw).payload)


def pipelines(side: SourceSide) -> MemoryPipelines:
    assert isinstance(side.pipelines, MemoryPipelines)
    return side.pipelines


def test_transfer_ends_as_a_bundle_that_the_target_accepts() -> None:
    side, blobs, registry = make_source()
    digest = registry.push_image("team/app", "v1")
    host = Host(side)
    outcome = run(host, "team/app:v1")
    assert outcome["outcome"] == "sealed"
    assert outcome["bundle"]["sequence"] == 1
    envelope = blobs.containers["transfer"][f"{TRANSFER_ID}/bundle-manifest.dsse.json"].content
    policy = TrustPolicy.from_bytes(make_policy([default_key()]))
    verdict = verify_bundle(envelope, policy=policy, now=START, target=AUDIENCE[0])
    manifest = verdict.require()
    assert [(a.reference, a.digest, a.tags) for a in manifest.artifacts] == [("team/app:v1", digest, ("v1",))]
    assert manifest.part_count == 2
    assert manifest.blobs[0].metadata == {"category": "acr-transfer-blob"}


@pytest.mark.parametrize("who", ["ada@contoso.com", "caller", "я" * 128])
def test_manifest_says_who_ordered_it(who: str) -> None:
    side, blobs, registry = make_source()
    registry.push_image("team/app", "v1")
    assert run(Host(side), "team/app:v1", by=who)["outcome"] == "sealed"
    assert sealed_manifest(blobs).requested_by == who


def test_journal_tells_each_step_and_what_was_sealed() -> None:
    side, _, registry = make_source()
    registry.push_image("team/app", "v1")
    outcome = export(side, "team/app:v1")
    journal = journal_of(side)
    states = [entry.state.value for entry in journal.entries]
    assert states == ["requested", "planned", "exporting", "hashing", "sealing", "sealed"]
    assert {entry.by for entry in journal.entries[1:]} == {"app"}
    assert journal.entries[1].facts == {"blobs": 1, "artifacts": 1}
    assert journal.entries[-1].facts == {"bundle": outcome["bundle"]}


def test_journal_tells_why_a_transfer_ended() -> None:
    side, _, _ = make_source()
    outcome = export(side, "team/gone:v1")
    journal = journal_of(side)
    assert [entry.state.value for entry in journal.entries] == ["requested", "refused"]
    assert journal.entries[-1].facts == {
        "code": "ARTIFACT_NOT_FOUND",
        "detail": outcome["detail"],
        "artifacts": ["team/gone:v1"],
    }
    side, _, registry = make_source()
    registry.push_image("team/app", "v1")
    pipelines(side).work = lambda _: failed("quota")
    export(side, "team/app:v1")
    last = journal_of(side).entries[-1]
    assert (last.state, last.facts["code"]) == (State.FAILED, "PIPELINE_RUN_FAILED")


@pytest.mark.parametrize("step", ["plan_transfer", "start_export_run", "divide_blobs", "seal_bundle"])
def test_transfer_that_was_cancelled_is_never_published(step: str) -> None:
    side, blobs, registry = make_source()
    registry.push_image("team/app", "v1")
    host = Host(side)

    def cancel() -> None:
        journals(side).record(Kind.TRANSFERS, TRANSFER_ID, State.CANCELLED, {}, by="caller", at=START)

    host.before[step] = cancel
    outcome = run(host, "team/app:v1")
    assert (outcome["outcome"], outcome["code"]) == ("refused", "TRANSITION_REFUSED")
    assert journal_of(side).state is State.CANCELLED
    assert f"{TRANSFER_ID}/bundle-manifest.dsse.json" not in blobs.names("transfer")


def under(side: SourceSide, policy_json: bytes) -> SourceSide:
    """The side with another trust policy."""
    environment = ENVIRONMENT | {"TRUST_POLICY": policy_json.decode()}
    return replace(side, settings=SourceSettings.from_environment(environment))


def test_nothing_is_exported_that_the_target_would_refuse() -> None:
    side, blobs, registry = make_source()
    registry.push_image("team/app", "v1")
    policy = make_policy([new_key()], repositories=["base/*"], audience=["other.azurecr.io"])
    outcome = export(under(side, policy), "team/app:v1")
    assert (outcome["outcome"], outcome["code"]) == ("refused", "THRESHOLD_NOT_MET")
    assert [code in outcome["detail"] for code in ("REPOSITORY_REFUSED", "AUDIENCE_MISMATCH", "TOO_OLD")] == [
        True,
        True,
        False,
    ]
    assert pipelines(side).requests == {}
    assert blobs.names("transfer") == []


def test_every_unknown_reference_is_named_and_nothing_is_exported() -> None:
    side, blobs, registry = make_source()
    registry.push_image("team/app", "v1")
    outcome = export(side, "team/app:v1", "team/gone:v1", f"team/app@sha256:{'0' * 64}")
    assert outcome["outcome"] == "refused"
    assert outcome["code"] == "ARTIFACT_NOT_FOUND"
    assert outcome["artifacts"] == ["team/gone:v1", f"team/app@sha256:{'0' * 64}"]
    assert pipelines(side).requests == {}
    assert blobs.names("transfer") == []


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        ({"size": 8 * 10**9 + 1}, "at most"),
        ({"size": None}, "at most"),
        ({"size": 10, "urls": ["https://elsewhere"]}, "foreign"),
        ({"size": 10, "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}, "foreign"),
        ({"size": 1, "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar"}, "foreign"),
    ],
)
def test_layer_that_cannot_cross_is_refused_even_behind_an_index(layer: dict[str, Any], why: str) -> None:
    side, _, registry = make_source()
    child = registry.push("team/app", {"layers": [{"digest": f"sha256:{'b' * 64}", **layer}]})
    registry.push("team/app", {"manifests": [{"digest": child}]}, "v1", media_type=INDEX_TYPE)
    outcome = export(side, "team/app:v1")
    assert (outcome["outcome"], outcome["code"]) == ("refused", "ARTIFACT_REFUSED")
    assert why in outcome["detail"]
    assert pipelines(side).requests == {}


def test_manifest_that_is_gone_is_told_of_every_tag_and_index_that_names_it() -> None:
    """Such tags stay in lists, and one of them fails the run of all fifty."""
    side, blobs, registry = make_source()
    gone = registry.push_image("team/app", "dangling")
    for tag in ("first", "second"):
        registry.push("team/app", {"manifests": [{"digest": gone}], "is": tag}, tag, media_type=INDEX_TYPE)
    registry.push_image("team/app", "good", size=7)
    del registry.manifests["team/app", gone]
    ordered = [f"team/app:{tag}" for tag in ("dangling", "first", "good", "second")]
    outcome = export(side, *ordered)
    assert (outcome["outcome"], outcome["code"]) == ("refused", "ARTIFACT_REFUSED")
    assert outcome["artifacts"] == ["team/app:dangling", "team/app:first", "team/app:second"]
    assert f"team/app@{gone}: the manifest is not there" in outcome["detail"]
    assert blobs.names("transfer") == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"target": {"uri": "https://account.blob.core.windows.net/elsewhere"}}, "pipeline-container"),
        ({"provisioningState": "Failed"}, "pipeline: export01: Failed"),
        ({"provisioningState": "Canceled"}, "pipeline: export01: Canceled"),
        ({"options": ["OverwriteBlobs", "ContinueOnErrors"]}, "pipeline-options"),
        ({"options": []}, "without OverwriteBlobs"),
    ],
    ids=["elsewhere", "not made", "called off", "leaves artifacts out", "keeps old blobs"],
)
def test_order_is_told_of_a_pipeline_that_does_not_do_and_nothing_is_exported(
    change: dict[str, Any], told: str
) -> None:
    side, blobs, registry = make_source()
    registry.push_image("team/app", "v1")
    pipelines(side).pipelines["exportPipelines", "export01"] |= change
    outcome = export(side, "team/app:v1")
    assert (outcome["outcome"], outcome["code"]) == ("failed", "PIPELINE_UNFIT")
    assert told in outcome["detail"]
    assert pipelines(side).requests == {}
    assert blobs.names("transfer") == []


def test_order_is_told_that_the_pipelines_sas_has_ended_and_not_that_it_ends_soon() -> None:
    side, _, registry = make_source()
    registry.push_image("team/app", "v1")
    pipelines(side).pipelines["exportPipelines", "export01"]["target"].pop("storageAccessMode")
    ended = replace(side, settings=replace(side.settings, pipeline_sas_expires_at=START))
    outcome = export(ended, "team/app:v1")
    assert (outcome["outcome"], outcome["code"]) == ("failed", "PIPELINE_UNFIT")
    assert "its SAS ended" in outcome["detail"]
    soon = replace(side.settings, pipeline_sas_expires_at=START + timedelta(days=1))
    outcome = run(Host(replace(side, settings=soon)), "team/app:v1", transfer_id="f" * 32)
    assert outcome["outcome"] == "sealed"


def test_export_waits_for_a_pipeline_that_was_changed_since_the_plan() -> None:
    side, _, registry = make_source()
    registry.push_image("team/app", "v1")
    pipeline = pipelines(side).pipelines["exportPipelines", "export01"]
    host = Host(side)
    seen: list[int] = []

    def change() -> None:
        pipeline["options"].append("ContinueOnErrors")
        host.before["start_export_run"] = mend

    def mend() -> None:
        seen.append(len(pipelines(side).requests))
        pipeline["options"].remove("ContinueOnErrors")

    host.before["start_export_run"] = change
    assert run(host, "team/app:v1")["outcome"] == "sealed"
    assert seen == [0]


@pytest.mark.parametrize("state", ["Updating", "Creating", "", None])
@pytest.mark.parametrize("dry_run", [False, True])
def test_order_waits_for_a_pipeline_that_is_being_changed(state: str | None, dry_run: bool) -> None:
    side, _, registry = make_source()
    registry.push_image("team/app", "v1")
    pipeline = pipelines(side).pipelines["exportPipelines", "export01"]
    pipeline["provisioningState"] = state
    host = Host(side)

    def settle() -> None:
        host.before["plan_transfer"] = lambda: pipeline.update(provisioningState="Succeeded")

    host.before["plan_transfer"] = settle
    outcome = run(host, "team/app:v1", dry_run=dry_run)
    assert outcome["outcome"] == ("previewed" if dry_run else "sealed")
    plan = describe_plan(WorkFolder(side.blobs, TRANSFER_ID), 0)
    assert plan is not None
    assert plan.refused == ()


def test_order_whose_pipeline_is_being_changed_for_ten_days_ends_with_its_code() -> None:
    side, _, registry = make_source()
    registry.push_image("team/app", "v1")
    pipelines(side).pipelines["exportPipelines", "export01"]["provisioningState"] = "Updating"
    host = Host(side)
    outcome = run(host, "team/app:v1")
    assert (outcome["outcome"], outcome["code"]) == ("failed", "PIPELINE_UNFIT")
    assert "pipeline: export01: Updating" in outcome["detail"]
    assert timedelta(days=10) <= host.now - START < timedelta(days=11)
    assert pipelines(side).requests == {}


def test_index_that_nests_without_end_is_refused() -> None:
    side, _, registry = make_source()
    digest = registry.push_image("team/app")
    for _ in range(12):
        digest = registry.push("team/app", {"manifests": [{"digest": digest}]}, "v1", media_type=INDEX_TYPE)
    assert export(side, "team/app:v1")["code"] == "ARTIFACT_REFUSED"


def test_referrers_of_referrers_and_of_an_indexs_children_travel() -> None:
    side, blobs, registry = make_source()
    child = registry.push_image("team/app")
    registry.push("team/app", {"manifests": [{"digest": child}]}, "v1", media_type=INDEX_TYPE)
    sbom = registry.push("team/app", {"layers": [], "subject": {"digest": child}})
    signature = registry.push("team/app", {"layers": [], "subject": {"digest": sbom}})
    assert export(side, "team/app:v1")["outcome"] == "sealed"
    references = [artifact.reference for artifact in sealed_manifest(blobs).artifacts]
    assert references == ["team/app:v1", f"team/app@{sbom}", f"team/app@{signature}"]


def test_without_the_referrers_api_the_fallback_tag_itself_travels() -> None:
    side, blobs, registry = make_source()
    registry.has_referrers_api = False
    image = registry.push_image("team/app", "v1")
    signature = registry.push("team/app", {"layers": [], "subject": {"digest": image}})
    tag = image.replace(":", "-")
    registry.push("team/app", {"manifests": [{"digest": signature}]}, tag, media_type=INDEX_TYPE)
    assert export(side, "team/app:v1")["outcome"] == "sealed"
    references = [artifact.reference for artifact in sealed_manifest(blobs).artifacts]
    assert references == ["team/app:v1", f"team/app@{signature}", f"team/app:{tag}"]


def test_signature_under_cosigns_tag_travels() -> None:
    side, blobs, registry = make_source()
    tag = registry.push_image("team/app", "v1").replace(":", "-") + ".sig"
    registry.push_image("team/app", tag)
    assert export(side, "team/app:v1")["outcome"] == "sealed"
    assert [a.reference for a in sealed_manifest(blobs).artifacts] == ["team/app:v1", f"team/app:{tag}"]


def test_more_than_fifty_artifacts_go_in_several_runs() -> None:
    side, blobs, registry = make_source()
    references = [f"team/app{number}:v1" for number in range(101)]
    for reference in references:
        registry.push_image(reference.removesuffix(":v1"), "v1")
    outcome = export(side, *references)
    assert outcome["bundle"]["blobs"] == 3
    runs = pipelines(side).requests
    assert [len(request["artifacts"]) for request in runs.values()] == [50, 50, 1]
    assert all(name.isalnum() and 5 <= len(name) <= 50 for name in runs)
    assert [a.reference for a in sealed_manifest(blobs).artifacts] == references


def moving(registry: MemoryRegistry, times: int) -> Callable[[], None]:
    """Pushes another image under the tag, ``times`` times, once at each call."""
    pushed = iter(range(times))

    def move() -> None:
        for number in pushed:
            registry.push_image("team/app", "v1", size=200 + number)
            break

    return move


def hook_each(host: Host, activity: str, act: Callable[[], None]) -> None:
    def again() -> None:
        act()
        host.before[activity] = again

    host.before[activity] = again


def test_tag_that_moves_during_the_export_is_exported_anew() -> None:
    side, blobs, registry = make_source()
    registry.push_image("team/app", "v1")
    host = Host(side)
    hook_each(host, "confirm_export", moving(registry, 1))
    assert run(host, "team/app:v1")["outcome"] == "sealed"
    assert len(pipelines(side).requests) == 2
    artifact = sealed_manifest(blobs).artifacts[0]
    assert artifact.digest == registry.tags["team/app", "v1"]


def test_tag_that_moves_every_time_ends_the_transfer() -> None:
    side, blobs, registry = make_source()
    registry.push_image("team/app", "v1")
    host = Host(side)
    hook_each(host, "confirm_export", moving(registry, 9))
    outcome = run(host, "team/app:v1")
    assert (outcome["outcome"], outcome["code"]) == ("failed", "EXPORT_INCONSISTENT")
    assert len(pipelines(side).requests) == 3
    assert f"{TRANSFER_ID}/bundle-manifest.dsse.json" not in blobs.names("transfer")


def exporting_intruders(side: SourceSide, registry: MemoryRegistry, times: int) -> None:
    """While a run is at work, the tag is moved to another image and back, ``times`` times, once in each run.

    The run writes down which image it read.
    """
    honest, ordered = pipelines(side).work, registry.resolve("team/app", "v1")
    assert ordered is not None
    image = registry.manifest("team/app", ordered.digest)
    intrusions = iter(range(times))

    def export_what_the_tag_points_to(request: Mapping[str, Any]) -> dict[str, Any]:
        is_attacked = next(intrusions, None) is not None
        if is_attacked:
            registry.push_image("team/app", "v1", size=666)
        read = registry.tags["team/app", "v1"]
        if is_attacked:
            assert registry.push("team/app", image, "v1") == ordered.digest
        return honest({**request, "artifacts": [read]})

    pipelines(side).work = export_what_the_tag_points_to


def test_tag_that_moves_away_and_back_while_a_run_is_at_work_is_exported_anew() -> None:
    side, blobs, registry = make_source()
    digest = registry.push_image("team/app", "v1")
    exporting_intruders(side, registry, 1)
    assert export(side, "team/app:v1")["outcome"] == "sealed"
    assert sealed_manifest(blobs).artifacts[0].digest == digest
    assert digest.encode() in blobs.containers["transfer"][f"{TRANSFER_ID}/001"].content


def test_tag_that_moves_away_and_back_in_every_run_is_never_signed() -> None:
    side, blobs, registry = make_source()
    registry.push_image("team/app", "v1")
    exporting_intruders(side, registry, 9)
    outcome = export(side, "team/app:v1")
    assert (outcome["outcome"], outcome["code"]) == ("failed", "EXPORT_INCONSISTENT")
    assert "pushed anew" in outcome["detail"]
    assert blobs.names("ledger") == ["policies/00000001.json"]


def test_signature_tag_that_moves_away_and_back_while_a_run_is_at_work_is_seen_as_well() -> None:
    side, _, registry = make_source()
    tag = registry.push_image("team/app", "v1").replace(":", "-") + ".sig"
    signature = registry.push_image("team/app", tag)
    honest = pipelines(side).work

    def exchange(request: Mapping[str, Any]) -> dict[str, Any]:
        registry.push_image("team/app", tag, size=666)
        registry.push("team/app", registry.manifest("team/app", signature), tag)
        return honest(request)

    pipelines(side).work = exchange
    assert export(side, "team/app:v1")["code"] == "EXPORT_INCONSISTENT"


def test_pipeline_that_silently_keeps_an_old_blob_cannot_smuggle_it_into_the_bundle() -> None:
    side, blobs, registry = make_source()
    registry.push_image("team/app", "v1")
    honest = pipelines(side).work

    def without_overwriting(request: Mapping[str, Any]) -> dict[str, Any]:
        is_there = request["target"]["name"] in blobs.names("transfer")
        return succeeded() if is_there else honest(request)

    pipelines(side).work = without_overwriting
    host = Host(side)
    etags: list[str | None] = []

    def look_and_move() -> None:
        found = blobs.stat("transfer", f"{TRANSFER_ID}/001")
        etags.append(None if found is None else found.etag)
        registry.push_image("team/app", "v1", size=300)

    host.before["confirm_export"] = look_and_move
    assert run(host, "team/app:v1")["outcome"] == "sealed"
    after = blobs.stat("transfer", f"{TRANSFER_ID}/001")
    assert after is not None
    assert after.etag != etags[0]


def plan_of(blobs: MemoryBlobs) -> str:
    """Digest of the plan of the transfer."""
    return hashlib.sha256(blobs.containers["work"][f"plans/{TRANSFER_ID}/plan.json"].content).hexdigest()


def again(side: SourceSide, activity: str, order: Message) -> dict[str, Any]:
    """An activity that is delivered once more, late."""
    declared, step = STEPS[activity]
    return run_step(step, lambda: side, declared.order, dump(order))


@pytest.mark.parametrize(("before", "outcome"), [("plan_transfer", "failed"), ("start_export_run", "sealed")])
def test_resolving_that_is_delivered_late_changes_no_plan(before: str, outcome: str) -> None:
    """Between the two there is nothing to go by: rather no plan than one of what nobody vouches for."""
    side, blobs, registry = make_source()
    registry.push_image("team/app", "v1")
    host = Host(side)

    def deliver_again() -> None:
        request = WorkFolder(blobs, TRANSFER_ID).get(REQUEST, RequestDocument)
        late = Item(owner=TRANSFER_ID, number=0, pinned=digest_of(request))
        registry.push("team/app", {"layers": [], "subject": {"digest": registry.tags["team/app", "v1"]}})
        again(side, "resolve_artifacts", late)

    host.before[before] = deliver_again
    assert run(host, "team/app:v1")["outcome"] == outcome
    if outcome == "sealed":
        assert [one.reference for one in sealed_manifest(blobs).artifacts] == ["team/app:v1"]


def test_confirmation_of_an_earlier_attempt_that_comes_late_describes_nothing() -> None:
    side, blobs, registry = make_source()
    first = registry.push_image("team/app", "v1")
    host = Host(side)
    host.before["read_pipeline_run"] = moving(registry, 1)

    def deliver_again() -> None:
        registry.tags["team/app", "v1"] = first  # the registry was restored to what it was
        registry.writes["team/app", "v1"] = 1
        order = BlobAttempt(transfer_id=TRANSFER_ID, number=0, attempt=1, plan=plan_of(blobs), batch=None)
        assert again(side, "confirm_export", order)["moved"] is None

    host.before["divide_blobs"] = deliver_again
    assert run(host, "team/app:v1")["outcome"] == "sealed"
    (artifact,) = sealed_manifest(blobs).artifacts
    assert artifact.digest != first


def test_start_of_a_second_attempt_that_is_delivered_twice_at_once_deletes_no_new_blob(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    side, blobs, registry = make_source()
    registry.push_image("team/app", "v1")
    host = Host(side)
    host.before["read_pipeline_run"] = moving(registry, 1)
    get_run = pipelines(side).get_run

    def deliver_at_once(name: str) -> Any:
        """Nothing is known of the run yet; before that is told, another delivery starts it."""
        found = get_run(name)
        if found is None:
            monkeypatch.undo()
            second = BlobAttempt(
                transfer_id=TRANSFER_ID, number=0, attempt=2, plan=plan_of(blobs), batch=None
            )
            again(side, "start_export_run", second)
        return found

    def overlap() -> None:
        monkeypatch.setattr(side.pipelines, "get_run", deliver_at_once)

    host.before["confirm_export"] = lambda: host.before.update(start_export_run=overlap)
    assert run(host, "team/app:v1")["outcome"] == "sealed"
    assert f"{TRANSFER_ID}/001" in blobs.names("transfer")


def test_failed_run_ends_with_what_the_service_said() -> None:
    side, _, registry = make_source()
    registry.push_image("team/app", "v1")
    pipelines(side).work = lambda _: failed("Failed to access storage. Status: 403. " + "x" * 1000)
    outcome = export(side, "team/app:v1")
    assert (outcome["outcome"], outcome["code"]) == ("failed", "PIPELINE_RUN_FAILED")
    assert "Status: 403" in outcome["detail"]
    assert outcome["detail"].endswith("or the storage account is closed to public networks")


def test_run_that_never_ends_is_given_up_in_time() -> None:
    side, _, registry = make_source()
    registry.push_image("team/app", "v1")
    pipelines(side).polls = 10**6
    host = Host(side)
    outcome = run(host, "team/app:v1")
    assert outcome["code"] == "PIPELINE_RUN_TIMEOUT"
    assert 600 <= (host.now - START).total_seconds() <= 660
    assert host.called.count("read_pipeline_run") < 20


def test_run_that_succeeds_without_a_blob_is_a_failure() -> None:
    side, _, registry = make_source()
    registry.push_image("team/app", "v1")
    pipelines(side).work = lambda _: succeeded()
    assert export(side, "team/app:v1")["code"] == "PIPELINE_RUN_FAILED"


def work_documents(blobs: MemoryBlobs) -> dict[str, Any]:
    """The working documents of the transfer, by name."""
    start = f"plans/{TRANSFER_ID}/"
    return {
        name.removeprefix(start): json.loads(blob.content)
        for name, blob in blobs.containers["work"].items()
        if name.startswith(start)
    }


def rewrite(value: Any, old: str, new: str) -> Any:
    return json.loads(json.dumps(value).replace(old, new))


@pytest.mark.parametrize(
    ("document", "before"),
    [
        ("request", "resolve_artifacts"),
        ("request", "plan_transfer"),
        ("request", "seal_bundle"),
        ("resolved/", "plan_transfer"),
        ("plan", "start_export_run"),
        ("plan", "confirm_export"),
        ("batches/", "start_export_run"),
        ("batches/", "confirm_export"),
        ("batches/", "seal_bundle"),
        ("exported/", "divide_blobs"),
        ("division", "hash_parts"),
        ("division", "seal_bundle"),
        ("digests/", "seal_bundle"),
    ],
)
def test_document_that_was_changed_in_work_is_never_signed(document: str, before: str) -> None:
    """V1: whoever writes the container ``work`` has nothing exported and nothing signed."""
    side, blobs, registry = make_source()
    registry.push_image("team/app", "v1")
    registry.push_image("team/appx", "v1")
    host = Host(side)
    touched: list[str] = []

    def change() -> None:
        for name, value in work_documents(blobs).items():
            if name.startswith(document):
                altered = rewrite(rewrite(value, "team/app:", "team/appx:"), '"sha256": ["', '"sha256": ["0')
                altered = rewrite(altered, '"sizeBytes": 5', '"sizeBytes": 4')
                altered = rewrite(altered, '"batches": ["', '"batches": ["0')
                assert altered != value
                touched.append(name)
                blobs.put("work", f"plans/{TRANSFER_ID}/{name}", json.dumps(altered).encode())

    host.before[before] = change
    outcome = run(host, "team/app:v1")
    assert touched
    assert (outcome["outcome"], outcome["code"]) == ("failed", "BLOB_CHANGED")
    assert f"{TRANSFER_ID}/bundle-manifest.dsse.json" not in blobs.names("transfer")


@pytest.mark.parametrize("planted", ["resolved/000001", "exported/001-3", "digests/001/000009"])
def test_document_that_was_planted_in_work_is_never_signed(planted: str) -> None:
    side, blobs, registry = make_source()
    registry.push_image("team/app", "v1")
    host = Host(side)

    def plant() -> None:
        folder = planted.partition("/")[0]
        name, value = next(one for one in work_documents(blobs).items() if one[0].startswith(folder))
        assert name != f"{planted}.json"
        blobs.put("work", f"plans/{TRANSFER_ID}/{planted}.json", json.dumps(value).encode())

    host.before[{"r": "plan_transfer", "e": "divide_blobs", "d": "seal_bundle"}[planted[0]]] = plant
    assert run(host, "team/app:v1")["code"] == "BLOB_CHANGED"
    assert f"{TRANSFER_ID}/bundle-manifest.dsse.json" not in blobs.names("transfer")


def finished(at: datetime, **more: Any) -> dict[str, Any]:
    return succeeded(finishTime=at.strftime("%Y-%m-%dT%H:%M:%S.0000000+00:00"), **more)


@pytest.mark.parametrize(("late_s", "outcome"), [(0, "sealed"), (10, "sealed"), (11, "failed")])
def test_blob_exchanged_between_the_runs_end_and_its_confirmation_is_never_signed(
    late_s: int, outcome: str
) -> None:
    """V1: what lies there when the run is looked at need not be what the run wrote."""
    side, blobs, registry = make_source()
    registry.push_image("team/app", "v1")
    honest = pipelines(side).work
    pipelines(side).work = lambda request: {**honest(request), **finished(START)}
    host = Host(side)

    def exchange() -> None:
        blobs.now = START + timedelta(seconds=late_s)
        blobs.upload("transfer", f"{TRANSFER_ID}/001", b"smuggled" * 700_000)

    host.before["confirm_export"] = exchange
    ended = run(host, "team/app:v1")
    assert ended["outcome"] == outcome
    if outcome == "failed":
        assert ended["code"] == "BLOB_CHANGED"
        assert f"{TRANSFER_ID}/bundle-manifest.dsse.json" not in blobs.names("transfer")


@pytest.mark.parametrize("activity", ["hash_parts", "seal_bundle"])
def test_blob_written_to_after_its_export_is_never_sealed(activity: str) -> None:
    side, blobs, registry = make_source()
    registry.push_image("team/app", "v1")
    host = Host(side)
    host.before[activity] = lambda: blobs.upload("transfer", f"{TRANSFER_ID}/001", b"x" * 5_242_880)
    outcome = run(host, "team/app:v1")
    assert outcome["outcome"] == "failed"
    assert f"{TRANSFER_ID}/bundle-manifest.dsse.json" not in blobs.names("transfer")


@pytest.mark.parametrize(
    "activity",
    ["resolve_artifacts", "plan_transfer", "start_export_run", "confirm_export", "hash_parts", "seal_bundle"],
)
def test_passing_outage_is_sat_out_and_a_lasting_one_ends_with_its_code(activity: str) -> None:
    for outage, expected in ((2, "sealed"), (200, "sealed"), (10**9, "failed")):
        side, _, registry = make_source()
        registry.push_image("team/app", "v1")
        host = Host(side)
        host.broken[activity] = outage
        outcome = run(host, "team/app:v1")
        assert outcome["outcome"] == expected
        assert outcome.get("code") == (None if expected == "sealed" else "SERVICE_UNREACHABLE")


def test_history_carries_references_and_counts_only() -> None:
    side, blobs, registry = make_source()
    references = [f"team/app{number}:v1" for number in range(60)]
    for reference in references:
        registry.push_image(reference.removesuffix(":v1"), "v1")
    host = Host(side)
    answers: list[int] = []
    original = host.activity

    def measured(name: str, attempts: int, order: Any) -> Any:
        answer = original(name, attempts, order)
        answers.append(len(json.dumps(answer)))
        return answer

    host.activity = measured  # type: ignore[method-assign]  # a probe
    assert run(host, *references)["outcome"] == "sealed"
    assert max(answers) < 1000
    assert blobs.names("ledger")


def test_code_of_a_refusal_is_one_of_ours() -> None:
    side, _, _ = make_source()
    assert export(side, "team/app:v1")["code"] in Code.__members__
