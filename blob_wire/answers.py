"""Failed requests to Blob storage: what an answer that is not success says, or a connection that broke.

The texts of SDK and service are never passed on, since they quote URLs and with them the SAS; what goes on is
the status, the service's error code, and words of ours or of the operating system.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Self

from azure.core.rest import HttpResponse

from airgap.errors import Code, ServiceError

_SIGNATURE_PHRASE = "failed to authenticate"
"""In the status line of a refused signature; that of a firewall's refusal has it not, under the same code."""

_MISSING = frozenset({"BlobNotFound", "ResourceNotFound", ""})
_MOST_CAUSES = 20
"""Far more than requests nests."""


class PassingError(ServiceError):
    """A failure that may be over the next time, by itself or because the operator acts on it.

    Args:
        code: the error's code.
        detail: the words for a caller that has given up.
        reason: a few words to show while it is waited for; if empty, ``detail`` is shown.
        wait_s: how long the service asks to wait, in seconds; ``None`` if it did not say.
    """

    def __init__(
        self, code: Code, detail: str = "", *, reason: str = "", wait_s: float | None = None
    ) -> None:
        super().__init__(code, detail)
        self.reason = reason or detail
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An answer of the service that is not success.

    ``said`` is the service's error code, letters and digits only, so that nothing else can hide in it;
    ``date`` is the service's clock, by which a SAS expires; ``wait_s`` is how long it asks to wait, in
    seconds. With ``blames_signature`` the SAS or token itself was not accepted, as opposed to what it is good
    for.
    """

    status: int
    said: str = ""
    blames_signature: bool = False
    wait_s: float | None = None
    date: datetime | None = None

    @classmethod
    def of(cls, answer: HttpResponse) -> Self:
        """The refusal that an answer's status line and headers tell; its body is not read."""
        said = str(answer.headers.get("x-ms-error-code") or "")
        wait = str(answer.headers.get("Retry-After") or "")
        return cls(
            status=answer.status_code,
            said=said if said.isascii() and said.isalnum() else "",
            blames_signature=said == "AuthenticationFailed" or _SIGNATURE_PHRASE in str(answer.reason),
            wait_s=float(wait[:6]) if wait.isascii() and wait.isdigit() else None,
            date=_date(answer.headers.get("Date")),
        )

    @property
    def is_no_blob(self) -> bool:
        """Whether the blob is missing, as opposed to its container or its account."""
        return self.status == 404 and self.said in _MISSING  # noqa: PLR2004 - HTTP

    @property
    def is_of_credential(self) -> bool:
        """Whether the service refused the SAS or token, so that another one might help (401, 403)."""
        return self.status in {401, 403}

    @property
    def is_other_version(self) -> bool:
        """Whether a pinned read met another version: by its ETag, or because it ends before the range."""
        return self.status in {412, 416}


def network_reason(error: BaseException) -> str:
    """The reason why the network failed, in words of the project or of the operating system."""
    seen: list[BaseException] = []
    queue: list[Any] = [error]
    while queue and len(seen) < _MOST_CAUSES:
        cause = queue.pop(0)
        if not isinstance(cause, BaseException) or cause in seen:
            continue
        seen.append(cause)
        if isinstance(cause, ssl.SSLCertVerificationError):
            why = getattr(cause, "verify_message", "verification failed")
            return f"its certificate is not trusted ({why}); REQUESTS_CA_BUNDLE names the roots"
        if type(cause).__name__ == "NameResolutionError":
            return "the name does not resolve"
        if isinstance(cause, TimeoutError) or "Timeout" in type(cause).__name__:
            return "no answer in time"
        if isinstance(cause, OSError) and cause.strerror and cause.errno:
            return cause.strerror
        queue += [
            getattr(cause, "inner_exception", None),
            getattr(cause, "reason", None),
            cause.__cause__,
            cause.__context__,
            *cause.args,
        ]
    return "the connection failed"


def _date(text: Any) -> datetime | None:
    try:
        found = parsedate_to_datetime(str(text))
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
