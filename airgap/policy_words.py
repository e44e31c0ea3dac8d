"""A trust policy in words, one rule a line, so that two of them can be compared line by line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from airgap.fields import format_time
from airgap.policy import Channel, Role, TrustPolicy


def describe(policy: TrustPolicy) -> tuple[str, ...]:
    """Every rule of a policy in words, a line each: who may sign what, for whom, until when.

    The same policy gives the same lines in the same order, so that two versions can be compared.
    """
    return tuple(_lines(policy))


def changes(before: TrustPolicy, after: TrustPolicy) -> tuple[str, ...]:
    """The rules that only one of two policies has, one a line: ``-`` of ``before``, ``+`` of ``after``."""
    old, new = describe(before), describe(after)
    gone = tuple(f"- {line}" for line in old if line not in new)
    return gone + tuple(f"+ {line}" for line in new if line not in old)


def _lines(policy: TrustPolicy) -> Iterator[str]:
    yield f"good until {format_time(policy.expires_at)}"
    if not policy.policy_roles:
        yield "the next version: nobody may sign it, it is pinned by hand"
    yield from _roles("the next version", policy.policy_roles, policy)
    for name, channel in sorted(policy.channels.items()):
        yield from (f"channel {name}, {line}" for line in _channel(channel, policy))
    for keyid, key in sorted(policy.keys.items(), key=lambda pair: (pair[1].holder, pair[0])):
        since = f", revoked from {format_time(policy.revoked[keyid])} on" if keyid in policy.revoked else ""
        yield f"key of {key.holder}: {key.public_key.scheme} {keyid}{since}"


def _channel(channel: Channel, policy: TrustPolicy) -> Iterator[str]:
    yield f"for: {', '.join(sorted(channel.audience))}"
    yield f"carries: {', '.join(sorted(channel.repositories))}"
    yield from _roles("bundles", channel.bundle_roles, policy)
    yield from _roles("receipts", channel.receipt_roles, policy)
    yield from _roles("releases", channel.release_roles, policy)
    yield from _roles("overrides", channel.override_roles, policy)
    yield from _roles("answers of the check", channel.check_roles, policy)
    yield f"at most {int(channel.max_age.total_seconds())} s old, clocks {_seconds(channel)} s apart"
    yield f"order {channel.order.value}, gaps {channel.on_gap.value}, jumps of {channel.max_sequence_jump}"


def _seconds(channel: Channel) -> int:
    return int(channel.clock_skew.total_seconds())


def _roles(what: str, roles: Mapping[str, Role], policy: TrustPolicy) -> Iterator[str]:
    for name, role in sorted(roles.items()):
        keys = sorted(f"{policy.keys[keyid].holder} ({keyid[:8]})" for keyid in role.keyids)
        each = sorted(role.required_algorithms)
        using = f", each with {' and '.join(each)}" if each else ""
        yield f"{what}: {role.threshold} of {name} signs: {', '.join(keys)}{using}"
