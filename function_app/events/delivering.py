"""The timer that tells of changes of state: what has a note goes to the receiver, then the note is deleted.

Nobody waits for it. What was not taken is tried again, later and later, for as long as its note is there; of
one transfer or import nothing is told before what came earlier. A round ends within minutes, whatever the
receiver does.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import azure.functions as func

from airgap.errors import AirgapError, Code
from airgap.journal import Journal
from airgap.states import Kind
from function_app.durable.blueprint import Blueprint
from function_app.events.cloud_event import event_of
from function_app.journal.store import JournalStore
from function_app.ports import EventReceiver, Ports
from function_app.settings import Role
from function_app.storage.event_notes import Trouble, keep_trouble, note_name, parse_note_name, read_trouble
from function_app.storage.pages import next_names
from function_app.storage.paths import EVENTS, WORK

_LOG = logging.getLogger(__name__)
_POSITION = "delivering/events"
_AT_ONCE = 500
_ROUND = timedelta(seconds=90)
"""After which a round takes up nothing more."""
_FAILURES_AT_ONCE = 5
"""So many in one round, and it ends: the receiver is away, and each try may last until it times out."""
_ABANDONED = timedelta(hours=2)
"""After which nobody is about to write the entry of a note any more: ``functionTimeout`` in ``host.json``."""


def blueprint(role: Role, side: Callable[[], Ports]) -> Blueprint:
    """The function of this side."""
    bp = Blueprint()

    @bp.timer_trigger(arg_name="tick", schedule="0 * * * * *")
    async def tell_events(tick: func.TimerRequest) -> None:
        """Every minute; does nothing where no receiver is named."""
        del tick
        await asyncio.to_thread(deliver_events, role, side(), lambda: datetime.now(UTC))

    return bp


def deliver_events(role: Role, side: Ports, clock: Callable[[], datetime]) -> None:
    """Take what is still to be told to the receiver, in one round: some hundred events at most.

    Raises:
        ServiceError: the storage is away; the next round goes on.
    """
    if side.events is not None:
        _Round(role, side, side.events, clock).run()


@dataclass(slots=True)
class _Round:
    role: Role
    side: Ports
    receiver: EventReceiver
    clock: Callable[[], datetime]
    failures: int = 0

    def run(self) -> None:
        begun = self.clock()
        names = next_names(self.side.blobs, WORK, EVENTS, position=_POSITION, at_once=_AT_ONCE)
        noted = (found for name in names if (found := parse_note_name(name)) is not None)
        journals = list(dict.fromkeys((kind, about) for kind, about, _ in noted))
        # Each round begins elsewhere: what is never taken does not stand before the others for ever.
        first = int(begun.timestamp() // 60) * _FAILURES_AT_ONCE % max(len(journals), 1)
        for kind, about in journals[first:] + journals[:first]:
            if self.failures >= _FAILURES_AT_ONCE or self.clock() - begun > _ROUND:
                break
            self._tell_in_order(kind, about)

    def _tell_in_order(self, kind: Kind, about: str) -> None:
        """Tell what is to be told of one journal, as far as the receiver takes it."""
        notes = list(_numbers(self.side, kind, about))
        if not notes:
            return
        name = note_name(kind, about, notes[0])
        trouble = read_trouble(self.side.blobs, name)
        if trouble is not None and not trouble.is_over(self.clock()):
            return
        try:
            journal = JournalStore(self.side.blobs, self.side.projection).read(kind, about)
            for number in notes:
                name = note_name(kind, about, number)
                if number <= len(journal.entries):
                    self._tell(replace(journal, entries=journal.entries[:number]))
                elif not self._is_abandoned(name):
                    return
                self.side.blobs.delete(WORK, name)
                trouble = None
        except AirgapError as error:
            # Whoever is throttled does not come with the next event at once.
            self.failures += _FAILURES_AT_ONCE if error.code is Code.SERVICE_THROTTLED else 1
            self._keep(name, trouble, error)

    def _tell(self, journal: Journal) -> None:
        event = event_of(journal, self.role, self.side.settings.registry_login_server)
        self.receiver.deliver(event.id, event.to_bytes(), at=self.clock())

    def _is_abandoned(self, name: str) -> bool:
        noted = self.side.blobs.stat(WORK, name)
        return noted is not None and noted.last_modified < self.clock() - _ABANDONED

    def _keep(self, name: str, before: Trouble | None, error: AirgapError) -> None:
        trouble = Trouble.again(before, str(error), now=self.clock())
        keep_trouble(self.side.blobs, name, trouble)
        if trouble.is_long(self.clock()):
            _LOG.warning("events behind: %s was not taken since %s: %s", name, trouble.since, error)
        else:
            _LOG.info("%s was not taken: %s", name, error)


def _numbers(side: Ports, kind: Kind, about: str) -> Iterator[int]:
    """The numbers of a journal's entries that have a note, ascending."""
    for name in side.blobs.list_names(WORK, f"{EVENTS}{kind}/{about}/"):
        if (found := parse_note_name(name)) is not None:
            yield found[2]
