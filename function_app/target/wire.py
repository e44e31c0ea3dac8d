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


class Upload(Message, frozen=True):
    """The upload that one orchestration (``instance``) works on: its folder, and which manifest."""

    incoming: str
    manifest_etag: str
    envelope_sha256: str
    instance: str


class Judging(Upload, frozen=True):
    """An upload, and the time to judge it by."""

    now: str


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
    blobs: int


class Hashed(Result, frozen=True):
    """A group was compared with its signed digests; damage is noted."""


class Accepted(Result, frozen=True):
    """The manifest's number is this orchestration's."""


class Promoted(Result, frozen=True):
    """A blob lies where the import pipeline may read it."""


class Proven(Result, frozen=True):
    """The registry has every artifact as signed."""

    detail: str


class Decided(Result, frozen=True):
    """The decision is on record, and the channel's turn given back."""


class Quarantined(Result, frozen=True):
    """The upload lies in quarantine."""


class Issued(Result, frozen=True):
    """The receipt is signed and stored."""

    receipt: str


class Cleaned(Result, frozen=True):
    """The working documents, the copies and, after an import, the upload are removed."""


class Forgotten(Result, frozen=True):
    """The note that the decision is still to be closed is removed."""


class SignerNote(Message, frozen=True):
    """A key whose signature counted."""

    keyid: str
    role: str
    scheme: str


class VerdictNote(Message, frozen=True):
    """What a trusted signature vouches for, kept for the receipt: the document ``verdict``."""

    transfer_id: str | None
    channel: str | None
    sequence: int | None
    manifest_sha256: str | None
    policy_version: int | None
    signers: tuple[SignerNote, ...]


class MissingNumbers(Message, frozen=True):
    """Numbers of the channel that were never accepted: the document ``missing-sequences``."""

    sequences: tuple[int, ...]


class InspectedBlob(Message, frozen=True):
    """An uploaded blob beside what is signed of it."""

    name: str
    etag: str
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
    blobs: tuple[InspectedBlob, ...]


class DamageNote(Message, frozen=True):
    """What was found in one place: a document ``damage/<where>``."""

    count: int
    damages: tuple[dict[str, Any], ...]
    """As :meth:`airgap.damage.Damage.to_json` writes them; at most as many as a receipt holds."""
    gravest: str
    """The code that a refusal would name."""


class Proofs(Message, frozen=True):
    """What the registry has of each artifact: the document ``proofs``."""

    proofs: tuple[dict[str, Any], ...]
    """As :meth:`airgap.receipt.ArtifactProof.to_json` writes them."""


ADMIT_BUNDLE = Activity("admit_bundle", Judging, Admitted)
TAKE_TURN = Activity("take_turn", Upload, Turn)
INSPECT_BLOBS = Activity("inspect_blobs", Upload, Inspected)
HASH_INCOMING_PARTS = Activity("hash_incoming_parts", Item, Hashed)
ACCEPT_BUNDLE = Activity("accept_bundle", Judging, Accepted)
PROMOTE_BLOB = Activity("promote_blob", Item, Promoted)
START_IMPORT_RUN = Activity("start_import_run", Item, Started)
PROVE_ARTIFACTS = Activity("prove_artifacts", Upload, Proven)
RECORD_DECISION = Activity("record_decision", Closing, Decided)
QUARANTINE_UPLOAD = Activity("quarantine_upload", Closing, Quarantined)
ISSUE_RECEIPT = Activity("issue_receipt", Closing, Issued)
CLEAN_UP = Activity("clean_up", Closing, Cleaned)
FORGET_CLOSING = Activity("forget_closing", Closing, Forgotten)
