"""Rules for what the templates deploy, each with its reason: faults that Azure would tell too late.

``choices`` are the ways to deploy a side, ``language`` reads the templates as texts, ``order`` knows what
waits for what, ``values`` is the table of what must be set and why, ``relations`` are the rules between
resources. All are pure functions of ARM JSON. The tests take everything out of the templates, one thing at a
time: each time one of the rules says so.
"""

import json
from collections.abc import Iterator

from infra.rules.choices import CHOICES, Choice, Deployed, deploy
from infra.rules.language import faults
from infra.rules.relations import RELATIONS
from infra.rules.values import VALUES
from infra.templates import SIDES, arm_path

__all__ = ["CHOICES", "RELATIONS", "VALUES", "Choice", "Deployed", "broken", "broken_by", "deploy", "faults"]


def broken() -> Iterator[str]:
    """The faults of the compiled templates, in whichever way they are deployed.

    Raises:
        ExpansionError: one of the templates cannot be deployed.
    """
    sides = {side: json.loads(arm_path(side).read_text(encoding="utf-8")) for side in SIDES}
    for side, template in sides.items():
        yield from (f"{side}: {fault}" for fault in faults(template))
    for choice in CHOICES:
        yield from broken_by(deploy(sides[choice.side], choice))


def broken_by(deployed: Deployed) -> Iterator[str]:
    """The faults of what was deployed, each as a text."""
    for value in VALUES:
        yield from value.faults(deployed)
    for relation in RELATIONS:
        yield from relation.faults(deployed)
