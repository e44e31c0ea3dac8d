import json
from base64 import urlsafe_b64decode, urlsafe_b64encode

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from local_cloud.tokens import STORAGE_AUDIENCE, Claims, TokenAuthority, TokenRefused


class _Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def _refusal(authority: TokenAuthority, token: str, *audiences: str) -> str:
    with pytest.raises(TokenRefused) as refused:
        authority.verify(token, *audiences)
    return refused.value.code


def test_a_minted_token_speaks_for_its_principal() -> None:
    authority = TokenAuthority()
    token = authority.mint("alice", STORAGE_AUDIENCE)
    assert authority.verify(token, STORAGE_AUDIENCE) == Claims(
        principal_id="alice", audience=STORAGE_AUDIENCE
    )


def test_a_trailing_slash_makes_no_other_audience() -> None:
    authority = TokenAuthority()
    for minted, expected in [("/", ""), ("", "/")]:
        token = authority.mint("alice", STORAGE_AUDIENCE + minted)
        assert authority.verify(token, STORAGE_AUDIENCE + expected).principal_id == "alice"


def test_it_has_the_claims_that_azurite_checks() -> None:
    authority = TokenAuthority(tenant_id="tenant-1")
    claims = jwt.decode(authority.mint("alice", STORAGE_AUDIENCE), options={"verify_signature": False})
    assert claims["iss"] == "https://sts.windows.net/tenant-1/"
    assert (claims["oid"], claims["tid"], claims["aud"]) == ("alice", "tenant-1", STORAGE_AUDIENCE)
    assert claims["nbf"] == claims["iat"] == claims["exp"] - 3600


def test_a_token_for_another_service_is_refused() -> None:
    authority = TokenAuthority()
    assert (
        _refusal(authority, authority.mint("alice", "https://vault.azure.net"), STORAGE_AUDIENCE)
        == "audience"
    )
    assert _refusal(authority, authority.mint("alice", STORAGE_AUDIENCE)) == "audience"


@pytest.mark.parametrize("moved_s", [3600, 3601, -1])
def test_a_token_out_of_its_time_is_refused(moved_s: int) -> None:
    clock = _Clock()
    authority = TokenAuthority(clock=clock)
    token = authority.mint("alice", STORAGE_AUDIENCE)
    clock.now += moved_s
    assert _refusal(authority, token, STORAGE_AUDIENCE) == "expired"


def test_a_token_that_was_accepted_before_is_refused_once_it_is_out_of_its_time() -> None:
    clock = _Clock()
    authority = TokenAuthority(clock=clock)
    token = authority.mint("alice", STORAGE_AUDIENCE)
    authority.verify(token, STORAGE_AUDIENCE)
    assert _refusal(authority, token, "https://vault.azure.net") == "audience"
    clock.now += 3600
    assert _refusal(authority, token, STORAGE_AUDIENCE) == "expired"


def test_another_tenants_signature_is_refused() -> None:
    token = TokenAuthority(tenant_id="one").mint("alice", STORAGE_AUDIENCE)
    assert _refusal(TokenAuthority(tenant_id="one"), token, STORAGE_AUDIENCE) == "signature"


def test_an_edited_payload_is_refused() -> None:
    authority = TokenAuthority()
    header, payload, signature = authority.mint("alice", STORAGE_AUDIENCE).split(".")
    claims = json.loads(urlsafe_b64decode(payload + "=="))
    edited = urlsafe_b64encode(json.dumps(claims | {"oid": "mallory"}).encode()).decode().rstrip("=")
    assert _refusal(authority, f"{header}.{edited}.{signature}", STORAGE_AUDIENCE) == "signature"


def test_algorithm_none_is_refused() -> None:
    authority = TokenAuthority()
    claims = jwt.decode(authority.mint("alice", STORAGE_AUDIENCE), options={"verify_signature": False})
    assert _refusal(authority, jwt.encode(claims, "", algorithm="none"), STORAGE_AUDIENCE) == "signature"


def test_a_self_made_key_is_refused() -> None:
    authority = TokenAuthority()
    claims = jwt.decode(authority.mint("alice", STORAGE_AUDIENCE), options={"verify_signature": False})
    forged = jwt.encode(claims, ec.generate_private_key(ec.SECP256R1()), algorithm="ES256")
    assert _refusal(authority, forged, STORAGE_AUDIENCE) == "signature"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a.b.c",
        "no dots",
        "é.é.é",
        "a" * 20_000,
        "." * 100,
        "e30.e30.",
        urlsafe_b64encode(b"[" * 9_000).decode() + ".e30.",
    ],
    ids=["empty", "junk", "words", "non-ascii", "huge", "dots", "no algorithm", "deep nesting"],
)
def test_what_is_no_token_is_malformed(token: str) -> None:
    assert _refusal(TokenAuthority(), token, STORAGE_AUDIENCE) in ("malformed", "signature")
