"""The standing order, as ``PUT /api/orders/{name}`` takes it and its journal keeps it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from airgap.schedule import SCHEDULE, Schedule
from airgap.states import State
from function_app.http.faults import MISSING, Faults
from function_app.http.json_body import read_object, require_model
from function_app.source.bodies import MAX_LABEL_CHARACTERS, MAX_LABELS, StandingOrderAsk
from function_app.source.transfer_request import MEMBERS, TransferRequest, read_flag

MAX_BODY_BYTES = 32 * 1024
"""All of it stands in one entry of the journal: an order that comes again selects what it sends."""

_MEMBERS = (*MEMBERS, SCHEDULE, "labels", "paused")
_SCHEDULE_IN_WORDS = (
    "an ISO 8601 repeating interval such as R/2026-12-01T02:00:00Z/P1D: its first time in UTC, and how long "
    "until the next, in weeks, or days, hours and minutes; from PT5M to P366D"
)
_LABELS_IN_WORDS = (
    f"an object of at most {MAX_LABELS} texts of 1 to {MAX_LABEL_CHARACTERS} printable characters"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingOrder:
    """A standing order: a transfer that is ordered again at each time of a schedule."""

    request: TransferRequest
    schedule: Schedule
    labels: Mapping[str, str]
    """Of the caller's own; each transfer tells them."""
    is_paused: bool

    @classmethod
    def from_bytes(cls, body: bytes, faults: Faults) -> Self:
        """Read a request body; the rest of the request's ``faults`` are told with its own.

        Raises:
            RequestRefusedError: ``REQUEST_INVALID``, naming every field at fault; ``is_too_large`` where the
                body has more than 32 KiB.
        """
        raw = read_object(body, faults, max_bytes=MAX_BODY_BYTES)
        faults.add_unknown_members(raw, _MEMBERS)
        order = cls._read(raw, faults)
        require_model(raw, StandingOrderAsk, faults)
        return order

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """The standing order that a journal entry has set, from the entry's facts.

        Raises:
            RequestRefusedError: this version would not take it any more.
        """
        faults = Faults()
        order = cls._read(facts["order"], faults)
        faults.refuse_any()
        return order

    @classmethod
    def _read(cls, raw: Mapping[str, Any], faults: Faults) -> Self:
        return cls(
            request=TransferRequest.from_members(raw, faults),
            schedule=_read_schedule(raw.get(SCHEDULE, MISSING), faults),
            labels=_read_labels(raw.get("labels", {}), faults),
            is_paused=read_flag("paused", raw, faults),
        )

    @property
    def state(self) -> State:
        """The state that its journal has: active or paused."""
        return State.PAUSED if self.is_paused else State.STANDING

    def to_json(self) -> dict[str, Any]:
        """The order as it can be sent again."""
        request = replace(self.request, is_dry_run=False).to_json()
        del request["dryRun"]
        given = {name: value for name, value in request.items() if value != []}
        return {**given, SCHEDULE: self.schedule.text, "labels": dict(self.labels), "paused": self.is_paused}

    def to_facts(self) -> dict[str, Any]:
        """The order as the facts of its journal entry, with when it is due, and what the list tells."""
        return {"order": self.to_json(), SCHEDULE: self.schedule.text, "channel": self.request.channel}


def _read_schedule(raw: Any, faults: Faults) -> Schedule:
    try:
        if type(raw) is str:
            return Schedule.parse(raw)
    except ValueError:
        pass
    faults.add("body", (SCHEDULE,), raw, _SCHEDULE_IN_WORDS)
    return Schedule.parse("R/2000-01-01T00:00:00Z/P1D")  # the request is refused anyway


def _read_labels(raw: Any, faults: Faults) -> Mapping[str, str]:
    if type(raw) is not dict or len(raw) > MAX_LABELS:
        faults.add("body", ("labels",), raw, _LABELS_IN_WORDS)
        return {}
    for name, text in raw.items():
        if not _is_label(name) or not _is_label(text):
            faults.add("body", ("labels", name), text, _LABELS_IN_WORDS)
    return raw


def _is_label(text: Any) -> bool:
    return type(text) is str and 1 <= len(text) <= MAX_LABEL_CHARACTERS and text.isprintable()
