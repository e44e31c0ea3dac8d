"""A person's key in Key Vault: the local vault over HTTPS, and vaults that must not be believed."""

import base64
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.hashes import SHA256

from airgap.envelope import Envelope, SignatureCheck
from airgap.errors import AirgapError, Code
from airgap.keys import public_key_from_pem
from local_cloud.key_vault import KeyVault
from local_cloud.pki import CertificateAuthority
from local_cloud.tokens import TokenAuthority
from offline_mover.cli import main
from offline_mover.storage.vault_key import KeyAddress, VaultSigner, open_vault_key
from tests.bundles import default_key, make_policy, new_key
from tests.contract.loop import running_loop, served
from tests.offline_mover.conftest import Bench

PERSON = "11111111-2222-3333-4444-555555555555"


@dataclass
class Identity:
    """Who is signed in."""

    tokens: TokenAuthority
    person: str = PERSON
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def get_token(self, *scopes: str, tenant_id: str | None = None, **_: Any) -> AccessToken:
        self.asked.append((scopes[0], tenant_id))
        token = self.tokens.mint(self.person, scopes[0].removesuffix("/.default"))
        return AccessToken(token, int(time.time()) + 3000)


class Nobody:
    def get_token(self, *_: str, **__: Any) -> AccessToken:
        raise ClientAuthenticationError("az login")


@dataclass
class Place:
    """The local vault, and how the mover gets at it."""

    vault: KeyVault
    url: str
    identity: Identity

    def open(self, name: str, credential: Any = None) -> VaultSigner:
        address = KeyAddress.read(f"{self.url}/keys/{name}", "--key", token_host=self.url.split("//")[1])
        return open_vault_key(address, credential=credential or self.identity)


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CertificateAuthority]:
    made = CertificateAuthority.create(tmp_path_factory.mktemp("vault"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REQUESTS_CA_BUNDLE", str(made.ca_file))
        yield made


@pytest.fixture(scope="module")
def place(ca: CertificateAuthority) -> Iterator[Place]:
    tokens = TokenAuthority()
    vault = KeyVault(tokens)
    vault.grant(PERSON, "keys/get", "keys/sign")
    with running_loop() as loop, served(loop, vault.app(), ca.server_context("vault")) as url:
        yield Place(vault, url, Identity(tokens))


def refusal_of(act: Callable[[], object]) -> AirgapError:
    with pytest.raises(AirgapError) as refusal:
        act()
    return refusal.value


@pytest.mark.parametrize("curve", ["P-256", "P-384"])
def test_what_the_vault_signs_verifies_by_the_public_half_everywhere(curve: Any, place: Place) -> None:
    key = public_key_from_pem(place.vault.create_ec_key("officer", curve))
    signer = place.open("officer")
    assert signer.public_key == key
    envelope = Envelope.sign(b"{}", [signer])
    assert envelope.check_signatures([key]) == {key.keyid: SignatureCheck.VALID}


def test_signer_stays_with_the_version_that_it_was_opened_with(place: Place) -> None:
    place.vault.create_ec_key("rotated", "P-384")
    before = place.open("rotated")
    after = public_key_from_pem(place.vault.create_ec_key("rotated", "P-384"))
    envelope = Envelope.sign(b"{}", [before])
    assert set(envelope.check_signatures([before.public_key]).values()) == {SignatureCheck.VALID}
    assert place.open("rotated").public_key == after


def test_version_can_be_named(place: Place) -> None:
    place.vault.create_ec_key("versions", "P-384")
    first = place.open("versions")
    place.vault.create_ec_key("versions", "P-384")
    named = place.open(f"versions/{first._version}")
    assert named.public_key == first.public_key


def test_token_is_asked_for_the_vaults_audience_and_in_the_tenant_that_it_names(place: Place) -> None:
    place.vault.create_ec_key("audience", "P-384")
    strange = Identity(TokenAuthority())  # of another tenant
    assert refusal_of(lambda: place.open("audience", strange)).code is Code.CREDENTIAL_EXPIRED
    port = place.url.rpartition(":")[2]
    (first, _), (again, tenant) = strange.asked
    assert first == again == f"https://0.0.1:{port}/.default"
    assert tenant


def test_whoever_may_not_use_the_key_is_told_which_role_is_missing(place: Place) -> None:
    place.vault.create_ec_key("others", "P-384")
    refusal = refusal_of(lambda: place.open("others", Identity(place.identity.tokens, person="2" * 32)))
    assert refusal.code is Code.SERVICE_DENIED
    assert '--role "Key Vault Crypto User"' in refusal.remedy
    assert "/keys/others" in refusal.remedy


def test_whoever_may_look_at_the_key_and_not_sign_with_it_is_told_likewise(place: Place) -> None:
    place.vault.create_ec_key("looked-at", "P-384")
    place.vault.grant("reader", "keys/get")
    signer = place.open("looked-at", Identity(place.identity.tokens, person="reader"))
    refusal = refusal_of(lambda: signer.sign(b"{}"))
    assert (refusal.code, "Crypto User" in refusal.remedy) == (Code.SERVICE_DENIED, True)


def test_key_that_is_not_there_is_told_with_how_to_find_the_right_name(place: Place) -> None:
    refusal = refusal_of(lambda: place.open("nobodys"))
    assert refusal.code is Code.NOT_FOUND
    assert "az keyvault key list" in refusal.remedy


def test_key_that_is_disabled_is_told_with_how_to_enable_it(place: Place) -> None:
    place.vault.create_ec_key("off", "P-384")
    signer = place.open("off")
    place.vault.disable_key("off")
    for act in (lambda: place.open("off"), lambda: signer.sign(b"{}")):
        refusal = refusal_of(act)
        assert refusal.code is Code.SERVICE_DENIED
        assert "disabled" in refusal.detail
        assert "--enabled true" in refusal.remedy


def test_person_who_is_not_signed_in_is_told_so(place: Place) -> None:
    refusal = refusal_of(lambda: place.open("officer", Nobody()))
    assert refusal.code is Code.CREDENTIAL_EXPIRED
    assert "az login" in refusal.detail


# --- which vault -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "audience"),
    [
        ("contoso.vault.azure.net", "https://vault.azure.net"),
        ("contoso.vault.usgovcloudapi.net", "https://vault.usgovcloudapi.net"),
        ("contoso.vault.azure.cn", "https://vault.azure.cn"),
        ("contoso.managedhsm.azure.net", "https://managedhsm.azure.net"),
        ("CONTOSO.vault.azure.net", "https://vault.azure.net"),
    ],
)
def test_vaults_of_azures_clouds_are_known(host: str, audience: str) -> None:
    address = KeyAddress.read(f"https://{host}/keys/officer/0a1b", "--key", token_host=None)
    assert (address.audience, address.name, address.version) == (audience, "officer", "0a1b")


@pytest.mark.parametrize(
    "text",
    [
        "https://evil.example/keys/officer",
        "https://vault.azure.net.evil.example/keys/officer",
        "https://evil.example/contoso.vault.azure.net/keys/officer",
        "https://a.b.vault.azure.net/keys/officer",
        "http://contoso.vault.azure.net/keys/officer",
        "https://me@contoso.vault.azure.net/keys/officer",
        "https://contoso.vault.azure.net/secrets/officer",
        "https://contoso.vault.azure.net/keys/officer/../other",
        "https://contoso.vault.azure.net/keys/officer?x=1",
        "https://contoso.vault.azure.net/keys/",
    ],
)
def test_sign_in_is_shown_to_no_other_place(text: str) -> None:
    refusal = refusal_of(lambda: KeyAddress.read(text, "--key", token_host=None))
    assert refusal.code is Code.USAGE


# --- vaults that must not be believed ----------------------------------------------------------------------

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def jwk(private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, **changes: Any) -> dict[str, Any]:
    if isinstance(private, rsa.RSAPrivateKey):
        public = private.public_key().public_numbers()
        parts = {"kty": "RSA", "n": encoded(public.n.to_bytes(512)), "e": encoded(public.e.to_bytes(3))}
    else:
        numbers = private.public_key().public_numbers()
        x, y = (encoded(one.to_bytes(48)) for one in (numbers.x, numbers.y))
        parts = {"kty": "EC", "crv": "P-384", "x": x, "y": y}
    return {"kid": "https://v/keys/officer/1", **parts, **changes}


@contextmanager
def vault_of(ca: CertificateAuthority, get: Handler, sign: Handler | None = None) -> Iterator[Place]:
    app = web.Application()
    app.router.add_get("/keys/{path:.*}", get)
    if sign is not None:
        app.router.add_post("/keys/officer/1/sign", sign)
    with running_loop() as loop, served(loop, app, ca.server_context("other")) as url:
        tokens = TokenAuthority()
        yield Place(KeyVault(tokens), url, Identity(tokens))


def says(value: Any, status: int = 200, **headers: str) -> Handler:
    async def answer(_: web.Request) -> web.StreamResponse:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        return web.Response(body=body, status=status, headers=headers, content_type="application/json")

    return answer


PRIVATE = ec.generate_private_key(ec.SECP384R1())
KEY = {"key": jwk(PRIVATE), "attributes": {"enabled": True}}

NO_KEYS: dict[str, tuple[Handler, Code]] = {
    "nothing": (says(b""), Code.SERVICE_UNEXPECTED),
    "no JSON": (says(b"<html>"), Code.SERVICE_UNEXPECTED),
    "an array": (says([1]), Code.SERVICE_UNEXPECTED),
    "no key": (says({"key": 7}), Code.SERVICE_UNEXPECTED),
    "a key of another version": (
        says({"key": jwk(PRIVATE, kid="https://v/keys/officer/..")}),
        Code.SERVICE_UNEXPECTED,
    ),
    "a point that is none": (says({"key": jwk(PRIVATE, x=encoded(b"1"))}), Code.SIGNING_FAILED),
    "a key without a point": (says({"key": jwk(PRIVATE, x=None)}), Code.SIGNING_FAILED),
    "a curve that is not accepted": (says({"key": jwk(PRIVATE, crv="P-256K")}), Code.SIGNING_FAILED),
    "a key of a secret kind": (says({"key": jwk(PRIVATE, kty="oct")}), Code.SIGNING_FAILED),
    "an answer without end": (says(b" " * 100_000), Code.TOO_LARGE),
    "a way elsewhere": (says({}, 302, Location="https://evil.example/"), Code.SERVICE_UNEXPECTED),
    "that it is busy": (says({}, 429), Code.SERVICE_THROTTLED),
    "that it failed": (says({"error": "x"}, 500), Code.SERVICE_UNEXPECTED),
    "that it keeps others out": (
        says({"error": {"code": "Forbidden", "innererror": {"code": "ForbiddenByFirewall"}}}, 403),
        Code.SERVICE_DENIED,
    ),
    "that the key has expired": (
        says({"error": {"code": "Forbidden", "innererror": {"code": "KeyExpired"}}}, 403),
        Code.SERVICE_DENIED,
    ),
}


@pytest.mark.parametrize("what", NO_KEYS)
def test_no_signer_comes_of_a_vault_that_says(what: str, ca: CertificateAuthority) -> None:
    handler, code = NO_KEYS[what]
    with vault_of(ca, handler) as place:
        assert refusal_of(lambda: place.open("officer")).code is code


def test_remedy_fits_what_the_vault_says(ca: CertificateAuthority) -> None:
    told = {}
    for what in ("that it keeps others out", "that the key has expired"):
        with vault_of(ca, NO_KEYS[what][0]) as place:
            told[what] = refusal_of(lambda: place.open("officer")).remedy
    assert "network rules" in told["that it keeps others out"]
    assert "az keyvault key show" in told["that the key has expired"]


def test_signature_of_another_key_or_of_something_else_is_not_taken(ca: CertificateAuthority) -> None:
    der = PRIVATE.sign(b"something else", ec.ECDSA(SHA256()))
    r, s = utils.decode_dss_signature(der)
    lies = [encoded(r.to_bytes(48) + s.to_bytes(48)), encoded(b"\0" * 96), encoded(b"x"), "", None, 7]
    codes = set()
    for lie in lies:
        with vault_of(ca, says(KEY), says({"kid": "x", "value": lie})) as place:
            signer = place.open("officer")
            codes.add(refusal_of(lambda: signer.sign(b"{}")).code)  # noqa: B023 - called at once
    assert codes == {Code.SIGNING_FAILED, Code.SERVICE_UNEXPECTED}


def test_rsa_key_signs_by_pss(ca: CertificateAuthority) -> None:
    private = rsa.generate_private_key(65537, 4096)

    async def sign(request: web.Request) -> web.StreamResponse:
        order = await request.json()
        assert order["alg"] == "PS256"
        digest = base64.urlsafe_b64decode(order["value"] + "=")
        how = padding.PSS(mgf=padding.MGF1(SHA256()), salt_length=32)
        return web.json_response({"value": encoded(private.sign(digest, how, utils.Prehashed(SHA256())))})

    with vault_of(ca, says({"key": jwk(private)}), sign) as place:
        signer = place.open("officer")
        envelope = Envelope.sign(b"{}", [signer])
    assert set(envelope.check_signatures([signer.public_key]).values()) == {SignatureCheck.VALID}


def test_vault_that_is_away_is_told_by_its_name(ca: CertificateAuthority) -> None:
    with vault_of(ca, says(KEY)) as place:
        pass
    refusal = refusal_of(lambda: place.open("officer"))
    assert refusal.code is Code.SERVICE_UNREACHABLE
    assert "127.0.0.1" in refusal.detail


# --- the whole command -------------------------------------------------------------------------------------


def run_sign(place: Place, key: str, loaded: Bench, folder: Path, *more: str) -> int:
    policy = make_policy([default_key()], release_keys=[new_key()])
    value = json.loads(policy)
    value["keys"][-1]["publicKey"] = place.vault.public_key("officer")
    keyid = public_key_from_pem(place.vault.public_key("officer")).keyid
    (channel,) = value["channels"].values()
    channel["releaseRoles"]["officer"]["keyids"] = [keyid]
    (folder / "policy.json").write_text(json.dumps(value))
    words = ["sign", str(loaded.volume), "--trust", str(folder / "policy.json"), "--key", key]
    return main([*words, "--out", str(folder / "release.json"), *more])


def test_officer_releases_a_bundle_with_a_key_that_stays_in_the_vault(
    place: Place, loaded: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offline_mover.storage.vault_key.signed_in_identity", lambda: place.identity)
    place.vault.create_ec_key("officer", "P-384")
    key, host = f"{place.url}/keys/officer", place.url.partition("//")[2]
    assert run_sign(place, key, loaded, tmp_path, "--token-host", host) == 0
    envelope = Envelope.from_bytes((tmp_path / "release.json").read_bytes())
    officer = public_key_from_pem(place.vault.public_key("officer"))
    assert envelope.check_signatures([officer]) == {officer.keyid: SignatureCheck.VALID}


def test_key_of_no_officer_signs_nothing_though_the_vault_would(
    place: Place, loaded: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offline_mover.storage.vault_key.signed_in_identity", lambda: place.identity)
    place.vault.create_ec_key("officer", "P-384")
    place.vault.create_ec_key("strangers", "P-384")
    key, host = f"{place.url}/keys/strangers", place.url.partition("//")[2]
    assert run_sign(place, key, loaded, tmp_path, "--token-host", host) == Code.USAGE.exit_code
    assert not (tmp_path / "release.json").exists()


def test_sign_in_goes_to_no_unknown_vault(
    place: Place, loaded: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place.vault.create_ec_key("officer", "P-384")
    assert run_sign(place, f"{place.url}/keys/officer", loaded, tmp_path) == Code.USAGE.exit_code
    assert f"--token-host {place.url.partition('//')[2]}" in capsys.readouterr().err
    assert not (tmp_path / "release.json").exists()
