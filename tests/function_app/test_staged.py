"""A staged import under attack: what comes into the real registry, and what never does."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from airgap.errors import Code
from airgap.receipt import ReceiptVerdict
from function_app.durable.stopping import stop
from function_app.messages import dump
from function_app.storage.turns import STAGING_QUEUE, Turns
from function_app.target.wire import Upload
from tests.bundles import Bundle
from tests.function_app.memory import (
    INDEX_TYPE,
    MemoryImageImports,
    MemoryRegistry,
    failed,
    import_pipeline,
    make_target,
    succeeded,
)
from tests.function_app.test_import import POLICY, RECEIPT_KEY, Target, bundle_of

EVIL = "infra/root-shell"


class StagedTarget(Target):
    """A target with a staging registry; each run brings what its blob declares, and what ``riding`` adds."""

    def __init__(self) -> None:
        super().__init__(POLICY)
        self.side, self.blobs = make_target(POLICY, key=RECEIPT_KEY, is_staged=True)
        self.host.side = self.side
        assert isinstance(self.side.registry, MemoryRegistry)
        self.registry = self.side.registry
        assert self.side.staged is not None
        assert isinstance(self.side.staged.registry, MemoryRegistry)
        self.staging = self.side.staged.registry
        assert isinstance(self.side.staged.imports, MemoryImageImports)
        self.imports = self.side.staged.imports
        self.pipelines = self.side.pipelines  # type: ignore[assignment]  # as above
        self.riding: Callable[[], object] = lambda: None
        self.lacking: set[str] = set()

    def upload(self, bundle: Bundle, *, folder: str | None = None, envelope: bytes | None = None) -> bytes:
        kept = self.registry
        self.registry = MemoryRegistry()  # nothing is in the real registry before it is brought over
        raw = super().upload(bundle, folder=folder, envelope=envelope)
        self.registry = kept

        def work(request: Mapping[str, Any]) -> dict[str, Any]:
            name = request["source"]["name"].rpartition("/")[2]
            (blob,) = (one for one in bundle.manifest.blobs if one.name == name)
            brought = [one for one in blob.artifacts if one.reference not in self.lacking]
            for one in brought:
                self.staging.manifests[one.repository, one.digest] = (one.media_type, {})
                for tag in one.tags:
                    self.staging.tags[one.repository, tag] = one.digest
            self.riding()
            return succeeded(importedArtifacts=[one.reference for one in brought])

        self.pipelines.work = work
        return raw

    @property
    def real(self) -> set[tuple[str, str]]:
        """Whatever can be found in the real registry."""
        return {*self.registry.manifests, *self.registry.tags}

    @property
    def is_tidy(self) -> bool:
        """Nobody has the turn of the staging registry, nobody waits for it, and it is empty."""
        left = [name for name in self.blobs.names("work") if STAGING_QUEUE in name or "staging-runs" in name]
        return not left and not self.staging.manifests


def signed(bundle: Bundle) -> set[tuple[str, str]]:
    """Digests and tags of a bundle, and nothing else."""
    return {(one.repository, name) for one in bundle.manifest.artifacts for name in (one.digest, *one.tags)}


def test_signed_digests_and_tags_come_into_the_real_registry_and_the_staging_registry_is_empty_again() -> (
    None
):
    target, bundle = StagedTarget(), bundle_of()
    outcome = target.receive(bundle)
    assert target.receipt(outcome).is_imported, outcome
    assert target.real == signed(bundle)
    assert target.is_tidy


def test_pipeline_is_that_of_the_staging_registry() -> None:
    target = StagedTarget()
    target.receive(bundle_of())
    ids = {request["pipelineResourceId"] for request in target.pipelines.requests.values()}
    assert [one.split("/")[-3] for one in ids] == ["rstaging"]


def test_no_tag_is_set_before_every_digest_is_there() -> None:
    target, bundle = StagedTarget(), bundle_of()
    target.receive(bundle)
    tags = [bool(tags) for _, _, tags in target.imports.asked]
    assert tags == sorted(tags)
    assert tags.count(False) == tags.count(True) == len(bundle.manifest.artifacts)


@pytest.mark.parametrize("reports", [True, False])
def test_artifact_that_rides_along_never_reaches_the_real_registry(reports: object) -> None:
    """Also where the service does not report it."""
    target = StagedTarget()
    target.riding = lambda: target.staging.push_image(EVIL, "v1")
    raw = target.upload(bundle_of(blob_sizes=(5000,)))
    if reports:
        bring = target.pipelines.work

        def work(request: Mapping[str, Any]) -> dict[str, Any]:
            properties = bring(request)
            properties["response"]["importedArtifacts"].append(f"{EVIL}:v1")
            return properties

        target.pipelines.work = work
    receipt = target.assert_refused(target.run(raw), Code.UNDECLARED_ARTIFACTS)
    assert receipt.verdict is ReceiptVerdict.PARTIAL
    assert receipt.undeclared_count == (2 if reports else 1)
    assert any(EVIL in one for one in receipt.undeclared)
    assert [proof.found for proof in receipt.artifacts] == [None]
    assert "nothing was brought" in receipt.detail
    assert target.real == set()
    assert target.imports.asked == []
    assert target.is_tidy


def test_manifest_that_rides_along_untagged_in_a_declared_repository_is_found() -> None:
    target, bundle = StagedTarget(), bundle_of(blob_sizes=(5000,))
    target.riding = lambda: target.staging.push(bundle.manifest.artifacts[0].repository, {"evil": 1})
    target.assert_refused(target.receive(bundle), Code.UNDECLARED_ARTIFACTS)
    assert target.real == set()


def test_children_of_a_declared_index_are_declared_by_it_whatever_their_depth() -> None:
    target, bundle = StagedTarget(), bundle_of(blob_sizes=(5000,))
    (artifact,) = bundle.manifest.artifacts

    def ride() -> None:
        grandchild = target.staging.push(artifact.repository, {"a": "grandchild"})
        inner = target.staging.push(
            artifact.repository, {"manifests": [{"digest": grandchild}]}, media_type=INDEX_TYPE
        )
        index = {"manifests": [{"digest": inner}]}
        target.staging.manifests[artifact.repository, artifact.digest] = (INDEX_TYPE, index)

    target.riding = ride
    assert target.receive(bundle)["outcome"] == "imported"


def test_child_of_an_index_that_nobody_declared_is_undeclared() -> None:
    target, bundle = StagedTarget(), bundle_of(blob_sizes=(5000,))

    def ride() -> None:
        child = target.staging.push("team/app001", {"a": "child"})
        target.staging.push("team/app001", {"manifests": [{"digest": child}]}, media_type=INDEX_TYPE)

    target.riding = ride
    receipt = target.assert_refused(target.receive(bundle), Code.UNDECLARED_ARTIFACTS)
    assert receipt.undeclared_count == 2


def test_artifact_that_is_not_in_the_blob_leaves_the_real_registry_as_it_was() -> None:
    target, bundle = StagedTarget(), bundle_of()
    target.lacking.add(bundle.manifest.artifacts[1].reference)
    receipt = target.assert_refused(target.receive(bundle), Code.IMPORT_INCOMPLETE)
    assert [proof.found for proof in receipt.artifacts] == [None, None]
    assert target.real == set()
    assert target.is_tidy


def test_what_another_import_left_in_the_staging_registry_proves_nothing() -> None:
    target, bundle = StagedTarget(), bundle_of()
    lost = bundle.manifest.artifacts[1]
    target.lacking.add(lost.reference)
    raw = target.upload(bundle)
    target.staging.manifests[lost.repository, lost.digest] = (lost.media_type, {})
    target.staging.tags[lost.repository, lost.tags[0]] = lost.digest
    target.assert_refused(target.run(raw), Code.IMPORT_INCOMPLETE)
    assert target.real == set()


def test_run_that_fails_leaves_the_real_registry_as_it_was() -> None:
    target, bundle = StagedTarget(), bundle_of()
    raw = target.upload(bundle)
    target.pipelines.work = lambda _: failed("a layer is missing")
    target.assert_refused(target.run(raw), Code.PIPELINE_RUN_FAILED)
    assert target.real == set()
    assert target.is_tidy


def test_digest_that_cannot_be_brought_over_moves_no_tag_and_what_was_brought_is_named() -> None:
    target, bundle = StagedTarget(), bundle_of()
    first, second = bundle.manifest.artifacts
    target.registry.push(first.repository, {"the": "old one"}, "v1")
    old = dict(target.registry.tags)
    asked = 0

    def begin() -> None:
        nonlocal asked
        asked += 1
        target.imports.failures = ["quota exceeded"] if asked > 1 else []

    target.imports.before = begin
    outcome = target.receive(bundle)
    receipt = target.assert_refused(outcome, Code.IMAGE_IMPORT_FAILED)
    assert receipt.verdict is ReceiptVerdict.PARTIAL
    assert "quota exceeded" in receipt.detail
    assert [(proof.reference, proof.found) for proof in receipt.artifacts] == [
        (first.reference, first.digest),
        (second.reference, None),
    ]
    assert target.registry.tags == old
    assert target.is_tidy


@pytest.mark.parametrize(("failures", "outcome"), [(2, "imported"), (3, "failed")])
def test_artifact_that_fails_to_come_over_is_tried_three_times_and_the_others_once(
    failures: int, outcome: str
) -> None:
    target, bundle = StagedTarget(), bundle_of(blob_sizes=(5000,))
    target.imports.failures = ["busy"] * failures
    assert target.receive(bundle)["outcome"] == outcome


def test_what_is_in_the_real_registry_already_is_not_brought_again() -> None:
    target, bundle = StagedTarget(), bundle_of()
    first, second = bundle.manifest.artifacts
    target.registry.manifests[first.repository, first.digest] = (first.media_type, {})
    target.receive(bundle)
    digests = [digest for _, digest, tags in target.imports.asked if not tags]
    assert digests == [second.digest]


def test_staging_registry_that_cannot_be_emptied_holds_the_import_until_it_can() -> None:
    target, bundle = StagedTarget(), bundle_of()
    raw = target.upload(bundle)
    target.staging.push_image(EVIL, "v1")
    target.staging.is_kept = True

    def repair() -> None:
        assert target.pipelines.requests == {}
        target.staging.is_kept = False

    def later() -> None:
        target.host.before["empty_staging"] = repair

    target.host.before["empty_staging"] = later
    assert target.run(raw)["outcome"] == "imported"
    assert target.real == signed(bundle)


def test_what_cannot_be_removed_afterwards_is_told() -> None:
    target, bundle = StagedTarget(), bundle_of()

    def keep() -> None:
        target.staging.is_kept = True

    target.host.before["leave_staging"] = keep
    outcome = target.receive(bundle)
    assert outcome["outcome"] == "imported"
    assert "the staging registry is not empty: STAGING_UNFIT" in outcome["detail"]
    assert Turns(target.blobs, STAGING_QUEUE).has("import0001") is False


def test_run_that_was_given_up_holds_the_next_import_until_it_has_ended() -> None:
    target = StagedTarget()
    target.blobs.create("work", "staging-runs/iold", b"")
    target.pipelines.requests["iold"] = {}
    target.pipelines.responses["iold"] = succeeded()
    target.pipelines.looks["iold"] = -5

    def not_yet() -> None:
        assert target.pipelines.looks["iold"] >= 1

    raw = target.upload(bundle_of())
    target.host.before["start_import_run"] = not_yet
    assert target.run(raw)["outcome"] == "imported"
    assert target.is_tidy


def test_registry_without_our_import_pipeline_is_not_emptied() -> None:
    """Somebody told the app of a registry that is not for staging."""
    target, bundle = StagedTarget(), bundle_of()
    target.staging.push_image("prod/precious", "v1")
    raw = target.upload(bundle)

    def mistake() -> None:
        target.pipelines.pipelines.clear()
        target.host.before["empty_staging"] = repair

    def repair() -> None:
        assert [name for name, _ in target.staging.manifests] == ["prod/precious"]
        target.staging.manifests.clear()
        target.pipelines.pipelines["importPipelines", "import01"] = import_pipeline()

    target.host.before["empty_staging"] = mistake
    assert target.run(raw)["outcome"] == "imported"


def test_import_that_has_not_the_turn_empties_nothing() -> None:
    """An activity that is delivered late, when the staging registry is another's."""
    target = StagedTarget()
    Turns(target.blobs, STAGING_QUEUE).enter(1, "other0001")
    assert Turns(target.blobs, STAGING_QUEUE).take("other0001")
    target.staging.push_image("team/app001", "v1")
    upload = dump(Upload(incoming="x", manifest_etag="x", envelope_sha256="0" * 64, instance="late0001"))
    assert target.host.activity("empty_staging", 1, upload)["code"] == Code.TRANSITION_REFUSED.name
    assert target.host.activity("leave_staging", 1, upload)["outcome"] == "emptied"
    assert target.staging.manifests
    assert Turns(target.blobs, STAGING_QUEUE).has("other0001")


@pytest.mark.parametrize("step", ["empty_staging", "leave_staging"])
def test_delivery_that_was_held_up_removes_nothing_that_has_come_in_since(step: str) -> None:
    target = StagedTarget()
    Turns(target.blobs, STAGING_QUEUE).enter(1, "late0001")
    assert Turns(target.blobs, STAGING_QUEUE).take("late0001")
    upload = dump(Upload(incoming="x", manifest_etag="x", envelope_sha256="0" * 64, instance="late0001"))
    repositories = target.staging.repositories

    def held_up() -> Iterator[str]:
        target.staging.repositories = repositories  # type: ignore[method-assign]
        assert target.host.activity(step, 1, upload)["outcome"] == "emptied"  # by another delivery
        target.staging.push_image("team/app001", "v1")
        return repositories()

    target.staging.repositories = held_up  # type: ignore[method-assign]
    assert target.host.activity(step, 1, upload)["outcome"] == "emptied"
    assert target.staging.manifests


def test_imports_of_two_channels_have_the_staging_registry_one_after_the_other() -> None:
    target = StagedTarget()
    Turns(target.blobs, STAGING_QUEUE).enter(1, "other0001")
    assert Turns(target.blobs, STAGING_QUEUE).take("other0001")
    raw = target.upload(bundle_of())

    def other_ends() -> None:
        assert target.pipelines.requests == {}
        Turns(target.blobs, STAGING_QUEUE).leave("other0001")

    def later() -> None:
        target.host.before["take_staging"] = other_ends

    target.host.before["take_staging"] = later
    assert target.run(raw)["outcome"] == "imported"


def test_many_repositories_are_emptied_and_surveyed_some_at_a_time() -> None:
    target, bundle = StagedTarget(), bundle_of(blob_sizes=(5000,))
    target.riding = lambda: [target.staging.push_image(f"evil/n{number:03d}", "v1") for number in range(120)]
    receipt = target.assert_refused(target.receive(bundle), Code.UNDECLARED_ARTIFACTS)
    assert receipt.undeclared_count == 120
    assert len(set(receipt.undeclared)) == 120
    assert target.is_tidy


def test_registry_that_fails_while_it_is_listed_is_asked_again() -> None:
    target, bundle = StagedTarget(), bundle_of()
    target.host.broken["survey_staging"] = 5
    assert target.receive(bundle)["outcome"] == "imported"


def test_direct_import_asks_for_nothing_of_it() -> None:
    target = Target()
    target.receive(bundle_of())
    assert not [name for name in target.host.called if "stag" in name.replace("hash_staged_parts", "")]


def test_tag_that_points_elsewhere_in_the_real_registry_is_moved() -> None:
    target, bundle = StagedTarget(), bundle_of(blob_sizes=(5000,))
    (artifact,) = bundle.manifest.artifacts
    target.registry.push(artifact.repository, {"the": "old one"}, *artifact.tags)
    assert target.receive(bundle)["outcome"] == "imported"
    assert {target.registry.tags[artifact.repository, tag] for tag in artifact.tags} == {artifact.digest}


def test_run_is_noted_before_it_runs_and_may_report_with_the_staging_registrys_name() -> None:
    target = StagedTarget()
    raw = target.upload(bundle_of(blob_sizes=(5000,)))
    bring = target.pipelines.work

    def work(request: Mapping[str, Any]) -> dict[str, Any]:
        assert [name for name in target.blobs.names("work") if name.startswith("staging-runs/i")]
        properties = bring(request)
        reported = properties["response"]["importedArtifacts"]
        properties["response"]["importedArtifacts"] = [f"staging.azurecr.example/{one}" for one in reported]
        return properties

    target.pipelines.work = work
    assert target.run(raw)["outcome"] == "imported"


def test_staging_registry_is_not_looked_through_for_an_import_that_was_called_off() -> None:
    target = StagedTarget()
    target.host.before["prove_staged"] = lambda: stop(target.blobs, "import0001")
    target.staging.resolve = None  # type: ignore[assignment, method-assign]  # nobody may ask
    assert target.receive(bundle_of())["code"] == Code.TRANSITION_REFUSED.name
    assert target.real == set()
    assert target.is_tidy
