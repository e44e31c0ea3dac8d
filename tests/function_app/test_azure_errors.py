"""Every error of azure-core is one of ours: the list is read from the library, so it cannot grow unseen."""

import inspect
from types import SimpleNamespace
from typing import Any

import pytest
from azure.core import exceptions as azure_exceptions
from azure.core.exceptions import AzureError, HttpResponseError, IncompleteReadError
from azure.storage.blob import PartialBatchErrorException

from airgap.errors import Code, ServiceError
from function_app.azure.errors import BY_TYPE, code_of, service_errors

EXCEPTIONS = [
    kind
    for _, kind in inspect.getmembers(azure_exceptions, inspect.isclass)
    if issubclass(kind, Exception) and kind.__module__ == azure_exceptions.__name__
]


def make(kind: type[Exception]) -> Exception:
    """An instance, whatever its constructor asks for."""
    error = kind.__new__(kind)
    Exception.__init__(error, "it went wrong")
    return error


def test_reflection_finds_the_library() -> None:
    assert len(EXCEPTIONS) >= 20


@pytest.mark.parametrize("kind", EXCEPTIONS, ids=lambda kind: kind.__name__)
def test_every_exception_of_azure_core_is_mapped(kind: type[Exception]) -> None:
    assert any(issubclass(kind, known) for known, _ in BY_TYPE)
    with pytest.raises(ServiceError) as caught, service_errors("blob a/b"):
        raise make(kind)
    assert caught.value.detail.startswith("blob a/b: ")


def test_exceptions_of_the_storage_client_are_azure_cores() -> None:
    assert issubclass(PartialBatchErrorException, AzureError)


def response(status: int) -> Any:
    return SimpleNamespace(
        status_code=status, reason="", headers={}, text=lambda: "", content_type="", request=None
    )


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, Code.SERVICE_UNEXPECTED),
        (401, Code.SERVICE_DENIED),
        (403, Code.SERVICE_DENIED),
        (404, Code.NOT_FOUND),
        (409, Code.CONFLICT),
        (429, Code.SERVICE_THROTTLED),
        (500, Code.SERVICE_UNREACHABLE),
        (503, Code.SERVICE_THROTTLED),
    ],
)
def test_http_status_decides(status: int, code: Code) -> None:
    assert code_of(HttpResponseError(message="no", response=response(status))) is code


def test_download_that_breaks_off_again_and_again_is_an_outage() -> None:
    """azure-storage-blob wraps the last of its tries in an error that has no answer, and so no status."""
    broken = IncompleteReadError("1 byte read, 2 more expected")
    assert code_of(HttpResponseError(broken, error=broken)) is Code.SERVICE_UNREACHABLE
    refused = HttpResponseError(message="no", response=response(503))
    assert code_of(HttpResponseError(refused, error=refused)) is Code.SERVICE_THROTTLED


def test_message_with_a_query_is_not_repeated() -> None:
    with pytest.raises(ServiceError) as caught, service_errors("blob"):
        raise AzureError("cannot GET https://account/container?sig=secret")
    assert "secret" not in str(caught.value)


def test_other_exceptions_pass() -> None:
    with pytest.raises(KeyError), service_errors("blob"):
        raise KeyError("ours")


def test_secret_in_a_services_message_is_not_repeated() -> None:
    message = "Failed to access https%3A%2F%2Fa%2Fc%3Fsv%3D1%26sig%3Dc2VjcmV0"
    with pytest.raises(ServiceError) as caught, service_errors("pipeline run e1"):
        raise HttpResponseError(message=message)
    assert "Failed to access" in caught.value.detail
    assert "c2VjcmV0" not in str(caught.value)
