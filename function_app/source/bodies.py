"""The bodies of the source's HTTP API, as models (:mod:`function_app.http.bodies`)."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from msgspec import UNSET, Meta, UnsetType, field

from airgap.division import MAX_REFERENCES
from airgap.fields import CHANNEL, LOGIN_SERVER
from airgap.manifest import MAX_AUDIENCE
from airgap.repositories import PATTERN, REPOSITORY
from airgap.states import Kind
from function_app.http.bodies import (
    Ask,
    Body,
    Count,
    Digest,
    Explanation,
    Link,
    Next,
    SelfLink,
    Step,
    Time,
    states_of,
    whole,
)
from function_app.source.referrers import MAX_KINDS

MIN_EXPIRY_S = 60
MAX_EXPIRY_S = 20 * 366 * 24 * 3600
DEFAULT_EXPIRY_S = 30 * 24 * 3600
MAX_REASON_CHARACTERS = 200
MAX_SELECTORS = 20
MAX_EXCLUSIONS = 100
MAX_NEWEST = 5000
MAX_TEXT_CHARACTERS = 256
MAX_TEXTS = 10
MAX_LABELS = 20
MAX_LABEL_CHARACTERS = 128

KIND_PATTERN = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
"""A media type (RFC 6838 §4.2), as ``artifactType`` is one."""

TransferId = Annotated[str, Meta(pattern="^[a-z0-9]{8,40}$", examples=["0123456789abcdef0123456789abcdef"])]
TransferState = Annotated[str, Meta(extra_json_schema=states_of(Kind.TRANSFERS))]
OrderState = Annotated[str, Meta(extra_json_schema=states_of(Kind.ORDERS))]
ChannelName = Annotated[str, Meta(pattern=whole(CHANNEL), examples=["prod"])]
LoginServer = Annotated[str, Meta(pattern=whole(LOGIN_SERVER), examples=["target.azurecr.io"])]
Reference = Annotated[
    str,
    Meta(
        pattern=whole(rf"{REPOSITORY}(?::[A-Za-z0-9_][A-Za-z0-9._-]{{0,127}}|@sha256:[0-9a-f]{{64}})"),
        max_length=512,
        examples=["team/app:v1"],
    ),
]
_Kinds = Annotated[
    tuple[Annotated[str, Meta(pattern=whole(KIND_PATTERN))], ...],
    Meta(min_length=1, max_length=MAX_KINDS, extra_json_schema={"uniqueItems": True}),
]
_Servers = Annotated[tuple[LoginServer, ...], Meta(min_length=1, max_length=MAX_AUDIENCE)]
_Audience = Annotated[str | _Servers, Meta(extra_json_schema={"pattern": whole(LOGIN_SERVER)})]
"""The pattern is only of the one text, and not the model's: of a union of a text with a pattern and an array,
in two structs, msgspec 0.22 crashes Python at its end now and then."""

_Pattern = Annotated[str, Meta(pattern=whole(PATTERN), max_length=MAX_TEXT_CHARACTERS)]
_Glob = Annotated[str, Meta(pattern=r"^[!-.0-9;-?A-Z\\^-~]{1,128}$")]
_Text = Annotated[
    str, Meta(pattern=r"^[^\[\]]*$", min_length=1, max_length=MAX_TEXT_CHARACTERS, examples=["*"])
]
_Texts = Annotated[
    dict[Annotated[str, Meta(min_length=1, max_length=MAX_TEXT_CHARACTERS)], _Text],
    Meta(min_length=1, max_length=MAX_TEXTS),
]
_Words = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT_CHARACTERS)]


_Label = Annotated[str, Meta(min_length=1, max_length=MAX_LABEL_CHARACTERS)]


class Selector(Ask, frozen=True):
    """A selector of artifacts: it takes the tags for which all holds that it says."""

    repositories: Annotated[tuple[_Pattern, ...], Meta(min_length=1, max_length=50)]
    tags: Annotated[tuple[_Glob, ...], Meta(min_length=1, max_length=50)] | UnsetType = UNSET
    tags_matching: (
        Annotated[_Words, Meta(description="A regular expression in RE2's syntax.")] | UnsetType
    ) = UNSET
    versions: (
        Annotated[_Words, Meta(description="A range as npm writes them.", examples=[">=1.2.0 <2.0.0"])]
        | UnsetType
    ) = UNSET
    updated_since: Time | UnsetType = UNSET
    annotations: _Texts | UnsetType = UNSET
    labels: _Texts | UnsetType = UNSET
    newest: Annotated[int, Meta(ge=1, le=MAX_NEWEST)] | UnsetType = UNSET


class Order(Ask, frozen=True):
    """An order: what shall be transferred, to whom, and how long the bundle is good for."""

    channel: ChannelName
    audience: _Audience
    artifacts: (
        Annotated[
            tuple[Reference, ...],
            Meta(min_length=1, max_length=MAX_REFERENCES, extra_json_schema={"uniqueItems": True}),
        ]
        | UnsetType
    ) = UNSET
    select: Annotated[tuple[Selector, ...], Meta(min_length=1, max_length=MAX_SELECTORS)] | UnsetType = UNSET
    exclude: (
        Annotated[
            tuple[Annotated[str, Meta(min_length=1, examples=["**:*-debug"])], ...],
            Meta(min_length=1, max_length=MAX_EXCLUSIONS),
        ]
        | UnsetType
    ) = UNSET
    expires_in_seconds: Annotated[int, Meta(ge=MIN_EXPIRY_S, le=MAX_EXPIRY_S)] = DEFAULT_EXPIRY_S
    referrers: Literal["all", "none"] | _Kinds = "all"
    dry_run: bool = False
    only_missing: bool = False

    json_schema: ClassVar[Mapping[str, Any]] = {
        "anyOf": [{"required": ["artifacts"]}, {"required": ["select"]}],
        "dependentRequired": {"exclude": ["select"]},
    }
    """What holds between the members; the reader of a request tells it in words."""


class StandingOrderAsk(Order, frozen=True, kw_only=True):
    """An order that is placed again at each time of a schedule."""

    schedule: Annotated[
        str, Meta(description="A repeating interval of ISO 8601.", examples=["R/2026-12-01T02:00:00Z/P1D"])
    ]
    labels: Annotated[dict[_Label, _Label], Meta(max_length=MAX_LABELS)] | UnsetType = UNSET
    paused: bool = False


class Void(Ask, frozen=True):
    """The reason for which the number of a transfer is given up."""

    reason: Annotated[
        str,
        Meta(
            description="Printable characters; later bundle manifests carry it to the targets.",
            min_length=1,
            max_length=MAX_REASON_CHARACTERS,
            examples=["the medium was lost"],
        ),
    ]


class Ordered(Body, frozen=True):
    """The order of a transfer; with its references where they are asked for, `null` if removed since."""

    channel: str | None
    audience: str | tuple[str, ...] | None
    expires_in_seconds: int | None
    referrers: str | tuple[str, ...] | None
    dry_run: bool | None
    only_missing: bool | None
    artifacts: tuple[str, ...] | UnsetType | None = UNSET
    select: tuple[dict[str, Any], ...] | UnsetType | None = UNSET
    exclude: tuple[str, ...] | UnsetType | None = UNSET


class Counts(Body, frozen=True):
    """The number of references ordered, artifacts with all that refers to them, and blobs they travel in."""

    requested: Count | None
    artifacts: Count | None
    blobs: Count | None


class Placed(Body, frozen=True):
    """The standing order that a transfer comes from, the time that it is for, and the order's labels."""

    name: str
    time: Time
    labels: dict[str, str]


class PortionOf(Body, frozen=True):
    """The transfer of which this is one portion, since one bundle could not take all, and which portion."""

    parent: TransferId = field(name="of")
    number: Annotated[int, Meta(ge=1)]


class Portion(Body, frozen=True):
    """One of the transfers that a transfer was divided into."""

    transfer_id: TransferId
    state: TransferState
    counts: Counts
    links: SelfLink


class RegistryAnswer(Body, frozen=True):
    """The last answer of a registry of the audience; `null` as long as it is silent."""

    registry: str
    verdict: str | None
    decided_at: Time | None
    receipt: str | None


class ReferrerKind(Body, frozen=True):
    """A kind of referrers of the ordered artifacts: whether they travel, and how many there are."""

    artifact_type: str
    travels: bool
    count: Count
    example: str


class HeldSummary(Body, frozen=True):
    """The artifacts left out because their targets hold them, and the receipts that say so."""

    artifacts: Count
    receipts: tuple[str, ...]


class Progress(Body, frozen=True):
    """The progress within the state: how much of it is done."""

    done: Count
    total: Count | None = field(name="of")
    unit: str


class Signature(Body, frozen=True):
    """A signature of a person on the bundle manifest, and who handed it in when."""

    keyid: str
    holder: str
    roles: tuple[str, ...]
    by: str
    at: Time


class Signatures(Body, frozen=True):
    """The signatures that people must give: which are there, and which are missing."""

    manifest_digest: Digest
    signed: tuple[Signature, ...]
    missing: tuple[str, ...]
    until: Time | None


class Bundle(Body, frozen=True):
    """The bundle that was sealed."""

    manifest: str
    manifest_digest: Digest
    sequence: Annotated[int, Meta(ge=1)]
    size_bytes: Count
    parts: Count
    blobs: Count
    artifacts: Count
    expires_at: Time


class Voided(Body, frozen=True):
    """The record that the number was given up: why, by whom and when."""

    reason: str
    by: str
    at: Time


class TransferLinks(Body, frozen=True):
    """The paths at which the transfer is looked at, and of what can be done with it now."""

    self: Link
    cancel: Link | UnsetType = UNSET
    void: Link | UnsetType = UNSET
    plan: Link | UnsetType = UNSET


class Transfer(Body, frozen=True):
    """A transfer: where it stands, and how it came there."""

    transfer_id: TransferId
    state: TransferState
    created_at: Time
    updated_at: Time
    request: Ordered
    counts: Counts
    history: tuple[Step, ...]
    links: TransferLinks
    order: Placed | UnsetType = UNSET
    portion: PortionOf | UnsetType = UNSET
    transfers: tuple[Portion, ...] | UnsetType = UNSET
    answers: tuple[RegistryAnswer, ...] | UnsetType = UNSET
    referrers: tuple[ReferrerKind, ...] | UnsetType = UNSET
    held: HeldSummary | UnsetType = UNSET
    progress: Progress | UnsetType = UNSET
    signatures: Signatures | UnsetType = UNSET
    bundle: Bundle | UnsetType = UNSET
    receipt: Annotated[str, Meta(description="The blob with the signed receipt.")] | UnsetType = UNSET
    void: Voided | UnsetType = UNSET
    removed_at: Time | UnsetType = UNSET
    error: Explanation | UnsetType = UNSET


class TransferLine(Body, frozen=True):
    """One line of the list of transfers."""

    transfer_id: TransferId
    state: TransferState
    channel: str | None
    created_at: Time
    updated_at: Time
    counts: Counts
    links: SelfLink
    error: Explanation | UnsetType = UNSET


class TransferList(Body, frozen=True):
    """One page of transfers, newest first."""

    transfers: tuple[TransferLine, ...]
    next: Next


class PlannedArtifact(Body, frozen=True):
    """An artifact as the bundle manifest will name it."""

    reference: str
    digest: Digest
    media_type: str
    tags: tuple[str, ...]
    artifact_type: str | None
    subject: Digest | None
    size_bytes: Count
    platforms: tuple[str, ...]


class PlannedPortion(Body, frozen=True):
    """A transfer that the order is divided into, as it is planned."""

    number: Annotated[int, Meta(ge=1)]
    requested: Count
    artifacts: Count
    blobs: Count
    size_bytes: Count
    parts: Count


class PlannedBlob(Body, frozen=True):
    """A blob that one pipeline run exports, as it is planned. Sizes are estimates."""

    transfer: Annotated[int, Meta(description="Of those it is divided into.", ge=1)] | None
    name: str
    size_bytes: Count
    parts: Count
    artifacts: tuple[PlannedArtifact, ...]


class PlanRefusal(Body, frozen=True):
    """A reason for which the transfer would be refused; `reference` is `null` where it is about all."""

    reference: str | None
    code: str
    detail: str


class HeldWord(Body, frozen=True):
    """The receipt that says that something is held."""

    receipt: str
    transfer_id: str
    decided_at: Time


class HeldArtifact(Body, frozen=True):
    """An artifact that is left out, and the receipts that say that each registry of the audience holds it."""

    reference: str
    digest: Digest
    held: dict[str, HeldWord]


class Plan(Body, frozen=True):
    """The plan of a transfer: what it consists of, or would; ten blobs to a page."""

    transfer_id: TransferId
    size_bytes: Count
    parts: Count
    estimated_seconds: Count
    refused_count: Count
    refused: tuple[PlanRefusal, ...]
    transfers: tuple[PlannedPortion, ...]
    blobs: tuple[PlannedBlob, ...]
    held: tuple[HeldArtifact, ...]
    next: Next


class Holding(HeldWord, frozen=True):
    """A manifest that a registry holds whole, and the last receipt that says so."""

    repository: str
    digest: Digest
    tags: tuple[str, ...]


class HoldingList(Body, frozen=True):
    """One page of what a registry holds, as far as receipts prove it."""

    channel: ChannelName
    registry: LoginServer
    holdings: tuple[Holding, ...]
    next: Next


class Standing(Body, frozen=True):
    """The content of a standing order, as it can be sent again."""

    channel: ChannelName
    audience: tuple[LoginServer, ...]
    expires_in_seconds: int
    referrers: str | tuple[str, ...]
    only_missing: bool
    schedule: str
    labels: dict[str, str]
    paused: bool
    artifacts: tuple[str, ...] | UnsetType = UNSET
    select: tuple[dict[str, Any], ...] | UnsetType = UNSET
    exclude: tuple[str, ...] | UnsetType = UNSET


class LastRun(Body, frozen=True):
    """The last transfer that a standing order was placed as."""

    time: Time
    transfer_id: TransferId
    state: TransferState
    links: SelfLink


class StandingOrder(Body, frozen=True):
    """A standing order: its content, the last transfer, and when the next one is due."""

    name: str
    state: OrderState
    created_at: Time
    updated_at: Time
    order: Standing
    next: Time | None
    last: LastRun | None
    history: tuple[Step, ...]
    links: SelfLink


class StandingOrderLine(Body, frozen=True):
    """One line of the list of standing orders."""

    name: str
    state: OrderState
    channel: str | None
    created_at: Time
    updated_at: Time
    links: SelfLink


class StandingOrderList(Body, frozen=True):
    """One page of standing orders, newest first."""

    orders: tuple[StandingOrderLine, ...]
    next: Next
