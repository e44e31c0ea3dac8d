"""Blobs come from the storage behind the registry, as ACR's do, and no token goes there."""

import inspect
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from local_cloud.acr_transfer.layout import Descriptor
from local_cloud.acr_transfer.registry_client import RegistryAccess, RegistryClient
from local_cloud.registry import Registry
from tests.local_cloud.registry_harness import Harness, digest_of

BLOB, OTHER = b"0123456789", b"another repository's"
ADDRESS = f"/v2/app/blobs/{digest_of(BLOB)}"


@pytest.fixture
def harness(tmp_path: Path) -> Harness:
    return Harness(tmp_path, "builtin")


def redirected(harness: Harness) -> str:
    """Where the registry sends whoever wants the blob."""
    harness.push_blob("app", BLOB)
    answer = harness.call("GET", ADDRESS, allow_redirects=False)
    assert (answer.status_code, answer.content) == (307, b"")
    return answer.headers["Location"]


def test_registry_is_the_built_in_one_unless_another_is_asked_for() -> None:
    assert inspect.signature(Registry.start).parameters["backend"].default == "builtin"


def test_blob_is_had_from_another_host_without_any_token(harness: Harness) -> None:
    def use() -> None:
        location = redirected(harness)
        assert urlsplit(location).hostname != urlsplit(harness.origin).hostname
        assert harness.call("GET", location, token=None).content == BLOB
        piece = harness.call("GET", location, token=None, headers={"Range": "bytes=2-4"})
        assert (piece.status_code, piece.content) == (206, b"234")

    harness.run(use)


def test_token_that_is_carried_to_the_storage_is_refused(harness: Harness) -> None:
    def use() -> requests.Response:
        return harness.call("GET", redirected(harness), token="a registry's")

    answer = harness.run(use)
    assert (answer.status_code, answer.headers["x-ms-error-code"]) == (400, "InvalidAuthenticationInfo")


def test_address_of_one_blob_opens_no_other_and_not_for_ever(harness: Harness) -> None:
    def use() -> None:
        location = redirected(harness)
        harness.push_blob("secret", OTHER)
        wanted, other = digest_of(BLOB)[7:], digest_of(OTHER)[7:]
        longer = location.replace("se=2", "se=3")
        elsewhere = location.replace(f"/{wanted[:2]}/{wanted}/", f"/{other[:2]}/{other}/")
        assert len({location, longer, elsewhere}) == 3
        for forged in (longer, elsewhere, location.partition("?")[0]):
            assert harness.call("GET", forged, token=None).status_code == 403
        harness.clock.now += 20 * 60 - 1
        assert harness.call("GET", location, token=None).status_code == 200
        harness.clock.now += 1
        assert harness.call("GET", location, token=None).status_code == 403

    harness.run(use)


def test_whether_a_blob_is_there_the_registry_says_itself(harness: Harness) -> None:
    def use() -> None:
        harness.push_blob("app", BLOB)
        there = harness.call("HEAD", ADDRESS, allow_redirects=False)
        assert (there.status_code, there.headers["Content-Length"]) == (200, str(len(BLOB)))
        absent = harness.call("GET", f"/v2/other/blobs/{digest_of(BLOB)}", allow_redirects=False)
        assert absent.status_code == 404

    harness.run(use)


def test_registry_that_does_not_redirect_gives_the_blob_itself(tmp_path: Path) -> None:
    harness = Harness(tmp_path, "builtin", is_redirecting=False)

    def use() -> requests.Response:
        harness.push_blob("app", BLOB)
        return harness.call("GET", ADDRESS, allow_redirects=False)

    answer = harness.run(use)
    assert (answer.status_code, answer.content) == (200, BLOB)


@pytest.mark.parametrize("is_redirecting", [True, False])
def test_transfer_service_reads_blobs_and_carries_no_token_to_the_storage(
    tmp_path: Path, *, is_redirecting: bool
) -> None:
    harness = Harness(tmp_path, "builtin", is_redirecting=is_redirecting)
    descriptor = Descriptor(media_type="x/y", digest=digest_of(BLOB), size=len(BLOB))

    def use() -> bytes:
        harness.push_blob("app", BLOB)
        harness.registry.grant("service", "AcrPull")
        access = RegistryAccess(
            login_server=harness.registry.login_server, principal_id="service", ca_file=harness.ca.ca_file
        )
        with RegistryClient(access, harness.tokens) as client:
            return b"".join(client.open_blob("app", descriptor, lambda: None))

    assert harness.run(use) == BLOB
