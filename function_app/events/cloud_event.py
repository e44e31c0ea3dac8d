"""An entry of the journal as it is told outside: a CloudEvent 1.0 in JSON, structured mode.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md, and for ``sequence``
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/extensions/sequence.md
"""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from airgap.fields import format_time
from airgap.journal import Journal
from airgap.states import TRANSITIONS, Kind, State
from function_app.http.bodies import Body, Link, Time
from function_app.journal.store import row_of
from function_app.settings import Role

_LOOKED_AT = frozenset({Kind.TRANSFERS, Kind.IMPORTS, Kind.ORDERS})
"""What has an address in an API, of the same name as its journal."""


class StateChange(Body, frozen=True, kw_only=True):
    """The change itself: no more than the lists tell, and who may see more follows ``link``."""

    id: Annotated[str, Meta(description="Of the transfer, import, ticket or removal; an order's name.")]
    state: Annotated[
        str,
        Meta(
            description="What it has come to.",
            extra_json_schema={
                "enum": sorted({one.value for table in TRANSITIONS.values() for one in table})
            },
        ),
    ]
    previous_state: Annotated[str, Meta(description="What it was before; null at its beginning.")] | None
    number: Annotated[int, Meta(ge=1, description="Of the journal's entry: 1, 2, 3 and so on for each id.")]
    channel: Annotated[str, Meta(description="Where it is known.")] | None
    code: (
        Annotated[str, Meta(description="Where it was refused, damaged or failed: docs/errors.md.")]
        | UnsetType
    ) = UNSET
    link: (
        Annotated[Link, Meta(description="Where it is looked at; not of tickets and removals.")] | UnsetType
    ) = UNSET


class CloudEvent(Body, frozen=True, kw_only=True):
    """A change of state, as it is told to a receiver that the deployment names."""

    specversion: Annotated[str, Meta(extra_json_schema={"enum": ["1.0"]})]
    id: Annotated[str, Meta(description="The same whenever this change is told: drop doubles by it.")]
    source: Annotated[str, Meta(pattern="^urn:acr-airgap-transfer:(source|target):")]
    kind: Annotated[str, Meta(pattern="^urn:acr-airgap-transfer:event:[a-z]+:[a-z-]+$")] = msgspec.field(
        name="type"
    )
    subject: Annotated[str, Meta(pattern="^[a-z]+/[a-z0-9-]+$")]
    time: Annotated[Time, Meta(description="When it came to that.")]
    sequence: Annotated[str, Meta(pattern="^[0-9]{8}$", description="The place among those of the subject.")]
    datacontenttype: Annotated[str, Meta(extra_json_schema={"enum": ["application/json"]})]
    data: StateChange

    def to_bytes(self) -> bytes:
        """The body of a delivery."""
        return msgspec.json.encode(self)


def type_of(kind: Kind, state: State) -> str:
    """The type of the events that tell of this state."""
    return f"urn:acr-airgap-transfer:event:{kind}:{state}"


def event_of(journal: Journal, role: Role, registry: str) -> CloudEvent:
    """The event of a journal's last entry.

    Args:
        journal: up to that entry; not empty.
        role: which side tells.
        registry: login server of that side's registry: with the role it names who tells.
    """
    last, row = journal.entries[-1], row_of(journal)
    kind, about = journal.kind, journal.about
    return CloudEvent(
        specversion="1.0",
        id=f"{kind}/{about}/{last.number}",
        source=f"urn:acr-airgap-transfer:{role}:{registry}",
        kind=type_of(kind, last.state),
        subject=f"{kind}/{about}",
        time=format_time(last.at),
        sequence=f"{last.number:08d}",
        datacontenttype="application/json",
        data=StateChange(
            id=about,
            state=last.state.value,
            previous_state=journal.entries[-2].state.value if last.number > 1 else None,
            number=last.number,
            channel=row.channel,
            code=UNSET if row.code is None else row.code,
            link=f"/api/{kind}/{about}" if kind in _LOOKED_AT else UNSET,
        ),
    )
