from __future__ import annotations

from datetime import UTC, datetime

import pytest

from airgap.errors import Code, OperatorError
from offline_mover.storage.storage_address import Sas, TransferAddress

_SECRET = "c2VjcmV0LXNpZ25hdHVyZQ"
_SAS = f"sv=2025-01-05&sp=rcw&sr=c&st=2026-01-01T00:00:00Z&se=2026-01-31T08:00:00Z&sig={_SECRET}%3D"


@pytest.mark.parametrize(
    ("url", "container_url"),
    [
        (
            "https://acct.blob.core.windows.net/transfer/k3v9x2m7q1",
            "https://acct.blob.core.windows.net/transfer",
        ),
        (
            "https://acct.blob.core.usgovcloudapi.net/transfer/k3v9x2m7q1/",
            "https://acct.blob.core.usgovcloudapi.net/transfer",
        ),
        (
            "https://127.0.0.1:10000/acct/transfer/k3v9x2m7q1",
            "https://127.0.0.1:10000/acct/transfer",
        ),
    ],
)
def test_source_names_container_and_transfer(url: str, container_url: str) -> None:
    address = TransferAddress.source(url)
    assert (address.container_url, address.transfer_id) == (container_url, "k3v9x2m7q1")
    assert address.container == "transfer"


def test_target_names_a_container() -> None:
    address = TransferAddress.target("https://acct.blob.core.windows.net/incoming")
    assert (address.container, address.host) == ("incoming", "acct.blob.core.windows.net")


@pytest.mark.parametrize(
    "url",
    [
        *("", "transfer", "http://acct.blob.core.windows.net/incoming", "ftp://acct/incoming"),
        *("https://", "https:///incoming", "https://acct.blob.core.windows.net", "https://[::1/incoming"),
        *("https://acct/In_coming", "https://acct/a/b/c", "https://acct:99999/incoming", "https://acct/in"),
        *("https://acct/incoming/..", "https://acct/%2e%2e/incoming", "https://acct/inc\noming"),
    ],
)
def test_url_that_is_no_container_is_refused(url: str) -> None:
    with pytest.raises(OperatorError) as caught:
        TransferAddress.target(url)
    assert caught.value.code is Code.USAGE


@pytest.mark.parametrize(
    "url",
    [
        f"https://acct.blob.core.windows.net/incoming?{_SAS}",
        f"https://acct.blob.core.windows.net/incoming#{_SAS}",
        f"https://user:{_SECRET}@acct.blob.core.windows.net/incoming",
        f"http://acct.blob.core.windows.net/{_SECRET}",
        f"https://acct.blob.core.windows.net/{_SECRET}",
        f"https://[{_SECRET}/incoming",
    ],
)
@pytest.mark.parametrize("read", [TransferAddress.source, TransferAddress.target])
def test_url_with_a_secret_is_refused_and_not_repeated(url: str, read: object) -> None:
    assert callable(read)
    with pytest.raises(OperatorError) as caught:
        read(url)
    assert _SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("text", [_SAS, f"?{_SAS}", f"  {_SAS}\r\n"])
def test_sas_shows_everything_but_its_signature(text: str) -> None:
    sas = Sas.from_text(text, "sas.txt")
    assert sas.token == _SAS
    assert (sas.permissions, sas.resource) == ("rcw", "c")
    assert sas.expires_at == datetime(2026, 1, 31, 8, tzinfo=UTC)
    assert _SECRET not in repr(sas)


@pytest.mark.parametrize(
    ("now", "is_expired"),
    [
        (datetime(2026, 1, 31, 7, 59, 59, tzinfo=UTC), False),
        (datetime(2026, 1, 31, 8, tzinfo=UTC), True),
    ],
)
def test_sas_knows_when_it_expires(now: datetime, *, is_expired: bool) -> None:
    assert Sas.from_text(_SAS, "sas.txt").is_expired(now) is is_expired


@pytest.mark.parametrize(
    ("expiry", "expires_at"),
    [
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T08:00Z", datetime(2026, 1, 31, 8, tzinfo=UTC)),
        ("2026-01-31T08:00:00.1234567Z", datetime(2026, 1, 31, 8, tzinfo=UTC)),
        ("soon", None),
    ],
)
def test_expiry_in_each_form_that_a_sas_allows(expiry: str, expires_at: datetime | None) -> None:
    assert Sas.from_text(f"se={expiry}&sig=x", "sas.txt").expires_at == expires_at


@pytest.mark.parametrize(
    "text",
    [
        *("", "?", "sp=r&sr=c", f"https://acct.blob.core.windows.net/incoming?{_SAS}"),
        *(f"sp=r&sig={_SECRET}%", f"sp=r&sig={_SECRET}%2"),  # cut off in the middle of an escape
        *(f"{_SAS}\n{_SAS}", f"sig={_SECRET}\x00", f"sig={_SECRET}é", f"sig={_SECRET * 1000}"),
    ],
)
def test_text_that_is_no_sas_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(OperatorError, match=r"sas\.txt") as caught:
        Sas.from_text(text, "sas.txt")
    assert _SECRET not in str(caught.value)
