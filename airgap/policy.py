"""The trust policy: whose signatures count, for which channel, under which conditions.

A closed JSON document, pinned at the target and carried by the operator's tool; ``docs/format.md`` §5. It can
only restrict: without a channel, a role, a key and a threshold of at least one, nothing is ever accepted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any, Self

from securesystemslib.signer import SSlibKey

from airgap import fields
from airgap.errors import Code, PolicyRefusal, UntrustedInputError
from airgap.keys import SCHEMES, public_key_from_pem
from airgap.strict_json import load_strict

MAX_POLICY_BYTES = 256 * 1024
MAX_SKEW_S = 24 * 3600
_MAX_AGE_S = 20 * 366 * 24 * 3600
_ROLE = re.compile(r"[a-z][a-z0-9-]{0,31}")
_READ = fields.FieldReader(Code.POLICY_MALFORMED)


class Order(Enum):
    """Which sequence numbers of a channel are accepted, given those accepted before."""

    ONCE = "once"
    """Each number once, in any order."""
    INCREASING = "increasing"
    """Only numbers above the highest; gaps are put on record."""
    CONTIGUOUS = "contiguous"
    """Only the next number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """How many of which keys must have signed."""

    threshold: int
    keyids: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """The conditions of one channel."""

    audience: frozenset[str]
    bundle_roles: Mapping[str, Role]
    receipt_roles: Mapping[str, Role]
    required_algorithms: frozenset[str]
    max_age: timedelta
    clock_skew: timedelta
    order: Order


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustPolicy:
    """Keys by key id and channels by name."""

    keys: Mapping[str, SSlibKey]
    channels: Mapping[str, Channel]

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read a trust policy.

        Raises:
            PolicyRefusal: ``POLICY_MALFORMED``, naming the field; also for an empty policy.
        """
        try:
            value = load_strict(raw, max_bytes=MAX_POLICY_BYTES, code=Code.MANIFEST_MALFORMED)
        except UntrustedInputError as error:
            raise PolicyRefusal(Code.POLICY_MALFORMED, error.detail) from None
        members = _READ.members(value, "policy", "schema", "keys", "channels")
        if members["schema"] != 1 or type(members["schema"]) is not int:
            _READ.refuse("schema", "this version reads schema 1 only")
        pems = _READ.items(members["keys"], "keys", _read_key, least=1, most=100)
        keys = {key.keyid: key for key in pems}
        channels = members["channels"]
        if type(channels) is not dict or not channels:
            _READ.refuse("channels", "empty: such a policy could accept nothing")
        return cls(
            keys=keys,
            channels={
                _READ.text(name, "channels", pattern=fields.CHANNEL): _read_channel(
                    channel, f"channels.{name}", keys
                )
                for name, channel in channels.items()
            },
        )


def _read_key(raw: Any, where: str) -> SSlibKey:
    if type(raw) is not str:
        _READ.refuse(where, "not a PEM public key")
    return public_key_from_pem(raw)


def _read_channel(raw: Any, where: str, keys: Mapping[str, SSlibKey]) -> Channel:
    value = _READ.members(
        raw,
        where,
        *("audience", "bundleRoles", "maxAgeSeconds", "clockSkewSeconds", "sequence"),
        optional=("receiptRoles", "requiredAlgorithms"),
    )
    bundle_roles = _read_roles(value["bundleRoles"], f"{where}.bundleRoles", keys)
    if not bundle_roles:
        _READ.refuse(f"{where}.bundleRoles", "empty: such a channel could accept nothing")
    algorithms = frozenset(
        _READ.items(value.get("requiredAlgorithms", []), f"{where}.requiredAlgorithms", _READ.text, most=10)
    )
    if not algorithms <= SCHEMES:
        _READ.refuse(f"{where}.requiredAlgorithms", f"not among {', '.join(sorted(SCHEMES))}")
    try:
        order = Order(value["sequence"])
    except ValueError:
        _READ.refuse(f"{where}.sequence", f"not one of {', '.join(o.value for o in Order)}")
    return Channel(
        audience=frozenset(
            _READ.items(
                value["audience"],
                f"{where}.audience",
                lambda name, at: _READ.text(name, at, pattern=fields.LOGIN_SERVER),
                least=1,
                most=100,
            )
        ),
        bundle_roles=bundle_roles,
        receipt_roles=_read_roles(value.get("receiptRoles", {}), f"{where}.receiptRoles", keys),
        required_algorithms=algorithms,
        max_age=timedelta(
            seconds=_READ.integer(value["maxAgeSeconds"], f"{where}.maxAgeSeconds", least=1, most=_MAX_AGE_S)
        ),
        clock_skew=timedelta(
            seconds=_READ.integer(value["clockSkewSeconds"], f"{where}.clockSkewSeconds", most=MAX_SKEW_S)
        ),
        order=order,
    )


def _read_roles(raw: Any, where: str, keys: Mapping[str, SSlibKey]) -> dict[str, Role]:
    """Roles with disjoint keys: one person's key must not speak for two."""
    if type(raw) is not dict:
        _READ.refuse(where, "not an object")
    roles = {
        _READ.text(name, where, pattern=_ROLE): _read_role(role, f"{where}.{name}", keys)
        for name, role in raw.items()
    }
    if sum(len(role.keyids) for role in roles.values()) != len(
        frozenset().union(*(role.keyids for role in roles.values()))
    ):
        _READ.refuse(where, "a key stands in two roles")
    return roles


def _read_role(raw: Any, where: str, keys: Mapping[str, SSlibKey]) -> Role:
    value = _READ.members(raw, where, "threshold", "keyids")
    keyids = frozenset(_READ.items(value["keyids"], f"{where}.keyids", _READ.text, least=1, most=100))
    if unknown := sorted(keyids - keys.keys()):
        _READ.refuse(f"{where}.keyids", f"{unknown[0][:80]} is not among the keys")
    threshold = _READ.integer(value["threshold"], f"{where}.threshold", least=1, most=100)
    if threshold > len(keyids):
        _READ.refuse(f"{where}.threshold", "more than there are keys")
    return Role(threshold=threshold, keyids=keyids)
