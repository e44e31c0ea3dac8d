"""The bodies that both HTTP APIs share, as models, from which the OpenAPI document is made.

An answer is built as a :class:`Body`, so that it has no member that the document does not name. A member of
type ``UnsetType`` is left out where it does not apply; one that may be ``None`` is always there. Patterns
have ``^`` and ``$``, since JSON Schema looks anywhere in a text.
"""

import re
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from airgap.errors import code_named
from airgap.fields import format_time
from airgap.journal import JournalEntry
from airgap.states import TRANSITIONS, Kind
from function_app.messages import read
from function_app.ports import JournalRow

B = TypeVar("B", bound="Body")


class Body(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The base of all answers: readers skip members that they do not know, as any client should."""


class Ask(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The base of all requests' bodies: closed, so that a misspelt member is told and not passed over."""


def whole(pattern: re.Pattern[str] | str) -> str:
    """A pattern that a whole text must match, as JSON Schema writes it."""
    return f"^(?:{pattern if isinstance(pattern, str) else pattern.pattern})$"


def read_body(raw: Any, model: type[B]) -> B:
    """Read what the journal or a document of the app has kept, as a member of an answer.

    Raises:
        UntrustedInputError: ``NEWER_FORMAT``: another version of the app wrote it.
    """
    return read(raw, model)


Time = Annotated[
    str,
    Meta(
        pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$",
        examples=["2026-11-23T08:00:00Z"],
        extra_json_schema={"format": "date-time"},
    ),
]
Digest = Annotated[str, Meta(pattern="^sha256:[0-9a-f]{64}$")]
Link = Annotated[str, Meta(pattern="^/api/", extra_json_schema={"format": "uri-reference"})]
Next = Annotated[str, Meta(description="Where the page after is.", pattern="^/api/")] | None
Count = Annotated[int, Meta(ge=0)]
Envelope = Annotated[
    dict[str, Any],
    Meta(
        description="A DSSE envelope: `payload` and `signatures[].sig` are base64.",
        extra_json_schema={"required": ["payload", "payloadType", "signatures"]},
    ),
]


class Step(Body, frozen=True):
    """A state that a transfer or an import came to."""

    state: str
    at: Time
    by: Annotated[str, Meta(description="`app`, `receipt`, or the caller.")]

    @classmethod
    def of(cls, entry: JournalEntry) -> "Step":
        """The step of the history that an entry of the journal records."""
        return cls(state=entry.state.value, at=format_time(entry.at), by=entry.by)


class Explanation(Body, frozen=True):
    """The reason why something did not succeed."""

    code: Annotated[str, Meta(description="Stable; docs/errors.md has all.", pattern="^[A-Z0-9_]+$")]
    detail: str
    remedy: str
    artifacts: (
        Annotated[tuple[str, ...], Meta(description="The references at fault, where they are known.")]
        | msgspec.UnsetType
    ) = msgspec.UNSET

    @classmethod
    def of(cls, name: str, detail: str, artifacts: tuple[str, ...] = ()) -> "Explanation":
        """The explanation for the code of that name, and what it is about."""
        remedy = code_named(name).remedy
        return cls(code=name, detail=detail, remedy=remedy, artifacts=artifacts or msgspec.UNSET)

    @classmethod
    def of_row(cls, row: JournalRow) -> "Explanation | msgspec.UnsetType":
        """The explanation in a line of a list; ``UNSET`` where all went well."""
        return msgspec.UNSET if row.code is None else cls.of(row.code, row.detail or "")


class SelfLink(Body, frozen=True):
    """The path at which this is looked at."""

    self: Link


class Fault(Body, frozen=True):
    """One mistake in a request."""

    place: Annotated[str, Meta(extra_json_schema={"enum": ["body", "query", "header"]})] = msgspec.field(
        name="in"
    )
    field: Annotated[str, Meta(description="The value's name, as in `artifacts[1]`.")]
    given: Annotated[str, Meta(description="What stands there, shortened and without secrets.")]
    wanted: Annotated[str, Meta(description="What should stand there, in words.")]
    pointer: (
        Annotated[str, Meta(description="Of a value in the body: a JSON pointer.", pattern="^#")]
        | msgspec.UnsetType
    ) = msgspec.UNSET


class Problem(Body, frozen=True):
    """The reason why a request was refused or could not be answered: problem details (RFC 9457)."""

    kind: Annotated[str, Meta(pattern="^urn:acr-airgap-transfer:error:[A-Z0-9_]+$")] = msgspec.field(
        name="type"
    )
    title: str
    status: Annotated[int, Meta(ge=400, le=599)]
    detail: str
    code: Annotated[str, Meta(description="Stable; docs/errors.md has all.", pattern="^[A-Z0-9_]+$")]
    remedy: Annotated[str, Meta(description="What to do about it in this very case.", min_length=1)]
    instance: (
        Annotated[Link, Meta(description="What the problem is about, where it is not the resource itself.")]
        | msgspec.UnsetType
    ) = msgspec.UNSET
    errors: (
        Annotated[
            tuple[Fault, ...],
            Meta(description="Of a request that is at fault: the first twenty faults.", max_length=20),
        ]
        | msgspec.UnsetType
    ) = msgspec.UNSET
    error_count: (
        Annotated[int, Meta(description="And how many there are in all.", ge=1)] | msgspec.UnsetType
    ) = msgspec.UNSET


class Health(Body, frozen=True):
    """The side that the app is, and its version."""

    role: Annotated[str, Meta(extra_json_schema={"enum": ["source", "target"]})]
    version: str


class PreflightCheck(Body, frozen=True):
    """The result of one check of a side."""

    id: str
    ok: bool
    detail: Annotated[str, Meta(description="What was seen, without secrets.")]
    remedy: Annotated[str, Meta(description="Empty if it is right.")]


class Preflight(Body, frozen=True):
    """The results of all checks of a side, which say whether it is ready to work."""

    role: Annotated[str, Meta(extra_json_schema={"enum": ["source", "target"]})]
    version: str
    ok: Annotated[bool, Meta(description="Whether all checks are right.")]
    checks: tuple[PreflightCheck, ...]


class TicketBlob(Body, frozen=True):
    """The right to one blob: its name, and the SAS for it."""

    name: str
    sas: Annotated[str, Meta(description="A shared access signature: a secret.")]


class Ticket(Body, frozen=True):
    """Rights to the blobs of one bundle for a short time: a secret until it expires (docs/format.md §18)."""

    schema: Annotated[int, Meta(extra_json_schema={"enum": [1]})]
    kind: Annotated[str, Meta(extra_json_schema={"enum": ["drop", "pickup"]})]
    ticket_id: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
    transfer_id: str
    channel: str
    manifest_digest: Digest
    container: Annotated[str, Meta(pattern="^https://")]
    valid_from: Time
    expires_at: Time
    blobs: Annotated[tuple[TicketBlob, ...], Meta(min_length=2)]


def states_of(kind: Kind) -> dict[str, Any]:
    """The JSON Schema of the states that journals of this kind have."""
    return {"enum": [state.value for state in TRANSITIONS[kind]]}
