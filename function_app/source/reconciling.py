"""The source's reconciler: by timer it finds what was not started, did not end, or came back unnoticed."""

import asyncio
import itertools
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import azure.durable_functions as df
import azure.functions as func

from airgap.deliveries import answers_of
from airgap.errors import AirgapError, Code, ServiceError, UntrustedInputError
from airgap.fields import format_time, parse_time
from airgap.journal import Journal
from airgap.states import RESTING, Kind, State
from function_app.azure.wiring import source_side
from function_app.durable.blueprint import Blueprint
from function_app.durable.instances import find_instance
from function_app.durable.stopping import stop
from function_app.journal.neglected import every_row, neglected_journals
from function_app.journal.rebuild import rebuild_next
from function_app.journal.recording import BY_APP
from function_app.journal.store import JournalStore
from function_app.ports import RowFilter, SourceSide
from function_app.rounds import in_turn
from function_app.signs_of_life import tell_of_round
from function_app.source.dividing import instance_of, is_portion
from function_app.source.receiving import receive
from function_app.source.sealing import give_up_unsealed, publish
from function_app.source.starting import start_transfer
from function_app.source.voiding import enter_void
from function_app.storage.paths import RECEIPTS

bp = Blueprint()

_LOG = logging.getLogger(__name__)
_AT_ONCE = 100
_RECEIPTS_AT_ONCE = 20
_QUIET = timedelta(minutes=10)
"""How long a journal must have said nothing before its orchestration is asked for."""

_WITHOUT_RECEIPT = timedelta(days=14)
"""How long a receipt may be under way before somebody is told, and after the bundle has expired."""

_AWAITING = frozenset({State.SEALED, State.PARTLY_DELIVERED, State.DAMAGED})
_READ_FOR = (*sorted(RESTING[Kind.TRANSFERS]), State.VOIDED)
"""The states in which receipts whose event was missed are looked for."""

_YOUNG = timedelta(days=60)
"""So long also in ``refused``: other registries of the audience may answer yet, and that one anew."""


@bp.timer_trigger(arg_name="tick", schedule="0 */5 * * * *")
@bp.durable_client_input(client_name="client")
async def reconcile_transfers(tick: func.TimerRequest, client: df.DurableOrchestrationClient) -> None:
    """Run a round of the reconciler, every five minutes; a round that is late is simply the next."""
    del tick
    await Reconciler(source_side(), client, datetime.now(UTC)).run()


@dataclass(frozen=True, slots=True)
class Reconciler:
    """One round of the source's reconciler, at the time ``now``."""

    side: SourceSide
    client: Any
    now: datetime

    async def run(self) -> None:
        """Look after every transfer that should be at work and has said nothing for a while."""
        neglected = await asyncio.to_thread(
            lambda: list(neglected_journals(self.side, Kind.TRANSFERS, self.now - _QUIET, at_most=_AT_ONCE))
        )
        for journal in neglected:
            try:
                await self._look_after(journal)
            except AirgapError as error:
                _LOG.warning("transfer %s: %s", journal.about, error)
        try:
            await asyncio.to_thread(self._read_receipts)
        except AirgapError as error:
            _LOG.warning("receipts: %s", error)
        try:
            await asyncio.to_thread(rebuild_next, self.side)
        except AirgapError as error:
            _LOG.warning("lists: %s", error)
        tell_of_round(Kind.TRANSFERS, self.side.settings, self.now)

    def _read_receipts(self) -> None:
        """Read the receipts whose event was missed, of some of the transfers that wait for one."""
        wanted = [RowFilter(state=state) for state in _READ_FOR]
        wanted.append(RowFilter(state=State.REFUSED, created_from=self.now - _YOUNG))
        for where in wanted:
            rows = list(every_row(self.side.projection, Kind.TRANSFERS, where))
            for row in in_turn(rows, _AT_ONCE, self.now):
                for name in itertools.islice(
                    self.side.blobs.list_names(RECEIPTS, f"{row.about}/"), _RECEIPTS_AT_ONCE
                ):
                    receive(self.side, name, now=self.now)
                if row.state is State.VOIDED:
                    self._enter_void(row.about)
                if row.state in _AWAITING and row.updated_at < self.now - _WITHOUT_RECEIPT:
                    self._tell_of_waiting(row.about)

    def _enter_void(self, about: str) -> None:
        """Do what was left to do where the app died between journal and ledger."""
        try:
            journal = JournalStore(self.side.blobs, self.side.projection).read(Kind.TRANSFERS, about)
        except UntrustedInputError as error:
            _LOG.warning("transfer %s: %s", about, error)
            return
        enter_void(self.side, journal)

    def _tell_of_waiting(self, about: str) -> None:
        """Log that a transfer waits for its receipt, or record that it has expired without one.

        Unless one was read just now. A receipt that comes later still counts.
        """
        journals = JournalStore(self.side.blobs, self.side.projection)
        try:
            journal = journals.read(Kind.TRANSFERS, about)
        except UntrustedInputError as error:  # the receipts of others are read all the same
            _LOG.warning("transfer %s: %s", about, error)
            return
        sealed = journal.newest(State.SEALED)
        if journal.last is None or sealed is None or journal.state not in _AWAITING:
            return
        expires_at = parse_time(sealed.facts["bundle"]["expiresAt"])
        if journal.state in (State.SEALED, State.PARTLY_DELIVERED):
            since = format_time(journal.last.at)
            _LOG.warning("transfer %s has waited for its receipt since %s", about, since)
        if expires_at < self.now - _WITHOUT_RECEIPT:
            # Told apart from an earlier time, after which a registry has answered all the same.
            facts = {
                "expiresAt": format_time(expires_at),
                "answered": sorted(answers_of(journal)),
                "after": journal.last.number,
            }
            journals.record(Kind.TRANSFERS, about, State.EXPIRED, facts, by=BY_APP, at=self.now)

    async def _look_after(self, journal: Journal) -> None:
        instance = await find_instance(self.client, instance_of(journal))
        if instance is not None and instance.is_active:
            return
        if journal.state is State.SEALING:
            await asyncio.to_thread(publish, self.side, journal)
        elif instance is None and journal.state is State.REQUESTED and not is_portion(journal):
            try:
                request = str(journal.entries[0].facts.get("requestSha256"))
                await start_transfer(self.client, self.side, journal.about, request)
            except ServiceError as error:
                if error.code is not Code.NOT_FOUND:
                    raise
                await self._fail(journal, "it was never started, and its request is lost")
        else:
            how = "is gone" if instance is None else f"ended: {instance.runtime_status}"
            await self._fail(journal, f"its orchestration {how}")

    async def _fail(self, journal: Journal, detail: str) -> None:
        """An orchestration ends its transfer by itself; one that somebody terminated or purged does not."""
        journal = await asyncio.to_thread(
            JournalStore(self.side.blobs, self.side.projection).record,
            *(Kind.TRANSFERS, journal.about, State.FAILED),
            {"code": Code.SERVICE_UNEXPECTED.name, "detail": detail},
            by=BY_APP,
            at=self.now,
        )
        await asyncio.to_thread(stop, self.side.blobs, journal.about)
        await asyncio.to_thread(give_up_unsealed, self.side, journal)
