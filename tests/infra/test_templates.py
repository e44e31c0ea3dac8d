"""The templates against the code that they deploy: compiled, typed, and with all that the app asks for."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any, cast, get_args

import pytest

from airgap.errors import OperatorError
from airgap.pipeline_sas import PERMISSIONS
from function_app.settings import Role, Settings, SourceSettings, TargetSettings
from function_app.storage import paths
from function_app.target.importing import RUN_ATTEMPTS
from function_app.target.longest_waits import FOR_STAGING, FOR_THE_TURN
from infra import roles
from infra.roles import Grant
from infra.rules import CHOICES as RULED
from infra.rules import Choice, deploy
from infra.rules.relations import PARAMETER_OF_SETTING, granted
from infra.templates import FOLDER, SIDES, arm_path, stale
from local_cloud.cloud import SIGNING_KEY
from portable.app_package import PYTHONS
from tests.bundles import default_key, make_policy
from tests.function_app.memory import ENVIRONMENT

POLICY = make_policy([default_key()])
SETTINGS: dict[str, type[Settings]] = {"source": SourceSettings, "target": TargetSettings}
CLOUDS = sorted((FOLDER / "parameters").glob("*.json"))
KNOWN_CLOUDS = {
    "public": ("AzureCloud", "management.azure.com", "management.azure.com", "containerregistry.azure.net"),
    "government": (
        "AzureUSGovernment",
        "management.usgovcloudapi.net",
        "management.core.usgovcloudapi.net",
        "management.usgovcloudapi.net",
    ),
    "china": (
        "AzureChinaCloud",
        "management.chinacloudapi.cn",
        "management.core.chinacloudapi.cn",
        "management.chinacloudapi.cn",
    ),
}
"""Name, ARM, and the resources that tokens for ARM and for registries are of.

``resource_manager`` and ``active_directory_resource_id`` of
https://github.com/Azure/azure-cli/blob/dev/src/azure-cli-core/azure/cli/core/cloud.py; of registries only the
public cloud's is known, elsewhere ARM's endpoint is taken.
"""
OF_THE_HOST = re.compile(
    r"(AzureWebJobsStorage|TransferStorage)__(\w+)|APPLICATIONINSIGHTS_\w+|FUNCTIONS_\w+|WEBSITE_\w+"
    r"|ENABLE_ORYX_BUILD|SCM_DO_BUILD_DURING_DEPLOYMENT"
)
"""Settings that the Functions host reads, or the worker before the app is there."""


class Asked:
    """Stands in for what reads settings, and keeps their names."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def __getattr__(self, _method: str) -> Any:
        def read(name: str, *_arguments: object, **_limits: object) -> int:
            self.names.add(name)
            return 1

        return read


def template(side: str) -> dict[str, Any]:
    """The ARM template of a side."""
    found: dict[str, Any] = json.loads(arm_path(side).read_text(encoding="utf-8"))
    return found


def module(side: str, name: str) -> dict[str, Any]:
    """The arguments of a module of the side, by its name."""
    found = next(one for one in template(side)["resources"] if one["name"] == name)
    return {key: value["value"] for key, value in found["properties"]["parameters"].items()}


def app_settings(side: str, hosting: str) -> set[str]:
    """The names of the settings that a hosting deploys."""
    own = re.findall(r"'([A-Z]+(?:_[A-Z]+)*)', ", module(side, f"app-{hosting}")["settings"])
    foundation, plan = (
        next(one for one in template(side)["resources"] if one["name"] == name)["properties"]["template"]
        for name in ("foundation", f"app-{hosting}")
    )
    shared = foundation["outputs"]["settings"]["value"]
    config = next(one for one in plan["resources"] if one["type"] == "Microsoft.Web/sites/config")
    return {*own, *shared, *re.findall(r"'([A-Z_]+)'", str(config["properties"]))}


@pytest.mark.parametrize("side", SIDES)
def test_sides_are_the_roles_of_the_app(side: str) -> None:
    assert side in get_args(Role)


def test_arm_templates_are_what_the_bicep_says() -> None:
    assert stale() == []


def test_template_that_is_behind_its_bicep_is_seen(tmp_path: Path) -> None:
    for path in [*FOLDER.glob("*.bicep"), *FOLDER.glob("modules/*.bicep"), *FOLDER.glob("arm/*.json")]:
        copy = tmp_path / path.relative_to(FOLDER)
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(path.read_text(encoding="utf-8").replace("P0v3", "P1v3"), encoding="utf-8")
    assert stale(tmp_path) == []
    plan = tmp_path / "modules" / "app-dedicated.bicep"
    plan.write_text(plan.read_text(encoding="utf-8").replace("P1v3", "P2v3"), encoding="utf-8")
    assert stale(tmp_path) == [tmp_path / "arm" / "source.json", tmp_path / "arm" / "target.json"]


@pytest.mark.parametrize("hosting", ["flex", "dedicated"])
@pytest.mark.parametrize("side", SIDES)
def test_settings_that_the_app_reads_are_deployed_and_no_others(side: str, hosting: str) -> None:
    asked = Asked()
    SETTINGS[side].read_members(asked)  # type: ignore[arg-type]
    deployed, read = app_settings(side, hosting), {*asked.names, "TRANSFER_ROLE", "BLOB_EVENTS"}
    assert read - deployed == set()
    assert {name for name in deployed - read if not OF_THE_HOST.fullmatch(name)} == set()


@pytest.mark.parametrize("connection", ["AzureWebJobsStorage", "TransferStorage"])
@pytest.mark.parametrize("side", SIDES)
def test_host_comes_to_its_storage_by_identity_and_service_uris(side: str, connection: str) -> None:
    members = {"blobServiceUri", "queueServiceUri", "tableServiceUri", "credential", "clientId"}
    deployed = app_settings(side, "flex")
    assert {name.split("__")[1] for name in deployed if name.startswith(f"{connection}__")} == members


def test_flex_is_not_told_of_a_worker_which_it_refuses() -> None:
    assert "FUNCTIONS_WORKER_RUNTIME" not in app_settings("source", "flex")
    assert "FUNCTIONS_WORKER_RUNTIME" in app_settings("source", "dedicated")


def deployed_app(side: str, hosting: str) -> dict[str, dict[str, Any]]:
    """The properties of what a hosting deploys for the app, by their resource types."""
    found = next(one for one in template(side)["resources"] if one["name"] == f"app-{hosting}")
    return {
        one["type"]: (one["properties"] if isinstance(one["properties"], dict) else {}) | {"whole": str(one)}
        for one in found["properties"]["template"]["resources"]
    }


@pytest.mark.parametrize("side", SIDES)
def test_worker_has_the_python_that_the_package_is_built_for(side: str) -> None:
    parameter = template(side)["parameters"]["pythonVersion"]
    assert (parameter["defaultValue"], parameter["allowedValues"]) == (PYTHONS[0], list(PYTHONS))
    for hosting in ("dedicated", "flex"):
        assert module(side, f"app-{hosting}")["pythonVersion"] == "[parameters('pythonVersion')]"
    dedicated, flex = (
        deployed_app(side, hosting)["Microsoft.Web/sites"] for hosting in ("dedicated", "flex")
    )
    assert dedicated["siteConfig"]["linuxFxVersion"] == "[format('PYTHON|{0}', parameters('pythonVersion'))]"
    assert flex["functionAppConfig"]["runtime"] == {
        "name": "python",
        "version": "[parameters('pythonVersion')]",
    }


@pytest.mark.parametrize("side", SIDES)
def test_package_is_mounted_as_it_is_and_nothing_is_built(side: str) -> None:
    config = deployed_app(side, "dedicated")["Microsoft.Web/sites/config"]["whole"]
    for setting in ("'WEBSITE_RUN_FROM_PACKAGE', '1'", "'SCM_DO_BUILD_DURING_DEPLOYMENT', 'false'"):
        assert setting in config
    assert "'ENABLE_ORYX_BUILD', 'false'" in config
    assert not {"ENABLE_ORYX_BUILD", "WEBSITE_RUN_FROM_PACKAGE"} & app_settings(side, "flex")


@pytest.mark.parametrize("side", SIDES)
def test_evidence_is_in_the_containers_that_hold_it(side: str) -> None:
    arguments = module(side, "foundation")
    held = {"ledger", "receipts", "journal", "custody"}
    assert set(arguments["evidence"]) == held & set(arguments["containers"])


def test_every_container_of_the_code_is_deployed_somewhere() -> None:
    named = {value for name, value in vars(paths).items() if name.isupper() and re.fullmatch("[a-z]+", value)}
    assert named == {container for side in SIDES for container in module(side, "foundation")["containers"]}


@pytest.mark.parametrize("side", SIDES)
def test_journal_table_and_signing_key_have_the_names_that_are_known(side: str) -> None:
    foundation = next(one for one in template(side)["resources"] if one["name"] == "foundation")
    variables = foundation["properties"]["template"]["variables"]
    assert (variables["journalTable"], variables["signingKey"]) == (paths.JOURNAL, SIGNING_KEY)


def test_table_of_the_page_is_that_list() -> None:
    assert roles.PAGE.read_text(encoding="utf-8") == roles.page()
    assert "| source app | `receipts` | Storage Blob Data Reader |" in roles.page()
    assert (
        "| `blobAppender` | `Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read`"
        in roles.page()
    )


@pytest.mark.parametrize("app_roles", ["custom", "builtIn"])
@pytest.mark.parametrize("access", ["ManagedIdentity", "SasToken"])
def test_import_pipeline_can_read_one_thing_and_write_nothing(access: str, app_roles: str) -> None:
    choice = Choice(side="target", access=access, app_roles=app_roles)
    assert [one for one in granted(deploy(template("target"), choice)) if one.identity == "pipeline"] == [
        {
            "ManagedIdentity": Grant("pipeline", "transfer", "Storage Blob Data Reader"),
            "SasToken": Grant("pipeline", "acrimportsas", "Key Vault Secrets User"),
        }[access]
    ]


@cache
def grants(choice: Choice) -> list[Grant]:
    """Every role that is assigned where a side is deployed so."""
    return granted(deploy(template(choice.side), choice))


@pytest.mark.parametrize("choice", RULED, ids=str)
def test_nobody_may_read_or_write_the_whole_transfer_account(choice: Choice) -> None:
    """What the app may do in one container ends there: it cannot delete what it has decided.

    A key of its own to sign with is all that anybody gets for the account as a whole: tickets do, and where
    the pipeline comes by a SAS whoever renews that.
    """
    whole = {one for one in grants(choice) if one.on == "transfer account"}
    signers = ["tickets", "sas"] if choice.access == "SasToken" else ["tickets"]
    assert whole == {Grant(one, "transfer account", "Storage Blob Delegator") for one in signers}
    assert {"transfer", "ledger", "host account"} <= {one.on for one in grants(choice)}


@pytest.mark.parametrize("choice", RULED, ids=str)
def test_nobody_but_the_app_writes_what_decides_and_what_is_imported(choice: Choice) -> None:
    """The export pipeline writes transfer blobs at the source; their ETags are pinned when its run ends."""
    readers = {"Storage Blob Data Reader", "tagReader"}
    decides = {"staging", "transfer", "ledger", "journal", "receipts", "work", "custody", "quarantine"}
    writers = {
        (one.identity, one.on) for one in grants(choice) if one.on in decides and one.role not in readers
    }
    writer = "pipeline" if choice.access == "ManagedIdentity" else "sas"
    assert {one for one in writers if one[0] != "app"} == (
        {(writer, "transfer")} if choice.side == "source" else set()
    )
    assert {("app", "transfer"), ("app", "ledger"), ("app", "journal")} <= writers


@pytest.mark.parametrize("side", SIDES)
def test_whoever_signs_tickets_deletes_nothing_and_is_let_into_one_container(side: str) -> None:
    rows = {row["role"]: row["on"] for row in roles.rows() if row["identity"] == f"{side} tickets"}
    allowed = {"source": "Storage Blob Data Reader", "target": "blobDropper"}[side]
    container = {"source": "transfer", "target": "incoming"}[side]
    assert rows == {allowed: [container], "Storage Blob Delegator": ["transfer account"]}
    assert {one.rpartition("/blobs/")[2] for one in roles.OWN["blobDropper"].data_actions} == {
        "read",
        "write",
    }


@pytest.mark.parametrize("side", SIDES)
def test_whoever_renews_the_sas_of_the_pipeline_may_do_no_more_than_the_sas_and_cannot_read_it(
    side: str,
) -> None:
    rows = {row["role"]: row["on"] for row in roles.rows() if row["identity"] == f"{side} sas"}
    allowed = {"source": "blobDropper", "target": "Storage Blob Data Reader"}[side]
    secret = {"source": "acrexportsas", "target": "acrimportsas"}[side]
    assert rows == {
        allowed: ["transfer"],
        "Storage Blob Delegator": ["transfer account"],
        "secretRenewer": [secret],
    }
    actions = {one.rpartition("/secrets/")[2] for one in roles.OWN["secretRenewer"].data_actions}
    assert actions == {"setSecret/action", "readMetadata/action"}


@pytest.mark.parametrize("side", SIDES)
def test_pipeline_by_its_identity_has_nobody_who_renews_a_sas(side: str) -> None:
    choice = Choice(side=side)
    deployed = deploy(template(side), choice)
    assert not [one for one in grants(choice) if one.identity == "sas"]
    names = {one.name for one in deployed.of_type("Microsoft.ManagedIdentity/userAssignedIdentities")}
    assert not [one for one in names if one.endswith("-sas")]
    settings = deployed.one("Microsoft.Web/sites/config", "appsettings").properties
    assert {settings["PIPELINE_SAS_SECRET"], settings["PIPELINE_SAS_CLIENT_ID"]} == {""}


@pytest.mark.parametrize("side", SIDES)
def test_renewed_sas_allows_what_the_sas_of_the_deployment_allows(side: str) -> None:
    text = (FOLDER / f"{side}.bicep").read_text(encoding="utf-8")
    (permissions,) = re.findall(r"sasPermissions: '(\w+)'", text)
    assert permissions == PERMISSIONS[cast("Role", side)]


@pytest.mark.parametrize("path", CLOUDS, ids=lambda path: path.stem)
def test_parameters_of_a_cloud_are_all_that_the_templates_ask_of_it(path: Path) -> None:
    cloud = json.loads(path.read_text(encoding="utf-8"))["parameters"]["cloud"]["value"]
    for side in SIDES:
        used = set(re.findall(r"parameters\('cloud'\)\.(\w+)", arm_path(side).read_text(encoding="utf-8")))
        assert used | {"name"} == cloud.keys()


@pytest.mark.parametrize("name", KNOWN_CLOUDS)
def test_parameters_of_a_known_cloud_are_its_own(name: str) -> None:
    cloud = json.loads((FOLDER / "parameters" / f"{name}.json").read_text("utf-8"))["parameters"]["cloud"][
        "value"
    ]
    title, arm, arm_resource, registry_resource = KNOWN_CLOUDS[name]
    assert (cloud["name"], cloud["armEndpoint"]) == (title, f"https://{arm}")
    assert cloud["armScope"] == f"https://{arm_resource}/.default"
    assert cloud["registryScope"] == f"https://{registry_resource}/.default"


def test_there_are_parameters_for_each_known_cloud_any_other_and_the_local_one() -> None:
    assert {path.stem for path in CLOUDS} == {*KNOWN_CLOUDS, "other", "local"}


def parameters(side: str) -> dict[str, Any]:
    declared: dict[str, Any] = json.loads(arm_path(side).read_text("utf-8"))["parameters"]
    return declared


def test_page_names_every_parameter_and_no_other() -> None:
    table = (
        (FOLDER / "README.md").read_text("utf-8").partition("| parameter | values |")[2].partition("\n\n")[0]
    )
    named = [name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1:2][0])]
    assert sorted(named) == sorted({*parameters("source"), *parameters("target")})


def test_storage_deletes_no_note_of_a_hold_before_the_hold_ends() -> None:
    """It deletes what is older than ``workDays``, counted from when it was written."""
    told = parameters("target")
    assert told["heldUploadDays"]["maxValue"] < told["workDays"]["minValue"]


def test_storage_deletes_nothing_that_an_import_needs_while_checks_people_and_runs_take_their_time() -> None:
    told = parameters("target")
    asked_s = told["checkTimeoutSeconds"]["maxValue"] + told["releaseTimeoutSeconds"]["maxValue"]
    assert FOR_THE_TURN.total_seconds() + asked_s < FOR_STAGING.total_seconds()
    longest_s = FOR_STAGING.total_seconds() + RUN_ATTEMPTS * told["pipelineRunTimeoutSeconds"]["maxValue"]
    assert longest_s < told["workDays"]["minValue"] * 24 * 3600


def test_storage_deletes_no_note_of_runs_before_the_app_has_removed_their_records() -> None:
    """Written when a blob is promoted; then come its runs, and ten days at most for whatever is away."""
    told = parameters("target")
    runs_days = RUN_ATTEMPTS * told["pipelineRunTimeoutSeconds"]["maxValue"] // (24 * 3600)
    at_work_days = runs_days + 6 * 10
    assert at_work_days + told["endedImportDays"]["maxValue"] < told["workDays"]["minValue"]


@pytest.mark.parametrize("setting", ["ENDED_TRANSFER_DAYS", "SIGNATURE_TIMEOUT_S"])
def test_source_waits_and_keeps_as_long_as_the_template_allows(setting: str) -> None:
    bounds = parameters("source")[PARAMETER_OF_SETTING[setting]]
    environment = ENVIRONMENT | {"TRUST_POLICY": POLICY.decode()}
    for value in (bounds["minValue"], bounds["maxValue"]):
        SourceSettings.from_environment(environment | {setting: str(value)})
    for value in (bounds["minValue"] - 1, bounds["maxValue"] + 1):
        with pytest.raises(OperatorError, match=setting):
            SourceSettings.from_environment(environment | {setting: str(value)})


@pytest.mark.parametrize(
    "setting",
    [
        *("CHECK_TIMEOUT_S", "ENDED_IMPORT_DAYS", "HELD_UPLOAD_DAYS", "QUARANTINE_DAYS"),
        *("RELEASE_TIMEOUT_S", "TICKET_HOURS"),
    ],
)
def test_app_waits_no_longer_than_the_template_allows(setting: str) -> None:
    bounds = parameters("target")[PARAMETER_OF_SETTING[setting]]
    environment = ENVIRONMENT | {"TRUST_POLICY": POLICY.decode()}
    for value in (bounds["minValue"], bounds["maxValue"]):
        TargetSettings.from_environment(environment | {setting: str(value)})
    for value in (bounds["minValue"] - 1, bounds["maxValue"] + 1):
        with pytest.raises(OperatorError, match=setting):
            TargetSettings.from_environment(environment | {setting: str(value)})


@pytest.mark.parametrize("side", SIDES)
def test_what_somebody_chose_is_what_the_app_reads(side: str) -> None:
    """The rules say what each setting is made from; here the app's own reader takes it."""
    ways = {"source": "direct", "target": "staged"}
    choice = Choice(side=side, import_way=ways[side], access="SasToken", has_defaults=False)
    deployed = deploy(template(side), choice)
    found = deployed.one("Microsoft.Web/sites/config", "appsettings").properties
    read: Any = SETTINGS[side].from_environment({**found, "TRUST_POLICY": POLICY.decode()})
    assert (read.pipeline_runs_at_once, read.hashes_at_once, read.ticket_hours) == (3, 4, 2)
    assert read.pipeline_sas_expires_at is not None
    assert read.pipeline_sas_secret.endswith({"source": "/acrexportsas", "target": "/acrimportsas"}[side])
    if side == "source":
        assert (read.part_size_bytes, read.sequence_floors["prod"].sequence) == (32 * 2**20, 7)
    else:
        assert [check.name for check in read.checks] == ["scan"]
        assert read.staging_login_server == f"{deployed.parameters['prefix']}staging.registry.invalid"
