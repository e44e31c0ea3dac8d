"""The same seed is the same run; and causes taken out are found."""

import os
import random
import subprocess
import sys

import pytest

from tests.simulation.__main__ import main
from tests.simulation.mutants import MUTANTS
from tests.simulation.options import Options
from tests.simulation.simulator import Result, simulate

pytestmark = pytest.mark.timeout(600)

_MOST = 500
"""So many seeds are tried for a cause that was taken out."""


def test_same_seed_is_the_same_run() -> None:
    first, second = simulate(7), simulate(7)
    assert (first.digest, first.steps) == (second.digest, second.steps)
    assert first.digest != simulate(8).digest


def test_same_seed_is_the_same_run_in_another_process() -> None:
    """There, sets and dictionaries of strings have another order."""
    code = "from tests.simulation.simulator import simulate; print(simulate(7).digest)"
    told_there = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": os.environ["PATH"], "PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told_there.stdout.strip() == simulate(7).digest


FOUND_BY = {
    "ledger-overwrites": 56,
    "judged-once": 14,
    "staging-unpinned": 3,
    "turn-kept": 1,
    "door-kept": 1,
    "receipt-again": 31,
    "stowaways-unseen": 173,
    "damage-unseen": 173,
    "release-unasked": 3,
    "check-unheard": 78,
    "policy-rolled-back": 14,
    "override-of-anybody": 168,
    "staging-brought-whole": 278,
    "arrival-unrecorded": 427,
}
"""A seed that finds each, tried first. After a change of steps another one does, and belongs here: the search
for it takes half a minute."""


def _hostile_first() -> list[int]:
    """The seeds that are tried next: those with most attacks find most."""

    def peace(seed: int) -> int:
        options = Options.draw(random.Random(seed))  # noqa: S311 - as the simulation of the seed draws it
        return -(options.attacks + options.forks + options.intrusions)

    return sorted(range(1, _MOST), key=peace)


@pytest.mark.parametrize("name", MUTANTS)
def test_cause_taken_out_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)
    tried = (simulate(seed) for seed in (FOUND_BY[name], *_hostile_first()))
    found = next(result for result in tried if result.violation is not None)
    assert _where(simulate(found.seed)) == _where(found)


def _where(result: Result) -> tuple[int, str, str]:
    return result.steps, str(result.violation), result.digest


def test_violation_is_told_with_its_seed_its_step_and_how_to_see_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = FOUND_BY["turn-kept"]
    MUTANTS["turn-kept"](monkeypatch)
    violated = simulate(seed)
    assert main(["--seeds", "1", "--seed", str(seed)]) == 1
    output = capsys.readouterr().out
    assert f"seed {seed}, step {violated.steps}: {violated.violation}" in output
    assert f"again: ./dev simulate --seed {seed}" in output
    monkeypatch.undo()
    assert main(["--seeds", "1", "--seed", str(seed)]) == 0


def test_table_tells_of_each_cause_in_how_many_seeds_it_is_found_and_of_one_that_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    causes = {"turn-kept": MUTANTS["turn-kept"], "nothing": lambda _: None}
    monkeypatch.setattr("tests.simulation.__main__.MUTANTS", causes)
    assert main(["--mutants", "--seeds", "2"]) == 1
    _, _, found, unfound = capsys.readouterr().out.splitlines()
    name, many, first, what = (cell.strip() for cell in found.strip("|").split("|"))
    assert (name, many, first) == ("`turn-kept`", "2", "1")
    assert what.endswith("(2)")
    assert unfound == "| `nothing` | 0 | none |  |"
    del causes["nothing"]
    assert main(["--mutants", "--seeds", "1"]) == 0
