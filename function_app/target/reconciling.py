"""The target's reconciler: by timer it takes up what events missed and orchestrations left behind.

Nothing here decides about a bundle. Each round is bounded; what it does not get to waits for the next.
"""

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import azure.durable_functions as df
import azure.functions as func

from airgap.errors import AirgapError, Code, UntrustedInputError
from airgap.fields import format_time
from airgap.journal import Journal
from airgap.manifest import ENVELOPE_NAME
from airgap.states import DECIDED, Kind, State
from function_app.azure.wiring import target_side
from function_app.durable.blueprint import Blueprint
from function_app.durable.instances import find_instance
from function_app.durable.stopping import stop
from function_app.journal.neglected import every_row, neglected_journals
from function_app.journal.rebuild import rebuild_next
from function_app.journal.store import JournalStore
from function_app.messages import dump
from function_app.ports import RowFilter, TargetSide
from function_app.rounds import in_turn
from function_app.signs_of_life import tell_of_round
from function_app.storage.door import Door
from function_app.storage.pages import next_names
from function_app.storage.paths import CLOSING, INCOMING, UPLOADS, WORK
from function_app.storage.turns import HeldPlace, held_places
from function_app.target.closing import forget_closing, noted_closing, record_decision
from function_app.target.custody_logs import CUSTODY_FOLDER, keep_custody_logs
from function_app.target.holding import end_holds, end_lost_holds
from function_app.target.intake import start_import
from function_app.target.orchestrators import CLOSE_IMPORT, closing_instance
from function_app.target.wire import Closing

bp = Blueprint()

_LOG = logging.getLogger(__name__)
_AT_ONCE = 100
"""Of each kind of thing, in one round."""
_MANIFESTS_AT_ONCE = 20
_POSITIONS = "reconciling/"
"""In ``work``: where the next round goes on to look for uploads."""
_QUIET = timedelta(minutes=10)
"""How long a journal must have said nothing before its orchestration is asked for."""


@bp.timer_trigger(arg_name="tick", schedule="0 */5 * * * *")
@bp.durable_client_input(client_name="client")
async def reconcile_imports(tick: func.TimerRequest, client: df.DurableOrchestrationClient) -> None:
    """Run a round of the reconciler, every five minutes; a round that is late is simply the next."""
    del tick
    await Reconciler(target_side(), client, datetime.now(UTC)).run()


@dataclass(frozen=True, slots=True)
class Reconciler:
    """One round of the target's reconciler, at the time ``now``."""

    side: TargetSide
    client: Any
    now: datetime

    async def run(self) -> None:
        """Do the whole round; a job that fails is logged and keeps no other from being done."""
        for work in (
            self.free_places,
            self.end_orphans,
            self.end_holds,
            self.resume_closings,
            self.start_missed,
            self.keep_custody_logs,
            self.complete_lists,
        ):
            try:
                await work()
            except AirgapError as error:
                _LOG.warning("%s: %s", work.__name__, error)
        tell_of_round(Kind.IMPORTS, self.side.settings, self.now)

    async def free_places(self) -> None:
        """Take turns, and places in queues and at the door, from orchestrations that have ended.

        A place at the door is taken a moment before its orchestration starts.
        """
        places = await asyncio.to_thread(self._places)
        for place in in_turn(places, _AT_ONCE, self.now):
            if await self._is_gone(place.instance) and await self._is_decided(place.instance):
                # With the ETag: whoever took the turn meanwhile keeps it.
                await asyncio.to_thread(self.side.blobs.delete, WORK, place.name, etag=place.etag)
                _LOG.warning("%s was held by %s, which has ended: freed", place.name, place.instance)

    async def _is_decided(self, instance: str) -> bool:
        """Whether there is nothing to decide for an orchestration that has ended, or it is decided now.

        The projection knows nothing of an import that began while the table was away: its place tells.
        """
        journals = JournalStore(self.side.blobs, self.side.projection)
        try:
            journal = await asyncio.to_thread(journals.read, Kind.IMPORTS, instance)
        except UntrustedInputError:  # whoever rebuilds the projection is told of it
            return True
        if journal.last is None or journal.state in DECIDED or not journal.is_active:
            return True
        if journal.last.at >= self.now - _QUIET:
            return False
        await self._end_orphan(journal)
        return True

    def _places(self) -> list[HeldPlace]:
        blobs = self.side.blobs
        uploads = (
            HeldPlace(name=name, instance=name.rpartition("/")[2], etag=None)
            for name in blobs.list_names(WORK, UPLOADS)
        )
        return [*held_places(blobs), *uploads, *Door(blobs).held(before=self.now - _QUIET)]

    async def end_orphans(self) -> None:
        """Decide that imports have failed whose orchestration ended without a decision."""
        for journal in await asyncio.to_thread(
            lambda: list(neglected_journals(self.side, Kind.IMPORTS, self.now - _QUIET, at_most=_AT_ONCE))
        ):
            try:
                await self._end_orphan(journal)
            except AirgapError as error:
                _LOG.warning("import %s: %s", journal.about, error)

    async def _end_orphan(self, journal: Journal) -> None:
        received = journal.first
        if received is None or journal.state in DECIDED or not await self._is_gone(journal.about):
            return
        closing = Closing(
            incoming=received.facts["incoming"],
            manifest_etag=received.facts["manifestEtag"],
            envelope_sha256=received.facts["envelopeSha256"],
            instance=journal.about,
            decided_at=format_time(self.now),
            outcome="failed",
            code=Code.SERVICE_UNEXPECTED.name,
            detail="its orchestration ended without a decision",
        )
        # Ending an orchestration ends none of its lanes.
        await asyncio.to_thread(stop, self.side.blobs, journal.about)
        await asyncio.to_thread(record_decision, self.side, closing)

    async def end_holds(self) -> None:
        """Give up damaged uploads that nobody has completed in time."""
        for closing in await asyncio.to_thread(
            lambda: list(end_holds(self.side, self.now, at_most=_AT_ONCE))
        ):
            _LOG.warning("import %s: nobody has sent its damaged parts again in time", closing.instance)
        held = await asyncio.to_thread(
            lambda: list(every_row(self.side.projection, Kind.IMPORTS, RowFilter(state=State.HELD)))
        )
        await asyncio.to_thread(end_lost_holds, self.side, in_turn(held, _AT_ONCE, self.now), self.now)

    async def resume_closings(self) -> None:
        """Start the closing of imports that were decided and not closed, whoever decided them."""
        names = await asyncio.to_thread(lambda: list(self.side.blobs.list_names(WORK, CLOSING)))
        for name in in_turn(names, _AT_ONCE, self.now):
            try:
                await self._resume_closing(name)
            except UntrustedInputError as error:  # a note, or a journal, that this version cannot read
                _LOG.warning("%s: %s", name, error)

    async def _resume_closing(self, name: str) -> None:
        closing = await asyncio.to_thread(noted_closing, self.side, name)
        if closing is None:
            return
        instance = closing_instance(closing.instance)
        if not (await self._is_gone(closing.instance) and await self._is_gone(instance)):
            return
        journals = JournalStore(self.side.blobs, self.side.projection)
        journal = await asyncio.to_thread(journals.read, Kind.IMPORTS, closing.instance)
        if journal.is_final:  # it broke off after all was done
            await asyncio.to_thread(forget_closing, self.side, closing)
            return
        await asyncio.to_thread(record_decision, self.side, closing)  # if that broke off after its note
        try:
            await self.client.start_new(CLOSE_IMPORT, instance, dump(closing))
        except Exception:  # the SDK raises nothing more precise
            if await self._is_gone(instance):
                raise

    async def start_missed(self) -> None:
        """Start the imports of bundle manifests whose event never came, or that found no place then.

        An import whose orchestration ended before it was on record is put on record, and decided by a later
        round.
        """
        suffix = f"/{ENVELOPE_NAME}"
        for name in await asyncio.to_thread(self._next_uploads, "", suffix, _MANIFESTS_AT_ONCE):
            try:
                await start_import(self.client, self.side, folder=name.removesuffix(suffix), now=self.now)
            except AirgapError as error:
                _LOG.warning("%s: %s", name[:200], error)

    async def keep_custody_logs(self) -> None:
        """Take the custody logs that came with pushes out of their carriers' reach."""
        names = await asyncio.to_thread(self._next_uploads, CUSTODY_FOLDER, "", _AT_ONCE)
        await asyncio.to_thread(keep_custody_logs, self.side, names)

    async def complete_lists(self) -> None:
        """Write the rows of journals that are in no list, so that whoever goes by the lists finds them."""
        await asyncio.to_thread(rebuild_next, self.side)

    def _next_uploads(self, prefix: str, suffix: str, at_once: int) -> list[str]:
        """About ``at_once`` uploads of such names, from where the round before has stopped."""
        return next_names(
            self.side.blobs,
            INCOMING,
            prefix,
            position=f"{_POSITIONS}{prefix.rstrip('/') or INCOMING}",
            at_once=at_once,
            is_wanted=lambda name: name.endswith(suffix),
        )

    async def _is_gone(self, instance_id: str) -> bool:
        instance = await find_instance(self.client, instance_id)
        return instance is None or not instance.is_active
