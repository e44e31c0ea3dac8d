"""A SAS of one blob that may create it and not overwrite it, as Azure has it from version 2026-04-06 on."""

import base64
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from local_cloud.storage_front.create_only import only_creates
from local_cloud.storage_front.operations import Request, operation
from tests.local_cloud.acr_transfer_harness import needs_azurite
from tests.local_cloud.front_harness import Fronted, fronted

pytestmark = [pytest.mark.e2e, needs_azurite]
CONTRIBUTOR = "Storage Blob Data Contributor"
MISMATCH = (403, "AuthorizationPermissionMismatch")
OVERWRITE = (403, "UnauthorizedBlobOverwrite")
NOT_GOOD = (403, "AuthenticationFailed")
CREATED = (201, None)
NAME = "k3v9x2m7q1/001"
BLOCK = base64.b64encode(b"00000001").decode()
BLOCKS = f"<BlockList><Latest>{BLOCK}</Latest></BlockList>".encode()


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fronted]:
    with fronted(tmp_path_factory.mktemp("front")) as made:
        yield made


class Holder:
    """Who has a SAS for one blob of a container."""

    def __init__(self, account: Fronted) -> None:
        self._account = account
        self._signer = str(uuid.uuid4())
        self.container = account.container()
        self.role = account.assign(self._signer, CONTRIBUTOR)
        self.sas = self.sign("rc")

    def sign(self, permissions: str, name: str = NAME, **changed: Any) -> str:
        with self._account.blobs(self._signer) as blobs:
            return self._account.blob_sas(blobs, self.container, name, permissions, **changed)

    def send(
        self, method: str, query: str = "", *, name: str = NAME, data: bytes = b"", **headers: str
    ) -> tuple[int, str | None]:
        answer = self.ask(method, query, name=name, data=data, **headers)
        return answer.status_code, answer.headers.get("x-ms-error-code")

    def ask(
        self, method: str, query: str, *, name: str, data: bytes = b"", **headers: str
    ) -> requests.Response:
        sent = {f"x-ms-{key.replace('_', '-')}": value for key, value in headers.items()}
        return self._account.send(
            method, f"/{self.container}/{name}?{query}&{self.sas}", None, sent, data=data
        )

    def stage(self, name: str = NAME) -> tuple[int, str | None]:
        return self.send("PUT", f"comp=block&blockid={BLOCK}", name=name, data=b"part")

    def commit(self, name: str = NAME) -> tuple[int, str | None]:
        return self.send("PUT", "comp=blocklist", name=name, data=BLOCKS)

    def put(self, name: str = NAME) -> tuple[int, str | None]:
        return self.send("PUT", name=name, data=b"all", blob_type="BlockBlob")


@pytest.fixture
def holder(account: Fronted) -> Holder:
    return Holder(account)


def test_blob_is_put_together_from_blocks_and_read_back(holder: Holder) -> None:
    assert holder.send("GET", "comp=blocklist&blocklisttype=uncommitted") == (404, "BlobNotFound")
    assert holder.stage() == CREATED
    assert f"<Name>{BLOCK}</Name>" in holder.ask("GET", "comp=blocklist&blocklisttype=all", name=NAME).text
    assert holder.commit() == CREATED
    assert holder.ask("GET", "", name=NAME).content == b"part"


@pytest.mark.parametrize("write", [Holder.put, Holder.stage, Holder.commit])
def test_what_was_committed_is_overwritten_by_nothing(
    holder: Holder, write: Callable[[Holder], tuple[int, str | None]]
) -> None:
    assert holder.stage() == CREATED
    assert holder.commit() == CREATED
    assert write(holder) == OVERWRITE
    assert holder.ask("GET", "", name=NAME).content == b"part"


@pytest.mark.parametrize(
    ("method", "query", "headers"),
    [
        ("DELETE", "", {}),
        ("PUT", "comp=metadata", {"meta_category": "other"}),
        ("PUT", "comp=properties", {"blob_content_md5": BLOCK}),
        ("PUT", "comp=lease", {"lease_action": "acquire", "lease_duration": "-1"}),
        ("PUT", "comp=tier", {"access_tier": "Archive"}),
    ],
)
def test_nothing_else_is_done_to_it(holder: Holder, method: str, query: str, headers: dict[str, str]) -> None:
    assert holder.put() == CREATED
    assert holder.send(method, query, data=b"", **headers) == MISMATCH
    assert holder.ask("GET", "", name=NAME).content == b"all"


@pytest.mark.parametrize("name", ["k3v9x2m7q1/002", "another/001", "k3v9x2m7q1/001/x"])
def test_no_other_name_is_written_or_read(holder: Holder, name: str) -> None:
    for refused in (holder.put(name), holder.stage(name), holder.commit(name), holder.send("GET", name=name)):
        assert refused == NOT_GOOD


def test_nothing_is_listed(holder: Holder) -> None:
    answer = holder.ask("GET", "restype=container&comp=list", name="")
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("altered", "by"),
    [("sp=rc", "sp=rcw"), ("sp=rc", "sp=c"), ("spr=https", "spr=https%2Chttp"), ("sr=b", "sr=c")],
)
def test_sas_that_was_altered_is_none(holder: Holder, altered: str, by: str) -> None:
    assert altered in holder.sas
    holder.sas = holder.sas.replace(altered, by)
    assert {holder.put(), holder.stage(), holder.commit()} == {NOT_GOOD}


def test_sas_is_taken_no_longer_than_its_time(holder: Holder) -> None:
    now = datetime.now(UTC)
    holder.sas = holder.sign("rc", expiry=now - timedelta(seconds=1))
    assert {holder.put(), holder.stage(), holder.commit()} == {NOT_GOOD}
    holder.sas = holder.sign("rc", start=now + timedelta(minutes=5))
    assert {holder.put(), holder.stage(), holder.commit()} == {NOT_GOOD}
    longer = f"{now + timedelta(days=6):%Y-%m-%dT%H%%3A%M%%3A%SZ}"
    fields = dict(field.split("=", 1) for field in holder.sign("rc").split("&"))
    holder.sas = "&".join(f"{name}={longer if name == 'se' else value}" for name, value in fields.items())
    assert {holder.put(), holder.stage(), holder.commit()} == {NOT_GOOD}


@pytest.mark.parametrize(("version", "is_enough"), [("2026-02-06", False), ("2026-04-06", True)])
def test_creating_blocks_is_allowed_from_a_version_on(version: str, *, is_enough: bool) -> None:
    def asked(comp: str) -> bool:
        target = f"/account/container/blob?{comp}sv={version}&sp=rc&sig=x"
        request = Request(service="blob", method="PUT", target=target, headers={})
        return only_creates(request, operation(request))

    assert [asked("comp=block&"), asked("comp=blocklist&"), asked("")] == [is_enough, is_enough, True]


def test_sas_to_read_writes_nothing(holder: Holder) -> None:
    holder.sas = holder.sign("r")
    assert {holder.put(), holder.stage(), holder.commit()} == {MISMATCH}


def test_sas_does_no_more_than_who_signed_it_may(account: Fronted, holder: Holder) -> None:
    account.front.assignments.remove(holder.role)
    assert {holder.put(), holder.stage(), holder.commit()} == {MISMATCH}


def test_of_two_who_create_at_once_one_does(account: Fronted, holder: Holder) -> None:
    other = Holder(account)
    other.container, other.sas = holder.container, holder.sign("rc")
    assert holder.stage() == other.stage() == CREATED
    assert [holder.commit(), other.commit()] == [CREATED, OVERWRITE]
