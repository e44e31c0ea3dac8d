"""The bodies of the target's HTTP API, as models (:mod:`function_app.http.bodies`)."""

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from airgap.states import DECIDED, Kind
from function_app.http.bodies import (
    Body,
    Count,
    Digest,
    Envelope,
    Explanation,
    Next,
    SelfLink,
    Step,
    Time,
    states_of,
)

ImportId = Annotated[str, Meta(pattern="^[a-z0-9]{8,80}$")]
ImportState = Annotated[str, Meta(extra_json_schema=states_of(Kind.IMPORTS))]


class Upload(Body, frozen=True):
    """The folder of `incoming` in which an upload arrived, and the digest of the envelope that lay there."""

    folder: str | None
    envelope_digest: Digest | None


class AdmittedBundle(Body, frozen=True):
    """The bundle as trusted signatures vouch for it, and whose they are."""

    transfer_id: str
    channel: str
    sequence: Annotated[int, Meta(ge=1)]
    requested_by: str | None
    manifest_digest: Digest
    keyids: tuple[str, ...]


class Decision(Body, frozen=True):
    """The decision on an import: what, when, and why."""

    verdict: Annotated[str, Meta(extra_json_schema={"enum": sorted(state.value for state in DECIDED)})]
    at: Time
    detail: str
    error: Explanation | UnsetType = UNSET


class Hold(Body, frozen=True):
    """The number of its channel that an import waits for, and until when."""

    awaits: int
    until: Time


class Release(Body, frozen=True):
    """A release by a person, in which role; who handed it in is told once the bundle is promoted."""

    holder: str
    role: str
    keyid: str
    scheme: str
    released_at: Time
    posted_by: str | UnsetType = UNSET
    posted_at: Time | UnsetType = UNSET


class Releases(Body, frozen=True):
    """The releases of an import: who has given one, what is missing, and until when there is time."""

    releases: tuple[Release, ...]
    missing: tuple[str, ...]
    until: Time | None


class Receipt(Body, frozen=True):
    """The signed receipt: where it lies, and its envelope, unless that is over 1 MiB or was taken away."""

    blob: str
    envelope: Envelope | None


class CustodyFinding(Body, frozen=True):
    """A sign that a log was written anew."""

    fault: str
    line: int
    detail: str
    against: str | UnsetType = UNSET


class TamperedLog(Body, frozen=True):
    """A custody log that was written anew, and what shows it; the first findings of all that were counted."""

    log: str
    count: Count
    findings: tuple[CustodyFinding, ...]


class Custody(Body, frozen=True):
    """The custody logs of the transfer: how many are kept, and which of them were written anew."""

    logs: Count
    tampered: tuple[TamperedLog, ...]


class Left(Body, frozen=True):
    """The blobs that could not be put away."""

    count: Count | None
    blobs: tuple[str, ...]


class Removed(Body, frozen=True):
    """A removal by age of what lay there: from which container, and when."""

    container: str
    at: Time


class Import(Body, frozen=True):
    """An import: where it stands, how it came there, and the signed receipt once it is out."""

    import_id: ImportId
    state: ImportState
    created_at: Time
    updated_at: Time
    upload: Upload
    bundle: AdmittedBundle | None
    decision: Decision | None
    history: tuple[Step, ...]
    links: SelfLink
    held: Hold | None = None
    release: Releases | None = None
    custody: Custody | None = None
    receipt: Receipt | None = None
    removed: tuple[Removed, ...] = ()
    held_until: Time | UnsetType = UNSET
    left: Left | UnsetType = UNSET


class ImportLine(Body, frozen=True):
    """One line of the list of imports."""

    import_id: ImportId
    state: ImportState
    channel: str | None
    created_at: Time
    updated_at: Time
    links: SelfLink
    error: Explanation | UnsetType = UNSET


class ImportList(Body, frozen=True):
    """One page of imports, newest first."""

    imports: tuple[ImportLine, ...]
    next: Next
