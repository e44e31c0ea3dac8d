"""Who ordered and who cancelled: named where App Service vouches for it, and nowhere else."""

import base64
import json
from typing import Any

import pytest

from function_app.http.caller import ADMIN_ROLE, ANYBODY, read_caller


def principal(*claims: tuple[str, Any]) -> dict[str, str]:
    content = {"auth_typ": "aad", "claims": [{"typ": kind, "val": value} for kind, value in claims]}
    return {"X-MS-CLIENT-PRINCIPAL": base64.b64encode(json.dumps(content).encode()).decode()}


ADA = ("preferred_username", "ada@contoso.com")
ADA_ID = (("tid", "tenant1"), ("oid", "ada1"))


def principal_of(size_bytes: int) -> dict[str, str]:
    """A principal that has so many bytes."""
    content = json.dumps({"claims": [{"typ": ADA[0], "val": ADA[1]}]})
    return {"X-MS-CLIENT-PRINCIPAL": base64.b64encode(content.ljust(size_bytes).encode()).decode()}


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        (principal(("name", "Ada"), ADA, ("oid", "1")), "ada@contoso.com"),
        (principal(("appid", "11111111-2222"), ("oid", "1")), "11111111-2222"),
        (principal(("oid", "1")), "1"),
        (principal(ADA, ("preferred_username", "eve@contoso.com")), "ada@contoso.com"),
        (principal(("preferred_username", "a\u202e\nda" + "x" * 500)), "ada" + "x" * 125),
        (principal(("preferred_username", "")), ANYBODY),
        (principal(("preferred_username", ""), ("appid", "11111111-2222")), "11111111-2222"),
        (principal_of(64 * 1024), "ada@contoso.com"),
        (principal_of(64 * 1024 + 1), ANYBODY),
        ({"X-MS-CLIENT-PRINCIPAL": f"!{principal(ADA)['X-MS-CLIENT-PRINCIPAL']}"}, ANYBODY),
        (principal(("preferred_username", 7)), ANYBODY),
        (principal(), ANYBODY),
        ({}, ANYBODY),
        ({"X-MS-CLIENT-PRINCIPAL": "%%%"}, ANYBODY),
        ({"X-MS-CLIENT-PRINCIPAL": "ключ"}, ANYBODY),
        ({"X-MS-CLIENT-PRINCIPAL": base64.b64encode(b"[]").decode()}, ANYBODY),
        ({"X-MS-CLIENT-PRINCIPAL": base64.b64encode(b'{"claims": 1}').decode()}, ANYBODY),
    ],
)
def test_caller_is_named_as_app_service_says(headers: dict[str, str], name: str) -> None:
    assert read_caller(headers, is_signed_in=True).name == name


def test_caller_who_names_himself_is_not_believed() -> None:
    caller = read_caller(principal(ADA, *ADA_ID, ("roles", ADMIN_ROLE)), is_signed_in=False)
    assert (caller.name, caller.identity, caller.roles) == (ANYBODY, None, frozenset())


@pytest.mark.parametrize(
    ("claims", "identity"),
    [
        ([("tid", "t"), ("oid", "o")], "t/o"),
        (
            [
                ("http://schemas.microsoft.com/identity/claims/tenantid", "t"),
                ("http://schemas.microsoft.com/identity/claims/objectidentifier", "o"),
            ],
            "t/o",
        ),
        ([("oid", "o")], None),
        ([("tid", "t"), ("oid", "")], None),
        ([ADA], None),
    ],
)
def test_caller_is_known_by_ids_that_nobody_else_gets(
    claims: list[tuple[str, Any]], identity: str | None
) -> None:
    assert read_caller(principal(*claims), is_signed_in=True).identity == identity


@pytest.mark.parametrize("kind", ["roles", "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"])
def test_all_roles_of_a_caller_count(kind: str) -> None:
    caller = read_caller(principal((kind, "Transfer.Read"), (kind, ADMIN_ROLE)), is_signed_in=True)
    assert caller.roles == {"Transfer.Read", ADMIN_ROLE}
