"""What the target's orchestrators and activities say to each other, and the documents that they share."""

from typing import Any, Literal

from function_app.durable.blueprint import Activity
from function_app.messages import Item, Message, Result
from function_app.pipeline_runs import Started


class ImportOrder(Message, frozen=True):
    """The input of ``import_bundle``: a bundle manifest arrived."""

    incoming: str
    """The folder in ``incoming`` that it lies in."""
    manifest_etag: str
    envelope_sha256: str
    runs_at_once: int
    hashes_at_once: int
    release_timeout_s: int
    check_timeout_s: int
    is_staged: bool = False
    """Whether it is imported into a staging registry first."""


class Upload(Message, frozen=True):
    """The upload that one orchestration (``instance``) works on: its folder, and which manifest."""

    incoming: str
    manifest_etag: str
    """Of the event; a hint, since the same bytes may be uploaded again at any time."""
    envelope_sha256: str
    instance: str


def received_facts(upload: ImportOrder | Upload) -> dict[str, str]:
    """What the journal says of an upload that arrived: which one an orchestration was started for."""
    return {
        "incoming": upload.incoming,
        "manifestEtag": upload.manifest_etag,
        "envelopeSha256": upload.envelope_sha256,
    }


class RunOrder(Item, frozen=True, omit_defaults=True):
    """A blob to be imported by a run, and which attempt it is."""

    attempt: int = 0


class Judging(Upload, frozen=True):
    """An upload, and the time to judge it by."""

    now: str


class Clearing(Judging, frozen=True):
    """The same, and until when people may release the bundle."""

    until: str


class Checking(Judging, frozen=True):
    """One check to be asked about the bundle, and until when."""

    check: str
    """Its name."""
    until: str


class Closing(Upload, frozen=True):
    """The input of ``close_import``: what an upload came to."""

    decided_at: str
    outcome: Literal["imported", "refused", "failed"]
    code: str | None
    """Code of the refusal or failure; ``None`` for an import."""
    detail: str

    @property
    def is_imported(self) -> bool:
        """Whether it was imported, and proven."""
        return self.outcome == "imported"


class Admitted(Result, frozen=True):
    """The bundle manifest is to be acted on."""

    is_current: bool = True
    """``False``: the upload is gone or another by now, which then has an orchestration of its own."""


class Turn(Result, frozen=True):
    """The channel's turn is this orchestration's."""


class Inspected(Result, frozen=True):
    """The uploaded sizes were compared with the signed ones; what to hash lies in ``inspection``."""

    groups: int
    """Of parts, to be hashed."""
    blobs: int
    artifact_groups: int
    """Of declared artifacts, to be looked up."""


class Custody(Result, frozen=True):
    """The app has a copy of an uploaded blob, or damage is noted instead."""


class Hashed(Result, frozen=True):
    """A group was compared with its signed digests; damage is noted."""


class Accepted(Result, frozen=True):
    """The manifest's number is this orchestration's."""

    checks: tuple[str, ...]
    """Names of the checks that must pass before it is imported."""
    needs_release: bool
    """Whether people must release the bundle before it is imported."""


class SignerNote(Message, frozen=True):
    """A key whose signature counted."""

    keyid: str
    role: str
    scheme: str


class Checked(Result, frozen=True):
    """A check has no objection."""

    scanner: str | None
    answer_sha256: str | None
    signers: tuple[SignerNote, ...] = ()


class Cleared(Result, frozen=True):
    """The bundle is as good as when it was accepted, and whoever must release it has done so."""

    releases: tuple[dict[str, str], ...]
    """As :meth:`airgap.receipt.Release.to_json` writes them, with who brought each."""


class Promoted(Result, frozen=True):
    """A blob lies where the import pipeline may read it."""


class Reported(Result, frozen=True):
    """What a run reports as imported was compared with what is declared of its blob, and noted."""


class LookedUp(Result, frozen=True):
    """The registry was asked for a group of artifacts; its answers are noted."""


class StagingTurn(Result, frozen=True):
    """The staging registry is this orchestration's alone."""


class Emptied(Result, frozen=True):
    """Nothing is in the staging registry."""


class Surveyed(Result, frozen=True):
    """What is in the staging registry was held against what is declared; what is not is noted."""


class Brought(Result, frozen=True):
    """A group of artifacts is in the real registry, by digest or with its tags."""


class Proven(Result, frozen=True):
    """The registry has every artifact as signed, and no run brought anything else."""

    detail: str


class Decided(Result, frozen=True):
    """The decision is on record, and the channel's turn given back."""


class PutAway(Result, frozen=True):
    """The upload is deleted or lies in quarantine, but for what is held and what could not be moved."""

    left: tuple[str, ...]
    """Some of the blobs that could not be moved, each with the code that says why."""
    left_count: int
    held_until: str | None = None
    """Until when the blobs of a damaged upload are held; ``None`` if nothing is."""


class StockTaken(Result, frozen=True):
    """What the registry holds of the bundle is noted, as far as an import can have brought anything."""


class Issued(Result, frozen=True):
    """The receipt is signed and stored."""

    receipt: str


class Cleaned(Result, frozen=True):
    """The working documents and the copies are removed."""


class Forgotten(Result, frozen=True):
    """The note that the decision is still to be closed is removed."""


class VerdictNote(Message, frozen=True):
    """What a trusted signature vouches for, kept for the receipt: the document ``verdict``."""

    manifest_etag: str
    """Of the bundle manifest that was judged."""
    transfer_id: str | None
    channel: str | None
    sequence: int | None
    manifest_sha256: str | None
    policy_version: int | None
    signers: tuple[SignerNote, ...]


class PolicyNote(Message, frozen=True):
    """A later version of the trust policy that the bundle was judged by: a document of ``judged-by/``."""

    version: int


class MissingNumbers(Message, frozen=True):
    """Numbers of the channel that were never accepted: the document ``missing-sequences``."""

    sequences: tuple[int, ...]


class CheckNote(Message, frozen=True):
    """What a check said, or that it said nothing in time: a document ``checks/<name>``."""

    code: str | None
    """What the bundle is refused for; ``None``: it has passed."""
    detail: str
    scanner: str | None
    answer_sha256: str | None
    """``None``: there was no answer."""
    checked_at: str
    signers: tuple[SignerNote, ...] = ()
    """Whose signatures vouch for the answer."""


class PostNote(Message, frozen=True):
    """Who brought a release, and when: a document ``posted/<keyid>``."""

    by: str
    at: str


class ReleasesNote(Message, frozen=True):
    """Who has released the bundle when that was decided: the document ``releases``."""

    releases: tuple[dict[str, str], ...]
    """As :meth:`airgap.receipt.Release.to_json` writes them."""


class OverrideNote(Message, frozen=True):
    """An override by which this bundle was let pass: the document ``override``."""

    use: dict[str, Any]
    """As :meth:`airgap.receipt.OverrideUse.to_json` writes it."""


class HeldNote(Message, frozen=True):
    """A bundle waits for a number that is missing before its own: the document ``held``."""

    awaits: int
    until: str
    policy_version: int
    """Of the trust policy that lets it wait."""


class InspectedBlob(Message, frozen=True):
    """An uploaded blob beside what is signed of it."""

    name: str
    etag: str
    """Of the upload, as it was inspected."""
    uploaded_bytes: int
    size_bytes: int
    """As signed."""
    content_md5: str | None
    """As signed."""
    metadata: dict[str, str]
    """As signed."""
    part_size_bytes: int
    parts: int
    """How many of its parts can be there, going by the uploaded size."""


class Inspection(Message, frozen=True):
    """The uploaded blobs in the manifest's order, those that are there: the document ``inspection``."""

    upload: Upload
    bundle: str
    """Folder of the bundle below ``staging`` and ``transfer``."""
    blobs: tuple[InspectedBlob, ...]


class CustodyNote(Message, frozen=True):
    """The app's own copy of an uploaded blob: a document ``custody/<blob>``."""

    etag: str


class PromotionNote(Message, frozen=True):
    """The copy of a blob that may be imported: a document ``promoted/<blob>``."""

    etag: str


class HeldUpload(Message, frozen=True):
    """What is held in one folder of ``incoming``: a document of its own in ``work``."""

    closing: Closing
    """The decision about the damage."""
    blobs: tuple[str, ...]
    until: str
    damaged: tuple[str, ...]
    """Those of the blobs that parts have to be replaced of."""


class PuttingAway(Message, frozen=True):
    """How far an upload is put away: the document ``putting-away``."""

    marker: str | None
    """Where the listing goes on; empty before it begins, ``None`` after its end."""
    left: tuple[str, ...]
    left_count: int


class DamageNote(Message, frozen=True):
    """What was found in one place: a document ``damage/<where>``."""

    count: int
    damages: tuple[dict[str, Any], ...]
    """As :meth:`airgap.damage.Damage.to_json` writes them; at most as many as a receipt holds."""
    gravest: str
    """The code that a refusal would name."""


class EmptiedNote(Message, frozen=True):
    """The staging registry was seen empty, before any run of this import: a document ``staging-emptied``."""


class GroupProof(Message, frozen=True):
    """A group of parts has its signed digests: a document ``hashed/<blob>/<group>-<digest>``."""


class Declared(Message, frozen=True):
    """Some artifacts of one blob, as signed: a document ``declared/<blob>/<number>``."""

    artifacts: tuple[dict[str, Any], ...]
    """As :meth:`airgap.manifest.Artifact.to_json` writes them."""


class Proofs(Message, frozen=True):
    """What the registry has of a group of artifacts: a document ``proofs/<blob>/<number>``."""

    proofs: tuple[dict[str, Any], ...]
    """As :meth:`airgap.receipt.ArtifactProof.to_json` writes them."""
    lacking: int
    """How many of them are not as signed."""


class WalkNote(Message, frozen=True):
    """How far one artifact is looked up."""

    open: tuple[tuple[str, str, int], ...]
    """Kind, digest and depth of what is still to be looked up, the next one last."""
    read: tuple[str, ...]
    """Digests of the manifests that were read."""
    missing: tuple[dict[str, Any], ...]
    """As :meth:`airgap.receipt.MissingContent.to_json` writes them."""
    missing_count: int
    is_found: bool


class LookUpNote(Message, frozen=True):
    """How far a group of artifacts is looked up: a document ``looking-up/proofs/…``."""

    proofs: tuple[dict[str, Any], ...]
    """Of the artifacts that are done, as :meth:`airgap.receipt.ArtifactProof.to_json` writes them."""
    walk: WalkNote | None
    """Through the next one."""


class Survey(Message, frozen=True):
    """What the staging registry holds and nobody declared: the document ``survey``."""

    after: str
    """The repository that was looked through last."""
    undeclared: tuple[str, ...]
    """At most as many as a receipt holds."""
    undeclared_count: int


class Crossing(Message, frozen=True):
    """How far a group of artifacts is brought over: ``crossing/digests/…``, then ``crossing/tags/…``."""

    done: tuple[str, ...]
    """References of those that are there."""
    operations: dict[str, str]
    """By the same, what goes on."""
    attempts: dict[str, int]
    """By the same, how often it has failed."""


class RunReport(Message, frozen=True):
    """What a run reports, beside what is declared: a document ``reported/<blob>``."""

    unreported: int
    undeclared: tuple[str, ...]
    """At most as many as a receipt holds."""
    undeclared_count: int


ADMIT_BUNDLE = Activity("admit_bundle", Judging, Admitted)
TAKE_TURN = Activity("take_turn", Judging, Turn)
INSPECT_BLOBS = Activity("inspect_blobs", Upload, Inspected)
TAKE_CUSTODY = Activity("take_custody", Item, Custody)
HASH_STAGED_PARTS = Activity("hash_staged_parts", Item, Hashed)
ACCEPT_BUNDLE = Activity("accept_bundle", Judging, Accepted)
RUN_CHECK = Activity("run_check", Checking, Checked)
CLEAR_BUNDLE = Activity("clear_bundle", Clearing, Cleared)
PROMOTE_BLOB = Activity("promote_blob", Item, Promoted)
START_IMPORT_RUN = Activity("start_import_run", RunOrder, Started)
NOTE_REPORT = Activity("note_report", Item, Reported)
PROVE_ARTIFACTS = Activity("prove_artifacts", Item, LookedUp)
TAKE_STAGING = Activity("take_staging", Judging, StagingTurn)
EMPTY_STAGING = Activity("empty_staging", Upload, Emptied)
PROVE_STAGED = Activity("prove_staged", Item, LookedUp)
SURVEY_STAGING = Activity("survey_staging", Upload, Surveyed)
CONCLUDE_STAGED = Activity("conclude_staged", Upload, Proven)
BRING_DIGESTS = Activity("bring_digests", Item, Brought)
BRING_TAGS = Activity("bring_tags", Item, Brought)
LEAVE_STAGING = Activity("leave_staging", Upload, Emptied)
CONCLUDE_IMPORT = Activity("conclude_import", Upload, Proven)
RECORD_DECISION = Activity("record_decision", Closing, Decided)
PUT_AWAY = Activity("put_away", Closing, PutAway)
TAKE_STOCK = Activity("take_stock", Closing, StockTaken)
ISSUE_RECEIPT = Activity("issue_receipt", Closing, Issued)
CLEAN_UP = Activity("clean_up", Closing, Cleaned)
FORGET_CLOSING = Activity("forget_closing", Closing, Forgotten)
