"""The trust policy: whose signatures count, for which channel, under which conditions.

A closed JSON document, pinned at the target and carried by the operator's tool; ``docs/format.md`` §5. It can
only restrict: without a channel, a role, a key and a threshold of at least one, nothing is ever accepted.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, unique
from typing import Any, Self

from airgap import fields
from airgap.errors import Code, PolicyRefusal, UntrustedInputError
from airgap.fields import format_time
from airgap.keys import SCHEMES, public_key_from_pem
from airgap.repositories import PATTERN, covers
from airgap.signatures import SSlibKey
from airgap.strict_json import dump_canonical, load_strict
from airgap.versions import Format

MAX_POLICY_BYTES = 256 * 1024
MAX_KEYS = 100
MAX_VERSION = 99_999_999
"""Of a policy: it stands in names with eight digits, where sequence numbers have sixteen."""
MAX_SKEW_S = 24 * 3600
MAX_SEQUENCE_JUMP = 1_000_000
_MAX_AUDIENCE = 100
_MAX_REPOSITORIES = 100
MAX_HOLDER_CHARACTERS = 64
_MAX_ALGORITHMS = 10
_MAX_AGE_S = 20 * 366 * 24 * 3600
_ROLE = re.compile(r"[a-z][a-z0-9-]{0,31}")
_READ = fields.FieldReader(Code.POLICY_MALFORMED)


@unique
class Order(Enum):
    """The order in which a channel takes numbers: rising only, or any; each number only once in any case."""

    ANY = "any"
    """The numbers of a channel may come in any order."""
    RISING = "rising"
    """Only a number above all that were taken."""


@unique
class OnGap(Enum):
    """The treatment of a bundle while a number before its own is missing."""

    RECORD = "record"
    """It is taken, and its receipt names the missing numbers."""
    HOLD = "hold"
    """It waits until they came or were given up; where nothing can wait it is refused."""
    REFUSE = "refuse"
    """It is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKey:
    """A public key, and the person, team or service that holds its private key.

    Who holds two keys is still one: thresholds count holders, and roles are kept apart by them.
    """

    holder: str
    public_key: SSlibKey

    def __post_init__(self) -> None:
        _READ.text(self.holder, "holder", limit=MAX_HOLDER_CHARACTERS)

    @classmethod
    def from_json(cls, raw: Any, where: str) -> Self:
        """Read one element of ``keys``; refuses with ``POLICY_MALFORMED``."""
        value = _READ.members(raw, where, "holder", "publicKey")
        if type(value["publicKey"]) is not str:
            _READ.refuse(f"{where}.publicKey", "not a PEM public key")
        with _READ.within(where):
            return cls(holder=value["holder"], public_key=public_key_from_pem(value["publicKey"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A role: the keys that are in it, how many of their holders must sign, and with which algorithms.

    Not checked here: whether the policy has these keys, and enough holders of keys of those kinds;
    :class:`TrustPolicy` does.
    """

    threshold: int
    keyids: frozenset[str]
    required_algorithms: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if _READ.integer(self.threshold, "threshold", least=1) > len(self.keyids):
            _READ.refuse("threshold", "more than there are keys")
        if not self.required_algorithms <= SCHEMES:
            _READ.refuse("requiredAlgorithms", f"not among {', '.join(sorted(SCHEMES))}")

    @classmethod
    def from_json(cls, raw: Any, where: str) -> Self:
        """Read the object ``{"threshold", "keyids"}``, perhaps with ``requiredAlgorithms``.

        Raises:
            PolicyRefusal: ``POLICY_MALFORMED``, naming the field at fault.
        """
        value = _READ.members(raw, where, "threshold", "keyids", optional=("requiredAlgorithms",))
        with _READ.within(where):
            return cls(
                threshold=value["threshold"],
                keyids=_read_set(value["keyids"], "keyids", most=MAX_KEYS),
                required_algorithms=_read_set(
                    value.get("requiredAlgorithms", []), "requiredAlgorithms", most=_MAX_ALGORITHMS
                ),
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A channel of the trust policy: who must sign its bundles, for whom they are, what they may carry.

    ``bundle_roles`` sign bundle manifests, ``receipt_roles`` receipts; ``release_roles`` must release a
    verified bundle at the target before it is imported; ``override_roles`` may lift rules of time and order
    for one bundle (:mod:`airgap.override`). ``check_roles``, each of the name of a check, must sign that
    check's answer (:mod:`airgap.signed_check`). ``repositories`` are patterns: see
    :mod:`airgap.repositories`. A bundle's number is at most ``max_sequence_jump`` above the highest taken.
    """

    audience: frozenset[str]
    repositories: frozenset[str]
    bundle_roles: Mapping[str, Role]
    receipt_roles: Mapping[str, Role]
    release_roles: Mapping[str, Role]
    override_roles: Mapping[str, Role]
    check_roles: Mapping[str, Role]
    max_age: timedelta
    clock_skew: timedelta
    order: Order
    on_gap: OnGap
    max_sequence_jump: int

    def __post_init__(self) -> None:
        if not 1 <= len(self.audience) <= _MAX_AUDIENCE:
            _READ.refuse("audience", f"not 1 to {_MAX_AUDIENCE} login servers")
        for name in self.audience:
            _READ.text(name, "audience", pattern=fields.LOGIN_SERVER)
        if not 1 <= len(self.repositories) <= _MAX_REPOSITORIES:
            _READ.refuse("repositories", f"not 1 to {_MAX_REPOSITORIES} patterns")
        for pattern in self.repositories:
            _READ.text(pattern, "repositories", pattern=PATTERN, limit=255)
        if not self.bundle_roles:
            _READ.refuse("bundleRoles", "empty: such a channel could accept nothing")
        _check_roles(self.bundle_roles, "bundleRoles")
        _check_roles(self.receipt_roles, "receiptRoles")
        _check_roles(self.release_roles, "releaseRoles")
        _check_roles(self.override_roles, "overrideRoles")
        _check_roles(self.check_roles, "checkRoles")
        _check_seconds(self.max_age, "maxAgeSeconds", least=1, most=_MAX_AGE_S)
        _check_seconds(self.clock_skew, "clockSkewSeconds", least=0, most=MAX_SKEW_S)
        _check_choice(self.order, "order", Order)
        _check_choice(self.on_gap, "onGap", OnGap)
        if self.order is Order.ANY and self.on_gap is not OnGap.RECORD:
            _READ.refuse("onGap", "only record where numbers may come in any order")
        _READ.integer(self.max_sequence_jump, "maxSequenceJump", least=1, most=MAX_SEQUENCE_JUMP)

    def carries(self, repository: str) -> bool:
        """Whether a bundle of the channel may have artifacts of that repository."""
        return any(covers(pattern, repository) for pattern in self.repositories)

    @property
    def roles(self) -> dict[str, Role]:
        """All roles of the channel, by their place in it, such as ``bundleRoles.source``."""
        return {
            **_placed(self.bundle_roles, "bundleRoles"),
            **_placed(self.receipt_roles, "receiptRoles"),
            **_placed(self.release_roles, "releaseRoles"),
            **_placed(self.override_roles, "overrideRoles"),
            **_placed(self.check_roles, "checkRoles"),
        }

    @classmethod
    def from_json(cls, raw: Any, where: str) -> Self:
        """Read one member of ``channels``; refuses with ``POLICY_MALFORMED``."""
        value = _READ.members(
            raw,
            where,
            *("audience", "repositories", "bundleRoles", "maxAgeSeconds", "clockSkewSeconds"),
            *("order", "onGap", "maxSequenceJump"),
            optional=("receiptRoles", "releaseRoles", "overrideRoles", "checkRoles"),
        )
        with _READ.within(where):
            return cls(
                audience=_read_set(value["audience"], "audience", most=_MAX_AUDIENCE),
                repositories=_read_set(value["repositories"], "repositories", most=_MAX_REPOSITORIES),
                bundle_roles=_read_roles(value["bundleRoles"], "bundleRoles"),
                receipt_roles=_read_roles(value.get("receiptRoles", {}), "receiptRoles"),
                release_roles=_read_roles(value.get("releaseRoles", {}), "releaseRoles"),
                override_roles=_read_roles(value.get("overrideRoles", {}), "overrideRoles"),
                check_roles=_read_roles(value.get("checkRoles", {}), "checkRoles"),
                max_age=_read_seconds(value["maxAgeSeconds"], "maxAgeSeconds"),
                clock_skew=_read_seconds(value["clockSkewSeconds"], "clockSkewSeconds"),
                order=_read_choice(value["order"], Order),
                on_gap=_read_choice(value["onGap"], OnGap),
                max_sequence_jump=value["maxSequenceJump"],
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustPolicy:
    """A trust policy: keys by their ids, and channels by their names.

    Args:
        version: the number of this policy's content, from 1; the next policy has a higher one. Only its form
            is checked here; :mod:`airgap.policy_chain` sees to it that each follows the one before.
        expires_at: the time (aware) from which nothing is accepted by it any more, so that somebody looks at
            it by then.
        keys: every key that any role names.
        revoked: the time (aware) from which a key counts no more, by key id.
        policy_roles: who may sign the next version; empty where the policy is pinned by hand.
        channels: at least one.
        document: the JSON that it was read from, in its one canonical form (RFC 8785).

    Raises:
        PolicyRefusal: ``POLICY_MALFORMED``, naming the field: also for a policy that could accept nothing.
    """

    version: int
    expires_at: datetime
    keys: Mapping[str, TrustedKey]
    revoked: Mapping[str, datetime]
    policy_roles: Mapping[str, Role]
    channels: Mapping[str, Channel]
    document: bytes

    def __post_init__(self) -> None:
        _READ.integer(self.version, "version", least=1, most=MAX_VERSION)
        _READ.moment(self.expires_at, "expiresAt")
        for keyid, moment in self.revoked.items():
            if keyid not in self.keys:
                _READ.refuse("revoked", f"{str(keyid)[:80]} is not among the keys")
            _READ.moment(moment, "revoked.from")
        _check_roles(self.policy_roles, "policyRoles")
        if not self.channels:
            _READ.refuse("channels", "empty: such a policy could accept nothing")
        for name, channel in self.channels.items():
            _READ.text(name, "channels", pattern=fields.CHANNEL)
            _READ.instance(channel, f"channels.{name}", Channel)
        named = keyids_of(self.policy_roles, *(channel.roles for channel in self.channels.values()))
        if unknown := sorted(named - self.keys.keys()):
            _READ.refuse("keyids", f"{unknown[0]} is not among the keys")
        self._check_holders()

    def _check_holders(self) -> None:
        """Each role can be filled, and nobody stands in two that are there to check each other."""
        self._check_roles(_placed(self.policy_roles, "policyRoles"))
        for name, channel in self.channels.items():
            with _READ.within(f"channels.{name}"):
                self._check_roles(channel.roles)
        both = self._holders(*(channel.bundle_roles for channel in self.channels.values())) & self._holders(
            *(channel.receipt_roles for channel in self.channels.values())
        )
        if both:
            _READ.refuse("receiptRoles", f"{min(both)} signs bundles as well")

    def _check_roles(self, roles: Mapping[str, Role]) -> None:
        seen: set[str] = set()
        for where, role in roles.items():
            schemes = schemes_by_holder(self.keys[keyid] for keyid in role.keyids)
            able = [one for one in schemes.values() if one >= role.required_algorithms]
            if role.threshold > len(able):
                _READ.refuse(f"{where}.threshold", "more than there are holders of the keys it asks for")
            if twice := seen & schemes.keys():
                _READ.refuse(where, f"{min(twice)} stands in another role, too")
            seen |= schemes.keys()

    def _holders(self, *groups: Mapping[str, Role]) -> set[str]:
        return {self.keys[keyid].holder for keyid in keyids_of(*groups)}

    @property
    def sha256(self) -> str:
        """The hex SHA-256 of the canonical document: spaces and the order of members do not count."""
        return hashlib.sha256(self.document).hexdigest()

    def require_in_force(self, now: datetime) -> None:
        """Refuse a policy that has expired, without tolerance: a clock skew is for what others wrote.

        Raises:
            PolicyRefusal: ``POLICY_EXPIRED``: that time has come.
        """
        if now >= self.expires_at:
            raise PolicyRefusal(
                Code.POLICY_EXPIRED, f"version {self.version}, expired at {format_time(self.expires_at)}"
            )

    def keys_in_force(self, now: datetime) -> Mapping[str, TrustedKey]:
        """The keys that are not revoked at ``now``, by key id.

        The time in a signed document is what its signer wrote there, so whoever has a stolen key dates back
        as he likes. Hence not the document's time is compared but the present one: from its time on a revoked
        key counts for nothing at all, what it signed before included, and no clock skew is allowed for.
        """
        return {
            keyid: key
            for keyid, key in self.keys.items()
            if keyid not in self.revoked or now < self.revoked[keyid]
        }

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read a trust policy from its JSON document.

        Raises:
            PolicyRefusal: ``POLICY_MALFORMED``, naming the field; also for an empty policy.
            UntrustedInputError: ``NEWER_FORMAT``: a newer tool wrote it.
        """
        try:
            value = load_strict(raw, max_bytes=MAX_POLICY_BYTES, code=Code.POLICY_MALFORMED)
        except UntrustedInputError as error:  # too large
            raise PolicyRefusal(Code.POLICY_MALFORMED, error.detail) from None
        return cls.from_json(value)

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        """Read a trust policy from a value that strict JSON was read into; raises as :meth:`from_bytes`."""
        return cls(**_FORMAT.of_document(raw)(raw), document=dump_canonical(raw))


def _read_v1(raw: Any) -> dict[str, Any]:
    """The arguments of :class:`TrustPolicy`; its constructor checks them."""
    value = _READ.members(
        raw,
        "policy",
        *("schema", "version", "expiresAt", "keys", "channels"),
        optional=("policyRoles", "revoked"),
    )
    if type(value["channels"]) is not dict:
        _READ.refuse("channels", "not an object")
    revoked = _READ.items(value.get("revoked", []), "revoked", _read_revoked, most=MAX_KEYS)
    if len(dict(revoked)) != len(revoked):
        _READ.refuse("revoked", "a key occurs twice")
    keys = _READ.items(value["keys"], "keys", TrustedKey.from_json, most=MAX_KEYS)
    by_id = {key.public_key.keyid: key for key in keys}
    if len(by_id) != len(keys):
        _READ.refuse("keys", "a key occurs twice")
    return {
        "version": value["version"],
        "expires_at": _READ.time(value["expiresAt"], "expiresAt"),
        "keys": by_id,
        "revoked": dict(revoked),
        "policy_roles": _read_roles(value.get("policyRoles", {}), "policyRoles"),
        "channels": {
            name: Channel.from_json(channel, f"channels.{name}")
            for name, channel in value["channels"].items()
        },
    }


_FORMAT = Format(name="trust policy", read=_READ, readers={1: _read_v1})


def _read_revoked(raw: Any, where: str) -> tuple[str, datetime]:
    value = _READ.members(raw, where, "keyid", "from")
    return _READ.text(value["keyid"], f"{where}.keyid"), _READ.time(value["from"], f"{where}.from")


def _read_roles(raw: Any, where: str) -> dict[str, Role]:
    if type(raw) is not dict:
        _READ.refuse(where, "not an object")
    return {name: Role.from_json(role, f"{where}.{name}") for name, role in raw.items()}


def _check_roles(roles: Mapping[str, Role], where: str) -> None:
    for name, role in roles.items():
        _READ.text(name, where, pattern=_ROLE)
        _READ.instance(role, f"{where}.{name}", Role)


def schemes_by_holder(keys: Iterable[TrustedKey]) -> dict[str, set[str]]:
    """The algorithms of the keys that each holder has, by holder."""
    schemes: dict[str, set[str]] = {}
    for key in keys:
        schemes.setdefault(key.holder, set()).add(key.public_key.scheme)
    return schemes


def _placed(roles: Mapping[str, Role], where: str) -> dict[str, Role]:
    return {f"{where}.{name}": role for name, role in roles.items()}


def keyids_of(*groups: Mapping[str, Role]) -> frozenset[str]:
    """The ids of all keys that are in these roles."""
    return frozenset(keyid for roles in groups for role in roles.values() for keyid in role.keyids)


def _read_set(raw: Any, where: str, *, most: int) -> frozenset[str]:
    return frozenset(_READ.items(raw, where, _READ.text, most=most))


def _read_choice(raw: Any, kind: type[Enum]) -> Any:
    """The choice of that word; the word itself where there is none, for the constructor to refuse."""
    return next((choice for choice in kind if choice.value == raw), raw)


def _check_choice(value: Any, where: str, kind: type[Enum]) -> None:
    if type(value) is not kind:
        _READ.refuse(where, f"not one of {', '.join(choice.value for choice in kind)}")


def _read_seconds(raw: Any, where: str) -> timedelta:
    """Some seconds, few enough for a :class:`timedelta`; the constructor knows how many are allowed."""
    return timedelta(seconds=_READ.integer(raw, where, most=_MAX_AGE_S))


def _check_seconds(value: timedelta, where: str, *, least: int, most: int) -> None:
    seconds = value / timedelta(seconds=1)
    _READ.integer(int(seconds) if seconds.is_integer() else None, where, least=least, most=most)
