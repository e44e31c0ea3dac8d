"""The states of transfers, imports, tickets, removals and standing orders, and which may follow which.

:data:`TRANSFERS`, :data:`IMPORTS`, :data:`TICKETS`, :data:`REMOVALS` and :data:`ORDERS` are the rules, and
the only ones; :mod:`airgap.journal` holds every chain to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum, unique


@unique
class Kind(StrEnum):
    """The kind of thing that a journal is about; also the first part of its entries' names."""

    TRANSFERS = "transfers"
    """At the source: an order, from the request to the receipts that come back."""

    IMPORTS = "imports"
    """At the target: an upload, from its bundle manifest's arrival until all of it is put away."""

    TICKETS = "tickets"
    """At either side: a ticket that was given, for what, and to whom. It has one entry."""

    REMOVALS = "removals"
    """That what lay there of the transfer or import of that id was removed. At the target each container has
    an entry of its own, and what is of no import has a journal of its own."""

    ORDERS = "orders"
    """At the source: a standing order, by its name. An entry for each change of it."""


@unique
class State(StrEnum):
    """The states of transfers, imports, tickets, removals and orders; some belong to one kind only."""

    # of transfers
    REQUESTED = "requested"
    PLANNED = "planned"
    PREVIEWED = "previewed"
    NOTHING_MISSING = "nothing-missing"
    DIVIDING = "dividing"
    DIVIDED = "divided"
    EXPORTING = "exporting"
    HASHING = "hashing"
    AWAITING_SIGNATURES = "awaiting-signatures"
    SEALING = "sealing"
    SEALED = "sealed"
    PARTLY_DELIVERED = "partly-delivered"
    DELIVERED = "delivered"
    VOIDED = "voided"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    # of imports
    RECEIVED = "received"
    SUPERSEDED = "superseded"
    ADMITTED = "admitted"
    WAITING = "waiting"
    VERIFIED = "verified"
    CHECKING = "checking"
    AWAITING_RELEASE = "awaiting-release"
    PROMOTING = "promoting"
    IMPORTING = "importing"
    PROVEN = "proven"
    CLOSED = "closed"
    HELD = "held"
    QUARANTINED = "quarantined"

    # of tickets
    ISSUED = "issued"

    # of removals
    REMOVED = "removed"

    # of standing orders
    STANDING = "standing"
    PAUSED = "paused"
    DELETED = "deleted"

    # of transfers and imports
    REFUSED = "refused"
    DAMAGED = "damaged"
    FAILED = "failed"


Table = Mapping[State, frozenset[State]]
_NOTHING: frozenset[State] = frozenset()

_STOPPED = {State.REFUSED, State.FAILED, State.CANCELLED}
"""How a transfer may end before its bundle is on its way out: it cannot cross, it broke, it was cancelled."""

_TOLD = {State.PARTLY_DELIVERED, State.DELIVERED, State.REFUSED, State.DAMAGED}
"""What receipts may say of a sealed transfer; :mod:`airgap.deliveries` says what those of several come to."""

TRANSFERS: Table = {
    State.REQUESTED: frozenset({State.PLANNED} | _STOPPED),
    # Previewed: a dry run, which ends with its plan. Nothing missing: the targets hold all of it already.
    # Dividing: it is more than one bundle takes, and becomes several transfers, one after the other.
    State.PLANNED: frozenset(
        {State.EXPORTING, State.PREVIEWED, State.NOTHING_MISSING, State.DIVIDING} | _STOPPED
    ),
    State.PREVIEWED: _NOTHING,
    State.NOTHING_MISSING: _NOTHING,
    State.DIVIDING: frozenset({State.DIVIDED} | _STOPPED),
    # Divided: each of those transfers is sealed or has ended; what becomes of them, they tell themselves.
    State.DIVIDED: _NOTHING,
    State.EXPORTING: frozenset({State.HASHING} | _STOPPED),
    State.HASHING: frozenset({State.AWAITING_SIGNATURES, State.SEALING} | _STOPPED),
    State.AWAITING_SIGNATURES: frozenset({State.SEALING} | _STOPPED),
    # It is signed and its number is taken. From here on it cannot be cancelled: its manifest is published
    # next, and only after that it is called sealed.
    State.SEALING: frozenset({State.SEALED, State.FAILED}),
    # The bundle is out: what follows is told by receipts, or given up by the source.
    State.SEALED: frozenset({State.VOIDED, State.EXPIRED} | _TOLD),
    # Damaged parts are carried again, until a receipt says otherwise; they may be damaged again.
    State.DAMAGED: frozenset({State.VOIDED, State.EXPIRED} | _TOLD),
    # A receipt travels for days: an import in time may be told after the bundle has expired.
    State.EXPIRED: frozenset({State.VOIDED} | _TOLD),
    # Some registries of its audience have imported it, and others have not answered.
    State.PARTLY_DELIVERED: frozenset({State.VOIDED, State.EXPIRED} | _TOLD),
    State.DELIVERED: _NOTHING,
    # What the target refused once, it may have imported after all: a key was added to its policy meanwhile.
    # And other registries answer, too. Voided only where a number was taken, which the table cannot tell.
    State.REFUSED: frozenset({State.VOIDED} | _TOLD),
    State.FAILED: frozenset({State.VOIDED}),
    # What was given up may have been imported before the target could learn of it.
    State.VOIDED: frozenset({State.PARTLY_DELIVERED, State.DELIVERED}),
    State.CANCELLED: _NOTHING,
}
"""The life of a transfer: which states may follow a state."""

_REJECTED = {State.REFUSED, State.FAILED}
"""How an import may end as long as it is not proven: what arrived is at fault, or something else is."""

IMPORTS: Table = {
    # Superseded: the upload was gone, or another one, before it was looked at; that one has its own journal.
    State.RECEIVED: frozenset({State.ADMITTED, State.SUPERSEDED} | _REJECTED),
    State.ADMITTED: frozenset({State.WAITING} | _REJECTED),
    # It is in custody, waits for the channel's turn, and then its parts are hashed; verified means that its
    # number is taken as well.
    State.WAITING: frozenset({State.VERIFIED, State.DAMAGED} | _REJECTED),
    State.VERIFIED: frozenset({State.CHECKING, State.AWAITING_RELEASE, State.PROMOTING} | _REJECTED),
    State.CHECKING: frozenset({State.AWAITING_RELEASE, State.PROMOTING} | _REJECTED),
    State.AWAITING_RELEASE: frozenset({State.PROMOTING} | _REJECTED),
    State.PROMOTING: frozenset({State.IMPORTING} | _REJECTED),
    State.IMPORTING: frozenset({State.PROVEN} | _REJECTED),
    # Closed: the receipt is out and the copies are put away.
    State.PROVEN: frozenset({State.CLOSED}),
    # Quarantined: the receipt is out and the upload is put away.
    State.REFUSED: frozenset({State.QUARANTINED}),
    State.FAILED: frozenset({State.QUARANTINED}),
    # Held: the receipt is out, the blobs are kept and the damaged parts are awaited. With them comes a new
    # upload, which has a journal of its own, and this one is superseded; or the deadline.
    State.DAMAGED: frozenset({State.HELD, State.QUARANTINED}),
    State.HELD: frozenset({State.QUARANTINED, State.SUPERSEDED}),
    State.SUPERSEDED: _NOTHING,
    State.CLOSED: _NOTHING,
    State.QUARANTINED: _NOTHING,
}
"""The life of an import: which states may follow a state."""


DECIDED = frozenset({State.PROVEN, State.REFUSED, State.DAMAGED, State.FAILED})
"""What an import can come to; what follows is its closing."""


def _ends(table: Table) -> frozenset[State]:
    return frozenset(state for state, following in table.items() if not following)


TICKETS: Table = {State.ISSUED: _NOTHING}
"""The life of a ticket: what becomes of it is the storage's to say, and its time's."""

REMOVALS: Table = {State.REMOVED: frozenset({State.REMOVED})}
"""The life of a removal: at the target what lay in one place may be kept longer than what lay in another."""

_SET = {State.STANDING, State.PAUSED}
ORDERS: Table = {
    # Set anew, with whatever changed; a name that was deleted may be given to another order.
    State.STANDING: frozenset({State.DELETED} | _SET),
    State.PAUSED: frozenset({State.DELETED} | _SET),
    State.DELETED: frozenset(_SET),
}
"""The life of a standing order: what its times have brought is in the journals of the transfers."""

TRANSITIONS: Mapping[Kind, Table] = {
    Kind.TRANSFERS: TRANSFERS,
    Kind.IMPORTS: IMPORTS,
    Kind.TICKETS: TICKETS,
    Kind.REMOVALS: REMOVALS,
    Kind.ORDERS: ORDERS,
}

FIRST: Mapping[Kind, frozenset[State]] = {
    Kind.TRANSFERS: frozenset({State.REQUESTED}),
    Kind.IMPORTS: frozenset({State.RECEIVED}),
    Kind.TICKETS: frozenset({State.ISSUED}),
    Kind.REMOVALS: frozenset({State.REMOVED}),
    Kind.ORDERS: frozenset(_SET),
}
"""The states that a journal may begin with."""

FINAL: Mapping[Kind, frozenset[State]] = {
    Kind.TRANSFERS: _ends(TRANSFERS) | {State.REFUSED, State.FAILED, State.VOIDED},
    Kind.IMPORTS: _ends(IMPORTS),
    Kind.TICKETS: _ends(TICKETS),
    Kind.REMOVALS: frozenset(REMOVALS),
    Kind.ORDERS: frozenset({State.DELETED}),
}
"""The states that are told as the end.

Nothing follows them but a receipt that says better, that somebody gives the number up, a further removal, and
another standing order under the name of a deleted one.
"""

RESTING: Mapping[Kind, frozenset[State]] = {
    Kind.TRANSFERS: frozenset({State.SEALED, State.PARTLY_DELIVERED, State.DAMAGED, State.EXPIRED}),
    Kind.IMPORTS: frozenset({State.HELD}),
    Kind.TICKETS: _NOTHING,
    Kind.REMOVALS: _NOTHING,
    Kind.ORDERS: frozenset(_SET),
}
"""The states in which nothing runs here, but which the other side or the operator may still change."""

ACTIVE: Mapping[Kind, frozenset[State]] = {
    kind: frozenset(table) - FINAL[kind] - RESTING[kind] for kind, table in TRANSITIONS.items()
}
"""The states in which an orchestration is at work, or should be."""
