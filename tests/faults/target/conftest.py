"""The deployed target, one for each file and way of import; all of it is broken by `./dev faults` only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from local_cloud.cloud import ImportWay
from tests.faults.site import IS_FULL
from tests.faults.target.site import Target

WAYS: tuple[ImportWay, ...] = ("direct", "staged") if IS_FULL else ("direct",)

collect_ignore = [] if IS_FULL else ["test_at_length.py"]


@pytest.fixture(scope="module", params=WAYS)
def target(request: pytest.FixtureRequest, fast_folder: Path) -> Iterator[Target]:
    way: ImportWay = request.param
    folder = fast_folder / f"{request.module.__name__.rpartition('.')[2]}-{way}"
    folder.mkdir()
    with Target.start(folder, way) as started:
        yield started
