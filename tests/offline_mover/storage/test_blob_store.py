"""The container against a blob service that answers what it is told to; test_azurite.py has a real one."""

from __future__ import annotations

import base64
import io
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
import urllib3
from azure.core.credentials import AccessToken
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
)

from airgap.errors import AirgapError, Code, OperatorError
from blob_wire.answers import PassingError
from offline_mover.progress import Meter
from offline_mover.storage.blob_answers import network_meaning
from offline_mover.storage.blob_store import AzureContainer, open_container
from offline_mover.storage.ports import Block
from offline_mover.storage.storage_address import Sas, TransferAddress
from tests.offline_mover.blob_server import Asked, BlobServer, Reply

_SECRET = base64.b64encode(b"not to be seen").decode()
_NOW = datetime(2026, 1, 15, tzinfo=UTC)
_NAME = "k3v9x2m7q1/001"


class Body(io.BytesIO):
    def __len__(self) -> int:
        return len(self.getvalue())


def sas_of(fields: str) -> Sas:
    return Sas.from_text(f"{fields}&sig={_SECRET}", "sas.txt")


def container(server: BlobServer, sas: str = "sp=rcwl&se=2026-01-31", **options: Any) -> AzureContainer:
    return AzureContainer(
        TransferAddress.target(f"{server.url}/incoming"), sas=sas_of(sas), clock=lambda: _NOW, **options
    )


def refused(server: BlobServer, reply: Reply, *, method: str = "describe", **options: Any) -> AirgapError:
    """The error that an answer becomes; no secret is in it."""
    server.replies(reply)
    calls: dict[str, Callable[[AzureContainer], object]] = {
        "describe": lambda store: store.describe(_NAME),
        "stage": lambda store: store.stage(_NAME, "a", Body(b"part")),
        "commit": lambda store: store.commit(_NAME, ["a"], content_md5=None, metadata={}),
        "list": lambda store: store.list_names("", most=1),
        "read": lambda store: list(store.read_range(_NAME, offset_bytes=0, size_bytes=10, etag='"e"')),
    }
    with container(server, **options) as store, pytest.raises(AirgapError) as caught:
        calls[method](store)
    assert _SECRET not in str(caught.value)
    return caught.value


# --- answers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error_code", "method", "code"),
    [
        (404, "ContainerNotFound", "describe", Code.NOT_FOUND),
        (404, "BlobNotFound", "read", Code.NOT_FOUND),
        (409, "BlobAlreadyExists", "commit", Code.CONFLICT),
        (403, "UnauthorizedBlobOverwrite", "commit", Code.CONFLICT),
        (412, "ConditionNotMet", "read", Code.BLOB_CHANGED),
        (412, "ConditionNotMet", "commit", Code.CONFLICT),
        (429, "", "stage", Code.SERVICE_THROTTLED),
        (503, "ServerBusy", "describe", Code.SERVICE_THROTTLED),
        (500, "InternalError", "read", Code.SERVICE_UNEXPECTED),
        (408, "", "read", Code.SERVICE_UNEXPECTED),
        (400, "InvalidBlockList", "commit", Code.SERVICE_REJECTED),
        (400, "InvalidBlobOrBlock", "stage", Code.CONFLICT),
        (400, f"sig={_SECRET}", "describe", Code.SERVICE_REJECTED),
        (307, "", "describe", Code.SERVICE_REJECTED),
        (200, "", "stage", Code.SERVICE_REJECTED),
    ],
)
def test_each_answer_has_its_code(
    server: BlobServer, status: int, error_code: str, method: str, code: Code
) -> None:
    headers = {"x-ms-error-code": error_code, "Location": f"{server.url}/elsewhere"}
    error = refused(server, Reply(status=status, headers=headers), method=method)
    assert error.code is code
    assert isinstance(error, PassingError) is code.is_retryable
    assert len(server.asked) == 1


@pytest.mark.parametrize(("text", "wait_s"), [("7", 7), ("soon", None), ("-1", None), ("9" * 30, 999_999)])
def test_busy_storage_says_how_long(server: BlobServer, text: str, wait_s: float | None) -> None:
    error = refused(server, Reply(status=503, headers={"Retry-After": text}))
    assert isinstance(error, PassingError)
    assert (error.wait_s, error.reason) == (wait_s, "the storage is busy (503)")


def test_blob_that_is_not_there(server: BlobServer) -> None:
    server.replies(Reply(status=404, headers={"x-ms-error-code": "BlobNotFound"}))
    with container(server) as store:
        assert store.describe(_NAME) is None
        assert store.read_small(_NAME, max_bytes=1) is None
        assert store.staged_blocks(_NAME) == store.committed_blocks(_NAME) == []


def test_small_blob_is_judged_by_its_size(server: BlobServer) -> None:
    server.replies(Reply(body=b"12345"))
    with container(server) as store:
        assert store.read_small(_NAME, max_bytes=5) == b"12345"
        with pytest.raises(AirgapError) as caught:
            store.read_small(_NAME, max_bytes=4)
        assert caught.value.code is Code.TOO_LARGE


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<html>",
        b"<BlockList><UncommittedBlocks><Block><Name>YQ==</Name></Block></UncommittedBlocks></BlockList>",
        b"<!DOCTYPE a [<!ENTITY b 'c'>]><BlockList/>",
    ],
)
def test_document_that_is_no_block_list_is_an_error(server: BlobServer, document: bytes) -> None:
    server.replies(Reply(body=document))
    with container(server) as store, pytest.raises(AirgapError) as caught:
        store.staged_blocks(_NAME)
    assert caught.value.code is Code.SERVICE_UNEXPECTED


def test_block_ids_come_back_as_they_were_given(server: BlobServer) -> None:
    block = b"<Block><Name>%s</Name><Size>4</Size></Block>" % base64.b64encode(b"00000001-x_y")
    server.replies(
        Reply(body=b"<BlockList><UncommittedBlocks>" + block + b"</UncommittedBlocks></BlockList>")
    )
    with container(server) as store:
        assert store.staged_blocks(_NAME) == [Block(block_id="00000001-x_y", size_bytes=4)]
        assert store.committed_blocks(_NAME) == []
        server.replies(Reply(status=201))
        store.stage(_NAME, "00000001-x_y", Body(b"part"))
    assert "blockid=MDAwMDAwMDEteF95" in server.asked[-1].path
    assert server.asked[-1].body == b"part"


def listing(*names: str, marker: str = "") -> Reply:
    blobs = "".join(f"<Blob><Name>{name}</Name></Blob>" for name in names)
    return Reply(
        body=f"<EnumerationResults><Blobs>{blobs}</Blobs><NextMarker>{marker}</NextMarker>"
        "</EnumerationResults>".encode()
    )


def test_listing_goes_on_to_its_end_or_to_what_is_wanted(server: BlobServer) -> None:
    with container(server) as store:
        server.replies(listing("a/1", "a/2", "b", marker="m"), listing("a/3"))
        assert store.list_names("a/", most=9) == ["a/1", "a/2", "a/3"]
        assert "marker=m" in server.asked[-1].path
        server.replies(listing("a/1", "a/2", marker="m"))
        assert store.list_names("a/", most=1) == ["a/1"]


def test_body_that_refuses_its_end_leaves_unchanged_and_incomplete(server: BlobServer) -> None:
    class DamagedError(Exception):
        pass

    class Damaged(Body):
        def read(self, size: int | None = -1, /) -> bytes:
            assert size
            if self.tell():
                raise DamagedError
            return super().read(1000)

    server.replies(Reply(status=201))
    with container(server) as store:
        with pytest.raises(DamagedError):
            store.stage(_NAME, "a", Damaged(bytes(2000)))
        store.stage(_NAME, "b", Body(b"part"))  # the connection is a new one
    whole = [asked for asked in server.asked if len(asked.body) == int(asked.headers["content-length"])]
    assert [asked.body for asked in whole] == [b"part"]


@pytest.mark.parametrize(("size_bytes", "connections"), [(300, 1), (8_000_000, 2)], ids=["short", "long"])
def test_refusal_costs_its_connection_only_where_it_is_long(
    server: BlobServer, size_bytes: int, connections: int
) -> None:
    server.replies(Reply(status=404, body=b"x" * size_bytes), Reply(headers={"ETag": '"e"'}))
    with container(server) as store:
        assert store.staged_blocks(_NAME) == []
        store.describe(_NAME)
    assert len({asked.connection for asked in server.asked}) == connections


# --- credentials -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sas", "method", "code", "text"),
    [
        ("sp=r&se=2026-01-31", "stage", Code.SERVICE_DENIED, "permissions r, c or w is missing"),
        ("sp=cw&se=2026-01-31", "describe", Code.SERVICE_DENIED, "permissions cw, r is missing"),
        ("sp=rcw&se=2026-01-31", "list", Code.SERVICE_DENIED, "permissions rcw, l is missing"),
        ("sp=r&se=2026-01-10T08:00:00Z", "describe", Code.CREDENTIAL_EXPIRED, "2026-01-10T08:00:00Z"),
        ("sp=r&st=2026-01-20&se=2026-01-31", "describe", Code.SERVICE_DENIED, "only from 2026-01-20"),
        ("sp=r&se=2026-01-31", "describe", Code.SERVICE_DENIED, "although the SAS has the permissions r"),
        ("si=policy", "describe", Code.SERVICE_DENIED, "of its stored policy"),
    ],
)
def test_refused_sas_is_explained(server: BlobServer, sas: str, method: str, code: Code, text: str) -> None:
    reply = Reply(status=403, headers={"x-ms-error-code": "AuthorizationFailure"})
    error = refused(server, reply, sas=sas, method=method)
    assert error.code is code
    assert text in error.detail


_REFUSED_SIGNATURE = Reply(status=403, headers={"x-ms-error-code": "AuthenticationFailed"})


def test_signature_that_is_cut_off_is_told_from_one_for_something_else(server: BlobServer) -> None:
    assert "cut off" in refused(server, _REFUSED_SIGNATURE).detail  # _SECRET is shorter than any signature
    whole = Sas.from_text(f"sp=rl&sig={quote(base64.b64encode(bytes(32)))}", "sas.txt")
    address = TransferAddress.target(f"{server.url}/incoming")
    with AzureContainer(address, sas=whole) as store, pytest.raises(AirgapError) as caught:
        store.describe(_NAME)
    assert caught.value.code is Code.SERVICE_DENIED
    assert "not valid for the container incoming" in caught.value.detail


def test_container_of_a_misplaced_sas_is_found_and_asked_for_once(server: BlobServer) -> None:
    def answer(asked: Asked) -> Reply:
        return Reply(status=404) if "/receipts/" in asked.path else _REFUSED_SIGNATURE

    server.answer = answer
    with container(server, "sp=rl") as store:
        for _ in range(2):
            with pytest.raises(AirgapError) as caught:
                store.describe(_NAME)
            assert "is for the container receipts of this account, not for incoming" in caught.value.detail
    assert sum("/receipts/" in asked.path for asked in server.asked) == 1
    assert all(asked.path.startswith("/account/") for asked in server.asked)


@pytest.mark.parametrize("said", ["UnauthorizedBlobOverwrite", "AuthorizationPermissionMismatch"])
def test_sas_that_may_only_create_meets_a_blob(server: BlobServer, said: str) -> None:
    reply = Reply(status=403, headers={"x-ms-error-code": said})
    assert "may not overwrite" in refused(server, reply, sas="sp=rc", method="commit").detail


def test_sas_expires_by_the_clock_of_the_service(server: BlobServer) -> None:
    date = format_datetime(datetime(2026, 2, 1, tzinfo=UTC), usegmt=True)
    reply = Reply(status=403, headers={"Date": date})
    assert refused(server, reply).code is Code.CREDENTIAL_EXPIRED


def only(good: str) -> Any:
    def answer(asked: Asked) -> Reply:
        is_good = f"{good}&sig=" in asked.path
        return Reply(status=201) if is_good else Reply(status=403)

    return answer


def test_expired_sas_is_read_again_and_the_body_sent_from_its_start(server: BlobServer) -> None:
    server.answer = only("se=2026-01-31")
    renewals = iter([sas_of("sp=cw&se=2026-01-14"), sas_of("sp=cw&se=2026-01-31")])
    with container(server, "sp=cw&se=2026-01-10", renew=lambda: next(renewals)) as store:
        store.stage(_NAME, "a", Body(b"part"))
        store.stage(_NAME, "b", Body(b"more"))
    assert [asked.body for asked in server.asked] == [b"part"] * 3 + [b"more"]


@pytest.mark.parametrize("is_being_written", [False, True])
def test_operator_is_asked_for_another_sas(server: BlobServer, is_being_written: bool) -> None:
    expired = sas_of("sp=r&se=2026-01-10")

    def renew() -> Sas | None:
        if is_being_written:
            raise OperatorError(Code.USAGE, "sas.txt does not hold a SAS token")
        return expired

    error = refused(server, Reply(status=403), sas="sp=r&se=2026-01-10", renew=renew)
    assert isinstance(error, PassingError)
    assert error.code is Code.CREDENTIAL_EXPIRED
    assert error.reason == "the SAS expired at 2026-01-10T00:00:00Z; put a new one into sas.txt"
    assert error.wait_s == 30
    assert len(server.asked) == 1


class Identity:
    def __init__(self) -> None:
        self.tenants: list[Any] = []

    def get_token(self, *_scopes: str, **options: Any) -> AccessToken:
        self.tenants.append(options.get("tenant_id"))
        return AccessToken(f"token{len(self.tenants)}", int(time.time()) + 3600)


def signed_in(server: BlobServer, identity: Identity) -> AzureContainer:
    address = TransferAddress.target(f"{server.url}/incoming")
    return AzureContainer(address, sas=None, credential=identity, token_host=address.host)


def test_refused_token_is_asked_for_once_more_in_the_storages_tenant(server: BlobServer) -> None:
    challenge = "Bearer authorization_uri=https://login.example/0a1b-2c/oauth2/authorize resource_id=x"
    server.replies(Reply(status=401, headers={"WWW-Authenticate": challenge}), Reply(status=201))
    identity = Identity()
    with signed_in(server, identity) as store:
        store.stage(_NAME, "a", Body(b"part"))
    assert identity.tenants == [None, "0a1b-2c"]
    sent = [(asked.headers["authorization"], asked.body) for asked in server.asked]
    assert sent == [("Bearer token1", b"part"), ("Bearer token2", b"part")]


@pytest.mark.parametrize(
    ("status", "method", "code", "text"),
    [
        (401, "r", Code.CREDENTIAL_EXPIRED, "token"),
        (403, "r", Code.SERVICE_DENIED, "Storage Blob Data Reader"),
        (403, "cw", Code.SERVICE_DENIED, "Storage Blob Data Contributor"),
    ],
)
def test_refused_identity_names_the_role(
    server: BlobServer, status: int, method: str, code: Code, text: str
) -> None:
    server.replies(Reply(status=status))
    with signed_in(server, Identity()) as store, pytest.raises(AirgapError) as caught:
        store.describe(_NAME) if method == "r" else store.create_small(_NAME, b"{}")
    assert caught.value.code is code
    assert text in caught.value.detail


def test_netrc_of_the_operator_does_not_sign_in(
    server: BlobServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    server.replies(Reply(headers={"ETag": '"e"'}))
    with container(server) as store:
        store.describe(_NAME)
    assert "authorization" not in server.asked[0].headers


# --- the network -------------------------------------------------------------------------------------------


def test_opened_container_waits_and_says_so(server: BlobServer) -> None:
    said: list[str] = []
    server.replies(Reply(status=503), Reply(headers={"ETag": '"e"', "x-ms-meta-Category": "x"}))
    address = TransferAddress.target(f"{server.url}/incoming")
    with open_container(
        address, sas=sas_of("sp=r"), renew=None, retries=1, meter=Meter(), notice=said.append
    ) as store:
        found = store.describe(_NAME)
    assert found is not None
    assert dict(found.metadata) == {"Category": "x"}
    assert said == ["the storage is busy (503); trying again in 1 s, 1 of 1"]


def test_certificate_that_is_not_trusted_is_told(server: BlobServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    error = refused(server, Reply())
    assert error.code is Code.SERVICE_UNREACHABLE
    assert "REQUESTS_CA_BUNDLE" in error.detail


def test_roots_that_are_not_there_are_told(server: BlobServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    error = refused(server, Reply())
    assert error.code is Code.USAGE


def test_nobody_listens() -> None:
    address = TransferAddress.target("https://127.0.0.1:9/account/incoming")
    with AzureContainer(address, sas=sas_of("sp=r")) as store, pytest.raises(PassingError) as caught:
        store.describe(_NAME)
    assert caught.value.code is Code.SERVICE_UNREACHABLE
    assert caught.value.reason == "127.0.0.1:9: Connection refused"


@pytest.mark.parametrize(
    ("inner", "text"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (TimeoutError(), "no answer in time"),
        (ssl.SSLCertVerificationError(1, "certificate verify failed"), "REQUESTS_CA_BUNDLE"),
        (ValueError(f"url ?sig={_SECRET}"), "the connection failed"),
    ],
)
@pytest.mark.parametrize("kind", [ServiceRequestError, ServiceResponseError])
def test_network_failure_is_told_without_the_url(inner: Exception, text: str, kind: type[AzureError]) -> None:
    error = network_meaning(kind(f"Max retries exceeded with url: /?sig={_SECRET}", error=inner), "host")
    assert error.code is Code.SERVICE_UNREACHABLE
    assert text in error.detail
    assert _SECRET not in error.detail


@pytest.mark.parametrize("root", [AzureError, requests.RequestException, urllib3.exceptions.HTTPError])
def test_every_error_of_the_libraries_is_mapped(root: type[Exception]) -> None:
    """Whatever they may raise leaves as an error of ours, and its text stays behind."""

    def subclasses(kind: type[Exception]) -> set[type[Exception]]:
        return {kind}.union(*(subclasses(child) for child in kind.__subclasses__()))

    for kind in subclasses(root):
        error = kind.__new__(kind)
        Exception.__init__(error, f"sig={_SECRET}")
        if isinstance(error, HttpResponseError):
            error.status_code, error.response = None, None
        assert _SECRET not in str(network_meaning(error, "host"))


def test_nobody_signed_in() -> None:
    assert network_meaning(ClientAuthenticationError("no one"), "host").code is Code.CREDENTIAL_EXPIRED
