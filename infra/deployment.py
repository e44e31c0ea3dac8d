"""The deployment of one side: what-if, template, package, check; ``infra/deploy`` calls this.

It may be run again. Only failures that are known to pass by themselves are tried again (:data:`PASSING`), and
not for ever.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
import zipfile
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence  # noqa: UP035 - of Python 3.8

from infra.azure_cli import AzError, ToolError, az
from infra.checking import check

FOLDER = Path(__file__).resolve().parent
NOT_HERE = {
    "pipelinesas": "no SAS is given any more. Say when it ends, and the storage makes it: "
    "-p pipelineSasExpiry=2027-01-31T00:00:00Z",
    "trustpolicy": "use --policy FILE.",
}
"""What is never given on the command line, in lower case as ARM compares names, and what is done instead."""

PASSING = {
    # https://github.com/Azure/azure-quickstart-templates/issues/4945, and with principalType given, too:
    # https://github.com/MicrosoftDocs/azure-docs/issues/103085
    "PrincipalNotFound": "the new identity is not known everywhere yet",
    # Flex Consumption, the first package after the role was given:
    # https://www.powershellgallery.com/packages/ZeroFailed.Deploy.Azure/1.8.4
    "BlobUploadFailedException": "the app's role on its storage has not taken effect yet",
}
"""Words in failures that pass within minutes, and what they mean."""

REMEDIES = {
    # https://github.com/Azure/azure-cli/issues/19846; what-if does not see it
    "ConflictError": "A vault of this name was deleted and is kept, with its keys. Bring it back and deploy "
    "again:\n  az keyvault recover --name {prefix}-keys\nor take another prefix.",
    "RoleAssignmentUpdateNotPermitted": "The identity was made anew under its old name. Remove the role "
    "assignments of unknown identities on registry, accounts and vault, then deploy again.",
    "AuthorizationFailed": "Whoever deploys needs Owner, or Contributor and User Access Administrator, "
    "on this resource group and on the registry's.",
    "ResourceGroupNotFound": "Make it first: az group create --name {group} --location LOCATION",
    "RoleDefinitionLimitExceeded": "No more roles of our own fit into this tenant: -p appRoles=builtIn",
}
"""What to do about failures that do not pass, by their codes."""

_FIRST_WAIT_S, _LONGEST_WAIT_S = 15, 120
_COMPILED = re.compile(r"\.cpython-3(\d+)-x86_64-linux-gnu\.so$")
_START_S = 300
_UTC = timezone.utc  # noqa: UP017 - of Python 3.8


def main(arguments: Sequence[str] | None = None) -> int:
    """Deploy; returns 0 if all is right, 1 if something is not right yet, 2 if it was not done."""
    options = _parser().parse_args(arguments)
    try:
        return deploy(options)
    except ToolError as error:
        print(f"deploy: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="infra/deploy", description="Deploys one side, and may be run again."
    )
    parser.add_argument("side", choices=["source", "target"])
    parser.add_argument("--resource-group", "-g", required=True)
    parser.add_argument(
        "--parameters",
        required=True,
        type=Path,
        metavar="FILE",
        help="the cloud's: infra/parameters/public.json",
    )
    parser.add_argument(
        "-p",
        dest="given",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of the template",
    )
    parser.add_argument(
        "--policy", type=Path, metavar="FILE", help="the trust policy; that which is deployed if not given"
    )
    parser.add_argument("--package", type=Path, metavar="FILE", help="written by ./dev package")
    parser.add_argument("--no-package", action="store_true", help="leave the app's code as it is")
    parser.add_argument("--yes", action="store_true", help="do not ask after what-if")
    parser.add_argument(
        "--patience",
        type=int,
        default=600,
        metavar="SECONDS",
        help="for failures that pass; default: %(default)s",
    )
    return parser


def deploy(options: argparse.Namespace) -> int:
    """Carry out the deployment that was asked for; returns the exit code.

    Raises:
        ToolError: it was not done, or not to the end; running it again goes on.
    """
    given = _read_given(options.given)
    prefix = given.get("prefix")
    if prefix is None:
        raise ToolError("-p prefix=… is missing: it begins the name of everything.")
    chosen = {**_read_parameters(options.parameters), **given}
    if options.no_package == (options.package is not None):
        raise ToolError("Give --package FILE (./dev package writes it), or --no-package.")
    if options.package is not None:
        given["pythonVersion"] = _python_of(options.package, given.get("pythonVersion"))
    policy = None if options.policy is None else _read_json(options.policy)
    _require_sas_expiry(chosen)
    _require_cloud(chosen.get("cloud"))
    group = options.resource_group
    try:
        policy = policy or _deployed_policy(group, prefix)
    except AzError as error:
        raise _explained(error, group, prefix) from error
    with _private_file({"trustPolicy": policy}) as private:
        template = FOLDER / "arm" / f"{options.side}.json"
        words = [
            "--resource-group",
            group,
            "--template-file",
            str(template),
            "--name",
            f"airgap-{options.side}",
        ]
        words += ["--parameters", f"@{options.parameters}"]
        words += [] if private is None else ["--parameters", f"@{private}"]
        words += ["--parameters", *(f"{name}={value}" for name, value in given.items())]
        try:
            az("deployment", "group", "what-if", *words, shows=True)
            _require_consent(options)
            _patiently(options.patience, lambda: az("deployment", "group", "create", *words))
            if options.package is not None:
                _deploy_package(group, prefix, options)
        except AzError as error:
            raise _explained(error, group, prefix) from error
    return check(group, prefix, wait_s=_START_S if options.package is not None else 0)


def _deploy_package(group: str, prefix: str, options: argparse.Namespace) -> None:
    words = ["--resource-group", group, "--name", f"{prefix}-app", "--src", str(options.package)]
    verb = ("functionapp", "deployment", "source", "config-zip")
    _patiently(options.patience, lambda: az(*verb, *words, "--build-remote", "false"))


# --- what is given ----------------------------------------------------------------------------------------


def _read_given(pairs: Sequence[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if name.lower() in NOT_HERE:
            raise ToolError(f"{name} does not belong on a command line: {NOT_HERE[name.lower()]}")
        if "sig=" in pair.lower():  # other users of the machine see what az is called with
            raise ToolError(f"-p {name[:40]!r}: a SAS does not belong on a command line.")
        if not separator or not name.isalnum():
            raise ToolError(f"-p {pair[:40]!r} is not NAME=VALUE.")
        given[name] = value
    return given


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ToolError(f"{path}: {error.strerror}") from None
    return _object_of(content, str(path))


def _object_of(content: bytes | str, name: str) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ToolError(f"{name} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ToolError(f"{name} is not a JSON object.")
    return found


def _read_parameters(path: Path) -> dict[str, Any]:
    """The values in a parameters file, by name; ``None`` for what is a reference into a vault."""
    parameters = _read_json(path).get("parameters")
    if not isinstance(parameters, dict) or not all(isinstance(one, dict) for one in parameters.values()):
        raise ToolError(f'{path} is no parameters file: {{"parameters": {{"NAME": {{"value": …}}}}}}.')
    return {name: one.get("value") for name, one in parameters.items()}


def _require_sas_expiry(chosen: dict[str, Any]) -> None:
    """In SAS mode it is said when the SAS ends, for the storage makes it while the template is deployed."""
    expiry = str(chosen.get("pipelineSasExpiry") or "")
    if chosen.get("storageAccessMode") != "SasToken":
        return
    try:
        ends_at = datetime.strptime(expiry, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=_UTC)
    except ValueError:
        raise ToolError(
            "In SAS mode say when the SAS of the pipeline ends: -p pipelineSasExpiry=2027-01-31T00:00:00Z"
        ) from None
    if ends_at <= datetime.now(_UTC):
        raise ToolError(f"pipelineSasExpiry={expiry} is over: a later one makes a new SAS.")


def _python_of(package: Path, wanted: str | None) -> str:
    """The Python that a package is for, by its compiled files; ``wanted`` must be no other."""
    try:
        with zipfile.ZipFile(package) as archive:
            names = archive.namelist()
    except OSError as error:
        raise ToolError(f"{package}: {error.strerror}. ./dev package writes one.") from None
    except zipfile.BadZipFile:
        raise ToolError(f"{package} is no zip file. ./dev package writes one.") from None
    minors = {found.group(1) for found in map(_COMPILED.search, names) if found}
    if "function_app.py" not in names or len(minors) != 1:
        raise ToolError(f"{package} is no package of this app. ./dev package writes one.")
    version = f"3.{minors.pop()}"
    if wanted not in {None, version}:
        raise ToolError(f"{package} is for Python {version}, not {wanted}: ./dev package --python {wanted}")
    return version


# --- what is there ----------------------------------------------------------------------------------------


def _require_cloud(cloud: object) -> None:
    """Signed in, and to the cloud that the parameters are of."""
    if not isinstance(cloud, dict):
        raise ToolError(
            "The parameters name no cloud: take one of infra/parameters, or a copy of other.json."
        )
    try:
        az("account", "show")
    except AzError as error:
        raise ToolError("`az` is not signed in: az cloud set --name CLOUD, then az login") from error
    here = az("cloud", "show")["endpoints"]["resourceManager"].rstrip("/")
    there = str(cloud.get("armEndpoint", "")).rstrip("/")
    if here.lower() != there.lower():
        raise ToolError(
            f"`az` is at {here}, and the parameters are of {there}: az cloud set, or the other file."
        )


def _deployed_policy(group: str, prefix: str) -> dict[str, Any] | None:
    """The trust policy that the app has; deploying without one would take it away."""
    apps = az("functionapp", "list", "--resource-group", group)
    name = f"{prefix}-app"
    if name not in {app["name"] for app in apps}:
        return None
    settings = az("functionapp", "config", "appsettings", "list", "--resource-group", group, "--name", name)
    text = next((one["value"] for one in settings if one["name"] == "TRUST_POLICY"), "")
    if not text or text.startswith("@Microsoft.KeyVault("):
        return None
    policy = _object_of(text, "the app's TRUST_POLICY, in the place of which --policy FILE is taken,")
    print(f"The trust policy that is deployed stays: version {policy.get('version')}.")
    return policy


@contextmanager
def _private_file(values: dict[str, Any]) -> Iterator[str | None]:
    """A parameters file that nobody else may read, gone afterwards; ``None`` if there is nothing for it."""
    parameters = {name: {"value": value} for name, value in values.items() if value is not None}
    if not parameters:
        yield None
        return
    whole = {
        "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentParameters.json#",
        "contentVersion": "1.0.0.0",
        "parameters": parameters,
    }
    with tempfile.TemporaryDirectory(prefix="airgap-deploy-") as folder:  # of mode 0700
        path = Path(folder) / "parameters.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps(whole), encoding="utf-8")
        yield str(path)


def _require_consent(options: argparse.Namespace) -> None:
    if options.yes:
        return
    if not sys.stdin.isatty():
        raise ToolError(
            "Nothing was deployed. Nobody is here to ask: give --yes once what-if shows what you want."
        )
    if input(f"Deploy this to {options.resource_group}? [y/N] ").strip().lower() not in {"y", "yes"}:
        raise ToolError("Nothing was deployed.")


# --- failures ---------------------------------------------------------------------------------------------


def _patiently(patience_s: int, work: Callable[[], Any]) -> None:
    """Do it, and again while it fails in ways that pass, for at most so many seconds of waiting."""
    left, pause = patience_s, _FIRST_WAIT_S
    while True:
        try:
            work()
        except AzError as error:
            known = next((word for word in PASSING if word in error.text), None)
            if known is None or left <= 0:
                raise
            pause = min(pause, left)
            print(f"{known}: {PASSING[known]}. Again in {pause} seconds.", file=sys.stderr)
            time.sleep(pause)
            left, pause = left - pause, min(2 * pause, _LONGEST_WAIT_S)
        else:
            return


def _explained(error: AzError, group: str, prefix: str) -> ToolError:
    for code in reversed(error.codes):
        if code in REMEDIES:
            return ToolError(f"{code}. {REMEDIES[code].format(group=group, prefix=prefix)}")
    return error
