"""Two clouds' sides for the tests of the transfer service; their processes live as long as the session."""

from collections.abc import Iterator

import pytest

from tests.local_cloud.acr_transfer_harness import Loop, Side


@pytest.fixture(scope="session")
def transfer_loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture(scope="session")
def source_processes(transfer_loop: Loop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Side]:
    side = Side("src", tmp_path_factory.mktemp("source"), transfer_loop).open()
    yield side
    side.close()


@pytest.fixture(scope="session")
def target_processes(transfer_loop: Loop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Side]:
    side = Side("tgt", tmp_path_factory.mktemp("target"), transfer_loop).open()
    yield side
    side.close()


def _fresh(side: Side) -> Side:
    # Registry and storage stay; the transfer service, its pipelines and its switches are new for each test.
    side.stop_transfer()
    side.start_transfer()
    return side


@pytest.fixture
def source(source_processes: Side) -> Side:
    return _fresh(source_processes)


@pytest.fixture
def target(target_processes: Side) -> Side:
    return _fresh(target_processes)
