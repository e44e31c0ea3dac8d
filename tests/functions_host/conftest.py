from collections.abc import Iterator

import pytest

from tests.functions_host.host_process import HostProcess, running_host


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    """One host for the tests of a module: each uses instances of its own."""
    with running_host(tmp_path_factory.mktemp("host")) as running:
        yield running
