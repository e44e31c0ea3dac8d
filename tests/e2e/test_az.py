"""The real `az` at a cloud of this machine: signed in, both scripts run, and the extension's hint followed.

Only where `az` is on the path; seen with 2.91.0. What it asks, and how, is held by tests without it, too.
"""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.templates import FOLDER
from local_cloud.cloud import PROJECT, Cloud
from tests.e2e.conftest import Crossing

AZ = shutil.which("az")

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(900),
    pytest.mark.skipif(AZ is None, reason="no az here"),
]
PREFIX = "gaptarget"


class Az:
    """`az` with a configuration of its own, signed in to a cloud as its owner."""

    def __init__(self, cloud: Cloud, folder: Path) -> None:
        self.cloud = cloud
        self.folder = folder
        self.environment = {
            "PATH": os.environ["PATH"],
            "AZURE_CONFIG_DIR": str(folder / "az"),
            "AZURE_CORE_COLLECT_TELEMETRY": "no",
            "AZURE_CORE_INSTANCE_DISCOVERY": "false",
            "REQUESTS_CA_BUNDLE": str(cloud.ca.ca_file),
            "SSL_CERT_FILE": str(cloud.ca.ca_file),
        }
        owner = cloud.machine.owner
        self("cloud", "register", "--name", "Local", "--endpoint-resource-manager", cloud.url("arm"))
        self("cloud", "set", "--name", "Local")
        named = ("--username", owner.client_id, "--password", owner.secret)
        self("login", "--service-principal", *named, "--tenant", cloud.tokens.tenant_id)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command beside it, with what it knows."""
        return subprocess.run(
            command, env=self.environment, cwd=PROJECT, capture_output=True, text=True, check=False
        )

    def __call__(self, *words: str) -> Any:
        done = self.run(str(AZ), *words, "--output", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout or "null")

    def script(self, name: str, *words: str) -> tuple[int, str]:
        """A script of infra/: its exit code, and all that it said."""
        done = self.run(sys.executable, f"infra/{name}", *words)
        return done.returncode, done.stdout + done.stderr

    def parameters(self) -> str:
        """The file of parameters of this cloud."""
        whole = json.loads((FOLDER / "parameters" / "local.json").read_text(encoding="utf-8"))
        whole["parameters"]["cloud"]["value"]["armEndpoint"] = self.cloud.url("arm")
        path = self.folder / "parameters.json"
        path.write_text(json.dumps(whole), encoding="utf-8")
        return str(path)


def test_az_deploys_a_side_and_checks_it(make_crossing: Callable[[], Crossing], tmp_path: Path) -> None:
    crossing = make_crossing()
    cloud = crossing.demo.target
    crossing.run(cloud.machine.start())
    az = Az(cloud, tmp_path)
    registry = ("-p", "registryName=acrtarget", "-p", "registryResourceGroup=registries")
    deploy = ("target", "-g", "airgap", "--parameters", az.parameters(), "-p", f"prefix={PREFIX}", *registry)

    code, said = az.script("deploy", *deploy, "--no-package", "--yes")
    assert " to create." in said, said
    assert code == 2  # nothing is running yet: the check could not ask
    crossing.run(cloud.start_app())
    code, said = az.script("deploy", *deploy, "--no-package", "--yes")
    assert " to deploy." in said, said
    assert " to create" not in said, said
    wrong = [line.split()[1] for line in said.splitlines() if line.startswith("NOT ")]
    assert (code, wrong) == (1, ["trust-policy:"]), said

    package = tmp_path / "package.zip"
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("host.json", "{}")
    named = ("--resource-group", "airgap", "--name", f"{PREFIX}-app")
    zip_deploy = ("functionapp", "deployment", "source", "config-zip", *named, "--src", str(package))
    az(*zip_deploy, "--build-remote", "false")
    assert cloud.machine.app_service.package == package.read_bytes()

    (app,) = (one for one in az("identity", "list", "-g", "airgap") if one["name"] == f"{PREFIX}-app")
    account = f"{cloud.group_id}/providers/Microsoft.Storage/storageAccounts/{PREFIX}transfer"
    container = f"{account}/blobServices/default/containers/custody"
    az("role", "assignment", "delete", "--assignee", app["principalId"], "--scope", container)
    code, said = az.script("check", "-g", "airgap", "--prefix", PREFIX)
    assert code == 1
    assert "NOT  container-custody" in said, said


def test_role_that_the_extension_names_lets_a_pipeline_work(
    make_crossing: Callable[[], Crossing], tmp_path: Path
) -> None:
    """`az acr export-pipeline create` ends with the command that gives it; here its scope is another."""
    crossing = make_crossing()
    cloud = crossing.demo.source
    crossing.run(cloud.connect())
    az = Az(cloud, tmp_path)
    reference = crossing.demo.push_samples(layer_bytes_total=300_000)[0]
    target = {
        "type": "AzureStorageBlobContainer",
        "uri": cloud.container_url,
        "storageAccessMode": "ManagedIdentity",
    }
    ask = f"{cloud.registry_id}/{{}}?api-version=2025-06-01-preview"

    def put(path: str, properties: dict[str, Any], **more: Any) -> Any:
        body = json.dumps({"properties": properties, **more})
        return az("rest", "--method", "put", "--url", ask.format(path), "--body", body)

    identity = {"type": "SystemAssigned"}
    pipeline = put("exportPipelines/byhand", {"target": target, "options": ["Unknown"]}, identity=identity)

    def state_of_run(name: str) -> str:
        blob = {"type": "AzureStorageBlob", "name": f"{name}.tar"}
        request = {"pipelineResourceId": pipeline["id"], "target": blob, "artifacts": [reference]}
        put(f"pipelineRuns/{name}", {"request": request})
        shown: dict[str, Any] = {"provisioningState": "Running"}
        while shown["provisioningState"] not in ("Failed", "Succeeded"):
            run = az("rest", "--method", "get", "--url", ask.format(f"pipelineRuns/{name}"))
            shown = run["properties"]
        return str(shown["provisioningState"])

    scope = f"{cloud.group_id}/providers/Microsoft.Storage/storageAccounts/gapsourcetransfer"
    given = ("--assignee", pipeline["identity"]["principalId"], "--role", "Storage Blob Data Contributor")
    assert state_of_run("before") == "Failed"
    first, again = (az("role", "assignment", "create", *given, "--scope", scope) for _ in range(2))
    assert first["id"] == again["id"]
    assert state_of_run("after1") == "Succeeded"
