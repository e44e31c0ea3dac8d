"""The meanings of failed requests to the blob service, as errors of this project.

The error for a refusal tells which permission is probably missing.
"""

from __future__ import annotations

from datetime import datetime

from azure.core.exceptions import ClientAuthenticationError

from airgap.errors import AirgapError, Code, OperatorError, ServiceError, UntrustedInputError
from blob_wire.answers import PassingError, Refusal, network_reason
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
_CODES = {
    404: Code.NOT_FOUND,
    409: Code.CONFLICT,
    412: Code.CONFLICT,  # of a write: If-None-Match met a blob
}


def meaning(refusal: Refusal, what: str, needed: str) -> AirgapError:
    """The error for an answer that is not about the SAS or the identity.

    Args:
        refusal: the answer.
        what: the container or blob that was asked about.
        needed: the SAS permissions of which one is enough.
    """
    answer = f"{what}: status {refusal.status} {refusal.said}".rstrip()
    if needed == "r" and refusal.is_other_version:
        return UntrustedInputError(Code.BLOB_CHANGED, what)
    match refusal.status:
        case 400 if refusal.said == "InvalidBlobOrBlock":
            return ServiceError(
                Code.CONFLICT,
                f"{what}: another program staged blocks under this name; they go after a week",
            )
        case 429 | 503:
            return _passing(refusal, Code.SERVICE_THROTTLED, answer, "the storage is busy")
        case 408 | 500 | 502 | 504:
            return _passing(refusal, Code.SERVICE_UNEXPECTED, answer, "the storage failed")
    return ServiceError(_CODES.get(refusal.status, Code.SERVICE_REJECTED), answer)


def _passing(refusal: Refusal, code: Code, answer: str, reason: str) -> PassingError:
    return PassingError(code, answer, reason=f"{reason} ({refusal.status})", wait_s=refusal.wait_s)


def meaning_for_identity(refusal: Refusal, what: str, needed: str) -> AirgapError:
    """The error for an answer that refuses whoever is signed in; arguments as for :func:`meaning`."""
    if refusal.status == 401:  # noqa: PLR2004 - "who are you", as opposed to 403 "not you"
        return ServiceError(Code.CREDENTIAL_EXPIRED, f"{what}: the token was refused {refusal.said}".rstrip())
    return ServiceError(
        Code.SERVICE_DENIED,
        f"{what}: {refusal.said or 'refused'}; the role {_ROLES[needed]} on the container is missing",
    )


def meaning_for_sas(
    refusal: Refusal,
    what: str,
    needed: str,
    sas: Sas,
    *,
    now: datetime,
    is_renewable: bool,
    accepted_by: str | None = None,
) -> AirgapError:
    """The error for an answer that refuses a SAS, with the reason as far as it shows; no signature is in it.

    Args:
        refusal: the answer.
        what: the container or blob that was asked about.
        needed: the SAS permissions of which one is enough.
        sas: the SAS that was refused.
        now: the current time, aware, where the service does not tell its own.
        is_renewable: whether the SAS is read again from where it came.
        accepted_by: a container of the same account whose SAS it is, where that was found out.
    """
    now = refusal.date or now
    if refusal.said == _NO_OVERWRITE:
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
        Code.SERVICE_DENIED,
        f"{what}: {_fault_of(refusal, sas, what, needed, now=now, accepted_by=accepted_by)}",
    )


def _fault_of(
    refusal: Refusal, sas: Sas, what: str, needed: str, *, now: datetime, accepted_by: str | None
) -> str:
    """Why a SAS that is not expired was refused, in words; the likeliest reason of those that fit."""
    container = what.split("/", 1)[0]
    if sas.starts_at is not None and sas.starts_at > now:
        return f"the {sas.what} is valid only from {sas.starts_at:%Y-%m-%dT%H:%M:%SZ}"
    if accepted_by is not None:
        return f"the SAS is for the container {accepted_by} of this account, not for {container}"
    if sas.permissions and not set(needed) & set(sas.permissions):
        letters = " or ".join(needed)
        return f"the {sas.what} has the permissions {sas.permissions}, {letters} is missing"
    if refusal.blames_signature:
        return _signature_fault(sas, container)
    is_create_only = "c" in needed and "w" not in sas.permissions
    if refusal.said == WRONG_PERMISSION and is_create_only:
        return (
            f"something is there under this name already, and a {sas.what} with the permissions "
            f"{sas.permissions or 'of its stored policy'} may not overwrite it"
        )
    granted = sas.permissions or "of its stored policy"
    return (
        f"{refusal.said or 'refused'} although the {sas.what} has the permissions {granted}; does the "
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
    return PassingError(Code.SERVICE_UNREACHABLE, f"{host}: {network_reason(error)}")
