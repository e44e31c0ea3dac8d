from __future__ import annotations

import base64
import ssl
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
)

from airgap.errors import AirgapError, Code
from offline_mover.blob_store import AzureContainer
from offline_mover.storage_address import Sas, TransferAddress

_SECRET = base64.b64encode(b"not to be seen").decode()
_NOW = datetime(2026, 1, 15, tzinfo=UTC)


def container(sas: str | None = "sp=r&se=2026-01-31", now: datetime = _NOW) -> AzureContainer:
    return AzureContainer(
        TransferAddress.target("https://acct.blob.core.windows.net/incoming"),
        sas=Sas.from_text(f"{sas}&sig={_SECRET}", "sas.txt") if sas is not None else None,
        retries=0,
        clock=lambda: now,
    )


def answer(status: int, error_code: str = "") -> HttpResponseError:
    headers = {"x-ms-error-code": error_code} if error_code else {}
    response: Any = SimpleNamespace(status_code=status, reason="why", headers=headers)
    return HttpResponseError(f"https://acct/incoming?sig={_SECRET}", response=response)


def meaning(error: AzureError, store: AzureContainer, needed: str = "r") -> AirgapError:
    with pytest.raises(AirgapError) as caught, store._errors("k3v9x2m7q1/001", needed):
        raise error
    assert _SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    return caught.value


@pytest.mark.parametrize(
    ("status", "error_code", "code"),
    [
        (404, "BlobNotFound", Code.NOT_FOUND),
        (404, "ContainerNotFound", Code.NOT_FOUND),
        (409, "BlobAlreadyExists", Code.CONFLICT),
        (412, "ConditionNotMet", Code.BLOB_CHANGED),
        (429, "", Code.SERVICE_THROTTLED),
        (503, "ServerBusy", Code.SERVICE_THROTTLED),
        (500, "InternalError", Code.SERVICE_UNEXPECTED),
        (400, "InvalidBlockList", Code.SERVICE_UNEXPECTED),
        (400, f"sig={_SECRET}", Code.SERVICE_UNEXPECTED),
    ],
)
def test_each_answer_has_its_code(status: int, error_code: str, code: Code) -> None:
    assert meaning(answer(status, error_code), container()).code is code


@pytest.mark.parametrize(
    ("sas", "needed", "now", "code", "text"),
    [
        ("sp=r&se=2026-01-31", "cw", _NOW, Code.SERVICE_DENIED, "permissions r, c or w is missing"),
        ("sp=cw&se=2026-01-31", "r", _NOW, Code.SERVICE_DENIED, "permissions cw, r is missing"),
        ("sp=r&se=2026-01-10T08:00:00Z", "r", _NOW, Code.CREDENTIAL_EXPIRED, "2026-01-10T08:00:00Z"),
        ("sp=r&st=2026-01-20&se=2026-01-31", "r", _NOW, Code.SERVICE_DENIED, "only from 2026-01-20"),
        ("sp=r&se=2026-01-31", "r", _NOW, Code.SERVICE_DENIED, "although the SAS has the permissions r"),
        ("si=policy", "r", _NOW, Code.SERVICE_DENIED, "of its stored policy"),
    ],
)
def test_refused_sas_is_explained(sas: str, needed: str, now: datetime, code: Code, text: str) -> None:
    error = meaning(answer(403, "AuthorizationFailure"), container(sas, now), needed)
    assert error.code is code
    assert text in error.detail


def test_sas_made_with_another_key_is_explained() -> None:
    assert "another key" in meaning(answer(403, "AuthenticationFailed"), container()).detail


def test_refused_identity_names_the_role() -> None:
    store = container(sas=None)
    assert "Storage Blob Data Reader" in meaning(answer(403, "X"), store).detail
    assert "Storage Blob Data Contributor" in meaning(answer(403, "X"), store, "cw").detail
    assert meaning(answer(401), store).code is Code.CREDENTIAL_EXPIRED
    assert meaning(ClientAuthenticationError("no one"), store).code is Code.CREDENTIAL_EXPIRED


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
    error = meaning(kind(f"Max retries exceeded with url: /?sig={_SECRET}", error=inner), container())
    assert error.code is Code.SERVICE_UNREACHABLE
    assert text in error.detail


def test_every_error_of_the_sdk_is_mapped() -> None:
    """Whatever azure-core may raise leaves as an error of ours."""

    def subclasses(kind: type[AzureError]) -> set[type[AzureError]]:
        return {kind}.union(*(subclasses(child) for child in kind.__subclasses__()))

    for kind in subclasses(AzureError):
        error: AzureError = kind.__new__(kind)
        AzureError.__init__(error, f"sig={_SECRET}")
        if isinstance(error, HttpResponseError):
            error.status_code, error.response = None, None
        assert isinstance(meaning(error, container()), AirgapError)
