"""``./dev simulate``: run seeds one after the other; exit 1 if an invariant does not hold in one of them.

./dev simulate --seeds 1000             # seeds 1 to 1000
./dev simulate --seed 138               # that one, with every step
./dev simulate --seeds 200 --mutant turn-kept
./dev simulate --seeds 100 --mutants    # each cause taken out in turn: how many seeds find it
./dev simulate --crossing --seeds 100   # whole crossings: the source, the carrier and the target; likewise
"""

import argparse
import hashlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from tests.simulation.crossing import cross
from tests.simulation.crossing_mutants import CROSSING_MUTANTS
from tests.simulation.mutants import MUTANTS, Mutate
from tests.simulation.simulator import Result, simulate

_MANY = 200
_EVERY = 500

Simulate = Callable[[int, Callable[[str], None] | None], Result]
"""Runs a seed; what it is given besides is told every line of the trace."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="./dev simulate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, metavar="N", help="how many; 1 with --seed, else 200")
    parser.add_argument("--seed", type=int, metavar="S", help="the first of them; alone, its steps are told")
    mutated = parser.add_mutually_exclusive_group()
    parser.add_argument("--crossing", action="store_true", help="over both ends, with a carrier in between")
    mutated.add_argument(
        "--mutant",
        choices=[*MUTANTS, *CROSSING_MUTANTS],
        metavar="NAME",
        help="with a cause of an invariant taken out",
    )
    mutated.add_argument(
        "--mutants", action="store_true", help="each cause taken out in turn; exit 1 if no seed finds it"
    )
    asked = parser.parse_args(arguments)
    mutants, run = (CROSSING_MUTANTS, cross) if asked.crossing else (MUTANTS, simulate)
    if asked.mutant is not None and asked.mutant not in mutants:
        parser.error(f"--mutant: one of {', '.join(mutants)}")
    first = 1 if asked.seed is None else asked.seed
    many = asked.seeds or (_MANY if asked.seed is None else 1)
    if asked.mutants:
        return tell_found(range(first, first + many), mutants, run)
    is_told = asked.seed is not None and many == 1
    tally = Tally()
    with pytest.MonkeyPatch.context() as patch:
        if asked.mutant is not None:
            mutants[asked.mutant](patch)
        for seed in range(first, first + many):
            result = run(seed, print if is_told else None)
            tally.add(result)
            if result.violation is not None and asked.mutant is None:
                print(told(result, () if is_told else result.lines, is_crossing=asked.crossing))
            if tally.seeds % _EVERY == 0:
                print(f"… {tally.told(is_crossing=asked.crossing)}", flush=True)
    print(tally.told(is_crossing=asked.crossing))
    return 1 if tally.violated else 0


def tell_found(seeds: Sequence[int], mutants: Mapping[str, Mutate], run: Simulate) -> int:
    """Print, for each cause taken out, how many of the seeds find it and by what; 1 if one is not found."""
    unfound = 0
    print(
        f"| taken out | found in, of {len(seeds)} seeds | first by seed | what does not hold, and how often |"
    )
    print("|---|---|---|---|")
    for name, mutate in mutants.items():
        tally = Tally()
        with pytest.MonkeyPatch.context() as patch:
            mutate(patch)
            for seed in seeds:
                tally.add(run(seed, None))
        unfound += not tally.violated
        broken = ", ".join(f"{which} ({many})" for which, many in tally.invariants.most_common())
        first = tally.violated[0] if tally.violated else "none"
        print(f"| `{name}` | {len(tally.violated)} | {first} | {broken} |", flush=True)
    return 1 if unfound else 0


@dataclass(slots=True)
class Tally:
    """What all seeds came to so far."""

    seeds: int = 0
    steps: int = 0
    decided: int = 0
    imported: int = 0
    late: int = 0
    digest: str = ""
    """Of all traces, one after the other."""
    violated: list[int] = field(default_factory=list)
    invariants: Counter[str] = field(default_factory=Counter)
    started: float = field(default_factory=time.monotonic)

    def add(self, result: Result) -> None:
        """One more seed."""
        self.seeds += 1
        self.steps += result.steps
        self.decided += result.decided
        self.imported += result.imported
        self.late += result.late
        self.digest = hashlib.sha256(f"{self.digest}{result.digest}".encode()).hexdigest()
        if result.violation is not None:
            self.violated.append(result.seed)
            self.invariants[result.violation.invariant] += 1

    def told(self, *, is_crossing: bool = False) -> str:
        """What all came to, in words."""
        what = (
            f"{self.decided} transfers sealed, {self.imported} delivered"
            if is_crossing
            else f"{self.decided} uploads decided, "
            f"{self.imported} bundles imported, {self.late} numbers taken by the dead"
        )
        told = (
            f"{self.seeds} seeds, {self.steps} steps, {what}, "
            f"{time.monotonic() - self.started:.0f} s; "
            f"digest {self.digest[:16]}, violated in {len(self.violated)}, such as {self.violated[:5]}"
        )
        return "\n".join([told, *(f"  {many}: {which}" for which, many in self.invariants.most_common())])


def told(result: Result, lines: Sequence[str], *, is_crossing: bool = False) -> str:
    """A failed seed, as it is told: the lines before it, the seed, the step, and what does not hold."""
    return "\n".join(
        (
            *lines,
            f"seed {result.seed}, step {result.steps}: {result.violation}",
            f"again: ./dev simulate {'--crossing ' if is_crossing else ''}--seed {result.seed}",
        )
    )


if __name__ == "__main__":
    sys.exit(main())
