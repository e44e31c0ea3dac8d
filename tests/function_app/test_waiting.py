"""How long ``await_outcome`` asks: patience is used up by asking, not by the clock on the wall."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest

from function_app.durable.flow import Patience, waited
from tests.function_app.memory import FLOWS, START

HOUR = timedelta(hours=1)
DAY = Patience(pause_s=60, longest_pause_s=600, at_most_s=24 * 3600)


@dataclass
class Waiter:
    """An orchestration that waits for what never comes, on a clock that jumps where a test has it jump."""

    jump_at: Callable[[str, int], timedelta] = lambda *_: timedelta()
    """How much later than it should the ``start``, ``answer`` or ``timer`` of that number happens."""
    now: datetime = START
    asked: int = 0
    _count: dict[str, int] = field(default_factory=dict)

    @property
    def current_utc_datetime(self) -> datetime:
        return self.now

    def _happens(self, what: str) -> None:
        number = self._count[what] = self._count.get(what, 0) + 1
        self.now += self.jump_at(what, number)

    def get_input(self) -> dict[str, Any]:
        return self.order

    def call_activity_with_retry(self, *_: Any) -> dict[str, str]:
        self.asked += 1
        self._happens("answer")
        return {"outcome": "pending"}

    def create_timer(self, due: datetime) -> None:
        self.now = due
        self._happens("timer")

    def call_sub_orchestrator(self, _name: str, order: dict[str, Any]) -> dict[str, Any]:
        self.order = order
        while True:
            self._happens("start")
            end: dict[str, Any] | None = self._run(FLOWS["await_outcome"](self))
            if end is not None:
                return end

    def continue_as_new(self, order: dict[str, Any]) -> None:
        self.order = order

    def _run(self, flow: Any) -> Any:
        told = None
        while True:
            try:
                told = flow.send(told)
            except StopIteration as end:
                return end.value

    def wait(self) -> dict[str, Any]:
        end: dict[str, Any] = self._run(waited(self, "copy", {}, DAY))
        return end


def test_patience_ends_after_its_time() -> None:
    waiter = Waiter()
    end = waiter.wait()
    assert (end["code"], end["detail"]) == ("SERVICE_THROTTLED", "copy did not finish")
    assert START + 24 * HOUR <= waiter.now < START + 25 * HOUR


@pytest.mark.parametrize("what", ["start", "answer", "timer"])
@pytest.mark.parametrize("number", [1, 2, 12])
def test_time_in_which_the_app_was_away_uses_up_no_patience(what: str, number: int) -> None:
    patient, away = Waiter(), Waiter(lambda *what_now: 72 * HOUR if what_now == (what, number) else 0 * HOUR)
    patient.wait()
    away.wait()
    # An activity may take 90 minutes: so much of the three days is told from no absence.
    slack = 10 if what == "answer" else 0
    assert patient.asked - slack <= away.asked <= patient.asked
    assert away.now >= START + 96 * HOUR - timedelta(minutes=90)
