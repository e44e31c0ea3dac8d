"""One thing at a time, in an order that one random generator decides, under a clock that only it moves.

What may be interrupted (a step of the product, which calls ports) is a task, a greenlet: with a stack of its
own, and never at work but when it is switched to. At each call of a port the task may have to let others go
on, for a while or for good. What cannot be interrupted is an event: a function that is called at its time.
"""

import hashlib
import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta

from greenlet import greenlet

from airgap.fields import format_time
from tests.simulation.options import Faults

TOLD = 60
"""So many of the last lines of the trace are kept, to be told when something is wrong."""

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


class Violation(BaseException):
    """An invariant does not hold."""

    def __init__(self, invariant: str, detail: str) -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant = invariant
        self.detail = detail


class Died(BaseException):
    """The worker of this task is gone."""


class Trace:
    """What happened, as a digest, a number of steps and the last lines."""

    def __init__(self, tell: Callable[[str], None] | None = None) -> None:
        self.steps = 0
        self.lines: deque[str] = deque(maxlen=TOLD)
        self._digest = hashlib.sha256()
        self._tell = tell

    def add(self, now: datetime, line: str) -> None:
        """One more step."""
        self.steps += 1
        text = f"{self.steps} {format_time(now.replace(microsecond=0))} {line}"
        self.lines.append(text)
        self._digest.update(text.encode(errors="replace") + b"\n")
        if self._tell is not None:
            self._tell(text)

    @property
    def digest(self) -> str:
        """Hex SHA-256 of all lines."""
        return self._digest.hexdigest()


class Task:
    """Something that can be interrupted wherever it calls a port."""

    def __init__(self, name: str, call: Callable[[], None], wakes_at: datetime, about: str) -> None:
        self.name = name
        self.about = about
        self.call = call
        self.wakes_at = wakes_at
        self.stack: greenlet | None = None
        """Where it is, once it has begun."""
        self.side: object = None
        """What it works with, if that may be another for whoever begins later."""
        self.policy_version = 0
        """Of the newest trust policy that it has seen to be in force."""
        self.held_at = ""
        """Before which call it was held up last, or let others go first."""
        self.is_dead = False
        self.is_over = False
        self.error: BaseException | None = None


class Scheduler:
    """The clock, all events that are to come, and all tasks that are under way."""

    def __init__(self, chance: random.Random, start: datetime, faults: Faults, trace: Trace) -> None:
        self.chance = chance
        self.now = start
        self.faults = faults
        self.trace = trace
        self.current: Task | None = None
        self.given_up: Callable[[str], None] = lambda _: None
        """Is told of an orchestration that somebody is tired of waiting for."""
        self._numbers = itertools.count()
        self._events: list[tuple[datetime, int, str, Callable[[], None]]] = []
        self._due: list[tuple[str, Callable[[], None]]] = []
        self._tasks: list[Task] = []

    # --- what is to happen ---

    def at(self, moment: datetime, name: str, call: Callable[[], None]) -> None:
        """Have something happen at a moment."""
        heapq.heappush(self._events, (moment, next(self._numbers), name, call))

    def after(self, pause: timedelta, name: str, call: Callable[[], None]) -> None:
        """Have something happen after a while."""
        self.at(self.now + pause, name, call)

    def spawn(
        self, name: str, call: Callable[[], None], pause: timedelta = timedelta(), *, about: str = ""
    ) -> None:
        """Begin a task, after a while; ``about`` names the orchestration that waits for it."""
        self._tasks.append(Task(name, call, self.now + pause, about))

    @property
    def held_at(self) -> str:
        """Before which call the task at work was held up last."""
        return "" if self.current is None else self.current.held_at

    def say(self, line: str) -> None:
        """Trace a step, of the task that is at work."""
        whose = "" if self.current is None else f"{self.current.name}: "
        self.trace.add(self.now, whose + line)

    def seconds(self, least: float, most: float) -> timedelta:
        """A time between two, drawn."""
        return timedelta(seconds=self.chance.uniform(least, most))

    # --- the loop ---

    def run_until(self, end: datetime, *, is_over: Callable[[], bool] = lambda: False) -> None:
        """Let everything happen that happens before ``end``; stops when ``is_over``, or nothing is left."""
        while not is_over():
            self._collect_due()
            awake = [task for task in self._tasks if task.wakes_at <= self.now]
            if not awake and not self._due:
                moments = [task.wakes_at for task in self._tasks] + [one[0] for one in self._events[:1]]
                if not moments or min(moments) >= end:
                    break
                self.now = max(self.now, min(moments))
                continue
            if self.now >= end:
                return
            self.now += self.seconds(0, 0.2)
            number = self.chance.randrange(len(awake) + len(self._due))
            if number < len(awake):
                self._resume(awake[number])
            else:
                self._happen(number - len(awake))
        self.now = max(self.now, end) if not is_over() else self.now

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way or to come."""
        return not (self._tasks or self._due or self._events)

    def _collect_due(self) -> None:
        while self._events and self._events[0][0] <= self.now:
            _, _, name, call = heapq.heappop(self._events)
            self._due.append((name, call))

    def _happen(self, number: int) -> None:
        name, call = self._due.pop(number)
        self.current = None
        if name:
            self.trace.add(self.now, name)
        call()

    def _resume(self, task: Task) -> None:
        if task.stack is None:
            task.stack = greenlet(lambda: self._work(task))
        self.current = task
        task.stack.switch()
        self.current = None
        if task.is_over:
            self._tasks.remove(task)
            if task.error is not None:
                raise task.error

    def _work(self, task: Task) -> None:
        try:
            task.call()
        except Died:
            pass
        except BaseException as error:  # noqa: BLE001 - told by the loop, outside of the task
            task.error = error
        task.is_over = True

    # --- what tasks ask for ---

    def point(self, where: str, *, weight: int = 1) -> None:
        """A task is about to call a port: it may end here, be held up, or let something else go first.

        Args:
            where: what it calls.
            weight: so many times as often as elsewhere it is held up here.

        Raises:
            Died: it ends here.
        """
        task = self.current
        assert task is not None, where
        if task.is_dead:  # whatever it still does in a ``finally``, nobody notices
            raise Died
        drawn = self.chance.random()
        faults = self.faults
        if drawn < faults.crash:
            self.say(f"dies before {where}")
            task.is_dead = True
            raise Died
        drawn -= faults.crash
        stall = faults.stall * weight
        if drawn < stall:
            task.held_at = where
            lasts = self.chance.choice((10 * SECOND, MINUTE, 10 * MINUTE, 2 * HOUR, 12 * HOUR))
            task.wakes_at = self.now + lasts
            self.say(f"is held up before {where} for {lasts}")
            if lasts > MINUTE and task.about and self.chance.random() < faults.impatience:
                self.after(self.seconds(60, 300), "", lambda: self.given_up(task.about))
            self._pass_on(task)
        elif drawn - stall < faults.turn:
            task.held_at = where
            self._pass_on(task)

    def _pass_on(self, task: Task) -> None:
        assert task.stack is not None
        assert task.stack.parent is not None
        task.stack.parent.switch()
        if task.is_dead:
            raise Died

    def kill_all(self, side: object = None) -> None:
        """End every task that is under way, or those of one side: all its workers are gone at once."""
        for task in [one for one in self._tasks if side is None or one.side is side]:
            task.is_dead = True
            if task.stack is None:
                self._tasks.remove(task)
            else:
                self._resume(task)
