import asyncio
import base64
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

import pytest
import requests
from azure.core.credentials import AccessToken
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.keyvault.keys import KeyClient
from azure.keyvault.keys.crypto import CryptographyClient, SignatureAlgorithm
from azure.keyvault.secrets import SecretClient
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from local_cloud.key_vault import KeyVault, is_loopback_audience
from local_cloud.pki import CertificateAuthority
from local_cloud.tokens import STORAGE_AUDIENCE, TokenAuthority
from local_cloud.web import serve

PRINCIPAL = "11111111-1111-1111-1111-111111111111"
_T = TypeVar("_T")


class _Credential:
    """Asks the tenant directly and remembers for which scopes it was asked."""

    def __init__(self, tokens: TokenAuthority) -> None:
        self._tokens = tokens
        self.scopes: list[str] = []

    def get_token(self, *scopes: str, **_options: Any) -> AccessToken:
        self.scopes += scopes
        return AccessToken(self._tokens.mint(PRINCIPAL, scopes[0].removesuffix("/.default")), 2**33)


class _Setup:
    """A vault, its tenant, and the authority its clients trust."""

    def __init__(self, folder: Path) -> None:
        self.ca = CertificateAuthority.create(folder)
        self.tokens = TokenAuthority()
        self.vault = KeyVault(self.tokens)
        self.credential = _Credential(self.tokens)

    def run(self, use: Callable[[str], _T]) -> _T:
        async def scenario() -> _T:
            server = await serve(self.vault.app(), ssl_context=self.ca.server_context("vault"))
            try:
                return await asyncio.to_thread(use, server.url)
            finally:
                await server.close()

        return asyncio.run(scenario())

    def secret(self, url: str, name: str, version: str | None = None) -> str | None:
        with SecretClient(url, self.credential, connection_verify=str(self.ca.ca_file)) as client:
            return client.get_secret(name, version).value

    def call(self, method: str, url: str, **options: Any) -> requests.Response:
        token = options.pop("token", None) or self.tokens.mint(PRINCIPAL, "https://vault.azure.net")
        return requests.request(
            method,
            url,
            params={"api-version": "7.6"},
            headers={"Authorization": f"Bearer {token}"},
            verify=str(self.ca.ca_file),
            timeout=10,
            **options,
        )


@pytest.fixture
def setup(tmp_path: Path) -> _Setup:
    setup = _Setup(tmp_path)
    setup.vault.set_secret("sas", "?sv=secret")
    setup.vault.grant(PRINCIPAL, "secrets/get", "keys/get", "keys/sign")
    return setup


def test_the_stock_client_reads_a_secret_with_its_challenge_check_on(setup: _Setup) -> None:
    assert setup.run(lambda url: setup.secret(url, "sas")) == "?sv=secret"
    assert [scope.startswith("https://0.0.1:") for scope in setup.credential.scopes] == [True]


def test_the_current_version_is_the_last_one_and_old_ones_stay(setup: _Setup) -> None:
    def use(url: str) -> tuple[str | None, str | None]:
        with SecretClient(url, setup.credential, connection_verify=str(setup.ca.ca_file)) as client:
            first = client.get_secret("sas").properties.version
            setup.vault.set_secret("sas", "second")
            return client.get_secret("sas").value, client.get_secret("sas", first).value

    assert setup.run(use) == ("second", "?sv=secret")


@pytest.mark.parametrize(
    ("curve", "algorithm"), [("P-256", SignatureAlgorithm.es256), ("P-384", SignatureAlgorithm.es384)]
)
def test_the_stock_client_signs(
    setup: _Setup, curve: Literal["P-256", "P-384"], algorithm: SignatureAlgorithm
) -> None:
    public = serialization.load_pem_public_key(setup.vault.create_ec_key("signer", curve).encode())
    assert isinstance(public, ec.EllipticCurvePublicKey)
    digest = (hashlib.sha256 if curve == "P-256" else hashlib.sha384)(b"bundle").digest()

    def use(url: str) -> bytes:
        verify = str(setup.ca.ca_file)
        with KeyClient(url, setup.credential, connection_verify=verify) as keys:
            key = keys.get_key("signer")
        assert vars(key.key)["x"] == public.public_numbers().x.to_bytes(len(digest), "big")
        with CryptographyClient(key, setup.credential, connection_verify=verify) as signer:
            return signer.sign(algorithm, digest).signature

    signature = setup.run(use)
    assert len(signature) == 2 * len(digest)
    r, s = (int.from_bytes(half, "big") for half in (signature[: len(digest)], signature[len(digest) :]))
    hashing = hashes.SHA256() if curve == "P-256" else hashes.SHA384()
    public.verify(utils.encode_dss_signature(r, s), digest, ec.ECDSA(utils.Prehashed(hashing)))


def test_vault_says_whether_it_signed_that(tmp_path: Path) -> None:
    """The JavaScript client asks it; the others verify by themselves."""
    setup = _Setup(tmp_path)
    setup.vault.create_ec_key("signer", "P-384")

    def encoded(content: bytes) -> str:
        return base64.urlsafe_b64encode(content).decode().rstrip("=")

    def use(url: str) -> list[object]:
        digest, other = hashlib.sha384(b"bundle").digest(), hashlib.sha384(b"other").digest()
        setup.vault.grant(PRINCIPAL, "keys/sign")
        order = {"alg": "ES384", "value": encoded(digest)}
        signature = setup.call("POST", f"{url}/keys/signer/sign", json=order).json()["value"]
        asked = {"alg": "ES384", "digest": encoded(digest), "value": signature}
        path = f"{url}/keys/signer//verify"
        forbidden = setup.call("POST", path, json=asked).status_code
        setup.vault.grant(PRINCIPAL, "keys/verify")
        answers = [
            setup.call("POST", path, json={**asked, **change})
            for change in (
                {},
                {"digest": encoded(other)},
                {"value": encoded(bytes(96))},
                {"value": signature[:-4]},
                {"digest": "AAAA"},
                {"alg": "ES256"},
                {"value": 1},
            )
        ]
        return [forbidden, *(one.json().get("value", one.status_code) for one in answers)]

    assert setup.run(use) == [403, True, False, False, False, 400, 400, 400]


def test_a_principal_without_a_grant_is_forbidden(tmp_path: Path) -> None:
    setup = _Setup(tmp_path)
    setup.vault.set_secret("sas", "value")
    with pytest.raises(HttpResponseError) as refused:
        setup.run(lambda url: setup.secret(url, "sas"))
    assert refused.value.status_code == 403
    assert "does not have secrets get permission" in str(refused.value)
    assert "value" not in str(refused.value)


def test_a_grant_for_keys_does_not_open_secrets(tmp_path: Path) -> None:
    setup = _Setup(tmp_path)
    setup.vault.set_secret("sas", "value")
    setup.vault.grant(PRINCIPAL, "keys/get", "keys/sign")
    with pytest.raises(HttpResponseError, match="Forbidden"):
        setup.run(lambda url: setup.secret(url, "sas"))


def test_a_missing_secret_is_not_found(setup: _Setup) -> None:
    with pytest.raises(ResourceNotFoundError, match="SecretNotFound"):
        setup.run(lambda url: setup.secret(url, "other"))
    with pytest.raises(ResourceNotFoundError, match="SecretNotFound"):
        setup.run(lambda url: setup.secret(url, "sas", "0" * 32))


def test_a_missing_key_is_not_found(setup: _Setup) -> None:
    answer = setup.run(lambda url: setup.call("GET", f"{url}/keys/other/"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "KeyNotFound")


def test_without_a_token_the_vault_says_where_to_get_one(setup: _Setup) -> None:
    def use(url: str) -> requests.Response:
        address = f"{url}/secrets/sas/?api-version=7.6"
        return requests.get(address, verify=str(setup.ca.ca_file), timeout=10)

    answer = setup.run(use)
    port = answer.url.split(":")[2].split("/")[0]
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == (
        f'Bearer authorization="https://login.microsoftonline.com/{setup.tokens.tenant_id}",'
        f' resource="https://0.0.1:{port}"'
    )


def test_vault_that_is_called_by_a_name_names_the_parent_of_it(setup: _Setup) -> None:
    """Clients in JavaScript and Java parse the resource: ``0.0.1`` becomes ``0.0.0.1`` there, or no host.

    Seen with @azure/keyvault-keys 4.10 and azure-security-keyvault-keys 4.10. A token for either is good.
    """

    def use(url: str) -> tuple[str, int]:
        port = url.rsplit(":", 1)[1]
        name = {"Host": f"some-keys.vault.localhost:{port}"}
        address = f"{url}/secrets/sas/?api-version=7.6"
        challenge = requests.get(address, headers=name, verify=str(setup.ca.ca_file), timeout=10)
        resource = f"https://vault.localhost:{port}"
        assert challenge.headers["WWW-Authenticate"].endswith(f'resource="{resource}"')
        assert is_loopback_audience(resource)
        token = setup.tokens.mint(PRINCIPAL, resource)
        return resource, setup.call("GET", f"{url}/secrets/sas/", token=token).status_code

    assert setup.run(use)[1] == 200


@pytest.mark.parametrize("audience", [STORAGE_AUDIENCE, "https://0.0.1:1", "https://vault.localhost:1"])
def test_a_token_for_another_service_or_vault_is_refused(setup: _Setup, audience: str) -> None:
    token = setup.tokens.mint(PRINCIPAL, audience)
    answer = setup.run(lambda url: setup.call("GET", f"{url}/secrets/sas/", token=token))
    assert answer.status_code == 401


@pytest.mark.parametrize(
    "order",
    [
        {"alg": "ES384", "value": "A" * 43},
        {"alg": "ES256", "value": "A" * 64},
        {"alg": "ES256", "value": ""},
        {"alg": "ES256", "value": "!" * 43},
        {"alg": "RS256", "value": "A" * 43},
        {"alg": 1, "value": None},
        [],
    ],
    ids=[
        "other curve",
        "long digest",
        "no digest",
        "not base64",
        "other algorithm",
        "types",
        "not an object",
    ],
)
def test_a_signing_order_that_does_not_fit_the_key_is_refused(setup: _Setup, order: object) -> None:
    setup.vault.create_ec_key("signer", "P-256")
    answer = setup.run(lambda url: setup.call("POST", f"{url}/keys/signer//sign", json=order))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "BadParameter")


@pytest.mark.parametrize("name", ["", "a/b", "a b", "é"])
def test_a_name_that_key_vault_would_not_take_is_refused(setup: _Setup, name: str) -> None:
    with pytest.raises(ValueError, match="not a Key Vault object name"):
        setup.vault.set_secret(name, "value")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", "secrets/sas", 403),
        ("DELETE", "secrets/sas", 403),
        ("GET", "secrets", 403),
        ("POST", "keys/signing/create", 403),
        ("POST", "keys/signing/0123/decrypt", 403),
        ("DELETE", "keys/signing", 403),
        ("POST", "something/else", 405),
    ],
)
def test_what_nobody_may_is_refused_behind_the_challenge(
    tmp_path: Path, method: str, path: str, status: int
) -> None:
    setup = _Setup(tmp_path)
    setup.vault.set_secret("sas", "value")
    setup.vault.grant(PRINCIPAL, "secrets/get", "keys/get", "keys/sign")

    def call(url: str) -> tuple[int, int, bool]:
        address, trusted = f"{url}/{path}?api-version=7.6", str(setup.ca.ca_file)
        anonymous = requests.request(method, address, verify=trusted, timeout=10)
        token = setup.tokens.mint(PRINCIPAL, "https://vault.azure.net")
        headers = {"Authorization": f"Bearer {token}"}
        known = requests.request(method, address, headers=headers, verify=trusted, timeout=10)
        return anonymous.status_code, known.status_code, "WWW-Authenticate" in anonymous.headers

    assert setup.run(call) == (401, status, True)
    assert setup.run(lambda url: setup.secret(url, "sas")) == "value"


def test_api_version_that_key_vault_has_not_is_refused(tmp_path: Path) -> None:
    setup = _Setup(tmp_path)

    def call(url: str) -> str:
        address = f"{url}/secrets/sas?api-version=1999-01-01"
        answer = requests.get(address, verify=str(setup.ca.ca_file), timeout=10)
        return f"{answer.status_code} {answer.json()['error']['message']}"

    assert setup.run(call).startswith("400 The specified version (1999-01-01) is not recognized")


def test_assigned_role_on_one_secret_opens_no_other(tmp_path: Path) -> None:
    setup = _Setup(tmp_path)
    setup.vault = KeyVault(
        setup.tokens,
        assigned=lambda principal, permission, place: (
            (principal, permission, place) == (PRINCIPAL, "secrets/get", "secrets/sas")
        ),
    )
    setup.vault.set_secret("sas", "value")
    setup.vault.set_secret("other", "value")
    assert setup.run(lambda url: setup.secret(url, "sas")) == "value"
    with pytest.raises(HttpResponseError) as refused:
        setup.run(lambda url: setup.secret(url, "other"))
    assert refused.value.status_code == 403


def test_the_stock_client_sets_a_version_and_lists_all_of_them_without_values(setup: _Setup) -> None:
    setup.vault.grant(PRINCIPAL, "secrets/set", "secrets/list")
    ends = datetime(2031, 1, 2, 3, 4, 5, tzinfo=UTC)

    def use(url: str) -> list[tuple[datetime | None, bool | None]]:
        with SecretClient(url, setup.credential, connection_verify=str(setup.ca.ca_file)) as client:
            for number in range(60):
                client.set_secret("sas", f"?sv={number}", expires_on=ends, tags={"a": "b"}, content_type="t")
            last = client.get_secret("sas")
            assert (last.value, last.properties.expires_on) == ("?sv=59", ends)
            assert (last.properties.tags, last.properties.content_type) == ({"a": "b"}, "t")
            found = list(client.list_properties_of_secret_versions("sas"))
            assert list(client.list_properties_of_secret_versions("other")) == []
        assert len({one.version for one in found}) == len(found)
        return [(one.expires_on, one.enabled) for one in found]

    assert setup.run(use) == [(ends, True)] * 60 + [(None, True)]


def test_a_disabled_version_is_listed_and_not_read_and_a_new_one_is(setup: _Setup) -> None:
    setup.vault.grant(PRINCIPAL, "secrets/set", "secrets/list")
    setup.vault.disable_secret("sas")

    def use(url: str) -> str | None:
        with SecretClient(url, setup.credential, connection_verify=str(setup.ca.ca_file)) as client:
            assert [one.enabled for one in client.list_properties_of_secret_versions("sas")] == [False]
            with pytest.raises(HttpResponseError, match="disabled secret"):
                client.get_secret("sas")
            client.set_secret("sas", "?sv=new")
            return client.get_secret("sas").value

    assert setup.run(use) == "?sv=new"


@pytest.mark.parametrize("granted", ["secrets/set", "secrets/list"])
def test_who_sets_a_secret_does_not_see_or_read_it_and_who_lists_does_not_set(
    setup: _Setup, granted: Literal["secrets/set", "secrets/list"]
) -> None:
    setup.vault._permissions.clear()
    setup.vault.grant(PRINCIPAL, granted)

    def use(url: str) -> tuple[int, int, int]:
        return (
            setup.call("PUT", f"{url}/secrets/sas", json={"value": "x"}).status_code,
            setup.call("GET", f"{url}/secrets/sas/versions").status_code,
            setup.call("GET", f"{url}/secrets/sas").status_code,
        )

    assert setup.run(use) == ((200, 403, 403) if granted == "secrets/set" else (403, 200, 403))


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"value": 1},
        {"value": "x" * 25 * 1024 + "x"},
        {"value": "x", "attributes": {"exp": "soon"}},
        {"value": "x", "attributes": ["exp"]},
        {"value": "x", "tags": {str(number): "" for number in range(16)}},
        [],
    ],
    ids=str,
)
def test_a_secret_that_is_none_is_not_set(setup: _Setup, body: Any) -> None:
    setup.vault.grant(PRINCIPAL, "secrets/set")
    assert setup.run(lambda url: setup.call("PUT", f"{url}/secrets/sas", json=body).status_code) == 400
    assert setup.vault.secret_values("sas") == ["?sv=secret"]
