"""The reading of a request: its document, its sender, and the state that it takes for granted."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Protocol

import azure.functions as func

from airgap.errors import Code
from airgap.journal import Journal
from function_app.http.caller import ADMIN_ROLE, ORDER_ROLE, RELEASE_ROLE, Caller, read_caller
from function_app.http.faults import Faults
from function_app.http.preconditions import Preconditions
from function_app.http.problems import problem


class _Settings(Protocol):
    @property
    def callers_are_signed_in(self) -> bool: ...


def read_document(req: func.HttpRequest, *, max_bytes: int, wanted: str) -> bytes:
    """The body of a request that takes no query parameters; its content is not looked at.

    Args:
        req: the request.
        max_bytes: the largest size of its body.
        wanted: the words for what the body should be.

    Raises:
        RequestRefusedError: ``REQUEST_INVALID``: there are parameters, or the body is too large, which makes
            it 413.
    """
    faults = Faults().add_unknown_parameters(req.params)
    faults.refuse_any()
    body: bytes = req.get_body()
    if len(body) > max_bytes:
        faults.add_words("body", (), f"{len(body)} bytes", f"{wanted}, at most {max_bytes} bytes")
        raise faults.refusal(is_too_large=True)
    return body


def caller_of(req: func.HttpRequest, settings: _Settings) -> Caller:
    """The sender of a request, as far as the settings let its headers be believed."""
    return read_caller(req.headers, is_signed_in=settings.callers_are_signed_in)


def refused_releaser() -> func.HttpResponse:
    """Answer 403, because the caller may hand in no release and no signature."""
    return _refused_caller(
        RELEASE_ROLE, "Have somebody who has one of them send it; the signature stays good."
    )


def refused_orderer() -> func.HttpResponse:
    """Answer 403, because the caller may order nothing."""
    return _refused_caller(ORDER_ROLE, "Have somebody who has one of them order it.")


def refused_ticket_caller() -> func.HttpResponse:
    """Answer 403, because the caller may have no ticket given."""
    return _refused_caller(ORDER_ROLE, "Have somebody who has one of them take it.")


def _refused_caller(role: str, remedy: str) -> func.HttpResponse:
    detail = f"you have neither of the app roles {role} and {ADMIN_ROLE}"
    return problem(HTTPStatus.FORBIDDEN, Code.CALLER_REFUSED, detail, remedy=remedy)


def etag_of(journal: Journal) -> str:
    """The entity tag of what a journal is about: the digest of the journal's last entry.

    It stands for what was decided, not for every byte of an answer: how far a state has come, and who has
    signed, may change under one tag. So nothing is to be cached by it, and nothing is (``no-store``).
    """
    return f'"{journal.entries[-1].sha256}"'


def changed_since(headers: Mapping[str, str], journal: Journal, path: str) -> func.HttpResponse | None:
    """The answer 412, if ``If-Match`` names another state than the journal's; ``None`` to go on.

    Raises:
        RequestRefusedError: ``REQUEST_INVALID``: the header ``If-Match`` is malformed.
    """
    faults = Faults()
    preconditions = Preconditions.read(headers, faults)
    faults.refuse_any()
    return preconditions.refusal(etag_of(journal), path, is_required=False)
