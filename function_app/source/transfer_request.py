"""The order of a transfer, as ``POST /api/transfers`` takes it: read strictly, all faults told at once."""

import hashlib
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from airgap.division import MAX_REFERENCES
from airgap.fields import CHANNEL, LOGIN_SERVER
from airgap.manifest import MAX_AUDIENCE, REFERENCE
from airgap.preflight import Finding, Terms
from function_app.http.faults import CHANNEL_IN_WORDS, MISSING, Faults, Path
from function_app.http.json_body import read_object, require_model
from function_app.source.bodies import DEFAULT_EXPIRY_S, KIND_PATTERN, MAX_EXPIRY_S, MIN_EXPIRY_S, Order
from function_app.source.referrers import ALL, MAX_KINDS, NONE
from function_app.source.selection import Selector, read_exclusions, read_selectors
from function_app.source.wire import RequestDocument

MAX_BODY_BYTES = 8 * 1024 * 1024
KEY_HEADER = "Idempotency-Key"

_KEY = re.compile(r"[ -~]{1,128}")
MEMBERS = (
    *("artifacts", "select", "exclude", "channel", "audience"),
    *("expiresInSeconds", "referrers", "dryRun", "onlyMissing"),
)
_KIND = re.compile(KIND_PATTERN)
_MAX_REFERENCE_CHARACTERS = 512
_REFERENCE_IN_WORDS = (
    "REPOSITORY:TAG or REPOSITORY@sha256:DIGEST, the repository in lower case, without the registry's name"
)
_SERVER_IN_WORDS = (
    "the login server of the target registry, such as name.azurecr.io: lower case, without https"
)


_KIND_IN_WORDS = "a kind of referrer by its artifactType, such as application/vnd.cncf.notary.signature"


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferRequest:
    """A request for a transfer: what, to whom, how long the bundle is good for, and which referrers go along.

    Artifacts are named, or selected, or both; what ``exclude`` covers is not selected.
    """

    artifacts: tuple[str, ...]
    channel: str
    audience: tuple[str, ...]
    expires_in_s: int
    referrers: str | tuple[str, ...] = ALL
    select: tuple[Selector, ...] = ()
    exclude: tuple[str, ...] = ()
    is_dry_run: bool = False
    """Whether nothing is exported: the transfer ends with its plan."""
    only_missing: bool = False
    """Whether what every registry of the audience holds already is left out."""

    @classmethod
    def from_bytes(cls, body: bytes, faults: Faults | None = None) -> "TransferRequest":
        """Read a request body.

        Args:
            body: the bytes as they were received.
            faults: the faults of the rest of the request, which are told with the body's own.

        Raises:
            RequestRefusedError: ``REQUEST_INVALID``, naming every field at fault; ``is_too_large`` where the
                body has more than 8 MiB.
        """
        faults = faults or Faults()
        raw = read_object(body, faults, max_bytes=MAX_BODY_BYTES)
        request = cls.from_members(raw, faults)
        faults.add_unknown_members(raw, MEMBERS)
        require_model(raw, Order, faults)
        return request

    @classmethod
    def from_members(cls, raw: Mapping[str, Any], faults: Faults) -> "TransferRequest":
        """Read the members that say what is transferred, and note what is at fault; pass others over."""
        return cls(
            artifacts=_read_artifacts(raw, faults),
            channel=_read_channel(raw.get("channel", MISSING), faults),
            audience=_read_audience(raw.get("audience", MISSING), faults),
            expires_in_s=_read_expiry(raw.get("expiresInSeconds", DEFAULT_EXPIRY_S), faults),
            referrers=_read_referrers(raw.get("referrers", ALL), faults),
            select=read_selectors(raw.get("select", MISSING), faults),
            exclude=_read_exclude(raw, faults),
            is_dry_run=read_flag("dryRun", raw, faults),
            only_missing=read_flag("onlyMissing", raw, faults),
        )

    def to_json(self) -> dict[str, Any]:
        """The JSON object of :class:`RequestDocument`, as an orchestration's input carries it."""
        return self.to_document().to_json()

    def to_document(self) -> RequestDocument:
        """The request as the transfer's working documents have it."""
        return RequestDocument(
            artifacts=self.artifacts,
            channel=self.channel,
            audience=self.audience,
            expires_in_seconds=self.expires_in_s,
            referrers=self.referrers,
            select=tuple(selector.to_json() for selector in self.select),
            exclude=self.exclude,
            dry_run=self.is_dry_run,
            only_missing=self.only_missing,
        )

    @property
    def terms(self) -> Terms:
        """The terms by which the trust policy judges the request."""
        return Terms(
            channel=self.channel,
            audience=self.audience,
            repositories=[re.split("[:@]", one, maxsplit=1)[0] for one in self.artifacts],
            good_for=timedelta(seconds=self.expires_in_s),
        )

    def refuse_findings(self, findings: Iterable[Finding]) -> None:
        """Refuse the request if the target would refuse its bundle.

        Raises:
            RequestRefusedError: ``REQUEST_INVALID``, naming the field of each finding.
        """
        faults, said = Faults(), self.to_json()
        for finding in findings:
            name, *index = finding.path
            given = said[str(name)]
            faults.add("body", finding.path, given[index[0]] if index else given, finding.wanted)
        faults.refuse_any()

    @property
    def sha256(self) -> str:
        """The hex SHA-256 of the canonical request: equal for the same request, whatever its spelling."""
        return self.to_document().order_sha256


def read_order(body: bytes, headers: Mapping[str, str], params: Mapping[str, str]) -> TransferRequest:
    """Read the order of a whole request: query, headers and body are judged together.

    Raises:
        RequestRefusedError: ``REQUEST_INVALID``, naming every fault of each of them.
    """
    faults = Faults().add_unknown_parameters(params)
    key = headers.get(KEY_HEADER)
    if key is not None and not _KEY.fullmatch(key):
        faults.add("header", (KEY_HEADER,), key, "1 to 128 printable ASCII characters")
    return TransferRequest.from_bytes(body, faults)


def transfer_id_for(idempotency_key: str | None, pipeline_resource_id: str) -> str:
    """The id for a transfer: 32 hex digits, random, or derived from the key so that a repeat has the same.

    The export pipeline's ARM id goes in too: two sources that use the same key must not meet at one target.
    """
    if idempotency_key is None:
        return uuid.uuid4().hex
    return hashlib.sha256(f"{pipeline_resource_id}\0{idempotency_key}".encode()).hexdigest()[:32]


def _read_artifacts(body: Mapping[str, Any], faults: Faults) -> tuple[str, ...]:
    """The references that are named; none have to be where some are selected."""
    path: Path = ("artifacts",)
    raw = body.get("artifacts", MISSING)
    if raw is MISSING and "select" in body:
        return ()
    if type(raw) is not list or not 1 <= len(raw) <= MAX_REFERENCES:
        faults.add("body", path, raw, f"an array of 1 to {MAX_REFERENCES} references")
        return ()
    first: dict[str, int] = {}
    for index, one in enumerate(raw):
        if type(one) is not str or len(one) > _MAX_REFERENCE_CHARACTERS or not REFERENCE.fullmatch(one):
            faults.add("body", (*path, index), one, _REFERENCE_IN_WORDS)
        elif one in first:
            where = f"artifacts[{first[one]}]"
            faults.add(
                "body", (*path, index), one, f"each reference once; this one occurs at {where} already"
            )
        else:
            first[one] = index
    return tuple(first)


def _read_channel(raw: Any, faults: Faults) -> str:
    if type(raw) is not str or not CHANNEL.fullmatch(raw):
        faults.add("body", ("channel",), raw, CHANNEL_IN_WORDS)
        return ""
    return raw


def _read_audience(raw: Any, faults: Faults) -> tuple[str, ...]:
    """One login server, or an array of them."""
    path: Path = ("audience",)
    if raw is MISSING or type(raw) not in (str, list):
        faults.add("body", path, raw, f"{_SERVER_IN_WORDS}; or an array of 1 to {MAX_AUDIENCE} of them")
        return ()
    if type(raw) is list and not 1 <= len(raw) <= MAX_AUDIENCE:
        faults.add("body", path, raw, f"one login server, or an array of 1 to {MAX_AUDIENCE} of them")
        return ()
    for index, one in enumerate(raw if type(raw) is list else [raw]):
        if type(one) is not str or not LOGIN_SERVER.fullmatch(one):
            faults.add("body", (*path, index) if type(raw) is list else path, one, _SERVER_IN_WORDS)
    return tuple(raw) if type(raw) is list else (raw,)


def _read_referrers(raw: Any, faults: Faults) -> str | tuple[str, ...]:
    """``all``, ``none``, or the kinds that are wanted."""
    path: Path = ("referrers",)
    if raw in (ALL, NONE):
        return str(raw)
    if type(raw) is not list or not 1 <= len(raw) <= MAX_KINDS:
        faults.add("body", path, raw, f'"{ALL}", "{NONE}", or an array of 1 to {MAX_KINDS} kinds')
        return ALL
    for index, one in enumerate(raw):
        if type(one) is not str or not _KIND.fullmatch(one):
            faults.add("body", (*path, index), one, _KIND_IN_WORDS)
        elif one in raw[:index]:
            faults.add("body", (*path, index), one, "each kind once")
    return tuple(raw)


def _read_exclude(body: Mapping[str, Any], faults: Faults) -> tuple[str, ...]:
    if "exclude" in body and "select" not in body:
        faults.add(
            "body", ("exclude",), body["exclude"], "nothing, where there is no select to leave it out of"
        )
        return ()
    return read_exclusions(body.get("exclude", MISSING), faults)


def read_flag(name: str, body: Mapping[str, Any], faults: Faults) -> bool:
    """Whether a member of the body is ``true``; ``False`` without it, and a fault if it is no boolean."""
    raw = body.get(name, False)
    if type(raw) is not bool:
        faults.add("body", (name,), raw, "true or false")
        return False
    return raw


def _read_expiry(raw: Any, faults: Faults) -> int:
    if type(raw) is not int or not MIN_EXPIRY_S <= raw <= MAX_EXPIRY_S:
        wanted = f"a whole number of seconds from {MIN_EXPIRY_S} to {MAX_EXPIRY_S}, without quotes"
        faults.add("body", ("expiresInSeconds",), raw, wanted)
        return DEFAULT_EXPIRY_S
    return raw
