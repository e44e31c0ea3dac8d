"""Target: services of its own look at a verified bundle before it is imported; no answer is no pass."""

from airgap.checks import Check, CheckAnswer, CheckedBlob, CheckQuestion, ScanCheck
from airgap.errors import AirgapError, Code, ServiceError, UntrustedInputError
from airgap.fields import MAX_NOTE_CHARACTERS, parse_time
from airgap.malware_scan import ScannedCopy, judge_scan
from function_app.durable.outcomes import Failed, Pending, Refused, ending
from function_app.durable.stopping import require_going
from function_app.ports import TargetSide
from function_app.storage.paths import STAGING
from function_app.storage.work_folder import WorkFolder
from function_app.target.admission import VERDICT
from function_app.target.custody import INSPECTION, staged_etag, staged_path
from function_app.target.judging import require_undecided
from function_app.target.wire import Checked, Checking, CheckNote, Inspection, VerdictNote

CHECKS = "checks/"


def run_check(side: TargetSide, order: Checking) -> Checked | Pending | Refused | Failed:
    """Ask one check about the copies in custody; ``pending`` as long as it does not know, or cannot be asked.

    What it said first stays, also where this is delivered again. An answer that is not about exactly these
    copies is none, and so is silence.

    Returns:
        ``CHECK_FAILED``: it has found something; ``NOT_SCANNED``: the storage's scanner could not look into a
        copy; ``CHECK_UNAVAILABLE``: there is no answer when the order's time is over, or the check is not
        among the settings any more.

    Raises:
        UntrustedInputError: ``BLOB_CHANGED``: what the storage's scanner has looked at is no copy of ours.
        PolicyRefusal: ``TRANSITION_REFUSED``: the work was called off, or decided upon.
    """
    require_going(side.blobs, order.instance)
    require_undecided(side, order.instance)
    work = WorkFolder(side.blobs, order.instance)
    name = f"{CHECKS}{order.check}"
    noted = work.find(name, CheckNote)
    if noted is None:
        answer, reason = _ask(side, work, order)
        is_late = parse_time(order.now) >= parse_time(order.until)
        if answer is None and not is_late:
            return Pending()
        work.create(name, _note(order, answer, reason))
        noted = work.get(name, CheckNote)
    if noted.code is None:
        return Checked(scanner=noted.scanner, answer_sha256=noted.answer_sha256)
    return ending(Code[noted.code], f"{order.check}: {noted.detail}")


def _ask(side: TargetSide, work: WorkFolder, order: Checking) -> tuple[CheckAnswer | None, str]:
    """The answer, or why there is none."""
    match next((one for one in side.settings.checks if one.name == order.check), None):
        case None:
            return None, "not among the settings any more"
        case ScanCheck():
            return _scanned(side, work)
        case check:
            try:
                return _answer(side, check, _question(side, work, order))
            except (ServiceError, UntrustedInputError) as error:
                return None, _told(error)


def _scanned(side: TargetSide, work: WorkFolder) -> tuple[CheckAnswer | None, str]:
    """What the storage's own scanner has written beside the copies that were hashed."""
    inspection = work.get(INSPECTION, Inspection)
    copies = []
    for blob in inspection.blobs:
        path = staged_path(inspection, blob.name)
        try:
            tags, found = side.blobs.tags(STAGING, path), side.blobs.stat(STAGING, path)
        except ServiceError as error:
            return None, _told(error)
        # Asked last: an ETag never comes back, so that the tags are of the state that was hashed.
        if tags is None or found is None or found.etag != staged_etag(work, blob.name):
            raise UntrustedInputError(Code.BLOB_CHANGED, f"{STAGING}/{path} is not the copy that was hashed")
        copies.append(
            ScannedCopy(
                name=blob.name,
                etag=found.etag,
                size_bytes=found.size_bytes,
                copied_at=found.last_modified,
                tags=tags,
            )
        )
    return judge_scan(copies)


def _answer(side: TargetSide, check: Check, question: CheckQuestion) -> tuple[CheckAnswer | None, str]:
    raw = side.checks.ask(check, question.to_bytes())
    if raw is None:
        return None, "it has not come to a verdict"
    return CheckAnswer.from_bytes(raw, question), ""


def _told(error: AirgapError) -> str:
    return str(error)[:MAX_NOTE_CHARACTERS]


def _question(side: TargetSide, work: WorkFolder, order: Checking) -> CheckQuestion:
    verdict, inspection = work.get(VERDICT, VerdictNote), work.get(INSPECTION, Inspection)
    return CheckQuestion(
        import_id=order.instance,
        transfer_id=str(verdict.transfer_id),
        channel=str(verdict.channel),
        sequence=verdict.sequence or 0,
        manifest_sha256=str(verdict.manifest_sha256),
        blobs=tuple(
            CheckedBlob(
                name=blob.name,
                url=f"{side.settings.blob_service_url}/{STAGING}/{staged_path(inspection, blob.name)}",
                etag=str(staged_etag(work, blob.name)),
                size_bytes=blob.size_bytes,
            )
            for blob in inspection.blobs
        ),
    )


def _note(order: Checking, answer: CheckAnswer | None, reason: str) -> CheckNote:
    if answer is None:
        return CheckNote(
            code=Code.CHECK_UNAVAILABLE.name,
            detail=reason,
            scanner=None,
            answer_sha256=None,
            checked_at=order.now,
        )
    return CheckNote(
        code=None if answer.code is None else answer.code.name,
        detail=answer.detail,
        scanner=answer.scanner,
        answer_sha256=answer.sha256,
        checked_at=order.now,
    )
