"""A whole import under a fault, and the judgement on what has become of it."""

from __future__ import annotations

from tests.faults.tally import TALLY
from tests.faults.target.faults import Each
from tests.faults.target.site import Target


def judged(target: Target, what: str, runs: int = 1) -> None:
    """Import the channel's next bundle, and look at what is there.

    An import that ends says by its receipt that all is well: what is not so was accepted in silence.
    """
    bundle = target.import_next()
    TALLY.judge(what, target.wrongs(bundle, runs), says_ok=True)


def under(target: Target, each: Each, *, runs: int = 1) -> None:
    """Import the next bundle under a fault, which must have befallen something."""
    with target.network.scripted(each.rule):
        judged(target, each.fault.name, runs)
    assert each.hits
    TALLY.injected[f"target: {each.fault.name}"] += each.hits.total()
