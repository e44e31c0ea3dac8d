"""The check of a deployed side: its app is asked whether it is ready; ``infra/check`` calls this.

The app itself looks at what it needs (``GET /api/preflight``, docs/api.md): only its rights count. What it
has no right to see is asked through ``az``: the registry's SKU and policy; the firewall of the account that
pipelines come to; where imports are staged, whether the real registry still has the import pipeline; and what
roles the pipeline's identity has.
The host's master key is fetched by ``az`` and travels in a header: in no argument, and on no screen.
"""

from __future__ import annotations

import argparse
import json
import ssl
import sys
import time
import urllib.error
import urllib.request
from typing import Any, Iterator, Mapping, Sequence  # noqa: UP035 - of Python 3.8

from infra.azure_cli import AzError, ToolError, az

_ANSWER_S = 120
_BETWEEN_S = 10
_MAX_BYTES = 1024 * 1024
_BLOB_READER = "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1"
_ROLES_VERSION = "api-version=2022-04-01"
_PIPELINES_VERSION = "api-version=2019-12-01-preview"  # which every cloud knows
_REGISTRY_VERSION = "api-version=2023-07-01"
_STORAGE_VERSION = "api-version=2023-01-01"
_RIGHTS = "pipeline-rights"
_HOST = "/admin/host/status"
_STARTING = {404, 502, 503}
"""What is answered for an app whose functions are not loaded yet, or whose host starts."""


class NotStartedError(ToolError):
    """The app has no functions yet, or nobody answers; both may pass."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask and print; returns 0 if all is right, 1 if something is not, 2 if it could not be asked."""
    parser = argparse.ArgumentParser(
        prog="infra/check", description="Prints what is not right yet with a side that is deployed."
    )
    parser.add_argument("--resource-group", "-g", required=True)
    parser.add_argument("--prefix", required=True, help="the prefix that it was deployed with")
    parser.add_argument("--wait", type=int, default=0, metavar="SECONDS", help="for the app to start")
    options = parser.parse_args(arguments)
    try:
        return check(options.resource_group, options.prefix, wait_s=options.wait)
    except ToolError as error:
        print(f"check: {error}", file=sys.stderr)
        return 2


def check(group: str, prefix: str, *, wait_s: int) -> int:
    """Ask the app and print what it says; returns 0 if all is right, else 1.

    Raises:
        ToolError: the app could not be asked.
    """
    name = f"{prefix}-app"
    app = ("--resource-group", group, "--name", name)
    shown = az("functionapp", "show", *app)
    host = (shown.get("properties") or shown).get("defaultHostName")
    try:
        key = az("functionapp", "keys", "list", *app)["masterKey"]
    except AzError as error:
        raise ToolError(
            f"the keys of {name} could not be read. Whoever checks needs the right "
            "Microsoft.Web/sites/host/listkeys/action, as Contributor has it. Right after the first package "
            "the host has none yet: wait a minute, then infra/check."
        ) from error
    report = _ask_app(f"https://{host}", key, wait_s=wait_s)
    told = az("functionapp", "config", "appsettings", "list", *app)
    settings = {one["name"]: one["value"] for one in told}
    group_id = str(shown.get("id")).partition("/providers/")[0]
    account = f"{group_id}/providers/Microsoft.Storage/storageAccounts/{prefix}transfer"
    report["checks"] += registry_terms(settings, report["role"])
    report["checks"] += transfer_firewall(account)
    if report["role"] == "target":
        report["checks"] += left_pipeline(settings)
        report["checks"] += pipeline_rights(settings, account)
    return show(report)


def _ask_app(url: str, key: str, *, wait_s: int) -> dict[str, Any]:
    """What the app says of itself, with what its host says; a host that does not run says why at least.

    Raises:
        ToolError: the app could not be asked.
    """
    try:
        report = ask(f"{url}/api/preflight", key, wait_s=wait_s)
    except NotStartedError as error:
        try:
            told = functions_host(ask(f"{url}{_HOST}", key, wait_s=0))
        except ToolError:
            raise error from None
        raise ToolError(f"{error}\nThe host: {told['detail']}. {told['remedy']}") from error
    try:
        told = functions_host(ask(f"{url}{_HOST}", key, wait_s=0))
    except ToolError as error:  # what the app has found is told all the same
        told = {
            "id": "functions-host",
            "ok": False,
            "detail": str(error)[:300],
            "remedy": f"Let whoever checks come to {_HOST}, too.",
        }
    report["checks"].append(told)
    return report


def functions_host(status: Mapping[str, Any]) -> dict[str, Any]:
    """The check that the Functions host runs without errors, by its own status.

    It tells the version of the extension bundle. Without that bundle, which is downloaded where the instance
    has none in store, there are no blob triggers and no Durable Functions, and the host does not run.
    https://learn.microsoft.com/azure/azure-functions/functions-bindings-register
    """
    bundle = status.get("extensionBundle") or {}
    errors = [str(one)[:300] for one in status.get("errors") or []]
    state = str(status.get("state"))[:40]
    told = [state, *(f"{bundle[name]}" for name in ("id", "version") if bundle.get(name)), *errors[:3]]
    return {
        "id": "functions-host",
        "ok": state == "Running" and not errors,
        "detail": ", ".join(told),
        "remedy": "If it is about the extension bundle: the app must reach where that is downloaded, "
        "cdn.functions.azure.com, or the cloud's own. Then restart the app: az functionapp restart.",
    }


def registry_terms(settings: Mapping[str, str], role: str) -> list[dict[str, Any]]:
    """The check that the pipeline's registry is one that has pipelines, and at the source may be exported.

    ACR Transfer is for Premium registries, and a disabled ``exportPolicy`` ends exports.
    https://learn.microsoft.com/azure/container-registry/container-registry-transfer-prerequisites
    https://learn.microsoft.com/azure/container-registry/data-loss-prevention
    """
    registry = settings.get("STAGING_REGISTRY_RESOURCE_ID") or settings.get("REGISTRY_RESOURCE_ID")
    if not registry:
        return []  # a setting that is missing is told by the app
    name = registry.rpartition("/")[2]
    try:
        found = az("rest", "--method", "get", "--url", f"{registry}?{_REGISTRY_VERSION}")
        sku = str(found["sku"]["name"])
        policies = found["properties"].get("policies") or {}
        export = str((policies.get("exportPolicy") or {}).get("status", "enabled"))
    except (AzError, KeyError, TypeError, AttributeError):
        remedy = "Whoever checks needs Reader on the registry."
        return [_told("registry-terms", False, f"{name} could not be asked for its SKU", remedy)]
    if sku.lower() != "premium":
        remedy = f"az acr update --name {name} --sku Premium"
        return [_told("registry-terms", False, f"{name} is {sku}; only Premium has pipelines", remedy)]
    if role == "source" and export.lower() == "disabled":
        detail = f"the policy of {name} forbids exports"
        remedy = f"Have its owner allow them: az acr update --name {name} --allow-exports true"
        return [_told("registry-terms", False, detail, remedy)]
    return [_told("registry-terms", True, f"{name} is {sku}", "")]


def transfer_firewall(account: str) -> list[dict[str, Any]]:
    """The check that no firewall keeps ACR Transfer out of the account ``PREFIXtransfer``.

    The service is none of those that a storage firewall lets through: a run ends with status 403.
    https://github.com/Azure/acr/issues/857
    """
    name = account.rpartition("/")[2]
    try:
        url = f"{account}?{_STORAGE_VERSION}"
        properties = az("rest", "--method", "get", "--url", url)["properties"]
        rule = str((properties.get("networkAcls") or {}).get("defaultAction", "Allow"))
        access = str(properties.get("publicNetworkAccess") or "Enabled")
    except (AzError, KeyError, TypeError, AttributeError):
        remedy = "Whoever checks needs Reader on the storage account."
        return [_told("transfer-firewall", False, f"{name} could not be asked for its firewall", remedy)]
    if rule.lower() == "allow" and access.lower() == "enabled":
        return [_told("transfer-firewall", True, f"{name} is open to every network", "")]
    detail = f"the firewall of {name} keeps ACR Transfer out (public access {access}, default {rule})"
    remedy = (
        f"az storage account update --name {name} --public-network-access Enabled --default-action Allow: "
        "ACR Transfer has no other way in. Whom the account lets in, its roles say"
    )
    return [_told("transfer-firewall", False, detail, remedy)]


def left_pipeline(settings: Mapping[str, str]) -> list[dict[str, Any]]:
    """The check of a staged side that no import pipeline of the app's is left in the real registry.

    Whoever may start runs of such a pipeline imports past the staging registry. Deployments take nothing
    away, so it stays when ``importWay`` becomes ``staged``. A question that cannot be asked counts as not
    right. Not checked: roles that are left of the app; those of the pipeline :func:`pipeline_rights` checks.
    """
    registry, name = settings.get("REGISTRY_RESOURCE_ID"), settings.get("IMPORT_PIPELINE")
    if not settings.get("STAGING_REGISTRY_RESOURCE_ID") or not registry or not name:
        return []  # a setting that is missing is told by the app
    try:
        found = az("rest", "--method", "get", "--url", f"{registry}/importPipelines?{_PIPELINES_VERSION}")
        names = [str(one["name"]).rpartition("/")[2].lower() for one in found["value"]]
        is_whole = not found.get("nextLink")
    except (AzError, KeyError, TypeError):
        names, is_whole = [], False
    is_left = name.lower() in names
    seen = "has" if is_left else "has no" if is_whole else "could not be asked for"
    detail = f"{registry.rpartition('/')[2]} {seen} import pipeline {name}; imports are staged"
    remedy = "Whoever checks needs Reader on the registry."
    if is_left:
        remedy = "Delete what direct imports have left (docs/operations.md, Two ways to import)."
    return [_told("left-pipeline", is_whole and not is_left, detail, remedy)]


def pipeline_rights(settings: Mapping[str, str], account: str) -> list[dict[str, Any]]:
    """The check that the pipeline's identity may read the container ``transfer``, and nothing else there.

    Asked are the roles that it has on the account, on parts of it and above it, also by groups that it is in.
    The app does not ask this before each import: ``docs/adr/0021-rights-of-the-pipelines-identity.md``.
    """
    registry = settings.get("STAGING_REGISTRY_RESOURCE_ID") or settings.get("REGISTRY_RESOURCE_ID")
    name = settings.get("IMPORT_PIPELINE")
    if not registry or not name:
        return []  # as above
    remedy = "Whoever checks needs Reader on the registry and on the storage account."
    try:
        url = f"{registry}/importPipelines/{name}?{_PIPELINES_VERSION}"
        principals = list(_principals(az("rest", "--method", "get", "--url", url)["identity"]))
        roles = [role for principal in principals for role in _roles_of(principal, account)]
    except (AzError, KeyError, TypeError, AttributeError):
        detail = f"{name} could not be asked for its identity and its roles"
        return [_told(_RIGHTS, False, detail, remedy)]
    wanted = (f"{account}/blobServices/default/containers/transfer".lower(), _BLOB_READER)
    is_by_identity = not settings.get("PIPELINE_SAS_EXPIRES_AT")
    surplus = [role for role in roles if role != wanted or not is_by_identity]
    if surplus:
        scope, role = surplus[0]
        told = f"the identity of {name} has {len(surplus)} roles too many, such as {role} on {scope}"
        remedy = "Remove them: az role assignment list --all --assignee-object-id … shows them."
        return [_told(_RIGHTS, False, told, remedy)]
    if is_by_identity and not roles:
        told = f"the identity of {name} may not read the container transfer"
        return [_told(_RIGHTS, False, told, "Run infra/deploy again; a new role takes some minutes.")]
    return [_told(_RIGHTS, True, f"the identity of {name} has no role but it needs on the account", "")]


def _told(name: str, is_ok: bool, detail: str, remedy: str) -> dict[str, Any]:
    """A check as the app tells its own."""
    return {"id": name, "ok": is_ok, "detail": detail, "remedy": remedy}


def _principals(identity: Mapping[str, Any]) -> Iterator[str]:
    """The object ids that a pipeline goes by: its own, or those of the identities that it was given."""
    given = list((identity.get("userAssignedIdentities") or {}).values())
    found = [one["principalId"] for one in ([*given] if given else [identity])]
    yield from (str(principal) for principal in found)


def _roles_of(principal: str, account: str) -> Iterator[tuple[str, str]]:
    """Scope, in lower case, and role of each assignment that counts for an identity on an account.

    https://learn.microsoft.com/azure/role-based-access-control/role-assignments-list-rest
    """
    kind = "Microsoft.Authorization/roleAssignments"
    url: str | None = f"{account}/providers/{kind}"
    parameters = ["--url-parameters", _ROLES_VERSION, f"$filter=assignedTo('{principal}')"]
    while url:
        page = az("rest", "--method", "get", "--url", url, *parameters)
        for one in page["value"]:
            properties = one["properties"]
            yield str(properties["scope"]).lower(), str(properties["roleDefinitionId"]).rpartition("/")[2]
        url, parameters = page.get("nextLink"), []  # which has them


def ask(url: str, key: str, *, wait_s: int) -> dict[str, Any]:
    """The app's answer; while the app starts it is asked again, for ``wait_s`` seconds.

    Raises:
        ToolError: there was no answer, or none that can be read.
    """
    request = urllib.request.Request(url, headers={"x-functions-key": key})  # noqa: S310 - https, see above
    trusted = ssl.create_default_context()
    deadline = time.monotonic() + wait_s
    while True:
        try:
            with urllib.request.urlopen(request, timeout=_ANSWER_S, context=trusted) as answer:  # noqa: S310
                found: dict[str, Any] = json.loads(answer.read(_MAX_BYTES))
                return found
        except urllib.error.HTTPError as error:
            is_starting, why = error.code in _STARTING, _remedy(error.code)
        except (OSError, ValueError) as error:
            is_starting = not isinstance(getattr(error, "reason", None), ssl.SSLCertVerificationError)
            why = (
                f"{error}. Can this machine reach the app? Behind a proxy that inspects TLS: export "
                "SSL_CERT_FILE=/path/to/ca.pem"
            )
        if not is_starting or time.monotonic() + _BETWEEN_S > deadline:
            raise (NotStartedError if is_starting else ToolError)(f"{url}: {why}")
        time.sleep(_BETWEEN_S)


def _remedy(status: int) -> str:
    if status in {401, 403}:
        return (
            f"HTTP {status}. Where App Service authentication is on, a key alone lets nobody in: exclude "
            "/api/preflight from it. Access restrictions answer 403, too."
        )
    if status in _STARTING:
        return (
            f"HTTP {status}: the app has no functions yet. Has it a package (infra/deploy), is its Python "
            "the package's, and does the host come to its storage? `az webapp log tail` shows why."
        )
    return f"HTTP {status}: see the app's log."


def show(report: dict[str, Any]) -> int:
    """Print the checks, those that are not right with their remedies; returns 0 if all are right, else 1."""
    checks = report["checks"]
    wrong = [one for one in checks if not one["ok"]]
    for one in checks:
        print(f"{'ok ' if one['ok'] else 'NOT'}  {one['id']}: {one['detail']}")
        if not one["ok"]:
            print(f"     -> {one['remedy']}")
    if wrong:
        print(f"\nThe {report['role']} is not ready: {len(wrong)} of {len(checks)} checks.")
    else:
        print(f"\nThe {report['role']} is ready (version {report['version']}).")
    return 1 if wrong or not report["ok"] else 0
