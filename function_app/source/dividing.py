"""The division of an order that is more than one bundle takes: several transfers, one after the other.

Each of them is a transfer like any other, with an id that follows from the whole's, and with what the order
says of all of it. They run within the whole's orchestration: that one is asked for whether a portion is at
work.
"""

import hashlib
from collections.abc import Iterator

from msgspec.structs import replace

from airgap.errors import Code, PolicyRefusal
from airgap.fields import parse_time
from airgap.journal import Journal
from airgap.states import Kind, State
from function_app.durable.stopping import require_going
from function_app.journal.recording import BY_APP
from function_app.journal.store import JournalStore
from function_app.ports import SourceSide
from function_app.source.planning import PORTIONS, REQUEST, read_references
from function_app.source.starting import order_of
from function_app.source.wire import Portion, PortionOrder, Portions
from function_app.storage.work_folder import WorkFolder

PORTION = "portion"
"""The member of a transfer's facts that says of which whole it is a portion, and the how manieth, from 1."""

_INSTANCE = "instance"


def order_portion(side: SourceSide, order: PortionOrder) -> Portion:
    """The activity that puts one portion on record as a transfer, with its request; a repeat does nothing.

    Raises:
        PolicyRefusal: ``TRANSITION_REFUSED``: the transfer that is divided was cancelled.
        UntrustedInputError: ``BLOB_CHANGED``: somebody changed what the plan wrote.
    """
    require_going(side.blobs, order.whole)
    work = WorkFolder(side.blobs, order.whole)
    portions = work.get(PORTIONS, Portions, sha256=order.pinned)
    request = read_references(work, portions.request)
    begin, end = (*portions.starts, len(request.artifacts))[order.number : order.number + 2]
    request = replace(request, artifacts=request.artifacts[begin:end], select=(), exclude=())
    journals = JournalStore(side.blobs, side.projection)
    whole = journals.read(Kind.TRANSFERS, order.whole)
    if whole.state is State.CANCELLED:  # also where whoever cancelled it died right after that
        raise PolicyRefusal(Code.TRANSITION_REFUSED, f"{order.whole} was cancelled")
    first, transfer_id = whole.entries[0], portion_id(order.whole, order.number)
    facts = {
        **request.facts,
        PORTION: {"of": order.whole, "number": order.number + 1},
        _INSTANCE: instance_of(whole),
        **{name: first.facts[name] for name in ("orderedBy", "order") if name in first.facts},
    }
    at = parse_time(order.at)
    journals.record(Kind.TRANSFERS, transfer_id, State.REQUESTED, facts, by=first.by, at=at)
    try:
        # Whoever cancels stops the whole first, and then looks which portions there are.
        require_going(side.blobs, order.whole)
    except PolicyRefusal:
        journals.record(Kind.TRANSFERS, transfer_id, State.CANCELLED, {}, by=BY_APP, at=at)
        raise
    WorkFolder(side.blobs, transfer_id).create(REQUEST, request)
    return Portion(order=order_of(side, transfer_id, request))


def portion_id(whole: str, number: int) -> str:
    """The id of the transfer that is the ``number``-th portion, from 0, of the transfer ``whole``."""
    return hashlib.sha256(f"{whole}\0{number}".encode()).hexdigest()[:32]


def portions_of(side: SourceSide, whole: Journal) -> Iterator[Journal]:
    """The journals of the transfers that another is divided into, in order, as far as they are on record."""
    dividing = whole.newest(State.DIVIDING)
    journals = JournalStore(side.blobs, side.projection)
    for number in range(dividing.facts["transfers"] if dividing else 0):
        journal = journals.read(Kind.TRANSFERS, portion_id(whole.about, number))
        if journal.entries:
            yield journal


def instance_of(journal: Journal) -> str:
    """The id of the orchestration at work on a transfer; a portion has that of the divided transfer."""
    return str(journal.entries[0].facts.get(_INSTANCE, journal.about))


def is_portion(journal: Journal) -> bool:
    """Whether the transfer is one of those that another was divided into."""
    return PORTION in journal.entries[0].facts
