"""Waiting for receipts: bounded, ever more rarely, and said once."""

from __future__ import annotations

from pathlib import Path

import pytest

from airgap.errors import Code, ServiceError
from offline_mover.commands.receipts import receipts_pull
from offline_mover.commands.receipts_waiting import MAX_PAUSE_S, await_receipts
from offline_mover.outcome import Outcome
from offline_mover.progress import Meter
from tests.offline_mover.commands.test_receipts import NOW, Container, add_bag, imported, prod
from tests.offline_mover.memory_container import HeldBlob


class Waiting:
    """A volume with a bag, a target that decides after some time, and a clock that only pauses move."""

    def __init__(self, volume: Path, *, decides_after_s: float) -> None:
        add_bag(volume, prod())
        self.volume, self.storage = volume, Container()
        self.decides_after_s = decides_after_s
        self.now_s = 1000.0
        self.pauses: list[float] = []
        self.said: list[str] = []

    def pull(self) -> Outcome:
        if self.now_s - 1000 >= self.decides_after_s and not self.storage.blobs:
            self.storage.hold(imported(prod()))
        return receipts_pull(self.storage, self.volume, policy=prod().policy, now=NOW, meter=Meter())

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now_s += seconds

    def run(self, wait_s: float) -> Outcome:
        return await_receipts(
            self.pull, wait_s=wait_s, notice=self.said.append, clock=lambda: self.now_s, pause=self.pause
        )


def test_receipt_that_is_there_is_not_waited_for(tmp_path: Path) -> None:
    waiting = Waiting(tmp_path, decides_after_s=0)
    assert waiting.run(600).code is None
    assert (waiting.pauses, waiting.said) == ([], [])


def test_receipt_is_brought_once_the_target_has_decided(tmp_path: Path) -> None:
    waiting = Waiting(tmp_path, decides_after_s=1800)
    outcome = waiting.run(3600)
    assert (outcome.code, outcome.counts["imports"]) == (None, 1)
    assert 1800 <= sum(waiting.pauses) <= 1800 + MAX_PAUSE_S
    assert max(waiting.pauses) == MAX_PAUSE_S
    assert len(waiting.pauses) < 40
    assert len(waiting.said) == 1


@pytest.mark.parametrize("wait_s", [0.0, 7.0, 300.0])
def test_waiting_ends_when_it_was_said_to(tmp_path: Path, wait_s: float) -> None:
    waiting = Waiting(tmp_path, decides_after_s=10**9)
    outcome = waiting.run(wait_s)
    assert outcome.code is Code.NOT_FOUND
    assert sum(waiting.pauses) == wait_s


def test_what_is_wrong_with_a_receipt_ends_the_waiting(tmp_path: Path) -> None:
    waiting = Waiting(tmp_path, decides_after_s=10**9)
    name = f"{prod().transfer_id}/import0000000000.dsse.json"
    waiting.storage.blobs[name] = HeldBlob(content=b"{}")
    outcome = waiting.run(600)
    assert outcome.code is not None
    assert outcome.code is not Code.NOT_FOUND
    assert waiting.pauses == []


def test_service_that_refuses_ends_the_waiting(tmp_path: Path) -> None:
    waiting = Waiting(tmp_path, decides_after_s=0)

    def refuse() -> Outcome:
        raise ServiceError(Code.SERVICE_DENIED, "no l")

    with pytest.raises(ServiceError):
        await_receipts(refuse, wait_s=600, notice=waiting.said.append, pause=waiting.pause)
    assert waiting.pauses == []
