"""The deployed source, one for each file; all of it is broken by `./dev faults` only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.site import IS_FULL
from tests.faults.source.site import Source

collect_ignore = [] if IS_FULL else ["test_at_length.py"]


@pytest.fixture(scope="module")
def source(request: pytest.FixtureRequest, fast_folder: Path) -> Iterator[Source]:
    folder = fast_folder / f"{request.module.__name__.rpartition('.')[2]}-source"
    folder.mkdir()
    with Source.start(folder) as started:
        yield started
