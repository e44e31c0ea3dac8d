"""The wire to the blob service: requests over HTTPS, answers as a stream, with azure-core's public pipeline.

The reasons why it is not azure-storage-blob are in docs/adr/0009 and 0023. No request is sent twice in here
but after a 401, redirects are not followed, and a failure leaves as an exception of azure-core, requests,
urllib3 or the system (:data:`NETWORK_ERRORS`).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from email.utils import formatdate
from typing import Any, Protocol
from urllib.parse import quote, urlencode

import requests
import urllib3
from azure.core import PipelineClient
from azure.core.credentials import TokenCredential
from azure.core.exceptions import AzureError
from azure.core.pipeline import PipelineRequest, PipelineResponse
from azure.core.pipeline.policies import BearerTokenCredentialPolicy
from azure.core.pipeline.transport import RequestsTransport
from azure.core.rest import HttpRequest, HttpResponse
from requests.adapters import HTTPAdapter

from airgap.errors import Code, UntrustedInputError
from blob_wire.paced_socket import paced_context

API_VERSION = "2019-12-12"
"""The first that takes blocks of up to 4000 MiB: the older, the more clouds know it."""

NETWORK_ERRORS = (AzureError, requests.RequestException, urllib3.exceptions.HTTPError, OSError)

PIECE_BYTES = 256 * 1024
"""Of a body, in both directions, for each thread; more is not faster (bench/README.md)."""

_MAX_CONNECTIONS = 32
_CONNECT_TIMEOUT_S = 20
_READ_TIMEOUT_S = 120
_SCOPE = "https://storage.azure.com/.default"  # the same in every Azure cloud
_TENANT = re.compile(r'\bauthorization_uri="?https://[^/\s"]+/([0-9A-Za-z.-]{1,128})[/\s",]')


class SeekableStream(Protocol):
    """A stream of bytes to send, which can be sent again after it was sought back to 0."""

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, at most ``size`` of them; empty at the end."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move to a position, as ``io.IOBase.seek`` does; returns the new position."""

    def tell(self) -> int:
        """The position in the stream, in bytes from its beginning."""

    def __len__(self) -> int:
        """Bytes in all."""


class Wire:
    """A connection to an account or container of the blob service; may be used by many threads.

    Args:
        base_url: the URL to which names are appended, without a SAS.
        user_agent: the name of the asking program, as the storage's logs show it.
        credential: gives the token that each request shows; ``None`` where each brings a SAS.
    """

    def __init__(self, base_url: str, *, user_agent: str, credential: TokenCredential | None = None) -> None:
        self._base_url = base_url.rstrip("/")
        self._user_agent = user_agent
        self._client: PipelineClient[HttpRequest, HttpResponse] = PipelineClient(
            self._base_url,
            policies=[] if credential is None else [_IdentityPolicy(credential, _SCOPE)],
            transport=paced_transport(connect_s=_CONNECT_TIMEOUT_S, read_s=_READ_TIMEOUT_S),
        )

    def close(self) -> None:
        """Close every connection that is open."""
        self._client.close()

    def send(
        self,
        method: str,
        name: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: SeekableStream | bytes | None = None,
        sas: str = "",
        version: str = API_VERSION,
    ) -> HttpResponse:
        """Send one request about the blob or container ``name`` below the base URL, or about that URL itself.

        Arguments are those of HTTP; ``version`` is the ``x-ms-version`` by whose rules the service answers.

        Returns:
            The answer, whatever its status, its body unread: the caller reads it to its end or closes it.
        """
        url = self._base_url + (f"/{quote(name)}" if name else "")
        asked = "&".join(part for part in (urlencode(query or {}), sas) if part)
        if asked:
            url += f"?{asked}"
        content: Any = body  # azure-core asks for a whole IO[bytes] and uses what the port has
        return self._client.send_request(
            HttpRequest(
                method,
                url,
                headers={
                    "User-Agent": self._user_agent,
                    "Accept-Encoding": "identity",
                    "x-ms-version": version,
                    "x-ms-date": formatdate(usegmt=True),
                    **(headers or {}),
                },
                content=content,
            ),
            stream=True,
        )


def paced_transport(*, connect_s: float, read_s: float) -> RequestsTransport:
    """A transport of azure-core whose answers must keep a least pace (:mod:`blob_wire.paced_socket`).

    Args:
        connect_s: how many seconds a connection may take to be made.
        read_s: how many seconds the first byte of an answer, and then each further piece, is waited for.
    """
    session = requests.Session()
    session.auth = _leave_as_is
    session.mount("https://", _Adapter(pool_maxsize=_MAX_CONNECTIONS))
    return RequestsTransport(
        session=session,
        connection_timeout=connect_s,
        read_timeout=read_s,
        connection_data_block_size=PIECE_BYTES,
    )


def read_capped(answer: HttpResponse, what: str, *, max_bytes: int) -> bytes:
    """Read the body of a small answer to its end, so that its connection can be used again.

    Raises:
        UntrustedInputError: ``TOO_LARGE``: it has more than ``max_bytes``, of which at most a piece more was
            read.
    """
    content = bytearray()
    for piece in pieces(answer):
        content += piece
        if len(content) > max_bytes:
            answer.close()
            raise UntrustedInputError(Code.TOO_LARGE, f"{what}: more than {max_bytes} bytes")
    return bytes(content)


def pieces(answer: HttpResponse) -> Iterator[bytes]:
    """The body of an answer, piece by piece as it comes in; closed when the caller stops before its end."""
    try:
        yield from answer.iter_raw()
    finally:
        answer.close()


def _leave_as_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keep requests from replacing our credential by one of the operator's ``.netrc``."""
    return request


class _Adapter(HTTPAdapter):
    """Reads bodies in larger pieces than http.client's 16 KiB, and not slower than a least pace.

    Larger pieces are fewer turns of every lock on the way.
    """

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options | _connections())

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        return super().proxy_manager_for(proxy, **options | _connections())


def _connections() -> dict[str, Any]:
    return {"blocksize": PIECE_BYTES, "ssl_context": paced_context()}


class _IdentityPolicy(BearerTokenCredentialPolicy[HttpRequest, HttpResponse]):
    """A token for each request; after a 401 once more, with a new one for the tenant the storage names."""

    def __init__(self, credential: TokenCredential, scope: str) -> None:
        super().__init__(credential, scope)
        self._scope = scope
        self._lock = threading.Lock()

    def on_request(self, request: PipelineRequest[HttpRequest]) -> None:
        with self._lock:  # one thread signs in, the others wait for its token
            super().on_request(request)

    def on_challenge(
        self, request: PipelineRequest[HttpRequest], response: PipelineResponse[HttpRequest, HttpResponse]
    ) -> bool:
        answer = response.http_response
        found = _TENANT.search(answer.headers.get("WWW-Authenticate", "") + ",")
        answer.close()
        if (rewind := getattr(request.http_request.content, "seek", None)) is not None:
            rewind(0)
        with self._lock:
            tenant = {} if found is None else {"tenant_id": found[1]}
            self.authorize_request(request, self._scope, **tenant)
        return True
