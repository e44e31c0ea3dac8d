"""The errors of ACR Airgap Transfer: what can go wrong, whose fault it is, and what to do about it.

The tree says whose fault it is; the code says what happened and never changes its meaning::

    AirgapError
    ├── OperatorError        how it was called           exit 2
    ├── UntrustedInputError  the data is wrong           exit 10-39
    ├── PolicyRefusal        the data is not allowed     exit 40-69, 110-125
    ├── MediaError           the medium is at fault      exit 70-89
    └── ServiceError         a service said no           exit 90-109

Exit 0 is success, 1 a bug, 130 an interruption. An unknown exit code must be treated as a failure.
``docs/errors.md`` is generated from :class:`Code`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, unique
from typing import ClassVar

from airgap.redaction import redact

_DETAIL_LIMIT = 500


@unique
class Code(Enum):
    """A stable error code: ``(exit_code, retryable, remedy)``."""

    # how it was called
    USAGE = (2, False, "Run the command with --help; it shows a working example.")
    SETTING_INVALID = (2, False, "Correct the application setting that the message names and restart.")
    REQUEST_INVALID = (2, False, "Correct the field that the message names and send the request again.")

    # the data is wrong
    ENVELOPE_MALFORMED = (
        10,
        False,
        "Fetch the bundle manifest again from the source; this one is not a DSSE envelope.",
    )
    SIGNATURE_INVALID = (
        11,
        False,
        "Do not use this bundle: a signature in the name of a trusted key is forged or broken.",
    )
    SIGNER_UNKNOWN = (12, False, "Do not use this bundle: no key of the trust policy signed it.")
    SIGNATURE_UNCHECKABLE = (
        13,
        False,
        "A signature could not be checked; compare its algorithm with the trust policy.",
    )
    MANIFEST_MALFORMED = (14, False, "Fetch the bundle manifest again; it does not follow docs/format.md.")
    TOO_LARGE = (15, False, "Refused unread: larger than any valid file of this kind.")
    PART_MISSING = (16, False, "Bring the named part again: run pull onto the same volume.")
    PART_TRUNCATED = (17, False, "Bring the named part again: its size is not the signed one.")
    PART_CORRUPT = (18, False, "Bring the named part again: its digest is not the signed one.")
    UNDECLARED_FILE = (19, False, "Remove the named file: the bundle manifest does not declare it.")
    UNSAFE_NAME = (20, False, "Do not use this volume: a file name on it is not allowed.")
    BAG_MALFORMED = (21, False, "Run pull onto the same volume again: its BagIt files are not valid.")
    BLOB_CHANGED = (22, False, "Somebody wrote to the blob meanwhile; find out who, then start again.")
    BLOB_MISMATCH = (
        23,
        False,
        "The stored blob is not the signed one: push it again, or at the source order a new transfer.",
    )
    IMPORT_INCOMPLETE = (
        24,
        False,
        "The target registry lacks artifacts, or parts of them: the receipt names each by its digest.",
    )
    EXPORT_INCONSISTENT = (
        25,
        True,
        "Somebody pushed the tag while it was exported; start the transfer again when nobody does.",
    )
    RECEIPT_MALFORMED = (26, False, "Fetch the receipt again; it does not follow docs/format.md.")
    VOLUME_CONFLICT = (
        27,
        False,
        "The volume holds another bundle under this transfer id; use an empty volume.",
    )
    CUSTODY_BROKEN = (
        28,
        False,
        "Do not trust this volume's history: an entry was removed or altered; ask who had it.",
    )
    RECARRY_MALFORMED = (
        29,
        False,
        "Run verify on the volumes again to write a new re-carry request; this one does not fit the bundle.",
    )

    NEWER_FORMAT = (
        30,
        False,
        "Take a newer version of the tool that reads it: a newer tool wrote it, this one can't judge it.",
    )
    JOURNAL_BROKEN = (
        31,
        False,
        "Do not trust this journal: an entry was removed or altered; ask who can write to its container.",
    )
    UNDECLARED_ARTIFACTS = (
        32,
        False,
        "Alarm: remove the artifacts that the receipt names, and find out who put them into the blob.",
    )
    LEDGER_UNPROVEN = (
        33,
        False,
        "Alarm: find out who wrote into the ledger; docs/operations.md says how the channel goes on.",
    )
    RELEASE_MALFORMED = (
        34,
        False,
        "Make the release anew with offline-mover sign; it does not follow docs/format.md.",
    )
    CHECK_MALFORMED = (
        35,
        False,
        "Have the check answer as docs/format.md says, about exactly what it was asked.",
    )
    OVERRIDE_MALFORMED = (
        36,
        False,
        "Make the override anew with offline-mover policy permit; it does not follow docs/format.md.",
    )
    TICKET_MALFORMED = (
        37,
        False,
        "Have the ticket given anew: the file was altered or cut off; it does not follow docs/format.md.",
    )

    CHECK_FORGED = (
        38,
        False,
        "Alarm: find out who answers in the check's name with forged signatures; then order a new transfer.",
    )

    # the data is not allowed
    POLICY_MALFORMED = (40, False, "Correct the trust policy; docs/format.md has an example.")
    CHANNEL_UNKNOWN = (41, False, "Add the channel to the trust policy, or refuse this bundle for good.")
    THRESHOLD_NOT_MET = (42, False, "Have the missing role sign the bundle manifest.")
    ALGORITHM_MISSING = (43, False, "Sign with every algorithm that the trust policy requires.")
    AUDIENCE_MISMATCH = (44, False, "This bundle is for another registry; take it there.")
    EXPIRED = (45, False, "Start a new transfer: this bundle is past its expiry.")
    NOT_YET_VALID = (46, False, "Check the clocks: the bundle was made in this machine's future.")
    TOO_OLD = (47, False, "Start a new transfer: this bundle is older than the trust policy allows.")
    REPLAYED = (48, False, "Nothing to do: this bundle was decided upon before.")
    OUT_OF_ORDER = (49, False, "A later bundle of the channel was imported already; start a new transfer.")
    SEQUENCE_GAP = (50, False, "Bring the earlier bundles of this channel first.")
    SEQUENCE_REUSED = (
        51,
        False,
        "Alarm: two different bundles carry one sequence number; investigate the source.",
    )
    ARTIFACT_REFUSED = (
        52,
        False,
        "The artifact cannot cross; see the message for what is at fault.",
    )
    TRANSITION_REFUSED = (
        53,
        False,
        "Nothing to do: the transfer or import has come to something else meanwhile; look at its state.",
    )
    KEY_REVOKED = (
        54,
        False,
        "Do not use this: the key that signed it is revoked; have it made anew with a key in force.",
    )

    POLICY_EXPIRED = (
        55,
        False,
        "Get the current trust policy from whoever keeps it, and use that: this one is past its own expiry.",
    )
    REPOSITORY_REFUSED = (
        56,
        False,
        "Do not import this: the channel does not carry the repository; or add it to the trust policy.",
    )
    SEQUENCE_JUMP = (
        57,
        False,
        "Find out who made this bundle: its number is further on than the trust policy lets a channel jump.",
    )
    HISTORY_FORKED = (
        58,
        False,
        "Alarm: the source signed two histories of one channel; investigate it before you import more.",
    )

    CALLER_REFUSED = (
        59,
        False,
        "Ask whoever ordered it, or somebody with the app role Transfer.Admin, to do this.",
    )
    POLICY_NOT_NEXT = (
        60,
        False,
        "Bring the versions of the trust policy that are missing between, or pin a later one: TRUST_POLICY.",
    )
    POLICY_ROLLED_BACK = (
        61,
        False,
        "Alarm: a newer trust policy was in force here; put it back into the container policy, or pin it.",
    )
    POLICY_FORKED = (
        62,
        False,
        "Alarm: there are two trust policies of one version; find out who signed or pinned the other.",
    )
    RELEASE_MISMATCH = (
        63,
        False,
        "Run offline-mover sign on this very bundle, with the target's login server as --target.",
    )
    RELEASE_EXPIRED = (
        64,
        False,
        "Order a new transfer, and have the roles that the message names release it in time.",
    )
    OVERRIDE_MISMATCH = (
        67,
        False,
        "Have the override signed for this very bundle manifest and target, and bring it in time.",
    )
    SEQUENCE_VOID = (
        65,
        False,
        "Start a new transfer: the source gave this number up, and a later bundle of the channel says so.",
    )
    CHECK_FAILED = (
        66,
        False,
        "Look at what the check has found, at the source; order a new transfer without it.",
    )
    NOT_SCANNED = (
        68,
        False,
        "The storage's scanner did not look into a blob: order smaller transfers, or check it otherwise.",
    )
    TICKET_MISMATCH = (
        69,
        False,
        "Take the ticket that was given for this very bundle and this side, or have one given for it.",
    )

    # the medium is at fault
    MEDIA_FULL = (70, False, "Free space on the volume or use a larger one, then run the command again.")
    MEDIA_UNREADABLE = (71, True, "Clean or replace the medium, then run the command again.")
    MEDIA_READ_ONLY = (72, False, "Make the volume writable or use another one.")
    MEDIA_LIED = (73, False, "Do not carry this medium: it did not keep what was written.")
    VOLUME_NOT_FOUND = (74, False, "Check that the volume is mounted and the path is right.")
    VOLUME_EMPTY = (75, False, "Check that it is the right volume: what was asked for is not on it.")
    VOLUME_AMBIGUOUS = (76, False, "Name the transfer: the volume holds more than one.")
    VOLUME_MISSING = (77, False, "What is here is right; bring the transfer's other volumes as well.")
    CUSTODY_MISSING = (
        78,
        False,
        "No custody log: nothing was recorded on the volume yet, or the log was removed; ask who had it.",
    )
    TOOL_DAMAGED = (
        79,
        False,
        "Do not use this copy of the tool; take another and compare its SHA-256 with the published one.",
    )
    VOLUME_GONE = (
        80,
        False,
        "Plug the volume in again, see that it is mounted at the same path, then run the same command.",
    )
    VOLUME_ON_SYSTEM_DISK = (
        81,
        False,
        "Mount the medium there, then run it again; --allow-system-disk fills a folder of this computer.",
    )

    # a service said no
    SERVICE_UNREACHABLE = (90, True, "Check the network and the address, then run it again.")
    SERVICE_DENIED = (
        91,
        False,
        "Take the right SAS or have the missing permission granted, as the message says; then run it again.",
    )
    CREDENTIAL_EXPIRED = (92, False, "Get a new SAS or ticket, or sign in again.")
    SERVICE_THROTTLED = (93, True, "Wait a few minutes, then run it again.")
    NOT_FOUND = (94, False, "Check the name: the service does not know it.")
    CONFLICT = (95, False, "Something else is there already under this name; see the message.")
    PIPELINE_RUN_FAILED = (
        96,
        False,
        "Read the pipeline run's error message; docs/operations.md lists the usual causes.",
    )
    PIPELINE_RUN_TIMEOUT = (
        97,
        False,
        "Look at the pipeline run in the portal; raise the limit if it is only slow.",
    )
    ARTIFACT_NOT_FOUND = (98, False, "Check the reference: the source registry does not have it.")
    SIGNING_FAILED = (
        99,
        True,
        "Check the signing key in the vault and the app's permission to sign with it.",
    )
    SERVICE_UNEXPECTED = (
        100,
        True,
        "The service answered in a way we do not know; keep the message for support.",
    )
    SERVICE_REJECTED = (
        101,
        False,
        "The service does not take this request, and would not take it later; keep the message for support.",
    )
    PIPELINE_UNFIT = (
        102,
        True,
        "Deploy the side's template again, which makes the pipeline as it must be; what was begun waits.",
    )
    IMAGE_IMPORT_FAILED = (
        103,
        False,
        "Read the service's message; what was brought into the registry stands in the receipt.",
    )
    STAGING_UNFIT = (
        104,
        True,
        "Give the app its roles on the staging registry: deploy the side's template again. The import waits.",
    )
    CHECK_UNAVAILABLE = (
        105,
        False,
        "See to it that the check answers, as the message says; then order a new transfer.",
    )
    CHECK_UNSIGNED = (
        106,
        False,
        "Have the check sign its answers with the keys of its role in the trust policy's checkRoles.",
    )
    CHECK_UNCHECKABLE = (
        107,
        False,
        "Have the check sign with a key of another kind: a signature of an answer could not be checked.",
    )
    TURN_EXPIRED = (
        108,
        False,
        "Others were at work for too long: push it again; if its number is used up, order a new transfer.",
    )

    @property
    def exit_code(self) -> int:
        """The exit code of the process; several codes share one only where it is 2 (usage)."""
        return self.value[0]

    @property
    def is_retryable(self) -> bool:
        """Whether the same call may succeed later without anybody changing anything."""
        return self.value[1]

    @property
    def remedy(self) -> str:
        """The one line that tells the reader what to do next."""
        return self.value[2]


@dataclass(frozen=True, slots=True)
class UnknownCode:
    """The code that a newer tool wrote into a receipt: its name, kept as it stood there.

    Only what tells about the past may hold one; nothing is raised with it.
    """

    name: str

    @property
    def exit_code(self) -> int:
        """The exit code of ``NEWER_FORMAT``, since this version does not know what the code means."""
        return Code.NEWER_FORMAT.exit_code

    @property
    def is_retryable(self) -> bool:
        """Whether a retry may help: ``False``, since this version does not know what the code means."""
        return False

    @property
    def remedy(self) -> str:
        """The remedy of ``NEWER_FORMAT``: take a newer version of the tool."""
        return Code.NEWER_FORMAT.remedy


CODE_NAME = re.compile(r"[A-Z][A-Z0-9_]{1,63}")
"""The form of every code's name, those of later versions too."""


def code_named(name: str) -> Code | UnknownCode:
    """The code with that name; an :class:`UnknownCode` if this version has no such code."""
    return Code.__members__.get(name) or UnknownCode(name)


class AirgapError(Exception):
    """The base of all errors that are raised on purpose: a :class:`Code` and what it is about.

    Args:
        code: what happened.
        detail: the name, size or field in question. It may quote words that are not ours, so secrets are
            taken out, and
            it is cut at 500 characters.

    ``remedy`` is the code's, until somebody who knows what it was about sets a better one.
    """

    exit_codes: ClassVar[Sequence[int]] = range(256)

    def __init__(self, code: Code, detail: str = "") -> None:
        if code.exit_code not in self.exit_codes:
            raise TypeError(f"{code.name} is not a {type(self).__name__}")
        self.code = code
        self.remedy = code.remedy
        self.detail = redact(detail)[:_DETAIL_LIMIT]
        super().__init__(f"{code.name}: {self.detail}" if detail else code.name)

    def __reduce__(self) -> tuple[type[AirgapError], tuple[Code, str], dict[str, str]]:
        """Survive a process pool: the default would pass the message as the code."""
        return type(self), (self.code, self.detail), {"remedy": self.remedy}


class OperatorError(AirgapError):
    """The tool or the app was called wrongly: arguments, settings, request body."""

    exit_codes = range(2, 3)


class UntrustedInputError(AirgapError):
    """The input from outside is malformed, damaged or forged."""

    exit_codes = range(10, 40)


class PolicyRefusal(AirgapError):  # noqa: N818 - a refusal is the intended outcome, not an error of ours
    """The input from outside is well made, but not allowed here and now."""

    exit_codes = (*range(40, 70), *range(110, 126))


class MediaError(AirgapError):
    """The medium or its file system is at fault."""

    exit_codes = range(70, 90)


class ServiceError(AirgapError):
    """A service refused, failed or could not be reached."""

    exit_codes = range(90, 110)


_TREE = (OperatorError, UntrustedInputError, PolicyRefusal, MediaError, ServiceError)


def error_for(code: Code, detail: str = "") -> AirgapError:
    """An exception of the class that ``code`` belongs to, for a code that came back as a value."""
    return next(kind for kind in _TREE if code.exit_code in kind.exit_codes)(code, detail)
