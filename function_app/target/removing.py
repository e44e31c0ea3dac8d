"""The removal of ended imports at the target, by timer and on record.

Removed are the records of pipeline runs, which :func:`~function_app.target.closing.clean_up` leaves to be
looked at; what lies in quarantine; and what late activities have left in ``work``, ``staging`` and
``transfer``. The history of an import stays in the journal, its number and signed manifest in the ledger, its
receipt in ``receipts``. Candidates are found by what lies there; whether it may be removed, the journal says.
Each removal is put on record before it begins; a later round goes on with what broke off.
"""

import asyncio
import itertools
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import azure.functions as func

from airgap.errors import AirgapError, UntrustedInputError
from airgap.fields import format_time
from airgap.journal import Journal, is_journal_id
from airgap.retention import import_removable_from
from airgap.states import Kind, State
from function_app.azure.wiring import target_side
from function_app.durable.blueprint import Blueprint
from function_app.journal.recording import BY_APP
from function_app.journal.store import JournalStore
from function_app.ports import TargetSide
from function_app.rounds import in_turn
from function_app.storage.ledger import Ledger
from function_app.storage.pages import next_names
from function_app.storage.paths import QUARANTINE, STAGING, TRANSFER, WORK, closing_path, is_import_instance
from function_app.target.importing import RUN_ATTEMPTS, import_run_name, promoted_blob

bp = Blueprint()

_LOG = logging.getLogger(__name__)
_ROUND_S = 3600
_AT_ONCE = 50
"""Imports that one round looks at outside of quarantine, and names in it of no import that one removes."""
_MOST = 1000
"""Things that one round removes; what is left over has its turn in a later one."""
_NAMES_AT_ONCE = 1000
"""In quarantine, where one refused upload may have any number. All imports that they belong to are looked at:
else whoever has many refused would keep those behind them from being removed."""
_POSITION = "removing/quarantine"

_DOCUMENTS = "plans/"
_MAX_NAME = 160
"""Characters that are told of a name; an entry of the journal holds fifty such names."""


@bp.timer_trigger(arg_name="tick", schedule="0 53 * * * *")
async def remove_ended_imports(tick: func.TimerRequest) -> None:
    """Run a round of the removal, every hour; what one round does not get to, the next ones do."""
    del tick
    await asyncio.to_thread(remove_ended, target_side(), now=datetime.now(UTC))


def remove_ended(side: TargetSide, *, now: datetime) -> None:
    """Remove in one round what is left of some of the imports that ended long enough ago.

    Blobs in quarantine are kept for ``QUARANTINE_DAYS`` days, all else for ``ENDED_IMPORT_DAYS`` days.
    Nothing is touched of an import that is at work, or held for its damaged parts. If something cannot be
    judged or removed now, that is logged, and it stays.

    Raises:
        ServiceError: the candidates cannot be listed now.
    """
    round_ = _Round(side, now, _MOST)
    for lying in in_turn(sorted(set(_left_over(side))), _AT_ONCE, now, round_s=_ROUND_S):
        round_.remove(lying, side.settings.ended_import_days)
    names = next_names(side.blobs, QUARANTINE, "", position=_POSITION, at_once=_NAMES_AT_ONCE)
    known, unknown = _in_quarantine(side, names)
    for lying in known:
        round_.remove(lying, side.settings.quarantine_days)
    round_.remove_unknown(unknown)


def told_removals(side: TargetSide, about: str) -> list[dict[str, Any]]:
    """The member ``removed`` of an import: from which containers its blobs were removed, and when."""
    removals = JournalStore(side.blobs, side.projection).read(Kind.REMOVALS, about)
    return [{"container": one.facts["container"], "at": format_time(one.at)} for one in removals.entries]


@dataclass(frozen=True, slots=True, order=True)
class _Lying:
    """What lies there of an import in one container, below one prefix."""

    instance: str
    container: str
    prefix: str


def _left_over(side: TargetSide) -> Iterator[_Lying]:
    """What lies there outside of quarantine, whether or not it is in use."""
    for name in side.blobs.list_names(WORK, _DOCUMENTS):
        instance = name.removeprefix(_DOCUMENTS).partition("/")[0]
        yield _Lying(instance, WORK, f"{_DOCUMENTS}{instance}/")
    for name in side.blobs.list_names(STAGING, ""):
        match name.split("/"):
            case [channel, sha256, instance, *_]:
                yield _Lying(instance, STAGING, f"{channel}/{sha256}/{instance}/")
    bundles = (tuple(name.split("/")[:2]) for name in side.blobs.list_names(TRANSFER, ""))
    for bundle, _ in itertools.groupby(bundles):
        match bundle:
            case (channel, sha256) if (owner := _owner(side, channel, sha256)) is not None:
                yield _Lying(owner, TRANSFER, f"{channel}/{sha256}/")


def _owner(side: TargetSide, channel: str, manifest_sha256: str) -> str | None:
    """The import that took the number of a bundle; the newest numbers are asked first."""
    ledger = Ledger(side.blobs)
    try:
        entries = (ledger.find(channel, number) for number in reversed(ledger.numbers(channel)))
        return next((one.owner for one in entries if one and one.manifest_sha256 == manifest_sha256), None)
    except AirgapError as error:
        _LOG.warning("what lies in %s/%s/%s is not removed: %s", TRANSFER, channel, manifest_sha256, error)
        return None


def _in_quarantine(side: TargetSide, names: Iterable[str]) -> tuple[list[_Lying], list[str]]:
    """Whose uploads these are, each once; and the names that no import is known of."""
    owned: dict[_Lying, bool] = {}
    unknown = []
    for name in names:
        for lying in _perhaps(name):
            if lying not in owned:
                owned[lying] = _is_of(side, lying)
            if owned[lying]:
                break
        else:
            unknown.append(name)
    return [lying for lying, is_owned in owned.items() if is_owned], unknown


def _perhaps(name: str) -> Iterator[_Lying]:
    """Whose it may be: the folder of ``incoming`` that comes first may itself look like an import."""
    segments = name.split("/")
    for number, segment in enumerate(segments[:-1]):
        if number > 0 and is_import_instance(segment):
            yield _Lying(segment, QUARANTINE, "/".join(segments[: number + 1]) + "/")


def _is_of(side: TargetSide, lying: _Lying) -> bool:
    """Whether the import is known, and had its upload in this very folder."""
    try:
        journal = JournalStore(side.blobs, side.projection).read(Kind.IMPORTS, lying.instance)
    except UntrustedInputError:  # whoever is to remove it tells of it
        return True
    received = journal.first
    return received is not None and lying.prefix == f"{received.facts['incoming']}/{lying.instance}/"


@dataclass(slots=True)
class _Round:
    side: TargetSide
    now: datetime
    left: int
    """So many things may still be removed."""

    def remove(self, lying: _Lying, keep_days: int) -> None:
        """Remove what there is room for, if it may be removed by now."""
        try:
            self._remove(lying, keep_days)
        except AirgapError as error:
            _LOG.warning(
                "what lies in %s of import %s is not removed: %s", lying.container, lying.instance, error
            )

    def _remove(self, lying: _Lying, keep_days: int) -> None:
        if self.left <= 0 or not is_journal_id(Kind.IMPORTS, lying.instance):
            return
        journals = JournalStore(self.side.blobs, self.side.projection)
        journal = journals.read(Kind.IMPORTS, lying.instance)
        since = import_removable_from(journal, timedelta(days=keep_days))
        if since is None or self.now < since:
            return
        if self.side.blobs.stat(WORK, closing_path(lying.instance)) is not None:  # not all of it is done
            return
        facts = {"container": lying.container, **_ending(journal), "keptDays": keep_days}
        self._record(lying.instance, facts)
        names = self.side.blobs.list_names(lying.container, lying.prefix)
        for name in list(itertools.islice(names, self.left)):
            if self.left <= 0:  # the records of runs count, too
                break
            self._delete(lying, name)

    def _delete(self, lying: _Lying, name: str) -> None:
        """Delete a blob; before the note that one was promoted, the records of all runs it can have had."""
        self.left -= 1
        blob = promoted_blob(name.removeprefix(lying.prefix)) if lying.container == WORK else None
        with self._each_by_itself(f"{lying.container}/{name}"):
            for attempt in range(RUN_ATTEMPTS if blob is not None else 0):
                self.left -= 1
                self.side.pipelines.delete_run(import_run_name(lying.instance, str(blob), attempt))
            self.side.blobs.delete(lying.container, name)

    @staticmethod
    @contextmanager
    def _each_by_itself(what: str) -> Iterator[None]:
        """What cannot be removed, now or ever, keeps nothing after it; an outage is for the next round."""
        try:
            yield
        except AirgapError as error:
            if error.code.is_retryable:
                raise
            _LOG.warning("%s is not removed: %s", what, error)

    def remove_unknown(self, names: list[str]) -> None:
        """Remove some of those that were put into quarantine long enough ago; told by their names."""
        before = self.now - timedelta(days=self.side.settings.quarantine_days)
        older = (name for name in names if self._is_older(name, before))
        found = list(itertools.islice(older, max(min(self.left, _AT_ONCE), 0)))
        if not found:
            return
        told = [name[:_MAX_NAME] for name in found]
        try:
            self._record(f"quarantine{self.now:%Y%m%d%H%M%S}", {"container": QUARANTINE, "names": told})
            for name in found:
                with self._each_by_itself(f"{QUARANTINE}/{name}"):
                    self.side.blobs.delete(QUARANTINE, name)
        except AirgapError as error:
            _LOG.warning("what lies in %s of no import is not removed: %s", QUARANTINE, error)

    def _is_older(self, name: str, before: datetime) -> bool:
        found = self.side.blobs.stat(QUARANTINE, name)
        return found is not None and found.last_modified <= before

    def _record(self, about: str, facts: dict[str, Any]) -> None:
        JournalStore(self.side.blobs, self.side.projection).record(
            *(Kind.REMOVALS, about, State.REMOVED, facts), by=BY_APP, at=self.now
        )


def _ending(journal: Journal) -> dict[str, str]:
    last = journal.entries[-1]
    return {"state": last.state.value, "endedAt": format_time(last.at)}
