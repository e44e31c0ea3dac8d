"""``infra/deploy`` and ``infra/check`` on an ``az`` that notes its calls and answers as the real one does."""

import http.server
import json
import os
import re
import ssl
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra import checking, deployment
from infra.roles import BUILT_IN
from infra.templates import FOLDER
from local_cloud.pki import CertificateAuthority
from tests.infra.fake_az import (
    INVALID,
    NO_GROUP,
    NOT_SIGNED_IN,
    PRINCIPAL_NOT_FOUND,
    UPLOAD_IS_FORBIDDEN,
    VAULT_IS_DELETED,
    WHAT_IF_IS_FORBIDDEN,
    FakeAz,
)

POLICY = {"schema": 1, "version": 7}
SAS = "sv=2022-11-02&sp=alrw&spr=https&sig=c2VjcmV0c2VjcmV0"
KEY = "the-master-key-of-the-host"
REGISTRY = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerRegistry/registries/contoso"
PIPELINE = "airgap01"
ASK = "rest --method get --url "
ASK_PIPELINE = f"{ASK}{REGISTRY}staging/importPipelines/{PIPELINE}?"
ACCOUNT = (
    "/subscriptions/s/resourceGroups/group/providers/Microsoft.Storage/storageAccounts/contosogaptransfer"
)
PREMIUM = {"sku": {"name": "Premium", "tier": "Premium"}, "properties": {"policies": {}}}
SETTINGS = "functionapp config appsettings list"
CREATE, PACKAGE = "deployment group create", "functionapp deployment source config-zip"
READY = {
    "role": "target",
    "version": "0.1.0",
    "ok": True,
    "checks": [{"id": "settings", "ok": True, "detail": "all settings can be read", "remedy": ""}],
}
NOT_READY = {
    "role": "target",
    "version": "0.1.0",
    "ok": False,
    "checks": [
        *READY["checks"],  # type: ignore[misc]
        {"id": "source-trigger", "ok": False, "detail": "Enabled", "remedy": "Deploy again."},
    ],
}


HOST_STATUS = "/admin/host/status"
BUNDLE = {"id": "Microsoft.Azure.Functions.ExtensionBundle", "version": "4.31.0"}
RUNNING = {"state": "Running", "version": "4.1040.300.0", "extensionBundle": BUNDLE}
NO_BUNDLE = {"state": "Error", "errors": ["Unable to download the extension bundle"]}


class App:
    """What the app's host answers, and which keys it was asked with."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any]] = [(200, READY)]
        self.host: tuple[int, Any] = (200, RUNNING)
        self.asked: list[tuple[str, str]] = []


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, az: FakeAz) -> Iterator[App]:
    told = App()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.asked.append((self.path, self.headers.get("x-functions-key", "")))
            if self.path == HOST_STATUS:
                status, body = told.host
            else:
                status, body = told.answers.pop(0) if len(told.answers) > 1 else told.answers[0]
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    ca = CertificateAuthority.create(tmp_path / "pki")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*ca.issue("app"))
    monkeypatch.setenv("SSL_CERT_FILE", str(ca.ca_file))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = {"defaultHostName": f"127.0.0.1:{server.server_address[1]}"}
        site = "/subscriptions/s/resourceGroups/group/providers/Microsoft.Web/sites/contosogap-app"
        az.tell({"functionapp show": {"id": site, "properties": host}})
        yield told
        server.shutdown()


@pytest.fixture
def az(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeAz:
    (tmp_path / "bin").mkdir()
    fake = FakeAz(tmp_path / "bin")
    fake.tell(
        {
            "account show": {"user": {"name": "me"}},
            "cloud show": {
                "name": "AzureCloud",
                "endpoints": {"resourceManager": "https://management.azure.com/"},
            },
            "deployment group what-if": "Resource changes: 40 to create.",
            CREATE: {"properties": {"provisioningState": "Succeeded"}},
            "functionapp list": [[]],
            SETTINGS: [[]],
            PACKAGE: {"status": 4},
            "functionapp keys list": {"masterKey": KEY, "functionKeys": {"default": "x"}},
            f"{ASK}{REGISTRY}?": PREMIUM,
            f"{ASK}{REGISTRY}staging?": PREMIUM,
            f"{ASK}{ACCOUNT}?": {"properties": {"networkAcls": {"defaultAction": "Allow"}}},
        }
    )
    monkeypatch.setenv("PATH", fake.path)
    return fake


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited, without waiting."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept


@pytest.fixture
def package(tmp_path: Path) -> Path:
    path = tmp_path / "app.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("function_app.py", b"")
        archive.writestr(".python_packages/lib/site-packages/x/_core.cpython-311-x86_64-linux-gnu.so", b"")
    return path


def deploy(*more: str, side: str = "target", cloud: str = "public", prefix: str = "contosogap") -> int:
    words = [side, "-g", "group", "--parameters", str(FOLDER / "parameters" / f"{cloud}.json")]
    return deployment.main([*words, "-p", f"prefix={prefix}", "-p", "registryName=contoso", *more])


def given(call: dict[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
    """The parameters of a deployment: those on the command line, and those in files."""
    pairs = dict(word.split("=", 1) for word in call["argv"] if re.match(r"^\w+=", word))
    filed: dict[str, Any] = {}
    for _, content in call["files"].values():
        filed |= {name: value["value"] for name, value in content["parameters"].items()}
    return pairs, filed


def calls_of(az: FakeAz, verb: str) -> list[dict[str, Any]]:
    return [call for call, named in zip(az.calls, az.verbs, strict=True) if named == verb]


@pytest.mark.parametrize("side", ["source", "target"])
def test_side_is_shown_deployed_packed_and_checked_in_this_order(
    az: FakeAz, app: App, package: Path, capfd: pytest.CaptureFixture[str], side: str
) -> None:
    app.answers = [(200, {**READY, "role": side})]
    assert deploy("--package", str(package), "--yes", side=side) == 0
    assert az.verbs == [
        *("account show", "cloud show", "functionapp list"),
        *("deployment group what-if", CREATE, PACKAGE),
        *("functionapp show", "functionapp keys list"),
        SETTINGS,
        "rest",
    ]
    shown, created = calls_of(az, "deployment group what-if")[0], calls_of(az, CREATE)[0]
    assert str(FOLDER / "arm" / f"{side}.json") in created["argv"]
    assert shown["argv"][3:] == created["argv"][3:-2]  # what was shown is what is deployed
    pairs, filed = given(created)
    assert pairs == {"prefix": "contosogap", "registryName": "contoso", "pythonVersion": "3.11"}
    assert filed["cloud"]["name"] == "AzureCloud"
    words = calls_of(az, PACKAGE)[0]["argv"]
    assert words[words.index("--build-remote") + 1] == "false"
    assert words[words.index("--name") + 1] == "contosogap-app"
    assert app.asked == [("/api/preflight", KEY), (HOST_STATUS, KEY)]
    out = capfd.readouterr().out
    assert "Resource changes: 40 to create." in out
    assert "is ready (version 0.1.0)" in out


def test_whoever_says_no_deploys_nothing(
    az: FakeAz, package: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _question: "n")
    assert deploy("--package", str(package)) == 2
    assert CREATE not in az.verbs
    assert "Nothing was deployed" in capfd.readouterr().err


def test_where_nobody_can_be_asked_nothing_is_deployed(az: FakeAz, package: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, str(FOLDER / "deploy"), "target", "-g", "g", "--package", str(package)),
            *("--parameters", "infra/parameters/public.json", "-p", "prefix=contosogap"),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        cwd=FOLDER.parent,
        timeout=60,
    )
    assert (done.returncode, az.verbs[-1]) == (2, "deployment group what-if")
    assert "give --yes" in done.stderr


@pytest.mark.usefixtures("app")
def test_new_identity_is_waited_for(az: FakeAz, waits: list[float], package: Path) -> None:
    az.tell({CREATE: [PRINCIPAL_NOT_FOUND, PRINCIPAL_NOT_FOUND, {"properties": {}}]})
    assert deploy("--package", str(package), "--yes") == 0
    assert az.verbs.count(CREATE) == 3
    assert waits == [15, 30]


def test_new_identity_is_not_waited_for_longer_than_said(
    az: FakeAz, waits: list[float], capfd: pytest.CaptureFixture[str]
) -> None:
    az.tell({CREATE: PRINCIPAL_NOT_FOUND})
    assert deploy("--no-package", "--yes", "--patience", "100") == 2
    assert (sum(waits), az.verbs.count(CREATE)) == (100, 4)
    assert "PrincipalNotFound" in capfd.readouterr().err


@pytest.mark.usefixtures("app")
def test_role_on_the_storage_of_packages_is_waited_for(az: FakeAz, waits: list[float], package: Path) -> None:
    az.tell({PACKAGE: [UPLOAD_IS_FORBIDDEN, {"status": 4}]})
    assert deploy("--package", str(package), "--yes") == 0
    assert (az.verbs.count(CREATE), az.verbs.count(PACKAGE), waits) == (1, 2, [15])


@pytest.mark.parametrize("failure", [INVALID, VAULT_IS_DELETED, "ERROR: something new\n"])
def test_any_other_failure_is_not_tried_again(az: FakeAz, waits: list[float], failure: str) -> None:
    az.tell({CREATE: failure})
    assert deploy("--no-package", "--yes") == 2
    assert (az.verbs.count(CREATE), waits) == (1, [])
    assert PACKAGE not in az.verbs


def test_deleted_vault_that_holds_the_name_is_told_with_the_command_that_brings_it_back(
    az: FakeAz, capfd: pytest.CaptureFixture[str]
) -> None:
    az.tell({CREATE: VAULT_IS_DELETED})
    deploy("--no-package", "--yes")
    assert "az keyvault recover --name contosogap-keys" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("verb", "failure", "remedy"),
    [
        ("functionapp list", NO_GROUP, "az group create --name group"),
        ("deployment group what-if", WHAT_IF_IS_FORBIDDEN, "Owner, or Contributor and User Access"),
    ],
)
def test_failure_that_the_sdk_words_has_its_remedy(
    az: FakeAz, capfd: pytest.CaptureFixture[str], verb: str, failure: str, remedy: str
) -> None:
    az.tell({verb: failure})
    assert deploy("--no-package", "--yes") == 2
    assert remedy in capfd.readouterr().err
    assert CREATE not in az.verbs


def test_cloud_that_az_is_not_at_is_refused_before_anything(
    az: FakeAz, capfd: pytest.CaptureFixture[str]
) -> None:
    assert deploy("--no-package", "--yes", cloud="government") == 2
    assert az.verbs == ["account show", "cloud show"]
    assert "az cloud set" in capfd.readouterr().err


def test_whoever_is_not_signed_in_is_told_so(az: FakeAz, capfd: pytest.CaptureFixture[str]) -> None:
    az.tell({"account show": NOT_SIGNED_IN})
    assert deploy("--no-package", "--yes") == 2
    assert "az login" in capfd.readouterr().err


@pytest.mark.usefixtures("az")
def test_where_there_is_no_az_that_is_told(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert deploy("--no-package", "--yes") == 2
    assert "Azure CLI" in capfd.readouterr().err


def test_policy_on_the_command_line_is_refused(az: FakeAz, capfd: pytest.CaptureFixture[str]) -> None:
    assert deploy("--no-package", "--yes", "-p", "trustPolicy={}") == 2
    assert az.calls == []
    assert "--policy" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["pipelineSas", "pipelinesas", "tags"])
@pytest.mark.parametrize("value", [SAS, f"?{SAS}", SAS.replace("sig", "SIG")])
def test_sas_on_the_command_line_is_refused_and_not_repeated(
    az: FakeAz, capfd: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    assert deploy("--no-package", "--yes", "-p", f"{name}={value}") == 2
    assert az.calls == []
    said = capfd.readouterr().err
    assert "c2VjcmV0" not in said
    assert "does not belong on a command line" in said
    assert ("pipelineSasExpiry=" in said) == (name != "tags")


def test_sas_without_a_name_is_refused_and_not_repeated(
    az: FakeAz, capfd: pytest.CaptureFixture[str]
) -> None:
    assert deploy("--no-package", "--yes", "-p", "?sig=c2VjcmV0&sv=2022-11-02") == 2
    assert az.calls == []
    assert "c2VjcmV0" not in capfd.readouterr().err


MALFORMED = {
    "no JSON": "{",
    "deeper than can be read": "[" * 100_000,
    "no object": "[]",
    "no text": b"\xff",
}


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED)
@pytest.mark.parametrize("option", ["--parameters", "--policy"])
def test_file_that_is_no_json_object_is_refused_by_its_name(
    az: FakeAz, tmp_path: Path, capfd: pytest.CaptureFixture[str], option: str, content: str | bytes
) -> None:
    path = tmp_path / "given.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert deploy("--no-package", "--yes", option, str(path)) == 2
    assert az.calls == []
    assert str(path) in capfd.readouterr().err


@pytest.mark.parametrize("parameters", [None, [], "x", {"a": "b"}, {"a": []}, {"cloud": None}])
def test_file_that_is_no_parameters_file_is_refused_with_its_form(
    az: FakeAz, tmp_path: Path, capfd: pytest.CaptureFixture[str], parameters: object
) -> None:
    path = tmp_path / "given.json"
    path.write_text(json.dumps({"parameters": parameters}))
    assert deploy("--no-package", "--yes", "--parameters", str(path)) == 2
    assert az.calls == []
    assert '{"parameters": {"NAME": {"value": …}}}' in capfd.readouterr().err


@pytest.mark.parametrize("parameters", [{}, {"cloud": {}}, {"cloud": {"value": []}}])
def test_parameters_that_name_no_cloud_are_refused(
    az: FakeAz, tmp_path: Path, capfd: pytest.CaptureFixture[str], parameters: object
) -> None:
    path = tmp_path / "given.json"
    path.write_text(json.dumps({"parameters": parameters}))
    assert deploy("--no-package", "--yes", "--parameters", str(path)) == 2
    assert az.calls == []
    assert "infra/parameters" in capfd.readouterr().err


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
def test_deployed_policy_that_cannot_be_read_is_told_with_what_takes_its_place(
    az: FakeAz, capfd: pytest.CaptureFixture[str], text: str | bytes
) -> None:
    setting = {"name": "TRUST_POLICY", "value": text if isinstance(text, str) else "\ufffd"}
    az.tell(
        {
            "functionapp list": [[{"name": "contosogap-app"}]],
            SETTINGS: [[setting]],
        }
    )
    assert deploy("--no-package", "--yes") == 2
    assert CREATE not in az.verbs
    assert "--policy FILE" in capfd.readouterr().err


@pytest.mark.usefixtures("app")
def test_file_of_the_policy_is_read_by_nobody_else_and_goes(az: FakeAz, tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_text(json.dumps(POLICY))
    assert deploy("--no-package", "--yes", "--policy", str(tmp_path / "policy.json")) == 0
    for call in (calls_of(az, "deployment group what-if")[0], calls_of(az, CREATE)[0]):
        private = next(path for path in call["files"] if "parameters/public" not in path)
        assert call["files"][private][0] == 0o600
        assert not Path(private).exists()


def test_file_of_the_policy_goes_when_the_deployment_fails(az: FakeAz, tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_text(json.dumps(POLICY))
    az.tell({CREATE: INVALID})
    assert deploy("--no-package", "--yes", "--policy", str(tmp_path / "policy.json")) == 2
    files = calls_of(az, CREATE)[0]["files"]
    assert not [path for path in files if "parameters/public" not in path and Path(path).exists()]


@pytest.mark.parametrize("expiry", [None, "", "2020-01-31T00:00:00Z", "2099-01-31", "in a year"])
def test_pipeline_without_a_sas_that_will_hold_is_refused(az: FakeAz, expiry: str | None) -> None:
    words = [] if expiry is None else ["-p", f"pipelineSasExpiry={expiry}"]
    assert deploy("--no-package", "--yes", "-p", "storageAccessMode=SasToken", *words) == 2
    assert az.calls == []


@pytest.mark.usefixtures("app")
def test_pipeline_by_a_sas_is_deployed_by_one_command(az: FakeAz) -> None:
    words = ("-p", "storageAccessMode=SasToken", "-p", "pipelineSasExpiry=2099-01-31T00:00:00Z")
    assert deploy("--no-package", "--yes", *words) == 0
    assert len(calls_of(az, CREATE)) == 1


@pytest.mark.usefixtures("app")
def test_policy_is_given_as_it_is(az: FakeAz, tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_text(json.dumps(POLICY))
    assert deploy("--no-package", "--yes", "--policy", str(tmp_path / "policy.json")) == 0
    assert given(calls_of(az, CREATE)[0])[1]["trustPolicy"] == POLICY


@pytest.mark.usefixtures("app")
def test_deploying_again_without_a_policy_keeps_the_one_that_is_there(
    az: FakeAz, capfd: pytest.CaptureFixture[str]
) -> None:
    az.tell(
        {
            "functionapp list": [[{"name": "other-app"}, {"name": "contosogap-app"}]],
            SETTINGS: [
                [{"name": "CLOUD_NAME", "value": "x"}, {"name": "TRUST_POLICY", "value": json.dumps(POLICY)}]
            ],
        }
    )
    assert deploy("--no-package", "--yes") == 0
    assert given(calls_of(az, CREATE)[0])[1]["trustPolicy"] == POLICY
    assert "version 7" in capfd.readouterr().out


@pytest.mark.usefixtures("app")
def test_first_deployment_has_no_policy(az: FakeAz) -> None:
    assert deploy("--no-package", "--yes") == 0
    assert "trustPolicy" not in given(calls_of(az, CREATE)[0])[1]


def test_package_for_another_python_is_refused(az: FakeAz, package: Path) -> None:
    assert deploy("--package", str(package), "--yes", "-p", "pythonVersion=3.13") == 2
    assert az.calls == []


@pytest.mark.parametrize("content", [b"", b"no zip"])
def test_what_is_no_package_is_refused(az: FakeAz, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "app.zip").write_bytes(content)
    assert deploy("--package", str(tmp_path / "app.zip"), "--yes") == 2
    assert deploy("--package", str(tmp_path / "none.zip"), "--yes") == 2
    with zipfile.ZipFile(tmp_path / "app.zip", "w") as archive:
        archive.writestr("function_app.py", b"")
    assert deploy("--package", str(tmp_path / "app.zip"), "--yes") == 2
    assert az.calls == []


def test_package_is_given_or_left_out_on_purpose(az: FakeAz, package: Path) -> None:
    assert deploy("--yes") == 2
    assert deploy("--yes", "--no-package", "--package", str(package)) == 2
    assert az.calls == []


@pytest.mark.usefixtures("az")
def test_what_is_not_right_yet_is_told_with_its_remedy(app: App, capfd: pytest.CaptureFixture[str]) -> None:
    app.answers = [(200, NOT_READY)]
    assert checking.main(["-g", "group", "--prefix", "contosogap"]) == 1
    out = capfd.readouterr().out
    assert "NOT  source-trigger: Enabled\n     -> Deploy again.\n" in out
    assert "ok   settings" in out
    assert KEY not in out


@pytest.mark.usefixtures("az")
def test_host_that_runs_is_told_with_its_extension_bundle(
    app: App, capfd: pytest.CaptureFixture[str]
) -> None:
    assert checking.main(["-g", "group", "--prefix", "contosogap"]) == 0
    assert f"ok   functions-host: Running, {BUNDLE['id']}, 4.31.0\n" in capfd.readouterr().out
    app.host = (200, {**RUNNING, "errors": ["The listener for function 'x' was unable to start"]})
    assert checking.main(["-g", "group", "--prefix", "contosogap"]) == 1
    assert "NOT  functions-host" in capfd.readouterr().out


@pytest.mark.usefixtures("az")
def test_host_that_has_no_extension_bundle_says_so_though_the_app_cannot(
    app: App, capfd: pytest.CaptureFixture[str]
) -> None:
    app.answers, app.host = [(503, {})], (200, NO_BUNDLE)
    assert checking.main(["-g", "group", "--prefix", "contosogap"]) == 2
    told = capfd.readouterr().err
    assert "HTTP 503" in told
    assert "Unable to download the extension bundle" in told
    assert KEY not in told


@pytest.mark.usefixtures("app")
def test_app_that_is_right_is_told_so(az: FakeAz) -> None:
    assert checking.main(["-g", "group", "--prefix", "contosogap"]) == 0
    assert all(KEY not in str(call["argv"]) for call in az.calls)


ASK_ROLES = f"{ASK}{ACCOUNT}/providers/Microsoft.Authorization/roleAssignments "


def role(
    name: str = "Storage Blob Data Reader", on: str = "/blobServices/default/containers/transfer"
) -> Any:
    """A role assignment, as ARM tells it."""
    role_id = f"/subscriptions/s/providers/Microsoft.Authorization/roleDefinitions/{BUILT_IN[name]}"
    return {"properties": {"scope": f"{ACCOUNT}{on}", "roleDefinitionId": role_id, "principalId": "p1"}}


READS_TRANSFER = role()
LEFT = {
    "left": ({"value": [{"name": "other"}, {"name": PIPELINE}]}, 1, "Two ways to import"),
    "left, in other letters": ({"value": [{"name": PIPELINE.upper()}]}, 1, "Two ways to import"),
    "none": ({"value": []}, 0, ""),
    "another's": ({"value": [{"name": "other"}]}, 0, ""),
    "not all told": (
        {"value": [], "nextLink": "https://management.azure.com/more"},
        1,
        "Reader on the registry",
    ),
    "no answer": ({}, 1, "Reader on the registry"),
    "forbidden": ("ERROR: Forbidden({})", 1, "Reader on the registry"),
}


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize(("answer", "code", "remedy"), LEFT.values(), ids=LEFT)
def test_import_pipeline_left_in_the_real_registry_is_told_where_imports_are_staged(
    az: FakeAz, capfd: pytest.CaptureFixture[str], answer: object, code: int, remedy: str
) -> None:
    settings = {
        "REGISTRY_RESOURCE_ID": REGISTRY,
        "IMPORT_PIPELINE": PIPELINE,
        "STAGING_REGISTRY_RESOURCE_ID": f"{REGISTRY}staging",
    }
    az.tell(
        {
            SETTINGS: [[{"name": name, "value": value} for name, value in settings.items()]],
            "rest": answer,
            ASK_PIPELINE: {"identity": {"principalId": "p1"}},
            ASK_ROLES: {"value": [READS_TRANSFER]},
        }
    )
    assert checking.main(["-g", "group", "--prefix", "contosogap"]) == code
    out = capfd.readouterr().out
    assert ("NOT  left-pipeline" in out) == (code == 1)
    assert remedy in out
    asked = [word for call in calls_of(az, "rest") for word in call["argv"]]
    assert any(f"{REGISTRY}/importPipelines?" in word for word in asked)


OWN = {"type": "SystemAssigned", "principalId": "p1"}
GIVEN = {"type": "UserAssigned", "userAssignedIdentities": {"/x": {"principalId": "p1"}}}
RIGHTS: dict[str, tuple[Any, Any, str, str]] = {
    "reads transfer": (OWN, {"value": [READS_TRANSFER]}, "", ""),
    "reads transfer by a given identity": (GIVEN, {"value": [READS_TRANSFER]}, "", ""),
    "comes by SAS": (OWN, {"value": []}, "2027-01-31", ""),
    "comes by SAS and has a role": (OWN, {"value": [READS_TRANSFER]}, "2027-01-31", "1 roles too many"),
    "may not read": (OWN, {"value": []}, "", "may not read"),
    "reads the account": (OWN, {"value": [READS_TRANSFER, role(on="")]}, "", "1 roles too many"),
    "writes transfer": (
        OWN,
        {"value": [role("Storage Blob Data Contributor")]},
        "",
        "1 roles too many",
    ),
    "reads staging": (
        OWN,
        {"value": [READS_TRANSFER, role(on="/blobServices/default/containers/staging")]},
        "",
        "containers/staging",
    ),
    "no identity": (None, {"value": []}, "", "could not be asked"),
    "an identity of no name": ({"type": "SystemAssigned"}, {"value": []}, "", "could not be asked"),
    "roles forbidden": (OWN, "ERROR: Forbidden({})", "", "could not be asked"),
}


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize("name", RIGHTS)
def test_pipeline_whose_identity_may_more_or_less_than_read_transfer_is_told(
    az: FakeAz, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    identity, roles, sas, told = RIGHTS[name]
    settings = {
        "REGISTRY_RESOURCE_ID": f"{REGISTRY}staging",
        "IMPORT_PIPELINE": PIPELINE,
        "PIPELINE_SAS_EXPIRES_AT": sas,
    }
    az.tell(
        {
            SETTINGS: [[{"name": key, "value": value} for key, value in settings.items()]],
            ASK_PIPELINE: {"identity": identity},
            ASK_ROLES: roles,
        }
    )
    assert checking.main(["-g", "group", "--prefix", "contosogap"]) == bool(told)
    out = capfd.readouterr().out
    assert ("NOT  pipeline-rights" in out) == bool(told)
    assert told in out
    if identity is not None and "principalId" in str(identity):
        assert "$filter=assignedTo('p1')" in calls_of(az, "rest")[-1]["argv"]


@pytest.mark.usefixtures("app")
def test_roles_of_the_pipeline_on_every_page_are_looked_at(
    az: FakeAz, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = {"REGISTRY_RESOURCE_ID": f"{REGISTRY}staging", "IMPORT_PIPELINE": PIPELINE}
    page = {"value": [READS_TRANSFER], "nextLink": "https://management.azure.com/more"}
    az.tell(
        {
            SETTINGS: [[{"name": name, "value": value} for name, value in settings.items()]],
            ASK_PIPELINE: {"identity": OWN},
            ASK_ROLES: page,
            f"{ASK}https://management.azure.com/more": {"value": [role("Storage Blob Data Owner", on="")]},
        }
    )
    assert checking.main(["-g", "group", "--prefix", "contosogap"]) == 1
    assert "1 roles too many" in capfd.readouterr().out


@pytest.mark.usefixtures("app")
def test_import_pipeline_of_direct_imports_belongs_in_the_registry(az: FakeAz) -> None:
    settings = {"REGISTRY_RESOURCE_ID": REGISTRY, "IMPORT_PIPELINE": PIPELINE}
    az.tell(
        {
            SETTINGS: [[{"name": name, "value": value} for name, value in settings.items()]],
            f"{ASK}{REGISTRY}/importPipelines/{PIPELINE}?": {"identity": OWN},
            ASK_ROLES: {"value": [READS_TRANSFER]},
        }
    )
    assert checking.main(["-g", "group", "--prefix", "contosogap"]) == 0
    assert not any("importPipelines?" in word for call in calls_of(az, "rest") for word in call["argv"])


def policy(status: str) -> dict[str, Any]:
    return PREMIUM | {"properties": {"policies": {"exportPolicy": {"status": status}}}}


TERMS: dict[str, tuple[str, Any, str]] = {
    "premium": ("source", PREMIUM, ""),
    "standard": (
        "source",
        PREMIUM | {"sku": {"name": "Standard"}},
        "az acr update --name contoso --sku Premium",
    ),
    "exports forbidden": ("source", policy("disabled"), "--allow-exports true"),
    "exports allowed": ("source", policy("enabled"), ""),
    "exports of the target's forbidden": ("target", policy("disabled"), ""),
    "forbidden": ("target", "ERROR: Forbidden({})", "Reader on the registry"),
    "nothing told": ("target", {}, "Reader on the registry"),
}


@pytest.mark.parametrize("name", TERMS)
def test_registry_without_pipelines_is_told(
    az: FakeAz, app: App, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    role, answer, remedy = TERMS[name]
    app.answers = [(200, READY | {"role": role})]
    az.tell({SETTINGS: [[{"name": "REGISTRY_RESOURCE_ID", "value": REGISTRY}]], f"{ASK}{REGISTRY}?": answer})
    assert checking.main(["-g", "group", "--prefix", "contosogap"]) == bool(remedy)
    out = capfd.readouterr().out
    assert ("NOT  registry-terms" if remedy else "ok   registry-terms: contoso is Premium") in out
    assert remedy in out


FIREWALLS: dict[str, tuple[Any, str]] = {
    "none": ({"properties": {}}, ""),
    "open": (
        {"properties": {"networkAcls": {"defaultAction": "Allow"}, "publicNetworkAccess": "Enabled"}},
        "",
    ),
    "some networks": ({"properties": {"networkAcls": {"defaultAction": "Deny"}}}, "--default-action Allow"),
    "private endpoints only": (
        {"properties": {"publicNetworkAccess": "Disabled"}},
        "--public-network-access Enabled",
    ),
    "forbidden": ("ERROR: Forbidden({})", "Reader on the storage account"),
    "nothing told": ({}, "Reader on the storage account"),
}


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize("name", FIREWALLS)
def test_firewall_that_keeps_the_service_out_is_told(
    az: FakeAz, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    answer, remedy = FIREWALLS[name]
    az.tell({f"{ASK}{ACCOUNT}?": answer})
    assert checking.main(["-g", "group", "--prefix", "contosogap"]) == bool(remedy)
    out = capfd.readouterr().out
    assert ("NOT  transfer-firewall" in out) == bool(remedy)
    assert remedy in out


@pytest.mark.usefixtures("az", "waits")
def test_app_that_starts_is_asked_again_and_not_for_ever(app: App, capfd: pytest.CaptureFixture[str]) -> None:
    app.answers = [(503, {}), (404, {}), (200, READY)]
    assert checking.main(["-g", "group", "--prefix", "contosogap", "--wait", "300"]) == 0
    assert [path for path, _ in app.asked].count("/api/preflight") == 3
    app.answers = [(404, {})]
    assert checking.main(["-g", "group", "--prefix", "contosogap"]) == 2
    assert "has no functions yet" in capfd.readouterr().err


@pytest.mark.usefixtures("az")
def test_app_that_lets_nobody_in_is_not_asked_again(
    app: App, waits: list[float], capfd: pytest.CaptureFixture[str]
) -> None:
    app.answers = [(401, {})]
    assert checking.main(["-g", "group", "--prefix", "contosogap", "--wait", "300"]) == 2
    assert (len(app.asked), waits) == (1, [])
    assert "App Service authentication" in capfd.readouterr().err


@pytest.mark.usefixtures("az", "app")
def test_app_whose_certificate_nobody_trusts_is_not_asked_again(
    waits: list[float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    stranger = CertificateAuthority.create(tmp_path / "stranger")
    monkeypatch.setenv("SSL_CERT_FILE", str(stranger.ca_file))
    assert checking.main(["-g", "group", "--prefix", "contosogap", "--wait", "300"]) == 2
    assert waits == []
    assert "SSL_CERT_FILE" in capfd.readouterr().err


@pytest.mark.usefixtures("app")
def test_keys_that_cannot_be_read_are_told(az: FakeAz, capfd: pytest.CaptureFixture[str]) -> None:
    az.tell({"functionapp keys list": "ERROR: Operation returned an invalid status 'Forbidden'\n"})
    assert checking.main(["-g", "group", "--prefix", "contosogap"]) == 2
    assert "listkeys" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["deploy", "check"])
def test_scripts_need_nothing_but_python(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(FOLDER / name), "--help"],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert os.access(FOLDER / name, os.X_OK)


@pytest.mark.parametrize("side", ["source", "target"])
def test_azd_gives_what_the_template_asks_for_and_keeps_the_policy(side: str) -> None:
    given = json.loads((FOLDER / f"{side}.parameters.json").read_text(encoding="utf-8"))["parameters"]
    template = json.loads((FOLDER / "arm" / f"{side}.json").read_text(encoding="utf-8"))["parameters"]
    assert {name for name, one in template.items() if "defaultValue" not in one} <= given.keys()
    assert "trustPolicy" in given
    assert given.keys() <= template.keys()
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^azd env set (AIRGAP_\w+)", page, re.MULTILINE))
    assert set(re.findall(r"\$\{(\w+)\}", json.dumps(given))) == told


def test_azd_takes_the_package_as_it_is_to_the_app_of_the_template() -> None:
    page = (FOLDER.parent / "azure.yaml").read_text(encoding="utf-8")
    members = dict(re.findall(r"^ *(\w+): (\S.*)$", page, re.MULTILINE))
    assert (members["host"], members["remoteBuild"], members["path"]) == ("function", "false", "infra")
    assert (FOLDER / f"{members['module']}.bicep").exists()
    prefix = json.loads((FOLDER / "source.parameters.json").read_text("utf-8"))["parameters"]["prefix"][
        "value"
    ]
    assert members["resourceName"] == f"{prefix}-app"
    assert "name: '${prefix}-app'" in (FOLDER / f"{members['module']}.bicep").read_text(encoding="utf-8")
