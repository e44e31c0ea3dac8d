"""``python -m tests.mutation [MODULE…]``: runs the concerned tests on every mutant; exit 1 if one survives.

Most are judged in a fork of a session that has gathered the tests of all modules of a folder
(:mod:`~tests.mutation.session`). What none of those notices is judged by all the tests of its module, in a
process forked from this one, which has imported the libraries but nothing that is judged; the changed module
is given to it by an import hook, so that no file is written. Modules and tests are looked for below the
working folder. Survivors are the changes that no test noticed; those of
:data:`~tests.mutation.equivalent.EQUIVALENT` are expected, and an entry there that matches no survivor is
told as well: what it excuses is noticed now, or was rewritten.
"""

from __future__ import annotations

import argparse
import importlib
import os
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pytest

from tests.mutation.equivalent import EQUIVALENT
from tests.mutation.mutants import Mutant, mutants
from tests.mutation.session import CONTEXT, OPTIONS, TIMES_UNCHANGED, Found, judge_in_place, quiet

ROOT = Path.cwd()
DEFAULT = (
    *("airgap/verify.py", "airgap/repositories.py", "airgap/envelope.py"),
    *("airgap/ledger.py", "airgap/policy.py", "airgap/policy_chain.py"),
    *("airgap/release.py", "airgap/checks.py", "airgap/signed_check.py", "airgap/malware_scan.py"),
    *("airgap/override.py", "airgap/journal.py", "airgap/holdings.py"),
    *("airgap/deliveries.py", "airgap/retention.py", "airgap/cosigning.py"),
    *("airgap/schedule.py", "airgap/division.py"),
    *("function_app/target/judging.py", "function_app/target/admission.py"),
    "function_app/target/acceptance.py",
)
"""What decides: in ``airgap``, and at the target what judges a bundle manifest, admits and accepts it."""

BY_HAND = tuple(
    f"function_app/{name}.py"
    for name in (
        *("target/custody", "target/verifying"),
        *("target/importing", "target/looking_up", "target/proving", "target/closing", "target/putting_away"),
        *("source/planning", "source/travelling", "source/surveying", "source/exporting"),
        *("source/referrers", "source/scanning"),
        *("source/selection", "source/selecting", "http/caller", "storage/door"),
        *("storage/policies", "target/overriding"),
        *("target/releasing", "target/checking", "target/holding", "target/staged", "source/sealing"),
        *("target/removing", "source/removing", "source/voiding", "source/cosigning", "source/holdings"),
    )
)
"""What carries the decisions out, held to the same; half a minute to three minutes each."""

LIBRARIES = (
    "hypothesis",
    "hypothesis.strategies",
    "cryptography.hazmat.primitives.asymmetric.mldsa",
    "cryptography.hazmat.primitives.asymmetric.rsa",
    "cryptography.hazmat.primitives.serialization",
    "securesystemslib.signer",
    "msgspec",
    "azure.durable_functions",
    "azure.data.tables",
    "azure.keyvault.keys.crypto",
    "azure.keyvault.secrets",
    "azure.mgmt.containerregistry",
    "azure.storage.blob",
    "azurefunctions.extensions.bindings.blob",
)
SURVIVED = 0
TESTS: Mapping[str, tuple[str, ...]] = {
    "function_app/source": (
        *("tests/function_app/test_export.py", "tests/function_app/test_http_api.py"),
        *("tests/function_app/test_sealing.py", "tests/function_app/test_referrers.py"),
        "tests/function_app/test_selecting.py",
    ),
    "function_app/source/sealing.py": (
        *("tests/function_app/test_late_sealing.py", "tests/function_app/test_cosigning.py"),
    ),
    "function_app/target/removing.py": ("tests/function_app/test_removing_imports.py",),
    "function_app/source/travelling.py": (
        *("tests/function_app/test_dividing.py", "tests/function_app/test_only_missing.py"),
    ),
    "function_app/source/surveying.py": (
        *("tests/function_app/test_dividing.py", "tests/function_app/test_only_missing.py"),
    ),
    "function_app/source/holdings.py": (
        *("tests/function_app/test_only_missing.py", "tests/function_app/test_receiving.py"),
    ),
    "function_app/storage": ("tests/function_app/test_reconciling.py", "tests/function_app/test_intake.py"),
    "function_app/target": (
        *("tests/function_app/test_import.py", "tests/function_app/test_acceptance.py"),
        *("tests/function_app/test_custody.py", "tests/function_app/test_undeclared.py"),
        *("tests/function_app/test_intake.py", "tests/function_app/test_reconciling.py"),
        *("tests/function_app/test_holding.py", "tests/function_app/test_held_uploads.py"),
        *("tests/function_app/test_interplay.py", "tests/function_app/test_deliveries.py"),
        *("tests/function_app/test_overriding.py", "tests/function_app/test_policies.py"),
    ),
    "blob_wire": ("tests/contract/test_range_reading.py",),
    "airgap/envelope.py": ("tests/airgap/test_verify.py",),
    # An override lifts rules that these have.
    "airgap/verify.py": ("tests/airgap/test_override.py",),
    "airgap/ledger.py": ("tests/airgap/test_override.py",),
    "airgap/policy.py": ("tests/airgap/test_override.py", "tests/airgap/test_policy_chain.py"),
}
"""The concerned tests of a module, or of a folder's, besides those in a file of the module's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What came out of the mutants of one module."""

    mutants: int = 0
    equivalent: int = 0
    wrong: int = 0
    """Survivors that are not listed, and what is listed for nothing."""


@dataclass(frozen=True, slots=True)
class MutantLoader(MetaPathFinder, Loader):
    """Gives one module of the project with other code."""

    name: str
    path: Path
    code: CodeType

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        """The module's own place, if it is the one."""
        del path, target
        return ModuleSpec(fullname, self, origin=str(self.path)) if fullname == self.name else None

    def exec_module(self, module: ModuleType) -> None:
        """Run the other code."""
        module.__file__ = str(self.path)
        exec(self.code, module.__dict__)  # noqa: S102 - that is the point


def tests_of(module: str) -> tuple[str, ...]:
    """The files with the tests that must notice a change of the module."""
    path = Path(module)
    own = f"tests/{path.parent}/test_{path.name}"
    beside = f"tests/{path.parts[0]}/test_{path.name}"
    files = (own, beside, *TESTS.get(path.as_posix(), ()), *TESTS.get(path.parent.as_posix(), ()))
    return tuple(file for file in dict.fromkeys(files) if (ROOT / file).is_file())


def judge(module: str, mutant: Mutant) -> None:
    """In a process of its own: run all the tests on the mutant; the exit code is pytest's."""
    os.chdir(ROOT)
    name = module.removesuffix(".py").replace("/", ".")
    sys.meta_path.insert(0, MutantLoader(name, ROOT / module, mutant.code))
    quiet()
    os._exit(int(pytest.main(["-x", *OPTIONS, *tests_of(module)])))


def survivors(
    module: str, candidates: Sequence[Mutant], *, processes: int, limit_s: float
) -> Iterator[Mutant]:
    """The mutants that no test noticed, in the order of their lines."""
    waiting, running = list(reversed(candidates)), dict[Any, tuple[ForkProcess, Mutant, float]]()
    found = []
    while waiting or running:
        while waiting and len(running) < processes:
            mutant = waiting.pop()
            process = CONTEXT.Process(target=judge, args=(module, mutant))
            process.start()
            running[process.sentinel] = process, mutant, time.monotonic()
        wait(running, timeout=1)
        for sentinel, (process, mutant, since) in list(running.items()):
            if process.is_alive() and time.monotonic() - since > limit_s:
                process.kill()
                process.join()
            if not process.is_alive():
                del running[sentinel]
                found += [mutant] if process.exitcode == SURVIVED else []
    yield from sorted(found, key=candidates.index)


def check(modules: Sequence[str], *, processes: int) -> list[Score]:
    """Judge all mutants of modules that are tested together, and say what is wrong with their tests."""
    started = cpu_s()
    candidates = [
        (path, mutant)
        for path in (ROOT / module for module in modules)
        for mutant in mutants(path.read_text(encoding="utf-8"), str(path))
    ]
    tests = tuple(dict.fromkeys(test for module in modules for test in tests_of(module)))
    try:
        found = judge_in_place(candidates, tests, processes=processes)
    except ValueError as error:
        print(f"{', '.join(modules)}: {error}")
        return [Score(wrong=1)]
    limit_s = TIMES_UNCHANGED * processes * found.unchanged_s
    scores = [
        _conclude(module, candidates, found, processes=processes, limit_s=limit_s) for module in modules
    ]
    print(f"  {cpu_s() - started:.0f} s of a processor", flush=True)
    return scores


def _conclude(
    module: str, candidates: Sequence[tuple[Path, Mutant]], found: Found, *, processes: int, limit_s: float
) -> Score:
    """Judge by all its tests what none has noticed in place, and is not listed; tell what is left."""
    excused = EQUIVALENT.get(module, {})
    own = {number: mutant for number, (path, mutant) in enumerate(candidates) if path == ROOT / module}
    expected = [own[one] for one in own.keys() & found.unnoticed if own[one].change in excused]
    left = [own[one] for one in sorted(own.keys() - found.noticed) if own[one] not in expected]
    survived = [*expected, *survivors(module, left, processes=processes, limit_s=limit_s)]
    unexcused = [mutant for mutant in survived if mutant.change not in excused]
    stale = sorted(excused.keys() - {mutant.change for mutant in survived})
    print(
        f"{module}: {len(own)} mutants, {len(survived)} survived, {len(survived) - len(unexcused)} of "
        f"them equivalent; {len(left)} judged by all the tests"
    )
    for mutant in unexcused:
        print(f"  SURVIVED line {mutant.line} of {mutant.where or 'the module'}:")
        print(f"    {mutant.before}\n    {mutant.after}")
    for change in stale:
        print(f"  listed as equivalent, but noticed or gone: {change}")
    return Score(
        mutants=len(own), equivalent=len(survived) - len(unexcused), wrong=len(unexcused) + len(stale)
    )


def cpu_s() -> float:
    """Seconds of a processor that this process and those it has waited for have taken."""
    own, theirs = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + theirs.ru_utime + theirs.ru_stime


def main() -> int:
    """Parse the command line, judge the modules, and print the score of all."""
    parser = argparse.ArgumentParser(prog="./dev mutate", description=str(__doc__).splitlines()[0])
    parser.add_argument("modules", nargs="*", default=DEFAULT, metavar="MODULE")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    for library in LIBRARIES:
        importlib.import_module(library)
    together: dict[Path, list[str]] = {}
    for module in arguments.modules:
        together.setdefault(Path(module).parent, []).append(module)
    scores = [one for few in together.values() for one in check(few, processes=arguments.processes)]
    judged, equivalent = sum(one.mutants for one in scores), sum(one.equivalent for one in scores)
    wrong = sum(one.wrong for one in scores)
    print(
        f"In all: {judged} mutants of {len(scores)} modules, {equivalent} of them equivalent; "
        f"wrong: {wrong}; {cpu_s():.0f} s of a processor"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
