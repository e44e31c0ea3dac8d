"""The body of ``POST /api/transfers``: read strictly, every field at fault named at once."""

import hashlib
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from airgap import fields
from airgap.errors import AirgapError, Code, OperatorError, UntrustedInputError
from airgap.manifest import MAX_ARTIFACTS, MAX_AUDIENCE, REFERENCE
from airgap.strict_json import dump_canonical, load_strict

T = TypeVar("T")

MAX_BODY_BYTES = 1024 * 1024
DEFAULT_EXPIRY_S = 30 * 24 * 3600
MIN_EXPIRY_S = 60
MAX_EXPIRY_S = 20 * 366 * 24 * 3600
_KEY = re.compile(r"[ -~]{1,128}")
_READ = fields.FieldReader(Code.REQUEST_INVALID)
_REQUIRED = ("artifacts", "channel", "audience")
_OPTIONAL = ("expiresInSeconds",)


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field of a request body, by its path, and what is wrong with it."""

    field: str
    message: str


class RequestRefusedError(OperatorError):
    """A request body that is not accepted, with every field at fault."""

    def __init__(self, errors: tuple[FieldError, ...], *, is_too_large: bool = False) -> None:
        super().__init__(Code.REQUEST_INVALID, "; ".join(f"{e.field}: {e.message}" for e in errors))
        self.errors = errors
        self.is_too_large = is_too_large

    def __reduce__(self) -> Any:
        """Survive a process pool, as the base class does."""
        return type(self), (self.errors,)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferRequest:
    """What shall be transferred, to whom, and how long the bundle is good for."""

    artifacts: tuple[str, ...]
    channel: str
    audience: tuple[str, ...]
    expires_in_s: int

    @classmethod
    def from_bytes(cls, body: bytes) -> "TransferRequest":
        """Read a request body.

        Raises:
            RequestRefusedError: ``REQUEST_INVALID``, naming every field at fault; ``is_too_large`` where the
                body has more than 1 MiB (``TOO_LARGE`` of the strict reader).
        """
        try:
            raw = load_strict(body, max_bytes=MAX_BODY_BYTES, code=Code.MANIFEST_MALFORMED)
        except UntrustedInputError as error:
            refusal = FieldError("body", error.detail)
            raise RequestRefusedError((refusal,), is_too_large=error.code is Code.TOO_LARGE) from None
        if type(raw) is not dict:
            raise RequestRefusedError((FieldError("body", "not a JSON object"),))
        errors = [FieldError(name, "missing") for name in _REQUIRED if name not in raw]
        errors += [
            FieldError(name[:100], "unknown field") for name in raw if name not in (*_REQUIRED, *_OPTIONAL)
        ]

        def member(name: str, read: Callable[[Any, str], T], default: T) -> T:
            if name not in raw:
                return default
            try:
                return read(raw[name], name)
            except AirgapError as error:
                where, _, why = error.detail.partition(": ")
                errors.append(FieldError(where, why))
                return default

        request = cls(
            artifacts=member("artifacts", _artifacts, ()),
            channel=member("channel", _channel, ""),
            audience=member("audience", _audience, ()),
            expires_in_s=member("expiresInSeconds", _expiry, DEFAULT_EXPIRY_S),
        )
        if errors:
            raise RequestRefusedError(tuple(errors))
        return request

    def to_json(self) -> dict[str, Any]:
        """The request as an orchestration's input carries it."""
        return {
            "artifacts": list(self.artifacts),
            "channel": self.channel,
            "audience": list(self.audience),
            "expiresInSeconds": self.expires_in_s,
        }

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of the canonical request: equal for the same request, whatever its spelling."""
        return hashlib.sha256(dump_canonical(self.to_json())).hexdigest()


def transfer_id_for(idempotency_key: str | None, pipeline_resource_id: str) -> str:
    """The transfer id: 32 hex digits, random, or derived from the key so that a repeat meets its transfer.

    The export pipeline's ARM id goes in too: two sources that use the same key must not meet at one target.

    Raises:
        RequestRefusedError: the key is not 1 to 128 printable ASCII characters.
    """
    if idempotency_key is None:
        return uuid.uuid4().hex
    if not _KEY.fullmatch(idempotency_key):
        raise RequestRefusedError((FieldError("Idempotency-Key", "not 1 to 128 printable ASCII characters"),))
    return hashlib.sha256(f"{pipeline_resource_id}\0{idempotency_key}".encode()).hexdigest()[:32]


def _artifacts(raw: Any, where: str) -> tuple[str, ...]:
    references = _READ.items(
        raw,
        where,
        lambda one, at: _READ.text(one, at, pattern=REFERENCE, limit=512),
        least=1,
        most=MAX_ARTIFACTS,
    )
    seen: set[str] = set()
    for index, reference in enumerate(references):
        if reference in seen:
            _READ.refuse(f"{where}[{index}]", f"{reference} occurs twice")
        seen.add(reference)
    return references


def _channel(raw: Any, where: str) -> str:
    return _READ.text(raw, where, pattern=fields.CHANNEL)


def _audience(raw: Any, where: str) -> tuple[str, ...]:
    def server(one: Any, at: str) -> str:
        return _READ.text(one, at, pattern=fields.LOGIN_SERVER)

    if type(raw) is str:
        return (server(raw, where),)
    return _READ.items(raw, where, server, least=1, most=MAX_AUDIENCE)


def _expiry(raw: Any, where: str) -> int:
    return _READ.integer(raw, where, least=MIN_EXPIRY_S, most=MAX_EXPIRY_S)
