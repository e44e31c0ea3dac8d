"""The templates against the code that they deploy: compiled, typed, and with all that the app asks for."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from function_app.settings import Role, Settings, SourceSettings, TargetSettings
from function_app.storage import paths
from infra import roles
from infra.templates import FOLDER, SIDES, arm_path, stale
from local_cloud.cloud import CONTAINERS, JOURNAL_TABLE, SIGNING_KEY
from portable.app_package import PYTHONS

SETTINGS: dict[str, type[Settings]] = {"source": SourceSettings, "target": TargetSettings}
CLOUDS = sorted((FOLDER / "parameters").glob("*.json"))
OF_THE_HOST = re.compile(
    r"(AzureWebJobsStorage|TransferStorage)__(\w+)|APPLICATIONINSIGHTS_\w+|FUNCTIONS_\w+|WEBSITE_\w+"
    r"|ENABLE_ORYX_BUILD|SCM_DO_BUILD_DURING_DEPLOYMENT"
)
"""Settings that the Functions host reads, or the worker before the app is there."""

ROLES = {
    "AcrPull": "7f951dda-4ed3-4680-a7ca-43fe172d538d",
    "Container Registry Transfer Pipeline Contributor": "bf94e731-3a51-4a7c-8c54-a1ab9971dfc1",
    "Key Vault Crypto User": "12338af0-0e69-4776-bea7-57ae8d297424",
    "Key Vault Secrets User": "4633458b-17de-408a-b874-0445c86b69e6",
    "Monitoring Metrics Publisher": "3913510d-42f4-4e42-8a64-420c390055eb",
    "Storage Blob Data Contributor": "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
    "Storage Blob Data Owner": "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",
    "Storage Blob Data Reader": "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1",
    "Storage Queue Data Contributor": "974c5e8b-45b9-4653-ba55-5f855dd0fb88",
    "Storage Table Data Contributor": "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3",
}
"""https://learn.microsoft.com/azure/role-based-access-control/built-in-roles"""

NOT_PUBLIC = {
    ("Microsoft.Storage/storageAccounts", "allowBlobPublicAccess", False),
    ("Microsoft.Storage/storageAccounts", "minimumTlsVersion", "TLS1_2"),
    ("Microsoft.Storage/storageAccounts", "supportsHttpsTrafficOnly", True),
    ("Microsoft.Storage/storageAccounts/blobServices/containers", "publicAccess", "None"),
    ("Microsoft.KeyVault/vaults", "enableRbacAuthorization", True),
    ("Microsoft.KeyVault/vaults", "enableSoftDelete", True),
    ("Microsoft.KeyVault/vaults", "enablePurgeProtection", True),
    ("Microsoft.Insights/components", "DisableLocalAuth", True),
    ("Microsoft.Web/sites", "httpsOnly", True),
    ("Microsoft.Web/sites/basicPublishingCredentialsPolicies", "allow", False),
}


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


def resources(whole: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every resource, with the template that it stands in; those of modules, too."""
    for resource in whole["resources"]:
        yield resource, whole
        if resource["type"] == "Microsoft.Resources/deployments":
            yield from resources(resource["properties"]["template"])


def members(resource: dict[str, Any]) -> dict[str, Any]:
    """The properties of a resource, but for those that an expression is for as a whole."""
    found = resource.get("properties")
    return found if isinstance(found, dict) else {}


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


def grants(side: str) -> set[tuple[str, str, str]]:
    """All role assignments of a side: who, on what, which role by its name."""
    whole = template(side)
    found = set()
    for resource, where in resources(whole):
        deployed = members(resource).get("template", {}).get("resources", [])
        if not any(one["type"] == "Microsoft.Authorization/roleAssignments" for one in deployed):
            continue
        given = {name: value.get("value", "") for name, value in given_to(resource).items()}
        who = "pipeline" if where == whole else "app"
        for at in elements(resource, module(side, "foundation")["appGrants"]):
            role = valued(given["role"], where, at)
            found.add((who, place_of(given, where, at), next(name for name in ROLES if ROLES[name] == role)))
    return found


def given_to(resource: dict[str, Any]) -> dict[str, dict[str, str]]:
    """The arguments of a module; those that depend on a condition have no value."""
    found = resource["properties"]["parameters"]
    return {name: value if isinstance(value, dict) else {} for name, value in found.items()}


def place_of(given: dict[str, Any], where: dict[str, Any], at: Any) -> str:
    """What a role is on: a container, key, secret or table by its name, an account by what it is for."""
    for kind in ("container", "key", "secret"):
        if kind in given:
            return str(valued(given[kind], where, at))
    if "table" in given:
        return f"{valued(given['table'], where, at)} table"
    if "insightsName" in given:
        return "telemetry"
    if "registryName" in given:
        return "registry"
    return {"transferAccount": "transfer account", "hostAccount": "host account"}[given["accountName"][12:-3]]


def elements(resource: dict[str, Any], app_grants: list[Any]) -> list[Any]:
    """What the loop round a resource stands at, one after the other."""
    count = resource.get("copy", {}).get("count", "")
    return app_grants if "appGrants" in count else re.findall(r"'(\w+)'", count) or [None]


def valued(text: str, where: dict[str, Any], at: Any) -> str:
    """The value of the few expressions that name a place or a role; ``at`` is where the loop stands."""
    variables = where.get("variables", {})
    match re.findall(r"\w+", text) if text.startswith("[") else None:
        case None:
            return text
        case ["variables", "roles", "parameters", "appGrants", "copyIndex", "role"]:
            return str(variables["roles"][at["role"]])
        case ["parameters", "appGrants", "copyIndex", "container"]:
            return str(at["container"])
        case ["variables", "roles", "createArray", *_]:
            return str(variables["roles"][at])
        case ["variables", "roles", name] | ["variables", name]:
            return str(variables.get("roles", {}).get(name) or variables[name])
    raise AssertionError(f"not known here: {text}")


def rows() -> set[tuple[str, str, str]]:
    """As :func:`grants`, of ``infra/roles.json``, with the side before who it is."""
    listed = json.loads((FOLDER / "roles.json").read_text(encoding="utf-8"))
    return {(row["identity"], on, row["role"]) for row in listed for on in row["on"]}


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
    deployed, read = app_settings(side, hosting), {*asked.names, "TRANSFER_ROLE"}
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
        one["type"]: members(one) | {"whole": str(one)}
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
def test_containers_are_those_of_the_local_cloud(side: str) -> None:
    arguments = module(side, "foundation")
    assert sorted(arguments["containers"]) == sorted(CONTAINERS[side])  # type: ignore[index,unused-ignore]
    assert set(arguments["evidence"]) == {"ledger", "receipts", "journal", "custody"} & set(CONTAINERS[side])


def test_every_container_of_the_code_is_deployed_somewhere() -> None:
    named = {value for name, value in vars(paths).items() if name.isupper() and re.fullmatch("[a-z]+", value)}
    assert named == {container for side in SIDES for container in module(side, "foundation")["containers"]}


@pytest.mark.parametrize("side", SIDES)
def test_journal_table_and_signing_key_have_the_names_of_the_local_cloud(side: str) -> None:
    foundation = next(one for one in template(side)["resources"] if one["name"] == "foundation")
    variables = foundation["properties"]["template"]["variables"]
    assert (variables["journalTable"], variables["signingKey"]) == (JOURNAL_TABLE, SIGNING_KEY)


@pytest.mark.parametrize("side", SIDES)
def test_roles_are_those_of_the_list_and_no_others(side: str) -> None:
    expected = {(who.removeprefix(f"{side} "), on, role) for who, on, role in rows() if who.startswith(side)}
    assert grants(side) == expected


def test_table_of_the_page_is_that_list() -> None:
    assert roles.PAGE.read_text(encoding="utf-8") == roles.page()
    assert "| source app | `receipts` | Storage Blob Data Reader |" in roles.page()


def test_import_pipeline_can_read_one_container_and_write_nothing() -> None:
    assert {(on, role) for who, on, role in grants("target") if who == "pipeline"} == {
        ("transfer", "Storage Blob Data Reader"),
        ("acrimportsas", "Key Vault Secrets User"),
    }


@pytest.mark.parametrize("side", SIDES)
def test_nothing_is_open_that_need_not_be(side: str) -> None:
    seen = {
        (resource["type"], name, value)
        for resource, _ in resources(template(side))
        for name, value in members(resource).items()
        if isinstance(value, bool | str)
    }
    assert NOT_PUBLIC - seen == set()
    for kind, name, value in NOT_PUBLIC:
        assert {found for one, member, found in seen if (one, member) == (kind, name)} == {value}


def test_import_pipeline_starts_nothing_by_itself() -> None:
    pipelines = [one for one, _ in resources(template("target")) if one["type"].endswith("/importPipelines")]
    assert len(pipelines) == 2
    assert {one["properties"]["trigger"]["sourceTrigger"]["status"] for one in pipelines} == {"Disabled"}


def test_signing_key_never_leaves_the_vault() -> None:
    for side in SIDES:
        (key,) = [
            one for one, _ in resources(template(side)) if one["type"] == "Microsoft.KeyVault/vaults/keys"
        ]
        assert key["properties"]["attributes"] == {"enabled": True, "exportable": False}
        assert key["properties"]["keyOps"] == ["sign", "verify"]


@pytest.mark.parametrize("path", CLOUDS, ids=lambda path: path.stem)
def test_parameters_of_a_cloud_are_all_that_the_templates_ask_of_it(path: Path) -> None:
    cloud = json.loads(path.read_text(encoding="utf-8"))["parameters"]["cloud"]["value"]
    for side in SIDES:
        used = set(re.findall(r"parameters\('cloud'\)\.(\w+)", arm_path(side).read_text(encoding="utf-8")))
        assert used | {"name"} == cloud.keys()


@pytest.mark.parametrize("side", SIDES)
def test_names_are_short_enough_for_the_longest_prefix(side: str) -> None:
    longest = template(side)["parameters"]["prefix"]["maxLength"]
    assert longest + len("transfer") <= 24  # a storage account
    assert longest + len("-keys") <= 24  # a vault
    deployments = [one for one, _ in resources(template(side)) if one["type"].endswith("/deployments")]
    assert all(len(re.sub(r"\{\d\}", "x" * longest, one["name"])) < 200 for one in deployments)
