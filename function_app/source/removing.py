"""The removal of ended transfers at the source, by timer and on record.

Removed are transfer blobs and bundle manifest, working documents, and the records of the pipeline runs. The
history of a transfer stays in the journal, its number and its signed manifest in the ledger. Candidates are
found by what lies there; whether it may be removed, the journal says.
"""

import asyncio
import itertools
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import azure.functions as func

from airgap.errors import AirgapError
from airgap.fields import format_time
from airgap.journal import Journal, is_journal_id
from airgap.retention import removable_from
from airgap.states import Kind, State
from function_app.azure.wiring import source_side
from function_app.durable.blueprint import Blueprint
from function_app.durable.stopping import stop
from function_app.journal.recording import BY_APP
from function_app.journal.store import JournalStore
from function_app.messages import Message
from function_app.ports import BlobStore, SourceSide
from function_app.rounds import in_turn
from function_app.source.exporting import runs_of_blob
from function_app.source.sealing import give_up_unsealed
from function_app.storage.paths import TRANSFER, WORK, manifest_path
from function_app.storage.work_folder import WorkFolder

bp = Blueprint()

_LOG = logging.getLogger(__name__)
_ROUND_S = 3600
_AT_ONCE = 50
_MOST = 1000
"""Things that one round removes; what is left over has its turn in a later one."""

_PROGRESS = "removal"
_FOLDERS = ((TRANSFER, ""), (WORK, "plans/"))
"""Where something lies in a folder of the transfer's name."""


class Progress(Message, frozen=True):
    """The progress of the removal of a transfer: the document ``removal``."""

    blobs: int
    """Of so many blobs the runs are gone."""


@bp.timer_trigger(arg_name="tick", schedule="0 23 * * * *")
async def remove_ended_transfers(tick: func.TimerRequest) -> None:
    """Run a round of the removal, every hour; what one round does not get to, the next ones do."""
    del tick
    await asyncio.to_thread(remove_ended, source_side(), now=datetime.now(UTC))


def remove_ended(side: SourceSide, *, now: datetime) -> None:
    """Remove in one round the blobs of some of the transfers that ended ``ENDED_TRANSFER_DAYS`` ago.

    Blobs of no transfer that the journal knows stay, and so does what cannot be judged or removed now, which
    is logged.

    Raises:
        ServiceError: the candidates cannot be listed now.
    """
    budget = _Budget(_MOST)
    for about in in_turn(_lying_there(side.blobs), _AT_ONCE, now, round_s=_ROUND_S):
        try:
            journal = JournalStore(side.blobs, side.projection).read(Kind.TRANSFERS, about)
            give_up_unsealed(side, journal)  # where the app could not; targets may be waiting for the number
            since = removable_from(journal, timedelta(days=side.settings.ended_transfer_days))
            if since is not None and since <= now:
                _Removal(side, journal, budget).run(now)
        except AirgapError as error:
            _LOG.warning("what lies there of transfer %s is not removed: %s", about, error)


def _lying_there(blobs: BlobStore) -> list[str]:
    """Ids of all transfers of which something lies there, ascending."""
    found = set()
    for container, prefix in _FOLDERS:
        names = (name.removeprefix(prefix) for name in blobs.list_names(container, prefix))
        found |= {about for about, _ in itertools.groupby(name.partition("/")[0] for name in names)}
    return sorted(about for about in found if is_journal_id(Kind.TRANSFERS, about))


@dataclass(slots=True)
class _Budget:
    left: int

    def take(self, names: Iterable[str]) -> Iterator[str]:
        """The names for which there is still something left."""
        for name in names:
            if self.left <= 0:
                return
            self.left -= 1
            yield name


@dataclass(frozen=True, slots=True)
class _Removal:
    """The removal of one transfer; broken off at any point, it is gone on with by the next one."""

    side: SourceSide
    journal: Journal
    budget: _Budget

    def run(self, now: datetime) -> None:
        """Remove what there is budget for, and put it on record once nothing is left."""
        about = self.journal.about
        stop(self.side.blobs, about)  # an activity that is delivered late begins nothing anew
        # The manifest first: a bundle whose blobs are half gone is offered to nobody.
        self.side.blobs.delete(TRANSFER, manifest_path(about))
        self._delete(TRANSFER, f"{about}/")
        self._delete_runs()
        self._delete(WORK, f"sealing/{about}/")
        self._delete(WORK, f"plans/{about}/", keep=f"plans/{about}/{_PROGRESS}.json")
        if self.budget.left <= 0:
            return
        JournalStore(self.side.blobs, self.side.projection).record(
            *(Kind.REMOVALS, about, State.REMOVED, self._facts()), by=BY_APP, at=now
        )
        self._work.drop(_PROGRESS)

    @property
    def _work(self) -> WorkFolder:
        return WorkFolder(self.side.blobs, self.journal.about)

    def _delete(self, container: str, prefix: str, *, keep: str | None = None) -> None:
        names = [name for name in self.side.blobs.list_names(container, prefix) if name != keep]
        for name in self.budget.take(names):
            self.side.blobs.delete(container, name)

    def _delete_runs(self) -> None:
        """Delete the records of all runs that the transfer can have had, blob by blob."""
        planned = self.journal.newest(State.PLANNED)
        if planned is None or self.journal.newest(State.EXPORTING) is None:
            return
        before = self._work.find(_PROGRESS, Progress)
        for number in range(0 if before is None else before.blobs, planned.facts.get("blobs", 0)):
            for run in self.budget.take(runs_of_blob(self.journal.about, number)):
                self.side.pipelines.delete_run(run)
            if self.budget.left <= 0:
                return
            self._work.put(_PROGRESS, Progress(blobs=number + 1))

    def _facts(self) -> dict[str, str | int]:
        """What the record says beside its time: to what the transfer had come, and how long it was kept."""
        last = self.journal.entries[-1]
        return {
            "state": last.state.value,
            "endedAt": format_time(last.at),
            "keptDays": self.side.settings.ended_transfer_days,
        }
