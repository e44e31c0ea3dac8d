"""Whether a side is ready: what a fact means, and that whatever was not seen to be right is not."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airgap.errors import Code, ServiceError
from airgap.policy import TrustPolicy
from airgap.readiness import (
    Check,
    judge_access,
    judge_container,
    judge_image_import,
    judge_own_keys,
    judge_pipeline,
    judge_poison,
    judge_policy,
    judge_registry,
    judge_settings,
    judge_signing,
    judge_staging,
    judge_table,
    judge_tickets,
    unanswered,
)
from tests.bundles import AUDIENCE, make_policy, new_key

NOW = datetime(2026, 11, 23, tzinfo=UTC)
URL = "https://account.blob.core.windows.net/transfer"
SOURCE_KEY, TARGET_KEY = new_key(), new_key()
POLICY = TrustPolicy.from_bytes(make_policy([SOURCE_KEY], receipt_keys=[TARGET_KEY]))


def pipeline(side: Any, properties: Any, error: Any = None) -> dict[str, Check]:
    checks = judge_pipeline(side, "import01", properties, error, container_url=URL)
    return {check.id: check for check in checks}


def imports(**properties: Any) -> dict[str, Any]:
    return {
        "provisioningState": "Succeeded",
        "source": {"uri": URL},
        "options": ["OverwriteTags"],
        "trigger": {"sourceTrigger": {"status": "Disabled"}},
        **properties,
    }


def test_pipeline_that_imports_only_when_told_is_right() -> None:
    checks = pipeline("target", imports())
    assert [*checks] == ["pipeline", "pipeline-container", "pipeline-options", "source-trigger"]
    assert all(check.is_ok and not check.remedy for check in checks.values())


@pytest.mark.parametrize(
    ("state", "is_passing"),
    [
        ("Updating", True),
        ("Creating", True),
        ("", True),
        (None, True),
        ("Failed", False),
        ("Canceled", False),
    ],
)
def test_pipeline_that_is_not_made_is_told_and_whether_that_may_pass(state: Any, is_passing: bool) -> None:
    check = pipeline("source", imports(provisioningState=state))["pipeline"]
    assert (check.is_ok, check.is_passing) == (False, is_passing)
    assert ("Wait until it is made" in check.remedy) is is_passing
    assert "Deploy the side's template again" in check.remedy


@pytest.mark.parametrize(
    "trigger",
    [
        None,
        {},
        "Disabled",
        {"sourceTrigger": None},
        {"sourceTrigger": {}},
        {"sourceTrigger": {"status": "Enabled"}},
        {"sourceTrigger": {"status": "disabled"}},
    ],
)
def test_pipeline_that_could_import_unasked_is_told(trigger: Any) -> None:
    check = pipeline("target", imports(trigger=trigger))["source-trigger"]
    assert not check.is_ok
    assert "must be Disabled" in check.remedy


def test_source_has_no_trigger_to_disable() -> None:
    found = {"provisioningState": "Succeeded", "target": {"uri": URL}, "options": ["OverwriteBlobs"]}
    checks = pipeline("source", found)
    assert [*checks] == ["pipeline", "pipeline-container", "pipeline-options"]
    assert all(check.is_ok for check in checks.values())


@pytest.mark.parametrize(
    ("side", "options", "told"),
    [
        ("source", None, "without OverwriteBlobs"),
        ("source", "OverwriteBlobs", "without OverwriteBlobs"),
        ("source", ["OverwriteTags"], "without OverwriteBlobs"),
        ("source", ["overwriteblobs", "continueonerrors"], "with ContinueOnErrors"),
        ("target", [], "without OverwriteTags"),
        ("target", ["OverwriteTags", "DeleteSourceBlobOnSuccess"], "with DeleteSourceBlobOnSuccess"),
    ],
)
def test_options_by_which_a_run_loses_something_are_told(side: Any, options: Any, told: str) -> None:
    end = "target" if side == "source" else "source"
    found = imports(options=options) | {end: {"uri": URL}}
    check = pipeline(side, found)["pipeline-options"]
    assert not check.is_ok
    assert check.detail.startswith(told)
    assert "must have" in check.remedy


def test_options_that_lose_nothing_are_right_however_they_are_written() -> None:
    assert pipeline("target", imports(options=["overwritetags", "ContinueOnErrors"]))[
        "pipeline-options"
    ].is_ok


def access(mode: object, left: timedelta | None, side: Any = "target") -> Check:
    end = {"uri": URL} | ({} if mode is None else {"storageAccessMode": mode})
    found = {"target" if side == "source" else "source": end}
    return judge_access(side, found, None if left is None else NOW + left, now=NOW)


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("mode", ["SasToken", None])
def test_sas_is_told_from_two_weeks_before_its_end(side: str, mode: object) -> None:
    assert access(mode, timedelta(days=14), side).is_ok
    soon = access(mode, timedelta(days=14, seconds=-1), side)
    assert not soon.is_ok
    assert "2026-12-06T23:59:59Z" in soon.detail
    ended = access(mode, timedelta(0), side)
    assert "ended at 2026-11-23T00:00:00Z" in ended.detail
    for check in (soon, ended, access(mode, None, side)):
        assert not check.is_ok
        assert "pipelineSasExpiry" in check.remedy


@pytest.mark.parametrize("mode", ["ManagedIdentity", "managedIdentity"])
def test_pipeline_that_comes_by_its_identity_has_no_sas_to_end(mode: str) -> None:
    assert access(mode, None).is_ok
    assert access(mode, timedelta(days=-1)).is_ok


@pytest.mark.parametrize("uri", [URL, URL + "/", URL.replace("account.blob", "ACCOUNT.Blob")])
def test_container_is_the_same_however_its_address_is_written(uri: str) -> None:
    assert pipeline("target", imports(source={"uri": uri}))["pipeline-container"].is_ok


@pytest.mark.parametrize(
    "source",
    [
        None,
        {},
        {"uri": None},
        {"uri": URL + "x"},
        {"uri": URL.replace("/transfer", "/incoming")},
        {"uri": URL.replace("account", "another")},
        {"uri": URL.replace("https", "http")},
    ],
)
def test_pipeline_at_another_container_is_told(source: Any) -> None:
    assert not pipeline("target", imports(source=source))["pipeline-container"].is_ok


def test_sas_in_the_address_of_a_pipeline_is_not_told() -> None:
    check = pipeline("target", imports(source={"uri": f"{URL}?sv=2022&sig=c2VjcmV0"}))["pipeline-container"]
    assert "c2VjcmV0" not in str(check)


@pytest.mark.parametrize("state", [None, "Creating", "Failed", "succeeded"])
def test_pipeline_that_is_not_made_is_told(state: Any) -> None:
    assert not pipeline("target", imports(provisioningState=state))["pipeline"].is_ok


def test_pipeline_that_is_not_there_or_not_shown_is_one_check() -> None:
    for checks in (
        pipeline("target", None),
        pipeline("target", None, ServiceError(Code.SERVICE_DENIED, "x")),
    ):
        assert [(check.id, check.is_ok) for check in checks.values()] == [("pipeline", False)]


def test_policy_counts_until_it_expires() -> None:
    assert judge_policy(POLICY, "", now=POLICY.expires_at - timedelta(seconds=1)).is_ok
    assert not judge_policy(POLICY, "", now=POLICY.expires_at).is_ok
    absent = judge_policy(None, "missing", now=NOW)
    assert (absent.is_ok, absent.detail) == (False, "missing")
    assert "docs/key-ceremony.md" in absent.remedy


def test_policy_in_force_is_told_with_its_version() -> None:
    assert judge_policy(POLICY, "", now=NOW).detail.startswith(
        "version 1, until 2100-01-01T00:00:00Z, channels: "
    )


def own(side: Any, key: str, *, policy: TrustPolicy = POLICY, registry: str = AUDIENCE[0]) -> bool:
    return judge_own_keys(policy, side, [key], registry, now=NOW).is_ok


def test_key_counts_where_its_side_signs_and_nowhere_else() -> None:
    assert own("source", SOURCE_KEY.keyid)
    assert own("target", TARGET_KEY.keyid)
    assert not own("source", TARGET_KEY.keyid)
    assert not own("target", SOURCE_KEY.keyid)


def test_target_that_no_channel_serves_is_told() -> None:
    assert not own("target", TARGET_KEY.keyid, registry="other.azurecr.io")
    assert own("source", SOURCE_KEY.keyid, registry="other.azurecr.io")


def test_revoked_key_does_not_count() -> None:
    raw = make_policy([SOURCE_KEY, new_key()], receipt_keys=[TARGET_KEY], threshold=1)
    whole = TrustPolicy.from_bytes(raw)
    revoked = TrustPolicy(
        version=2,
        expires_at=whole.expires_at,
        keys=whole.keys,
        revoked={SOURCE_KEY.keyid: NOW},
        policy_roles={},
        channels=whole.channels,
        document=b"",
    )
    assert own("source", SOURCE_KEY.keyid, policy=whole)
    assert not own("source", SOURCE_KEY.keyid, policy=revoked)


def test_who_did_not_answer_is_not_right() -> None:
    assert not unanswered("registry", 45).is_ok


DENIED, MISSING, AWAY = (
    ServiceError(code, "it says no")
    for code in (Code.SERVICE_DENIED, Code.NOT_FOUND, Code.SERVICE_UNREACHABLE)
)
JUDGES: dict[str, Callable[[ServiceError | None], Check]] = {
    "signing-keys": lambda error: judge_signing(["k1"], error),
    "container-work": lambda error: judge_container("work", "write", error),
    "journal-table": judge_table,
    "tickets": judge_tickets,
    "poison": lambda error: judge_poison("contoso", None if error else 0, error),
    "staging-registry": lambda error: judge_staging("staging.azurecr.io", error),
    "image-import": lambda error: judge_image_import("target.azurecr.io", error),
    "registry": lambda error: judge_registry("target.azurecr.io", error),
    "pipeline": lambda error: judge_pipeline("target", "import01", imports(), error, container_url=URL)[0],
}


@pytest.mark.parametrize("name", [*JUDGES])
def test_what_answered_is_right_and_what_refused_has_a_remedy_of_its_own(name: str) -> None:
    judge = JUDGES[name]
    good = judge(None)
    assert (good.id, good.is_ok, good.remedy) == (name, True, "")
    denied = judge(DENIED)
    assert (denied.id, denied.is_ok, denied.detail) == (name, False, "SERVICE_DENIED: it says no")
    assert "the app's identity" in denied.remedy
    assert judge(AWAY).remedy == Code.SERVICE_UNREACHABLE.remedy


@pytest.mark.parametrize("name", ["signing-keys", "container-work", "journal-table", "poison"])
def test_what_the_template_makes_and_is_missing_is_deployed_again(name: str) -> None:
    assert JUDGES[name](MISSING).remedy.startswith("Deploy the side's template again")


def test_one_message_is_poison_enough() -> None:
    assert judge_poison("contoso", 0, None) == Check(
        id="poison", is_ok=True, detail="webjobs-blobtrigger-poison is empty"
    )
    found = judge_poison("contoso", 1, None)
    assert (found.is_ok, found.detail.partition(":")[0]) == (False, "webjobs-blobtrigger-poison holds 1")
    assert found.remedy.endswith("--queue-name webjobs-blobtrigger-poison --account-name contoso")


def test_container_is_told_by_what_may_be_done_there() -> None:
    assert judge_container("work", "write", None).detail == "there, and can be read and written"
    assert judge_container("ledger", "add", None).detail == "there, and can be read and added to"
    assert "blobAppender" in judge_container("ledger", "add", DENIED).remedy
    assert judge_container("receipts", "read", None).detail == "there, and can be read"
    assert "Storage Blob Data Reader" in judge_container("receipts", "read", DENIED).remedy


def test_pipeline_tells_where_it_writes_or_reads_and_how_that_is_mended() -> None:
    wrong = pipeline("target", imports(source={"uri": URL + "x"}))["pipeline-container"]
    assert (wrong.detail, wrong.remedy.split(": ")[1]) == (
        f"it reads {URL}x",
        f"the pipeline must be at {URL} and nowhere else.",
    )
    exports = {"provisioningState": "Creating", "target": {"uri": URL}, "source": {"uri": "https://x/y"}}
    checks = pipeline("source", exports)
    assert checks["pipeline-container"] == Check(
        id="pipeline-container", is_ok=True, detail=f"it writes {URL}"
    )
    assert checks["pipeline"].remedy.startswith("Wait until it is made")


def test_settings_at_fault_are_named_in_order() -> None:
    assert judge_settings({}).is_ok
    check = judge_settings({"B": "missing", "A": "not a number"})
    assert (check.is_ok, check.detail) == (False, "A: not a number; B: missing")
    assert check.to_json() == {"id": "settings", "ok": False, "detail": check.detail, "remedy": check.remedy}


def test_target_whose_receipts_one_channel_does_not_take_is_told_which() -> None:
    whole = TrustPolicy.from_bytes(make_policy([SOURCE_KEY], receipt_keys=[TARGET_KEY]))
    other = TrustPolicy.from_bytes(make_policy([new_key()], channel="test", receipt_keys=[new_key()]))
    both = TrustPolicy(
        version=1,
        expires_at=whole.expires_at,
        keys={**whole.keys, **other.keys},
        revoked={},
        policy_roles={},
        channels={**whole.channels, **other.channels},
        document=b"",
    )
    check = judge_own_keys(both, "target", [TARGET_KEY.keyid], AUDIENCE[0], now=NOW)
    assert (check.is_ok, check.detail.partition(" counts in ")[2]) == (False, "receiptRoles of: test")
    nobody = judge_own_keys(both, "source", [TARGET_KEY.keyid], AUDIENCE[0], now=NOW)
    assert nobody.detail.partition(" counts in ")[2] == "bundleRoles of: prod, test"
    unserved = judge_own_keys(both, "target", [TARGET_KEY.keyid], "other.azurecr.io", now=NOW)
    assert unserved.detail == "no channel of the trust policy serves other.azurecr.io"
    assert judge_own_keys(both, "source", [SOURCE_KEY.keyid], AUDIENCE[0], now=NOW).is_ok
