"""The command ``receipts``: the target's signed decisions are carried back, and verified on both ends.

``receipts pull`` brings them from the target storage onto a volume, ``receipts push`` from there into the
source storage. They lie in ``receipts/<folder>/<name>.dsse.json`` on the volume as they do in the containers;
the folder is the transfer id or, where the target could not even tell the transfer, the first 32 digits of
the envelope's SHA-256. What the trust policy does not accept is reported and goes no further.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from pathlib import Path

from airgap.carried_receipt import (
    RECEIPTS_FOLDER,
    folder_in,
    is_decision_name,
    is_misnamed,
    receipt_folder,
    receipt_folders,
    verified_receipt,
)
from airgap.damage import Damage
from airgap.envelope import MAX_ENVELOPE_BYTES
from airgap.errors import AirgapError, Code, MediaError, PolicyRefusal, ServiceError, UntrustedInputError
from airgap.policy import TrustPolicy
from airgap.recarry import REQUEST_NAME, recarry_from_receipt
from airgap.receipt import Receipt, ReceiptVerdict
from airgap.verify import Verdict, verify_bundle
from offline_mover.bags.bag import read_envelope
from offline_mover.bags.volumes import require_volume, transfers_on
from offline_mover.commands.receipt_outcome import (
    NOT_A_RECEIPT,
    CarriedReceipt,
    Fate,
    ReceiptSummary,
    pull_outcome,
    push_outcome,
    which_count,
)
from offline_mover.medium import media_fs, medium_read
from offline_mover.outcome import Outcome
from offline_mover.progress import Meter
from offline_mover.storage.ports import ReadableContainer, WritableContainer

MAX_RECEIPTS = 1000
"""Of one run; ``--transfer`` takes a part of more."""


_OF_ONE_BLOB = frozenset({Code.SERVICE_DENIED, Code.SERVICE_REJECTED, Code.CONFLICT})
"""What the storage may say of one receipt and not of the next, as opposed to an outage or an expired SAS."""


class _Run:
    """What the steps of one run have in common; a bag's envelope is judged once, when it is first needed."""

    def __init__(self, volume: Path, policy: TrustPolicy, now: datetime, meter: Meter) -> None:
        self.volume = volume
        self.policy = policy
        self.meter = meter
        self.now = now
        self.carried: set[str] = set()
        """Digests of the receipts that are where they should be: one may lie there under many names."""
        self._bundles: dict[str, tuple[str, str] | None] = {}

    def judge_bag(self, transfer_id: str) -> tuple[bytes, Verdict] | None:
        """The envelope of the transfer's bag on the volume; ``None`` unless a trusted key signed it."""
        try:
            envelope = read_envelope(self.volume / transfer_id)
        except AirgapError:
            return None
        verdict = verify_bundle(envelope, policy=self.policy, now=self.now)
        if verdict.manifest is None or verdict.manifest.transfer_id != transfer_id:
            return None
        return envelope, verdict

    def bundle(self, transfer_id: str) -> tuple[str, str] | None:
        """Hex SHA-256 of the manifest and of the envelope in the transfer's bag; ``None`` as above."""
        if transfer_id not in self._bundles:
            judged = self.judge_bag(transfer_id)
            self._bundles[transfer_id] = judged and (
                judged[1].manifest_sha256 or "",
                hashlib.sha256(judged[0]).hexdigest(),
            )
        return self._bundles[transfer_id]


# --- the two commands --------------------------------------------------------------------------------------


def receipts_pull(
    source: ReadableContainer,
    volume: Path,
    *,
    policy: TrustPolicy,
    now: datetime,
    meter: Meter,
    transfer_id: str | None = None,
    every: bool = False,
) -> Outcome:
    """Bring receipts from the target storage's container ``receipts`` onto ``volume``.

    Args:
        source: the container.
        volume: the folder of any medium; where it has a bag, a receipt must be for that very bundle.
        policy: the trust policy, which names the keys that may sign receipts.
        now: the current time, aware.
        meter: is told the bytes that came.
        transfer_id: the transfer whose receipts alone are wanted, whether its bag is on the volume or not.
        every: whether all receipts are wanted, and not only those of the transfers on the volume.

    Where the receipt that counts for a bag's bundle asks for parts again, ``recarry.json`` is written there.

    Raises:
        UntrustedInputError: ``TOO_LARGE``: there are more than 1,000 receipts.
        ServiceError: the storage refused; what is written by then stays, a second run goes on.
        MediaError: ``VOLUME_EMPTY``: there is no transfer on the volume; or it is not there, full,
            write-protected or failing.
    """
    require_volume(volume)
    run = _Run(volume, policy, now, meter)
    asked = [] if every else [transfer_id] if transfer_id else transfers_on(volume)
    if not asked and not every:
        raise MediaError(
            Code.VOLUME_EMPTY, f"{volume}: no transfer on it; --all or --transfer ID brings receipts without"
        )
    prefixes = [""] if every else [f"{folder}/" for one in asked for folder in _folders(run, one)]
    names = _listed(source, prefixes)
    meter.start("fetching receipts", 0)
    results = [_carried(run, name, partial(_pull_one, run, source, name)) for name in names]
    folders = {result.name.split("/")[0] for result in results if result.summary}
    awaited = [one for one in asked if not folders.intersection(_folders(run, one))]
    return pull_outcome(volume, results, _write_requests(run, results), awaited)


def receipts_push(
    volume: Path,
    target: WritableContainer,
    *,
    policy: TrustPolicy,
    now: datetime,
    meter: Meter,
    transfer_id: str | None = None,
) -> Outcome:
    """Send the receipts on ``volume`` into the source storage's container ``receipts``, each verified again.

    A receipt that is there already is compared, never replaced: a SAS that may read and create is enough. If
    the storage refuses one, the others are sent all the same.

    Raises:
        UntrustedInputError: ``TOO_LARGE``: there are more than 1,000 receipts; ``UNSAFE_NAME``: a link is in
            place of their folder.
        ServiceError: the storage refused; a second run goes on.
        MediaError: ``VOLUME_EMPTY`` when there are none; the volume is not there or cannot be read.
    """
    require_volume(volume)
    run = _Run(volume, policy, now, meter)
    wanted = None if transfer_id is None else set(_folders(run, transfer_id))
    names, strangers = _held(volume, wanted)
    if not names and not strangers:
        raise MediaError(Code.VOLUME_EMPTY, f"{volume}: no receipts on it")
    meter.start("sending receipts", 0)
    results = [_carried(run, name, partial(_push_one, run, target, name)) for name in names]
    return push_outcome(volume, [*results, *strangers])


# --- one receipt -------------------------------------------------------------------------------------------


def _judge(run: _Run, name: str, raw: bytes) -> Receipt:
    """A receipt that the policy accepts, that stands under its own name and is for the bag's own bundle."""
    receipt = verified_receipt(raw, run.policy, run.now)
    if _folder_of(name) != receipt_folder(receipt.transfer_id, receipt.envelope_sha256):
        raise UntrustedInputError(
            Code.RECEIPT_MALFORMED, f"it is for {receipt.transfer_id or receipt.envelope_sha256}"
        )
    if is_misnamed(name, receipt):
        raise UntrustedInputError(
            Code.RECEIPT_MALFORMED,
            "it stands under the name of the decision about a bundle, and is another",
        )
    bundle = run.bundle(receipt.transfer_id) if receipt.transfer_id else None
    if bundle is not None and bundle[0] != receipt.manifest_sha256:
        raise UntrustedInputError(
            Code.VOLUME_CONFLICT,
            f"it is for the bundle sha256:{receipt.manifest_sha256}, the volume holds sha256:{bundle[0]}",
        )
    return receipt


def _carried(run: _Run, name: str, carry: Callable[[], tuple[Fate, Receipt]]) -> CarriedReceipt:
    """Carry one receipt; what is wrong with it alone becomes a finding, so that the others still go."""
    try:
        fate, receipt = carry()
    except (UntrustedInputError, PolicyRefusal, MediaError, ServiceError) as error:
        if isinstance(error, MediaError) and error.code is not Code.MEDIA_UNREADABLE:
            raise
        if isinstance(error, ServiceError) and error.code not in _OF_ONE_BLOB:
            raise
        damage = Damage(code=error.code, name=media_fs.printable(name), detail=error.detail)
        return CarriedReceipt(name=name, fate=Fate.LEFT_OUT, damage=damage)
    run.meter.advance(0)
    run.carried.add(_digest(receipt))
    return CarriedReceipt(name=name, fate=fate, summary=ReceiptSummary.of(receipt))


def _pull_one(run: _Run, source: ReadableContainer, name: str) -> tuple[Fate, Receipt]:
    folder = _folder_of(name)
    raw = source.read_small(name, max_bytes=MAX_ENVELOPE_BYTES)
    if raw is None:
        raise UntrustedInputError(Code.BLOB_CHANGED, "gone since it was listed")
    run.meter.advance(len(raw))
    receipt = _judge(run, name, raw)
    if _is_double(run, receipt):
        return Fate.DOUBLE, receipt
    media_fs.make_folder(run.volume / RECEIPTS_FOLDER, RECEIPTS_FOLDER)
    media_fs.make_folder(run.volume / RECEIPTS_FOLDER / folder, f"{RECEIPTS_FOLDER}/{folder}")
    path = run.volume / RECEIPTS_FOLDER / name
    if media_fs.exists(path):
        if media_fs.read_capped(path, name, max_bytes=MAX_ENVELOPE_BYTES) != raw:
            raise UntrustedInputError(Code.VOLUME_CONFLICT, "the volume has another one under this name")
        return Fate.KEPT, receipt
    media_fs.write_durably(path, name, raw)
    found = medium_read.hash_file(path, name, run.meter.advance, from_medium=True)
    if found != hashlib.sha256(raw).hexdigest():
        raise MediaError(
            Code.MEDIA_LIED, f"{RECEIPTS_FOLDER}/{name} reads back differently from what was written"
        )
    return Fate.WRITTEN, receipt


def _push_one(run: _Run, target: WritableContainer, name: str) -> tuple[Fate, Receipt]:
    """Send one receipt unless the storage has it: a SAS that may create need not be able to overwrite."""
    raw = media_fs.read_capped(run.volume / RECEIPTS_FOLDER / name, name, max_bytes=MAX_ENVELOPE_BYTES)
    receipt = _judge(run, name, raw)
    if _is_double(run, receipt):
        return Fate.DOUBLE, receipt
    if _is_there(target, name, raw):
        return Fate.KEPT, receipt
    try:
        target.create_small(name, raw)
    except ServiceError as error:
        # Either the answer to our own request got lost, or somebody else was faster: the same is fine.
        if error.code not in {Code.CONFLICT, Code.SERVICE_DENIED} or not _is_there(target, name, raw):
            raise
        return Fate.KEPT, receipt
    run.meter.advance(len(raw))
    return Fate.SENT, receipt


def _is_double(run: _Run, receipt: Receipt) -> bool:
    """Whether the run carried the same receipt before, whatever name or signature is on this copy of it."""
    return _digest(receipt) in run.carried


def _digest(receipt: Receipt) -> str:
    return hashlib.sha256(receipt.to_bytes()).hexdigest()


def _is_there(target: ReadableContainer, name: str, raw: bytes) -> bool:
    """Whether the storage has this very receipt.

    Raises:
        UntrustedInputError: ``BLOB_MISMATCH``: it has another one under the name.
    """
    held = target.read_small(name, max_bytes=MAX_ENVELOPE_BYTES)
    if held is not None and held != raw:
        raise UntrustedInputError(
            Code.BLOB_MISMATCH, "the storage has another one under this name; it stays as it is"
        )
    return held is not None


# --- names -------------------------------------------------------------------------------------------------


def _folder_of(name: str) -> str:
    """The folder in a receipt's name, which becomes a path: nothing but the one form is let through."""
    folder = folder_in(name)
    if folder is None:
        raise UntrustedInputError(Code.UNSAFE_NAME, NOT_A_RECEIPT)
    return folder


def _folders(run: _Run, transfer_id: str) -> list[str]:
    """Where a transfer's receipts may stand: under its id or, if it was not known, its envelope's digest."""
    bundle = run.bundle(transfer_id)
    return receipt_folders(transfer_id, None if bundle is None else bundle[1])


def _listed(source: ReadableContainer, prefixes: Iterable[str]) -> list[str]:
    names: list[str] = []
    for prefix in prefixes:
        names += source.list_names(prefix, most=MAX_RECEIPTS + 1 - len(names))
        _require_few(names)
    return sorted(names, key=_by_name)


def _by_name(name: str) -> tuple[bool, str]:
    """Decisions about a bundle first: of a receipt under many names that one is the right one."""
    return not is_decision_name(name), name


def _require_few(names: list[str]) -> None:
    if len(names) > MAX_RECEIPTS:
        raise UntrustedInputError(Code.TOO_LARGE, f"more than {MAX_RECEIPTS} receipts; take --transfer ID")


def _held(volume: Path, folders: set[str] | None) -> tuple[list[str], list[CarriedReceipt]]:
    """Names of the receipts on a volume, in order, and findings for what else lies among them."""
    root = volume / RECEIPTS_FOLDER
    if not media_fs.exists(root):
        return [], []
    if not media_fs.is_real_folder(root):
        raise UntrustedInputError(Code.UNSAFE_NAME, f"{RECEIPTS_FOLDER}: not a folder")
    names: list[str] = []
    strangers: list[CarriedReceipt] = []
    for entry in media_fs.walk(root):
        folder, _, rest = entry.name.partition("/")
        is_ours = rest == REQUEST_NAME or rest.endswith(media_fs.PARTIAL_SUFFIX)
        if entry.kind is media_fs.Kind.LITTER or (folders is not None and folder not in folders):
            continue
        if entry.kind is media_fs.Kind.FILE and folder_in(entry.name):
            names.append(entry.name)
            _require_few(names)
        elif not (entry.kind is media_fs.Kind.FILE and is_ours) and len(strangers) < MAX_RECEIPTS:
            name = media_fs.printable(f"{RECEIPTS_FOLDER}/{entry.name}")
            damage = Damage(code=Code.UNSAFE_NAME, name=name, detail=NOT_A_RECEIPT)
            strangers.append(CarriedReceipt(name=entry.name, fate=Fate.LEFT_OUT, damage=damage))
    return sorted(names, key=_by_name), strangers


# --- parts to bring again ----------------------------------------------------------------------------------


def _write_requests(run: _Run, results: Iterable[CarriedReceipt]) -> list[str]:
    """Names of the requests written: where the receipt that counts names damaged parts of the bag on here."""
    return [
        name
        for (transfer_id, _), result in which_count(results).items()
        if run.bundle(transfer_id) and (name := _write_request(run, transfer_id, result))
    ]


def _write_request(run: _Run, transfer_id: str, result: CarriedReceipt) -> str | None:
    """Write the request of the receipt that counts; one that an import made idle is removed.

    A mere refusal takes nothing away: it may be about a copy, or a forgery beside the honest upload.
    """
    name = f"{RECEIPTS_FOLDER}/{transfer_id}/{REQUEST_NAME}"
    raw = media_fs.read_capped(
        run.volume / RECEIPTS_FOLDER / result.name, result.name, max_bytes=MAX_ENVELOPE_BYTES
    )
    judged = run.judge_bag(transfer_id)
    request = None
    if judged is not None and judged[1].is_accepted:
        request = recarry_from_receipt(
            _judge(run, result.name, raw), judged[1].require(), judged[1].manifest_sha256 or ""
        )
    if request is None:
        if result.summary is None or result.summary.verdict is not ReceiptVerdict.REFUSED:
            media_fs.remove(run.volume / name, name)
        return None
    media_fs.write_durably(run.volume / name, name, request.to_bytes())
    return name
