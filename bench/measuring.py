"""Whole processes, measured from outside and side by side: wall time, CPU, peak memory, and their ratios."""

from __future__ import annotations

import json
import os
import platform
import re
import select
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

MIB = 1024 * 1024
_LOOK_S = 0.01
_TIMEOUT_S = 900
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB", re.MULTILINE)


class BenchError(Exception):
    """The measurement cannot be made; the message is one line and says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One run of one process: seconds, seconds of user and system time, bytes resident at most."""

    wall_s: float
    cpu_s: float
    peak_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """A contestant to measure: ``command`` is made anew for each run, by a function that is not measured."""

    name: str
    command: Callable[[], Sequence[str]]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The result of a contestant: medians, and the median of the pairwise ratios to the first contestant."""

    name: str
    wall_s: float
    cpu_s: float
    peak_mib: float
    mb_per_s: float
    times_as_fast: float
    """As the first contestant was in the same round: 0.5 is half as fast."""

    wall_min_s: float
    wall_max_s: float


def measure(command: Sequence[str], *, environment: Mapping[str, str], folder: Path | None) -> Sample:
    """Run one process to its end.

    The peak is the kernel's own high-water mark, looked at every 10 ms: what ``wait4`` tells would count the
    memory of the parent.

    Raises:
        BenchError: it failed, or took longer than 15 minutes.
    """
    with tempfile.TemporaryFile() as log:
        start = time.perf_counter()
        with subprocess.Popen(
            list(command),
            env={"PATH": os.environ["PATH"], **environment},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        ) as child:
            peak = _watch(child.pid, start)
            wall = time.perf_counter() - start
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            log.seek(0)
            said = " / ".join(filter(None, log.read().decode(errors="replace").splitlines()))
            raise BenchError(f"{Path(command[0]).name} ended with {child.returncode}: {said[-400:]}")
    return Sample(wall_s=wall, cpu_s=usage.ru_utime + usage.ru_stime, peak_bytes=peak)


def _watch(pid: int, start: float) -> int:
    """Wait until the child is a zombie; the most memory that it was seen with."""
    peak = 0
    descriptor = os.pidfd_open(pid)
    status = Path(f"/proc/{pid}/status")
    try:
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        while not poller.poll(_LOOK_S * 1000):
            if found := _PEAK.search(status.read_text()):
                peak = max(peak, int(found[1]) * 1024)
            if time.perf_counter() - start > _TIMEOUT_S:
                os.kill(pid, 9)
                raise BenchError(f"not done after {_TIMEOUT_S} s")
    finally:
        os.close(descriptor)
    return peak


def compete(contestants: Sequence[Contestant], *, runs: int, size_bytes: int) -> list[Row]:
    """Let each run ``runs`` times, in turn, so that what else the machine does meets all of them."""
    samples: dict[str, list[Sample]] = {one.name: [] for one in contestants}
    for _ in range(runs):
        for one in contestants:
            samples[one.name].append(measure(one.command(), environment=one.environment, folder=one.folder))
    first = samples[contestants[0].name]
    return [_row(name, taken, first, size_bytes) for name, taken in samples.items()]


def _row(name: str, samples: Sequence[Sample], first: Sequence[Sample], size_bytes: int) -> Row:
    wall = statistics.median(sample.wall_s for sample in samples)
    ratios = [base.wall_s / sample.wall_s for base, sample in zip(first, samples, strict=True)]
    return Row(
        name=name,
        wall_s=wall,
        cpu_s=statistics.median(sample.cpu_s for sample in samples),
        peak_mib=max(sample.peak_bytes for sample in samples) / MIB,
        mb_per_s=size_bytes / 1e6 / wall,
        times_as_fast=statistics.median(ratios),
        wall_min_s=min(sample.wall_s for sample in samples),
        wall_max_s=max(sample.wall_s for sample in samples),
    )


def table(title: str, rows: Sequence[Row]) -> str:
    """The rows as Markdown; the first is the measure of the others."""
    lines = [
        f"\n**{title}**\n",
        f"| | wall s (min-max) | MB/s | CPU s | peak MiB | speed of `{rows[0].name}` = 1 |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.name} | {row.wall_s:.2f} ({row.wall_min_s:.2f}-{row.wall_max_s:.2f}) | {row.mb_per_s:.0f} "
        f"| {row.cpu_s:.2f} | {row.peak_mib:.0f} | {row.times_as_fast:.2f} |"
        for row in rows
    ]
    return "\n".join(lines)


def write_results(
    path: Path | None, *, runs: int, size_bytes: int, tables: Mapping[str, Sequence[Row]]
) -> None:
    """Everything as JSON, with what is needed to read it later; nothing when ``path`` is ``None``."""
    if path is None:
        return
    document = {
        "schema": 1,
        "runs": runs,
        "sizeBytes": size_bytes,
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "tables": {title: [asdict(row) for row in rows] for title, rows in tables.items()},
    }
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
