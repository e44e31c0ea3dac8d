"""A whole case under a fault, an import or an export, and the judgement on what has become of it."""

from __future__ import annotations

from tests.faults.ends.faults import Each
from tests.faults.ends.site import Site
from tests.faults.tally import TALLY, SilentAcceptanceError


def judged(site: Site, what: str, runs: int = 1) -> None:
    """Carry the channel's next bundle, and look at what is there.

    What ends says that all is well, by a receipt or a seal: what is not so was accepted in silence.
    """
    case = site.carry_next()
    try:
        TALLY.judge(what, site.wrongs(case, runs), says_ok=True)
    except SilentAcceptanceError as error:
        error.add_note(f"The host's log ends with:\n{site.end_of_log()}")
        raise


def under(site: Site, each: Each, *, runs: int = 1) -> None:
    """Carry the next bundle under a fault, which must have befallen something."""
    with site.network.scripted(each.rule):
        judged(site, each.fault.name, runs)
    assert each.hits
    TALLY.injected[f"{site.cloud.role}: {each.fault.name}"] += each.hits.total()
