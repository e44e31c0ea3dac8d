"""The source's check of an order, before anything is exported, against what the target would refuse.

The source has a trust policy of its own, as the target and the operators do. An order that a bundle of its
channel cannot fulfil is told all its faults at once, instead of a refusal weeks later, beyond the gap.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from airgap.cosigning import roles_of_people
from airgap.errors import Code, PolicyRefusal
from airgap.policy import Channel, TrustPolicy
from airgap.verify import count_roles


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The terms of an order, as far as the trust policy has a say in them.

    ``repositories`` has one element for each reference that was ordered, in order.
    """

    channel: str
    audience: Sequence[str]
    repositories: Sequence[str]
    good_for: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A reason why the target would refuse a bundle of an order.

    Args:
        code: the code of its refusal.
        path: the name of the term at fault, and its index where there are several; empty where no term is.
        wanted: what would be accepted, in words.
    """

    code: Code
    path: tuple[str | int, ...]
    wanted: str


def judge_terms(policy: TrustPolicy, terms: Terms) -> tuple[Finding, ...]:
    """Everything for which the trust policy would refuse a bundle on these terms; empty if nothing.

    Every registry of the audience must be one that the channel serves: the target looks for its own name
    only, but one that is not served will refuse.
    """
    channel = policy.channels.get(terms.channel)
    if channel is None:
        wanted = f"a channel of the trust policy: {', '.join(sorted(policy.channels)[:20])}"
        return (Finding(code=Code.CHANNEL_UNKNOWN, path=("channel",), wanted=wanted),)
    return tuple(_judge(channel, terms))


def _judge(channel: Channel, terms: Terms) -> Iterator[Finding]:
    where = f"channel {terms.channel} of the trust policy"
    wanted = f"an artifact of a repository that {where} carries"
    for index, repository in enumerate(terms.repositories):
        if not channel.carries(repository):
            yield Finding(code=Code.REPOSITORY_REFUSED, path=("artifacts", index), wanted=wanted)
    for index, server in enumerate(terms.audience):
        if server not in channel.audience:
            wanted = f"a registry that {where} serves: {', '.join(sorted(channel.audience)[:20])}"
            yield Finding(code=Code.AUDIENCE_MISMATCH, path=("audience", index), wanted=wanted)
    if terms.good_for > channel.max_age:
        most = int(channel.max_age.total_seconds())
        wanted = f"at most {most} seconds, the maxAgeSeconds of {where}"
        yield Finding(code=Code.TOO_OLD, path=("expiresInSeconds",), wanted=wanted)


def judge_keys(
    policy: TrustPolicy, channel: str, keyids: Collection[str], *, now: datetime
) -> tuple[Finding, ...]:
    """Everything for which the trust policy would refuse a bundle that the source signs with these keys.

    The roles that one of these keys is in must be met by them at ``now``, and there must be one. Any other
    role is met by people later: it must be one that the keys in force can meet. A channel that the policy
    does not have is no finding here; :func:`judge_terms` tells it.
    """
    try:
        policy.require_in_force(now)
        in_force = policy.keys_in_force(now)
        valid = {keyid: key for keyid, key in in_force.items() if keyid in keyids}
        if (rules := policy.channels.get(channel)) is not None:
            by_people = roles_of_people(rules, keyids)
            own = {name: role for name, role in rules.bundle_roles.items() if name not in by_people}
            count_roles(valid, own or rules.bundle_roles)
            if by_people:
                count_roles(in_force, by_people)
    except PolicyRefusal as refusal:
        return (Finding(code=refusal.code, path=(), wanted=refusal.detail),)
    return ()
