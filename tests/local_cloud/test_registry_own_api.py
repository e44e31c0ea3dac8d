"""ACR's own API: the attributes of repositories, tags and manifests, and the lists of them."""

from pathlib import Path
from typing import Any

import pytest
import requests

from tests.local_cloud.registry_harness import BACKENDS, INDEX, MANIFEST, Backend, Harness, digest_of

UNKNOWN = f"sha256:{'0' * 64}"
UNLOCKED = {"deleteEnabled": True, "writeEnabled": True, "readEnabled": True, "listEnabled": True}
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z"


@pytest.fixture(params=BACKENDS)
def either(tmp_path: Path, request: pytest.FixtureRequest) -> Harness:
    backend: Backend = request.param
    return Harness(tmp_path, backend)


def pages(harness: Harness, address: str, member: str) -> list[list[Any]]:
    """The pages of a list, each behind the link that leads to it."""
    found = []
    for _ in range(10):
        answer = harness.call("GET", address)
        found.append(answer.json()[member])
        if "Link" not in answer.headers:
            return found
        address = answer.links["next"]["url"]
    raise AssertionError("the pages do not end")


def code(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, str(answer.json()["errors"][0]["code"])


def test_manifest_tells_what_it_is_and_its_tags(either: Harness) -> None:
    def use() -> None:
        digest = either.push_image("app", "2", layer=b"seven b")
        either.push_image("app", "1", layer=b"seven b")
        told = either.call("GET", f"/acr/v1/app/_manifests/{digest}").json()
        assert (told["registry"], told["imageName"]) == (either.registry.login_server, "app")
        manifest = told["manifest"]
        assert manifest.pop("lastUpdateTime").endswith("Z")
        config = b'{"architecture":"amd64","os":"linux"}'
        assert manifest == {
            "digest": digest,
            "imageSize": len(config) + 7,
            "mediaType": MANIFEST,
            "configMediaType": "application/vnd.oci.image.config.v1+json",
            "architecture": "amd64",
            "os": "linux",
            "tags": ["1", "2"],
            "changeableAttributes": UNLOCKED,
        }

    either.run(use)


def test_index_and_manifest_without_tags_tell_no_platform(either: Harness) -> None:
    def use() -> None:
        child = either.push_image("app", "1")
        either.call("DELETE", "/v2/app/manifests/1")
        content = (
            f'{{"schemaVersion": 2, "mediaType": "{INDEX}", "manifests": '
            f'[{{"mediaType": "{MANIFEST}", "digest": "{child}", "size": 400}}]}}'
        ).encode()
        either.put_manifest("app", "all", content, media_type=INDEX)
        ((first, second),) = pages(either, "/acr/v1/app/_manifests", "manifests")
        told = {first["digest"]: first, second["digest"]: second}
        index = told[digest_of(content)]
        assert (index["mediaType"], index["tags"], index["imageSize"]) == (INDEX, ["all"], 400)
        assert not {"architecture", "os", "configMediaType"} & index.keys()
        if either.backend == "builtin":  # the other one deletes a tag's manifest with it
            assert "tags" not in told[child]

    either.run(use)


def test_repository_counts_what_is_in_it(either: Harness) -> None:
    def use() -> None:
        either.push_image("app", "1", layer=b"one")
        either.push_image("app", "2", layer=b"two")
        either.push_image("app", "latest", layer=b"two")
        told = either.call("GET", "/acr/v1/app").json()
        newest = max(tag["lastUpdateTime"] for tag in either.call("GET", "/acr/v1/app/_tags").json()["tags"])
        assert told == {
            "registry": either.registry.login_server,
            "imageName": "app",
            "lastUpdateTime": newest,
            "manifestCount": 2,
            "tagCount": 3,
            "changeableAttributes": UNLOCKED,
        }

    either.run(use)


def test_lists_come_in_pages(either: Harness) -> None:
    def use() -> None:
        for name in ("zoo/x", "app", "app/more"):
            either.push_image(name, "1")
        either.push_image("app", "2", layer=b"two")
        assert pages(either, "/acr/v1/_catalog?n=2", "repositories") == [["app", "app/more"], ["zoo/x"]]
        assert pages(either, "/acr/v1/_catalog?last=app", "repositories") == [["app/more", "zoo/x"]]
        first, second = pages(either, "/acr/v1/app/_manifests?n=1", "manifests")
        assert first[0]["digest"] < second[0]["digest"]
        assert [one["name"] for (one,) in pages(either, "/acr/v1/app/_tags?n=1", "tags")] == ["1", "2"]

    either.run(use)


@pytest.mark.parametrize(
    ("method", "address", "refusal"),
    [
        ("GET", "/acr/v1/no/such", (404, "NAME_UNKNOWN")),
        ("DELETE", "/acr/v1/no/such", (404, "NAME_UNKNOWN")),
        ("GET", "/acr/v1/no/such/_tags", (404, "NAME_UNKNOWN")),
        ("GET", "/acr/v1/no/such/_manifests", (404, "NAME_UNKNOWN")),
        ("GET", "/acr/v1/app/_tags/2", (404, "TAG_UNKNOWN")),
        ("GET", f"/acr/v1/app/_manifests/{UNKNOWN}", (404, "MANIFEST_UNKNOWN")),
        ("GET", "/acr/v1/app/_manifests/1", (400, "DIGEST_INVALID")),
        ("PATCH", "/acr/v1/app", (405, "UNSUPPORTED")),
        ("PATCH", f"/acr/v1/app/_manifests/{UNKNOWN}", (405, "UNSUPPORTED")),
        ("DELETE", "/acr/v1/_catalog", (405, "UNSUPPORTED")),
    ],
)
def test_what_is_not_there_or_not_written_is_refused(
    tmp_path: Path, method: str, address: str, refusal: tuple[int, str]
) -> None:
    builtin = Harness(tmp_path, "builtin")

    def use() -> requests.Response:
        builtin.push_image("app", "1")
        return builtin.call(method, address)

    assert code(builtin.run(use)) == refusal


def test_attributes_and_catalog_ask_for_rights_of_their_own(tmp_path: Path) -> None:
    builtin = Harness(tmp_path, "builtin")

    def use() -> None:
        builtin.registry.grant("reader", "AcrPull")
        digest = builtin.push_image("app", "1")
        puller = builtin.token_of("reader", "repository:app:pull")
        reader = builtin.token_of("reader", "repository:app:metadata_read")
        lister = builtin.token_of("reader", "registry:catalog:*")
        for address in ("/acr/v1/app", "/acr/v1/app/_manifests", f"/acr/v1/app/_manifests/{digest}"):
            statuses = [
                builtin.call("GET", address, token=token).status_code for token in (puller, reader, lister)
            ]
            assert statuses == [401, 200, 401], address
        statuses = [
            builtin.call("GET", "/acr/v1/_catalog", token=token).status_code for token in (reader, lister)
        ]
        assert statuses == [401, 200]

    builtin.run(use)
