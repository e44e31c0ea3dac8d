"""Artifacts that ride along in a blob: the import pipeline takes all of it, the manifest declares some."""

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from airgap.errors import Code
from airgap.receipt import ReceiptVerdict
from tests.bundles import AUDIENCE, CHANNEL
from tests.function_app.memory import START, failed, succeeded
from tests.function_app.test_import import Target, bundle_of

EVIL = "infra/root-shell:v1"


def reporting(target: Target, *references: str, fails: bool = False) -> None:
    """Every run reports these as imported, whether it succeeds or not."""

    def work(request: Mapping[str, Any]) -> dict[str, Any]:
        del request
        properties = failed("a layer is missing") if fails else succeeded()
        properties["response"]["importedArtifacts"] = list(references)
        return properties

    target.pipelines.work = work


@pytest.mark.parametrize(
    ("evil", "named"),
    [
        (EVIL, EVIL),
        (f"{AUDIENCE[0]}/{EVIL}", EVIL),
        ("team/app001:v2", "team/app001:v2"),
        (f"team/app001@sha256:{'e' * 64}", f"team/app001@sha256:{'e' * 64}"),
        ("evil/team/app001:v1", "evil/team/app001:v1"),
        ("evil.example/team/app001:v1", "evil.example/team/app001:v1"),
        ("team/app001", "team/app001:latest"),
        ("a\nb:1", r"'a\nb:1'"),
    ],
)
def test_artifact_that_the_manifest_does_not_declare_is_named_and_raises_the_alarm(
    evil: str, named: str, caplog: pytest.LogCaptureFixture
) -> None:
    target, bundle = Target(), bundle_of(blob_sizes=(5000,))
    reporting(target, "team/app001:v1", evil)
    with caplog.at_level(logging.ERROR):
        receipt = target.assert_refused(target.receive(bundle), Code.UNDECLARED_ARTIFACTS)
    assert receipt.verdict is ReceiptVerdict.PARTIAL
    assert receipt.undeclared_count == 1
    assert receipt.undeclared == (named,)
    assert [record.levelname for record in caplog.records if "UNDECLARED_ARTIFACTS" in record.message]
    assert target.numbers() == [f"{CHANNEL}/0000000000000001.json"]


def test_declared_artifacts_may_be_reported_by_any_of_their_names() -> None:
    target, bundle = Target(), bundle_of(blob_sizes=(5000,))
    (artifact,) = bundle.manifest.artifacts
    reporting(target, "team/app001:v1", f"{AUDIENCE[0]}/team/app001@{artifact.digest}")
    assert target.receive(bundle)["outcome"] == "imported"


def test_artifact_that_rode_along_in_a_run_that_failed_is_named_too() -> None:
    target = Target()
    reporting(target, EVIL, fails=True)
    receipt = target.assert_refused(target.receive(bundle_of(blob_sizes=(5000,))), Code.PIPELINE_RUN_FAILED)
    assert receipt.undeclared == (EVIL,)


def test_artifact_declared_in_another_blob_of_the_bundle_is_undeclared_in_this_one() -> None:
    target, bundle = Target(), bundle_of()
    reporting(target, "team/app001:v1", "team/app002:v1")
    receipt = target.assert_refused(target.receive(bundle), Code.UNDECLARED_ARTIFACTS)
    assert receipt.undeclared == ("team/app002:v1", "team/app001:v1")  # of the first blob, of the second


def test_what_was_imported_before_a_refusal_is_named_by_its_receipt() -> None:
    """Of two blobs one is imported, the other not: the first one's artifact stays in the registry."""
    target, bundle = Target(), bundle_of()
    raw = target.upload(bundle)
    first, second = bundle.manifest.artifacts
    target.registry.manifests.pop((second.repository, second.digest))

    def work(request: Mapping[str, Any]) -> dict[str, Any]:
        return failed("tag is locked") if request["source"]["name"].endswith("/002") else succeeded()

    target.pipelines.work = work
    receipt = target.assert_refused(target.run(raw), Code.PIPELINE_RUN_FAILED)
    assert receipt.verdict is ReceiptVerdict.PARTIAL
    assert [(proof.reference, proof.found) for proof in receipt.artifacts] == [
        (first.reference, first.digest),
        (second.reference, None),
    ]


def test_registry_is_not_asked_about_a_bundle_that_no_run_imported_anything_of() -> None:
    target, bundle = Target(), bundle_of()
    raw = target.upload(bundle)
    target.host.before["accept_bundle"] = lambda: target.host.broken.update(accept_bundle=10**9)
    outcome = target.run(raw)
    assert target.numbers() == []
    assert target.receipt(outcome).artifacts == ()


def test_refusal_does_not_wait_for_a_registry_that_is_away() -> None:
    target = Target()
    target.pipelines.work = lambda _: failed("tag is locked")
    target.host.broken["take_stock"] = 10**9
    outcome = target.receive(bundle_of())
    assert target.receipt(outcome).verdict is ReceiptVerdict.PARTIAL
    assert target.receipt(outcome).artifacts == ()
    assert target.host.now - START < timedelta(hours=3)


def test_any_number_of_them_is_counted_and_some_are_listed() -> None:
    target = Target()
    reporting(target, *(f"evil/n{number}:v1" for number in range(1500)))
    receipt = target.assert_refused(target.receive(bundle_of(blob_sizes=(9,))), Code.UNDECLARED_ARTIFACTS)
    assert (len(receipt.undeclared), receipt.undeclared_count) == (1000, 1500)


def test_lookups_of_a_bundle_of_many_tags_are_divided_over_activities() -> None:
    target, bundle = Target(), bundle_of()
    target.receive(bundle)
    assert target.host.called.count("prove_artifacts") == 2  # one a blob, none of more than 200 lookups


@pytest.mark.parametrize("note", ["proofs/", "reported/"])
def test_import_is_proven_by_what_is_on_record_of_every_artifact_and_run(note: str) -> None:
    target, bundle = Target(), bundle_of()
    raw = target.upload(bundle)

    def remove_notes() -> None:
        names = [name for name in target.blobs.names("work") if f"/{note}" in name]
        assert names
        target.blobs.delete("work", names[0])

    target.host.before["conclude_import"] = remove_notes
    assert target.run(raw)["outcome"] == "failed"
