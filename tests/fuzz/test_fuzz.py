"""Hostile inputs over every format: refused with the right code, or meaning what a seed means."""

from __future__ import annotations

import os
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.formats import FORMATS, Format, Mutation
from tests.fuzz.mutations import mutated_bytes, noise
from tests.fuzz.tally import counted

DEFAULT_INPUTS = 9000
_BATCH = 10
"""Inputs of one example: what Hypothesis does for an example takes longer than most checks."""

_KINDS = ("bytes", "structure", "noise")
_WISHED = os.environ.get("AIRGAP_FUZZ_INPUTS", "")
_EXAMPLES = -(-int(_WISHED or DEFAULT_INPUTS) // (len(FORMATS) * len(_KINDS) * _BATCH))


def _mutation(kind: str, tried: Format) -> Mutation:
    return {"bytes": mutated_bytes, "structure": tried.structured, "noise": noise}[kind]


@pytest.mark.timeout(24 * 3600 if _WISHED else 180)
@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("tried", FORMATS, ids=lambda tried: tried.name)
def test_hostile_input_is_refused_with_the_right_code_or_means_what_was_signed(
    tried: Format, kind: str
) -> None:
    mutate = _mutation(kind, tried)

    @settings(
        max_examples=_EXAMPLES,
        deadline=None,
        database=None,
        derandomize=not _WISHED,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.randoms(use_true_random=True))
    def attack(random: Random) -> None:
        for _ in range(_BATCH):
            raw = mutate(random, tried.seeds)
            try:
                with counted(tried.name) as outcome:
                    outcome.is_accepted = tried.check(raw)
            except BaseException as error:
                error.add_note(f"{len(raw)} bytes: {raw[:20_000]!r}")
                raise

    attack()


@pytest.mark.parametrize("tried", FORMATS, ids=lambda tried: tried.name)
def test_seeds_themselves_are_accepted(tried: Format) -> None:
    """Else the attacks would only ever see refusals."""
    for seed in tried.seeds:
        assert tried.check(seed)
