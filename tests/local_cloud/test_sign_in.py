"""Signing in with stock credentials, and what somebody learns who may not."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jwt
import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import ClientSecretCredential

from local_cloud.pki import CertificateAuthority
from local_cloud.sign_in import Application, sign_in_app
from local_cloud.tokens import ARM_AUDIENCES, STORAGE_AUDIENCE, TokenAuthority
from local_cloud.web import serve

OWNER = Application(client_id="22222222-2222-2222-2222-222222222222", secret="s3cret", principal_id="owner")
_T = TypeVar("_T")


class SignIn:
    """Where the tenant of ``tokens`` signs in."""

    def __init__(self, tokens: TokenAuthority, url: str, ca_file: Path) -> None:
        self.tokens = tokens
        self.url = url
        self.ca_file = ca_file

    def credential(self, **otherwise: str) -> ClientSecretCredential:
        """What MSAL signs in with."""
        given = {
            "tenant_id": self.tokens.tenant_id,
            "client_id": OWNER.client_id,
            "client_secret": OWNER.secret,
        }
        return ClientSecretCredential(
            **{**given, **otherwise},
            authority=self.url,
            disable_instance_discovery=True,
            connection_verify=str(self.ca_file),
        )

    def ask(self, **form: Any) -> tuple[int, dict[str, Any]]:
        """What the token endpoint answers to a form."""
        url = f"{self.url}/{self.tokens.tenant_id}/oauth2/v2.0/token"
        answer = requests.post(url, data=form, verify=str(self.ca_file), timeout=20)
        return answer.status_code, answer.json()


def signed_in(folder: Path, use: Callable[[SignIn], _T]) -> _T:
    async def scenario() -> _T:
        tokens, ca = TokenAuthority(), CertificateAuthority.create(folder)
        server = await serve(sign_in_app(tokens, [OWNER]), ssl_context=ca.server_context("sign-in"))
        try:
            return await asyncio.to_thread(use, SignIn(tokens, server.url, ca.ca_file))
        finally:
            await server.close()

    return asyncio.run(scenario())


@pytest.mark.parametrize("resource", [*ARM_AUDIENCES, STORAGE_AUDIENCE, "https://0.0.1:4711"])
def test_the_stock_credential_signs_in(tmp_path: Path, resource: str) -> None:
    """Also for an audience that ends with a slash, of which a scope has two."""

    def use(there: SignIn) -> str:
        with there.credential() as credential:
            token = credential.get_token(f"{resource}/.default").token
        return there.tokens.verify(token, resource).principal_id

    assert signed_in(tmp_path, use) == "owner"


@pytest.mark.parametrize(
    ("wrong", "number"),
    [
        ({"client_secret": "guessed"}, "AADSTS7000215"),
        ({"client_id": "33333333-2222-2222-2222-222222222222"}, "AADSTS700016"),
        ({"tenant_id": "44444444-2222-2222-2222-222222222222"}, "AADSTS90002|Unable to get authority"),
    ],
)
def test_whoever_is_not_known_gets_no_token(tmp_path: Path, wrong: dict[str, str], number: str) -> None:
    def use(there: SignIn) -> None:
        with there.credential(**wrong) as credential, pytest.raises(ClientAuthenticationError, match=number):
            credential.get_token("https://management.azure.com/.default")

    signed_in(tmp_path, use)


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"scope": "https://management.azure.com/user_impersonation"}, "invalid_scope"),
        ({"scope": "a/.default b/.default"}, "invalid_scope"),
        ({"scope": "https://elsewhere.example/.default"}, "invalid_resource"),
        ({"client_secret": ""}, "invalid_client"),
    ],
)
def test_what_is_not_offered_is_refused_by_its_name(tmp_path: Path, form: dict[str, str], error: str) -> None:
    whole = {
        "grant_type": "client_credentials",
        "client_id": OWNER.client_id,
        "client_secret": OWNER.secret,
        "scope": "https://management.azure.com/.default",
    }
    status, answer = signed_in(tmp_path, lambda there: there.ask(**{**whole, **form}))
    assert (status in (400, 401), answer["error"]) == (True, error)
    assert OWNER.secret not in str(answer)


def test_msal_for_java_and_javascript_find_what_they_want(tmp_path: Path) -> None:
    """The former asks for scopes of people, too; the latter takes no tenant that names no keys."""

    def use(there: SignIn) -> tuple[int, dict[str, Any]]:
        url = f"{there.url}/{there.tokens.tenant_id}/v2.0/.well-known/openid-configuration"
        known = requests.get(url, verify=str(there.ca_file), timeout=20).json()
        (key,) = requests.get(known["jwks_uri"], verify=str(there.ca_file), timeout=20).json()["keys"]
        status, answer = there.ask(
            grant_type="client_credentials",
            client_id=OWNER.client_id,
            client_secret=OWNER.secret,
            scope="openid profile offline_access https://vault.azure.net/.default",
        )
        claims = jwt.decode(answer["access_token"], jwt.PyJWK(key), audience="https://vault.azure.net")
        return status, claims

    status, claims = signed_in(tmp_path, use)
    assert (status, claims["oid"]) == (200, "owner")


def test_directory_answers_nobody(tmp_path: Path) -> None:
    """As it does an application without rights there: `az` then takes object ids as they are given."""

    def use(there: SignIn) -> list[tuple[int, str]]:
        with there.credential() as credential:
            token = credential.get_token(f"{there.url}/.default").token
        return [
            (answer.status_code, answer.json()["error"]["code"])
            for bearer in (token, "forged")
            for answer in [
                requests.get(
                    f"{there.url}/v1.0/servicePrincipals",
                    headers={"Authorization": f"Bearer {bearer}"},
                    verify=str(there.ca_file),
                    timeout=20,
                )
            ]
        ]

    assert signed_in(tmp_path, use) == [
        (403, "Authorization_RequestDenied"),
        (401, "InvalidAuthenticationToken"),
    ]
