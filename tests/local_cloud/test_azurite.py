"""Azurite as a child process: it starts, keeps what it is given, and never outlives its owner."""

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceModifiedError
from azure.storage.blob import BlobBlock, BlobClient, BlobSasPermissions, BlobServiceClient, generate_blob_sas

from local_cloud import azurite
from local_cloud.acr_transfer.storage import MintedCredential
from local_cloud.azurite import Azurite, AzuriteError, install_azurite, main
from local_cloud.pki import CertificateAuthority
from local_cloud.tokens import TokenAuthority
from tests.local_cloud.acr_transfer_harness import needs_azurite

OWNER = """
import sys, time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from local_cloud.azurite import Azurite
from local_cloud.pki import CertificateAuthority
folder = Path(sys.argv[1])
print(Azurite.start(account="orphan", folder=folder, ca=CertificateAuthority.create(folder)).pid, flush=True)
time.sleep(60)
"""
Done = subprocess.CompletedProcess[bytes]


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority.create(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def storage(ca: CertificateAuthority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with Azurite.start(account="testacct", folder=tmp_path_factory.mktemp("azurite"), ca=ca) as running:
        running.ensure_containers("incoming", "transfer")
        running.ensure_containers("incoming", "transfer")
        yield running


@pytest.fixture
def service(storage: Azurite) -> Iterator[BlobServiceClient]:
    with BlobServiceClient(
        storage.blob_url,
        credential=MintedCredential(TokenAuthority(), "somebody"),
        connection_verify=str(storage.ca_file),
        retry_total=0,
    ) as client:
        yield client


def staged(blob: BlobClient, *blocks: bytes, **options: Any) -> str:
    ids = [BlobBlock(f"{number:08d}") for number in range(len(blocks))]
    for block_id, block in zip(ids, blocks, strict=True):
        blob.stage_block(block_id.id, block)
    return str(blob.commit_block_list(ids, **options)["etag"])


@needs_azurite
@pytest.mark.e2e
def test_blocks_are_committed_once_with_oauth(service: BlobServiceClient) -> None:
    blob = service.get_blob_client("incoming", "once")
    staged(blob, b"one", b"two", match_condition=MatchConditions.IfMissing)
    assert blob.download_blob().readall() == b"onetwo"
    with pytest.raises(ResourceExistsError):
        staged(blob, b"other", match_condition=MatchConditions.IfMissing)


@needs_azurite
@pytest.mark.e2e
@pytest.mark.parametrize("is_sync", [True, False])
def test_a_server_side_copy_is_pinned_to_the_etag_and_sets_metadata(
    service: BlobServiceClient, *, is_sync: bool
) -> None:
    blob = service.get_blob_client("incoming", "origin")
    etag = staged(blob, b"content", metadata={"old": "1"})
    copy = service.get_blob_client("transfer", f"copy-{is_sync}")
    category = {"category": "acr-transfer-blob"}
    pinned: dict[str, Any] = {
        "source_match_condition": MatchConditions.IfNotModified,
        "requires_sync": is_sync,
    }
    with pytest.raises(ResourceModifiedError):
        copy.start_copy_from_url(blob.url, source_etag='"0xBAD"', **pinned)
    copied = copy.start_copy_from_url(blob.url, metadata=category, source_etag=etag, **pinned)
    assert copied["copy_status"] == "success"
    assert copy.get_blob_properties().metadata == category
    with pytest.raises(ResourceExistsError):
        copy.start_copy_from_url(blob.url, match_condition=MatchConditions.IfMissing, requires_sync=is_sync)


@needs_azurite
@pytest.mark.e2e
def test_a_block_can_be_taken_from_a_url_although_the_certificate_is_not_self_signed(
    storage: Azurite, service: BlobServiceClient
) -> None:
    staged(service.get_blob_client("incoming", "range"), b"0123456789")
    with storage.service_client() as owner:
        source = owner.get_blob_client("incoming", "range")
        url = f"{source.url}?{_read_sas(storage)}"
    copy = service.get_blob_client("transfer", "range")
    copy.stage_block_from_url("00000000", url, 2, 3)
    copy.commit_block_list([BlobBlock("00000000")])
    assert copy.download_blob().readall() == b"234"


class Filling(CertificateAuthority):
    """Its certificates fill the last line of their text: a signature takes a byte more or less."""

    def issue(self, name: str) -> tuple[Path, Path]:
        while True:
            certificate, key = super().issue(name)
            if len(certificate.read_text().splitlines()[-2]) == 64:
                return certificate, key


@needs_azurite
@pytest.mark.e2e
def test_a_block_can_be_taken_from_a_url_although_the_certificate_fills_its_last_line(tmp_path: Path) -> None:
    ca = Filling.create(tmp_path / "pki")
    with Azurite.start(account="filling", folder=tmp_path / "blobs", ca=ca) as storage:
        storage.ensure_containers("incoming")
        with storage.service_client() as owner:
            source = owner.get_blob_client("incoming", "range")
            staged(source, b"0123456789")
            copy = owner.get_blob_client("incoming", "copy")
            copy.stage_block_from_url("00000000", f"{source.url}?{_read_sas(storage)}", 2, 3)


def _read_sas(storage: Azurite) -> str:
    return generate_blob_sas(
        storage.account,
        "incoming",
        "range",
        account_key=storage.key,
        permission=BlobSasPermissions(read=True),
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )


@needs_azurite
@pytest.mark.e2e
def test_a_token_for_another_service_is_refused(storage: Azurite) -> None:
    class Wrong(MintedCredential):
        def get_token(self, *_scopes: str, **options: object) -> object:  # type: ignore[override] # test double
            return super().get_token("https://vault.azure.net/.default", **options)

    credential = Wrong(TokenAuthority(), "somebody")
    with (
        BlobServiceClient(
            storage.blob_url,
            credential=credential,  # type: ignore[arg-type] # test double
            connection_verify=str(storage.ca_file),
        ) as client,
        pytest.raises(HttpResponseError),
    ):
        client.get_container_client("incoming").get_container_properties()


@needs_azurite
@pytest.mark.e2e
def test_content_outlives_a_restart(ca: CertificateAuthority, tmp_path: Path) -> None:
    with Azurite.start(account="again", folder=tmp_path, ca=ca) as first:
        first.ensure_containers("kept")
        with first.service_client() as client:
            client.get_blob_client("kept", "blob").upload_blob(b"content")
    with Azurite.start(account="again", folder=tmp_path, ca=ca, key=first.key) as second:
        assert second.key not in repr(second)
        with second.service_client() as client:
            assert client.get_blob_client("kept", "blob").download_blob().readall() == b"content"
    assert not psutil.pid_exists(second.pid)
    second.stop()


@needs_azurite
@pytest.mark.e2e
def test_it_ends_when_its_owner_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE) as owner:
        assert owner.stdout
        child = psutil.Process(int(owner.stdout.readline()))
        owner.send_signal(signal.SIGKILL)
    psutil.wait_procs([child], timeout=15)
    assert not child.is_running()


@needs_azurite
@pytest.mark.e2e
def test_a_taken_port_is_said_in_one_line(ca: CertificateAuthority, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(AzuriteError, match="EADDRINUSE") as caught:
            Azurite.start(account="taken", folder=tmp_path, ca=ca, port=taken.getsockname()[1])
    assert "\n" not in str(caught.value)


def test_an_account_name_that_azure_would_refuse_is_refused(ca: CertificateAuthority, tmp_path: Path) -> None:
    with pytest.raises(AzuriteError, match="not a storage account name"):
        Azurite.start(account="With;Semicolon", folder=tmp_path, ca=ca)


def test_starting_without_an_installation_says_how_to_install(
    ca: CertificateAuthority, tmp_path: Path
) -> None:
    with pytest.raises(AzuriteError, match=r"python -m local_cloud\.azurite install"):
        Azurite.start(account="none", folder=tmp_path, ca=ca, install=tmp_path)


def fake_npm(monkeypatch: pytest.MonkeyPatch, answer: Callable[[Path], Done]) -> None:
    def run(command: list[str], *, cwd: Path, **_: object) -> Done:
        assert command[0] == str(azurite._node())
        assert {"ci", "--ignore-scripts"} <= set(command)
        return answer(cwd)

    monkeypatch.setattr("local_cloud.azurite.subprocess.run", run)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("npm error code ENOSPC\nnpm error nospc no space left", "the disk is full"),
        ("npm error code ENOTFOUND\nnpm error network request failed", "does not resolve"),
        ("npm error code EINTEGRITY\nnpm error sha512-x", "not the one that the lock names"),
        ("npm error something new", "something new"),
        ("", "did not say why"),
    ],
)
def test_a_failed_download_is_one_line_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    said: str,
    message: str,
) -> None:
    fake_npm(monkeypatch, lambda _: subprocess.CompletedProcess([], 1, b"", said.encode()))
    assert main(["install", "--into", str(tmp_path / "azurite")]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert list((tmp_path / "azurite").iterdir()) == []


class HasNothing(BaseHTTPRequestHandler):
    """A package registry that knows no package."""

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def lock_of_one_package(folder: Path) -> Path:
    """Npm asks for each of the three hundred of ours three times before it gives up."""
    folder.mkdir()
    needed = {"semver": "7.7.3"}
    packages = {
        "": {"dependencies": needed},
        "node_modules/semver": {"version": "7.7.3", "integrity": "sha512-x"},
    }
    (folder / "package.json").write_text(json.dumps({"dependencies": needed}))
    (folder / "package-lock.json").write_text(json.dumps({"lockfileVersion": 3, "packages": packages}))
    return folder


@pytest.mark.parametrize(
    ("trusted_by", "message"),
    [
        (None, "export NODE_EXTRA_CA_CERTS=/path/to/ca.pem"),
        ("NODE_EXTRA_CA_CERTS", "does not have a package of the lock"),
        ("SSL_CERT_FILE", "does not have a package of the lock"),  # stands for the system's certificates
    ],
)
def test_a_proxy_that_inspects_tls_is_named_with_its_remedy(
    ca: CertificateAuthority,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    *,
    trusted_by: str | None,
    message: str,
) -> None:
    monkeypatch.setattr(azurite, "_NODE_FOLDER", lock_of_one_package(tmp_path / "node"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), HasNothing)
    server.socket = ca.server_context("inspecting").wrap_socket(server.socket, server_side=True)
    monkeypatch.setenv("npm_config_registry", f"https://127.0.0.1:{server.server_port}/")
    for bound in ("mintimeout", "maxtimeout"):  # it asks again; that takes half a minute otherwise
        monkeypatch.setenv(f"npm_config_fetch_retry_{bound}", "1")
    for name in ("npm_config_cafile", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    if trusted_by:
        monkeypatch.setenv(trusted_by, str(ca.ca_file))
    answering = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    answering.start()
    try:
        with pytest.raises(AzuriteError, match=message):
            install_azurite(tmp_path / "azurite")
    finally:
        server.shutdown()
        answering.join()
        server.server_close()


def test_an_installation_is_made_once_and_replaces_those_of_other_locks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = []

    def npm(tree: Path) -> Done:
        calls.append(tree)
        script = tree / "node_modules/azurite/dist/src/azurite.js"
        script.parent.mkdir(parents=True)
        script.touch()
        return subprocess.CompletedProcess([], 0, b"", b"")

    fake_npm(monkeypatch, npm)
    (tmp_path / "0123456789abcdef").mkdir()
    (tmp_path / "something-else").mkdir()
    first = install_azurite(tmp_path)
    assert install_azurite(tmp_path) == first
    assert len(calls) == 1
    assert {each.name for each in tmp_path.iterdir()} == {first.name, "something-else"}


def test_too_little_space_is_said_before_anything_is_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("local_cloud.azurite.shutil.disk_usage", lambda _: SimpleNamespace(free=7_000_000))
    with pytest.raises(AzuriteError, match="7 MB free, 500 MB needed"):
        install_azurite(tmp_path)


def test_the_lock_names_no_host_to_fetch_from() -> None:
    lock = (azurite._NODE_FOLDER / "package-lock.json").read_text()
    assert '"resolved"' not in lock
    assert lock.count('"integrity"') > 300
