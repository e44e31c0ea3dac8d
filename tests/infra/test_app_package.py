"""The package of the function app: the same bytes on every build, and enough to run on, and no more."""

from __future__ import annotations

import base64
import csv
import hashlib
import http.server
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

import pytest

from function_app.roles import build_app
from function_app.settings import Role
from portable import app_package
from portable.app_package import LEFT_OUT, PYTHONS, SITE_PACKAGES, WITHOUT_CODE
from tests.functions_host import worker_runtime
from tests.portable.conftest import PACK_TIMEOUT_S, ROOT
from tests.portable.pythons import python
from tests.vectors import generate

pytestmark = pytest.mark.timeout(PACK_TIMEOUT_S)  # the first test packs

GROUP = "/subscriptions/s/resourceGroups/g"
RUNNING = f"{sys.version_info[0]}.{sys.version_info[1]}"
FORBIDDEN = (
    "rich",
    "pygments",
    "segno",
    "markdown_it",
    "mdurl",
    "local_cloud",
    "offline_mover",
    "infra",
    "portable",
)

CLEAN = """
import importlib.util, json, os, sys
app, site, *more = sys.argv[1:]
standard = [path for path in sys.path if "site-packages" not in path]
sys.path[:] = [*more, site, app, *standard]  # as the worker does it, but for its own packages
sys.dont_write_bytecode = True
"""
"""Run with ``-I -S``: no environment, no site-packages but those of the package."""

INDEX = (
    CLEAN
    + """
import function_app
print(json.dumps(sorted(one.get_function_name() for one in function_app.app.get_functions())))
"""
)

WORKER = (
    CLEAN
    + """
from worker_runtime import worker
from pathlib import Path
with worker(Path(app), {"TRANSFER_ROLE": os.environ["TRANSFER_ROLE"]}) as running:
    print(json.dumps(sorted(running.functions)))
"""
)

RUN = (
    CLEAN
    + """
from function_app.azure import adapters, wiring
side = getattr(wiring, os.environ["TRANSFER_ROLE"] + "_side")()
token = adapters.credential_of(side.settings).get_token("https://storage.azure.com/.default").token
if os.environ["TRANSFER_ROLE"] == "source":  # what only an order imports that selects
    from function_app.source.selection import Selector
    Selector(repositories=("a",), tags_matching="v1", versions="1.x").matching([])
from importlib.metadata import distributions
files = {os.path.realpath(m.__file__) for m in list(sys.modules.values()) if getattr(m, "__file__", None)}
unused = [
    one.name
    for one in distributions(path=[site])
    if not files & {os.path.realpath(str(one.locate_file(file))) for file in one.files or ()}
]
outside = [file for file in files if not file.startswith((site, app, *standard))]
print(json.dumps({"token": token, "unused": unused, "outside": outside}))
"""
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package for the Python that runs the tests, packed and unpacked; nobody writes to it."""
    folder = tmp_path_factory.mktemp("app-package")
    subprocess.run(
        [sys.executable, "-m", "portable.app_package", "--python", RUNNING, "--out", str(folder / "app.zip")],
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=PACK_TIMEOUT_S,
    )
    with zipfile.ZipFile(folder / "app.zip") as archive:
        archive.extractall(folder / "app")
    return folder


@pytest.fixture(scope="module")
def app(built: Path) -> Path:
    return built / "app"


def functions_of(role: Role) -> list[str]:
    return sorted(str(one.get_function_name()) for one in build_app(role).get_functions())


def run_clean(code: str, app: Path, *more: Path, **environment: str) -> str:
    done = subprocess.run(
        [python(RUNNING), "-I", "-S", "-c", code, str(app), str(app / SITE_PACKAGES), *map(str, more)],
        capture_output=True,
        text=True,
        check=False,
        env={**environment},
        cwd="/",
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_second_build_from_another_folder_is_the_same_bytes(built: Path, tmp_path: Path) -> None:
    for name in (*app_package.OWN_PACKAGES, "portable"):
        shutil.copytree(ROOT / name, tmp_path / "copy" / name)
    for name in (*app_package.OWN_FILES, app_package.LOCK.name):
        shutil.copy(ROOT / name, tmp_path / "copy" / name)
    mask = os.umask(0o077)
    try:
        subprocess.run(
            [
                sys.executable,
                "-m",
                "portable.app_package",
                "--python",
                RUNNING,
                "--out",
                str(tmp_path / "again.zip"),
            ],
            cwd=tmp_path / "copy",
            env={**os.environ, "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7", "UV_LINK_MODE": "copy"},
            check=True,
            timeout=PACK_TIMEOUT_S,
        )
    finally:
        os.umask(mask)
    assert (tmp_path / "again.zip").read_bytes() == (built / "app.zip").read_bytes()
    assert (tmp_path / "again.zip").stat().st_mode & 0o777 == 0o644


def test_times_order_and_modes_are_fixed(built: Path) -> None:
    with zipfile.ZipFile(built / "app.zip") as archive:
        entries = archive.infolist()
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.external_attr >> 16 for entry in entries} == {0o100644, 0o40755}
    assert [entry.filename.rstrip("/") for entry in entries] == sorted(
        entry.filename.rstrip("/") for entry in entries
    )


def test_package_holds_what_is_ours_to_run_and_nothing_else(app: Path) -> None:
    assert {path.name for path in app.iterdir()} == {
        ".python_packages",
        "airgap",
        "blob_wire",
        "function_app",
        "function_app.py",
        "host.json",
    }
    for package in app_package.OWN_PACKAGES:
        wanted = {path.relative_to(ROOT) for path in (ROOT / package).rglob("*.py")}
        assert wanted == {path.relative_to(app) for path in (app / package).rglob("*") if path.is_file()}
    assert (app / "host.json").read_bytes() == (ROOT / "host.json").read_bytes()


def test_nothing_travels_that_is_not_needed(app: Path) -> None:
    files = [
        path.relative_to(app / SITE_PACKAGES) for path in (app / SITE_PACKAGES).rglob("*") if path.is_file()
    ]
    assert not [
        file for file in files if {"__pycache__", "tests", "test_data", "samples", "bin"} & set(file.parts)
    ]
    assert not [file for file in files if file.parts[0].partition("-")[0] in FORBIDDEN]
    noise = {"INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json"}
    assert not [file for file in files if file.name in noise]
    others = {
        str(file) for file in files if file.suffix not in {".py", ".so"} and ".dist-info" not in file.parts[0]
    }
    assert others == {"certifi/cacert.pem"}
    names = {path.name for path in app.rglob("*")}
    assert not names & {"tests", "infra", "local.settings.json", "requirements.txt"}


def test_record_of_each_distribution_lists_its_files_as_they_are(app: Path) -> None:
    site = app / SITE_PACKAGES
    listed: set[str] = set()
    for path in site.glob("*.dist-info/RECORD"):
        for name, digest, size in csv.reader(io.StringIO(path.read_text("utf-8"))):
            listed.add(name)
            if site / name == path:
                assert (digest, size) == ("", "")
                continue
            content = (site / name).read_bytes()
            plain = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
            assert (digest, size) == (f"sha256={plain}", str(len(content)))
    assert listed == {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}


def test_every_distribution_of_the_lock_travels_but_those_with_a_reason(app: Path) -> None:
    lock = (ROOT / "requirements.txt").read_text("utf-8")
    pins = dict(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", lock, re.MULTILINE))
    found = {
        re.sub("[-_.]+", "-", one.name.lower()): one.version
        for one in distributions(path=[str(app / SITE_PACKAGES)])
    }
    assert found == {name: version for name, version in pins.items() if name not in LEFT_OUT}
    assert LEFT_OUT.keys() | WITHOUT_CODE.keys() <= pins.keys()


def test_lock_of_the_app_holds_nothing_of_the_mover_alone() -> None:
    pins = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.txt").read_text("utf-8"), re.MULTILINE))
    assert pins & {"rich", "pygments", "segno", "markdown-it-py", "mdurl"} == set()


@pytest.mark.parametrize("role", ["source", "target"])
def test_app_is_indexed_with_nothing_but_the_package(app: Path, role: Role) -> None:
    expected = functions_of(role)
    assert json.loads(run_clean(INDEX, app, TRANSFER_ROLE=role)) == expected


@pytest.mark.skipif(not worker_runtime.is_available(), reason="azure-functions-runtime needs Python 3.13")
@pytest.mark.parametrize("role", ["source", "target"])
def test_microsofts_worker_indexes_the_package(app: Path, tmp_path: Path, role: Role) -> None:
    library = importlib.util.find_spec("azure_functions_runtime")
    assert library is not None
    (tmp_path / "azure_functions_runtime").symlink_to(Path(str(library.origin)).parent)
    (tmp_path / "worker_runtime.py").symlink_to(Path(worker_runtime.__file__))
    expected = functions_of(role)
    assert json.loads(run_clean(WORKER, app, tmp_path, TRANSFER_ROLE=role)) == expected


@pytest.fixture
def identity() -> Iterator[str]:
    """The endpoint of a managed identity that gives a token to anybody."""

    class Endpoint(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            token = {
                "access_token": "given",
                "expires_on": "4102444800",
                "resource": "x",
                "token_type": "Bearer",
            }
            body = json.dumps(token).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/token"
        server.shutdown()


@pytest.mark.parametrize("role", ["source", "target"])
def test_all_that_travels_is_imported_and_nothing_else_is(app: Path, role: Role, identity: str) -> None:
    """The settings are read, all ports made and a token is fetched, as the app does it in Azure."""
    account = "https://account.blob.core.windows.net"
    settings = {
        "TRANSFER_ROLE": role,
        "TransferStorage__blobServiceUri": account,
        "TransferStorage__tableServiceUri": account,
        "TransferStorage__queueServiceUri": account,
        "REGISTRY_LOGIN_SERVER": "contoso.azurecr.io",
        "REGISTRY_RESOURCE_ID": f"{GROUP}/providers/Microsoft.ContainerRegistry/registries/r",
        "SIGNING_KEYS": "https://vault.vault.azure.net/keys/bundle-signing",
        "EXPORT_PIPELINE": "airgap01",
        "IMPORT_PIPELINE": "airgap01",
        "CLOUD_NAME": "AzureCloud",
        "TRUST_POLICY": (generate.FOLDER / "policy.json").read_text("utf-8"),
        "IDENTITY_ENDPOINT": identity,
        "IDENTITY_HEADER": "x",
    }
    found = json.loads(run_clean(RUN, app, **settings))
    assert (found["token"], found["outside"]) == ("given", [])
    assert sorted(found["unused"]) == ([] if role == "source" else ["google-re2", "semantic-version"])


@pytest.mark.parametrize("version", [one for one in PYTHONS if one != RUNNING])
def test_compiled_files_are_those_of_the_python_asked_for(version: str) -> None:
    names = app_package.package(version)
    compiled = [name.rpartition("/")[2] for name in names if name.endswith(".so")]
    tag = version.replace(".", "")
    wanted = re.compile(rf"\w+\.(cpython-{tag}-x86_64-linux-gnu|abi3)\.so")
    assert len(compiled) > 10
    assert [name for name in compiled if not wanted.fullmatch(name)] == []


def test_package_that_cannot_be_had_says_why_and_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = app_package.package
    lock = tmp_path / "requirements.txt"
    lock.write_text(
        re.sub("sha256:[0-9a-f]{64}", f"sha256:{'0' * 64}", (ROOT / "requirements.txt").read_text())
    )
    monkeypatch.setattr(app_package, "package", lambda version: real(version, tmp_path))
    (tmp_path / "app.zip").write_bytes(b"before")
    assert app_package.main(["--out", str(tmp_path / "app.zip")]) == 2
    assert capsys.readouterr().err.startswith("package: the wheels for x86_64-manylinux_2_28 and Python 3.11")
    assert (tmp_path / "app.zip").read_bytes() == b"before"
