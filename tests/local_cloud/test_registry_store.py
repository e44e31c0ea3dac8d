"""Push, pull and listing, on both stores where they agree and on each alone where they do not."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from local_cloud.registry import debian
from local_cloud.registry.manifests import MAX_MANIFEST_BYTES
from tests.local_cloud.registry_harness import (
    BACKENDS,
    INDEX,
    MANIFEST,
    Backend,
    Harness,
    digest_of,
    image_manifest,
    needs,
)

CONFIG = b'{"architecture":"amd64","os":"linux"}'


@pytest.fixture(params=BACKENDS)
def either(tmp_path: Path, request: pytest.FixtureRequest) -> Harness:
    backend: Backend = request.param
    return Harness(tmp_path, backend)


@pytest.fixture
def builtin(tmp_path: Path) -> Harness:
    return Harness(tmp_path, "builtin")


def _code(answer: requests.Response) -> str:
    return str(answer.json()["errors"][0]["code"])


def test_what_is_pushed_is_pulled(either: Harness) -> None:
    def use() -> None:
        digest = either.push_image("team/app", "1.0", layer=b"x" * 300_000)
        manifest = image_manifest(CONFIG, b"x" * 300_000)
        for reference in ("1.0", digest):
            pulled = either.call("GET", f"/v2/team/app/manifests/{reference}")
            assert pulled.content == manifest
            assert pulled.headers["Docker-Content-Digest"] == digest
            assert pulled.headers["Content-Type"] == MANIFEST
            head = either.call("HEAD", f"/v2/team/app/manifests/{reference}")
            assert int(head.headers["Content-Length"]) == len(manifest)
        blob = either.call("GET", f"/v2/team/app/blobs/{digest_of(b'x' * 300_000)}")
        assert blob.content == b"x" * 300_000

    either.run(use)


def test_content_outlives_the_registry(either: Harness) -> None:
    digest = either.run(lambda: either.push_image("app", "1"))
    answer = either.run(lambda: either.call("HEAD", "/v2/app/manifests/1"))
    assert answer.headers["Docker-Content-Digest"] == digest


def test_a_blob_with_another_digest_is_refused_and_not_kept(either: Harness) -> None:
    def use() -> None:
        begun = either.call("POST", "/v2/app/blobs/uploads/")
        location, stated = either.origin + begun.headers["Location"], digest_of(b"good")
        refused = either.call("PUT", location, params={"digest": stated}, data=b"evil")
        assert (refused.status_code, _code(refused)) == (400, "DIGEST_INVALID")
        for content in (b"good", b"evil"):
            assert either.call("HEAD", f"/v2/app/blobs/{digest_of(content)}").status_code == 404

    either.run(use)


def test_an_upload_in_pieces_can_be_continued(either: Harness) -> None:
    def use() -> None:
        begun = either.call("POST", "/v2/app/blobs/uploads/")
        octets = {"Content-Type": "application/octet-stream"}
        first = either.call(
            "PATCH",
            either.origin + begun.headers["Location"],
            data=b"first ",
            headers=octets | {"Content-Range": "0-5"},
        )
        assert (first.status_code, first.headers["Range"]) == (202, "0-5")
        status = either.call("GET", either.origin + first.headers["Location"])
        assert (status.status_code, status.headers["Range"]) == (204, "0-5")
        second = either.call(
            "PATCH", either.origin + status.headers["Location"], data=b"second", headers=octets
        )
        digest = digest_of(b"first second")
        done = either.call("PUT", either.origin + second.headers["Location"], params={"digest": digest})
        assert done.status_code == 201
        assert either.call("GET", f"/v2/app/blobs/{digest}").content == b"first second"

    either.run(use)


def test_an_upload_belongs_to_its_repository_and_can_be_dropped(either: Harness) -> None:
    def use() -> None:
        location = either.call("POST", "/v2/app/blobs/uploads/").headers["Location"]
        assert either.call("GET", either.origin + location.replace("/app/", "/other/")).status_code == 404
        assert either.call("DELETE", either.origin + location).status_code == 204
        assert either.call("GET", either.origin + location).status_code == 404

    either.run(use)


def test_a_blob_is_mounted_from_another_repository(either: Harness) -> None:
    def use() -> None:
        either.push_blob("base", b"layer")
        digest = digest_of(b"layer")
        mounted = either.call("POST", f"/v2/app/blobs/uploads/?mount={digest}&from=base")
        assert mounted.status_code == 201
        assert either.call("GET", f"/v2/app/blobs/{digest}").content == b"layer"

    either.run(use)


def test_a_blob_of_one_repository_is_not_in_another(either: Harness) -> None:
    def use() -> int:
        either.push_image("secret", "1", layer=b"layer")
        either.push_image("open", "1", layer=b"other")
        return either.call("GET", f"/v2/open/blobs/{digest_of(b'layer')}").status_code

    assert either.run(use) == 404


def test_ranges_of_a_blob(either: Harness) -> None:
    def use() -> None:
        either.push_blob("app", b"0123456789")
        address = f"/v2/app/blobs/{digest_of(b'0123456789')}"
        part = either.call("GET", address, headers={"Range": "bytes=2-4"})
        assert (part.status_code, part.content) == (206, b"234")
        assert part.headers["Content-Range"] == "bytes 2-4/10"
        assert either.call("GET", address, headers={"Range": "bytes=7-"}).content == b"789"

    either.run(use)


def test_a_range_past_the_end_is_refused(builtin: Harness) -> None:
    def use() -> int:
        builtin.push_blob("app", b"0123456789")
        address = f"/v2/app/blobs/{digest_of(b'0123456789')}"
        return builtin.call("GET", address, headers={"Range": "bytes=10-"}).status_code

    assert builtin.run(use) == 416


@needs("docker-registry")
def test_an_answer_that_docker_registry_breaks_off_reaches_the_client_broken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    harness = Harness(tmp_path, "docker-registry")

    def use() -> None:
        harness.push_blob("app", b"0123456789")
        # Its own fault: to a range past the end it announces the blob's length and sends nothing.
        address = f"/v2/app/blobs/{digest_of(b'0123456789')}"
        with pytest.raises(requests.RequestException):
            harness.call("GET", address, headers={"Range": "bytes=10-"})
        assert harness.call("GET", address).content == b"0123456789"

    harness.run(use)
    assert not [record for record in caplog.records if record.exc_info]


UNKNOWN = f"sha256:{'0' * 64}"


@pytest.mark.parametrize(
    ("address", "code", "detail"),
    [
        ("/v2/no/such/tags/list", "NAME_UNKNOWN", {"name": "no/such"}),
        ("/v2/app/manifests/2", "MANIFEST_UNKNOWN", {"Tag": "2"}),
        (f"/v2/app/manifests/{UNKNOWN}", "MANIFEST_UNKNOWN", {"Name": "app", "Revision": UNKNOWN}),
        (f"/v2/app/blobs/{UNKNOWN}", "BLOB_UNKNOWN", UNKNOWN),
    ],
)
def test_what_is_not_there_is_named_in_the_detail(
    either: Harness, address: str, code: str, detail: object
) -> None:
    def use() -> requests.Response:
        either.push_image("app", "1")
        return either.call("GET", address)

    (error,) = either.run(use).json()["errors"]
    assert (error["code"], error["detail"]) == (code, detail)


@pytest.mark.parametrize("stated", ["0-5", "7-8", "x", "bytes 0-5/6", "-1-5"])
def test_a_piece_that_does_not_continue_the_upload_is_refused(builtin: Harness, stated: str) -> None:
    def use() -> None:
        location = builtin.call("POST", "/v2/app/blobs/uploads/").headers["Location"]
        builtin.call("PATCH", builtin.origin + location, data=b"first ")
        headers = {"Content-Range": stated}
        refused = builtin.call("PATCH", builtin.origin + location, data=b"second", headers=headers)
        assert (refused.status_code, _code(refused), refused.headers["Range"]) == (
            416,
            "RANGE_INVALID",
            "0-5",
        )
        digest = digest_of(b"first ")
        assert builtin.call("PUT", builtin.origin + location, params={"digest": digest}).status_code == 201

    builtin.run(use)


def test_a_manifest_that_names_a_missing_blob_is_refused(either: Harness) -> None:
    def use() -> None:
        either.push_blob("app", CONFIG)
        refused = either.put_manifest("app", "1", image_manifest(CONFIG, b"missing"))
        assert _code(refused) in ("MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN")
        assert either.call("HEAD", "/v2/app/manifests/1").status_code == 404

    either.run(use)


def test_a_manifest_under_another_digest_is_refused(either: Harness) -> None:
    def use() -> str:
        either.push_blob("app", CONFIG)
        return _code(either.put_manifest("app", digest_of(b"other"), image_manifest(CONFIG)))

    assert either.run(use) == "DIGEST_INVALID"


def test_a_manifest_is_deleted_with_its_tags(either: Harness) -> None:
    def use() -> None:
        digest = either.push_image("app", "1")
        assert either.call("DELETE", f"/v2/app/manifests/{digest}").status_code == 202
        for reference in ("1", digest):
            assert either.call("GET", f"/v2/app/manifests/{reference}").status_code == 404

    either.run(use)


def test_an_index_needs_its_manifests(builtin: Harness) -> None:
    def use() -> None:
        digest = builtin.push_image("app", "1")
        child: dict[str, Any] = {"mediaType": MANIFEST, "digest": digest, "size": 1}
        for child_digest, status in ((digest, 201), (digest_of(b"missing"), 404)):
            index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [child | {"digest": child_digest}]}
            answer = builtin.put_manifest("app", "all", json.dumps(index).encode(), media_type=INDEX)
            assert answer.status_code == status

    builtin.run(use)


def test_a_foreign_layer_need_not_be_there(builtin: Harness) -> None:
    def use() -> int:
        builtin.push_blob("app", CONFIG)
        layer = {
            "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "digest": digest_of(b"elsewhere"),
            "size": 9,
        }
        return builtin.put_manifest("app", "1", image_manifest(CONFIG, layers=[layer])).status_code

    assert builtin.run(use) == 201


_GOOD = json.loads(image_manifest(CONFIG))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b"\xff",
        b"[" * 100_000,
        b"[]",
        b'{"schemaVersion":1}',
        json.dumps(_GOOD | {"mediaType": INDEX}).encode(),
        json.dumps(_GOOD | {"layers": None}).encode(),
        json.dumps(_GOOD | {"layers": [1]}).encode(),
        json.dumps(_GOOD | {"layers": [{}] * 10_001}).encode(),
        json.dumps(_GOOD | {"config": {"mediaType": "x", "digest": "../../etc/passwd"}}).encode(),
        json.dumps(_GOOD | {"subject": {"mediaType": "x", "digest": "sha256:.."}}).encode(),
        json.dumps(_GOOD | {"artifactType": 1}).encode(),
        json.dumps(_GOOD | {"annotations": {"a": 1}}).encode(),
    ],
    ids=[
        "empty", "words", "not utf-8", "deep nesting", "list", "schema 1", "other type", "no layers",
        "layer is a number", "too many layers", "path for digest", "path for subject", "artifactType",
        "annotations",
    ],
)  # fmt: skip
def test_a_malformed_manifest_is_refused(builtin: Harness, content: bytes) -> None:
    def use() -> requests.Response:
        builtin.push_blob("app", CONFIG)
        return builtin.put_manifest("app", "1", content)

    answer = builtin.run(use)
    assert (answer.status_code, _code(answer)) == (400, "MANIFEST_INVALID")


def test_a_manifest_above_four_mebibytes_is_refused(builtin: Harness) -> None:
    answer = builtin.run(lambda: builtin.put_manifest("app", "1", b" " * (MAX_MANIFEST_BYTES + 1)))
    assert (answer.status_code, _code(answer)) == (413, "SIZE_INVALID")


def test_tags_and_repositories_are_listed_in_pages(builtin: Harness) -> None:
    def pages(address: str, key: str) -> list[list[str]]:
        found = []
        for _ in range(10):
            answer = builtin.call("GET", address)
            found.append(answer.json()[key])
            if "Link" not in answer.headers:
                return found
            address = answer.links["next"]["url"]
        raise AssertionError("the pages do not end")

    def use() -> None:
        for tag in ("c", "a", "B", "d", "e"):
            builtin.push_image("app", tag)
        builtin.push_image("zoo/x", "1")
        assert pages("/v2/app/tags/list?n=2", "tags") == [["B", "a"], ["c", "d"], ["e"]]
        assert pages("/v2/app/tags/list", "tags") == [["B", "a", "c", "d", "e"]]
        assert pages("/v2/app/tags/list?n=5&last=c", "tags") == [["d", "e"]]
        assert pages("/v2/app/tags/list?n=0", "tags") == [[]]
        assert pages("/v2/_catalog?n=1", "repositories") == [["app"], ["zoo/x"]]
        for bad in ("-1", "x", "1" * 30, "\u0661"):
            answer = builtin.call("GET", "/v2/app/tags/list", params={"n": bad})
            assert (answer.status_code, _code(answer)) == (400, "PAGINATION_NUMBER_INVALID")
        assert _code(builtin.call("GET", "/v2/nobody/tags/list")) == "NAME_UNKNOWN"

    builtin.run(use)


def test_referrers_of_a_subject_are_listed_and_filtered(builtin: Harness) -> None:
    def use() -> None:
        digest = builtin.push_image("app", "1")
        subject = {"mediaType": MANIFEST, "digest": digest, "size": 1}
        for kind in ("application/sbom", "application/signature"):
            manifest = image_manifest(CONFIG, subject=subject, artifactType=kind, annotations={"for": kind})
            answer = builtin.put_manifest("app", digest_of(manifest), manifest)
            assert answer.headers["OCI-Subject"] == digest
        address = f"/v2/app/referrers/{digest}"
        everything = builtin.call("GET", address)
        assert everything.headers["Content-Type"] == INDEX
        assert len(everything.json()["manifests"]) == 2
        some = builtin.call("GET", address, params={"artifactType": "application/sbom"})
        assert some.headers["OCI-Filters-Applied"] == "artifactType"
        (found,) = some.json()["manifests"]
        assert found["annotations"] == {"for": "application/sbom"}
        builtin.call("DELETE", f"/v2/app/manifests/{found['digest']}")
        assert len(builtin.call("GET", address).json()["manifests"]) == 1
        assert builtin.call("GET", f"/v2/none/referrers/{digest}").json()["manifests"] == []

    builtin.run(use)


@needs("docker-registry")
def test_docker_registry_has_no_referrers(tmp_path: Path) -> None:
    harness = Harness(tmp_path, "docker-registry")

    def use() -> int:
        digest = harness.push_image("app", "1")
        return harness.call("GET", f"/v2/app/referrers/{digest}").status_code

    assert harness.run(use) == 404
    assert harness.registry.backend == "docker-registry"


def test_an_unsupported_operation_says_so(builtin: Harness) -> None:
    answer = builtin.run(lambda: builtin.call("DELETE", f"/v2/app/blobs/{digest_of(b'')}"))
    assert (answer.status_code, _code(answer)) == (405, "UNSUPPORTED")


def test_a_client_that_leaves_in_the_middle_leaves_nothing_behind(
    either: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    def use() -> None:
        def cut() -> Any:
            yield b"x" * 100_000
            raise ConnectionAbortedError("the client leaves")

        location = either.origin + either.call("POST", "/v2/app/blobs/uploads/").headers["Location"]
        with pytest.raises(requests.ConnectionError):
            either.call("PUT", location, params={"digest": digest_of(b"x" * 200_000)}, data=cut())
        assert either.call("HEAD", f"/v2/app/blobs/{digest_of(b'x' * 100_000)}").status_code == 404
        assert either.push_image("app", "1")

    either.run(use)
    assert not [record for record in caplog.records if record.exc_info]


@needs("docker-registry")
def test_docker_registry_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    program = textwrap.dedent("""
        import asyncio, sys
        from pathlib import Path
        from local_cloud.pki import CertificateAuthority
        from local_cloud.registry import Registry
        from local_cloud.tokens import TokenAuthority

        async def main():
            ca = CertificateAuthority.create(Path(sys.argv[1]))
            await Registry.start(name="srcreg", folder=Path(sys.argv[1]), ca=ca, tokens=TokenAuthority(),
                                 backend="docker-registry")
            print("ready", flush=True)
            await asyncio.Event().wait()

        asyncio.run(main())
    """)
    command = [sys.executable, "-c", program, str(tmp_path)]
    # What a killed process leaves behind goes with the test's own folders.
    env = {**os.environ, "PYTHONPATH": ".", "TMPDIR": str(tmp_path.parent)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=env) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        children = psutil.Process(parent.pid).children()
        assert children
        parent.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


@needs("docker-registry")
def test_a_dead_store_is_unavailable(tmp_path: Path) -> None:
    harness = Harness(tmp_path, "docker-registry")

    def use() -> requests.Response:
        (child,) = (each for each in psutil.Process().children() if each.name() == "docker-registry")
        child.kill()
        psutil.wait_procs([child], timeout=10)
        return harness.call("GET", "/v2/app/tags/list")

    answer = harness.run(use)
    assert (answer.status_code, _code(answer)) == (503, "UNAVAILABLE")


def test_docker_registry_is_not_replaced_by_another_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not debian.is_installed()
    with pytest.raises(RuntimeError, match="not installed"):
        Harness(tmp_path, "docker-registry").run(lambda: None)


def test_a_docker_registry_that_ends_at_once_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "docker-registry"
    program.write_text("#!/bin/sh\necho no such storage >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(RuntimeError, match="does not answer; see"):
        Harness(tmp_path, "docker-registry").run(lambda: None)
    log = tmp_path / "registry" / "docker-registry" / "docker-registry.log"
    assert log.read_text() == "no such storage\n"
