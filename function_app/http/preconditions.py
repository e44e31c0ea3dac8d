"""Preconditions (RFC 9110 §13): a change is made only to the state that the caller has seen."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self

import azure.functions as func

from airgap.errors import Code
from function_app.http.faults import Faults
from function_app.http.problems import problem

_ANY = "*"
_TAG = r'(?:W/)?"[!#-~]{0,128}"'
"""A weak one, as a proxy that compresses writes it, is understood, and matches nothing (RFC 9110 §13.1.1)."""
_TAGS = re.compile(rf"{_TAG}(?: *, *{_TAG}){{0,9}}")
_IN_WORDS = "* or an ETag as it was answered, with its quotes; at most ten of them"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preconditions:
    """The state that a request takes for granted, as its headers tell it.

    Args:
        tags: the ETags of which what is there must have one; ``*`` matches any; empty where nothing is said.
        is_new: whether nothing must be there.
    """

    tags: tuple[str, ...]
    is_new: bool

    @classmethod
    def read(cls, headers: Mapping[str, str], faults: Faults) -> Self:
        """Read both headers; what is at fault is noted."""
        match, none_match = headers.get("If-Match"), headers.get("If-None-Match")
        if match is not None and match != _ANY and not _TAGS.fullmatch(match):
            faults.add("header", ("If-Match",), match, _IN_WORDS)
        if none_match not in (None, _ANY):
            faults.add("header", ("If-None-Match",), none_match, "* or nothing")
        tags = () if match is None else tuple(one.strip() for one in match.split(","))
        return cls(tags=tags, is_new=none_match is not None)

    def refusal(self, etag: str | None, about: str, *, is_required: bool = True) -> func.HttpResponse | None:
        """The answer 412, or 428 where the request must name a state and does not; ``None`` to go on.

        Args:
            etag: the ETag of what is there, with its quotes; ``None`` where nothing is.
            about: the path of what the request is about.
            is_required: whether a state has to be named.
        """
        if (self.is_new and etag is not None) or (self.tags and not self._matches(etag)):
            return changed_meanwhile(about)
        if is_required and etag is not None and not self.tags:
            return problem(
                HTTPStatus.PRECONDITION_REQUIRED,
                Code.CONFLICT,
                "it is there already, and the request does not say which state of it is meant",
                remedy="Send the ETag of the GET that you decided by as If-Match.",
                instance=about,
            )
        return None

    def _matches(self, etag: str | None) -> bool:
        return etag is not None and (_ANY in self.tags or etag in self.tags)


def changed_meanwhile(about: str) -> func.HttpResponse:
    """Answer 412, because what is there has changed since the caller saw it."""
    return problem(
        HTTPStatus.PRECONDITION_FAILED,
        Code.CONFLICT,
        "it was changed, made or deleted meanwhile",
        remedy="GET it, decide again, and send the ETag of that answer as If-Match.",
        instance=about,
    )
