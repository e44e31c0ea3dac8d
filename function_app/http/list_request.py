"""The request for a list of transfers or imports: its query parameters, read strictly, faults told at once.

Both sides answer lists alike, from the journal's projection.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlencode

from airgap.errors import OperatorError
from airgap.fields import CHANNEL, parse_time
from airgap.states import TRANSITIONS, Kind, State
from function_app.http.faults import CHANNEL_IN_WORDS, Faults, RequestRefusedError
from function_app.ports import JournalRow, Projection, RowFilter

T = TypeVar("T")

DEFAULT_LIMIT = 50
MAX_LIMIT = 500
LIMIT_IN_WORDS = f"a whole number from 1 to {MAX_LIMIT}"
_FILTERS = ("state", "channel", "createdFrom", "createdBefore", "limit")
PARAMETERS = (*_FILTERS, "cursor")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRequest:
    """A request for a page of transfers or imports: which ones, and how many."""

    kind: Kind
    where: RowFilter
    limit: int
    cursor: str | None
    kept: Mapping[str, str]
    """The parameters that the page after is asked for with, as they were given."""

    @classmethod
    def from_params(cls, kind: Kind, params: Mapping[str, str]) -> "ListRequest":
        """Read the query parameters of ``GET /api/transfers`` or ``GET /api/imports``.

        Raises:
            RequestRefusedError: ``REQUEST_INVALID``, naming every parameter at fault.
        """
        faults = Faults().add_unknown_parameters(params, PARAMETERS)

        def read(name: str, parse: Callable[[str], T], wanted: str) -> T | None:
            if name not in params:
                return None
            try:
                return parse(params[name])
            except ValueError:
                faults.add("query", (name,), params[name], wanted)
                return None

        time = "a time in UTC such as 2026-01-31T08:00:00Z"
        where = RowFilter(
            state=read("state", lambda text: _state(kind, text), f"one of {', '.join(TRANSITIONS[kind])}"),
            channel=read("channel", _channel, CHANNEL_IN_WORDS),
            created_from=read("createdFrom", parse_time, time),
            created_before=read("createdBefore", parse_time, time),
        )
        limit = read("limit", _limit, LIMIT_IN_WORDS) or DEFAULT_LIMIT
        faults.refuse_any()
        kept = {name: params[name] for name in _FILTERS if name in params}
        return cls(kind=kind, where=where, limit=limit, cursor=params.get("cursor"), kept=kept)

    def page(self, projection: Projection) -> tuple[list[JournalRow], str | None]:
        """The rows of the page, newest first, and the cursor of the page after; ``None`` after the last.

        Raises:
            RequestRefusedError: ``REQUEST_INVALID``: the cursor is not one that a list gave out.
            ServiceError: the projection cannot be read now.
        """
        try:
            rows, token = projection.page(self.kind, where=self.where, limit=self.limit, token=self.cursor)
        except OperatorError:
            raise self._cursor_refusal() from None
        return list(rows), self._next_link(token)

    def _next_link(self, token: str | None) -> str | None:
        """Where the page after is; ``None`` if this is the last."""
        return None if token is None else f"/api/{self.kind}?{urlencode({**self.kept, 'cursor': token})}"

    def _cursor_refusal(self) -> RequestRefusedError:
        """The error for a cursor that the lists themselves, which alone can judge it, did not take."""
        faults = Faults()
        faults.add("query", ("cursor",), self.cursor, "the cursor of a list's own next link, unchanged")
        return faults.refusal()


def _state(kind: Kind, text: str) -> State:
    if text not in {state.value for state in TRANSITIONS[kind]}:
        raise ValueError
    return State(text)


def _channel(text: str) -> str:
    if not CHANNEL.fullmatch(text):
        raise ValueError
    return text


def _limit(text: str) -> int:
    limit = read_limit(text)
    if limit is None:
        raise ValueError
    return limit


def read_limit(text: str) -> int | None:
    """The size of a page that ``limit`` asks for, 1 to 500; ``None`` for anything else."""
    return int(text) if re.fullmatch(r"[0-9]{1,3}", text) and 1 <= int(text) <= MAX_LIMIT else None
