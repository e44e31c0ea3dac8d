"""Whoever holds the upload SAS, or a key of another channel, against a bundle that was admitted."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from airgap.envelope import Envelope
from airgap.errors import Code, ServiceError
from airgap.manifest import ENVELOPE_NAME
from airgap.receipt import ReceiptVerdict
from function_app.durable.outcomes import Pending
from function_app.messages import Item
from function_app.ports import BlobStat
from function_app.target.importing import promote_blob
from function_app.target.wire import Promoted
from tests.bundles import CHANNEL, TRANSFER_ID, Bundle, default_key, make_bundle, make_policy, new_key
from tests.function_app.memory import START, import_pipeline, succeeded
from tests.function_app.test_import import RECEIPT_KEY, Target, bundle_of, flip

AFTER_ADMISSION = ("take_turn", "hash_staged_parts", "accept_bundle", "promote_blob", "start_import_run")
DEV_KEY = new_key()


def two_channels() -> bytes:
    """The policy of a target that serves ``prod`` and ``dev``, each with a key of its own."""
    prod = json.loads(make_policy([default_key()], receipt_keys=[RECEIPT_KEY]))
    dev = json.loads(make_policy([DEV_KEY], channel="dev", receipt_keys=[RECEIPT_KEY]))
    return json.dumps(
        {
            **prod,
            "keys": [*prod["keys"], *(key for key in dev["keys"] if key not in prod["keys"])],
            "channels": prod["channels"] | dev["channels"],
        }
    ).encode()


def overwrite(target: Target, bundle: Bundle) -> None:
    target.blobs.upload("incoming", f"{TRANSFER_ID}/001", flip(bundle.blobs["001"], 7))


def delete(target: Target, bundle: Bundle) -> None:
    del bundle
    target.blobs.delete("incoming", f"{TRANSFER_ID}/001")


@pytest.mark.parametrize("activity", AFTER_ADMISSION)
@pytest.mark.parametrize("attack", [overwrite, delete])
def test_upload_that_is_changed_after_its_admission_is_imported_as_it_was_admitted(
    activity: str, attack: Callable[[Target, Bundle], None]
) -> None:
    target, bundle = Target(), bundle_of()
    raw = target.upload(bundle)
    imported: dict[str, bytes] = {}

    def import_run(request: Mapping[str, Any]) -> dict[str, Any]:
        name = request["source"]["name"]
        imported[name.rsplit("/", 1)[1]] = target.blobs.containers["transfer"][name].content
        return succeeded()

    target.pipelines.work = import_run
    target.host.before[activity] = lambda: attack(target, bundle)
    assert target.run(raw)["outcome"] == "imported"
    assert imported == bundle.blobs


@pytest.mark.parametrize("activity", AFTER_ADMISSION)
def test_forgery_beside_an_admitted_import_takes_nothing_from_it(activity: str) -> None:
    target, bundle = Target(), bundle_of()
    raw = target.upload(bundle)
    forged = Envelope.sign(bundle.payload, [new_key().signer]).to_bytes()

    def attack() -> None:
        target.blobs.upload("incoming", f"{TRANSFER_ID}/{ENVELOPE_NAME}", forged)
        assert target.run(forged, instance="theattack")["code"] == "SIGNER_UNKNOWN"

    target.host.before[activity] = attack
    assert target.run(raw, instance="thehonestone")["outcome"] == "imported"


@pytest.mark.parametrize("activity", ["take_turn", "start_import_run", "prove_artifacts"])
def test_key_of_another_channel_under_the_same_transfer_id_replaces_and_deletes_nothing(
    activity: str,
) -> None:
    policy = two_channels()
    target = Target(policy)
    honest = make_bundle(blob_sizes=(5000,), created_at=START, policy_json=policy)
    evil = make_bundle(
        blob_sizes=(5000,), created_at=START, policy_json=policy, channel="dev", keys=[DEV_KEY], seed=9
    )
    raw = target.upload(honest)
    imported: list[str] = []

    def import_run(request: Mapping[str, Any]) -> dict[str, Any]:
        content = target.blobs.containers["transfer"][request["source"]["name"]].content
        imported.append(hashlib.sha256(content).hexdigest())
        return succeeded()

    def attack() -> None:
        tags = dict(target.registry.tags)
        assert target.run(target.upload(evil), instance="theattack")["outcome"] == "imported"
        target.registry.tags = tags  # which repositories a channel may write to is the policy's business

    target.pipelines.work = import_run
    target.host.before[activity] = attack
    assert target.run(raw, instance="thehonestone")["outcome"] == "imported"
    assert hashlib.sha256(honest.blobs["001"]).hexdigest() in imported
    assert imported.count(hashlib.sha256(evil.blobs["001"]).hexdigest()) == 1


def test_names_below_staging_and_transfer_carry_channel_and_manifest_digest() -> None:
    target, bundle = Target(), bundle_of(blob_sizes=(5000,))
    raw = target.upload(bundle)
    seen: dict[str, list[str]] = {}

    def look() -> None:
        seen.update({name: target.blobs.names(name) for name in ("staging", "transfer")})

    target.host.before["start_import_run"] = look
    assert target.run(raw, instance="theimport")["outcome"] == "imported"
    folder = f"{CHANNEL}/{bundle.manifest_sha256}"
    assert seen == {"staging": [f"{folder}/theimport/001"], "transfer": [f"{folder}/001"]}
    assert target.blobs.names("staging") == target.blobs.names("transfer") == []


def test_upload_that_is_changed_while_custody_is_taken_is_refused_and_costs_no_number() -> None:
    target, bundle = Target(), bundle_of()
    raw = target.upload(bundle)
    target.host.before["take_custody"] = lambda: overwrite(target, bundle)
    receipt = target.assert_refused(target.run(raw), Code.BLOB_CHANGED)
    assert [damage.name for damage in receipt.damages] == ["001"]
    assert target.numbers() == []
    assert target.receive(bundle)["outcome"] == "imported"


def promoted_name(bundle: Bundle) -> str:
    return f"{CHANNEL}/{bundle.manifest_sha256}/001"


@pytest.mark.parametrize("how", ["overwritten", "touched", "removed"])
def test_promoted_blob_that_somebody_else_wrote_to_is_not_imported(how: str) -> None:
    target, bundle = Target(), bundle_of(blob_sizes=(5000,))
    name = promoted_name(bundle)

    def attack() -> None:
        found = target.blobs.containers["transfer"].pop(name)
        if how != "removed":
            content = flip(found.content, 7) if how == "overwritten" else found.content
            target.blobs.upload("transfer", name, content, found.metadata)

    target.host.before["start_import_run"] = attack
    outcome = target.receive(bundle)
    assert (outcome["code"], target.pipelines.requests) == (Code.BLOB_CHANGED.name, {})
    assert target.receipt(outcome).verdict is ReceiptVerdict.PARTIAL


@pytest.mark.parametrize("activity", ["promote_blob", "start_import_run"])
@pytest.mark.parametrize(
    "unfit",
    [
        import_pipeline(trigger="Enabled"),
        import_pipeline(container="incoming"),
        import_pipeline() | {"options": ["OverwriteTags", "DeleteSourceBlobOnSuccess"]},
        None,
    ],
    ids=["starts by itself", "reads the uploads", "deletes what it imports", "is gone"],
)
def test_pipeline_that_would_import_behind_our_back_gets_nothing_until_it_is_mended(
    unfit: dict[str, Any] | None, activity: str
) -> None:
    target, bundle = Target(), bundle_of(blob_sizes=(5000,))
    pipelines, name = target.pipelines.pipelines, ("importPipelines", "import01")
    fit = pipelines[name]
    seen: list[tuple[int, int]] = []

    def change() -> None:
        del pipelines[name]
        if unfit is not None:
            pipelines[name] = unfit
        target.host.before[activity] = mend

    def mend() -> None:
        seen.append((len(target.blobs.names("transfer")), len(target.pipelines.requests)))
        pipelines[name] = fit

    target.host.before[activity] = change
    assert target.receive(bundle)["outcome"] == "imported"
    assert seen == [(0 if activity == "promote_blob" else 1, 0)]


def test_blob_planted_where_a_bundle_is_promoted_to_is_not_imported_whatever_mark_it_bears() -> None:
    target, bundle = Target(), bundle_of(blob_sizes=(5000,))

    def attack() -> None:
        (staged,) = target.blobs.names("staging")
        found = target.blobs.stat("staging", staged)
        assert found is not None
        mark = {"category": "acr-transfer-blob", "copiedfrom": found.etag}
        target.blobs.upload("transfer", promoted_name(bundle), flip(bundle.blobs["001"], 7), mark)

    target.host.before["promote_blob"] = attack
    outcome = target.receive(bundle)
    assert (outcome["code"], target.pipelines.requests) == (Code.CONFLICT.name, {})


def test_promotion_that_is_delivered_late_again_touches_nothing() -> None:
    target, bundle = Target(), bundle_of(blob_sizes=(5000,))
    seen: list[BlobStat | None] = []

    def again() -> None:
        for _ in range(2):
            seen.append(target.blobs.stat("transfer", promoted_name(bundle)))
            assert promote_blob(target.side, Item(owner="import0001", number=0)) == Promoted()

    target.host.before["prove_artifacts"] = again
    assert target.receive(bundle)["outcome"] == "imported"
    assert seen[0] == seen[1] is not None


def test_promotion_that_meets_another_delivery_of_itself_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target, bundle = Target(), bundle_of(blob_sizes=(5000,))
    raw, uploaded = target.upload(bundle), target.blobs.containers["incoming"]
    # The uploader gave no MD5, so that it is set with the promotion.
    uploaded[f"{TRANSFER_ID}/001"] = replace(uploaded[f"{TRANSFER_ID}/001"], content_md5=None)
    set_md5, item = target.blobs.set_content_md5, Item(owner="import0001", number=0)
    met: list[str] = []

    def meet(container: str, name: str, content_md5: str, *, etag: str) -> str:
        monkeypatch.setattr(target.blobs, "set_content_md5", set_md5)
        assert promote_blob(target.side, item) == Promoted()
        return set_md5(container, name, content_md5, etag=etag)

    def collide() -> None:
        monkeypatch.setattr(target.blobs, "set_content_md5", meet)
        with pytest.raises(ServiceError) as busy:
            promote_blob(target.side, item)
        met.append(busy.value.code.name)

    target.host.before["promote_blob"] = collide
    assert target.run(raw)["outcome"] == "imported"
    assert met == [Code.SERVICE_THROTTLED.name]


def test_promotion_that_takes_time_is_waited_for_and_nothing_is_noted_meanwhile() -> None:
    target, bundle = Target(), bundle_of(blob_sizes=(5000,))
    seen: list[object] = []

    def look() -> None:
        target.blobs.polls_per_copy = 1
        seen.append(promote_blob(target.side, Item(owner="import0001", number=0)))

    target.host.before["promote_blob"] = look
    assert target.receive(bundle)["outcome"] == "imported"
    assert seen == [Pending()]


def test_upload_that_was_archived_costs_no_number_and_can_be_pushed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The storage does not copy what is archived, before or after its admission."""
    target, bundle = Target(), bundle_of()
    raw = target.upload(bundle)
    copy = target.blobs.copy

    def archived(source: tuple[str, str], *rest: Any, **more: Any) -> str | None:
        if source == ("incoming", f"{TRANSFER_ID}/001"):
            raise ServiceError(Code.CONFLICT, "archived")
        return copy(source, *rest, **more)

    monkeypatch.setattr(target.blobs, "copy", archived)
    outcome = target.run(raw)
    assert (outcome["outcome"], outcome["code"]) == ("failed", "CONFLICT")
    assert target.numbers() == []
    assert target.blobs.names("transfer") == []
    monkeypatch.undo()
    assert target.receive(bundle)["outcome"] == "imported"


def test_blob_that_was_never_uploaded_is_told_as_missing() -> None:
    target, bundle = Target(), bundle_of(blob_sizes=(5000, 600))
    raw = target.upload(bundle)
    target.blobs.delete("incoming", f"{TRANSFER_ID}/002")
    receipt = target.assert_damaged(target.run(raw), Code.PART_MISSING, held=["001"])
    assert [(damage.name, damage.detail) for damage in receipt.damages] == [
        ("002/00000001.part", "the blob has 0 of 600 bytes")
    ]


def test_copy_in_custody_that_is_written_to_under_the_hash_is_named_as_damaged() -> None:
    target, bundle = Target(), bundle_of(blob_sizes=(5000,))

    def exchange() -> None:
        (staged,) = target.blobs.names("staging")
        target.blobs.put("staging", staged, bundle.blobs["001"])

    target.host.before["hash_staged_parts"] = exchange
    receipt = target.assert_refused(target.receive(bundle), Code.BLOB_CHANGED)
    assert [damage.name for damage in receipt.damages] == ["001/00000001.part"]


def test_blob_of_which_there_is_no_copy_in_custody_is_not_promoted() -> None:
    target, bundle = Target(), bundle_of(blob_sizes=(5000,))
    target.host.before["promote_blob"] = lambda: target.blobs.delete(
        "work", "plans/import0001/custody/001.json"
    )
    outcome = target.receive(bundle)
    assert outcome["detail"] == "001 was never taken into custody"
    assert target.blobs.names("transfer") == []


def test_blob_of_which_no_md5_is_signed_is_promoted_with_the_one_it_has() -> None:
    target, bundle = Target(), bundle_of(blob_sizes=(5000,))
    (blob,) = bundle.manifest.blobs
    payload = replace(bundle.manifest, blobs=(replace(blob, content_md5=None),)).to_bytes()
    raw = target.upload(bundle, envelope=Envelope.sign(payload, [default_key().signer]).to_bytes())
    assert target.run(raw)["outcome"] == "imported"


def test_replay_beside_a_running_import_takes_nothing_from_what_is_promoted() -> None:
    target, bundle = Target(), bundle_of(blob_sizes=(5000,))
    seen: list[list[str]] = []

    def push_again() -> None:
        seen.append(target.blobs.names("transfer"))
        assert target.receive(bundle)["closing"] == "closed"
        seen.append(target.blobs.names("transfer"))

    target.host.before["start_import_run"] = push_again
    assert target.receive(bundle)["outcome"] == "imported"
    assert seen == [[promoted_name(bundle)]] * 2
