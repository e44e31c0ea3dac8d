"""The real `az` at a cloud of this machine: signed in, both scripts run, and the extension's hint followed.

Only where `az` is on the path; seen with 2.91.0. What it asks, and how, is held by tests without it, too.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from infra.templates import FOLDER
from local_cloud.az import Az
from local_cloud.cloud import PROJECT, Cloud, CloudError
from tests.e2e.conftest import Crossing

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("az") is None, reason="no az here"),
]
PREFIX = "gaptarget"


def script(az: Az, name: str, *words: str) -> tuple[int, str]:
    """A script of infra/: its exit code, and all that it said."""
    done = az.run(sys.executable, f"infra/{name}", *words)
    return done.returncode, done.stdout + done.stderr


def parameters(cloud: Cloud, folder: Path) -> str:
    """The file of parameters of this cloud."""
    whole = json.loads((FOLDER / "parameters" / "local.json").read_text(encoding="utf-8"))
    whole["parameters"]["cloud"]["value"]["armEndpoint"] = cloud.url("arm")
    path = folder / "parameters.json"
    path.write_text(json.dumps(whole), encoding="utf-8")
    return str(path)


@contextmanager
def kept_demo(folder: Path) -> Iterator[str]:
    """``./dev demo --az --keep`` while it is up: what it has printed."""
    with subprocess.Popen(
        [sys.executable, "-m", "local_cloud.demo", "--az", "--keep", "--folder", str(folder)],
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        printed = []
        for line in demo.stdout:
            printed.append(line)
            if "Ctrl-C ends it." in line:
                break
        try:
            yield "".join(printed)
        finally:
            demo.send_signal(signal.SIGINT)
            demo.stdout.read()


def pasted(printed: str, side: str) -> subprocess.CompletedProcess[str]:
    """The lines for a side's `az`, and after them the deployment, as they stand on the screen."""
    found = re.search(f"^az at the {side}, .*\n((?:  .*\n)+)The reg.*\n  (.*)", printed, re.MULTILINE)
    assert found is not None, printed
    return subprocess.run(
        [str(shutil.which("bash")), "-c", f"set -e\n{found[1]}\n{sys.executable} {found[2]} --yes"],
        cwd=PROJECT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )


def test_demo_runs_on_what_az_has_deployed_and_its_lines_sign_another_shell_in(tmp_path: Path) -> None:
    with kept_demo(tmp_path / "demo") as printed:
        assert "Everything was as said" in printed
        # each side once with its keys made, and once more with the trust policy that names them
        assert printed.count("$ az deployment group create") == 4
        for side in ("source", "target"):
            done = pasted(printed, side)
            assert done.returncode == 0, done.stdout + done.stderr
            assert f"The {side} is ready" in done.stdout


def test_az_deploys_a_side_and_checks_it(make_crossing: Callable[[], Crossing], tmp_path: Path) -> None:
    crossing = make_crossing()
    cloud = crossing.demo.target
    crossing.run(cloud.machine.start())
    az = Az(cloud)
    registry = ("-p", "registryName=acrtarget", "-p", "registryResourceGroup=registries")
    deploy = (
        "target",
        "-g",
        "airgap",
        "--parameters",
        parameters(cloud, tmp_path),
        "-p",
        f"prefix={PREFIX}",
        *registry,
    )

    code, said = script(az, "deploy", *deploy, "--no-package", "--yes")
    assert " to create." in said, said
    assert code == 2  # nothing is running yet: the check could not ask
    crossing.run(cloud.start_app())
    code, said = script(az, "deploy", *deploy, "--no-package", "--yes")
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
    code, said = script(az, "check", "-g", "airgap", "--prefix", PREFIX)
    assert code == 1
    assert "NOT  container-custody" in said, said


def test_package_comes_to_flex_as_it_is(make_crossing: Callable[[], Crossing], tmp_path: Path) -> None:
    """Unless it is told otherwise, `az` has the app built there: for that a package index must be reached."""
    crossing = make_crossing()
    cloud = crossing.demo.target
    crossing.run(cloud.machine.start())
    crossing.run(cloud.deploy(hosting="flex"))
    crossing.run(cloud.start_app())
    package = tmp_path / "package.zip"
    with zipfile.ZipFile(package, "w") as archive:
        for name in ("host.json", "function_app.py", "x/_core.cpython-311-x86_64-linux-gnu.so"):
            archive.writestr(name, "")
    az = Az(cloud)
    named = ("--resource-group", "airgap", "--name", f"{PREFIX}-app", "--src", str(package))
    with pytest.raises(CloudError, match="no package index is reached"):
        az("functionapp", "deployment", "source", "config-zip", *named)

    given = ("-g", "airgap", "--parameters", str(cloud.parameters_file), "-p", f"prefix={PREFIX}")
    code, said = script(az, "deploy", "target", *given, "--package", str(package), "--yes")
    assert "NOT  trust-policy" in said, said
    assert code == 1
    with cloud.machine.azurite.of(f"{PREFIX}host").service_client() as service:
        stored = service.get_blob_client("app-package", "released-package.zip").download_blob().readall()
    assert (stored, cloud.machine.app_service.package) == (package.read_bytes(), package.read_bytes())


def test_pipelines_by_hand_work_with_the_role_that_the_extension_names(
    make_crossing: Callable[[], Crossing],
) -> None:
    """What `az acr export-pipeline`, `import-pipeline` and `pipeline-run` ask ARM for, asked by `az rest`.

    The first two end with the command that gives the role; here its scope is another.
    """
    crossing = make_crossing()
    source, target = crossing.demo.source, crossing.demo.target
    for cloud in (source, target):
        crossing.run(cloud.connect())
    reference = crossing.demo.push_samples(layer_bytes_total=300_000)[0]
    exporting = ByHand(source, "exportPipelines", "target")
    exporting.run_is("Failed", "before", {"artifacts": [reference]})
    exporting.give("Storage Blob Data Contributor")
    exporting.run_is("Succeeded", "after1", {"artifacts": [reference]})

    with source.azurite.service_client() as there, target.azurite.service_client() as here:
        blob = there.get_blob_client("transfer", "after1.tar").download_blob().readall()
        for name in ("before.tar", "after1.tar"):
            here.get_blob_client("transfer", name).upload_blob(blob)
    importing = ByHand(target, "importPipelines", "source")
    importing.run_is("Failed", "before", {})
    importing.give("Storage Blob Data Reader")
    importing.run_is("Succeeded", "after1", {})
    demo = crossing.demo
    assert demo.digests(target, [reference]) == demo.digests(source, [reference])


class ByHand:
    """A pipeline of its own beside the one that is deployed; ``side`` is what it calls its storage."""

    def __init__(self, cloud: Cloud, kind: str, side: str) -> None:
        self._side = side
        self._az = Az(cloud)
        self._registry_id = cloud.registry_id
        self._account_id = (
            f"{cloud.group_id}/providers/Microsoft.Storage/storageAccounts/{cloud.prefix}transfer"
        )
        storage = {
            "type": "AzureStorageBlobContainer",
            "uri": cloud.container_url,
            "storageAccessMode": "ManagedIdentity",
        }
        properties: dict[str, Any] = {side: storage, "options": ["Unknown"]}
        if side == "source":
            properties["trigger"] = {"sourceTrigger": {"status": "Disabled"}}
        identity = {"type": "SystemAssigned"}
        self._pipeline = self._ask("put", f"{kind}/byhand", {"identity": identity, "properties": properties})

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        url = f"{self._registry_id}/{path}?api-version=2025-06-01-preview"
        sent = () if body is None else ("--body", json.dumps(body))
        return self._az("rest", "--method", method, "--url", url, *sent)

    def give(self, role: str) -> None:
        """Give the pipeline a role on its account, twice, as somebody does who is not sure."""
        who = ("--assignee", self._pipeline["identity"]["principalId"], "--role", role)
        first, again = (
            self._az("role", "assignment", "create", *who, "--scope", self._account_id) for _ in range(2)
        )
        assert first["id"] == again["id"]

    def run_is(self, state: str, name: str, more: dict[str, Any]) -> None:
        """Start a run, and wait until it ends in that state."""
        blob = {"type": "AzureStorageBlob", "name": f"{name}.tar"}
        request = {"pipelineResourceId": self._pipeline["id"], self._side: blob, **more}
        self._ask("put", f"pipelineRuns/{name}", {"properties": {"request": request}})
        shown = {"provisioningState": "Running"}
        while shown["provisioningState"] not in ("Failed", "Succeeded"):
            shown = self._ask("get", f"pipelineRuns/{name}")["properties"]
        assert shown["provisioningState"] == state, shown


def roles_of(cloud: Cloud) -> set[tuple[str, str, str]]:
    """Of app and pipeline: who has which role where; the subscription's id left out."""
    machine = cloud.machine
    return {
        (
            "app" if one.principal_id == machine.app_principal else "pipeline",
            machine.assignments.name_of(one),
            one.scope.lower().partition("/resourcegroups/")[2],
        )
        for one in machine.assignments
        if one.principal_id != cloud.owner_principal
    }


def test_what_the_other_import_way_leaves_is_deleted_as_the_page_says(
    make_crossing: Callable[[], Crossing],
) -> None:
    page = (PROJECT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = page.partition("### What the other way leaves")[2].partition("\n### ")[0]
    names, to_staged, to_direct = re.findall(r"^```\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    for example, name in (
        ("airgap-target", "airgap"),
        ("contosogaptgt", PREFIX),
        ("contosotgt", "acrtarget"),
    ):
        assert example in names
        names = names.replace(example, name)
    of_other_mode = re.compile(r".*\$\{SECRET:\?\}.*\n")
    fresh = make_crossing()
    fresh.demo.target.import_way = "staged"
    fresh.run(fresh.demo.target.connect())
    crossing = make_crossing()
    cloud = crossing.demo.target
    crossing.run(cloud.connect())
    direct, staged = roles_of(cloud), roles_of(fresh.demo.target)
    az = Az(cloud)
    cloud.deployer = lambda it: az.deploy(it.parameters_file)
    for way, deletions, roles in (("staged", to_staged, staged), ("direct", to_direct, direct)):
        crossing.run(cloud.deploy(importWay=way), timeout_s=400)
        assert roles_of(cloud) > roles
        done = az.run(str(shutil.which("bash")), "-euc", names + of_other_mode.sub("", deletions))
        assert done.returncode == 0, done.stderr
        assert roles_of(cloud) == roles
    assert cloud.staging_registry is None
