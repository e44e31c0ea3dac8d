"""Artifacts that ride along in a blob: the import pipeline takes all of it, the manifest declares some."""

import json
import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from airgap.errors import Code
from airgap.receipt import ReceiptVerdict
from function_app.durable.outcomes import Pending
from function_app.target.proving import take_stock
from function_app.target.wire import Closing, StockTaken
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


def test_tag_that_points_elsewhere_proves_nothing() -> None:
    target, bundle = Target(), bundle_of()
    raw = target.upload(bundle)
    first, second = bundle.manifest.artifacts
    other = target.registry.push(second.repository, {"another": "image"}, "v1")
    receipt = target.assert_refused(target.run(raw), Code.IMPORT_INCOMPLETE)
    assert other != second.digest
    assert [(proof.found, proof.missing_tags) for proof in receipt.artifacts] == [
        (first.digest, ()),
        (second.digest, ("v1",)),
    ]
    assert receipt.detail.startswith(
        f"1 of 2 artifacts are not as signed, such as {second.reference}, without the tag v1;"
    )


LACKS = "1 of 1 artifacts are not as signed, such as team/app001:v1, not there"


@pytest.mark.parametrize(
    ("reports", "lacks", "detail"),
    [
        (("team/app001:v1",), False, "1 artifacts"),
        (("other/side:v1",), False, "1 artifacts, such as other/side:v1"),
        (("other/side:v1",), True, "1 artifacts, such as other/side:v1; 1 of 1 artifacts are not as signed"),
        ((), True, f"{LACKS}; 1 not reported as imported"),
        ((), False, "1 artifacts; 1 not reported as imported"),
        (("team/app001:v1",), True, LACKS),
    ],
)
def test_outcome_says_what_is_not_as_signed_and_what_was_not_reported(
    reports: tuple[str, ...], lacks: object, detail: str
) -> None:
    target, bundle = Target(), bundle_of(blob_sizes=(5000,))
    raw = target.upload(bundle)
    reporting(target, *reports)
    if lacks:
        target.registry.manifests.clear()
    assert target.run(raw)["detail"] == detail


def test_import_is_not_proven_where_what_was_declared_is_gone() -> None:
    target, bundle = Target(), bundle_of()

    def remove_notes() -> None:
        for name in target.blobs.names("work"):
            if "/declared/" in name:
                target.blobs.delete("work", name)

    target.host.before["conclude_import"] = remove_notes
    outcome = target.receive(bundle)
    assert (outcome["outcome"], outcome["detail"]) == ("failed", "what the bundle declares was removed")


def test_what_rode_along_is_told_though_the_ledger_lost_the_entry() -> None:
    target, bundle = Target(), bundle_of(blob_sizes=(5000,))
    reporting(target, "team/app001:v1", EVIL)
    target.host.before["record_decision"] = lambda: target.blobs.delete("ledger", target.numbers()[0])
    receipt = target.receipt(target.receive(bundle))
    assert (receipt.verdict, receipt.undeclared, receipt.ledger) == (ReceiptVerdict.PARTIAL, (EVIL,), None)


def test_stock_is_taken_a_group_of_artifacts_at_a_time() -> None:
    target, bundle = Target(), bundle_of(blob_sizes=(50, 60, 70))
    target.pipelines.work = lambda _: failed("no")
    steps: list[object] = []

    def take() -> None:
        closing = json.loads(target.blobs.containers["work"]["closing/import0001.json"].content)
        for _ in range(4):
            before = len([name for name in target.blobs.names("work") if "/proofs/" in name])
            result = take_stock(target.side, msgspec.convert(closing, Closing))
            after = len([name for name in target.blobs.names("work") if "/proofs/" in name])
            steps.append((type(result), after - before))

    target.host.before["take_stock"] = take
    assert len(target.receipt(target.receive(bundle)).artifacts) == 3
    assert steps == [(Pending, 1), (Pending, 1), (StockTaken, 1), (StockTaken, 0)]
