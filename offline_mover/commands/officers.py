"""Signing by officers: what the commands share, such as who may sign and whose signatures are missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from airgap.envelope import Envelope, SignatureCheck
from airgap.errors import AirgapError, Code, OperatorError, UntrustedInputError, error_for
from airgap.policy import TrustedKey
from airgap.signatures import Signer

ABOUT_VERSIONS: Mapping[Code, str] = {
    Code.ENVELOPE_MALFORMED: "Remove what has that name and bring it again: it is no policy version.",
    Code.TOO_LARGE: "Remove what has that name: it is larger than any version of a trust policy.",
    Code.SIGNATURE_INVALID: "Remove it, bring it again: a signature in an officer's name is forged or bad.",
    Code.SIGNATURE_UNCHECKABLE: "Have it signed anew: a signature could not be checked; see policy show.",
    Code.SIGNER_UNKNOWN: "Remove it and ask who brought it: nobody signed it whom the version before names.",
    Code.THRESHOLD_NOT_MET: "Have the missing officers sign it as well: offline-mover policy sign.",
    Code.VOLUME_CONFLICT: "Compare your file with theirs, and sign theirs or take another folder.",
}
"""What to do where the code's own remedy speaks of a bundle, by the code."""

ABOUT_OVERRIDES: Mapping[Code, str] = {
    Code.ENVELOPE_MALFORMED: "Remove what has that name: it is no override; then sign again.",
    Code.TOO_LARGE: "Remove what has that name: it is larger than any override; then sign again.",
    Code.SIGNATURE_INVALID: "Remove it and sign anew: a signature in an officer's name is forged or broken.",
    Code.SIGNATURE_UNCHECKABLE: "Remove it and have it signed anew: a signature could not be checked.",
    Code.VOLUME_CONFLICT: "Sign with the very words of the others, or take another folder.",
}


@contextmanager
def telling(steps: Mapping[Code, str]) -> Iterator[None]:
    """A block whose errors get the next steps that ``steps`` has for their codes as their remedies."""
    try:
        yield
    except AirgapError as error:
        error.remedy = steps.get(error.code, error.remedy)
        raise


def require_officers(signers: Sequence[Signer], known: Mapping[str, TrustedKey], not_in: str) -> None:
    """Refuse to sign with a key that may not sign this; ``known`` has those that may, by key id.

    Raises:
        OperatorError: ``USAGE``: a key may not; the message names who may sign.
    """
    for signer in signers:
        keyid = signer.public_key.keyid
        if keyid not in known:
            people = ", ".join(sorted({key.holder for key in known.values()})) or "nobody"
            raise OperatorError(
                Code.USAGE, f"--key: {keyid} is in {not_in}, or is revoked; who may sign: {people}"
            )


def missing_signatures(path: Path, judge: Callable[[], object]) -> str | None:
    """The signatures that are still missing, in words; ``None`` if ``judge`` raises nothing.

    The key that signs now is known to count for one of the two policy versions, so if no key counts at all,
    it is the other version's keys that have not signed yet.
    """
    try:
        judge()
    except AirgapError as refusal:
        if refusal.code in {Code.THRESHOLD_NOT_MET, Code.ALGORITHM_MISSING}:
            return f"{refusal.code.name}: {refusal.detail}"
        if refusal.code in {Code.SIGNER_UNKNOWN, Code.KEY_REVOKED}:
            return f"{Code.THRESHOLD_NOT_MET.name}: nobody yet who counts for the other version"
        raise error_for(refusal.code, f"{path}: {refusal.detail}") from None
    return None


def count_people(signed: Envelope, known: Mapping[str, TrustedKey]) -> int:
    """The number of people who have signed, of those who may; a person with two keys is one."""
    checks = signed.check_signatures(key.public_key for key in known.values())
    return len({known[keyid].holder for keyid, check in checks.items() if check is SignatureCheck.VALID})


def beside(there: bytes | None, signed: Envelope, path: Path) -> Envelope:
    """The envelope with the new signatures, and those of others that lie there over the same payload.

    Raises:
        UntrustedInputError: ``VOLUME_CONFLICT``: the others signed something else; ``ENVELOPE_MALFORMED``,
            ``TOO_LARGE``: what lies there is no envelope.
    """
    if there is None:
        return signed
    try:
        others = Envelope.from_bytes(there)
    except UntrustedInputError as error:
        raise UntrustedInputError(error.code, f"{path}: {error.detail}") from None
    if others.payload != signed.payload:
        raise UntrustedInputError(Code.VOLUME_CONFLICT, f"{path}: others have signed something else")
    return Envelope(payload=signed.payload, signatures={**others.signatures, **signed.signatures})
