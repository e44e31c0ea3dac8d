"""The messages between the target's orchestrators and activities, and the documents that they share."""

from typing import Any, Literal

from function_app.durable.blueprint import Activity
from function_app.messages import Item, Message, Result
from function_app.pipeline_runs import Started


class ImportOrder(Message, frozen=True):
    """The input of ``import_bundle``, for a bundle manifest that arrived."""

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
    """The upload that an orchestration (``instance``) works on: its folder, and which manifest."""

    incoming: str
    manifest_etag: str
    """Of the event; a hint, since the same bytes may be uploaded again at any time."""
    envelope_sha256: str
    instance: str


def received_facts(upload: ImportOrder | Upload) -> dict[str, str]:
    """The facts of an upload that arrived, for the journal."""
    return {
        "incoming": upload.incoming,
        "manifestEtag": upload.manifest_etag,
        "envelopeSha256": upload.envelope_sha256,
    }


class RunOrder(Item, frozen=True, omit_defaults=True):
    """The order to import a blob by a run, and which attempt it is."""

    attempt: int = 0


class Judging(Upload, frozen=True):
    """The order to judge an upload as of the time ``now`` (RFC 3339, UTC)."""

    now: str


class Clearing(Judging, frozen=True):
    """The order to judge an upload, and count its releases, which people may give until ``until``."""

    until: str


class Checking(Judging, frozen=True):
    """The order to ask one check about a bundle; it may answer until ``until``."""

    check: str
    """Its name."""
    until: str


class Closing(Upload, frozen=True):
    """The input of ``close_import``: the decision on an upload."""

    decided_at: str
    outcome: Literal["imported", "refused", "failed"]
    code: str | None
    """Code of the refusal or failure; ``None`` for an import."""
    detail: str

    @property
    def is_imported(self) -> bool:
        """Whether the decision is that the bundle was imported, and proven."""
        return self.outcome == "imported"


class Admitted(Result, frozen=True):
    """The result of ``admit_bundle``: the bundle manifest is to be acted on."""

    is_current: bool = True
    """``False``: the upload is gone or another by now, which then has an orchestration of its own."""


class Turn(Result, frozen=True):
    """The result of ``take_turn``: the channel's turn is this orchestration's."""


class Inspected(Result, frozen=True):
    """The result of ``inspect_blobs``: what is to be hashed is in the document ``inspection``."""

    groups: int
    """Of parts, to be hashed."""
    blobs: int
    artifact_groups: int
    """Of declared artifacts, to be looked up."""


class Custody(Result, frozen=True):
    """The result of ``take_custody``: the app has a copy of the blob, or damage is noted instead."""


class Hashed(Result, frozen=True):
    """The result of ``hash_staged_parts``: a group was compared with its signed digests; damage is noted."""


class Accepted(Result, frozen=True):
    """The result of ``accept_bundle``: the manifest's number is this orchestration's."""

    checks: tuple[str, ...]
    """Names of the checks that must pass before it is imported."""
    needs_release: bool
    """Whether people must release the bundle before it is imported."""


class SignerNote(Message, frozen=True):
    """A key whose signature counted, as documents and messages have it."""

    keyid: str
    role: str
    scheme: str


class Checked(Result, frozen=True):
    """The result of ``run_check``: the check has no objection."""

    scanner: str | None
    answer_sha256: str | None
    signers: tuple[SignerNote, ...] = ()


class Cleared(Result, frozen=True):
    """The result of ``clear_bundle``: the bundle is still good, and everybody who must has released it."""

    releases: tuple[dict[str, str], ...]
    """As :meth:`airgap.receipt.Release.to_json` writes them, with who brought each."""


class Promoted(Result, frozen=True):
    """The result of ``promote_blob``: the blob is where the import pipeline may read it."""


class Reported(Result, frozen=True):
    """The result of ``note_report``: what a run reports was compared with what is declared, and noted."""


class LookedUp(Result, frozen=True):
    """The result of asking a registry for a group of artifacts: its answers are noted."""


class StagingTurn(Result, frozen=True):
    """The result of ``take_staging``: the staging registry is this orchestration's alone."""


class Emptied(Result, frozen=True):
    """The result of ``empty_staging``: nothing is in the staging registry."""


class Surveyed(Result, frozen=True):
    """The result of ``survey_staging``: undeclared content of the staging registry is noted."""


class Brought(Result, frozen=True):
    """The result of bringing a group of artifacts into the real registry, by digest or with its tags."""


class Proven(Result, frozen=True):
    """The result of a judgement: the registry has every artifact as signed, and no run brought more."""

    detail: str


class Decided(Result, frozen=True):
    """The result of ``record_decision``: the decision is on record, and the channel's turn given back."""


class PutAway(Result, frozen=True):
    """The result of ``put_away``: the upload is gone, except what is held or could not be moved."""

    left: tuple[str, ...]
    """Some of the blobs that could not be moved, each with the code that says why."""
    left_count: int
    held_until: str | None = None
    """Until when the blobs of a damaged upload are held; ``None`` if nothing is."""


class StockTaken(Result, frozen=True):
    """The result of ``take_stock``: what the registry holds of the bundle is noted."""


class Issued(Result, frozen=True):
    """The result of ``issue_receipt``: the receipt is signed and stored."""

    receipt: str


class Cleaned(Result, frozen=True):
    """The result of ``clean_up``: the working documents and the copies are removed."""


class Forgotten(Result, frozen=True):
    """The result of ``forget_closing``: the note that the decision is to be closed is removed."""


class VerdictNote(Message, frozen=True):
    """The document ``verdict``: what a trusted signature vouches for, kept for the receipt."""

    manifest_etag: str
    """Of the bundle manifest that was judged."""
    transfer_id: str | None
    channel: str | None
    sequence: int | None
    manifest_sha256: str | None
    policy_version: int | None
    signers: tuple[SignerNote, ...]


class PolicyNote(Message, frozen=True):
    """A document of ``judged-by/``: a later version of the trust policy by which the bundle was judged."""

    version: int


class MissingNumbers(Message, frozen=True):
    """The document ``missing-sequences``: numbers of the channel that were never accepted."""

    sequences: tuple[int, ...]


class CheckNote(Message, frozen=True):
    """A document ``checks/<name>``: what a check said, or that it said nothing in time."""

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
    """A document ``posted/<keyid>``: who brought a release, and when."""

    by: str
    at: str


class ReleasesNote(Message, frozen=True):
    """The document ``releases``: who had released the bundle when that was decided."""

    releases: tuple[dict[str, str], ...]
    """As :meth:`airgap.receipt.Release.to_json` writes them."""


class OverrideNote(Message, frozen=True):
    """The document ``override``: an override by which this bundle was let pass."""

    use: dict[str, Any]
    """As :meth:`airgap.receipt.OverrideUse.to_json` writes it."""


class HeldNote(Message, frozen=True):
    """The document ``held``: the bundle waits for a number that is missing before its own."""

    awaits: int
    until: str
    policy_version: int
    """Of the trust policy that lets it wait."""


class InspectedBlob(Message, frozen=True):
    """An uploaded blob as it is, and what is signed of it."""

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
    """The document ``inspection``: the uploaded blobs that are there, in the manifest's order."""

    upload: Upload
    bundle: str
    """Folder of the bundle below ``staging`` and ``transfer``."""
    blobs: tuple[InspectedBlob, ...]


class CustodyNote(Message, frozen=True):
    """A document ``custody/<blob>``: the ETag of the app's own copy of an uploaded blob."""

    etag: str


class PromotionNote(Message, frozen=True):
    """A document ``promoted/<blob>``: the ETag of the copy of a blob that may be imported."""

    etag: str


class HeldUpload(Message, frozen=True):
    """A document in ``work`` for a folder of ``incoming``: which of its blobs are held, and until when."""

    closing: Closing
    """The decision about the damage."""
    blobs: tuple[str, ...]
    until: str
    damaged: tuple[str, ...]
    """Those of the blobs that parts have to be replaced of."""


class PuttingAway(Message, frozen=True):
    """The document ``putting-away``: how far an upload is put away."""

    marker: str | None
    """Where the listing goes on; empty before it begins, ``None`` after its end."""
    left: tuple[str, ...]
    left_count: int


class DamageNote(Message, frozen=True):
    """A document ``damage/<where>``: the damage that was found in one place."""

    count: int
    damages: tuple[dict[str, Any], ...]
    """As :meth:`airgap.damage.Damage.to_json` writes them; at most as many as a receipt holds."""
    gravest: str
    """The code that a refusal would name."""


class EmptiedNote(Message, frozen=True):
    """A document ``staging-emptied``: the staging registry was seen empty, before any run of this import."""


class GroupProof(Message, frozen=True):
    """A document ``hashed/<blob>/<group>-<digest>``: a group of parts has its signed digests."""


class Declared(Message, frozen=True):
    """A document ``declared/<blob>/<number>``: some artifacts of one blob, as signed."""

    artifacts: tuple[dict[str, Any], ...]
    """As :meth:`airgap.manifest.Artifact.to_json` writes them."""


class Proofs(Message, frozen=True):
    """A document ``proofs/<blob>/<number>``: what the registry has of a group of artifacts."""

    proofs: tuple[dict[str, Any], ...]
    """As :meth:`airgap.receipt.ArtifactProof.to_json` writes them."""
    lacking: int
    """How many of them are not as signed."""


class WalkNote(Message, frozen=True):
    """The progress of looking up one artifact."""

    open: tuple[tuple[str, str, int], ...]
    """Kind, digest and depth of what is still to be looked up, the next one last."""
    read: tuple[str, ...]
    """Digests of the manifests that were read."""
    missing: tuple[dict[str, Any], ...]
    """As :meth:`airgap.receipt.MissingContent.to_json` writes them."""
    missing_count: int
    is_found: bool


class LookUpNote(Message, frozen=True):
    """A document ``looking-up/proofs/…``: the progress of looking up a group of artifacts."""

    proofs: tuple[dict[str, Any], ...]
    """Of the artifacts that are done, as :meth:`airgap.receipt.ArtifactProof.to_json` writes them."""
    walk: WalkNote | None
    """Through the next one."""


class Survey(Message, frozen=True):
    """The document ``survey``: what the staging registry holds and nobody declared."""

    after: str
    """The repository that was looked through last."""
    undeclared: tuple[str, ...]
    """At most as many as a receipt holds."""
    undeclared_count: int


class Crossing(Message, frozen=True):
    """A document ``crossing/digests/…`` or ``crossing/tags/…``: the progress of bringing a group over."""

    done: tuple[str, ...]
    """References of those that are there."""
    operations: dict[str, str]
    """By the same, what goes on."""
    attempts: dict[str, int]
    """By the same, how often it has failed."""


class RunReport(Message, frozen=True):
    """A document ``reported/<blob>``: how what a run reports differs from what is declared."""

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
