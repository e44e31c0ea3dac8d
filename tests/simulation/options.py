"""What a seed draws before it begins: how much of each fault, and how much work.

A run with a little of everything finds little: each seed leaves most kinds of faults out and has plenty of
the others, as FoundationDB's simulator and TigerBeetle's VOPR draw theirs ("swarm testing").
"""

import random
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """How probable each fault is, between 0 and 1, whenever it could happen."""

    crash: float = 0
    """Whoever makes a call of a port ends there, before it."""
    stall: float = 0
    """It goes on later: after seconds, or after others have taken it for dead."""
    impatience: float = 0
    """Somebody terminates, or purges, the orchestration of what is held up for long."""
    turn: float = 0
    """Something else goes first."""
    refusal: float = 0
    """A service does not answer, and nothing has happened."""
    lost_answer: float = 0
    """Something has happened, and its answer is lost."""
    twice: float = 0
    """An activity is delivered to a second worker as well."""
    lost_result: float = 0
    """An activity has ended, and nobody hears of it: it is delivered again."""
    late: float = 0
    """A message to an orchestration, or a timer, takes minutes."""
    event_lost: float = 0
    event_twice: float = 0
    event_late: float = 0
    skew: float = 0
    """A worker's clock is wrong by up to four minutes."""
    run_failed: float = 0
    """A pipeline run ends as failed, having brought what it was to bring or nothing."""

    @classmethod
    def draw(cls, chance: random.Random) -> Self:
        """Some of them: each is left out by more than half of all seeds."""
        most = {
            "crash": 0.01,
            "stall": 0.02,
            "impatience": 0.5,
            "turn": 0.5,
            "refusal": 0.03,
            "lost_answer": 0.03,
            "twice": 0.4,
            "lost_result": 0.1,
            "late": 0.2,
            "event_lost": 0.5,
            "event_twice": 0.6,
            "event_late": 0.5,
            "skew": 0.3,
            "run_failed": 0.3,
        }
        assert most.keys() == {field.name for field in fields(cls)}
        return cls(**{name: chance.choice((0.0, 0.0, 0.3, 1.0)) * limit for name, limit in most.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a seed is about.

    Args:
        faults: while they last.
        lasts: so long there are faults and attacks; then they stop, and all must come right.
        channels: how many.
        bundles: honest ones of each channel.
        attacks: how often the holder of the upload SAS does something.
        forks: how often a source signs another bundle with a number that it has signed before.
        outages: how often a service is away for a while.
        jumps: how often the clock jumps ahead, by an hour to three days.
        deaths: how often all workers end at once.
        interventions: how often somebody terminates or purges an orchestration.
        revocations: how often a source's key is revoked.
        intrusions: how often somebody who should not be able to writes into ``staging``.
        order: of the channels' numbers, as the policy has it.
        on_gap: likewise. Of those that are held for a number that never comes, none would come to rest.
        releases: so many of two officers must release each bundle; 0 for none.
        release_hours: so long there is time for it.
        checks: so many are asked about each bundle.
        is_staged: whether imports go through a staging registry.
        policies: how often the next version of the trust policy is brought.
        rollbacks: how often somebody takes the newest one away.
        permissions: how often a bundle that is past its time gets a permission, or one that does not count.
        copy_polls: so often the storage says that it is still copying.
        at_once: runs, and hashes, of a bundle at the same time.
    """

    faults: Faults
    lasts: timedelta
    channels: int
    bundles: int
    attacks: int
    forks: int
    outages: int
    jumps: int
    deaths: int
    interventions: int
    revocations: int
    intrusions: int
    order: str
    on_gap: str
    releases: int
    release_hours: int
    checks: int
    is_staged: bool
    policies: int
    rollbacks: int
    permissions: int
    copy_polls: int
    at_once: int

    @classmethod
    def draw(cls, chance: random.Random) -> Self:
        """A seed's own."""

        def often(most: int) -> int:
            return chance.choice((0, 0, 1, chance.randint(1, most)))

        return cls(
            faults=Faults.draw(chance),
            lasts=timedelta(hours=chance.choice((1, 3, 12))),
            channels=chance.randint(1, 3),
            bundles=chance.randint(1, 2),
            attacks=chance.choice((0, 2, 4, 8)),
            forks=chance.choice((0, 0, 2)),
            outages=often(3),
            jumps=often(2),
            deaths=often(4),
            interventions=often(5),
            revocations=chance.choice((0, 0, 1)),
            intrusions=chance.choice((0, 0, 0, 2)),
            order=chance.choice(("any", "any", "rising")),
            on_gap="record",
            releases=chance.choice((0, 0, 0, 1, 2)),
            release_hours=chance.choice((1, 24, 7 * 24)),
            checks=chance.choice((0, 0, 0, 1, 2)),
            is_staged=chance.choice((False, False, True)),
            policies=often(3),
            rollbacks=chance.choice((0, 0, 1)),
            permissions=chance.choice((0, 0, 0, 2)),
            copy_polls=chance.choice((0, 0, 1, 3)),
            at_once=chance.choice((1, 2, 4)),
        )
