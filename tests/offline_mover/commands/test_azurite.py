"""The command as the operator runs it, against a real blob service."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from azure.core.credentials import AccessToken
from azure.storage.blob import BlobServiceClient, generate_container_sas

from airgap.errors import Code, ServiceError
from airgap.manifest import ENVELOPE_NAME
from local_cloud.azurite import Azurite, is_installed
from local_cloud.pki import CertificateAuthority
from local_cloud.tokens import TokenAuthority
from offline_mover.storage.blob_store import AzureContainer
from offline_mover.storage.storage_address import Sas, TransferAddress
from tests.bundles import Bundle, make_bundle, make_policy, new_key
from tests.faults.mover import Mover
from tests.faults.proxy import Answer, Asked, Forward, Proxy, Rule
from tests.offline_mover.commands.test_receipts import NOW, imported, signed
from tests.offline_mover.conftest import flip

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not is_installed(), reason="python -m local_cloud.azurite install"),
]
_ROOT = Path(__file__).parents[3]
_MIB = 1024 * 1024
_DEADLINE_S = 60
_PARTS = 8  # of what is broken off: three go before that, the rest is left for whoever goes on


@dataclass(kw_only=True)
class Site:
    """A storage account, a folder for volumes and files, and the command."""

    azurite: Azurite
    service: BlobServiceClient
    ca: CertificateAuthority
    folder: Path
    bundle: Bundle
    mover: Mover

    def sas_file(self, container: str, permissions: str = "rcw", *, lifetime_h: int = 1) -> str:
        token = generate_container_sas(
            self.azurite.account,
            container,
            account_key=self.azurite.key,
            permission=permissions,
            expiry=datetime.now(UTC) + timedelta(hours=lifetime_h),
        )
        path = self.folder / f"{container}-{permissions}-{lifetime_h}.sas"
        path.write_text(token)
        return str(path)

    def upload(self, bundle: Bundle) -> None:
        """What a finished export leaves in ``transfer``."""
        for name, content in (*bundle.blobs.items(), (ENVELOPE_NAME, bundle.envelope)):
            blob = self.service.get_blob_client("transfer", f"{bundle.transfer_id}/{name}")
            blob.upload_blob(content, overwrite=True)

    def volume(self, name: str) -> Path:
        path = self.folder / name
        path.mkdir()
        return path

    def trust(self) -> Path:
        """The bundle's policy, in a file."""
        path = self.folder / "policy.json"
        path.write_bytes(self.bundle.policy_json)
        return path

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The command in a process that a test signals or holds up."""
        return subprocess.Popen(
            [sys.executable, "-m", "offline_mover", *arguments, "--trust", str(self.trust()), "--json"],
            cwd=_ROOT,
            env={
                "PATH": os.environ["PATH"],
                "REQUESTS_CA_BUNDLE": str(self.azurite.ca_file),
                "OFFLINE_MOVER_RETRIES": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, policy: Path | None = None) -> dict[str, Any]:
        """The event ``result`` of a run to its end, with its exit code; forked, since a start costs most."""
        trusted = ("--trust", str(policy or self.trust()))
        run = self.mover.run(*arguments, *trusted, environment={"OFFLINE_MOVER_RETRIES": "1"})
        return dict(run.result)

    def pull(self, volume: Path, bundle: Bundle | None = None, *, sas: str | None = None) -> dict[str, Any]:
        return self.run(*self.pull_arguments(volume, bundle or self.bundle, sas))

    def pull_arguments(
        self, volume: Path, bundle: Bundle, sas: str | None = None, *, account_url: str | None = None
    ) -> list[str]:
        source = f"{account_url or self.azurite.blob_url}/transfer/{bundle.transfer_id}"
        return [
            "pull",
            source,
            str(volume),
            "--allow-system-disk",
            "--sas-file",
            sas or self.sas_file("transfer", "r"),
        ]

    def push(self, volume: Path, container: str, *, sas: str | None = None) -> dict[str, Any]:
        return self.run(*self.push_arguments(volume, container, sas))

    def push_arguments(
        self, volume: Path, container: str, sas: str | None = None, *, account_url: str | None = None
    ) -> list[str]:
        target = f"{account_url or self.azurite.blob_url}/{container}"
        return ["push", str(volume), target, "--sas-file", sas or self.sas_file(container)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    ca = CertificateAuthority.create(folder / "pki")
    with (
        Azurite.start(account="carried", folder=folder / "azurite", ca=ca) as azurite,
        azurite.service_client() as service,
        Mover.start(folder / "mover", azurite.ca_file) as mover,
    ):
        azurite.ensure_containers("transfer", "receipts")
        made = Site(azurite=azurite, service=service, ca=ca, folder=folder, bundle=make_bundle(), mover=mover)
        made.upload(made.bundle)
        yield made


@pytest.fixture(scope="module")
def pulled(site: Site) -> Path:
    volume = site.volume("pulled")
    assert site.pull(volume)["fetchedParts"] == 4
    return volume


@pytest.fixture
def container(site: Site, request: pytest.FixtureRequest) -> str:
    """A target container of the test's own."""
    name = f"incoming-{abs(hash(request.node.name)):x}"[:40]
    site.azurite.ensure_containers(name)
    return name


@dataclass(kw_only=True)
class Held:
    """A storage that lets some requests pass and answers the next one only after the block."""

    url: str
    reached: threading.Event

    def until_reached(self) -> None:
        """Wait until that request is there: those before it are answered, and nothing more will happen."""
        assert self.reached.wait(_DEADLINE_S), "it did not happen"


@contextmanager
def held(site: Site, when: Callable[[Asked], bool], *, after: int) -> Iterator[Held]:
    """The site's storage, which holds up the request that follows ``after`` others of the kind."""
    reached, go_on = threading.Event(), threading.Event()

    def hold(asked: Asked, forward: Forward) -> Answer:
        reached.set()
        go_on.wait(_DEADLINE_S)
        return forward(asked)

    with (
        Proxy.start(site.azurite.blob_url, site.ca) as proxy,
        proxy.scripted(Rule(when=when, act=hold, skip=after)),
    ):
        try:
            yield Held(url=proxy.url, reached=reached)
        finally:
            go_on.set()


def test_bundle_crosses_unchanged(site: Site, pulled: Path, container: str) -> None:
    assert site.run("verify", str(pulled))["code"] is None
    result = site.push(pulled, container)
    assert (result["sentParts"], result["skippedParts"]) == (4, 0)
    for blob in site.bundle.manifest.blobs:
        stored = site.service.get_blob_client(container, f"{site.bundle.transfer_id}/{blob.name}")
        properties = stored.get_blob_properties()
        assert stored.download_blob().readall() == site.bundle.blobs[blob.name]
        assert properties.metadata == blob.metadata
        assert properties.content_settings.content_md5
    envelope = site.service.get_blob_client(container, f"{site.bundle.transfer_id}/{ENVELOPE_NAME}")
    assert envelope.download_blob().readall() == site.bundle.envelope
    again = site.push(pulled, container)
    assert (again["code"], again["sentParts"], again["skippedParts"]) == (None, 0, 4)


def test_flipped_byte_is_never_staged(site: Site, pulled: Path, container: str) -> None:
    """The storage refuses a block whose end was held back: it does not even stay staged."""
    part = pulled / site.bundle.transfer_id / "data" / "001" / "00000002.part"
    flip(part, 4_000_000)
    try:
        result = site.push(pulled, container)
        assert (result["code"], result["exitCode"]) == ("PART_CORRUPT", 18)
        assert [damage["name"] for damage in result["damage"]] == ["001/00000002.part"]
        blob = site.service.get_blob_client(container, f"{site.bundle.transfer_id}/001")
        assert not blob.exists()
        assert len(blob.get_block_list("uncommitted")[1]) == 2
    finally:
        flip(part, 4_000_000)
    assert site.push(pulled, container)["sentParts"] == 1


def test_killed_pull_resumes_with_the_rest(site: Site) -> None:
    bundle = make_bundle(transfer_id="killed0pull", blob_sizes=[_PARTS * 4 * _MIB])
    site.upload(bundle)
    volume = site.volume("killed")
    parts = volume / bundle.transfer_id / "data" / "001"
    with held(site, lambda asked: bool(asked.range), after=3) as storage:
        arguments = site.pull_arguments(volume, bundle, account_url=storage.url)
        with site.start(*arguments, "--concurrency", "1") as child:
            storage.until_reached()
            child.send_signal(signal.SIGKILL)
            child.communicate(timeout=_DEADLINE_S)
    whole = len(list(parts.glob("*.part")))
    assert whole == 3
    assert site.run("verify", str(volume))["code"] == "BAG_MALFORMED"
    result = site.pull(volume, bundle)
    assert (result["code"], result["keptParts"], result["fetchedParts"]) == (None, whole, _PARTS - whole)
    assert site.run("verify", str(volume))["code"] is None


def test_interrupted_push_resumes_with_the_rest(site: Site, container: str) -> None:
    bundle = make_bundle(transfer_id="stopped0push", blob_sizes=[_PARTS * 4 * _MIB])
    site.upload(bundle)
    volume = site.volume("stopped")
    site.pull(volume, bundle)
    blob = site.service.get_blob_client(container, f"{bundle.transfer_id}/001")

    with held(site, lambda asked: asked.comp == "block", after=3) as storage:
        arguments = site.push_arguments(volume, container, account_url=storage.url)
        child = site.start(*arguments, "--concurrency", "1")
        storage.until_reached()
        child.send_signal(signal.SIGINT)
    with child:
        out, err = child.communicate(timeout=_DEADLINE_S)
    assert child.returncode == 130
    assert "run the same command again" in err
    assert json.loads(out.splitlines()[-1])["code"] == "INTERRUPTED"
    assert not blob.exists()
    result = site.push(volume, container)
    assert (result["code"], result["sentParts"] + result["skippedParts"]) == (None, _PARTS)
    assert result["skippedParts"] >= 3


@pytest.mark.parametrize(
    ("sas", "code", "text"),
    [
        (("transfer", "w"), "SERVICE_DENIED", "r is missing"),
        (("transfer", "r", -1), "CREDENTIAL_EXPIRED", "expired at"),
        (("elsewhere", "r"), "SERVICE_DENIED", "its signature is not valid for the container transfer"),
        (
            ("receipts", "r"),
            "SERVICE_DENIED",
            "is for the container receipts of this account, not for transfer",
        ),
    ],
)
def test_sas_that_does_not_fit_is_explained(
    site: Site, sas: tuple[Any, ...], code: str, text: str, request: pytest.FixtureRequest
) -> None:
    lifetime_h = sas[2] if len(sas) > 2 else 1
    path = site.sas_file(sas[0], sas[1], lifetime_h=lifetime_h)
    volume = site.volume(f"sas-{abs(hash(request.node.name)):x}")
    # No retry: another SAS might be put into the file, which the mover would wait for.
    result = site.run(*site.pull_arguments(volume, site.bundle, path), "--retries", "0")
    assert result["code"] == code
    assert text in result["verdict"]
    assert not list(volume.iterdir())


def test_sas_that_is_cut_off_or_not_valid_yet_is_explained(site: Site) -> None:
    good = Path(site.sas_file("transfer", "r")).read_text()
    cut, early = site.folder / "cut.sas", site.folder / "early.sas"
    cut.write_text(re.sub("sig=[^&]*", "sig=c2hvcnQ", good))
    early.write_text(
        generate_container_sas(
            site.azurite.account,
            "transfer",
            account_key=site.azurite.key,
            permission="r",
            start=datetime.now(UTC) + timedelta(days=1),
            expiry=datetime.now(UTC) + timedelta(days=2),
        )
    )
    volume = site.volume("cut")
    assert "its signature is cut off" in site.pull(volume, sas=str(cut))["verdict"]
    assert "is valid only from" in site.pull(volume, sas=str(early))["verdict"]


def test_nobody_signed_in_is_one_line_and_leaves_nothing_behind(site: Site, tmp_path: Path) -> None:
    policy = site.folder / "policy.json"
    policy.write_bytes(site.bundle.policy_json)
    home = tmp_path / "home"
    home.mkdir()
    source = f"{site.azurite.blob_url}/transfer/{site.bundle.transfer_id}"
    variables = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "REQUESTS_CA_BUNDLE": str(site.azurite.ca_file),
        "OFFLINE_MOVER_TOKEN_HOST": urlsplit(source).netloc,
    }
    done = subprocess.run(
        [
            *(sys.executable, "-m", "offline_mover", "pull", source, str(tmp_path), "--allow-system-disk"),
            *("--trust", str(policy)),
        ],
        cwd=_ROOT,
        env=variables,
        capture_output=True,
        text=True,
        timeout=_DEADLINE_S,
        check=False,
    )
    assert done.returncode == Code.CREDENTIAL_EXPIRED.exit_code
    assert done.stderr.startswith("CREDENTIAL_EXPIRED: no SAS was given, and nobody is signed in to Azure")
    assert "DefaultAzureCredential" not in done.stderr
    assert [path.name for path in home.iterdir()] == []


@pytest.mark.parametrize("permissions", ["rc", "rcl"])
def test_receipts_are_pushed_again_with_the_documented_sas(
    site: Site, tmp_path: Path, permissions: str, container: str
) -> None:
    key = new_key()
    bundle = make_bundle(policy_json=make_policy((new_key(),), receipt_keys=[key]))
    names = [f"{bundle.transfer_id}/import{number:032d}.dsse.json" for number in (1, 2)]
    policy = tmp_path / "policy.json"
    policy.write_bytes(bundle.policy_json)
    arguments = [
        *("receipts", "push", str(tmp_path), f"{site.azurite.blob_url}/{container}"),
        *("--sas-file", site.sas_file(container, permissions)),
    ]
    for number, (name, sent, kept) in enumerate(zip(names, (1, 1), (0, 1), strict=True)):
        path = tmp_path / "receipts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        receipt = imported(bundle, decided_at=NOW + timedelta(minutes=number))
        path.write_bytes(signed(receipt, key))
        result = site.run(*arguments, policy=policy)
        assert (result["code"], result["sent"], result["kept"]) == (None, sent, kept)
    assert site.run(*arguments, policy=policy)["kept"] == 2


def test_sas_that_may_read_only_cannot_push(site: Site, pulled: Path, container: str) -> None:
    result = site.push(pulled, container, sas=site.sas_file(container, "r"))
    assert result["code"] == "SERVICE_DENIED"
    assert "c or w is missing" in result["verdict"]


def test_blob_changed_during_a_pull_is_refused(site: Site) -> None:
    bundle = make_bundle(transfer_id="swapped0blob", blob_sizes=[_PARTS * 4 * _MIB])
    site.upload(bundle)
    volume = site.volume("swapped")
    blob = site.service.get_blob_client("transfer", f"{bundle.transfer_id}/001")
    with held(site, lambda asked: bool(asked.range), after=1) as storage:
        arguments = site.pull_arguments(volume, bundle, account_url=storage.url)
        child = site.start(*arguments, "--concurrency", "1")
        storage.until_reached()
        blob.set_blob_metadata({"touched": "yes"})  # the quickest way to another version
    with child:
        out, _ = child.communicate(timeout=_DEADLINE_S)
    assert json.loads(out.splitlines()[-1])["code"] == "BLOB_CHANGED"


def sas_of(site: Site, container: str, permissions: str, *, lifetime_h: int = 1) -> Sas:
    path = Path(site.sas_file(container, permissions, lifetime_h=lifetime_h))
    return Sas.from_text(path.read_text(), str(path))


@pytest.fixture
def address(site: Site, monkeypatch: pytest.MonkeyPatch) -> TransferAddress:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(site.azurite.ca_file))
    return TransferAddress.target(f"{site.azurite.blob_url}/transfer")


def test_names_are_listed_below_a_prefix(site: Site, address: TransferAddress) -> None:
    prefix = f"{site.bundle.transfer_id}/"
    names = [f"{prefix}{name}" for name in ("001", "002", ENVELOPE_NAME)]
    with AzureContainer(address, sas=sas_of(site, "transfer", "rl")) as source:
        assert source.list_names(prefix, most=10) == names
        assert source.list_names(prefix, most=2) == names[:2]
        assert source.list_names("nobody/", most=10) == []
    with AzureContainer(address, sas=sas_of(site, "transfer", "r")) as source:
        with pytest.raises(ServiceError) as caught:
            source.list_names(prefix, most=10)
        assert "l is missing" in caught.value.detail


def test_sas_that_expires_is_replaced_while_it_runs(site: Site, address: TransferAddress) -> None:
    good = sas_of(site, "transfer", "r")
    expired = sas_of(site, "transfer", "r", lifetime_h=-1)
    name = f"{site.bundle.transfer_id}/001"
    with AzureContainer(address, sas=expired, renew=lambda: good) as source:
        stored = source.describe(name)
        assert stored is not None
        pieces = source.read_range(name, offset_bytes=1, size_bytes=9, etag=stored.etag)
        assert b"".join(pieces) == site.bundle.blobs["001"][1:10]


def test_signed_in_identity_reads(site: Site, address: TransferAddress) -> None:
    class Identity:
        def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
            return AccessToken(TokenAuthority().mint("app", "https://storage.azure.com"), 2**31)

    with AzureContainer(address, sas=None, credential=Identity(), token_host=address.host) as source:
        assert source.read_small(f"{site.bundle.transfer_id}/{ENVELOPE_NAME}", max_bytes=10**6)
        assert source.read_small(f"{site.bundle.transfer_id}/none", max_bytes=10**6) is None


def test_container_or_transfer_that_is_not_there(site: Site, pulled: Path) -> None:
    assert site.push(pulled, "nowhere")["code"] == "NOT_FOUND"
    other = make_bundle(transfer_id="nobody0knows")
    assert site.pull(site.volume("nothing"), other)["code"] == "NOT_FOUND"
