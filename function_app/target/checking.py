"""The checks of a verified bundle by services of the target, before it is imported; no answer is no pass."""

import logging
from collections.abc import Callable
from functools import partial

from airgap.checks import Check, CheckAnswer, CheckedBlob, CheckQuestion, ScanCheck
from airgap.errors import AirgapError, Code, PolicyRefusal, ServiceError, UntrustedInputError
from airgap.fields import MAX_NOTE_CHARACTERS, parse_time
from airgap.malware_scan import ScannedCopy, judge_scan
from airgap.policy import Channel, TrustPolicy
from airgap.signed_check import read_answer
from function_app.durable.outcomes import Failed, Pending, Refused, ending
from function_app.durable.stopping import require_going
from function_app.ports import TargetSide
from function_app.storage.ledger import Ledger
from function_app.storage.paths import STAGING
from function_app.storage.work_folder import WorkFolder
from function_app.target.admission import VERDICT, judging_policy
from function_app.target.custody import INSPECTION, staged_etag, staged_path
from function_app.target.judging import require_undecided
from function_app.target.wire import (
    Checked,
    Checking,
    CheckNote,
    Inspection,
    Judging,
    SignerNote,
    VerdictNote,
)

CHECKS = "checks/"
_LOG = logging.getLogger(__name__)
_UNPROVEN = frozenset({Code.CHECK_FORGED, Code.CHECK_UNSIGNED, Code.CHECK_UNCHECKABLE})
_Reason = tuple[Code, str]
"""Why there is no answer."""


def checks_to_pass(side: TargetSide, channel: Channel | None) -> tuple[str, ...]:
    """The checks that a bundle of a channel must pass: those of the settings, then those that must sign.

    A check that only the trust policy names is among them: it cannot be asked, and so nothing passes it.
    Without a channel (``None``), since the policy does not have it any more, only those of the settings count
    here: the bundle is refused for its channel elsewhere.
    """
    named = tuple(check.name for check in side.settings.checks)
    signed = frozenset[str]() if channel is None else channel.check_roles.keys()
    return (*named, *sorted(signed - set(named)))


def run_check(side: TargetSide, order: Checking) -> Checked | Pending | Refused | Failed:
    """The activity that asks one check about the copies in custody; ``pending`` while it gives no answer.

    Its first answer stays, also where this is delivered again. An answer does not count if it is not about
    exactly these copies, or lacks the signatures that the trust policy asks for.

    Returns:
        ``CHECK_FAILED``: it has found something; ``NOT_SCANNED``: the storage's scanner could not look into a
        copy. Where there is no answer when the order's time is over: ``CHECK_FORGED``, ``CHECK_UNSIGNED``,
        ``CHECK_UNCHECKABLE``: the last one that came had a forged signature, too few that count, or one that
        could not be checked; ``CHECK_UNAVAILABLE``: whatever else, such as that the check is not among the
        settings any more.

    Raises:
        UntrustedInputError: ``BLOB_CHANGED``: what the storage's scanner has looked at is no copy of ours.
        PolicyRefusal: ``TRANSITION_REFUSED``: the work was called off, or decided upon; as
            :func:`policy_in_force`.
    """
    require_going(side.blobs, order.instance)
    require_undecided(side, order.instance)
    work = WorkFolder(side.blobs, order.instance)
    name = f"{CHECKS}{order.check}"
    noted = work.find(name, CheckNote)
    if noted is None:
        found = _ask(side, judging_policy(side, work), work, order)
        is_late = parse_time(order.now) >= parse_time(order.until)
        if not isinstance(found, CheckAnswer) and not is_late:
            return Pending()
        work.create(name, _note(order, found))
        noted = work.get(name, CheckNote)
    if noted.code is None:
        return Checked(scanner=noted.scanner, answer_sha256=noted.answer_sha256, signers=noted.signers)
    return ending(Code[noted.code], f"{order.check}: {noted.detail}")


def require_signed_checks(side: TargetSide, order: Judging, policy: TrustPolicy) -> Failed | Refused | None:
    """The refusal of a bundle whose signed checks do not count by the policy of this moment; else ``None``.

    A key that was revoked since counts for nothing, and a check that must sign only since then was not asked
    for a signature: both as for releases.

    Raises:
        PolicyRefusal: ``CHANNEL_UNKNOWN``: the policy in force does not have the channel any more.
    """
    work = WorkFolder(side.blobs, order.instance)
    verdict = work.get(VERDICT, VerdictNote)
    for name, role in sorted(_channel(policy, str(verdict.channel)).check_roles.items()):
        noted = work.find(f"{CHECKS}{name}", CheckNote)
        if noted is None or noted.answer_sha256 is None:
            return ending(Code.CHECK_UNAVAILABLE, f"{name}: the trust policy asks for it since, nobody did")
        raw = Ledger(side.blobs).find_check_answer(str(verdict.manifest_sha256), noted.answer_sha256)
        if raw is None:
            return ending(Code.CHECK_UNSIGNED, f"{name}: it must be signed since then")
        question = _question(side, work, name, order.instance)
        try:
            read_answer(raw, question, role=role, policy=policy, now=parse_time(order.now))
        except (UntrustedInputError, ServiceError) as refusal:
            return ending(refusal.code, f"{name}: {refusal.detail}")
    return None


def _channel(policy: TrustPolicy, name: str) -> Channel:
    channel = policy.channels.get(name)
    if channel is None:
        raise PolicyRefusal(Code.CHANNEL_UNKNOWN, name)
    return channel


def _ask(side: TargetSide, policy: TrustPolicy, work: WorkFolder, order: Checking) -> CheckAnswer | _Reason:
    verdict = work.get(VERDICT, VerdictNote)
    role = _channel(policy, str(verdict.channel)).check_roles.get(order.check)
    match next((one for one in side.settings.checks if one.name == order.check), None):
        case None:
            return Code.CHECK_UNAVAILABLE, "not among the settings"
        case ScanCheck():
            if role is not None:
                return Code.CHECK_UNSIGNED, "the storage's scanner signs nothing, as the trust policy wants"
            answer, why = _scanned(side, work)
            return answer or (Code.CHECK_UNAVAILABLE, why)
        case check:
            reader = partial(read_answer, role=role, policy=policy, now=parse_time(order.now))
            return _ask_service(side, check, _question(side, work, check.name, order.instance), reader)


def _ask_service(
    side: TargetSide,
    check: Check,
    question: CheckQuestion,
    reader: Callable[[bytes, CheckQuestion], CheckAnswer],
) -> CheckAnswer | _Reason:
    """The answer of a service, kept in the ledger where somebody has signed it."""
    try:
        raw = side.checks.ask(check, question.to_bytes())
        if raw is None:
            return Code.CHECK_UNAVAILABLE, "it has not come to a verdict"
        answer = reader(raw, question)
    except (ServiceError, UntrustedInputError) as error:
        if error.code is Code.CHECK_FORGED:
            _LOG.error("%s: the check %s: %s", question.import_id, check.name, error)
        if error.code in _UNPROVEN:
            return error.code, error.detail
        return Code.CHECK_UNAVAILABLE, _told(error)
    if answer.signers:
        Ledger(side.blobs).keep_check_answer(question.manifest_sha256, raw)
    return answer


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


def _told(error: AirgapError) -> str:
    return str(error)[:MAX_NOTE_CHARACTERS]


def _question(side: TargetSide, work: WorkFolder, check: str, instance: str) -> CheckQuestion:
    verdict, inspection = work.get(VERDICT, VerdictNote), work.get(INSPECTION, Inspection)
    return CheckQuestion(
        check=check,
        import_id=instance,
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


def _note(order: Checking, found: CheckAnswer | _Reason) -> CheckNote:
    if isinstance(found, CheckAnswer):
        return CheckNote(
            code=None if found.code is None else found.code.name,
            detail=found.detail,
            scanner=found.scanner,
            answer_sha256=found.sha256,
            checked_at=order.now,
            signers=tuple(
                SignerNote(keyid=one.keyid, role=one.role, scheme=one.scheme) for one in found.signers
            ),
        )
    code, why = found
    return CheckNote(code=code.name, detail=why, scanner=None, answer_sha256=None, checked_at=order.now)
