"""The port that signs a ticket's rights: in memory, and with a user delegation key of the storage.

What the rights are worth is asked of the storage itself; which of them a ticket has is decided elsewhere.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl

import pytest
import requests

from airgap.errors import Code, OperatorError
from function_app.azure.blob import AzureBlobs
from function_app.azure.tickets import AzureTickets
from function_app.ports import TicketSigner
from local_cloud.azurite import Azurite
from local_cloud.tokens import TokenAuthority
from tests.contract.credential import Credential
from tests.function_app.memory import MemoryTickets

Storage = tuple[Azurite, AzureBlobs]
ALLOWED = {"id/001": "r", "id/ä b+%25&c": "rcw", "id/bundle-manifest.dsse.json": "c"}
NOW = datetime.now(UTC).replace(microsecond=0)
SINCE, UNTIL = NOW - timedelta(minutes=5), NOW + timedelta(hours=24)


@pytest.fixture(scope="module")
def storage_signer(azurite: Storage) -> Iterator[AzureTickets]:
    signer = AzureTickets(azurite[0].blob_url, Credential(TokenAuthority()), retries=0)
    yield signer
    assert signer._service is not None
    signer._service.close()


@pytest.fixture(params=["memory", pytest.param("azurite", marks=pytest.mark.e2e)])
def signer(request: pytest.FixtureRequest) -> TicketSigner:
    if request.param == "memory":
        return MemoryTickets()
    real: TicketSigner = request.getfixturevalue("storage_signer")
    return real


def test_each_blob_has_a_sas_of_its_own_that_says_what_when_and_over_https_only(signer: TicketSigner) -> None:
    signed = signer.sign("transfer", ALLOWED, valid_from=SINCE, expires_at=UNTIL)
    assert signed.keys() == ALLOWED.keys()
    for name, sas in signed.items():
        said = dict(parse_qsl(sas, strict_parsing=True))
        assert (said["sr"], said["sp"], said["spr"]) == ("b", ALLOWED[name], "https")
        assert said["st"] == f"{SINCE:%Y-%m-%dT%H:%M:%SZ}"
        assert said["se"] == f"{UNTIL:%Y-%m-%dT%H:%M:%SZ}"
    assert len({dict(parse_qsl(sas))["sig"] for sas in signed.values()}) == len(ALLOWED)


def test_nothing_is_signed_for_no_blob(signer: TicketSigner) -> None:
    assert dict(signer.sign("transfer", {}, valid_from=SINCE, expires_at=UNTIL)) == {}


def test_seven_days_are_not_too_many(signer: TicketSigner) -> None:
    until = NOW + timedelta(days=7) - timedelta(minutes=1)
    assert signer.sign("transfer", {"id/001": "r"}, valid_from=NOW, expires_at=until).keys() == {"id/001"}


def test_without_an_identity_of_its_own_nothing_is_signed() -> None:
    with pytest.raises(OperatorError) as refusal:
        AzureTickets("https://a.blob.core.windows.net", None).sign(
            "transfer", ALLOWED, valid_from=SINCE, expires_at=UNTIL
        )
    assert refusal.value.code is Code.SETTING_INVALID


class Holder:
    """Somebody who has a SAS and nothing else."""

    def __init__(self, azurite: Azurite) -> None:
        self._url = f"{azurite.blob_url}/incoming"
        self._ca_file = str(azurite.ca_file)

    def read(self, name: str, sas: str) -> int:
        return requests.get(f"{self._url}/{name}?{sas}", verify=self._ca_file, timeout=30).status_code

    def write(self, name: str, sas: str) -> int:
        headers = {"x-ms-blob-type": "BlockBlob"}
        return requests.put(
            f"{self._url}/{name}?{sas}", data=b"2", headers=headers, verify=self._ca_file, timeout=30
        ).status_code


@pytest.fixture
def holder(azurite: Storage) -> Holder:
    return Holder(azurite[0])


@pytest.mark.e2e
def test_storage_lets_a_blob_be_read_and_no_other(
    azurite: Storage, storage_signer: AzureTickets, holder: Holder
) -> None:
    for name in ("ticket1/001", "ticket1/002"):
        azurite[1].create("incoming", name, b"1")
    signed = storage_signer.sign("incoming", {"ticket1/001": "r"}, valid_from=SINCE, expires_at=UNTIL)
    sas = signed["ticket1/001"]
    assert holder.read("ticket1/001", sas) == 200
    assert holder.read("ticket1/002", sas) == 403
    assert holder.write("ticket1/001", sas) == 403


@pytest.mark.e2e
def test_storage_lets_a_blob_be_created_and_never_written_over(
    azurite: Storage, storage_signer: AzureTickets, holder: Holder
) -> None:
    signed = storage_signer.sign("incoming", {"ticket2/001": "c"}, valid_from=SINCE, expires_at=UNTIL)
    sas = signed["ticket2/001"]
    assert holder.write("ticket2/001", sas) == 201
    assert holder.write("ticket2/001", sas) == 403
    assert holder.read("ticket2/001", sas) == 403
    assert azurite[1].read("incoming", "ticket2/001", max_bytes=10) == b"2"


@pytest.mark.e2e
@pytest.mark.parametrize(("since_h", "until_h"), [(-2, -1), (1, 2)])
def test_storage_lets_nobody_in_before_or_after_the_time(
    azurite: Storage, storage_signer: AzureTickets, holder: Holder, since_h: int, until_h: int
) -> None:
    azurite[1].create("incoming", "ticket3/001", b"1")
    signed = storage_signer.sign(
        "incoming",
        {"ticket3/001": "r"},
        valid_from=NOW + timedelta(hours=since_h),
        expires_at=NOW + timedelta(hours=until_h),
    )
    assert holder.read("ticket3/001", signed["ticket3/001"]) == 403
