"""One pytest session for all mutants of some modules: tests are gathered once, each mutant is a fork of that.

A fork changes the function where it stands, by giving it other code, so that nothing is loaded anew. It runs
the tests that reach the changed lines, and ends with the first that fails. What is noticed so is noticed.
What is not, or cannot be changed in place, is left to a process of its own with every test.
"""

import gc
import inspect
import multiprocessing
import os
import resource
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, TypeAlias

import pytest

from tests.mutation.mutants import Mutant, marked

CONTEXT = multiprocessing.get_context("fork")
OPTIONS = (
    *("-q", "-s", "-p", "no:cacheprovider", "-p", "no:xdist"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),  # of libraries that are loaded before
)
UNCHANGED_LIMIT_S = 900
"""For the tests without a change: a machine may be busy."""
TIMES_UNCHANGED = 4
"""So much longer than without a change the tests of a mutant may take: one that makes a loop endless is
noticed by that."""
_MARK = "_statement_is_reached"
_LEAST_CPU_S = 5
_LONGEST_WAIT_S = 900
"""For a mutant that waits, and takes no time of a processor: a busy machine must not be taken for one."""


_Functions: TypeAlias = Mapping[CodeType, list[FunctionType]]


@dataclass(frozen=True, slots=True)
class Found:
    """What the session has found."""

    noticed: set[int]
    """Numbers of the mutants that a test noticed."""
    unnoticed: set[int]
    """Of those that could be changed in place, and that no test noticed."""
    unchanged_s: float
    """How long the tests take without a change, gathered by a new process."""


def judge_in_place(
    candidates: Sequence[tuple[Path, Mutant]], tests: Sequence[str], *, processes: int
) -> Found:
    """Judge what can be changed in place, each in its module, by the tests that reach it.

    Raises:
        ValueError: the tests fail without any change.
    """
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_session, args=(candidates, tests, processes, sender))
    process.start()
    sender.close()
    try:
        found: Found = receiver.recv()
    except EOFError:
        raise ValueError(f"its tests fail without any change: {', '.join(tests)}") from None
    finally:
        process.join()
    return found


def _session(
    candidates: Sequence[tuple[Path, Mutant]], tests: Sequence[str], processes: int, sender: Connection
) -> None:
    quiet()
    started, failures = time.monotonic(), _Failures()

    def loop(items: list[pytest.Item]) -> None:
        modules = {module for module, _ in candidates}
        gc.unfreeze()  # tests/conftest.py froze what was gathered, and nobody is told of what is frozen
        functions = _functions(modules)
        gc.freeze()
        reached = _reached(modules, items, failures, functions)
        if reached is None:
            return
        unchanged_s = time.monotonic() - started
        forks = _Forks(items=items, reached=reached, failures=failures, functions=functions)
        judged, noticed = forks.judge(candidates, processes=processes)
        sender.send(Found(noticed=noticed, unnoticed=judged - noticed, unchanged_s=unchanged_s))

    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = os.environ["TMPDIR"] = folder
        pytest.main([*OPTIONS, *tests], plugins=[_InPlaceOfTests(loop), failures])
    os._exit(0)  # what has been sent has been sent


def quiet() -> None:
    """Say nothing from here on, and read nothing."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nowhere, number)


class _Failures:
    """A plugin that knows whether a test has failed in this process."""

    def __init__(self) -> None:
        self.any = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.any |= report.failed


@dataclass(frozen=True, slots=True)
class _InPlaceOfTests:
    """A plugin that does something else with the gathered tests than to run them."""

    loop: Callable[[list[pytest.Item]], None]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if not session.testsfailed:  # to be gathered
            self.loop(session.items)
        return True


@dataclass(frozen=True, slots=True)
class _Reached:
    """What one test reaches without a change, and what it costs."""

    lines: frozenset[tuple[Path, int]]
    """At which statements begin."""
    cpu_s: float


def _reached(
    modules: AbstractSet[Path], items: list[pytest.Item], failures: _Failures, functions: _Functions
) -> list[_Reached] | None:
    """For each test what it reaches of the modules, found out in a fork; ``None`` if one fails."""
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_trace, args=(modules, items, failures, functions, sender))
    process.start()
    sender.close()
    try:
        return receiver.recv() if receiver.poll(UNCHANGED_LIMIT_S) else None
    except EOFError:
        return None
    finally:
        process.kill()
        process.join()


def _trace(
    modules: AbstractSet[Path],
    items: list[pytest.Item],
    failures: _Failures,
    functions: _Functions,
    sender: Connection,
) -> None:
    lines: set[tuple[Path, int]] = set()
    for module in modules:

        def mark(line: int, module: Path = module) -> None:
            lines.add((module, line))

        code = marked(module.read_text(encoding="utf-8"), str(module), _MARK)
        for before, after in _changed_functions(compile_module(module), code):
            for function in functions.get(before, ()):
                function.__globals__[_MARK] = mark
                function.__code__ = after
    found: list[_Reached] = []
    for item, following in _with_next(items):
        lines.clear()
        started = time.process_time()
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if failures.any:
            os._exit(1)
        found.append(_Reached(frozenset(lines), time.process_time() - started))
    sender.send(found)


@dataclass(frozen=True, slots=True)
class _Running:
    """A fork that judges a mutant."""

    process: ForkProcess
    number: int
    until: float
    killer: Any
    """Shared with it: the number of the test that failed; -1 before that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Forks:
    """Judges mutants, each in a fork of this process."""

    items: list[pytest.Item]
    reached: list[_Reached]
    failures: _Failures
    functions: _Functions
    kills: dict[tuple[Path, str], Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    """Per function, how often which test has noticed something."""

    def judge(
        self, candidates: Sequence[tuple[Path, Mutant]], *, processes: int
    ) -> tuple[set[int], set[int]]:
        """The numbers of those that could be judged, and of those that were noticed."""
        originals = {module: compile_module(module) for module, _ in candidates}
        running, judged, found = dict[Any, _Running](), set[int](), set[int]()
        for number, (module, mutant) in enumerate(candidates):
            changes = [
                (function, after)
                for before, after in _changed_functions(originals[module], mutant.code)
                for function in self.functions.get(before, ())
            ]
            chosen = self._order(module, mutant)
            if not changes or not chosen:
                continue
            judged.add(number)
            if len(running) == processes:
                found |= self._ended(running, candidates)
            killer = CONTEXT.RawValue("i", -1)
            process = CONTEXT.Process(target=self._run, args=(changes, chosen, killer))
            process.start()
            running[process.sentinel] = _Running(
                process=process, number=number, until=time.monotonic() + _LONGEST_WAIT_S, killer=killer
            )
        while running:
            found |= self._ended(running, candidates)
        return judged, found

    def _order(self, module: Path, mutant: Mutant) -> list[int]:
        """The tests that reach the mutant: those first that noticed others there, then the shortest."""
        kills = self.kills[module, mutant.where]
        place = module, mutant.statement
        chosen = [number for number, one in enumerate(self.reached) if place in one.lines]
        return sorted(chosen, key=lambda number: (-kills[number], self.reached[number].cpu_s))

    def _ended(self, running: dict[Any, _Running], candidates: Sequence[tuple[Path, Mutant]]) -> set[int]:
        """Wait until one has ended or is over its time; those that were noticed."""
        found, before = set[int](), len(running)
        while len(running) == before:
            wait(running, timeout=1)
            for sentinel, one in list(running.items()):
                if one.process.is_alive() and time.monotonic() > one.until:
                    one.process.kill()
                    one.process.join()
                if not one.process.is_alive():
                    del running[sentinel]
                    if one.process.exitcode:
                        found.add(one.number)
                    if one.killer.value >= 0:
                        module, mutant = candidates[one.number]
                        self.kills[module, mutant.where][one.killer.value] += 1
        return found

    def _run(self, changes: list[tuple[FunctionType, CodeType]], chosen: list[int], killer: Any) -> None:
        """In a fork: change the functions, run the tests until one fails; the exit code says whether."""
        try:
            for function, after in changes:
                function.__code__ = after
        except ValueError:  # another number of free variables
            os._exit(0)
        limit = _LEAST_CPU_S + int(TIMES_UNCHANGED * sum(self.reached[test].cpu_s for test in chosen))
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        with tempfile.TemporaryDirectory() as folder:
            tempfile.tempdir = os.environ["TMPDIR"] = folder
            items = [self.items[test] for test in chosen]
            for test, (item, following) in zip(chosen, _with_next(items), strict=True):
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                if self.failures.any:
                    killer.value = test
                    break
        os._exit(int(self.failures.any))


def compile_module(module: Path) -> CodeType:
    """The module as it is loaded."""
    return compile(module.read_bytes(), str(module), "exec", dont_inherit=True)


def _functions(modules: AbstractSet[Path]) -> _Functions:
    """Every function of the modules that there is, however it is wrapped, by its code."""
    names, found = {str(module) for module in modules}, defaultdict[CodeType, list[FunctionType]](list)
    for one in gc.get_objects():
        if type(one) is FunctionType and one.__code__.co_filename in names:
            found[one.__code__].append(one)
    return found


def _with_next(items: list[pytest.Item]) -> Iterator[tuple[pytest.Item, pytest.Item | None]]:
    return zip(items, [*items[1:], None], strict=True)


def _changed_functions(before: CodeType, after: CodeType) -> Iterator[tuple[CodeType, CodeType]]:
    """The code of the functions that differ, outermost first; nothing if a module or a class itself does."""
    if before == after:
        return
    if before.co_flags & inspect.CO_NEWLOCALS:
        yield before, after
    elif not _are_equal_outside(before, after):
        return
    for one, other in zip(before.co_consts, after.co_consts, strict=False):
        if isinstance(one, CodeType) and isinstance(other, CodeType) and one.co_name == other.co_name:
            yield from _changed_functions(one, other)


def _are_equal_outside(before: CodeType, after: CodeType) -> bool:
    """Whether two modules or classes differ within their functions only."""
    consts = [[one for one in code.co_consts if not isinstance(one, CodeType)] for code in (before, after)]
    bare = [code.replace(co_consts=()) for code in (before, after)]
    return consts[0] == consts[1] and bare[0] == bare[1]
