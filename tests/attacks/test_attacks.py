"""Each attack of the corpus ends as it must, and the channel goes on."""

from collections import Counter
from collections.abc import Collection
from pathlib import Path

import pytest

from tests.attacks import (
    chains,
    envelopes,
    histories,
    hooks,
    insiders,
    manifests,
    policies,
    registry,
    releases,
    repairs,
    scans,
    tickets,
    uploads,
)
from tests.attacks.scene import Attack, Harmless, Partial, Refused, Scene

FAMILIES = (
    *(envelopes, manifests, policies, chains, histories, uploads, repairs, tickets),
    *(insiders, scans, hooks, releases, registry),
)
ATTACKS: dict[str, Attack] = {name: one for family in FAMILIES for name, one in family.ATTACKS.items()}
PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
LEAST = 250


def row_of(what: str, attacks: Collection[Attack]) -> str:
    """A family's line in the table."""
    by = ", ".join(sorted({attack.by for attack in attacks}))
    return f"| {what.rstrip('.')} | {by} | {len(attacks)} | {ends_of(attacks)} |"


def ends_of(attacks: Collection[Attack]) -> str:
    """How many of them end in which way."""
    counts = Counter(type(attack.end) for attack in attacks)
    return f"{counts[Refused]} · {counts[Partial]} · {counts[Harmless]}"


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_ends_as_it_must_and_the_channel_goes_on(name: str) -> None:
    scene, attack = Scene(), ATTACKS[name]
    scene.assert_held(attack, attack.act(scene))


def test_no_two_attacks_have_one_name() -> None:
    assert len(ATTACKS) == sum(len(family.ATTACKS) for family in FAMILIES) >= LEAST


def test_page_counts_the_attacks_as_they_are() -> None:
    rows = [row_of(family.__doc__ or "", family.ATTACKS.values()) for family in FAMILIES]
    rows.append(f"| **all** | | **{len(ATTACKS)}** | {ends_of(ATTACKS.values())} |")
    assert "\n".join(rows) in PAGE.read_text(encoding="utf-8")
