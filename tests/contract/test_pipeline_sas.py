"""The port that renews the SAS of a pipeline: in memory, and in the local vault with a key of the storage.

What the SAS is worth is asked of the storage itself. When it is renewed is decided elsewhere.
"""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

import pytest
import requests
from azure.core.credentials import AccessToken

from airgap.errors import AirgapError, Code, ServiceError
from airgap.pipeline_sas import SasVersion
from function_app.azure.blob import AzureBlobs
from function_app.azure.pipeline_sas import VaultPipelineSas
from function_app.ports import PipelineSas
from local_cloud.azurite import Azurite
from local_cloud.key_vault import KeyVault
from local_cloud.pki import CertificateAuthority
from local_cloud.tokens import STORAGE_AUDIENCE, TokenAuthority
from tests.contract.loop import running_loop, served
from tests.function_app.memory import MemorySas

PRINCIPAL = "11111111-2222-3333-4444-666666666666"
NOW = datetime.now(UTC).replace(microsecond=0)
SINCE, UNTIL = NOW - timedelta(minutes=5), NOW + timedelta(days=6)
Storage = tuple[Azurite, AzureBlobs]


class Identity:
    """An identity that the storage and the vault know; of the storage it may be refused a token."""

    def __init__(self, tokens: TokenAuthority) -> None:
        self._tokens = tokens

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        audience = scopes[0].removesuffix("/.default")
        who = "app" if audience == STORAGE_AUDIENCE else PRINCIPAL
        return AccessToken(self._tokens.mint(who, audience), int(time.time()) + 3000)


@dataclass
class Held:
    """The port on a secret that the deployment has made, and how somebody disables its newest version."""

    port: PipelineSas
    disable: Callable[[], None]


@dataclass
class Vault:
    """The local vault with the secret that the pipeline reads, and where it is served."""

    vault: KeyVault
    url: str
    identity: Identity

    def port(self, azurite: Azurite, name: str) -> VaultPipelineSas:
        return VaultPipelineSas(f"{self.url}/secrets/{name}", azurite.blob_url, self.identity, retries=0)


@pytest.fixture(scope="module")
def vault(ca: CertificateAuthority) -> Iterator[Vault]:
    tokens = TokenAuthority()
    made = KeyVault(tokens)
    made.grant(PRINCIPAL, "secrets/list", "secrets/set")
    with (
        running_loop() as loop,
        served(loop, made.app(), ca.server_context("vault")) as url,
    ):
        yield Vault(made, url, Identity(tokens))


@pytest.fixture
def secret(request: pytest.FixtureRequest, vault: Vault) -> str:
    """The name of a secret of this test's own, with the SAS of the deployment in it."""
    name = f"sas{abs(hash(request.node.name)) % 10**9}"
    vault.vault.set_secret(name, "?sv=of-the-deployment")
    return name


@pytest.fixture(params=["memory", pytest.param("vault", marks=pytest.mark.e2e)])
def held(request: pytest.FixtureRequest) -> Held:
    if request.param == "memory":
        memory = MemorySas(clock=lambda: datetime.now(UTC))
        memory.versions.append(SasVersion(created_at=NOW, expires_at=None, is_enabled=True))

        def disable() -> None:
            last = memory.versions[-1]
            memory.versions[-1] = SasVersion(
                created_at=last.created_at, expires_at=last.expires_at, is_enabled=False
            )

        return Held(memory, disable)
    served_vault: Vault = request.getfixturevalue("vault")
    name: str = request.getfixturevalue("secret")
    azurite: Storage = request.getfixturevalue("azurite")
    port = served_vault.port(azurite[0], name)
    return Held(port, lambda: served_vault.vault.disable_secret(name))


def test_sas_of_the_deployment_does_not_say_when_it_ends(held: Held) -> None:
    newest = held.port.newest()
    assert newest is not None
    assert (newest.expires_at, newest.is_enabled) == (None, True)
    assert abs(newest.created_at - datetime.now(UTC)) < timedelta(hours=1)


def test_renewed_one_is_the_newest_and_ends_when_its_sas_does(held: Held) -> None:
    for days in (6, 5):  # the newest is the one made last, not the one that is good for longest
        until = NOW + timedelta(days=days)
        held.port.renew("rl", valid_from=SINCE, expires_at=until)
    newest = held.port.newest()
    assert newest is not None
    assert newest.is_enabled
    assert newest.expires_at in {UNTIL, UNTIL - timedelta(days=1)}  # made in the same second: either


def test_asking_for_a_key_changes_nothing(held: Held) -> None:
    before = held.port.newest()
    held.port.require_key(valid_from=SINCE, expires_at=UNTIL)
    assert held.port.newest() == before


def test_version_that_somebody_disabled_is_told_as_such(held: Held) -> None:
    held.port.renew("rl", valid_from=SINCE, expires_at=UNTIL)
    held.disable()
    newest = held.port.newest()
    assert newest is not None
    assert not newest.is_enabled


@pytest.mark.e2e
def test_secret_that_is_not_there_has_no_version(vault: Vault, azurite: Storage) -> None:
    assert vault.port(azurite[0], "never-made").newest() is None


@pytest.mark.e2e
def test_sas_opens_the_container_as_far_as_it_says_and_the_old_one_goes_on(
    vault: Vault, azurite: Storage, secret: str, ca: CertificateAuthority
) -> None:
    port = vault.port(azurite[0], secret)
    for _ in range(2):
        port.renew("rl", valid_from=SINCE, expires_at=UNTIL)
    deployed, *renewed = vault.vault.secret_values(secret)
    assert deployed == "?sv=of-the-deployment"
    for sas in renewed:
        said = dict(parse_qsl(sas.removeprefix("?"), strict_parsing=True))
        assert (sas[0], said["sr"], said["sp"], said["spr"]) == ("?", "c", "rl", "https")
        assert said["se"] == f"{UNTIL:%Y-%m-%dT%H:%M:%SZ}"
        url = f"{azurite[0].blob_url}/transfer{sas}"
        listed = requests.get(f"{url}&restype=container&comp=list", verify=str(ca.ca_file), timeout=30)
        assert listed.status_code == 200
        headers = {"x-ms-blob-type": "BlockBlob"}
        written = requests.put(
            url.replace("/transfer?", "/transfer/x?"),
            data=b"x",
            headers=headers,
            verify=str(ca.ca_file),
            timeout=30,
        )
        assert written.status_code == 403


@pytest.mark.e2e
def test_sas_that_would_open_nothing_does_not_come_in_the_place_of_a_good_one(
    vault: Vault, azurite: Storage, secret: str
) -> None:
    """Azurite asks no role: here the container is not there, and in tests/e2e/test_roles.py the role."""
    with azurite[0].service_client() as service:
        service.delete_container("transfer")
        try:
            with pytest.raises(ServiceError, match="the identity that signs") as refused:
                vault.port(azurite[0], secret).renew("rl", valid_from=SINCE, expires_at=UNTIL)
        finally:
            service.create_container("transfer")
    assert refused.value.code is Code.NOT_FOUND
    assert vault.vault.secret_values(secret) == ["?sv=of-the-deployment"]


@pytest.mark.e2e
def test_newest_of_many_versions_is_found_whatever_page_it_is_on(
    vault: Vault, azurite: Storage, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([*range(1000, 1060), 900, 901])
    monkeypatch.setattr(vault.vault, "_clock", lambda: next(times))
    for _ in range(62):
        vault.vault.set_secret(secret, "?sv=x")
    made = [one.created_s for one in vault.vault._secrets[secret][1:]]
    assert max(made) == 1059
    vault.vault._secrets[secret].pop(0)
    newest = vault.port(azurite[0], secret).newest()
    assert newest is not None
    assert newest.created_at == datetime.fromtimestamp(1059, UTC)


@pytest.mark.e2e
def test_identity_without_its_role_in_the_vault_is_denied_and_nothing_tells_the_sas(
    vault: Vault,
    azurite: Storage,
    secret: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    port = vault.port(azurite[0], secret)
    port.renew("rawl", valid_from=SINCE, expires_at=UNTIL)
    (signature,) = (one[1] for one in parse_qsl(vault.vault.secret_values(secret)[-1]) if one[0] == "sig")
    monkeypatch.setattr(vault.vault, "_permissions", {})
    with pytest.raises(AirgapError) as looking:
        port.newest()
    with pytest.raises(AirgapError) as renewing:
        port.renew("rawl", valid_from=SINCE, expires_at=UNTIL)
    for refusal in (looking, renewing):
        assert refusal.value.code is Code.SERVICE_DENIED
        assert "sig=" not in refusal.value.detail
    assert len(vault.vault.secret_values(secret)) == 2
    assert signature not in caplog.text
    assert "sig=" not in caplog.text


@pytest.mark.e2e
def test_vault_or_storage_that_is_away_is_an_outage_and_leaves_the_secret_as_it_is(
    vault: Vault, azurite: Storage, secret: str
) -> None:
    gone = "https://127.0.0.1:1"
    no_vault = VaultPipelineSas(f"{gone}/secrets/x", azurite[0].blob_url, vault.identity, retries=0)
    no_storage = VaultPipelineSas(f"{vault.url}/secrets/{secret}", f"{gone}/acc", vault.identity, retries=0)
    for port in (no_vault, no_storage):
        with pytest.raises(ServiceError) as outage:
            port.renew("rl", valid_from=SINCE, expires_at=UNTIL)
        assert outage.value.code is Code.SERVICE_UNREACHABLE
    with pytest.raises(ServiceError):
        no_storage.require_key(valid_from=SINCE, expires_at=UNTIL)
    with pytest.raises(ServiceError):
        no_vault.newest()
    assert vault.vault.secret_values(secret) == ["?sv=of-the-deployment"]
