"""What a failed request to the blob service means, as an error of ours.

The texts of SDK and service are never passed on, since they quote URLs and with them the SAS; what goes on is
the status, the service's error code and, for a refusal, which permission is probably missing.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from azure.core.exceptions import ClientAuthenticationError
from azure.core.rest import HttpResponse

from airgap.errors import AirgapError, Code, OperatorError, ServiceError, UntrustedInputError
from offline_mover.storage.ports import PassingError
from offline_mover.storage.storage_address import Sas

_ASK_AGAIN_S = 30.0
_ROLES = {
    "r": "Storage Blob Data Reader",
    "l": "Storage Blob Data Reader",
    "cw": "Storage Blob Data Contributor",
}
WRONG_PERMISSION = "AuthorizationPermissionMismatch"
"""What the service says of a SAS whose signature is right."""

_NO_OVERWRITE = "UnauthorizedBlobOverwrite"
_SIGNATURE_PHRASE = "failed to authenticate"
"""In the status line of a refused signature; that of a firewall's refusal has it not, under the same code."""

_CODES = {
    404: Code.NOT_FOUND,
    409: Code.CONFLICT,
    412: Code.CONFLICT,  # of a write: If-None-Match met a blob
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An answer that is not success.

    ``said`` is the service's word for it, letters only, so that nothing else can hide in it; ``date`` is the
    service's clock, by which a SAS expires. ``blames_signature``: what signed the request was not accepted at
    all, as opposed to what it is good for.
    """

    status: int
    said: str = ""
    blames_signature: bool = False
    wait_s: float | None = None
    date: datetime | None = None

    @classmethod
    def of(cls, answer: HttpResponse) -> Refusal:
        """What the status line and the headers say; the body is not read."""
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
        """Whether the blob is missing, as opposed to its container or account."""
        return self.status == 404 and self.said in {"BlobNotFound", "ResourceNotFound", ""}  # noqa: PLR2004 - HTTP

    @property
    def is_of_credential(self) -> bool:
        """Whether another credential might help."""
        return self.status in {401, 403}

    def meaning(self, what: str, needed: str) -> AirgapError:
        """The error for an answer that is not about the credential.

        Args:
            what: the container or blob that was asked about.
            needed: the SAS permissions of which one is enough.
        """
        answer = f"{what}: status {self.status} {self.said}".rstrip()
        match self.status:
            case 412 if needed == "r":
                return UntrustedInputError(Code.BLOB_CHANGED, what)
            case 400 if self.said == "InvalidBlobOrBlock":
                return ServiceError(
                    Code.CONFLICT,
                    f"{what}: another program staged blocks under this name; they go after a week",
                )
            case 429 | 503:
                return self._passing(Code.SERVICE_THROTTLED, answer, "the storage is busy")
            case 408 | 500 | 502 | 504:
                return self._passing(Code.SERVICE_UNEXPECTED, answer, "the storage failed")
        return ServiceError(_CODES.get(self.status, Code.SERVICE_REJECTED), answer)

    def _passing(self, code: Code, answer: str, reason: str) -> PassingError:
        return PassingError(code, answer, reason=f"{reason} ({self.status})", wait_s=self.wait_s)

    def meaning_for_identity(self, what: str, needed: str) -> AirgapError:
        """Why whoever is signed in was refused."""
        if self.status == 401:  # noqa: PLR2004 - "who are you", as opposed to 403 "not you"
            return ServiceError(
                Code.CREDENTIAL_EXPIRED, f"{what}: the token was refused {self.said}".rstrip()
            )
        return ServiceError(
            Code.SERVICE_DENIED,
            f"{what}: {self.said or 'refused'}; the role {_ROLES[needed]} on the container is missing",
        )

    def meaning_for_sas(
        self,
        what: str,
        needed: str,
        sas: Sas,
        *,
        now: datetime,
        is_renewable: bool,
        accepted_by: str | None = None,
    ) -> AirgapError:
        """Why a SAS was refused, as far as it shows itself; its signature stays out of it.

        Args:
            what: the container or blob that was asked about.
            needed: the SAS permissions of which one is enough.
            sas: the one that was refused.
            now: the current time, aware, where the service does not tell its own.
            is_renewable: whether the SAS is read again from where it came.
            accepted_by: a container of the same account whose SAS it is, where that was found out.
        """
        now = self.date or now
        if self.said == _NO_OVERWRITE:
            return ServiceError(
                Code.CONFLICT,
                f"{what}: something is there under this name already, and a {sas.what} with the permissions "
                f"{sas.permissions or 'of its stored policy'} may not overwrite it",
            )
        if sas.is_expired(now):
            expired = f"the {sas.what} expired at {sas.expires_at:%Y-%m-%dT%H:%M:%SZ}"
            if not is_renewable:
                return ServiceError(Code.CREDENTIAL_EXPIRED, expired)
            reason = f"{expired}; put a new one into {sas.where}"
            return PassingError(Code.CREDENTIAL_EXPIRED, expired, reason=reason, wait_s=_ASK_AGAIN_S)
        return ServiceError(
            Code.SERVICE_DENIED, f"{what}: {self._fault_of(sas, what, needed, now, accepted_by)}"
        )

    def _fault_of(self, sas: Sas, what: str, needed: str, now: datetime, accepted_by: str | None) -> str:
        """Why a SAS that is not expired was refused, in words; the likeliest reason of those that fit."""
        container = what.split("/", 1)[0]
        if sas.starts_at is not None and sas.starts_at > now:
            return f"the {sas.what} is valid only from {sas.starts_at:%Y-%m-%dT%H:%M:%SZ}"
        if accepted_by is not None:
            return f"the SAS is for the container {accepted_by} of this account, not for {container}"
        if sas.permissions and not set(needed) & set(sas.permissions):
            letters = " or ".join(needed)
            return f"the {sas.what} has the permissions {sas.permissions}, {letters} is missing"
        if self.blames_signature:
            return _signature_fault(sas, container)
        is_create_only = "c" in needed and "w" not in sas.permissions
        if self.said == WRONG_PERMISSION and is_create_only:
            return (
                f"something is there under this name already, and a {sas.what} with the permissions "
                f"{sas.permissions or 'of its stored policy'} may not overwrite it"
            )
        granted = sas.permissions or "of its stored policy"
        return (
            f"{self.said or 'refused'} although the {sas.what} has the permissions {granted}; does the "
            "storage's firewall let this machine in?"
        )


def _signature_fault(sas: Sas, container: str) -> str:
    if sas.what != "SAS":
        return (
            f"the {sas.what} {sas.where} is not taken any more: it was withdrawn, altered, or made for "
            "another storage"
        )
    if not sas.is_whole:
        return f"the SAS in {sas.where} is not whole, its signature is cut off: copy it again"
    return (
        f"the SAS in {sas.where} is whole, but its signature is not valid for the container {container}: it "
        "is for another container or account, its key was replaced, or it was altered"
    )


def network_meaning(error: BaseException, host: str) -> AirgapError:
    """The error for a request that got no answer, or only the beginning of one."""
    if isinstance(error, ClientAuthenticationError):  # azure-identity: nobody is signed in
        return ServiceError(
            Code.CREDENTIAL_EXPIRED,
            "no SAS was given, and nobody is signed in to Azure: give --sas-file FILE, or run az login",
        )
    if isinstance(error, OSError) and "TLS CA certificate bundle" in str(error):
        return OperatorError(Code.USAGE, "REQUESTS_CA_BUNDLE names no file with TLS roots")
    return PassingError(Code.SERVICE_UNREACHABLE, f"{host}: {_network_reason(error)}")


def _date(text: Any) -> datetime | None:
    try:
        found = parsedate_to_datetime(str(text))
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _network_reason(error: BaseException) -> str:
    """Why the network failed, in words of ours or of the operating system."""
    seen: list[BaseException] = []
    queue: list[Any] = [error]
    while queue and len(seen) < 20:  # noqa: PLR2004 - far more than requests nests
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
