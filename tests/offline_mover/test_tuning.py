"""The controller on simulated lines: finds what helps, keeps to its bounds, yields to a busy service."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offline_mover.tuning import CALM_S, FIRST, FIRST_HOLD_S, Tuner

MB = 1e6
STEP_S = 0.1


@dataclass(frozen=True, kw_only=True)
class Line:
    """What limits a run: each connection, all of them together, and how much worse many are than few."""

    each: float
    total: float = float("inf")
    rtt_s: float = 0.0
    loss: float = 0.0
    """Of the whole throughput, for each connection over four."""
    noise: float = 0.0

    def rate(self, width: float) -> float:
        return min(self.each * width, self.total) * max(0.1, 1 - self.loss * max(0.0, width - FIRST))

    def best(self, ceiling: int) -> float:
        return max(self.rate(width) for width in range(1, ceiling + 1))


def run(
    tuner: Tuner,
    line: Line,
    *,
    seconds: float,
    seed: int = 0,
    begin_s: float = 0.0,
    at: Callable[[float], Line] | None = None,
) -> list[tuple[float, int, float]]:
    """Time, width and bytes a second of each step; a new connection brings its first byte after four RTT."""
    chance = random.Random(seed)  # noqa: S311 - a simulation
    steps = []
    widths = [0] * (1 + round(4 * line.rtt_s / STEP_S))
    for number in range(round(seconds / STEP_S)):
        now_s = begin_s + number * STEP_S
        line = line if at is None else at(now_s)
        widths = [*widths[1:], tuner.width]
        rate = line.rate(min(widths)) * (1 + line.noise * (2 * chance.random() - 1))
        tuner.advance(now_s, round(rate * STEP_S))
        steps.append((now_s, tuner.width, rate))
    return steps


def mean(steps: list[tuple[float, int, float]]) -> float:
    return sum(rate for _, _, rate in steps) / len(steps)


LINES = st.builds(
    Line,
    each=st.floats(0.05, 120).map(lambda mb: mb * MB),
    total=st.floats(0.05, 2000).map(lambda mb: mb * MB),
    rtt_s=st.floats(0, 0.15),
    noise=st.floats(0, 0.1),
)


@settings(deadline=None, max_examples=40)
@given(LINES, st.integers(1, 32), st.integers(0, 2**32))
def test_width_stays_between_one_and_the_ceiling(line: Line, ceiling: int, seed: int) -> None:
    widths = {width for _, width, _ in run(Tuner(ceiling), line, seconds=30, seed=seed)}
    assert min(widths) >= 1
    assert max(widths) <= ceiling


@settings(deadline=None, max_examples=40)
@given(LINES, st.integers(1, 32), st.integers(0, 2**32))
def test_line_is_used_to_four_fifths_once_it_is_known(line: Line, ceiling: int, seed: int) -> None:
    steps = run(Tuner(ceiling), line, seconds=400, seed=seed)
    assert mean(steps[len(steps) // 2 :]) >= 0.8 * line.best(ceiling)


@settings(deadline=None, max_examples=40)
@given(st.floats(0.01, 0.05), st.floats(4, 400).map(lambda mb: mb * MB), st.integers(0, 2**32))
def test_where_more_connections_cost_throughput_there_are_not_many_for_long(
    loss: float, total: float, seed: int
) -> None:
    line = Line(each=total / FIRST, total=total, loss=loss, noise=0.03)
    steps = run(Tuner(32), line, seconds=120, seed=seed)
    assert mean(steps) >= 0.97 * line.best(32)


@pytest.mark.parametrize("rtt_s", [0.005, 0.04, 0.15])
@pytest.mark.parametrize("each", [5 * MB, 10 * MB, 60 * MB])
def test_long_line_has_all_connections_within_seconds(rtt_s: float, each: float) -> None:
    steps = run(Tuner(32), Line(each=each, rtt_s=rtt_s), seconds=10)
    assert next(now_s for now_s, width, _ in steps if width == 32) < 4.5


def test_volume_that_takes_no_more_is_not_pressed() -> None:
    steps = run(Tuner(32), Line(each=60 * MB, total=20 * MB), seconds=300)
    assert {width for _, width, _ in steps} <= {4, 8}
    assert sum(width > 4 for _, width, _ in steps) < 0.05 * len(steps)


def test_line_that_gets_longer_is_tried_again() -> None:
    short, long = Line(each=100 * MB, total=100 * MB), Line(each=5 * MB)
    tuner = Tuner(32)
    steps = run(tuner, short, seconds=120, at=lambda now_s: short if now_s < 30 else long)
    assert steps[int(29 / STEP_S)][1] == 4
    assert steps[-1][1] == 32


def test_busy_service_halves_it_once_however_many_hear_it_and_is_left_alone_for_a_while() -> None:
    line = Line(each=10 * MB)
    tuner = Tuner(32)
    end = run(tuner, line, seconds=10)[-1][0]
    assert tuner.width == 32
    for number in range(32):
        tuner.throttle(end + number / 100)
    assert tuner.width == 16
    after = run(tuner, line, seconds=FIRST_HOLD_S - 1, begin_s=end + 1)
    assert {width for _, width, _ in after} == {16}
    tuner.throttle(end + CALM_S + 1)
    assert tuner.width == 8


def test_service_that_stays_busy_leaves_one_connection() -> None:
    tuner = Tuner(4)
    for number in range(9):
        tuner.throttle(number * (CALM_S + 1))
    assert tuner.width == 1


def test_nothing_is_concluded_from_a_trickle() -> None:
    tuner = Tuner(32)
    run(tuner, Line(each=100.0), seconds=600)
    assert tuner.width == FIRST
