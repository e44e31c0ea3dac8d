"""The errors of azure-core, each turned into one of this project; only the adapters beside it import this."""

from collections.abc import Iterator
from contextlib import contextmanager

import urllib3
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    DecodeError,
    DeserializationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
    ResponseNotReadError,
    SerializationError,
    ServiceRequestError,
    ServiceResponseError,
    StreamClosedError,
    StreamConsumedError,
    TooManyRedirectsError,
)
from azure.identity import CredentialUnavailableError

from airgap.errors import Code, ServiceError

CONNECT_S = 20
READ_S = 60
"""Timeouts of one attempt; azure-core's own are five minutes."""

_BY_STATUS = {
    401: Code.SERVICE_DENIED,
    403: Code.SERVICE_DENIED,
    404: Code.NOT_FOUND,
    408: Code.SERVICE_UNREACHABLE,
    409: Code.CONFLICT,
    412: Code.CONFLICT,
    429: Code.SERVICE_THROTTLED,
    500: Code.SERVICE_UNREACHABLE,
    502: Code.SERVICE_UNREACHABLE,
    503: Code.SERVICE_THROTTLED,
    504: Code.SERVICE_UNREACHABLE,
}

BY_TYPE: tuple[tuple[type[Exception], Code], ...] = (
    (CredentialUnavailableError, Code.SERVICE_UNREACHABLE),  # the identity endpoint did not answer
    (ClientAuthenticationError, Code.SERVICE_DENIED),
    (ResourceNotFoundError, Code.NOT_FOUND),
    (ResourceExistsError, Code.CONFLICT),
    (ResourceModifiedError, Code.CONFLICT),
    (DecodeError, Code.SERVICE_UNREACHABLE),  # also IncompleteReadError: the connection broke
    (TooManyRedirectsError, Code.SERVICE_UNEXPECTED),
    (HttpResponseError, Code.SERVICE_UNEXPECTED),
    (ServiceRequestError, Code.SERVICE_UNREACHABLE),
    (ServiceResponseError, Code.SERVICE_UNREACHABLE),
    (StreamConsumedError, Code.SERVICE_UNEXPECTED),
    (StreamClosedError, Code.SERVICE_UNREACHABLE),
    (ResponseNotReadError, Code.SERVICE_UNEXPECTED),
    (AzureError, Code.SERVICE_UNEXPECTED),
    (SerializationError, Code.SERVICE_UNEXPECTED),
    (DeserializationError, Code.SERVICE_UNEXPECTED),
)
"""The first that an error is an instance of decides, unless the HTTP status says more."""


def code_of(error: Exception) -> Code:
    """The code for an error of azure-core."""
    status = getattr(error, "status_code", None)
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    inner = getattr(error, "inner_exception", None)
    if status is None and isinstance(error, HttpResponseError):
        if isinstance(inner, AzureError):
            return code_of(inner)  # azure-storage-blob wraps what broke off a download, for good, in one
        if isinstance(inner, (OSError, urllib3.exceptions.HTTPError)):
            return Code.SERVICE_UNREACHABLE  # azure-core wraps in one what broke off a body that is read
    return next((code for kind, code in BY_TYPE if isinstance(error, kind)), Code.SERVICE_UNEXPECTED)


def code_of_status(status: int) -> Code:
    """The code for an HTTP answer with a status that is not success."""
    return _BY_STATUS.get(status, Code.SERVICE_UNEXPECTED)


@contextmanager
def service_errors(about: str, **by_status: Code) -> Iterator[None]:
    """A block in which errors of azure-core become :class:`ServiceError` about ``about``.

    ``http_400=…`` says which code a status means there. The detail holds the status, the service's code and
    the first line of its message: no URL with a query, no header, and thus no SAS and no token.

    Raises:
        ServiceError: the code is that of :func:`code_of`, or the one given for the status.
    """
    try:
        yield
    except (AzureError, SerializationError, DeserializationError) as error:
        status = getattr(error, "status_code", None)
        code = by_status.get(f"http_{status}", code_of(error))
        raise ServiceError(code, f"{about}: {_summary(error, status)}") from None


def _summary(error: Exception, status: int | None) -> str:
    words = [type(error).__name__ if status is None else f"HTTP {status}"]
    service_code = getattr(getattr(error, "error_code", None), "value", getattr(error, "error_code", None))
    odata = getattr(error, "error", None)
    if service_code or odata is not None:
        words.append(str(service_code or getattr(odata, "code", "")))
    message = str(getattr(odata, "message", None) or getattr(error, "message", "")).strip()
    lines = message.splitlines()
    if lines and "?" not in lines[0]:
        words.append(lines[0][:300])
    return " ".join(word for word in words if word)
