"""The session of one run: what the verbs need besides their arguments, from the policy to custody."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from airgap.custody_event import Action
from airgap.errors import Code, OperatorError
from airgap.fields import format_time
from airgap.policy import MAX_POLICY_BYTES, TrustPolicy
from airgap.policy_chain import Chain, follow
from airgap.ticket import MAX_TICKET_BYTES, Ticket, TicketKind
from offline_mover import progress
from offline_mover.cli.custody_note import CustodyNote
from offline_mover.cli.options import PREFIX, Access, KeyPlace, Output
from offline_mover.custody import log as custody_log
from offline_mover.medium import held_volumes, operator_files, system_disk
from offline_mover.medium.policy_folder import PolicyFolder
from offline_mover.outcome import Outcome, Report
from offline_mover.progress import Display, Meter, Progress
from offline_mover.storage.storage_address import (
    MAX_SAS_BYTES,
    Rights,
    Sas,
    TicketRights,
    TransferAddress,
)

if TYPE_CHECKING:
    from airgap.signatures import Signer
    from offline_mover.storage.ports import WritableContainer


class Session:
    """One run of the command, which reads the clock once, and owns the display."""

    def __init__(self, output: Output) -> None:
        self.now = datetime.now(UTC)
        self.report = Report(as_json=output.as_json)
        self.meter = Meter(_display(output, self.report))
        self.is_recorded = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.meter.close()

    def hold(
        self, volumes: Sequence[Path], *, fills: Sequence[Path] = (), allows_system_disk: bool = False
    ) -> None:
        """Hold the volumes of this run, whose paths must lead to the same medium until its end.

        Args:
            volumes: all volumes that are read or written.
            fills: the volumes among them that take parts.
            allows_system_disk: whether a folder of this computer may take them too.

        Raises:
            MediaError: ``VOLUME_NOT_FOUND``: a volume is no folder, or not mounted;
                ``VOLUME_ON_SYSTEM_DISK``: one to fill is only a folder of this computer.
        """
        for volume in volumes:
            held_volumes.hold(volume)
        for volume in () if allows_system_disk else fills:
            system_disk.require_medium(volume)

    def let_go(self) -> None:
        """Let go of all volumes, so that they can be ejected."""
        held_volumes.release_all()

    def policy(self, path: Path) -> TrustPolicy:
        """The trust policy in force: the one of ``--trust``, or the last of the versions beside it.

        The operator is told of a version that does not follow. Raises as :meth:`policy_chain`.
        """
        chain = self.policy_chain(path)
        if chain.stop is not None:
            stop = chain.stop
            self.report.note(
                f"trust policy: version {stop.version} is not used: {stop.code.name}: {stop.detail}"
            )
        return chain.last

    def policy_chain(self, path: Path) -> Chain:
        """The chain of the trust policy of ``--trust`` and the versions beside it that follow it.

        Raises:
            OperatorError: ``USAGE``: the file cannot be read.
            UntrustedInputError: it is no trust policy; ``NEWER_FORMAT``: a newer tool wrote it, or the
                version after the last.
            MediaError: a version beside it cannot be read.
        """
        pinned = Chain(links=(TrustPolicy.from_bytes(self.read_file(path, "--trust", MAX_POLICY_BYTES)),))
        return follow(pinned, PolicyFolder.beside(path).find)

    def signer(self, key: KeyPlace) -> Signer:
        """The signer that ``--key`` names: a key file, no word of which is in an error, or a vault's key.

        Raises:
            OperatorError: ``USAGE``: the file cannot be read, or is no unencrypted PKCS#8 PEM of an accepted
                kind; or the address is of something else.
            ServiceError: as :func:`~offline_mover.storage.vault_key.open_vault_key`.
        """
        from airgap.keys import MAX_PEM_BYTES, signer_from_pem  # noqa: PLC0415 - few verbs sign

        if "://" in key.place:
            from offline_mover.storage.vault_key import KeyAddress, open_vault_key  # noqa: PLC0415 - fewer do so

            return open_vault_key(KeyAddress.read(key.place, "--key", token_host=key.token_host))
        path = Path(key.place)
        pem = self.read_file(path, "--key", MAX_PEM_BYTES)
        try:
            return signer_from_pem(pem)
        except OperatorError as error:
            raise OperatorError(Code.USAGE, f"--key {path}: {error.detail}") from None

    def ticket(self, path: Path, kind: str, *, instead_of: str | None) -> Ticket:
        """Read the ticket of ``--ticket``, and tell the operator which storage it is for.

        Args:
            path: the ticket's file.
            kind: ``drop`` or ``pickup``.
            instead_of: the address, if one was typed all the same.

        Raises:
            OperatorError: ``USAGE``: the file cannot be read, or an address is given, too.
            UntrustedInputError: ``TICKET_MALFORMED`` or ``TOO_LARGE``: it is no ticket; ``NEWER_FORMAT``: a
                newer app gave it.
            PolicyRefusal: ``TICKET_MISMATCH``: it is of the other kind.
        """
        if instead_of is not None:
            raise OperatorError(Code.USAGE, "an address and a ticket: the ticket names the storage, give one")
        ticket = self._read_ticket(path)
        ticket.require_kind(TicketKind(kind))
        self.report.note(
            f"ticket {ticket.ticket_id[:8]}: for {ticket.container_url}, "
            f"until {format_time(ticket.expires_at)}"
        )
        return ticket

    def _read_ticket(self, path: Path) -> Ticket:
        return Ticket.from_bytes(self.read_file(path, "--ticket", MAX_TICKET_BYTES))

    def container(
        self, address: TransferAddress, access: Access, *, ticket: Path | None = None
    ) -> AbstractContextManager[WritableContainer]:
        """The storage container at ``address``, opened with a ticket or as ``access`` says.

        Raises:
            OperatorError: ``USAGE``: the SAS cannot be read, or the host is none that a sign-in may be shown
                to.
        """
        from offline_mover.storage.blob_store import open_container  # noqa: PLC0415 - verify must work without Azure

        rights: Callable[[], Rights | None] = partial(self._read_sas, access.sas_file)
        if ticket is not None:
            rights = partial(self._read_rights, ticket)
        return open_container(
            address,
            sas=rights(),
            renew=None if ticket is None and access.sas_file is None else rights,
            token_host=access.token_host,
            retries=access.retries,
            meter=self.meter,
            notice=self.report.note,
        )

    def record(self, note: CustodyNote | None, code: Code | None, outcome: Outcome | None) -> None:
        """Append what the run did to the custody log of every volume, once in a run.

        A failure to do so changes no verdict: the operator is told, and the command ends as it would have.

        Args:
            note: the note to put on record; ``None`` for none.
            code: the code with which the run ended; ``None`` if all was well.
            outcome: the run's outcome; ``None`` where the command did not come that far.
        """
        if note is None or self.is_recorded:
            return
        self.is_recorded = True
        transfer_id = (outcome.transfer_id if outcome else note.transfer_id) or None
        places = outcome.places if outcome else {}
        bodies = {
            volume: custody_log.event_body(
                Action(note.action),
                at=self.now,
                code=code,
                who=note.who,
                transfer_id=transfer_id,
                manifest_sha256=outcome.manifest_sha256 if outcome else None,
                counts=outcome.counts if outcome else None,
                volume_number=places[volume].number if volume in places else None,
                volume_count=places[volume].of if volume in places else None,
            )
            for volume in note.volumes
            if _is_ours(volume, transfer_id)
        }
        for warning in custody_log.record(bodies, side_dir=note.side_dir, read_only=note.is_read_only):
            self.report.note(f"custody log: {warning}")

    def _read_rights(self, path: Path) -> Rights:
        """What the ticket in a file allows."""
        return TicketRights.of(self._read_ticket(path), str(path))

    def _read_sas(self, path: Path | None) -> Sas | None:
        """The SAS from its file, else from the environment, else none."""
        if path is not None:
            try:
                text = self.read_file(path, "--sas-file", MAX_SAS_BYTES).decode("utf-8-sig")
            except UnicodeDecodeError:
                raise OperatorError(Code.USAGE, f"{path} does not hold a SAS token") from None
            return Sas.from_text(text, str(path))
        name = f"{PREFIX}SAS"
        return Sas.from_text(os.environ[name], name) if os.environ.get(name) else None

    def read_file(self, path: Path, option: str, max_bytes: int) -> bytes:
        """Read a file of the operator's own; see :func:`~offline_mover.medium.operator_files.read`.

        Raises:
            OperatorError: ``USAGE``: it cannot be read, or is larger than ``max_bytes``.
            MediaError: ``VOLUME_GONE``: another medium is at its path now, or none.
        """
        return operator_files.read(path, option, max_bytes=max_bytes)

    def require_free(self, path: Path, option: str, is_ours: Callable[[bytes], bool]) -> None:
        """Refuse, before long work, a name to write to that something else has.

        See :func:`~offline_mover.medium.operator_files.require_free`.

        Raises:
            OperatorError: ``USAGE``: something else has that name.
            MediaError: ``VOLUME_GONE``: another medium is at its path now, or none.
        """
        operator_files.require_free(path, option, is_ours)

    def write_file(
        self, path: Path, option: str, content: bytes, *, is_ours: Callable[[bytes], bool]
    ) -> None:
        """Write a file of the operator's own as a whole, in place of one that ``is_ours`` accepts.

        Raises:
            OperatorError: ``USAGE``: it cannot be written, or something else has its name.
            MediaError: ``VOLUME_GONE``: another medium is at its path now, or none.
        """
        operator_files.write(path, option, content, is_ours=is_ours)


def _is_ours(volume: Path, transfer_id: str | None) -> bool:
    """Whether a folder is a volume of ours; a wrong path gets no log for having been typed."""
    logs = (custody_log.LOG_NAME, custody_log.HEAD_NAME)
    try:
        return any((volume / name).is_file() for name in logs) or (
            transfer_id is not None and (volume / transfer_id).is_dir()
        )
    except OSError:  # a medium that is gone answers nothing
        return False


def _progress_event(state: Progress) -> dict[str, Any]:
    return {
        "event": "progress",
        "title": state.title,
        "doneBytes": state.done_bytes,
        "totalBytes": state.total_bytes,
        "bytesPerSecond": int(state.rate_bytes_per_s),
        "secondsLeft": state.left_s,
        "part": state.begun_parts,
        "parts": state.total_parts,
        "volumes": [
            {
                "path": lane.name,
                "doneBytes": lane.done_bytes,
                "totalBytes": lane.total_bytes,
                "bytesPerSecond": int(lane.rate_bytes_per_s),
                "secondsLeft": lane.left_s,
            }
            for lane in state.lanes
        ],
    }


def _display(output: Output, report: Report) -> Display:
    if output.as_json:
        return progress.PlainDisplay(lambda state: report.event(**_progress_event(state)))
    if sys.stderr.isatty() and not output.is_plain and os.environ.get("TERM") != "dumb":
        try:
            return progress.RichDisplay()
        except ImportError:  # a carried copy may be without it
            pass
    return progress.PlainDisplay(progress.write_progress_lines)
