"""One suite for the signing port: keys in memory, and keys and secrets in the local Key Vault."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from azure.core.credentials import AccessToken

from airgap.envelope import Envelope, SignatureCheck
from airgap.keys import public_key_from_pem
from function_app.azure.keyvault import VaultKeys
from function_app.ports import SigningKeys
from local_cloud.key_vault import KeyVault
from local_cloud.pki import CertificateAuthority
from local_cloud.tokens import TokenAuthority
from tests.bundles import new_key
from tests.contract.loop import running_loop, served
from tests.function_app.memory import LocalKeys

PRINCIPAL = "11111111-2222-3333-4444-555555555555"


class Identity:
    """An identity that the vault knows."""

    def __init__(self, tokens: TokenAuthority) -> None:
        self._tokens = tokens

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        token = self._tokens.mint(PRINCIPAL, scopes[0].removesuffix("/.default"))
        return AccessToken(token, int(time.time()) + 3000)


@dataclass
class Held:
    """The port with two keys; what is promised of it, and how the second key is replaced."""

    keys: SigningKeys
    public_pems: list[str]
    rotate: Callable[[], str]
    """Replaces the second key; returns the new one's public half."""


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[KeyVault, str, Identity]]:
    ca = CertificateAuthority.create(tmp_path_factory.mktemp("vault"))
    tokens = TokenAuthority()
    made = KeyVault(tokens)
    made.grant(PRINCIPAL, "keys/get", "keys/sign", "secrets/get")
    with (
        pytest.MonkeyPatch.context() as patch,
        running_loop() as loop,
        served(loop, made.app(), ca.server_context("vault")) as url,
    ):
        patch.setenv("REQUESTS_CA_BUNDLE", str(ca.ca_file))
        yield made, url, Identity(tokens)


def in_memory() -> Held:
    keys = LocalKeys([new_key(), new_key()])

    def rotate() -> str:
        keys.keys = [keys.keys[0], new_key()]
        return keys.keys[1].public_pem

    return Held(keys, [key.public_pem for key in keys.keys], rotate)


def as_vault_keys(vault: KeyVault, url: str, identity: Identity) -> Held:
    pems = [vault.create_ec_key("first", "P-256"), vault.create_ec_key("second", "P-384")]
    ids = [f"{url}/keys/first", f"{url}/keys/second"]
    return Held(VaultKeys(ids, identity), pems, lambda: vault.create_ec_key("second", "P-384"))


def as_secrets(vault: KeyVault, url: str, identity: Identity) -> Held:
    def put(name: str) -> str:
        key = new_key()
        vault.set_secret(name, key.private_pem.decode())
        return key.public_pem

    ids = [f"{url}/secrets/first", f"{url}/secrets/second"]
    return Held(VaultKeys(ids, identity), [put("first"), put("second")], lambda: put("second"))


@pytest.fixture(params=["memory", "vault keys", "vault secrets"])
def held(request: pytest.FixtureRequest) -> Held:
    if request.param == "memory":
        return in_memory()
    vault = request.getfixturevalue("vault")
    return as_vault_keys(*vault) if request.param == "vault keys" else as_secrets(*vault)


def keyids(pems: list[str]) -> list[str]:
    return [str(public_key_from_pem(pem).keyid) for pem in pems]


def test_there_is_one_signer_for_each_key_in_their_order(held: Held) -> None:
    assert [signer.public_key.keyid for signer in held.keys.signers()] == keyids(held.public_pems)


def test_signature_of_each_is_valid_under_its_public_half_and_no_other(held: Held) -> None:
    first, second = (public_key_from_pem(pem) for pem in held.public_pems)
    envelope = Envelope.sign(b"payload", held.keys.signers())
    checks = envelope.check_signatures([first, second])
    assert checks == {first.keyid: SignatureCheck.VALID, second.keyid: SignatureCheck.VALID}
    other = Envelope(payload=b"other", signatures=envelope.signatures)
    assert set(other.check_signatures([first, second]).values()) == {SignatureCheck.FORGED}


def test_signers_sign_again_and_again(held: Held) -> None:
    signers = held.keys.signers()
    public = [public_key_from_pem(pem) for pem in held.public_pems]
    for payload in (b"", b"x" * 100_000, b"payload"):
        checks = Envelope.sign(payload, signers).check_signatures(public)
        assert set(checks.values()) == {SignatureCheck.VALID}


def test_rotated_key_is_seen_at_the_next_look_and_the_old_signer_stays_what_it_was(held: Held) -> None:
    before = held.keys.signers()
    new = held.rotate()
    assert [signer.public_key.keyid for signer in held.keys.signers()] == keyids([held.public_pems[0], new])
    assert before[1].public_key.keyid == keyids(held.public_pems)[1]
