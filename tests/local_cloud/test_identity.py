import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import ManagedIdentityCredential

from local_cloud.identity import PATH, Identity, identity_app
from local_cloud.tokens import STORAGE_AUDIENCE, TokenAuthority
from local_cloud.web import serve

PRINCIPAL = "11111111-1111-1111-1111-111111111111"
CLIENT = "22222222-2222-2222-2222-222222222222"
SECRET = "header-secret"
ONE = Identity(CLIENT, PRINCIPAL)
_T = TypeVar("_T")


def _with_endpoint(
    tokens: TokenAuthority, use: Callable[[str], _T], identities: Sequence[Identity] = (ONE,)
) -> _T:
    async def scenario() -> _T:
        app = identity_app(tokens, identities, header_secret=SECRET)
        server = await serve(app)
        try:
            return await asyncio.to_thread(use, server.url + PATH)
        finally:
            await server.close()

    return asyncio.run(scenario())


@pytest.fixture
def function_app_env(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def set_endpoint(url: str) -> None:
        monkeypatch.setenv("IDENTITY_ENDPOINT", url)
        monkeypatch.setenv("IDENTITY_HEADER", SECRET)

    return set_endpoint


@pytest.mark.parametrize("client_id", [None, CLIENT], ids=["system-assigned", "user-assigned"])
@pytest.mark.parametrize(
    "resource",
    [STORAGE_AUDIENCE, "https://vault.azure.net", "https://management.azure.com", "https://0.0.1:4711"],
)
def test_the_stock_credential_gets_a_token(
    function_app_env: Callable[[str], None], client_id: str | None, resource: str
) -> None:
    tokens = TokenAuthority()

    def use(url: str) -> str:
        function_app_env(url)
        with ManagedIdentityCredential(client_id=client_id) as credential:
            return str(credential.get_token(f"{resource}/.default").token)

    claims = tokens.verify(_with_endpoint(tokens, use), resource)
    assert claims.principal_id == PRINCIPAL


def test_each_of_several_identities_has_tokens_of_its_own_and_none_is_the_default(
    function_app_env: Callable[[str], None],
) -> None:
    tokens, other = TokenAuthority(), Identity("other client", "other principal")

    def use(url: str) -> list[str]:
        function_app_env(url)
        found = []
        for identity in (ONE, other):
            with ManagedIdentityCredential(client_id=identity.client_id) as credential:
                found.append(credential.get_token(f"{STORAGE_AUDIENCE}/.default").token)
        with (
            ManagedIdentityCredential() as credential,
            pytest.raises(ClientAuthenticationError, match="No User Assigned"),
        ):
            credential.get_token(f"{STORAGE_AUDIENCE}/.default")
        return found

    found = _with_endpoint(tokens, use, [ONE, other])
    assert [tokens.verify(one, STORAGE_AUDIENCE).principal_id for one in found] == [
        PRINCIPAL,
        "other principal",
    ]


@pytest.mark.parametrize(
    ("client_id", "resource", "said"),
    [
        ("33333333-3333-3333-3333-333333333333", STORAGE_AUDIENCE, "No User Assigned"),
        (CLIENT, "https://unknown.example", "AADSTS500011"),
    ],
    ids=["another identity", "unknown resource"],
)
def test_the_stock_credential_is_refused(
    function_app_env: Callable[[str], None], client_id: str, resource: str, said: str
) -> None:
    def use(url: str) -> None:
        function_app_env(url)
        with ManagedIdentityCredential(client_id=client_id) as credential:
            credential.get_token(f"{resource}/.default")

    with pytest.raises(ClientAuthenticationError, match=said):
        _with_endpoint(TokenAuthority(), use)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, 200),
        ({"header": None}, 401),
        ({"header": "guessed"}, 401),
        ({"header": "gu\u00e9ssed"}, 401),
        ({"client_id": "someone"}, 400),
        ({"principal_id": "someone"}, 400),
        ({"mi_res_id": "/subscriptions/s"}, 400),
        ({"resource": "https://evil.example"}, 400),
        ({"resource": "https://0.0.1:4711/more"}, 400),
        ({"resource": "https://10.0.0.1:4711"}, 400),
        ({"resource": None}, 400),
        ({"api-version": "2017-09-01"}, 400),
    ],
    ids=str,
)
def test_statuses(change: dict[str, str | None], status: int) -> None:
    asked: dict[str, str | None] = {
        "api-version": "2019-08-01",
        "resource": STORAGE_AUDIENCE,
        "header": SECRET,
    }
    asked |= change

    def use(url: str) -> requests.Response:
        header = asked.pop("header")
        headers = {} if header is None else {"X-IDENTITY-HEADER": header.encode("latin-1")}
        return requests.get(url, params=asked, headers=headers, timeout=10)

    answer = _with_endpoint(TokenAuthority(), use)
    assert answer.status_code == status
    if status != 200:
        assert answer.json()["statusCode"] == status
        assert "access_token" not in answer.text


def test_the_answer_has_app_services_fields() -> None:
    def use(url: str) -> requests.Response:
        params = {"api-version": "2019-08-01", "resource": STORAGE_AUDIENCE}
        return requests.get(url, params=params, headers={"X-IDENTITY-HEADER": SECRET}, timeout=10)

    fields = _with_endpoint(TokenAuthority(), use).json()
    assert fields["token_type"] == "Bearer"
    assert fields["resource"] == STORAGE_AUDIENCE
    assert fields["expires_on"].isdigit()


def test_no_secret_is_echoed() -> None:
    def use(url: str) -> requests.Response:
        return requests.get(url, headers={"X-IDENTITY-HEADER": SECRET + "x"}, timeout=10)

    assert SECRET not in _with_endpoint(TokenAuthority(), use).text
