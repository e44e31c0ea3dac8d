"""The signing port against the local Key Vault: keys that sign in the vault, and PEM secrets."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from cryptography.hazmat.primitives.asymmetric import mldsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from airgap.envelope import Envelope, SignatureCheck
from airgap.errors import AirgapError, Code
from airgap.keys import public_key_from_pem
from function_app.azure.keyvault import VaultKeys
from local_cloud.key_vault import KeyVault
from local_cloud.pki import CertificateAuthority
from local_cloud.tokens import TokenAuthority
from local_cloud.web import serve
from tests.bundles import new_key

PRINCIPAL = "11111111-2222-3333-4444-555555555555"


class Setup:
    def __init__(self, folder: Path) -> None:
        self.ca = CertificateAuthority.create(folder)
        self.tokens = TokenAuthority()
        self.vault = KeyVault(self.tokens)

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        token = self.tokens.mint(PRINCIPAL, scopes[0].removesuffix("/.default"))
        return AccessToken(token, int(time.time()) + 3000)

    def run(self, use: Callable[[str], None]) -> None:
        async def scenario() -> None:
            server = await serve(self.vault.app(), ssl_context=self.ca.server_context("vault"))
            try:
                await asyncio.to_thread(use, server.url)
            finally:
                await server.close()

        asyncio.run(scenario())


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    made = Setup(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(made.ca.ca_file))
    return made


@pytest.mark.parametrize("curve", ["P-256", "P-384"])
def test_signature_made_in_the_vault_is_valid_under_the_keys_public_half(setup: Setup, curve: Any) -> None:
    public = public_key_from_pem(setup.vault.create_ec_key("signing", curve))
    setup.vault.grant(PRINCIPAL, "keys/get", "keys/sign")

    def use(url: str) -> None:
        for _ in range(5):  # r and s vary in length
            envelope = Envelope.sign(b"payload", VaultKeys([f"{url}/keys/signing"], setup).signers())
            assert envelope.check_signatures([public]) == {public.keyid: SignatureCheck.VALID}

    setup.run(use)


def test_hybrid_of_a_vault_key_and_a_post_quantum_secret_signs_twice(setup: Setup) -> None:
    setup.vault.create_ec_key("signing", "P-384")
    private = mldsa.MLDSA87PrivateKey.generate()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    setup.vault.set_secret("pq", pem.decode())
    setup.vault.grant(PRINCIPAL, "keys/get", "keys/sign", "secrets/get")

    def use(url: str) -> None:
        signers = VaultKeys([f"{url}/keys/signing", f"{url}/secrets/pq"], setup).signers()
        envelope = Envelope.sign(b"payload", signers)
        checks = envelope.check_signatures([signer.public_key for signer in signers])
        assert list(checks.values()) == [SignatureCheck.VALID] * 2

    setup.run(use)


def test_rotated_key_is_seen(setup: Setup) -> None:
    setup.vault.create_ec_key("signing", "P-384")
    setup.vault.grant(PRINCIPAL, "keys/get", "keys/sign")

    def use(url: str) -> None:
        keys = VaultKeys([f"{url}/keys/signing"], setup)
        before = keys.signers()[0].public_key.keyid
        setup.vault.create_ec_key("signing", "P-384")
        assert keys.signers()[0].public_key.keyid != before

    setup.run(use)


@pytest.mark.parametrize(
    ("grants", "path", "code"),
    [
        ((), "keys/signing", Code.SERVICE_DENIED),
        (("keys/get",), "keys/signing", Code.SERVICE_DENIED),
        (("keys/get", "keys/sign"), "keys/unknown", Code.NOT_FOUND),
        (("secrets/get",), "secrets/broken", Code.SETTING_INVALID),
    ],
    ids=["no permission", "may read but not sign", "no such key", "secret is no key"],
)
def test_key_that_cannot_sign_is_refused_by_code_and_no_secret_shows(
    setup: Setup, grants: Any, path: str, code: Code
) -> None:
    setup.vault.create_ec_key("signing", "P-384")
    secret = new_key().private_pem.decode()[:-40]
    setup.vault.set_secret("broken", secret)
    setup.vault.grant(PRINCIPAL, *grants)

    def use(url: str) -> None:
        with pytest.raises(AirgapError) as caught:
            Envelope.sign(b"payload", VaultKeys([f"{url}/{path}"], setup).signers())
        assert caught.value.code is code
        assert secret.splitlines()[1] not in str(caught.value)

    setup.run(use)
