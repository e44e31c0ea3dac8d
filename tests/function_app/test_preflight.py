"""``GET /api/preflight``: the real function on the ports in memory, one fault for each check."""

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import azure.functions as func
import pytest

from airgap.errors import Code, ServiceError
from function_app.azure import wiring
from function_app.http import preflight
from function_app.ports import Ports, TargetSide
from function_app.preflight import CONTAINERS, check_side
from function_app.settings import SourceSettings, TargetSettings
from function_app.storage.event_notes import Trouble, keep_trouble
from tests.bundles import make_policy, new_key
from tests.function_app.memory import (
    ENVIRONMENT,
    MemoryBlobs,
    MemoryImageImports,
    MemoryReceiver,
    MemoryRegistry,
    make_source,
    make_target,
)

ROOT = Path(__file__).parents[2]
URL = "https://account.blob.core.windows.net/transfer"
SOURCE_KEY, TARGET_KEY = new_key(), new_key()
POLICY = make_policy([SOURCE_KEY], receipt_keys=[TARGET_KEY])
SETTINGS = ENVIRONMENT | {"TRUST_POLICY": POLICY.decode()}


class Site:
    """A side that is ready, and what its preflight says."""

    def __init__(self, role: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.role = role
        self.settings = dict(SETTINGS)
        self.side: Any
        self.blobs: MemoryBlobs
        if role == "source":
            self.side, self.blobs, _ = make_source(key=SOURCE_KEY)
        else:
            self.side, self.blobs = make_target(POLICY, key=TARGET_KEY)
        end = {"uri": URL, "storageAccessMode": "ManagedIdentity"}
        kind, name = ("exportPipelines", "export01") if role == "source" else ("importPipelines", "import01")
        self.pipeline: dict[str, Any] = {"provisioningState": "Succeeded"}
        option = "OverwriteBlobs" if role == "source" else "OverwriteTags"
        self.pipeline |= {"target" if role == "source" else "source": end, "options": [option]}
        if role == "target":
            self.pipeline["trigger"] = {"sourceTrigger": {"status": "Disabled"}}
        self.pipelines: Any = self.side.pipelines
        self.pipelines.pipelines[kind, name] = self.pipeline
        monkeypatch.setattr(preflight, "surveyed_side", self.surveyed)
        monkeypatch.setenv("TRANSFER_ROLE", role)

    def surveyed(self) -> tuple[Ports | None, Mapping[str, str]]:
        kind = SourceSettings if self.role == "source" else TargetSettings
        settings, faults = kind.survey(self.settings)
        is_enough = not faults.keys() - {"TRUST_POLICY"}
        ports = {
            name: getattr(self.side, name)
            for name in ("blobs", "projection", "registry", "pipelines", "signing", "tickets", "poison")
        }
        return (Ports(settings=settings, events=self.side.events, **ports) if is_enough else None), faults

    def ask(self) -> dict[str, Any]:
        response = call()
        assert response.status_code == 200
        found: dict[str, Any] = json.loads(response.get_body())
        assert found["ok"] == all(check["ok"] for check in found["checks"])
        return found

    def wrong(self) -> dict[str, str]:
        """Remedies of what is not right, by id."""
        return {check["id"]: check["remedy"] for check in self.ask()["checks"] if not check["ok"]}


def call(
    name: str = "preflight", params: dict[str, str] | None = None, method: str = "GET"
) -> func.HttpResponse:
    request = func.HttpRequest(method=method, url="https://app/api/preflight", params=params or {}, body=b"")
    function = getattr(preflight, name)._function.get_user_function()
    response: func.HttpResponse = asyncio.run(function(req=request))
    return response


@pytest.fixture(params=["source", "target"])
def site(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(request.param, monkeypatch)


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site("target", monkeypatch)


def refuse(code: Code) -> Callable[..., Any]:
    def raising(*_: Any, **__: Any) -> Any:
        raise ServiceError(code, "it says no")

    return raising


def test_side_that_is_ready_is_told_so_check_by_check(site: Site) -> None:
    body = site.ask()
    assert (body["role"], body["ok"]) == (site.role, True)
    ids = [check["id"] for check in body["checks"]]
    containers = [f"container-{name}" for name in CONTAINERS[site.role]]  # type: ignore[index]
    trigger = ["source-trigger"] if site.role == "target" else []
    signed = ["signed-checks"] if site.role == "target" else []
    assert ids == [
        *("settings", "trust-policy", "policy-chain", *signed, "signing-keys", "trust-policy-keys"),
        *containers,
        *("journal-table", "tickets", "poison", "registry"),
        *("pipeline", "pipeline-container", "pipeline-options"),
        *trigger,
        "pipeline-access",
    ]
    assert {check["remedy"] for check in body["checks"]} == {""}


def test_asking_changes_nothing(site: Site) -> None:
    before = {name: dict(blobs) for name, blobs in site.blobs.containers.items()}
    site.ask()
    assert site.blobs.containers == before


def test_settings_that_are_wrong_are_told_all_at_once_and_nothing_else_is_asked(site: Site) -> None:
    site.settings |= {
        "TransferStorage__blobServiceUri": "http://x",
        "PIPELINE_RUN_POLL_S": "0",
        "SIGNING_KEYS": "",
    }
    (check,) = site.ask()["checks"]
    assert (check["id"], check["ok"]) == ("settings", False)
    for name in ("TransferStorage__blobServiceUri", "PIPELINE_RUN_POLL_S", "SIGNING_KEYS"):
        assert name in check["detail"]


def test_before_the_key_ceremony_all_but_the_trust_policy_is_looked_at(site: Site) -> None:
    site.settings["TRUST_POLICY"] = ""
    assert [*site.wrong()] == ["trust-policy"]
    assert "journal-table" in {check["id"] for check in site.ask()["checks"]}


def test_trust_policy_that_cannot_be_read_is_told(site: Site) -> None:
    site.settings["TRUST_POLICY"] = "{}"
    assert [*site.wrong()] == ["trust-policy"]


def test_trust_policy_that_has_expired_is_told(site: Site) -> None:
    site.settings["TRUST_POLICY"] = make_policy(
        [SOURCE_KEY], receipt_keys=[TARGET_KEY], expires_at="2026-01-01T00:00:00Z"
    ).decode()
    assert [*site.wrong()] == ["trust-policy"]


def test_trust_policy_of_other_keys_is_told(site: Site) -> None:
    site.settings["TRUST_POLICY"] = make_policy([new_key()], receipt_keys=[new_key()]).decode()
    assert [*site.wrong()] == ["trust-policy-keys"]


def test_key_that_may_not_sign_is_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(site.side.signing), "signers", refuse(Code.SERVICE_DENIED))
    assert "keySigner" in site.wrong()["signing-keys"]


def test_key_whose_signature_is_not_its_own_is_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    own, foreign = new_key().signer, new_key().signer

    class Crossed:
        public_key = own.public_key
        sign = staticmethod(foreign.sign)

    monkeypatch.setattr(type(site.side.signing), "signers", lambda _self: [Crossed()])
    assert [*site.wrong()] == ["signing-keys"]


def test_each_container_that_is_missing_is_told(site: Site) -> None:
    for name in CONTAINERS[site.role]:  # type: ignore[index]
        blobs = site.blobs.containers.pop(name)
        chain = ["policy-chain"] if name in ("policy", "ledger") else []  # which is made of what lies there
        assert [*site.wrong()] == [*chain, f"container-{name}"]
        site.blobs.containers[name] = blobs


def test_what_is_needed_in_a_container_is_what_is_granted_there(site: Site) -> None:
    """By the templates, whose roles of our own each have a name of their own."""
    rights = {"blobReader": "read", "blobAppender": "add", "blobWriter": "write"}
    template = json.loads((ROOT / "infra" / "arm" / f"{site.role}.json").read_text(encoding="utf-8"))
    foundation = next(one for one in template["resources"] if one["name"] == "foundation")
    grants = foundation["properties"]["parameters"]["appGrants"]["value"]
    assert {grant["container"]: rights[grant["role"]] for grant in grants} == CONTAINERS[site.role]  # type: ignore[index]


def test_each_container_that_cannot_be_written_is_told_where_it_must_be(site: Site) -> None:
    for name, need in CONTAINERS[site.role].items():  # type: ignore[index]
        site.blobs.read_only = {name}
        assert [*site.wrong()] == ([f"container-{name}"] if need != "read" else [])


def test_table_that_is_away_is_told(site: Site) -> None:
    site.side.projection.is_away = True
    assert [*site.wrong()] == ["journal-table"]


def test_what_a_blob_trigger_has_failed_on_for_good_is_counted(site: Site) -> None:
    site.side.poison.messages += ["one", "another"]
    (check,) = (check for check in site.ask()["checks"] if not check["ok"])
    assert check["id"] == "poison"
    assert check["detail"].startswith("webjobs-blobtrigger-poison holds 2: ")
    assert "az storage message clear" in check["remedy"]
    assert check["remedy"].endswith(" --account-name account")


def test_poison_queue_that_is_missing_is_told(site: Site) -> None:
    site.side.poison.messages = None
    assert site.wrong()["poison"].startswith("Deploy the side's template again")


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (Code.SERVICE_DENIED, "Key Vault Secrets User"),
        (Code.NOT_FOUND, "into the vault"),
        (Code.SIGNING_FAILED, "random bytes"),
    ],
)
def test_events_that_cannot_be_signed_are_told_and_nothing_is_sent(
    site: Site, code: Code, remedy: str
) -> None:
    receiver = MemoryReceiver()
    site.side = replace(site.side, events=receiver)
    assert site.wrong() == {}
    receiver.secret_is = code
    assert remedy in site.wrong()["events"]
    assert receiver.tries == []


def test_event_that_has_not_been_taken_for_long_is_told_with_what_came_of_it(site: Site) -> None:
    site.side = replace(site.side, events=MemoryReceiver())
    name = "events/imports/0123456789/00000001.json"
    for age, is_wrong in ((timedelta(minutes=29), False), (timedelta(minutes=31), True)):
        trouble = Trouble.again(None, "HTTP 500", now=datetime.now(UTC) - age)
        keep_trouble(site.blobs, name, trouble)
        assert ("events" in site.wrong()) is is_wrong
    (check,) = (one for one in site.ask()["checks"] if one["id"] == "events")
    assert name in check["detail"]
    assert "HTTP 500" in check["detail"]


def test_registry_that_lets_nobody_in_is_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(site.side.registry), "resolve", refuse(Code.SERVICE_DENIED))
    assert "AcrPull" in site.wrong()["registry"]


def test_pipeline_that_is_not_there_is_told(site: Site) -> None:
    site.pipelines.pipelines.clear()
    assert [*site.wrong()] == ["pipeline"]


def test_pipeline_that_the_app_may_not_see_is_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(site.pipelines), "get_pipeline", refuse(Code.SERVICE_DENIED))
    assert "pipelineRunner" in site.wrong()["pipeline"]


def test_pipeline_at_another_container_is_told(site: Site) -> None:
    end = site.pipeline["target" if site.role == "source" else "source"]
    end["uri"] = URL.replace("transfer", "incoming")
    assert [*site.wrong()] == ["pipeline-container"]


def test_options_of_the_pipeline_by_which_a_run_loses_something_are_told(site: Site) -> None:
    site.pipeline["options"] += ["ContinueOnErrors", "DeleteSourceBlobOnSuccess"]
    assert [*site.wrong()] == ["pipeline-options"]


def test_pipeline_whose_sas_ends_soon_or_nobody_knows_when_is_told(site: Site) -> None:
    site.pipeline["target" if site.role == "source" else "source"]["storageAccessMode"] = "SasToken"
    assert [*site.wrong()] == ["pipeline-access"]
    site.settings["PIPELINE_SAS_EXPIRES_AT"] = f"{datetime.now(UTC) + timedelta(days=13):%Y-%m-%dT%H:%M:%SZ}"
    assert [*site.wrong()] == ["pipeline-access"]
    site.settings["PIPELINE_SAS_EXPIRES_AT"] = f"{datetime.now(UTC) + timedelta(days=15):%Y-%m-%dT%H:%M:%SZ}"
    assert site.wrong() == {}


def test_source_trigger_that_is_enabled_is_told(target: Site) -> None:
    target.pipeline["trigger"]["sourceTrigger"]["status"] = "Enabled"
    assert [*target.wrong()] == ["source-trigger"]


def test_service_that_does_not_answer_holds_nobody_up(target: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(type(target.side.registry), "resolve", lambda *_: released.wait(60))
    ports, faults = target.surveyed()
    checks = check_side("target", ports, faults, now=datetime.now(UTC), wait_s=1)
    released.set()
    assert [check.id for check in checks if not check.is_ok] == ["registry"]
    assert "no answer within 1 seconds" in next(check.detail for check in checks if check.id == "registry")


def test_secret_that_was_pasted_into_a_setting_is_not_told(site: Site) -> None:
    site.settings["ARM_API_VERSION"] = (
        "https://a.blob.core.windows.net/c?sv=2022-11-02&sp=rl&sig=c2VjcmV0c2VjcmV0"
    )
    assert "c2VjcmV0" not in json.dumps(site.ask())


def test_ports_are_made_of_the_settings_though_the_policy_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (ENVIRONMENT | {"TRUST_POLICY": "", "TRANSFER_ROLE": "target"}).items():
        monkeypatch.setenv(name, value)
    wiring.surveyed_side.cache_clear()
    try:
        ports, faults = wiring.surveyed_side()
        assert ports is not None
        assert faults == {"TRUST_POLICY": "missing"}
        monkeypatch.setenv("IMPORT_PIPELINE", "")
        wiring.surveyed_side.cache_clear()
        assert wiring.surveyed_side() == (None, {"TRUST_POLICY": "missing", "IMPORT_PIPELINE": "missing"})
    finally:
        wiring.surveyed_side.cache_clear()


def test_check_that_must_sign_and_is_not_asked_is_told(target: Site) -> None:
    policy = json.loads(target.settings["TRUST_POLICY"])
    officer = new_key()
    policy["keys"].append({"holder": "scanner", "publicKey": officer.public_pem})
    (channel,) = policy["channels"].values()
    channel["checkRoles"] = {"scan": {"threshold": 1, "keyids": [officer.keyid]}}
    target.settings["TRUST_POLICY"] = json.dumps(policy)
    assert "checkRoles" in target.wrong()["signed-checks"]
    target.settings["CHECKS"] = json.dumps([{"name": "scan", "kind": "defenderForStorage"}])
    assert [*target.wrong()] == ["signed-checks"]  # which signs nothing
    service = {"name": "scan", "url": "https://scanner.contoso.com/check", "scope": "api://scanner/.default"}
    target.settings["CHECKS"] = json.dumps([service])
    assert target.wrong() == {}


def test_other_methods_and_parameters_are_refused() -> None:
    assert call("refuse_preflight_method", method="POST").status_code == 405
    assert call(params={"fix": "1"}).status_code == 400


def staged_checks(problem: Callable[[TargetSide], None] = lambda _: None) -> dict[str, bool]:
    """Which checks of a target that imports in stages are right."""
    side, _ = make_target(POLICY, key=TARGET_KEY, is_staged=True)
    problem(side)
    found = check_side("target", side, {}, now=datetime.now(UTC))
    return {check.id: check.is_ok for check in found}


def test_staging_registry_and_the_way_out_of_it_are_checked_where_imports_are_staged() -> None:
    checks = staged_checks()
    assert checks["staging-registry"]
    assert checks["image-import"]


def test_staging_registry_that_cannot_be_emptied_is_told() -> None:
    def keep(side: TargetSide) -> None:
        assert side.staged is not None
        assert isinstance(side.staged.registry, MemoryRegistry)
        side.staged.registry.is_kept = True

    assert not staged_checks(keep)["staging-registry"]


@pytest.mark.parametrize(("code", "is_ok"), [(Code.SERVICE_DENIED, False), (Code.IMAGE_IMPORT_FAILED, True)])
def test_who_may_not_bring_anything_over_is_told_and_who_is_told_that_nothing_is_there_may(
    code: Code, is_ok: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryImageImports, "begin", refuse(code))
    assert staged_checks()["image-import"] is is_ok
