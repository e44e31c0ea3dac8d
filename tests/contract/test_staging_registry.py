"""One suite for what a staging registry is asked besides: the double, and the local cloud's registries."""

import pytest

from airgap.errors import ServiceError
from function_app.azure import registry
from function_app.azure.registry import AzureRegistry
from function_app.ports import StagingRegistry
from tests.contract import test_registry_reader as reading
from tests.contract.test_registry_reader import PRINCIPAL, RealShelf, Shelf, annotated, image
from tests.function_app.memory import MemoryRegistry
from tests.local_cloud.registry_harness import INDEX, MANIFEST

shelf = reading.shelf
repository = reading.repository


@pytest.fixture
def staging(shelf: Shelf) -> StagingRegistry:
    """The registry as the app has it, with the right to delete."""
    if isinstance(shelf, RealShelf):
        shelf.harness.registry.grant(PRINCIPAL, "AcrDelete")
    assert isinstance(shelf.reader, MemoryRegistry | AzureRegistry)
    return shelf.reader


def test_all_manifests_of_a_repository_are_listed_tagged_or_not(
    shelf: Shelf, staging: StagingRegistry, repository: str
) -> None:
    child, other = shelf.put(repository, image()), shelf.put(repository, annotated("other"), "v1", "v2")
    entry = {"mediaType": MANIFEST, "digest": child, "size": 1}
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
    listed = shelf.put(repository, index, "v3", media_type=INDEX)
    assert sorted(staging.digests(repository)) == sorted([child, other, listed])
    assert list(staging.digests(f"{repository}/other")) == []


def test_more_than_a_page_of_manifests_is_listed_each_once(
    shelf: Shelf, staging: StagingRegistry, repository: str
) -> None:
    pushed = {shelf.put(repository, annotated(str(number))) for number in range(205)}
    listed = list(staging.digests(repository))
    assert len(listed) == 205
    assert set(listed) == pushed


def test_more_than_a_page_of_repositories_is_listed_each_once(
    shelf: Shelf, staging: StagingRegistry, repository: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With pages of ten: each repository takes a token and a list of its own."""
    monkeypatch.setattr(registry, "_PAGE", 10)
    names = {f"{repository}/{number}" for number in range(25)}
    for name in names:
        shelf.put(name, image(), "v1")
    listed = [name for name in staging.repositories() if name.startswith(f"{repository}/")]
    assert len(listed) == 25
    assert set(listed) == names


def test_repository_is_deleted_with_all_that_is_in_it_and_nothing_else(
    shelf: Shelf, staging: StagingRegistry, repository: str
) -> None:
    digest = shelf.put(repository, image(), "v1")
    shelf.put(f"{repository}/below", image(), "v1")
    staging.delete_repository(repository)
    assert list(staging.digests(repository)) == []
    assert staging.resolve(repository, "v1") is staging.resolve(repository, digest) is None
    assert repository not in set(staging.repositories())
    assert f"{repository}/below" in set(staging.repositories())
    staging.delete_repository(repository)  # there is none any more


def test_repository_that_was_deleted_takes_the_same_content_again(
    shelf: Shelf, staging: StagingRegistry, repository: str
) -> None:
    digest = shelf.put(repository, image(), "v1")
    staging.delete_repository(repository)
    shelf.forget(repository)
    assert shelf.put(repository, image(), "v2") == digest
    assert staging.resolve(repository, "v1") is None
    assert staging.resolve(repository, "v2") is not None


def test_who_may_only_pull_deletes_nothing(shelf: Shelf, repository: str) -> None:
    digest = shelf.put(repository, image(), "v1")
    with shelf.read_only() as reader:
        with pytest.raises(ServiceError, match="SERVICE_DENIED"):
            reader.delete_repository(repository)
        assert list(reader.digests(repository)) == [digest]
